"""LSTM layers, or the whole model around them, as an ONNX graph.

A whole model (:func:`build_model`) has its inputs by Keras' names and in Keras' order, token ids int64, and its
outputs by Keras' output names. The states of stateful layers follow: ``<layer>.initial_h``, ``.initial_c`` after the
inputs, ``<layer>.h``, ``.c`` after the outputs.

LSTM layers alone (:func:`build`): one ``LSTM`` node a layer, dynamic batch and time, no Loop.

Per layer ``<layer>.x`` goes in, and ``<layer>.y`` comes out as Keras returns it (``<layer>.y_1`` is the
second output of ``merge_mode=None``), with the final states ``<layer>.h`` and ``<layer>.c``
``(directions, batch, hidden)``, forward half first. The layers of a stack are chained: ``<stack>.x`` goes
in, ``<stack>.y`` comes out, the states stay each layer's. ``layout`` stays 0: ONNX Runtime refuses 1.

Source: ONNX operator specification, LSTM-7, LSTM-14, LSTM-22: X [seq, batch, input],
W [directions, 4*hidden, input], R [directions, 4*hidden, hidden], B [directions, 8*hidden],
sequence_lens [batch], initial_h and initial_c [directions, batch, hidden];
Y [seq, directions, batch, hidden], Y_h and Y_c [directions, batch, hidden].
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from lstmconv._optional import require
from lstmconv._version import __version__
from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.formats.format import Artifact, Opened
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.onnx.functions import onnx_function
from lstmconv.formats.options import ReadOptions, WriteOptions
from lstmconv.formats.record import KEY, encode
from lstmconv.formats.tensors import dtype_of, dtype_of_model
from lstmconv.listing import listed
from lstmconv.model import Checkpoint, LSTMLayer, Model, Stack

if TYPE_CHECKING:
    import onnx

    from lstmconv.formats.onnx.writer.graph_builder import Graph

__all__ = [
    "alteration",
    "build",
    "build_model",
    "losses",
    "obstacle",
    "obstacle_of_model",
    "open_file",
    "terms",
    "usage",
    "write",
]

_PORTABLE_OPSET = 14
_BFLOAT16_OPSET = 22
_OLDEST_OPSET = 11
"""LSTM-14 is what every current runtime has; bfloat16 came with LSTM-22; Range, which lengths need, with 11."""
_OLDEST_OPSET_OF_MODELS = 13
"""From it on Unsqueeze and ReduceSum take their axes as an input, and Softmax runs along one axis."""
_EXTERNAL_BYTES = 2_000_000_000
"""A protobuf message ends at 2 GiB; larger weights lie in a file beside the model."""


def obstacle(stack: Stack) -> str | None:
    """Say why ONNX' LSTM cannot compute a stack, and the way out, or ``None``."""
    for direction in stack.directions:
        for activation in (direction.activation, direction.recurrent_activation):
            if onnx_function(activation) is None:
                return f"ONNX' LSTM has no {activation}; convert to torch, which lstmconv.torch.LSTM computes"
    if len({layer.dtype for layer in stack.layers}) > 1:
        return "its layers have several dtypes, and an ONNX graph of lstmconv has one; choose it with --dtype"
    return None


def _obstacle_of_lengths(stack: Stack) -> str | None:
    """Say why a stack takes no lengths: cells of one RNN and layers of a model read them in different orders."""
    turned = next((layer.name for layer in stack.layers[:-1] if layer.go_backwards and not layer.bidirectional), None)
    if turned is None:
        return None
    return f"{turned} passes its steps on in reverse, and lengths count them from the front; convert without --lengths"


def obstacle_of_model(model: Model, options: WriteOptions) -> str | None:
    """Say why ONNX cannot hold a whole model, and the way out, or ``None``."""
    from lstmconv.formats.onnx.writer.obstacles import obstacle_of

    reason = obstacle_of(model, options)
    if reason is None and dtype_of_model(model, options) == np.float64:
        try:
            _graph_of_model(model, options)
        except UnsupportedModelError as error:
            reason = str(error)
    return reason


def build(checkpoint: Checkpoint, options: WriteOptions) -> onnx.ModelProto:
    """Build the LSTM layers, or with ``options.whole`` the model; the module's docstring has its inputs and outputs.

    Raises:
        UnsupportedModelError: ONNX cannot compute a layer, its activations are unknown, or the checkpoint has no
            model.
        UsageError: The operator set is too old or too new for what is asked.
    """
    model = _with_weights(_graph_of(checkpoint, options))
    _note(model, checkpoint, options)
    return model


def build_model(model: Model, options: WriteOptions) -> onnx.ModelProto:
    """Build a whole model; see the module's docstring for its inputs and outputs.

    Raises:
        UnsupportedModelError: As :func:`obstacle_of_model` says.
        UsageError: As :func:`build`.
    """
    return _with_weights(_graph_of_model(model, options))


def _with_weights(graph: Graph) -> onnx.ModelProto:
    model = _proto(graph)
    for tensor in model.graph.initializer:
        if tensor.name in graph.weights:
            tensor.raw_data = graph.weights[tensor.name].materialise().tobytes()
    return model


def _note(model: onnx.ModelProto, checkpoint: Checkpoint, options: WriteOptions) -> None:
    onnx = require("onnx", "Writing ONNX")
    onnx.helper.set_model_props(model, {KEY: encode(checkpoint, options)})


def _graph_of(checkpoint: Checkpoint, options: WriteOptions) -> Graph:
    """Build the graph that the options ask for, but for the bytes of its weights."""
    if not options.whole:
        return _graph_of_layers(checkpoint, options)
    if checkpoint.model is None:
        raise UnsupportedModelError(f"{checkpoint.provenance.source} does not contain its model")
    return _graph_of_model(checkpoint.model, options)


def _graph_of_layers(checkpoint: Checkpoint, options: WriteOptions) -> Graph:
    """Build the graph of the LSTM layers, but for the bytes of its weights."""
    from lstmconv.formats.onnx.writer.graph_builder import Graph
    from lstmconv.formats.onnx.writer.lstm_layers import add_stack

    checkpoint.refuse_unknown()
    dtypes = {dtype_of(layer, options).name for layer in checkpoint.layers}
    graph = Graph(_opset(dtypes, options, _OLDEST_OPSET))
    for stack in checkpoint.stacks:
        reason = obstacle(stack) or (_obstacle_of_lengths(stack) if options.lengths else None)
        if reason is not None:
            raise UnsupportedModelError(f"{stack.name}: {reason}")
        add_stack(graph, stack, options)
    graph.finish()
    return graph


def _graph_of_model(model: Model, options: WriteOptions) -> Graph:
    """Build the graph of a whole model, but for the bytes of its weights."""
    from lstmconv.formats.onnx.writer.graph_builder import Graph
    from lstmconv.formats.onnx.writer.obstacles import obstacle_of, obstacle_of_graph
    from lstmconv.formats.onnx.writer.whole_model import add_model

    reason = obstacle_of(model, options)
    if reason is not None:
        raise UnsupportedModelError(reason)
    dtype = dtype_of_model(model, options)
    graph = Graph(_opset({dtype.name}, options, _OLDEST_OPSET_OF_MODELS), whole=True)
    add_model(graph, model, dtype, options)
    graph.finish()
    reason = obstacle_of_graph(graph, dtype)
    if reason is not None:
        raise UnsupportedModelError(reason)
    return graph


def _proto(graph: Graph) -> onnx.ModelProto:
    """Return the model of a graph, but for the bytes of its weights and its provenance."""
    from lstmconv.formats.onnx.writer import storing

    helper = require("onnx.helper", "Writing ONNX")
    made = helper.make_graph(graph.nodes, "lstmconv", graph.inputs, graph.outputs, graph.initializers)
    imports = [helper.make_opsetid("", graph.opset)]
    model: onnx.ModelProto = helper.make_model(
        made,
        opset_imports=imports,
        ir_version=helper.find_min_ir_version_for(imports),
        producer_name="lstmconv",
        producer_version=__version__,
    )
    if graph.whole:
        storing.note_shapes(model, graph.weights)
    return model


def _opset(dtypes: Collection[str], options: WriteOptions, oldest: int) -> int:
    onnx = require("onnx", "Writing ONNX")
    bfloat16 = "bfloat16" in dtypes
    oldest = _BFLOAT16_OPSET if bfloat16 else oldest
    chosen = options.opset or (_BFLOAT16_OPSET if bfloat16 else _PORTABLE_OPSET)
    newest = onnx.defs.onnx_opset_version()
    if not oldest <= chosen <= newest:
        why = " for bfloat16" if bfloat16 else " for a whole model" if oldest == _OLDEST_OPSET_OF_MODELS else ""
        raise UsageError(f"opset {chosen} does not fit: expected {oldest} to {newest}{why}")
    return int(chosen)


def terms(layer: LSTMLayer) -> str:
    """Say what a layer becomes in an ONNX model."""
    return "one LSTM node"


def usage(artifact: Artifact, place: Path) -> str | None:
    """Return the inputs of a model with their shapes and types, and its outputs, in one line.

    Args:
        artifact: The file.
        place: Where it will lie.
    """
    if artifact.record is None:
        return None
    graph = cast("onnx.ModelProto", artifact.content).graph
    inputs, outputs = [_described(entry) for entry in graph.input], [entry.name for entry in graph.output]
    return f"takes {listed(inputs)}; returns {listed(outputs)}"


def _described(entry: onnx.ValueInfoProto) -> str:
    """Return an input with its shape and type: ``x (batch, 7, 3) float32``."""
    tensor = entry.type.tensor_type
    sizes = ", ".join(size.dim_param or str(size.dim_value) for size in tensor.shape.dim)
    dtype = require("onnx.helper", "Reading ONNX files").tensor_dtype_to_np_dtype(tensor.elem_type)
    return f"{entry.name} ({sizes}) {dtype.name}"


def losses(checkpoint: Checkpoint, path: Path, options: WriteOptions) -> Iterator[str]:
    """Yield what an ONNX model loses of the source: nothing, because its record holds the rest."""
    yield from ()


def open_file(file: MappedFile, options: ReadOptions) -> Opened:
    """Open any ONNX model; see :mod:`lstmconv.formats.onnx.reader.read`.

    Raises:
        UnreadableFileError: It is no ONNX model, or a damaged one.
    """
    from lstmconv.formats.onnx.reader import read

    model = read.parse_file(file)
    record, notes = read.record_of(model)
    return Opened(
        record,
        model,
        lambda: read.read_file(file, model, record, notes, options),
        lambda: read.weights_of(file, model, record),
    )


def alteration(model: Model, artifact: Artifact, options: WriteOptions) -> str | None:
    """Say in what a file's graph is not the one that is written for a model, or ``None``.

    Raises:
        UnsupportedModelError: The model cannot be written.
    """
    from lstmconv.formats.onnx.rewriting import alteration_of

    graph = _graph_of_model(model, options)
    return alteration_of(_proto(graph), graph.weights, cast("onnx.ModelProto", artifact.content), artifact.file)


def write(checkpoint: Checkpoint, path: Path, options: WriteOptions) -> list[Path]:
    """Write the LSTM layers, or with ``options.whole`` the model; weights over 2 GB go into a file beside it.

    Raises:
        UnsupportedModelError: As :func:`build` and :func:`build_model`, or the checkpoint has no model.
    """
    from lstmconv.formats.onnx.writer import storing

    graph = _graph_of(checkpoint, options)
    model = _proto(graph)
    storing.check(model, graph.weights)
    if sum(tensor.nbytes for tensor in graph.weights.values()) < _EXTERNAL_BYTES:
        storing.write_inside(model, graph.weights, path, lambda: _note(model, checkpoint, options))
        return [path]
    beside = path.with_name(path.name + ".data")
    storing.write_beside(model, graph.weights, beside)
    _note(model, checkpoint, options)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return [path, beside]
