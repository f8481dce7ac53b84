"""Count a model's messages before Protocol Buffers makes objects of them.

An empty message takes two bytes in the file and some hundred in memory, and the library ends the process
where it gets no more: a file of 10 MB can ask for gigabytes. The library bounds depth and bytes, not messages.
"""

from __future__ import annotations

from typing import Any

from lstmconv._optional import require
from lstmconv.errors import UnreadableFileError
from lstmconv.formats.safety.limits import ONNX_MESSAGES
from lstmconv.formats.wire import LENGTH, Content, fields

__all__ = ["MESSAGE_BYTES", "count_messages", "refuse_many_messages"]

MESSAGE_BYTES = 170
"""Bytes of memory for an empty message."""
_HARMLESS_BYTES = 2 << 20
"""A file so small has no room for as many messages as would be too many."""


def refuse_many_messages(stored: Content, name: str) -> None:
    """Refuse a model of too many messages; the library names other damage.

    Args:
        stored: The model.
        name: The file's, for the error.

    Raises:
        UnreadableFileError: There are more messages than in any exported model.
    """
    if len(stored) >= _HARMLESS_BYTES:
        count_messages(stored, require("onnx", "Reading ONNX files").ModelProto.DESCRIPTOR, name)


def count_messages(stored: Content, descriptor: Any, name: str) -> int:
    """Walk over the fields of a message without reading what is in them, and count the messages in it.

    Args:
        stored: The message.
        descriptor: Its type, as Protocol Buffers describes it.
        name: The file's, for the error.

    Raises:
        UnreadableFileError: There are more than in any exported model.
    """
    most = ONNX_MESSAGES.value
    known: dict[str, dict[int, Any]] = {}
    waiting = [(0, len(stored), descriptor)]
    messages = count = 0
    while waiting:
        position, stop, kind = waiting.pop()
        inner = known.get(kind.full_name)
        if inner is None:
            inner = {field.number: field.message_type for field in kind.fields if field.message_type is not None}
            known[kind.full_name] = inner
        for number, wire, _, body, end in fields(stored, position, stop):
            count += 1
            if wire == LENGTH and number in inner:
                messages += 1
                if end > body:
                    waiting.append((body, min(end, stop), inner[number]))
            if messages > most or count > 2 * most:
                raise UnreadableFileError(
                    f"more than {most:,} nodes, tensors and attributes; {ONNX_MESSAGES.way_out}", about=name
                )
    return messages
