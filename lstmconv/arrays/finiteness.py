"""Find NaN and infinities among weights: a layer that holds one computes nothing that could be compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from lstmconv.arrays.mapping import let_go
from lstmconv.arrays.places import place_in
from lstmconv.model import GATES, Array, Checkpoint, Gates, Layer, LSTMDirection, LSTMLayer, Stack
from lstmconv.model.kinds import Constant
from lstmconv.model.recurrent import RecurrentLayer

__all__ = ["NotFinite", "not_finite_arrays", "not_finite_in", "weighted_layers"]

_BLOCK = 1 << 22
"""Numbers that are looked at at a time: memory holds one block."""


class NotFinite(NamedTuple):
    """An array with numbers that are not finite.

    Attributes:
        layer: The layer's name.
        text: Which array of it, how many, and where the first one is stored: one line without the layer's name.
    """

    layer: str
    text: str

    def __str__(self) -> str:
        return f"{self.layer}: {self.text}"


def weighted_layers(checkpoint: Checkpoint) -> tuple[Layer, ...]:
    """Return every layer of a file's model, or the LSTM layers if the file contains no model.

    Constants are left out: a graph may add minus infinity on purpose.
    """
    layers: tuple[Layer, ...] = checkpoint.layers if checkpoint.model is None else checkpoint.model.layers
    return tuple(layer for layer in layers if not isinstance(layer, Constant))


def not_finite_in(layers: Iterable[Layer]) -> Iterator[NotFinite]:
    """Yield every array of some layers that holds NaN or an infinity; its text begins with one direction of two."""
    for layer in layers:
        if isinstance(layer, Stack):
            yield from not_finite_in(layer.layers)
        elif isinstance(layer, LSTMLayer | RecurrentLayer):
            for half, direction in zip(("forward", "backward"), layer.directions, strict=False):
                lead = f"{half} direction: " if layer.backward is not None else ""
                found = (
                    _of_lstm(direction) if isinstance(direction, LSTMDirection) else not_finite_arrays(vars(direction))
                )
                yield from (NotFinite(layer.name, lead + text) for text in found)
        else:
            yield from (NotFinite(layer.name, text) for text in not_finite_arrays(layer.arrays))


def _of_lstm(direction: LSTMDirection) -> Iterator[str]:
    for array, gates in direction.arrays.items():
        nan, infinite, first = _counted(gates)
        if first is None:
            continue
        total = 4 * gates.i.size
        hint = "; in float16 every number over 65504 is infinite" if infinite and direction.dtype == np.float16 else ""
        yield f"{_said(nan, infinite, total)}, first at {place_in(direction, array, *first)}{hint}"


def _counted(gates: Gates) -> tuple[int, int, tuple[str, tuple[int, ...]] | None]:
    """Count NaN and infinities, and return the gate and the index of the first of them."""
    nan = infinite = 0
    first: tuple[str, tuple[int, ...]] | None = None
    for letter, gate in zip(GATES, gates, strict=True):
        if _is_finite(gate):
            continue
        nan += int(np.isnan(gate).sum())
        infinite += int(np.isinf(gate).sum())
        first = first or (letter, tuple(int(part) for part in np.argwhere(~np.isfinite(gate))[0]))
    return nan, infinite, first


def not_finite_arrays(arrays: Mapping[str, object]) -> Iterator[str]:
    """Say which arrays of float numbers among attributes, or of a file, hold NaN or an infinity."""
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind in "biuSUO" or _is_finite(array):
            continue
        index = ", ".join(str(int(part)) for part in np.argwhere(~np.isfinite(array))[0])
        counts = int(np.isnan(array).sum()), int(np.isinf(array).sum())
        yield f"{_said(*counts, array.size)}, first at {name}[{index}]"


def _said(nan: int, infinite: int, total: int) -> str:
    kinds = " and ".join(f"{count:,} {kind}" for count, kind in ((nan, "NaN"), (infinite, "infinite")) if count)
    return f"{kinds} of {total:,} numbers"


def _is_finite(array: Array) -> bool:
    """Whether all numbers are finite; looked at block by block, in the order in which they lie in memory."""
    if array.ndim == 2 and abs(array.strides[0]) < abs(array.strides[1]):
        array = array.T
    rows = max(1, _BLOCK // max(1, array.size // max(1, len(array)))) if array.ndim else 1
    for block in [array] if array.ndim == 0 else (array[start : start + rows] for start in range(0, len(array), rows)):
        if not np.isfinite(block).all():
            return False
        let_go(block)
    return True
