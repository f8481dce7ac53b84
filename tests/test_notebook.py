"""What a notebook shows and takes: short reprs, layers by name or number, live models, errors in Python's words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import lstmconv
from lstmconv.spelling import in_python
from tests._cases import fused, lstm_config, sequential, write_legacy, write_lstm

SAMPLES = Path(__file__).parent.parent / "sample_weights"


@pytest.fixture(scope="module")
def checkpoint():
    return lstmconv.load(SAMPLES / "airline_passengers.h5")


# What is shown


def test_every_value_has_a_short_repr(checkpoint, tmp_path):
    done = lstmconv.convert(SAMPLES / "airline_passengers.h5", tmp_path / "m.pt", verify=False)
    layer = checkpoint[0]
    values = [checkpoint, checkpoint.model, *checkpoint.model.layers, layer, layer.forward, layer.forward.weight_ih]
    for value in [*values, *checkpoint.stacks, done, done.report]:
        assert repr(value).startswith(type(value).__name__)
        assert len(repr(value)) < 160
    assert repr(layer) == "LSTMLayer('lstm', 1 feature, 16 units, float32, returns the last step)"
    assert repr(layer.forward.weight_ih) == "Gates(i f g o, each (16, 1) float32)"
    assert repr(checkpoint.model.layers[1]) == "Dense('next_month', kernel (16, 1), bias (1,))"


def test_the_repr_of_many_layers_stays_short(tmp_path):
    names = [f"a_layer_of_a_long_name_{number}" for number in range(40)]
    arrays = {
        name: {
            f"{name}/{array}:0": each
            for array, each in zip(("kernel", "recurrent_kernel", "bias"), fused(5, 5), strict=True)
        }
        for name in names
    }
    write_legacy(tmp_path / "m.h5", arrays, config=sequential(*(lstm_config(name, 5) for name in names)))
    assert len(repr(lstmconv.load(tmp_path / "m.h5"))) < 300


def test_a_notebook_gets_tables_in_which_no_name_is_html(tmp_path):
    write_lstm(tmp_path / "m.h5")
    done = lstmconv.convert(
        tmp_path / "m.h5", tmp_path / "m.pt", rename={"lstm_1": "<script>"}, whole=False, verify=False
    )
    for shown in (done._repr_html_(), done.report._repr_html_(), done.source._repr_html_()):
        assert shown.startswith("<table>")
        assert "<script>" not in shown
        assert "&lt;script&gt;" in shown


# Layers of a checkpoint


def test_a_checkpoint_is_a_collection_of_its_lstm_layers(checkpoint):
    assert len(checkpoint) == 1
    assert [layer.name for layer in checkpoint] == ["lstm"]
    assert checkpoint[0] is checkpoint["lstm"] is checkpoint[-1]
    assert "lstm" in checkpoint
    assert checkpoint[0] in checkpoint
    assert "next_month" not in checkpoint
    with pytest.raises(KeyError, match="no LSTM layer 'other'; there are lstm"):
        checkpoint["other"]
    with pytest.raises(IndexError):
        checkpoint[1]


# Wrong types

KERAS_MODEL = type("Model", (), {"__module__": "keras.src.models.model", "layers": (), "get_config": 0, "save": 0})
KERAS_LAYER = type("LSTM", (), {"__module__": "tf_keras.src.layers", "get_config": 0})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda c: lstmconv.load(KERAS_MODEL()),
            "load takes a path, not a Keras model: lstmconv.from_keras(model) reads",
        ),
        (lambda c: lstmconv.convert(KERAS_MODEL(), "m.pt"), "or save it, and pass the file"),
        (lambda c: lstmconv.load(KERAS_LAYER()), "not a Keras layer: put it into a keras.Sequential"),
        (lambda c: lstmconv.from_keras(KERAS_LAYER()), "from_keras takes a Keras model, not a Keras layer"),
        (
            lambda c: lstmconv.from_keras("m.h5"),
            "from_keras takes a Keras model, not a path: read it first, with lstmconv.load",
        ),
        (lambda c: lstmconv.load(torch.nn.LSTM(3, 5)), "not a torch module: lstmconv.from_torch(module)"),
        (
            lambda c: lstmconv.load(torch.nn.LSTM(3, 5).state_dict()),
            "not a state dict: lstmconv.from_torch(state_dict)",
        ),
        (lambda c: lstmconv.load(onnx.ModelProto()), "not an ONNX model: lstmconv.from_onnx(model)"),
        (lambda c: lstmconv.load(["a.h5", "b.h5"]), "not several values: pass one at a time"),
        (lambda c: lstmconv.load(None), "load takes a path, not NoneType"),
        (lambda c: lstmconv.load(c), "not a Checkpoint: lstmconv.save(checkpoint, path) writes one"),
        (lambda c: lstmconv.convert(c, "m.pt"), "not a Checkpoint: lstmconv.save(checkpoint, path) writes one"),
        (lambda c: lstmconv.convert("m.h5", c), "convert takes a path as its target, not a Checkpoint"),
        (lambda c: lstmconv.verify(c, c), "verify takes a path as its target, not a Checkpoint"),
        (
            lambda c: lstmconv.save(c[0], "m.pt"),
            "save takes a Checkpoint, not one layer: pass the Checkpoint that has it",
        ),
        (lambda c: lstmconv.to_cudnn(c), "to_cudnn takes one layer or stack, not a Checkpoint: pass one of its layers"),
        (lambda c: lstmconv.to_torch("m.h5"), "not a path: read it first, with lstmconv.load(path)"),
        (lambda c: lstmconv.to_onnx(c[0].forward), "not one direction of a layer: pass the layer that has it"),
        (lambda c: lstmconv.reference("m.h5", 0), "reference takes a Checkpoint, a model or a layer, not a path"),
        (lambda c: lstmconv.check(c), "check takes paths, not one layer"),
        (lambda c: lstmconv.check(None), "check takes paths, not NoneType"),
        (lambda c: lstmconv.torch.load(c), "lstmconv.torch.load takes a path, not a Checkpoint"),
        (lambda c: lstmconv.from_onnx("m.onnx"), "from_onnx takes an onnx.ModelProto, not a path: read it first"),
        (lambda c: lstmconv.from_torch("m.pt"), "from_torch takes a torch module or a state dict, not a path"),
    ],
)
def test_a_value_of_a_wrong_type_says_what_to_do_with_it(call, words, checkpoint):
    with pytest.raises(lstmconv.UsageError) as caught:
        call(checkpoint)
    assert words in str(caught.value)


# Models in memory


def test_from_torch_takes_a_state_dict():
    module = torch.nn.LSTM(3, 5, num_layers=2)
    found = lstmconv.from_torch(module.state_dict())
    assert [layer.name for layer in found] == ["lstm_l0", "lstm_l1"]
    np.testing.assert_array_equal(np.asarray(found[1].forward.weight_hh).reshape(20, 5), module.weight_hh_l1.detach())


LIVE = """
import os, sys
sys.path.append({libraries!r})
import numpy as np
{imports}
import lstmconv
model = keras.Sequential([
    keras.layers.LSTM(5, return_sequences=True, input_shape=(7, 3), bias_initializer="random_uniform", name="a"),
    keras.layers.LSTM(4, go_backwards=True, name="b"), keras.layers.Dense(2, name="head")])
x = np.random.default_rng(0).normal(size=(3, 7, 3)).astype("float32")
expected = np.asarray(model.predict(x, verbose=0))
found = lstmconv.from_keras(model)
assert [layer.name for layer in found] == ["a", "b"], found
np.testing.assert_allclose(lstmconv.reference(found, x), expected, atol=1e-5)
assert len(found.provenance.sha256) == 64
saved = lstmconv.save(found, sys.argv[1])
empty = keras.Sequential([keras.layers.LSTM(5)])
try:
    lstmconv.from_keras(empty)
except lstmconv.UnsupportedModelError as error:
    assert "no weights yet" in str(error)
else:
    raise SystemExit("an empty model was read")
"""


def test_from_keras_reads_a_live_model_of_keras_3(tmp_path):
    run_live("import warnings; warnings.simplefilter('ignore'); import keras", sys.executable, tmp_path)


def test_from_keras_reads_a_live_model_of_tf_keras(tmp_path):
    python = os.environ.get("LSTMCONV_TF_KERAS_PYTHON")
    if not python:
        pytest.skip("LSTMCONV_TF_KERAS_PYTHON is not set")
    run_live("import tf_keras as keras", python, tmp_path)


LIBRARIES = str(Path(np.__file__).parents[1])
"""Where lstmconv's own libraries are, for an interpreter that has only a Keras."""


def run_live(imports, python, folder):
    environment = {**os.environ, "PYTHONPATH": str(SAMPLES.parent), "KERAS_BACKEND": "torch"}
    done = subprocess.run(
        [python, "-c", LIVE.format(imports=imports, libraries=LIBRARIES), str(folder / "m.pt")],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert lstmconv.load(folder / "m.pt")["a"].hidden_size == 5


# Words


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda path: lstmconv.reference(lstmconv.load(SAMPLES / "keras2_weights_only.h5")[0], np.zeros((1, 2, 3))),
            'config="model.json" or activation',
        ),
        (lambda path: lstmconv.convert(path), 'a format, such as to="onnx"'),
        (lambda path: lstmconv.convert(path, path.with_suffix(".txt")), "or pass to"),
        (lambda path: lstmconv.convert(path, path.with_suffix(".pt")), "pass force=True to replace it"),
        (
            lambda path: lstmconv.convert(path, "x.pt", whole=True, layer="lstm_1"),
            "whole=True asks for the whole model, and layer and",
        ),
        (
            lambda path: lstmconv.convert(path, "x.onnx", whole=True, lengths=True),
            "lengths=True is for LSTM layers alone",
        ),
        (
            lambda path: lstmconv.convert(SAMPLES / "keras2_weights_only.h5", "x.pt"),
            'config="model.json", or recurrent_activation="hard_sigmoid" (the default then) or "sigmoid"',
        ),
    ],
)
def test_an_error_in_python_names_arguments(call, words, tmp_path):
    write_lstm(tmp_path / "m.h5", version=None)
    (tmp_path / "m.pt").write_bytes(b"")
    with pytest.raises(lstmconv.LstmconvError) as caught:
        call(tmp_path / "m.h5")
    assert words in str(caught.value)
    assert "--" not in str(caught.value)


def test_a_file_keeps_its_name_in_an_error(tmp_path):
    (tmp_path / "a --force.h5").write_bytes(b"")
    with pytest.raises(lstmconv.LstmconvError, match=r"^a --force\.h5: the file is empty"):
        lstmconv.load(tmp_path / "a --force.h5")


def test_no_option_in_a_message_is_left_as_the_command_line_spells_it():
    """Every option that a message in the source names becomes an argument of the API."""
    import inspect
    import re

    taken = {
        name
        for function in (lstmconv.load, lstmconv.convert, lstmconv.verify)
        for name in inspect.signature(function).parameters
    }
    for path in (SAMPLES.parent / "lstmconv").rglob("*.py"):
        if {"cli", "explaining"} & set(path.parts) or path.name in ("spelling.py", "convert_command.py"):
            continue
        for option in re.findall(r'"[^"\n]*?(--[a-z][a-z-]+)', path.read_text(encoding="utf-8")):
            spelled = re.split("[=.]", in_python(option))[0]
            assert spelled in taken or option in ("--deep", "--dask", "--with"), (path.name, option)


def test_the_users_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_lstm(tmp_path / "m.h5")
    lstmconv.convert("~/m.h5", "~/m.pt", verify=False)
    assert lstmconv.load("~/m.pt").provenance.source == "m.pt"
    assert lstmconv.verify("~/m.h5", "~/m.pt").target == "m.pt"
    assert lstmconv.check("~/m.pt")[0].status == "passed"
    assert lstmconv.save(lstmconv.load("~/m.h5"), "~/n.safetensors") == (tmp_path / "n.safetensors",)
