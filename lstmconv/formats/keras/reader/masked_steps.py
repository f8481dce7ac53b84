"""What TimeDistributed does with masks: the layer that it wraps gets each step's part of one, and may make its own.

Sources: ``TimeDistributed.call`` and ``compute_mask`` in tf_keras 2.21, keras 3.15, keras-team Keras 2.2.4 and 2.3.1;
that of 1.2.2 and 2.0.8 takes no mask.
"""

from __future__ import annotations

from collections.abc import Callable

from lstmconv.formats.keras.reader.entries import Entry
from lstmconv.formats.keras.reader.kinds import LayerEntry, mask_rule

__all__ = ["makes_masks_of_steps", "masked_steps_not_followed"]

_FIRST_THAT_HANDS_ON = (2, 1)


def masked_steps_not_followed(entry: Entry, described: Callable[[Entry], LayerEntry]) -> str:
    """Say why TimeDistributed is not computed under a mask; empty if the mask changes nothing inside it.

    A mask over ``(batch, time, place)``, such as that of an Embedding of several ids a step, hides places of each step
    from a wrapped LSTM or GlobalAveragePooling1D.
    """
    if not entry.own("TimeDistributed") or described(entry).release < _FIRST_THAT_HANDS_ON:
        return ""
    inner = _that_reads_masks(entry.parts["layer"], described)
    if inner is None:
        return ""
    return f"a mask reaches '{inner.name}' ({inner.class_name}) on each step, which lstmconv does not compute"


def makes_masks_of_steps(inner: Entry, described: Callable[[Entry], LayerEntry]) -> bool:
    """Tell whether TimeDistributed of a single layer returns a mask that this layer makes: Embedding, Masking.

    Its ``compute_mask`` asks the wrapped layer where there is no mask yet; that of Keras 3 hands on the input's alone.
    """
    entry = described(inner)
    return _FIRST_THAT_HANDS_ON <= entry.release < (3,) and mask_rule(entry).output == "makes"


def _that_reads_masks(entry: Entry, described: Callable[[Entry], LayerEntry]) -> Entry | None:
    """Return the first layer, of this one and those that it wraps, that computes otherwise under a mask."""
    if entry.model is not None:
        found = (_that_reads_masks(member.entry, described) for member in entry.model.members)
        return next((each for each in found if each is not None), None)
    if entry.own("TimeDistributed"):
        return _that_reads_masks(entry.parts["layer"], described)
    if entry.package is not None:  # Its layer is unknown anyway.
        return None
    rule = mask_rule(described(entry))
    return entry if rule.reads or rule.refuses else None
