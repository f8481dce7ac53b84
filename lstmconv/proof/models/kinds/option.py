"""One way to be wrong about a layer, and what such ways have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from lstmconv.model import Array, Call, Layer
from lstmconv.proof.models.variants import Found
from lstmconv.semantics.graph import compute

__all__ = ["Function", "Made", "Option", "Rules", "Shapes", "changed_inputs", "changed_output", "reshaped", "unchanged"]

Function: TypeAlias = "Callable[[Call, Sequence[Any], Any, Sequence[Any]], Found]"
Shapes: TypeAlias = "Sequence[tuple[int, ...]]"


@dataclass(frozen=True, eq=False)
class Made:
    """A layer that is made where it is computed: a copy of its weights is not kept."""

    make: Callable[[], Layer]

    def __call__(self, _: Call, inputs: Sequence[Any], states: Any, masks: Sequence[Any]) -> Found:
        """Compute a call with it."""
        return compute(self.make(), inputs, states, masks)


@dataclass(frozen=True, eq=False)
class Option:
    """One way to be wrong about a layer.

    Attributes:
        text: What is wrong, for a person.
        fix: What mends it.
        instead: The layer that is computed instead, what makes it, or a function that computes.
        first: Computes the same in the layer's first call, whose inputs are those of the right model; faster.
    """

    text: str
    fix: str
    instead: Layer | Made | Function
    first: Function | None = None

    @property
    def layer(self) -> Layer | None:
        """The layer that is computed instead, if there is one."""
        if isinstance(self.instead, Made):
            return self.instead.make()
        return None if callable(self.instead) else self.instead


def changed_output(change: Callable[[Any], Any]) -> Function:
    """Return a function that changes a call's first output."""

    def instead(call: Call, inputs: Sequence[Any], states: Any, masks: Sequence[Any]) -> Found:
        found, after = compute(call.layer, inputs, states, masks)
        return (change(found[0]), *found[1:]), after

    return instead


def changed_inputs(change: Callable[[Sequence[Any]], Sequence[Any]]) -> Function:
    """Return a function that changes what a call is given."""

    def instead(call: Call, inputs: Sequence[Any], states: Any, masks: Sequence[Any]) -> Found:
        return compute(call.layer, change(inputs), states, masks)

    return instead


def unchanged(_: Call, inputs: Sequence[Any], __: Any, ___: Sequence[Any]) -> Found:
    """Return a call's first input as its output."""
    return (inputs[0],), ()


def reshaped(array: Array) -> Array:
    """Read the memory of a transposed array in the order of the array's own shape."""
    return np.ascontiguousarray(array.T).reshape(array.shape)


Rules: TypeAlias = "Mapping[type[Any], Callable[[Any, Shapes], Iterator[Option]]]"
"""For each kind, a function that yields the wrong versions of a layer that is given inputs of these shapes."""
