"""What a verification found, as values: single checks, and the report of a target."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from lstmconv.errors import LstmconvError
from lstmconv.escaping import html_table

__all__ = ["Check", "Evidence", "Level", "Report", "Status", "VerificationError"]

Status = Literal["passed", "failed", "not run"]
Level = Literal["structure", "weights", "outputs", "model"]
"""``model`` is the whole file, run from its inputs to its outputs; the others are of one layer or stack."""


@dataclass(frozen=True)
class Evidence:
    """What a comparison of outputs rests on.

    Attributes:
        found: The deviation of the output with the largest ratio of deviation to noise.
        noise: What rounding may do to that output, or the tolerance given.
        noise_source: ``"bound"`` derived, ``"spread"`` measured over re-orderings, ``"given"`` by the user.
        nearest: The deviation of the nearest mistake, which has the smallest ratio of deviation to the noise there;
            ``None`` if no mistake is distinguishable from rounding.
        nearest_noise: What rounding may do to that output; at most a tenth of ``nearest``.
        mistake: That mistake.
        mistakes: How many were computed.
        untold: How many of them are not distinguishable from rounding.
        cannot_tell: What these weights and inputs cannot distinguish; the comparison of bits decides there.
        steps: For the first output, if it is a sequence, step by step: the deviation and the noise of the number with
            the largest ratio of both.
        place: Which number of which output ``found`` is.
        found_ratio: ``found`` as a multiple of ``noise``: at most 1 in what passes.
        nearest_ratio: ``nearest`` as a multiple of ``nearest_noise``: 10 or more.
    """

    found: float
    noise: float
    noise_source: Literal["bound", "spread", "given"]
    nearest: float | None
    nearest_noise: float | None
    mistake: str | None
    mistakes: int
    untold: int
    cannot_tell: tuple[str, ...]
    steps: tuple[tuple[float, float], ...]
    place: str = ""
    found_ratio: float = 0.0
    nearest_ratio: float | None = None


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        layer: Its name in the target.
        level: What was compared.
        status: Passed, failed, or not run.
        detail: One line for a person.
        deviation: The absolute difference at the output with the largest ratio of difference to noise, or ``None``.
        tolerance: The largest difference allowed at that output, or ``None``.
        evidence: What a comparison of outputs rests on.
        diagnosis: The mistake that explains a failure and its remedy, or else where the difference starts.
        not_finite: Whether weights are NaN or infinite, so that outputs were not compared.
        seconds: The time to run the file, with the loading of its framework; ``None`` if it was not run.
        rescaled: The layers whose weights the file holds multiplied, because its Keras has another hard_sigmoid.
    """

    layer: str
    level: Level
    status: Status
    detail: str
    deviation: float | None = None
    tolerance: float | None = None
    evidence: Evidence | None = None
    diagnosis: str | None = None
    not_finite: bool = False
    seconds: float | None = None
    rescaled: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """All checks of one target.

    Attributes:
        target: The file's name.
        checks: In the order in which they were made.
    """

    target: str
    checks: tuple[Check, ...]

    def __repr__(self) -> str:
        said = "failed" if self.failures else "passed" if self.passed else "not compared"
        missing = sum(check.status == "not run" for check in self.checks)
        more = f", {missing} not run" if missing else ""
        return f"Report({self.target!r}, {said}, {len(self.checks)} checks{more})"

    def _repr_html_(self) -> str:
        """Return the checks as a table, for a notebook."""
        rows = [(check.status, check.layer, check.level, check.detail) for check in self.checks]
        return html_table(self.target, ("result", "layer", "level", "what was found"), rows)

    @property
    def passed(self) -> bool:
        """Whether nothing failed and the weights of every reported layer were compared."""
        layers = {check.layer for check in self.checks if check.level in ("structure", "weights")}
        compared = {check.layer for check in self.checks if check.level == "weights" and check.status == "passed"}
        return bool(compared) and compared == layers and not self.failures

    @property
    def complete(self) -> bool:
        """Whether everything was run."""
        return all(check.status != "not run" for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.status == "failed")

    def raise_for_failure(self) -> None:
        """Raise if the report does not pass.

        Raises:
            VerificationError: With every failed check in its text.
        """
        if self.passed:
            return
        found = "; ".join(f"{check.layer}: {check.level}: {check.detail}" for check in self.failures)
        raise VerificationError(f"{self.target}: {found or 'nothing could be compared'}", self)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data; docs/json.md documents the fields."""
        return {
            "target": self.target,
            "passed": self.passed,
            "complete": self.complete,
            "checks": [asdict(check) for check in self.checks],
        }


class VerificationError(LstmconvError, AssertionError):
    """A converted file has other weights than its source, or computes something else.

    Attributes:
        report: The :class:`Report` with every check.
        reports: In a conversion, also the reports of the targets before it.
        notes: The notes of the conversion until then.
    """

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report
        self.reports: tuple[Report, ...] = (report,)
        self.notes: tuple[str, ...] = ()
