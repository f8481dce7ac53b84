"""Read each file once in a run: its layers, or why it has none, and its record."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from lstmconv.errors import ForeignFileError, LstmconvError, NoLSTMError
from lstmconv.formats import FORMATS, Artifact, open_place, place_of, places
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.record import Record
from lstmconv.model import Checkpoint, Skipped

__all__ = ["SUFFIXES", "CheckedFile", "FileCache", "holds_several", "is_checkpoint", "is_keras"]

SUFFIXES = tuple(suffix for entry in FORMATS for suffix in entry.suffixes if suffix != entry.raw_suffix)
"""The suffixes of the files that are checked. Bare buffers are not: they do not say what they contain."""
_BY_NAME = tuple(
    suffix
    for entry in FORMATS
    for suffix in entry.suffixes
    if suffix != entry.raw_suffix and not suffix.endswith(tuple(entry.shared))
)
_KERAS_SUFFIXES = tuple(suffix for entry in FORMATS if entry.from_keras for suffix in entry.suffixes)
_KEPT = 8
"""At most so many files stay open for their twins; weights are views of the file and stay on the disk."""


def is_checkpoint(path: Path) -> bool:
    """Whether a file is checked: by its suffix, by its content, or by what stands beside it.

    The content decides where files of other kinds have the suffix too, and what stands beside it where a format names
    files otherwise.
    """
    if path.name.lower().endswith(_BY_NAME) or _is_recognised(path):
        return True
    try:
        return bool(places(path))
    except LstmconvError:  # Reading it says what is wrong with it.
        return True


def _is_recognised(path: Path) -> bool:
    """Whether a suffix that other files have too is a format's by the file's content."""
    judges = [entry.shared[path.suffix.lower()] for entry in FORMATS if path.suffix.lower() in entry.shared]
    if not judges or not path.is_file():
        return False
    file = MappedFile(path)
    return bool(file.size) and any(recognises(file) for recognises in judges)


def holds_several(path: Path) -> bool:
    """Whether a path is a folder that holds several models; each is checked by a file of its own."""
    try:
        return len(places(path)) > 1
    except LstmconvError:
        return False


def is_keras(path: Path) -> bool:
    """Whether a file's name has one of Keras' suffixes."""
    return path.name.lower().endswith(_KERAS_SUFFIXES)


class CheckedFile(NamedTuple):
    """The content of one file.

    Attributes:
        path: The file.
        artifact: The opened file; ``None`` if lstmconv does not read it.
        checkpoint: Its layers; ``None`` if it has none to check.
        skipped: Recurrent layers that do not convert, and why.
        foreign: Why lstmconv does not read files of this kind, or ``None``.
    """

    path: Path
    artifact: Artifact | None
    checkpoint: Checkpoint | None = None
    skipped: tuple[Skipped, ...] = ()
    foreign: ForeignFileError | None = None

    @property
    def record(self) -> Record | None:
        """The record, if lstmconv wrote the file."""
        return None if self.artifact is None else self.artifact.record


class FileCache:
    """The files of a run; each is opened once, on first use."""

    def __init__(self) -> None:
        self._files: OrderedDict[Path, CheckedFile] = OrderedDict()
        self._records: dict[Path, Record | None] = {}
        self._by_source: dict[tuple[Path, bool], dict[str, list[Path]]] = {}

    def read(self, path: Path) -> CheckedFile:
        """Return the content of a file.

        Raises:
            LstmconvError: The file is damaged, or an LSTM in it is incomplete.
            OSError: The file cannot be opened.
        """
        path = _index_of(path) or place_of(path)
        if path in self._files:
            self._files.move_to_end(path)
            return self._files[path]
        self._records[path] = None
        file = _read(path)
        self._records[path] = file.record
        self._files[path] = file
        if len(self._files) > _KEPT:
            self._files.popitem(last=False)
        return file

    def record_of(self, path: Path) -> Record | None:
        """Return a file's record; ``None`` for a file without one, and for a damaged file."""
        if path not in self._records:
            try:
                self.read(path)
            except (LstmconvError, OSError):  # Reading the file itself says what is wrong with it.
                self._records[path] = None
        return self._records.get(path)

    def converted_from(self, source: Path, ignores: Callable[[Path], bool], *, keras: bool) -> list[Path]:
        """Return the files in a file's folder whose records name it as their source: the Keras files, or the others.

        Each folder is searched once.
        """
        folder = source.parent
        if (folder, keras) not in self._by_source:
            index: dict[str, list[Path]] = {}
            for entry in sorted(folder.iterdir()):
                if is_checkpoint(entry) and is_keras(entry) == keras and entry.is_file() and not ignores(entry):
                    record = self.record_of(entry)
                    if record is not None:
                        index.setdefault(record.source, []).append(entry)
            self._by_source[folder, keras] = index
        return self._by_source[folder, keras].get(source.name, [])


def _read(path: Path) -> CheckedFile:
    try:
        artifact = open_place(path)
    except NoLSTMError as error:
        return CheckedFile(path, None, None, error.skipped)
    except ForeignFileError as error:
        return CheckedFile(path, None, foreign=error)
    try:
        found = artifact.checkpoint
        return CheckedFile(path, artifact, found if found.layers else None, found.skipped)
    except NoLSTMError as error:
        return CheckedFile(path, artifact, None, error.skipped)


def _index_of(path: Path) -> Path | None:
    """Return the index of sharded weights for one of their files: ``x.weights.json`` for ``x_00001.weights.h5``.

    Source: keras/src/saving/saving_lib.py (3.10), ShardedH5IOStore.
    """
    shard = re.fullmatch(r"(.+)_\d{5}(\.weights)\.h5", path.name)
    index = None if shard is None else path.with_name(f"{shard[1]}{shard[2]}.json")
    return index if index is not None and index.is_file() else None
