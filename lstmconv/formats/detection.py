"""Tell what a file is by its content; suffixes decide only where the content cannot.

Each function belongs to one format's row. A function that must look into a file imports what it needs for that: HDF5
files need none of it.
"""

from __future__ import annotations

from lstmconv.errors import UnreadableFileError
from lstmconv.formats.format import Beginning

__all__ = ["always", "is_cudnn", "is_onnx", "is_safetensors", "is_torch", "never"]

_HEADER_BYTES = 100_000_000
"""safetensors' own limit for its header."""
_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"


def always(found: Beginning) -> bool:
    """Take what no other format recognises."""
    return True


def never(found: Beginning) -> bool:
    """Recognise nothing: another format reads these files too, and tells them apart by their layers."""
    return False


def is_torch(found: Beginning) -> bool:
    """Recognise what ``torch.save`` writes; the pickles of PyTorch before 1.6 begin with their protocol, 2."""
    if found.head.startswith(_ZIP):
        return _is_torch_zip(found)
    if found.head.startswith(b"\x80\x02"):
        return True
    return _is_unmarked(found) and found.path.name.lower().endswith((".pt", ".pth"))


def is_safetensors(found: Beginning) -> bool:
    """Recognise a safetensors header: its length in eight bytes, then a JSON object."""
    return _has_header(found) or (_is_unmarked(found) and found.path.name.lower().endswith(".safetensors"))


def is_cudnn(found: Beginning) -> bool:
    """Recognise a weight space by the manifest in its safetensors header, a bare one by its suffix."""
    if _has_header(found):
        return _has_manifest(found)
    return _is_unmarked(found) and found.path.name.lower().endswith(".bin")


def is_onnx(found: Beginning) -> bool:
    """Recognise an ONNX model by its suffix: a Protocol Buffers message begins with nothing of its own."""
    return _is_unmarked(found) and found.path.name.lower().endswith(".onnx")


def _is_unmarked(found: Beginning) -> bool:
    """Whether a file begins with nothing that tells its format."""
    marked = found.head.startswith((_HDF5, _ZIP, b"\x80\x02"))
    return bool(found.head) and not marked and not _has_header(found)


def _has_header(found: Beginning) -> bool:
    size = int.from_bytes(found.head[:8], "little")
    return found.head[8:9] == b"{" and size < min(found.path.stat().st_size, _HEADER_BYTES)


def _is_torch_zip(found: Beginning) -> bool:
    import zipfile

    from lstmconv.formats.safety.zips import open_archive

    try:
        with open_archive(found.path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return found.path.name.lower().endswith((".pt", ".pth"))
    return any(name.endswith("data.pkl") or "/code/" in name for name in names)


def _has_manifest(found: Beginning) -> bool:
    from lstmconv.formats.cudnn import CUDNN_KEY
    from lstmconv.formats.torch.safetensors import read_header

    try:
        metadata = read_header(found.path)[1].get("__metadata__")
    except UnreadableFileError:  # The safetensors reader says what is wrong with it.
        return False
    return isinstance(metadata, dict) and CUDNN_KEY in metadata
