"""GRU and SimpleRNN layers, which a whole model may have besides LSTM layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lstmconv.activations import SIGMOID, TANH, Activation
from lstmconv.errors import UnsupportedModelError
from lstmconv.model.gates import Array
from lstmconv.model.layers import MergeMode, sizes

__all__ = ["GRU_GATES", "GRUDirection", "RecurrentLayer", "SimpleRNNDirection"]

GRU_GATES = "zrh"
"""The order of the first axis of :class:`GRUDirection`'s arrays: update, reset, candidate, as in Keras and ONNX."""


@dataclass(frozen=True, eq=False)
class GRUDirection:
    """One GRU that runs in one direction over time.

    Source: keras/src/layers/rnn/gru.py GRUCell.call::

        z, r = rec(weight_ih x + bias_ih + weight_hh h + bias_hh)
        n    = act(weight_ih x + bias_ih + r * (weight_hh h + bias_hh))     with reset_after
        n    = act(weight_ih x + bias_ih + weight_hh (r * h))               without
        h'   = z * h + (1 - z) * n

    Attributes:
        weight_ih: ``(3, hidden, input)``, gates ``z r h``.
        weight_hh: ``(3, hidden, hidden)``.
        bias_ih: ``(3, hidden)`` or ``None``.
        bias_hh: ``(3, hidden)`` or ``None``; only with ``reset_after``.
    """

    weight_ih: Array
    weight_hh: Array
    bias_ih: Array | None = None
    bias_hh: Array | None = None
    activation: Activation = TANH
    recurrent_activation: Activation = SIGMOID
    reset_after: bool = False
    go_backwards: bool = False

    @property
    def hidden_size(self) -> int:
        """Units."""
        return int(self.weight_hh.shape[1])

    @property
    def input_size(self) -> int:
        """Features of one time step."""
        return int(self.weight_ih.shape[2])


@dataclass(frozen=True, eq=False)
class SimpleRNNDirection:
    """One SimpleRNN that runs in one direction over time: ``h' = act(weight_ih x + bias + weight_hh h)``.

    Attributes:
        weight_ih: ``(hidden, input)``.
        weight_hh: ``(hidden, hidden)``.
        bias_ih: ``(hidden,)`` or ``None``.
    """

    weight_ih: Array
    weight_hh: Array
    bias_ih: Array | None = None
    activation: Activation = TANH
    go_backwards: bool = False

    @property
    def hidden_size(self) -> int:
        """Units."""
        return int(self.weight_hh.shape[0])

    @property
    def input_size(self) -> int:
        """Features of one time step."""
        return int(self.weight_ih.shape[1])


@dataclass(frozen=True, eq=False)
class RecurrentLayer:
    """A GRU or SimpleRNN layer, or a Bidirectional one; the attributes are those of an LSTMLayer."""

    name: str
    forward: GRUDirection | SimpleRNNDirection
    backward: GRUDirection | SimpleRNNDirection | None = None
    merge_mode: MergeMode = "concat"
    return_sequences: bool = False
    return_state: bool = False
    stateful: bool = False
    zero_output_for_mask: bool = False
    time_major: bool = False

    def __post_init__(self) -> None:
        """Check that the two halves fit together."""
        if self.backward is None:
            return
        if type(self.backward) is not type(self.forward) or self.backward.input_size != self.forward.input_size:
            raise UnsupportedModelError(
                f"{self.name}: the directions of a Bidirectional layer differ in kind or input size"
            )

    def __repr__(self) -> str:
        kind = "GRU" if isinstance(self.forward, GRUDirection) else "SimpleRNN"
        return f"RecurrentLayer({self.name!r}, {kind}, {sizes(self.forward.input_size, self.forward.hidden_size)})"

    def with_directions(self, directions: Sequence[GRUDirection | SimpleRNNDirection]) -> RecurrentLayer:
        """Return the layer with other directions, as many as it has, the forward half first."""
        forward, *backward = directions
        return replace(self, forward=forward, backward=backward[0] if backward else None)

    @property
    def directions(self) -> tuple[GRUDirection | SimpleRNNDirection, ...]:
        """The forward half, then the backward half if there is one."""
        return (self.forward,) if self.backward is None else (self.forward, self.backward)
