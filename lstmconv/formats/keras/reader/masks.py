"""The masks of layers' outputs, as calls of the graph: made, joined, passed on or dropped by each version's rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lstmconv.formats.keras.reader.calls import Calls
from lstmconv.formats.keras.reader.config import KerasVersion
from lstmconv.formats.keras.reader.kinds import MaskRule
from lstmconv.model import Shape, Tensor
from lstmconv.model.kinds import Concatenate, Constant, MaskSteps, Operation, Slice, StepIsUnmasked

__all__ = ["Value", "masks_by_version", "output_mask"]

_ALL = (None, None, None)


class Value(NamedTuple):
    """One tensor while the graph is read.

    Attributes:
        tensor: The tensor.
        shape: The tensor's shape; ``None`` behind an unknown layer.
        mask: The mask that Keras attaches to the tensor.
        dtype: NumPy's name of the dtype; ``float32`` stands for the model's own float type.
    """

    tensor: Tensor
    shape: Shape | None
    mask: Tensor | None = None
    dtype: str = "float32"


def masks_by_version(
    version: KerasVersion | None, inputs: Sequence[Value], explicit: Sequence[Tensor | None] | None, *, listed: bool
) -> Sequence[Tensor | None]:
    """Return the masks from which a layer computes the masks of its outputs.

    Keras 3.11 and tf.keras take an explicit ``mask=`` first (layer.py ``__call__``, base_layer.py
    ``_get_input_masks``). keras-team Keras and Keras 3.0 to 3.10 use only the inputs' own masks, and Keras before 3.4
    ignores these too if the inputs are a list.
    """
    own = [value.mask for value in inputs]
    release = version.release if version is not None else (3, 15)
    if (3, 0) <= release < (3, 4) and listed:
        return [None] * len(own)
    if explicit is None or (3, 0) <= release < (3, 11) or release < (2, 0):
        return own
    return [*explicit, *own[len(explicit) :]]


def output_mask(
    calls: Calls,
    name: str,
    rule: MaskRule,
    inputs: Sequence[Value],
    masks: Sequence[Tensor | None],
    made: object,
    axis: int,
) -> Tensor | None:
    """Return the mask of a layer's first output.

    Args:
        calls: Receives the calls that compute the mask.
        name: The name of the layer's call.
        rule: The mask rule of the layer's class.
        inputs: The inputs of the call.
        masks: The result of :func:`masks_by_version`.
        made: The layer, which is used if it makes a mask.
        axis: The axis of a layer that concatenates.
    """
    if rule.output == "makes":
        return _made(calls, name, inputs[0], made)
    there = [mask for mask in masks if mask is not None]
    if rule.output == "stops" or not there:
        return None
    if rule.output in ("passes", "recurrent", "time_distributed", "query"):
        return masks[0]
    any_of = rule.output == "any"
    if rule.concatenates and _is_time(axis, inputs):
        parts = [mask or _everywhere(calls, name, value) for mask, value in zip(masks, inputs, strict=True)]
        return calls.helper(f"{name}/mask", lambda own: Concatenate(own, 1), tuple(parts))
    if any_of and len(there) < len(masks):  # A step without a mask counts everywhere.
        return None
    joined = there[0]
    for mask in there[1:]:
        if mask != joined:
            function = "logical_or" if any_of else "logical_and"
            joined = calls.helper(f"{name}/mask", lambda own: Operation(own, function), (joined, mask))  # noqa: B023
    return joined


def _is_time(axis: int, inputs: Sequence[Value]) -> bool:
    rank = next((len(value.shape) for value in inputs if value.shape is not None), 3)
    return axis % rank == 1 and rank > 2


def _made(calls: Calls, name: str, value: Value, made: object) -> Tensor:
    if isinstance(made, MaskSteps):
        return calls.helper(f"{name}/mask", lambda own: StepIsUnmasked(own, made.value), (value.tensor,))
    zero = calls.helper(f"{name}/zero", lambda own: Constant(own, np.zeros((), np.int64)), ())
    return calls.helper(f"{name}/mask", lambda own: Operation(own, "not_equal"), (value.tensor, zero))


def _everywhere(calls: Calls, name: str, value: Value) -> Tensor:
    """Return a mask that is true at every step of a sequence: its first feature equals itself."""
    rank = len(value.shape) if value.shape is not None else 3
    index: tuple[Any, ...] = (_ALL, _ALL, *(0 for _ in range(rank - 2)))
    steps = calls.helper(f"{name}/steps", lambda own: Slice(own, index), (value.tensor,))
    return calls.helper(f"{name}/unmasked", lambda own: Operation(own, "equal"), (steps, steps))
