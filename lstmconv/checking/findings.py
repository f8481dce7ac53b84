"""What a check finds, as values: the rules by name, single findings, and the result of a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

__all__ = ["RULES", "CheckResult", "Finding", "Rule", "Severity", "Status", "Violation"]

Severity: TypeAlias = Literal["error", "warning", "off"]
Status: TypeAlias = Literal["passed", "failed", "no lstm", "ignored", "not done"]


class Rule(NamedTuple):
    """One thing that is looked for.

    Attributes:
        severity: Unless ``[tool.lstmconv.severity]`` says otherwise.
        meaning: For people; README's table is checked against it.
    """

    severity: Severity
    meaning: str


RULES: Mapping[str, Rule] = {
    "damaged": Rule("error", "empty, truncated, a Git LFS pointer, arrays missing, shapes that do not belong together"),
    "not-finite": Rule("error", "NaN or infinite weights"),
    "twin-differs": Rule("error", "a file converted from this one no longer holds its weights"),
    "twin-missing": Rule("error", "a target of `required-targets`, or of `pairs`, is not there"),
    "twin-outputs": Rule("error", "`--deep`: a twin, run in its own framework, computes something else"),
    "twin-not-run": Rule("warning", "`--deep`: a twin's framework is not installed"),
    "twin-unpaired": Rule("warning", "a file of the same name whose layers cannot be told to be this one's"),
    "not-checked": Rule("warning", "an LSTM that does not convert (projected, quantised, ...), or a pickle, not read"),
    "activation-unknown": Rule("warning", "weights only, and nothing says the recurrent activation"),
    "pytorch-activation": Rule("warning", "bound for PyTorch, and `nn.LSTM` computes tanh and sigmoid only"),
    "gate-stuck": Rule("warning", "no input within ±10 and no state moves any unit of a gate by 0.001"),
    "gate-exploded": Rule("warning", "weights so large that a gate is a switch for ordinary inputs"),
    "recurrent-zero": Rule("warning", "all recurrent weights are zero: no step sees the one before it"),
    "forget-bias-untrained": Rule("warning", "forget biases all exactly 1 or 0 beside trained ones"),
    "float16-overflow": Rule("warning", "weights of 65520 and more, which float16 cannot hold"),
}
"""In the order in which README lists them."""


class Violation(NamedTuple):
    """A broken rule, before the settings say how severe it is.

    Attributes:
        rule: A key of :data:`RULES`.
        message: One line for a person.
        layer: The layer's name in its file.
        fix: The command that mends it.
    """

    rule: str
    message: str
    layer: str | None = None
    fix: str | None = None


class Finding(NamedTuple):
    """One thing that was found in a file.

    Attributes:
        rule: A key of :data:`RULES`; ``unavailable`` for a file that could not be looked at.
        severity: ``error`` or ``warning``.
        message: One line for a person.
        layer: The layer's name in its file, where it is about one.
        fix: The command that mends it, where there is one.
    """

    rule: str
    severity: Severity
    message: str
    layer: str | None = None
    fix: str | None = None


class CheckResult(NamedTuple):
    """What was found in one file.

    Attributes:
        path: As it was given.
        status: ``passed`` (warnings or none), ``failed``, ``no lstm`` (nothing to check), ``ignored`` (by the
            settings, or no checkpoint's suffix), ``not done`` (the file could not be looked at).
        findings: Errors first.
        layers: Its LSTM layers' names.
        twins: The files that hold the same weights: those converted from this one, or the one this was made from.
    """

    path: str
    status: Status
    findings: tuple[Finding, ...] = ()
    layers: tuple[str, ...] = ()
    twins: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing stands against committing the file."""
        return self.status not in ("failed", "not done")

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain data; the fields are documented in README."""
        return {
            "path": self.path,
            "status": self.status,
            "layers": list(self.layers),
            "twins": list(self.twins),
            "findings": [finding._asdict() for finding in self.findings],
        }
