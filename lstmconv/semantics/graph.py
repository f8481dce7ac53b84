"""Compute a whole Keras model in NumPy float64: each call of its graph in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.model import LSTMLayer, Stack
from lstmconv.model.graph import Call, Input, Layer, Model, Tensor, TimeDistributed
from lstmconv.model.kinds import Unknown
from lstmconv.model.recurrent import RecurrentLayer
from lstmconv.semantics.cells import CellType, Float64, cell_of, state_letters
from lstmconv.semantics.layers import RULES
from lstmconv.semantics.operations import cast
from lstmconv.semantics.recurrent import run_layer, run_stack

__all__ = [
    "StateSlot",
    "Values",
    "as_given",
    "compute",
    "final_states",
    "initial_states",
    "is_streamed",
    "run_calls",
    "run_model",
    "state_slots",
    "stateful_calls",
]

Array: TypeAlias = npt.NDArray[Any]
Values: TypeAlias = "dict[Tensor, Array]"


class StateSlot(NamedTuple):
    """One state of a recurrent call that is an input and an output of the whole model.

    Attributes:
        initial: The input's name, ``lstm.initial_h``.
        final: The output's name, ``lstm.h``.
        halves: The indexes into :attr:`Call.states` of the array's rows.
        hidden: The number of units: the array is ``(len(halves), batch, hidden)``.
    """

    initial: str
    final: str
    halves: tuple[int, ...]
    hidden: int


def state_slots(call: Call) -> tuple[StateSlot, ...]:
    """Return the states of a recurrent call as inputs and outputs of a streamed model.

    They are equal to those of a single LSTM: ``(1, batch, hidden)``, or ``(2, batch, hidden)`` for a Bidirectional
    layer. If its halves have different numbers of units, each half has its own array, and the second name ends in
    ``_1``. The layers of a stack have their own names.
    """
    layer = call.layer
    layers = layer.layers if isinstance(layer, Stack) else (layer,)
    slots: list[StateSlot] = []
    first = 0
    for own in layers:
        if not isinstance(own, (LSTMLayer, RecurrentLayer)):
            return ()
        letters, name = state_letters(own), call.name if own is layer else own.name
        units = [direction.hidden_size for direction in own.directions]
        together = [list(range(len(units)))] if len(set(units)) == 1 else [[half] for half in range(len(units))]
        for number, halves in enumerate(together):
            suffix = f"_{number}" if number else ""
            for place, letter in enumerate(letters):
                taken = tuple(first + half * len(letters) + place for half in halves)
                slot = StateSlot(
                    f"{name}.initial_{letter}{suffix}", f"{name}.{letter}{suffix}", taken, units[halves[0]]
                )
                slots.append(slot)
        first += len(units) * len(letters)
    return tuple(slots)


def stateful_calls(model: Model, *, every: bool = False) -> tuple[Call, ...]:
    """Return the calls whose states are inputs and outputs of the model: stateful ones, or all with ``every``.

    A call that gets its initial state from another tensor is left out.
    """
    found = []
    for call in model.calls:
        recurrent = isinstance(call.layer, (LSTMLayer, RecurrentLayer, Stack))
        if recurrent and not call.states and (every or _is_stateful(call.layer)):
            found.append(call)
    return tuple(found)


def _is_stateful(layer: Layer) -> bool:
    layer = layer.last if isinstance(layer, Stack) else layer
    return isinstance(layer, (LSTMLayer, RecurrentLayer)) and layer.stateful


def as_given(entry: Input, value: npt.ArrayLike) -> Array:
    """Return an input in the dtype of the computation: float64, int64 or bool.

    Raises:
        UsageError: The value does not have the input's shape.
    """
    array = np.asarray(value)
    fits = array.ndim == len(entry.shape) and all(
        wanted is None or size == wanted for size, wanted in zip(array.shape, entry.shape, strict=True)
    )
    if not fits:
        raise UsageError(f"input '{entry.name}' is {array.shape}, expected {entry.shape}")
    return cast(array, entry.dtype)


def run_model(
    model: Model,
    inputs: Mapping[str, npt.ArrayLike] | Sequence[npt.ArrayLike],
    states: Mapping[str, npt.ArrayLike] | None = None,
) -> dict[str, Array]:
    """Return the outputs of a Keras model, computed in float64.

    Args:
        model: A model whose layers are all known.
        inputs: By name, or in the order of the model's inputs.
        states: Initial states by the names of :func:`state_slots`, ``(rows, batch, hidden)`` each; zeros if not given.

    Returns:
        The model's outputs by name; then the final states of stateful layers and of calls whose states are given.

    Raises:
        UsageError: An input is missing, or has another shape.
        UnsupportedModelError: A layer or an activation is unknown.
    """
    values, final = run_calls(model, inputs, states)
    return {name: values[tensor] for name, tensor in model.outputs.items()} | final


def run_calls(
    model: Model,
    inputs: Mapping[str, npt.ArrayLike] | Sequence[npt.ArrayLike],
    states: Mapping[str, npt.ArrayLike] | None = None,
) -> tuple[Values, dict[str, Float64]]:
    """Return all tensors of a model, and the final states by name; the arguments are those of :func:`run_model`."""
    values = {Tensor(entry.name): array for entry, array in zip(model.inputs, _ordered(model, inputs), strict=True)}
    given = dict(states or {})
    final: dict[str, Float64] = {}
    for call in model.calls:
        before = [values[tensor] for tensor in call.states] or None
        streamed = is_streamed(call, given)
        if streamed:
            before = initial_states(call, given, values[call.inputs[0]])
        found, after = compute(
            call.layer,
            [values[tensor] for tensor in call.inputs],
            before,
            [None if mask is None else values[mask] for mask in call.masks],
        )
        values |= {Tensor(call.name, index): array for index, array in enumerate(found)}
        if streamed:
            final |= final_states(call, after)
    return values, final


def _ordered(model: Model, inputs: Mapping[str, npt.ArrayLike] | Sequence[npt.ArrayLike]) -> list[Array]:
    names = [entry.name for entry in model.inputs]
    named = inputs if isinstance(inputs, Mapping) else dict(zip(names, inputs, strict=len(inputs) == len(names)))
    if set(named) != set(names) or len(inputs) != len(names):
        raise UsageError(f"{model.name} takes the inputs {', '.join(names)}; given are {', '.join(named) or 'none'}")
    return [as_given(entry, named[entry.name]) for entry in model.inputs]


def is_streamed(call: Call, given: Mapping[str, npt.ArrayLike]) -> bool:
    """Whether a call starts from a state outside the graph: its layer is stateful, or the state is given."""
    if call.states:
        return False
    return _is_stateful(call.layer) or any(slot.initial in given for slot in state_slots(call))


def initial_states(call: Call, given: Mapping[str, npt.ArrayLike], x: Array) -> list[Float64]:
    """Return the initial states of a streamed call in the order of :attr:`Call.states`; zeros for missing ones.

    Args:
        call: A call of a recurrent layer.
        given: The given states by the names of :func:`state_slots`.
        x: The input of the call, for the size of the batch.

    Raises:
        UsageError: A state has another shape than its slot.
    """
    layer = call.layer.first if isinstance(call.layer, Stack) else call.layer
    batch = int(x.shape[1 if getattr(layer, "time_major", False) else 0])
    found: dict[int, Float64] = {}
    for slot in state_slots(call):
        shape = (len(slot.halves), batch, slot.hidden)
        array = np.asarray(given.get(slot.initial, np.zeros(shape)), np.float64)
        if array.shape != shape:
            raise UsageError(f"state '{slot.initial}' is {array.shape}, expected {shape}")
        found |= dict(zip(slot.halves, array, strict=True))
    return [found[half] for half in sorted(found)]


def final_states(call: Call, states: Sequence[Float64]) -> dict[str, Float64]:
    """Return a call's final states by the names of :func:`state_slots`."""
    return {slot.final: np.stack([states[half] for half in slot.halves]) for slot in state_slots(call)}


def compute(
    layer: Layer,
    inputs: Sequence[Array],
    states: Sequence[Array] | None = None,
    masks: Sequence[npt.NDArray[np.bool_] | None] = (),
    cell: CellType = cell_of,
) -> tuple[tuple[Array, ...], tuple[Float64, ...]]:
    """Compute one call of a layer.

    Args:
        layer: Any known layer.
        inputs: The inputs of the call.
        states: The initial states of a recurrent layer, see :attr:`Call.states`; zeros if not given.
        masks: The masks of the call, see :attr:`Call.masks`.
        cell: The function that makes the cells of a recurrent layer.

    Returns:
        The outputs in the order of :class:`~lstmconv.model.Tensor`, and a recurrent layer's final states.

    Raises:
        UnsupportedModelError: The layer is unknown.
    """
    mask = next(iter(masks), None)
    if isinstance(layer, Stack):
        run = run_stack(layer, inputs[0], states, mask, cell)
        return (*run.outputs, *(run.states if layer.last.return_state else ())), run.states
    if isinstance(layer, (LSTMLayer, RecurrentLayer)):
        run = run_layer(layer, inputs[0], states, mask, cell)
        return (*run.outputs, *(run.states if layer.return_state else ())), run.states
    if isinstance(layer, TimeDistributed):
        return (_time_distributed(layer, inputs[0]),), ()
    if isinstance(layer, Unknown):
        raise UnsupportedModelError(layer.described)
    found = RULES[type(layer)](layer, inputs, masks)
    return found if isinstance(found, tuple) else (found,), ()


def _time_distributed(layer: TimeDistributed, x: Array) -> Array:
    """Run the inner model on all steps at once, with batch and time as one batch axis."""
    inner = layer.model
    (output,) = run_model(inner, [x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])]).values()
    return output.reshape(*x.shape[:2], *output.shape[1:])
