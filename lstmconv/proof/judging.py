"""The verdict about a file's outputs: the deviation, what rounding may do, and the mistakes that would have shown.

A file passes if no number of it deviates by more than rounding explains, where rounding is far below what any mistake
of the catalogue would have caused on the same inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lstmconv.errors import LstmconvError, MissingDependencyError
from lstmconv.proof.diagnosis import explain_outputs, summed_up
from lstmconv.proof.noise import Noise, Worst, given, worst_of
from lstmconv.proof.power import Outcome
from lstmconv.proof.report import Check, Evidence, Level, Status
from lstmconv.proof.trials import Compared, Settings
from lstmconv.runtimes import NotRunError

__all__ = [
    "MARGIN",
    "Weighed",
    "deviations",
    "judged",
    "misshapen",
    "number",
    "refused",
    "told",
]

Float64: TypeAlias = npt.NDArray[np.float64]
Arrays: TypeAlias = "Mapping[str, Float64]"

_SHOWN = 4
"""Of what cannot be told, so much is printed; the JSON has all."""

MARGIN = 10
"""A mistake counts as told where it deviates ten times as far as noise may: no rounding is taken for one, nor one for
rounding, even if the noise were out by half of that."""


def refused(name: str, level: Level, error: Exception) -> Check:
    """Say what a framework made of a file, or of inputs; our own errors are raised."""
    if isinstance(error, (MissingDependencyError, NotRunError)):
        return Check(name, level, "not run", _line(error))
    if isinstance(error, LstmconvError):
        raise error
    return Check(name, level, "failed", f"does not run: {type(error).__name__}: {_line(error)}")


def _line(error: Exception) -> str:
    return str(error).split("\n")[0][:200]


def misshapen(trial: Compared, found: Mapping[str, Any]) -> str | None:
    """Say which output is missing or has another shape, or ``None``."""
    missing = sorted(set(trial.expected) - set(found))
    if missing:
        return f"the file returns no {', '.join(missing)}"
    for key, values in trial.expected.items():
        if found[key].shape != values.shape:
            return f"{key} is {found[key].shape}, expected {values.shape}"
    return None


def deviations(catalogue: Sequence[Outcome], noises: Mapping[Any, Noise]) -> list[tuple[Outcome, Worst]]:
    """Return how far each mistake leads off."""
    return [
        (outcome, worst_of(outcome.outputs, outcome.trial.expected, noises[outcome.trial])) for outcome in catalogue
    ]


@dataclass(frozen=True, eq=False)
class Weighed:
    """The catalogue against the noise.

    Attributes:
        noises: What is allowed, by trial.
        told: The mistakes that lead far enough off, and how far.
        untold: The others.
        hidden: Those that a given tolerance would let pass.
    """

    noises: Mapping[Any, Noise]
    told: Sequence[tuple[Outcome, Worst]]
    untold: Sequence[Outcome]
    hidden: Sequence[Outcome]

    @property
    def nearest(self) -> tuple[Outcome, Worst] | None:
        """The mistake that leads least off."""
        return min(self.told, key=lambda pair: pair[1].deviation, default=None)


def told(wrong: Sequence[tuple[Outcome, Worst]], noises: Mapping[Any, Noise], settings: Settings) -> Weighed:
    """Tell mistakes that lead far enough off from those that do not."""
    clearest: dict[str, tuple[Outcome, Worst]] = {}
    for outcome, worst in wrong:  # What one trial cannot tell, another may.
        if outcome.text not in clearest or worst.ratio > clearest[outcome.text][1].ratio:
            clearest[outcome.text] = outcome, worst
    told = [(outcome, worst) for outcome, worst in clearest.values() if worst.ratio >= MARGIN]
    untold = [outcome for outcome, worst in clearest.values() if worst.ratio < MARGIN]
    if settings.atol is None and settings.rtol is None:
        return Weighed(noises, told, untold, ())
    allowed = {trial: given(trial, settings.atol or 0.0, settings.rtol or 0.0) for trial in noises}
    hidden = [one for one, worst in deviations([one for one, _ in told], allowed) if worst.ratio <= 1.0]
    return Weighed(allowed, told, untold, hidden)


def judged(
    name: str,
    level: Level,
    weighed: Weighed,
    returned: Mapping[Any, Arrays],
    framework: str,
    locate: Callable[[], str | None],
) -> Check:
    """Compare what the file returned with what had to come out.

    Args:
        name: The layer's or the model's.
        level: What is compared.
        weighed: The noise, and the mistakes that were computed.
        returned: What the file returned, by set of inputs; the last set's sequence is shown step by step.
        framework: What else is said: what ran the file.
        locate: Says where a difference starts that no mistake explains.
    """
    worsts = {trial: worst_of(found, trial.expected, weighed.noises[trial]) for trial, found in returned.items()}
    worse = max(returned, key=lambda trial: worsts[trial].ratio)
    worst, nearest, longest = worsts[worse], weighed.nearest, list(returned)[-1]
    evidence = Evidence(
        found=worst.deviation,
        noise=worst.noise,
        noise_source=weighed.noises[worse].source,
        nearest=None if nearest is None else nearest[1].deviation,
        mistake=None if nearest is None else nearest[0].text,
        nearest_noise=None if nearest is None else nearest[1].noise,
        mistakes=len(weighed.told) + len(weighed.untold),
        untold=len(weighed.untold),
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
    return Check(name, level, status, detail, worst.deviation, worst.noise, evidence, diagnosis)


def _by_step(found: Arrays, trial: Compared, noise: Noise) -> tuple[tuple[float, float], ...]:
    """Return the deviation of the first output and its noise, step by step, if it is a sequence."""
    name, y = next(iter(trial.expected.items()))
    if y.ndim != 3:
        return ()
    off = np.abs(np.nan_to_num(found[name] - y)).max(axis=(0, 2), initial=0.0)
    allowed = np.broadcast_to(noise.allowed[name], y.shape).max(axis=(0, 2), initial=0.0)
    return tuple(zip(map(float, off), map(float, allowed), strict=True))


def _found(evidence: Evidence) -> list[str]:
    """Say what was found beside what could have been."""
    measured = {"bound": "", "spread": " (measured)", "given": " (given)"}[evidence.noise_source]
    parts = [f"found {number(evidence.found)}", f"noise {number(evidence.noise)}{measured}"]
    if evidence.nearest is not None and evidence.nearest_noise is not None:
        # In another place than the worst one noise may be smaller, and a mistake be clear below the noise printed.
        there = (
            f" where noise is {number(evidence.nearest_noise)}" if evidence.nearest < MARGIN * evidence.noise else ""
        )
        parts.append(f"nearest mistake {number(evidence.nearest)}{there} ({evidence.mistake})")
    if evidence.untold:
        untold = ", ".join(evidence.cannot_tell[:_SHOWN])
        more = len(evidence.cannot_tell) - _SHOWN
        named = f" ({untold}{f' and {more} more' if more > 0 else ''})" if untold else ""
        count = f"{evidence.untold} of {evidence.mistakes} mistakes cannot be told apart here"
        parts.append(f"{count}{named}: the bits decide")
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
