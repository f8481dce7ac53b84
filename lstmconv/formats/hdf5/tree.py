"""HDF5 files as plain data: groups, attributes, and arrays that are views into the file.

The HDF5 library crashes or hangs on some damaged files, so it never runs in this process. A child walks
the file (:mod:`~lstmconv.formats.hdf5.confinement`) and describes it; this module turns the description
into a tree over a memory map. No link is followed: a soft, external or virtual reference becomes an
entry that refuses to be loaded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from lstmconv._optional import require
from lstmconv.arrays.mapping import mapped
from lstmconv.errors import UnreadableFileError
from lstmconv.formats.hdf5.confinement import described
from lstmconv.formats.hdf5.walk import Attribute
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.model import Array, float_type

__all__ = ["SIGNATURE", "Attribute", "Group", "StoredArray", "read_tree"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"
"""HDF5 File Format Specification 3.0, II.A: at byte 0, or after a user block at 512, 1024, 2048, ..."""


class StoredArray(NamedTuple):
    """One dataset: its shape, its dtype, and its array.

    Attributes:
        path: The path inside the file, for messages.
        dtype: The stored dtype; a bfloat16 dataset (two opaque bytes) has ``ml_dtypes.bfloat16``.
        values: The array; a read-only view into the file if the file stores it in one piece.
        refusal: The reason why the array must not be loaded, or ``None``.
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    attributes: Mapping[str, Attribute]
    values: Array | None
    refusal: str | None = None

    def load(self) -> Array:
        """Return the array.

        Raises:
            UnreadableFileError: The array is a link, is in another file, or has no real numbers.
        """
        if self.values is None:
            raise UnreadableFileError(str(self.refusal), about=self.path)
        return self.values


@dataclass(frozen=True, eq=False)
class Group:
    """One group: its attributes and its children, in the library's (alphabetical) order."""

    path: str
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    children: Mapping[str, Group | StoredArray] = field(default_factory=dict)

    def find(self, path: str) -> Group | StoredArray | None:
        """Return the group or array at a relative path such as ``"lstm_1/kernel:0"``, or ``None``."""
        node: Group | StoredArray | None = self
        for part in path.strip("/").split("/"):
            node = node.children.get(part) if isinstance(node, Group) else None
        return node

    def group(self, path: str) -> Group | None:
        """Return the group at a relative path, or ``None``."""
        found = self.find(path)
        return found if isinstance(found, Group) else None

    def strings(self, name: str) -> list[str] | None:
        """Return a list attribute, also if Keras has split it into ``name0``, ``name1``, ...

        Keras splits lists over 64,512 bytes (HDF5_OBJECT_HEADER_LIMIT), and stores an empty list as
        float64 of shape (0,).
        """
        if name in self.attributes:
            return _string_list(self.attributes[name])
        if f"{name}0" not in self.attributes:
            return None
        joined: list[str] = []
        part = 0
        while f"{name}{part}" in self.attributes:
            joined += _string_list(self.attributes[f"{name}{part}"])
            part += 1
        return joined

    def text(self, name: str) -> str | None:
        """Return a text attribute, or ``None``."""
        value = self.attributes.get(name)
        return value if isinstance(value, str) else None

    def walk(self) -> Iterator[Group]:
        """Yield this group and all groups below it."""
        yield self
        for child in self.children.values():
            if isinstance(child, Group):
                yield from child.walk()


def _string_list(value: Attribute) -> list[str]:
    if isinstance(value, list):
        return value
    return [value] if isinstance(value, str) else []


def read_tree(content: MappedFile | Array, name: str) -> Group:
    """Read a whole HDF5 file: its groups, its attributes, and its arrays as views into the file.

    Args:
        content: The file, or the bytes of an HDF5 file inside another file.
        name: The file's name for messages.

    Raises:
        UnreadableFileError: The file is damaged, crashes or hangs the HDF5 library, or claims more than the limits.
    """
    require("h5py", "Reading HDF5 files")
    with described(content.path if isinstance(content, MappedFile) else content, name) as answer:
        found, copied = _received(answer, name)
    if "error" in found:
        raise UnreadableFileError(str(found["error"]), about=name)
    raw = content.content if isinstance(content, MappedFile) else content
    try:
        return _group(found, "", raw, copied)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UnreadableFileError("changed while it was read; run again", about=name) from error


def _received(answer: BinaryIO, name: str) -> tuple[dict[str, Any], Array]:
    """Return the description, and the numbers that were copied with it."""
    try:
        content = mapped(answer)
        size = int.from_bytes(content[-8:].tobytes(), "little")
        return json.loads(content[-8 - size : -8].tobytes()), content[: -8 - size]
    except ValueError as error:
        raise UnreadableFileError("cannot be read: the process that walks it was cut short", about=name) from error


def _group(found: Mapping[str, Any], path: str, raw: Array, copied: Array) -> Group:
    children: dict[str, Group | StoredArray] = {}
    for key, child in found["children"].items():
        here = f"{path}/{key}".lstrip("/")
        make = _group if "children" in child else _stored
        children[key] = make(child, here, raw, copied)
    return Group(path, found["attributes"], children)


def _stored(found: Mapping[str, Any], path: str, raw: Array, copied: Array) -> StoredArray:
    code = found.get("type", "<f4")
    dtype = float_type(code) if code == "bfloat16" else np.dtype(code)
    shape = tuple(found.get("shape", ()))
    attributes = found.get("attributes", {})
    if "refusal" in found:
        return StoredArray(path, shape, dtype, attributes, None, found["refusal"])
    source, start = (raw, found["offset"]) if "offset" in found else (copied, found.get("copied", 0))
    values: Array = source[start : start + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
    values.flags.writeable = False
    return StoredArray(path, shape, dtype, attributes, values)
