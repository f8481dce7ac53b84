"""Tell what a file is by its content; suffixes decide only where the content cannot.

What tells one kind of file from another is loaded for files that may be of it: an HDF5 file needs none of it.
"""

from __future__ import annotations

from pathlib import Path

from lstmconv.errors import UnreadableFileError
from lstmconv.formats import Format, ReadOptions, by_name
from lstmconv.formats.safety.lookalikes import beginning

__all__ = ["detect"]

_HEADER_BYTES = 100_000_000
"""safetensors' own limit for its header."""


def detect(path: Path, options: ReadOptions) -> Format:
    """Return the format of a file.

    What is recognised as nothing else is left to the Keras reader, which says what it found.

    Raises:
        UnreadableFileError: There is no such file, it is empty, or it is a Git LFS pointer.
    """
    if path.is_dir():
        return by_name("keras")
    if not path.exists():
        raise UnreadableFileError(f"{path}: no such file")
    if options.buffer is not None:
        return by_name("cudnn")
    head = beginning(path)
    name = path.name.lower()
    if head.startswith(b"PK\x03\x04"):
        return by_name("torch" if _is_torch_zip(path) else "keras")
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return by_name("keras")
    if head.startswith(b"\x80\x02"):  # The pickles of PyTorch before 1.6 begin so.
        return by_name("torch")
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < min(path.stat().st_size, _HEADER_BYTES):
        return by_name("cudnn" if _has_manifest(path) else "safetensors")
    if name.endswith(".onnx"):
        return by_name("onnx")
    if name.endswith(".bin"):
        return by_name("cudnn")
    if name.endswith((".pt", ".pth")):
        return by_name("torch")
    return by_name("safetensors" if name.endswith(".safetensors") else "keras")


def _is_torch_zip(path: Path) -> bool:
    import zipfile

    from lstmconv.formats.safety.zips import open_archive

    try:
        with open_archive(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return path.name.lower().endswith((".pt", ".pth"))
    return any(name.endswith("data.pkl") or "/code/" in name for name in names)


def _has_manifest(path: Path) -> bool:
    from lstmconv.formats.cudnn import CUDNN_KEY
    from lstmconv.formats.torch.safetensors import read_header

    try:
        metadata = read_header(path)[1].get("__metadata__")
    except UnreadableFileError:  # The safetensors reader says what is wrong with it.
        return False
    return isinstance(metadata, dict) and CUDNN_KEY in metadata
