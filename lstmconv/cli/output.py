"""Print results on stdout; notes, errors and progress on stderr."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from lstmconv.escaping import printable
from lstmconv.explaining.gates import GATE_TITLES
from lstmconv.listing import counted

if TYPE_CHECKING:
    from lstmconv.checking import CheckResult, Finding
    from lstmconv.jobs.convert_many import Converted
    from lstmconv.proof.report import Report
    from lstmconv.running import Ran

__all__ = [
    "bar",
    "progress",
    "show_annotations",
    "show_checked",
    "show_converted",
    "show_inspection",
    "show_json",
    "show_layouts",
    "show_outputs",
    "show_notes",
    "show_paths",
    "show_report",
    "show_summary",
    "show_totals",
    "show_usage",
]

_BAR_ITEMS = 16
"""Draw a progress bar from this many files on."""

Result = TypeVar("Result")

_MARKS = {"passed": ("✓", "green"), "failed": ("✗", "red"), "not run": ("–", "yellow"), "warned": ("!", "yellow")}
_LONG_WORK_BYTES = 64 << 20
"""Below this size a conversion takes less than a second, so no progress is shown."""
_BAR_SECONDS = 0.1


def _print(text: str, *, err: bool = False) -> None:
    """Print a line, with styles only on a terminal.

    rich is not used: it takes as long to load as the rest of lstmconv. Only moving bars need it.
    """
    typer.echo(text, err=err, color=False if os.environ.get("NO_COLOR") else None)


_LONGEST_ERROR = 2000


def _bold(text: str) -> str:
    return typer.style(text, bold=True)


def _mark(status: str) -> str:
    sign, color = _MARKS[status]
    return typer.style(sign, fg=color)


@contextmanager
def progress(source: Path) -> Iterator[Callable[[str], None]]:
    """Show the current step of a conversion of a large file, on a terminal only."""
    size = source.stat().st_size if source.is_file() else 0
    if not sys.stderr.isatty() or size < _LONG_WORK_BYTES:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True, highlight=False, soft_wrap=True).status("Starting") as status:
        yield lambda text: status.update(escape(printable(text)))


def bar(results: Iterable[Result], total: int, show: Callable[[Result], None] | None) -> Iterator[Result]:
    """Yield the results and show each; for many files on a terminal, show a bar first and all results after it."""
    if total < _BAR_ITEMS or not sys.stderr.isatty():
        for result in results:
            if show is not None:
                show(result)
            yield result
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # No auto_refresh: with a second thread, lstmconv.jobs.workers could not fork, the fast way to start processes.
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as moving:
        task = moving.add_task("", total=total)
        drawn = 0.0
        shown: list[Result] = []
        for result in results:
            shown.append(result)
            moving.advance(task)
            if time.monotonic() - drawn > _BAR_SECONDS:
                moving.refresh()
                drawn = time.monotonic()
    for result in shown:
        if show is not None:
            show(result)
        yield result


def show_converted(result: Converted) -> None:
    """Print one line for one of many files; an error goes to stderr."""
    show_notes(result.notes)
    if result.status in ("failed", "not equal"):
        show_error(result.detail)
        return
    arrow = "was converted before:" if result.status == "skipped" else "→"
    _print(f"{printable(result.source)} {arrow} {printable(', '.join(result.paths))}{_proved(result.reports)}")


def _proved(reports: Sequence[Mapping[str, Any]]) -> str:
    """Return the result of the checks that ran."""
    if not reports:
        return ""
    checks = [check for report in reports for check in report["checks"]]
    missing = sum(check["status"] == "not run" for check in checks)
    if not any(check["level"] == "outputs" and check["status"] == "passed" for check in checks):
        return f"  {_mark('passed')} equal weights, outputs not run"
    return f"  {_mark('passed')} equal" + (f", {missing} checks not run" if missing else "")


def show_totals(statuses: Sequence[str]) -> None:
    """Print the number of files for each status."""
    counts = [(status, statuses.count(status)) for status in dict.fromkeys(statuses)]
    _print(f"{counted(len(statuses), 'file')}: " + ", ".join(f"{count:,} {status}" for status, count in counts))


def show_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout, in ASCII for every encoding; NaN and infinity, which JSON lacks, become null."""
    text = json.dumps(_finite(value), indent=2, allow_nan=False).replace("\x7f", "\\u007f")
    print(text)  # noqa: T201  # the one place that prints plainly


def _finite(value: Any) -> Any:
    """Return data with ``None`` in the place of numbers that are not finite."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show_notes(notes: Sequence[str]) -> None:
    """Print notes on stderr."""
    for note in notes:
        _print(f"{typer.style('note:', fg='yellow')} {printable(note)}", err=True)


def show_error(text: str) -> None:
    """Print one error line on stderr."""
    line = " ".join(text.split())
    shortened = line if len(line) <= _LONGEST_ERROR else f"{line[:_LONGEST_ERROR]}..."
    _print(f"{typer.style('lstmconv:', fg='red')} {printable(shortened)}", err=True)


def show_paths(paths: Sequence[Path]) -> None:
    """Print the files written, one a line."""
    for path in paths:
        _print(f"wrote {printable(str(path))}")


def show_usage(lines: Sequence[str]) -> None:
    """Print how each target is used, one a line."""
    for line in lines:
        _print(printable(line))


def show_report(report: Report) -> None:
    """Print one line for each check."""
    _print(_bold(printable(report.target)))
    width = max((len(check.layer) for check in report.checks), default=0)
    for check in report.checks:
        status = "not run: " if check.status == "not run" else ""
        cost = "" if check.seconds is None else f" · {check.seconds:.1f} s"
        text = f"{printable(check.layer).ljust(width)}  {check.level:9}  {status}{printable(check.detail)}{cost}"
        _print(f"  {_mark(check.status)} {text}")


def show_outputs(name: str, ran: Ran) -> None:
    """Print what a file returned: each output with its shape and type."""
    _print(f"{_bold(printable(name))}: {printable(ran.framework)}")
    for output, array in ran.outputs.items():
        _line(output, f"{array.shape} {array.dtype}")


def show_summary(results: Sequence[CheckResult]) -> None:
    """Print the number of files checked, and the number for each status."""
    _print(_summary(results))


def show_checked(result: CheckResult) -> None:
    """Print the findings for a file; a file without LSTMs and without findings prints nothing."""
    if not result.findings and not result.layers:
        return
    mark = _mark("failed") if not result.passed else _mark("warned" if result.findings else "passed")
    twins = ", ".join(twin.replace("\\", "/").rpartition("/")[2] for twin in result.twins)
    texts = [_found(finding) for finding in result.findings]
    if not texts:
        texts = [", ".join(result.layers) + (f"; the same weights as in {twins}" if twins else "")]
    _print(f"{mark} {_bold(printable(result.path))}  {printable(texts[0])}")
    for text in texts[1:]:
        _print(f"    {printable(text)}")
    for command in dict.fromkeys(finding.fix for finding in result.findings if finding.fix is not None):
        _print(f"    run: {printable(command)}")


def _found(finding: Finding) -> str:
    text = finding.message if finding.layer is None else f"{finding.layer}: {finding.message}"
    return f"{text} [{finding.rule}]"


def _summary(results: Sequence[CheckResult]) -> str:
    count: Counter[str] = Counter(result.status for result in results)
    warned = sum(result.passed and bool(result.findings) for result in results)
    words = {"failed": "failed", "not done": "could not be checked", "no lstm": "without LSTM", "ignored": "ignored"}
    passed = f"{count['passed']} passed" + (f" ({warned} with warnings)" if warned else "")
    parts = [passed, *(f"{count[status]} {word}" for status, word in words.items() if count[status])]
    text = f"{counted(len(results), 'file')}: {', '.join(parts)}"
    if count["ignored"] < len(results):
        return text
    return f"{text}; nothing was checked: by its name no file is a checkpoint, or the settings ignore it"


def show_annotations(results: Sequence[CheckResult]) -> None:
    """Print each finding as a GitHub Actions workflow command, so that it appears at the file.

    Source: github.com/actions/toolkit, packages/core/src/command.ts, ``escapeData`` and ``escapeProperty``.
    """

    def escaped(text: str, also: Mapping[str, str]) -> str:
        for character, code in {"%": "%25", "\r": "%0D", "\n": "%0A", **also}.items():
            text = text.replace(character, code)
        return printable(text)

    for result in results:
        for finding in result.findings:
            place = escaped(result.path, {":": "%3A", ",": "%2C"})
            title = escaped(f"lstmconv check: {finding.rule}", {":": "%3A", ",": "%2C"})
            text = _found(finding) + (f"; run: {finding.fix}" if finding.fix is not None else "")
            print(f"::{finding.severity} file={place},title={title}::{escaped(text, {})}")  # noqa: T201  # plain


def show_layouts() -> None:
    """Print the table of layouts, one block for each format."""
    from lstmconv.layouts import LAYOUTS

    _print("Stored axes in einops notation. The gates are i, f, g, o (Keras calls g c).")
    for row in LAYOUTS:
        separate = "" if "gate" in row.weight_ih else ", an array each"
        _print(f"\n{_bold(row.name)}")
        _line("gates", f"{' '.join(row.gates)}{separate}")
        _line("input matrix", f"{row.weight_ih:38} {row.arrays[0]}")
        _line("recurrent matrix", f"{row.weight_hh:38} {row.arrays[1]}")
        _line("bias", f"{row.bias:38} {row.arrays[2]}")
        _line("biases", row.biases)
        _line("source", row.source)


def show_inspection(described: Mapping[str, Any]) -> None:
    """Print a checkpoint's layers for a person."""
    version = f", Keras {described['keras_version']}" if described["keras_version"] else ""
    _print(f"{_bold(printable(described['source']))}: {printable(described['format'] + version)}")
    if described["model"] is not None:
        _show_model(described["model"])
    for layer in described["layers"]:
        _show_layer(layer)
    for stack in described["stacks"]:
        _show_stack(stack["name"], stack["layers"])
    for entry in described["skipped"]:
        reason = f"{entry['name']} ({entry['class_name']}): {entry['reason']}"
        _print(f"\n{typer.style('skipped', fg='yellow')} {printable(reason)}")


def _show_model(model: Mapping[str, Any]) -> None:
    """Print a line for each layer of a whole model, and for each target."""
    from lstmconv.explaining.overview import shape_text

    inputs = ", ".join(f"{entry['name']} {shape_text(entry['shape'])} {entry['dtype']}" for entry in model["inputs"])
    outputs = ", ".join(f"{name} {shape_text(shape)}" for name, shape in model["outputs"].items())
    layers = model["layers"]
    count = counted(len(layers), "layer")
    _print(f"\n{_bold(printable(model['name']))}  whole model, {count}, {model['parameters']:,} parameters")
    _line("takes", inputs)
    _line("returns", outputs)
    rows = [
        (printable(layer["name"]), printable(layer["kind"]), shape_text(layer["shape"]), f"{layer['parameters']:,}")
        for layer in layers
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for layer, (name, kind, shape, parameters) in zip(layers, rows, strict=True):
        mark = _mark("passed" if layer["known"] else "failed")
        columns = f"{name:{widths[0]}}  {kind:{widths[1]}}  {shape:{widths[2]}}  {parameters:>{widths[3]}}"
        calls = f" called {layer['calls']} times" if layer["calls"] > 1 else ""
        reason = "" if layer["known"] else f" {printable(layer['reason'])}"
        _print(f"  {columns}  {mark}{calls}{reason}")
    _show_targets(model["targets"])


def _show_targets(targets: Mapping[str, Any]) -> None:
    for name, target in targets.items():
        mark = _mark("passed" if target["possible"] else "failed")
        _print(f"  {'to ' + name:18}{mark} {printable(target['note'])}")


def _show_stack(name: str, layers: Sequence[str]) -> None:
    """Print how each target holds the layers of one module; a single layer has its own lines."""
    if len(layers) == 1:
        return
    count = len(layers)
    _print(f"\n{_bold(printable(name))}  one module of {count} layers: {printable(', '.join(layers))}")
    _line("to torch", f"one nn.LSTM, num_layers={count}")
    _line("to cudnn", "one packed weight space")
    _line("to onnx", f"{count} LSTM nodes, each fed by the one before")
    _line("to keras", f"{count} LSTM layers")


def _show_layer(layer: Mapping[str, Any]) -> None:
    from lstmconv.explaining.inspection import kind_text, returns_text
    from lstmconv.model import sizes

    size = sizes(layer["input_size"], layer["hidden_size"])
    _print(f"\n{_bold(printable(layer['name']))}  {printable(kind_text(layer))}, {size}, {layer['dtype']}")
    for number, direction in enumerate(layer["directions"]):
        if len(layer["directions"]) == 2:
            _print(f"  {_bold(('forward', 'backward')[number] + ' direction')}")
        _show_direction(direction)
    _line("returns", returns_text(layer))
    _show_targets(layer["targets"])


def _show_direction(direction: Mapping[str, Any]) -> None:
    from lstmconv.layouts import by_name

    meanings = iter(("multiplies the input", "multiplies the previous state", _bias_meaning(direction["biases"])))
    row = by_name(direction["layout"])
    for name, shape in direction["arrays"].items():
        # Two biases in one line, whose sizes are added in the JSON.
        each = direction["biases"] == 2 and name == row.arrays[2] and len(row.bias_names) == 2
        sizes = [size // 2 for size in shape] if each else shape
        text = f"({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''}){' each' if each else ''}"
        _line(name, f"{text}  {next(meanings)}")
    if not direction["biases"]:
        _line("bias", "none")
    columns = ", ".join(
        f"{gate} {GATE_TITLES[gate]} {start}:{stop}" for gate, (start, stop) in direction["gate_ranges"].items()
    )
    where = {"arrays": "separate arrays, in this order", "units": "rows of each matrix in the flat buffer"}.get(
        direction["gate_axis"], direction["gate_axis"]
    )
    _line("gates", f"{columns}  ({where})")
    forget = direction["forget_bias"]
    if forget is not None:
        _line(
            "forget bias",
            f"{forget['min']:.3g} to {forget['max']:.3g}, mean {forget['mean']:.3g}; Keras initialises it to "
            "1, and the stored values include that: add nothing",
        )
    backwards = ", runs backwards" if direction["go_backwards"] else ""
    _line("activation", direction["activations"] + backwards)


def _bias_meaning(count: int) -> str:
    if count == 2:
        return "two, one for the input and one for the state; both are kept if the target has two"
    return "added once to the sum of both products; PyTorch, ONNX and cuDNN have two biases: this one and zeros"


def _line(label: str, text: str) -> None:
    _print(f"  {printable(label):18}{printable(text)}")
