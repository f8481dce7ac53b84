"""Show the explanation of a layer that is no LSTM on a terminal: its arrays as boxes, in each format."""

from __future__ import annotations

import os
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from lstmconv.escaping import printable
from lstmconv.explaining.console_boxes import Picture, grid, rows, ruled
from lstmconv.explaining.plain_layers import ArrayInFormats, Axis, PlainExplanation, StoredArray
from lstmconv.listing import counted

__all__ = ["show_plain"]

_WIDEST, _HIGHEST = 24, 8
"""Characters and lines of the longest side of an array, in every format."""


def show_plain(explained: PlainExplanation) -> None:
    """Print an explanation on stdout."""
    console = Console(highlight=False, color_system=None if os.environ.get("NO_COLOR") else "auto")
    for line in _page(explained, max(console.width, 40)):
        line.rstrip()
        console.print(line, soft_wrap=True)


def _page(explained: PlainExplanation, width: int) -> Iterator[Text]:
    parameters = counted(explained.parameters, "parameter")
    head = Text(printable(explained.name), "bold")
    yield head.append(f"  {printable(explained.kind)}, {parameters}", "not bold")
    yield Text(f"{printable(explained.source)}: {explained.file_format}")
    if explained.reason is not None:
        yield Text(f"  ✗ lstmconv does not compute it: {printable(explained.reason)}")
    elif not explained.arrays:
        yield Text("  It stores no arrays.")
    drawn = [array for array in explained.arrays if len(array.stored[0].axes) > 1]
    if drawn:
        gates = any(array.stored[0].gates for array in drawn)
        legend = "Gates are named." if gates else "▒ marks the same numbers in every drawing of an array."
        yield Text(f"  Drawn to scale. {legend}")
    for array in explained.arrays:
        yield Text("")
        yield _sentence(array)
        if array in drawn:
            for row in rows([_picture(array.stored[0], stored) for stored in array.stored], width, 4):
                yield from row
    if explained.others:
        yield Text("")
        yield Text(f"Other layers: {printable(', '.join(explained.others))}")


def _sentence(array: ArrayInFormats) -> Text:
    line = Text(f"  {array.array}", "bold")
    if any(stored.moved for stored in array.stored):
        return line.append(f"  {'; '.join(f'{stored.title}: {_axes(stored)}' for stored in array.stored)}", "not bold")
    shape = " × ".join(f"{axis.name} {axis.size}" for axis in array.stored[0].axes)
    names = ", ".join(f"{stored.title} {stored.name}" for stored in array.stored)
    return line.append(f"  {shape}, in the same order everywhere: {names}", "not bold")


def _axes(stored: StoredArray) -> str:
    gates = f", gates {' '.join(stored.gates)}" if stored.gates else ""
    return " × ".join(axis.name for axis in stored.axes) + gates


def _picture(first: StoredArray, stored: StoredArray) -> Picture:
    """Draw the last two axes as a box, and write the others below it. Each gate is a box of its own."""
    *leading, upright, across = stored.axes if len(stored.axes) > 1 else (Axis("", 1), *stored.axes)
    longest = max(axis.size for axis in stored.axes)
    wide = max(4, round(_WIDEST * across.size / longest))
    high = max(2, round(_HIGHEST * upright.size / longest))
    if stored.gates:
        cells = [(gate, "") for gate in stored.gates]
        row = across.name.startswith("gate")
        count = len(cells)
        body = (
            grid([cells], max(4, wide // count), high, None)
            if row
            else grid([[cell] for cell in cells], wide, max(2, high // count), None)
        )
    else:
        body = _marked(first, upright, across, wide, high)
    names = [(0, f"{stored.title}  {stored.name}")]
    above = [(0, f"{across.name} {across.size}")]
    label = f"{upright.name} {upright.size}" if upright.name else ""
    picture = ruled(names, above, [(len(body) // 2, label)] if label else [], body)
    if leading:
        each = " and ".join(f"{axis.name} of {axis.size}" for axis in leading)
        picture.append(Text(f"one of these for each {each}"))
    return picture


def _marked(first: StoredArray, upright: Axis, across: Axis, wide: int, high: int) -> Picture:
    """Draw a box, with the first index marked along the axis that is upright in the first format."""
    body = grid([[("", "")]], wide, high, None)
    mark = first.axes[-2].name if len(first.axes) > 1 else ""
    for number in range(1, len(body) - 1):
        if upright.name == mark and number == 1:
            body[number] = Text(f"│{'▒' * (wide - 1)}│")
        elif across.name == mark:
            body[number] = Text(f"│▒{' ' * (wide - 2)}│")
    return body
