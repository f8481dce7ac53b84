"""Name what lies in a checkpoint's place though it is none, whatever its suffix."""

from __future__ import annotations

from pathlib import Path

from lstmconv.errors import UnreadableFileError

__all__ = ["LFS_POINTER", "refuse_hollow"]

LFS_POINTER = b"version https://git-lfs"
"""git-lfs docs/spec.md, The Pointer: the first line of every pointer file."""


def refuse_hollow(path: Path) -> None:
    """Refuse a file without content, and a Git LFS pointer, which only names it.

    Raises:
        UnreadableFileError: It is one of these.
    """
    with path.open("rb") as file:
        head = file.read(len(LFS_POINTER))
    if not head:
        raise UnreadableFileError(f"{path.name}: the file is empty; restore or download it again")
    if head == LFS_POINTER:
        raise UnreadableFileError(f"{path.name}: a Git LFS pointer, not the file itself; run: git lfs pull")
