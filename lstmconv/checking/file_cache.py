"""Read each file once in a run: its layers, or why it has none, and its record."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lstmconv.errors import ForeignFileError, NoLSTMError
from lstmconv.formats import FORMATS, Format, ReadOptions, by_name
from lstmconv.formats.detection import detect
from lstmconv.model import Checkpoint, Skipped

__all__ = ["SUFFIXES", "CheckedFile", "FileCache", "is_checkpoint", "is_keras"]

SUFFIXES = tuple(suffix for entry in FORMATS for suffix in entry.suffixes if not suffix.endswith(".bin"))
"""The suffixes of the files that are checked. Bare buffers are not: they do not say what they contain."""
_KERAS_SUFFIXES = (*by_name("keras").suffixes, *by_name("keras-cudnn").suffixes)
_KEPT = 8
"""At most so many files stay open for their twins; weights are views of the file and stay on the disk."""
_MOST_NOTED = 256 << 20
"""A larger ONNX model is not parsed just to read its record."""


def is_checkpoint(path: Path) -> bool:
    """Whether a file's name has one of :data:`SUFFIXES`."""
    return path.name.lower().endswith(SUFFIXES)


def is_keras(path: Path) -> bool:
    """Whether a file's name has one of Keras' suffixes."""
    return path.name.lower().endswith(_KERAS_SUFFIXES)


class CheckedFile(NamedTuple):
    """The content of one file.

    Attributes:
        path: The file.
        format: Its format.
        checkpoint: Its layers; ``None`` if it has none to check.
        skipped: Recurrent layers that do not convert, and why.
        foreign: Why lstmconv does not read files of this kind, or ``None``.
        record: What lstmconv wrote into the file about its conversion, if lstmconv wrote the file.
    """

    path: Path
    format: Format
    checkpoint: Checkpoint | None
    skipped: tuple[Skipped, ...] = ()
    foreign: str | None = None
    record: Mapping[str, Any] | None = None


class FileCache:
    """The files of a run; each is read on first use."""

    def __init__(self) -> None:
        self._files: OrderedDict[Path, CheckedFile] = OrderedDict()
        self._records: dict[Path, Mapping[str, Any] | None] = {}
        self._by_source: dict[tuple[Path, bool], dict[str, list[Path]]] = {}

    def read(self, path: Path) -> CheckedFile:
        """Return the content of a file.

        Raises:
            LstmconvError: The file is damaged, or an LSTM in it is incomplete.
            OSError: The file cannot be opened.
        """
        index = _index_of(path)
        if index is not None:
            return self.read(index)
        if path in self._files:
            self._files.move_to_end(path)
            return self._files[path]
        format = detect(path, ReadOptions())
        try:
            checkpoint = format.load().read(path, ReadOptions())
            file = CheckedFile(path, format, checkpoint, checkpoint.skipped)
        except NoLSTMError as error:
            file = CheckedFile(path, format, None, error.skipped)
        except ForeignFileError as error:
            file = CheckedFile(path, format, None, (), str(error))
        self._files[path] = file  # record_of() looks here.
        file = self._files[path] = file._replace(record=self.record_of(path))
        if len(self._files) > _KEPT:
            self._files.popitem(last=False)
        return file

    def record_of(self, path: Path) -> Mapping[str, Any] | None:
        """Return a file's record; ``None`` for a file without one, and for a damaged file."""
        if path not in self._records:
            self._records[path] = None
            try:
                format = detect(path, ReadOptions())
                if format.name.startswith("keras") and path not in self._files:
                    self.read(path)  # read() survives a file that crashes the HDF5 library.
                if not _costly(path, format):
                    self._records[path] = _plausible(format.load_runtime().provenance(path))
            except Exception:  # Each library has its own errors for damaged files; read() explains them better.
                return None
        return self._records[path]

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
                        index.setdefault(str(record["source"]), []).append(entry)
            self._by_source[folder, keras] = index
        return self._by_source[folder, keras].get(source.name, [])


def _index_of(path: Path) -> Path | None:
    """Return the index of sharded weights for one of their files: ``x.weights.json`` for ``x_00001.weights.h5``.

    Source: keras/src/saving/saving_lib.py (3.10), ShardedH5IOStore.
    """
    shard = re.fullmatch(r"(.+)_\d{5}(\.weights)\.h5", path.name)
    index = None if shard is None else path.with_name(f"{shard[1]}{shard[2]}.json")
    return index if index is not None and index.is_file() else None


def _costly(path: Path, format: Format) -> bool:
    """Whether reading a file's record takes long."""
    if format.name == "onnx":
        return path.stat().st_size > _MOST_NOTED
    if format.name != "torch":
        return False
    import zipfile

    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(entry.file_size > _MOST_NOTED for entry in archive.infolist() if entry.filename.endswith(".json"))


def _plausible(record: object) -> Mapping[str, Any] | None:
    """Return a record if it has the fields that are used here, or ``None``."""
    entries = record.get("layers") if isinstance(record, dict) else None
    if not isinstance(record, dict) or not isinstance(entries, list) or not isinstance(record.get("source"), str):
        return None
    named = all(isinstance(one, dict) and {"name", "source", "directions"} <= one.keys() for one in entries)
    return record if named else None
