"""Hostile SavedModels and checkpoints of TensorFlow: each a good one with one lie in it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.hostile import bundles
from tests.hostile.files import SECRET, hostile

KERNEL = "layer_with_weights-0/cell/kernel/.ATTRIBUTES/VARIABLE_VALUE"
CONFIG = {
    "class_name": "Sequential",
    "config": {
        "name": "m",
        "layers": [
            {
                "class_name": "LSTM",
                "config": {
                    "name": "lstm",
                    "units": 5,
                    "activation": "tanh",
                    "recurrent_activation": "sigmoid",
                    "batch_input_shape": [None, 7, 3],
                },
            }
        ],
    },
    "keras_version": "2.13.1",
}


def checkpoint(folder: Path, graph: bytes | None = None, **options) -> Path:
    """Write a checkpoint of one LSTM, good but for what is given."""
    return bundles.write_checkpoint(folder / "cp", bundles.lstm_arrays(), graph or bundles.lstm_graph(), **options)


def claiming(folder: Path, **numbers) -> Path:
    """Write a checkpoint whose index says something else of the kernel."""
    array = bundles.lstm_arrays()[KERNEL]
    true = {"dtype": 1, "shape": array.shape, "offset": 0, "size": array.nbytes, "crc": bundles.masked(array.tobytes())}
    return checkpoint(folder, entries={KERNEL: bundles.entry(**{**true, **numbers})})


def saved_model(folder: Path, metadata: bytes | None = None) -> Path:
    """Write a SavedModel of one LSTM."""
    root = folder / "model"
    (root / "variables").mkdir(parents=True)
    bundles.write_checkpoint(root / "variables" / "variables", bundles.lstm_arrays(), bundles.lstm_graph())
    text = bundles.field(1, bundles.field(3, "root") + bundles.field(5, json.dumps(CONFIG)))
    (root / "keras_metadata.pb").write_bytes(text if metadata is None else metadata)
    return root


@hostile("a symbolic link; not followed")
def data_file_that_is_a_link(folder: Path) -> Path:
    index = checkpoint(folder)
    shard = folder / "cp.data-00000-of-00001"
    shard.rename(folder.parent / "elsewhere")
    shard.symlink_to(folder.parent / "elsewhere")
    return index


@hostile("is not beside it")
def checkpoint_named_outside_the_folder(folder: Path) -> Path:
    checkpoint(folder)
    (folder / "inner").mkdir()
    (folder / "inner" / "checkpoint").write_text('model_checkpoint_path: "../../../etc/passwd"\n')
    return folder / "inner"


@hostile("cut off")
def tensor_beyond_its_file(folder: Path) -> Path:
    return claiming(folder, size=1 << 40, shape=(1 << 20, 1 << 18))


@hostile("cut off")
def tensor_at_the_end_of_the_world(folder: Path) -> Path:
    return claiming(folder, offset=(1 << 64) - 240)


@hostile("damaged")
def tensor_of_a_shape_that_is_not_stored(folder: Path) -> Path:
    return claiming(folder, shape=(1 << 30, 1 << 30))


@hostile("damaged")
def tensor_of_no_numbers_and_a_giant_axis(folder: Path) -> Path:
    return claiming(folder, shape=(0, 1 << 62), size=0)


@hostile("lies on another tensor")
def tensors_on_each_other(folder: Path) -> Path:
    return claiming(folder, offset=40)


@hostile("differ from their checksum")
def tensor_that_was_changed(folder: Path) -> Path:
    index = checkpoint(folder)
    shard = folder / "cp.data-00000-of-00001"
    shard.write_bytes(b"\x01" + shard.read_bytes()[1:])
    return index


@hostile("lies in data file 7")
def tensor_in_a_data_file_that_is_not_announced(folder: Path) -> Path:
    return claiming(folder, shard=7)


@hostile("is missing beside its index")
def index_of_ten_thousand_data_files(folder: Path) -> Path:
    index = checkpoint(folder)
    return _rewritten(index, {b"": bundles.header(10_000)})


@hostile("claims 1,000,000,000 data files")
def index_of_a_billion_data_files(folder: Path) -> Path:
    return _rewritten(checkpoint(folder), {b"": bundles.header(10**9)})


def _rewritten(index: Path, changes: dict[bytes, bytes]) -> Path:
    from lstmconv.formats.tensorflow.reader.table import read_table

    index.write_bytes(bundles.table({**read_table(index.read_bytes(), index.name), **changes}))
    return index


@hostile("not in order")
def index_whose_blocks_are_one_block(folder: Path) -> Path:
    """Name the same block 100,000 times: 20 bytes each, of which a reader makes all its entries."""
    index = checkpoint(folder)
    inner = bundles.block([(b"", bundles.header()), *((b"%05d" % k, b"x" * 100) for k in range(1000))])
    handle = bundles.varint(0) + bundles.varint(len(inner) - 5)
    listed = bundles.block([(b"%06d" % k, handle) for k in range(100_000)])
    footer = b"\0\0" + bundles.varint(len(inner)) + bundles.varint(len(listed) - 5)
    index.write_bytes(inner + listed + footer.ljust(40, b"\0") + bundles.MAGIC)
    return index


@hostile("its names take more than")
def index_whose_names_inflate(folder: Path) -> Path:
    """Share a name of a megabyte between many entries, a few bytes each."""
    index = checkpoint(folder)
    shared = 1 << 20
    content = bundles.varint(0) + bundles.varint(shared) + b"\0" + b"a" * shared
    for number in range(1, 120):
        key = bytes([number])
        content += bundles.varint(shared) + b"\x01\x00" + key
    content += bytes(4) + (1).to_bytes(4, "little") + b"\0"
    inner = content + bundles.masked(content).to_bytes(4, "little")
    listed = bundles.block([(b"\xff", bundles.varint(0) + bundles.varint(len(inner) - 5))])
    footer = b"\0\0" + bundles.varint(len(inner)) + bundles.varint(len(listed) - 5)
    index.write_bytes(inner + listed + footer.ljust(40, b"\0") + bundles.MAGIC)
    return index


@hostile("is compressed")
def index_that_is_compressed(folder: Path) -> Path:
    index = checkpoint(folder)
    inner = bundles.block([(b"", bundles.header())])[:-5] + b"\x01"
    inner += bundles.masked(inner).to_bytes(4, "little")
    listed = bundles.block([(b"\xff", bundles.varint(0) + bundles.varint(len(inner) - 5))])
    footer = b"\0\0" + bundles.varint(len(inner)) + bundles.varint(len(listed) - 5)
    index.write_bytes(inner + listed + footer.ljust(40, b"\0") + bundles.MAGIC)
    return index


@hostile("a block lies beyond its end")
def index_whose_block_lies_beyond_its_end(folder: Path) -> Path:
    index = checkpoint(folder)
    footer = b"\0\0" + bundles.varint(1 << 62) + bundles.varint(1 << 62)
    index.write_bytes(footer.ljust(40, b"\0") + bundles.MAGIC)
    return index


@hostile(None)
def objects_that_show_each_other_in_a_circle(folder: Path) -> Path:
    circle = bundles.node({"back": 0, "self": 6, "forth": 7}) + bundles.node({"back": 6, "root_again": 0})
    return checkpoint(folder, bundles.lstm_graph(circle, {"extra": 6}))


@hostile("objects nest without end")
def objects_that_nest_without_end(folder: Path) -> Path:
    deep = b"".join(bundles.node({"a" * 50: number}) for number in range(7, 3007)) + bundles.node({})
    return checkpoint(folder, bundles.lstm_graph(deep, {"deep": 6}))


@hostile("more than 500,000 objects")
def objects_by_the_million(folder: Path) -> Path:
    return checkpoint(folder, bundles.lstm_graph(bundles.field(1, b"") * 1_000_000))


@hostile("refers to one that is not there")
def object_that_is_not_there(folder: Path) -> Path:
    return checkpoint(folder, bundles.lstm_graph(b"", {"gone": 1 << 40}))


@hostile("is listed and missing")
def variable_that_is_not_stored(folder: Path) -> Path:
    return checkpoint(folder, bundles.lstm_graph(bundles.node({}, "../../secret", "x"), {"v": 6}))


@hostile("a message in it is cut off")
def graph_that_is_cut_off(folder: Path) -> Path:
    return checkpoint(folder, bundles.lstm_graph()[:-3])


@hostile("differ from their checksum")
def graph_that_claims_to_be_longer(folder: Path) -> Path:
    index = checkpoint(folder)
    shard = folder / "cp.data-00000-of-00001"
    start = sum(array.nbytes for array in bundles.lstm_arrays().values())
    content = shard.read_bytes()
    shard.write_bytes(content[:start] + b"\xff\xff" + content[start + 2 :])
    return index


@hostile("a symbolic link; not followed")
def metadata_that_is_a_link(folder: Path) -> Path:
    root = saved_model(folder)
    (folder.parent / "secret").write_bytes(SECRET)
    (root / "keras_metadata.pb").unlink()
    (root / "saved_model.pb").symlink_to(folder.parent / "secret")
    return root


@hostile("more than 500,000 objects")
def metadata_of_a_million_layers(folder: Path) -> Path:
    return saved_model(folder, bundles.field(2, b"") * 1_000_000)


@hostile("nested")
def metadata_that_nests_without_end(folder: Path) -> Path:
    return saved_model(folder, bundles.field(1, bundles.field(3, "root") + bundles.field(5, "[" * 100_000)))


@hostile("config")
def metadata_of_a_model_that_holds_itself(folder: Path) -> Path:
    config = json.loads(json.dumps(CONFIG))
    config["config"]["layers"] *= 3
    text = bundles.field(1, bundles.field(3, "root") + bundles.field(5, json.dumps(config)))
    return saved_model(folder, text)


@hostile("should hold an LSTM of 7 units")
def metadata_of_another_size(folder: Path) -> Path:
    text = json.dumps(CONFIG).replace('"units": 5', '"units": 7')
    return saved_model(folder, bundles.field(1, bundles.field(3, "root") + bundles.field(5, text)))


@hostile("it holds no weights")
def saved_model_without_variables(folder: Path) -> Path:
    (folder / "model").mkdir()
    (folder / "model" / "saved_model.pb").write_bytes(b"\x08\x01\x12\x00")
    return folder / "model"


@hostile("two of its variables are called 'net/kernel'")
def export_whose_variables_have_one_name(folder: Path) -> Path:
    """Write what model.export() keeps, without layers; of two kernels of one name one could be taken for the other."""
    places = [f"_all_variables/{number}/.ATTRIBUTES/VARIABLE_VALUE" for number in range(4)]
    arrays = dict(zip(places, [*bundles.lstm_arrays().values()][:2] * 2, strict=True))
    names = ("net/kernel", "net/recurrent_kernel") * 2
    variables = [bundles.node({}, key, name) for key, name in zip(places, names, strict=True)]
    listed = bundles.node({str(number): number + 2 for number in range(4)})
    graph = bundles.node({"_all_variables": 1}) + listed + b"".join(variables)
    return bundles.write_checkpoint(folder / "cp", arrays, graph)


def tensorflow_js(folder: Path, weights: list[dict] | None = None, **manifest) -> Path:
    """Write a TensorFlow.js model of one LSTM, good but for what is given; return its folder."""
    arrays = dict(zip(("kernel", "recurrent_kernel", "bias"), bundles.lstm_arrays().values(), strict=True))
    named = [{"name": f"lstm/{key}", "shape": list(a.shape), "dtype": "float32"} for key, a in arrays.items()]
    root = folder / "model"
    root.mkdir()
    (root / "weights.bin").write_bytes(b"".join(array.tobytes() for array in arrays.values()))
    group = {"paths": ["weights.bin"], "weights": named if weights is None else weights, **manifest}
    stated = {"format": "layers-model", "modelTopology": {"model_config": CONFIG, "keras_version": "2.13.1"}}
    (root / "model.json").write_text(json.dumps({**stated, "weightsManifest": [group]}))
    return root


@hostile(None)
def tensorflow_js_model_that_is_good(folder: Path) -> Path:
    return tensorflow_js(folder)


@hostile("not a plain file name; not followed")
def tensorflow_js_weights_that_climb(folder: Path) -> Path:
    (folder.parent / "secret").write_bytes(SECRET)
    return tensorflow_js(folder, paths=["../../secret"])


@hostile("not a plain file name; not followed")
def tensorflow_js_weights_at_an_absolute_place(folder: Path) -> Path:
    return tensorflow_js(folder, paths=["/etc/passwd"])


@hostile("a symbolic link; not followed")
def tensorflow_js_weights_that_are_a_link(folder: Path) -> Path:
    root = tensorflow_js(folder)
    (root / "weights.bin").rename(folder.parent / "elsewhere")
    (root / "weights.bin").symlink_to(folder.parent / "elsewhere")
    return root


@hostile("a folder without")
def tensorflow_js_model_that_is_a_link(folder: Path) -> Path:
    root = tensorflow_js(folder)
    (root / "model.json").rename(folder.parent / "model.json")
    (root / "model.json").symlink_to(folder.parent / "model.json")
    return root


@hostile("cut off")
def tensorflow_js_weight_larger_than_any_memory(folder: Path) -> Path:
    return tensorflow_js(folder, [{"name": "lstm/kernel", "shape": [1 << 40, 1 << 40], "dtype": "float32"}])


@hostile("names the file of weights weights.bin twice")
def tensorflow_js_weights_that_repeat_a_file_without_end(folder: Path) -> Path:
    return tensorflow_js(folder, paths=["weights.bin"] * 100_000)


@hostile("holds 'lstm/kernel' twice")
def tensorflow_js_weights_of_no_size_without_end(folder: Path) -> Path:
    return tensorflow_js(folder, [{"name": "lstm/kernel", "shape": [0], "dtype": "float32"}] * 200_000)


@hostile("nested")
def tensorflow_js_model_that_nests_without_end(folder: Path) -> Path:
    root = tensorflow_js(folder)
    (root / "model.json").write_text('{"modelTopology": ' + "[" * 100_000)
    return root


@hostile("several models: itself a TensorFlow SavedModel or checkpoint, cp.index, model.json")
def folder_of_several_models(folder: Path) -> Path:
    root = saved_model(folder)
    checkpoint(root)
    (root / "model.json").write_text('{"modelTopology": {}, "weightsManifest": []}')
    return root
