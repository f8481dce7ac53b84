"""Show an explanation on a terminal: equations, gate blocks, where the bias goes, one step in numbers."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text
from rich.theme import Theme

from lstmconv.escaping import printable
from lstmconv.explaining.blocks import FormatLayout
from lstmconv.explaining.console_blocks import COLOURS, FEW_COLOURS, STYLES, chip, gate_blocks
from lstmconv.explaining.explanation import Explanation
from lstmconv.explaining.inspection import describe_layer, kind_text
from lstmconv.explaining.steps import GateSums, Step
from lstmconv.model import LSTMLayer, sizes

__all__ = ["show_explanation"]

_NARROWEST = 40
"""Characters. On a narrower terminal, such as one that reports a width of 0, the terminal breaks the lines."""


def show_explanation(explanation: Explanation) -> None:
    """Print an explanation on stdout, no line longer than the terminal is wide."""
    console = Console(highlight=False, color_system=None if os.environ.get("NO_COLOR") else "auto")
    console.push_theme(Theme(FEW_COLOURS if console.color_system == "standard" else COLOURS))
    for line in _page(explanation, console):
        if console.color_system is None:  # Without colour, spaces at the end of a line are invisible.
            line.rstrip()
        console.print(line, soft_wrap=True)


def _page(explanation: Explanation, console: Console) -> Iterator[Text]:
    width = max(console.width, _NARROWEST)
    for heading, lines in (
        (None, _head(explanation)),
        (_given_sizes(explanation.first), _equations(explanation, width)),
        ("Where the gates lie", gate_blocks(explanation, width)),
        ("Where the bias goes", _bias(explanation, width)),
        (None, _step(explanation, width)),
        (None, _foot(explanation)),
    ):
        content = list(lines)
        if heading is not None:
            yield Text("")
            yield Text(heading, "bold")
        for line in content:
            if line.cell_len <= width:
                yield line
                continue
            yield from _wrapped(line, console, width)


def _wrapped(line: Text, console: Console, width: int) -> Iterator[Text]:
    """Break a line that is too long; the rest keeps its indentation."""
    indent = len(line.plain) - len(line.plain.lstrip())
    for part in line[indent:].wrap(console, width - indent):
        part.rstrip()
        yield Text(" " * indent).append_text(part)


def _head(explanation: Explanation) -> Iterator[Text]:
    for layer in explanation.layers:
        kind = kind_text(describe_layer(layer))
        line = Text(printable(layer.name), "bold")
        line.append(f"  {printable(kind)}, {sizes(layer.input_size, layer.hidden_size)}, {layer.dtype}", "not bold")
        yield line
    if explanation.source is None:
        yield Text("An example with made-up weights. lstmconv explain FILE shows your own layer.")
    else:
        yield Text(
            f"{printable(explanation.source)}: {explanation.file_format}; its arrays lie as in {explanation.own.name}"
        )


def _given_sizes(layer: LSTMLayer) -> str:
    states = f"({layer.hidden_size},)"
    return f"What one step computes, from x ({layer.input_size},), h {states} and c {states}"


def _equations(explanation: Explanation, width: int) -> Iterator[Text]:
    for equation in explanation.equations:
        first, *others = textwrap.wrap(equation, width - 2, subsequent_indent=" " * 7) or [""]
        text = Text("  ").append(first)
        if first[:2].rstrip() in STYLES:
            text.stylize(STYLES[first[0]], 2, 3)
        yield text
        yield from (Text(f"  {line}") for line in others)
    layer = explanation.first
    yield from (Text(f"  {sentence}") for sentence in _directions(layer))


def _directions(layer: LSTMLayer) -> Iterator[str]:
    if layer.bidirectional:
        first, second = ("first", "last") if not layer.go_backwards else ("last", "first")
        yield (
            f"The forward direction runs from the {first} step, the backward one from the {second}, with arrays of its "
            f"own; outputs are merged by {layer.merge_mode}."
        )
    elif layer.go_backwards:
        yield "The layer runs backwards, from the last step to the first (go_backwards)."


# The bias


def _bias(explanation: Explanation, width: int) -> Iterator[Text]:
    bias = explanation.bias
    if not bias.stored:
        yield Text("  The layer has none (use_bias=False).")
        return
    if len(bias.stored) == 1:
        yield Text(
            "  The bias is added once, to the sum of both products. A format with two biases stores it as one of them, "
            "and zeros as the other."
        )
    else:
        yield Text(
            "  Both biases are added to the same sum, so only their sum matters. A format with two biases keeps both; "
            "Keras' single bias is their sum."
        )
    others = [layout for layout in explanation.layouts if layout.obstacle is None and not layout.own]
    rows = [(layout.row.name, _contents(layout), layout.row.gates) for layout in others]
    if len(bias.stored) == 2 and all(layout.row.two_biases for layout in others):
        rows.append(("Keras 2, 3", f"bias = {bias.summed}", "ifgo"))
    if rows:
        yield Text(f"  {', '.join(bias.stored)}  ({bias.size} numbers{' each' if len(bias.stored) == 2 else ''})")
    longest = max((len(contents) for _, contents, _ in rows), default=0)
    for number, (name, contents, gates) in enumerate(rows):
        line = Text(f"    {'├' if number < len(rows) - 1 else '└'}─→ {name:12}{contents:{longest}}  ")
        for gate in gates if line.cell_len + 12 <= width else "":
            line.append_text(chip(gate))
        yield line
    if any(layout.size is not None for layout in others):
        stored = {
            mode: [name for name, content in zip(("bW", "bR"), parts, strict=True) if content]
            for mode, parts in bias.cudnn_modes.items()
        }
        modes = [f"{mode.removeprefix('CUDNN_RNN_')} {' and '.join(names)}" for mode, names in stored.items()]
        yield Text(f"  cuDNN's bias mode decides which biases are stored: {', '.join(modes)}.")
    if bias.rounding is not None:
        exact = "is rounded in the last digit, as any addition is" if bias.rounding else "is exact"
        yield Text(f"  The sum of this layer's two biases {exact}.")


def _contents(layout: FormatLayout) -> str:
    biases = [array for array in layout.halves[0].arrays if array.content is not None]
    return ", ".join(f"{'b' if array.axis == 'apart' else array.name} = {array.content}" for array in biases)


# The step


def _step(explanation: Explanation, width: int) -> Iterator[Text]:
    step, layer = explanation.step, explanation.first
    half = ", forward direction" if layer.bidirectional else ""
    yield Text("")
    yield Text(f"One step of unit {step.unit} of {printable(layer.name)}{half}, in numbers", "bold")
    yield Text(f"  Computed in float64 from the stored weights. x, h and c are made up (seed {step.seed}).")
    yield from _given(step, width)
    yield from _table(explanation, width)


def _given(step: Step, width: int) -> Iterator[Text]:
    for name, values in (("x", step.x), ("h", step.h)):
        shown = _fitting([f"{value:g}" for value in values[:40]], ", ", len(values), "numbers", width - 8)
        yield Text(f"  {name} = [{shown}]")
    yield Text(f"  c = {step.c:g} (of this unit)")


def _table(explanation: Explanation, width: int) -> Iterator[Text]:
    step = explanation.step
    biases = len(step.gates[0].biases)
    yield from _products(step.gates[0], step, width)
    heads = ["from x", "from h", *(["bias"] if biases == 1 else ["bias x", "bias h"][:biases])]
    sides = ["(x+b)+h", "x+(h+b)"] if biases else ["x+h"]
    columns = [*heads, *sides, *(["activated"] if step.omitted is None else [])]
    yield Text("")
    pitch = 11 if len(columns) < 7 else 10
    yield Text("     " + "".join(f"{head:>{pitch}}" for head in columns))
    for gate in step.gates:
        numbers = [gate.input_product, gate.recurrent_product, *gate.biases, gate.input_side]
        numbers += [gate.recurrent_side] if biases else []
        numbers += [] if gate.activated is None else [gate.activated]
        yield (
            Text("  ")
            .append_text(chip(gate.gate))
            .append("".join(f" {_number(value):>{pitch - 1}}" for value in numbers))
        )
    if step.new_c is not None and step.new_h is not None:
        pairs = [
            f"{name} = {_number(first)}{f' and {_number(second)}' if biases else ''}"
            for name, (first, second) in (("c'", step.new_c), ("h'", step.new_h))
        ]
        yield Text(f"  {'      '.join(pairs)}")
    else:
        yield Text(f"  The gates, c' and h' are not computed: {step.omitted}.")
    if biases:
        yield Text(f"  {_verdict(step)}")


def _verdict(step: Step) -> str:
    sums = [value for gate in step.gates for value in (gate.input_side, gate.recurrent_side)]
    if not all(map(math.isfinite, (*sums, step.difference))):
        return "Some weights of this unit are NaN, infinite or too large, so the sums cannot be compared."
    if step.same:
        return "Equal to the last bit: it does not matter to which product the bias is added."
    return (
        f"Equal except for {step.difference:.1e}, the rounding of float64 in another order of summation: it does not "
        "matter to which product the bias is added."
    )


def _products(gate: GateSums, step: Step, width: int) -> Iterator[Text]:
    """Write the two sums of products of one gate, as many terms as fit on a line."""
    for name, values, weights, total in (
        ("x", step.x, gate.weights_ih, gate.input_product),
        ("h", step.h, gate.weights_hh, gate.recurrent_product),
    ):
        terms = [
            f"{value:g}·{f'({w:.4g})' if w < 0 else f'{w:.4g}'}"
            for value, w in zip(values[:20], weights[:20], strict=True)
        ]
        lead, end = f"  {gate.gate} from {name} = ", f" = {_number(total)}"
        shown = _fitting(terms, " + ", len(values), "products", width - len(lead) - len(end))
        yield Text(f"{lead}{shown}{end}")


def _fitting(terms: list[str], joint: str, count: int, things: str, room: int) -> str:
    """Join as many terms as fit, and give the number of the others."""
    for number in range(len(terms), 0, -1):
        rest = f"{joint}… {count - number:,} more" if number < count else ""
        text = joint.join(terms[:number]) + rest
        if len(text) <= room:
            return text
    return f"… {count:,} {things}"


def _number(value: float) -> str:
    if value == 0 or 1e-4 <= abs(value) < 10:
        return f"{value:.6f}"
    return f"{value:.7g}" if 1 < abs(value) < 1e4 else f"{value:.2e}"


def _foot(explanation: Explanation) -> Iterator[Text]:
    if explanation.others:
        names = ", ".join(map(printable, explanation.others))
        yield Text("")
        yield Text(f"Other LSTM layers in the file (for --layer): {names}")
