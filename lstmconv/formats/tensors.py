"""A tensor to be written, and the dtype it is written with: what all targets share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lstmconv.arrays.copying import Piece, joined, slabs
from lstmconv.formats import WriteOptions
from lstmconv.model import Array, LSTMLayer, Stack, float_type

__all__ = ["NamedTensor", "dtype_of"]


class NamedTensor(NamedTuple):
    """One tensor to be written: its shape, and the pieces that lie in it one behind the other."""

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
