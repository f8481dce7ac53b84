"""Errors about shapes that do not fit, and the shape of tensors that are broadcast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from lstmconv.errors import UnsupportedModelError
from lstmconv.model.graph import Layer, Shape

__all__ = ["Size", "broadcast", "expanded", "misfit", "refuse_other_size"]

Size: TypeAlias = "int | None"


def misfit(layer: Layer, shapes: Sequence[Shape], why: str) -> UnsupportedModelError:
    """Return the error for a layer that is called on shapes that do not fit it."""
    given = ", ".join(map(str, shapes)) or "nothing"
    return UnsupportedModelError(f"{layer.name}: {type(layer).__name__} is given {given}: {why}")


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """Return the shape after NumPy's broadcasting; an open size is taken to be equal to a known size other than 1.

    >>> broadcast([(None, 3, 1), (None, 1, 5)])
    (None, 3, 5)

    Raises:
        ValueError: Two sizes differ and neither is 1.
    """
    rank = max(map(len, shapes), default=0)
    joined: list[Size] = []
    for column in zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True):
        sizes = {size for size in column if size != 1}
        fixed = sizes - {None}
        if len(fixed) > 1:
            raise ValueError(f"sizes {' and '.join(map(str, sorted(fixed)))} do not broadcast")
        joined.append(next(iter(fixed or sizes), 1))
    return tuple(joined)


def refuse_other_size(layer: Layer, shapes: Sequence[Shape], size: Size, wanted: int, what: str) -> None:
    """Refuse a known size that differs from the layer's."""
    if size is not None and size != wanted:
        raise misfit(layer, shapes, f"{what} {size}, its weights take {wanted}")


def expanded(shape: Shape, rank: int) -> Shape:
    """Add axes of size 1 after the batch, as Keras' merge layers do (keras/src/layers/merging/base_merge.py call)."""
    return (*shape[:1], *(1,) * (rank - len(shape)), *shape[1:])
