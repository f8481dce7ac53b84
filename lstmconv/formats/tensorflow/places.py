"""Find the checkpoint or SavedModel for a path: a prefix, a folder, or one of its files."""

from __future__ import annotations

import re
from pathlib import Path

from lstmconv.errors import UnreadableFileError

__all__ = [
    "INDEX",
    "METADATA",
    "MODEL",
    "MODEL_TEXT",
    "is_checkpoint_folder",
    "is_saved_model",
    "located",
    "variables_of",
]

INDEX = ".index"
MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
"""The last bytes of every table in LevelDB's format (tensorflow/core/lib/io/format.h kTableMagicNumber)."""
_SHARD = re.compile(r"(.+)\.data-\d{5}-of-\d{5}")
_STATE = "checkpoint"
"""The text file in which tf.train.Saver and CheckpointManager name the latest checkpoint of a folder."""
_STATE_BYTES = 1 << 20
_LATEST = re.compile(r'^model_checkpoint_path: "((?:[^"\\]|\\.)*)"', re.MULTILINE)
METADATA, MODEL, MODEL_TEXT = "keras_metadata.pb", "saved_model.pb", "saved_model.pbtxt"
_MODEL_FILES = (MODEL, METADATA, MODEL_TEXT)


def is_saved_model(folder: Path) -> bool:
    """Whether a folder is a SavedModel."""
    return any((folder / name).is_file() for name in _MODEL_FILES)


def is_checkpoint_folder(folder: Path) -> bool:
    """Whether a folder contains checkpoints."""
    return (folder / _STATE).is_file() or any(map(_has_shards, folder.glob(f"*{INDEX}")))


def variables_of(folder: Path) -> Path:
    """Return the index of a SavedModel's variables."""
    return folder / "variables" / f"variables{INDEX}"


def located(path: Path) -> list[Path]:
    """Return the SavedModel folders and the indexes for a path; for a file, at most one.

    For a folder with several checkpoints, this is the latest one, which its file ``checkpoint`` names, or else all.

    Raises:
        UnreadableFileError: The latest checkpoint or the index of a data file is missing.
    """
    if path.is_dir():
        if is_saved_model(path.parent) and variables_of(path.parent).parent == path:
            return [path.parent]
        return [*([path] if is_saved_model(path) else []), *_checkpoints(path)]
    if path.name in _MODEL_FILES and path.is_file():
        return [path.parent]
    if path.name == _STATE and path.is_file() and is_checkpoint_folder(path.parent):
        return _checkpoints(path.parent)
    shard = _SHARD.fullmatch(path.name)
    index = path.with_name(shard[1] + INDEX if shard else path.name + INDEX)
    if path.name.endswith(INDEX):
        index = path
    elif path.exists() and not shard:
        return []
    if shard and path.is_file() and not index.is_file():
        raise UnreadableFileError(f"a data file of a checkpoint, and {index.name} is not beside it", about=path.name)
    if not index.is_file() or not (_has_shards(index) or _is_table(index)):
        return []
    above = index.parent.parent
    return [above if index == variables_of(above) and is_saved_model(above) else index]


def _is_table(index: Path) -> bool:
    with index.open("rb") as file:
        file.seek(max(0, index.stat().st_size - len(MAGIC)))
        return file.read(len(MAGIC)) == MAGIC


def _has_shards(index: Path) -> bool:
    prefix = index.name.removesuffix(INDEX)
    return any(_SHARD.fullmatch(each.name) for each in index.parent.glob(f"{_plain(prefix)}.data-*-of-*"))


def _plain(name: str) -> str:
    """Return a glob pattern that matches only this name."""
    return re.sub(r"([*?\[])", r"[\1]", name)


def _checkpoints(folder: Path) -> list[Path]:
    """Return the index of a folder's latest checkpoint, or all indexes if no file says which is the latest."""
    state = folder / _STATE
    if not state.is_file():
        return sorted(each for each in folder.glob(f"*{INDEX}") if _has_shards(each))
    with state.open("rb") as file:
        text = file.read(_STATE_BYTES).decode(errors="replace")
    stated = _LATEST.search(text)
    if stated is None:
        raise UnreadableFileError("names no checkpoint; pass the checkpoint itself", about=f"{folder.name}/{_STATE}")
    # In a folder that was moved, the file still has the old path.
    index = folder / (re.split(r"[/\\]", stated[1])[-1] + INDEX)
    if not index.is_file():
        raise UnreadableFileError(
            f"names {stated[1]!r}, and {index.name} is not beside it", about=f"{folder.name}/{_STATE}"
        )
    return [index]
