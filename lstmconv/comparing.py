"""Compare gates bit for bit, block by block: memory holds a block, whatever the arrays' size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstmconv.copying import copy_in_threads, in_threads
from lstmconv.mapping import let_go
from lstmconv.model import GATES, Array, Gates

__all__ = ["Difference", "difference"]

_SLAB = 12 << 20
"""Numbers put into the target's order at a time, 48 MiB of float32: of a source that is transposed on the way, every
page is mapped once for each slab."""
_BLOCK = 1 << 18
"""Numbers compared at a time: 1 MiB of float32 stays in the cache."""


@dataclass(frozen=True)
class Difference:
    """Where two arrays differ.

    Attributes:
        count: In how many numbers.
        total: Of how many.
        gate: The gate of the first one.
        place: Its place in the gate.
        found: What stands there.
        expected: What should.
    """

    count: int
    total: int
    gate: str
    place: tuple[int, ...]
    found: Any
    expected: Any


def difference(expected: Gates, found: Gates) -> Difference | None:
    """Return where the bits of two arrays of one shape differ, the expected ones rounded once to the other's dtype.

    Signs of zero and NaN payloads count.

    Raises:
        UnsupportedModelError: An expected value does not fit the other's dtype.
    """
    width = math.prod(expected.shape[2:])
    rows = min(max(1, _SLAB // width), expected.shape[1])
    slab = np.empty((rows, *expected.shape[2:]), found.dtype)
    count, first = 0, None
    for letter, wanted, stored in zip(GATES, expected, found, strict=True):
        for start in range(0, len(stored), rows):
            mine, theirs = slab[: len(stored) - start], stored[start : start + rows]
            copy_in_threads(wanted[start : start + rows], mine)
            wrong = _count_wrong(mine, theirs, max(1, _BLOCK // width))
            if wrong and first is None:
                index = tuple(int(part) for part in np.argwhere(_bits(mine) != _bits(theirs))[0])
                first = letter, (index[0] + start, *index[1:]), theirs[index], mine[index]
            count += wrong
            let_go(theirs)
    return None if first is None else Difference(count, math.prod(expected.shape), *first)


def _count_wrong(mine: Array, theirs: Array, rows: int) -> int:
    def count(start: int) -> int:
        here = np.s_[start : start + rows]
        return int(np.count_nonzero(_bits(mine[here]) != _bits(theirs[here])))

    return sum(in_threads(count, range(0, len(mine), rows), mine.nbytes))


def _bits(array: Array) -> Array:
    native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    bits: Array = native.view(f"u{native.dtype.itemsize}")
    return bits
