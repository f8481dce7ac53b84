"""A container that PyTorch wrote, and the zips among them: their records by name, over the map of the file.

Sources: torch/serialization.py ``_save`` and ``_load``, caffe2/serialize/inline_container.cc (2.13).
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.safety.limits import INFLATION, PICKLE_BYTES, allowed_inflation
from lstmconv.formats.safety.zips import open_archive
from lstmconv.formats.torch.allowed_globals import Foreign, Refused, Storage, shown
from lstmconv.formats.torch.pickled_modules import PickledModule
from lstmconv.formats.torch.unpickler import Pickled
from lstmconv.listing import listed
from lstmconv.model import Array

__all__ = ["Archive", "Container"]


@dataclass(frozen=True, eq=False)
class Container:
    """An object as its pickle describes it, and where its numbers are.

    Attributes:
        pickled: The object.
        bytes_of: Returns the bytes ``(bytes,)`` of a whole storage, or raises ``Refused``.
        swapped: Whether numbers stand in the order that this machine has not.
        record: The text of ``extra/lstmconv.json``; ``None`` if there is none.
        description: Which container it is.
        scripted: Whether it is TorchScript's.
        modules: The modules of its tensors by their prefixes, where its pickle has no modules.
    """

    pickled: Pickled
    bytes_of: Callable[[Storage], Array]
    swapped: bool
    record: str | None
    description: str
    scripted: bool = False
    modules: Mapping[str, PickledModule] = field(default_factory=dict)
    _turned: dict[tuple[str, int], Array] = field(default_factory=dict)

    def in_order(self, storage: Storage, dtype: np.dtype[Any]) -> Array:
        """Return a whole storage's bytes ``(bytes,)`` in this machine's order for numbers of a type."""
        content = self.bytes_of(storage)
        width = dtype.itemsize // 2 if dtype.kind == "c" else dtype.itemsize
        if not self.swapped or width == 1:
            return content
        if (storage.key, width) not in self._turned:
            turned = content.copy()
            numbers = turned[: turned.size - turned.size % width].view(f"u{width}")
            numbers.byteswap(inplace=True)
            turned.setflags(write=False)
            self._turned[storage.key, width] = turned
        return self._turned[storage.key, width]


@dataclass
class Archive:
    """The records of a zip by their name without the folder, over a memory map of the whole file."""

    content: Array
    records: Mapping[str, zipfile.ZipInfo]
    inflated: int = 0
    storages: dict[str, Array] = field(default_factory=dict)

    @property
    def scripted(self) -> bool:
        """Whether it is a TorchScript archive (torch/serialization.py ``_is_torchscript_zip``)."""
        return "constants.pkl" in self.records or any(name.startswith("code/") for name in self.records)

    @classmethod
    def open(cls, file: MappedFile) -> Archive:
        """Read the directory of records and find torch's folder in it."""
        entries = [entry for entry in open_archive(file).infolist() if not entry.is_dir()]
        names = [entry.filename for entry in entries]
        for name in names:
            if ".." in name.split("/") or name.startswith("/") or "\\" in name:
                raise Refused(f"a zip with the record {shown(name)!r}, which leads out of it; nothing was read")
        folder = _folder(names)
        records = {entry.filename.removeprefix(folder): entry for entry in entries if entry.filename.startswith(folder)}
        return cls(file.content, records)

    def text(self, name: str) -> str | None:
        """Return a record as text; ``None`` if there is none."""
        return self.bytes(name, PICKLE_BYTES.value).tobytes().decode() if name in self.records else None

    def storage(self, storage: Storage, folder: str = "data/") -> Array:
        """Return a storage's bytes ``(bytes,)``."""
        name = f"{folder}{storage.key}"
        if name not in self.records:
            raise Refused(f"the record {shown(name)!r} is missing; the file is damaged, or shortened")
        if name not in self.storages:
            self.storages[name] = self.bytes(name, None)
        return self.storages[name]

    def bytes(self, name: str, limit: int | None) -> Array:
        """Return a record's bytes ``(bytes,)``: a view of the file where they are stored, else inflated.

        The place comes from the record's own header (APPNOTE.TXT 4.3.7: 30 bytes, the name, the extra field).
        """
        entry = self.records[name]
        if limit is not None and entry.file_size > limit:
            raise Refused(
                f"{name} has {entry.file_size:,} bytes, expected at most {limit:,}; save the state dict alone, or, "
                f"{PICKLE_BYTES.way_out}"
            )
        header = self.content[entry.header_offset : entry.header_offset + 30].tobytes()
        signature, _, flags, *_, name_length, extra_length = struct.unpack("<4s5H3I2H", header)
        start = entry.header_offset + 30 + name_length + extra_length
        stored_name = self.content[entry.header_offset + 30 : entry.header_offset + 30 + name_length].tobytes()
        if signature != b"PK\x03\x04" or stored_name != entry.orig_filename.encode(
            "utf-8" if flags & 0x800 else "cp437"
        ):
            raise Refused(f"no record {shown(name)!r} where the zip's directory says it is; the file is damaged")
        if (entry.flag_bits | flags) & 1:
            raise Refused(f"the record {shown(name)!r} is encrypted, expected what torch.save writes")
        packed = self.content[start : start + entry.compress_size]
        if packed.size != entry.compress_size:
            raise Refused(f"the record {shown(name)!r} is cut off; restore or download the file again")
        if entry.compress_type == zipfile.ZIP_STORED:
            if entry.file_size != entry.compress_size:
                raise Refused(f"the record {shown(name)!r} has two sizes; the file is damaged")
            return packed
        return self.inflate(entry, packed)

    def inflate(self, entry: zipfile.ZipInfo, packed: Array) -> Array:
        """Inflate a record that a zip program compressed again, and no further than it says."""
        name = shown(entry.filename)
        if entry.compress_type != zipfile.ZIP_DEFLATED:
            raise Refused(f"the record {name!r} is compressed by method {entry.compress_type}, expected stored ones")
        self.inflated += entry.file_size
        if self.inflated > allowed_inflation(self.content.size):
            raise Refused(
                f"the record {name!r} would inflate from {entry.compress_size:,} to {entry.file_size:,} bytes; "
                f"unzip the file and zip it without compression, or, {INFLATION.way_out}"
            )
        content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed.tobytes(), entry.file_size + 1)
        if len(content) != entry.file_size or zlib.crc32(content) != entry.CRC:
            raise Refused(f"the record {name!r} is damaged; restore or download the file again")
        return np.frombuffer(content, np.uint8)


def _folder(names: list[str]) -> str:
    """Return the folder of ``data.pkl`` or ``archive_format`` with its slash, or say what else the zip is.

    torch.export has ``archive_format`` in its folder (torch/export/pt2_archive, 2.8 to 2.13), and before that
    ``serialized_exported_program.json`` (torch/export/__init__.py); torch.package ``.data/extern_modules``.
    """
    inner = {name.partition("/")[2] for name in names}
    if {"serialized_exported_program.json"} & {*inner, *names}:
        raise Foreign(
            "a torch.export archive of torch before 2.8; "
            "save its weights with torch.save(torch.export.load(path).state_dict, ...)"
        )
    if ".data/extern_modules" in inner:
        raise Foreign("a torch.package archive; save module.state_dict() with torch.save")
    folders = {
        name[: -len(mark)]
        for mark in ("data.pkl", "archive_format")
        for name in names
        if name.count("/") == 1 and name.endswith(f"/{mark}")
    }
    if len(folders) > 1:
        raise Refused(f"a zip with {len(folders)} folders that have a data.pkl, expected one")
    if not folders:
        found = listed([repr(shown(name, 40)) for name in names], 3) or "nothing"
        raise Foreign(f"a zip without data.pkl in a folder (it holds {found}), expected what torch.save writes")
    return folders.pop()
