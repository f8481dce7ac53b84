"""The arrays of a written LSTM cell, under Keras' names, as LSTM and as CuDNNLSTM store them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstmconv.arrays.copying import BiasMode, packed, place_bias
from lstmconv.layouts import CUDNN_LSTM_LAYER, KERAS, Layout
from lstmconv.model import Array, Gates, LSTMDirection, LSTMLayer

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

    def arrays(self) -> Iterator[tuple[str, Array]]:
        """Yield kernel ``(input, 4 hidden)``, recurrent_kernel ``(hidden, 4 hidden)`` and bias, if there is one.

        A bias is ``(4 hidden,)``, two biases summed, or in a CuDNNLSTM ``(8 hidden,)``, both side by side.

        Raises:
            UnsupportedModelError: A weight does not fit the dtype.
        """
        source, layout = self.direction, self.cell.layout
        hidden = source.hidden_size
        yield "kernel", packed(layout.input_matrix, source.weight_ih, (source.input_size, 4 * hidden), self.dtype)
        yield "recurrent_kernel", packed(layout.recurrent_matrix, source.weight_hh, (hidden, 4 * hidden), self.dtype)
        if self.use_bias:
            yield "bias", np.concatenate([self._bias(gates) for gates in self._biases() if gates is not None])

    def _bias(self, gates: Gates) -> Array:
        return packed(self.cell.layout.one_bias, gates, (4 * gates.shape[1],), self.dtype)

    def _biases(self) -> tuple[Gates | None, Gates | None]:
        if self.cell is CUDNN_LSTM:
            return place_bias(self.direction, self.bias_mode, zeros=True)
        return place_bias(self.direction, "single-input")


def halves_of(
    layer: LSTMLayer, cell: CellClass, dtype: np.dtype[Any], bias_mode: BiasMode | None = None
) -> tuple[WrittenHalf, ...]:
    """Return a layer's directions as they are written, forward first."""
    sides = ("forward", "backward") if layer.bidirectional else (None,)
    return tuple(
        WrittenHalf(side, direction, cell, dtype, bias_mode)
        for side, direction in zip(sides, layer.directions, strict=True)
    )
