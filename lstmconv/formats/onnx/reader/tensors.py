"""Stored tensors as arrays: views of the message's bytes, or of a file beside it, bit for bit.

Source: onnx.proto, TensorProto: raw_data is fixed-width and little-endian; without it float_data holds
FLOAT, double_data DOUBLE, int64_data INT64, uint64_data UINT32 and UINT64, and int32_data all narrower
types, FLOAT16 and BFLOAT16 as their bits. ExternalData.md: location (relative to the model), offset and
length, in bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np

from lstmconv.errors import UnreadableFileError, UnsupportedModelError
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.model import Array, float_type

if TYPE_CHECKING:
    import onnx

__all__ = ["Tensors"]

_BFLOAT16 = 16
_TYPES: dict[int, tuple[str, str]] = {
    # TensorProto.DataType: (the type of one element in raw_data, the field that holds it otherwise).
    1: ("<f4", "float_data"),
    2: ("<u1", "int32_data"),
    3: ("<i1", "int32_data"),
    4: ("<u2", "int32_data"),
    5: ("<i2", "int32_data"),
    6: ("<i4", "int32_data"),
    7: ("<i8", "int64_data"),
    9: ("<u1", "int32_data"),  # BOOL
    10: ("<f2", "int32_data"),
    11: ("<f8", "double_data"),
    12: ("<u4", "uint64_data"),
    13: ("<u8", "uint64_data"),
    _BFLOAT16: ("<u2", "int32_data"),
}
_BOOL = 9
_MOST_DIMENSIONS = 32  # What every NumPy can hold (NumPy 1: 32, NumPy 2: 64).
_EXTERNAL = 1  # TensorProto.DataLocation.EXTERNAL


@dataclass(frozen=True)
class Tensors:
    """Turns the tensors of one model into arrays.

    Attributes:
        file: The model's name, for errors.
        folder: Where the model lies; ``None`` for a model in memory, which has no files beside it.
        opened: The files that weights lie in, by location: those beside the model that were opened, and
            :data:`~lstmconv.formats.onnx.reader.parse_lazily.OWN`.
    """

    file: str
    folder: Path | None
    opened: dict[str, MappedFile] = field(default_factory=dict)

    @property
    def beside(self) -> int:
        """Bytes of these files."""
        return sum(file.size for file in self.opened.values())

    def array(self, tensor: onnx.TensorProto) -> Array:
        """Return a tensor's elements, read-only, in its shape.

        Raises:
            UnsupportedModelError: Its type is none of the numbers that weights and shapes are made of.
            UnreadableFileError: Its bytes and its shape do not fit, or they lie where nothing is followed.
        """
        name = tensor.name or "a constant"
        if tensor.data_type not in _TYPES:
            raise UnsupportedModelError(f"'{name}' is of the ONNX data type {tensor.data_type}", about=self.file)
        code, kept_in = _TYPES[tensor.data_type]
        dtype = np.dtype(code)
        shape = tuple(tensor.dims)
        if len(shape) > _MOST_DIMENSIONS:
            raise UnreadableFileError(f"'{name}' has {len(shape)} dimensions, more than any array", about=self.file)
        if any(size < 0 for size in shape):
            raise UnreadableFileError(
                f"'{name}' has the shape {list(shape)}; sizes are never negative", about=self.file
            )
        if tensor.HasField("segment"):
            raise UnsupportedModelError(f"'{name}' is stored in segments; save the model without them", about=self.file)
        count = math.prod(shape)
        if tensor.data_location == _EXTERNAL:
            stored = self._external(tensor, name, count * dtype.itemsize).view(dtype)
        elif tensor.HasField("raw_data"):
            raw = tensor.raw_data
            if len(raw) != count * dtype.itemsize:
                raise self._misfit(name, shape, len(raw), count * dtype.itemsize)
            stored = np.frombuffer(raw, dtype)
        else:
            stored = self._typed(tensor, name, kept_in, dtype, count)
        array = stored.reshape(shape).view(_seen_as(tensor.data_type, dtype))
        array.flags.writeable = False
        return array

    def _misfit(self, name: str, shape: tuple[int, ...], found: int, expected: int) -> UnreadableFileError:
        return UnreadableFileError(
            f"'{name}' of shape {list(shape)} needs {expected} bytes, the file has {found} for it: "
            "damaged, or not written by an ONNX exporter",
            about=self.file,
        )

    def _typed(self, tensor: onnx.TensorProto, name: str, kept_in: str, dtype: np.dtype[Any], count: int) -> Array:
        """Return what stands in float_data and the like, flat."""
        values = getattr(tensor, kept_in)
        if len(values) != count:
            raise self._misfit(name, tuple(tensor.dims), len(values) * dtype.itemsize, count * dtype.itemsize)
        if kept_in in ("float_data", "double_data"):
            return np.frombuffer(_packed(tensor, kept_in, count * dtype.itemsize), dtype)
        wide = np.array(values, np.uint64 if kept_in == "uint64_data" else np.int64)
        bits = np.dtype(np.uint16) if tensor.data_type in (10, _BFLOAT16) else dtype
        narrow = wide.astype(bits)
        if not np.array_equal(narrow.astype(wide.dtype), wide):
            raise UnreadableFileError(f"'{name}' holds numbers that its type {bits} cannot", about=self.file)
        return narrow.view(dtype)

    def _external(self, tensor: onnx.TensorProto, name: str, size: int) -> Array:
        """Return bytes of a file beside the model, mapped."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        file = self._file(location, name)
        try:
            offset = int(entries.get("offset", "0"))
            length = int(entries.get("length", str(size)))
        except ValueError as error:
            raise UnreadableFileError(f"'{name}' lies at an offset that is no number", about=self.file) from error
        if length != size:
            raise self._misfit(name, tuple(tensor.dims), length, size)
        if offset < 0 or offset + size > file.size:
            raise UnreadableFileError(
                f"'{name}' lies in bytes {offset} to {offset + size} of {location}, "
                f"which has {file.size}: truncated, or of another model",
                about=self.file,
            )
        return file.content[offset : offset + size]

    def _file(self, location: str, name: str) -> MappedFile:
        if location in self.opened:
            return self.opened[location]
        if self.folder is None:
            raise UnreadableFileError(
                f"'{name}' lies in the file {location!r}, and a model in memory has no folder: "
                "load it with onnx.load, which brings the weights along",
                about=self.file,
            )
        path = self._inside(location, name, self.folder)
        try:
            self.opened[location] = MappedFile(path)
        except (OSError, ValueError) as error:
            raise UnreadableFileError(f"{location} cannot be read ({error})", about=self.file) from error
        return self.opened[location]

    def _inside(self, location: str, name: str, folder: Path) -> Path:
        """Return the path that a location names, if it is a file within the model's folder."""
        plain = PurePosixPath(location)
        windows = PureWindowsPath(location)
        parts = {*plain.parts, *windows.parts}
        if not parts or "\0" in location or ".." in parts or plain.is_absolute() or windows.drive or windows.root:
            raise UnreadableFileError(
                f"'{name}' lies in {location!r}, which is not followed: "
                "expected the plain name of a file beside the model",
                about=self.file,
            )
        path = folder / plain
        try:
            resolved, home = path.resolve(strict=True), folder.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise UnreadableFileError(
                f"'{name}' lies in the file {location!r}, which is not there; keep it beside the model", about=self.file
            ) from error
        if not resolved.is_relative_to(home) or not resolved.is_file():
            raise UnreadableFileError(
                f"'{name}' lies in {location!r}, which leads out of the model's folder "
                "or is no file, and is not followed",
                about=self.file,
            )
        return resolved


def _seen_as(data_type: int, dtype: np.dtype[Any]) -> np.dtype[Any]:
    if data_type == _BFLOAT16:
        return float_type("bfloat16")
    return np.dtype(bool) if data_type == _BOOL else dtype.newbyteorder("=") if dtype.isnative else dtype


def _packed(tensor: onnx.TensorProto, kept_in: str, size: int) -> bytes:
    """Return the bytes of float_data or double_data: Python's floats would quiet signalling NaNs.

    Protocol Buffers, Encoding, Packed Repeated Fields: tag, length in bytes, fixed-width elements.
    """
    alone = type(tensor)()
    alone.CopyFrom(tensor)
    for present, _ in tensor.ListFields():
        if present.name != kept_in:
            alone.ClearField(present.name)
    message = bytes(alone.SerializeToString())
    return message[len(message) - size :]
