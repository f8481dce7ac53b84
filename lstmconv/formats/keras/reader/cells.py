"""One recurrent cell of a file, and its kind, determined by the names and shapes of its arrays.

A *cell* is one direction's arrays: ``kernel``, ``recurrent_kernel``, ``bias``, or Keras 1's twelve.
The shapes determine the class of the layer: the recurrent kernel of H units has 4H columns in an LSTM,
3H in a GRU, H in a SimpleRNN; a bias of length 8H means a CuDNNLSTM.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from lstmconv.formats.hdf5.tree import StoredArray

__all__ = ["FUSED", "LSTM_KINDS", "PER_GATE", "Cell", "CellKind", "HalfSpec", "in_natural_order", "natural"]

CellKind: TypeAlias = Literal["LSTM", "LSTM per gate", "CuDNNLSTM", "GRU", "SimpleRNN", "ConvLSTM", "unknown"]

LSTM_KINDS = {"LSTM", "LSTM per gate", "CuDNNLSTM"}
"""The kinds that convert."""

PER_GATE = tuple(f"{array}_{gate}" for gate in "icfo" for array in "WUb")
"""Keras 1.2.2 layers/recurrent.py: trainable_weights, W_i U_i b_i, W_c .., W_f .., W_o .."""
FUSED = ("kernel", "recurrent_kernel", "bias")


class Cell(NamedTuple):
    """One direction's arrays as the file stores them.

    Attributes:
        group: The top-level layer (legacy), or the object's path (saveable).
        scope: The parts of the path between the group and the variable's name.
        arrays: By Keras' names: ``kernel``, ``recurrent_kernel``, ``bias``; or ``W_i`` ... ``b_o``.
        beside: The paths of the layer's other arrays, which belong to no cell: normalisation, peepholes.
    """

    group: str
    scope: tuple[str, ...]
    arrays: Mapping[str, StoredArray]
    beside: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The cell's place in the file, for messages."""
        return "/".join([self.group, *self.scope])

    @property
    def kind(self) -> CellKind:
        """The class of the layer, by the names and shapes of the arrays."""
        if "W_i" in self.arrays or "W_z" in self.arrays:
            if any(len(array.shape) > 2 for array in self.arrays.values()):
                return "ConvLSTM"
            return "LSTM per gate" if set(self.arrays) <= set(PER_GATE) else "GRU"
        recurrent = self.arrays["recurrent_kernel"].shape
        if len(recurrent) > 2:
            return "ConvLSTM"
        if len(recurrent) != 2 or not recurrent[0]:
            return "unknown"
        blocks = recurrent[1] / recurrent[0]
        if blocks in (1, 3):
            return "SimpleRNN" if blocks == 1 else "GRU"
        if blocks != 4 or set(self.arrays) - set(FUSED):
            return "unknown"
        bias = self.arrays.get("bias")
        return "CuDNNLSTM" if bias is not None and bias.shape == (8 * recurrent[0],) else "LSTM"

    @property
    def hidden_size(self) -> int | None:
        """The number of units, by the recurrent kernel."""
        array = self.arrays.get("recurrent_kernel") or self.arrays.get("U_i")
        return array.shape[0] if array is not None and array.shape else None


class HalfSpec(NamedTuple):
    """One LSTM cell as a config describes it.

    Attributes:
        config: The LSTM's config, or the configs of an RNN and its LSTMCell, merged.
        cudnn: Whether it is a CuDNNLSTM.
    """

    config: Mapping[str, Any]
    cudnn: bool

    @property
    def units(self) -> int | None:
        """The number of units; ``output_dim`` in Keras 1."""
        units = self.config.get("units", self.config.get("output_dim"))
        return units if isinstance(units, int) else None

    @property
    def use_bias(self) -> bool:
        """Whether there is a bias; always in Keras 1 and in a CuDNNLSTM."""
        return bool(self.config.get("use_bias", True))

    def describes(self, cell: Cell) -> bool:
        """Whether a cell's arrays have this config's units and bias."""
        has_bias = "bias" in cell.arrays or "b_i" in cell.arrays
        return self.units in (None, cell.hidden_size) and self.use_bias == has_bias


def natural(text: str) -> list[tuple[int, str]]:
    """Return a sort key that puts ``lstm_2`` before ``lstm_10``: HDF5 lists names alphabetically."""
    # Up to 18 digits at a time: Python refuses to parse numbers of thousands of digits.
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]{1,18})", text)]


def in_natural_order(cell: Cell) -> list[list[tuple[int, str]]]:
    """Return a sort key for cells: the order of their paths, with forward halves first."""
    halves = {"forward_layer": "0", "backward_layer": "1"}
    return [natural(halves.get(part, part)) for part in cell.group.split("/")]
