"""``inspect`` on whole models: each layer's shape and parameters as real Keras counts them, and what is unknown."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

import lstmconv
from lstmconv.cli import app
from lstmconv.explaining.inspection import describe_checkpoint

GOLDEN = Path("tests/golden/whole/keras-3.15.1")
SAMPLE = Path("sample_weights/airline_passengers.h5")


@pytest.mark.parametrize(
    "name",
    [
        *("batch_normalization.h5", "bidirectional_gru.keras", "classifier.keras", "conv2d.keras"),
        *("multi_head_attention.keras", "several.keras", "shared_layer.keras", "simple_rnn.keras"),
        "mask_of_not_equal.keras",  # A constant of the config is no parameter.
    ],
)
def test_shapes_and_parameters_are_what_keras_says(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras = pytest.importorskip("keras")
        model = keras.models.load_model(GOLDEN / name, compile=False)
    found = describe_checkpoint(lstmconv.load(GOLDEN / name))["model"]
    by_name = {layer["name"]: layer for layer in found["layers"]}
    for layer in model.layers:
        if layer.name not in by_name:  # An InputLayer.
            assert layer.count_params() == 0
            continue
        assert by_name[layer.name]["parameters"] == layer.count_params(), layer.name
        node = layer._inbound_nodes[0]
        first = node.output_tensors[0]
        assert by_name[layer.name]["shape"] == list(first.shape), layer.name
    assert found["parameters"] == model.count_params()


def test_a_layer_that_is_called_twice_is_listed_once():
    (found,) = [
        layer
        for layer in describe_checkpoint(lstmconv.load(GOLDEN / "shared_layer.keras"))["model"]["layers"]
        if layer["name"] == "shared_dense"
    ]
    with zipfile.ZipFile(GOLDEN / "shared_layer.keras") as archive:
        layers = json.loads(archive.read("config.json"))["config"]["layers"]
    assert found["calls"] == len(next(one for one in layers if one["name"] == "shared_dense")["inbound_nodes"])


def shown(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["inspect", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_what_is_unknown_is_marked_with_its_reason_and_so_are_targets(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras = pytest.importorskip("keras")
        x = keras.Input((7, 3), name="x")
        y = keras.layers.Lambda(lambda t: t * 2, name="twice", output_shape=(7, 3))(x)
        y = keras.layers.Dense(5, name="head")(keras.layers.LSTM(11, name="lstm")(y))
        keras.Model(x, y, name="m").save(tmp_path / "m.keras")
    text = shown(tmp_path / "m.keras")
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith("  ")}
    assert "✗" in lines["twice"]
    assert "Lambda" in lines["twice"]
    assert lines["lstm"].split()[1:] == ["LSTM", "?", "660", "✓"]
    described = json.loads(shown(tmp_path / "m.keras", "--json"))["model"]
    known = {layer["name"]: (layer["known"], layer["reason"] is None) for layer in described["layers"]}
    assert known == {"twice": (False, False), "lstm": (True, True), "head": (True, True)}
    assert described["outputs"] == {"head": None}
    onnx, torch = described["targets"]["onnx"], described["targets"]["torch"]
    assert not onnx["possible"]
    assert "twice (Lambda)" in onnx["note"]
    assert not torch["possible"]
    assert torch["note"] == "the arrays of all layers but twice (Lambda)"


def test_a_file_that_does_not_tell_its_model_lists_none():
    assert json.loads(shown("sample_weights/torch_stacked.pt", "--json"))["model"] is None
    assert "whole model," not in shown("sample_weights/torch_stacked.pt")


def test_names_of_a_file_are_shown_as_text(tmp_path):
    from tests.test_report import hostile_source

    text = shown(hostile_source(tmp_path))
    assert "\x1b" not in text
    assert "\\x1b[31m" in text
