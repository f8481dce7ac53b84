"""Layers that join several inputs.

Sources: keras/engine/topology.py Merge (1.2.2), keras/layers/merge.py (2.2.4), keras/src/layers/merging (3.15).
"""

from __future__ import annotations

from typing import Any, Literal

from lstmconv.formats.keras.reader.kinds import masks
from lstmconv.formats.keras.reader.kinds.entry import REQUIRED, NotUnderstoodError, is_integer
from lstmconv.formats.keras.reader.kinds.row import Place, Row
from lstmconv.model.kinds import Concatenate, Dot, Kind, Merge

__all__ = ["ROWS"]

_MANY = (1, 2**31)
_Operation = Literal["add", "subtract", "multiply", "average", "maximum", "minimum"]


def _merge_row(class_name: str, operation: _Operation, inputs: tuple[int, int] = _MANY) -> Row:
    return Row(
        names=(class_name,),
        build=lambda place: (Merge(place.name, operation),),
        masks=masks.merges,
        inputs=inputs,
    )


def _concatenated(place: Place, axis: Any) -> tuple[Concatenate]:
    if not is_integer(axis) or len({len(shape) for shape in place.input_shapes}) > 1:
        raise NotUnderstoodError(f"it joins inputs of shapes {place.input_shapes} along axis {axis!r}")
    place.size(axis)
    return (Concatenate(place.name, axis),)


def _dotted(place: Place, axes: Any, *, normalize: bool) -> tuple[Dot]:
    """Build a Dot; ``axes`` is one number (a negative one counts from the end of each input) or one for each input."""
    pair = tuple(axes) if isinstance(axes, list | tuple) else (axes, axes)
    ranks = [len(shape) for shape in place.input_shapes]
    if len(ranks) != 2 or len(pair) != 2 or not all(map(is_integer, pair)):
        raise NotUnderstoodError(f"a dot product of {len(ranks)} inputs along axes {axes!r}")
    if not all(-rank <= axis < rank for axis, rank in zip(pair, ranks, strict=True)):
        raise NotUnderstoodError(f"a dot product along axes {axes!r} of inputs of {ranks} axes")
    first, second = (axis % rank for axis, rank in zip(pair, ranks, strict=True))
    if 0 in (first, second):
        raise NotUnderstoodError(f"a dot product along the batch: axes {axes!r}")
    return (Dot(place.name, (first, second), normalize),)


def _concatenate(place: Place) -> tuple[Concatenate]:
    return _concatenated(place, place.options["axis"])


def _dot(place: Place) -> tuple[Dot]:
    return _dotted(place, place.options["axes"], normalize=bool(place.options["normalize"]))


_MODES_KERAS_1: dict[str, _Operation] = {"sum": "add", "mul": "multiply", "ave": "average", "max": "maximum"}


def _keras_1(place: Place) -> tuple[Kind, ...]:
    mode = place.options["mode"]
    if place.options["mode_type"] not in ("raw", None):
        raise NotUnderstoodError("its mode is a custom function")
    if mode == "concat":
        return _concatenated(place, place.options["concat_axis"])
    if mode == "dot":
        return _dotted(place, place.options["dot_axes"], normalize=False)
    if mode not in _MODES_KERAS_1:
        raise NotUnderstoodError(f"mode {mode!r} is not computed")
    return (Merge(place.name, _MODES_KERAS_1[mode]),)


ROWS = (
    _merge_row("Add", "add"),
    _merge_row("Subtract", "subtract", (2, 2)),
    _merge_row("Multiply", "multiply"),
    _merge_row("Average", "average"),
    _merge_row("Maximum", "maximum"),
    _merge_row("Minimum", "minimum"),
    Row(names=("Concatenate",), options={"axis": -1}, build=_concatenate, masks=masks.concatenates, inputs=_MANY),
    Row(
        names=("Dot",),
        options={"axes": REQUIRED, "normalize": False},
        build=_dot,
        masks=masks.stops,
        inputs=(2, 2),
    ),
    Row(
        names=("Merge",),
        options={"mode": "sum", "mode_type": None, "concat_axis": -1, "dot_axes": -1},
        ignored=frozenset({
            "layers", "node_indices", "tensor_indices", "output_shape", "output_shape_type", "output_mask",
            "output_mask_type", "arguments",
        }),
        build=_keras_1,
        masks=masks.keras_1_merge,
        inputs=_MANY,
    ),
)  # fmt: skip
