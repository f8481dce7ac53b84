"""The one place where numbers move: from the gates of one view into the gates of another."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.layouts import Pattern
from lstmconv.model import Array, Gates, LSTMDirection

__all__ = ["BiasMode", "copy_gates", "fill", "packed", "place_bias", "rounding_of_sum"]

BiasMode: TypeAlias = Literal["input", "recurrent", "both-halves", "double", "single-input", "single-recurrent", "none"]
"""Where a bias goes. Into two biases: ``input`` (b, 0), ``recurrent`` (0, b), ``both-halves`` (b/2, b/2).
cuDNN's four modes: ``double`` (b, 0), ``single-input``, ``single-recurrent``, ``none``."""


def copy_gates(source: Gates, target: Gates) -> None:
    """Copy gate by gate into the views of ``target``, rounding once where its dtype is narrower.

    Equal dtypes copy bit for bit: signs of zero, subnormals, inf and NaN payloads included.

    Raises:
        UnsupportedModelError: A finite value does not fit the narrower dtype.
    """
    exact = source.dtype == target.dtype
    for values, place in zip(source, target, strict=True):
        with np.errstate(over="ignore", invalid="ignore"):  # Overflow is looked for below, NaN stays NaN.
            np.copyto(place, values, casting="unsafe")
            if exact:
                continue
            lost = np.isfinite(values.astype(np.float64)) & ~np.isfinite(place.astype(np.float64))
        if lost.any():
            largest = np.abs(values[lost].astype(np.float64)).max()
            raise UnsupportedModelError(f"the weight {largest:.6g} does not fit {target.dtype}: choose a wider --dtype")


def fill(target: Array, pattern: Pattern, source: Gates) -> None:
    """Write gates into ``target``, an array or buffer laid out as ``pattern`` says.

    ``target`` may be a memory map: its view shares its memory.

    Raises:
        UnsupportedModelError: As :func:`copy_gates`.
    """
    view = pattern.view(target, hidden=source.shape[1])
    if not np.shares_memory(view.i, target):
        raise UsageError(f"no view of {pattern.axes!r} can be written through")
    copy_gates(source, view)


def packed(pattern: Pattern, source: Gates, shape: tuple[int, ...], dtype: npt.DTypeLike | None = None) -> Array:
    """Return a new array of ``shape``, laid out as ``pattern`` says, that holds the gates.

    A pattern with ``=`` has no view to write through: its blocks are filled one after the other, then stored.
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
    """Return the one bias that stands for both: exact for one, rounded once for two."""
    if direction.bias_ih is None or direction.bias_hh is None:
        return direction.bias_ih if direction.bias_hh is None else direction.bias_hh
    return Gates(*(_sum(a, b) for a, b in zip(direction.bias_ih, direction.bias_hh, strict=True)))


def _sum(a: Array, b: Array) -> Array:
    """Add, rounding once; what is added to a zero stays bit for bit, -0.0 and NaN payloads included."""
    with np.errstate(invalid="ignore", over="ignore"):
        total: Array = np.where(b == 0, a, np.where(a == 0, b, a + b))
    return total


def rounding_of_sum(direction: LSTMDirection) -> float | None:
    """Return the largest rounding of the sum of both biases, in units in the last place of the sum.

    ``None`` where there is nothing to sum. The error is exact: TwoSum (Knuth, The Art of Computer
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

    Without ``mode`` nothing is lost: one bias becomes ``(b, zeros)``, two stay as they are, none
    stays ``(None, None)``. With a mode, two biases are summed first, which rounds once.

    Args:
        direction: Its biases are ``(4, hidden)`` each or ``None``.
        mode: See :data:`BiasMode`.
        zeros: A missing bias is zeros: for a half beside one that has a bias.

    Raises:
        UsageError: ``none`` for a layer that has a bias, or a mode that does not exist.
    """
    if mode is not None and mode not in get_args(BiasMode):
        raise UsageError(f"bias mode {mode!r} is unknown; expected one of {', '.join(get_args(BiasMode))}")
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
