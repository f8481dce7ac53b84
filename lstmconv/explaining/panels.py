"""Panels of a stack's arrays for any medium: which there are, how long each array is drawn, what each title says.

:mod:`lstmconv.explaining.blocks` says where the gates lie. A painter chooses a scale and puts the panels on its
medium: :mod:`lstmconv.explaining.console_blocks` on a terminal, ``page.html`` of :mod:`lstmconv.reporting` on a page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, NamedTuple

from lstmconv.explaining.blocks import ArrayBlocks, Block, FormatLayout, HalfLayout
from lstmconv.model import Stack

__all__ = ["DrawnArray", "Panel", "Scale", "Side", "panels"]


class Side(NamedTuple):
    """How a medium measures the axis of an array along which no gates lie.

    Attributes:
        gate: Length of a gate's units, were they on this axis: what makes the drawing true to scale.
        shortest: A shorter array is widened to it.
        longest: A longer array is cut to it.
    """

    gate: int
    shortest: int
    longest: int


class Scale(NamedTuple):
    """A medium's two sides.

    Attributes:
        across: The side of an array whose gates lie below each other.
        down: The side of an array whose gates lie beside each other.
    """

    across: Side
    down: Side


@dataclass(frozen=True)
class DrawnArray:
    """One array as it is drawn.

    Attributes:
        array: Its blocks. ``rows`` lie below each other; ``columns``, ``apart`` and ``flat`` beside each other.
        name: The array's name without the ending that the panel's title gives.
        length: Length of the axis along which no gates lie, in the medium's unit; of a bias the shortest.
        fit: Whether that length is true to scale.
        share: Elements of the array in a flat buffer, relative to the longest array of its direction.
    """

    array: ArrayBlocks
    name: str
    length: int
    fit: Literal["to scale", "widened", "cut"]
    share: float

    def label(self, block: Block) -> str:
        """Return what stands on a block: the gate's letter, and whether it holds zeros."""
        return f"{block.gate}=0" if self.array.content == "zeros" else block.gate


@dataclass(frozen=True)
class Panel:
    """One direction in one format, or both directions of a layer where they look the same.

    Attributes:
        layout: The format.
        layer: Number of the layer in its stack, from 0.
        facts: The layer or direction that the arrays belong to, and what the format's names leave out.
        arrays: Empty where the format cannot hold the layers.
    """

    layout: FormatLayout
    layer: int
    facts: tuple[str, ...]
    arrays: tuple[DrawnArray, ...]


def panels(stack: Stack, layouts: Sequence[FormatLayout], scale: Scale) -> list[Panel]:
    """Return what to draw, format by format, layer by layer.

    Args:
        stack: The layers.
        layouts: All or some of the layers in each format.
        scale: The medium's.
    """
    return [panel for layout in layouts for panel in _panels(stack, layout, scale)]


def _panels(stack: Stack, layout: FormatLayout, scale: Scale) -> Iterator[Panel]:
    if layout.obstacle is not None:
        yield Panel(layout, 0, (), ())
        return
    groups = [list(group) for _, group in groupby(layout.halves, key=lambda half: half.layer)]
    for number, halves in enumerate(groups):
        alike = layout.size is None and len({_appearance(half) for half in halves}) == 1
        for shown in [halves] if alike else [[half] for half in halves]:
            facts = tuple(_facts(stack, layout, shown, several=len(groups) > 1))
            yield Panel(layout, number, facts, tuple(_arrays(layout, shown[0], scale)))


def _appearance(half: HalfLayout) -> object:
    return tuple(
        (array.role, array.shape, array.content, tuple((block.gate, block.start) for block in array.blocks))
        for array in half.arrays
    )


def _facts(stack: Stack, layout: FormatLayout, halves: Sequence[HalfLayout], *, several: bool) -> Iterator[str]:
    distinct = layout.row.directions in ("names", "groups")  # Each direction has a place of its own name.
    places = " and ".join(
        half.place if distinct or half.half is None else f"{half.place} {half.half}" for half in halves
    )
    if several:
        yield halves[0].layer
    if layout.row.directions == "names":
        cell = " (in an nn.LSTMCell, in nothing)" if stack.first.class_name == "nn.LSTMCell" else ""
        yield f"names end in {places}{cell}"
    elif halves[0].half or layout.size is not None:
        yield places
    if layout.row.bias_array not in (None, *layout.row.bias_names):
        yield layout.row.arrays[2]
    if layout.row.input_matrix.elements is not None:
        yield "each block of kernel is a (units, features) matrix, row by row"
    if layout.size is not None:
        yield f"one flat buffer of {layout.size:,}"


def _arrays(layout: FormatLayout, half: HalfLayout, scale: Scale) -> Iterator[DrawnArray]:
    elements = [array.blocks[-1].stop - array.blocks[0].start for array in half.arrays]
    for array, count in zip(half.arrays, elements, strict=True):
        name = array.name.removesuffix(half.place) if layout.row.directions == "names" else array.name
        length, fit = _length(array, scale)
        yield DrawnArray(array, name, length, fit, count / max(elements))


def _length(array: ArrayBlocks, scale: Scale) -> tuple[int, Literal["to scale", "widened", "cut"]]:
    side = scale.across if array.axis == "rows" else scale.down
    if len(array.shape) == 1 or array.axis == "flat":
        return side.shortest, "to scale"
    units = array.blocks[0].stop - array.blocks[0].start
    exact = round(array.shape[1 if array.axis == "rows" else 0] * side.gate / units)
    if exact > side.longest:
        return side.longest, "cut"
    return (side.shortest, "widened") if exact < side.shortest else (exact, "to scale")
