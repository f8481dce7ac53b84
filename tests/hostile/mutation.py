"""Damage good files at random: their bytes, and what their formats mean by them."""

from __future__ import annotations

import io
import json
import pickletools
import random
import shutil
import struct
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx

from lstmconv.formats.tensorflow.reader.bundle import open_bundle
from lstmconv.formats.tensorflow.reader.object_graph import GRAPH_KEY
from lstmconv.formats.tensorflow.reader.table import read_table
from lstmconv.formats.wire import LENGTH, fields
from tests.hostile import bundles

NUMBERS = (0, 1, -1, 2, 3, 7, 255, 65536, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, -(2**63), 10**30)
TEXTS = (
    "",
    "..",
    "../x",
    "/etc/passwd",
    "a" * 5000,
    "\x1b[31m",
    "\x00",
    "LSTM",
    "GRU",
    "lstm",
    "\ud800",
    "é\u202e",
    "[bold]",
)


def mutate(path: Path, rng: random.Random) -> str:
    """Damage a file or a folder in place; return in words how."""
    if path.is_dir():
        path = rng.choice(sorted(each for each in path.rglob("*") if each.is_file()))
    content = path.read_bytes()
    kind = kind_of(path, content)
    if kind == "checkpoint" and rng.random() < 0.65:
        damage_checkpoint(path, rng)
        return "checkpoint structure"
    structure = STRUCTURES.get(kind)
    if structure is not None and rng.random() < 0.65:
        try:
            changed = structure(content, rng)
        except Exception:  # What is damaged already cannot always be damaged by its meaning.
            changed = None
        if changed is not None:
            path.write_bytes(changed)
            return f"{kind} structure"
    path.write_bytes(damaged_bytes(content, rng))
    return f"{kind} bytes"


def kind_of(path: Path, content: bytes) -> str:
    if content.startswith(b"\x89HDF"):
        return "hdf5"
    if content.startswith(b"PK\x03\x04"):
        return "zip"
    if content.startswith(b"\x80\x02"):
        return "pickle"
    if path.suffix == ".safetensors":
        return "safetensors"
    if path.suffix == ".onnx":
        return "onnx"
    if path.suffix == ".index":
        return "checkpoint"
    if path.name == "keras_metadata.pb":
        return "metadata"
    return "json" if content.lstrip().startswith((b"{", b"[")) else "bytes"


# Bytes


def damaged_bytes(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    way = rng.randrange(8)
    if way == 0 or not data:
        return bytes(data[: rng.randrange(len(data) + 1)])
    if way == 1:
        return bytes(data) + rng.randbytes(rng.randrange(1, 100))
    start = rng.randrange(len(data))
    stop = min(len(data), start + rng.choice((1, 2, 4, 8, 64, 512)))
    if way == 2:
        data[start:stop] = bytes([rng.choice((0, 255, 128, 127))]) * (stop - start)
    elif way == 3:
        del data[start:stop]
    elif way == 4:
        data[start:start] = data[start:stop] * rng.choice((1, 2, 50))
    elif way == 5:
        other = rng.randrange(len(data))
        data[start:stop] = data[other : other + stop - start].ljust(stop - start, b"\0")
    else:
        # The front holds the structure in most formats, the end in zips.
        reach = rng.choice((64, 1024, 8192, len(data)))
        for _ in range(rng.choice((1, 1, 2, 4, 16))):
            place = rng.randrange(min(reach, len(data)))
            place = place if rng.random() < 0.8 else len(data) - 1 - place
            data[place] = rng.choice((rng.randrange(256), data[place] ^ (1 << rng.randrange(8)), 0, 255))
    return bytes(data)


# JSON


def damaged_json(content: bytes, rng: random.Random) -> bytes:
    value = json.loads(content)
    holder = [value]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        change_value(holder, rng)
    text = json.dumps(holder[0])
    if rng.random() < 0.05:
        text = text.replace(":", ":" + rng.choice(("1" * 5000, "[" * 3000, "1e999", "-" * 10)), 1)
    return text.encode("utf-8", "surrogatepass")


def change_value(holder: list, rng: random.Random) -> None:
    """Change one entry of nested lists and dicts, any of them alike."""
    places: list[tuple[Any, Any]] = [(holder, 0)]
    for owner, key in places:
        inner = owner[key]
        if isinstance(inner, dict):
            places += [(inner, each) for each in inner]
        elif isinstance(inner, list):
            places += [(inner, each) for each in range(len(inner))]
        if len(places) > 20_000:
            break
    owner, key = rng.choice(places)
    way = rng.randrange(6)
    if way == 0 and owner is not holder:
        del owner[key]
    elif way == 1 and isinstance(owner, dict):
        owner[rng.choice(TEXTS)] = owner.pop(key)
    elif way == 2:
        other_owner, other_key = rng.choice(places)
        owner[key] = json.loads(json.dumps(other_owner[other_key]))
    elif way == 3 and isinstance(owner, list) and owner is not holder:
        owner.insert(key, owner[key])
    else:
        owner[key] = any_value(rng)


def any_value(rng: random.Random) -> Any:
    deep: Any = 1
    for _ in range(rng.choice((3, 190, 250, 900))):
        deep = [deep] if rng.random() < 0.5 else {"layers": deep}
    choices = (None, True, False, 0.5, float("nan"), float("inf"), [], {}, [[]], [None], {"a": 1}, deep)
    return rng.choice((rng.choice(NUMBERS), rng.choice(TEXTS), rng.choice(choices), rng.choice(choices)))


# Zip


def damaged_zip(content: bytes, rng: random.Random) -> bytes | None:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    index = rng.randrange(len(members))
    name, inner = members[index]
    way = rng.randrange(10)
    if way == 0:
        del members[index]
    elif way == 1:
        members.insert(rng.randrange(len(members) + 1), (name, rng.choice((inner, b"", b"{}"))))
    elif way == 2:
        members[index] = (rng.choice((*TEXTS[:4], f"x/{name}", name + "/", "data.pkl", "model.weights.h5")), inner)
    elif way == 3:
        return damaged_directory(content, rng)
    else:
        members[index] = (name, damaged_member(name, inner, rng))
    packed = io.BytesIO()
    method = rng.choice(
        (zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    )
    with zipfile.ZipFile(packed, "w", method) as archive:
        for each, data in members:
            archive.writestr(each.replace("\x00", "0").encode("utf-8", "replace").decode() or "empty", data)
    return packed.getvalue()


def damaged_member(name: str, inner: bytes, rng: random.Random) -> bytes:
    for ending, change in ((".json", damaged_json), (".h5", damaged_hdf5), (".pkl", damaged_pickle)):
        if name.endswith(ending) and rng.random() < 0.85:
            changed = change(inner, rng)
            return inner if changed is None else changed
    return damaged_bytes(inner, rng)


def damaged_directory(content: bytes, rng: random.Random) -> bytes:
    """Change sizes, methods, offsets and flags in the zip's local headers or its directory."""
    data = bytearray(content)
    signature = rng.choice((b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"))
    places = [k for k in range(len(data) - 3) if data[k] == 80 and data[k : k + 4] == signature]
    start = rng.choice(places) + rng.choice((4, 6, 8, 10, 14, 18, 20, 22, 24, 26, 28, 30, 42))
    data[start : start + 4] = rng.choice(
        (rng.randbytes(4), b"\0" * 4, b"\xff" * 4, struct.pack("<I", len(content) // 2))
    )
    return bytes(data)


# HDF5


def damaged_hdf5(content: bytes, rng: random.Random) -> bytes | None:
    kept = io.BytesIO(content)
    with h5py.File(kept, "r+") as file:
        objects: list[Any] = [file]
        file.visititems(lambda _, found: objects.append(found))
        for _ in range(rng.choice((1, 1, 2, 3))):
            HDF5_WAYS[rng.randrange(len(HDF5_WAYS))](file, rng.choice(objects), rng)
    return kept.getvalue()


def change_attribute(_: Any, found: Any, rng: random.Random) -> None:
    name = rng.choice(
        [*found.attrs, "layer_names", "weight_names", "model_config", "keras_version", "lstmconv", "name"]
    )
    value = rng.choice(
        (
            rng.choice(NUMBERS[:8]),
            rng.choice(TEXTS[:9]).replace("\x00", ""),
            np.array([b"lstm", b"", b"lstm/lstm"]),
            np.array([b"a" * 1000] * 20),
            np.zeros(0),
            np.zeros((2, 2)),
            h5py.Empty("f4"),
            np.array([["a", "b"]], dtype=h5py.string_dtype()),
            b"\xff\xfe",
            np.zeros(3, [("a", "f4"), ("b", "i2")]),
            float("nan"),
        )
    )
    found.attrs[name] = value


def change_json_attribute(file: Any, found: Any, rng: random.Random) -> None:
    for owner in (found, file):
        for name in ("model_config", "lstmconv"):
            text = owner.attrs.get(name)
            if isinstance(text, str | bytes):
                owner.attrs[name] = damaged_json(text if isinstance(text, bytes) else text.encode(), rng).replace(
                    b"\0", b""
                )
                return


def delete_attribute(_: Any, found: Any, rng: random.Random) -> None:
    names = list(found.attrs)
    if names:
        del found.attrs[rng.choice(names)]


def delete_object(file: Any, found: Any, rng: random.Random) -> None:
    if found.name != "/":
        del file[found.name]


def replace_object(file: Any, found: Any, rng: random.Random) -> None:
    if found.name == "/":
        return
    name, group = found.name, found.parent
    shape = getattr(found, "shape", ()) or ()
    del file[name]
    way = rng.randrange(9)
    if way == 0:
        file[name] = h5py.SoftLink(rng.choice(("/", name, "/nowhere")))
    elif way == 1:
        file[name] = h5py.ExternalLink("/etc/passwd", "/")
    elif way == 2:
        file[name] = group
    elif way == 3:
        other = rng.choice(((), (0,), (1,) * 20, (3, 3), (1 << 20, 1 << 10), tuple(reversed(shape)), (*shape, 1)))
        chunks = True if len(other) == 2 and other[0] > 100 else None
        file.create_dataset(
            name, other, rng.choice(("f4", "f8", "i1", "f2", "V2", "V3", "c8", "S3", ">f4")), chunks=chunks
        )
    elif way == 4:
        file[name] = np.full(shape, rng.choice((np.nan, np.inf, 1e38, 0.0)), "f4")
    elif way == 5:
        file.create_dataset(name, data=np.zeros(shape, "f4"), **({"compression": "gzip"} if shape else {}))
    elif way == 6:
        file.create_dataset(name, (4,), h5py.string_dtype())
    elif way == 7:
        file.create_group(name)
    else:
        file[name] = h5py.Empty("f4")


def copy_object(file: Any, found: Any, rng: random.Random) -> None:
    if found.name != "/":
        file.copy(found, rng.choice(("copy", f"{found.parent.name}/copy", "lstm_1/lstm_1", "layers/lstm_9")))


HDF5_WAYS = (
    change_attribute,
    change_json_attribute,
    change_json_attribute,
    delete_attribute,
    delete_object,
    replace_object,
    copy_object,
)


# Pickle


def damaged_pickle(content: bytes, rng: random.Random) -> bytes | None:
    """Change one opcode of a file's pickles, or put others between them."""
    stops = [0]
    pieces: list[bytes] = []
    file = io.BytesIO(content)
    try:
        while file.tell() < len(content):
            stops += [place for _, _, place in pickletools.genops(file) if place is not None]
            stops.append(file.tell())
    except ValueError:
        pass
    stops = sorted(set(stops))
    pieces = [content[a:b] for a, b in pairwise(stops)]
    rest = content[stops[-1] :]
    for _ in range(rng.choice((1, 1, 2, 3))):
        index = rng.randrange(len(pieces))
        way = rng.randrange(6)
        if way == 0:
            del pieces[index]
        elif way == 1:
            pieces.insert(index, pieces[rng.randrange(len(pieces))])
        elif way == 2:
            other = rng.randrange(len(pieces))
            pieces[index], pieces[other] = pieces[other], pieces[index]
        elif way == 3:
            pieces[index] = damaged_bytes(pieces[index], rng)
        else:
            pieces.insert(index, rng.choice(OPCODES))
    return b"".join(pieces) + rest


OPCODES = (
    *(bytes([code]) for code in b"().012NRQb]}te\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x93\x94"),
    b"cos\nsystem\nX\x0b\x00\x00\x00touch canary\x85R",
    b"cbuiltins\neval\n",
    b"(S'touch canary'\nios\nsystem\n",
    b"c__builtin__\nexec\n",
    b"ccollections\nOrderedDict\n)R",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch\nFloatStorage\n",
    b"J\xff\xff\xff\xff",
    b"J\xff\xff\xff\x7f",
    b"K\x00",
    b"\x8a\x09" + b"\xff" * 9,
    b"X\x03\x00\x00\x00abc",
    b"X\xff\xff\xff\xff",
    b"h\x00",
    b"q\x00",
    b"\x82\x01",
    b"I99999999999999999999\n",
)


# safetensors


def damaged_safetensors(content: bytes, rng: random.Random) -> bytes:
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    holder = [header]
    for _ in range(rng.choice((1, 1, 2))):
        metadata = header.get("__metadata__")
        inner = rng.choice(sorted(metadata)) if isinstance(metadata, dict) and metadata else None
        if inner is not None and rng.random() < 0.4 and str(metadata[inner]).startswith("{"):
            metadata[inner] = damaged_json(metadata[inner].encode(), rng).decode("utf-8", "replace")
        else:
            change_value(holder, rng)
            header = holder[0] if isinstance(holder[0], dict) else {}
    text = json.dumps(holder[0]).encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        text = text.replace(b'"dtype"', rng.choice((b'"dtype":"F16","dtype"', b'"shape"', b'"x"')), 1)
    length = rng.choice((len(text),) * 6 + (0, len(text) - 1, len(text) + 1, 1 << 40, (1 << 64) - 1))
    return length.to_bytes(8, "little") + text + content[8 + size :]


# ONNX


def damaged_onnx(content: bytes, rng: random.Random) -> bytes:
    model = onnx.ModelProto.FromString(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        messages: list[Any] = [model]
        for message in messages:
            for field, value in message.ListFields():
                if field.type == field.TYPE_MESSAGE:
                    messages += list(value) if _repeated(field) else [value]
        chosen = rng.choice(messages)
        if rng.random() < 0.05:
            _nest(model, rng)
        else:
            _change_message(chosen, messages, rng)
    return model.SerializeToString()


def _repeated(field: Any) -> bool:
    return bool(
        getattr(field, "is_repeated", None) if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED
    )


def _change_message(message: Any, messages: list, rng: random.Random) -> None:
    field = rng.choice(list(message.DESCRIPTOR.fields))
    if rng.random() < 0.75 and message.ListFields():
        field = rng.choice(message.ListFields())[0]
    value = getattr(message, field.name)
    if rng.random() < 0.2:
        message.ClearField(field.name)
    elif field.type == field.TYPE_MESSAGE:
        others = [each for each in messages if each.DESCRIPTOR is field.message_type]
        other = type(others[0]).FromString(rng.choice(others).SerializeToString()) if others else None
        if _repeated(field):
            if len(value) and rng.random() < 0.4:
                del value[rng.randrange(len(value))]
            elif other is not None:
                value.add().CopyFrom(other)
        elif other is not None:
            value.CopyFrom(other)
    elif _repeated(field):
        if len(value) and rng.random() < 0.4:
            del value[rng.randrange(len(value))]
        elif len(value) and rng.random() < 0.6:
            value[rng.randrange(len(value))] = _scalar(field, messages, rng)
        else:
            value.append(_scalar(field, messages, rng))
    else:
        setattr(message, field.name, _scalar(field, messages, rng))


def _scalar(field: Any, messages: list, rng: random.Random) -> Any:
    if field.type == field.TYPE_STRING:
        names = [
            name for each in messages if hasattr(each, "op_type") for name in (*each.input, *each.output, each.op_type)
        ]
        text = rng.choice([*TEXTS, *names, "If", "Loop", "Scan", "Reshape", "Expand", "Gather", "hidden_size"])
        return text.encode("utf-8", "replace").decode()
    if field.type == field.TYPE_BYTES:
        return rng.randbytes(rng.choice((0, 1, 4, 16, 1000)))
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e30))
    if field.type == field.TYPE_ENUM:
        return rng.choice(field.enum_type.values).number
    wide = field.type in (field.TYPE_INT64, field.TYPE_UINT64)
    signed = field.type in (field.TYPE_INT64, field.TYPE_INT32)
    number = rng.choice((*NUMBERS[:9], *range(24)))
    low, high = (
        (-(2 ** (63 if wide else 31)), 2 ** (63 if wide else 31) - 1) if signed else (0, 2 ** (64 if wide else 32) - 1)
    )
    return min(max(number, low), high)


def _nest(model: Any, rng: random.Random) -> None:
    """Put the graph into an If of itself, some levels deep."""
    for _ in range(rng.choice((1, 3, 40, 90))):
        node = onnx.NodeProto(op_type=rng.choice(("If", "Loop", "Scan")), input=["c"], output=["o"])
        attribute = node.attribute.add(name="then_branch", type=5)
        attribute.g.CopyFrom(model.graph)
        del model.graph.node[:]
        model.graph.node.append(node)


# TensorFlow


def damage_checkpoint(index: Path, rng: random.Random) -> None:
    """Change what a checkpoint's index, its graph of objects or a tensor says, and make every checksum fit."""
    table = read_table(index.read_bytes(), index.name)
    bundle = open_bundle(index, index.name)
    shard = bundle.shards[0].path
    data = shard.read_bytes()
    graph = GRAPH_KEY.encode()
    way = rng.randrange(6)
    key = rng.choice(sorted(table))
    if way < 3 and graph in table:
        stored = bundle.text(GRAPH_KEY) or b""
        text = damaged_bytes(stored, rng) if way else damaged_message(stored, rng, 3)
        tensor, crc = bundles.text_tensor(text)
        table[graph] = bundles.entry(7, (), len(data), len(tensor), crc)
        shard.write_bytes(data + tensor)
    elif way == 3:
        table[key] = damaged_message(table[key], rng, 1)
    elif way == 4:
        table[rng.choice((b"a/b", key + b"/m", key[::-1], b"lstm/kernel"))] = table.pop(key)
    else:
        table[key] = table[rng.choice(sorted(table))]
    index.write_bytes(bundles.table(table))


def damaged_message(content: bytes, rng: random.Random, depth: int) -> bytes:
    """Change one field of a Protocol Buffers message, or of a message in it."""
    found = list(fields(content, 0, len(content)))
    if not found:
        return damaged_bytes(content, rng)
    chosen = rng.choice(found)
    inner = content[chosen.body : chosen.stop]
    way = rng.randrange(5)
    if way == 0:
        put = b""
    elif way == 1:
        put = content[chosen.start : chosen.stop] * rng.choice((2, 3))
    elif chosen.wire == LENGTH:
        changed = (
            damaged_message(inner, rng, depth - 1)
            if depth and way == 2
            else rng.choice((damaged_bytes(inner, rng), rng.choice(TEXTS).encode("utf-8", "replace")))
        )
        put = bundles.field(chosen.number, changed)
    else:
        put = bundles.field(chosen.number, rng.choice((0, 1, 2, 7, 255, 2**31, 2**62, 2**64 - 1)))
    return content[: chosen.start] + put + content[chosen.stop :]


def damaged_metadata(content: bytes, rng: random.Random) -> bytes:
    """Change the JSON of one layer of a SavedModel, or the message around it."""
    nodes = list(fields(content, 0, len(content)))
    chosen = nodes[0] if rng.random() < 0.7 else rng.choice(nodes)
    texts = [each for each in fields(content, chosen.body, chosen.stop) if each.number == 5]
    if not texts or rng.random() < 0.2:
        return damaged_message(content, rng, 2)
    (text,) = texts
    changed = bundles.field(5, damaged_json(content[text.body : text.stop], rng))
    inner = content[chosen.body : text.start] + changed + content[text.stop : chosen.stop]
    return content[: chosen.start] + bundles.field(1, inner) + content[chosen.stop :]


STRUCTURES: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "hdf5": damaged_hdf5,
    "zip": damaged_zip,
    "pickle": damaged_pickle,
    "safetensors": damaged_safetensors,
    "onnx": damaged_onnx,
    "json": damaged_json,
    "metadata": damaged_metadata,
}


# Good files


def good_files(folder: Path) -> list[Path]:
    """Fill a folder with small good files of every kind that is read; return those to be given to the readers."""
    import lstmconv

    tests = Path(__file__).parent.parent
    golden, samples = tests / "golden", tests.parent / "sample_weights"
    names = [
        *(
            golden / "keras-3.15.1" / name
            for name in ("bidirectional_modes.h5", "nested_frozen.h5", "twelve.keras", "lstm.weights.h5")
        ),
        *(
            golden / "keras-3.15.1" / name
            for name in ("subclassed.keras", "rnn_cells.keras", "bfloat16.keras", "shared.h5")
        ),
        *(golden / "tf-keras-2.21.0" / name for name in ("stacked_cells.h5", "cudnn_bidirectional.h5", "lstm.keras")),
        *(
            golden / "whole" / "keras-3.15.1" / name
            for name in ("nested.keras", "mask_nested.keras", "states_from_layers.keras", "operations.keras")
        ),
        *(golden / "whole" / "tf-keras-2.21.0" / name for name in ("states_from_layers.keras", "shared_layer.h5")),
        *(golden / "whole" / "keras-1.2.2" / name for name in ("merge_of_models.h5", "shared_and_nested.h5")),
        golden / "tf-2.13.1" / "lstm.keras",
        golden / "keras-2.2.4" / "bidirectional_no_bias.h5",
        golden / "keras-1.2.2" / "bidirectional_concat_cpu.h5",
        *sorted(samples.glob("*.h5")),
        *sorted(samples.glob("*.keras")),
        *sorted(samples.glob("*.pt")),
        *sorted((golden / "onnx").glob("*.onnx")),
    ]
    made: list[Path] = []
    for name in names:
        made.append(folder / f"{name.parent.name}_{name.name}")
        shutil.copy(name, made[-1])
    source = samples / "tf_keras_bidirectional.h5"
    for suffix in (".pt", ".safetensors", ".onnx", ".cudnn.safetensors", ".keras", ".weights.h5", ".h5", ".cudnn.h5"):
        for stem, start in (("own", source), ("stack", samples / "torch_stacked.pt")):
            made.append(folder / f"{stem}{suffix}")
            lstmconv.convert(start, made[-1], verify=False)
    made.append(folder / "folder.keras")
    shutil.copytree(golden / "keras-3.15.1" / "lstm.folder", made[-1])
    made.append(folder / "legacy.pt")
    made[-1].write_bytes((Path(__file__).parent / "legacy.pt").read_bytes())
    shards = folder / "shards"
    shards.mkdir()
    for shard in (golden / "keras-3.15.1").glob("stacked*"):
        if shard.suffix != ".npz" and shard.name != "stacked.json":
            shutil.copy(shard, shards)
    made.append(shards)
    raw = folder / "raw"
    raw.mkdir()
    lstmconv.convert(source, raw / "own.cudnn.bin", raw=True, verify=False)
    made.append(raw)
    return [*made, *tensorflow_files(folder), *containers(golden, folder / "containers")]


def containers(golden: Path, folder: Path) -> list[Path]:
    """Copy PyTorch's modules and archives, and Keras' weights in NumPy's and PyTorch's files."""
    folder.mkdir()
    made: list[Path] = []
    names = [*(golden / "torch_containers").glob("*.*"), *(golden / "get_weights").glob("*.npz")]
    names += [golden / "keras_on_torch" / name for name in ("state_dict.pt", "by_name.npz")]
    for name in sorted(each for each in names if each.suffix != ".py"):
        made.append(folder / f"{name.parent.name}_{name.name}")
        shutil.copy(name, made[-1])
    return made


def config_of(path: Path) -> Path | None:
    """Return a config for weights that are nothing without one."""
    golden = Path(__file__).parent.parent / "golden"
    if path.name.startswith("get_weights_"):
        return golden / "get_weights" / f"{path.name.removeprefix('get_weights_').removesuffix('.npz')}.h5"
    if path.name.startswith("keras_on_torch_"):
        return golden / "keras_on_torch" / "config.json"
    archive, _, place = path.name.partition("_")  # What _unpacked calls a checkpoint of TensorFlow's.
    config = path.parent / archive / place.partition("_")[0] / "model.json"
    return config if config.is_file() else None


def tensorflow_files(folder: Path) -> list[Path]:
    """Fill a folder with small SavedModels, checkpoints and TensorFlow.js models."""
    golden = Path(__file__).parent.parent / "golden" / "tensorflow"
    made: list[Path] = []
    for archive in sorted([*golden.glob("tf-*.zip"), *golden.glob("exports-*.zip")]):
        made += _unpacked(archive, folder / "tensorflow", "*/*")
    return [*made, *_unpacked(golden / "tfjs-4.22.0.zip", folder / "tensorflow", "*")]


def _unpacked(archive: Path, folder: Path, places: str) -> list[Path]:
    """Unpack an archive; each of its containers becomes a folder of its own."""
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder / archive.stem)
    found = sorted(each for each in (folder / archive.stem).glob(places) if each.is_dir())
    return [place.rename(folder / f"{archive.stem}_{place.parent.name}_{place.name}") for place in found]
