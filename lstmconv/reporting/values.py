"""Everything that a report shows, as values: the source, its layers, weights and layouts, and each target's proof."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lstmconv.explaining.blocks import FormatLayout, default_formats, layout_in
from lstmconv.explaining.inspection import describe_checkpoint
from lstmconv.explaining.overview import Overview, overview
from lstmconv.formats.record import Record
from lstmconv.layouts import by_name
from lstmconv.model import GATES, Checkpoint, Provenance, Stack
from lstmconv.opening import open_artifact
from lstmconv.proof.report import Report
from lstmconv.reporting.weights import HalfWeights, weights_of

__all__ = ["ReportValues", "StackLayouts", "TargetValues", "Verdict", "gather", "to_json", "verdict"]

Verdict = Literal["equal", "equal so far", "not finite", "not equal", "not run"]


@dataclass(frozen=True, eq=False)
class TargetValues:
    """A target that was compared with the source.

    Attributes:
        report: What the verification found.
        verdict: ``equal so far`` if the weights are equal and another check did not run; ``not finite`` if they are
            equal, and hold NaN or infinities: outputs were not compared.
        provenance: The file; ``None`` where it cannot be read without a library that is missing.
        record: What lstmconv recorded in it, or ``None``.
        made_from_source: Whether it records the source's own SHA-256; ``None`` without a record.
    """

    report: Report
    verdict: Verdict
    provenance: Provenance | None
    record: Record | None
    made_from_source: bool | None


@dataclass(frozen=True, eq=False)
class StackLayouts:
    """Where the gates of a stack's layers lie in each format; see :mod:`lstmconv.explaining`."""

    stack: Stack
    layouts: tuple[FormatLayout, ...]


@dataclass(frozen=True, eq=False)
class ReportValues:
    """A whole report.

    Attributes:
        checkpoint: The source.
        described: The source as ``lstmconv inspect`` describes it.
        overview: The source's whole model; ``None`` if the file does not contain it.
        halves: Its weights, layer by layer.
        stacks: Its layouts.
        targets: In the order given.
    """

    checkpoint: Checkpoint
    described: Mapping[str, Any]
    overview: Overview | None
    halves: tuple[HalfWeights, ...]
    stacks: tuple[StackLayouts, ...]
    targets: tuple[TargetValues, ...]

    @property
    def passed(self) -> bool | None:
        """Whether every target's report passes; ``None`` without a target."""
        return all(target.report.passed for target in self.targets) if self.targets else None


def gather(
    checkpoint: Checkpoint, targets: Sequence[Path], say: Callable[[str], None] = lambda _: None
) -> ReportValues:
    """Compare every target, and read every weight.

    Args:
        checkpoint: The source.
        targets: Files of any format.
        say: Called with a line before each long step.

    Raises:
        LstmconvError: A target cannot be read, or its layers cannot be matched with the source's.
    """
    compared = []
    for target in targets:
        say(f"Verifying {target.name}")
        compared.append(_target(checkpoint, target))
    say("Reading every weight")
    return ReportValues(
        checkpoint=checkpoint,
        described=describe_checkpoint(checkpoint),
        overview=overview(checkpoint),
        halves=tuple(half for layer in checkpoint.layers for half in weights_of(layer)),
        stacks=tuple(StackLayouts(stack, _layouts(stack)) for stack in checkpoint.stacks),
        targets=tuple(compared),
    )


def _layouts(stack: Stack) -> tuple[FormatLayout, ...]:
    own = by_name(stack.first.forward.layout)
    return tuple(layout_in(stack, name, own) for name in default_formats(own))


def verdict(report: Report) -> Verdict:
    """Return the verdict of a verification; a check that did not run never counts as passed."""
    if report.failures and all(check.not_finite for check in report.failures):
        return "not finite"
    if report.failures:
        return "not equal"
    if not report.passed:
        return "not run"
    return "equal" if report.complete else "equal so far"


def _target(checkpoint: Checkpoint, target: Path) -> TargetValues:
    from lstmconv.proof.verifying import verify_file

    artifact = open_artifact(target)
    report = verify_file(checkpoint, artifact)
    same = None if artifact.record is None else artifact.record.made_from(checkpoint)
    return TargetValues(report, verdict(report), artifact.checkpoint.provenance, artifact.record, same)


def to_json(values: ReportValues) -> dict[str, Any]:
    """Return a report as plain data; docs/json.md documents the fields. Numbers may be NaN or infinite."""
    described = values.described
    return {
        "source": described["source"],
        "passed": values.passed,
        "provenance": {name: described[name] for name in ("sha256", "format", "keras_version", "backend")},
        "model": described["model"],
        "layers": described["layers"],
        "edges": described["edges"],
        "weights": [_half(half) for half in values.halves],
        "targets": [
            target.report.to_json()
            | {
                "verdict": target.verdict,
                "sha256": None if target.provenance is None else target.provenance.sha256,
                "format": None if target.provenance is None else target.provenance.format,
                "made_from_source": target.made_from_source,
            }
            for target in values.targets
        ],
        "notes": list(values.checkpoint.all_notes),
    }


def _half(half: HalfWeights) -> dict[str, Any]:
    return {
        "layer": half.layer,
        "half": half.half,
        "arrays": [
            {
                "array": array.letter,
                "name": array.name,
                "gates": {
                    gate: {
                        "shape": list(scan.shape),
                        "min": scan.smallest,
                        "max": scan.largest,
                        "mean": scan.mean,
                        "std": scan.deviation,
                        "zeros": scan.zeros,
                        "nan": scan.nan,
                        "infinite": scan.infinite,
                        "histogram": {"from": -array.limit, "to": array.limit, "counts": scan.counts.tolist()},
                    }
                    for gate, scan in zip(GATES, array.gates, strict=True)
                },
            }
            for array in half.arrays
        ],
        "units": [{"gate": mark.gate, "kind": mark.kind, "units": list(mark.units)} for mark in half.marks],
    }
