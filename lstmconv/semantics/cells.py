"""The arithmetic of one step of LSTM, GRU and SimpleRNN, in float64.

Everything else about a layer (order of time, masks, merging) is computed around a cell, on arrays that may have one
more axis before ``(batch, time, features)``. Other cells use that axis for a rounding error
(:mod:`lstmconv.proof.rounding`) or for wrong versions (:mod:`lstmconv.proof.power`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lstmconv.activations import Activation
from lstmconv.errors import UnsupportedModelError
from lstmconv.model import LSTMDirection, LSTMLayer, Stack
from lstmconv.model.recurrent import GRUDirection, RecurrentLayer, SimpleRNNDirection

__all__ = ["Cell", "CellType", "Direction", "Float64", "GRUCell", "LSTMCell", "SimpleRNNCell", "cell_of", "merge",
           "state_letters", "times"]  # fmt: skip

Float64: TypeAlias = npt.NDArray[np.float64]
Direction: TypeAlias = "LSTMDirection | GRUDirection | SimpleRNNDirection"


def times(array: Float64, weight: Float64) -> Float64:
    """Multiply ``(..., columns)`` by the rows of a weight, in one product for any number of leading axes."""
    flat: Float64 = array.reshape(-1, array.shape[-1]) @ weight.T
    return flat.reshape(*array.shape[:-1], len(weight))


def state_letters(layer: LSTMLayer | RecurrentLayer | Stack) -> str:
    """Return the states of one direction in Keras' order: ``"hc"`` for an LSTM, else ``"h"``."""
    return "h" if isinstance(layer, RecurrentLayer) else "hc"


class Cell:
    """The arithmetic of one direction; subclasses define a step.

    Attributes:
        weight_ih: ``(gates * hidden, input)``.
        weight_hh: ``(gates * hidden, hidden)``.
        biases: The biases that are added to the product of the input and weight_ih.
    """

    weight_ih: Float64
    weight_hh: Float64
    biases: tuple[Float64, ...]

    def project(self, x: Float64) -> Float64:
        """Return the gates' sums of input and biases, ``(..., batch, time, gates * hidden)``."""
        projected: Float64 = times(x, self.weight_ih) + sum(self.biases)
        return projected

    def step(self, projected: Float64, *states: Float64) -> tuple[Float64, ...]:
        """Return the states after a step, ``(..., batch, hidden)`` each, the output first.

        ``projected`` is this step's part of the result of :meth:`project`.
        """
        raise NotImplementedError

    def merge(self, mode: str, forward: Float64, backward: Float64) -> Float64:
        """Join the halves of a Bidirectional layer as one sequence; ``mode`` is not ``"none"``."""
        return merge(mode, forward, backward)


class LSTMCell(Cell):
    """``c' = f c + i g``, ``h' = o act(c')``."""

    def __init__(self, direction: LSTMDirection, name: str) -> None:
        """Take a direction, and its layer's name for errors."""
        self.act = _known(name, "activation", direction.activation)
        self.rec = _known(name, "recurrent activation", direction.recurrent_activation)
        self.weight_ih, self.weight_hh = _rows(direction.weight_ih), _rows(direction.weight_hh)
        self.biases = _given(direction.bias_ih, direction.bias_hh)

    def step(self, projected: Float64, *states: Float64) -> tuple[Float64, ...]:
        h, c = states
        z = projected + times(h, self.weight_hh)
        z = z.reshape(*z.shape[:-1], 4, -1)
        both = self.rec(z[..., :2, :])  # i and f: an activation runs along units, the last axis.
        new_c = both[..., 1, :] * c + both[..., 0, :] * self.act(z[..., 2, :])
        return self.rec(z[..., 3, :]) * self.act(new_c), new_c


class GRUCell(Cell):
    """``h' = z h + (1 - z) n``; the reset gate acts before or after the product with R (:class:`GRUDirection`)."""

    def __init__(self, direction: GRUDirection, name: str) -> None:
        """Take a direction."""
        self.act, self.rec, self.reset_after = (
            direction.activation,
            direction.recurrent_activation,
            direction.reset_after,
        )
        self.weight_ih, self.weight_hh = _rows(direction.weight_ih), _rows(direction.weight_hh)
        self.biases = _given(direction.bias_ih)
        self.recurrent_bias = sum(_given(direction.bias_hh), np.zeros(len(self.weight_hh)))

    def step(self, projected: Float64, *states: Float64) -> tuple[Float64, ...]:
        (h,) = states
        hidden = h.shape[-1]
        gates = times(h, self.weight_hh[: 2 * hidden]) + self.recurrent_bias[: 2 * hidden]
        z, r = map(self.rec, np.split(projected[..., : 2 * hidden] + gates, 2, axis=-1))
        rows, bias = self.weight_hh[2 * hidden :], self.recurrent_bias[2 * hidden :]
        inner = r * (times(h, rows) + bias) if self.reset_after else times(r * h, rows)
        n = self.act(projected[..., 2 * hidden :] + inner)
        return (z * h + (1.0 - z) * n,)


class SimpleRNNCell(Cell):
    """``h' = act(W x + b + R h)``."""

    def __init__(self, direction: SimpleRNNDirection, name: str) -> None:
        """Take a direction."""
        self.act = direction.activation
        self.weight_ih = np.asarray(direction.weight_ih, np.float64)
        self.weight_hh = np.asarray(direction.weight_hh, np.float64)
        self.biases = _given(direction.bias_ih)

    def step(self, projected: Float64, *states: Float64) -> tuple[Float64, ...]:
        (h,) = states
        return (self.act(projected + times(h, self.weight_hh)),)


def merge(mode: str, forward: Float64, backward: Float64) -> Float64:
    """Join the halves of a Bidirectional layer exactly, as :meth:`Cell.merge`."""
    if mode == "concat":
        return np.concatenate([forward, backward], axis=-1)
    if mode == "mul":
        return forward * backward
    total: Float64 = forward + backward
    return total / 2 if mode == "ave" else total


CellType: TypeAlias = "Callable[[Any, str], Cell]"
"""A function that makes the cell of a direction; its second argument is the name of the layer."""


def cell_of(direction: Direction, name: str) -> Cell:
    """Return the exact cell of a direction; ``name`` is the name of the layer."""
    if isinstance(direction, GRUDirection):
        return GRUCell(direction, name)
    if isinstance(direction, SimpleRNNDirection):
        return SimpleRNNCell(direction, name)
    return LSTMCell(direction, name)


def _rows(matrix: Any) -> Float64:
    """Return a matrix ``(gates, hidden, columns)`` as rows, gate by gate."""
    array = np.asarray(matrix, np.float64)
    return array.reshape(-1, array.shape[-1])


def _given(*biases: Any) -> tuple[Float64, ...]:
    return tuple(np.asarray(bias, np.float64).reshape(-1) for bias in biases if bias is not None)


def _known(layer: str, kind: str, activation: Activation | None) -> Activation:
    if activation is None:
        raise UnsupportedModelError(
            f"{layer}: the {kind} is unknown; pass --config model.json or --{kind.replace(' ', '-')}"
        )
    return activation
