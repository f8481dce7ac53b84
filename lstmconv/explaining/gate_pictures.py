"""The pictures of ``lstmconv explain``: each format's arrays as gate blocks, to scale, in panels beside each other.

A gate's units are as many lines high in every array, or twice as many characters wide: a character is about twice
as high as wide. What would be too small for its letter is widened, what would be too large is cut and says so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import groupby

from rich.cells import cell_len, chop_cells
from rich.text import Text

from lstmconv.explaining.canvas import Canvas, printable, rows_of
from lstmconv.explaining.explanation import ArrayBlocks, Explanation, FormatLayout, HalfLayout
from lstmconv.layouts import CUDNN_LSTM_LAYER
from lstmconv.model import sizes

__all__ = ["COLOURS", "FEW_COLOURS", "STYLES", "chip", "gate_blocks"]

STYLES = {gate: f"gate.{gate}" for gate in "ifgo"}
"""What a gate's style is called; the terminal's colours say what it looks like."""
# Okabe and Ito's colours (Color Universal Design, 2008), told apart with any colour vision.
COLOURS = {
    "gate.i": "bold #ffffff on #0072b2",
    "gate.f": "bold #000000 on #e69f00",
    "gate.g": "bold #000000 on #009e73",
    "gate.o": "bold #000000 on #cc79a7",
}
# Of the 16 that every terminal has; the nearest to those above would be one cyan for both i and g.
FEW_COLOURS = {
    "gate.i": "bold bright_white on blue",
    "gate.f": "bold black on yellow",
    "gate.g": "bold black on green",
    "gate.o": "bold black on magenta",
}
_LEGEND = {"i": "input", "f": "forget", "g": 'candidate (Keras: "c")', "o": "output"}
_LARGEST = {"rows": 28, "columns": 9}
"""Characters, or lines, of a drawn feature axis."""
_SMALLEST = 2
"""Likewise: a letter between two edges."""
_LAST = sys.maxsize


def chip(gate: str) -> Text:
    """Return a gate's letter in its colour."""
    return Text(f" {gate} ", STYLES[gate])


def gate_blocks(explanation: Explanation, width: int) -> Iterator[Text]:
    """Yield the legend, the scale, and all panels, none wider than ``width`` where it is 80 or more."""
    legend = Text("  ")
    for gate, meaning in _LEGEND.items():
        legend.append_text(chip(gate)).append(f" {meaning}   ")
    legend.rstrip()
    yield legend
    lines = _lines_per_gate(explanation, width)
    yield Text(f"  {' '.join(_scale(explanation, lines))}")
    cell = explanation.first.class_name == "nn.LSTMCell"
    panels = [panel for layout in explanation.layouts for panel in _panels(layout, lines, width, cell=cell)]
    panels.sort(key=lambda panel: panel[0])  # Layer by layer, then format by format; flat buffers last.
    yield from _flow([panel for _, panel in panels], width)


def _scale(explanation: Explanation, lines: int) -> Iterator[str]:
    """Say how the drawing measures."""
    every = {direction.hidden_size for layer in explanation.layers for direction in layer.directions}
    units = sizes(0, *every).partition(", ")[2] if len(every) == 1 else "units, however many,"
    yield f"To scale: a gate's {units} are {lines} lines or {2 * lines} characters; numbers on edges are indices."
    arrays = [array for layout in explanation.layouts for half in layout.halves for array in half.arrays]
    axes = [_axis(array, lines) for array in arrays if len(array.shape) == 2 and array.axis != "flat"]
    if any(exact > largest for exact, largest in axes):
        yield "An edge of ≀ is cut: the array goes on."
    if any(exact < _SMALLEST for exact, _ in axes) or any(array.axis == "flat" for array in arrays):
        yield "What is too small for its letter is drawn larger."
    if any(array.content == "zeros" for array in arrays):
        yield "i=0 is a block of zeros."


def _lines_per_gate(explanation: Explanation, width: int) -> int:
    """Choose the scale: larger on wide terminals, and at least as wide as the largest index."""
    largest = 4 * max(direction.hidden_size for layer in explanation.layers for direction in layer.directions)
    roomy = 3 if width >= 120 else 2
    return max(roomy, -(-(len(str(2 * largest)) + 1) // 2))


def _flow(panels: list[Canvas], width: int) -> Iterator[Text]:
    """Put panels beside each other where they fit, an empty line above each row."""
    row: list[Canvas] = []
    for panel in [*panels, None]:
        if row and (panel is None or sum(other.width + 3 for other in row) + panel.width > width):
            yield Text("")
            yield from rows_of(row, width, gap=3)
            row = []
        if panel is not None:
            row.append(panel)


def _panels(layout: FormatLayout, lines: int, width: int, *, cell: bool) -> Iterator[tuple[int, Canvas]]:
    """Draw a format: a panel for each layer, or for each half where the two differ; with where it comes in order."""
    if layout.obstacle is not None:
        yield _LAST, _panel(layout, f"✗ {layout.obstacle}", [], width)
        return
    many = len({half.layer for half in layout.halves}) > 1
    for number, (name, group) in enumerate(groupby(layout.halves, key=lambda half: half.layer)):
        halves = list(group)
        alike = layout.size is None and len({_signature(half) for half in halves}) == 1
        for half in halves[:1] if alike else halves:
            title = _subtitle(layout, half, halves if alike else [half], name if many else None, cell=cell)
            pictures = _pictures(layout, half, lines, width)
            yield number if layout.size is None else _LAST, _panel(layout, title, pictures, width)


def _panel(layout: FormatLayout, title: str, pictures: list[Canvas], width: int) -> Canvas:
    panel = Canvas()
    drawn = sum(picture.width + 1 for picture in pictures)
    top = _title(panel, layout.row.name, title, min(width, max(drawn, 40) if pictures else 76))
    _place(panel, pictures, top, width)
    return panel


def _signature(half: HalfLayout) -> object:
    return tuple(
        (array.role, array.shape, array.content, tuple((block.gate, block.start) for block in array.blocks))
        for array in half.arrays
    )


_CELL = ", in an nn.LSTMCell in nothing"


def _subtitle(
    layout: FormatLayout, half: HalfLayout, halves: list[HalfLayout], layer: str | None, *, cell: bool
) -> str:
    """Say whose arrays a panel shows, and how the gates lie in them."""
    parts = [f"gates {' '.join(layout.row.gates)}"]
    if layer is not None:
        parts.append(printable(layer))
    if layout.format == "torch":
        parts.append(f"names end in {' and '.join(map(_whose, halves))}{_CELL if cell else ''}")
    elif half.half or layout.size is not None:
        parts.append(" and ".join(map(_whose, halves)))
    if "=" in layout.row.arrays[2]:
        parts.append(layout.row.arrays[2])
    if layout.row is CUDNN_LSTM_LAYER:
        parts.append("each block of kernel is a (units, features) matrix, row by row")
    if layout.size is not None:
        parts.append(f"one flat buffer of {layout.size:,}")
    return "; ".join(parts)


def _whose(half: HalfLayout) -> str:
    """Name where a half is kept, and which it is where the place does not tell."""
    return half.place if half.half is None or half.place[0] in "_fb" else f"{half.place} {half.half}"


def _title(panel: Canvas, name: str, rest: str, width: int) -> int:
    """Write a panel's title, in as many lines as it takes; return the line below it."""
    panel.text(0, 0, name, "bold")
    x, y = len(name) + 2, 0
    for word in rest.split():
        for part in chop_cells(word, width - 2):
            if x > 2 and x + cell_len(part) > width:
                x, y = 2, y + 1
            panel.text(x, y, part)
            x += cell_len(part)
        x += 1
    return y + 1


def _place(panel: Canvas, pictures: list[Canvas], top: int, width: int) -> None:
    """Put pictures onto a panel, as many in a row as fit."""
    x, y, tallest = 0, top, 0
    for picture in pictures:
        if x and x + picture.width > width:
            x, y, tallest = 0, y + tallest, 0
        panel.paste(picture, x, y)
        x += picture.width + 1
        tallest = max(tallest, picture.height)


def _pictures(layout: FormatLayout, half: HalfLayout, lines: int, width: int) -> list[Canvas]:
    if layout.size is not None:
        return [_bar(array, half, width) for array in half.arrays]
    pictures: list[Canvas] = []
    starts: list[int] = []
    for array in half.arrays:
        name = array.name.removesuffix(half.place) if layout.format == "torch" else array.name
        if array.axis == "rows":
            own = [block.start for block in array.blocks]
            pictures.append(_rows(array, name, lines, numbered=own != starts))
            starts = own
        elif array.axis == "columns":
            pictures.append(_columns(array, name, lines))
        else:
            pictures.append(_apart(array, lines))
    return pictures


def _axis(array: ArrayBlocks, lines: int) -> tuple[int, int]:
    """Return how long a matrix's other axis is to scale, and how long it may be drawn."""
    hidden = array.blocks[0].stop - array.blocks[0].start
    if array.axis == "rows":
        return round(array.shape[1] * 2 * lines / hidden), _LARGEST["rows"]
    return round(array.shape[0] * lines / hidden), _LARGEST["columns"]


def _drawn(array: ArrayBlocks, lines: int) -> tuple[int, bool]:
    """Return how long a matrix's other axis is drawn, and whether it is cut."""
    exact, largest = _axis(array, lines)
    return max(_SMALLEST, min(exact, largest)), exact > largest


def _label(array: ArrayBlocks, gate: str) -> str:
    return f"{gate}=0" if array.content == "zeros" else gate


def _rows(array: ArrayBlocks, name: str, lines: int, *, numbered: bool) -> Canvas:
    """Draw an array whose gates lie along its rows: indices at the left, columns counted above."""
    canvas = Canvas()
    left = 1 + len(str(array.blocks[-1].stop)) if numbered else 0
    vector = len(array.shape) == 1
    wide, cut = (4 if array.content == "zeros" else 2, False) if vector else _drawn(array, lines)
    canvas.text(left, 0, name)
    if not vector:
        canvas.text(left, 1, "0")
        canvas.text(left + max(2, wide - len(str(array.shape[1])) + 1), 1, str(array.shape[1]))
    for number, block in enumerate(array.blocks):
        y = 2 + number * lines
        canvas.box(left, y, left + wide, y + lines, _label(array, block.gate), STYLES[block.gate])
        if numbered:
            canvas.text(left - 1 - len(str(block.start)), y, str(block.start))
    if numbered:
        end = str(array.blocks[-1].stop)
        canvas.text(left - 1 - len(end), 2 + 4 * lines, end)
    if cut:
        canvas.tear((left + wide, y) for y in range(2, 3 + 4 * lines))
    return canvas


def _columns(array: ArrayBlocks, name: str, lines: int) -> Canvas:
    """Draw an array whose gates lie along its columns: indices above, rows counted at the left."""
    canvas = Canvas()
    vector = len(array.shape) == 1
    high, cut = (2, False) if vector else _drawn(array, lines)
    left = 0 if vector else 1 + len(str(array.shape[0]))
    canvas.text(left, 0, name)
    for number, block in enumerate(array.blocks):
        x = left + number * 2 * lines
        canvas.text(x, 1, str(block.start))
        canvas.box(x, 2, x + 2 * lines, 2 + high, _label(array, block.gate), STYLES[block.gate])
    canvas.text(left + 8 * lines, 1, str(array.blocks[-1].stop))
    if not vector:
        canvas.text(left - 2, 2, "0")
        canvas.text(0, 2 + high, str(array.shape[0]))
    if cut:
        canvas.tear((x, 2 + high) for x in range(left, left + 8 * lines + 1))
    return canvas


def _apart(array: ArrayBlocks, lines: int) -> Canvas:
    """Draw four arrays, one a gate, each under its own name."""
    canvas = Canvas()
    vector = len(array.shape) == 1
    high, cut = (2, False) if vector else _drawn(array, lines)
    left = 0 if vector else 1 + len(str(array.shape[0]))
    for number, block in enumerate(array.blocks):
        x = left + number * (2 * lines + 2)
        canvas.text(x, 0, block.array)
        canvas.text(x, 1, "0")
        canvas.text(x + 2 * lines - len(str(block.stop)) + 1, 1, str(block.stop))
        canvas.box(x, 2, x + 2 * lines, 2 + high, _label(array, block.gate), STYLES[block.gate])
        if cut:
            canvas.tear((column, 2 + high) for column in range(x, x + 2 * lines + 1))
    if not vector:
        canvas.text(left - 2, 2, "0")
        canvas.text(0, 2 + high, str(array.shape[0]))
    return canvas


def _bar(array: ArrayBlocks, half: HalfLayout, width: int) -> Canvas:
    """Draw a stretch of the flat buffer: offsets above, each block with its linLayerID."""
    canvas = Canvas()
    matrices = [other.blocks[0].stop - other.blocks[0].start for other in half.arrays[:2]]
    scale = (min(width, 100) - 12) / (4 * sum(matrices))
    size = array.blocks[0].stop - array.blocks[0].start
    labels = [f"{_label(array, block.gate)} {block.lin_layer_id}" for block in array.blocks]
    smallest = max(len(str(array.blocks[-1].stop)) + 1, max(map(len, labels)) + 1)
    left = len(array.name) + 1
    room = (width - left - len(str(array.blocks[-1].stop))) // 4
    pitch = max(smallest, min(round(size * scale), room))
    canvas.text(0, 2, array.name)
    for number, (block, label) in enumerate(zip(array.blocks, labels, strict=True)):
        x = left + number * pitch
        canvas.text(x, 0, str(block.start))
        canvas.box(x, 1, x + pitch, 3, label, STYLES[block.gate])
    canvas.text(left + 4 * pitch, 0, str(array.blocks[-1].stop))
    return canvas
