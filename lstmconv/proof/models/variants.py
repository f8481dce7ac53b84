"""What many wrong versions of a model compute, in one walk through its graph.

A wrong version has a few calls replaced. Before the first of them it computes what the model does, so nothing is
computed again; behind it, all versions that reach a call run together, one axis in front of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lstmconv.model import Array, Call, Layer, LSTMLayer, Model, RecurrentLayer, Stack, Tensor, TimeDistributed, kinds
from lstmconv.proof.mistakes import Mistake
from lstmconv.proof.models.inputs import ModelTrial
from lstmconv.semantics.graph import compute, final_states, initial_states, is_streamed

__all__ = ["Compute", "Found", "Wrong", "along", "returned_by"]

Float64: TypeAlias = npt.NDArray[np.float64]
Found: TypeAlias = "tuple[tuple[Array, ...], tuple[Float64, ...]]"
"""A call's outputs, and a recurrent layer's final states."""
Compute: TypeAlias = "Callable[[Layer, Sequence[Array], Sequence[Array] | None, Sequence[Any]], Found]"
Replaced: TypeAlias = "Call | Callable[[Call, Sequence[Array], Sequence[Array] | None, Sequence[Any]], Found]"
"""Another call in a call's place, or a function that computes instead of it."""

_NUMBERS = 1 << 23
"""Wrong versions take at most so many numbers (64 MB) at a time."""


@dataclass(frozen=True, eq=False)
class Wrong:
    """One wrong version of a model.

    Attributes:
        mistake: What is wrong, and what mends it.
        place: The layer with the mistake; ``""`` for the whole model.
        calls: What replaces calls, by the calls' names.
    """

    mistake: Mistake
    place: str
    calls: Mapping[str, Replaced]


_FOLDED = (LSTMLayer, RecurrentLayer, Stack, TimeDistributed, kinds.Dense, kinds.Embedding, kinds.Convolution,
           kinds.TransposedConvolution, kinds.Pooling, kinds.GlobalPooling, kinds.PReLU, kinds.MaskSteps,
           kinds.StepIsUnmasked, kinds.Dot, kinds.Attention, kinds.MultiHeadAttention, kinds.Identity)  # fmt: skip
"""Layers that compute each sample apart, whatever their options."""


def along(
    layer: Layer,
    inputs: Sequence[Array],
    states: Sequence[Array] | None,
    masks: Sequence[Array | None],
    run: Compute,
    count: int,
) -> Found:
    """Run a layer on arrays that all have one axis more in front, of ``count`` versions."""
    given = [*inputs, *(states or ()), *(mask for mask in masks if mask is not None)]
    first = layer.first if isinstance(layer, Stack) else layer
    together = isinstance(layer, _FOLDED) and not getattr(first, "time_major", False)
    if together and all(array.ndim > 1 and array.shape[1] == given[0].shape[1] for array in given):
        found, after = run(
            layer,
            [_folded(array) for array in inputs],
            None if states is None else [_folded(array) for array in states],
            [None if mask is None else _folded(mask) for mask in masks],
        )
        return tuple(_unfolded(array, count) for array in found), tuple(_unfolded(array, count) for array in after)
    runs = [
        run(
            layer,
            [array[number] for array in inputs],
            None if states is None else [array[number] for array in states],
            [None if mask is None else mask[number] for mask in masks],
        )
        for number in range(count)
    ]
    outputs = tuple(np.stack(each) for each in zip(*(found for found, _ in runs), strict=True))
    return outputs, tuple(np.stack(each) for each in zip(*(after for _, after in runs), strict=True))


def _folded(array: Array) -> Array:
    return array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])


def _unfolded(array: Array, count: int) -> Array:
    return array.reshape(count, len(array) // count, *array.shape[1:])


def returned_by(model: Model, trial: ModelTrial, wrongs: Sequence[Wrong]) -> Iterator[tuple[Wrong, dict[str, Array]]]:
    """Yield what each wrong version returns, by the names of the trial's outputs; what does not run is left out."""
    held = sum(array.size for array in trial.values.values())
    size = max(1, _NUMBERS // max(held, 1))
    for start in range(0, len(wrongs), size):
        yield from _Walk(model, trial, wrongs[start : start + size]).run()


class _Walk:
    """Some wrong versions, by their numbers."""

    def __init__(self, model: Model, trial: ModelTrial, wrongs: Sequence[Wrong]) -> None:
        self._model, self._trial, self._wrongs = model, trial, wrongs
        self._held: dict[Tensor, dict[int, Array]] = {}
        self._final: dict[str, dict[int, Array]] = {}
        self._lost: set[int] = set()
        self._streamed = {call.name for call in model.calls if is_streamed(call, trial.inputs)}

    def run(self) -> Iterator[tuple[Wrong, dict[str, Array]]]:
        for call in self._model.calls:
            replaced = {number for number, wrong in enumerate(self._wrongs) if call.name in wrong.calls} - self._lost
            reached = {number for tensor in call.reads for number in self._held.get(tensor, ())} - self._lost
            with np.errstate(all="ignore"):
                for number in sorted(replaced):
                    self._one(call, number)
                self._all(call, sorted(reached - replaced))
        for number, wrong in enumerate(self._wrongs):
            if number not in self._lost:
                yield wrong, self._outputs(number)

    def _outputs(self, number: int) -> dict[str, Array]:
        found = {
            name: self._held.get(tensor, {}).get(number, self._trial.expected[name])
            for name, tensor in self._model.outputs.items()
        }
        for name, expected in self._trial.expected.items():
            if name not in found:
                found[name] = self._final.get(name, {}).get(number, expected)
        return {name: np.asarray(array, np.float64) for name, array in found.items()}

    def _value(self, tensor: Tensor, number: int) -> Array:
        return self._held.get(tensor, {}).get(number, self._trial.values[tensor])

    def _states(self, call: Call, read: Callable[[Tensor], Array]) -> list[Array] | None:
        if call.name in self._streamed:
            return list(initial_states(call, self._trial.inputs, self._trial.values[call.inputs[0]]))
        return [read(tensor) for tensor in call.states] or None

    def _one(self, call: Call, number: int) -> None:
        """Compute a replaced call of one version."""
        other = self._wrongs[number].calls[call.name]
        reads = other if isinstance(other, Call) else call
        inputs = [self._value(tensor, number) for tensor in reads.inputs]
        states = self._states(reads, lambda tensor: self._value(tensor, number))
        masks = [None if mask is None else self._value(mask, number) for mask in reads.masks]
        try:
            if isinstance(other, Call):
                found, after = compute(other.layer, inputs, states, masks)
            else:
                found, after = other(call, inputs, states, masks)
        except (ValueError, IndexError):  # A version that cannot be computed would show at once: it is left out.
            self._lost.add(number)
            return
        self._keep(call, number, found, after)

    def _all(self, call: Call, numbers: Sequence[int]) -> None:
        """Compute a call of all versions that reach it."""
        if not numbers:
            return

        def read(tensor: Tensor) -> Array:
            return np.stack([self._value(tensor, number) for number in numbers])

        states = self._states(call, read)
        if states is not None and call.name in self._streamed:
            states = [np.broadcast_to(state, (len(numbers), *state.shape)) for state in states]
        inputs = [read(tensor) for tensor in call.inputs]
        masks = [None if mask is None else read(mask) for mask in call.masks]
        try:
            found, after = along(call.layer, inputs, states, masks, compute, len(numbers))
        except (ValueError, IndexError):  # Wrong numbers may be no token ids; the version that has them is left out.
            self._each(call, numbers)
            return
        for place, number in enumerate(numbers):
            self._keep(call, number, tuple(array[place] for array in found), tuple(state[place] for state in after))

    def _each(self, call: Call, numbers: Sequence[int]) -> None:
        """Compute a call of each version alone, where not all can be."""
        if len(numbers) == 1:
            self._lost.update(numbers)
            return
        for number in numbers:
            self._all(call, [number])

    def _keep(self, call: Call, number: int, found: Sequence[Array], after: Sequence[Float64]) -> None:
        """Keep what differs from what the model computes."""
        for index, array in enumerate(found):
            tensor = Tensor(call.name, index)
            right = self._trial.values[tensor]
            if array.shape != right.shape:
                self._lost.add(number)
            elif not np.array_equal(array, right):
                self._held.setdefault(tensor, {})[number] = array
        if after and call.name in self._streamed:
            for name, array in final_states(call, after).items():
                self._final.setdefault(name, {})[number] = array
