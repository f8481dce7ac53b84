"""One Functional model of LSTM layers alone: which layer takes which one's sequence, and what the model returns."""

from __future__ import annotations

from itertools import pairwise

from lstmconv.formats.keras.writer.arrays import CellClass, halves_of
from lstmconv.formats.keras.writer.dialect import Dialect
from lstmconv.formats.keras.writer.lstm import lstm_part
from lstmconv.formats.keras.writer.nodes import Graph, Inbound, Node, Ref, input_part
from lstmconv.formats.keras.writer.order import ordered
from lstmconv.formats.options import WriteOptions
from lstmconv.formats.tensors import dtype_of
from lstmconv.model import Checkpoint, LSTMLayer, Shape

__all__ = ["chained", "feeders_of", "graph_of"]


def chained(checkpoint: Checkpoint) -> tuple[tuple[str, str], ...] | None:
    """Return the edges of a checkpoint with those inside its stacks; ``None`` if the source states none."""
    inside = tuple(pair for names in checkpoint.joined.values() for pair in pairwise(names))
    if checkpoint.edges is None and not inside:
        return None
    return tuple(dict.fromkeys([*(checkpoint.edges or ()), *inside]))


def graph_of(checkpoint: Checkpoint, options: WriteOptions, cell: CellClass, dialect: Dialect) -> Graph:
    """Lay out one model of all layers, of one class of cell.

    A tensor that no layer takes is an output of the model. A layer that feeds another has its states among the outputs,
    and its sequence where the source had another reader for it.
    """
    feeders = feeders_of(checkpoint)
    nodes: dict[str, Node] = {}
    inputs: list[str] = []
    specs: dict[Ref, tuple[Shape, str]] = {}
    names = {layer.name for layer in checkpoint.layers}
    for layer in checkpoint.layers:
        dtype = dtype_of(layer, options)
        shape = (None, None, layer.input_size)
        below = feeders.get(layer.name)
        if below is None:
            below = _free(f"{layer.name}_input", names | nodes.keys())
            inputs.append(below)
            # The layer's own dtype: float32 would round the inputs of a float64 layer.
            nodes[below] = Node(below, input_part(shape, str(dtype), dialect))
        specs[Ref(below)] = shape, str(dtype)
        part = lstm_part(layer, halves_of(layer, cell, dtype, options.bias_mode), dialect)
        nodes[layer.name] = Node(layer.name, part, [Inbound((Ref(below),), {})], shape)
    taken = set(feeders.values())
    outputs = tuple(
        Ref(layer.name, 0, index)
        for layer in checkpoint.layers
        for index in range(_sequences(layer) + (2 * len(layer.directions) if layer.return_state else 0))
        if layer.name not in taken or index or layer.name in checkpoint.branching
    )
    order = ordered(nodes, inputs, outputs)
    first = str(dtype_of(checkpoint.layers[0], options))
    return Graph(dialect.model_name, {name: nodes[name] for name in order}, tuple(inputs), outputs, specs, first)


def feeders_of(checkpoint: Checkpoint) -> dict[str, str]:
    """Return, by a layer's name, the layer whose sequence it takes.

    An edge is followed where the feeding layer returns one sequence of the size that the other takes.
    """
    place = {layer.name: index for index, layer in enumerate(checkpoint.layers)}
    found: dict[str, str] = {}
    for below, above in chained(checkpoint) or ():
        if place[below] < place[above] and _fits(checkpoint[below], checkpoint[above]):
            found.setdefault(above, below)
    return found


def _fits(below: LSTMLayer, above: LSTMLayer) -> bool:
    one = below.return_sequences is not False and _sequences(below) == 1
    return one and above.input_size == below.output_size and above.time_major == below.time_major


def _sequences(layer: LSTMLayer) -> int:
    return 2 if layer.bidirectional and layer.merge_mode == "none" else 1


def _free(name: str, taken: set[str]) -> str:
    numbered, count = name, 0
    while numbered in taken:
        count += 1
        numbered = f"{name}_{count}"
    return numbered
