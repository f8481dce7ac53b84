"""Text from a file, so that a terminal or a notebook shows it and does not obey it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["html_table", "printable"]


def printable(text: str) -> str:
    r"""Escape what a terminal takes for a command: the text may come from a file.

    >>> printable("\x1b[31mlstm")
    '\\x1b[31mlstm'
    """
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def html_table(caption: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a small HTML table, as notebooks show it; every text is escaped.

    >>> html_table("m.h5", ["layer"], [["<b>"]])
    '<table><caption>m.h5</caption><tr><th>layer</th></tr><tr><td>&lt;b&gt;</td></tr></table>'
    """
    from html import escape

    def row(cells: Iterable[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(printable(str(cell)))}</{tag}>" for cell in cells) + "</tr>"

    body = row(head, "th") + "".join(row(cells, "td") for cells in rows)
    return f"<table><caption>{escape(printable(caption))}</caption>{body}</table>"
