"""A model with weights as its target's dtype holds them: their rounding is no error of the target."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from lstmconv.formats.options import DTYPES
from lstmconv.model import (
    Gates,
    Layer,
    LSTMDirection,
    LSTMLayer,
    Model,
    RecurrentLayer,
    Stack,
    TimeDistributed,
    float_type,
    kinds,
)
from lstmconv.proof.weights import rounded

__all__ = ["in_dtype", "widened"]

_KEPT = 1 << 26
"""Up to this many weights of LSTM layers are kept in float64 (0.5 GB); of larger models each use makes its own copy."""


def in_dtype(model: Model, dtype: str) -> Model:
    """Round all float arrays that a dtype does not hold."""
    made: dict[int, Layer] = {}
    calls = []
    for call in model.calls:
        if id(call.layer) not in made:
            made[id(call.layer)] = _layer(call.layer, dtype)
        layer = made[id(call.layer)]
        calls.append(call if layer is call.layer else replace(call, layer=layer))
    return replace(model, calls=tuple(calls))


def widened(model: Model) -> Model:
    """Put the weights of all LSTM layers into float64, once for all that computes them."""
    layers = {id(call.layer): call.layer for call in model.calls if isinstance(call.layer, LSTMLayer | Stack)}
    numbers = sum(
        math.prod(gates.shape)
        for layer in layers.values()
        for half in layer.directions
        for gates in half.arrays.values()
    )
    if numbers > _KEPT:
        return model
    wide = {number: _wide(layer) for number, layer in layers.items()}
    calls = (replace(call, layer=wide.get(id(call.layer), call.layer)) for call in model.calls)
    return replace(model, calls=tuple(calls))


def _wide(layer: LSTMLayer | Stack) -> LSTMLayer | Stack:
    if isinstance(layer, Stack):
        return Stack(layer.name, tuple(_wide_layer(each) for each in layer.layers))
    return _wide_layer(layer)


def _wide_layer(layer: LSTMLayer) -> LSTMLayer:
    return layer.with_directions(list(map(_wide_direction, layer.directions)))


def _wide_direction(direction: LSTMDirection) -> LSTMDirection:
    arrays: dict[str, Any] = {
        name: Gates.of(np.asarray(gates, np.float64)) for name, gates in direction.arrays.items() if gates is not None
    }
    return replace(direction, **arrays)


def _layer(layer: Layer, dtype: str) -> Layer:
    narrow = np.dtype(float_type(dtype))
    if isinstance(layer, Stack):
        return rounded(layer, narrow) if _rounds(layer.dtype, narrow) else layer
    if isinstance(layer, LSTMLayer):
        return rounded(Stack(layer.name, (layer,)), narrow).first if _rounds(layer.dtype, narrow) else layer
    if isinstance(layer, RecurrentLayer):
        return layer.with_directions([_arrays(half, vars(half), narrow) for half in layer.directions])
    if isinstance(layer, TimeDistributed):
        return replace(layer, model=in_dtype(layer.model, dtype))
    if isinstance(layer, kinds.Unknown):
        return layer
    held: Layer = _arrays(layer, layer.arrays, narrow)
    return held


def _arrays(record: Any, arrays: Any, narrow: np.dtype[Any]) -> Any:
    """Return a record with its wide arrays rounded."""
    changed = {}
    for name, array in arrays.items():
        if isinstance(array, np.ndarray) and _rounds(array.dtype, narrow):
            with np.errstate(all="ignore"):
                changed[name] = array.astype(narrow)
    return replace(record, **changed) if changed else record


def _rounds(dtype: np.dtype[Any], narrow: np.dtype[Any]) -> bool:
    """Whether a float is rounded to another: bfloat16 and float16, of one width, hold each other's numbers neither."""
    return dtype.name in DTYPES and dtype.itemsize >= narrow.itemsize and dtype.newbyteorder("=") != narrow
