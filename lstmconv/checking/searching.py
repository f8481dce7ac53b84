"""Find the checkpoints that a folder stands for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from lstmconv.checking.file_cache import SUFFIXES, is_checkpoint, place_of
from lstmconv.errors import UsageError

__all__ = ["checkpoints_in"]


def checkpoints_in(paths: Sequence[Path]) -> list[Path]:
    """Return paths with the checkpoints in and below each folder in the folder's place, sorted; each once.

    An unpacked ``model.keras`` and a SavedModel are one each. Hidden folders (``.git``, ``.venv``) are not searched.

    Raises:
        UsageError: A folder has no checkpoint in it.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir() or _is_one(path):
            found[path] = None
            continue
        inside = sorted(_below(path))
        if not inside:
            raise UsageError(f"{path}: no file in this folder is checked; expected {', '.join(SUFFIXES)}")
        found |= dict.fromkeys(inside)
    return list(found)


def _below(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        yield from (Path(root, name) for name in (*files, *folders) if _is_one(Path(root, name)))
        folders[:] = [name for name in folders if not name.startswith(".") and not _is_one(Path(root, name))]


def _is_one(path: Path) -> bool:
    """Whether a path is a checkpoint, and no more than a part of one: of several files one stands for all."""
    return is_checkpoint(path) and place_of(path) == path
