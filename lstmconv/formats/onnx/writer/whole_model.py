"""A whole model as one graph: its inputs, the nodes of every call, its outputs, and the states of stateful layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.onnx.writer.calls import CallWriter, Type, Value, element_of
from lstmconv.formats.onnx.writer.graph_builder import Graph, Size
from lstmconv.formats.onnx.writer.kinds import WRITERS, Writer
from lstmconv.formats.onnx.writer.lstm_layers import give_states, no_states, take_states
from lstmconv.formats.onnx.writer.masks import Mask, flipped
from lstmconv.formats.onnx.writer.obstacles import is_stateful
from lstmconv.formats.onnx.writer.recurrent import RecurrentWriter, States, halves_of, state_groups, states_of
from lstmconv.formats.options import WriteOptions
from lstmconv.model import LSTMLayer, Model, RecurrentLayer, Shape, Stack, Tensor, TimeDistributed
from lstmconv.model.graph import Call
from lstmconv.model.kinds import Constant, Kind
from lstmconv.model.names import name_inside
from lstmconv.model.shapes import infer

__all__ = ["add_model"]


def add_model(graph: Graph, model: Model, dtype: np.dtype[np.generic], options: WriteOptions) -> None:
    """Add a model's inputs, the nodes of its calls, and its outputs by Keras' names.

    An output that has an input's name gets a number behind it; its doc_string is the name that was meant.

    Args:
        graph: Empty.
        model: Of known layers.
        dtype: Its float type.
        options: ``states`` and ``bias_mode`` are read.
    """
    writer = _ModelWriter(graph, model, dtype, options)
    tokens = {entry.name for entry in model.inputs if model.takes_tokens(entry.name)}
    given = {}
    for entry in model.inputs:
        kind: Type = "int" if entry.name in tokens else "bool" if entry.dtype == "bool" else "float"
        name = graph.take_input(entry.name, writer.element(kind), model.axes_of(entry))
        given[entry.name] = Value(name, kind, entry.shape)
    writer.take_all_states()
    clashing = {name for name in model.outputs if name in graph.taken}  # What can keep its name keeps it.
    names = {name: graph.free_name(name) for name in sorted(model.outputs, key=clashing.__contains__)}
    values = writer.add(given)
    for name, tensor in model.outputs.items():
        value = values[tensor]
        shape: list[Size] = ["batch" if axis == 0 and size is None else size for axis, size in enumerate(value.shape)]
        graph.give_output(names[name], value.name, writer.element(value.type), shape, name)
    writer.give_all_states()


class _ModelWriter:
    """Adds the calls of a model, or of one inside TimeDistributed, to a graph."""

    def __init__(
        self,
        graph: Graph,
        model: Model,
        dtype: np.dtype[np.generic],
        options: WriteOptions,
        lead: str = "",
        above: str = "",
    ) -> None:
        self.graph = graph
        self.model = model
        self.dtype = dtype
        self.options = options
        self.lead = lead
        self.above = above
        self.shapes = infer(model)
        self.values: dict[Tensor, Value] = {}
        self.masks: dict[tuple[str, bool], Mask] = {}
        self.initial: dict[str, States] = {}
        self.finals: dict[str, States] = {}

    def element(self, kind: Type) -> int:
        return element_of(kind, self.dtype)

    def add(self, inputs: Mapping[str, Value]) -> Mapping[Tensor, Value]:
        """Add every call; return all tensors."""
        self.values = {Tensor(name): value for name, value in inputs.items()}
        for call in self.model.calls:
            for index, value in enumerate(self._call(call)):
                self.values[Tensor(call.name, index)] = value
        return self.values

    def _call(self, call: Call) -> Sequence[Value]:
        layer = call.layer
        masks = tuple(None if mask is None else self.values[mask] for mask in call.masks)
        writer = CallWriter(
            self.graph,
            self.lead + call.name,
            layer,
            name_inside(layer.name, self.above),
            self.dtype,
            tuple(self.values[tensor] for tensor in call.inputs),
            masks,
            self._shapes_of(call),
        )
        if isinstance(layer, LSTMLayer | RecurrentLayer | Stack):
            return self._recurrent(call, writer)
        if isinstance(layer, TimeDistributed):
            return [self._time_distributed(layer, writer)]
        return _writer_of(layer)(writer, layer)

    def _shapes_of(self, call: Call) -> tuple[Shape, ...]:
        found: list[Shape] = []
        while (tensor := Tensor(call.name, len(found))) in self.shapes:
            found.append(self.shapes[tensor])
        return tuple(found)

    # Recurrent layers

    def take_all_states(self) -> None:
        """Declare the initial states of stateful layers as inputs; of all recurrent ones where that is asked for."""
        for call, layer, name in self._streamed():
            batch = self._batch(call)
            self.initial[name] = take_states(self.graph, layer, name, batch, self.element("float"))

    def give_all_states(self) -> None:
        """Declare the final states of the same layers as outputs."""
        for call, layer, name in self._streamed():
            give_states(self.graph, layer, name, self.finals[name], self._batch(call), self.element("float"))

    def _streamed(self) -> Iterator[tuple[Call, LSTMLayer | RecurrentLayer, str]]:
        """Yield the layers whose states are inputs and outputs: no other call and no constant gives them a state."""
        for call in self.model.calls:
            if not call.states and (self.options.states or is_stateful(call.layer)):
                yield from ((call, layer, name) for layer, name in _recurrent_layers(call))

    def _batch(self, call: Call) -> Size:
        shape = self.shapes[call.inputs[0]]
        time_major = any(layer.time_major for layer, _ in _recurrent_layers(call))
        size = shape[1 if time_major else 0]
        return "batch" if size is None else size

    def _recurrent(self, call: Call, writer: CallWriter) -> Sequence[Value]:
        """Add a layer, or the layers of a stack, each on the sequence of the one before it."""
        layers = _recurrent_layers(call)
        last = layers[-1][0]
        x = writer.float_x
        if not layers[0][0].time_major:
            x = writer.moved(x, [1, 0, 2], "X")
        mask = None if writer.mask is None else writer.cast(writer.mask, "bool")
        given = self._given_states(call, writer)
        states: list[str] = []
        outputs: tuple[str, ...] = ()
        for layer, name in layers:
            steps = None if mask is None else self._steps(mask, time_major=layer.time_major)
            initial = self._initial(layer, name, given)
            owner = name_inside(layer.name, self.above)
            recurrent = RecurrentWriter(
                self.graph, layer, self.lead + name, self.dtype, steps, self.options.bias_mode, owner
            )
            ran = recurrent.add(x, initial, batch_first=layer is last and not layer.time_major)
            outputs, x = ran.outputs, ran.outputs[0]
            self.finals[name] = ran.states
            states += halves_of(self.graph, layer, ran.states, f"{self.lead}{name}.final")
            if mask is not None and layer is not last and layer.directions[0].go_backwards and layer.backward is None:
                # The next layer takes the steps in the order in which this one processed them.
                mask = flipped(self.graph, mask, f"{mask}.flipped", 0 if layer.time_major else 1)
        if last.return_state:
            outputs = (*outputs, *states)
        return [Value(name, "float", shape) for name, shape in zip(outputs, writer.shapes, strict=True)]

    def _steps(self, mask: str, *, time_major: bool) -> Mask:
        """Return what a mask says, made once for all layers that it reaches."""
        key = (mask, time_major)
        if key not in self.masks:
            name = f"{mask}.steps"
            turned = self.graph.add("Transpose", [mask], f"{name}.by_batch", perm=[1, 0]) if time_major else mask
            self.masks[key] = Mask(self.graph, name, turned, self.dtype)
        return self.masks[key]

    def _given_states(self, call: Call, writer: CallWriter) -> list[str]:
        """Return the states that other calls compute, ``(batch, hidden)`` each; constants are repeated."""
        given: list[str] = []
        constants = {other.name for other in self.model.calls if isinstance(other.layer, Constant)}
        for tensor in call.states:
            value = self.values[tensor]
            name = writer.cast(value, "float")
            if tensor.source in constants:
                axis = 1 if _recurrent_layers(call)[0][0].time_major else 0
                shape = writer.add("Shape", [writer.x.name], "shape")
                batch = writer.add("Gather", [shape, writer.integers([axis])], "batch", axis=0)
                size = writer.add("Concat", [batch, writer.integers([value.shape[-1]])], "state.shape", axis=0)
                name = writer.add("Expand", [name, size], "state")
            given.append(name)
        return given

    def _initial(self, layer: LSTMLayer | RecurrentLayer, name: str, given: list[str]) -> States:
        """Return a layer's initial states, and take those that it needs from the front of the given ones."""
        if given:
            letters = states_of(layer)
            own = [given.pop(0) for _ in range(len(layer.directions) * len(letters))]
            return {
                letter: [
                    self._side_by_side(
                        [own[len(letters) * half + place] for half in group], f"{self.lead}{name}.initial_{letter}"
                    )
                    for group in state_groups(layer)
                ]
                for place, letter in enumerate(letters)
            }
        return self.initial.get(name) or no_states(layer)

    def _side_by_side(self, states: Sequence[str], name: str) -> str:
        rows = [self.graph.add("Unsqueeze", [state, self.graph.constant([0])], f"{name}.row") for state in states]
        return rows[0] if len(rows) == 1 else self.graph.add("Concat", rows, f"{name}.rows", axis=0)

    # TimeDistributed

    def _time_distributed(self, layer: TimeDistributed, writer: CallWriter) -> Value:
        """Run the inner model on all steps of all samples as one batch; a mask is its second input."""
        inner = layer.model
        tensor = next(iter(inner.outputs.values()))
        shape = writer.add("Shape", [writer.x.name], "shape")
        outer = [writer.x, *(mask for mask in writer.masks if mask is not None)]
        given = {
            entry.name: Value(_flat(writer, value, entry.shape[1:]), value.type, entry.shape)
            for entry, value in zip(inner.inputs, outer, strict=False)
        }
        nested = _ModelWriter(self.graph, inner, self.dtype, self.options, f"{writer.name}/", writer.owner)
        y = nested.add(given)[tensor]
        sizes = writer.shapes[0]
        if sizes.count(None) <= 1:
            whole = writer.integers([-1 if size is None else size for size in sizes])
        else:
            front = writer.add("Slice", [shape, writer.integers([0]), writer.integers([2])], "front")
            if None in sizes[2:]:
                own = writer.add("Shape", [y.name], "result.shape")
                rest = writer.add("Slice", [own, writer.integers([1]), writer.integers([y.rank])], "rest")
            else:
                rest = writer.integers(list(sizes[2:]))
            whole = writer.add("Concat", [front, rest], "whole", axis=0)
        return writer.value(writer.add("Reshape", [y.name, whole], "result"), y.type)


def _flat(writer: CallWriter, value: Value, step: Shape) -> str:
    """Return ``(batch * time, ...)`` of ``(batch, time, ...)``."""
    if None not in step:
        return writer.add("Reshape", [value.name, writer.integers([-1, *step])], "steps")
    shape = writer.add("Shape", [value.name], "step.shape")
    rest = writer.add("Slice", [shape, writer.integers([2]), writer.integers([value.rank])], "step")
    sizes = writer.add("Concat", [writer.integers([-1]), rest], "steps.shape", axis=0)
    return writer.add("Reshape", [value.name, sizes], "steps")


def _writer_of(layer: Kind) -> Writer:
    writer = WRITERS.get(type(layer))
    if writer is None:
        raise UnsupportedModelError(f"{layer.name}: ONNX cannot express it here")
    return writer


def _recurrent_layers(call: Call) -> list[tuple[LSTMLayer | RecurrentLayer, str]]:
    """Return the recurrent layers that a call runs, each with the name that this call's tensors get."""
    if isinstance(call.layer, Stack):
        suffix = call.name.removeprefix(call.layer.name)
        return [(layer, f"{layer.name}{suffix}") for layer in call.layer.layers]
    if isinstance(call.layer, LSTMLayer | RecurrentLayer):
        return [(call.layer, call.name)]
    return []
