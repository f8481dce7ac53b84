"""Write literals and statements: no text from a file becomes code, and no line is too long.

A statement longer than a formatter allows is split at its outermost bracket, with one entry per line and a comma after
the last one; formatters leave this form unchanged.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping, Sequence

__all__ = ["WIDTH", "comment", "literal", "statement"]

WIDTH = 88
"""The most characters of a line: the default of Black and Ruff."""


def literal(value: object) -> str:
    r"""Return a number, text, tuple, list or mapping as the Python expression for it, in ASCII.

    >>> literal(('"', 0.5, float("inf"), None))
    '(\'"\', 0.5, math.inf, None)'
    """
    if isinstance(value, float) and not math.isfinite(value):
        return "math.nan" if math.isnan(value) else "math.inf" if value > 0 else "-math.inf"
    if isinstance(value, str):
        shown = ascii(value)
        # A formatter prefers double quotes if they need no more backslashes.
        return f'"{shown[1:-1]}"' if shown[0] == "'" and '"' not in shown and "\\'" not in shown else shown
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(key)}: {literal(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(literal, value)) + (",)" if len(value) == 1 else ")")
    return repr(value)


def comment(text: str, indent: int) -> str | None:
    """Return a text of a file as a comment; ``None`` if it does not fit in a line after ``indent`` characters."""
    shown = "# " + ascii(text)[1:-1]
    return shown if indent + len(shown) <= WIDTH else None


def statement(text: str, indent: int) -> list[str]:
    """Return one statement, given as a line, as lines that are short enough.

    Args:
        text: An assignment, an expression or a return, formatted except for its length.
        indent: Spaces in front.
    """
    lines = [text]
    if indent + len(text) > WIDTH:
        (node,) = ast.parse(f"async def f():\n {text}").body[0].body  # type: ignore[attr-defined]
        value = node.value
        start, end = value.col_offset - 1, value.end_col_offset - 1
        lines = list(_split(value, text, text[:start], text[end:], WIDTH - indent))
    return [" " * indent + line for line in lines]


def _split(node: ast.expr, text: str, before: str, after: str, width: int) -> Iterator[str]:
    """Split one expression of a line.

    Args:
        node: The expression.
        text: The line that contains the expression; the node's columns are one larger.
        before, after: The text around the expression.
        width: The most characters of a line.
    """
    entries = _entries(node, text)
    own = _source(node, text)
    if len(before + own + after) <= width or not entries:
        yield before + own + after
        return
    if isinstance(node, ast.Call):
        opening, closing = f"{_source(node.func, text)}(", ")"
    elif own[0] in "([{":
        opening, closing = own[0], own[-1]
    else:  # A tuple without brackets after return.
        opening, closing = "(", ")"
    yield before + opening
    for name, entry in entries:
        for line in _split(entry, text, name, ",", width - 4):
            yield f"    {line}"
    yield closing + after


def _entries(node: ast.expr, text: str) -> Sequence[tuple[str, ast.expr]]:
    """Return the entries in an expression's brackets, each with its prefix such as ``name=``."""
    if isinstance(node, ast.Call):
        named = [("**" if word.arg is None else f"{word.arg}=", word.value) for word in node.keywords]
        return [("", argument) for argument in node.args] + named
    if isinstance(node, ast.Tuple | ast.List):
        return [("", element) for element in node.elts]
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return [(f"{_source(key, text)}: ", value) for key, value in pairs if key is not None]
    return []


def _source(node: ast.expr, text: str) -> str:
    assert node.end_col_offset is not None
    return text[node.col_offset - 1 : node.end_col_offset - 1]
