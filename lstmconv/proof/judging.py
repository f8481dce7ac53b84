"""The verdict about a file's outputs: the deviation, what rounding may do, and the mistakes that would have shown.

A file passes if no number of it deviates by more than rounding explains, where rounding is far below what any mistake
of the catalogue would have caused on the same inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lstmconv.arrays.finiteness import not_finite_in
from lstmconv.errors import LstmconvError, MissingDependencyError, in_one_line
from lstmconv.listing import listed
from lstmconv.model import Layer
from lstmconv.proof.diagnosis import explain_outputs, summed_up
from lstmconv.proof.noise import Noise, Worst, given, worst_of, worsts_of
from lstmconv.proof.power import Outcome
from lstmconv.proof.report import Check, Evidence, Level, Status
from lstmconv.proof.trials import Compared, Settings
from lstmconv.runtimes import NotRunError

__all__ = [
    "MARGIN",
    "NO_OUTPUT_IS_FINITE",
    "Weighed",
    "deviations",
    "judged",
    "misshapen",
    "not_comparable",
    "number",
    "refused",
    "times",
    "weigh",
    "unit_of",
]

Float64: TypeAlias = npt.NDArray[np.float64]
Arrays: TypeAlias = "Mapping[str, Float64]"


MARGIN = 10
"""A mistake is distinguishable if it deviates ten times as far as noise may: no rounding is taken for one, nor one for
rounding, even if the noise were out by half of that."""


NO_OUTPUT_IS_FINITE = "no output is finite"
"""Why outputs were not run that the reference computes as NaN or infinite."""


def not_comparable(name: str, level: Level, layers: Iterable[Layer], settings: Settings) -> Check | None:
    """Return the check of weights that are not finite, which every framework computes in its own way; else ``None``."""
    first = next(not_finite_in(layers), None)
    if first is None:
        return None
    text = f"{first}: outputs of weights that are not finite cannot be compared"
    return Check(name, level, "not run" if settings.allow_not_finite else "failed", text, not_finite=True)


def refused(name: str, level: Level, error: Exception, sizes: str = "") -> Check:
    """Return the check of a file that a framework did not load or run; ``sizes`` says on which inputs.

    Raises:
        LstmconvError: The error itself, if it is one of ours and no missing dependency.
    """
    if isinstance(error, (MissingDependencyError, NotRunError)):
        return Check(name, level, "not run", in_one_line(error))
    if isinstance(error, LstmconvError):
        raise error
    return Check(name, level, "failed", f"does not run{sizes}: {type(error).__name__}: {in_one_line(error)}")


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
    """Return for each mistake the output that it moves farthest, in units of that output's noise."""
    by_trial: dict[Compared, list[Outcome]] = {}
    for outcome in catalogue:
        by_trial.setdefault(outcome.trial, []).append(outcome)
    return [
        pair
        for trial, outcomes in by_trial.items()
        for pair in zip(
            outcomes,
            worsts_of([outcome.outputs for outcome in outcomes], trial.expected, noises[trial]),
            strict=True,
        )
    ]


@dataclass(frozen=True, eq=False)
class Weighed:
    """The catalogue of mistakes, compared with the noise.

    Attributes:
        noises: How far each output may deviate, by trial.
        distinguishable: The mistakes that deviate :data:`MARGIN` times as far as noise may, with the deviation.
        hidden_by_noise: The other mistakes.
        hidden: The distinguishable mistakes that the user's tolerance would let pass.
    """

    noises: Mapping[Any, Noise]
    distinguishable: Sequence[tuple[Outcome, Worst]]
    hidden_by_noise: Sequence[Outcome]
    hidden: Sequence[Outcome]

    @property
    def nearest(self) -> tuple[Outcome, Worst] | None:
        """The distinguishable mistake with the smallest ratio of deviation to noise."""
        return min(self.distinguishable, key=lambda pair: pair[1].ratio, default=None)


def weigh(wrong: Sequence[tuple[Outcome, Worst]], noises: Mapping[Any, Noise], settings: Settings) -> Weighed:
    """Divide the mistakes into those that deviate far enough and those that do not."""
    clearest: dict[str, tuple[Outcome, Worst]] = {}
    for outcome, worst in wrong:  # A mistake may be hidden on one trial and show on another.
        if outcome.text not in clearest or worst.ratio > clearest[outcome.text][1].ratio:
            clearest[outcome.text] = outcome, worst
    distinguishable = [(outcome, worst) for outcome, worst in clearest.values() if worst.ratio >= MARGIN]
    hidden_by_noise = [outcome for outcome, worst in clearest.values() if worst.ratio < MARGIN]
    if settings.atol is None and settings.rtol is None:
        return Weighed(noises, distinguishable, hidden_by_noise, ())
    allowed = {trial: given(trial, settings.atol or 0.0, settings.rtol or 0.0) for trial in noises}
    against = deviations([one for one, _ in distinguishable], allowed)
    return Weighed(allowed, against, hidden_by_noise, [one for one, worst in against if worst.ratio <= 1.0])


def judged(
    name: str,
    level: Level,
    weighed: Weighed,
    returned: Mapping[Any, Arrays],
    framework: str,
    locate: Callable[[], str | None],
) -> Check:
    """Compare what the file returned with the expected outputs.

    Args:
        name: The layer's or the model's name.
        level: What is compared.
        weighed: The noise, and the mistakes that were computed.
        returned: What the file returned, by trial; the report shows the last trial's sequence step by step.
        framework: The end of the report's line: what ran the file, and on what.
        locate: Returns where a difference starts that no mistake explains.
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
        mistakes=len(weighed.distinguishable) + len(weighed.hidden_by_noise),
        untold=len(weighed.hidden_by_noise),
        cannot_tell=tuple(summed_up(weighed.hidden_by_noise)),
        steps=_by_step(returned[longest], longest, weighed.noises[longest]),
        found_ratio=worst.ratio,
        place=worst.place,
        nearest_ratio=None if nearest is None else nearest[1].ratio,
    )
    status: Status = "passed"
    diagnosis = None
    said = _found(evidence)
    if worst.ratio > 1.0:
        status = "failed"
        diagnosis = (
            explain_outputs([(outcome, returned[outcome.trial]) for outcome, _ in weighed.distinguishable]) or locate()
        )
        unit = unit_of(evidence)
        said = [f"deviates by {number(worst.deviation)} at {worst.place}, {times(worst.ratio)} times {unit}"]
        said += [] if diagnosis is None else [diagnosis]
    elif weighed.hidden:
        status = "not run"
        wide = f"the tolerance would let {weighed.hidden[0].text} pass: it proves nothing, lower --atol and --rtol"
        said = [wide, f"found {times(worst.ratio)} of the tolerance"]
    detail = " · ".join([*said, framework])
    return Check(name, level, status, detail, worst.deviation, worst.noise, evidence, diagnosis)


def _by_step(found: Arrays, trial: Compared, noise: Noise) -> tuple[tuple[float, float], ...]:
    """Return, step by step, the deviation and the noise of the number that is worst in units of its noise.

    Only the first output counts; no lines if it is no sequence.
    """
    name, y = next(iter(trial.expected.items()))
    if y.ndim != 3:
        return ()
    with np.errstate(all="ignore"):
        off = np.abs(np.nan_to_num(found[name] - y)).swapaxes(0, 1).reshape(y.shape[1], -1)
        allowed = np.broadcast_to(noise.allowed[name], y.shape).swapaxes(0, 1).reshape(y.shape[1], -1)
        worst = np.where(off > 0, off / allowed, 0.0).argmax(axis=1) if off.shape[1] else None
    if worst is None:
        return ()
    rows = np.arange(len(worst))
    return tuple(zip(map(float, off[rows, worst]), map(float, allowed[rows, worst]), strict=True))


def _found(evidence: Evidence) -> list[str]:
    """Say what was found, and what a mistake would have shown, in units of the noise."""
    unit = unit_of(evidence)
    parts = [f"found {times(evidence.found_ratio)} of {unit}"]
    if evidence.nearest_ratio is not None:
        parts.append(f"nearest mistake {times(evidence.nearest_ratio)} times {unit} ({evidence.mistake})")
    if evidence.untold:
        named = f" ({listed(evidence.cannot_tell)})" if evidence.cannot_tell else ""
        count = f"{evidence.untold} of {evidence.mistakes} mistakes"
        parts.append(f"{count} would not show in these outputs{named}: the comparison of weights shows them")
    return parts


def unit_of(evidence: Evidence) -> str:
    """Name what deviations are measured in: the noise, or a tolerance that the user gave."""
    return "the tolerance" if evidence.noise_source == "given" else "noise"


def times(ratio: float) -> str:
    """Write a multiple of the noise.

    >>> [times(ratio) for ratio in (0.0, 0.0004, 0.094, 7.86, 342.4, 7.9e9)]
    ['0', 'less than 0.01', '0.09', '7.9', '340', '7.9e9']
    """
    if ratio == 0.0:
        return "0"
    if ratio < 0.01:
        return "less than 0.01"
    if ratio >= 1e6 or not np.isfinite(ratio):
        return number(ratio)
    digits = 1 if ratio < 0.1 else 2
    rounded = float(f"{ratio:.{digits}g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"


def number(value: float) -> str:
    """Write a deviation as people do.

    >>> number(2.44e-7)
    '2.4e-7'
    """
    if value == 0.0:
        return "0"
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits}e{int(power)}" if power else digits
