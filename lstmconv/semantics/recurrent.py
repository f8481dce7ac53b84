"""Compute a Keras recurrent layer step by step in NumPy float64: order of time, masks, merging.

Everything here is the same for LSTM, GRU and SimpleRNN; a :class:`Cell` computes one step.

Sources: keras/src/layers/rnn/{rnn,lstm,gru,simple_rnn,bidirectional}.py and backend/*/rnn.py (3.15),
tf_keras/src/layers/rnn (2.21), keras/backend/theano_backend.py rnn (1.2.2 to 2.3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lstmconv.errors import UsageError
from lstmconv.model import LSTMLayer, Stack
from lstmconv.model.recurrent import RecurrentLayer
from lstmconv.semantics.cells import Cell, CellType, Float64, cell_of, merge, state_letters

__all__ = ["RecurrentOutputs", "returned", "run_layer", "run_stack"]


@dataclass(frozen=True)
class RecurrentOutputs:
    """All results of one call of a layer.

    Attributes:
        outputs: Keras' outputs without states: one array, or two for ``merge_mode=None``;
            ``(batch, time, units)`` or, without return_sequences, ``(batch, units)``.
        states: The final states in Keras' order: h and c (only h for a GRU or SimpleRNN) of the forward half, then of
            the backward half; each ``(batch, hidden)``.
        sequences: Each half's own outputs ``(batch, time, hidden)`` in the order of the input's time.
    """

    outputs: tuple[Float64, ...]
    states: tuple[Float64, ...]
    sequences: tuple[Float64, ...]


def _run(
    cell: Cell, x: Float64, mask: npt.NDArray[np.bool_] | None, states: tuple[Float64, ...], *, zero_output: bool
) -> tuple[Float64, tuple[Float64, ...]]:
    """Run one direction over ``x (..., batch, time, input)``, already in the order of processing.

    Returns:
        The sequence ``(..., batch, time, hidden)`` and the states after the last step.
    """
    projected = cell.project(x)
    output = np.zeros_like(states[0])  # Masked steps before the first valid step repeat these zeros.
    sequence: list[Float64] = []
    for step in range(x.shape[-2]):
        new = cell.step(projected[..., step, :], *states)
        if mask is None:
            states, output = new, new[0]
            sequence.append(output)
            continue
        valid = mask[:, step, None]
        output = np.where(valid, new[0], output)
        states = tuple(np.where(valid, after, before) for after, before in zip(new, states, strict=True))
        sequence.append(np.where(valid, output, 0.0) if zero_output else output)
    shape = (*output.shape[:-1], 0, output.shape[-1])
    return np.stack(sequence, axis=-2) if sequence else np.zeros(shape), states


def run_layer(
    layer: LSTMLayer | RecurrentLayer,
    x: npt.ArrayLike,
    initial_state: Sequence[npt.ArrayLike] | None = None,
    mask: npt.ArrayLike | None = None,
    cell: CellType = cell_of,
) -> RecurrentOutputs:
    """Compute all results of one call of a layer.

    Args:
        layer: A recurrent layer.
        x: ``(batch, time, input)``, or ``(time, batch, input)`` for a time_major layer.
        initial_state: The states of each direction, ``(batch, hidden)`` each; zeros if not given.
        mask: ``(batch, time)``, true where a step counts.
        cell: The function that makes the cell of a direction. Cells other than the exact one may use one more leading
            axis in all arrays except the mask.

    Raises:
        UsageError: An array has another shape.
        UnsupportedModelError: An activation is unknown.
    """
    inputs = np.asarray(x, np.float64)
    valid = None if mask is None else np.asarray(mask, bool)
    if layer.time_major:
        inputs = inputs.swapaxes(-3, -2)
        valid = None if valid is None else valid.T
    if valid is not None and valid.shape != inputs.shape[-3:-1]:
        raise UsageError(f"{layer.name}: mask is {valid.shape}, expected {inputs.shape[-3:-1]}")
    letters = state_letters(layer)
    shapes = [(*inputs.shape[:-2], direction.hidden_size) for direction in layer.directions for _ in letters]
    if initial_state is None:
        states = [np.zeros(shape) for shape in shapes]
    else:
        states = [np.asarray(state, np.float64) for state in initial_state]
    if [state.shape for state in states] != shapes:
        raise UsageError(
            f"{layer.name}: initial_state is {[state.shape for state in states]}, expected {shapes} "
            f"({' and '.join(letters)}, forward then backward)"
        )
    cells = [cell(direction, layer.name) for direction in layer.directions]
    sequences: list[Float64] = []
    final: list[Float64] = []
    for number, (direction, own) in enumerate(zip(layer.directions, cells, strict=True)):
        ordered, counted = inputs, valid
        if direction.go_backwards:
            ordered, counted = inputs[..., ::-1, :], None if valid is None else valid[:, ::-1]
        before = tuple(states[number * len(letters) : (number + 1) * len(letters)])
        sequence, after = _run(own, ordered, counted, before, zero_output=layer.zero_output_for_mask)
        sequences.append(sequence)
        final += after
    in_time = tuple(
        sequence[..., ::-1, :] if direction.go_backwards else sequence
        for sequence, direction in zip(sequences, layer.directions, strict=True)
    )
    outputs = returned(layer, sequences, cells[0].merge)
    if layer.time_major and layer.return_sequences is not False:
        outputs = tuple(output.swapaxes(-3, -2) for output in outputs)
    return RecurrentOutputs(outputs, tuple(final), in_time)


def run_stack(
    stack: Stack,
    x: npt.ArrayLike,
    initial_state: Sequence[npt.ArrayLike] | None = None,
    mask: npt.ArrayLike | None = None,
    cell: CellType = cell_of,
) -> RecurrentOutputs:
    """Compute a stack: each layer reads the output of the layer before it, all under one mask.

    A layer that runs backwards returns its outputs in that order, so the next layers read the mask in that order too,
    like the cells of one ``RNN`` (keras/src/layers/rnn/rnn.py: the mask is flipped once, with the input).

    Args:
        stack: The stack.
        x: See :func:`run_layer`.
        initial_state: h and c of every direction, layer by layer.
        mask: See :func:`run_layer`.
        cell: See :func:`run_layer`.

    Returns:
        The last layer's outputs and sequences, and the states of all directions, layer by layer.
    """
    given = None if initial_state is None else list(initial_state)
    states: list[Float64] = []
    result = RecurrentOutputs((), (), ())
    for layer in stack.layers:
        count = 2 * len(layer.directions)
        own = None if given is None else given[:count]
        given = None if given is None else given[count:]
        result = run_layer(layer, x, own, mask, cell)
        states += result.states
        x = result.outputs[0]
        if mask is not None and layer.go_backwards and not layer.bidirectional:
            mask = np.flip(mask, 0 if layer.time_major else -1)
    return replace(result, states=tuple(states))


def returned(
    layer: LSTMLayer | RecurrentLayer,
    sequences: Sequence[Float64],
    merge: Callable[[str, Float64, Float64], Float64] = merge,
) -> tuple[Float64, ...]:
    """Return Keras' outputs without states, batch first; if return_sequences is unknown, the sequence.

    Args:
        layer: The layer, for its options.
        sequences: Each half's outputs ``(..., batch, time, hidden)`` in the order of processing.
        merge: The function that merges two halves.
    """
    if layer.return_sequences is False:
        parts = [_last(sequence) for sequence in sequences]
    else:
        parts = [sequences[0], *(sequence[..., ::-1, :] for sequence in sequences[1:])]
    if layer.backward is None or layer.merge_mode == "none":
        return tuple(parts)
    return (merge(layer.merge_mode, *parts),)


def _last(sequence: Float64) -> Float64:
    """Return the last step; zeros for a sequence without steps."""
    last: Float64 = sequence[..., -1, :] if sequence.shape[-2] else np.zeros((*sequence.shape[:-2], sequence.shape[-1]))
    return last
