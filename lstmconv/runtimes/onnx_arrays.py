"""Read the arrays of an ONNX file by rules written out from ONNX' own specification."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lstmconv._optional import require
from lstmconv.arrays.mapping import mapped
from lstmconv.formats.onnx.reader.parse_lazily import OWN
from lstmconv.model import Array, Gates

__all__ = ["array_of", "gate_rows"]


def gate_rows(stored: Array) -> Gates:
    """Cut [4H, ...] stored i o f c (LSTM-14, Inputs) into the gates i f g o."""
    hidden = stored.shape[0] // 4
    i, o, f, g = (stored[block * hidden : (block + 1) * hidden] for block in range(4))
    return Gates(i, f, g, o)


def array_of(tensor: Any, path: Path) -> Array:
    """Return an initializer; a large one, or external data (ONNX, docs/ExternalData.md), is mapped and not read."""
    helper = require("onnx.external_data_helper", "Reading ONNX files")
    if not helper.uses_external_data(tensor):
        array: Array = require("onnx.numpy_helper", "Reading ONNX files").to_array(tensor)
        return array
    where = helper.ExternalDataInfo(tensor)
    dtype = require("onnx.helper", "Reading ONNX files").tensor_dtype_to_np_dtype(tensor.data_type)
    file = path if where.location == OWN else path.parent / where.location
    return mapped(file, dtype, where.offset or 0, tuple(tensor.dims))
