"""Output on streams whose encoding lacks a character: Windows pipes are cp1252, and know neither ✓ nor →."""

from __future__ import annotations

import codecs
import io
import sys

__all__ = ["let_output_fall_back"]

_FALLBACK = "lstmconv.fallback"
_ASCII = str.maketrans(
    {"│": "|", "─": "-", "·": "*", "…": "~", "✓": "+", "✗": "x", "–": "-", "−": "-", "≀": "~", "→": ">", "×": "x"}
    | dict.fromkeys("┌┐└┘├┤┬┴┼", "+")
)


def let_output_fall_back() -> None:
    """Let stdout and stderr print ASCII for signs that their encoding lacks, and ``?`` for letters of names.

    A character stays one character, so that columns stay aligned. Streams in UTF-8 stay as they are.
    """
    codecs.register_error(_FALLBACK, _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name != "utf-8":
            stream.reconfigure(errors=_FALLBACK)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    plain = error.object[error.start : error.end].translate(_ASCII)
    return "".join(each if each.isascii() else "?" for each in plain), error.end
