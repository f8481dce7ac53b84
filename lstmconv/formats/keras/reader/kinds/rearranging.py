"""Functions that move, cut or join elements of tensors and compute nothing."""

from __future__ import annotations

import math
from typing import Any

from lstmconv.formats.keras.reader.kinds.entry import NotUnderstoodError, is_integer
from lstmconv.formats.keras.reader.kinds.indexing import parse_index
from lstmconv.formats.keras.reader.kinds.options import pair
from lstmconv.formats.keras.reader.kinds.steps import Arguments, Operand, Step
from lstmconv.model.kinds import Concatenate, Pad, Permute, Reshape, Slice, Stacking

__all__ = ["concatenate", "expand_dims", "flip", "index", "pad", "reshape", "squeeze", "stack", "swapaxes", "transpose"]


def index(arguments: Arguments) -> tuple[Step, ...]:
    """Index a tensor: ``x[key]``."""
    key = parse_index(arguments.values["key"], arguments.rank("x"))
    return (Step(Slice(arguments.name, key), (arguments.tensor("x"),)),)


_WHOLE = (None, None, None)


def expand_dims(arguments: Arguments) -> tuple[Step, ...]:
    """Add an axis of size 1."""
    rank = arguments.rank("x")
    axis = arguments.axis("axis", rank + 1)
    index = (*(_WHOLE,) * axis, None, *(_WHOLE,) * (rank - axis))
    return (Step(Slice(arguments.name, index), (arguments.tensor("x"),)),)


def squeeze(arguments: Arguments) -> tuple[Step, ...]:
    """Remove axes of size 1."""
    operand, rank = arguments.tensor("x"), arguments.rank("x")
    sizes = operand.shape or ()
    if arguments.values["axis"] in (None, [], ()):
        if None in sizes:
            raise NotUnderstoodError(f"squeeze without an axis of a tensor {sizes}")
        dropped = tuple(axis for axis, size in enumerate(sizes) if size == 1)
    else:
        dropped = arguments.axes("axis", rank)
    if any(sizes[axis] not in (1, None) for axis in dropped):
        raise NotUnderstoodError(f"squeeze along axes {dropped} of a tensor {sizes}")
    index = tuple(0 if axis in dropped else _WHOLE for axis in range(rank))
    return (Step(Slice(arguments.name, index), (operand,)),)


def flip(arguments: Arguments) -> tuple[Step, ...]:
    """Reverse axes."""
    rank = arguments.rank("x")
    axes = arguments.axes("axis", rank)
    index = tuple((None, None, -1) if axis in axes else _WHOLE for axis in range(rank))
    return (Step(Slice(arguments.name, index), (arguments.tensor("x"),)),)


def transpose(arguments: Arguments) -> tuple[Step, ...]:
    """Reorder axes."""
    rank = arguments.rank("x")
    order = tuple(reversed(range(rank))) if arguments.values["axes"] is None else arguments.axes("axes", rank)
    if sorted(order) != list(range(rank)):
        raise NotUnderstoodError(f"a transposition by {order} of {rank} axes")
    return (Step(Permute(arguments.name, order), (arguments.tensor("x"),)),)


def swapaxes(arguments: Arguments) -> tuple[Step, ...]:
    """Exchange two axes."""
    rank = arguments.rank("x")
    first, second = arguments.axis("axis1", rank), arguments.axis("axis2", rank)
    order = list(range(rank))
    order[first], order[second] = second, first
    return (Step(Permute(arguments.name, tuple(order)), (arguments.tensor("x"),)),)


def reshape(arguments: Arguments) -> tuple[Step, ...]:
    """Reshape each sample if the batch size is -1 and the other sizes fit one sample, else the whole tensor."""
    operand, shape = arguments.tensor("x"), arguments.values["shape"]
    shape = shape if isinstance(shape, list | tuple) else (shape,)
    if not all(map(is_integer, shape)) or list(shape).count(-1) > 1:
        raise NotUnderstoodError(f"a reshape to {shape!r:.60}")
    sample = (operand.shape or (None, None))[1:]
    known = [size for size in sample if size is not None]
    if shape[:1] and shape[0] == -1 and len(known) == len(sample) and math.prod(known) == math.prod(shape[1:]):
        return (Step(Reshape(arguments.name, tuple(shape[1:])), (operand,)),)
    return (Step(Reshape(arguments.name, tuple(shape), fixed_batch=True), (operand,)),)


def _listed(arguments: Arguments) -> tuple[Any, ...]:
    values = arguments.values["x"]
    return tuple(values) if isinstance(values, list | tuple) else (values,)


def concatenate(arguments: Arguments) -> tuple[Step, ...]:
    """Join tensors along an axis."""
    operands = _listed(arguments)
    if not all(isinstance(operand, Operand) for operand in operands):
        raise NotUnderstoodError("it joins a tensor and a constant")
    axis = arguments.values["axis"]
    if not is_integer(axis):
        raise NotUnderstoodError(f"it joins along the axis {axis!r:.40}")
    return (Step(Concatenate(arguments.name, axis), operands),)


def stack(arguments: Arguments) -> tuple[Step, ...]:
    """Stack tensors along a new axis."""
    (step,) = concatenate(arguments)
    return (Step(Stacking(arguments.name, arguments.values["axis"]), step.inputs),)


def pad(arguments: Arguments) -> tuple[Step, ...]:
    """Put a constant value before and after axes."""
    amounts, mode, value = (arguments.values[name] for name in ("amounts", "mode", "value"))
    rank = arguments.rank("x")
    if str(mode).lower() != "constant":
        raise NotUnderstoodError(f"padding of mode {mode!r:.40}")
    if len(amounts) != rank:
        raise NotUnderstoodError(f"padding by {amounts!r:.60} of {rank} axes")
    number = 0.0 if value is None else arguments.number("value")
    sides = tuple(pair(each, "padding") for each in amounts)
    return (Step(Pad(arguments.name, sides, number), (arguments.tensor("x"),)),)
