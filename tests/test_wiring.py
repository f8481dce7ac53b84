"""What stands between layers, on files of real Keras: each a member of a kind that was once read wrongly in silence."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import lstmconv
from lstmconv.errors import NoLSTMError, UnreadableFileError
from lstmconv.formats.keras.reader.open_file import open_file
from lstmconv.formats.keras.reader.read import interpret
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.options import ReadOptions
from lstmconv.model import Call, Model, Tensor
from lstmconv.model.kinds import Constant, Unknown
from lstmconv.semantics import run_model
from tests._cases import GOLDEN, assert_direction

WIRING = GOLDEN / "wiring"
TOLERANCE = 3e-6
"""Keras computes in float32 over six steps."""

pytestmark = pytest.mark.usefixtures("trusted_golden_files")


def model_of(name: str) -> Model:
    model = interpret(open_file(MappedFile(WIRING / name)), ReadOptions()).model
    assert model is not None
    return model


def call_of(model: Model, name: str) -> Call:
    return next(call for call in model.calls if call.name == name)


def stored(path: Path, place: str) -> list[np.ndarray]:
    """Return the arrays of one cell in a ``.keras`` file or a ``.weights.h5``."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive, h5py.File(archive.open("model.weights.h5")) as file:
            return [file[f"{place}/vars/{k}"][()] for k in range(3)]
    with h5py.File(path) as file:
        return [file[f"{place}/vars/{k}"][()] for k in range(3)]


def test_a_constant_initial_state_stands_in_the_graph():
    model = model_of("constant_state/model.h5")
    call = call_of(model, "enc")
    with np.load(WIRING / "constant_state" / "expected.npz") as expected:
        for tensor, name in zip(call.states, ("h0", "c0"), strict=True):
            layer = call_of(model, tensor.source).layer
            assert isinstance(layer, Constant)
            np.testing.assert_array_equal(layer.value, expected[name])
        sequence = Model(model.name, model.inputs, model.calls[:-1], {"enc": Tensor("enc")})
        found = run_model(sequence, [expected["x"]])["enc"]
        np.testing.assert_allclose(found, expected["y"], rtol=0, atol=TOLERANCE)
        assert np.abs(found - expected["z"]).max() > 0.1  # What it would be from zeros.


def test_a_layer_that_takes_another_s_states_is_not_joined_with_it():
    checkpoint = lstmconv.load(WIRING / "state_from_layer" / "chain_keras2.2.4.h5")
    assert checkpoint.edges == ()
    assert call_of(checkpoint.model, "d1").states == (Tensor("e1", 1), Tensor("e1", 2))


def test_an_explicit_mask_is_a_mask():
    checkpoint = lstmconv.load(WIRING / "mask_argument" / "model.keras")
    assert [call.masks for call in checkpoint.model.calls] == [(Tensor("input_layer_34"),)] * 2
    assert [layer.masking for layer in checkpoint.layers] == [True, True]


def test_halves_of_a_bidirectional_are_told_by_the_names_in_the_file():
    """Keras 3: the forward half is frozen, so that its arrays come last; the backward layer has a name of its own."""
    path = WIRING / "halves_exchanged" / "frozen_forward.h5"
    (layer,) = lstmconv.load(path).layers
    with h5py.File(path) as file:
        group = file["model_weights/bi/sequential/bi"]
        for half, name in ((layer.forward, "forward_a"), (layer.backward, "bwd")):
            names = ("kernel", "recurrent_kernel", "bias")
            assert_direction(half, [group[f"{name}/lstm_cell/{each}"][()] for each in names])


def test_halves_of_a_bidirectional_named_otherwise_in_the_config_compute_what_keras_computed():
    folder = WIRING / "halves_exchanged"
    checkpoint = lstmconv.load(folder / "weights.h5", config=folder / "model.json")
    with np.load(folder / "io.npz") as recording:
        found = lstmconv.reference(checkpoint.layers[0], recording["x"])
        np.testing.assert_allclose(found, recording["y"], rtol=0, atol=TOLERANCE)


def test_a_frozen_nested_model_of_keras_1_has_the_group_s_name_and_its_own_arrays():
    checkpoint = lstmconv.load(WIRING / "keras1" / "nested_frozen.h5")
    assert [layer.name for layer in checkpoint.layers] == ["inner/l1", "inner/l2", "l3"]
    with np.load(WIRING / "keras1" / "nested_frozen.npz") as recording:
        for layer in checkpoint.layers:
            assert_direction(layer.forward, [recording[f"w|{layer.name}|{k}"] for k in range(12)])
        found = run_model(checkpoint.model, [recording["x0"]])["l3"]
        np.testing.assert_allclose(found, recording["y"], rtol=0, atol=TOLERANCE)


def test_two_layers_of_one_name_are_two_layers():
    path = WIRING / "same_names" / "two_layers_named_lstm.weights.h5"
    checkpoint = lstmconv.load(path)
    assert [layer.name for layer in checkpoint.layers] == ["decoder", "encoder"]
    for layer in checkpoint.layers:
        assert_direction(layer.forward, stored(path, f"{layer.name}/cell"))


def test_two_cells_of_one_name_are_two_cells():
    path = WIRING / "same_names" / "two_cells_one_name.keras"
    checkpoint = lstmconv.load(path)
    assert [layer.name for layer in checkpoint.layers] == ["rnn/x", "rnn/x_1"]
    for layer, place in zip(checkpoint.layers, ("lstm_cell", "lstm_cell_1"), strict=True):
        assert_direction(layer.forward, stored(path, f"layers/rnn/cell/cells/{place}"))


def test_a_layer_that_two_models_share_is_one_layer():
    path = WIRING / "same_names" / "shared_in_submodels.keras"
    model = model_of("same_names/shared_in_submodels.keras")
    a, b, c = (call_of(model, f"{name}/lstm").layer for name in "ABC")
    assert b is c
    assert a is not b
    assert_direction(a.forward, stored(path, "layers/functional/layers/lstm/cell"))
    assert_direction(c.forward, stored(path, "layers/functional_1/layers/lstm/cell"))


@pytest.mark.parametrize(("file", "title"), [("my_LSTM.keras", "my>LSTM"), ("wrapper.keras", "my>MyWrap")])
def test_a_registered_class_is_not_keras_own_whatever_its_name(file: str, title: str):
    with pytest.raises(NoLSTMError, match=title):
        lstmconv.load(WIRING / "custom_classes" / file)


def test_a_custom_layer_with_a_key_named_layers_is_an_unknown_layer():
    checkpoint = lstmconv.load(WIRING / "custom_classes" / "layers_key.keras")
    assert [layer.name for layer in checkpoint.layers] == ["l"]
    mlp = call_of(checkpoint.model, "mlp")
    assert isinstance(mlp.layer, Unknown)
    assert mlp.inputs == (Tensor("l"),)


def test_names_with_backslashes_are_read_as_paths():
    path = WIRING / "windows" / "saved_on_windows.keras"
    (layer,) = lstmconv.load(path).layers
    root = "_layer_checkpoint_dependencies\\bidirectional\\{}_layer\\cell"
    for half, side in ((layer.forward, "forward"), (layer.backward, "backward")):
        assert_direction(half, stored(path, root.format(side)))


def test_a_cell_with_more_arrays_than_an_lstm_is_none():
    with pytest.raises(NoLSTMError, match="rnn"):
        lstmconv.load(WIRING / "more_than_an_lstm" / "layernorm.weights_only.h5")


def test_a_shared_place_that_could_be_two_layers_is_refused_with_both(tmp_path: Path):
    """Without the ids of the objects inside, nothing tells A's layer from B's."""
    path = tmp_path / "a.keras"
    with (
        zipfile.ZipFile(WIRING / "same_names" / "shared_in_submodels.keras") as source,
        zipfile.ZipFile(path, "w") as target,
    ):
        for member in source.namelist():
            content = source.read(member)
            if member == "config.json":
                content = json.dumps(without_ids(json.loads(content))).encode()
            target.writestr(member, content)
    with pytest.raises(lstmconv.UnsupportedModelError, match=r"functional/layers/lstm, .*_1/layers/lstm"):
        lstmconv.load(path)


def without_ids(value: object) -> object:
    if isinstance(value, dict):
        return {key: without_ids(inner) for key, inner in value.items() if key != "shared_object_id"}
    return [without_ids(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            "_layer_checkpoint_dependencies/input_layer",
            "and also '_layer_checkpoint_dependencies', which are one place",
        ),
        ("layers\\..\\lstm", "which is no path"),
    ],
)
def test_a_file_with_names_of_both_forms_is_refused(tmp_path, more, said):
    with zipfile.ZipFile(WIRING / "windows" / "saved_on_windows.keras") as good:
        members = {name: good.read(name) for name in good.namelist()}
    body = io.BytesIO(members["model.weights.h5"])
    with h5py.File(body, "r+") as file:
        file.create_group(more)
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        for name, content in (members | {"model.weights.h5": body.getvalue()}).items():
            archive.writestr(name, content)
    with pytest.raises(UnreadableFileError, match=said):
        lstmconv.load(tmp_path / "m.keras")
