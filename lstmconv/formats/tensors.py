"""A tensor to be written, and the dtype it is written with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from lstmconv.arrays.copying import Piece, joined, slabs
from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.options import DTYPES, WriteOptions
from lstmconv.model import Array, Gates, Layer, LSTMLayer, Model, Stack, TimeDistributed, float_type
from lstmconv.model.kinds import Constant, Kind, Rescaling

__all__ = ["NamedTensor", "dtype_of", "dtype_of_model", "dtype_of_variables"]


class NamedTensor(NamedTuple):
    """One tensor to be written: its shape, and its pieces in the order in which they are stored."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    pieces: tuple[Piece, ...]

    @property
    def nbytes(self) -> int:
        """Its size in the file."""
        return math.prod(self.shape) * self.dtype.itemsize

    def slabs(self) -> Iterator[memoryview]:
        """Yield the tensor's bytes as they are written: C-contiguous, little-endian."""
        return slabs(self.pieces, self.dtype)

    def materialise(self) -> Array:
        """Return the tensor."""
        return joined(self.pieces, self.dtype).reshape(self.shape)


def dtype_of(layer: LSTMLayer | Stack, options: WriteOptions) -> np.dtype[np.generic]:
    """Return the dtype a layer or a stack is written with.

    Raises:
        UsageError: ``options.dtype`` is none that the formats hold.
    """
    return layer.dtype if options.dtype is None else float_type(options.dtype)


def dtype_of_model(model: Model, options: WriteOptions) -> np.dtype[np.generic]:
    """Return the dtype that a whole model is written with: that of its variables, or of its inputs if it has none.

    Raises:
        UsageError: ``options.dtype`` is none that the formats hold.
        UnsupportedModelError: Its variables are of several dtypes.
    """
    if options.dtype is not None:
        return float_type(options.dtype)
    found = {dtype.name: dtype for dtype in map(dtype_of_variables, model.layers) if dtype is not None}
    if len(found) > 1:
        raise UnsupportedModelError(
            f"its layers have several dtypes, {' and '.join(sorted(found))}; choose one with --dtype"
        )
    if found:
        return next(iter(found.values()))
    declared = [entry.dtype for entry in model.inputs if entry.is_float]
    return float_type(declared[0] if declared else "float32")


def dtype_of_variables(layer: Layer) -> np.dtype[np.generic] | None:
    """Return the dtype of a layer's variables; ``None`` where it has none, or only numbers of the config.

    Raises:
        UnsupportedModelError: They are of several dtypes.
    """
    if isinstance(layer, Constant | Rescaling | TimeDistributed):
        return None
    if isinstance(layer, Kind):
        arrays: Iterable[Array | Gates] = layer.arrays.values()
    else:
        layers = layer.layers if isinstance(layer, Stack) else (layer,)
        directions = [direction for one in layers for direction in one.directions]
        arrays = [direction.weight_ih for direction in directions]
    found = {array.dtype.newbyteorder("=") for array in arrays if array.dtype.name in DTYPES}
    if len(found) > 1:
        names = " and ".join(sorted(dtype.name for dtype in found))
        raise UnsupportedModelError(f"{layer.name}: its variables are {names}; choose one with --dtype")
    return next(iter(found), None)
