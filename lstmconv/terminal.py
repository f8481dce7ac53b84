"""What the command line shows: results on stdout, talk on stderr."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from lstmconv.report import Report

__all__ = ["progress", "show_inspection", "show_json", "show_layouts", "show_notes", "show_paths", "show_report"]

_MARKS = {"passed": "[green]✓[/green]", "failed": "[red]✗[/red]", "not run": "[yellow]–[/yellow]"}
_LONG_WORK_BYTES = 64 << 20
"""Under this size a conversion takes less than a second, and nobody needs to be told."""
_GATE_NAMES = {"i": "input", "f": "forget", "g": 'candidate (Keras: "c")', "o": "output"}


_COMMANDS = re.compile("[\x7f-\x9f\ud800-\udfff]")
"""What JSON leaves as it is though a terminal takes it for a command, or cannot show it."""
_LONGEST_ERROR = 2000


def _shown(text: str) -> str:
    r"""Escape rich's markup, and what a terminal takes for a command: the text may come from a file.

    >>> _shown("\x1b[31mlstm")
    '\\x1b[31mlstm'
    """
    return escape("".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text))


def _out() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _talk() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def progress(source: Path) -> Iterator[Callable[[str], None]]:
    """Show what is being done to a large file, on a terminal only."""
    console = _talk()
    size = source.stat().st_size if source.is_file() else 0
    if not console.is_terminal or size < _LONG_WORK_BYTES:
        yield lambda _: None
        return
    with console.status("Starting") as status:
        yield lambda text: status.update(_shown(text))


def show_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    text = _COMMANDS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    print(text)  # noqa: T201  # the one place that prints plainly


def show_notes(notes: Sequence[str]) -> None:
    """Print notes on stderr."""
    console = _talk()
    for note in notes:
        console.print(f"[yellow]note:[/yellow] {_shown(note)}")


def show_error(text: str) -> None:
    """Print one error line on stderr."""
    line = " ".join(text.split())
    shortened = line if len(line) <= _LONGEST_ERROR else f"{line[:_LONGEST_ERROR]}..."
    _talk().print(f"[red]lstmconv:[/red] {_shown(shortened)}")


def show_paths(paths: Sequence[Path]) -> None:
    """Print the files written, one a line."""
    console = _out()
    for path in paths:
        console.print(f"wrote {_shown(str(path))}")


def show_report(report: Report) -> None:
    """Print one line a check."""
    console = _out()
    console.print(f"[bold]{_shown(report.target)}[/bold]")
    width = max((len(check.layer) for check in report.checks), default=0)
    for check in report.checks:
        status = "not run: " if check.status == "not run" else ""
        console.print(
            f"  {_MARKS[check.status]} {_shown(check.layer.ljust(width))}  {check.level:9}  "
            f"{status}{_shown(check.detail)}"
        )


def show_layouts() -> None:
    """Print the table of layouts, a block a format."""
    from lstmconv.layouts import LAYOUTS

    console = _out()
    console.print("Stored axes by name; einops' notation, with i f g o the gates (Keras calls g c).")
    for row in LAYOUTS:
        apart = "" if "gate" in row.weight_ih else ", an array each"
        console.print(f"\n[bold]{row.name}[/bold]")
        _line(console, "gates", f"{' '.join(row.gates)}{apart}")
        _line(console, "input matrix", f"{row.weight_ih:38} {row.arrays[0]}")
        _line(console, "recurrent matrix", f"{row.weight_hh:38} {row.arrays[1]}")
        _line(console, "bias", f"{row.bias:38} {row.arrays[2]}")
        _line(console, "biases", row.biases)
        _line(console, "source", row.source)


def show_inspection(described: Mapping[str, Any]) -> None:
    """Print a checkpoint's layers for a person."""
    console = _out()
    version = f", Keras {described['keras_version']}" if described["keras_version"] else ""
    console.print(f"[bold]{_shown(described['source'])}[/bold]: {_shown(described['format'] + version)}")
    for layer in described["layers"]:
        _show_layer(console, layer)
    for entry in described["skipped"]:
        reason = f"{entry['name']} ({entry['class_name']}): {entry['reason']}"
        console.print(f"\n[yellow]skipped[/yellow] {_shown(reason)}")


def _show_layer(console: Console, layer: Mapping[str, Any]) -> None:
    from lstmconv.model import sizes

    kind = layer["class_name"] + (f", merge {layer['merge_mode']}" if layer["merge_mode"] else "")
    console.print(
        f"\n[bold]{_shown(layer['name'])}[/bold]  {_shown(kind)}, "
        f"{sizes(layer['input_size'], layer['hidden_size'])}, {layer['dtype']}"
    )
    for number, direction in enumerate(layer["directions"]):
        if len(layer["directions"]) == 2:
            console.print(f"  [bold]{('forward', 'backward')[number]} half[/bold]")
        _show_direction(console, direction)
    sequences = {True: "every step", False: "the last step", None: "unknown"}[layer["return_sequences"]]
    flags = [flag for flag in ("return_state", "stateful", "masking", "time_major") if layer[flag]]
    _line(console, "returns", ", ".join([sequences, *flags]))
    for name, target in layer["targets"].items():
        mark = _MARKS["passed" if target["possible"] else "failed"]
        console.print(f"  {'to ' + name:18}{mark} {_shown(target['note'])}")


def _show_direction(console: Console, direction: Mapping[str, Any]) -> None:
    meanings = iter(("multiplies the input", "multiplies the previous state", _bias_meaning(direction["biases"])))
    for name, shape in direction["arrays"].items():
        _line(console, name, f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})  {next(meanings)}")
    if not direction["biases"]:
        _line(console, "bias", "none")
    columns = ", ".join(
        f"{gate} {_GATE_NAMES[gate]} {start}:{stop}" for gate, (start, stop) in direction["gate_ranges"].items()
    )
    where = {"arrays": "arrays apart, in this order", "units": "rows of each matrix in the flat buffer"}.get(
        direction["gate_axis"], direction["gate_axis"]
    )
    _line(console, "gates", f"{columns}  ({where})")
    forget = direction["forget_bias"]
    if forget is not None:
        _line(
            console,
            "forget bias",
            f"{forget['min']:.3g} to {forget['max']:.3g}, mean {forget['mean']:.3g}; Keras starts it at 1, the file "
            "holds it, nothing is to be added",
        )
    backwards = ", runs backwards" if direction["go_backwards"] else ""
    _line(console, "activation", direction["activations"] + backwards)


def _bias_meaning(count: int) -> str:
    if count == 2:
        return "two, one for the input and one for the state; kept apart where the target has two"
    return "added once, to the sum of both products; PyTorch, ONNX and cuDNN have two biases: this one and zeros"


def _line(console: Console, label: str, text: str) -> None:
    console.print(f"  {_shown(label):18}{_shown(text)}")
