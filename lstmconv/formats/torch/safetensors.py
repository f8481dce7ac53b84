"""A state dict as ``.safetensors``: a JSON header, then the tensors' bytes.

Source: huggingface/safetensors README, Format: 8 bytes little-endian header length, the header
(``dtype``, ``shape``, ``data_offsets`` for each name, ``__metadata__`` of strings), the data. The
header is written here and not by the library, which orders the metadata at random: the same input
gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lstmconv._optional import require
from lstmconv.errors import UnreadableFileError
from lstmconv.formats.format import Opened
from lstmconv.formats.hashing import hashed_later, hashing
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.options import ReadOptions, WriteOptions
from lstmconv.formats.record import KEY, encode, parse_record
from lstmconv.formats.safety.limits import JSON_BYTES, parse_json
from lstmconv.formats.tensors import NamedTensor
from lstmconv.formats.torch.allowed_globals import Unread
from lstmconv.formats.torch.state_dict import losses, obstacle, terms
from lstmconv.formats.torch.usage import usage
from lstmconv.formats.torch.whole import obstacle_of_model, tensors_to_write
from lstmconv.model import Array, Checkpoint, Provenance, float_type

__all__ = [
    "losses",
    "obstacle",
    "obstacle_of_model",
    "open_file",
    "read_header",
    "read_safetensors",
    "terms",
    "usage",
    "write",
    "write_file",
]

_DTYPES = {
    "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64", "bool": "BOOL", "uint8": "U8",
    "int8": "I8", "int16": "I16", "uint16": "U16", "int32": "I32", "uint32": "U32", "int64": "I64", "uint64": "U64",
}  # fmt: skip
"""safetensors/src/tensor.rs Dtype, those that NumPy and ml_dtypes have."""


def write(checkpoint: Checkpoint, path: Path, options: WriteOptions) -> list[Path]:
    """Write a state dict that ``safetensors.torch.load_file`` reads.

    Raises:
        UnsupportedModelError: A layer does not fit ``nn.LSTM``, its activations are unknown, or a whole model is asked
            for and the checkpoint has none.
    """
    listed = tensors_to_write(checkpoint, options)
    write_file(listed, path, lambda of: {"format": "pt", KEY: encode(of, options)}, checkpoint)
    return [path]


def write_file(
    entries: Sequence[NamedTensor],
    path: Path,
    metadata: Callable[[Checkpoint], Mapping[str, str]],
    checkpoint: Checkpoint,
) -> None:
    """Write named tensors one after the other, widest dtype first so that each is aligned.

    The header comes first, and is written again at the end where the source was still being hashed.
    """
    ordered = sorted(entries, key=lambda entry: -entry.dtype.itemsize)
    known = hashed_later(checkpoint)
    with path.open("wb") as file:
        file.write(_header(ordered, metadata(known)))
        for entry in ordered:
            file.writelines(entry.slabs())
        if known is not checkpoint:
            file.seek(0)
            file.write(_header(ordered, metadata(checkpoint)))


def _header(entries: Sequence[NamedTensor], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    start = 0
    for entry in entries:
        header[entry.name] = {
            "dtype": _DTYPES[entry.dtype.name],
            "shape": list(entry.shape),
            "data_offsets": [start, start + entry.nbytes],
        }
        start += entry.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def open_file(file: MappedFile, options: ReadOptions) -> Opened:
    """Open a state dict in safetensors; arrays are views into the file.

    Raises:
        UnreadableFileError: It is not a safetensors file, or a damaged one.
    """
    from lstmconv.formats.torch.parameters import read_parameters

    tensors, metadata = read_safetensors(file)
    unread = {
        name: Unread(f"of the type {entry['dtype']}, which NumPy does not have")
        for name, entry in read_header(file)[1].items()
        if name != "__metadata__" and name not in tensors
    }
    record = parse_record(metadata.get(KEY))
    origin = Provenance(file.name, hashing(file), "PyTorch state dict in safetensors")
    return Opened(record, tensors, lambda: read_parameters(tensors, origin, record, options, unread=unread))


def read_header(file: MappedFile) -> tuple[int, Mapping[str, Any]]:
    """Return the header's length in bytes and the header, which is parsed once.

    Raises:
        UnreadableFileError: It is no JSON object, it is cut off, it has a key twice, or it is too large.
    """
    return file.once(_parsed_header)


def _parsed_header(file: MappedFile) -> tuple[int, Mapping[str, Any]]:
    size = int.from_bytes(file.content[:8].tobytes(), "little")
    text = file.content[8 : 8 + min(size, JSON_BYTES.value + 1)].tobytes()
    header = parse_json(text, (file.name, "the safetensors header"))
    if not isinstance(header, dict):
        raise UnreadableFileError("its safetensors header is no JSON object", about=file.name)
    return size, header


def _checked(file: MappedFile) -> tuple[int, Mapping[str, Any], Mapping[str, str]]:
    """Return the header's length, the header, and its metadata."""
    size, header = read_header(file)  # First, for the library has no limits of depth and takes the last of equal keys.
    safetensors = require("safetensors", "Reading .safetensors files")
    try:
        with safetensors.safe_open(file.path, "np") as opened:
            return size, header, dict(opened.metadata() or {})
    except (safetensors.SafetensorError, UnicodeDecodeError) as error:
        raise UnreadableFileError(f"not a readable safetensors file ({error})", about=file.name) from error


def read_safetensors(file: MappedFile) -> tuple[dict[str, Array], Mapping[str, str]]:
    """Return every tensor as a read-only view into the file, bfloat16 as ``ml_dtypes.bfloat16``, and the metadata.

    Tensors of types that NumPy does not have (float8) are left out.

    Raises:
        UnreadableFileError: It is not a safetensors file, or a damaged one.
    """
    size, header, metadata = _checked(file)
    types = {code: name for name, code in _DTYPES.items()}
    found: dict[str, Array] = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] not in types:
            continue
        dtype = types[entry["dtype"]]
        element = float_type(dtype) if "float" in dtype else np.dtype(dtype)
        start, stop = (8 + size + offset for offset in entry["data_offsets"])
        found[name] = file.content[start:stop].view(element).reshape(entry["shape"])
    return found, metadata
