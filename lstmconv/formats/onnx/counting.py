"""Count a model's messages before Protocol Buffers makes objects of them.

An empty message takes two bytes in the file and some hundred in memory, and the library ends the process
where it gets no more: a file of 10 MB can ask for gigabytes.
"""

from __future__ import annotations

from typing import Any

from lstmconv.errors import UnreadableFileError
from lstmconv.formats.limits import ONNX_MESSAGES

__all__ = ["refuse_many_messages"]

_HARMLESS_BYTES = 2 << 20
"""A file so small has no room for as many messages as would be too many."""
_VARINT, _FIXED_64, _LENGTH, _FIXED_32 = 0, 1, 2, 5  # Protocol Buffers, Encoding, Message Structure.


def refuse_many_messages(stored: bytes, descriptor: Any, name: str) -> None:
    """Walk over the fields without reading what is in them; damage is left to the library to name.

    Args:
        stored: The model.
        descriptor: Of ``onnx.ModelProto``.
        name: The file's, for the error.

    Raises:
        UnreadableFileError: There are more messages than in any exported model.
    """
    if len(stored) < _HARMLESS_BYTES:
        return
    most = ONNX_MESSAGES.value
    known: dict[str, dict[int, Any]] = {}
    waiting = [(0, len(stored), descriptor)]
    count = fields = 0
    while waiting:
        position, stop, kind = waiting.pop()
        inner = known.get(kind.full_name)
        if inner is None:
            inner = {field.number: field.message_type for field in kind.fields if field.message_type is not None}
            known[kind.full_name] = inner
        while position < stop:
            tag = stored[position]
            position += 1
            if tag > 127:
                tag, position = _varint(stored, position - 1, stop)
            wire = tag & 7
            fields += 1
            if wire == _VARINT:
                _, position = _varint(stored, position, stop)
            elif wire == _LENGTH:
                length, position = _varint(stored, position, stop)
                message = inner.get(tag >> 3)
                if message is not None:
                    count += 1
                    if length:
                        waiting.append((position, min(position + length, stop), message))
                position += length
            elif wire in (_FIXED_64, _FIXED_32):
                position += 8 if wire == _FIXED_64 else 4
            else:
                break
            if count > most or fields > 2 * most:
                raise UnreadableFileError(
                    f"{name}: more than {most:,} nodes, tensors and attributes; {ONNX_MESSAGES.way_out}"
                )


def _varint(stored: bytes, position: int, stop: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, least first, and the place behind it."""
    value = shift = 0
    while position < stop:
        byte = stored[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128 or shift > 63:
            break
        shift += 7
    return value, position
