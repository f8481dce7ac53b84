"""``explain --layer`` of layers that are no LSTMs: the orders of axes that real PyTorch and ONNX files have."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
import torch
from typer.testing import CliRunner

import lstmconv
from lstmconv.cli import app
from lstmconv.errors import UsageError
from lstmconv.explaining.plain_layers import explain_plain, plain_layers

GOLDEN = Path("tests/golden/whole/keras-3.15.1")


def shown(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["explain", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize(
    "name",
    ["conv1d.keras", "conv2d.keras", "embedding.keras", "gru.keras", "layer_normalization.keras", "several.keras"],
)
def test_sizes_are_those_of_the_files_that_torch_and_onnx_load(name, tmp_path):
    """Sizes of golden layers are distinct, so an exchanged axis shows."""
    checkpoint = lstmconv.load(GOLDEN / name)
    lstmconv.convert(GOLDEN / name, tmp_path, to=["torch", "onnx"], verify=False)
    state = torch.load(next(tmp_path.glob("*.pt")), weights_only=True)
    initializers = {tuple(entry.dims) for entry in onnx.load(next(tmp_path.glob("*.onnx"))).graph.initializer}
    compared = 0
    for layer in plain_layers(checkpoint):
        for array in explain_plain(checkpoint, layer).arrays:
            _, of_torch, of_onnx = array.stored
            sizes = tuple(axis.size for axis in of_torch.axes)
            keys = [
                key
                for key in state
                if key.rpartition(".")[0] == layer and key.rpartition(".")[2].startswith(of_torch.name)
            ]
            if keys:
                assert {tuple(state[key].shape) for key in keys} == {sizes}, (layer, array.array)
                compared += 1
            if array.array == "kernel":
                assert tuple(axis.size for axis in of_onnx.axes) in initializers
    assert compared > 1


def test_a_dense_kernel_is_drawn_turned_and_the_same_numbers_are_marked():
    """The first feature's weights are the first row in Keras, and the first column in PyTorch."""
    text = shown(
        "sample_weights/airline_passengers.h5", "--layer", "next_month", "--format", "keras", "--format", "torch"
    )
    assert "next_month  Dense, 17 parameters" in text
    assert "kernel  Keras 2, 3: input × output; PyTorch: output × input" in text
    lines = text.splitlines()
    assert any("│▒▒▒│" in line for line in lines)
    assert any(line.rstrip().endswith("output 1 │▒                      │") for line in lines)
    assert "output 1, in the same order everywhere: Keras 2, 3 bias, PyTorch bias" in text


def test_gates_of_a_gru_are_drawn_in_each_formats_order():
    text = shown(GOLDEN / "gru.keras", "--layer", "reset_after", "--format", "keras", "--format", "torch")
    assert "gates z r h; PyTorch: gate unit × feature, gates r z h" in text
    cells = [line.strip().removeprefix("gate unit 15").strip() for line in text.splitlines()]
    assert any(line.startswith("feature 3 │") and [c for c in line if c in "zrh│"].count("│") >= 4 for line in cells)


def test_json_has_axes_gates_and_source():
    found = json.loads(shown(GOLDEN / "gru.keras", "--layer", "reset_after", "--json"))
    assert (found["name"], found["kind"]) == ("reset_after", "GRU")
    kernel = found["arrays"][0]
    assert kernel["array"] == "weight_ih"
    assert [(one["format"], one["gates"], one["moved"]) for one in kernel["stored"]] == [
        ("keras", "zrh", False), ("torch", "rzh", True), ("onnx", "zrh", True)
    ]  # fmt: skip
    assert "torch.nn.GRU" in kernel["source"]


def test_layers_without_arrays_and_formats_of_lstms_alone():
    text = shown(GOLDEN / "several.keras", "--layer", next(
        layer.name for layer in lstmconv.load(GOLDEN / "several.keras").model.layers
        if not getattr(layer, "arrays", {1: 1})
    ))  # fmt: skip
    assert "It stores no arrays." in text
    with pytest.raises(
        UsageError, match="next_month is no LSTM layer: --format is one of keras, torch, onnx, not cudnn"
    ):
        shown("sample_weights/airline_passengers.h5", "--layer", "next_month", "--format", "cudnn")
    with pytest.raises(UsageError, match="no layer 'nothing'; the file has lstm, next_month"):
        shown("sample_weights/airline_passengers.h5", "--layer", "nothing")
