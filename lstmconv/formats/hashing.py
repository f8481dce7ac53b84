"""The SHA-256 of a source, computed when it is asked for, or meanwhile on a thread."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from lstmconv.arrays.mapping import let_go
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.model import Checkpoint

__all__ = ["LaterHash", "begin_hashing", "hashed_later", "hashing", "sha256_of", "sha256_of_all"]

_HASHED_AT_ONCE = 8 << 20
"""Under this size hashing takes less than 0.02 s."""


_HASHED_BYTES = 4 << 20
"""At a time: large enough for its pages to be released."""


def sha256_of(*files: MappedFile) -> str:
    """Return the SHA-256 of the bytes of all files, one behind the other."""
    import hashlib  # OpenSSL takes 3 ms to load.

    digest = hashlib.sha256()
    for file in files:
        for start in range(0, file.size, _HASHED_BYTES):
            block = file.content[start : start + _HASHED_BYTES]
            digest.update(block.data)
            let_go(block)
    return digest.hexdigest()


def sha256_of_all(files: Sequence[MappedFile], head: bytes = b"") -> str:
    """Return one SHA-256 for files that make up one checkpoint: of ``head`` and each file's own."""
    import hashlib

    return hashlib.sha256(head + b"".join(bytes.fromhex(sha256_of(file)) for file in files)).hexdigest()


def hashing(*files: MappedFile) -> LaterHash:
    """Return what computes the SHA-256 of files' bytes when it is asked for."""
    return LaterHash(files)


class LaterHash:
    """A hash that is computed when it is asked for, or before: of 2 GB it takes 1 to 2 s, on a thread of its own."""

    def __init__(self, files: Sequence[MappedFile]) -> None:
        self._files = files
        self._large = sum(file.size for file in files) > _HASHED_AT_ONCE
        self._thread: threading.Thread | None = None
        self._found: str | None = None

    def begin(self) -> None:
        """Compute it now, or begin to where that takes long."""
        if self.slow and self._thread is None:
            self._thread = threading.Thread(target=self._compute, daemon=True)
            self._thread.start()
        elif not self.slow:
            self()

    @property
    def slow(self) -> bool:
        """Whether it takes long, and is not known yet."""
        return self._large and self._found is None

    def _compute(self) -> None:
        self._found = sha256_of(*self._files)

    def __call__(self) -> str:
        """Return it."""
        if self._thread is not None:
            self._thread.join()
        if self._found is None:
            self._found = sha256_of(*self._files)
        return self._found

    def __eq__(self, other: object) -> bool:
        """Compare the hashes."""
        return isinstance(other, LaterHash) and self() == other()

    def __hash__(self) -> int:
        """Hash the hash."""
        return hash(self())


def begin_hashing(checkpoint: Checkpoint) -> None:
    """Have the source hashed, meanwhile where that takes long."""
    if isinstance(checkpoint.provenance.hashed, LaterHash):
        checkpoint.provenance.hashed.begin()


def hashed_later(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint with a hash that is known: zeros, as many as the true one has, while that takes long."""
    hashed = checkpoint.provenance.hashed
    if not isinstance(hashed, LaterHash) or not hashed.slow:
        return checkpoint
    return replace(checkpoint, provenance=checkpoint.provenance._replace(hashed="0" * 64))
