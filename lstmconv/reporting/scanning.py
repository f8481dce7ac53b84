"""Go over a gate's weights in bands: exact statistics, a histogram, a picture small enough to show.

A band is let go of before the next one is read, so that memory does not grow with the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lstmconv.arrays.mapping import let_go
from lstmconv.model import Array

__all__ = ["Scan", "scan_gate", "with_histogram"]

PICTURE = 96
"""Largest number of cells of a picture along each axis: about as many as a figure has pixels."""
BINS = 48
"""Number of bins of a histogram, from minus the largest magnitude to plus it: even, so that 0 is an edge."""
_BAND_BYTES = 8 << 20

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scan:
    """One gate of one array in numbers; all but the picture is exact, over every weight.

    Attributes:
        shape: ``(unit, feature)``; of a bias ``(unit, 1)``.
        smallest: The smallest finite weight; 0 if there is none. The next three count finite weights only, too.
        largest: Likewise.
        mean: Likewise, in float64.
        deviation: The standard deviation; computed by :func:`with_histogram`.
        zeros: How many are zero.
        nan: How many are NaN.
        infinite: How many are infinite.
        magnitudes: ``(unit,)``: sums of magnitudes.
        squares: ``(unit,)``: sums of squares.
        finite: ``(unit,)``: whether all of the unit's weights are.
        picture: At most :data:`PICTURE` cells along each axis; each is the weight of its block that is largest in
            magnitude, with its sign; not finite where one of the block is not.
        block: Units and features of a cell.
        counts: ``(BINS,)``; computed by :func:`with_histogram`.
    """

    shape: tuple[int, int]
    smallest: float
    largest: float
    mean: float
    deviation: float
    zeros: int
    nan: int
    infinite: int
    magnitudes: Float64
    squares: Float64
    finite: npt.NDArray[np.bool_]
    picture: Float64
    block: tuple[int, int]
    counts: npt.NDArray[np.int64]

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.shape[0] * self.shape[1]

    @property
    def reduced(self) -> bool:
        """Whether a cell of the picture stands for more than one weight."""
        return self.block != (1, 1)


def _bands(values: Array, step: tuple[int, int]) -> Iterator[tuple[slice, slice, Array]]:
    """Yield bands along the axis that is the slower one in the file, whole steps each, in float32 or wider."""
    axis = 0 if abs(values.strides[0]) >= abs(values.strides[1]) else 1
    across = max(values.shape[1 - axis] * values.itemsize, 1)
    length = max(_BAND_BYTES // across // step[axis], 1) * step[axis]
    for start in range(0, values.shape[axis], length):
        where = slice(start, min(start + length, values.shape[axis]))
        rows, columns = (where, slice(None)) if axis == 0 else (slice(None), where)
        part = values[rows, columns]
        yield rows, columns, part if part.dtype in (np.float32, np.float64) else part.astype(np.float32)
        let_go(part)


def _two_axes(values: Array) -> Array:
    return values[:, None] if values.ndim == 1 else values


def scan_gate(values: Array) -> Scan:
    """Read a gate's weights, ``(unit, feature)`` or ``(unit,)``, for the first time."""
    values = _two_axes(values)
    units, features = values.shape
    block = (max(-(-units // PICTURE), 1), max(-(-features // PICTURE), 1))
    picture = np.zeros((-(-units // block[0]), -(-features // block[1])))
    magnitudes, squares, finite = np.zeros(units), np.zeros(units), np.ones(units, np.bool_)
    low, high, total = np.inf, -np.inf, 0.0
    zeros = nan = infinite = 0
    with np.errstate(all="ignore"):  # Numbers that are not finite are counted, and shown as what they are.
        for rows, columns, part in _bands(values, block):
            good = np.isfinite(part)
            whole = bool(good.all())
            known = part if whole else part[good]
            if known.size:
                low, high = min(low, float(known.min())), max(high, float(known.max()))
            total += float(known.sum(dtype=np.float64))
            zeros += part.size - int(np.count_nonzero(part))
            if not whole:
                nan += int(np.isnan(part).sum())
                infinite += int(np.isinf(part).sum())
                finite[rows] &= good.all(axis=1)
            magnitudes[rows] += np.abs(part).sum(axis=1, dtype=np.float64)
            squares[rows] += np.einsum("uk,uk->u", part, part, dtype=np.float64, casting="unsafe")
            cells = slice((rows.start or 0) // block[0], None), slice((columns.start or 0) // block[1], None)
            reduced = _largest(part, block)
            picture[cells][: reduced.shape[0], : reduced.shape[1]] = reduced
    count = values.size - nan - infinite
    return Scan(
        shape=(units, features),
        smallest=low if count else 0.0,
        largest=high if count else 0.0,
        mean=total / count if count else 0.0,
        deviation=0.0,
        zeros=zeros,
        nan=nan,
        infinite=infinite,
        magnitudes=magnitudes,
        squares=squares,
        finite=finite,
        picture=picture,
        block=block,
        counts=np.zeros(BINS, np.int64),
    )


def _largest(part: Array, block: tuple[int, int]) -> Float64:
    """Return the weight of largest magnitude in each block; NaN and infinities count as largest."""
    if block == (1, 1):
        return part.astype(np.float64)
    bounds = []
    for function in (np.minimum, np.maximum):
        rows = function.reduceat(part, np.arange(0, part.shape[0], block[0]), axis=0)
        bounds.append(function.reduceat(rows, np.arange(0, part.shape[1], block[1]), axis=1))
    low, high = bounds
    return np.where(np.abs(low) > np.abs(high), low, high).astype(np.float64)


def with_histogram(values: Array, scan: Scan, limit: float) -> Scan:
    """Read the weights a second time, for the histogram over ``-limit`` to ``limit``, and the deviation."""
    counts = np.zeros(BINS, np.int64)
    off = 0.0
    scale = 2.0 ** -float(np.frexp(limit)[1])  # Exact; the width of the range may not fit the weights' own dtype.
    bounds = (-limit * scale, limit * scale) if limit else (-1.0, 1.0)
    for _, _, part in _bands(_two_axes(values), (1, 1)):
        known = part[np.isfinite(part)] if scan.nan or scan.infinite else part.ravel(order="K")
        counts += np.histogram(known * np.float64(scale), BINS, bounds)[0]
        off += float(np.square(known - np.float64(scan.mean), dtype=np.float64).sum())
    known_count = scan.size - scan.nan - scan.infinite
    return replace(scan, counts=counts, deviation=float(np.sqrt(off / known_count)) if known_count else 0.0)
