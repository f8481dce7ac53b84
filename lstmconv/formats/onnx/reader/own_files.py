"""Group nodes into layers, and layers into the stacks that lstmconv recorded when it wrote the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lstmconv.activations import described_activation
from lstmconv.errors import LstmconvError
from lstmconv.formats.onnx.functions import Function, onnx_function
from lstmconv.formats.onnx.reader.edges import Placed
from lstmconv.formats.onnx.reader.lstm_node import LSTMNode
from lstmconv.formats.record import Record, RecordedDirection, RecordedLayer
from lstmconv.model import LSTMDirection, LSTMLayer

__all__ = ["own_modules"]


def own_modules(nodes: Sequence[LSTMNode], record: Record | None) -> dict[str, list[Placed]]:
    """Return the file's layers by the stack that they are recorded in; each layer alone without a record.

    In a file of lstmconv's a layer is a node of its name, or two nodes ``<name>.half_0`` and
    ``<name>.half_1`` for halves of unequal units; one whose forward half runs backwards stores the
    forward-running half first, as ONNX has it. A layer that is called again has one more node on the same weights.
    """
    left = {node.name: node for node in nodes}
    modules: dict[str, list[Placed]] = {}
    for stack, entries in ({} if record is None else record.modules).items():
        placed = [_recorded_layer(entry, left) for entry in entries]
        whole = [one for one in placed if one is not None]
        if len(whole) == len(placed):
            modules[stack] = whole
            for node in (node for one in whole for node in one.nodes):
                left.pop(node.name, None)
    weights = {node.input(1) for placed in modules.values() for one in placed for node in one.nodes}
    left = {name: node for name, node in left.items() if node.input(1) not in weights}
    alone = {
        node.name: [_layer(node.name, [(node, row) for row in range(len(node.directions))])] for node in left.values()
    }
    return {**modules, **{name: one for name, one in alone.items() if name not in modules}}


def _layer(name: str, halves: Sequence[tuple[LSTMNode, int]]) -> Placed:
    directions = [node.directions[row] for node, row in halves]
    backward = directions[1] if len(directions) == 2 else None
    class_name = "LSTM" if backward is None else "Bidirectional(LSTM)"
    return Placed(LSTMLayer(name, directions[0], backward, class_name=class_name), tuple(halves))


def _recorded_layer(entry: RecordedLayer, nodes: Mapping[str, LSTMNode]) -> Placed | None:
    """Return the layer that a record describes; ``None`` if the graph does not have it or computes something else."""
    rows = _rows(entry.name, [half.go_backwards for half in entry.directions], nodes)
    try:
        agree = len(rows) == len(entry.directions) > 0 and all(
            _agrees(node.directions[row], half) for (node, row), half in zip(rows, entry.directions, strict=True)
        )
        return _layer(entry.name, rows) if agree else None
    except LstmconvError:  # An activation that this version does not know, or halves that do not belong together.
        return None


def _rows(name: str, ways: Sequence[bool], nodes: Mapping[str, LSTMNode]) -> list[tuple[LSTMNode, int]]:
    """Return the node and the row of each Keras half."""
    if name in nodes:
        node = nodes[name]
        order = sorted(range(len(ways)), key=lambda index: ways[index])  # ONNX keeps the forward way first.
        return [(node, order.index(index)) for index in range(len(ways))] if len(node.directions) == len(ways) else []
    halves = [nodes[half] for index in range(len(ways)) if (half := f"{name}.half_{index}") in nodes]
    return [(node, 0) for node in halves if len(node.directions) == 1]


def _agrees(direction: LSTMDirection, recorded: RecordedDirection) -> bool:
    """Whether a half runs and computes as recorded; alpha and beta are rounded to float32 in the graph."""
    pairs = [
        (direction.activation, described_activation(recorded.activation)),
        (direction.recurrent_activation, described_activation(recorded.recurrent_activation)),
    ]
    same = all(_rounded(onnx_function(own)) == _rounded(onnx_function(other)) for own, other in pairs)
    return same and direction.go_backwards == recorded.go_backwards


def _rounded(function: Function | None) -> tuple[object, ...]:
    if function is None:
        return ()
    return (function.name, *(float(np.float32(value)) for value in (*function.alpha, *function.beta)))
