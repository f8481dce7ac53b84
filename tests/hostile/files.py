"""Hostile files, each made by a function from good ones: what it is, and what the reader must say of it."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests._cases import GOLDEN, random, sequential, write_legacy, write_lstm

KERAS = GOLDEN / "keras-3.15.1"
SAMPLES = GOLDEN.parent.parent / "sample_weights"
SECRET = b"root:x:0:0" * 100


@dataclass(frozen=True)
class Hostile:
    """One hostile file.

    Attributes:
        name: What it does.
        says: A part of the one line that names it; ``None`` where it does no harm and the rest is read.
        make: Makes it in a folder and returns what to give to the reader. Whatever it would have done, had it been
            trusted, shows as a file named ``canary`` there.
    """

    name: str
    says: str | None
    make: Callable[[Path], Path]


HOSTILE: list[Hostile] = []


def hostile(says: str | None) -> Callable[[Callable[[Path], Path]], Callable[[Path], Path]]:
    """Register a function that makes a hostile file."""

    def register(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
        HOSTILE.append(Hostile(make.__name__.replace("_", " "), says, make))
        return make

    return register


# HDF5: links, storage elsewhere, structure


def legacy(folder: Path, change: Callable[[h5py.File, h5py.Group], None]) -> Path:
    """Write a good legacy file of one LSTM and change it."""
    path = folder / "model.h5"
    write_lstm(path)
    with h5py.File(path, "r+") as file:
        change(file, file["model_weights/lstm_1/lstm_1"])
    return path


def with_kernel(folder: Path, put: Callable[[h5py.Group], None]) -> Path:
    """Replace the kernel of a good legacy file."""

    def change(_: h5py.File, group: h5py.Group) -> None:
        del group["kernel:0"]
        put(group)

    return legacy(folder, change)


@hostile("an external link; not followed")
def external_link_to_another_file(folder: Path) -> Path:
    with h5py.File(folder / "other.h5", "w") as other:
        other["kernel"] = random((3, 20))
    link = h5py.ExternalLink(str(folder / "other.h5"), "kernel")
    return with_kernel(folder, lambda group: group.__setitem__("kernel:0", link))


@hostile("its group is missing")
def external_link_in_place_of_a_layer(folder: Path) -> Path:
    write_lstm(folder / "other.h5")

    def change(file: h5py.File, _: h5py.Group) -> None:
        del file["model_weights/lstm_1"]
        file["model_weights/lstm_1"] = h5py.ExternalLink("other.h5", "model_weights/lstm_1")

    return legacy(folder, change)


@hostile("an HDF5 file without Keras weights")
def external_link_in_place_of_all_weights(folder: Path) -> Path:
    write_lstm(folder / "other.h5")
    with h5py.File(folder / "model.h5", "w") as file:
        file["model_weights"] = h5py.ExternalLink("other.h5", "model_weights")
    return folder / "model.h5"


@hostile("a soft link; not followed")
def soft_link_to_an_array(folder: Path) -> Path:
    def change(file: h5py.File, group: h5py.Group) -> None:
        file["elsewhere"] = group["kernel:0"]
        del group["kernel:0"]
        group["kernel:0"] = h5py.SoftLink("/elsewhere")

    return legacy(folder, change)


@hostile("a soft link; not followed")
def soft_link_to_itself(folder: Path) -> Path:
    name = "/model_weights/lstm_1/lstm_1/kernel:0"
    return with_kernel(folder, lambda group: group.__setitem__("kernel:0", h5py.SoftLink(name)))


@hostile("a soft link; not followed")
def soft_link_out_of_the_file(folder: Path) -> Path:
    return with_kernel(folder, lambda group: group.__setitem__("kernel:0", h5py.SoftLink("/../../etc/passwd")))


@hostile("stored in another file (external); not followed")
def array_stored_in_another_file(folder: Path) -> Path:
    (folder / "passwd").write_bytes(SECRET)
    place = [(str(folder / "passwd"), 0, 240)]
    return with_kernel(folder, lambda group: group.create_dataset("kernel:0", (3, 20), "f4", external=place))


@hostile("a virtual dataset (stored in other files); not followed")
def virtual_dataset_of_another_file(folder: Path) -> Path:
    with h5py.File(folder / "other.h5", "w") as other:
        other["kernel"] = random((3, 20))
    layout = h5py.VirtualLayout((3, 20), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "kernel", (3, 20))
    return with_kernel(folder, lambda group: group.create_virtual_dataset("kernel:0", layout))


@hostile("contains itself (a hard-link cycle)")
def group_within_itself(folder: Path) -> Path:
    return legacy(folder, lambda file, group: group.__setitem__("again", file["model_weights"]))


@hostile("; if you trust the file, set LSTMCONV_HDF5_")  # The limit of objects; on a busy machine, that of time.
def doubling_hard_links(folder: Path) -> Path:
    """Eighteen levels of two links each: 262,144 paths over 18 groups."""

    def change(file: h5py.File, _: h5py.Group) -> None:
        inner = file.create_group("level_0")
        for level in range(1, 18):
            outer = file.create_group(f"level_{level}")
            outer["a"] = inner
            outer["b"] = inner
            inner = outer

    return legacy(folder, change)


@hostile("groups nest deeper than 64 levels")
def groups_of_a_thousand_levels(folder: Path) -> Path:
    return legacy(folder, lambda file, _: file.create_group("deep" + "/deep" * 1000) and None)


@hostile("not a number")
def kernel_of_vlen_strings(folder: Path) -> Path:
    values = np.array([[b"x" * 100] * 20] * 3, object)
    return with_kernel(folder, lambda group: group.create_dataset("kernel:0", data=values, dtype=h5py.string_dtype()))


@hostile("not a number")
def kernel_of_vlen_numbers(folder: Path) -> Path:
    return with_kernel(folder, lambda group: group.create_dataset("kernel:0", (3, 20), h5py.vlen_dtype("f4")))


@hostile("not a number")
def kernel_of_object_references(folder: Path) -> Path:
    return with_kernel(folder, lambda group: group.create_dataset("kernel:0", (3, 20), h5py.ref_dtype))


@hostile("not a number")
def kernel_of_region_references(folder: Path) -> Path:
    return with_kernel(folder, lambda group: group.create_dataset("kernel:0", (3, 20), h5py.regionref_dtype))


@hostile("not a number")
def kernel_of_records(folder: Path) -> Path:
    kind = [("a", "f4"), ("b", h5py.string_dtype())]
    return with_kernel(folder, lambda group: group.create_dataset("kernel:0", (3, 20), kind))


@hostile("not a number")
def kernel_of_arrays(folder: Path) -> Path:
    return with_kernel(folder, lambda group: group.create_dataset("kernel:0", (3, 20), np.dtype(("f4", (1000,)))))


@hostile("lstm_1")
def array_in_place_of_a_group(folder: Path) -> Path:
    def change(file: h5py.File, _: h5py.Group) -> None:
        del file["model_weights/lstm_1/lstm_1"]
        file["model_weights/lstm_1/lstm_1"] = np.zeros(3, "f4")

    return legacy(folder, change)


def giant(folder: Path, shape: tuple[int, ...], **storage: object) -> Path:
    return with_kernel(folder, lambda group: group.create_dataset("kernel:0", shape, "f4", **storage))


@hostile("claims 68,719,476,736 bytes and stores 0; if you trust the file, set LSTMCONV_INFLATION")
def array_that_was_never_written(folder: Path) -> Path:
    return giant(folder, (1 << 20, 1 << 14))


@hostile("claims 68,719,476,736 bytes and stores 0")
def chunks_that_were_never_written(folder: Path) -> Path:
    return giant(folder, (1 << 20, 1 << 14), chunks=(1024, 1024))


@hostile("claims 4,611,686,018,427,387,904 bytes")
def array_of_more_bytes_than_there_are(folder: Path) -> Path:
    return giant(folder, (1 << 30, 1 << 30), chunks=(1024, 1024))


@hostile("claims 134,217,728 bytes and stores")
def chunks_that_inflate_a_thousandfold(folder: Path) -> Path:
    zeros = np.zeros((1 << 12, 1 << 13), "f4")
    return with_kernel(
        folder,
        lambda group: group.create_dataset("kernel:0", data=zeros, chunks=(1 << 11, 1 << 13), compression="gzip"),
    )


@hostile("lstm_1")
def many_arrays_that_inflate_a_little_each(folder: Path) -> Path:
    """Each 48 MB from nothing: forty are 2 GB."""

    def change(file: h5py.File, group: h5py.Group) -> None:
        for index in range(40):
            file.create_dataset(f"more_{index}", (12 << 20,), "f4", chunks=(1 << 20,))
        del group["kernel:0"]
        group.create_dataset("kernel:0", (12 << 20,), "f4", chunks=(1 << 20,))

    return legacy(folder, change)


@hostile("attributes take more than 33,554,432 bytes; if you trust the file, set LSTMCONV_ATTRIBUTE_BYTES")
def attributes_of_many_megabytes(folder: Path) -> Path:
    path = folder / "model.h5"
    write_lstm(path)
    with h5py.File(path, "r+", libver="latest") as file:
        group = file.create_group("more")
        for index in range(40):
            group.attrs.create(f"big_{index}", np.zeros(1 << 20, np.uint8))
    return path


@hostile("attributes take more than")
def one_text_named_by_many_attributes(folder: Path) -> Path:
    """Name a text of 16 kB four thousand times, each in 48 bytes."""

    def change(file: h5py.File, _: h5py.Group) -> None:
        for index in range(4):
            kind = h5py.string_dtype()
            file.attrs.create(f"list_{index}", np.array(["x" * 16000] * 1000, object), dtype=kind)

    return legacy(folder, change)


@hostile("of type")
def half_a_byte_of_numbers(folder: Path) -> Path:
    kind = h5py.h5t.NATIVE_LDOUBLE.copy()
    return with_kernel(folder, lambda group: group.create_dataset("kernel:0", (3, 20), kind.dtype))


@hostile("claims 17,179,869,184 bytes")
def tiny_chunks_of_a_giant(folder: Path) -> Path:
    return giant(folder, (1 << 32,), chunks=(1,))


@hostile("damaged HDF5 file")
def array_cut_off_with_the_file(folder: Path) -> Path:
    path = legacy(folder, lambda *_: None)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@hostile("it holds nothing")
def layer_names_that_are_references(folder: Path) -> Path:
    def change(file: h5py.File, _: h5py.Group) -> None:
        group = file["model_weights"]
        group.attrs["layer_names"] = np.array([group.ref], h5py.ref_dtype)

    return legacy(folder, change)


@hostile("is listed")
def layer_name_that_leads_out(folder: Path) -> Path:
    def change(file: h5py.File, _: h5py.Group) -> None:
        file["model_weights"].attrs["layer_names"] = [b"../../../etc/passwd"]

    return legacy(folder, change)


@hostile("a truncated file")
def keras_0_file_of_endless_layers(folder: Path) -> Path:
    with h5py.File(folder / "model.h5", "w") as file:
        file.attrs["nb_layers"] = 10**12
    return folder / "model.h5"


# Keras configs


def with_config(folder: Path, config: str | bytes) -> Path:
    def change(file: h5py.File, _: h5py.Group) -> None:
        file.attrs["model_config"] = config

    return legacy(folder, change)


@hostile("JSON nested over 200 levels deep")
def config_of_nine_hundred_levels(folder: Path) -> Path:
    return with_config(folder, '{"a":' * 900 + "1" + "}" * 900)


@hostile("nested without end")
def config_of_a_million_levels(folder: Path) -> Path:
    (folder / "config.json").write_text('{"class_name": ' + "[" * 1_000_000)
    shutil.copy(KERAS / "lstm.weights.h5", folder / "model.weights.h5")
    with zipfile.ZipFile(folder / "model.keras", "w") as archive:
        archive.write(folder / "config.json", "config.json")
        archive.write(folder / "model.weights.h5", "model.weights.h5")
    return folder / "model.keras"


def functional(layers: list[dict], ends: tuple[str, str]) -> dict:
    """Describe a Functional model as Keras 2 does."""
    first, last = ends
    ends_of = {"input_layers": [[first, 0, 0]], "output_layers": [[last, 0, 0]]}
    return {"class_name": "Functional", "config": {"name": "model", "layers": layers, **ends_of}}


def called(name: str, *sources: list, class_name: str = "LSTM", **config: object) -> dict:
    """Describe a layer and its calls; without one it is the input."""
    own = {"name": name, "units": 5, "activation": "tanh", "recurrent_activation": "sigmoid", "trainable": True}
    shape = {} if sources else {"batch_input_shape": [None, 7, 3]}
    nodes = [[[*source, {}]] for source in sources]
    class_name = class_name if sources else "InputLayer"
    return {"name": name, "class_name": class_name, "config": {**own, **shape, **config}, "inbound_nodes": nodes}


@hostile("in a circle")
def layers_that_feed_each_other(folder: Path) -> Path:
    layers = [called("x"), called("lstm_1", ["b", 0, 0]), called("b", ["lstm_1", 0, 0])]
    return with_config(folder, json.dumps(functional(layers, ("x", "b"))))


@hostile("in a circle")
def layer_that_feeds_itself(folder: Path) -> Path:
    layers = [called("x"), called("lstm_1", ["lstm_1", 0, 0])]
    return with_config(folder, json.dumps(functional(layers, ("x", "lstm_1"))))


@hostile("which is not there")
def layer_that_reads_what_is_not_there(folder: Path) -> Path:
    layers = [called("x"), called("lstm_1", ["x", 0, 0]), called("b", ["lstm_1", 7, 0], ["elsewhere", 0, 0])]
    return with_config(folder, json.dumps(functional(layers, ("x", "b"))))


@hostile("more than 10,000 calls of layers")
def layer_that_is_called_a_hundred_thousand_times(folder: Path) -> Path:
    layers = [called("x"), called("lstm_1", *[["x", 0, 0]] * 100_000)]
    return with_config(folder, json.dumps(functional(layers, ("x", "lstm_1"))))


@hostile("more than 10,000 calls of layers")
def models_that_call_each_other_twice(folder: Path) -> Path:
    model = functional([called("x"), called("lstm_1", ["x", 0, 0])], ("x", "lstm_1"))
    for _ in range(20):
        twice = {**called("lstm_1", ["x", 0, 0], ["x", 0, 0]), "class_name": "Functional", "config": model["config"]}
        nodes = [[["lstm_1", 0, 0, {}], ["lstm_1", 1, 0, {}]]]
        add = {**called("both", ["x", 0, 0], class_name="Add"), "inbound_nodes": nodes}
        model = functional([called("x"), twice, add], ("x", "both"))
    return with_config(folder, json.dumps(model))


@hostile("nest")
def model_that_is_its_own_layer(folder: Path) -> Path:
    """Put a shared object inside itself."""
    inner = {
        **functional([], ("x", "again")),
        "shared_object_id": 7,
        "name": "again",
        "inbound_nodes": [[["x", 0, 0, {}]]],
    }
    model = functional([called("x"), inner], ("x", "again"))
    inner["config"] = functional([called("x"), {**inner, "config": {}}], ("x", "again"))["config"]
    return with_config(folder, json.dumps({**model, "shared_object_id": 7}))


@hostile(None)
def node_whose_arguments_nest(folder: Path) -> Path:
    nested: object = ["x", 0, 0, {}]
    for _ in range(80):
        nested = [nested]
    layers = [called("x"), {**called("lstm_1", ["x", 0, 0]), "inbound_nodes": [nested]}]
    return with_config(folder, json.dumps(functional(layers, ("x", "lstm_1"))))


@hostile("nest")
def models_within_models(folder: Path) -> Path:
    model: dict = sequential()
    for level in range(40):
        model = sequential({"class_name": "Sequential", "name": f"m{level}", "config": model["config"]})
    return with_config(folder, json.dumps(model))


@hostile("integer string conversion")
def number_of_a_million_digits(folder: Path) -> Path:
    return with_config(folder, '{"class_name": "Sequential", "config": {"layers": [], "n": ' + "9" * 30_000 + "}}")


@hostile("should hold an LSTM of")
def units_of_a_number_no_memory_has(folder: Path) -> Path:
    layer = {"class_name": "LSTM", "config": {"name": "lstm_1", "units": 10**300}}
    return with_config(folder, json.dumps(sequential(layer)))


@hostile(None)
def lambda_layer_with_marshalled_code(folder: Path) -> Path:
    """Hold what keras/src/layers/core/lambda_layer.py would run."""
    import base64
    import marshal

    code = compile(f"open({str(folder / 'canary')!r}, 'w')", "lambda", "exec")
    function = base64.b64encode(marshal.dumps(code)).decode()
    value = {"class_name": "__lambda__", "config": {"code": function, "defaults": None, "closure": None}}
    lambdas = {"module": "keras.layers", "class_name": "Lambda", "config": {"name": "lambda", "function": value}}
    return keras_zip(folder, [lambdas])


@hostile(None)
def custom_module_beside_the_file(folder: Path) -> Path:
    """Name a module that Keras would import."""
    (folder / "evil.py").write_text(f"open({str(folder / 'canary')!r}, 'w')\n")
    layer = {"module": "evil", "class_name": "Evil", "registered_name": "evil>Evil", "config": {"name": "x"}}
    return keras_zip(folder, [layer])


@hostile(None)
def module_of_python_itself(folder: Path) -> Path:
    """CVE-2025-1550: a config that names any function of any module."""
    layer = {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}
    return keras_zip(
        folder, [layer, {**layer, "class_name": "system", "config": {"command": f"touch {folder}/canary"}}]
    )


@hostile("lambda")
def activation_that_is_code(folder: Path) -> Path:
    activation = {"class_name": "__lambda__", "config": {"code": "4wEA", "name": "lambda"}}
    layer = {"class_name": "LSTM", "config": {"name": "lstm_1", "units": 5, "activation": activation}}
    return with_config(folder, json.dumps(sequential(layer)))


def keras_zip(folder: Path, layers: list) -> Path:
    path = folder / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.15.1"}')
        archive.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {"layers": layers}}))
        archive.writestr("model.weights.h5", (KERAS / "lstm.weights.h5").read_bytes())
    return path


@hostile("pickled (model.weights.npz), which is never loaded")
def pickled_weights_in_a_keras_file(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "model.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.npz", pickle.dumps(Touch(folder)))
    return folder / "model.keras"


# Zips


def rezipped(folder: Path, change: Callable[[zipfile.ZipFile, str, bytes], None], name: str = "model.keras") -> Path:
    """Copy a good .keras member by member."""
    with zipfile.ZipFile(KERAS / "lstm.keras") as good, zipfile.ZipFile(folder / name, "w") as archive:
        for entry in good.infolist():
            change(archive, entry.filename, good.read(entry))
    return folder / name


@hostile("would inflate from")
def zip_bomb(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "model.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        with archive.open("model.weights.h5", "w") as member:
            for _ in range(100):
                member.write(bytes(1 << 20))
    return folder / "model.keras"


@hostile("bytes; if you trust the file, set LSTMCONV_JSON_BYTES")
def config_that_is_a_zip_bomb(folder: Path) -> Path:
    def change(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
        content = b" " * (50 << 20) if name == "config.json" else content
        archive.writestr(name, content, zipfile.ZIP_DEFLATED)

    return rezipped(folder, change)


@hostile("damaged zip file")
def zip_member_that_lies_about_its_size(folder: Path) -> Path:
    path = rezipped(folder, lambda archive, name, content: archive.writestr(name, content, zipfile.ZIP_DEFLATED))
    content = bytearray(path.read_bytes())
    start = content.rindex(b"PK\x01\x02") + 24
    content[start : start + 4] = (64).to_bytes(4, "little")
    path.write_bytes(content)
    return path


@hostile("cut off")
def stored_member_that_lies_about_its_size(folder: Path) -> Path:
    path = rezipped(folder, lambda archive, name, content: archive.writestr(name, content))
    content = bytearray(path.read_bytes())
    start = content.rindex(b"PK\x01\x02") + 20
    content[start : start + 8] = struct.pack("<II", 1 << 31, 1 << 31)
    path.write_bytes(content)
    return path


@hostile("two members of one name")
def zip_with_two_members_of_one_name(folder: Path) -> Path:
    """Which of them is read depends on the reader: what was looked at is not what is used."""

    def change(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
        archive.writestr(name, content)
        if name == "model.weights.h5":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                archive.writestr(name, content[:-1] + b"x")

    return rezipped(folder, change)


@hostile("encrypted")
def encrypted_member(folder: Path) -> Path:
    path = rezipped(folder, lambda archive, name, content: archive.writestr(name, content))
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        start = 0
        while (start := content.find(signature, start)) >= 0:
            content[start + offset] |= 1
            start += 4
    path.write_bytes(content)
    return path


@hostile("compressed by method 14")
def member_compressed_with_a_giant_dictionary(folder: Path) -> Path:
    return rezipped(folder, lambda archive, name, content: archive.writestr(name, content, zipfile.ZIP_LZMA))


@hostile("without model.weights.h5")
def member_that_leads_out_of_the_zip(folder: Path) -> Path:
    return rezipped(folder, lambda archive, name, content: archive.writestr(f"../canary/{name}", content))


@hostile("damaged zip file")
def zip_whose_directory_lies_beyond_its_end(folder: Path) -> Path:
    path = rezipped(folder, lambda archive, name, content: archive.writestr(name, content))
    content = bytearray(path.read_bytes())
    start = content.rindex(b"PK\x05\x06") + 16
    content[start : start + 4] = (1 << 30).to_bytes(4, "little")
    path.write_bytes(content)
    return path


@hostile("members; if you trust the file")
def zip_of_a_million_members(folder: Path) -> Path:
    """One directory entry, many times: 46 bytes each, of which Python makes 600."""
    path = folder / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", b"")
    content = path.read_bytes()
    start, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    entry, count = content[start:end], 1_000_000
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    place = start + len(entry) * count
    large = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(entry) * count, start)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, place, 1)
    path.write_bytes(content[:start] + entry * count + large + locator + tail)
    return path


# Shards and folders


def shards(folder: Path, entry: object) -> Path:
    for shard in KERAS.glob("stacked_*"):
        shutil.copy(shard, folder)
    index = json.loads((KERAS / "stacked.weights.json").read_text())
    first = next(iter(index["weight_map"]))
    index["weight_map"][first] = entry
    (folder / "stacked.weights.json").write_text(json.dumps(index))
    return folder / "stacked.weights.json"


@hostile("is not a plain file name; not followed")
def shard_above_the_folder(folder: Path) -> Path:
    return shards(folder, "../secret.h5")


@hostile("is not a plain file name; not followed")
def shard_at_an_absolute_path(folder: Path) -> Path:
    return shards(folder, "/etc/passwd")


@hostile("is not a plain file name; not followed")
def shard_that_is_no_text(folder: Path) -> Path:
    return shards(folder, {"a": 1})


@hostile("is a symbolic link; not followed")
def shard_that_is_a_symbolic_link(folder: Path) -> Path:
    path = shards(folder, "link.h5")
    (folder / "link.h5").symlink_to("/etc/passwd")
    return path


@hostile("is missing beside it")
def shard_that_is_a_pipe(folder: Path) -> Path:
    path = shards(folder, "pipe.h5")
    os.mkfifo(folder / "pipe.h5")
    return path


def keras_folder(folder: Path) -> Path:
    return Path(shutil.copytree(KERAS / "lstm.folder", folder / "model.keras"))


@hostile("config.json is a symbolic link; not followed")
def folder_whose_config_is_a_link(folder: Path) -> Path:
    path = keras_folder(folder)
    (path / "config.json").unlink()
    (path / "config.json").symlink_to("/etc/passwd")
    return path


@hostile("model.weights.h5 is a symbolic link; not followed")
def folder_whose_weights_are_a_link(folder: Path) -> Path:
    path = keras_folder(folder)
    (path / "model.weights.h5").rename(folder / "elsewhere.h5")
    (path / "model.weights.h5").symlink_to(folder / "elsewhere.h5")
    return path


# Pickles


class Touch:
    """A pickle that makes the canary."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.folder}/canary",)


def torch_zip(folder: Path, pickled: bytes) -> Path:
    path = folder / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", bytes(64))
        archive.writestr("archive/version", b"3\n")
    return path


def unicode(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def evil_pickles(command: str) -> dict[str, bytes]:
    """Return the ways in which a pickle can call something, opcode by opcode."""
    system = b"cposix\nsystem\n"
    argument = unicode(command)
    called = argument + b"\x85"
    head = b"\x80\x04"
    return {
        "GLOBAL and REDUCE": head + system + called + b"R.",
        "STACK_GLOBAL": head + unicode("posix") + unicode("system") + b"\x93" + called + b"R.",
        "INST": b"(S'" + command.encode() + b"'\niposix\nsystem\n.",
        "OBJ": b"(" + system + argument + b"o.",
        "NEWOBJ": head + b"csubprocess\nPopen\n" + called + b"\x81.",
        "NEWOBJ_EX": head + b"csubprocess\nPopen\n" + called + b"}\x92.",
        "BUILD": head + b"ccollections\nOrderedDict\n)R}" + unicode("__setstate__") + system + b"sb.",
        "BUILD with a list": head + b"]" + unicode("x") + b"b.",
        "EXT1": head + b"\x82\x01.",
        "EXT2": head + b"\x83\x01\x01.",
        "EXT4": head + b"\x84\x01\x01\x01\x01.",
        "PERSID": b"Pposix.system\n.",
        "BINPERSID": head + unicode("posix.system") + b"Q.",
        "eval": head + b"cbuiltins\neval\n" + unicode(f"__import__('os').system({command!r})") + b"\x85R.",
        "getattr": head + b"cbuiltins\ngetattr\n" + b"cos\npath\n" + unicode("system") + b"\x86R.",
        "a dotted name": head + unicode("torch") + unicode("_utils.os.system") + b"\x93" + called + b"R.",
        "a name of torch that runs code": head + b"ctorch.hub\nload\n" + called + b"R.",
        "a memo of a memo": head + system + b"\x94" + b"0h\x00" + called + b"R.",
        "POP_MARK": head + b"(" + system + called + b"R1" + b"}.",
        "protocol 0": b"cposix\nsystem\n(V" + command.encode() + b"\ntR.",
    }


def _add_pickles() -> None:
    for name in evil_pickles("x"):
        for kind in ("zip", "legacy"):

            def make(folder: Path, name: str = name, kind: str = kind) -> Path:
                pickled = evil_pickles(f"touch {folder}/canary")[name]
                if kind == "zip":
                    return torch_zip(folder, pickled)
                (folder / "model.pt").write_bytes(LEGACY_HEAD + pickled + b"\x80\x02].")
                return folder / "model.pt"

            HOSTILE.append(Hostile(f"pickle by {name} in {kind}", "nothing was executed", make))


LEGACY_HEAD = (
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00(X\x10\x00\x00\x00protocol_versionq\x01"
    b"M\xe9\x03X\r\x00\x00\x00little_endianq\x02\x88X\n\x00\x00\x00type_sizesq\x03}q\x04(X\x05\x00\x00\x00shortq\x05K\x02X"
    b"\x03\x00\x00\x00intq\x06K\x04X\x04\x00\x00\x00longq\x07K\x04uu."
)
"""The three pickles before the object (torch/serialization.py _legacy_save): magic number, protocol, sizes."""
_add_pickles()


@hostile("never loaded")
def plain_pickle_named_like_a_keras_file(folder: Path) -> Path:
    (folder / "model.h5").write_bytes(pickle.dumps(Touch(folder), 4))
    return folder / "model.h5"


@hostile("containers nested too deeply")
def pickle_of_doubling_lists(folder: Path) -> Path:
    """Thirty pairs of the one before: 2^30 paths to the first."""
    content = b"\x80\x02]q\x00"
    for level in range(30):
        content += b"h" + bytes([level]) + b"\x86q" + bytes([level + 1])
    return torch_zip(folder, content + b".")


@hostile("holds no tensors")
def pickle_that_stacks_the_same_memo(folder: Path) -> Path:
    return torch_zip(folder, b"\x80\x02(" + unicode("x" * 1000) + b"q\x00" + b"h\x00" * 500_000 + b"t.")


@hostile("opcodes; save the state dict alone, or, if you trust the file, set LSTMCONV_PICKLE_OPCODES")
def pickle_of_endless_opcodes(folder: Path) -> Path:
    return torch_zip(folder, b"\x80\x02(" + b"N" * 3_500_000 + b"t.")


@hostile("damaged")
def pickle_of_a_text_of_a_terabyte(folder: Path) -> Path:
    return torch_zip(folder, b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"x.")


@hostile("containers nested too deeply")
def pickle_of_a_list_within_itself(folder: Path) -> Path:
    return torch_zip(folder, b"\x80\x02]q\x00h\x00a.")


def beside_good_weights(folder: Path, pickled: bytes) -> Path:
    """Put an object into a checkpoint, beside a good state dict."""
    path = folder / "model.pt"
    with zipfile.ZipFile(SAMPLES / "torch_stacked.pt") as good, zipfile.ZipFile(path, "w") as archive:
        for name in good.namelist():
            content = good.read(name)
            if name.endswith("data.pkl"):
                content = b"\x80\x02}(" + unicode("state_dict") + content[2:-1] + unicode("more") + pickled + b"u."
            archive.writestr(name, content)
    return path


@hostile(None)
def program_beside_good_weights(folder: Path) -> Path:
    command = unicode(f"touch {folder}/canary") + b"\x85R"
    return beside_good_weights(folder, b"cposix\nsystem\n" + command)


@hostile(None)
def program_as_the_state_of_an_object(folder: Path) -> Path:
    command = unicode(f"touch {folder}/canary") + b"\x85R"
    return beside_good_weights(folder, b"cmy\nModule\n)\x81}" + unicode("x") + b"cposix\nsystem\n" + command + b"sb")


@hostile(None)
def program_as_a_key(folder: Path) -> Path:
    command = unicode(f"touch {folder}/canary") + b"\x85R"
    return beside_good_weights(folder, b"}cposix\nsystem\n" + command + b"}s")


@hostile("builds tensors by my.weights, which is not known; nothing was executed")
def tensor_from_a_function_of_the_files_own(folder: Path) -> Path:
    storage = b"(" + unicode("storage") + b"ctorch\nFloatStorage\n" + unicode("0") + unicode("cpu") + b"K\x10tQ"
    return beside_good_weights(folder, b"cmy\nweights\n" + storage + b"\x85R")


def module(*entries: tuple[str, bytes]) -> bytes:
    """Write a module as a pickle has it, with these modules inside."""
    inner = b"}(" + b"".join(unicode(name) + value for name, value in entries) + b"u"
    state = unicode("_parameters") + b"}" + unicode("_buffers") + b"}" + unicode("_modules") + inner
    return b"cmy\nModule\n)\x81q\xff}(" + state + b"ub"


@hostile("inside themselves")
def module_within_itself(folder: Path) -> Path:
    return torch_zip(folder, b"\x80\x02" + module(("me", b"h\xff")) + b".")


@hostile("containers nested too deeply")
def module_of_a_thousand_levels(folder: Path) -> Path:
    made = module()
    for _ in range(1000):
        made = module(("inner", made))
    return torch_zip(folder, b"\x80\x02" + made + b".")


@hostile("containers nested too deeply")
def modules_that_double(folder: Path) -> Path:
    content = b"\x80\x02" + module() + b"q\x00"
    for level in range(30):
        again = b"h" + bytes([level])
        content += module(("a", again), ("b", again)) + b"q" + bytes([level + 1])
    return torch_zip(folder, b"\x80\x02(" + content[2:] + b"t.")


def npz(folder: Path, name: str, content: bytes, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(folder / "model.npz", "w", method) as archive:
        archive.writestr(name, content)
    return folder / "model.npz"


def npy_header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@hostile("an array of objects, which are pickled and never loaded")
def pickle_in_a_numpy_archive(folder: Path) -> Path:
    header = npy_header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n")
    return npz(folder, "arr_0.npy", header + pickle.dumps(Touch(folder)))


@hostile("a damaged NumPy archive")
def numpy_array_beyond_its_file(folder: Path) -> Path:
    header = npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,)}\n")
    return npz(folder, "arr_0.npy", header + bytes(64))


@hostile("a damaged NumPy archive")
def numpy_header_that_is_a_program(folder: Path) -> Path:
    return npz(folder, "arr_0.npy", npy_header(f"__import__('os').system('touch {folder}/canary')\n"))


@hostile("would inflate from")
def numpy_array_that_inflates_a_thousandfold(folder: Path) -> Path:
    header = npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (33554432,)}\n")
    return npz(folder, "arr_0.npy", header + bytes(4 * 33554432), zipfile.ZIP_DEFLATED)


@hostile("NumPy arrays")
def numpy_archive_of_a_name_that_climbs(folder: Path) -> Path:
    header = npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (4,)}\n")
    return npz(folder, "../../canary.npy", header + bytes(16))


@hostile("which are one place")
def names_of_both_forms_in_a_keras_file(folder: Path) -> Path:
    path = folder / "model.weights.h5"
    shutil.copy(KERAS / "lstm.weights.h5", path)
    with h5py.File(path, "r+") as file:
        file.create_group("layers\\lstm\\cell")
    return path


def exported(folder: Path, **changes: object) -> Path:
    """Write a ``.pt2`` of one weight with a change to what it says of it."""
    path = folder / "model.pt2"
    meta = {
        "dtype": 7, "sizes": [{"as_int": 4}], "strides": [{"as_int": 1}], "storage_offset": {"as_int": 0}, "layout": 7,
    }  # fmt: skip
    payload = {"path_name": "weight_0", "is_param": True, "use_pickle": False, "tensor_meta": meta}
    for key, value in changes.items():
        (payload if key in payload else meta)[key] = value
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/archive_format", "pt2")
        archive.writestr("m/data/weights/weight_0", bytes(16))
        config = {"config": {"lstm.weight_ih_l0": payload}}
        archive.writestr("m/data/weights/model_weights_config.json", json.dumps(config))
    return path


@hostile("is missing; the file is damaged")
def exported_weight_in_a_record_above(folder: Path) -> Path:
    (folder.parent / "secret").write_bytes(SECRET)
    return exported(folder, path_name="../../../secret")


@hostile("of a storage of 4 elements; the file is damaged")
def exported_weight_beyond_its_record(folder: Path) -> Path:
    return exported(folder, sizes=[{"as_int": 1 << 40}])


@hostile("is not what torch.export writes")
def exported_weight_of_a_negative_size(folder: Path) -> Path:
    return exported(folder, sizes=[{"as_int": -4}])


@hostile("is not what torch.export writes")
def exported_weight_of_a_thousand_axes(folder: Path) -> Path:
    return exported(folder, sizes=[{"as_int": 1}] * 1000, strides=[{"as_int": 1}] * 1000)


# safetensors


def safetensors(folder: Path, header: bytes, data: bytes = b"", length: int | None = None) -> Path:
    path = folder / "model.safetensors"
    size = len(header) if length is None else length
    path.write_bytes(size.to_bytes(8, "little") + header + data)
    return path


def tensor_entries(**changes: dict) -> tuple[dict, bytes]:
    """Return the header and the data of a state dict of one LSTM of 3 features and 5 units."""
    shapes = {"weight_ih_l0": [20, 3], "weight_hh_l0": [20, 5], "bias_ih_l0": [20], "bias_hh_l0": [20]}
    header, start = {}, 0
    for name, shape in shapes.items():
        stop = start + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, stop], **changes.get(name, {})}
        start = stop
    return header, bytes(start)


def with_entry(folder: Path, **changes: dict) -> Path:
    header, data = tensor_entries(**changes)
    return safetensors(folder, json.dumps(header).encode(), data)


@hostile("bytes of JSON; if you trust the file, set LSTMCONV_JSON_BYTES")
def safetensors_header_of_many_megabytes(folder: Path) -> Path:
    return safetensors(folder, b'{"a":' + b" " * (20 << 20) + b"1}")


@hostile("")
def safetensors_header_longer_than_the_file(folder: Path) -> Path:
    return safetensors(folder, b"{}", length=1 << 62)


@hostile("invalid offset")
def safetensors_whose_tensors_overlap(folder: Path) -> Path:
    return with_entry(folder, weight_hh_l0={"data_offsets": [0, 400]})


@hostile("safetensors")
def safetensors_whose_offsets_lie_outside(folder: Path) -> Path:
    return with_entry(folder, bias_hh_l0={"data_offsets": [1 << 40, (1 << 40) + 80]})


@hostile("safetensors")
def safetensors_whose_offsets_are_negative(folder: Path) -> Path:
    return with_entry(folder, weight_ih_l0={"data_offsets": [-80, 160]})


@hostile("safetensors")
def safetensors_whose_shape_does_not_fit(folder: Path) -> Path:
    return with_entry(folder, weight_ih_l0={"shape": [1 << 40, 1 << 40]})


@hostile("safetensors")
def safetensors_whose_type_does_not_fit(folder: Path) -> Path:
    return with_entry(folder, weight_ih_l0={"dtype": "F64"})


@hostile("safetensors")
def safetensors_of_an_unknown_type(folder: Path) -> Path:
    return with_entry(folder, weight_ih_l0={"dtype": "OBJECT"})


@hostile("twice in one object")
def safetensors_with_a_key_twice(folder: Path) -> Path:
    header, data = tensor_entries()
    text = json.dumps(header)[:-1] + ', "weight_ih_l0": ' + json.dumps(header["weight_ih_l0"]) + "}"
    return safetensors(folder, text.encode(), data)


@hostile("nested")
def safetensors_header_of_endless_depth(folder: Path) -> Path:
    return safetensors(folder, b'{"a":' * 100_000)


@hostile("safetensors")
def safetensors_metadata_that_is_no_text(folder: Path) -> Path:
    header, data = tensor_entries()
    return safetensors(folder, json.dumps({"__metadata__": {"lstmconv": {"layers": 1}}, **header}).encode(), data)


def noted(folder: Path, key: str, text: str) -> Path:
    header, data = tensor_entries()
    return safetensors(folder, json.dumps({"__metadata__": {key: text}, **header}).encode(), data)


@hostile("more than 1,000 LSTM layers; if you trust the file, set LSTMCONV_LAYERS")
def safetensors_of_twenty_thousand_modules(folder: Path) -> Path:
    entry = {"dtype": "F32", "shape": [4, 1]}
    header = {
        f"m{index // 2}.weight_{'ih' if index % 2 else 'hh'}_l0": {
            **entry,
            "data_offsets": [16 * index, 16 * index + 16],
        }
        for index in range(40_000)
    }
    return safetensors(folder, json.dumps(header).encode(), bytes(16 * 40_000))


@hostile(None)
def layer_names_of_a_million_entries(folder: Path) -> Path:
    """Announce one layer a million times."""
    with h5py.File(folder / "model.h5", "w", libver="latest") as file:
        group = file.create_group("lstm")
        for name, shape in (("kernel:0", (3, 20)), ("recurrent_kernel:0", (5, 20)), ("bias:0", (20,))):
            group[name] = random(shape)
        group.attrs["weight_names"] = [b"kernel:0", b"recurrent_kernel:0", b"bias:0"]
        file.attrs.create("layer_names", np.array([b"lstm"] * 1_000_000))
        file.attrs["keras_version"] = "2.4.0"
    return folder / "model.h5"


@hostile(None)
def provenance_of_endless_depth(folder: Path) -> Path:
    return noted(folder, "lstmconv", "[" * 100_000)


@hostile(None)
def provenance_of_other_types(folder: Path) -> Path:
    layer = {"name": {"a": 1}, "directions": 5, "input_size": 3, "class_name": 7, "merge_mode": []}
    return noted(folder, "lstmconv", json.dumps({"layers": [layer], "edges": [[1]], "stacks": 3}))


@hostile("manifest")
def cudnn_manifest_of_other_types(folder: Path) -> Path:
    return noted(folder, "cudnn", json.dumps({"a": {"inputSize": True, "hiddenSize": 10**30, "params": [1]}}))


def bare_cudnn(folder: Path, **changes: object) -> Path:
    """Write a bare buffer of 1,600 bytes and a manifest beside it."""
    sizes = {"inputSize": 3, "hiddenSize": 5, "projSize": 5, "numLayers": 1, "weightSpaceSize": 1600}
    modes = {"cellMode": "CUDNN_LSTM", "biasMode": "CUDNN_RNN_DOUBLE_BIAS", "dirMode": "CUDNN_BIDIRECTIONAL"}
    entry = {**sizes, **modes, "dataType": "CUDNN_DATA_FLOAT", "fileOffset": 0, **changes}
    (folder / "model.json").write_text(json.dumps({"cudnn": {"a": entry}}))
    (folder / "model.bin").write_bytes(bytes(1600))
    return folder / "model.bin"


@hostile("more than 1,000 LSTM layers; if you trust the file, set LSTMCONV_LAYERS")
def cudnn_manifest_of_two_billion_layers(folder: Path) -> Path:
    """Name the layers' sizes one by one and they take all memory (fuzz run 8048666)."""
    return bare_cudnn(folder, numLayers=1 << 31)


@hostile("'a' takes 1,597 bytes, no whole number of float32")
def cudnn_manifest_of_half_a_number(folder: Path) -> Path:
    """NumPy refuses to see such bytes as numbers, in words of its own (fuzz run 8050556)."""
    return bare_cudnn(folder, weightSpaceSize=1597)


# ONNX


def lstm_model(**changes: object) -> onnx.ModelProto:
    """Build a model of one LSTM of 3 features and 5 units."""
    weights = [
        helper.make_tensor(name, TensorProto.FLOAT, shape, np.zeros(shape, "f4").tobytes(), raw=True)
        for name, shape in (("W", (1, 20, 3)), ("R", (1, 20, 5)), ("B", (1, 40)))
    ]
    node = helper.make_node("LSTM", ["x", "W", "R", "B"], ["y"], "lstm", hidden_size=5)
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, None, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], **changes)


def onnx_file(folder: Path, model: onnx.ModelProto) -> Path:
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


def with_weight(folder: Path, change: Callable[[onnx.TensorProto], None]) -> Path:
    model = lstm_model()
    change(model.graph.initializer[0])
    return onnx_file(folder, model)


def with_nodes(folder: Path, *nodes: onnx.NodeProto, outputs: tuple[str, ...] = ()) -> Path:
    """Put nodes before the LSTM, one of which makes its W."""
    model = lstm_model()
    own = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *own])
    if any("W" in node.output for node in nodes):
        model.graph.initializer[0].name = "stored"
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs)
    return onnx_file(folder, model)


@hostile("cannot be parsed")
def onnx_cut_off(folder: Path) -> Path:
    path = onnx_file(folder, lstm_model())
    path.write_bytes(path.read_bytes()[:-300])
    return path


@hostile("cannot be parsed")
def onnx_of_endless_depth(folder: Path) -> Path:
    """Messages within messages: field 7 (graph), then field 1 (node), 5 (attribute), 6 (graph), ..."""
    inner = b""
    for number in [6, 5, 1] * 2000 + [7]:
        length, size = len(inner), b""
        while length >= 128:
            size, length = size + bytes([length & 127 | 128]), length >> 7
        inner = bytes([number << 3 | 2]) + size + bytes([length]) + inner
    (folder / "model.onnx").write_bytes(b"\x08\x08" + inner)
    return folder / "model.onnx"


def _varint(number: int) -> bytes:
    coded = b""
    while number >= 128:
        coded, number = coded + bytes([number & 127 | 128]), number >> 7
    return coded + bytes([number])


def _add_floods() -> None:
    # GraphProto: node, initializer, input, value_info; each an empty message of two bytes.
    for field, number in (("nodes", 1), ("initializers", 5), ("inputs", 11), ("values", 13)):

        def make(folder: Path, number: int = number) -> Path:
            graph = bytes([number << 3 | 2, 0]) * 5_000_000
            (folder / "model.onnx").write_bytes(b"\x08\x08\x3a" + _varint(len(graph)) + graph)
            return folder / "model.onnx"

        says = "nodes, tensors and attributes; if you trust the file, set LSTMCONV_ONNX_MESSAGES"
        HOSTILE.append(Hostile(f"onnx of five million empty {field}", says, make))


_add_floods()


@hostile("more than 1,000 LSTM layers; if you trust the file, set LSTMCONV_LAYERS")
def onnx_of_ten_thousand_lstms(folder: Path) -> Path:
    model = lstm_model()
    for index in range(10_000):
        previous = f"y{index - 1}" if index else "y"
        model.graph.node.append(helper.make_node("LSTM", [previous, "W", "R"], [f"y{index}"], hidden_size=5))
    return onnx_file(folder, model)


@hostile("no graph")
def onnx_without_a_graph(folder: Path) -> Path:
    (folder / "model.onnx").write_bytes(b"\x08\x08")
    return folder / "model.onnx"


@hostile("needs 240 bytes, the file has 7")
def onnx_raw_data_of_another_length(folder: Path) -> Path:
    return with_weight(folder, lambda tensor: setattr(tensor, "raw_data", b"\0" * 7))


@hostile("needs")
def onnx_of_giant_dims(folder: Path) -> Path:
    return with_weight(folder, lambda tensor: tensor.dims.__setitem__(slice(None), [1 << 40, 1 << 40, 1 << 40]))


@hostile("sizes are never negative")
def onnx_of_negative_dims(folder: Path) -> Path:
    return with_weight(folder, lambda tensor: tensor.dims.__setitem__(slice(None), [-1, -20, 3]))


@hostile("dimensions")
def onnx_of_a_thousand_dims(folder: Path) -> Path:
    return with_weight(folder, lambda tensor: tensor.dims.__setitem__(slice(None), [1] * 1000 + [60]))


@hostile("ONNX data type 8")
def onnx_weights_of_strings(folder: Path) -> Path:
    def change(tensor: onnx.TensorProto) -> None:
        tensor.data_type = TensorProto.STRING
        tensor.ClearField("raw_data")
        tensor.string_data.extend([b"x"] * 60)

    return with_weight(folder, change)


@hostile("ONNX data type 99")
def onnx_weights_of_an_unknown_type(folder: Path) -> Path:
    return with_weight(folder, lambda tensor: setattr(tensor, "data_type", 99))


@hostile("sparse")
def onnx_sparse_weights(folder: Path) -> Path:
    model = lstm_model()
    values = helper.make_tensor("W", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("W_i", TensorProto.INT64, [1], [1 << 60])
    del model.graph.initializer[0]
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [1, 1 << 60, 1 << 60]))
    return onnx_file(folder, model)


@hostile("depends on itself")
def onnx_node_that_reads_itself(folder: Path) -> Path:
    return with_nodes(folder, helper.make_node("Identity", ["W"], ["W"]))


@hostile("depends on itself")
def onnx_nodes_in_a_circle(folder: Path) -> Path:
    nodes = [helper.make_node("Identity", ["b"], ["a"]), helper.make_node("Identity", ["a"], ["b"])]
    return with_nodes(folder, *nodes, helper.make_node("Concat", ["a", "b"], ["W"], axis=0))


@hostile("two nodes write")
def onnx_name_that_is_written_twice(folder: Path) -> Path:
    return with_nodes(folder, *[helper.make_node("Identity", ["stored"], ["W"])] * 2)


@hostile("nothing in the graph defines")
def onnx_name_that_nothing_defines(folder: Path) -> Path:
    return with_nodes(folder, helper.make_node("Identity", ["nowhere"], ["W"]))


@hostile("W")
def onnx_constants_that_double(folder: Path) -> Path:
    """Forty nodes that join a value to itself: 2^40 times 240 bytes."""
    nodes = [helper.make_node("Identity", ["stored"], ["v0"])]
    nodes += [helper.make_node("Concat", [f"v{k}", f"v{k}"], [f"v{k + 1}"], axis=0) for k in range(40)]
    return with_nodes(folder, *nodes, helper.make_node("Identity", ["v40"], ["W"]))


def constant(name: str, values: list[int]) -> onnx.NodeProto:
    return helper.make_node(
        "Constant", [], [name], value=helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
    )


@hostile("would grow to")
def onnx_expand_to_a_petabyte(folder: Path) -> Path:
    shape = constant("s", [1 << 25, 1 << 25, 1, 20, 3])
    return with_nodes(folder, shape, helper.make_node("Expand", ["stored", "s"], ["W"]))


@hostile("would grow to")
def onnx_constant_of_a_petabyte(folder: Path) -> Path:
    return with_nodes(folder, constant("s", [1 << 25, 1 << 25]), helper.make_node("ConstantOfShape", ["s"], ["W"]))


@hostile("W")
def onnx_range_of_a_petabyte(folder: Path) -> Path:
    start, stop, step = (
        helper.make_node("Constant", [], [name], value=helper.make_tensor(name, TensorProto.INT64, [], [value]))
        for name, value in (("a", 0), ("b", 1 << 50), ("c", 1))
    )
    return with_nodes(folder, start, stop, step, helper.make_node("Range", ["a", "b", "c"], ["W"]))


def with_function(folder: Path, *bodies: tuple[str, list[onnx.NodeProto]]) -> Path:
    model = lstm_model()
    domain = helper.make_opsetid("own", 1)
    for name, nodes in bodies:
        imports = [helper.make_opsetid("", 14), domain]
        model.functions.append(helper.make_function("own", name, ["i"], ["o"], nodes, imports))
    model.opset_import.append(domain)
    call = helper.make_node(bodies[0][0], ["stored"], ["W"], domain="own")
    model.graph.initializer[0].name = "stored"
    model.graph.node.insert(0, call)
    return onnx_file(folder, model)


def call(name: str, given: str = "i", returned: str = "o") -> onnx.NodeProto:
    return helper.make_node(name, [given], [returned], domain="own")


@hostile("nested more than 64 deep")
def onnx_function_that_calls_itself(folder: Path) -> Path:
    return with_function(folder, ("f", [call("f")]))


@hostile("nested more than 64 deep")
def onnx_functions_that_call_each_other(folder: Path) -> Path:
    return with_function(folder, ("f", [call("g")]), ("g", [call("f")]))


@hostile("expand to more than")
def onnx_functions_that_double(folder: Path) -> Path:
    """Thirty functions that call the next one twice: 2^30 calls to make one weight."""
    bodies = [(f"f{k}", [call(f"f{k + 1}", "i", "m"), call(f"f{k + 1}", "m")]) for k in range(30)]
    return with_function(folder, *bodies, ("f30", [helper.make_node("Identity", ["i"], ["o"])]))


@hostile("expand to more than")
def onnx_function_of_a_megabyte_that_is_called_a_thousand_times(folder: Path) -> Path:
    """Twelve functions that call the next one thrice around a constant: 3^12 half megabytes."""
    large = helper.make_node("Constant", [], ["unused"], value=numpy_helper.from_array(random((1 << 17,))))
    bodies = [
        (f"f{k}", [call(f"f{k + 1}"), call(f"f{k + 1}", "i", "p"), call(f"f{k + 1}", "i", "q")]) for k in range(12)
    ]
    return with_function(folder, *bodies, ("f12", [large, helper.make_node("Identity", ["i"], ["o"])]))


@hostile("do not fit their calls")
def onnx_function_that_is_given_too_much(folder: Path) -> Path:
    body = helper.make_node("f1", ["i", "i"], ["o"], domain="own")
    return with_function(folder, ("f0", [body]), ("f1", [helper.make_node("Identity", ["i"], ["o"])]))


@hostile(None)
def onnx_lstm_within_ifs(folder: Path) -> Path:
    """Ten levels of If around the LSTM, which is read where it stands."""
    model = lstm_model()
    for level in range(10):
        node = helper.make_node("If", ["condition"], [f"y{level}"], f"if{level}")
        attribute = node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH)
        attribute.g.CopyFrom(model.graph)
        del attribute.g.input[:]
        del model.graph.node[:], model.graph.initializer[:]
        model.graph.node.append(node)
    return onnx_file(folder, model)


@hostile("which is not evaluated")
def onnx_subgraph_that_takes_its_weights_from_a_loop(folder: Path) -> Path:
    body = helper.make_graph([helper.make_node("Identity", ["stored"], ["w"])], "body", [], [])
    return with_nodes(folder, helper.make_node("Loop", ["", "c", "stored"], ["W"], body=body))


@hostile("hidden_size")
def onnx_hidden_size_of_a_quintillion(folder: Path) -> Path:
    model = lstm_model()
    model.graph.node[0].attribute[0].i = 1 << 60
    return onnx_file(folder, model)


@hostile("cannot be parsed")
def onnx_of_text(folder: Path) -> Path:
    (folder / "model.onnx").write_text("ir_version: 8\n")
    return folder / "model.onnx"


def external(folder: Path, location: str, **more: str) -> Path:
    def change(tensor: onnx.TensorProto) -> None:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **more}.items():
            tensor.external_data.add(key=key, value=value)

    return with_weight(folder, change)


@hostile("which is not followed")
def onnx_data_above_the_folder(folder: Path) -> Path:
    (folder.parent / "secret").write_bytes(SECRET)
    return external(folder, "../secret")


@hostile("which is not followed")
def onnx_data_at_an_absolute_path(folder: Path) -> Path:
    return external(folder, "/etc/passwd")


@hostile("which is not followed")
def onnx_data_at_a_windows_path(folder: Path) -> Path:
    return external(folder, "C:\\Windows\\win.ini")


@hostile("which is not followed")
def onnx_data_above_the_folder_in_windows(folder: Path) -> Path:
    return external(folder, "a\\..\\..\\secret")


@hostile("is not followed")
def onnx_data_behind_a_link(folder: Path) -> Path:
    (folder / "data").symlink_to("/etc/passwd")
    return external(folder, "data")


@hostile("is not followed")
def onnx_data_behind_a_linked_folder(folder: Path) -> Path:
    (folder / "inner").symlink_to("/etc")
    return external(folder, "inner/passwd")


@hostile("is no file")
def onnx_data_in_a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return external(folder, "pipe")


@hostile("truncated, or of another model")
def onnx_data_cut_off(folder: Path) -> Path:
    (folder / "data").write_bytes(bytes(100))
    return external(folder, "data", offset="50")


@hostile("truncated, or of another model")
def onnx_data_before_the_beginning(folder: Path) -> Path:
    (folder / "data").write_bytes(bytes(1000))
    return external(folder, "data", offset="-500")


@hostile("an offset that is no number")
def onnx_data_at_no_number(folder: Path) -> Path:
    (folder / "data").write_bytes(bytes(1000))
    return external(folder, "data", offset="1" * 5000)


@hostile("which is not followed")
def onnx_data_without_a_location(folder: Path) -> Path:
    return external(folder, "")


@hostile("which is not followed")
def onnx_data_in_the_folder_itself(folder: Path) -> Path:
    return external(folder, ".")


# What is no checkpoint at all


@hostile("the file is empty")
def empty_file(folder: Path) -> Path:
    (folder / "model.h5").write_bytes(b"")
    return folder / "model.h5"


def _add_pointers() -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
    for suffix in (".h5", ".keras", ".pt", ".safetensors", ".onnx", ".cudnn.safetensors", ".weights.h5"):

        def make(folder: Path, suffix: str = suffix, content: bytes = pointer) -> Path:
            (folder / f"model{suffix}").write_bytes(content)
            return folder / f"model{suffix}"

        HOSTILE.append(Hostile(f"lfs pointer {suffix}", "git lfs pull", make))

        def hollow(folder: Path, suffix: str = suffix) -> Path:
            return make(folder, suffix, b"")

        HOSTILE.append(Hostile(f"empty {suffix}", "empty", hollow))


_add_pointers()


@hostile("neither a file nor a folder")
def pipe_that_nobody_writes_to(folder: Path) -> Path:
    os.mkfifo(folder / "model.h5")
    return folder / "model.h5"


@hostile("neither a file nor a folder")
def device_without_end(folder: Path) -> Path:
    (folder / "model.h5").symlink_to("/dev/zero")
    return folder / "model.h5"


@hostile("no such file")
def link_to_itself(folder: Path) -> Path:
    (folder / "model.h5").symlink_to(folder / "model.h5")
    return folder / "model.h5"


@hostile("a folder without model.weights.h5")
def folder_of_other_things(folder: Path) -> Path:
    (folder / "model.h5").mkdir()
    return folder / "model.h5"


@hostile("more than this process may map")
def sparse_file_of_a_terabyte(folder: Path) -> Path:
    with (folder / "model.h5").open("wb") as file:
        file.truncate(1 << 40)
    return folder / "model.h5"


@hostile("more than this process may map")
def sparse_onnx_of_a_terabyte(folder: Path) -> Path:
    with (folder / "model.onnx").open("wb") as file:
        file.truncate(1 << 40)
    return folder / "model.onnx"


@hostile(None)
def names_that_command_a_terminal(folder: Path) -> Path:
    """Name a layer so that it clears the screen and writes another line."""
    arrays = dict(
        zip(
            ("kernel:0", "recurrent_kernel:0", "bias:0"), (random((3, 20)), random((5, 20)), random((20,))), strict=True
        )
    )
    return write_legacy(folder / "model.h5", {"\x1b[2J\x1b[31m[bold]ok\u202e": arrays})
