"""From a model to the nodes of a Functional model: every call of the graph as calls of Keras' own layers.

Keras' implicit masks are not used: what makes a mask computes it beside it, and each call that a mask reaches is given
it by name, which every Keras 2.4 and later and every Keras 3 puts before an implicit one. Where Keras would hand a mask
on to a layer that the model gives none, the tensor passes an addition of zero, behind which it has no mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.keras.writer.dialect import Dialect
from lstmconv.formats.keras.writer.nodes import Graph, Inbound, Node, Part, Ref, Value, input_part
from lstmconv.formats.keras.writer.order import ordered
from lstmconv.formats.keras.writer.whole.functions import called
from lstmconv.formats.keras.writer.whole.kinds import Place
from lstmconv.model import Array, Call, Layer, Model, Shape, Tensor, kinds
from lstmconv.model.shapes import infer

__all__ = ["Builder", "Handlers"]

Handlers: TypeAlias = "Mapping[type[Any], Callable[[Builder, Call, Any], None]]"
_BOOL_FUNCTIONS = (*kinds.COMPARISONS, "logical_and", "logical_or", "logical_not", "all", "any")


class Builder:
    """Makes the nodes of one model.

    Attributes:
        model: With the names that Keras takes.
        dialect: The Keras that reads it.
        dtype: The dtype of all its variables.
        handlers: How a call of each kind is written.
    """

    def __init__(
        self, model: Model, dialect: Dialect, dtype: np.dtype[Any], inputs: Mapping[str, str], handlers: Handlers
    ) -> None:
        """Take a model, and the names of its InputLayers by those of its inputs."""
        self.model, self.dialect, self.dtype, self.handlers = model, dialect, dtype, handlers
        self.shapes: dict[Tensor, Shape] = dict(infer(model))
        self.values: dict[Tensor, Value] = {}
        self.nodes: dict[str, Node] = {}
        self.specs: dict[Ref, tuple[Shape, str]] = {}
        self.forms: dict[Tensor, str] = {}
        self._masked: set[Tensor] = set()
        self._taken = {layer.name for layer in model.layers} | set(inputs.values())
        self._own: dict[str, Layer] = {}
        self._inputs = inputs

    def graph(self) -> Graph:
        """Return the Functional model.

        Raises:
            UnsupportedModelError: This Keras cannot hold a layer, which the error is about.
        """
        for entry in self.model.inputs:
            self._input(entry.name, entry.shape, entry.dtype)
        for call in self.model.calls:
            handler = self.handlers.get(type(call.layer))
            try:
                if handler is None:
                    raise UnsupportedModelError(f"Keras files of {type(call.layer).__name__} are not written")
                handler(self, call, call.layer)
            except UnsupportedModelError as error:
                raise UnsupportedModelError(error.reason, about=(call.layer.name, *error.about)) from error
        outputs = tuple(self._output(name, tensor) for name, tensor in self.model.outputs.items())
        inputs = tuple(self._inputs[entry.name] for entry in self.model.inputs)
        order = ordered(self.nodes, inputs, outputs)
        nodes = {name: self.nodes[name] for name in order}
        return Graph(self.model.name, nodes, inputs, outputs, self.specs, str(self.dtype))

    def _input(self, name: str, shape: Shape, dtype: str) -> None:
        stated = str(self.dtype) if dtype.startswith(("float", "bfloat")) else dtype
        own = self._inputs[name]
        self.nodes[own] = Node(own, input_part(shape, stated, self.dialect))
        self.values[Tensor(name)] = Ref(own)
        self.specs[Ref(own)] = (shape, stated)
        self.forms[Tensor(name)] = "bool" if dtype == "bool" else "float" if "float" in dtype else "int"

    def _output(self, name: str, tensor: Tensor) -> Ref:
        value = self.values[tensor]
        if not isinstance(value, Ref):
            raise UnsupportedModelError(f"the output '{name}' is a constant")
        if tensor.source in self._inputs:  # An input that is an output, too: Keras wants a layer between them.
            return self.function(self.free(f"{name}_output"), "add", (value, np.zeros(())), {})
        return value

    def free(self, name: str) -> str:
        """Return a name that no layer has, and keep it."""
        numbered, count = name, 0
        while numbered in self._taken:
            count += 1
            numbered = f"{name}_{count}"
        self._taken.add(numbered)
        return numbered

    def place(self, call: Call) -> Place:
        """Return where a call's layer is written."""
        return Place(self.dialect, self.dtype, tuple(self.shapes[tensor] for tensor in call.inputs))

    def tensor(self, tensor: Tensor, *, unmasked: bool = False) -> Ref:
        """Return a tensor of the model; ``unmasked`` without the mask that Keras may keep beside it.

        Raises:
            UnsupportedModelError: It is a constant.
        """
        value = self.values[tensor]
        if not isinstance(value, Ref):
            raise UnsupportedModelError("it takes a constant")
        if not unmasked or tensor not in self._masked:
            return value
        self._masked.discard(tensor)
        self.values[tensor] = self.function(self.free(f"{value.node}_unmasked"), "add", (value, np.zeros(())), {})
        return self.values[tensor]  # type: ignore[return-value]  # a tensor

    def layer(self, name: str, part: Part, inbound: Inbound, shape: Shape | None = None) -> Ref:
        """Call a layer, which is made with its first call; return its first output."""
        node = self.nodes.get(name)
        if node is None:
            node = self.nodes[name] = Node(name, part, build_shape=shape if part.shape_matters else None)
        node.calls.append(inbound)
        return Ref(name, len(node.calls) - 1)

    def function(self, name: str, function: str, tensors: tuple[Any, ...], options: Mapping[str, Any]) -> Ref:
        """Compute a function, of tensors, constants and indices, under a name of its own."""
        part, inbound = called(function, self.dialect, tensors, options)
        ref = self.layer(name, part, inbound)
        first = next(iter(inbound.refs), None)
        self.specs[ref] = self.specs.get(first, ((), str(self.dtype))) if first is not None else ((), str(self.dtype))
        return ref

    def compute(self, call: Call, function: str, tensors: tuple[Any, ...], **options: Any) -> None:
        """Compute a call as one function."""
        ref = self.function(self.name_of(call), function, tensors, options)
        self.returns(call, ref, form=self.form_of(call))

    def name_of(self, call: Call) -> str:
        """Return the layer's own name for its first call, and a free one for others: for what has no variables."""
        owner = self._own.setdefault(call.layer.name, call.layer)
        fresh = call.layer.name not in self.nodes
        return call.layer.name if owner is call.layer and fresh else self.free(call.layer.name)

    def returns(self, call: Call, ref: Ref, *, form: str = "float", masked: bool = False) -> None:
        """Note the outputs of a call: ``ref`` and the tensors behind it."""
        index = 0
        while (tensor := Tensor(call.name, index)) in self.shapes:
            self.value(tensor, Ref(ref.node, ref.call, ref.tensor + index), form=form)
            index += 1
        if masked:
            self._masked.add(Tensor(call.name))

    def value(self, tensor: Tensor, value: Ref, *, form: str = "float") -> None:
        """Note one tensor."""
        self.values[tensor] = value
        self.forms[tensor] = form
        dtype = {"float": str(self.dtype), "bool": "bool", "int": "int32"}[form]
        self.specs[value] = (self.shapes[tensor], dtype)

    def constant(self, tensor: Tensor, value: Array) -> None:
        """Note a constant."""
        self.values[tensor] = np.asarray(value)
        self.forms[tensor] = "bool" if value.dtype == bool else "float" if value.dtype.kind == "f" else "int"

    def keeps_mask(self, tensor: Tensor) -> None:
        """Note that Keras may keep a mask beside a tensor."""
        self._masked.add(tensor)

    def may_be_masked(self, tensors: Sequence[Tensor]) -> bool:
        """Whether Keras may keep a mask beside one of some tensors."""
        return any(tensor in self._masked for tensor in tensors)

    def form_of(self, call: Call) -> str:
        """Return whether what moves or compares numbers returns floats, whole numbers or booleans."""
        function = getattr(call.layer, "function", "")
        return "bool" if function in _BOOL_FUNCTIONS else self.forms.get(call.inputs[0], "float")
