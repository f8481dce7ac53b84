"""What a Keras LSTM computes, step by step in NumPy float64: the judge of every conversion.

Sources: keras/src/layers/rnn/{lstm,rnn,bidirectional}.py and backend/*/rnn.py (3.15),
tf_keras/src/layers/rnn (2.21), keras/backend/theano_backend.py rnn (1.2.2 to 2.3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lstmconv.activations import Activation
from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.model import Array, LSTMDirection, LSTMLayer, Stack

__all__ = ["Cell", "CellType", "LSTMOutputs", "merge", "reference", "returned", "run_layer", "run_stack", "times"]

Float64: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LSTMOutputs:
    """Everything one call of a layer computes.

    Attributes:
        outputs: What Keras returns for the sequence: one array, or two for ``merge_mode=None``;
            ``(batch, time, units)`` or, without return_sequences, ``(batch, units)``.
        states: The final states in Keras' order: h, c of the forward half, then of the backward
            half; each ``(batch, hidden)``.
        sequences: Each half's own outputs ``(batch, time, hidden)`` in the order of the input's time.
    """

    outputs: tuple[Float64, ...]
    states: tuple[Float64, ...]
    sequences: tuple[Float64, ...]


@dataclass(frozen=True)
class _Run:
    sequence: Float64
    h: Float64
    c: Float64


def times(array: Float64, weight: Float64) -> Float64:
    """Multiply ``(..., columns)`` by the rows of a weight, in one product whatever the axes in front."""
    flat: Float64 = array.reshape(-1, array.shape[-1]) @ weight.T
    return flat.reshape(*array.shape[:-1], len(weight))


class Cell:
    """One direction's arithmetic: exact as far as float64 is.

    Everything else about a layer (order of time, masks, merging) is computed around it, on arrays that may have
    one axis more in front of ``(batch, time, features)``. So other cells carry a rounding error
    (:mod:`lstmconv.proof.rounding`) or wrong versions (:mod:`lstmconv.proof.power`) along that axis.
    """

    def __init__(self, direction: LSTMDirection, name: str) -> None:
        """Take a direction, and its layer's name for errors."""
        self.act = _known(name, "activation", direction.activation)
        self.rec = _known(name, "recurrent activation", direction.recurrent_activation)
        hidden = direction.hidden_size
        self.weight_ih = np.asarray(direction.weight_ih, np.float64).reshape(4 * hidden, -1)
        self.weight_hh = np.asarray(direction.weight_hh, np.float64).reshape(4 * hidden, -1)
        self.biases = tuple(
            np.asarray(gates, np.float64).reshape(4 * hidden)
            for gates in (direction.bias_ih, direction.bias_hh)
            if gates is not None
        )

    def project(self, x: Float64) -> Float64:
        """Return what the gates get from the input and the biases, ``(..., batch, time, 4 * hidden)``."""
        projected: Float64 = times(x, self.weight_ih) + sum(self.biases)
        return projected

    def step(self, projected: Float64, h: Float64, c: Float64) -> tuple[Float64, Float64]:
        """Return h and c after a step, ``(..., batch, hidden)``; ``projected`` is this step's of :meth:`project`."""
        i, f, g, o = np.split(projected + times(h, self.weight_hh), 4, axis=-1)
        new_c = self.rec(f) * c + self.rec(i) * self.act(g)
        return self.rec(o) * self.act(new_c), new_c

    def merge(self, mode: str, forward: Float64, backward: Float64) -> Float64:
        """Join the halves of a Bidirectional layer as one sequence; ``mode`` is not ``"none"``."""
        return merge(mode, forward, backward)


def merge(mode: str, forward: Float64, backward: Float64) -> Float64:
    """Join the halves of a Bidirectional layer exactly, as :meth:`Cell.merge`."""
    if mode == "concat":
        return np.concatenate([forward, backward], axis=-1)
    if mode == "mul":
        return forward * backward
    total: Float64 = forward + backward
    return total / 2 if mode == "ave" else total


CellType: TypeAlias = "Callable[[LSTMDirection, str], Cell]"
"""What makes the cell of a direction; the name is its layer's."""


def _known(layer: str, kind: str, activation: Activation | None) -> Activation:
    if activation is None:
        raise UnsupportedModelError(
            f"{layer}: the {kind} is unknown; pass --config model.json or --{kind.replace(' ', '-')}"
        )
    return activation


def _run(cell: Cell, x: Float64, mask: Mask | None, h: Float64, c: Float64, *, zero_output: bool) -> _Run:
    """Run one direction over ``x (..., batch, time, input)``, already in the order of processing."""
    projected = cell.project(x)
    output = np.zeros_like(h)  # What a masked step repeats before the first valid one.
    sequence: list[Float64] = []
    for step in range(x.shape[-2]):
        new_h, new_c = cell.step(projected[..., step, :], h, c)
        if mask is None:
            h, c, output = new_h, new_c, new_h
            sequence.append(output)
            continue
        valid = mask[:, step, None]
        output = np.where(valid, new_h, output)
        h, c = np.where(valid, new_h, h), np.where(valid, new_c, c)
        sequence.append(np.where(valid, output, 0.0) if zero_output else output)
    whole = np.stack(sequence, axis=-2) if sequence else np.zeros((*h.shape[:-1], 0, h.shape[-1]))
    return _Run(whole, h, c)


def run_layer(
    layer: LSTMLayer,
    x: npt.ArrayLike,
    initial_state: Sequence[npt.ArrayLike] | None = None,
    mask: npt.ArrayLike | None = None,
    cell: CellType = Cell,
) -> LSTMOutputs:
    """Compute everything a layer computes; see :func:`reference` for the arguments.

    Another ``cell`` than the exact one may take, and returns, one axis more in front of all arrays but the mask.
    """
    inputs = np.asarray(x, np.float64)
    valid = None if mask is None else np.asarray(mask, bool)
    if layer.time_major:
        inputs = inputs.swapaxes(-3, -2)
        valid = None if valid is None else valid.T
    if valid is not None and valid.shape != inputs.shape[-3:-1]:
        raise UsageError(f"{layer.name}: mask is {valid.shape}, expected {inputs.shape[-3:-1]}")
    shapes = [(*inputs.shape[:-2], direction.hidden_size) for direction in layer.directions for _ in "hc"]
    if initial_state is None:
        states = [np.zeros(shape) for shape in shapes]
    else:
        states = [np.asarray(state, np.float64) for state in initial_state]
    if [state.shape for state in states] != shapes:
        raise UsageError(
            f"{layer.name}: initial_state is {[state.shape for state in states]}, expected {shapes} "
            "(h and c, forward then backward)"
        )
    cells = [cell(direction, layer.name) for direction in layer.directions]
    runs: list[_Run] = []
    for direction, own, h, c in zip(layer.directions, cells, states[0::2], states[1::2], strict=True):
        ordered, counted = inputs, valid
        if direction.go_backwards:
            ordered, counted = inputs[..., ::-1, :], None if valid is None else valid[:, ::-1]
        runs.append(_run(own, ordered, counted, h, c, zero_output=layer.zero_output_for_mask))
    in_time = tuple(
        run.sequence[..., ::-1, :] if direction.go_backwards else run.sequence
        for run, direction in zip(runs, layer.directions, strict=True)
    )
    outputs = returned(layer, [run.sequence for run in runs], cells[0].merge)
    if layer.time_major and layer.return_sequences is not False:
        outputs = tuple(output.swapaxes(-3, -2) for output in outputs)
    return LSTMOutputs(outputs, tuple(state for run in runs for state in (run.h, run.c)), in_time)


def run_stack(
    stack: Stack,
    x: npt.ArrayLike,
    initial_state: Sequence[npt.ArrayLike] | None = None,
    mask: npt.ArrayLike | None = None,
    cell: CellType = Cell,
) -> LSTMOutputs:
    """Compute a stack: each layer on the output of the one before it, all under one mask.

    Args:
        stack: Its layers are chained.
        x: As for :func:`reference`.
        initial_state: h and c of every direction, layer by layer.
        mask: As for :func:`reference`.
        cell: As for :func:`run_layer`.

    Returns:
        The last layer's outputs and sequences, and the states of all directions, layer by layer.
    """
    given = None if initial_state is None else list(initial_state)
    states: list[Float64] = []
    result = LSTMOutputs((), (), ())
    for layer in stack.layers:
        count = 2 * len(layer.directions)
        own = None if given is None else given[:count]
        given = None if given is None else given[count:]
        result = run_layer(layer, x, own, mask, cell)
        states += result.states
        x = result.outputs[0]
    return replace(result, states=tuple(states))


def returned(
    layer: LSTMLayer, sequences: Sequence[Float64], merge: Callable[[str, Float64, Float64], Float64] = merge
) -> tuple[Float64, ...]:
    """Return what Keras returns, batch first; an unknown return_sequences returns the sequence.

    Args:
        layer: Its options.
        sequences: Each half's outputs ``(..., batch, time, hidden)`` in the order of processing.
        merge: Joins two halves.
    """
    if layer.return_sequences is False:
        parts = [_last(sequence) for sequence in sequences]
    else:
        parts = [sequences[0], *(sequence[..., ::-1, :] for sequence in sequences[1:])]
    if layer.backward is None or layer.merge_mode == "none":
        return tuple(parts)
    return (merge(layer.merge_mode, *parts),)


def _last(sequence: Float64) -> Float64:
    """Return the last step; zeros of a sequence without any."""
    last: Float64 = sequence[..., -1, :] if sequence.shape[-2] else np.zeros((*sequence.shape[:-2], sequence.shape[-1]))
    return last


def reference(
    layer: LSTMLayer,
    x: npt.ArrayLike,
    initial_state: Sequence[npt.ArrayLike] | None = None,
    mask: npt.ArrayLike | None = None,
) -> Array | list[Array]:
    """Return what the Keras layer returns for ``x``, computed in float64.

    Args:
        layer: A layer of a :class:`~lstmconv.model.Checkpoint`.
        x: ``(batch, time, input)``, or ``(time, batch, input)`` for a time_major layer.
        initial_state: ``[h, c]``, or ``[h, c, h, c]`` (forward, backward) for a Bidirectional
            layer, each ``(batch, hidden)``; zeros if not given.
        mask: ``(batch, time)``, true where a step counts.

    Returns:
        ``(batch, time, units)``, or ``(batch, units)`` without return_sequences; a list of several
        where Keras returns several (merge_mode ``None``, return_state).

    Raises:
        UsageError: A shape is not as above.
        UnsupportedModelError: The layer's activations are unknown.
    """
    given = np.asarray(x, np.float64)
    if given.ndim != 3 or given.shape[2] != layer.input_size:
        expected = "(time, batch" if layer.time_major else "(batch, time"
        raise UsageError(f"{layer.name}: x is {given.shape}, expected {expected}, {layer.input_size})")
    result = run_layer(layer, given, initial_state, mask)
    returned = [*result.outputs, *(result.states if layer.return_state else ())]
    return returned[0] if len(returned) == 1 else returned
