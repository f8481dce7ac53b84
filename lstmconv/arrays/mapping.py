"""Map files into memory as arrays, and release their pages after reading."""

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
"""Smaller arrays are not worth a system call."""


def mapped(
    file: Path | BinaryIO, dtype: np.dtype[Any] | type = np.uint8, start: int = 0, shape: tuple[int, ...] | None = None
) -> Array:
    """Return a file's bytes as a read-only array that takes no memory before it is read.

    The result is a plain array: NumPy's ``memmap`` takes 0.1 ms to make, and makes each slice ten times slower.

    Args:
        file: A path, or an open file.
        dtype: The type of the elements.
        start: The first byte, with any alignment.
        shape: The shape; by default, the rest of the file as a flat array.

    Raises:
        OSError: The file cannot be opened.
        ValueError: The file is shorter than ``shape`` needs, or its size is not a multiple of ``dtype``'s.
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
    if not size:  # An empty file cannot be mapped.
        return np.empty(0, np.uint8)
    return np.ndarray(size, np.uint8, mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))


def let_go(values: Array) -> None:
    """Release the pages of a mapped array: they stay cached, but no longer count as this process' memory."""
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
    if whole.flags.writeable:  # Releasing a private map would drop what was written to it.
        return
    page = start // mmap.PAGESIZE * mmap.PAGESIZE
    owner.madvise(mmap.MADV_DONTNEED, page, start + length - page)
