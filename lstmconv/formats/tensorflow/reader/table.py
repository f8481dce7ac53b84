"""Read the sorted table that is the index of a TensorFlow checkpoint.

Source: tensorflow/core/lib/io/format.cc, block.cc, table_builder.cc, which are LevelDB's (doc/table_format.md there):
blocks of keys and values, each key without the beginning that it shares with the previous key, then a footer of 48
bytes with the position of the index of the blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from lstmconv._optional import require
from lstmconv.errors import UnreadableFileError
from lstmconv.formats.safety.limits import TENSORS, allowed_inflation
from lstmconv.formats.tensorflow.places import MAGIC
from lstmconv.formats.wire import varint

__all__ = ["checksum", "read_table"]

_FOOTER_BYTES = 48
_TRAILER_BYTES = 5
"""The number of bytes after a block: its compression and its checksum."""

_Handle: TypeAlias = "tuple[int, int]"
"""The first byte of a block, and its size."""


def read_table(content: bytes, name: str) -> dict[bytes, bytes]:
    """Return the values of a table by their keys, in the keys' order.

    Args:
        content: The whole file.
        name: The file's name for errors.

    Raises:
        UnreadableFileError: The table is damaged, compressed, or larger than the limits.
    """
    if len(content) < _FOOTER_BYTES or not content.endswith(MAGIC):
        raise _damaged(name, "it does not end as the index of a TensorFlow checkpoint")
    footer = len(content) - _FOOTER_BYTES
    _, position = _handle(content, footer, len(content), name)
    index, _ = _handle(content, position, len(content), name)
    found: dict[bytes, bytes] = {}
    last: bytes | None = None
    key_bytes, most = 0, allowed_inflation(len(content))
    for _, value in _entries(_block(content, index, name), name):
        handle, _ = _handle(value, 0, len(value), name)
        for key, inner in _entries(_block(content, handle, name), name):
            if last is not None and key <= last:  # This also refuses a block that is read twice.
                raise _damaged(name, "its keys are not in order")
            last = key
            key_bytes += len(key)
            if len(found) >= TENSORS.value:
                raise UnreadableFileError(f"more than {TENSORS.value:,} tensors; {TENSORS.way_out}", about=name)
            if key_bytes > most:
                raise UnreadableFileError(f"its names take more than {most:,} bytes", about=name)
            found[key] = inner
    return found


def checksum(content: object) -> int:
    """Return the checksum of bytes, masked as TensorFlow stores it (tensorflow/core/lib/hash/crc32c.h Mask)."""
    crc32c = require("google_crc32c", "Reading TensorFlow checkpoints")
    plain: int = crc32c.value(content)
    return (((plain >> 15) | (plain << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _damaged(name: str, what: str) -> UnreadableFileError:
    return UnreadableFileError(f"{what}: damaged or cut off; restore or download it again", about=name)


def _handle(content: bytes, position: int, end: int, name: str) -> tuple[_Handle, int]:
    start, position = varint(content, position, end)
    if position >= end:
        raise _damaged(name, "a block's place in it is cut off")
    size, position = varint(content, position, end)
    return (start, size), position


def _block(content: bytes, handle: _Handle, name: str) -> bytes:
    """Return a block's bytes.

    Raises:
        UnreadableFileError: The block is outside the file, is compressed, or differs from its checksum.
    """
    start, size = handle
    stop = start + size
    if stop + _TRAILER_BYTES > len(content) - _FOOTER_BYTES:
        raise _damaged(name, "a block lies beyond its end")
    stored = int.from_bytes(content[stop + 1 : stop + _TRAILER_BYTES], "little")
    if checksum(content[start : stop + 1]) != stored:
        raise _damaged(name, "a block differs from its checksum")
    if content[stop]:
        raise UnreadableFileError(
            f"a block in it is compressed (method {content[stop]}), which TensorFlow does not write", about=name
        )
    return content[start:stop]


def _entries(block: bytes, name: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield a block's keys and values; the list of restart points at its end is only for searching."""
    count = int.from_bytes(block[-4:], "little") if len(block) >= 4 else 0
    end = len(block) - 4 * (count + 1)
    if end < 0:
        raise _damaged(name, "a block in it is too short")
    key, position = b"", 0
    while position < end:
        shared, position = varint(block, position, end)
        own, position = varint(block, position, end)
        size, position = varint(block, position, end)
        if shared > len(key) or position + own + size > end:
            raise _damaged(name, "an entry reaches beyond its block")
        key = key[:shared] + block[position : position + own]
        position += own
        yield key, block[position : position + size]
        position += size
