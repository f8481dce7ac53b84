"""LSTM layers as an ONNX graph: one ``LSTM`` node a layer, dynamic batch and time, no Loop.

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

from pathlib import Path
from typing import TYPE_CHECKING

from lstmconv._optional import require
from lstmconv._version import __version__
from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.formats import ReadOptions, WriteOptions
from lstmconv.formats.onnx.functions import onnx_function
from lstmconv.formats.provenance import KEY, encoded, require_known
from lstmconv.formats.tensors import dtype_of
from lstmconv.model import Checkpoint, Stack

if TYPE_CHECKING:
    import onnx

    from lstmconv.formats.onnx.writer.graph_builder import Graph

__all__ = ["build", "obstacle", "read", "write"]

_PORTABLE_OPSET = 14
_BFLOAT16_OPSET = 22
_OLDEST_OPSET = 11
"""LSTM-14 is what every current runtime has; bfloat16 came with LSTM-22; Range, which lengths need, with 11."""
_EXTERNAL_BYTES = 2_000_000_000
"""A protobuf message ends at 2 GiB; larger weights lie in a file beside the model."""


def obstacle(stack: Stack) -> str | None:
    """Say why ONNX' LSTM cannot compute a stack, and the way out, or ``None``."""
    for direction in stack.directions:
        for activation in (direction.activation, direction.recurrent_activation):
            if onnx_function(activation) is None:
                return f"ONNX' LSTM has no {activation}; convert to torch, which lstmconv.torch.LSTM computes"
    if len({layer.dtype for layer in stack.layers}) > 1:
        return "its layers are of several dtypes, and the graph casts nothing; choose one with --dtype"
    return None


def build(checkpoint: Checkpoint, options: WriteOptions) -> onnx.ModelProto:
    """Build the model; see the module's docstring for its inputs and outputs.

    Raises:
        UnsupportedModelError: ONNX cannot compute a layer, or its activations are unknown.
        UsageError: The operator set is too old or too new for what is asked.
    """
    model, graph = _without_weights(checkpoint, options)
    for tensor in model.graph.initializer:
        if tensor.name in graph.weights:
            tensor.raw_data = graph.weights[tensor.name].materialise().tobytes()
    _note(model, checkpoint, options)
    return model


def _note(model: onnx.ModelProto, checkpoint: Checkpoint, options: WriteOptions) -> None:
    onnx = require("onnx", "Writing ONNX")
    onnx.helper.set_model_props(model, {KEY: encoded(checkpoint, options)})


def _without_weights(checkpoint: Checkpoint, options: WriteOptions) -> tuple[onnx.ModelProto, Graph]:
    """Build the model, but for the bytes of its weights and its provenance."""
    from lstmconv.formats.onnx.writer.graph_builder import Graph
    from lstmconv.formats.onnx.writer.lstm_layer import add_stack

    onnx = require("onnx", "Writing ONNX")
    require_known(checkpoint)
    graph = Graph(_opset(checkpoint, options))
    for stack in checkpoint.stacks:
        reason = obstacle(stack)
        if reason is not None:
            raise UnsupportedModelError(f"{stack.name}: {reason}")
        add_stack(graph, stack, options)
    made = onnx.helper.make_graph(graph.nodes, "lstmconv", graph.inputs, graph.outputs, graph.initializers)
    imports = [onnx.helper.make_opsetid("", graph.opset)]
    model = onnx.helper.make_model(
        made,
        opset_imports=imports,
        ir_version=onnx.helper.find_min_ir_version_for(imports),
        producer_name="lstmconv",
        producer_version=__version__,
    )
    return model, graph


def _opset(checkpoint: Checkpoint, options: WriteOptions) -> int:
    onnx = require("onnx", "Writing ONNX")
    bfloat16 = any(dtype_of(layer, options).name == "bfloat16" for layer in checkpoint.layers)
    oldest = _BFLOAT16_OPSET if bfloat16 else _OLDEST_OPSET
    chosen = options.opset or (_BFLOAT16_OPSET if bfloat16 else _PORTABLE_OPSET)
    newest = onnx.defs.onnx_opset_version()
    if not oldest <= chosen <= newest:
        why = " for bfloat16" if bfloat16 else ""
        raise UsageError(f"opset {chosen} does not fit: expected {oldest} to {newest}{why}")
    return int(chosen)


def read(path: Path, options: ReadOptions) -> Checkpoint:
    """Read the LSTM nodes of any ONNX model; see :mod:`lstmconv.formats.onnx.reader.read`.

    Raises:
        UnreadableFileError: It is no ONNX model, or a damaged one.
        UnsupportedModelError: No LSTM node in it that converts.
    """
    from lstmconv.formats.onnx.reader import read as reading

    return reading.read(path, options)


def write(checkpoint: Checkpoint, path: Path, options: WriteOptions) -> list[Path]:
    """Write the model; weights over 2 GB go into a file beside it.

    Raises:
        UnsupportedModelError: As :func:`build`.
    """
    from lstmconv.formats.onnx.writer import storing

    model, graph = _without_weights(checkpoint, options)
    storing.check(model, graph.weights)
    if sum(tensor.nbytes for tensor in graph.weights.values()) < _EXTERNAL_BYTES:
        storing.write_inside(model, graph.weights, path, lambda: _note(model, checkpoint, options))
        return [path]
    beside = path.with_name(path.name + ".data")
    storing.write_beside(model, graph.weights, beside)
    _note(model, checkpoint, options)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return [path, beside]
