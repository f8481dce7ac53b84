"""Read Protocol Buffers messages field by field: TensorFlow's are large, and few of their fields are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lstmconv.errors import UnreadableFileError
from lstmconv.formats.wire import LENGTH, Content, fields, varint

__all__ = ["Piece", "pieces", "text_of"]

_DAMAGED = "damaged; restore or download it again"


class Piece(NamedTuple):
    """One field of a message.

    Attributes:
        number: The number of the field.
        value: The value, where the field is a number; 0 where it is bytes.
        body: Where its bytes begin.
        stop: Where they end.
        is_bytes: It is a string, bytes, or a message.
    """

    number: int
    value: int
    body: int
    stop: int
    is_bytes: bool


def pieces(content: Content, begin: int, end: int, name: str) -> Iterator[Piece]:
    """Yield the fields of the message in ``content[begin:end]``.

    Args:
        content: Holds the message.
        begin: Where the message begins.
        end: Where it ends, at most the end of ``content``.
        name: What errors call it.

    Raises:
        UnreadableFileError: It is no message, or one that is cut off.
    """
    for number, wire, _, body, stop in fields(content, begin, end):
        if not number or stop > end:
            raise UnreadableFileError(f"{name}: a message in it is cut off: {_DAMAGED}")
        if wire == LENGTH:
            yield Piece(number, 0, body, stop, True)
        elif wire:
            yield Piece(number, int.from_bytes(content[body:stop], "little"), body, stop, False)
        else:
            yield Piece(number, varint(content, body, stop)[0], body, stop, False)


def text_of(content: Content, piece: Piece, name: str) -> str:
    """Return a field that is text.

    Raises:
        UnreadableFileError: It is not UTF-8.
    """
    try:
        return str(content[piece.body : piece.stop], "utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableFileError(f"{name}: a text in it is not UTF-8: {_DAMAGED}") from error
