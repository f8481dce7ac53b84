"""The members of a ``.keras`` zip (Keras 2.11 and later): the HDF5 body mapped where it is stored, JSON texts whole."""

from __future__ import annotations

import struct
import zipfile

import numpy as np

from lstmconv.errors import ForeignFileError, LstmconvError, UnreadableFileError
from lstmconv.formats.hdf5.tree import Group, read_tree
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.safety.limits import INFLATION, JSON_BYTES, allowed_inflation
from lstmconv.formats.safety.zips import open_archive
from lstmconv.model import Array

__all__ = ["read_archive"]

_TEXTS = ("config.json", "metadata.json")


def read_archive(file: MappedFile) -> tuple[Group, dict[str, bytes]]:
    """Return the tree of weights, and the texts that are there, by name.

    Raises:
        UnreadableFileError: It is damaged, no Keras file, or a member claims too much.
    """
    try:
        with open_archive(file) as archive:
            names = archive.namelist()
            body = next((name for name in ("model.weights.h5", "variables.h5") if name in names), None)
            if body is None:
                raise _no_body(file.name, names)
            tree = read_tree(_member(file, archive, archive.getinfo(body)), f"{file.name}:{body}")
            most = JSON_BYTES.value
            texts = {
                name: _inflate(file.name, archive, archive.getinfo(name), most) for name in _TEXTS if name in names
            }
    except LstmconvError:
        raise
    except Exception as error:  # zipfile raises what struct, zlib and the file raise, EOFError among it.
        reason = str(error) or type(error).__name__
        raise UnreadableFileError(
            f"damaged zip file ({reason}); restore or download it again", about=file.name
        ) from error
    return tree, texts


def _no_body(name: str, names: list[str]) -> UnreadableFileError:
    if "model.weights.npz" in names:
        return ForeignFileError(
            "its weights are pickled (model.weights.npz), which is never loaded; "
            "save it again with Keras as .keras in the default format",
            about=name,
        )
    if any(entry.endswith("data.pkl") for entry in names):
        return UnreadableFileError("a PyTorch file, expected a Keras one", about=name)
    return UnreadableFileError("a zip without model.weights.h5, expected a .keras file", about=name)


def _member(file: MappedFile, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    """Return a member's bytes: a memory map where it is stored, inflated where it is not."""
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        return np.frombuffer(_inflate(file.name, archive, member), np.uint8)
    # APPNOTE.TXT 4.3.7: a 30-byte local header, then the name and the extra field.
    header = struct.unpack("<4s5H3I2H", file.content[member.header_offset : member.header_offset + 30].tobytes())
    if header[0] != b"PK\x03\x04":
        raise zipfile.BadZipFile(f"no local header for {member.filename}")
    start = member.header_offset + 30 + header[-2] + header[-1]
    if start + member.file_size > file.size:
        raise zipfile.BadZipFile(f"{member.filename} is cut off")
    return file.content[start : start + member.file_size]


def _inflate(name: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit: int | None = None) -> bytes:
    """Return a member's content, and no more of it than the zip's directory says."""
    if limit is not None and member.file_size > limit:
        raise UnreadableFileError(f"{member.filename} has {member.file_size:,} bytes; {JSON_BYTES.way_out}", about=name)
    if member.file_size > allowed_inflation(member.compress_size):
        raise UnreadableFileError(
            f"{member.filename} would inflate from {member.compress_size:,} to {member.file_size:,} bytes; "
            f"{INFLATION.way_out}",
            about=name,
        )
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # Their decompressors take as much memory as the data says, before anything comes out.
        raise UnreadableFileError(f"{member.filename} is compressed by method {member.compress_type}", about=name)
    with archive.open(member) as opened:
        content = opened.read(member.file_size + 1)
    if len(content) != member.file_size:
        raise UnreadableFileError(
            f"{member.filename} has other than the {member.file_size:,} bytes it claims", about=name
        )
    return content
