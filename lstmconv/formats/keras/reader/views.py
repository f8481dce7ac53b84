"""View a cell's arrays as gates: check their shapes and types, then view them through their layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from lstmconv.errors import UnreadableFileError, UnsupportedModelError
from lstmconv.formats.hdf5.tree import StoredArray
from lstmconv.formats.keras.reader.cells import PER_GATE, Cell, HalfSpec
from lstmconv.layouts import CUDNN_LSTM_LAYER, KERAS, KERAS_1
from lstmconv.model import Array, Gates

__all__ = ["CELL_LAYOUTS", "load_array", "view_cell"]

CELL_LAYOUTS = {"LSTM": KERAS, "LSTM per gate": KERAS_1, "CuDNNLSTM": CUDNN_LSTM_LAYER}
"""The layout in which each kind of LSTM cell is stored; other kinds do not convert."""


def view_cell(cell: Cell, half: HalfSpec | None, notes: list[str]) -> tuple[Gates, Gates, Gates | None, Gates | None]:
    """View a cell's arrays as weight_ih, weight_hh and up to two biases, through the layout of the cell's kind."""
    arrays = {name: _floats(array, half, notes) for name, array in cell.arrays.items()}
    _check_shapes(cell, arrays)
    if CELL_LAYOUTS[cell.kind] is KERAS_1:
        per_gate = [[arrays[f"{letter}_{gate}"] for gate in "icfo"] for letter in "WUb"]
        return (
            KERAS_1.input_matrix.view(per_gate[0]),
            KERAS_1.recurrent_matrix.view(per_gate[1]),
            KERAS_1.one_bias.view(per_gate[2]),
            None,
        )
    layout = CELL_LAYOUTS[cell.kind]
    hidden = arrays["recurrent_kernel"].shape[0]
    weight_ih = layout.input_matrix.view(arrays["kernel"], hidden)
    weight_hh = layout.recurrent_matrix.view(arrays["recurrent_kernel"], hidden)
    bias = arrays.get("bias")
    if bias is None:
        return weight_ih, weight_hh, None, None
    if layout is KERAS:
        return weight_ih, weight_hh, layout.one_bias.view(bias, hidden), None
    biases = [layout.one_bias.view(part, hidden) for part in np.split(bias, 2)]
    return weight_ih, weight_hh, biases[0], biases[1]


def load_array(array: StoredArray, config: Mapping[str, Any] | None, notes: list[str]) -> Array:
    """Load an array; an opaque array is bfloat16 unless the owner's config states another dtype.

    Raises:
        UnreadableFileError: The array is not in the file, or has two opaque bytes under another dtype policy.
    """
    values = array.load()
    if values.dtype.name != "bfloat16" or array.attributes.get("dtype") == "bfloat16":
        return values
    policy = json.dumps(config.get("dtype")) if config is not None else None
    if policy is not None and "bfloat16" not in policy:
        raise UnreadableFileError(f"'{array.path}' is of two opaque bytes, and the config's dtype is {policy}")
    notes.append("weights of two opaque bytes are read as bfloat16, which is how Keras stores it")
    return values


def _floats(array: StoredArray, half: HalfSpec | None, notes: list[str]) -> Array:
    """Load an array of floating-point numbers."""
    values = load_array(array, None if half is None else half.config, notes)
    if values.dtype.kind != "f" and values.dtype.name != "bfloat16":
        raise UnsupportedModelError(f"'{array.path}' is {values.dtype}, expected floating-point weights")
    return values


def _check_shapes(cell: Cell, arrays: Mapping[str, Array]) -> None:
    """Check every array's shape against the number of units of the recurrent kernel."""
    if cell.kind == "LSTM per gate":
        missing = [name for name in PER_GATE if name not in arrays]
        if missing:
            raise UnreadableFileError(f"'{cell.where}' lacks {', '.join(missing)}: a truncated file")
        inputs, hidden = ((arrays[name].shape or (0,))[0] for name in ("W_i", "U_i"))
        expected: dict[str, tuple[int, ...]] = {f"W_{g}": (inputs, hidden) for g in "icfo"}
        expected |= {f"U_{g}": (hidden, hidden) for g in "icfo"} | {f"b_{g}": (hidden,) for g in "icfo"}
    else:
        missing = [name for name in ("kernel", "recurrent_kernel") if name not in arrays]
        if missing:
            raise UnreadableFileError(f"'{cell.where}' lacks {', '.join(missing)}: a truncated file")
        hidden = (arrays["recurrent_kernel"].shape or (0,))[0]
        inputs = arrays["kernel"].shape[0] if arrays["kernel"].ndim == 2 else 0
        blocks = 8 if cell.kind == "CuDNNLSTM" else 4
        expected = {
            "kernel": (inputs, 4 * hidden),
            "recurrent_kernel": (hidden, 4 * hidden),
            "bias": (blocks * hidden,),
        }
    for name, array in arrays.items():
        if name not in expected:
            raise UnreadableFileError(f"'{cell.where}' holds '{name}' too, which no LSTM has")
        if array.shape != expected[name] or not inputs:
            raise UnreadableFileError(
                f"'{cell.where}/{name}' is {array.shape}, expected {expected[name]} for {hidden} units"
            )
