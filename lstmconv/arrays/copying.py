"""The only module that moves numbers: it copies the gates of one view to the gates of another.

Large arrays are copied in blocks that fit the processor's cache. On their way to a file, threads fill one slab at a
time, so memory holds one slab, for arrays of any size.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np

from lstmconv.arrays.bias_modes import BIAS_MODES, BiasMode
from lstmconv.arrays.mapping import let_go
from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.layouts import Pattern
from lstmconv.model import Array, Gates, LSTMDirection

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "BiasMode",
    "Piece",
    "copy_array",
    "copy_block",
    "copy_gates",
    "fill",
    "in_threads",
    "joined",
    "packed",
    "place_bias",
    "rounding_of_sum",
    "slabs",
]


Piece: TypeAlias = "tuple[Pattern, Gates] | Array"
"""Consecutive stored numbers: gates in the order of a pattern, or an array as it is."""

_BLOCK = 256
"""Rows and columns of a block that is transposed at once, 256 KiB of float32. One core transposes 2 to 3 GB/s in
blocks, and less than 1 GB/s without. Measured with ``python tests/benchmarks/blocks.py``."""
_WIDE = 4096
"""Columns of :data:`_BLOCK` rows that are gathered before they are transposed. Long runs of a row read faster, and rows
whose distance is a power of two compete for the same few cache lines."""
_ROW_GAP = 16
"""Padding between gathered rows, so that their distance is not a power of two."""
_SLAB_BYTES = 112 << 20
"""Bytes of the target that threads fill before they are written. The source's pages are mapped once for each slab
(3 microseconds for a row of 4 to 64 KiB), so small slabs are slow; at this size a process stays under 300 MB."""
_WRITTEN_BYTES = 512 << 10
"""Bytes of one write. A file system allocates memory in pieces as long as the write, and a virtual machine has often
returned the longest free pieces to its host: 2.1 GB took 5.3 to 6.0 s to convert with 4 MiB, 4.5 to 4.8 s with 1 MiB,
3.4 to 3.8 s with 512 KiB. Shorter writes need more calls: 5 s with 16 KiB."""
_SMALL_BYTES = 4 << 20
"""Below this size, threads are slower than one."""
_BAND_BYTES = 32 << 20
"""Bytes of a mapped source that are read before their pages are released."""
_MOST_THREADS = 4

Value = TypeVar("Value")


def copy_gates(source: Gates, target: Gates) -> None:
    """Copy each gate to the views of ``target``, and round once if its dtype is narrower.

    With equal dtypes, copies are exact: also signs of zero, subnormals, inf and NaN payloads.

    Raises:
        UnsupportedModelError: A finite value does not fit the narrower dtype.
    """
    for values, place in zip(source, target, strict=True):
        copy_array(values, place)


def copy_array(values: Array, place: Array) -> None:
    """Copy one array, a gate's ``(unit, feature)`` or ``(unit,)``, in the memory order of the source.

    Raises:
        UnsupportedModelError: As :func:`copy_gates`.
    """
    if values.ndim > 2:  # A convolution's kernel: small.
        copy_block(values, place)
        return
    if values.ndim == 1:
        values, place = values[None], place[None]
    if abs(values.strides[0]) < abs(values.strides[1]):
        values, place = values.T, place.T
    whole = _exact(values, place) and abs(place.strides[0]) >= abs(place.strides[1])
    band = max(_BAND_BYTES // max(abs(values.strides[0]), 1) // _BLOCK, 1) * _BLOCK
    for start in range(0, len(values), band):
        part, spot = values[start : start + band], place[start : start + band]
        if whole:
            np.copyto(spot, part)
        else:
            _copy_blocks(part, spot)
        let_go(part)


def _exact(values: Array, place: Array) -> bool:
    return values.dtype.newbyteorder("=") == place.dtype.newbyteorder("=")


def _copy_blocks(values: Array, place: Array) -> None:
    buffer = np.empty((min(len(values), _BLOCK), min(values.shape[1], _WIDE) + _ROW_GAP), values.dtype)
    for row in range(0, values.shape[0], _BLOCK):
        for column in range(0, values.shape[1], _WIDE):
            here = np.s_[row : row + _BLOCK, column : column + _WIDE]
            part, spot = values[here], place[here]
            block = buffer[: part.shape[0], : part.shape[1]]
            np.copyto(block, part)
            for start in range(0, block.shape[1], _BLOCK):
                turned = np.s_[:, start : start + _BLOCK]
                copy_block(block[turned], spot[turned])


def copy_block(values: Array, place: Array) -> None:
    """Copy an array, and round once if ``place`` has a narrower dtype.

    Raises:
        UnsupportedModelError: As :func:`copy_gates`.
    """
    if _exact(values, place):
        np.copyto(place, values)
        return
    with np.errstate(over="ignore", invalid="ignore"):  # The next line finds overflow; NaN stays NaN.
        np.copyto(place, values, casting="unsafe")
        lost = np.isfinite(values.astype(np.float64)) & ~np.isfinite(place.astype(np.float64))
    if lost.any():
        largest = np.abs(values[lost].astype(np.float64)).max()
        raise UnsupportedModelError(f"the weight {largest:.6g} does not fit {place.dtype}: choose a wider --dtype")


def slabs(pieces: Sequence[Piece], dtype: np.dtype[np.generic]) -> Iterator[memoryview]:
    """Yield the bytes of consecutive pieces of a file, as ``dtype``, in parts.

    Each part is valid until the next one is requested.

    Raises:
        UnsupportedModelError: As :func:`copy_gates`.
    """
    parts = [part for piece in pieces for part in _parts(piece, dtype.itemsize)]
    if sum(part.size for part in parts) * dtype.itemsize <= _SMALL_BYTES:
        yield joined(parts, dtype).view(np.uint8).data
        return
    buffer = np.empty(max(part.size for part in parts), dtype)
    for part in parts:
        place = buffer[: part.size]
        in_threads(copy_array, part, place.reshape(part.shape))
        content = place.view(np.uint8).data
        yield from (content[start : start + _WRITTEN_BYTES] for start in range(0, len(content), _WRITTEN_BYTES))


def in_threads(function: Callable[[Array, Array], Value], values: Array, place: Array) -> list[Value]:
    """Apply a function to shares of two arrays of one shape, and return its results.

    Small arrays are one share. Large ones are split among threads, along the rows of the first array in memory.
    """
    if place.nbytes <= _SMALL_BYTES:
        return [function(values, place)]
    from concurrent.futures import ThreadPoolExecutor

    threads = min(os.cpu_count() or 1, _MOST_THREADS)
    axis = values.ndim - 1 if abs(values.strides[0]) < abs(values.strides[-1]) else 0
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, *(np.array_split(array, threads, axis) for array in (values, place))))


def joined(pieces: Sequence[Piece], dtype: np.dtype[np.generic]) -> Array:
    """Return consecutive pieces as one flat array of ``dtype``.

    Raises:
        UnsupportedModelError: As :func:`copy_gates`.
    """
    parts = [part for piece in pieces for part in _parts(piece, dtype.itemsize)]
    target = np.empty(sum(part.size for part in parts), dtype)
    start = 0
    for part in parts:
        copy_array(part, target[start : start + part.size].reshape(part.shape))
        start += part.size
    return target


def _parts(piece: Piece, itemsize: int) -> Iterator[Array]:
    """Split a piece into arrays of at most one slab, in stored order."""
    if isinstance(piece, np.ndarray):
        whole: list[Array] = [piece if piece.ndim else piece.reshape(1)]
    else:
        pattern, gates = piece
        whole = [getattr(gates, gate) for gate in pattern.gate_blocks]
    for array in whole:
        rows = max(_SLAB_BYTES // max(array[:1].size * itemsize, 1), 1)
        for start in range(0, len(array), rows):
            yield array[start : start + rows]


def fill(target: Array, pattern: Pattern, source: Gates) -> None:
    """Write gates to ``target``, an array or buffer in the layout of ``pattern``.

    ``target`` may be a memory map.

    Raises:
        UnsupportedModelError: As :func:`copy_gates`.
    """
    view = pattern.view(target, hidden=source.shape[1])
    if not np.shares_memory(view.i, target):
        raise UsageError(f"no view of {pattern.axes!r} can be written through")
    copy_gates(source, view)


def packed(pattern: Pattern, source: Gates, shape: tuple[int, ...], dtype: npt.DTypeLike | None = None) -> Array:
    """Return the gates as a new array of ``shape`` in the layout of ``pattern``.

    A pattern with ``=`` has no writable view, so the blocks are filled first and then stored.
    """
    if pattern.elements is not None:
        blocks = packed(pattern.elements, source, (4, source.i.size), dtype)
        return np.ascontiguousarray(pattern.store(blocks, shape))
    target = np.empty(shape, source.dtype if dtype is None else dtype)
    fill(target, pattern, source)
    return target


def _scaled(gates: Gates, factor: float) -> Gates:
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and inf stay what they are.
        return Gates(*(gate * np.asarray(factor, gates.dtype) for gate in gates))


def _total(direction: LSTMDirection) -> Gates | None:
    """Return the sum of both biases: exact for a single bias, rounded once for two."""
    if direction.bias_ih is None or direction.bias_hh is None:
        return direction.bias_ih if direction.bias_hh is None else direction.bias_hh
    return Gates(*(_sum(a, b) for a, b in zip(direction.bias_ih, direction.bias_hh, strict=True)))


def _sum(a: Array, b: Array) -> Array:
    """Add, and round once. Adding zero keeps every bit of the other number, also of -0.0 and NaN payloads."""
    with np.errstate(invalid="ignore", over="ignore"):
        total: Array = np.where(b == 0, a, np.where(a == 0, b, a + b))
    return total


def rounding_of_sum(direction: LSTMDirection) -> float | None:
    """Return the largest rounding of the sum of both biases, in units in the last place of the sum.

    ``None`` if there are no two biases. The error is exact: TwoSum (Knuth, The Art of Computer
    Programming 2, 4.2.2, theorem B) in the biases' own dtype.
    """
    if direction.bias_ih is None or direction.bias_hh is None:
        return None
    worst = 0.0
    for a, b in zip(direction.bias_ih, direction.bias_hh, strict=True):
        with np.errstate(all="ignore"):
            total = a + b
            part = total - a
            error = np.abs(((a - (total - part)) + (b - part)).astype(np.float64))
            unit = np.abs(np.spacing(total).astype(np.float64))
            ulps = np.where(np.isfinite(total.astype(np.float64)) & (unit > 0), error / unit, 0.0)
        worst = max(worst, float(np.max(ulps, initial=0.0)))
    return worst


def place_bias(
    direction: LSTMDirection, mode: BiasMode | None, *, zeros: bool = False
) -> tuple[Gates | None, Gates | None]:
    """Return the input and the recurrent bias as a target stores them.

    Without ``mode`` the result is exact: one bias becomes ``(b, zeros)``, two biases stay, and no bias
    stays ``(None, None)``. With a mode, two biases are summed first, which rounds once.

    Args:
        direction: Its biases are ``(4, hidden)`` each or ``None``.
        mode: See :data:`BiasMode`.
        zeros: Return zeros for a missing bias; used for a half whose other half has a bias.

    Raises:
        UsageError: ``none`` for a layer that has a bias, or a mode that does not exist.
    """
    if mode is not None and mode not in BIAS_MODES:
        raise UsageError(f"bias mode {mode!r} is unknown; expected one of {', '.join(BIAS_MODES)}")
    total = _total(direction)
    if total is None and not zeros and mode != "double":
        return None, None
    if mode == "none":
        raise UsageError(
            "bias mode 'none' would drop the layer's bias; choose double, single-input or single-recurrent"
        )
    nothing = np.zeros(direction.hidden_size, direction.dtype)
    zero = Gates(nothing, nothing, nothing, nothing)
    if mode in (None, "double") and direction.bias_hh is not None:
        return direction.bias_ih or zero, direction.bias_hh
    total = total or zero
    if mode == "both-halves":
        half = _scaled(total, 0.5)
        return half, half
    placed: dict[BiasMode | None, tuple[Gates | None, Gates | None]] = {
        None: (total, zero),
        "double": (total, zero),
        "input": (total, zero),
        "recurrent": (zero, total),
        "single-input": (total, None),
        "single-recurrent": (None, total),
    }
    return placed[mode]
