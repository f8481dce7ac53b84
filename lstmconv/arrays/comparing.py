"""Compare gates bit for bit, in blocks: memory holds one block, for arrays of any size."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from lstmconv.arrays.copying import copy_block, in_threads
from lstmconv.arrays.mapping import let_go
from lstmconv.model import GATES, Array, Gates

__all__ = ["ArrayDifference", "Difference", "array_difference", "difference"]

_ROWS = 256
_COLUMNS = 4096
"""Columns that are gathered in the memory order of the source, and compared in squares of :data:`_ROWS`, as
:mod:`lstmconv.arrays.copying` moves them, and for the same reasons, but by a way of its own."""
_ROW_GAP = 16
_WINDOW_BYTES = 112 << 20
"""Bytes of the target that are compared at a time if it has the other memory order: their pages stay mapped."""
_BAND_BYTES = 32 << 20
"""Bytes of the source that are read before their pages are released."""
_SMALL_BYTES = 256 << 10
"""Arrays of at most this size fit the cache and are compared at once."""


class Difference(NamedTuple):
    """How two arrays differ.

    Attributes:
        wrong: How many numbers differ.
        total: How many numbers were compared.
        gate: The gate of the first number that differs.
        place: Its index in the gate.
        found: Its value.
        expected: The expected value.
    """

    wrong: int
    total: int
    gate: str
    place: tuple[int, ...]
    found: Any
    expected: Any


def difference(expected: Gates, stored: Gates) -> Difference | None:
    """Return how the bits of two arrays of one shape differ, or ``None``.

    Expected values are rounded once to the dtype of the found ones. Signs of zero and NaN payloads count.

    Raises:
        UnsupportedModelError: An expected value does not fit the dtype of the found ones.
    """
    count, first = 0, None
    for letter, wanted_gate, stored_gate in zip(GATES, expected, stored, strict=True):
        wrong = _count_wrong(wanted_gate, stored_gate)
        if wrong and first is None:
            first = letter, *_first_wrong(wanted_gate, stored_gate)
        count += wrong
    return None if first is None else Difference(count, math.prod(expected.shape), *first)


class ArrayDifference(NamedTuple):
    """How two plain arrays differ; the attributes are those of :class:`Difference`."""

    wrong: int
    total: int
    place: tuple[int, ...]
    found: Any
    expected: Any


def array_difference(expected: Array, stored: Array) -> ArrayDifference | None:
    """Return how the bits of two arrays of one shape differ, or ``None``; see :func:`difference`.

    Raises:
        UnsupportedModelError: An expected value does not fit the dtype of the stored ones.
    """
    wanted, found = np.atleast_1d(expected), np.atleast_1d(stored)
    flat = [each.reshape(len(each), -1) if each.ndim > 2 else each for each in (wanted, found)]
    wrong = _count_wrong(*flat) if wanted.size else 0
    return ArrayDifference(wrong, wanted.size, *_first_wrong(wanted, found)) if wrong else None


def _count_wrong(wanted: Array, stored: Array) -> int:
    """Count the numbers that differ: at once for small arrays, else in windows whose rows threads share."""
    if stored.nbytes <= _SMALL_BYTES:
        return int(np.count_nonzero(_bits(_rounded(wanted, stored.dtype)) != _bits(stored)))
    if wanted.ndim == 1:
        wanted, stored = wanted[None], stored[None]
    if abs(wanted.strides[0]) < abs(wanted.strides[1]):
        wanted, stored = wanted.T, stored.T
    width = max(1, _WINDOW_BYTES // max(len(stored) * stored.itemsize, 1)) if _turned(stored) else wanted.shape[1]
    wrong = seen = 0
    for start in range(0, wanted.shape[1], width):
        window = np.s_[:, start : start + width]
        for counted, unequal in in_threads(_compare, wanted[window], stored[window]):
            seen, wrong = seen + counted, wrong + unequal
        let_go(stored[window])
    if seen != stored.size:
        raise RuntimeError(f"{seen} of {stored.size} numbers were compared")
    return wrong


def _compare(wanted: Array, stored: Array) -> tuple[int, int]:
    """Return how many numbers were compared, and how many differ."""
    seen = wrong = 0
    rows = max(_BAND_BYTES // max(abs(wanted.strides[0]), 1) // _ROWS, 1) * _ROWS
    dtype = stored.dtype.newbyteorder("=")
    buffer = np.empty((min(len(wanted), _ROWS), min(wanted.shape[1], _COLUMNS) + _ROW_GAP), dtype)
    for band in range(0, len(wanted), rows):
        for row in range(band, min(band + rows, len(wanted)), _ROWS):
            for column in range(0, wanted.shape[1], _COLUMNS):
                part = wanted[row : row + _ROWS, column : column + _COLUMNS]
                block = buffer[: part.shape[0], : part.shape[1]]
                copy_block(part, block)
                for start in range(0, block.shape[1], _ROWS):
                    mine = _bits(block[:, start : start + _ROWS])
                    theirs = _bits(stored[row : row + _ROWS, column + start : column + start + mine.shape[1]])
                    seen += mine.size
                    wrong += int(np.count_nonzero(mine != theirs))
        let_go(wanted[band : band + rows])
        if not _turned(stored):
            let_go(stored[band : band + rows])
    return seen, wrong


def _turned(stored: Array) -> bool:
    """Whether columns are contiguous in memory, and rows are not."""
    return abs(stored.strides[0]) < abs(stored.strides[1])


def _first_wrong(wanted: Array, stored: Array) -> tuple[tuple[int, ...], Any, Any]:
    """Return the index of the first number that differs, its value and the expected value."""
    for row, (mine, theirs) in enumerate(zip(wanted, stored, strict=True)):
        rounded = _rounded(np.asarray(mine), stored.dtype)
        unequal = np.argwhere(_bits(rounded) != _bits(np.asarray(theirs)))
        if len(unequal):
            place = tuple(map(int, unequal[0]))
            return (row, *place), np.asarray(theirs)[place], rounded[place]
    raise RuntimeError("no number differs")


def _rounded(array: Array, dtype: np.dtype[Any]) -> Array:
    rounded = np.empty(array.shape, dtype.newbyteorder("="))
    copy_block(array, rounded)
    return rounded


def _bits(array: Array) -> Array:
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    bits: Array = native.view(f"u{native.dtype.itemsize}")
    return bits
