"""Find the checkpoints that a folder stands for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from lstmconv.checking.file_cache import SUFFIXES, holds_several, is_checkpoint
from lstmconv.errors import UsageError
from lstmconv.formats import place_of

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
        yield from _files_of(Path(root), files)
        yield from (Path(root, name) for name in folders if _is_one(Path(root, name)))
        folders[:] = [name for name in folders if not name.startswith(".") and not _is_one(Path(root, name))]


def _files_of(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Yield a folder's checkpoints: of several files that are one model one.

    In a folder that holds several models, a file stands for the one that is the folder itself.
    """
    known: set[Path] = set()
    for path in (folder / name for name in sorted(names)):
        place = place_of(path) if is_checkpoint(path) else None
        if place is not None and place not in known and place in (path, folder):
            known.add(place)
            yield path


def _is_one(path: Path) -> bool:
    """Whether a path is one checkpoint, and no more than a part of one: of several files one stands for all."""
    return is_checkpoint(path) and not holds_several(path) and place_of(path) == path
