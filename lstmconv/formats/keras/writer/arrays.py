"""The arrays of a written LSTM cell, under Keras' names, as LSTM and as CuDNNLSTM store them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstmconv.arrays.copying import BiasMode, packed, place_bias
from lstmconv.layouts import CUDNN_LSTM_LAYER, KERAS, Layout
from lstmconv.model import Array, LSTMDirection, LSTMLayer

__all__ = ["CUDNN_LSTM", "LSTM", "CellClass", "WrittenHalf", "halves_of"]


@dataclass(frozen=True)
class CellClass:
    """One of Keras' two LSTM layers.

    Attributes:
        name: The class.
        layout: How it stores its arrays.
        cell: What it calls the cell that owns them; a CuDNNLSTM owns them itself.
        inner: What Keras calls an unnamed one, as inside a Bidirectional.
    """

    name: str
    layout: Layout
    cell: str | None
    inner: str


LSTM = CellClass("LSTM", KERAS, "lstm_cell", "lstm")
CUDNN_LSTM = CellClass("CuDNNLSTM", CUDNN_LSTM_LAYER, None, "cu_dnnlstm")


@dataclass(frozen=True, eq=False)
class WrittenHalf:
    """One direction as it is written.

    Attributes:
        side: ``forward``, ``backward``, or ``None`` for a layer of one direction.
        direction: The source.
        cell: The class that it becomes.
        dtype: The dtype of the written arrays.
        bias_mode: How a CuDNNLSTM's two biases are filled.
    """

    side: str | None
    direction: LSTMDirection
    cell: CellClass
    dtype: np.dtype[Any]
    bias_mode: BiasMode | None = None

    @property
    def name(self) -> str:
        """``forward_lstm``, as Keras names the halves of a Bidirectional."""
        return f"{self.side}_{self.cell.inner}"

    @property
    def use_bias(self) -> bool:
        """Whether a bias is stored."""
        return self.cell is CUDNN_LSTM or bool({"bias_ih", "bias_hh"} & set(self.direction.arrays))

    @property
    def arrays(self) -> Mapping[str, Callable[[], Array]]:
        """Functions that make kernel ``(input, 4 hidden)``, recurrent_kernel ``(hidden, 4 hidden)`` and bias, if any.

        A bias is ``(4 hidden,)``, two biases summed, or in a CuDNNLSTM ``(8 hidden,)``, both side by side. They raise
        an UnsupportedModelError where a weight does not fit the dtype.
        """
        source, layout = self.direction, self.cell.layout
        hidden, inputs = source.hidden_size, source.input_size
        arrays: dict[str, Callable[[], Array]] = {
            "kernel": lambda: packed(layout.input_matrix, source.weight_ih, (inputs, 4 * hidden), self.dtype),
            "recurrent_kernel": lambda: packed(
                layout.recurrent_matrix, source.weight_hh, (hidden, 4 * hidden), self.dtype
            ),
        }
        return {**arrays, "bias": self._bias} if self.use_bias else arrays

    def _bias(self) -> Array:
        if self.cell is CUDNN_LSTM:
            biases = place_bias(self.direction, self.bias_mode, zeros=True)
        else:
            biases = place_bias(self.direction, "single-input")
        size = (4 * self.direction.hidden_size,)
        one_bias = self.cell.layout.one_bias
        return np.concatenate([packed(one_bias, gates, size, self.dtype) for gates in biases if gates is not None])


def halves_of(
    layer: LSTMLayer, cell: CellClass, dtype: np.dtype[Any], bias_mode: BiasMode | None = None
) -> tuple[WrittenHalf, ...]:
    """Return a layer's directions as they are written, forward first."""
    sides = ("forward", "backward") if layer.bidirectional else (None,)
    return tuple(
        WrittenHalf(side, direction, cell, dtype, bias_mode)
        for side, direction in zip(sides, layer.directions, strict=True)
    )
