"""The outputs of a written file against the reference: deviation, noise, and the nearest mistake.

A file passes if no number of it deviates by more than rounding explains, where rounding is far below what any mistake
of the catalogue would have caused on the same inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from lstmconv.errors import LstmconvError, MissingDependencyError
from lstmconv.model import Stack
from lstmconv.proof.diagnosis import explain_outputs, locate, summed_up
from lstmconv.proof.power import Outcome, outcomes
from lstmconv.proof.rounding import DRAWS, SPREAD_MARGIN, UselessBoundError, bounded, drawn
from lstmconv.proof.trials import Settings, Trial, computed, draw
from lstmconv.report import Check, Evidence
from lstmconv.runtimes import Inputs, Loaded, NotRunError, Outputs, Precision, Run

__all__ = ["MARGIN", "check_outputs"]

Float64: TypeAlias = npt.NDArray[np.float64]
Arrays: TypeAlias = "Mapping[str, Float64]"

MARGIN = 10
"""A mistake counts as told where it deviates ten times as far as noise may: no rounding is taken for one, nor one for
rounding, even if the noise were out by half of that."""


@dataclass(frozen=True, eq=False)
class _Noise:
    """How far each number may be off, by name, and where that is known from."""

    allowed: Arrays
    source: Literal["bound", "spread", "given"]

    @property
    def largest(self) -> float:
        """The widest allowance."""
        return max((float(array.max(initial=0.0)) for array in self.allowed.values()), default=0.0)


@dataclass(frozen=True)
class _Worst:
    """The number that is worst, in units of its noise."""

    ratio: float
    deviation: float
    noise: float
    place: str


def check_outputs(name: str, stack: Stack, target: Path, runtime: Any, settings: Settings, run: Run) -> Check:
    """Run one stack of a file and compare all its outputs and states with the reference.

    Args:
        name: The stack's name in the file.
        stack: What it must compute, with weights as the target's dtype holds them.
        target: The file.
        runtime: Its runtime module.
        settings: Inputs and tolerances.
        run: One of the runtime's ways.
    """
    try:
        loaded = run(target, name)
        seen = runtime.seen_by_target(stack)
        time_first = seen.first.time_major
        seen = Stack(seen.name, tuple(replace(layer, time_major=False) for layer in seen.layers))
        accepted = runtime.accepts(target, name)
        probe, trial = draw(seen, loaded.precision.stored, settings, accepted)

        def ran(inputs: Inputs) -> Outputs:
            return _ran(loaded, inputs, time_first=time_first)

        found = [ran(probe.inputs), ran(trial.inputs)]
    except (MissingDependencyError, NotRunError) as error:
        return Check(name, "outputs", "not run", _line(error))
    except LstmconvError:
        raise
    except Exception as error:  # A framework refuses what it was given, in its own kind of error.
        return Check(name, "outputs", "failed", f"does not run: {type(error).__name__}: {_line(error)}")
    problem = _misshapen(probe, found[0]) or _misshapen(trial, found[1])
    if problem is not None:
        return Check(name, "outputs", "failed", f"{problem} · {loaded.framework}")
    if not any(np.isfinite(values).any() for values in trial.expected.values()):
        return Check(name, "outputs", "not run", "the weights hold numbers that are not finite, and so do all outputs")
    return _judged(name, seen, (probe, trial), found, loaded, settings, lambda: locate(seen, ran, accepted, settings))


def _line(error: Exception) -> str:
    return str(error).split("\n")[0][:200]


def _ran(loaded: Loaded, inputs: Inputs, *, time_first: bool) -> Outputs:
    """Run batch-first inputs, whatever the layer takes."""
    if not time_first:
        return loaded.compute(inputs)
    found = loaded.compute(replace(inputs, x=inputs.x.swapaxes(0, 1)))
    return {name: array.swapaxes(0, 1) if array.ndim == 3 else array for name, array in found.items()}


def _misshapen(trial: Trial, found: Outputs) -> str | None:
    missing = sorted(set(trial.expected) - set(found))
    if missing:
        return f"the file returns no {', '.join(missing)}"
    for key, values in trial.expected.items():
        if found[key].shape != values.shape:
            return f"{key} is {found[key].shape}, expected {values.shape}"
    return None


def _bound(stack: Stack, trial: Trial, precision: Precision) -> _Noise:
    """Carry the bound of rounding errors through the trial."""
    inputs = _each(trial.inputs, lambda array: np.stack([array, np.zeros_like(array)]))
    try:
        allowed = {key: array[1] for key, array in computed(stack, inputs, bounded(precision)).items()}
    except UselessBoundError:
        allowed = {key: np.full_like(array, np.inf) for key, array in trial.expected.items()}
    return _Noise(allowed, "bound")


def _spread(stack: Stack, trial: Trial, precision: Precision, bound: _Noise) -> _Noise:
    """Measure what roundings drawn at random do, by array and step; where the bound is narrower, it stands."""
    inputs = _each(trial.inputs, lambda array: np.broadcast_to(array, (DRAWS, *array.shape)))
    allowed: dict[str, Float64] = {}
    for key, values in computed(stack, inputs, drawn(precision)).items():
        off = np.abs(np.nan_to_num(values - trial.expected[key], nan=0.0, posinf=0.0, neginf=0.0))
        widest = off.max(axis=(0, 1, 3) if off.ndim == 4 else None, initial=0.0)
        allowed[key] = np.minimum(bound.allowed[key], SPREAD_MARGIN * np.expand_dims(widest, -1))
    return _Noise(allowed, "spread")


def _each(inputs: Inputs, change: Callable[[Float64], Float64]) -> Inputs:
    """Put an axis in front of all arrays."""
    return replace(inputs, x=change(inputs.x), states=tuple(map(change, inputs.states)))


def _given(trial: Trial, atol: float, rtol: float) -> _Noise:
    return _Noise({key: atol + rtol * np.abs(values) for key, values in trial.expected.items()}, "given")


def _worst(found: Arrays, expected: Arrays, noise: _Noise) -> _Worst:
    """Return the number that deviates most in units of its noise; what is equally infinite or NaN agrees."""
    worst = _Worst(-1.0, 0.0, 0.0, "")
    for key, values in found.items():
        if not values.size:
            continue
        with np.errstate(all="ignore"):
            off = np.abs(values - expected[key])
            unclear = np.isnan(off)
            if unclear.any():
                agree = (values == expected[key]) | (np.isnan(values) & np.isnan(expected[key]))
                off = np.where(unclear, np.where(agree, 0.0, np.inf), off)
            ratio = np.divide(off, noise.allowed[key], out=np.zeros_like(off), where=off > 0.0)
        index = np.unravel_index(np.argmax(ratio), ratio.shape)  # A NaN, infinite by infinite, is found first.
        reached = float(np.nan_to_num(ratio[index], nan=np.inf, posinf=np.inf))
        if (reached, off[index]) > (worst.ratio, worst.deviation):
            place = f"{key}[{', '.join(str(int(part)) for part in index)}]"
            worst = _Worst(reached, float(off[index]), float(noise.allowed[key][index]), place)
    return worst


def _deviations(catalogue: Sequence[Outcome], noises: Mapping[Trial, _Noise]) -> list[tuple[Outcome, _Worst]]:
    """Return how far each mistake leads off."""
    return [(outcome, _worst(outcome.outputs, outcome.trial.expected, noises[outcome.trial])) for outcome in catalogue]


def _all_told(wrong: Sequence[tuple[Outcome, _Worst]], noises: Mapping[Trial, _Noise]) -> bool:
    """Whether every mistake that leads off at all does so far over the noise, and the noise says something."""
    moved = [worst for _, worst in wrong if worst.deviation > 0.0]
    nearest = min((worst.deviation for worst in moved), default=0.0)
    widest = max(noise.largest for noise in noises.values())
    return widest * MARGIN <= nearest and all(worst.ratio >= MARGIN for worst in moved)


def _judged(
    name: str,
    stack: Stack,
    trials: Sequence[Trial],
    found: Sequence[Outputs],
    loaded: Loaded,
    settings: Settings,
    located: Any,
) -> Check:
    catalogue = list(outcomes(stack, *trials))
    given = None if settings.atol is None and settings.rtol is None else (settings.atol or 0.0, settings.rtol or 0.0)
    noises = {trial: _bound(stack, trial, loaded.precision) for trial in trials}
    wrong = _deviations(catalogue, noises)
    if not _all_told(wrong, noises):
        noises = {trial: _spread(stack, trial, loaded.precision, noise) for trial, noise in noises.items()}
        wrong = _deviations(catalogue, noises)
    told = [(outcome, worst) for outcome, worst in wrong if worst.ratio >= MARGIN]
    untold = summed_up([outcome for outcome, worst in wrong if worst.ratio < MARGIN])
    nearest = min(told, key=lambda pair: pair[1].deviation, default=None)
    hidden: list[Outcome] = []
    if given is not None:
        noises = {trial: _given(trial, *given) for trial in trials}
        hidden = [one for one, worst in _deviations([one for one, _ in told], noises) if worst.ratio <= 1.0]
    returned = {
        trial: {key: np.asarray(one[key], np.float64) for key in trial.expected}
        for trial, one in zip(trials, found, strict=True)
    }
    worsts = {trial: _worst(returned[trial], trial.expected, noises[trial]) for trial in trials}
    worse = max(trials, key=lambda trial: worsts[trial].ratio)
    worst = worsts[worse]
    evidence = Evidence(
        found=worst.deviation,
        noise=worst.noise,
        noise_source=noises[worse].source,
        nearest=None if nearest is None else nearest[1].deviation,
        mistake=None if nearest is None else nearest[0].text,
        mistakes=len(catalogue),
        cannot_tell=tuple(untold),
        steps=_by_step(returned[trials[1]], trials[1], noises[trials[1]]),
    )
    if worst.ratio > 1.0:
        diagnosis = explain_outputs([(outcome, returned[outcome.trial]) for outcome, _ in told]) or located()
        detail = (
            f"deviates by {_number(worst.deviation)} at {worst.place} · noise {_number(worst.noise)}"
            f"{'' if diagnosis is None else ' · ' + diagnosis} · {loaded.framework}"
        )
        return Check(name, "outputs", "failed", detail, worst.deviation, worst.noise, evidence, diagnosis)
    if hidden:
        detail = (
            f"the tolerance would let {hidden[0].text} pass: it proves nothing, and --atol and --rtol are to be "
            f"lowered · found {_number(worst.deviation)} · {loaded.framework}"
        )
        return Check(name, "outputs", "not run", detail, worst.deviation, worst.noise, evidence)
    detail = f"{_passed(evidence)} · {loaded.framework}"
    return Check(name, "outputs", "passed", detail, worst.deviation, worst.noise, evidence)


def _by_step(found: Arrays, trial: Trial, noise: _Noise) -> tuple[tuple[float, float], ...]:
    """Return the deviation of the sequence and its noise, step by step."""
    y = trial.expected["y"]
    if y.ndim != 3:
        return ()
    off = np.abs(np.nan_to_num(found["y"] - y)).max(axis=(0, 2), initial=0.0)
    allowed = np.broadcast_to(noise.allowed["y"], y.shape).max(axis=(0, 2), initial=0.0)
    return tuple(zip(map(float, off), map(float, allowed), strict=True))


def _number(value: float) -> str:
    """Write a deviation as people do.

    >>> _number(2.44e-7)
    '2.4e-7'
    """
    if value == 0.0:
        return "0"
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits}e{int(power)}" if power else digits


def _passed(evidence: Evidence) -> str:
    measured = {"bound": "", "spread": " (measured)", "given": " (given)"}[evidence.noise_source]
    parts = [f"found {_number(evidence.found)}", f"noise {_number(evidence.noise)}{measured}"]
    if evidence.nearest is not None:
        parts.append(f"nearest mistake {_number(evidence.nearest)} ({evidence.mistake})")
    if evidence.cannot_tell:
        parts.append(f"cannot tell {', '.join(evidence.cannot_tell)} here: the bits decide")
    return " · ".join(parts)
