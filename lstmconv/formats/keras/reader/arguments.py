"""The arguments of one call of a layer: inputs, initial states, masks, options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lstmconv.formats.keras.reader.entries import RECURRENT, Entry
from lstmconv.formats.keras.reader.masks import Value
from lstmconv.formats.keras.reader.nodes import tensor_value
from lstmconv.model import Tensor

__all__ = ["Given", "arguments", "as_operands", "mask_not_followed"]

_TENSOR_ARGUMENTS = ("inputs", "sequences", "x", "query", "value", "key")
"""Keyword arguments that are a layer's inputs, in the order of its call."""
_MASK_ARGUMENTS = ("mask", "query_mask", "value_mask", "key_mask", "attention_mask")
_NOT_OPTIONS = {*_TENSOR_ARGUMENTS, *_MASK_ARGUMENTS, "initial_state", "constants"}


class Given(NamedTuple):
    """The arguments of one call.

    Attributes:
        inputs: The input tensors.
        listed: Whether the inputs come as a list in one argument.
        states: The initial state, as tensors or numbers.
        explicit: The masks of an explicit ``mask=``; ``None`` without one.
        options: The other keyword arguments, which are no tensors.
    """

    inputs: tuple[Value, ...]
    listed: bool
    states: tuple[Any, ...]
    explicit: tuple[Tensor | None, ...] | None
    options: Mapping[str, Any]


def _values_in(value: Any) -> Iterator[Value]:
    if isinstance(value, Value):
        yield value
    elif isinstance(value, Mapping):
        for key in sorted(value):  # Keras flattens a dictionary of tensors in this order.
            yield from _values_in(value[key])
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _values_in(inner)


def as_operands(value: Any, values: list[Value]) -> Any:
    """Replace every tensor by an operand, at any depth, and append the tensors to ``values``."""
    from lstmconv.formats.keras.reader.kinds.steps import Operand

    if isinstance(value, Value):
        values.append(value)
        return Operand(len(values) - 1, value.shape, value.dtype)
    if isinstance(value, Mapping):
        return {key: as_operands(inner, values) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_operands(inner, values) for inner in value]
    return value


def mask_not_followed(entry: Entry, given: Given) -> str:
    """Return why the masks of a call of Keras 3's MultiHeadAttention, which joins them itself, are not supported."""
    if not entry.own("MultiHeadAttention") or all(value.mask is None for value in given.inputs):
        return ""
    if given.explicit is not None:
        return "it is called with a mask, and its inputs have masks of their own"
    return "it returns its scores under a mask" if given.options.get("return_attention_scores") else ""


def arguments(entry: Entry, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Given:
    """Sort a layer's arguments: inputs, states, masks, options."""
    positional = [*args, *(kwargs[key] for key in _TENSOR_ARGUMENTS if kwargs.get(key) is not None)]
    inputs = tuple(value for each in positional for value in _values_in(each))
    listed = bool(positional) and isinstance(positional[0], list | Mapping)
    states: tuple[Any, ...] = ()
    if entry.own(*RECURRENT, "Bidirectional"):
        constants = entry.config.get("num_constants") or 0
        states = (*inputs[1:], *(_flat_states(kwargs.get("initial_state"))))
        if kwargs.get("constants") or constants:
            states = (*states, None)  # One state more than any layer has, so the call counts as unknown.
        inputs = inputs[:1]
    explicit = None
    if any(kwargs.get(key) is not None for key in _MASK_ARGUMENTS):
        named = [kwargs.get(key) for key in _MASK_ARGUMENTS[1:]]
        whole = kwargs.get("mask")
        masks = whole if isinstance(whole, list) else [whole] if whole is not None else named
        explicit = tuple(mask.tensor if isinstance(mask, Value) else None for mask in masks)
    options = {key: value for key, value in kwargs.items() if key not in _NOT_OPTIONS and value is not None}
    return Given(inputs, listed, states, explicit, options)


def _flat_states(value: Any) -> Iterator[Any]:
    """Yield the initial states of all cells, each a tensor or an array of numbers."""
    if value is None:
        return
    if isinstance(value, Value):
        yield value
        return
    numbers = tensor_value(value)
    if numbers is not None and numbers.ndim <= 2:
        yield numbers
    elif isinstance(value, list | tuple | np.ndarray):
        for inner in value:
            yield from _flat_states(inner)
    else:
        yield value
