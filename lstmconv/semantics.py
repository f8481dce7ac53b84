"""What a Keras LSTM computes, step by step in NumPy float64: the judge of every conversion.

Sources: keras/src/layers/rnn/{lstm,rnn,bidirectional}.py and backend/*/rnn.py (3.15),
tf_keras/src/layers/rnn (2.21), keras/backend/theano_backend.py rnn (1.2.2 to 2.3.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lstmconv.activations import Activation
from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.model import Array, LSTMDirection, LSTMLayer, Stack

__all__ = ["LSTMOutputs", "reference", "run_layer", "run_stack"]

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
    last: Float64
    h: Float64
    c: Float64


def _known(layer: str, kind: str, activation: Activation | None) -> Activation:
    if activation is None:
        raise UnsupportedModelError(
            f"{layer}: the {kind} is unknown; pass --config model.json or --{kind.replace(' ', '-')}"
        )
    return activation


def _run(
    direction: LSTMDirection, x: Float64, mask: Mask | None, h: Float64, c: Float64, zero_output: bool, name: str
) -> _Run:
    """Run one direction over ``x (batch, time, input)``; the sequence comes in processing order."""
    act = _known(name, "activation", direction.activation)
    rec = _known(name, "recurrent activation", direction.recurrent_activation)
    hidden = direction.hidden_size
    weight_ih = np.asarray(direction.weight_ih, np.float64).reshape(4 * hidden, -1)
    weight_hh = np.asarray(direction.weight_hh, np.float64).reshape(4 * hidden, hidden)
    bias = np.zeros(4 * hidden)
    for gates in (direction.bias_ih, direction.bias_hh):
        if gates is not None:
            bias = bias + np.asarray(gates, np.float64).reshape(4 * hidden)
    if direction.go_backwards:
        x = x[:, ::-1]
        mask = None if mask is None else mask[:, ::-1]
    projected = x @ weight_ih.T + bias
    output = np.zeros_like(h)  # What a masked step repeats before the first valid one.
    sequence = np.empty((*x.shape[:2], hidden))
    for step in range(x.shape[1]):
        z = projected[:, step] + h @ weight_hh.T
        i, f, g, o = (z[:, gate * hidden : (gate + 1) * hidden] for gate in range(4))
        new_c = rec(f) * c + rec(i) * act(g)
        new_h = rec(o) * act(new_c)
        if mask is None:
            h, c, output = new_h, new_c, new_h
        else:
            valid = mask[:, step, None]
            output = np.where(valid, new_h, output)
            h, c = np.where(valid, new_h, h), np.where(valid, new_c, c)
        returned = output if mask is None or not zero_output else np.where(mask[:, step, None], output, 0.0)
        sequence[:, step] = returned
    last = sequence[:, -1] if x.shape[1] else np.zeros_like(h)
    return _Run(sequence, last, h, c)


def _merge(mode: str, forward: Float64, backward: Float64) -> tuple[Float64, ...]:
    if mode == "none":
        return forward, backward
    if mode == "concat":
        return (np.concatenate([forward, backward], axis=-1),)
    if mode == "mul":
        return (forward * backward,)
    total = forward + backward
    return (total / 2 if mode == "ave" else total,)


def run_layer(
    layer: LSTMLayer,
    x: npt.ArrayLike,
    initial_state: Sequence[npt.ArrayLike] | None = None,
    mask: npt.ArrayLike | None = None,
) -> LSTMOutputs:
    """Compute everything a layer computes; see :func:`reference` for the arguments."""
    inputs = np.asarray(x, np.float64)
    if inputs.ndim != 3 or inputs.shape[2] != layer.input_size:
        expected = "(time, batch" if layer.time_major else "(batch, time"
        raise UsageError(f"{layer.name}: x is {inputs.shape}, expected {expected}, {layer.input_size})")
    valid = None if mask is None else np.asarray(mask, bool)
    if layer.time_major:
        inputs = inputs.swapaxes(0, 1)
        valid = None if valid is None else valid.T
    if valid is not None and valid.shape != inputs.shape[:2]:
        raise UsageError(f"{layer.name}: mask is {valid.shape}, expected {inputs.shape[:2]}")
    sizes = [direction.hidden_size for direction in layer.directions for _ in "hc"]
    if initial_state is None:
        states = [np.zeros((inputs.shape[0], size)) for size in sizes]
    else:
        states = [np.asarray(state, np.float64) for state in initial_state]
    shapes = [(inputs.shape[0], size) for size in sizes]
    if [state.shape for state in states] != shapes:
        raise UsageError(
            f"{layer.name}: initial_state is {[state.shape for state in states]}, expected {shapes} "
            "(h and c, forward then backward)"
        )
    runs = [
        _run(direction, inputs, valid, states[2 * k], states[2 * k + 1], layer.zero_output_for_mask, layer.name)
        for k, direction in enumerate(layer.directions)
    ]
    in_time = tuple(
        run.sequence[:, ::-1] if direction.go_backwards else run.sequence
        for run, direction in zip(runs, layer.directions, strict=True)
    )
    outputs = _outputs(layer, runs)
    if layer.time_major and layer.return_sequences is not False:
        outputs = tuple(output.swapaxes(0, 1) for output in outputs)
    return LSTMOutputs(outputs, tuple(state for run in runs for state in (run.h, run.c)), in_time)


def run_stack(
    stack: Stack,
    x: npt.ArrayLike,
    initial_state: Sequence[npt.ArrayLike] | None = None,
    mask: npt.ArrayLike | None = None,
) -> LSTMOutputs:
    """Compute a stack: each layer on the output of the one before it, all under one mask.

    Args:
        stack: Its layers are chained.
        x: As for :func:`reference`.
        initial_state: h and c of every direction, layer by layer.
        mask: As for :func:`reference`.

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
        result = run_layer(layer, x, own, mask)
        states += result.states
        x = result.outputs[0]
    return replace(result, states=tuple(states))


def _outputs(layer: LSTMLayer, runs: Sequence[_Run]) -> tuple[Float64, ...]:
    """Return what Keras returns; an unknown return_sequences returns the sequence."""
    if layer.return_sequences is False:
        parts = [run.last for run in runs]
    else:
        parts = [run.sequence for run in runs]
        parts[1:] = [sequence[:, ::-1] for sequence in parts[1:]]
    return (parts[0],) if layer.backward is None else _merge(layer.merge_mode, parts[0], parts[1])


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
    result = run_layer(layer, x, initial_state, mask)
    returned = [*result.outputs, *(result.states if layer.return_state else ())]
    return returned[0] if len(returned) == 1 else returned
