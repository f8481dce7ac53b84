"""Read a Keras model config: which LSTM layers it has, their options, and which feeds which.

Sources: get_config of Sequential, Functional, Bidirectional, RNN, LSTM in keras-team/keras 1.2.2 to
2.3.1, tf_keras 2.21 and keras 3.x; the names under ``layers/`` follow
keras/src/saving/saving_lib.py ``_save_container_state``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from lstmconv.errors import UnreadableFileError
from lstmconv.formats.keras.names import snake_case
from lstmconv.formats.safety.limits import refuse_many_layers
from lstmconv.model import Skipped

__all__ = ["HalfSpec", "LayerSpec", "ModelSpec", "read_model"]

_MODELS = {"Sequential", "Functional", "Model"}
_OTHER_RECURRENT = {"GRU", "CuDNNGRU", "SimpleRNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "ConvRecurrent2D"}
_IDENTITIES = {
    "Dropout",
    "SpatialDropout1D",
    "GaussianNoise",
    "GaussianDropout",
    "AlphaDropout",
    "ActivityRegularization",
    "Identity",
    "InputLayer",
}
"""Layers that return their input at inference."""
_MASK_STOPS = {"Flatten", "GlobalAveragePooling1D", "GlobalMaxPooling1D", "RepeatVector", "Reshape"}
"""Layers whose outputs carry no mask; of the recurrent ones, those that return no sequence (RNN.compute_mask)."""
_MAX_NESTING = 32


class HalfSpec(NamedTuple):
    """One LSTM cell as the config describes it.

    Attributes:
        name: Its own name: the layer's, ``forward_lstm_1``, or the cell's in a stack.
        config: Of the LSTM or LSTMCell.
        object_path: Where a saveable file keeps its arrays: ``layers/lstm/cell``.
        cudnn: It is a CuDNNLSTM.
    """

    name: str
    config: Mapping[str, Any]
    object_path: str
    cudnn: bool

    @property
    def units(self) -> int | None:
        """Units; ``output_dim`` in Keras 1."""
        units = self.config.get("units", self.config.get("output_dim"))
        return units if isinstance(units, int) else None

    @property
    def use_bias(self) -> bool:
        """Whether there is a bias; always in Keras 1 and in a CuDNNLSTM."""
        return bool(self.config.get("use_bias", True))


class LayerSpec(NamedTuple):
    """One LSTM layer as the config describes it.

    Attributes:
        name: The user's, ``/`` between nested models.
        class_name: With its wrappers: ``"TimeDistributed(Bidirectional(LSTM))"``.
        halves: One, or forward and backward.
        options: The config that holds return_sequences, go_backwards and so on.
        merge_mode: Of a Bidirectional; ``"none"`` for Keras' ``None``.
        group: The top-level layer it belongs to, which is its group in a legacy file.
        masking: A mask reaches it.
    """

    name: str
    class_name: str
    halves: tuple[HalfSpec, ...]
    options: Mapping[str, Any]
    merge_mode: str = "concat"
    group: str = ""
    masking: bool = False


class ModelSpec(NamedTuple):
    """All LSTM layers of a config, in its order, and how they feed each other.

    Attributes:
        layers: The LSTMs.
        skipped: Other recurrent layers.
        edges: ``(a, b)``: ``a`` feeds ``b``, and nothing between them computes at inference. A layer that is
            called several times stands at neither end.
        branching: Layers whose sequence has more readers than one, the model's output among them.
    """

    layers: tuple[LayerSpec, ...]
    skipped: tuple[Skipped, ...]
    edges: tuple[tuple[str, str], ...]
    branching: tuple[str, ...]


@dataclass
class _Node:
    """One layer of one model while it is being read."""

    name: str
    class_name: str
    config: Mapping[str, Any]
    inputs: list[tuple[str, int]]
    """The layers that it is called with, and which of their tensors."""
    object_path: str
    calls: int = 1
    masked: bool = False
    """A mask reaches it; a nested model passes on what its last layer does."""


@dataclass
class _Graph:
    """One model: its layers, and which of them are its inputs and outputs."""

    nodes: list[_Node]
    inputs: list[str]
    outputs: list[tuple[str, int]]


@dataclass
class _Found:
    layers: list[LayerSpec] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    edges: list[tuple[str, str]] = field(default_factory=list)
    readers: Counter[str] = field(default_factory=Counter)
    """How many read each LSTM's sequence."""


def read_model(model: Mapping[str, Any], root: str = "layers") -> ModelSpec:
    """Find every LSTM layer of a model config.

    Args:
        model: ``{"class_name": ..., "config": ...}``.
        root: What a saveable file calls its layers: ``layers``, or ``_layer_checkpoint_dependencies``
            from Keras 2.12 to 2.14.

    Raises:
        UnreadableFileError: The config does not have the form of a model.
    """
    found = _Found()
    try:
        graph = _graph(model, root)
        last, _ = _read_graph(graph, (), "", False, None, root, found)
        found.readers.update([last] if last else [])
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise UnreadableFileError(f"the model config is not one that Keras writes ({error!r})") from error
    refuse_many_layers(len(found.layers), "the model config")
    branching = tuple(name for name, count in found.readers.items() if count > 1)
    return ModelSpec(tuple(found.layers), tuple(found.skipped), tuple(found.edges), branching)


def _graph(model: Mapping[str, Any], path: str) -> _Graph:
    """List a model's layers; Sequential keeps a plain list up to Keras 2.2.2, a dict later."""
    config = model.get("config")
    entries = config if isinstance(config, list) else (config or {}).get("layers")
    if not isinstance(entries, list):
        return _Graph([], [], [])
    sequential = isinstance(config, list) or model.get("class_name") == "Sequential"
    nodes: list[_Node] = []
    counts: dict[str, int] = {}
    for entry in entries:
        class_name, inner = str(entry["class_name"]), entry["config"]
        container = snake_case(class_name)
        count = counts[container] = counts.get(container, -1) + 1
        object_path = f"{path}/{container}_{count}" if count else f"{path}/{container}"
        name = str(entry.get("name") or (inner.get("name") if isinstance(inner, Mapping) else "") or container)
        calls = entry.get("inbound_nodes", [])
        inputs = [(nodes[-1].name, 0)] if sequential and nodes else list(dict.fromkeys(_histories(calls)))
        own = inner if isinstance(inner, Mapping) else {"layers": inner}
        nodes.append(_Node(name, class_name, own, inputs, object_path, max(1, len(calls))))
    if sequential or not isinstance(config, Mapping):
        return _Graph(nodes, [node.name for node in nodes[:1]], [(node.name, 0) for node in nodes[-1:]])
    entering = [name for name, _ in _histories(config.get("input_layers"))]
    return _Graph(nodes, entering, list(_histories(config.get("output_layers"))))


def _histories(value: Any, depth: int = 0) -> Iterator[tuple[str, int]]:
    """Yield the layers whose tensors a layer is called with, and which of their tensors, in order.

    Keras 1 and 2: ``[[["name", node, tensor, {}], ...]]``; Keras 3: ``{"args": [{"class_name":
    "__keras_tensor__", "config": {"keras_history": ["name", node, tensor]}}], ...}``.
    """
    if depth > _MAX_NESTING:
        return
    if isinstance(value, Mapping):
        history = value.get("keras_history")
        if isinstance(history, Sequence) and len(history) >= 3:
            yield str(history[0]), int(history[2])
            return
        for inner in value.values():
            yield from _histories(inner, depth + 1)
    elif isinstance(value, list):
        if len(value) >= 3 and isinstance(value[0], str) and isinstance(value[1], int) and isinstance(value[2], int):
            yield value[0], value[2]
            yield from _histories(value[3:], depth + 1)
            return
        for inner in value:
            yield from _histories(inner, depth + 1)


def _read_graph(
    graph: _Graph,
    above: tuple[str, ...],
    group: str,
    masked: bool,
    entering: str | None,
    root: str,
    found: _Found,
) -> tuple[str | None, bool]:
    """Read one model's layers.

    Args:
        graph: The model.
        above: The names of the models that it is nested in.
        group: The top-level layer that it belongs to.
        masked: A mask reaches it.
        entering: The LSTM whose sequence is its only input.
        root: See :func:`read_model`.
        found: What is found goes here.

    Returns:
        The LSTM whose sequence is the model's only output, and whether the output is masked.
    """
    if len(above) > _MAX_NESTING:
        raise ValueError(f"models nest deeper than {_MAX_NESTING} levels")
    by_name = {node.name: node for node in graph.nodes}
    last: dict[str, str | None] = {}  # Layer -> the LSTM whose sequence it passes on unchanged.
    for node in graph.nodes:
        sources = [by_name[name] for name, _ in node.inputs if name in by_name]
        node.masked = any(map(_passes_mask, sources)) or (not sources and masked)
        here = (*above, node.name)
        top = group or node.name
        read = [last.get(name) if tensor == 0 else None for name, tensor in node.inputs]
        if not node.inputs and graph.inputs == [node.name]:
            read = [entering]
        feeding = read[0] if read and node.calls == 1 else None
        if node.class_name in _MODELS or "layers" in node.config:
            inner = _graph({"class_name": node.class_name, "config": node.config}, f"{node.object_path}/{root}")
            alone = len(node.inputs) <= 1 and node.calls == 1
            found.readers.update(name for name in read if name and not alone)
            last[node.name], node.masked = _read_graph(
                inner, here, top, node.masked, feeding if alone else None, root, found
            )
            if node.calls > 1:
                last[node.name] = None
            continue
        if _is_identity(node):
            last[node.name] = feeding
            continue
        found.readers.update(name for name in set(read) if name)
        added = _read_layer(node, here, top, found)
        found.edges += [(a.name, b.name) for a, b in pairwise(added)]
        if added and node.class_name != "TimeDistributed" and node.calls == 1:
            if feeding is not None:
                found.edges.append((feeding, added[0].name))
            last[node.name] = added[-1].name
    if not graph.nodes:
        return None, masked
    ends = [last.get(name) if tensor == 0 else None for name, tensor in graph.outputs]
    if len(ends) != 1:
        found.readers.update(name for name in ends if name)
    closing = by_name[graph.outputs[-1][0]] if graph.outputs else graph.nodes[-1]
    return (ends[0] if len(ends) == 1 else None), _passes_mask(closing)


def _is_identity(node: _Node) -> bool:
    """Whether a layer returns its input at inference."""
    wrapped = node.config.get("layer")
    if node.class_name == "TimeDistributed" and isinstance(wrapped, Mapping):
        return wrapped.get("class_name") in _IDENTITIES
    linear = node.class_name == "Activation" and node.config.get("activation") == "linear"
    return linear or node.class_name in _IDENTITIES


def _passes_mask(node: _Node) -> bool:
    """Whether a layer's output carries a mask: its own, or the one that reached it."""
    if node.class_name == "Masking" or (node.class_name == "Embedding" and node.config.get("mask_zero")):
        return True
    wrapped = node.config.get("layer") if node.class_name == "Bidirectional" else None
    config = wrapped["config"] if isinstance(wrapped, Mapping) else node.config
    return node.masked and node.class_name not in _MASK_STOPS and config.get("return_sequences") is not False


def _read_layer(node: _Node, path: tuple[str, ...], group: str, found: _Found) -> list[LayerSpec]:
    """Read one layer, unwrapping it; return the LSTM layers it consists of."""
    name = "/".join(path)
    entry: Mapping[str, Any] = {"class_name": node.class_name, "config": node.config}
    wrappers: list[str] = []
    object_path = node.object_path
    while entry["class_name"] == "TimeDistributed":
        wrappers.append("TimeDistributed")
        entry = entry["config"]["layer"]
        object_path += "/layer"
    if wrappers and (entry["class_name"] in _MODELS or "layers" in entry["config"]):
        root = object_path.split("/")[0]
        last, _ = _read_graph(_graph(entry, f"{object_path}/{root}"), path, group, node.masked, None, root, found)
        found.readers.update([last] if last else [])
        return []
    class_name, config = str(entry["class_name"]), entry["config"]
    if class_name == "Bidirectional":
        specs = _bidirectional(config, object_path, name, found)
    else:
        specs = _unidirectional(class_name, config, object_path, name, found)
    specs = [
        spec._replace(
            class_name="(".join([*wrappers, spec.class_name]) + ")" * len(wrappers),
            group=group,
            masking=node.masked,
        )
        for spec in specs
    ]
    found.layers += specs
    return specs


def _bidirectional(config: Mapping[str, Any], object_path: str, name: str, found: _Found) -> list[LayerSpec]:
    forward = config["layer"]
    backward = config.get("backward_layer") or forward
    halves: list[HalfSpec] = []
    for entry, side in ((forward, "forward"), (backward, "backward")):
        specs = _unidirectional(str(entry["class_name"]), entry["config"], f"{object_path}/{side}_layer", name, found)
        if not specs:
            if len(found.skipped) > 1 and found.skipped[-1].name == found.skipped[-2].name:
                found.skipped.pop()
            continue
        if len(specs) > 1:
            found.skipped.append(
                Skipped(
                    name,
                    "Bidirectional(RNN)",
                    "two stacks of cells side by side are not a stack of Bidirectional layers",
                )
            )
            return []
        own = str(entry["config"].get("name", ""))
        # Without a backward_layer of its own, Keras names the halves after the wrapped layer.
        renamed = own if config.get("backward_layer") and side == "backward" else f"{side}_{own}"
        halves.append(specs[0].halves[0]._replace(name=renamed))
    if len(halves) != 2:
        return []
    mode = config.get("merge_mode", "concat")
    options = dict(forward["config"])
    backward_options = dict(backward["config"])
    # Without one of its own the backward layer is the forward one with go_backwards turned round
    # (bidirectional.py __init__), in Keras 2 also where the forward one already runs backwards.
    if not config.get("backward_layer"):
        backward_options["go_backwards"] = not options.get("go_backwards", False)
    halves[1] = halves[1]._replace(config={**backward_options, **_cell_config(backward)})
    inner = "RNN(LSTMCell)" if forward["class_name"] == "RNN" else str(forward["class_name"])
    return [LayerSpec(name, f"Bidirectional({inner})", tuple(halves), options, "none" if mode is None else str(mode))]


def _cell_config(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    cell = entry["config"].get("cell")
    return cell["config"] if isinstance(cell, Mapping) else {}


def _unidirectional(
    class_name: str, config: Mapping[str, Any], object_path: str, name: str, found: _Found
) -> list[LayerSpec]:
    own = str(config.get("name", ""))
    if class_name in ("LSTM", "CuDNNLSTM"):
        cudnn = class_name == "CuDNNLSTM"
        path = object_path if cudnn else f"{object_path}/cell"
        return [LayerSpec(name, class_name, (HalfSpec(own, config, path, cudnn),), config)]
    if class_name == "RNN" and isinstance(config.get("cell"), (Mapping, list)):
        return _cells(config, object_path, name, found)
    if class_name in _OTHER_RECURRENT:
        found.skipped.append(Skipped(name, class_name, "only LSTM layers convert"))
    elif "recurrent_activation" in config or "inner_activation" in config or class_name == "RNN":
        found.skipped.append(Skipped(name, class_name, "a custom recurrent layer; only Keras' own LSTM converts"))
    return []


def _cells(config: Mapping[str, Any], object_path: str, name: str, found: _Found) -> list[LayerSpec]:
    """Read RNN(LSTMCell), RNN([LSTMCell, ...]) and RNN(StackedRNNCells): one layer a cell."""
    cell = config["cell"]
    if isinstance(cell, list):
        cell = {"class_name": "StackedRNNCells", "config": {"cells": cell}}
    stacked = cell["class_name"] == "StackedRNNCells"
    cells = cell["config"]["cells"] if stacked else [cell]
    other = [str(entry["class_name"]) for entry in cells if entry["class_name"] != "LSTMCell"]
    if other:
        found.skipped.append(Skipped(name, f"RNN({', '.join(other)})", "only LSTMCell converts"))
        return []
    specs: list[LayerSpec] = []
    counts = 0
    for index, entry in enumerate(cells):
        inner = entry["config"]
        own = str(inner.get("name", f"lstm_cell_{index}"))
        path = f"{object_path}/cell"
        if stacked:
            path += "/cells/lstm_cell" + (f"_{counts}" if counts else "")
            counts += 1
        options = {key: value for key, value in config.items() if key != "cell"}
        if index < len(cells) - 1:
            options["return_sequences"] = True
        if index:  # It receives what the cell before it returned, in processing order already.
            options["go_backwards"] = False
        half = HalfSpec(own, {**options, **inner, "name": own}, path, False)
        spec_name = f"{name}/{own}" if stacked else name
        specs.append(LayerSpec(spec_name, "RNN(LSTMCell)", (half,), options))
    return specs
