"""A state dict as ``.pt``: PyTorch's own zip, written without PyTorch.

Source: torch/serialization.py ``_save`` and caffe2/serialize/inline_container.cc (2.13): a zip of
stored records under one folder, ``data.pkl`` (protocol 2), ``byteorder``, ``data/0``, ``data/1``, ...
each aligned to 64 bytes by padding in its extra field, and ``version``. The pickle names nothing but
``collections.OrderedDict``, ``torch._utils._rebuild_tensor_v2`` and storage classes, so it loads with
``weights_only=True`` and with ``mmap=True``. Provenance is the record ``extra/lstmconv.json``, which
``torch.load`` passes over.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from lstmconv.errors import UnreadableFileError
from lstmconv.formats import WriteOptions
from lstmconv.formats.provenance import KEY, encoded, require_known
from lstmconv.formats.state_dict import NamedTensor, obstacle, tensors
from lstmconv.model import Array, Checkpoint, float_type

__all__ = ["PROVENANCE_RECORD", "obstacle", "read_state_dict", "write"]

_FOLDER = "archive"
PROVENANCE_RECORD = f"{_FOLDER}/extra/{KEY}.json"
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
        UnsupportedModelError: A layer does not fit ``nn.LSTM``, or its activations are unknown.
    """
    require_known(checkpoint)
    entries = tensors(checkpoint, options)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        _record(archive, "data.pkl", _pickle(entries))
        _record(archive, "byteorder", b"little")
        for index, entry in enumerate(entries):
            _record(archive, f"data/{index}", entry.materialise().tobytes())
        _record(archive, f"extra/{KEY}.json", encoded(checkpoint, options).encode())
        _record(archive, "version", b"3\n")
    return [path]


def _record(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Add one record whose content begins at a multiple of 64 bytes, dated as zip's epoch."""
    entry = zipfile.ZipInfo(f"{_FOLDER}/{name}")
    # Local header (30 bytes), name, then the extra field: id "FB", its length, padding.
    start = archive.fp.tell() + 30 + len(entry.filename.encode()) + 4  # type: ignore[union-attr]  # open for writing
    padding = -start % _ALIGNMENT
    entry.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    archive.writestr(entry, content)


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
        strides = (entry.shape[1], 1) if len(entry.shape) == 2 else (1,)
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


def read_state_dict(path: Path) -> dict[str, Array]:
    """Read a state dict without PyTorch, by an unpickler that knows tensors and calls nothing else.

    Raises:
        UnreadableFileError: It is no ``.pt`` zip, it is damaged, or its pickle names anything but
            tensors of plain numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            index = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            content = archive.read(index)
            _refuse_memo_bombs(content)
            found = _Tensors(archive, index.removesuffix("data.pkl"), content).load()
    except pickle.UnpicklingError as error:
        raise UnreadableFileError(f"{path.name}: not a plain state dict ({error}); nothing was executed") from error
    except Exception as error:  # Damage shows in as many kinds of error as zipfile, zlib and pickle have.
        raise UnreadableFileError(f"{path.name}: not a readable PyTorch file ({error!r})") from error
    if not isinstance(found, dict) or not all(isinstance(value, np.ndarray) for value in found.values()):
        raise UnreadableFileError(f"{path.name}: holds more than tensors by name, expected a state dict")
    return dict(found)


def _refuse_memo_bombs(content: bytes) -> None:
    """Refuse a memo index beyond the pickle's length: the unpickler allocates room up to that index."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "LONG_BINPUT") and isinstance(argument, int) and argument > len(content):
            raise pickle.UnpicklingError(f"memo index {argument:,} in a pickle of {len(content):,} bytes")


class _Tensors(pickle.Unpickler):
    """Unpickles tensors as arrays; every other name is refused before it is looked up."""

    def __init__(self, archive: zipfile.ZipFile, folder: str, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self._archive = archive
        self._folder = folder

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        storages = {storage: dtype for dtype, storage in _STORAGES.items()}
        if module == "torch" and name in storages:
            return storages[name]
        raise pickle.UnpicklingError(f"its pickle names {module}.{name}")

    def persistent_load(self, pid: Any) -> Array:
        kind, dtype, key, _location, count = pid
        if kind != "storage" or not str(key).isalnum():
            raise pickle.UnpicklingError(f"its pickle refers to {kind} {key!r}")
        content = self._archive.read(f"{self._folder}data/{key}")
        element = np.dtype(np.uint8) if dtype == "uint8" else float_type(dtype)
        return np.frombuffer(content, element, int(count))


def _rebuild(storage: Array, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Array:
    """See a storage as a tensor; offset and strides count elements."""
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    count = math.prod(size)
    if min(size, default=1) < 1 or min(stride, default=0) < 0 or offset < 0 or max(last + 1, count) > storage.size:
        raise pickle.UnpicklingError("a tensor reaches out of its storage")
    item = storage.dtype.itemsize
    return np.lib.stride_tricks.as_strided(storage[offset:], size, [step * item for step in stride], writeable=False)
