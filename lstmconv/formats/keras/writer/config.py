"""The config of a whole Functional model: the JSON that Keras makes its layers and their calls from.

Sources: get_config of Functional and ``serialize_node`` in keras/src/models/functional.py (3.3 to 3.15) and
tf_keras/src/engine/{functional,node}.py (2.21).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lstmconv.formats.keras.names import snake_case
from lstmconv.formats.keras.writer.dialect import Dialect
from lstmconv.formats.keras.writer.nodes import LAYERS, Graph, Inbound, Node, Part, Ref

__all__ = ["describe_graph", "describe_part"]

Config = dict[str, Any]


def describe_part(name: str | None, part: Part, dialect: Dialect, dtype: str, *, native: bool = True) -> Config:
    """Describe a layer or an operation.

    Args:
        name: The layer's; ``None`` for Keras to make one.
        part: What it is.
        dialect: Who reads it.
        dtype: The dtype of a layer that does not state its own.
        native: State the module; Keras 2 does not in a legacy file.
    """
    config: Config = {} if name is None else {"name": name}
    operation = part.module != LAYERS
    if not operation and part.class_name != "InputLayer":
        if dialect.major == 2:  # It states no module in a legacy file; this tells a layer from a function of Keras 3.
            config["trainable"] = True
        config["dtype"] = dtype
    config |= {key: _plain(value) for key, value in part.options.items()}
    described: Config = {"class_name": part.class_name, "config": config}
    if not native and dialect.major == 2:
        return described
    registered = part.class_name if operation else None
    return {"module": part.module, **described, "registered_name": registered}


def describe_graph(graph: Graph, dialect: Dialect, *, native: bool, whole: bool = True) -> Config:
    """Describe a model.

    Args:
        graph: The model.
        dialect: Who reads it.
        native: As for :func:`describe_part`.
        whole: It is a whole model. Keras 3 gets a chain of layers as a Sequential one, which is what a person would
            have written. A single input or output stands in a list, as Keras itself wrote it up to 3.6: 3.3 takes no
            other form. LSTM layers alone are a Functional model, which Keras 3 calls with one tensor without a list.
    """
    if whole and dialect.major == 3 and _is_chain(graph):
        return _describe_chain(graph, dialect)
    entries: list[Config] = []
    for name, node in graph.nodes.items():
        stated = None if _is_named_by_keras(node, graph) else name
        entry = describe_part(stated, node.part, dialect, graph.dtype, native=native)
        if dialect.major == 3 and node.build_shape is not None:
            entry["build_config"] = {"input_shape": list(node.build_shape)}
        inbound = [_inbound(call, node, graph, dialect) for call in node.calls]
        entries.append({**entry, "name": name, "inbound_nodes": inbound})
    config = {
        "name": graph.name,
        "trainable": True,
        "layers": entries,
        "input_layers": _ends([Ref(name) for name in graph.inputs], listed=whole or dialect.major == 2),
        "output_layers": _ends(graph.outputs, listed=whole or dialect.major == 2),
    }
    model: Config = {"class_name": "Functional", "config": config}
    if native or dialect.major == 3:
        model = {"module": dialect.functional, **model, "registered_name": "Functional"}
    return model


def _ends(refs: Sequence[Ref], *, listed: bool) -> list[Any]:
    ends: list[Any] = [list(ref) for ref in refs]
    return ends if listed or len(ends) > 1 else ends[0]


def _is_named_by_keras(node: Node, graph: Graph) -> bool:
    """Whether the config leaves an operation's name to Keras.

    Operations with options take no name up to Keras 3.8 (keras/src/ops/numpy.py, ``Stack.__init__``). The one
    that Keras makes, ``concatenate`` or ``concatenate_1``, must not be a layer's of this model: it refuses two alike.
    """
    if not node.is_operation or not node.part.options:
        return False
    made = re.compile(rf"{snake_case(node.part.class_name)}(_\d+)?")
    return not any(
        made.fullmatch(other.name) and not (other.is_operation and other.part.options) for other in graph.nodes.values()
    )


def _is_chain(graph: Graph) -> bool:
    """Whether each layer takes the one before it and nothing else, and the last one is the output."""
    before: Ref | None = None
    for name, node in graph.nodes.items():
        taken = [(call.args, dict(call.kwargs)) for call in node.calls]
        if before is None:
            if name not in graph.inputs or len(graph.inputs) != 1:
                return False
        elif node.part.module != LAYERS or taken != [((before,), {})]:
            return False
        before = Ref(name)
    return list(graph.outputs) == [before]


def _describe_chain(graph: Graph, dialect: Dialect) -> Config:
    layers: list[Config] = []
    for name, node in graph.nodes.items():
        entry = describe_part(name, node.part, dialect, graph.dtype)
        if node.build_shape is not None:
            entry["build_config"] = {"input_shape": list(node.build_shape)}
        layers.append(entry)
    config = {"name": graph.name, "trainable": True, "layers": layers}
    return {"module": "keras", "class_name": "Sequential", "config": config, "registered_name": None}


def _inbound(call: Inbound, node: Node, graph: Graph, dialect: Dialect) -> Any:
    if dialect.major == 3:
        return {
            "args": [_argument(value, graph) for value in call.args],
            "kwargs": {name: _argument(value, graph) for name, value in call.kwargs.items()},
        }
    kwargs = {name: _keyword(value) for name, value in call.kwargs.items()}
    (first,) = call.args
    if isinstance(first, list):
        return [[*_history(value), kwargs] for value in first]
    one = [*_history(first), kwargs]
    return one if node.part.is_function else [one]


def _history(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Ref) else ["_CONSTANT_VALUE", -1, _plain(value)]


def _keyword(value: Any) -> Any:
    """Return a keyword argument of Keras 2: tensors as their histories, slices as their ends."""
    if isinstance(value, Ref):
        return list(value)
    if isinstance(value, slice):
        return {"start": value.start, "stop": value.stop, "step": value.step}
    if isinstance(value, (list, tuple)):
        return [_keyword(inner) for inner in value]
    return _plain(value)


def _argument(value: Any, graph: Graph) -> Any:
    """Return an argument of Keras 3: tensors, arrays and slices as objects."""
    if isinstance(value, Ref):
        shape, dtype = graph.specs.get(value, ((), "float32"))
        history = {"shape": list(shape), "dtype": dtype, "keras_history": list(value)}
        return {"class_name": "__keras_tensor__", "config": history}
    if isinstance(value, slice):
        ends = {"start": value.start, "stop": value.stop, "step": value.step}
        return {"class_name": "__slice__", "config": ends}
    if isinstance(value, (list, tuple)):
        return [_argument(inner, graph) for inner in value]
    if isinstance(value, np.ndarray) and value.ndim:
        return {"class_name": "__numpy__", "config": {"value": value.tolist(), "dtype": value.dtype.name}}
    return _plain(value)


def _plain(value: Any) -> Any:
    """Return what JSON holds."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return value
