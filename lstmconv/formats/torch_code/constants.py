"""Write arrays of the config as buffers of the model that are not in the state dict."""

from __future__ import annotations

import math
import textwrap
from typing import Any

from lstmconv.formats.torch_code.lines import WIDTH, literal
from lstmconv.model import Array

__all__ = ["constant", "number", "numbers_text"]

_FEW = 6
"""The most numbers that are written as a list. More numbers are written as a text, because formatters put each number
of a long list on its own line."""
_EXACT = 1 << 53
"""Floats are exact only up to this integer."""


def constant(name: str, array: Array, wide: str) -> str:
    """Return the statement that creates a buffer.

    Args:
        name: The attribute.
        array: Its numbers.
        wide: The method for the model's float type: ``float``, ``double``.
    """
    own = f"torch.{array.dtype.name}"
    if _floating(array):
        own = f"torch.float{64 if wide == 'double' else 32}"
    if numbers_text(name, array) is not None:
        made = f"numbers({_text_name(name)}, {literal(array.shape)}, {own})"
    else:
        made = f"torch.tensor({literal(_nested(array))}, dtype={own})"
    return f'self.register_buffer("{name}", {made}, persistent=False)'


def number(array: Array) -> str:
    """Return a single number as the shortest literal that has the same value in the array's dtype."""
    value = array.item() if array.dtype.kind in "biu" else float(array)
    if isinstance(value, float) and math.isfinite(value) and array.dtype.type(short := float(f"{value:.9g}")) == array:
        return literal(short)
    return literal(value)


def numbers_text(name: str, array: Array) -> str | None:
    """Return the statement that contains many numbers as a text; ``None`` if a list is enough."""
    values = _values(array)
    if 0 < len(values) <= _FEW or not array.ndim or (not _floating(array) and max(map(abs, values)) > _EXACT):
        return None
    lines = textwrap.wrap(" ".join(repr(value) for value in values), WIDTH)
    return "\n".join([f'{_text_name(name)} = """', *lines, '"""'])


def _text_name(name: str) -> str:
    return f"NUMBERS_OF_{name.upper()}"


def _floating(array: Array) -> bool:
    return array.dtype.kind not in "biu"


def _nested(array: Array) -> Any:
    """Return the numbers in nested lists."""
    return (array.astype("float64") if _floating(array) else array).tolist()


def _values(array: Array) -> list[float]:
    """Return the numbers; booleans become 0 and 1."""
    flat = array.ravel()
    return [float(x) for x in flat] if _floating(array) else [int(x) for x in flat]
