"""Add one call of a layer to a graph: its inputs, and methods that add nodes, weights and constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from lstmconv._optional import require
from lstmconv.arrays.copying import Piece
from lstmconv.formats.onnx.writer.graph_builder import Graph
from lstmconv.formats.tensors import NamedTensor
from lstmconv.layouts.kinds import rows_of
from lstmconv.model import Array, Layer, Shape

__all__ = ["CallWriter", "Type", "Value", "element_of", "pieces_of"]

Type: TypeAlias = Literal["float", "int", "bool"]
"""The type of a tensor: the model's float type, int64, or bool."""


class Value(NamedTuple):
    """A tensor of the graph.

    Attributes:
        name: Its name.
        type: What it holds.
        shape: As Keras knows it, the batch first.
    """

    name: str
    type: Type
    shape: Shape

    @property
    def rank(self) -> int:
        """How many axes."""
        return len(self.shape)


def element_of(kind: Type, dtype: np.dtype[np.generic]) -> int:
    """Return ONNX' number of an element type in a model of a float type."""
    onnx = require("onnx", "Writing ONNX")
    if kind == "float":
        return int(onnx.helper.np_dtype_to_tensor_dtype(dtype))
    return int(onnx.TensorProto.INT64 if kind == "int" else onnx.TensorProto.BOOL)


def pieces_of(array: Array) -> tuple[Piece, ...]:
    """Return an array of any rank as pieces of one or two axes that lie one behind the other."""
    if array.ndim == 0:
        return (array.reshape(1),)
    if array.ndim <= 2:
        return (array,)
    return tuple(piece for part in array for piece in pieces_of(part))


@dataclass(frozen=True, eq=False)
class CallWriter:
    """Adds what one call needs.

    Attributes:
        graph: The graph in the making.
        name: The call's, which leads the names of its tensors.
        layer: The called layer.
        owner: Its name in the whole model, which leads the names of its weights.
        dtype: The model's float type.
        inputs: What it is called with.
        masks: The masks that reach it, bool.
        shapes: The shapes of its outputs.
    """

    graph: Graph
    name: str
    layer: Layer
    owner: str
    dtype: np.dtype[np.generic]
    inputs: tuple[Value, ...]
    masks: tuple[Value | None, ...]
    shapes: tuple[Shape, ...]

    @property
    def x(self) -> Value:
        """The only or the first input."""
        return self.inputs[0]

    @property
    def mask(self) -> Value | None:
        """The only or the first mask."""
        return self.masks[0] if self.masks else None

    def add(self, operator: str, inputs: Sequence[str], label: str, **attributes: Any) -> str:
        """Add a node of one output and return the output's name, ``<call>.<label>``."""
        return self.graph.add(operator, inputs, f"{self.name}.{label}", **attributes)

    def weight(self, key: str) -> str:
        """Return the initializer ``<owner>.<key>`` of one of the layer's arrays, laid out as ONNX takes it."""
        array: Array = getattr(self.layer, key)
        row = rows_of(type(self.layer).__name__).get(key)
        stored = array if row is None else row.parts(array, "onnx")[0]
        shape = tuple(map(int, stored.shape))
        return self.graph.weight(NamedTensor(f"{self.owner}.{key}", shape, self.dtype, pieces_of(stored)))

    def number(self, value: object, dtype: npt.DTypeLike | None = None) -> str:
        """Return a constant of the model's float type."""
        return self.graph.constant(value, self.dtype if dtype is None else dtype)

    def lowest(self, in_float16: float) -> float:
        """Return Keras' number for what a softmax leaves out: so low that it counts only where nothing else is."""
        return -in_float16 if self.dtype.name == "float16" else -1e9

    def integers(self, value: object) -> str:
        """Return a constant of int64."""
        return self.graph.constant(value)

    def element(self, kind: Type) -> int:
        """Return ONNX' number of an element type."""
        return element_of(kind, self.dtype)

    def cast(self, value: Value, kind: Type) -> str:
        """Return a tensor as another type; itself where it is of that type."""
        if value.type == kind:
            return value.name
        return self.graph.add("Cast", [value.name], f"{value.name}.{kind}", to=self.element(kind))

    def floats(self) -> list[str]:
        """Return all inputs as the model's float type."""
        return [self.cast(value, "float") for value in self.inputs]

    @property
    def float_x(self) -> str:
        """The first input as the model's float type."""
        return self.cast(self.x, "float")

    def value(self, name: str, kind: Type = "float", index: int = 0) -> Value:
        """Return an output of the call."""
        return Value(name, kind, self.shapes[index])

    def reduce(self, function: str, x: str, axes: Sequence[int], label: str, *, keepdims: bool) -> str:
        """Add ReduceMean and the like, whose axes are an input from operator set 18 on, ReduceSum's from 13."""
        operator = f"Reduce{function}"
        if function == "Sum" or self.graph.opset >= 18:
            return self.add(operator, [x, self.integers(list(axes))], label, keepdims=int(keepdims))
        return self.add(operator, [x], label, axes=list(axes), keepdims=int(keepdims))

    def moved(self, x: str, order: Sequence[int], label: str) -> str:
        """Add a Transpose; the tensor itself where nothing moves."""
        if list(order) == sorted(order):
            return x
        return self.add("Transpose", [x], label, perm=list(order))

    def unsqueezed(self, x: str, axes: Sequence[int], label: str) -> str:
        """Add axes of size 1."""
        return self.add("Unsqueeze", [x, self.integers(list(axes))], label) if axes else x
