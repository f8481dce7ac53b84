"""HDF5 files as plain data: groups, attributes, and arrays that are views into the file.

The HDF5 library crashes or hangs on some damaged files, so :func:`read_tree` first walks the file
in a child process under a time limit, and only then reads it here. It follows no link: a soft,
external or virtual reference becomes an entry that refuses to be loaded.
"""

from __future__ import annotations

import io
import os
import select
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from lstmconv.errors import UnreadableFileError, require
from lstmconv.model import Array, float_type

if TYPE_CHECKING:
    import h5py

__all__ = ["SIGNATURE", "Attribute", "Group", "StoredArray", "read_tree"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"
"""HDF5 File Format Specification 3.0, II.A: at byte 0, or after a user block at 512, 1024, 2048, ..."""

Attribute: TypeAlias = "str | list[str] | float | None"

WALK_SECONDS = 20.0
"""How long the first walk may take, plus a second for every 100 MB; an honest 2 GB file takes 0.1 s."""
expendable = False
"""Whether this process may die of a file, as those of :mod:`lstmconv.many` may; then no child reads it first."""
_NO_FORK = {"jax", "tensorflow"}
"""They run threads of their own that a forked child would lack."""
_MAX_OBJECTS = 200_000
_MAX_DEPTH = 64
_MAX_ATTRIBUTE_BYTES = 256 << 20
_MAX_CLAIM_BYTES = 4 << 30
_MAX_CLAIM_RATIO = 1000
"""A chunked array may claim more than it stores, but not both over 4 GiB and over 1000 times
(the limits of keras/src/saving/saving_lib.py safe_get_h5_dataset)."""


@dataclass(frozen=True, eq=False)
class StoredArray:
    """One dataset: its shape and dtype, and the array itself when asked.

    Attributes:
        path: Inside the file, for messages.
        dtype: As stored; a bfloat16 dataset (two opaque bytes) is ``ml_dtypes.bfloat16``.
        values: The array, a read-only view into the file where it is stored in one piece.
        refusal: Why it may not be loaded, or ``None``.
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
            UnreadableFileError: It is a link, lies in another file, or is not a real number array.
        """
        if self.values is None:
            raise UnreadableFileError(f"{self.path}: {self.refusal}; not followed")
        return self.values


@dataclass(frozen=True, eq=False)
class Group:
    """One group: its attributes and what is in it, in the library's (alphabetical) order."""

    path: str
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    children: Mapping[str, Group | StoredArray] = field(default_factory=dict)

    def find(self, path: str) -> Group | StoredArray | None:
        """Return what lies at a relative path such as ``"lstm_1/kernel:0"``, or ``None``."""
        node: Group | StoredArray | None = self
        for part in path.strip("/").split("/"):
            node = node.children.get(part) if isinstance(node, Group) else None
        return node

    def group(self, path: str) -> Group | None:
        """Return the group at a relative path, or ``None``."""
        found = self.find(path)
        return found if isinstance(found, Group) else None

    def strings(self, name: str) -> list[str] | None:
        """Return a list attribute, also where Keras split it into ``name0``, ``name1``, ...

        Keras splits lists over 64,512 bytes (HDF5_OBJECT_HEADER_LIMIT); an empty list is stored as
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
        """Yield this group and all below it."""
        yield self
        for child in self.children.values():
            if isinstance(child, Group):
                yield from child.walk()


def _string_list(value: Attribute) -> list[str]:
    if isinstance(value, list):
        return value
    return [value] if isinstance(value, str) else []


class _ArrayFile(io.RawIOBase):
    """A read-only file over bytes that are already there, for h5py's file-object driver."""

    def __init__(self, content: Array) -> None:
        self._content = memoryview(content.data)
        self._position = 0

    def readinto(self, buffer: Any) -> int:
        piece = self._content[self._position : self._position + len(buffer)]
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._content)}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def read_tree(content: Path | Array, name: str) -> Group:
    """Read a whole HDF5 file: all structure and attributes, arrays as views into it.

    Args:
        content: The file, or the bytes of an HDF5 file that lies inside another one.
        name: What to call it in messages.

    Raises:
        UnreadableFileError: It is damaged, crashes or hangs the HDF5 library, or claims too much.
    """
    require("h5py", "Reading HDF5 files")
    size = content.stat().st_size if isinstance(content, Path) else content.nbytes
    seconds = WALK_SECONDS + size / 1e8
    if expendable and hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)  # SIGALRM, which nobody handles, ends the process.
        try:
            return _read(content, name)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    _survive(content, name, seconds)
    return _read(content, name)


def _read(content: Path | Array, name: str) -> Group:
    h5py = require("h5py", "Reading HDF5 files")
    raw = np.memmap(content, np.uint8, "r") if isinstance(content, Path) else content
    try:
        opened = content if isinstance(content, Path) else _ArrayFile(content)
        with h5py.File(opened, "r") as file:
            return _Reader(raw, name).group(h5py.h5g.open(file.id, b"/"), "", ())
    except UnreadableFileError:
        raise
    except (
        OSError,
        RuntimeError,
        KeyError,
        ValueError,
        TypeError,
        MemoryError,
        OverflowError,
        AttributeError,
    ) as error:
        reason = str(error).split("\n")[0][:200]
        raise UnreadableFileError(f"{name}: damaged HDF5 file ({reason}); restore or download it again") from error


class _Reader:
    """Turns h5py objects into plain data, counting what it meets.

    It goes by h5py's low-level identifiers: its Group and attrs look up every name three times.
    """

    def __init__(self, raw: Array, name: str) -> None:
        self._raw = raw
        self._name = name
        self._objects = 0
        self._attribute_bytes = 0

    def _fail(self, what: str) -> UnreadableFileError:
        return UnreadableFileError(f"{self._name}: {what}")

    def group(self, group: h5py.h5g.GroupID, path: str, above: tuple[int, ...]) -> Group:
        h5py = require("h5py", "Reading HDF5 files")
        address = h5py.h5o.get_info(group).addr
        if address in above:
            raise self._fail(f"'{path}' contains itself (a hard-link cycle)")
        if len(above) > _MAX_DEPTH:
            raise self._fail(f"groups nest deeper than {_MAX_DEPTH} levels")
        children: dict[str, Group | StoredArray] = {}
        for name in group:
            key = name.decode("utf-8", "backslashreplace")
            self._objects += 1
            if self._objects > _MAX_OBJECTS:
                raise self._fail(f"more than {_MAX_OBJECTS:,} objects")
            here = f"{path}/{key}".lstrip("/")
            link = group.links.get_info(name).type
            if link != h5py.h5l.TYPE_HARD:
                kind = "an external link" if link == h5py.h5l.TYPE_EXTERNAL else "a soft link"
                children[key] = _refused(here, kind)
                continue
            item = h5py.h5o.open(group, name)
            if isinstance(item, h5py.h5g.GroupID):
                children[key] = self.group(item, here, (*above, address))
            elif isinstance(item, h5py.h5d.DatasetID):
                children[key] = self.dataset(h5py.Dataset(item), here)
        return Group(path, self.attributes(h5py.Group(group)), children)

    def attributes(self, item: h5py.Group | h5py.Dataset) -> dict[str, Attribute]:
        h5py = require("h5py", "Reading HDF5 files")
        found: dict[str, Attribute] = {}
        for index in range(h5py.h5a.get_num_attrs(item.id)):
            attribute = h5py.h5a.open(item.id, index=index)
            key = attribute.name.decode("utf-8", "surrogateescape")
            count = attribute.get_space().get_simple_extent_npoints()
            self._attribute_bytes += count * attribute.get_type().get_size()
            if self._attribute_bytes > _MAX_ATTRIBUTE_BYTES:
                raise self._fail(f"attributes take more than {_MAX_ATTRIBUTE_BYTES >> 20} MiB")
            if attribute.get_type().get_class() in (h5py.h5t.REFERENCE, h5py.h5t.COMPOUND, h5py.h5t.VLEN):
                found[key] = None
                continue
            found[key] = _plain(item.attrs[key])
        return found

    def dataset(self, dataset: h5py.Dataset, path: str) -> StoredArray:
        attributes = self.attributes(dataset)
        if dataset.shape is None:
            return _refused(path, "an empty dataset", attributes)
        dtype, reason = _number_type(dataset.dtype)
        if dataset.external is not None:
            reason = "stored in another file (external)"
        elif dataset.is_virtual:
            reason = "a virtual dataset (stored in other files)"
        count = int(np.prod(dataset.shape, dtype=object))
        claimed, stored = count * dtype.itemsize, dataset.id.get_storage_size()
        if claimed > _MAX_CLAIM_BYTES and claimed > _MAX_CLAIM_RATIO * max(stored, 1):
            reason = f"claims {claimed:,} bytes and stores {stored:,}"
        if reason is not None:
            return StoredArray(path, dataset.shape, dtype, attributes, None, reason)
        values = self._values(dataset, dtype, claimed)
        return StoredArray(path, dataset.shape, dtype, attributes, values)

    def _values(self, dataset: h5py.Dataset, dtype: np.dtype[Any], claimed: int) -> Array:
        offset = dataset.id.get_offset()
        if offset is None or claimed == 0:  # Chunked, compact, or never written: the library reads it.
            values: Array = np.asarray(dataset[()]).view(dtype).reshape(dataset.shape)
            values.flags.writeable = False
            return values
        if offset + claimed > self._raw.nbytes:
            raise self._fail(
                f"'{dataset.name}' ends at byte {offset + claimed:,} of a file of {self._raw.nbytes:,}: truncated"
            )
        return self._raw[offset : offset + claimed].view(dtype).reshape(dataset.shape)


def _refused(path: str, reason: str, attributes: Mapping[str, Attribute] | None = None) -> StoredArray:
    return StoredArray(path, (), np.dtype(np.float32), attributes or {}, None, reason)


def _number_type(stored: np.dtype[Any]) -> tuple[np.dtype[Any], str | None]:
    """Return the dtype to view a dataset with, and why it may not be loaded."""
    if stored.kind == "V" and stored.itemsize == 2 and stored.names is None:
        # Keras writes bfloat16 as two opaque little-endian bytes (FORMATS of Keras 3: '|V2').
        return float_type("bfloat16"), None
    if stored.kind in "fiub" and stored.itemsize <= 8:
        return stored, None
    return stored, f"of type {stored}, not a number"


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


def _survive(content: Path | Array, name: str, seconds: float) -> None:
    """Read the file once where a crash or a hang of the HDF5 library costs only an error message.

    A forked child is quickest (some milliseconds), and safe only in a process of one thread;
    elsewhere, and beside frameworks that forbid forking, a fresh interpreter does it.
    """
    if hasattr(os, "fork") and threading.active_count() == 1 and not _NO_FORK & sys.modules.keys():
        code = _in_fork(content, name, seconds)
    else:
        code = _in_new_process(content, seconds)
    if code is None:
        raise UnreadableFileError(f"{name}: the HDF5 library hangs on it (over {seconds:.0f} s): a damaged file")
    if code < 0:
        raise UnreadableFileError(f"{name}: the HDF5 library crashes on it (signal {-code}): a damaged file")


def _in_fork(content: Path | Array, name: str, seconds: float) -> int | None:
    """Return the child's exit code, negative for a signal, or ``None`` if it was stopped."""
    ended, held = os.pipe()  # The child holds the other end for as long as it lives.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python and JAX warn of forking beside threads: the caller has looked.
        child = os.fork()
    if child == 0:
        try:
            _silence()
            _read(content, name)
        except BaseException:
            os._exit(1)  # The parent meets the same error and reports it.
        os._exit(0)
    os.close(held)
    with os.fdopen(ended, "rb") as pipe:
        in_time, _, _ = select.select([pipe], [], [], seconds)
    if not in_time:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if in_time else None


def _silence() -> None:
    """Keep a dying child quiet and leave no core file."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)


def _in_new_process(content: Path | Array, seconds: float) -> int | None:
    program = (
        "import sys, pathlib, numpy as np\n"
        "from lstmconv.formats.keras import hdf5\n"
        "path = sys.argv[1]\n"
        "content = pathlib.Path(path) if path else np.frombuffer(sys.stdin.buffer.read(), np.uint8)\n"
        "hdf5._read(content, 'file')\n"
    )
    argument, data = (str(content), None) if isinstance(content, Path) else ("", content.tobytes())
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, argument], input=data, capture_output=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    return done.returncode
