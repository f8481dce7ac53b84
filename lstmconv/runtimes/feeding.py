"""A user's own arrays as the inputs of a file: by name or in order, refused where they do not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lstmconv.errors import UsageError
from lstmconv.model import Array, Input

__all__ = ["Given", "described", "fed"]

Given: TypeAlias = "Mapping[str, npt.ArrayLike] | Sequence[npt.ArrayLike]"
"""Arrays by the names of inputs, or in their order."""


def fed(where: str, inputs: Sequence[Input], states: Sequence[Input], given: Given) -> dict[str, Array]:
    """Return the array of each input and of each state, by name.

    States that are not given are zeros. A mapping none of whose names is an input's is taken in its order, as
    ``numpy.savez(path, x, y)`` names arrays.

    Args:
        where: The file's name, for messages.
        inputs: In the file's order.
        states: The initial states of recurrent layers; in a given order they follow the inputs.
        given: The arrays.

    Raises:
        UsageError: An array is missing, is one too many, or has another shape or type than its input.
    """
    entries = [*inputs, *states]
    named = _named(where, inputs, entries, given)
    for entry in entries:
        if entry.name in named:
            _refuse_misfit(where, entry, named[entry.name])
    batch = next((len(array) for array in named.values() if array.ndim), 1)
    return {entry.name: named[entry.name] if entry.name in named else _zeros(entry, batch) for entry in entries}


def described(entry: Input) -> str:
    """Return an input as a person reads it: ``months (?, 12, 1) float32``; ``?`` is any size."""
    return f"{entry.name} {_shape(entry)} {entry.dtype}"


def _named(where: str, needed: Sequence[Input], entries: Sequence[Input], given: Given) -> dict[str, Array]:
    names = [entry.name for entry in entries]
    if isinstance(given, Mapping) and not set(given).isdisjoint(names):
        known = {name: np.asarray(array) for name, array in given.items() if name in names}
        missing = [described(entry) for entry in needed if entry.name not in known]
        if missing or len(known) < len(given):
            extra = ", ".join(name for name in given if name not in names)
            said = [f"{', '.join(missing)} is not given"] * bool(missing) + [f"it has no input {extra}"] * bool(extra)
            raise UsageError(f"{where}: {'; '.join(said)}")
        return known
    arrays = list(map(np.asarray, given.values() if isinstance(given, Mapping) else given))
    if not len(needed) <= len(arrays) <= len(entries):
        takes = ", ".join(map(described, entries))
        verb = "array is" if len(arrays) == 1 else "arrays are"
        raise UsageError(f"{where} takes {takes}; {len(arrays)} {verb} given")
    return dict(zip(names, arrays, strict=False))


def _refuse_misfit(where: str, entry: Input, array: Array) -> None:
    fits = array.ndim == len(entry.shape) and all(
        wanted is None or size == wanted for size, wanted in zip(array.shape, entry.shape, strict=True)
    )
    if not fits:
        raise UsageError(f"{where}: {entry.name} is {array.shape}, expected {_shape(entry)}")
    if not np.can_cast(array.dtype, np.dtype(entry.dtype), "same_kind"):
        raise UsageError(f"{where}: {entry.name} is {array.dtype}, expected {entry.dtype}")


def _shape(entry: Input) -> str:
    sizes = ["?" if size is None else str(size) for size in entry.shape]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def _zeros(entry: Input, batch: int) -> Array:
    return np.zeros([batch if size is None else size for size in entry.shape], entry.dtype)
