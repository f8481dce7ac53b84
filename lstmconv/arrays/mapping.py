"""Files seen as arrays: mapped, not loaded, and let go of when they were read."""

from __future__ import annotations

import math
import mmap
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lstmconv.model import Array

__all__ = ["let_go", "mapped"]

_LEAST_BYTES = 1 << 20
"""Less is not worth a call of the system."""


def mapped(
    file: Path | BinaryIO, dtype: np.dtype[Any] | type = np.uint8, start: int = 0, shape: tuple[int, ...] | None = None
) -> Array:
    """Return a file's bytes as a read-only array that takes no memory until it is read.

    A plain array, not NumPy's ``memmap``, which costs a tenth of a millisecond, and ten times as much for every slice.

    Args:
        file: A path, or an open file.
        dtype: Of the elements.
        start: The first byte; of any alignment.
        shape: All that follows, flat, by default.

    Raises:
        OSError: It cannot be opened.
        ValueError: It ends before ``shape`` is full, or ``dtype`` does not divide it.
    """
    if isinstance(file, Path):
        with file.open("rb", buffering=0) as opened:
            content = _whole(opened.fileno())
    else:
        content = _whole(file.fileno())
    if shape is not None:
        end = start + math.prod(shape) * np.dtype(dtype).itemsize
        if end > content.size:
            raise ValueError(f"the file ends at byte {content.size:,}, expected {end:,} bytes or more")
        return content[start:end].view(dtype).reshape(shape)
    return content[start:].view(dtype)


def _whole(descriptor: int) -> Array:
    size = os.fstat(descriptor).st_size
    if not size:  # Of an empty file no system makes a map.
        return np.empty(0, np.uint8)
    return np.ndarray(size, np.uint8, mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))


def let_go(values: Array) -> None:
    """Unmap what was read of a mapped file: it stays cached, but is no longer this process' memory."""
    length = sum((n - 1) * stride for n, stride in zip(values.shape, values.strides, strict=True)) + values.itemsize
    if length < _LEAST_BYTES:
        return
    owner: object = values
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if not isinstance(owner, mmap.mmap) or not hasattr(owner, "madvise") or min(values.strides) < 0:
        return
    whole = np.frombuffer(owner, np.uint8)
    start = values.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    if whole.flags.writeable:  # A private map that was written to would lose what was written.
        return
    page = start // mmap.PAGESIZE * mmap.PAGESIZE
    owner.madvise(mmap.MADV_DONTNEED, page, start + length - page)
