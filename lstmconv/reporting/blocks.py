"""The gate blocks of each format in pixels, true to scale; :mod:`lstmconv.explaining` says where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lstmconv.explaining.explanation import ArrayBlocks, FormatLayout, HalfLayout

__all__ = ["DrawnArray", "DrawnBlock", "Panel", "panels"]

_GATE = 44
"""Pixels along which a gate's units are drawn, in every array of every format."""
_THINNEST, _THICKEST = 18, 220
"""Pixels of the other axis: what would be thinner is widened, what would be thicker is cut, and both say so."""


@dataclass(frozen=True)
class DrawnBlock:
    """One gate's block: its letter, its indices, and what it measures in pixels, but in a flat buffer."""

    gate: str
    start: int
    stop: int
    width: float
    height: float
    note: str | None


@dataclass(frozen=True)
class DrawnArray:
    """One array: ``rows`` has its blocks below each other, ``columns``, ``apart`` and ``flat`` beside each other.

    ``share`` is its length in percent of the longest array of a flat buffer, else ``None``.
    """

    name: str
    role: str
    shape: tuple[int, ...]
    axis: str
    content: str | None
    blocks: tuple[DrawnBlock, ...]
    remark: str | None
    share: float | None


@dataclass(frozen=True)
class Panel:
    """One format."""

    layout: FormatLayout
    halves: tuple[tuple[HalfLayout, tuple[DrawnArray, ...]], ...]


def panels(layouts: Sequence[FormatLayout]) -> list[Panel]:
    """Return what to draw, format by format."""
    return [Panel(layout, tuple((half, tuple(_arrays(layout, half))) for half in layout.halves)) for layout in layouts]


def _arrays(layout: FormatLayout, half: HalfLayout) -> Iterator[DrawnArray]:
    if layout.size is not None:
        lengths = [array.blocks[-1].stop - array.blocks[0].start for array in half.arrays]
        for array, length in zip(half.arrays, lengths, strict=True):
            yield _drawn(array, 0.0, None, 100.0 * length / max(lengths))
        return
    hidden = min(half.arrays[1].shape)
    for array in half.arrays:
        other = 1 if len(array.shape) == 1 else array.shape[1] if array.axis == "rows" else array.shape[0]
        exact = other * _GATE / hidden if len(array.shape) == 2 else _THINNEST
        size = min(max(exact, _THINNEST), _THICKEST)
        remark = "cut: it goes on" if exact > _THICKEST else "widened" if exact < _THINNEST else None
        yield _drawn(array, size, remark, None)


def _drawn(array: ArrayBlocks, size: float, remark: str | None, share: float | None) -> DrawnArray:
    width, height = (size, float(_GATE)) if array.axis == "rows" else (float(_GATE), size)
    blocks = []
    for block in array.blocks:
        note = None if block.lin_layer_id is None else f"linLayerID {block.lin_layer_id}"
        if array.axis == "apart":
            note = block.array
        blocks.append(DrawnBlock(block.gate, block.start, block.stop, width, height, note))
    return DrawnArray(array.name, array.role, array.shape, array.axis, array.content, tuple(blocks), remark, share)
