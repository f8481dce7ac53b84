"""The outputs of a call: dtypes, states and masks, and whether it returns its input unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstmconv.formats.keras.reader.masks import Value
from lstmconv.model import Layer, LSTMLayer, RecurrentLayer, Stack, Tensor
from lstmconv.model.kinds import (
    COMPARISONS,
    Cast,
    Concatenate,
    Constant,
    Crop,
    Identity,
    Operation,
    Pad,
    Permute,
    Reduce,
    Reshape,
    Slice,
    Stacking,
)

__all__ = ["changes_nothing", "dtype_of_states", "masked", "output_dtype", "state_count"]

_KEEP_DTYPE = (Operation, Reduce, Slice, Permute, Reshape, Concatenate, Stacking, Identity)
_TO_THE_END = ((None, None), (None, 1))
"""Stop and step of a slice that keeps every element."""


def changes_nothing(layer: Layer, value: Value) -> bool:
    """Whether a layer returns its input unchanged."""
    shape = value.shape
    if isinstance(layer, Reshape):
        return shape is not None and layer.shape in (shape, shape[1:])
    if isinstance(layer, Permute):
        return list(layer.order) == sorted(layer.order)
    if isinstance(layer, Slice):
        return all(isinstance(kept, tuple) and kept[0] in (None, 0) and kept[1:] in _TO_THE_END for kept in layer.index)
    if isinstance(layer, Pad | Crop):
        return not any(map(any, layer.amounts))
    return isinstance(layer, Identity) or (isinstance(layer, Cast) and layer.dtype == value.dtype)


def output_dtype(layer: Layer, inputs: Sequence[Value]) -> str:
    """Return the dtype of a layer's output."""
    if isinstance(layer, Cast):
        return layer.dtype
    if isinstance(layer, Operation) and (layer.function.startswith("logical") or layer.function in COMPARISONS):
        return "bool"
    if isinstance(layer, Reduce) and layer.function in ("all", "any"):
        return "bool"
    if isinstance(layer, Constant):
        return layer.value.dtype.name
    return inputs[0].dtype if isinstance(layer, _KEEP_DTYPE) and inputs else "float32"


def state_count(layer: LSTMLayer | Stack | RecurrentLayer) -> int:
    """Return how many states a layer has: for an LSTM, two per direction."""
    if isinstance(layer, RecurrentLayer):
        return len(layer.directions)
    return 2 * len(layer.directions)


def dtype_of_states(layer: Layer) -> Any:
    """Return the dtype of a layer's states."""
    if isinstance(layer, LSTMLayer | Stack):
        return layer.dtype
    return layer.forward.weight_hh.dtype if isinstance(layer, RecurrentLayer) else np.dtype("float32")


def masked(outputs: list[Value], layer: Layer, mask: Tensor | None) -> list[Value]:
    """Attach a mask to the outputs that are sequences, and not to last steps, states or attention weights."""
    if mask is None:
        return outputs
    sequences = 1
    if isinstance(layer, LSTMLayer | Stack | RecurrentLayer):
        last = layer.last if isinstance(layer, Stack) else layer
        sequences = 0 if last.return_sequences is False else 2 if last.backward and last.merge_mode == "none" else 1
    return [value._replace(mask=mask) if index < sequences else value for index, value in enumerate(outputs)]
