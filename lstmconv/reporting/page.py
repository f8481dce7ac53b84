"""Put a report's values into the page: figures drawn, numbers in words, every name escaped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from lstmconv._version import __version__
from lstmconv.checking.weight_rules import EXPLODED_NORM, INPUT_BOUND, MOVED
from lstmconv.escaping import printable
from lstmconv.explaining.blocks import FormatLayout
from lstmconv.explaining.gates import GATE_COLOURS, GATE_NAMES, GATE_TITLES
from lstmconv.explaining.inspection import kind_text, returns_text
from lstmconv.explaining.overview import shape_text
from lstmconv.explaining.panels import Panel, Scale, Side, panels
from lstmconv.listing import listed
from lstmconv.model import GATES, sizes
from lstmconv.proof.judging import number as deviation_number
from lstmconv.proof.judging import times, unit_of
from lstmconv.proof.report import Check, Evidence
from lstmconv.reporting import figures, graph
from lstmconv.reporting.scanning import Scan
from lstmconv.reporting.values import ReportValues, StackLayouts, TargetValues
from lstmconv.reporting.weights import ArrayWeights, HalfWeights, Mark

__all__ = ["rendered"]

_GATE_PIXELS = 44
"""Pixels along which a gate's units are drawn, in every array of every format."""
_SIDE = Side(_GATE_PIXELS, shortest=18, longest=220)
_DRAWN = 24
"""Draw the weights of at most so many directions, so that the page stays below 2 MB; tables show the others."""
_MOST_RUNS = 24
_NAMED = 6
"""The verdict names at most so many layers."""
_AXES = {"W": "feature", "R": "previous unit"}
_KIND_WORDS = {
    "not finite": "NaN or infinite",
    "dead": "dead: weights all zero",
    "saturated": f"saturated: moves by less than {MOVED:g}",
    "exploding": f"exploding: norm of {EXPLODED_NORM:g} or more",
}


def rendered(values: ReportValues) -> str:
    """Return the page as HTML.

    Raises:
        MissingDependencyError: The extra ``report`` is not installed.
    """
    from jinja2 import Environment, StrictUndefined

    folder = resources.files("lstmconv.reporting")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"shown": printable, "number": number, "ranges": _ranges, "deviation": _deviation}
    template = environment.from_string((folder / "page.html").read_text("utf-8"))
    return template.render(
        version=__version__,
        css=(folder / "page.css").read_text("utf-8"),
        values=values,
        source=values.described,
        verdict=_overall(values),
        proofs=[_proof(number, target) for number, target in enumerate(values.targets)],
        graph=_graph(values),
        model_rows=list(_model_rows(values)),
        chains=list(_chains(values)),
        rows=list(_layers(values)),
        stacks=[(entry.stack.name, _formats(entry)) for entry in values.stacks],
        gate_pixels=_GATE_PIXELS,
        halves=[_half(number, half, drawn=number < _DRAWN) for number, half in enumerate(values.halves)],
        drawn=_DRAWN,
        not_run=list(_not_run(values)),
        gates=[(gate, GATE_TITLES[gate], GATE_COLOURS[gate]) for gate in GATES],
        input_bound=INPUT_BOUND,
        moved=MOVED,
        exploded=EXPLODED_NORM,
        negative=figures.NEGATIVE,
        positive=figures.POSITIVE,
        not_finite=figures.NOT_FINITE,
    )


def number(value: float) -> str:
    """Write a number short, with a real minus sign.

    >>> number(-0.0001234)
    '−0.000123'
    """
    return f"{value:.3g}".replace("-", "−")


def _deviation(value: float) -> str:
    """Write a deviation as the checks do, unbroken at its sign."""
    return deviation_number(value).replace("-", "−")


def _ranges(units: Sequence[int]) -> str:
    """List units, runs as ranges.

    >>> _ranges((0, 1, 2, 5))
    '0–2, 5'
    """
    runs: list[list[int]] = []
    for unit in units:
        if runs and unit == runs[-1][1] + 1:
            runs[-1][1] = unit
        else:
            runs.append([unit, unit])
    shown = [f"{first}" if first == last else f"{first}–{last}" for first, last in runs[:_MOST_RUNS]]
    more = len(runs) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more runs" if more else "")


# The verdict and the proofs

_VERDICTS = {
    "equal": ("✓", "Equal"),
    "equal so far": ("✓", "Weights equal, not all was run"),
    "not finite": ("✗", "Not finite"),
    "not equal": ("✗", "Not equal"),
    "not run": ("–", "Not run"),
}


def _overall(values: ReportValues) -> dict[str, Any]:
    """Return the worst verdict of all targets, and a sentence for each target."""
    found = [target.verdict for target in values.targets]
    if not found:
        text = "No target was given: nothing was compared, and nothing is proven. The report shows the source alone."
        return {"kind": "not run", "mark": "–", "word": "Nothing compared", "sentences": [text]}
    kind = next(one for one in ("not equal", "not finite", "not run", "equal so far", "equal") if one in found)
    mark, word = _VERDICTS[kind]
    alone = values.overview is None and len(values.stacks) == 1  # The file holds nothing else.
    if kind == "equal" and not alone and not all(_ran_model(target) for target in values.targets):
        word = "LSTM layers equal"
    source = printable(values.described["source"])
    sentences = {
        "not finite": f"holds the same weights as {source}, and they are not finite: outputs were not compared.",
        "not equal": f"does not hold or compute the same as {source}.",
        "not run": f"was not compared with {source}, so it is neither proven equal nor different.",
    }
    lines = []
    for target in values.targets:
        if target.verdict == "equal so far":
            text = f"{_same_weights(source, target)}; the checks that did not run are named below."
        else:
            text = sentences.get(target.verdict) or _equal_sentence(values, target)
        lines.append(f"{printable(target.report.target)} {text}")
    return {"kind": kind, "mark": mark, "word": word, "sentences": lines}


def _ran_model(target: TargetValues) -> bool:
    """Whether a target was run from its inputs to its outputs."""
    return any(check.level == "model" and check.status == "passed" for check in target.report.checks)


def _same_weights(source: str, target: TargetValues) -> str:
    """Say which weights a target holds."""
    if any(check.rescaled for check in target.report.checks):
        return f"holds the weights of {source}, rescaled for the hard_sigmoid of its Keras"
    return f"holds the same weights as {source} bit for bit"


def _equal_sentence(values: ReportValues, target: TargetValues) -> str:
    """Say what was compared of a target that is equal, and what was not."""
    source = printable(values.described["source"])
    if _ran_model(target):
        return f"{_same_weights(source, target)}. Run from its inputs to its outputs, it computes the same."
    if values.overview is None and len(values.stacks) == 1:
        return f"holds the same weights bit for bit and computes the same as {source}."
    names = list(dict.fromkeys(check.layer for check in target.report.checks if check.level == "outputs"))
    layers = printable(listed(names, _NAMED))
    text = f"holds the same weights bit for bit, and computes the same, as {layers} of {source}, each run alone."
    others = 0 if values.overview is None else len(values.overview.layers) - len(values.checkpoint.layers)
    return f"{text} The other layers of the model were not compared." if others > 0 else text


def _proof(index: int, target: Any) -> dict[str, Any]:
    mark, word = _VERDICTS[target.verdict]
    return {
        "target": target,
        "mark": mark,
        "word": word,
        "verdict": target.verdict,
        "diagnoses": list(_reasons(target.report.checks)),
        "figures": [
            (check, _deviations(f"proof-{index}-{place}", check.evidence), _caption(check.evidence))
            for place, check in enumerate(target.report.checks)
            if check.evidence is not None
        ],
    }


def _reasons(checks: Sequence[Check]) -> Iterator[str]:
    """Yield the first failure of each layer; if the bits were compared, they name it most exactly."""
    failed = [check for check in checks if check.status == "failed"]
    for name in dict.fromkeys(check.layer for check in failed):
        first = next(check for check in failed if check.layer == name)
        yield f"{name}: {first.diagnosis or first.detail}"


def _deviations(name: str, evidence: Evidence) -> str:
    return figures.deviations(name, "Deviation of the outputs, step by step", _caption(evidence), evidence)


def _caption(evidence: Evidence) -> str:
    """Say what a chart draws: which number is worst, and how far the nearest mistake would have been, in one unit."""
    unit = unit_of(evidence)
    drawn = "At each step, the number of the first output that is worst" if evidence.steps else "The worst number"
    text = f"{drawn}, in units of {unit}. Worst of all: {evidence.place}, {times(evidence.found_ratio)} of {unit}"
    text += f" ({_deviation(evidence.found)} of {_deviation(evidence.noise)})."
    if evidence.nearest_ratio is None:
        return text
    nearest = f"{times(evidence.nearest_ratio)} times {unit} ({evidence.mistake})"
    return f"{text} The nearest of {evidence.mistakes} mistakes would have deviated {nearest}."


def _not_run(values: ReportValues) -> Iterator[str]:
    for target in values.targets:
        for check in target.report.checks:
            if check.status == "not run":
                yield f"{target.report.target}: {check.layer}: {check.level}: {check.detail}"
    for entry in values.checkpoint.skipped:
        yield f"{entry.name} ({entry.class_name}) was skipped: {entry.reason}"


# The model


def _graph(values: ReportValues) -> list[graph.Part]:
    model = values.checkpoint.model
    return [] if model is None or values.overview is None else graph.parts(model, values.overview)


def _model_rows(values: ReportValues) -> Iterator[dict[str, Any]]:
    """Yield a row for the whole model, and one for each layer, with what each target's outputs deviate by."""
    found = values.overview
    if found is None:
        return
    checks = [[check for check in target.report.checks if check.evidence is not None] for target in values.targets]
    whole = [next((check for check in own if check.level == "model"), None) for own in checks]
    outputs = ", ".join(shape_text(shape) for shape in found.outputs.values())
    yield _model_row(found.name, "the whole model", outputs, found.parameters, None, whole)
    for layer in found.layers:
        own = [
            next((check for check in each if check.level == "outputs" and check.layer == layer.name), None)
            for each in checks
        ]
        yield _model_row(layer.name, layer.kind, shape_text(layer.shape), layer.parameters, layer.reason, own)


def _model_row(
    name: str, kind: str, shape: str, parameters: int, reason: str | None, checks: Sequence[Check | None]
) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "shape": shape,
        "parameters": f"{parameters:,}",
        "reason": reason,
        "compared": [
            "–" if check is None or check.evidence is None
            else f"{times(check.evidence.found_ratio)} of {unit_of(check.evidence)}"
            for check in checks
        ],
    }  # fmt: skip


# The layers


@dataclass(frozen=True)
class _Chain:
    """Layers that feed each other, and the one before the first where that feeds others too."""

    after: str | None
    layers: tuple[dict[str, Any], ...]


def _chains(values: ReportValues) -> Iterator[_Chain]:
    """Yield layers in runs: each feeds the next."""
    by_name = {layer["name"]: layer for layer in values.described["layers"]}
    edges = values.described["edges"] or []
    before = {above: below for below, above in edges}
    first = dict(reversed(edges))
    for name in by_name:
        below = before.get(name)
        if below is not None and first.get(below) == name:
            continue
        run, last = [by_name[name]], name
        while last in first and first[last] in by_name and by_name[first[last]] not in run:
            last = first[last]
            run.append(by_name[last])
        yield _Chain(below, tuple(run))


def _layers(values: ReportValues) -> Iterator[dict[str, Any]]:
    edges = values.described["edges"]
    for layer in values.described["layers"]:
        activations = dict.fromkeys(
            half["activations"] + (", backwards" if half["go_backwards"] else "") for half in layer["directions"]
        )
        yield {
            "name": layer["name"],
            "kind": kind_text(layer),
            "sizes": sizes(layer["input_size"], layer["hidden_size"]),
            "dtype": layer["dtype"],
            "activations": "; ".join(activations),
            "returns": returns_text(layer),
            "fed": None if edges is None else [below for below, above in edges if above == layer["name"]],
            "feeds": None if edges is None else [above for below, above in edges if below == layer["name"]],
            "targets": layer["targets"],
        }


# The layouts


def _formats(entry: StackLayouts) -> list[tuple[FormatLayout, list[Panel]]]:
    """Return each format with its panels."""
    drawn = panels(entry.stack, entry.layouts, Scale(_SIDE, _SIDE))
    return [(layout, [panel for panel in drawn if panel.layout is layout]) for layout in entry.layouts]


# The weights


def _half(index: int, half: HalfWeights, *, drawn: bool) -> dict[str, Any]:
    return {
        "half": half,
        "drawn": drawn,
        "marks": [
            {"mark": mark, "shape": figures.MARKERS[mark.kind], "words": _KIND_WORDS[mark.kind]} for mark in half.marks
        ],
        "arrays": [
            {
                "array": array,
                "gates": list(zip(GATES, array.gates, strict=True)),
                "figures": _drawings(f"weights-{index}-{place}", array, half.marks) if drawn else [],
                "reduced": _reduction(array.gates[0]),
            }
            for place, array in enumerate(half.arrays)
        ],
    }


def _drawings(name: str, array: ArrayWeights, marks: Sequence[Mark]) -> list[tuple[str, str]]:
    found = []
    for gate, scan in zip(GATES, array.gates, strict=True):
        own = [mark for mark in marks if mark.gate == gate]
        title = f"{array.letter}, {GATE_NAMES[gate]} gate"
        axis = _AXES.get(array.letter, "")
        args = (scan, array.limit, GATE_COLOURS[gate].fill, own, axis)
        found.append((gate, figures.weights(f"{name}-{gate}", title, _described(scan, own), *args)))
    return found


def _described(scan: Scan, marks: Sequence[Mark]) -> str:
    """Describe a heat map and its histogram in words."""
    parts = [f"{scan.shape[0]:,} by {scan.shape[1]:,} weights from {number(scan.smallest)} to {number(scan.largest)}"]
    parts.append(f"mean {number(scan.mean)}, standard deviation {number(scan.deviation)}")
    parts += [f"{scan.nan:,} NaN"] if scan.nan else []
    parts += [f"{scan.infinite:,} infinite"] if scan.infinite else []
    parts += [f"{len(mark.units):,} units {mark.kind}" for mark in marks]
    return "; ".join(parts) + "."


def _reduction(scan: Scan) -> str | None:
    if not scan.reduced:
        return None
    rows, columns = scan.block
    return (
        f"each cell is a block of up to {rows:,} × {columns:,} weights and shows the one largest in magnitude; "
        "histograms and numbers count every weight"
    )
