"""TimeDistributed: the layer that runs on each step, or a Functional model of all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lstmconv.formats.keras.writer.config import describe_graph, describe_part
from lstmconv.formats.keras.writer.nodes import Graph, Node, Part, Ref
from lstmconv.formats.keras.writer.places import objects_of, variables_of
from lstmconv.model import TimeDistributed

if TYPE_CHECKING:
    from lstmconv.formats.keras.writer.whole.building import Builder

__all__ = ["stepwise"]


def stepwise(layer: TimeDistributed, builder: Builder) -> Part:
    """Return a TimeDistributed of one layer where that is all, else of a Functional model.

    Raises:
        UnsupportedModelError: This Keras cannot hold a layer inside.
    """
    (entry,) = layer.model.inputs
    names = {inner.name for inner in layer.model.layers}
    given = next(name for name in ("step", "step_input", "step_input_1") if name not in names)
    graph = type(builder)(layer.model, builder.dialect, builder.dtype, {entry.name: given}, builder.handlers).graph()
    only = _only(graph)
    if only is not None:
        described = describe_part(only.name, only.part, builder.dialect, graph.dtype)
        variables = tuple(
            variable._replace(owner=f"layer/{variable.owner}".rstrip("/")) for variable in only.part.variables
        )
        inner = {"layer": only.name, **{f"layer/{path}": name for path, name in only.part.inner.items()}}
        return Part("TimeDistributed", {"layer": described}, variables, inner=inner)
    graph.name = layer.name  # A legal one.
    described = describe_graph(graph, builder.dialect, native=True)
    variables = tuple(variable._replace(owner=f"layer/{variable.owner}") for variable in variables_of(graph))
    inner = {"layer": graph.name, **{f"layer/{path}": name for path, name in objects_of(graph).items()}}
    return Part("TimeDistributed", {"layer": described}, variables, inner=inner)


def _only(graph: Graph) -> Node | None:
    """Return the one layer of a graph that is called once on its input, if that is all."""
    layers = [node for node in graph.nodes.values() if node.name not in graph.inputs]
    if len(layers) != 1 or layers[0].is_operation or layers[0].part.is_function:
        return None
    (node,) = layers
    (call,) = node.calls if len(node.calls) == 1 else (None,)
    if call is None or call.kwargs or call.args != (Ref(graph.inputs[0]),) or graph.outputs != (Ref(node.name),):
        return None
    return node
