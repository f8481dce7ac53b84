"""Where the objects of a Functional model lie: the n-th of a class in the order of the model's layers.

Source: keras/src/saving/saving_lib.py ``_save_container_state``.
"""

from __future__ import annotations

from collections.abc import Iterator

from lstmconv.formats.keras.names import snake_case
from lstmconv.formats.keras.writer.nodes import Graph, Variable

__all__ = ["objects_of", "places_of", "variables_of"]


def places_of(graph: Graph) -> dict[str, str]:
    """Return each layer's path by its name; operations are no layers."""
    counts: dict[str, int] = {}
    places: dict[str, str] = {}
    for name, node in graph.nodes.items():
        if node.is_operation:
            continue
        container = snake_case(node.part.class_name)
        count = counts[container] = counts.get(container, -1) + 1
        places[name] = f"layers/{container}_{count}" if count else f"layers/{container}"
    return places


def objects_of(graph: Graph) -> dict[str, str]:
    """Return the names of all objects by their paths: the layers, and the objects inside them."""
    found: dict[str, str] = {}
    for name, place in places_of(graph).items():
        found[place] = name
        found |= {f"{place}/{path}": inner for path, inner in graph.nodes[name].part.inner.items()}
    return found


def variables_of(graph: Graph) -> Iterator[Variable]:
    """Yield all variables with their owners' paths, and their layers' names in their scopes."""
    for name, place in places_of(graph).items():
        for variable in graph.nodes[name].part.variables:
            owner = f"{place}/{variable.owner}".rstrip("/")
            yield variable._replace(owner=owner, scope=f"{name}/{variable.scope}".rstrip("/"))
