"""A file opened once and mapped into memory; everything that lstmconv reads comes from this map.

Its first bytes, a zip's directory and members, a header, the weights and the hash are read from one map. These open
the path again, because their libraries take nothing else or would copy all weights:

* the child process that walks an HDF5 file (:mod:`lstmconv.formats.hdf5.confinement`);
* ``safetensors.safe_open``, which checks the header;
* a target's own framework when the target is run: ``torch.load``, ``safetensors.torch.load_file``, ONNX Runtime, Keras
  and h5py (:mod:`lstmconv.runtimes`).
"""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from lstmconv.errors import UnreadableFileError

if TYPE_CHECKING:  # Detection must not wait for NumPy where a name is enough.
    from lstmconv.model import Array

__all__ = ["LFS_POINTER", "MappedFile", "stream_of"]

Parsed = TypeVar("Parsed")

_HEAD_BYTES = 512
LFS_POINTER = b"version https://git-lfs"
"""git-lfs docs/spec.md, The Pointer: the first line of every pointer file."""


class MappedFile:
    """One opened file, or a folder.

    Attributes:
        path: Where it was opened.
        content: Its bytes ``(bytes,)``, read-only and mapped; none of a folder.
    """

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            OSError: It cannot be opened.
            UnreadableFileError: It is larger than what this process may map.
        """
        import numpy as np

        from lstmconv.arrays.mapping import mapped

        self.path = path
        self._parsed: dict[Callable[[MappedFile], object], object] = {}
        try:
            self.content: Array = np.empty(0, np.uint8) if path.is_dir() else mapped(path)
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise
            size = path.stat().st_size
            raise UnreadableFileError(
                f"{size:,} bytes, more than this process may map into its memory", about=path.name
            ) from error

    @property
    def name(self) -> str:
        """The file's name, for messages."""
        return self.path.name

    @property
    def size(self) -> int:
        """The number of its bytes."""
        return self.content.nbytes

    @property
    def head(self) -> bytes:
        """The first 512 bytes, by which a file is recognised; none of a folder."""
        return self.content[:_HEAD_BYTES].tobytes()

    def has_suffix(self, *suffixes: str) -> bool:
        """Whether the file's name ends with one of some suffixes, in upper or lower case."""
        return self.name.lower().endswith(suffixes)

    def stream(self) -> io.BufferedReader:
        """Return the bytes as a file for libraries that read one."""
        return stream_of(self.content)

    def once(self, parse: Callable[[MappedFile], Parsed]) -> Parsed:
        """Return the result of a function of this file. The function runs once, also if several callers pass it.

        Raises:
            Exception: What the function raises; then it runs again when it is asked again.
        """
        if parse not in self._parsed:
            self._parsed[parse] = parse(self)
        return cast("Parsed", self._parsed[parse])

    def refuse_empty(self) -> None:
        """Refuse a file without content.

        Raises:
            UnreadableFileError: It is empty, or a Git LFS pointer, which only names the content.
        """
        if not self.size and not self.path.is_dir():
            raise UnreadableFileError("the file is empty; restore or download it again", about=self.name)
        if self.head.startswith(LFS_POINTER):
            raise UnreadableFileError("a Git LFS pointer, not the file itself; run: git lfs pull", about=self.name)


def stream_of(content: Array) -> io.BufferedReader:
    """Return bytes ``(bytes,)`` as a read-only file."""
    return _Stream(content)


class _Stream(io.BufferedReader):
    """Bytes as a file whose ``read`` allocates no more than there are left, whatever size a damaged file states."""

    def __init__(self, content: Array) -> None:
        super().__init__(_ArrayFile(content))
        self._size = content.nbytes

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


class _ArrayFile(io.RawIOBase):
    """A read-only file over bytes that are already there."""

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
