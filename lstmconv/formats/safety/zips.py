"""Open zip files whose directory can be trusted to mean one thing, and not to be a bomb itself."""

from __future__ import annotations

import zipfile

from lstmconv.errors import UnreadableFileError
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.safety.limits import ZIP_MEMBERS

__all__ = ["open_archive"]

_END = b"PK\x05\x06"
_LONGEST_END = 22 + 65535
_DIRECTORY_ENTRY = 46
"""APPNOTE.TXT 4.3.12 and 4.3.16: an entry's fixed part; the end record and its comment."""


def open_archive(file: MappedFile) -> zipfile.ZipFile:
    """Open a zip for reading.

    Raises:
        UnreadableFileError: It has more members than any model, or two of one name.
        zipfile.BadZipFile: It is damaged.
    """
    _refuse_many(file)
    archive = zipfile.ZipFile(file.stream())  # The caller closes it.
    names = archive.namelist()
    if len(set(names)) != len(names):
        archive.close()
        raise UnreadableFileError("a zip with two members of one name; damaged, or made to mislead", about=file.name)
    return archive


def _refuse_many(file: MappedFile) -> None:
    """Count the members before Python makes 600 bytes of each.

    An entry of the directory has 46 bytes at least, so that the directory's length bounds the number of members
    where the record lies about it; honest entries have their names too.
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
    if locator[:4] == b"PK\x06\x07":  # Zip64: the counts stand in a record of their own (4.3.14).
        start = int.from_bytes(locator[8:16], "little")
        record = file.content[start : start + 56].tobytes()
        count, length = (int.from_bytes(record[a:b], "little") for a, b in ((32, 40), (40, 48)))
    if count > most or length > 2 * _DIRECTORY_ENTRY * most:
        raise UnreadableFileError(f"a zip of {count:,} members; {ZIP_MEMBERS.way_out}", about=file.name)
