"""The mask rules of each layer, in each generation of Keras.

Sources: ``compute_mask`` and ``supports_masking`` in keras/layers and keras/engine (1.2.2, 2.2.4), tf_keras/src/layers
(2.16), keras/src/layers (3.0 to 3.15). For a layer that does not support masking, keras-team Keras raises an error, so
no file contains such a model; tf.keras and Keras 3 drop the mask.
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
"""The mask of a layer's outputs:

* ``stops``: no mask.
* ``passes``: the mask of the first input.
* ``makes``: a mask that the layer makes from its input: Embedding with ``mask_zero``, Masking.
* ``all``: a step counts if it counts in every input that has a mask.
* ``any``: a step counts if it counts in some input; no mask if one input has none.
* ``recurrent``: the mask of the sequence for a returned sequence, no mask for a last step or a state.
* ``time_distributed``: the mask of the inner layer, else the mask of the input.
* ``query``: the mask of the first input (the query); attention weights have no mask.
"""


class MaskRule(NamedTuple):
    """The mask rule of a layer.

    Attributes:
        output: The mask of the outputs.
        reads: Whether the layer's result depends on the masks of its inputs.
        refuses: The reason why the layer is unknown if a mask reaches it; empty if masks are allowed.
        concatenates: Whether the masks are concatenated, instead of ``output``, if the layer's axis is time; an input
            without a mask counts everywhere.
    """

    output: MaskOutput
    reads: bool = False
    refuses: str = ""
    concatenates: bool = False


def stops(entry: LayerEntry) -> MaskRule:
    """Drop the mask."""
    return MaskRule("stops")


def passes(entry: LayerEntry) -> MaskRule:
    """Pass on the mask of the first input."""
    return MaskRule("passes")


def passes_from_keras_3(entry: LayerEntry) -> MaskRule:
    """Pass on the mask in Keras 3 only: Identity, Rescaling, Normalization."""
    return MaskRule("passes" if (entry.major or 0) >= 3 else "stops")


def reads_and_stops(entry: LayerEntry) -> MaskRule:
    """Use the mask and drop it: GlobalAveragePooling1D."""
    return MaskRule("stops", reads=True)


def softmax(entry: LayerEntry) -> MaskRule:
    """Exclude masked places, from tf.keras 2.4 on; keras-team Keras only passes the mask on."""
    return MaskRule("passes", reads=entry.version is not None and not entry.version.is_keras_team)


def embedding(entry: LayerEntry) -> MaskRule:
    """Make a mask of the ids that are not zero, if ``mask_zero`` is set."""
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
    """Concatenate the masks like the inputs."""
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
    """Pass on the mask. If the wrapped layer reads masks, the call is refused when it is traced (masked_steps.py)."""
    return MaskRule("time_distributed")


def attention(entry: LayerEntry) -> MaskRule:
    """Exclude masked values, set masked queries to zero, pass on the query's mask."""
    return MaskRule("query", reads=True)


def multi_head(entry: LayerEntry) -> MaskRule:
    """Exclude masked values and queries, from tf.keras 2.10 on; 2.4 to 2.9 do not support masks, and drop them."""
    return MaskRule("query", reads=True) if entry.release >= (2, 10) else MaskRule("stops")
