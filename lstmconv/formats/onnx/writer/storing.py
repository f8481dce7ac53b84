"""Store an ONNX model and its weights a slab at a time, inside the model's file or in a file beside it.

The onnx library holds a model several times over while it saves it. Here the message is put together around the
weights, byte for byte as Protocol Buffers orders it (Encoding: a tag, the length in bytes, the content).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstmconv._optional import require
from lstmconv.formats.tensors import NamedTensor
from lstmconv.formats.wire import opened

if TYPE_CHECKING:
    import onnx

__all__ = ["check", "note_shapes", "write_beside", "write_inside"]

_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
"""Field numbers in ModelProto, GraphProto and TensorProto (onnx.proto); raw_data is the last of a TensorProto's."""
_ALIGNMENT = 4096
"""Where weights begin in a file beside the model, so that they can be mapped (onnx.proto, external_data)."""


def check(model: onnx.ModelProto, weights: Mapping[str, NamedTensor]) -> None:
    """Let onnx check the model and infer all its shapes."""
    onnx = require("onnx", "Writing ONNX")
    onnx.checker.check_model(_declared(model, weights), full_check=True)


def note_shapes(model: onnx.ModelProto, weights: Mapping[str, NamedTensor]) -> None:
    """Note the shapes that onnx infers, and of the outputs which axes are as long as an input's.

    ONNX Runtime's optimizers know fewer, and 1.32 crashed on a float16 graph without them.
    """
    onnx = require("onnx", "Writing ONNX")
    inferred = onnx.shape_inference.infer_shapes(_declared(model, weights), strict_mode=True, data_prop=True)
    model.graph.value_info.extend(inferred.graph.value_info)
    named = {size.dim_param for entry in model.graph.input for size in _sizes(entry)} - {""}
    for entry, known in zip(model.graph.output, inferred.graph.output, strict=True):
        for size, other in zip(_sizes(entry), _sizes(known), strict=True):
            if not size.HasField("value") and other.dim_param in named:
                size.dim_param = other.dim_param


def _sizes(entry: onnx.ValueInfoProto) -> Sequence[onnx.TensorShapeProto.Dimension]:
    sizes: Sequence[onnx.TensorShapeProto.Dimension] = entry.type.tensor_type.shape.dim
    return sizes


def _declared(model: onnx.ModelProto, weights: Mapping[str, NamedTensor]) -> onnx.ModelProto:
    """Return a copy that declares its weights without their bytes."""
    helper = require("onnx.helper", "Writing ONNX")
    declared = type(model)()
    declared.CopyFrom(model)
    constants = [tensor for tensor in model.graph.initializer if tensor.name not in weights]
    del declared.graph.initializer[:]
    declared.graph.initializer.extend(constants)
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            declared.graph.input.append(value)
    return declared


def write_inside(
    model: onnx.ModelProto, weights: Mapping[str, NamedTensor], path: Path, complete: Callable[[], None]
) -> None:
    """Write the model as ``SerializeToString`` would with its weights in it.

    Args:
        model: Without its weights' bytes.
        weights: By the names of initializers.
        path: The file.
        complete: Called when the weights are written; it may change the fields behind the graph.
    """
    graph = model.graph
    before, after = _fields(graph, range(_INITIALIZER)), _fields(graph, range(_INITIALIZER + 1, 100))
    heads: list[bytes] = []
    sizes = [0 if tensor.name not in weights else weights[tensor.name].nbytes for tensor in graph.initializer]
    for tensor, size in zip(graph.initializer, sizes, strict=True):
        content = tensor.SerializeToString(deterministic=True) + (opened(_RAW_DATA, size) if size else b"")
        heads.append(opened(_INITIALIZER, len(content) + size) + content)
    length = len(before) + sum(map(len, heads)) + sum(sizes) + len(after)
    with path.open("wb") as file:
        file.write(_fields(model, range(_GRAPH)) + opened(_GRAPH, length) + before)
        for tensor, head in zip(graph.initializer, heads, strict=True):
            file.write(head)
            if tensor.name in weights:
                file.writelines(weights[tensor.name].slabs())
        complete()
        file.write(after + _fields(model, range(_GRAPH + 1, 100)))


def write_beside(model: onnx.ModelProto, weights: Mapping[str, NamedTensor], path: Path) -> None:
    """Write the weights into a file of their own, and say in the model where each lies."""
    onnx = require("onnx", "Writing ONNX")
    with path.open("wb") as file:
        for tensor in model.graph.initializer:
            if tensor.name not in weights:
                continue
            file.write(b"\0" * (-file.tell() % _ALIGNMENT))
            tensor.data_location = onnx.TensorProto.EXTERNAL
            place = {"location": path.name, "offset": file.tell(), "length": weights[tensor.name].nbytes}
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
            file.writelines(weights[tensor.name].slabs())


def _fields(message: Any, numbers: range) -> bytes:
    """Serialize some fields of a message."""
    some = type(message)()
    some.CopyFrom(message)
    for field, _ in message.ListFields():
        if field.number not in numbers:
            some.ClearField(field.name)
    return bytes(some.SerializeToString(deterministic=True))
