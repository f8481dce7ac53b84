"""A grid of characters with boxes on it whose edges join, and pictures that stand beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

from rich.cells import cell_len
from rich.text import Text

__all__ = ["Canvas", "encodable", "printable", "rows_of"]

_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_JOINTS = {
    _UP | _DOWN: "│",
    _LEFT | _RIGHT: "─",
    _DOWN | _RIGHT: "┌",
    _DOWN | _LEFT: "┐",
    _UP | _RIGHT: "└",
    _UP | _LEFT: "┘",
    _UP | _DOWN | _RIGHT: "├",
    _UP | _DOWN | _LEFT: "┤",
    _LEFT | _RIGHT | _DOWN: "┬",
    _LEFT | _RIGHT | _UP: "┴",
    _UP | _DOWN | _LEFT | _RIGHT: "┼",
}
_ASCII = str.maketrans(
    {"│": "|", "─": "-", "·": "*", "…": "~", "✗": "x", "–": "-", "≀": "~", "→": ">", "×": "x"}
    | dict.fromkeys("┌┐└┘├┤┬┴┼", "+")
)


@dataclass
class Canvas:
    """A picture in the making: ``x`` counts characters to the right, ``y`` lines downwards."""

    _cells: dict[tuple[int, int], tuple[str, str]] = field(default_factory=dict)
    _edges: dict[tuple[int, int], int] = field(default_factory=dict)

    def text(self, x: int, y: int, text: str, style: str = "") -> None:
        """Write one line; a wide character takes two cells, the second of them empty, a combining one none."""
        for character in text:
            cells = cell_len(character)
            if cells == 0:
                before, own = self._cells.get((x - 1, y), (" ", style))
                self._cells[x - 1, y] = (before + character, own)
            for k in range(cells):
                self._cells[x + k, y] = ("" if k else character, style)
            x += cells

    def box(self, x: int, y: int, right: int, bottom: int, label: str, style: str) -> None:
        """Draw a box whose edges lie on the given columns and lines, filled, with a label in its middle."""
        for column in range(x, right + 1):
            for line in (y, bottom):
                self._edges[column, line] = (
                    self._edges.get((column, line), 0)
                    | (_LEFT if column > x else 0)
                    | (_RIGHT if column < right else 0)
                )
        for line in range(y, bottom + 1):
            for column in (x, right):
                self._edges[column, line] = (
                    self._edges.get((column, line), 0) | (_UP if line > y else 0) | (_DOWN if line < bottom else 0)
                )
        for line in range(y + 1, bottom):
            self.text(x + 1, line, " " * (right - x - 1), style)
        middle = x + 1 + max(0, (right - x - 1 - len(label)) // 2)
        self.text(middle, (y + bottom) // 2, label[: right - x - 1], style)

    def paste(self, other: Canvas, x: int, y: int) -> None:
        """Put another picture onto this one."""
        self._cells |= {(x + column, y + line): cell for (column, line), cell in other._cells.items()}
        self._edges |= {(x + column, y + line): edge for (column, line), edge in other._edges.items()}

    def tear(self, places: Iterable[tuple[int, int]]) -> None:
        """Mark places as torn: the picture is cut there."""
        for place in places:
            self._edges.pop(place, None)
            self._cells[place] = ("≀", "")

    @property
    def width(self) -> int:
        """Characters."""
        return max((x for x, _ in (*self._cells, *self._edges)), default=-1) + 1

    @property
    def height(self) -> int:
        """Lines."""
        return max((y for _, y in (*self._cells, *self._edges)), default=-1) + 1

    def lines(self, width: int) -> Iterator[Text]:
        """Yield the lines, padded to ``width``."""
        drawn = self._cells | {place: (_JOINTS[edges], "") for place, edges in self._edges.items()}
        for y in range(self.height):
            line = Text()
            cells = [drawn.get((x, y), (" ", "")) for x in range(width)]
            for style, run in groupby(cells, key=itemgetter(1)):
                line.append("".join(character for character, _ in run), style or None)
            yield line


def rows_of(pictures: Iterable[Canvas], width: int, gap: int = 2) -> Iterator[Text]:
    """Yield pictures side by side, as many in a row as fit into ``width`` characters."""
    row: list[Canvas] = []
    for picture in pictures:
        if row and sum(other.width + gap for other in row) + picture.width > width:
            yield from _beside(row, gap)
            row = []
        row.append(picture)
    yield from _beside(row, gap)


def _beside(row: list[Canvas], gap: int) -> Iterator[Text]:
    for y in range(max((picture.height for picture in row), default=0)):
        line = Text()
        for picture in row:
            lines = list(picture.lines(picture.width))
            line.append_text(lines[y] if y < len(lines) else Text(" " * picture.width))
            line.append(" " * gap)
        line.rstrip()
        yield line


def printable(name: str) -> str:
    r"""Return a name of the file's without what would steer the terminal.

    >>> printable("lstm\x1b[31m")
    'lstm\\x1b[31m'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def encodable(line: Text, encoding: str) -> Text:
    """Return a line as a stream's encoding can carry it: ASCII for boxes where it has none, ``?`` for names."""
    try:
        line.plain.encode(encoding)
    except UnicodeEncodeError:
        plain = line.plain.translate(_ASCII).encode(encoding, "replace").decode(encoding)
        return Text(plain, spans=list(line.spans))
    return line
