"""Read the arrays of an ONNX file by rules written out from ONNX' own specification."""

from __future__ import annotations

import math
from typing import Any

from lstmconv._optional import require
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.onnx.reader.parse_lazily import OWN
from lstmconv.model import Array, Gates

__all__ = ["StoredArrays", "gate_rows"]


def gate_rows(stored: Array) -> Gates:
    """Cut [4H, ...] stored i o f c (LSTM-14, Inputs) into the gates i f g o."""
    hidden = stored.shape[0] // 4
    i, o, f, g = (stored[block * hidden : (block + 1) * hidden] for block in range(4))
    return Gates(i, f, g, o)


class StoredArrays:
    """The initializers of one file; a large one, or external data (ONNX, docs/ExternalData.md), is a view of a map."""

    def __init__(self, file: MappedFile) -> None:
        self._folder = file.path.parent
        self._files = {OWN: file}

    def array(self, tensor: Any) -> Array:
        """Return an initializer in its shape."""
        helper = require("onnx.external_data_helper", "Reading ONNX files")
        if not helper.uses_external_data(tensor):
            array: Array = require("onnx.numpy_helper", "Reading ONNX files").to_array(tensor)
            return array
        where = helper.ExternalDataInfo(tensor)
        dtype = require("onnx.helper", "Reading ONNX files").tensor_dtype_to_np_dtype(tensor.data_type)
        if where.location not in self._files:
            self._files[where.location] = MappedFile(self._folder / where.location)
        shape, start = tuple(tensor.dims), where.offset or 0
        stored = self._files[where.location].content[start : start + math.prod(shape) * dtype.itemsize]
        viewed: Array = stored.view(dtype).reshape(shape)
        return viewed
