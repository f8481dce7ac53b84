"""The outputs of one stack of a written file against the reference: run, and judged by noise and mistakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lstmconv.model import Stack
from lstmconv.proof.diagnosis import locate
from lstmconv.proof.judging import (
    MARGIN,
    NO_OUTPUT_IS_FINITE,
    Weighed,
    deviations,
    judged,
    misshapen,
    not_comparable,
    number,
    refused,
    weigh,
)
from lstmconv.proof.memory import BYTES_A_WEIGHT, GIANT, lacking
from lstmconv.proof.noise import Noise, Worst, bound, given, spread, worst_of
from lstmconv.proof.power import Outcome, outcomes
from lstmconv.proof.report import Check
from lstmconv.proof.sampling import SAMPLED, sample
from lstmconv.proof.sizes import weights_in
from lstmconv.proof.trials import Settings, Trial, draw, draw_large
from lstmconv.runtimes import Inputs, Loaded, Outputs, Precision, Session

__all__ = ["check_outputs"]

Float64: TypeAlias = npt.NDArray[np.float64]


def check_outputs(name: str, stack: Stack, session: Session, settings: Settings, way: int = 0) -> Check:
    """Run one stack of a file and compare all its outputs and states with the reference.

    Args:
        name: The stack's name in the file.
        stack: What it must compute, with weights as the target's dtype holds them.
        session: The file in its own framework.
        settings: Inputs and tolerances.
        way: Which of the session's ways to run it.
    """
    weights = max(map(weights_in, stack.layers))  # Layers are computed one after another.
    sampled = weights > GIANT or lacking(BYTES_A_WEIGHT * weights) is not None
    reason = lacking(session.bytes_a_weight * weights) if sampled else None
    if reason is not None:
        return Check(name, "outputs", "not run", reason)
    broken = not_comparable(name, "outputs", (stack,), settings)
    if broken is not None:
        return broken
    try:
        loaded, accepted = session.load(name, way), session.accepts(name)
    except Exception as error:  # A framework refuses a file in its own kind of error.
        return refused(name, "outputs", error)
    seen = session.seen_by_target(stack)
    time_first = seen.first.time_major
    seen = Stack(seen.name, tuple(replace(layer, time_major=False) for layer in seen.layers))

    def ran(inputs: Inputs) -> Outputs:
        return _ran(loaded, inputs, time_first=time_first)

    if sampled:
        return _check_sampled(name, seen, ran, loaded, settings, accepted)
    probe, trial = draw(seen, loaded.precision.stored, settings, accepted)
    try:
        found = [ran(probe.inputs), ran(trial.inputs)]
        large = _beyond(seen, ran, loaded.precision, settings, accepted)
    except Exception as error:
        return refused(name, "outputs", error)
    problem = misshapen(probe, found[0]) or misshapen(trial, found[1])
    if problem is not None:
        return Check(name, "outputs", "failed", f"{problem} · {loaded.framework}")
    if not any(np.isfinite(values).any() for values in trial.expected.values()):
        return Check(name, "outputs", "not run", NO_OUTPUT_IS_FINITE)
    returned = {
        one: {key: np.asarray(outputs[key], np.float64) for key in one.expected}
        for one, outputs in zip((probe, trial), found, strict=True)
    }
    weighed = _weighed(seen, (probe, trial), loaded.precision, settings)
    check = judged(
        name, "outputs", weighed, returned, loaded.framework, partial(_located, seen, ran, accepted, settings)
    )
    if large is None or check.status == "failed":  # A mistake that ordinary inputs show is named by them.
        return check
    return Check(name, "outputs", "failed", f"{large} · {loaded.framework}", diagnosis=large)


def _beyond(
    stack: Stack,
    ran: Callable[[Inputs], Outputs],
    precision: Precision,
    settings: Settings,
    accepted: frozenset[str],
) -> str | None:
    """Say what large inputs show: a bound on the gates, say, that ordinary numbers never reach; ``None`` if nothing."""
    trial = draw_large(stack, precision.stored, settings, accepted)
    found = ran(trial.inputs)
    if misshapen(trial, found) is not None:
        return misshapen(trial, found)
    allowed = bound(stack, trial, precision).allowed
    asked = given(trial, settings.atol or 0.0, settings.rtol or 0.0).allowed
    noise = Noise({key: np.maximum(array, asked[key]) for key, array in allowed.items()}, "bound")
    returned = {key: np.asarray(found[key], np.float64) for key in trial.expected}
    worst = worst_of(returned, trial.expected, noise)
    if worst.ratio <= 1.0:
        return None
    return f"on inputs of large numbers it deviates by {number(worst.deviation)} at {worst.place}"


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
        return refused(name, "outputs", error)
    finite = any(np.isfinite(values).any() for trial in steps.returned for values in trial.expected.values())
    if not finite:
        return Check(name, "outputs", "not run", NO_OUTPUT_IS_FINITE)
    weighed = weigh(deviations(steps.catalogue, steps.noises), steps.noises, settings)
    units = f"{min(SAMPLED, stack.first.hidden_size)} of {stack.first.hidden_size:,} units"
    return judged(name, "outputs", weighed, steps.returned, f"{units} · {loaded.framework}", lambda: None)


def _located(
    stack: Stack, ran: Callable[[Inputs], Outputs], accepted: frozenset[str], settings: Settings
) -> str | None:
    """Say where a difference starts, if the file takes the inputs that tell it."""
    try:
        return locate(stack, ran, accepted, settings)
    except Exception:  # A framework refuses inputs in its own kind of error; that the outputs differ is known already.
        return None


def _ran(loaded: Loaded, inputs: Inputs, *, time_first: bool) -> Outputs:
    """Run batch-first inputs, whatever the layer takes."""
    if not time_first:
        return loaded.compute(inputs)
    found = loaded.compute(replace(inputs, x=inputs.x.swapaxes(0, 1)))
    return {name: array.swapaxes(0, 1) if array.ndim == 3 else array for name, array in found.items()}


def _all_distinguishable(wrong: Sequence[tuple[Outcome, Worst]], trial: Trial, noise: Noise) -> bool:
    """Whether a trial's noise is narrow enough: every mistake that changes anything deviates ten times as far."""
    moved = [(outcome, worst) for outcome, worst in wrong if worst.deviation > 0.0]
    nearest = min((worst.deviation for _, worst in moved), default=0.0)
    return noise.largest * MARGIN <= nearest and all(
        worst.ratio >= MARGIN for outcome, worst in moved if outcome.trial is trial
    )


def _weighed(stack: Stack, trials: Sequence[Trial], precision: Precision, settings: Settings) -> Weighed:
    """Compute the catalogue, and noise that is as narrow as it needs to be."""
    catalogue = list(outcomes(stack, *trials))
    noises = {trial: bound(stack, trial, precision) for trial in trials}
    wrong = deviations(catalogue, noises)
    wide = [trial for trial in trials if not _all_distinguishable(wrong, trial, noises[trial])]
    if wide:
        noises |= {trial: spread(stack, trial, precision, noises[trial]) for trial in wide}
        wrong = deviations(catalogue, noises)
    return weigh(wrong, noises, settings)
