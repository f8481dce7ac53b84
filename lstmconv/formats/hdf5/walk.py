"""Walk an HDF5 file with the HDF5 library and describe it; this runs in a child process, never in the caller's.

The description is JSON: for a group ``{"attributes": ..., "children": ...}``, for a dataset its shape,
type, attributes, and the position of its numbers. The position is ``offset`` in the file, or ``copied``
in the bytes before the description, for numbers that the library assembles (chunked or compact ones).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np

from lstmconv._optional import require
from lstmconv.errors import LstmconvError, UnreadableFileError, in_one_line
from lstmconv.formats.mapped_file import stream_of
from lstmconv.formats.safety.limits import ATTRIBUTE_BYTES, HDF5_OBJECTS, INFLATION, allowed_inflation
from lstmconv.model import Array

if TYPE_CHECKING:
    import h5py

__all__ = ["Attribute", "describe"]

Attribute: TypeAlias = "str | list[str] | float | None"

_MAX_DEPTH = 64
_SLAB_BYTES = 32 << 20
"""The number of bytes that are read at once from a dataset that the library assembles."""


def describe(content: Path | Array, name: str, sink: BinaryIO) -> None:
    """Write the copied numbers, the description, and the description's length in 8 bytes.

    An error in the file is written as ``{"error": text}``; nothing is raised.

    Args:
        content: The file, or the bytes of an HDF5 file inside another file.
        name: The file's name for errors.
        sink: The output.
    """
    try:
        described = _walk(content, name, sink)
    except LstmconvError as error:
        described = {"error": error.reason}
    except Exception as error:  # h5py raises many types for damaged files, such as MemoryError.
        described = {"error": f"damaged HDF5 file ({in_one_line(error)}); restore or download it again"}
    text = json.dumps(described).encode()
    sink.write(text + len(text).to_bytes(8, "little"))
    sink.flush()


def _walk(content: Path | Array, name: str, sink: BinaryIO) -> dict[str, Any]:
    h5py = require("h5py", "Reading HDF5 files")
    if not isinstance(content, Path):
        with h5py.File(stream_of(content), "r") as file:
            return _Walker(content.nbytes, name, sink).group(h5py.h5g.open(file.id, b"/"), "", ())
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    opened = h5py.h5f.open(os.fsencode(content), h5py.h5f.ACC_RDONLY, access)
    try:
        return _Walker(content.stat().st_size, name, sink).group(h5py.h5g.open(opened, b"/"), "", ())
    finally:
        opened.close()


class _Walker:
    """Converter of h5py objects to plain data, which counts objects and bytes against the limits.

    It uses h5py's low-level identifiers, because File, Group and attrs read much that is not needed here.
    """

    def __init__(self, size: int, name: str, sink: BinaryIO) -> None:
        self._size = size
        self._name = name
        self._sink = sink
        self._objects = 0
        self._attribute_bytes = 0
        self._copied = 0
        self._most_objects = HDF5_OBJECTS.value
        self._most_attribute_bytes = ATTRIBUTE_BYTES.value
        self._h5py = require("h5py", "Reading HDF5 files")

    def _fail(self, what: str) -> UnreadableFileError:
        return UnreadableFileError(what, about=self._name)

    def group(self, group: h5py.h5g.GroupID, path: str, above: tuple[int, ...]) -> dict[str, Any]:
        h5py = self._h5py
        address = h5py.h5o.get_info(group).addr
        if address in above:
            raise self._fail(f"'{path}' contains itself (a hard-link cycle)")
        if len(above) > _MAX_DEPTH:
            raise self._fail(f"groups nest deeper than {_MAX_DEPTH} levels")
        children: dict[str, Any] = {}
        for name, link in self._links(group):
            key = name.decode("utf-8", "backslashreplace")
            here = f"{path}/{key}".lstrip("/")
            if link != h5py.h5l.TYPE_HARD:
                kind = "an external link" if link == h5py.h5l.TYPE_EXTERNAL else "a soft link"
                children[key] = {"refusal": f"{kind}; not followed"}
                continue
            item = h5py.h5o.open(group, name)
            if isinstance(item, h5py.h5g.GroupID):
                children[key] = self.group(item, here, (*above, address))
            elif isinstance(item, h5py.h5d.DatasetID):
                children[key] = self.dataset(item, here)
        return {"attributes": self.attributes(group), "children": children}

    def _links(self, group: h5py.h5g.GroupID) -> list[tuple[bytes, int]]:
        """List a group's links by name, each with its kind, in one pass, which takes a quarter of the time."""
        links: list[tuple[bytes, int]] = []
        most = self._most_objects - self._objects

        def keep(name: bytes, link: Any) -> bool | None:
            links.append((name, link.type))
            return True if len(links) > most else None  # True ends the pass.

        group.links.iterate(keep, info=True)
        self._objects += len(links)
        if self._objects > self._most_objects:
            raise self._fail(f"more than {self._most_objects:,} objects; {HDF5_OBJECTS.way_out}")
        return links

    def attributes(self, item: h5py.h5g.GroupID | h5py.h5d.DatasetID) -> dict[str, Attribute]:
        h5py = self._h5py
        found: dict[str, Attribute] = {}
        for index in range(h5py.h5a.get_num_attrs(item)):
            attribute = h5py.h5a.open(item, index=index)
            key = attribute.name.decode("utf-8", "surrogateescape")
            kind, shape = attribute.get_type(), attribute.shape
            if shape is None or kind.get_class() not in (h5py.h5t.STRING, h5py.h5t.INTEGER, h5py.h5t.FLOAT):
                found[key] = None
                continue
            self._count_attribute(math.prod(shape) * kind.get_size())
            values = np.zeros(shape, kind.dtype)
            attribute.read(values)
            plain = _plain(values[()])
            # Text of variable length is stored elsewhere, and many attributes may refer to the same text.
            texts = plain if isinstance(plain, list) else [plain] if isinstance(plain, str) else []
            self._count_attribute(sum(map(len, texts)))
            found[key] = plain
        return found

    def _count_attribute(self, size: int) -> None:
        self._attribute_bytes += size
        most = self._most_attribute_bytes
        if self._attribute_bytes > most:
            raise self._fail(f"attributes take more than {most:,} bytes; {ATTRIBUTE_BYTES.way_out}")

    def dataset(self, dataset: h5py.h5d.DatasetID, path: str) -> dict[str, Any]:
        h5py = self._h5py
        described: dict[str, Any] = {"attributes": self.attributes(dataset)}
        if dataset.shape is None:
            return {**described, "refusal": "an empty dataset"}
        described["shape"] = list(dataset.shape)
        stored = dataset.dtype
        itemsize = stored.itemsize
        if stored.kind == "V" and itemsize == 2 and stored.names is None:
            described["type"] = "bfloat16"  # Keras writes it as two opaque little-endian bytes ('|V2').
        elif stored.kind in "fiub" and itemsize <= 8 and stored.subdtype is None:
            described["type"] = stored.str
        else:
            return {**described, "refusal": f"of type {stored}, not a number"}
        created = dataset.get_create_plist()
        if created.get_external_count() > 0:
            return {**described, "refusal": "stored in another file (external); not followed"}
        if created.get_layout() == h5py.h5d.VIRTUAL:
            return {**described, "refusal": "a virtual dataset (stored in other files); not followed"}
        claimed = math.prod(dataset.shape) * itemsize
        offset = dataset.get_offset()
        if claimed == 0:
            return described
        if offset is not None:
            if offset + claimed > self._size:
                raise self._fail(f"'{path}' ends at byte {offset + claimed:,} of a file of {self._size:,}: truncated")
            return {**described, "offset": offset}
        # Chunked, compact, or never written: the library assembles the numbers.
        if self._copied + claimed > allowed_inflation(self._size):
            kept = dataset.get_storage_size()
            return {**described, "refusal": f"claims {claimed:,} bytes and stores {kept:,}; {INFLATION.way_out}"}
        described["copied"] = self._copied
        written = 0
        whole = h5py.Dataset(dataset)
        for here in _slabs(whole):
            written += self._sink.write(np.ascontiguousarray(whole[here]).reshape(-1).view(np.uint8).data)
        if written != claimed:
            raise self._fail(f"'{path}' has {written:,} bytes, expected {claimed:,}")
        self._copied += written
        return described


def _slabs(dataset: h5py.Dataset) -> Iterator[Any]:
    """Yield selections that cover a dataset, each of whole chunks, so that no chunk is inflated twice."""
    if not dataset.shape:
        yield ()
        return
    high = dataset.chunks[0] if dataset.chunks else 1
    row = max(math.prod(dataset.shape[1:]) * dataset.dtype.itemsize, 1)
    rows = max(_SLAB_BYTES // row // high, 1) * high
    for start in range(0, dataset.shape[0], rows):
        yield np.s_[start : start + rows]


def _plain(value: object) -> Attribute:
    """Return an attribute as str, list of str, or float; bytes are UTF-8."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, str):  # h5py escapes bytes that are not UTF-8 as surrogates.
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "SOU":
            return [str(_plain(entry)) for entry in value.ravel()]
        return [] if value.size == 0 else None
    return float(value) if isinstance(value, (int, float, np.number)) else None
