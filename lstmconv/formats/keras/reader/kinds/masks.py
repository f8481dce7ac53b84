"""How each layer treats a mask, in each generation of Keras.

Sources: ``compute_mask`` and ``supports_masking`` in keras/layers and keras/engine (1.2.2, 2.2.4), tf_keras/src/layers
(2.16), keras/src/layers (3.0 to 3.15). A layer that does not support masking raises in keras-team Keras, so no
file holds one; tf.keras and Keras 3 drop the mask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from lstmconv.formats.keras.reader.kinds.entry import LayerEntry

__all__ = ["MaskOutput", "MaskRule", "attention", "concatenates", "cudnn", "embedding", "merges", "multi_head",
    "passes", "passes_from_keras_3", "reads_and_stops", "recurrent", "softmax", "stops", "time_distributed",
]  # fmt: skip

MaskOutput: TypeAlias = Literal[
    "stops",
    "passes",
    "makes",
    "all",
    "any",
    "recurrent",
    "time_distributed",
    "query",
]
"""The mask that a layer's outputs carry:

* ``stops``: none.
* ``passes``: that of the first input.
* ``makes``: its own, from its input: Embedding with ``mask_zero``, Masking.
* ``all``: a step counts where it counts in every input that has a mask.
* ``any``: a step counts where it counts in some input; no mask if one input has none.
* ``recurrent``: that of the sequence for a returned sequence, none for a last step or a state.
* ``time_distributed``: the inner layer's, or else its input's.
* ``query``: that of the first input (the query); the weights have none.
"""


class MaskRule(NamedTuple):
    """How a layer treats masks.

    Attributes:
        output: The mask of its outputs.
        reads: What it computes depends on the masks of its inputs.
        refuses: Why the layer is unknown if a mask reaches it; empty if it is not.
        concatenates: If the layer's axis is time, its outputs carry the masks joined along it instead; an input without
            a mask counts everywhere.
    """

    output: MaskOutput
    reads: bool = False
    refuses: str = ""
    concatenates: bool = False


def stops(entry: LayerEntry) -> MaskRule:
    """Drop the mask."""
    return MaskRule("stops")


def passes(entry: LayerEntry) -> MaskRule:
    """Hand on the mask of the first input."""
    return MaskRule("passes")


def passes_from_keras_3(entry: LayerEntry) -> MaskRule:
    """Hand on the mask in Keras 3 only: Identity, Rescaling, Normalization."""
    return MaskRule("passes" if (entry.major or 0) >= 3 else "stops")


def reads_and_stops(entry: LayerEntry) -> MaskRule:
    """Honour the mask and end it: GlobalAveragePooling1D."""
    return MaskRule("stops", reads=True)


def softmax(entry: LayerEntry) -> MaskRule:
    """Exclude masked places, from tf.keras 2.4 on; keras-team Keras only hands the mask on."""
    return MaskRule("passes", reads=entry.version is not None and not entry.version.is_keras_team)


def embedding(entry: LayerEntry) -> MaskRule:
    """Make a mask of the ids that are not zero, if asked to."""
    return MaskRule("makes" if entry.config.get("mask_zero") else "stops")


def masking(entry: LayerEntry) -> MaskRule:
    """Make a mask of the steps that are not the mask value."""
    return MaskRule("makes")


def merges(entry: LayerEntry) -> MaskRule:
    """Join the masks; from Keras 3.4 on Multiply, Maximum and Minimum also replace masked values."""
    if entry.release < (3, 4):
        return MaskRule("all")
    if entry.class_name in ("Multiply", "Maximum", "Minimum"):
        return MaskRule("any", refuses=f"{entry.class_name} of masked inputs replaces masked values from Keras 3.4 on")
    return MaskRule("any")


def concatenates(entry: LayerEntry) -> MaskRule:
    """Join the masks as the inputs are joined."""
    return MaskRule("any" if entry.release >= (3, 4) else "all", concatenates=True)


def keras_1_merge(entry: LayerEntry) -> MaskRule:
    """Join the masks by the mode of a Merge (keras 1.2.2 engine/topology.py Merge.compute_mask)."""
    mode = entry.config.get("mode")
    if mode == "concat":
        return concatenates(entry)
    if mode == "max":
        return MaskRule("stops", refuses="Merge of mode 'max' takes no masks in Keras 1")
    return MaskRule("all" if mode in ("sum", "mul", "ave") else "stops")


def recurrent(entry: LayerEntry) -> MaskRule:
    """Skip masked steps."""
    return MaskRule("recurrent", reads=True)


def cudnn(entry: LayerEntry) -> MaskRule:
    """Take no mask."""
    return MaskRule("stops", refuses=f"{entry.class_name} takes no masks")


def time_distributed(entry: LayerEntry) -> MaskRule:
    """Hand on the mask. A layer inside that would compute with its part of it is refused where the call is traced."""
    return MaskRule("time_distributed")


def attention(entry: LayerEntry) -> MaskRule:
    """Exclude masked values, zero masked queries, hand on the query's mask."""
    return MaskRule("query", reads=True)


def multi_head(entry: LayerEntry) -> MaskRule:
    """Exclude masked values and queries, from tf.keras 2.10 on; 2.4 to 2.9 do not support masks, and drop them."""
    return MaskRule("query", reads=True) if entry.release >= (2, 10) else MaskRule("stops")
