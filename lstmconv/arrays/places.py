"""Say where a file stores an array or a number: the stored array's name and the index in it, ``kernel[3, 7]``."""

from __future__ import annotations

from collections.abc import Sequence

from lstmconv.layouts import by_name
from lstmconv.model import LSTMDirection

__all__ = ["place_in", "stored_name"]


def place_in(direction: LSTMDirection, array: str, gate: str, index: Sequence[int]) -> str:
    """Return where a direction's file stores a number.

    Args:
        direction: Read from a file, or made: then its own names are used.
        array: ``weight_ih``, ``weight_hh``, ``bias_ih`` or ``bias_hh``.
        gate: ``i``, ``f``, ``g`` or ``o``.
        index: In the gate's view.
    """
    if direction.layout is None or array not in direction.arrays:
        return f"{array}.{gate}[{', '.join(map(str, index))}]"
    row = by_name(direction.layout)
    return f"{row.stored_place(array, gate, index, direction.hidden_size, direction.input_size)} (gate {gate})"


def stored_name(direction: LSTMDirection, array: str) -> str:
    """Return a direction's array by its name in the file; two biases have one name together: ``bias_ih, bias_hh``.

    Args:
        direction: Read from a file, or made: then its own names are used.
        array: ``weight_ih``, ``weight_hh``, ``bias_ih`` or ``bias_hh``.
    """
    if direction.layout is None:
        return array
    matrix, recurrent, bias = by_name(direction.layout).arrays
    return {"weight_ih": matrix, "weight_hh": recurrent}.get(array, bias)
