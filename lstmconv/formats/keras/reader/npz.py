"""Read a file of ``np.savez``: ``model.get_weights()`` without names, or Keras' variables by their names.

Source: numpy/lib/_format_impl.py (2.4), Format Version 1.0 to 3.0: a magic text, a header that is a Python literal, the
numbers. Uncompressed members become views of the file; an object array is a pickle, which is never loaded.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Mapping

import numpy as np

from lstmconv.errors import LstmconvError, NoLSTMError, UnreadableFileError
from lstmconv.formats.hdf5.tree import StoredArray
from lstmconv.formats.mapped_file import MappedFile, stream_of
from lstmconv.formats.safety.zips import member_bytes, open_archive
from lstmconv.model import Array

__all__ = ["is_npz", "read_npz", "without_names"]

_ENDING = ".npy"
_MOST_HEADER_BYTES = 10_000
"""NumPy's own limit for the header of an untrusted file (``max_header_size``)."""
_UNNAMED = re.compile(r"arr_([0-9]{1,9})")
"""The names that ``np.savez`` gives unnamed arrays."""
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def is_npz(file: MappedFile) -> bool:
    """Whether a file is a zip that contains only arrays."""
    try:
        names = open_archive(file).namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    return bool(names) and all(name.endswith(_ENDING) for name in names)


def read_npz(file: MappedFile) -> dict[str, StoredArray]:
    """Return the arrays by name; unnamed arrays in the order in which they were passed to ``np.savez``.

    Raises:
        NoLSTMError: An array is a pickle.
        UnreadableFileError: The file is damaged, or a member claims more bytes than the file contains.
    """
    try:
        archive = open_archive(file)
        members = {
            entry.filename.removesuffix(_ENDING): member_bytes(file, archive, entry) for entry in archive.infolist()
        }
        found = {name: _array(name, content, file.name) for name, content in members.items()}
    except LstmconvError:
        raise
    except Exception as error:  # zipfile passes on errors of struct, zlib and the file; NumPy those of its parser.
        reason = str(error) or type(error).__name__
        raise UnreadableFileError(
            f"a damaged NumPy archive ({reason:.200}); restore or save it again", about=file.name
        ) from error
    if without_names(found):
        numbers = sorted(found, key=lambda name: int(name.removeprefix("arr_")))
        return {name: found[name] for name in numbers}
    return found


def without_names(arrays: Mapping[str, StoredArray]) -> bool:
    """Whether all arrays were passed to ``np.savez`` without names, and none is missing.

    >>> without_names({})
    True
    """
    numbers = {int(match[1]) for name in arrays if (match := _UNNAMED.fullmatch(name)) is not None}
    return numbers == set(range(len(arrays)))


def _array(name: str, content: Array, source: str) -> StoredArray:
    """Return a member as an array: a view, or a copy if its numbers have the other byte order.

    Raises:
        NoLSTMError: The member is a pickle.
        ValueError: The member is damaged.
    """
    stream = stream_of(content)
    header = _HEADERS.get(np.lib.format.read_magic(stream))
    if header is None:
        raise ValueError(f"'{name}' is of a version of NumPy's format that no weights need")
    shape, fortran, dtype = header(stream, max_header_size=_MOST_HEADER_BYTES)
    if dtype.hasobject:
        raise NoLSTMError(
            f"'{name}' is an array of objects, which are pickled and never loaded; if you trust the file, "
            "load it with allow_pickle=True and save the arrays themselves: np.savez(path, *arrays)",
            about=source,
        )
    size = math.prod(shape) * dtype.itemsize
    start = stream.tell()
    if any(axis < 0 for axis in shape) or content.nbytes - start != size or len(shape) > 32:
        raise ValueError(f"'{name}' holds {content.nbytes - start:,} bytes, expected {size:,} for {shape}")
    if dtype.kind not in "fiub" or not dtype.itemsize:
        return StoredArray(name, shape, dtype, {}, None, f"holds {dtype}, expected numbers")
    values: Array = content[start:].view(dtype).reshape(shape, order="F" if fortran else "C")
    native = dtype.newbyteorder("=")
    values = values if dtype == native else values.astype(native)
    values.flags.writeable = False
    return StoredArray(name, shape, native, {}, values)
