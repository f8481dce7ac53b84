"""After success, one line a target says how it is used: the line is executed, or held to what the framework says."""

from __future__ import annotations

import json

import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

import lstmconv
import lstmconv.torch
from lstmconv.cli import app
from tests.contract.building import make_half, make_halves, write_h5

SAMPLE = "sample_weights/airline_passengers.h5"


def usage_of(source, target, **options):
    (line,) = lstmconv.convert(source, target, verify=False, **options).usage
    name, _, said = line.partition(": ")
    assert name == target.name
    return said


def test_a_whole_state_dict_is_loaded_by_the_call_that_is_shown(tmp_path):
    said = usage_of(SAMPLE, tmp_path / "m.pt")
    call = said.removeprefix("load it with ")
    assert call.startswith("lstmconv.torch.load(")
    assert eval(call).input_names == ("months",)


@pytest.mark.parametrize(
    ("halves", "dtype", "expected"),
    [
        ([make_half(3, 5, 1)], None, 'torch.nn.LSTM(3, 5, batch_first=True), prefix "rnn."'),
        (make_halves(3, 5, 1), None, 'torch.nn.LSTM(3, 5, batch_first=True, bidirectional=True), prefix "rnn."'),
        ([make_half(3, 5, 1)], "float64", 'torch.nn.LSTM(3, 5, batch_first=True, dtype=torch.float64), prefix "rnn."'),
    ],
)
def test_the_module_that_is_shown_loads_the_state_dict_strictly(halves, dtype, expected, tmp_path):
    source = write_h5(tmp_path / "s.h5", {"rnn": halves})
    said = usage_of(source, tmp_path / "m.pt", dtype=dtype, whole=False)
    assert said == f"loads into {expected}"
    module, _, prefix = expected.partition(", prefix ")
    state = torch.load(tmp_path / "m.pt", weights_only=True)
    eval(module).load_state_dict({name.removeprefix(json.loads(prefix)): each for name, each in state.items()})


def test_a_stack_without_a_prefix_is_one_call(tmp_path):
    said = usage_of("sample_weights/torch_stacked.pt", tmp_path / "m.safetensors", layer=["lstm"])
    assert said == "loads into torch.nn.LSTM(5, 7, num_layers=2, batch_first=True, bidirectional=True)"


def test_what_nn_lstm_does_not_compute_is_not_loaded_into_it(tmp_path):
    said = usage_of("sample_weights/keras1_lstm.h5", tmp_path / "m.pt", whole=False)
    assert said == 'loads into lstmconv.torch.LSTM(3, 5, batch_first=True), prefix "encoder."'


def test_of_many_modules_three_are_named(tmp_path):
    source = write_h5(tmp_path / "s.h5", {name: [make_half(3, 5, 1)] for name in "abcde"})
    said = usage_of(source, tmp_path / "m.pt", whole=False)
    assert said.count("torch.nn.LSTM") == 3
    assert said.endswith('prefix "c." and 2 more')


def test_an_onnx_model_says_what_it_takes_and_returns(tmp_path):
    assert usage_of(SAMPLE, tmp_path / "m.onnx") == "takes months (batch, 12, 1) float32; returns next_month"
    (entry,) = onnxruntime.InferenceSession(tmp_path / "m.onnx").get_inputs()
    assert (entry.name, entry.shape, entry.type) == ("months", ["batch", 12, 1], "tensor(float)")


def test_the_lines_stand_behind_the_files_and_in_json(tmp_path):
    command = ["convert", SAMPLE, str(tmp_path), "--to", "onnx", "--to", "torch", "--no-verify"]
    shown = CliRunner().invoke(app, command, catch_exceptions=False).stdout.splitlines()
    assert shown[-2] == "airline_passengers.onnx: takes months (batch, 12, 1) float32; returns next_month"
    assert shown[-1].startswith("airline_passengers.pt: load it with lstmconv.torch.load(")
    found = json.loads(CliRunner().invoke(app, [*command, "--force", "--json"], catch_exceptions=False).stdout)
    assert found["usage"] == shown[-2:]


def test_keras_files_name_the_function_that_loads_them(tmp_path):
    assert usage_of(SAMPLE, tmp_path / "m.keras", whole=False).startswith("load it with keras.models.load_model(")
    said = usage_of(SAMPLE, tmp_path / "m.weights.h5", whole=False)
    assert 'model.load_weights("' in said
