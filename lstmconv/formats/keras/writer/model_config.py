"""The config of a written model: the JSON that Keras makes its layers from.

Sources: get_config of InputLayer, LSTM, Bidirectional and Functional in tf_keras 2.21 and keras 3.0.5 to
3.15. Only keys that every one of a generation takes are written: Keras refuses those that it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lstmconv.activations import TANH, Activation
from lstmconv.formats.keras.writer.arrays import CUDNN_LSTM, CellClass, WrittenHalf
from lstmconv.formats.keras.writer.dialect import Dialect, described
from lstmconv.formats.keras.writer.layer_graph import Graph
from lstmconv.model import Checkpoint, LSTMLayer

__all__ = [
    "WrittenLayer",
    "class_name",
    "describe_layer",
    "describe_model",
    "describe_object",
    "describe_variables",
]

Config = dict[str, Any]


@dataclass(frozen=True, eq=False)
class WrittenLayer:
    """A layer with its directions as they are written.

    Attributes:
        stateful: It keeps its states, which needs a fixed batch size.
    """

    layer: LSTMLayer
    halves: tuple[WrittenHalf, ...]
    stateful: bool = False

    @property
    def cell(self) -> CellClass:
        """The class of its directions."""
        return self.halves[0].cell

    @property
    def dtype(self) -> str:
        """The dtype of its arrays and of what it computes."""
        return str(self.halves[0].dtype)


def class_name(written: WrittenLayer) -> str:
    """Return ``LSTM``, ``CuDNNLSTM`` or ``Bidirectional``."""
    return "Bidirectional" if written.layer.bidirectional else written.cell.name


def describe_model(
    checkpoint: Checkpoint, layers: Mapping[str, WrittenLayer], graph: Graph, dialect: Dialect, *, native: bool
) -> Config:
    """Describe one Functional model of all layers.

    Args:
        checkpoint: Its layers have the names in the file.
        layers: By name.
        graph: How they are connected.
        dialect: Who reads it.
        native: For a ``.keras`` file, whose objects state their modules; a legacy file's layers do not.
    """
    owners = {name: layer for layer, name in graph.inputs.items()}
    entries: list[Config] = []
    for name in graph.order:
        if name in owners:
            owner = layers[owners[name]]
            entry = describe_object("InputLayer", _input(name, owner, dialect), native=native)
            inbound: list[Any] = []
        else:
            entry = describe_object(class_name(layers[name]), describe_layer(layers[name], dialect), native=native)
            if native:
                entry["build_config"] = {"input_shape": [None, None, layers[name].layer.input_size]}
            below = graph.feeders.get(name, graph.inputs.get(name, ""))
            inbound = _inbound(below, checkpoint[name].input_size, layers[name], dialect)
        entries.append({**entry, "name": name, "inbound_nodes": inbound})
    config = {
        "name": dialect.model_name,
        "trainable": True,
        "layers": entries,
        "input_layers": _tensors([(name, 0) for name in graph.inputs.values()], dialect),
        "output_layers": _tensors(graph.outputs, dialect),
    }
    model = {"class_name": "Functional", "config": config}
    if native:
        model = {"module": dialect.functional, **model, "registered_name": "Functional"}
    return model


def _tensors(tensors: Any, dialect: Dialect) -> list[Any]:
    """Keras 3 calls a model with one tensor, or that returns one, without a list."""
    listed = [[name, 0, index] for name, index in tensors]
    return listed[0] if dialect.major == 3 and len(listed) == 1 else listed


def describe_object(name: str, config: Config, *, native: bool = True) -> Config:
    """Describe an object of Keras; that of a layer in a legacy file does not state its module."""
    if not native:
        return {"class_name": name, "config": config}
    module = "keras.initializers" if name in _INITIALIZERS else "keras.layers"
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


_INITIALIZERS = ("GlorotUniform", "Orthogonal", "OrthogonalInitializer", "Zeros")


def _input(name: str, owner: WrittenLayer, dialect: Dialect) -> Config:
    """Take the layer's own dtype: float32 would round the inputs of a float64 layer."""
    config = {dialect.input_shape: [None, None, owner.layer.input_size], "dtype": owner.dtype, "sparse": False}
    return {**config, "name": name} if dialect.major == 3 else {**config, "ragged": False, "name": name}


def _inbound(below: str, features: int, written: WrittenLayer, dialect: Dialect) -> list[Any]:
    if dialect.major == 2:
        return [[[below, 0, 0, {}]]]
    history = {"shape": [None, None, features], "dtype": written.dtype, "keras_history": [below, 0, 0]}
    tensor = {"class_name": "__keras_tensor__", "config": history}
    return [{"args": [tensor], "kwargs": {"mask": None}}]


def describe_layer(written: WrittenLayer, dialect: Dialect) -> Config:
    """Describe an LSTM, a CuDNNLSTM or a Bidirectional one."""
    name, layer = written.layer.name, written.layer
    if not layer.bidirectional:
        return _cell(name, written, written.halves[0], dialect)
    forward, backward = written.halves
    head = {"name": name, "trainable": True, "dtype": written.dtype}
    merge_mode = None if layer.merge_mode == "none" else layer.merge_mode
    if dialect.major == 3:
        return {
            **head,
            "merge_mode": merge_mode,
            "layer": describe_object(forward.cell.name, _cell(forward.name, written, forward, dialect)),
            "backward_layer": describe_object(backward.cell.name, _cell(backward.name, written, backward, dialect)),
        }
    # Keras 2 puts forward_ and backward_ before the names, and makes the second half itself where it can.
    inner = [describe_object(half.cell.name, _cell(half.cell.inner, written, half, dialect)) for half in written.halves]
    alike = {**inner[0]["config"], "go_backwards": None} == {**inner[1]["config"], "go_backwards": None}
    config = {**head, "layer": inner[0], "merge_mode": merge_mode}
    return config if alike else {**config, "backward_layer": inner[1]}


def _cell(name: str, written: WrittenLayer, half: WrittenHalf, dialect: Dialect) -> Config:
    """Describe one LSTM or CuDNNLSTM."""
    layer, direction = written.layer, half.direction
    config: Config = {
        "name": name,
        "trainable": True,
        "dtype": written.dtype,
        "return_sequences": layer.return_sequences is not False,
        "return_state": layer.return_state,
        "go_backwards": direction.go_backwards,
        "stateful": written.stateful,
    }
    # A Bidirectional returns zeros for masked steps if it returns sequences, and Keras 3 notes that in its halves.
    zeros = layer.return_sequences is not False if layer.bidirectional else layer.zero_output_for_mask
    if half.cell is CUDNN_LSTM:
        return (
            config | {"time_major": False, "units": direction.hidden_size} | describe_variables(written.dtype, dialect)
        )
    if dialect.major == 3:
        config |= {"unroll": False, "zero_output_for_mask": zeros}
    else:  # time_major is what makes Keras 3 refuse the file, whose hard_sigmoid is another.
        config |= {"unroll": False, "time_major": layer.time_major}
        config |= {"zero_output_for_mask": True} if zeros and not layer.bidirectional else {}
    config |= {
        "units": direction.hidden_size,
        "activation": _activation(direction.activation, written, dialect),
        "recurrent_activation": _activation(direction.recurrent_activation, written, dialect),
        "use_bias": half.use_bias,
    }
    config |= describe_variables(written.dtype, dialect) | {"dropout": 0.0, "recurrent_dropout": 0.0}
    return config | ({"seed": None} if dialect.major == 3 else {"implementation": 2})


def _activation(activation: Activation | None, written: WrittenLayer, dialect: Dialect) -> Any:
    return described(TANH if activation is None else activation, dialect, written.dtype)


def describe_variables(dtype: str, dialect: Dialect) -> Config:
    """Describe how Keras would draw new weights: its defaults, which loading overwrites.

    Half precisions have no QR decomposition on a CPU, so no orthogonal matrix: Keras could not build the layer.
    """
    glorot = describe_object("GlorotUniform", {"seed": None})
    gain = {"seed": None, "gain": 1.0} if dialect.major == 3 else {"gain": 1.0, "seed": None}
    recurrent = glorot if dtype in ("float16", "bfloat16") else describe_object(dialect.orthogonal, gain)
    return {
        "kernel_initializer": glorot,
        "recurrent_initializer": recurrent,
        "bias_initializer": describe_object("Zeros", {}),
        "unit_forget_bias": True,
        "kernel_regularizer": None,
        "recurrent_regularizer": None,
        "bias_regularizer": None,
        "activity_regularizer": None,
        "kernel_constraint": None,
        "recurrent_constraint": None,
        "bias_constraint": None,
    }
