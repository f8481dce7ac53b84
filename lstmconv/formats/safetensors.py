"""A state dict as ``.safetensors``: a JSON header, then the tensors' bytes.

Source: huggingface/safetensors README, Format: 8 bytes little-endian header length, the header
(``dtype``, ``shape``, ``data_offsets`` for each name, ``__metadata__`` of strings), the data. The
header is written here and not by the library, which orders the metadata at random: the same input
gives the same bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lstmconv.errors import UnreadableFileError, require
from lstmconv.formats import WriteOptions
from lstmconv.formats.provenance import KEY, encoded, require_known
from lstmconv.formats.state_dict import NamedTensor, obstacle, tensors
from lstmconv.model import Array, Checkpoint, float_type

__all__ = ["obstacle", "read_safetensors", "write", "write_file"]

_DTYPES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64", "uint8": "U8"}


def write(checkpoint: Checkpoint, path: Path, options: WriteOptions) -> list[Path]:
    """Write a state dict that ``safetensors.torch.load_file`` reads.

    Raises:
        UnsupportedModelError: A layer does not fit ``nn.LSTM``, or its activations are unknown.
    """
    require_known(checkpoint)
    write_file(tensors(checkpoint, options), path, {"format": "pt", KEY: encoded(checkpoint, options)})
    return [path]


def write_file(entries: Sequence[NamedTensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write named tensors one after the other, widest dtype first so that each is aligned."""
    ordered = sorted(entries, key=lambda entry: -entry.dtype.itemsize)
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    start = 0
    for entry in ordered:
        count = math.prod(entry.shape)
        end = start + count * entry.dtype.itemsize
        header[entry.name] = {
            "dtype": _DTYPES[entry.dtype.name],
            "shape": list(entry.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for entry in ordered:
            file.write(entry.materialise().tobytes())


def read_safetensors(path: Path) -> dict[str, Array]:
    """Read every tensor with the safetensors library, bfloat16 as ``ml_dtypes.bfloat16``.

    Raises:
        UnreadableFileError: It is not a safetensors file, or a damaged one.
    """
    safetensors = require("safetensors", "Reading .safetensors files")
    try:
        entries = safetensors.deserialize(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise UnreadableFileError(f"{path.name}: not a readable safetensors file ({error})") from error
    names = {code: name for name, code in _DTYPES.items()}
    found: dict[str, Array] = {}
    for name, entry in entries:
        if entry["dtype"] not in names:
            raise UnreadableFileError(f"{path.name}: '{name}' is {entry['dtype']}, expected floating-point weights")
        code = names[entry["dtype"]]
        dtype = np.dtype(np.uint8) if code == "uint8" else float_type(code)
        found[name] = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
    return found
