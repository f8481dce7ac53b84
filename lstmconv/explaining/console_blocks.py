"""Paint the panels of :mod:`lstmconv.explaining.panels` with characters.

A gate's units are as many lines high in every array, or twice as many characters wide: a
character is about twice as high as wide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from rich.cells import cell_len, chop_cells
from rich.text import Text

from lstmconv.escaping import printable
from lstmconv.explaining.console_boxes import Picture, beside, grid, rows, ruled, width_of
from lstmconv.explaining.explanation import Explanation
from lstmconv.explaining.gates import GATE_COLOURS, GATE_TITLES
from lstmconv.explaining.panels import DrawnArray, Panel, Scale, Side, panels
from lstmconv.listing import counted

__all__ = ["COLOURS", "FEW_COLOURS", "STYLES", "chip", "gate_blocks"]

STYLES = {gate: f"gate.{gate}" for gate in GATE_COLOURS}
"""The names of the gates' styles. The theme gives each its colours."""
COLOURS = {STYLES[gate]: f"bold {colours.text} on {colours.fill}" for gate, colours in GATE_COLOURS.items()}
FEW_COLOURS = {STYLES[gate]: f"bold {colours.few}" for gate, colours in GATE_COLOURS.items()}

_SHORTEST = 2
"""Characters, or lines: a letter between two edges."""
_WIDEST, _HIGHEST = 28, 9
_BUFFER_WIDTH = 100
"""Characters across which both matrices of a flat buffer lie, on wide terminals too."""


def chip(gate: str) -> Text:
    """Return a gate's letter in its colour."""
    return Text(f" {gate} ", STYLES[gate])


def gate_blocks(explanation: Explanation, width: int) -> Iterator[Text]:
    """Yield the legend, the scale, and all panels, none wider than ``width`` where it is 80 or more."""
    legend = Text("  ")
    for gate, meaning in GATE_TITLES.items():
        legend.append_text(chip(gate)).append(f" {meaning}   ")
    legend.rstrip()
    yield legend
    lines = _lines_per_gate(explanation, width)
    scale = Scale(Side(2 * lines, _SHORTEST, _WIDEST), Side(lines, _SHORTEST, _HIGHEST))
    drawn = panels(explanation.stack, explanation.layouts, scale)
    yield Text(f"  {' '.join(_sentences(explanation, drawn, lines))}")
    # Layer by layer, then format by format; then what has no layer of its own.
    drawn.sort(key=lambda panel: (not panel.arrays or panel.layout.size is not None, panel.layer))
    for row in rows([_panel(panel, lines, width) for panel in drawn], width, gap=3):
        yield Text("")
        yield from row


def _sentences(explanation: Explanation, drawn: Sequence[Panel], lines: int) -> Iterator[str]:
    """Say how the drawing measures."""
    every = {direction.hidden_size for layer in explanation.layers for direction in layer.directions}
    units = counted(every.pop(), "unit") if len(every) == 1 else "units, however many,"
    yield f"Drawn to scale: a gate's {units} are {lines} lines or {2 * lines} characters."
    yield "Numbers along edges are indices."
    arrays = [array for panel in drawn for array in panel.arrays]
    if any(array.fit == "cut" for array in arrays):
        yield "≀ marks a cut edge: the array continues."
    if any(array.fit == "widened" or array.array.axis == "flat" for array in arrays):
        yield "A block too small for its letter is wider than to scale."
    if any(array.array.content == "zeros" for array in arrays):
        yield "i=0 is a block of zeros."


def _lines_per_gate(explanation: Explanation, width: int) -> int:
    """Choose the scale: larger on wide terminals, and at least as wide as the largest index."""
    largest = 4 * max(direction.hidden_size for layer in explanation.layers for direction in layer.directions)
    roomy = 3 if width >= 120 else 2
    return max(roomy, -(-(len(str(2 * largest)) + 1) // 2))


def _panel(panel: Panel, lines: int, width: int) -> Picture:
    layout = panel.layout
    if layout.obstacle is not None:
        return _title(layout.row.name, f"✗ {layout.obstacle}", min(width, 76))
    if layout.size is not None:
        pictures = [_flat(drawn, panel.arrays, width) for drawn in panel.arrays]
    else:
        numbers = [[block.start for block in drawn.array.blocks] for drawn in panel.arrays]
        pictures = [
            _picture(drawn, lines, numbered=numbers[k] != numbers[k - 1] or k == 0)
            for k, drawn in enumerate(panel.arrays)
        ]
    facts = "; ".join([f"gates {' '.join(layout.row.gates)}", *map(printable, panel.facts)])
    title = _title(layout.row.name, facts, min(width, max(40, sum(width_of(picture) + 1 for picture in pictures))))
    return title + [line for row in rows(pictures, width, gap=1) for line in row]


def _title(name: str, rest: str, width: int) -> Picture:
    """Write a panel's title, in as many lines as it takes."""
    title = [Text().append(name, "bold").append(" ")]
    for word in rest.split():
        for number, part in enumerate(chop_cells(word, width - 2)):
            if title[-1].cell_len + 1 + cell_len(part) > width and title[-1].cell_len > 1:
                title.append(Text(" "))
            title[-1].append(f" {part}" if number == 0 or title[-1].plain == " " else part)
    return title


def _picture(drawn: DrawnArray, lines: int, *, numbered: bool) -> Picture:
    """Draw an array, or the four that hold a gate each, with its indices along both edges."""
    array = drawn.array
    ends = [*(block.start for block in array.blocks), array.blocks[-1].stop]
    length, across = drawn.length, 2 * lines
    cells = [(drawn.label(block), STYLES[block.gate]) for block in array.blocks]
    if array.axis == "rows":
        length = max(length, max(len(label) for label, _ in cells) + 1)
        end = str(array.shape[-1])
        above = [] if len(array.shape) == 1 else [(0, "0"), (max(2, length - len(end) + 1), end)]
        body = grid([[cell] for cell in cells], length, lines, "right" if drawn.fit == "cut" else None)
        down = [(k * lines, str(end)) for k, end in enumerate(ends)] if numbered else []
        return ruled([(0, drawn.name)], above, down, body)
    torn: Literal["bottom"] | None = "bottom" if drawn.fit == "cut" else None
    down = [] if len(array.shape) == 1 else [(0, "0"), (length, str(array.shape[0]))]
    if array.axis == "columns":
        above = [(k * across, str(end)) for k, end in enumerate(ends)]
        return ruled([(0, drawn.name)], above, down, grid([cells], across, length, torn))
    boxes = []
    for number, (block, cell) in enumerate(zip(array.blocks, cells, strict=True)):
        above = [(0, "0"), (across - len(str(block.stop)) + 1, str(block.stop))]
        box = grid([[cell]], across, length, torn)
        boxes.append(ruled([(0, block.array)], above, [] if number else down, box))
    return beside(boxes, 1)


def _flat(drawn: DrawnArray, half: Sequence[DrawnArray], width: int) -> Picture:
    """Draw a stretch of the flat buffer: offsets above, each block with its linLayerID."""
    array = drawn.array
    end = str(array.blocks[-1].stop)
    cells = [(f"{drawn.label(block)} {block.lin_layer_id}", STYLES[block.gate]) for block in array.blocks]
    matrices = half[0].share + half[1].share
    exact = round((min(width, _BUFFER_WIDTH) - 12) * drawn.share / matrices / 4)
    room = (width - len(drawn.name) - 1 - len(end)) // 4
    across = max(len(end) + 1, *(len(label) + 1 for label, _ in cells), min(exact, room))
    above = [*((k * across, str(block.start)) for k, block in enumerate(array.blocks)), (4 * across, end)]
    return ruled([], above, [(1, drawn.name)], grid([cells], across, 2, None))
