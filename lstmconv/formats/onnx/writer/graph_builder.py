"""A graph in the making: nodes, initializers, constants, inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lstmconv._optional import require
from lstmconv.formats.onnx.constant_names import constant_name
from lstmconv.formats.tensors import NamedTensor
from lstmconv.model import Array

__all__ = ["Graph", "Size"]

Size = int | str | None
"""The size of an axis: a number, the name of a dynamic size, or ``None`` where the graph says nothing."""


@dataclass
class Graph:
    """A graph in the making.

    Inside it a tensor may get another name than the wanted one; inputs and outputs keep theirs.

    Attributes:
        opset: The operator set.
        whole: Whether it is a whole model; inferred shapes are then stored in the file.
    """

    opset: int
    whole: bool = False
    nodes: list[Any] = field(default_factory=list)
    initializers: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    constants: dict[str, str] = field(default_factory=dict)
    weights: dict[str, NamedTensor] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    results: list[tuple[str, str]] = field(default_factory=list)

    def free_name(self, wanted: str) -> str:
        """Take the wanted name, or one with a number behind it where another tensor has it.

        >>> graph = Graph(14)
        >>> graph.free_name("x"), graph.free_name("x")
        ('x', 'x_1')
        """
        name, number = wanted, 0
        while name in self.taken:
            number += 1
            name = f"{wanted}_{number}"
        self.taken.add(name)
        return name

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node of one output and return the output's name."""
        return self.add_node(operator, inputs, [output], **attributes)[0]

    def add_node(
        self, operator: str, inputs: Sequence[str], outputs: Sequence[str], name: str = "", **attributes: Any
    ) -> list[str]:
        """Add a node and return the names of its outputs; without a name it is called after the last of them."""
        helper = require("onnx.helper", "Writing ONNX")
        made = [self.free_name(output) for output in outputs]
        called = name or f"{made[-1]}:{operator}"
        self.nodes.append(helper.make_node(operator, list(inputs), made, name=called, **attributes))
        return made

    def tensor(self, name: str, values: Array) -> str:
        """Add an initializer and return its name."""
        numpy_helper = require("onnx.numpy_helper", "Writing ONNX")
        made = self.free_name(name)
        self.initializers.append(numpy_helper.from_array(np.asarray(values, order="C"), made))
        return made

    def weight(self, tensor: NamedTensor) -> str:
        """Add an initializer whose bytes come later, from :attr:`weights`, and return its name.

        Where the wanted name is asked for again, the same initializer is returned: calls of a layer share it.
        """
        if tensor.name in self.shared:
            return self.shared[tensor.name]
        onnx = require("onnx", "Writing ONNX")
        made = tensor._replace(name=self.free_name(tensor.name))
        element = onnx.helper.np_dtype_to_tensor_dtype(made.dtype)
        self.initializers.append(onnx.TensorProto(name=made.name, data_type=element, dims=made.shape))
        self.weights[made.name] = made
        self.shared[tensor.name] = made.name
        return made.name

    def constant(self, value: object, dtype: npt.DTypeLike = np.int64) -> str:
        """Return the name of a constant, made once; a plain number is a scalar."""
        values = np.array(value, dtype)
        name = constant_name(values)
        if name not in self.constants:
            self.constants[name] = self.tensor(name, values)
        return self.constants[name]

    def take_input(self, name: str, element: int, shape: Sequence[Size]) -> str:
        """Declare an input."""
        self.inputs.append(self._declared(self.free_name(name), element, shape))
        return str(self.inputs[-1].name)

    def give_output(
        self, name: str, tensor: str, element: int, shape: Sequence[Size], meant: str | None = None
    ) -> None:
        """Declare an output of a name that :meth:`free_name` gave: from :meth:`finish` on the tensor has it.

        Where another name was meant, which an input has, the output's doc_string says that.
        """
        self.outputs.append(self._declared(name, element, shape))
        if meant not in (None, name):
            self.outputs[-1].doc_string = meant
        self.results.append((name, tensor))

    def _declared(self, name: str, element: int, shape: Sequence[Size]) -> Any:
        return require("onnx.helper", "Writing ONNX").make_tensor_value_info(name, element, list(shape))

    def finish(self) -> None:
        """Leave out nodes and constants that no output needs, and give the outputs their names."""
        self._prune({tensor for _, tensor in self.results})
        made = {output for node in self.nodes for output in node.output}
        renamed: dict[str, str] = {}
        for name, tensor in self.results:
            if tensor in made and tensor not in renamed:
                renamed[tensor] = name
        for node in self.nodes:
            node.input[:] = [renamed.get(entry, entry) for entry in node.input]
            node.output[:] = [renamed.get(entry, entry) for entry in node.output]
        for name, tensor in self.results:
            if renamed.get(tensor) != name:
                self.nodes.append(
                    require("onnx.helper", "Writing ONNX").make_node(
                        "Identity", [renamed.get(tensor, tensor)], [name], name=f"{name}:Identity"
                    )
                )

    def _prune(self, needed: set[str]) -> None:
        kept: list[Any] = []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input)
        self.nodes[:] = reversed(kept)
        self.initializers[:] = [
            entry for entry in self.initializers if entry.name in needed or entry.name in self.weights
        ]
