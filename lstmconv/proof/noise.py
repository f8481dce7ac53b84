"""How far each number of a run may be off, and which is worst."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from lstmconv.model import Stack
from lstmconv.proof.rounding import DRAWS, SPREAD_MARGIN, UselessBoundError, bounded, drawn
from lstmconv.proof.trials import Compared, Trial, computed
from lstmconv.runtimes import Inputs, Precision
from lstmconv.semantics import CellType

__all__ = ["Noise", "Worst", "bound", "bound_of", "given", "spread", "spread_of", "worst_of", "worsts_of"]

Float64: TypeAlias = npt.NDArray[np.float64]
Arrays: TypeAlias = "Mapping[str, Float64]"


@dataclass(frozen=True, eq=False)
class Noise:
    """How far each number may be off, by name, and where that is known from."""

    allowed: Arrays
    source: Literal["bound", "spread", "given"]

    @property
    def largest(self) -> float:
        """The widest allowance."""
        return max((float(array.max(initial=0.0)) for array in self.allowed.values()), default=0.0)


@dataclass(frozen=True)
class Worst:
    """The number that is worst, in units of its noise."""

    ratio: float
    deviation: float
    noise: float
    place: str


Compute: TypeAlias = "Callable[[Inputs, CellType], Arrays]"
"""Computes outputs by name from inputs, by the cells that are given."""


def bound(stack: Stack, trial: Trial, precision: Precision) -> Noise:
    """Carry the bound of rounding errors through the trial."""
    return bound_of(partial(computed, stack), trial, precision)


def bound_of(compute: Compute, trial: Trial, precision: Precision, moved: Sequence[Float64] = ()) -> Noise:
    """Carry the bound through what computes a trial; ``moved`` is how far each of its states may be off already."""
    inputs = _each(trial.inputs, lambda array: np.stack([array, np.zeros_like(array)]))
    for state, far in zip(inputs.states, moved, strict=False):
        state[1] += far
    try:
        allowed = {key: array[1] for key, array in compute(inputs, bounded(precision)).items()}
    except UselessBoundError:
        allowed = {key: np.full_like(array, np.inf) for key, array in trial.expected.items()}
    return Noise(allowed, "bound")


def spread(stack: Stack, trial: Trial, precision: Precision, bounds: Noise) -> Noise:
    """Measure what roundings drawn at random do, by array and step; where the bound is narrower, it stands."""
    return spread_of(partial(computed, stack), trial, precision, bounds)


def spread_of(
    compute: Compute, trial: Trial, precision: Precision, bounds: Noise, moved: Sequence[Float64] = ()
) -> Noise:
    """Measure as :func:`spread` does; ``moved`` is how far each of the trial's states may be off already."""
    inputs = _each(trial.inputs, lambda array: np.broadcast_to(array, (DRAWS, *array.shape)))
    if moved:
        random = np.random.default_rng(0)
        shaken = (
            state + random.uniform(-1.0, 1.0, state.shape) * far
            for state, far in zip(inputs.states, moved, strict=True)
        )
        inputs = replace(inputs, states=tuple(shaken))
    allowed: dict[str, Float64] = {}
    for key, values in compute(inputs, drawn(precision)).items():
        off = np.abs(np.nan_to_num(values - trial.expected[key], nan=0.0, posinf=0.0, neginf=0.0))
        widest = off.max(axis=(0, 1, 3) if off.ndim == 4 else None, initial=0.0)
        allowed[key] = np.minimum(bounds.allowed[key], SPREAD_MARGIN * np.expand_dims(widest, -1))
    return Noise(allowed, "spread")


def _each(inputs: Inputs, change: Callable[[Float64], Float64]) -> Inputs:
    """Put an axis in front of all arrays."""
    return replace(inputs, x=change(inputs.x), states=tuple(map(change, inputs.states)))


def given(trial: Compared, atol: float, rtol: float) -> Noise:
    """Allow what the user does."""
    return Noise({key: atol + rtol * np.abs(values) for key, values in trial.expected.items()}, "given")


def worst_of(found: Arrays, expected: Arrays, noise: Noise) -> Worst:
    """Return the number that deviates most in units of its noise; what is equally infinite or NaN agrees."""
    return worsts_of([found], expected, noise)[0]


def worsts_of(runs: Sequence[Arrays], expected: Arrays, noise: Noise) -> list[Worst]:
    """Return :func:`worst_of` of each of several runs, those that return the same names compared together."""
    worsts = [Worst(-1.0, 0.0, 0.0, "")] * len(runs)
    for key, right in expected.items():
        numbers = [number for number, found in enumerate(runs) if key in found and right.size]
        together = max(1, _TOGETHER // max(right.size, 1))
        for start in range(0, len(numbers), together):
            some = numbers[start : start + together]
            compared = _worst_numbers(key, np.stack([runs[number][key] for number in some]), right, noise)
            for number, worst in zip(some, compared, strict=True):
                kept = worsts[number]
                if (worst.ratio, worst.deviation) > (kept.ratio, kept.deviation):
                    worsts[number] = worst
    return worsts


_TOGETHER = 1 << 20
"""Runs are compared so many numbers (8 MB) at a time."""


def _worst_numbers(key: str, values: Float64, expected: Float64, noise: Noise) -> Iterator[Worst]:
    """Return the worst number of an output of several runs, ``(runs, ...)``."""
    allowed = np.broadcast_to(noise.allowed[key], expected.shape)
    with np.errstate(all="ignore"):
        off = np.abs(values - expected)
        unclear = np.isnan(off)
        if unclear.any():
            agree = (values == expected) | (np.isnan(values) & np.isnan(expected))
            off = np.where(unclear, np.where(agree, 0.0, np.inf), off)
        ratio = np.divide(off, allowed, out=np.zeros_like(off), where=off > 0.0)
    places = ratio.reshape(len(ratio), -1).argmax(axis=1)  # A NaN, infinite by infinite, is found first.
    for run, place in enumerate(places):
        index = np.unravel_index(place, expected.shape)
        reached = float(ratio[run][index])
        where = f"{key}[{', '.join(str(int(part)) for part in index)}]"
        yield Worst(np.inf if np.isnan(reached) else reached, float(off[run][index]), float(allowed[index]), where)
