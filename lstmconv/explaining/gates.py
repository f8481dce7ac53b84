"""Name and colour of each gate, the same in every command's output and on the report's page."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["GATE_COLOURS", "GATE_NAMES", "Colours"]

GATE_NAMES = {"i": "input", "f": "forget", "g": 'candidate (Keras: "c")', "o": "output"}


class Colours(NamedTuple):
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
    "i": Colours("#ffffff", "#0072b2", "bright_white on blue"),
    "f": Colours("#000000", "#e69f00", "black on yellow"),
    "g": Colours("#000000", "#009e73", "black on green"),
    "o": Colours("#000000", "#cc79a7", "black on magenta"),
}
"""Okabe and Ito's colours (Color Universal Design, 2008), which any colour vision can tell apart.

The nearest of the 16 colours that every terminal has would be one cyan for both i and g, so ``few`` is chosen by hand.
"""
