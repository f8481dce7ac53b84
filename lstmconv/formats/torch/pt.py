"""A state dict as ``.pt``: PyTorch's own zip, written without PyTorch.

Source: torch/serialization.py ``_save`` and caffe2/serialize/inline_container.cc (2.13): a zip of
stored records under one folder, ``data.pkl`` (protocol 2), ``byteorder``, ``data/0``, ``data/1``, ...
each aligned to 64 bytes by padding in its extra field, and ``version``. The pickle names nothing but
``collections.OrderedDict``, ``torch._utils._rebuild_tensor_v2`` and storage classes, so it loads with
``weights_only=True`` and with ``mmap=True``. The record is ``extra/lstmconv.json``, which
``torch.load`` passes over.
"""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from lstmconv.formats.format import Opened
from lstmconv.formats.hashing import hashing
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.options import ReadOptions, WriteOptions
from lstmconv.formats.record import KEY, encode, parse_record
from lstmconv.formats.tensors import NamedTensor
from lstmconv.formats.torch.state_dict import losses, obstacle, terms
from lstmconv.formats.torch.usage import usage
from lstmconv.formats.torch.whole import obstacle_of_model, tensors_to_write
from lstmconv.model import Checkpoint, Provenance

__all__ = ["losses", "obstacle", "obstacle_of_model", "open_file", "terms", "usage", "write"]

_FOLDER = "archive"
_ALIGNMENT = 64
_STORAGES = {
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "uint8": "ByteStorage",
}


def write(checkpoint: Checkpoint, path: Path, options: WriteOptions) -> list[Path]:
    """Write a plain state dict that ``torch.load(path, weights_only=True)`` returns.

    Raises:
        UnsupportedModelError: A layer does not fit ``nn.LSTM``, its activations are unknown, or a whole model is asked
            for and the checkpoint has none.
    """
    entries = tensors_to_write(checkpoint, options)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "data.pkl", _pickle(entries))
        _add(archive, "byteorder", b"little")
        for index, entry in enumerate(entries):
            _record(archive, f"data/{index}", entry.slabs(), entry.nbytes)
        _add(archive, f"extra/{KEY}.json", encode(checkpoint, options).encode())
        _add(archive, "version", b"3\n")
    return [path]


def open_file(file: MappedFile, options: ReadOptions) -> Opened:
    """Open a state dict, or modules; LSTMs may lie under any prefix, also inside a larger checkpoint.

    Raises:
        UnreadableFileError: It is no state dict, it is damaged, or its pickle names more than tensors.
    """
    from lstmconv.formats.keras.reader.read import checkpoint_of
    from lstmconv.formats.torch.keras_variables import holds_keras_variables, keras_file
    from lstmconv.formats.torch.parameters import read_parameters
    from lstmconv.formats.torch.tensors_by_name import read_tensors

    content = read_tensors(file)
    record = parse_record(content.record)
    origin = Provenance(file.name, hashing(file), "PyTorch state dict")

    def interpret() -> Checkpoint:
        if record is None and holds_keras_variables(content.tensors):
            return checkpoint_of(keras_file(content.tensors, file), options)
        checkpoint = read_parameters(content.tensors, origin, record, options, content.modules, content.unread)
        return replace(checkpoint, notes=(*content.notes, *checkpoint.notes))

    return Opened(record, content.tensors, interpret)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    _record(archive, name, [content], len(content))


def _record(archive: zipfile.ZipFile, name: str, content: Iterable[bytes | memoryview], size: int) -> None:
    """Add one record whose content begins at a multiple of 64 bytes, dated as zip's epoch."""
    entry = zipfile.ZipInfo(f"{_FOLDER}/{name}")
    entry.file_size = size
    # Local header (30 bytes), name, then the extra field: id "FB", its length, padding; zip64 sizes go before it
    # where zipfile writes them (it allows for 5 % of growth).
    zip64 = 20 if size * 1.05 > zipfile.ZIP64_LIMIT else 0
    start = archive.fp.tell() + 30 + len(entry.filename.encode()) + zip64 + 4  # type: ignore[union-attr]  # open for writing
    padding = -start % _ALIGNMENT
    entry.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    with archive.open(entry, "w") as record:
        for part in content:
            record.write(part)


def _text(value: str) -> bytes:
    content = value.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def _integer(value: int) -> bytes:
    if value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    content = value.to_bytes(9, "little")
    return b"\x8a" + bytes([len(content)]) + content


def _tuple(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_integer, values)) + b"t"


def _pickle(entries: list[NamedTensor]) -> bytes:
    """Write the pickle of an ``OrderedDict`` of tensors, opcode by opcode (pickletools names them)."""
    empty_dict = b"ccollections\nOrderedDict\n)R"
    out = [b"\x80\x02", empty_dict, b"("]
    for index, entry in enumerate(entries):
        count = math.prod(entry.shape)
        strides = tuple(math.prod(entry.shape[axis + 1 :]) for axis in range(len(entry.shape)))
        storage = _STORAGES[entry.dtype.name]
        out += [
            _text(entry.name),
            b"ctorch._utils\n_rebuild_tensor_v2\n(",
            b"(" + _text("storage") + f"ctorch\n{storage}\n".encode(),
            _text(str(index)) + _text("cpu") + _integer(count) + b"tQ",
            _integer(0) + _tuple(entry.shape) + _tuple(strides) + b"\x89" + empty_dict,
            b"tR",
        ]
    return b"".join([*out, b"u."])
