"""Text from a file, so that a terminal shows it and does not obey it."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    r"""Escape what a terminal takes for a command: the text may come from a file.

    >>> printable("\x1b[31mlstm")
    '\\x1b[31mlstm'
    """
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
