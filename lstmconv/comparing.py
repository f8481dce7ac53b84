"""Compare gates bit for bit, block by block: memory holds a block, whatever the arrays' size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstmconv.copying import copy_array, let_go
from lstmconv.model import GATES, Array, Gates

__all__ = ["Difference", "difference"]

_BLOCK = 8 << 20
"""Numbers compared at a time, 32 MiB of float32: of a source that is to be transposed, a page then serves one block."""


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
    rows = max(1, _BLOCK // math.prod(expected.shape[2:]))
    count, first = 0, None
    for letter, wanted, stored in zip(GATES, expected, found, strict=True):
        for start in range(0, len(stored), rows):
            mine, theirs = wanted[start : start + rows], stored[start : start + rows]
            rounded = np.empty(mine.shape, found.dtype)
            copy_array(mine, rounded)
            wrong = _bits(rounded) != _bits(theirs)
            if first is None and wrong.any():
                index = tuple(int(part) for part in np.argwhere(wrong)[0])
                first = letter, (index[0] + start, *index[1:]), theirs[index], rounded[index]
            count += int(np.count_nonzero(wrong))
            let_go(theirs)
    return None if first is None else Difference(count, math.prod(expected.shape), *first)


def _bits(array: Array) -> Array:
    native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    bits: Array = native.view(f"u{native.dtype.itemsize}")
    return bits
