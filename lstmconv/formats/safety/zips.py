"""Open zip files, and refuse ambiguous directories, too many members, and members that inflate too much."""

from __future__ import annotations

import struct
import zipfile

import numpy as np

from lstmconv.errors import UnreadableFileError
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.safety.limits import INFLATION, JSON_BYTES, ZIP_MEMBERS, allowed_inflation
from lstmconv.model import Array

__all__ = ["inflated", "member_bytes", "open_archive"]

_END = b"PK\x05\x06"
_LONGEST_END = 22 + 65535
_DIRECTORY_ENTRY = 46
"""APPNOTE.TXT 4.3.12 and 4.3.16: the size of an entry's fixed part, and of the end record with its comment."""


def open_archive(file: MappedFile) -> zipfile.ZipFile:
    """Return a file as a zip. Its directory is read once; it uses the map of the file and need not be closed.

    Raises:
        UnreadableFileError: The zip has too many members, or two members with the same name.
        zipfile.BadZipFile: The zip is damaged.
    """
    return file.once(_opened)


def _opened(file: MappedFile) -> zipfile.ZipFile:
    _refuse_many(file)
    archive = zipfile.ZipFile(file.stream())
    names = archive.namelist()
    if len(set(names)) != len(names):
        raise UnreadableFileError("a zip with two members of one name; damaged, or made to mislead", about=file.name)
    return archive


def _refuse_many(file: MappedFile) -> None:
    """Check the number of members before Python takes 600 bytes of memory for each.

    An entry of the directory has at least 46 bytes, so the directory's length limits the number of members even if the
    end record states a wrong number. Real entries are longer, because they contain names.
    """
    most = ZIP_MEMBERS.value
    if file.size < _DIRECTORY_ENTRY * most:
        return
    tail = file.content[-_LONGEST_END:].tobytes()
    end = tail.rfind(_END)
    if end < 0 or len(tail) < end + 22:
        return
    count = int.from_bytes(tail[end + 10 : end + 12], "little")
    length = int.from_bytes(tail[end + 12 : end + 16], "little")
    locator = tail[end - 20 : end] if end >= 20 else b""
    if locator[:4] == b"PK\x06\x07":  # Zip64: a separate record has the counts (4.3.14).
        start = int.from_bytes(locator[8:16], "little")
        record = file.content[start : start + 56].tobytes()
        count, length = (int.from_bytes(record[a:b], "little") for a, b in ((32, 40), (40, 48)))
    if count > most or length > 2 * _DIRECTORY_ENTRY * most:
        raise UnreadableFileError(f"a zip of {count:,} members; {ZIP_MEMBERS.way_out}", about=file.name)


def member_bytes(file: MappedFile, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    """Return a member's bytes: a view of the memory map if it is uncompressed, else the inflated bytes."""
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        return np.frombuffer(inflated(file.name, archive, member), np.uint8)
    # APPNOTE.TXT 4.3.7: a 30-byte local header, then the name and the extra field.
    header = struct.unpack("<4s5H3I2H", file.content[member.header_offset : member.header_offset + 30].tobytes())
    if header[0] != b"PK\x03\x04":
        raise zipfile.BadZipFile(f"no local header for {member.filename}")
    start = member.header_offset + 30 + header[-2] + header[-1]
    if start + member.file_size > file.size:
        raise zipfile.BadZipFile(f"{member.filename} is cut off")
    return file.content[start : start + member.file_size]


def inflated(name: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit: int | None = None) -> bytes:
    """Return a member's content; refuse one whose size is over the limits or differs from the zip's directory."""
    if limit is not None and member.file_size > limit:
        raise UnreadableFileError(f"{member.filename} has {member.file_size:,} bytes; {JSON_BYTES.way_out}", about=name)
    if member.file_size > allowed_inflation(member.compress_size):
        raise UnreadableFileError(
            f"{member.filename} would inflate from {member.compress_size:,} to {member.file_size:,} bytes; "
            f"{INFLATION.way_out}",
            about=name,
        )
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # Other decompressors allocate as much memory as the data claims, before they return anything.
        raise UnreadableFileError(f"{member.filename} is compressed by method {member.compress_type}", about=name)
    with archive.open(member) as opened:
        content = opened.read(member.file_size + 1)
    if len(content) != member.file_size:
        raise UnreadableFileError(
            f"{member.filename} has other than the {member.file_size:,} bytes it claims", about=name
        )
    return content
