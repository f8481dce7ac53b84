"""Parse a model without its large weights: they stay in the file, and are mapped as those beside a model are.

Protocol Buffers would hold a model of 2 GB in memory, twice while it is parsed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from lstmconv._optional import require
from lstmconv.formats.onnx.reader.message_count import refuse_many_messages
from lstmconv.formats.wire import LENGTH, Field, fields, opened

if TYPE_CHECKING:
    import onnx

    from lstmconv.model import Array

__all__ = ["OWN", "parse"]

OWN = "\0"
"""The location of weights that lie in the model's own file; no file has such a name."""
_LARGE_BYTES = 1 << 20
"""A tensor of at least so many bytes stays in the file."""
_GRAPH, _INITIALIZER, _RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 7, 5, 9, 13, 14
"""Field numbers in ModelProto, GraphProto and TensorProto (onnx.proto)."""
_EXTERNAL = 1  # TensorProto.DataLocation.EXTERNAL


_Walk: TypeAlias = "Callable[[memoryview, int, int], Iterator[bytes]]"


def parse(file: Array, name: str) -> onnx.ModelProto:
    """Return a model; the bytes of its large initializers lie, as it says, in an external file: :data:`OWN`.

    Args:
        file: The mapped bytes of the file.
        name: Its name, for errors.

    Raises:
        UnreadableFileError: It has more messages than any model.
        google.protobuf.message.DecodeError: It is damaged.
    """
    content = file.data
    refuse_many_messages(content, name)
    stored = bytes(content) if len(content) < _LARGE_BYTES else b"".join(_model(content))
    model: onnx.ModelProto = require("onnx", "Reading ONNX files").ModelProto.FromString(stored)
    return model


def _model(content: memoryview) -> Iterator[bytes]:
    for field in fields(content, 0, len(content)):
        yield _inside(_graph, content, field, _GRAPH, len(content))


def _graph(content: memoryview, begin: int, end: int) -> Iterator[bytes]:
    for field in fields(content, begin, end):
        yield _inside(_tensor, content, field, _INITIALIZER, end)


def _tensor(content: memoryview, begin: int, end: int) -> Iterator[bytes]:
    found = list(fields(content, begin, end))
    numbers = [field.number for field in found]
    plain = numbers.count(_RAW_DATA) == 1 and not {_EXTERNAL_DATA, _DATA_LOCATION} & set(numbers)
    for field in found:
        if not (plain and field.number == _RAW_DATA and _is_large(field, end)):
            yield bytes(content[field.start : min(field.stop, end)])
            continue
        for key, value in (("location", OWN), ("offset", str(field.body)), ("length", str(field.stop - field.body))):
            entry = b"".join(opened(k, len(text)) + text.encode() for k, text in ((1, key), (2, value)))
            yield opened(_EXTERNAL_DATA, len(entry)) + entry
        yield bytes([_DATA_LOCATION << 3, _EXTERNAL])


def _inside(walk: _Walk, content: memoryview, field: Field, wanted: int, end: int) -> bytes:
    """Return a field's bytes, with what is in it walked if it is the one that is wanted, large, and whole."""
    if field.number != wanted or not _is_large(field, end):
        return bytes(content[field.start : min(field.stop, end)])
    message = b"".join(walk(content, field.body, field.stop))
    return opened(wanted, len(message)) + message


def _is_large(field: Field, end: int) -> bool:
    return field.wire == LENGTH and field.stop <= end and field.stop - field.body >= _LARGE_BYTES
