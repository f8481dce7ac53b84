"""LSTM layers, each alone or in a stack: inputs ``<stack>.x`` and states, outputs ``<stack>.y`` and states."""

from __future__ import annotations

from collections.abc import Sequence

from lstmconv._optional import require
from lstmconv.formats.onnx.writer.graph_builder import Graph, Size
from lstmconv.formats.onnx.writer.masks import Lengths
from lstmconv.formats.onnx.writer.recurrent import RecurrentWriter, States, state_groups, states_of
from lstmconv.formats.options import WriteOptions
from lstmconv.formats.tensors import dtype_of
from lstmconv.model import LSTMLayer, Stack
from lstmconv.model.recurrent import RecurrentLayer

__all__ = ["add_stack", "give_states", "take_states"]


def add_stack(graph: Graph, stack: Stack, options: WriteOptions) -> None:
    """Add a stack's input, the nodes of its layers, each on the sequence of the one before it, and the outputs."""
    onnx = require("onnx", "Writing ONNX")
    first, last = stack.first, stack.last
    element = int(onnx.helper.np_dtype_to_tensor_dtype(dtype_of(stack, options)))
    batch, time = f"{stack.name}.batch", f"{stack.name}.time"
    outer = [time, batch] if first.time_major else [batch, time]
    x = graph.take_input(f"{stack.name}.x", element, [*outer, first.input_size])
    lengths = graph.take_input(f"{stack.name}.lengths", onnx.TensorProto.INT32, [batch]) if options.lengths else ""
    if not first.time_major:
        x = graph.add("Transpose", [x], f"{stack.name}.X", perm=[1, 0, 2])
    finals: list[tuple[LSTMLayer, States]] = []
    for layer in stack.layers:
        dtype = dtype_of(layer, options)
        steps = Lengths(graph, layer.name, lengths) if lengths else None
        wanted = layer.stateful if options.states is None else options.states
        initial = take_states(graph, layer, layer.name, batch, element) if wanted else no_states(layer)
        writer = RecurrentWriter(graph, layer, layer.name, dtype, steps, options.bias_mode)
        ran = writer.add(x, initial, batch_first=layer is last and not last.time_major)
        x = ran.outputs[0]
        finals.append((layer, ran.states))
    sizes = [last.output_size]
    if len(ran.outputs) == 2:
        sizes = [direction.hidden_size for direction in last.directions]
    for name, output, size in zip(("y", "y_1"), ran.outputs, sizes, strict=False):
        shape: list[Size] = [batch, size] if last.return_sequences is False else [*outer, size]
        graph.give_output(graph.free_name(f"{stack.name}.{name}"), output, element, shape)
    for layer, states in finals:
        give_states(graph, layer, layer.name, states, batch, element)


def no_states(layer: LSTMLayer | RecurrentLayer) -> States:
    """Return initial states of zeros."""
    return dict.fromkeys(states_of(layer), [""] * len(state_groups(layer)))


def take_states(graph: Graph, layer: LSTMLayer | RecurrentLayer, name: str, batch: Size, element: int) -> States:
    """Declare a layer's initial states as inputs, ``<name>.initial_h (halves, batch, hidden)`` and so on.

    Halves of unequal units share no tensor: the second's end in ``_1``.
    """
    return {
        letter: [
            graph.take_input(f"{name}.initial_{letter}{suffix}", element, [rows, batch, hidden])
            for suffix, rows, hidden in _packed(layer)
        ]
        for letter in states_of(layer)
    }


def give_states(
    graph: Graph, layer: LSTMLayer | RecurrentLayer, name: str, states: States, batch: Size, element: int
) -> None:
    """Declare a layer's final states as outputs, ``<name>.h`` and so on."""
    for number, (suffix, rows, hidden) in enumerate(_packed(layer)):
        for letter in states_of(layer):
            output = graph.free_name(f"{name}.{letter}{suffix}")
            graph.give_output(output, states[letter][number], element, [rows, batch, hidden])


def _packed(layer: LSTMLayer | RecurrentLayer) -> Sequence[tuple[str, int, int]]:
    """Return the suffix, the rows and the units of each tensor of states."""
    groups = enumerate(state_groups(layer))
    return [
        (f"_{number}" if number else "", len(group), layer.directions[group[0]].hidden_size) for number, group in groups
    ]
