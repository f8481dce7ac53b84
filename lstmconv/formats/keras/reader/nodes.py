"""Read the calls of a layer from a config: nodes, with their references to tensors and their constant values.

Sources: Node and get_config of keras-team/keras 1.2.2 to 2.3.1, tf_keras 2.21 (src/engine/functional.py, node.py) and
keras 3.x (src/models/functional.py serialize_node, deserialize_node).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from lstmconv.model import Array

__all__ = ["Node", "Ref", "nodes_of", "refs_in", "tensor_value"]


class Ref(NamedTuple):
    """A reference to one tensor (Keras calls it a history): an output of one call of a layer of the same model."""

    layer: str
    node: int
    tensor: int


class Node(NamedTuple):
    """One call: its arguments, in which every tensor is a :class:`Ref`.

    Attributes:
        args: Positional arguments: nested lists, dicts and plain values.
        kwargs: Keyword arguments.
        of_keras_3: Whether the node has the form of Keras 3.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    of_keras_3: bool = False

    @property
    def refs(self) -> tuple[Ref, ...]:
        """All tensors that the call reads."""
        return (*refs_in(self.args), *refs_in(dict(self.kwargs)))


def refs_in(value: Any) -> Iterator[Ref]:
    """Yield every tensor in a nested argument, in order."""
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from refs_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from refs_in(inner)


def nodes_of(entries: Any) -> tuple[Node, ...]:
    """Read a layer's ``inbound_nodes``.

    Keras 1, 2 and tf.keras: ``[[["name", node, tensor, {kwargs}], ...], ...]``, with the keyword arguments of the call
    last. Keras 3: ``[{"args": [...], "kwargs": {...}}, ...]`` with tensors as ``__keras_tensor__`` objects.
    """
    if not isinstance(entries, list):
        raise TypeError(f"inbound_nodes of type {type(entries).__name__}")
    return tuple(
        _keras_3_node(entry) if isinstance(entry, Mapping) and "args" in entry else _node(entry) for entry in entries
    )


def _keras_3_node(entry: Mapping[str, Any]) -> Node:
    kwargs = _parsed(entry.get("kwargs") or {})
    return Node(tuple(_parsed(argument) for argument in entry["args"]), kwargs, of_keras_3=True)


def _node(entry: Any) -> Node:
    """Read a node of Keras 1 and 2: the inputs of the call, each with the keyword arguments of the whole call."""
    if _is_history(entry):
        entry = [entry]
    kwargs: dict[str, Any] = {}
    inputs = _inputs(entry, kwargs)
    return Node((inputs[0] if isinstance(inputs, list) and len(inputs) == 1 else inputs,), kwargs)


def _inputs(value: Any, kwargs: dict[str, Any]) -> Any:
    if isinstance(value, list) and len(value) == 4 and isinstance(value[0], str) and value[0].startswith("_CONSTANT"):
        kwargs.update(_parsed(value[3]))  # tf.keras: ["_CONSTANT_VALUE", -1, 3.0, {...}]
        return value[2]
    if _is_history(value):
        if len(value) > 3 and isinstance(value[3], Mapping):
            kwargs.update({key: _parsed(inner) for key, inner in value[3].items() if key not in kwargs})
        return Ref(value[0], value[1], value[2])
    if isinstance(value, Mapping):
        return {key: _inputs(inner, kwargs) for key, inner in value.items()}
    if isinstance(value, list):
        return [_inputs(inner, kwargs) for inner in value]
    return value


def _is_history(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in value[1:3])
        and (len(value) == 3 or isinstance(value[3], Mapping) or value[3] is None)
    )


def _parsed(value: Any) -> Any:
    """Turn histories into :class:`Ref` at any depth; everything else stays unchanged."""
    if isinstance(value, Mapping):
        config = value.get("config")
        if value.get("class_name") == "__keras_tensor__" and isinstance(config, Mapping):
            name, node, tensor = config["keras_history"][:3]
            return Ref(str(name), int(node), int(tensor))
        return {key: _parsed(inner) for key, inner in value.items()}
    if _is_history(value):
        return Ref(value[0], value[1], value[2])
    if isinstance(value, list):
        return [_parsed(inner) for inner in value]
    return value


def tensor_value(value: Any) -> Array | None:
    """Return the numbers of a constant argument; ``None`` if the argument is something else.

    Keras 3 writes ``{"class_name": "__tensor__", "config": {"value": [...], "dtype": ...}}``, Keras 2 nested lists.
    """
    if isinstance(value, Mapping):
        config = value.get("config")
        if value.get("class_name") not in ("__tensor__", "__numpy__") or not isinstance(config, Mapping):
            return None
        value = config.get("value")
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    return array if array.dtype.kind in "biuf" else None
