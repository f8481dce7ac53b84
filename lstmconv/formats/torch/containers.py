"""The containers that PyTorch writes: an object, and the bytes of its storages.

Sources: torch/serialization.py ``_save``, ``_load``, ``_legacy_save`` and ``_legacy_load`` (2.13).
"""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping

from lstmconv.formats.mapped_file import MappedFile, stream_of
from lstmconv.formats.safety.limits import PICKLE_BYTES
from lstmconv.formats.torch.allowed_globals import Foreign, Pairs, Refused, Storage, shown
from lstmconv.formats.torch.archive import Archive, Container
from lstmconv.formats.torch.exported import open_exported
from lstmconv.formats.torch.unpickler import load
from lstmconv.model import Array

__all__ = ["open_legacy", "open_zip"]

_PROVENANCE = "extra/lstmconv.json"
_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # torch/serialization.py MAGIC_NUMBER
_PROTOCOL_VERSION = 1001  # torch/serialization.py PROTOCOL_VERSION
_ZIP_VERSIONS = range(1, 11)
"""caffe2/serialize/versions.h: kMinSupportedFileFormatVersion to kMaxSupportedFileFormatVersion."""


def open_zip(file: MappedFile) -> Container:
    """Open a zip, as torch writes it since 1.6: an object, TorchScript, or what torch.export saved.

    Raises:
        Refused: It is another zip, or a damaged one.
    """
    archive = Archive.open(file)
    if "archive_format" in archive.records:
        return open_exported(archive, file.name)
    version = (archive.text("version") or "3").strip()
    if not (version.isascii() and version.isdigit() and int(version[:9]) in _ZIP_VERSIONS):
        raise Refused(f"version {shown(version, 20)!r} of PyTorch's zip, expected 1 to {_ZIP_VERSIONS[-1]}")
    order = archive.text("byteorder") or "little"
    if order not in ("little", "big"):
        raise Refused(f"the byte order {shown(order, 20)!r}, expected 'little' or 'big'; the file is damaged")
    pickled = load(io.BytesIO(archive.bytes("data.pkl", PICKLE_BYTES.value).tobytes()))
    scripted = archive.scripted
    return Container(
        pickled,
        archive.storage,
        order != sys.byteorder,
        archive.text(_PROVENANCE),
        "TorchScript archive" if scripted else "PyTorch zip",
        scripted,
    )


def open_legacy(file: MappedFile) -> Container:
    """Open five pickles and the storages behind them, as torch wrote before 1.6.

    Numbers are little-endian in every such file (torch/csrc/serialization.cpp
    ``THPStorage_writeFileRaw``), but a machine of the other order wrote the counts in its own.

    Raises:
        Refused: It is another pickle, or a damaged file.
    """
    pickles = stream_of(file.content[: PICKLE_BYTES.value])
    if load(pickles).value != _MAGIC_NUMBER:
        raise Foreign("a plain pickle, not what torch.save writes; nothing was executed; use torch.save")
    if load(pickles).value != _PROTOCOL_VERSION:
        raise Refused(f"a PyTorch file of unknown protocol, expected {_PROTOCOL_VERSION}; save it again")
    facts = load(pickles).value
    if not isinstance(facts, Pairs) or ("little_endian", True) not in facts.pairs:
        raise Refused("written on a big-endian machine in torch's old format; save it with torch 1.6 or later")
    pickled, keys = load(pickles), load(pickles).value
    start = pickles.tell()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise Refused("no list of storages behind the object; the file is damaged")
    storages = _storages_behind(file.content[start:], [str(key) for key in keys], pickled.storages)
    return Container(
        pickled, lambda storage: storages[storage.key], sys.byteorder == "big", None, "PyTorch file from before 1.6"
    )


def _storages_behind(content: Array, keys: list[str], storages: Mapping[str, Storage]) -> dict[str, Array]:
    """Cut the storages apart: for each key an int64 count of elements, and their bytes.

    The elements are those of the type that names the key first, as ``_legacy_save`` has it.
    """
    if len(set(keys)) != len(keys) or {*keys} != {*storages}:
        raise Refused(f"lists {len(keys)} storages where its tensors have {len(storages)}; the file is damaged")
    found: dict[str, Array] = {}
    for key in keys:
        count, content = content[:8].tobytes(), content[8:]
        expected = storages[key]
        if len(count) != 8 or int.from_bytes(count, "little", signed=True) != expected.whole:
            stated = f"{int.from_bytes(count, 'little', signed=True):,}" if len(count) == 8 else "no"
            raise Refused(f"a storage of {stated} elements, expected {expected.whole:,}; the file is damaged")
        length = expected.whole * expected.dtype.itemsize
        if content.size < length:
            raise Refused("its last storage is cut off; restore or download the file again")
        found[key], content = content[:length], content[length:]
    return found
