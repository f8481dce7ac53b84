"""Draw boxes with characters: grids, indices along their edges, pictures beside each other.

A picture is a list of lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

from rich.text import Text

__all__ = ["Marks", "Picture", "beside", "grid", "rows", "ruled", "width_of"]

Picture: TypeAlias = list[Text]
Marks: TypeAlias = Sequence[tuple[int, str]]
"""Texts, each with its distance from the picture's left or upper edge."""


def grid(
    cells: Sequence[Sequence[tuple[str, str]]], width: int, height: int, torn: Literal["right", "bottom"] | None
) -> Picture:
    """Draw boxes of one size in rows and columns, each with a label and a style.

    Args:
        cells: Row by row.
        width: Characters from edge to edge.
        height: Lines from edge to edge.
        torn: The edge where the array goes on.
    """
    sides = ["─" * (width - 1)] * len(cells[0])
    joints = [("┌", "┬", "┐"), *[("├", "┼", "┤")] * (len(cells) - 1), ("└", "┴", "┘")]
    edges = [Text(f"{left}{joint.join(sides)}{right}") for left, joint, right in joints]
    lines = edges[:1]
    for row, edge in zip(cells, edges[1:], strict=True):
        for y in range(1, height):
            line = Text("│")
            for label, style in row:
                line.append(_centred(label if y == height // 2 else "", width - 1), style).append("│")
            lines.append(line)
        lines.append(edge)
    if torn == "bottom":
        lines[-1] = Text("≀" * len(lines[-1]))
    return [line[:-1].append("≀") for line in lines] if torn == "right" else lines


def _centred(label: str, width: int) -> str:
    return (" " * ((width - len(label)) // 2) + label)[:width].ljust(width)


def ruled(names: Marks, above: Marks, at_left: Marks, body: Picture) -> Picture:
    """Put names and indices above a body, and indices at its left."""
    margin = max((len(text) + 1 for _, text in at_left), default=0)
    left = dict(at_left)
    heads = [_marked(marks, margin) for marks in ([names, above] if names else [above])]
    indices = [left.get(y, "").rjust(margin - 1).ljust(margin) for y in range(len(body))]
    return heads + [Text(index).append_text(line) for index, line in zip(indices, body, strict=True)]


def _marked(marks: Marks, margin: int) -> Text:
    line = ""
    for x, text in marks:
        line = line[: margin + x].ljust(margin + x) + text
    return Text(line)


def width_of(picture: Picture) -> int:
    """Return the characters of its longest line."""
    return max(line.cell_len for line in picture)


def rows(pictures: Sequence[Picture], width: int, gap: int) -> Iterator[Picture]:
    """Yield pictures beside each other, as many in a row as fit into ``width`` characters."""
    row: list[Picture] = []
    for picture in pictures:
        if row and sum(width_of(other) + gap for other in row) + width_of(picture) > width:
            yield beside(row, gap)
            row = []
        row.append(picture)
    yield beside(row, gap)


def beside(pictures: Sequence[Picture], gap: int) -> Picture:
    """Put pictures beside each other."""
    lines = []
    for y in range(max(map(len, pictures))):
        line = Text()
        for picture in pictures:
            part = picture[y] if y < len(picture) else Text("")
            line.append_text(part).append(" " * (width_of(picture) - part.cell_len + gap))
        line.rstrip()
        lines.append(line)
    return lines
