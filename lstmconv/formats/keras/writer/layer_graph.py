"""Which written layer takes which one's sequence, and the order in which Keras numbers and lists them.

Keras reads a model's weights by position: the n-th LSTM of the file goes into the n-th of the model, and
the model's order follows from its graph, not from its config. So files are written in that order.
Source: keras/src/ops/function.py ``map_graph`` and ``_build_map``; tf_keras/src/engine/functional.py
``_map_graph_network`` sorts alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from lstmconv.model import Checkpoint, LSTMLayer

__all__ = ["Graph", "chained", "graph_of"]


@dataclass(frozen=True)
class Graph:
    """A model's layers and tensors.

    Attributes:
        order: All layers, InputLayers among them, as Keras orders them.
        inputs: The InputLayers' names, by the LSTM layer that each feeds; in the checkpoint's order.
        feeders: The LSTM layer whose sequence a layer takes, for those that take one.
        outputs: ``(layer, tensor)``: what the model returns.
    """

    order: tuple[str, ...]
    inputs: dict[str, str]
    feeders: dict[str, str]
    outputs: tuple[tuple[str, int], ...]


def chained(checkpoint: Checkpoint) -> tuple[tuple[str, str], ...] | None:
    """Return the edges of a checkpoint with those inside its stacks; ``None`` if the source states none."""
    inside = tuple(pair for names in checkpoint.joined.values() for pair in pairwise(names))
    if checkpoint.edges is None and not inside:
        return None
    return tuple(dict.fromkeys([*(checkpoint.edges or ()), *inside]))


def graph_of(checkpoint: Checkpoint) -> Graph:
    """Lay out one model of all layers.

    An edge is followed where the feeding layer returns one sequence of the size that the other takes. What no
    layer takes is an output: of a layer that feeds another its states, and its sequence where the source had
    another reader for it.
    """
    feeders = _feeders(checkpoint)
    taken = set(feeders.values())
    outputs = [
        (layer.name, tensor)
        for layer in checkpoint.layers
        for tensor in range(_sequences(layer) + _states(layer))
        if layer.name not in taken or tensor or layer.name in checkpoint.branching
    ]
    names = {layer.name for layer in checkpoint.layers}
    inputs: dict[str, str] = {}
    for layer in checkpoint.layers:
        if layer.name not in feeders:
            inputs[layer.name] = _free(f"{layer.name}_input", names | set(inputs.values()))
    return Graph(tuple(_order(checkpoint, feeders, inputs, outputs)), inputs, feeders, tuple(outputs))


def _feeders(checkpoint: Checkpoint) -> dict[str, str]:
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


def _states(layer: LSTMLayer) -> int:
    return 2 * len(layer.directions) if layer.return_state else 0


def _free(name: str, taken: set[str]) -> str:
    numbered, count = name, 0
    while numbered in taken:
        count += 1
        numbered = f"{name}_{count}"
    return numbered


def _order(
    checkpoint: Checkpoint, feeders: dict[str, str], inputs: dict[str, str], outputs: list[tuple[str, int]]
) -> list[str]:
    """Sort by the distance to the farthest output, and among equals by when a walk from the outputs finds them."""
    found: dict[str, int] = {}
    for name, _ in outputs:
        step: str | None = name
        while step is not None and step not in found:
            found[step] = len(found)
            step = feeders.get(step, inputs.get(step))
    depths: dict[str, int] = {}
    for layer in reversed(checkpoint.layers):  # A layer comes after the one that feeds it.
        depth = depths.setdefault(layer.name, 0)
        below = feeders.get(layer.name, inputs.get(layer.name, ""))
        depths[below] = max(depths.get(below, 0), depth + 1)
    return sorted(found, key=lambda name: (-depths[name], found[name]))
