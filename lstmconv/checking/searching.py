"""Find the checkpoints that a folder stands for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from lstmconv.checking.file_cache import SUFFIXES, is_checkpoint
from lstmconv.errors import UsageError

__all__ = ["checkpoints_in"]


def checkpoints_in(paths: Sequence[Path]) -> list[Path]:
    """Return paths with the checkpoints in and below each folder in the folder's place, sorted; each once.

    A folder whose own name is a checkpoint's, such as an unpacked ``model.keras``, is one. Hidden folders (``.git``,
    ``.venv``) are not searched.

    Raises:
        UsageError: A folder has no checkpoint in it.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir() or is_checkpoint(path):
            found[path] = None
            continue
        inside = sorted(_below(path))
        if not inside:
            raise UsageError(f"{path}: no file in this folder is checked; expected {', '.join(SUFFIXES)}")
        found |= dict.fromkeys(inside)
    return list(found)


def _below(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        yield from (Path(root, name) for name in (*files, *folders) if is_checkpoint(Path(name)))
        folders[:] = [name for name in folders if not name.startswith(".") and not is_checkpoint(Path(name))]
