"""The fields of a Protocol Buffers message, as they lie in the file.

Source: Protocol Buffers, Encoding, Message Structure: a tag (the field's number and its wire type), then a varint, 8
or 4 bytes, or a length and as many bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

__all__ = ["LENGTH", "Content", "Field", "fields", "opened", "varint"]

_VARINT, _FIXED_64, LENGTH, _FIXED_32 = 0, 1, 2, 5

Content: TypeAlias = "bytes | memoryview"


class Field(NamedTuple):
    """One field.

    Attributes:
        number: The field's number; 0 for the rest of a message that is no field.
        wire: Its wire type.
        start: Where its tag begins.
        body: Where its bytes begin, behind the length.
        stop: Where they should end: beyond the message's end, where that is cut off.
    """

    number: int
    wire: int
    start: int
    body: int
    stop: int


def fields(content: Content, begin: int, end: int) -> Iterator[Field]:
    """Yield the fields of the message in ``content[begin:end]``, and what cannot be one as a last field 0."""
    position = begin
    while position < end:
        start = position
        tag = content[position]
        position += 1
        if tag > 127:
            tag, position = varint(content, start, end)
        wire = tag & 7
        body = position
        if wire == LENGTH:
            length, body = varint(content, position, end)
            position = body + length
        elif wire == _VARINT:
            _, position = varint(content, position, end)
        elif wire == _FIXED_64:
            position += 8
        elif wire == _FIXED_32:
            position += 4
        else:
            yield Field(0, wire, start, start, end)
            return
        yield Field(tag >> 3, wire, start, body, position)


def varint(content: Content, position: int, end: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, least first, and the place behind it."""
    value = shift = 0
    while position < end:
        byte = content[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128 or shift > 63:
            break
        shift += 7
    return value, position


def opened(number: int, length: int) -> bytes:
    """Return the tag and the length of a field of bytes."""
    out = bytearray()
    for value in (number << 3 | LENGTH, length):
        rest = value
        while rest > 0x7F:
            out.append(rest & 0x7F | 0x80)
            rest >>= 7
        out.append(rest)
    return bytes(out)
