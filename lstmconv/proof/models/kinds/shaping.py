"""Numbers in wrong places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lstmconv.model import kinds
from lstmconv.proof.models.kinds.option import Option, Rules, Shapes, changed_inputs, unchanged

__all__ = ["RULES"]


def _reshape(layer: kinds.Reshape, shapes: Shapes) -> Iterator[Option]:
    if len(shapes[0]) < 3 or min(sorted(shapes[0][1:])[-2:]) < 2:
        return
    fix = "the numbers of a sample stand with the last axis fastest"

    def first(inputs: Sequence[Any]) -> Sequence[Any]:
        return [np.ascontiguousarray(np.moveaxis(inputs[0], -1, 1)).reshape(inputs[0].shape)]

    yield Option("channels first where they are last", fix, changed_inputs(first))


def _permute(layer: kinds.Permute, shapes: Shapes) -> Iterator[Option]:
    if tuple(shapes[0][axis] for axis in layer.order) == tuple(shapes[0]):
        yield Option("axes left as they are", f"put them into the order {layer.order}", unchanged)
    fix = "move the axes; a reshape keeps the order of the numbers"
    shape = [shapes[0][axis] for axis in layer.order]
    yield Option("reshaped, not permuted", fix, lambda _, inputs, __, ___: ((inputs[0].reshape(shape),), ()))


def _moved(layer: Any, _: Shapes) -> Iterator[Option]:
    other = tuple((after, before) for before, after in layer.amounts)
    if other != layer.amounts:
        fix = "the first amount is before, the second after"
        yield Option("before and after exchanged", fix, replace(layer, amounts=other))


def _upsample(layer: kinds.Upsample, _: Shapes) -> Iterator[Option]:
    tiled = lambda _, inputs, __, ___: ((np.tile(inputs[0], layer.factors),), ())  # noqa: E731
    yield Option("whole input repeated, not each place", "repeat each place", tiled)


def _slice(layer: kinds.Slice, shapes: Shapes) -> Iterator[Option]:
    for place, entry in enumerate(layer.index):
        if isinstance(entry, int):
            size = shapes[0][sum(other is not None for other in layer.index[:place])]
            other = 0 if entry % size else size - 1
            if other != entry % size:
                index = (*layer.index[:place], other, *layer.index[place + 1 :])
                yield Option(f"index {other} for {entry}", f"the index is {entry}", replace(layer, index=index))


RULES: Rules = {
    kinds.Reshape: _reshape,
    kinds.Permute: _permute,
    kinds.Pad: _moved,
    kinds.Crop: _moved,
    kinds.Upsample: _upsample,
    kinds.Slice: _slice,
}
