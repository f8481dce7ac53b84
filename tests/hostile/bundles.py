"""Write TensorFlow checkpoints by hand, as tensor_bundle.cc and trackable_object_graph.proto describe them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import google_crc32c
import numpy as np

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
DTYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9}


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(number: int, value: int | bytes | str) -> bytes:
    """Return one field of a Protocol Buffers message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def masked(content: bytes) -> int:
    crc = google_crc32c.value(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def block(entries: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return a block: every key whole, one place to begin at."""
    content = (
        b"".join(varint(0) + varint(len(key)) + varint(len(value)) + key + value for key, value in entries)
        + bytes(4)
        + (1).to_bytes(4, "little")
    )
    return content + b"\0" + masked(content + b"\0").to_bytes(4, "little")


def table(entries: Mapping[bytes, bytes]) -> bytes:
    """Return a table of one block."""
    inner = block(sorted(entries.items()))
    handle = varint(0) + varint(len(inner) - 5)
    index = block([(b"\xff", handle)])
    footer = varint(0) + varint(0) + varint(len(inner)) + varint(len(index) - 5)
    return inner + index + footer.ljust(40, b"\0") + MAGIC


def entry(dtype: int, shape: Sequence[int], offset: int, size: int, crc: int, shard: int = 0) -> bytes:
    """Return a BundleEntryProto."""
    sizes = b"".join(field(2, field(1, each)) for each in shape)
    numbers = field(1, dtype) + field(2, sizes) + field(3, shard) + field(4, offset) + field(5, size)
    return numbers + varint(6 << 3 | 5) + crc.to_bytes(4, "little")


def header(shards: int = 1) -> bytes:
    return field(1, shards) + field(3, field(1, 1))


def node(children: Mapping[str, int], key: str | None = None, name: str = "") -> bytes:
    """Return one object of the graph."""
    content = b"".join(field(1, field(1, number) + field(2, child)) for child, number in children.items())
    if key is not None:
        content += field(2, field(1, "VARIABLE_VALUE") + field(2, name) + field(3, key))
    return field(1, content)


def text_tensor(text: bytes) -> tuple[bytes, int]:
    """Return a string tensor as it is stored, and its checksum."""
    length = len(text).to_bytes(4, "little")
    crc = masked(length).to_bytes(4, "little")
    return varint(len(text)) + crc + text, masked(length + crc + text)


def write_checkpoint(
    prefix: Path,
    arrays: Mapping[str, np.ndarray],
    graph: bytes | None = None,
    entries: Mapping[str, bytes] | None = None,
    shards: int = 1,
) -> Path:
    """Write a checkpoint and return its index; ``entries`` replace what the index says of a tensor."""
    data, listed = b"", {b"": header(shards)}
    for name, array in arrays.items():
        stored = array.tobytes()
        listed[name.encode()] = entry(DTYPES[array.dtype.name], array.shape, len(data), len(stored), masked(stored))
        data += stored
    if graph is not None:
        stored, crc = text_tensor(graph)
        listed[b"_CHECKPOINTABLE_OBJECT_GRAPH"] = entry(7, (), len(data), len(stored), crc)
        data += stored
    listed |= {name.encode(): value for name, value in (entries or {}).items()}
    prefix.with_name(prefix.name + ".data-00000-of-00001").write_bytes(data)
    index = prefix.with_name(prefix.name + ".index")
    index.write_bytes(table(listed))
    return index


def lstm_arrays(root: str = "layer_with_weights-0/cell", inputs: int = 3, units: int = 5) -> dict[str, np.ndarray]:
    """Return the arrays of an LSTM by their keys."""
    rng = np.random.default_rng(1)
    shapes = {"kernel": (inputs, 4 * units), "recurrent_kernel": (units, 4 * units), "bias": (4 * units,)}
    return {
        f"{root}/{name}/.ATTRIBUTES/VARIABLE_VALUE": rng.normal(size=shape).astype("float32")
        for name, shape in shapes.items()
    }


def lstm_graph(extra: bytes = b"", root: Mapping[str, int] | None = None) -> bytes:
    """Return the objects of a model of one LSTM; ``root`` are further children of the first one."""
    keys = list(lstm_arrays())
    return (
        node({"layer-0": 1, "layer_with_weights-0": 1, **(root or {})})
        + node({"cell": 2})
        + node({"kernel": 3, "recurrent_kernel": 4, "bias": 5})
        + b"".join(node({}, key, f"lstm/lstm_cell/{key.split('/')[2]}") for key in keys)
        + extra
    )
