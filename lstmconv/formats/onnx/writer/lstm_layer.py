"""LSTM layers as ONNX nodes: each LSTM node, and what Keras returns from its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lstmconv._optional import require
from lstmconv.arrays.copying import fill, place_bias
from lstmconv.errors import UsageError
from lstmconv.formats import WriteOptions
from lstmconv.formats.onnx.functions import onnx_function
from lstmconv.formats.onnx.writer.graph_builder import Graph
from lstmconv.formats.tensors import NamedTensor, dtype_of
from lstmconv.layouts import ONNX
from lstmconv.model import LSTMDirection, LSTMLayer, Stack

__all__ = ["add_stack"]

_LAST_INDEX = -(1 << 63) + 1
"""As the end of a Slice with step -1: runs past the first element."""


def add_stack(graph: Graph, stack: Stack, options: WriteOptions) -> None:
    """Add a stack's input, the nodes of its layers, each on the sequence of the one before it, and the outputs."""
    onnx = require("onnx", "Writing ONNX")
    first = stack.first
    element = int(onnx.helper.np_dtype_to_tensor_dtype(dtype_of(stack, options)))
    batch, time = f"{stack.name}.batch", f"{stack.name}.time"
    x = f"{stack.name}.x"
    outer = [time, batch] if first.time_major else [batch, time]
    graph.declare(graph.inputs, x, element, [*outer, first.input_size])
    if options.lengths:
        graph.declare(graph.inputs, f"{stack.name}.lengths", onnx.TensorProto.INT32, [batch])
    if not first.time_major:
        x = graph.add("Transpose", [x], f"{stack.name}.X", perm=[1, 0, 2])
    before = len(graph.outputs)
    for layer in stack.layers:
        x = _Layer(graph, stack, layer, options).add(x)
    own = graph.outputs[before:]  # What the stack returns comes first, then each layer's states.
    graph.outputs[before:] = sorted(own, key=lambda entry: entry.name not in (f"{stack.name}.y", f"{stack.name}.y_1"))


@dataclass(frozen=True)
class _Half:
    """One Keras half inside the graph, by the names of its tensors.

    Attributes:
        sequence: ``(time, batch, hidden)``, in the order of the input's time.
        h: ``(batch, hidden)``, as ``c``: the states after the last step.
        initial_h: ``(batch, hidden)``, as ``initial_c``; empty where the states begin at zero.
    """

    sequence: str
    h: str
    c: str
    initial_h: str
    initial_c: str


class _Layer:
    """Adds one layer's nodes to a graph."""

    def __init__(self, graph: Graph, stack: Stack, layer: LSTMLayer, options: WriteOptions) -> None:
        onnx = require("onnx", "Writing ONNX")
        self.graph = graph
        self.stack = stack
        self.layer = layer
        self.options = options
        self.dtype = dtype_of(layer, options)
        self.element = int(onnx.helper.np_dtype_to_tensor_dtype(self.dtype))
        self.states = layer.stateful if options.states is None else options.states
        self.lengths = f"{stack.name}.lengths" if options.lengths else ""
        self.batch, self.time = f"{stack.name}.batch", f"{stack.name}.time"
        self.inside = layer is not stack.last

    def named(self, name: str) -> str:
        return f"{self.layer.name}.{name}"

    def add(self, x: str) -> str:
        """Add the LSTM node or nodes on ``x (time, batch, input)``; return the sequence for the next layer.

        The last layer's output is the stack's and declared as Keras returns it.
        """
        layer = self.layer
        ways = [direction.go_backwards for direction in layer.directions]
        sizes = {direction.hidden_size for direction in layer.directions}
        if len(sizes) > 1:
            return self._separate_nodes(x)
        if ways == sorted(ways) and not self.lengths and layer.merge_mode == "concat":
            return self._whole(x)
        return self._picked_halves(x, sorted(range(len(ways)), key=ways.__getitem__))

    @property
    def output(self) -> str:
        """The first output: the stack's, or inside of it a sequence (time, batch, units)."""
        return self.named("sequence") if self.inside else f"{self.stack.name}.y"

    @property
    def _outer(self) -> list[int | str]:
        return [self.time, self.batch] if self.layer.time_major else [self.batch, self.time]

    def _whole(self, x: str) -> str:
        """One node whose halves stand in Keras' order and are concatenated: its outputs are the layer's."""
        graph, layer = self.graph, self.layer
        units = sum(direction.hidden_size for direction in layer.directions)
        initial = [self._initial(state) for state in "hc"]
        y, h, _ = self._node(x, layer.directions, "", initial, ("Y", "h", "c"))
        for state in "hc":
            self._declare_output(self.named(state), [len(layer.directions), self.batch, layer.hidden_size])
        if layer.return_sequences is False:
            last = graph.add("Transpose", [h], self.named("Y_h.by_batch"), perm=[1, 0, 2])
            graph.add("Reshape", [last, graph.constant([0, units])], self.output)
            self._declare_output(self.output, [self.batch, units])
            return self.output
        if layer.go_backwards:
            y = self._flip(y, self.named("Y.processed"))
        order = [0, 2, 1, 3] if layer.time_major or self.inside else [2, 0, 1, 3]
        y = graph.add("Transpose", [y], self.named("Y.by_batch"), perm=order)
        graph.add("Reshape", [y, graph.constant([0, 0, units])], self.output)
        if not self.inside:
            self._declare_output(self.output, [*self._outer, units])
        return self.output

    def _picked_halves(self, x: str, order: list[int]) -> str:
        """One node whose halves are taken apart; ONNX keeps the forward way first, Keras the forward half."""
        graph, layer = self.graph, self.layer
        initial = [self._initial(state) for state in "hc"]
        swapped = [
            graph.add("Gather", [name, graph.constant(order)], f"{name}.in_onnx_order", axis=0)
            if name and order != sorted(order)
            else name
            for name in initial
        ]
        outputs = self._node(x, [layer.directions[index] for index in order], "", swapped, ("Y", "Y_h", "Y_c"))
        halves = []
        for index in range(len(order)):
            place = graph.constant(order.index(index))
            parts = [
                graph.add("Gather", [tensor, place], f"{tensor}.half_{index}", axis=1 if tensor is outputs[0] else 0)
                for tensor in outputs
            ]
            start = [
                graph.add("Gather", [name, graph.constant(index)], f"{name}.half_{index}", axis=0) if name else ""
                for name in initial
            ]
            halves.append(_Half(parts[0], parts[1], parts[2], start[0], start[1]))
        halves = [self._masked_states(half, index) for index, half in enumerate(halves)]
        for state in "hc":
            rows = [
                graph.add(
                    "Reshape",
                    [getattr(half, state), graph.constant([1, -1, layer.hidden_size])],
                    self.named(f"{state}.row_{index}"),
                )
                for index, half in enumerate(halves)
            ]
            graph.add("Concat", rows, self.named(state), axis=0)
            self._declare_output(self.named(state), [len(halves), self.batch, layer.hidden_size])
        return self._sequences(halves)

    def _separate_nodes(self, x: str) -> str:
        """Add a node for each half: halves of unequal units share none. The second's states end in ``_1``."""
        graph = self.graph
        halves = []
        for index, direction in enumerate(self.layer.directions):
            suffix = f"_{index}" if index else ""
            initial = [self._initial(f"{state}", suffix, direction.hidden_size) for state in "hc"]
            outputs = self._node(x, [direction], f".half_{index}", initial, ("Y", "Y_h", "Y_c"))
            zero = graph.constant(0)
            parts = [
                graph.add("Gather", [tensor, zero], f"{tensor}.picked", axis=1 if tensor is outputs[0] else 0)
                for tensor in outputs
            ]
            start = [graph.add("Gather", [name, zero], f"{name}.picked", axis=0) if name else "" for name in initial]
            half = self._masked_states(_Half(parts[0], parts[1], parts[2], start[0], start[1]), index)
            halves.append(half)
            for state in "hc":
                shape = graph.constant([1, -1, direction.hidden_size])
                name = graph.add("Reshape", [getattr(half, state), shape], self.named(f"{state}{suffix}"))
                self._declare_output(name, [1, self.batch, direction.hidden_size])
        return self._sequences(halves)

    def _declare_output(self, name: str, shape: Sequence[int | str]) -> None:
        self.graph.declare(self.graph.outputs, name, self.element, shape)

    def _initial(self, state: str, suffix: str = "", hidden: int | None = None) -> str:
        """Declare an initial state and return its name; none where states begin at zero."""
        if not self.states:
            return ""
        name = self.named(f"initial_{state}{suffix}")
        rows = 1 if hidden else len(self.layer.directions)
        self.graph.declare(self.graph.inputs, name, self.element, [rows, self.batch, hidden or self.layer.hidden_size])
        return name

    def _flip(self, tensor: str, output: str) -> str:
        """Turn the first axis, time, round."""
        constant = self.graph.constant
        ends = [constant([-1]), constant([_LAST_INDEX]), constant([0]), constant([-1])]
        return self.graph.add("Slice", [tensor, *ends], output)

    # The LSTM node

    def _node(
        self,
        x: str,
        directions: Sequence[LSTMDirection],
        suffix: str,
        initial: Sequence[str],
        outputs: tuple[str, str, str],
    ) -> tuple[str, str, str]:
        """Add an LSTM node with its weights; return the names of Y, Y_h and Y_c."""
        helper = require("onnx.helper", "Writing ONNX")
        weights = [
            self._matrix(directions, "W", suffix),
            self._matrix(directions, "R", suffix),
            self._bias(directions, suffix),
        ]
        inputs = [x, *weights, self.lengths, *initial]
        while not inputs[-1]:
            inputs.pop()
        named = [self.named(f"{name}{suffix}") for name in outputs]
        ways = [direction.go_backwards for direction in directions]
        functions = [
            function
            for direction in directions
            for activation in (direction.recurrent_activation, direction.activation, direction.activation)
            if (function := onnx_function(activation)) is not None
        ]
        numbers = {
            "activation_alpha": [value for function in functions for value in function.alpha],
            "activation_beta": [value for function in functions for value in function.beta],
        }
        node = helper.make_node(
            "LSTM",
            inputs,
            named,
            name=f"{self.layer.name}{suffix}",
            hidden_size=directions[0].hidden_size,
            direction="bidirectional" if len(ways) == 2 else "reverse" if ways[0] else "forward",
            activations=[function.name for function in functions],
            **{key: values for key, values in numbers.items() if values},
        )
        self.graph.nodes.append(node)
        return named[0], named[1], named[2]

    def _matrix(self, directions: Sequence[LSTMDirection], name: str, suffix: str) -> str:
        if name == "W":
            pattern, gates = ONNX.input_matrix, [direction.weight_ih for direction in directions]
        else:
            pattern, gates = ONNX.recurrent_matrix, [direction.weight_hh for direction in directions]
        shape = (len(gates), 4 * gates[0].shape[1], gates[0].shape[2])
        pieces = tuple((pattern, each) for each in gates)
        return self.graph.weight(NamedTensor(self.named(f"{name}{suffix}"), shape, self.dtype, pieces))

    def _bias(self, directions: Sequence[LSTMDirection], suffix: str) -> str:
        """Add B = Wb then Rb; zeros for a half without a bias beside one that has it."""
        mode = self.options.bias_mode
        if mode not in (None, "input", "recurrent", "both-halves", "double"):
            raise UsageError(f"bias mode {mode!r} is cuDNN's; ONNX takes input, recurrent or both-halves")
        placed = [place_bias(direction, mode, zeros=self.layer.has_bias) for direction in directions]
        if all(bias_ih is None for bias_ih, _ in placed):
            return ""
        stored = np.zeros((len(directions), 8 * directions[0].hidden_size), self.dtype)
        for place, biases in zip(stored, placed, strict=True):
            for part, gates in zip(np.split(place, 2), biases, strict=True):
                if gates is not None:
                    fill(part, ONNX.one_bias, gates)
        return self.graph.weight(NamedTensor(self.named(f"B{suffix}"), stored.shape, self.dtype, (stored.ravel(),)))

    # What Keras returns

    def _sequences(self, halves: list[_Half]) -> str:
        """Add y (and y_1): flip, repeat or zero what Keras flips, repeats or zeros, then merge."""
        layer = self.layer
        returned = [self._returned(half, index) for index, half in enumerate(halves)]
        sizes = [direction.hidden_size for direction in layer.directions]
        if len(returned) == 2 and layer.merge_mode == "none":
            self._output(returned[1], f"{self.stack.name}.y_1", sizes[1])
            return self._output(returned[0], self.output, sizes[0])
        if len(returned) == 1:
            return self._output(returned[0], self.output, sizes[0])
        if layer.merge_mode == "concat":
            merged = self.graph.add("Concat", returned, self.named("merged"), axis=-1)
            return self._output(merged, self.output, sum(sizes))
        operator = "Mul" if layer.merge_mode == "mul" else "Add"
        merged = self.graph.add(operator, returned, self.named("merged"))
        if layer.merge_mode == "ave":
            half = self.graph.constant(0.5, self.dtype)
            merged = self.graph.add("Mul", [merged, half], self.named("averaged"))
        return self._output(merged, self.output, sizes[0])

    def _output(self, tensor: str, name: str, units: int) -> str:
        """Declare an output as Keras returns it; inside a stack the sequence itself goes on."""
        layer = self.layer
        if self.inside:
            return tensor
        if layer.return_sequences is False:
            self.graph.add("Identity", [tensor], name)
            self._declare_output(name, [self.batch, units])
            return name
        if layer.time_major:
            self.graph.add("Identity", [tensor], name)
        else:
            self.graph.add("Transpose", [tensor], name, perm=[1, 0, 2])
        self._declare_output(name, [*self._outer, units])
        return name

    def _returned(self, half: _Half, index: int) -> str:
        """Return one half's outputs as Keras merges them: (time, batch, hidden) or (batch, hidden)."""
        backwards = self.layer.directions[index].go_backwards
        if self.layer.return_sequences is False:
            return self._masked_last(half, index, backwards)
        sequence = half.sequence
        if self.lengths and not backwards and not self.layer.zero_output_for_mask:
            sequence = self._repeat_last(half, index)
        # A forward half returns steps as it processed them, a backward half flips them.
        return self._flip(sequence, f"{sequence}.flipped") if backwards != (index == 1) else sequence

    # Masked steps, right padding: ONNX returns zeros where Keras repeats the last output

    def _compared(self, operator: str, value: str, index: int, label: str) -> str:
        """Compare the lengths with a value; (batch, 1)."""
        cast = self.graph.add("Cast", [self.lengths], self.named(f"lengths.{label}_{index}"), to=7)
        column = self.graph.add("Reshape", [cast, self.graph.constant([-1, 1])], self.named(f"{label}.column_{index}"))
        return self.graph.add(operator, [column, value], self.named(f"{label}_{index}"))

    def _time_size(self, half: _Half, index: int) -> str:
        shape = self.graph.add("Shape", [half.sequence], self.named(f"shape_{index}"))
        return self.graph.add("Gather", [shape, self.graph.constant(0)], self.named(f"steps_{index}"), axis=0)

    def _zero(self) -> str:
        return self.graph.constant(0.0, self.dtype)

    def _masked_states(self, half: _Half, index: int) -> _Half:
        """Keep the initial states where a sequence has length 0."""
        if not self.lengths:
            return half
        some = self._compared("Greater", self.graph.constant(0), index, "nonempty")
        h, c = (
            self.graph.add("Where", [some, state, initial or self._zero()], f"{state}.kept")
            for state, initial in ((half.h, half.initial_h), (half.c, half.initial_c))
        )
        return _Half(half.sequence, h, c, half.initial_h, half.initial_c)

    def _masked_last(self, half: _Half, index: int, backwards: bool) -> str:
        """Return the last output: zero where no step counts, or the last one does not and Keras zeroes it."""
        if not self.lengths:
            return half.h
        if backwards or not self.layer.zero_output_for_mask:
            condition = self._compared("Greater", self.graph.constant(0), index, "any_step")
        else:
            condition = self._compared("Equal", self._time_size(half, index), index, "full_length")
        return self.graph.add("Where", [condition, half.h, self._zero()], self.named(f"last_{index}"))

    def _repeat_last(self, half: _Half, index: int) -> str:
        graph = self.graph
        steps = graph.add(
            "Range",
            [graph.constant(0), self._time_size(half, index), graph.constant(1)],
            self.named(f"time_{index}"),
        )
        steps = graph.add("Reshape", [steps, graph.constant([-1, 1, 1])], self.named(f"time.column_{index}"))
        inside = self._compared("Greater", steps, index, "inside")
        last = self._masked_last(half, index, backwards=False)
        return graph.add("Where", [inside, half.sequence, last], self.named(f"repeated_{index}"))
