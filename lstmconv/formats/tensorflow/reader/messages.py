"""Read Protocol Buffers messages field by field, because TensorFlow's are large and few of their fields are needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lstmconv.errors import UnreadableFileError
from lstmconv.formats.safety.limits import TRACKED_OBJECTS
from lstmconv.formats.wire import LENGTH, Content, fields, varint

__all__ = ["Message"]

_DAMAGED = "damaged; restore or download it again"


@dataclass(frozen=True, slots=True)
class Message:
    """The bytes ``content[begin:end]``: a message, or a field of one, which may be a message, a text or bytes.

    Attributes:
        file: The file's name for errors.
    """

    content: Content
    begin: int
    end: int
    file: str

    def fields(self) -> Iterator[tuple[int, int | Message]]:
        """Yield the number of each field and its value: a number, or its bytes.

        Raises:
            UnreadableFileError: The bytes are no message, or the message is cut off.
        """
        for number, wire, _, body, stop in fields(self.content, self.begin, self.end):
            if not number or stop > self.end:
                raise UnreadableFileError(f"a message in it is cut off: {_DAMAGED}", about=self.file)
            if wire == LENGTH:
                yield number, Message(self.content, body, stop, self.file)
            elif wire:
                yield number, int.from_bytes(self.content[body:stop], "little")
            else:
                yield number, varint(self.content, body, stop)[0]

    def inner(self, number: int) -> Iterator[Message]:
        """Yield the bytes of each field of one number.

        Raises:
            UnreadableFileError: The message has more fields than the limit of objects allows.
        """
        for count, (found, value) in enumerate(self.fields()):
            if count > TRACKED_OBJECTS.value:
                raise UnreadableFileError(
                    f"more than {TRACKED_OBJECTS.value:,} objects; {TRACKED_OBJECTS.way_out}", about=self.file
                )
            if found == number and isinstance(value, Message):
                yield value

    @property
    def bytes(self) -> bytes:
        """A copy of the bytes."""
        return bytes(self.content[self.begin : self.end])

    @property
    def text(self) -> str:
        """The bytes as text.

        Raises:
            UnreadableFileError: The bytes are not UTF-8.
        """
        try:
            return str(self.content[self.begin : self.end], "utf-8")
        except UnicodeDecodeError as error:
            raise UnreadableFileError(f"a text in it is not UTF-8: {_DAMAGED}", about=self.file) from error
