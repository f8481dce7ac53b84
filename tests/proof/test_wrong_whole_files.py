"""What ``verify`` fails of whole files: another graph, other names, an array too many, a different model."""

from __future__ import annotations

import json
import os
import zipfile

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import onnx
import pytest
import torch

import lstmconv
from lstmconv.errors import UnreadableFileError
from lstmconv.proof import memory

keras = pytest.importorskip("keras")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def model(activation="relu", *, seed=1, swapped=False):
    keras.utils.set_random_seed(seed)
    x = keras.layers.Input((None, 3), name="x")
    h = keras.layers.LSTM(5, return_sequences=True, name="a")(x)
    h = keras.layers.LSTM(5, name="b")(h)
    d = keras.layers.Dense(2, activation=activation, name="d")(h)
    e = keras.layers.Dense(2, name="e")(h)
    return keras.Model(x, [e, d] if swapped else [d, e], name="two_heads")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a folder of one model as Keras saved it, its whole targets, and other models of the same shapes."""
    folder = tmp_path_factory.mktemp("whole")
    right = model()
    right.save(folder / "m.keras")
    other = {"seed": model(seed=2), "tanh": model("tanh"), "swapped": model(swapped=True)}
    other["tanh"].set_weights(right.get_weights())
    for name, made in other.items():
        made.save(folder / f"{name}.keras")
    for suffix in (".pt", ".onnx"):
        lstmconv.convert(folder / "m.keras", folder / f"m{suffix}", whole=True)
    return folder


@pytest.mark.parametrize("suffix", [".pt", ".onnx"])
@pytest.mark.parametrize(
    ("source", "levels"),
    [
        ("seed", {"weights", "model"}),
        ("tanh", {"structure", "model"}),
        ("swapped", {"structure", "model"}),
        ("m", set()),
    ],
)
def test_a_whole_file_is_held_to_another_model_of_its_shapes(source, levels, suffix, files):
    report = lstmconv.verify(files / f"{source}.keras", files / f"m{suffix}")
    assert {check.level for check in report.failures} == levels
    assert report.passed == (not levels)


def edited(files, tmp_path, change=None, tensors=()):
    """Copy the whole .pt with PyTorch's own writer, its record changed, and with more tensors."""
    with zipfile.ZipFile(files / "m.pt") as archive:
        record = json.loads(archive.read("archive/extra/lstmconv.json"))
    if change is not None:
        change(record["model"])
    state = torch.load(files / "m.pt", weights_only=True)
    torch.save({**state, **dict.fromkeys(tensors, torch.ones(2))}, tmp_path / "archive.pt")
    with zipfile.ZipFile(tmp_path / "archive.pt", "a") as archive:
        archive.writestr("archive/extra/lstmconv.json", json.dumps(record))
    return tmp_path / "archive.pt"


def compute_another(described):
    next(layer for layer in described["layers"] if layer["name"] == "e")["activation"] = {"name": "tanh"}


def reversed_outputs(described):
    described["outputs"] = dict(reversed(described["outputs"].items()))


def fewer_outputs(described):
    del described["outputs"]["e"]


@pytest.mark.parametrize("change", [compute_another, reversed_outputs, fewer_outputs])
def test_a_record_of_another_graph_fails(change, files, tmp_path):
    failures = lstmconv.verify(files / "m.keras", edited(files, tmp_path, change)).failures
    assert "structure" in {check.level for check in failures}
    assert "the model in its record is another one" in failures[0].detail


def test_the_copy_itself_passes(files, tmp_path):
    assert lstmconv.verify(files / "m.keras", edited(files, tmp_path)).passed


@pytest.mark.parametrize("name", ["extra.weight", "d.weight_g"])
def test_an_array_that_no_layer_has_is_refused(name, files, tmp_path):
    with pytest.raises(UnreadableFileError, match=name):
        lstmconv.verify(files / "m.keras", edited(files, tmp_path, tensors=[name]))


@pytest.mark.parametrize("kept", [slice(None, None, -1), slice(1)])
def test_outputs_in_another_order_or_fewer_fail_in_onnx(kept, files, tmp_path):
    found = onnx.load(files / "m.onnx")
    outputs = list(found.graph.output)[kept]
    del found.graph.output[:]
    found.graph.output.extend(outputs)
    onnx.save(found, tmp_path / "m.onnx")
    failures = lstmconv.verify(files / "m.keras", tmp_path / "m.onnx").failures
    assert [check.level for check in failures] == ["structure", "model"]


def test_of_a_giant_layer_some_units_are_run_and_the_model_is_said_not_to_be(files, monkeypatch):
    monkeypatch.setattr(memory, "GIANT", 50)
    report = lstmconv.verify(files / "m.keras", files / "m.pt")
    assert report.passed
    assert not report.complete
    found = {(check.layer, check.level): check.status for check in report.checks}
    assert found["two_heads", "model"] == "not run"
    assert found["a", "outputs"] == found["b", "outputs"] == "passed"
    assert not lstmconv.verify(files / "seed.keras", files / "m.pt").passed
    alone = lstmconv.verify(files / "m.keras", files / "m.onnx").checks[-1]  # No part of a whole graph runs alone.
    assert (alone.level, alone.status) == ("model", "not run")


def test_a_model_is_not_run_where_memory_is_short_and_the_line_says_how_much_it_takes(files, monkeypatch):
    monkeypatch.setattr(memory, "BYTES_A_WEIGHT", 1 << 50)
    (check,) = [
        check for check in lstmconv.verify(files / "m.keras", files / "m.onnx").checks if check.level == "model"
    ]
    assert check.status == "not run"
    assert "GB of memory" in check.detail


@pytest.fixture(scope="module")
def bounded(tmp_path_factory):
    """Return a folder of a model with a bound that no ordinary number reaches, and its ONNX file."""
    folder = tmp_path_factory.mktemp("bounded")
    x = keras.layers.Input((None, 3), name="x")
    h = keras.layers.LSTM(5, name="a")(x)
    y = keras.layers.ReLU(max_value=1000.0, name="relu")(keras.layers.Dense(2, name="d")(h))
    keras.Model(x, y, name="bounded").save(folder / "m.keras")
    lstmconv.convert(folder / "m.keras", folder / "m.onnx", whole=True)
    return folder


def node_of(model, operator):
    return next(node for node in model.graph.node if node.op_type == operator)


def without_bound(model):
    bound = next(entry.name for entry in model.graph.initializer if onnx.numpy_helper.to_array(entry).max() == 1000)
    node = next(node for node in model.graph.node if bound in node.input)
    node.op_type = "Identity"
    del node.input[1:]
    del node.attribute[:]


def with_far_clip(model):
    low, high = (onnx.numpy_helper.from_array(np.array(value, np.float32), f"b{value}") for value in (-1e6, 1e6))
    model.graph.initializer.extend([low, high])
    last = model.graph.node[-1]
    before = last.input[0]
    made = onnx.helper.make_node("Clip", [before, low.name, high.name], ["far"])
    model.graph.node.insert(len(model.graph.node) - 1, made)
    last.input[0] = "far"


def with_lstm_clip(model):
    node_of(model, "LSTM").attribute.append(onnx.helper.make_attribute("clip", 1e6))


def with_other_constant(model):
    (bound,) = (entry for entry in model.graph.initializer if onnx.numpy_helper.to_array(entry).max() == 1000)
    bound.CopyFrom(onnx.numpy_helper.from_array(np.array(1e9, np.float32), bound.name))


def with_wider_input(model):
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 7


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without_bound, "Identity"),
        (with_far_clip, "Clip"),
        (with_lstm_clip, "clip of LSTM"),
        (with_other_constant, "has other numbers"),
        (with_wider_input, "its input x"),
    ],
)
def test_a_graph_that_was_edited_where_no_input_reaches_fails(change, said, bounded, tmp_path):
    model = onnx.load(bounded / "m.onnx")
    change(model)
    onnx.save(model, tmp_path / "m.onnx")
    found = next(check for check in lstmconv.verify(bounded / "m.keras", tmp_path / "m.onnx").checks)
    assert (found.level, found.status) == ("structure", "failed")
    assert "changed since lstmconv wrote it" in found.detail
    assert said in found.detail
    (_, twin) = lstmconv.check([bounded / "m.keras", tmp_path / "m.onnx"])
    assert twin.twins == () or twin.status == "failed"


def test_what_computes_nothing_may_change_in_a_graph(bounded, tmp_path):
    model = onnx.load(bounded / "m.onnx")
    model.doc_string, model.graph.name = "of ours", "renamed"
    del model.graph.value_info[:]
    for node in model.graph.node:
        node.name = ""
    onnx.save(model, tmp_path / "m.onnx")
    assert lstmconv.verify(bounded / "m.keras", tmp_path / "m.onnx").passed


def test_a_graph_of_another_version_is_not_compared_and_that_is_said(bounded, tmp_path):
    model = onnx.load(bounded / "m.onnx")
    (entry,) = model.metadata_props
    entry.value = json.dumps(json.loads(entry.value) | {"version": "0.0.9"})
    onnx.save(model, tmp_path / "m.onnx")
    report = lstmconv.verify(bounded / "m.keras", tmp_path / "m.onnx")
    assert report.passed
    assert "the graph was not compared: lstmconv 0.0.9 wrote it" in report.checks[0].detail


@pytest.mark.parametrize("options", [{"states": True}, {"dtype": "float16"}, {"opset": 17}, {"rename": {"a": "z"}}])
def test_a_file_of_any_options_is_what_is_written(options, files, tmp_path):
    lstmconv.convert(files / "m.keras", tmp_path / "m.onnx", whole=True, verify=False, **options)
    assert lstmconv.verify(files / "m.keras", tmp_path / "m.onnx").checks[0].status == "passed"


def test_a_state_dict_and_a_graph_of_one_source_are_each_other_s(files):
    assert lstmconv.verify(files / "m.pt", files / "m.onnx").passed
