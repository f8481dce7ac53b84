"""Name and colour of each gate, the same in every command's output and on the report's page."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["GATE_COLOURS", "GATE_NAMES", "GATE_TITLES"]

GATE_NAMES = {"i": "input", "f": "forget", "g": "candidate", "o": "output"}
GATE_TITLES = GATE_NAMES | {"g": 'candidate (Keras: "c")'}
"""The names with what Keras calls a gate, where that is another letter."""


class _Colours(NamedTuple):
    """A gate's colours.

    Attributes:
        text: The letter's.
        fill: The block's.
        few: Both for a terminal of 16 colours, in rich's words.
    """

    text: str
    fill: str
    few: str


GATE_COLOURS = {
    "i": _Colours("#ffffff", "#0072b2", "bright_white on blue"),
    "f": _Colours("#000000", "#e69f00", "black on yellow"),
    "g": _Colours("#000000", "#009e73", "black on green"),
    "o": _Colours("#000000", "#cc79a7", "black on magenta"),
}
"""Okabe and Ito's colours (Color Universal Design, 2008), which any colour vision can tell apart.

The nearest of the 16 colours that every terminal has would be one cyan for both i and g, so ``few`` is chosen by hand.
"""
