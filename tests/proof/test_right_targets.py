"""What ``verify`` passes: right files that other tools wrote, or that hold a rounded sum, or numbers that are odd."""

from __future__ import annotations

import json
import os
import shutil

os.environ.setdefault("KERAS_BACKEND", "torch")

import h5py
import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from typer.testing import CliRunner

import lstmconv
from lstmconv.cli.program import app
from tests.contract.building import make_checkpoint, make_half, make_layer, write_h5


@pytest.fixture
def stacked(tmp_path):
    """Return a genuine nn.LSTM: two real biases in each of its directions."""
    torch.manual_seed(7)
    torch.save(torch.nn.LSTM(3, 5, 2, bidirectional=True).state_dict(), tmp_path / "stacked.pt")
    return tmp_path / "stacked.pt"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("one.keras", {}),
        ("wide.keras", {"dtype": "float64"}),
        ("wide.pt", {"dtype": "float64", "bias_mode": "input"}),
        ("narrow.pt", {"dtype": "float16", "bias_mode": "both-halves"}),
        ("narrow.onnx", {"dtype": "float16"}),
        ("single.cudnn.safetensors", {"bias_mode": "single-input", "dtype": "float64"}),
    ],
)
def test_two_real_biases_pass_as_one_and_in_another_dtype(name, options, stacked, tmp_path):
    lstmconv.convert(stacked, tmp_path / name, **options)
    assert lstmconv.verify(stacked, tmp_path / name).passed


def test_two_biases_that_something_else_rounded_apart_pass(stacked, tmp_path):
    state = torch.load(stacked, weights_only=True)
    torch.save({key: tensor.half() for key, tensor in state.items()}, tmp_path / "half.pt")
    assert lstmconv.verify(stacked, tmp_path / "half.pt").passed


def test_a_bias_that_two_rounded_ones_do_not_explain_fails(stacked, tmp_path):
    state = torch.load(stacked, weights_only=True)
    state["bias_hh_l0"] = state["bias_hh_l0"] * (1 + 2**-20)
    torch.save(state, tmp_path / "other.pt")
    assert [check.level for check in lstmconv.verify(stacked, tmp_path / "other.pt").failures] == ["weights"]


def test_zeros_are_no_bias_where_the_source_has_none(tmp_path):
    """As tf2onnx exports use_bias=False: B is there, all zeros, and nothing of lstmconv's in the file."""
    source = write_h5(tmp_path / "m.h5", {"lstm": [make_half(3, 5, bias=False)]})
    lstmconv.convert(source, tmp_path / "m.onnx", whole=False)
    model = onnx.load(tmp_path / "m.onnx")
    del model.metadata_props[:]
    node = next(node for node in model.graph.node if node.op_type == "LSTM")
    assert len(node.input) == 3 or not any(node.input[3:])
    node.input[3:] = ["B"]
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 40), np.float32), "B"))
    onnx.save(model, tmp_path / "foreign.onnx")
    assert lstmconv.verify(source, tmp_path / "foreign.onnx").passed


def test_float16_weights_between_float32_inputs_and_outputs_pass(tmp_path):
    """As the float16 converter of onnxconverter-common leaves a model with keep_io_types."""
    source = write_h5(tmp_path / "m.h5", {"lstm": [make_half(3, 5)]})
    lstmconv.convert(source, tmp_path / "m.onnx", whole=False, dtype="float16")
    model = onnx.load(tmp_path / "m.onnx")
    for entry, way in [*((one, "in") for one in model.graph.input), *((one, "out") for one in model.graph.output)]:
        entry.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        inner = f"{entry.name}.half"
        for node in model.graph.node:
            names = node.input if way == "in" else node.output
            names[:] = [inner if name == entry.name else name for name in names]
        ends = (entry.name, inner) if way == "in" else (inner, entry.name)
        to = onnx.TensorProto.FLOAT16 if way == "in" else onnx.TensorProto.FLOAT
        cast = helper.make_node("Cast", [ends[0]], [ends[1]], to=to)
        model.graph.node.insert(0 if way == "in" else len(model.graph.node), cast)
    onnx.save(model, tmp_path / "m.onnx")
    report = lstmconv.verify(source, tmp_path / "m.onnx")
    assert report.passed
    assert any(check.level == "outputs" and check.status == "passed" for check in report.checks)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_weights_that_state_no_activations_are_not_compared_on_them(tmp_path):
    """Keras' own .weights.h5 beside its .keras: recurrent_activation stands in the second alone."""
    keras = pytest.importorskip("keras")
    model = keras.Sequential(
        [keras.layers.Input((None, 3)), keras.layers.LSTM(5, recurrent_activation="hard_sigmoid", name="l")]
    )
    model.save(tmp_path / "m.keras")
    model.save_weights(tmp_path / "m.weights.h5")
    assert lstmconv.verify(tmp_path / "m.keras", tmp_path / "m.weights.h5").passed
    assert [one.status for one in lstmconv.check([tmp_path / "m.keras", tmp_path / "m.weights.h5"])] == ["passed"] * 2


def test_a_state_dict_in_a_list_is_run(stacked, tmp_path):
    torch.save([torch.load(stacked, weights_only=True), {"epoch": 3}], tmp_path / "list.pt")
    assert lstmconv.verify(stacked, tmp_path / "list.pt").passed


@pytest.mark.parametrize("suffix", [".pt", ".onnx", ".keras"])
def test_one_infinite_weight_is_carried_and_the_rest_is_measured(suffix, stacked, tmp_path):
    state = torch.load(stacked, weights_only=True)
    state["weight_ih_l0"][0, 0] = np.inf
    torch.save(state, stacked)
    target = tmp_path / f"inf{suffix}"
    if suffix == ".pt":
        torch.save(state, target)
    else:
        lstmconv.convert(stacked, target, allow_not_finite=True)
    assert not lstmconv.verify(stacked, target).passed
    assert lstmconv.verify(stacked, target, allow_not_finite=True).passed


@pytest.mark.parametrize("name", ["lstm_cpu.h5", "lstm_gpu.h5", "bidirectional_concat_cpu.h5", "stacked.h5"])
def test_a_file_of_keras_1_is_the_same_as_itself(name, golden):
    """Its twelve arrays a direction are decoded by a way of their own, and not run: no Keras of today loads it."""
    report = lstmconv.verify(golden / "keras-1.2.2" / name, golden / "keras-1.2.2" / name)
    assert report.passed, report.failures


def test_a_file_of_keras_1_whose_gates_are_exchanged_fails(golden, tmp_path):
    source = golden / "keras-1.2.2" / "lstm_cpu.h5"
    shutil.copy(source, tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        group = file["model_weights/encoder"]
        forget, cell = (group[f"encoder_W_{gate}"][()] for gate in "fc")
        group["encoder_W_f"][...], group["encoder_W_c"][...] = cell, forget
    assert "weights" in {check.level for check in lstmconv.verify(source, tmp_path / "m.h5").failures}


@pytest.mark.parametrize("weight", [np.nan, np.inf])
@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_json_has_no_numbers_that_json_does_not_have(command, weight, tmp_path):
    half = make_half(3, 5)
    half.bias[5:10] = weight
    lstmconv.save(make_checkpoint(make_layer(half)), tmp_path / "m.pt")
    files = [str(tmp_path / "m.pt")] * (2 if command == "verify" else 1)
    found = CliRunner().invoke(app, [command, *files, "--json"])

    def refuse(name):
        raise AssertionError(name)

    assert json.loads(found.stdout, parse_constant=refuse)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("suffix", [".onnx", ".pt"])
@pytest.mark.parametrize("computes", ["mean", "multiply"])
def test_floats_that_are_made_of_whole_numbers_round_too(computes, suffix, tmp_path):
    """Their noise was nothing: Keras' mean of token ids, or an id times a float, failed right targets."""
    import keras

    ids, x = keras.Input((7,), dtype="int32", name="ids"), keras.Input((7,), name="x")
    lstm = keras.layers.LSTM(5)(keras.layers.Embedding(11, 3)(ids))
    other = keras.ops.mean(ids, axis=1, keepdims=True) if computes == "mean" else keras.ops.multiply(ids, x)
    keras.Model([ids, x], keras.layers.Concatenate()([lstm, other, x])).save(tmp_path / "m.keras")
    conversion = lstmconv.convert(tmp_path / "m.keras", tmp_path / f"m{suffix}", whole=True)
    assert conversion.reports[0].passed
