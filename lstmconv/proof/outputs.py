"""The outputs of a written file against the reference: deviation, noise, and the nearest mistake.

A file passes if no number of it deviates by more than rounding explains, where rounding is far below what any mistake
of the catalogue would have caused on the same inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lstmconv.errors import LstmconvError, MissingDependencyError
from lstmconv.model import Stack
from lstmconv.proof.diagnosis import explain_outputs, locate, summed_up
from lstmconv.proof.noise import Noise, Worst, bound, given, spread, worst_of
from lstmconv.proof.power import Outcome, outcomes
from lstmconv.proof.report import Check, Evidence, Status
from lstmconv.proof.sampling import SAMPLED, sample
from lstmconv.proof.trials import Settings, Trial, draw
from lstmconv.runtimes import Inputs, Loaded, NotRunError, Outputs, Precision, Run

__all__ = ["MARGIN", "check_outputs"]

Float64: TypeAlias = npt.NDArray[np.float64]
Arrays: TypeAlias = "Mapping[str, Float64]"
_Locate: TypeAlias = "Callable[[], str | None]"

_BYTES_A_WEIGHT = 48
"""What the widest layer takes for each weight: five arrays of float64, for the reference, its noise and a mistake's
matrices, and the framework's own copy."""
_BYTES_SAMPLED = 16
"""What it takes where only some units are computed: the framework's own copies, four of them at most."""
_GIANT = 1 << 25
"""Weights of a layer, 134 MB of float32. From here on some units are computed: all of them take half a minute."""
_NOT_FINITE = "the weights hold numbers that are not finite, and so do all outputs"
_SHOWN = 4
"""Of what cannot be told, so much is printed; the JSON has all."""

MARGIN = 10
"""A mistake counts as told where it deviates ten times as far as noise may: no rounding is taken for one, nor one for
rounding, even if the noise were out by half of that."""


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
    weights, free = _widest(stack), _free_bytes()
    sampled = weights > _GIANT or (free is not None and _BYTES_A_WEIGHT * weights > free)
    needed = (_BYTES_SAMPLED if sampled else _BYTES_A_WEIGHT) * weights
    if free is not None and needed > free:
        text = f"running it takes about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free"
        return Check(name, "outputs", "not run", text)
    try:
        loaded, accepted = run(target, name), runtime.accepts(target, name)
    except Exception as error:  # A framework refuses a file in its own kind of error.
        return _refused(name, error)
    seen = runtime.seen_by_target(stack)
    time_first = seen.first.time_major
    seen = Stack(seen.name, tuple(replace(layer, time_major=False) for layer in seen.layers))

    def ran(inputs: Inputs) -> Outputs:
        return _ran(loaded, inputs, time_first=time_first)

    if sampled:
        return _check_sampled(name, seen, ran, loaded, settings, accepted)
    probe, trial = draw(seen, loaded.precision.stored, settings, accepted)
    try:
        found = [ran(probe.inputs), ran(trial.inputs)]
    except Exception as error:
        return _refused(name, error)
    problem = _misshapen(probe, found[0]) or _misshapen(trial, found[1])
    if problem is not None:
        return Check(name, "outputs", "failed", f"{problem} · {loaded.framework}")
    if not any(np.isfinite(values).any() for values in trial.expected.values()):
        return Check(name, "outputs", "not run", _NOT_FINITE)
    returned = {
        one: {key: np.asarray(outputs[key], np.float64) for key in one.expected}
        for one, outputs in zip((probe, trial), found, strict=True)
    }
    weighed = _weighed(seen, (probe, trial), loaded.precision, settings)
    return _judged(name, weighed, returned, loaded.framework, partial(locate, seen, ran, accepted, settings))


def _check_sampled(
    name: str,
    stack: Stack,
    ran: Callable[[Inputs], Outputs],
    loaded: Loaded,
    settings: Settings,
    accepted: frozenset[str],
) -> Check:
    """Compare some units of every direction; a failure is explained by the catalogue, or not at all."""
    try:
        steps = sample(stack, ran, loaded.precision, settings, accepted)
    except Exception as error:
        return _refused(name, error)
    finite = any(np.isfinite(values).any() for trial in steps.returned for values in trial.expected.values())
    if not finite:
        return Check(name, "outputs", "not run", _NOT_FINITE)
    weighed = _told(_deviations(steps.catalogue, steps.noises), steps.noises, settings)
    units = f"{min(SAMPLED, stack.first.hidden_size)} of {stack.first.hidden_size:,} units"
    return _judged(name, weighed, steps.returned, f"{units} · {loaded.framework}", lambda: None)


def _widest(stack: Stack) -> int:
    """Return the number of weights of the largest layer: layers are computed one after another."""
    return max(
        sum(4 * half.hidden_size * (half.input_size + half.hidden_size) for half in layer.directions)
        for layer in stack.layers
    )


def _free_bytes() -> int | None:
    """Return how much memory may still be taken, where the system says so."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = next((line.split() for line in lines if line.startswith("MemAvailable:")), None)
    return None if found is None else 1024 * int(found[1])


def _refused(name: str, error: Exception) -> Check:
    """Say what a framework made of a file, or of inputs."""
    if isinstance(error, (MissingDependencyError, NotRunError)):
        return Check(name, "outputs", "not run", _line(error))
    if isinstance(error, LstmconvError):
        raise error
    return Check(name, "outputs", "failed", f"does not run: {type(error).__name__}: {_line(error)}")


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


def _deviations(catalogue: Sequence[Outcome], noises: Mapping[Trial, Noise]) -> list[tuple[Outcome, Worst]]:
    """Return how far each mistake leads off."""
    return [
        (outcome, worst_of(outcome.outputs, outcome.trial.expected, noises[outcome.trial])) for outcome in catalogue
    ]


def _all_told(wrong: Sequence[tuple[Outcome, Worst]], trial: Trial, noise: Noise) -> bool:
    """Whether every mistake that leads off at all does so far over a trial's noise, and the noise says something."""
    moved = [(outcome, worst) for outcome, worst in wrong if worst.deviation > 0.0]
    nearest = min((worst.deviation for _, worst in moved), default=0.0)
    return noise.largest * MARGIN <= nearest and all(
        worst.ratio >= MARGIN for outcome, worst in moved if outcome.trial is trial
    )


@dataclass(frozen=True, eq=False)
class _Weighed:
    """The catalogue against the noise.

    Attributes:
        noises: What is allowed, by trial.
        told: The mistakes that lead far enough off, and how far.
        untold: The others.
        hidden: Those that a given tolerance would let pass.
    """

    noises: Mapping[Trial, Noise]
    told: Sequence[tuple[Outcome, Worst]]
    untold: Sequence[Outcome]
    hidden: Sequence[Outcome]

    @property
    def nearest(self) -> tuple[Outcome, Worst] | None:
        """The mistake that leads least off."""
        return min(self.told, key=lambda pair: pair[1].deviation, default=None)


def _weighed(stack: Stack, trials: Sequence[Trial], precision: Precision, settings: Settings) -> _Weighed:
    """Compute the catalogue, and noise that is as narrow as it needs to be."""
    catalogue = list(outcomes(stack, *trials))
    noises = {trial: bound(stack, trial, precision) for trial in trials}
    wrong = _deviations(catalogue, noises)
    wide = [trial for trial in trials if not _all_told(wrong, trial, noises[trial])]
    if wide:
        noises |= {trial: spread(stack, trial, precision, noises[trial]) for trial in wide}
        wrong = _deviations(catalogue, noises)
    return _told(wrong, noises, settings)


def _told(wrong: Sequence[tuple[Outcome, Worst]], noises: Mapping[Trial, Noise], settings: Settings) -> _Weighed:
    """Tell mistakes that lead far enough off from those that do not."""
    clearest: dict[str, tuple[Outcome, Worst]] = {}
    for outcome, worst in wrong:  # What one trial cannot tell, another may.
        if outcome.text not in clearest or worst.ratio > clearest[outcome.text][1].ratio:
            clearest[outcome.text] = outcome, worst
    told = [(outcome, worst) for outcome, worst in clearest.values() if worst.ratio >= MARGIN]
    untold = [outcome for outcome, worst in clearest.values() if worst.ratio < MARGIN]
    if settings.atol is None and settings.rtol is None:
        return _Weighed(noises, told, untold, ())
    allowed = {trial: given(trial, settings.atol or 0.0, settings.rtol or 0.0) for trial in noises}
    hidden = [one for one, worst in _deviations([one for one, _ in told], allowed) if worst.ratio <= 1.0]
    return _Weighed(allowed, told, untold, hidden)


def _judged(name: str, weighed: _Weighed, returned: Mapping[Trial, Arrays], framework: str, locate: _Locate) -> Check:
    """Compare what the file returned with what had to come out."""
    worsts = {trial: worst_of(found, trial.expected, weighed.noises[trial]) for trial, found in returned.items()}
    worse = max(returned, key=lambda trial: worsts[trial].ratio)
    worst, nearest, longest = worsts[worse], weighed.nearest, list(returned)[-1]
    evidence = Evidence(
        found=worst.deviation,
        noise=worst.noise,
        noise_source=weighed.noises[worse].source,
        nearest=None if nearest is None else nearest[1].deviation,
        mistake=None if nearest is None else nearest[0].text,
        mistakes=len(weighed.told) + len(weighed.untold),
        cannot_tell=tuple(summed_up(weighed.untold)),
        steps=_by_step(returned[longest], longest, weighed.noises[longest]),
    )
    status: Status = "passed"
    diagnosis = None
    said = _found(evidence)
    if worst.ratio > 1.0:
        status = "failed"
        diagnosis = explain_outputs([(outcome, returned[outcome.trial]) for outcome, _ in weighed.told]) or locate()
        said = [f"deviates by {number(worst.deviation)} at {worst.place}", f"noise {number(worst.noise)}"]
        said += [] if diagnosis is None else [diagnosis]
    elif weighed.hidden:
        status = "not run"
        wide = f"the tolerance would let {weighed.hidden[0].text} pass: it proves nothing, lower --atol and --rtol"
        said = [wide, f"found {number(worst.deviation)}"]
    detail = " · ".join([*said, framework])
    return Check(name, "outputs", status, detail, worst.deviation, worst.noise, evidence, diagnosis)


def _by_step(found: Arrays, trial: Trial, noise: Noise) -> tuple[tuple[float, float], ...]:
    """Return the deviation of the sequence and its noise, step by step."""
    y = trial.expected["y"]
    if y.ndim != 3:
        return ()
    off = np.abs(np.nan_to_num(found["y"] - y)).max(axis=(0, 2), initial=0.0)
    allowed = np.broadcast_to(noise.allowed["y"], y.shape).max(axis=(0, 2), initial=0.0)
    return tuple(zip(map(float, off), map(float, allowed), strict=True))


def _found(evidence: Evidence) -> list[str]:
    """Say what was found beside what could have been."""
    measured = {"bound": "", "spread": " (measured)", "given": " (given)"}[evidence.noise_source]
    parts = [f"found {number(evidence.found)}", f"noise {number(evidence.noise)}{measured}"]
    if evidence.nearest is not None:
        parts.append(f"nearest mistake {number(evidence.nearest)} ({evidence.mistake})")
    if evidence.cannot_tell:
        untold = ", ".join(evidence.cannot_tell[:_SHOWN])
        more = len(evidence.cannot_tell) - _SHOWN
        parts.append(f"cannot tell {untold}{f' and {more} more' if more > 0 else ''} here: the bits decide")
    return parts


def number(value: float) -> str:
    """Write a deviation as people do.

    >>> number(2.44e-7)
    '2.4e-7'
    """
    if value == 0.0:
        return "0"
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits}e{int(power)}" if power else digits
