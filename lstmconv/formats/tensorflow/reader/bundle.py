"""Open a TensorFlow checkpoint: the tensors in ``PREFIX.data-0000N-of-0000M``, found by ``PREFIX.index``.

Source: tensorflow/core/util/tensor_bundle/tensor_bundle.cc, tensorflow/core/protobuf/tensor_bundle.proto: the key ""
has a BundleHeaderProto, every other key a tensor's BundleEntryProto; the shards contain the numbers as in memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lstmconv.errors import UnreadableFileError
from lstmconv.formats.hdf5.tree import StoredArray
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.tensorflow.reader.messages import Message
from lstmconv.formats.tensorflow.reader.table import checksum, read_table
from lstmconv.formats.wire import varint
from lstmconv.model import Array, float_type

__all__ = ["Bundle", "open_bundle"]

_DTYPES: Mapping[int, np.dtype[Any]] = {
    number: np.dtype(code)
    for number, code in {
        1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 10: "?", 17: "<u2", 19: "<f2", 22: "<u4",
        23: "<u8",
    }.items()
}  # fmt: skip
"""tensorflow/core/framework/types.proto, only the types of numbers."""
_BFLOAT16, _STRING = 14, 7
_LARGEST_INDEX = 256 << 20
"""The most bytes of an index; a tensor takes about 100."""


class Entry(NamedTuple):
    """The entry of one tensor in an index.

    Attributes:
        dtype: TensorFlow's number of the dtype.
        shape: The tensor's shape.
        shard: The number of the data file.
        offset: The tensor's first byte in the data file.
        size: The number of bytes.
        crc: The masked checksum of the bytes.
        sliced: Whether the tensor is stored in slices, under other keys.
    """

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    sliced: bool


class Bundle:
    """One checkpoint.

    Attributes:
        name: The checkpoint's name for errors.
        index: The index file.
        entries: The index entries by the tensors' keys.
        shards: The data files, in order.
    """

    def __init__(
        self, name: str, index: MappedFile, entries: Mapping[str, Entry], shards: Sequence[MappedFile]
    ) -> None:
        self.name = name
        self.index = index
        self.entries = entries
        self.shards = tuple(shards)
        self._arrays: dict[str, StoredArray] = {}

    def array(self, key: str) -> StoredArray:
        """Return a tensor of numbers; any other tensor becomes an entry that refuses to be loaded.

        Raises:
            UnreadableFileError: The key is missing, or the bytes differ from their checksum.
        """
        if key not in self._arrays:
            self._arrays[key] = self._array(key)
        return self._arrays[key]

    def _array(self, key: str) -> StoredArray:
        entry = self.entries.get(key)
        if entry is None:
            raise UnreadableFileError(f"'{key}' is listed and missing: a truncated file", about=self.name)
        dtype = _dtype_of(entry.dtype)
        if dtype is None or entry.sliced:
            reason = "stored in slices (a partitioned variable)" if entry.sliced else "not a tensor of numbers"
            return StoredArray(key, entry.shape, np.dtype(np.uint8), {}, None, reason)
        stored = self._bytes(entry)
        if checksum(stored) != entry.crc:
            raise self._damaged(key, entry)
        values = stored.view(dtype).reshape(entry.shape)
        return StoredArray(key, entry.shape, dtype, {}, values)

    def text(self, key: str) -> bytes | None:
        """Return a tensor that is one byte string; ``None`` if the key is missing.

        Its bytes (tensor_bundle.cc WriteStringTensor): the length, four bytes of the length's checksum, the text. The
        tensor's checksum includes the length as four or eight bytes.

        Raises:
            UnreadableFileError: The tensor is something else, or is damaged.
        """
        entry = self.entries.get(key)
        if entry is None:
            return None
        if entry.dtype != _STRING or entry.shape or entry.sliced:
            raise UnreadableFileError(f"'{key}' is not one string, as it is in every checkpoint", about=self.name)
        stored = self._bytes(entry).tobytes()
        length, begin = varint(stored, 0, len(stored))
        counted = length.to_bytes(4 if length < 1 << 32 else 16, "little")[:8] + stored[begin:]
        if begin + 4 + length != len(stored) or checksum(counted) != entry.crc:
            raise self._damaged(key, entry)
        return stored[begin + 4 :]

    def _bytes(self, entry: Entry) -> Array:
        return self.shards[entry.shard].content[entry.offset : entry.offset + entry.size]

    def _damaged(self, key: str, entry: Entry) -> UnreadableFileError:
        return UnreadableFileError(
            f"the bytes of '{key}' differ from their checksum: damaged; restore or download it again",
            about=self.shards[entry.shard].name,
        )


def open_bundle(index: Path, name: str) -> Bundle:
    """Open a checkpoint by its index.

    Args:
        index: ``PREFIX.index``; the data files are in the same folder.
        name: The checkpoint's name for errors.

    Raises:
        UnreadableFileError: The index is damaged, or a data file is missing, a link, or shorter than the index says.
    """
    if index.is_symlink():
        raise UnreadableFileError("its index is a symbolic link; not followed", about=name)
    file = MappedFile(index)
    file.refuse_empty()
    if file.size > _LARGEST_INDEX:
        raise UnreadableFileError(f"its index has {file.size:,} bytes, more than any checkpoint's", about=name)
    table = read_table(file.content.tobytes(), index.name)
    header = table.pop(b"", None)
    if header is None:
        raise UnreadableFileError(
            "a table without a header, expected a TensorFlow checkpoint's index", about=index.name
        )
    count = _shard_count(header, index.name)
    entries: dict[str, Entry] = {}
    for key, value in table.items():
        try:
            entries[key.decode()] = _entry(value, index.name)
        except UnicodeDecodeError as error:
            raise UnreadableFileError("a tensor's name is not UTF-8: damaged", about=index.name) from error
    shards = _shards(index, count, name)
    _refuse_claims(entries, shards, index.name)
    return Bundle(name, file, entries, shards)


def _dtype_of(number: int) -> np.dtype[Any] | None:
    """Return the dtype of a tensor's elements; ``None`` if they are no numbers."""
    return float_type("bfloat16") if number == _BFLOAT16 else _DTYPES.get(number)


def _shard_count(header: bytes, name: str) -> int:
    found = dict(Message(header, 0, len(header), name).fields())
    if found.get(2):
        raise UnreadableFileError("written on a big-endian machine, which is not read", about=name)
    count = found.get(1, 0)
    if not isinstance(count, int) or not 0 < count < 100_000:  # The names have five digits.
        raise UnreadableFileError(f"claims {count:,} data files: damaged", about=name)
    return count


def _entry(value: bytes, name: str) -> Entry:
    numbers = {"dtype": 0, "shard": 0, "offset": 0, "size": 0, "crc": 0}
    names = {1: "dtype", 3: "shard", 4: "offset", 5: "size", 6: "crc"}
    shape: tuple[int, ...] = ()
    sliced = False
    for number, field in Message(value, 0, len(value), name).fields():
        if number in names and isinstance(field, int):
            numbers[names[number]] = field
        elif number == 2 and isinstance(field, Message):
            shape = _shape(field)
        elif number == 7:
            sliced = True
    return Entry(**numbers, shape=shape, sliced=sliced)


def _shape(message: Message) -> tuple[int, ...]:
    sizes: list[int] = []
    for axis in message.inner(2):
        size = dict(axis.fields()).get(1, 0)
        sizes.append(size if isinstance(size, int) else 0)
    if len(sizes) > 32 or max(sizes, default=0) >= 1 << 48:  # NumPy has no more axes, no machine more memory.
        raise UnreadableFileError(
            f"a tensor of {len(sizes)} axes, the longest of {max(sizes):,}: damaged", about=message.file
        )
    return tuple(sizes)


def _shards(index: Path, count: int, name: str) -> list[MappedFile]:
    prefix = index.name.removesuffix(".index")
    found: list[MappedFile] = []
    for number in range(count):
        shard = index.with_name(f"{prefix}.data-{number:05d}-of-{count:05d}")
        if shard.is_symlink():
            raise UnreadableFileError(f"the data file {shard.name} is a symbolic link; not followed", about=name)
        if not shard.is_file():
            raise UnreadableFileError(f"the data file {shard.name} is missing beside its index", about=name)
        found.append(MappedFile(shard))
    return found


def _refuse_claims(entries: Mapping[str, Entry], shards: Sequence[MappedFile], name: str) -> None:
    """Refuse tensors that reach beyond their file, overlap, or have another size than their shape says."""
    ends = [0] * len(shards)
    for key, entry in sorted(entries.items(), key=lambda item: (item[1].shard, item[1].offset, item[1].size)):
        if entry.sliced:
            continue
        if entry.shard >= len(shards):
            raise UnreadableFileError(f"'{key}' lies in data file {entry.shard}, of {len(shards)}: damaged", about=name)
        shard = shards[entry.shard]
        if entry.offset + entry.size > shard.size:
            raise UnreadableFileError(
                f"has {shard.size:,} bytes, and '{key}' ends at {entry.offset + entry.size:,}: "
                "cut off; restore or download it again",
                about=shard.name,
            )
        if entry.offset < ends[entry.shard]:
            raise UnreadableFileError(f"'{key}' lies on another tensor in {shard.name}: damaged", about=name)
        ends[entry.shard] = entry.offset + entry.size
        dtype = _dtype_of(entry.dtype)
        if dtype is not None and math.prod(entry.shape) * dtype.itemsize != entry.size:
            raise UnreadableFileError(f"'{key}' is {entry.shape} and has {entry.size:,} bytes: damaged", about=name)
