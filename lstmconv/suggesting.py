"""The name that somebody meant: by what others call it, or by its spelling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["suggestion"]

_OTHER_NAMES = {
    "fp16": "float16",
    "half": "float16",
    "bf16": "bfloat16",
    "fp32": "float32",
    "float": "float32",
    "single": "float32",
    "fp64": "float64",
    "double": "float64",
    "hardsigmoid": "hard_sigmoid",
    "logistic": "sigmoid",
}
"""What other programs call a dtype or an activation."""


def suggestion(word: str, known: Iterable[str], others: Mapping[str, str] | None = None) -> str:
    """Return the end of a message about an unknown name, or nothing.

    Args:
        word: What somebody wrote.
        known: The names there are.
        others: More words, in small letters, with the name that each means.

    >>> suggestion("fp16", ["float16", "float32"])
    '; did you mean float16?'
    >>> suggestion("sigmod", ["sigmoid", "tanh"])
    '; did you mean sigmoid?'
    >>> suggestion("gru", ["onnx", "torch"])
    ''
    """
    names = list(known)
    other = {**_OTHER_NAMES, **(others or {})}.get(word.lower())
    if other in names:
        return f"; did you mean {other}?"
    from difflib import get_close_matches

    close = get_close_matches(word.lower(), names, n=1, cutoff=0.7)
    return f"; did you mean {close[0]}?" if close else ""
