"""Name what lies in a checkpoint's place though it is none, whatever its suffix."""

from __future__ import annotations

from pathlib import Path

from lstmconv.errors import UnreadableFileError

__all__ = ["LFS_POINTER", "beginning"]

LFS_POINTER = b"version https://git-lfs"
"""git-lfs docs/spec.md, The Pointer: the first line of every pointer file."""


def beginning(path: Path) -> bytes:
    """Return a file's first 512 bytes, by which it is known; refuse one without content.

    Raises:
        UnreadableFileError: It is empty, or a Git LFS pointer, which only names the content.
    """
    with path.open("rb", buffering=0) as file:
        head = file.read(512)
    if not head:
        raise UnreadableFileError(f"{path.name}: the file is empty; restore or download it again")
    if head.startswith(LFS_POINTER):
        raise UnreadableFileError(f"{path.name}: a Git LFS pointer, not the file itself; run: git lfs pull")
    return head
