"""Why ONNX cannot hold a whole model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.onnx.functions import onnx_function
from lstmconv.formats.onnx.writer.graph_builder import Graph
from lstmconv.formats.onnx.writer.recurrent_weights import functions_of, operator
from lstmconv.formats.options import WriteOptions
from lstmconv.formats.tensors import dtype_of_model
from lstmconv.model import Layer, LSTMLayer, Model, RecurrentLayer, Stack

__all__ = ["is_stateful", "obstacle_of", "obstacle_of_graph"]

_NOT_IN_FLOAT64 = frozenset({
    "AveragePool", "Conv", "ConvTranspose", "Elu", "Erf", "GRU", "HardSigmoid", "LSTM", "LeakyRelu", "PRelu", "RNN",
    "Resize", "Selu", "Softplus", "Softsign", "ThresholdedRelu",
})  # fmt: skip
"""What ONNX Runtime 1.32 has no CPU kernel for, of what is written here; its LSTM and GRU load and then refuse."""


def obstacle_of(model: Model, options: WriteOptions) -> str | None:
    """Say why ONNX cannot hold a model, and the way out, or ``None``."""
    return next(_obstacles(model, options), None)


def _obstacles(model: Model, options: WriteOptions) -> Iterator[str]:
    for unknown in model.unknown:
        yield f"{unknown.name}: {unknown.class_name} is not known: {unknown.reason}"
    for layer in model.layers:
        yield from _activations(layer)
        if is_stateful(layer) and len(model.calls_of(layer)) > 1:
            yield f"{layer.name}: stateful, and called twice: how the second call starts depends on Keras"
    try:
        if dtype_of_model(model, options).name == "bfloat16":
            yield "ONNX Runtime has few operators in bfloat16; choose float32 or float16 with --dtype"
    except UnsupportedModelError as error:
        yield str(error)


def is_stateful(layer: Layer) -> bool:
    """Whether a recurrent layer keeps its states between batches; a stack does where its last layer does."""
    last = layer.last if isinstance(layer, Stack) else layer
    return isinstance(last, LSTMLayer | RecurrentLayer) and last.stateful


def obstacle_of_graph(graph: Graph, dtype: np.dtype[np.generic]) -> str | None:
    """Say what of a finished graph ONNX Runtime cannot run in the model's dtype, or ``None``."""
    if dtype != np.float64:
        return None
    missing = next((node for node in graph.nodes if node.op_type in _NOT_IN_FLOAT64), None)
    if missing is None:
        return None
    return f"{missing.name}: ONNX Runtime has no {missing.op_type} in float64; choose float32 with --dtype"


def _activations(layer: Layer) -> Iterator[str]:
    """Recurrent nodes have the activations that their operator lists; between layers any is composed."""
    if isinstance(layer, Stack):
        for one in layer.layers:
            yield from _activations(one)
    if not isinstance(layer, LSTMLayer | RecurrentLayer):
        return
    for direction in layer.directions:
        for activation in functions_of(direction):
            if activation is None:
                yield f"{layer.name}: its activation is unknown; pass --config model.json or --recurrent-activation"
            elif onnx_function(activation) is None:
                name = operator(direction)
                yield f"{layer.name}: ONNX' {name} has no {activation}; convert to torch, which computes it"
