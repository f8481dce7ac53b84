"""The results of a check as values: the rules, single findings, and the result of a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

__all__ = ["RULES", "CheckResult", "Finding", "Rule", "Severity", "Status", "Violation"]

Severity: TypeAlias = Literal["error", "warning", "off"]
Status: TypeAlias = Literal["passed", "failed", "no lstm", "ignored", "not done"]


class Rule(NamedTuple):
    """One kind of finding.

    Attributes:
        severity: The default; ``[tool.lstmconv.severity]`` can change it.
        meaning: What it finds, in words; docs/check.md has the same text.
    """

    severity: Severity
    meaning: str


RULES: Mapping[str, Rule] = {
    "damaged": Rule("error", "empty, truncated, a Git LFS pointer, missing arrays, shapes that do not fit together"),
    "not-finite": Rule(
        "error", "NaN or infinite weights, in any layer if the file contains its model, else in an LSTM layer"
    ),
    "twin-differs": Rule("error", "a file converted from this one no longer holds its weights"),
    "twin-missing": Rule("error", "a file that `required-targets` or `pairs` names does not exist"),
    "twin-outputs": Rule(
        "error", "`--deep`: a file converted from this one computes something else in its own framework"
    ),
    "twin-not-run": Rule("warning", "`--deep`: the framework of a converted file is not installed"),
    "twin-unpaired": Rule("warning", "a file of the same name whose layers cannot be paired with this one's"),
    "not-checked": Rule(
        "warning", "an LSTM that does not convert (projected, quantised, ...), or a file of another kind"
    ),
    "activation-unknown": Rule("warning", "a weights-only file that does not say the recurrent activation"),
    "pytorch-activation": Rule("warning", "the target is PyTorch, but `nn.LSTM` computes tanh and sigmoid only"),
    "gate-stuck": Rule("warning", "no input within ±10 and no state changes any unit of a gate by 0.001"),
    "gate-exploded": Rule("warning", "weights so large that a gate acts as a switch for ordinary inputs"),
    "recurrent-zero": Rule("warning", "all recurrent weights are zero: no step depends on the previous one"),
    "forget-bias-untrained": Rule("warning", "all forget biases are exactly 1 or 0, but the other biases are trained"),
    "float16-overflow": Rule("warning", "weights of 65520 or more, which float16 cannot represent"),
}
"""All rules, in the order of docs/check.md."""


class Violation(NamedTuple):
    """A broken rule, before the settings say how severe it is.

    Attributes:
        rule: A key of :data:`RULES`.
        message: One line for a person.
        layer: The layer's name in its file.
        fix: The command that repairs it.
    """

    rule: str
    message: str
    layer: str | None = None
    fix: str | None = None


class Finding(NamedTuple):
    """One finding in a file.

    Attributes:
        rule: A key of :data:`RULES`; ``unavailable`` for a file that could not be read.
        severity: ``error`` or ``warning``.
        message: One line for a person.
        layer: The layer's name in its file, if the finding concerns a layer.
        fix: The command that repairs it, if there is one.
    """

    rule: str
    severity: Severity
    message: str
    layer: str | None = None
    fix: str | None = None


class CheckResult(NamedTuple):
    """The result for one file.

    Attributes:
        path: The path as given.
        status: ``passed`` (warnings or none), ``failed``, ``no lstm`` (nothing to check), ``ignored`` (by the
            settings, or by its suffix), ``not done`` (the file could not be read).
        findings: Errors first.
        layers: The names of its LSTM layers.
        twins: The files with the same weights: those converted from this file, or its source.
    """

    path: str
    status: Status
    findings: tuple[Finding, ...] = ()
    layers: tuple[str, ...] = ()
    twins: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the file may be committed."""
        return self.status not in ("failed", "not done")

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain data; docs/json.md documents the fields."""
        return {
            "path": self.path,
            "status": self.status,
            "layers": list(self.layers),
            "twins": list(self.twins),
            "findings": [finding._asdict() for finding in self.findings],
        }
