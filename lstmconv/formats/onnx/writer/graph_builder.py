"""A graph in the making: nodes, initializers, constants, inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lstmconv._optional import require
from lstmconv.formats.tensors import NamedTensor
from lstmconv.model import Array

__all__ = ["Graph"]


@dataclass
class Graph:
    """A graph in the making."""

    opset: int
    nodes: list[Any] = field(default_factory=list)
    initializers: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    constants: dict[str, str] = field(default_factory=dict)
    weights: dict[str, NamedTensor] = field(default_factory=dict)

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node of one output and return the output's name."""
        helper = require("onnx.helper", "Writing ONNX")
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=f"{output}:{operator}", **attributes))
        return output

    def tensor(self, name: str, values: Array) -> str:
        """Add an initializer and return its name."""
        numpy_helper = require("onnx.numpy_helper", "Writing ONNX")
        self.initializers.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def weight(self, tensor: NamedTensor) -> str:
        """Add an initializer whose bytes come later, from :attr:`weights`, and return its name."""
        onnx = require("onnx", "Writing ONNX")
        element = onnx.helper.np_dtype_to_tensor_dtype(tensor.dtype)
        self.initializers.append(onnx.TensorProto(name=tensor.name, data_type=element, dims=tensor.shape))
        self.weights[tensor.name] = tensor
        return tensor.name

    def constant(self, value: object, dtype: npt.DTypeLike = np.int64) -> str:
        """Return the name of a constant, made once; a plain number is a scalar."""
        values = np.array(value, dtype)
        key = f"{values.dtype.name}.{'x'.join(map(str, values.shape))}.{'_'.join(map(str, values.ravel().tolist()))}"
        if key not in self.constants:
            self.constants[key] = self.tensor(f"lstmconv.{key}", values)
        return self.constants[key]

    def declare(self, place: list[Any], name: str, element: int, shape: Sequence[int | str]) -> None:
        """Declare an input or an output."""
        helper = require("onnx.helper", "Writing ONNX")
        place.append(helper.make_tensor_value_info(name, element, list(shape)))
