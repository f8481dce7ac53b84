"""Files whose record and content disagree: refused where the content means nothing without its record."""

from __future__ import annotations

import json
from contextlib import suppress

import h5py
import keras
import numpy as np
import onnx
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import lstmconv
from lstmconv.errors import UnreadableFileError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""Keras on PyTorch's backend, with NumPy 2."""

FEATURES, UNITS = 3, 5


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two Keras models, one with Keras 3's hard_sigmoid, as files of several formats."""
    folder = tmp_path_factory.mktemp("files")
    keras.utils.set_random_seed(0)
    for name, units, gate in (("hard", UNITS, "hard_sigmoid"), ("other", UNITS + 2, "sigmoid")):
        model = keras.Sequential(
            [
                keras.Input((7, FEATURES)),
                keras.layers.LSTM(units, recurrent_activation=gate, return_sequences=True, name="l"),
                keras.layers.Dense(2, name="d"),
            ],
            name=name,
        )
        model.save(folder / f"{name}.keras")
        for target, options in {
            f"{name}.safetensors": {"whole": False},
            f"{name}_whole.safetensors": {"whole": True},
            f"{name}.weights.h5": {"whole": False},
            f"{name}.onnx": {"whole": False},
        }.items():
            lstmconv.convert(folder / f"{name}.keras", folder / target, verify=False, **options)
    return folder


def tensors_and_metadata(path):
    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118  # no mapping


def without_extra_state(tensors):
    return {name: array for name, array in tensors.items() if not name.endswith("_extra_state")}


def without_a_bias(tensors):
    return {name: array for name, array in tensors.items() if "bias_" not in name}


def renamed(tensors):
    return {name.replace("l.", "m.", 1): array for name, array in tensors.items()}


def one_more(tensors):
    return tensors | {"l.peephole": np.ones((3, UNITS), np.float32)}


def another_layer(tensors):
    return tensors | {name.replace("l.", "m.", 1): array for name, array in tensors.items()}


def other_activation(tensors):
    said = json.loads(tensors["l._extra_state"].tobytes())
    said["recurrent_activation"] = said["activation"]
    return tensors | {"l._extra_state": np.frombuffer(json.dumps(said).encode(), np.uint8)}


def no_activation(tensors):
    return tensors | {"l._extra_state": np.frombuffer(b"[1", np.uint8)}


def more_units(tensors):
    return {name: np.pad(a, [(0, 4), (0, 1)][: a.ndim]) if a.dtype.kind == "f" else a for name, a in tensors.items()}


@pytest.mark.parametrize("scope", ["hard", "hard_whole"])
@pytest.mark.parametrize(
    "change",
    [
        without_extra_state,
        without_a_bias,
        renamed,
        one_more,
        another_layer,
        other_activation,
        no_activation,
        more_units,
    ],
)
def test_a_state_dict_whose_tensors_its_record_does_not_describe_is_refused(files, tmp_path, scope, change):
    tensors, metadata = tensors_and_metadata(files / f"{scope}.safetensors")
    save_file(change(tensors), tmp_path / "m.safetensors", metadata)
    with pytest.raises(lstmconv.LstmconvError, match=r"m\.safetensors.*(record|_extra_state|peephole)"):
        lstmconv.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize("scope", ["", "_whole"])
def test_the_record_of_another_file_is_refused(files, tmp_path, scope):
    tensors, _ = tensors_and_metadata(files / f"hard{scope}.safetensors")
    _, metadata = tensors_and_metadata(files / f"other{scope}.safetensors")
    save_file(tensors, tmp_path / "m.safetensors", metadata)
    with pytest.raises(UnreadableFileError, match="record"):
        lstmconv.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize("scope", ["hard", "hard_whole"])
def test_a_model_trained_further_keeps_its_record(files, tmp_path, scope):
    tensors, metadata = tensors_and_metadata(files / f"{scope}.safetensors")
    trained = {name: a * 2 if a.dtype.kind == "f" else a for name, a in tensors.items()}
    save_file(trained, tmp_path / "m.safetensors", metadata)
    (layer,) = lstmconv.load(tmp_path / "m.safetensors").layers
    assert str(layer.recurrent_activation) == "hard_sigmoid(alpha=0.1666667, beta=0.5)"
    np.testing.assert_array_equal(layer.forward.weight_hh.i, 2 * tensors["l.weight_hh_l0"][:UNITS])


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["layers"][0]["directions"][0].update(recurrent_activation={"name": "sigmoid"}),
        lambda record: record["layers"][0].update(return_sequences=False),
        lambda record: record["layers"].clear(),
        lambda record: record["stacks"][0].update(name="s"),
        lambda record: record.pop("model"),
    ],
    ids=["activation", "option", "no layer", "stack", "no model"],
)
def test_a_record_whose_layers_are_not_those_of_its_model_is_not_used(files, tmp_path, change):
    tensors, metadata = tensors_and_metadata(files / "hard_whole.safetensors")
    record = json.loads(metadata["lstmconv"])
    change(record)
    save_file(tensors, tmp_path / "m.safetensors", metadata | {"lstmconv": json.dumps(record)})
    assert lstmconv.load(files / "hard_whole.safetensors").model is not None
    with suppress(lstmconv.LstmconvError):
        assert lstmconv.load(tmp_path / "m.safetensors").model is None


@pytest.mark.parametrize("option", ["return_state", "stateful", "zero_output_for_mask"])
def test_verify_fails_a_record_that_states_another_option_than_its_source(files, tmp_path, option):
    """The tensors are the source's: nn.LSTM computes the same, but whoever converts the file on follows its record."""
    tensors, metadata = tensors_and_metadata(files / "hard.safetensors")
    record = json.loads(metadata["lstmconv"])
    record["layers"][0][option] = True
    save_file(tensors, tmp_path / "m.safetensors", metadata | {"lstmconv": json.dumps(record)})
    assert lstmconv.verify(files / "hard.keras", files / "hard.safetensors").passed
    report = lstmconv.verify(files / "hard.keras", tmp_path / "m.safetensors")
    assert [check.level for check in report.checks if check.status == "failed"] == ["structure"]


def test_weights_of_keras_with_the_record_of_another_file_are_refused(files, tmp_path):
    (tmp_path / "m.weights.h5").write_bytes((files / "hard.weights.h5").read_bytes())
    with h5py.File(files / "other.weights.h5") as other, h5py.File(tmp_path / "m.weights.h5", "a") as file:
        file.attrs["lstmconv"] = other.attrs["lstmconv"]
    with pytest.raises(UnreadableFileError, match=r"lstmconv's record in it describes other weights: 'l' has other"):
        lstmconv.load(tmp_path / "m.weights.h5")


def test_a_graph_says_itself_what_it_computes_under_the_record_of_another(files, tmp_path):
    model = onnx.load(files / "hard.onnx")
    own = next(entry for entry in model.metadata_props if entry.key == "lstmconv")
    own.value = next(e for e in onnx.load(files / "other.onnx").metadata_props if e.key == "lstmconv").value
    onnx.save(model, tmp_path / "m.onnx")
    checkpoint = lstmconv.load(tmp_path / "m.onnx")
    (layer,) = checkpoint.layers
    assert str(layer.recurrent_activation).startswith("hard_sigmoid(alpha=0.1666")
    assert any("record in the file does not describe its weights" in note for note in checkpoint.notes)
