"""The SHA-256 of a source, computed when it is needed, or before on a thread."""

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
"""How many bytes are hashed at a time; their pages are released after each block."""


def sha256_of(*files: MappedFile) -> str:
    """Return the SHA-256 of the bytes of all files, joined in this order."""
    import hashlib  # OpenSSL takes 3 ms to load.

    digest = hashlib.sha256()
    for file in files:
        for start in range(0, file.size, _HASHED_BYTES):
            block = file.content[start : start + _HASHED_BYTES]
            digest.update(block.data)
            let_go(block)
    return digest.hexdigest()


def sha256_of_all(files: Sequence[MappedFile], head: bytes = b"") -> str:
    """Return one SHA-256 for the files of one checkpoint: that of ``head`` and of each file's own SHA-256."""
    import hashlib

    return hashlib.sha256(head + b"".join(bytes.fromhex(sha256_of(file)) for file in files)).hexdigest()


def hashing(*files: MappedFile) -> LaterHash:
    """Return the SHA-256 of the bytes of all files, computed when it is needed."""
    return LaterHash(files)


class LaterHash:
    """A SHA-256 that is computed when it is called for. Large files are hashed on a thread: 2 GB take 1 to 2 s."""

    def __init__(self, files: Sequence[MappedFile]) -> None:
        self._files = files
        self._large = sum(file.size for file in files) > _HASHED_AT_ONCE
        self._thread: threading.Thread | None = None
        self._found: str | None = None

    def begin(self) -> None:
        """Compute it; for large files, begin to on a thread."""
        if self.slow and self._thread is None:
            self._thread = threading.Thread(target=self._compute, daemon=True)
            self._thread.start()
        elif not self.slow:
            self()

    @property
    def slow(self) -> bool:
        """Whether it is not known yet and takes long to compute."""
        return self._large and self._found is None

    def _compute(self) -> None:
        self._found = sha256_of(*self._files)

    def __call__(self) -> str:
        """Return the SHA-256; wait for the thread if one computes it."""
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
    """Begin to hash a checkpoint's source."""
    if isinstance(checkpoint.provenance.hashed, LaterHash):
        checkpoint.provenance.hashed.begin()


def hashed_later(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint whose hash needs no waiting: 64 zeros stand in for a hash that is still being computed."""
    hashed = checkpoint.provenance.hashed
    if not isinstance(hashed, LaterHash) or not hashed.slow:
        return checkpoint
    return replace(checkpoint, provenance=checkpoint.provenance._replace(hashed="0" * 64))
