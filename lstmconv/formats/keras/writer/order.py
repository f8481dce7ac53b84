"""The order in which Keras lists the layers of a Functional model, which follows from its graph.

Keras reads a model's weights by position: the n-th Dense of the file goes into the n-th of the model. Sources:
keras/src/ops/function.py ``map_graph`` and ``_build_map``; tf_keras/src/engine/functional.py ``_map_graph_network``
and ``_build_map_helper`` do the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lstmconv.formats.keras.writer.nodes import Node, Ref

__all__ = ["ordered"]

_Call = tuple[str, int]


def ordered(nodes: Mapping[str, Node], inputs: Iterable[str], outputs: Iterable[Ref]) -> list[str]:
    """Sort by the distance to the farthest output, and among equals by when a walk from the outputs meets them."""
    finished, met = _walked(nodes, outputs)
    reached = set(finished)
    depths: dict[_Call, int] = {}
    depth_of: dict[str, int] = {}
    for call in reversed(finished):
        depth = max(depths.get(call, 0), depth_of.get(call[0], 0))
        depths[call] = depth_of[call[0]] = depth
        for parent in _parents(nodes, call):
            if parent in reached:
                depths[parent] = max(depths.get(parent, 0), depth + 1)
    for name in inputs:  # Inputs that nothing reads.
        if name not in depth_of:
            depth_of[name], met[name] = 0, -1
    return sorted(depth_of, key=lambda name: (-depth_of[name], met[name]))


def _parents(nodes: Mapping[str, Node], call: _Call) -> list[_Call]:
    name, index = call
    calls = nodes[name].calls
    return [(ref.node, ref.call) for ref in calls[index].refs] if calls else []


def _walked(nodes: Mapping[str, Node], outputs: Iterable[Ref]) -> tuple[list[_Call], dict[str, int]]:
    """Return the calls in the order in which a depth-first walk leaves them, and when it meets each layer."""
    finished: dict[_Call, None] = {}
    met: dict[str, int] = {}
    for output in outputs:
        open_calls: list[tuple[_Call, list[_Call]]] = []

        def enter(call: _Call, path: list[tuple[_Call, list[_Call]]]) -> None:
            if call not in finished:
                met.setdefault(call[0], len(met))
                path.append((call, _parents(nodes, call)[::-1]))

        enter((output.node, output.call), open_calls)
        while open_calls:
            call, left = open_calls[-1]
            if left:
                enter(left.pop(), open_calls)
            else:
                finished.setdefault(call)
                open_calls.pop()
    return list(finished), met
