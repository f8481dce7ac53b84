"""Masks under TimeDistributed: the wrapped layer gets each step's part of a mask, and may make a mask of its own.

Sources: ``TimeDistributed.call`` and ``compute_mask`` in tf_keras 2.21, keras 3.15, keras-team Keras 2.2.4 and 2.3.1;
the versions 1.2.2 and 2.0.8 take no mask.
"""

from __future__ import annotations

from collections.abc import Callable

from lstmconv.formats.keras.reader.entries import Entry
from lstmconv.formats.keras.reader.kinds import LayerEntry, mask_rule

__all__ = ["makes_masks_of_steps", "masked_steps_not_followed"]

_FIRST_THAT_HANDS_ON = (2, 1)


def masked_steps_not_followed(entry: Entry, described: Callable[[Entry], LayerEntry]) -> str:
    """Return why TimeDistributed is not computed under a mask; empty if the mask changes nothing inside it.

    A mask over ``(batch, time, place)``, such as that of an Embedding with several ids per step, hides places of each
    step from a wrapped LSTM or GlobalAveragePooling1D.
    """
    if not entry.own("TimeDistributed") or described(entry).release < _FIRST_THAT_HANDS_ON:
        return ""
    inner = _that_reads_masks(entry.parts["layer"], described)
    if inner is None:
        return ""
    return f"a mask reaches '{inner.name}' ({inner.class_name}) on each step, which lstmconv does not compute"


def makes_masks_of_steps(inner: Entry, described: Callable[[Entry], LayerEntry]) -> bool:
    """Whether TimeDistributed of a single layer returns a mask that the wrapped layer makes: Embedding, Masking.

    Its ``compute_mask`` asks the wrapped layer if the input has no mask; in Keras 3 it only passes the input's mask on.
    """
    entry = described(inner)
    return _FIRST_THAT_HANDS_ON <= entry.release < (3,) and mask_rule(entry).output == "makes"


def _that_reads_masks(entry: Entry, described: Callable[[Entry], LayerEntry]) -> Entry | None:
    """Return the first layer whose result depends on a mask, among this layer and the layers that it wraps."""
    if entry.model is not None:
        found = (_that_reads_masks(member.entry, described) for member in entry.model.members)
        return next((each for each in found if each is not None), None)
    if entry.own("TimeDistributed"):
        return _that_reads_masks(entry.parts["layer"], described)
    if entry.package is not None:  # A custom class becomes an unknown layer anyway.
        return None
    rule = mask_rule(described(entry))
    return entry if rule.reads or rule.refuses else None
