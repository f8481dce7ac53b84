"""The traps in reading Keras files (FORMATS H), one bug each, shown on files built by hand or written by real Keras."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest

import lstmconv
from lstmconv import LSTMLayer
from lstmconv.activations import HARD_SIGMOID_KERAS_2, HARD_SIGMOID_KERAS_3, SIGMOID, TANH
from lstmconv.errors import LstmconvError, UnreadableFileError, UnsupportedModelError
from lstmconv.formats.hdf5 import tree
from tests._cases import (
    GOLDEN,
    assert_direction,
    assert_same_bits,
    columns,
    fused,
    gates_by_name,
    lstm_config,
    per_gate,
    random,
    recorded_layers,
    sequential,
    walk_here,
    write_legacy,
    write_lstm,
    write_saveable,
)

Arrays = Mapping[str, np.ndarray]


@pytest.fixture(autouse=True)
def _trust_these_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the trial read in a child, which test_hdf5.py tests: these files are whole."""
    monkeypatch.setattr(tree, "described", walk_here)


def only(path: Path, **options: Any) -> LSTMLayer:
    """Load a file of one layer."""
    (layer,) = lstmconv.load(path, **options).layers
    return layer


def named(arrays: Sequence[np.ndarray], scope: str = "lstm_1/", suffix: str = ":0") -> dict[str, np.ndarray]:
    """Name the arrays of an LSTM as a writer does."""
    names = ["kernel", "recurrent_kernel", "bias"][: len(arrays)]
    return {f"{scope}{name}{suffix}": array for name, array in zip(names, arrays, strict=True)}


def write_json(path: Path, model: Mapping[str, Any], **more: object) -> Path:
    path.write_text(json.dumps({**model, **more}))
    return path


def bidirectional_config(name: str, layer: Mapping[str, Any], **options: object) -> dict[str, Any]:
    return {"class_name": "Bidirectional", "config": {"name": name, "layer": layer, "merge_mode": "concat", **options}}


# 1 to 3: Keras 1


@pytest.mark.parametrize(("inputs", "units"), [(3, 5), (4, 4)])
def test_trap_01_keras_1_order_i_c_f_o_is_not_read_as_i_f_c_o(tmp_path: Path, inputs: int, units: int):
    arrays = per_gate(inputs, units)
    stored = {f"lstm_a_{name}": array for name, array in arrays.items()}
    layer = only(write_legacy(tmp_path / "a.h5", {"lstm_a": stored}, version=None))
    assert layer.name == "lstm_a"
    assert_same_bits(layer.forward.weight_ih, gates_by_name(arrays, "W"))
    assert_same_bits(layer.forward.weight_hh, gates_by_name(arrays, "U"))
    assert_same_bits(layer.forward.bias_ih, gates_by_name(arrays, "b"))
    np.testing.assert_array_equal(layer.forward.weight_ih.f, arrays["W_f"].T)
    np.testing.assert_array_equal(layer.forward.weight_ih.g, arrays["W_c"].T)


def test_trap_01_keras_1_arrays_are_told_by_name_and_not_by_the_order_in_which_they_are_listed(tmp_path: Path):
    arrays = per_gate(3, 5)
    stored = {f"lstm_a_{name}:0": arrays[name] for name in sorted(arrays)}
    layer = only(write_legacy(tmp_path / "a.h5", {"lstm_a": stored}, version=None))
    assert_same_bits(layer.forward.weight_ih, gates_by_name(arrays, "W"))


def test_trap_01_keras_1_bidirectional_has_the_forward_half_first(tmp_path: Path):
    forward, backward = per_gate(3, 5), per_gate(3, 5, seed=50)
    stored = {f"forward_lstm_1_{name}": array for name, array in forward.items()}
    stored |= {f"backward_lstm_1_{name}": array for name, array in backward.items()}
    layer = only(write_legacy(tmp_path / "a.h5", {"both": stored}, version=None))
    assert_same_bits(layer.forward.weight_hh, gates_by_name(forward, "U"))
    assert_same_bits(layer.backward.weight_hh, gates_by_name(backward, "U"))
    assert (layer.forward.go_backwards, layer.backward.go_backwards) == (False, True)


def test_trap_02_keras_1_gpu_mode_is_not_reordered(tmp_path: Path):
    arrays = fused(3, 5)
    stored = dict(zip(["lstm_a_W", "lstm_a_U", "lstm_a_b"], arrays, strict=True))
    assert_direction(only(write_legacy(tmp_path / "a.h5", {"lstm_a": stored}, version=None)).forward, arrays)


def test_trap_03_keras_1_whole_model_has_its_version_on_the_root_only(tmp_path: Path):
    """The weights' group has no version of its own; hard_sigmoid is that of Keras 1 all the same."""
    config = {
        "class_name": "Sequential",
        "config": [
            {
                "class_name": "LSTM",
                "config": {
                    "name": "lstm_a",
                    "output_dim": 5,
                    "activation": "tanh",
                    "inner_activation": "hard_sigmoid",
                    "return_sequences": False,
                },
            }
        ],
    }
    arrays = per_gate(3, 5)
    write_legacy(
        tmp_path / "a.h5", {"lstm_a": {f"lstm_a_{k}": v for k, v in arrays.items()}}, version=None, config=config
    )
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs["keras_version"] = b"1.2.2"
    checkpoint = lstmconv.load(tmp_path / "a.h5")
    assert checkpoint.provenance.keras_version == "1.2.2"
    assert checkpoint.layers[0].recurrent_activation == HARD_SIGMOID_KERAS_2
    assert checkpoint.layers[0].return_sequences is False
    assert_same_bits(checkpoint.layers[0].forward.weight_ih, gates_by_name(arrays, "W"))


def test_trap_03_keras_1_weights_only_state_no_version_at_all():
    file = GOLDEN / "keras-1.2.2" / "lstm_cpu.weights_only.h5"
    checkpoint = lstmconv.load(file)
    assert checkpoint.provenance.keras_version is None
    assert "by Keras 1 or older" in checkpoint.unknown
    asked = only(file, recurrent_activation="hard_sigmoid")
    assert asked.recurrent_activation == HARD_SIGMOID_KERAS_2


def test_keras_0_arrays_have_no_names(tmp_path: Path):
    """Keras 0: nb_layers, layer_k with nb_params, param_p in the order i, c, f, o; param_10 comes after param_2."""
    arrays = per_gate(3, 5)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["nb_layers"] = 2
        for index, stored in enumerate([list(arrays.values()), [random((5, 2)), random((2,))]]):
            group = file.create_group(f"layer_{index}")
            group.attrs["nb_params"] = len(stored)
            for k, array in enumerate(stored):
                group[f"param_{k}"] = array
    layer = only(tmp_path / "a.h5")
    assert layer.name == "layer_0"
    assert_same_bits(layer.forward.weight_ih, gates_by_name(arrays, "W"))
    assert_same_bits(layer.forward.bias_ih, gates_by_name(arrays, "b"))


@pytest.mark.parametrize("count", [3, 6])
def test_arrays_that_theano_left_without_names_are_told_by_their_order(tmp_path: Path, count: int):
    arrays = [*fused(3, 5), *fused(3, 5, seed=9)][:count]
    stored = {f"param_{k}": array for k, array in enumerate(arrays)}
    layer = only(write_legacy(tmp_path / "a.h5", {"lstm_1": stored}, version="2.0.2"))
    assert_direction(layer.forward, arrays[:3])
    assert (layer.backward is not None) == (count == 6)
    if layer.backward is not None:
        assert_direction(layer.backward, arrays[3:])


# 4 and 5: activations


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.2.2", HARD_SIGMOID_KERAS_2),
        ("2.2.4", HARD_SIGMOID_KERAS_2),
        ("2.2.4-tf", HARD_SIGMOID_KERAS_2),
        ("2.21.0", HARD_SIGMOID_KERAS_2),
        ("3.0.5", HARD_SIGMOID_KERAS_3),
        ("3.15.1", HARD_SIGMOID_KERAS_3),
    ],
)
def test_trap_04_hard_sigmoid_is_decided_by_the_producer_s_version(tmp_path: Path, version: str, expected: object):
    write_lstm(tmp_path / "a.h5", version=version, recurrent_activation="hard_sigmoid")
    assert only(tmp_path / "a.h5").recurrent_activation == expected


def test_trap_04_the_two_functions_named_hard_sigmoid_compute_differently():
    """Real tf-keras' recording is met by 0.2x+0.5 only, real Keras 3's by x/6+0.5 only."""
    for folder, right, wrong in (
        ("tf-keras-2.21.0", "hard_sigmoid_keras2", "hard_sigmoid_keras3"),
        ("keras-3.15.1", "hard_sigmoid_keras3", "hard_sigmoid_keras2"),
    ):
        recorded = recorded_layers(GOLDEN / folder / "lstm_hard_sigmoid.npz")["encoder"]
        errors = {}
        for name in (right, wrong):
            layer = only(GOLDEN / folder / "lstm_hard_sigmoid.h5", recurrent_activation=name)
            errors[name] = np.abs(lstmconv.reference(layer, recorded["x"]) - recorded["y"]).max()
        assert errors[right] < 1e-5
        assert errors[wrong] > 1e-2


@pytest.mark.parametrize(
    ("more", "options", "expected"),
    [
        ({"keras_version": "2.13.1"}, {"time_major": False}, HARD_SIGMOID_KERAS_2),
        ({}, {"time_major": False}, HARD_SIGMOID_KERAS_2),
        ({"registered_name": None, "module": "keras"}, {}, HARD_SIGMOID_KERAS_3),
        ({"keras_version": "3.3.3"}, {}, HARD_SIGMOID_KERAS_3),
    ],
    ids=["its own version", "time_major, which Keras 2 writes", "registered_name, which Keras 3 writes", "version 3"],
)
def test_trap_04_hard_sigmoid_of_a_weights_file_without_a_version_is_decided_by_its_config(
    tmp_path: Path, more: Mapping[str, Any], options: Mapping[str, Any], expected: object
):
    write_saveable(tmp_path / "a.weights.h5", {"layers/lstm/cell": fused(3, 5)})
    config = sequential(lstm_config(recurrent_activation="hard_sigmoid", **options))
    write_json(tmp_path / "a.json", config, **more)
    assert only(tmp_path / "a.weights.h5", config=tmp_path / "a.json").recurrent_activation == expected


def test_trap_04_hard_sigmoid_is_not_guessed_where_nothing_tells_the_version(tmp_path: Path):
    write_saveable(tmp_path / "a.weights.h5", {"layers/lstm/cell": fused(3, 5)})
    write_json(tmp_path / "a.json", sequential(lstm_config(recurrent_activation="hard_sigmoid")))
    with pytest.raises(UnsupportedModelError, match=r'hard_sigmoid_keras2"? or "?hard_sigmoid_keras3'):
        lstmconv.load(tmp_path / "a.weights.h5", config=tmp_path / "a.json")
    with pytest.raises(UnsupportedModelError, match=r'hard_sigmoid_keras2"? or "?hard_sigmoid_keras3'):
        lstmconv.load(tmp_path / "a.weights.h5", recurrent_activation="hard_sigmoid")


def test_trap_04_config_of_keras_3_for_weights_of_keras_2_is_refused_where_hard_sigmoid_makes_it_matter(
    tmp_path: Path,
):
    write_legacy(tmp_path / "a.h5", {"lstm_1": named(fused(3, 5))}, version="2.2.4")
    for activation in ("hard_sigmoid", "sigmoid"):
        config = sequential(lstm_config(recurrent_activation=activation))
        write_json(tmp_path / f"{activation}.json", config, keras_version="3.3.3")
    assert only(tmp_path / "a.h5", config=tmp_path / "sigmoid.json").recurrent_activation == SIGMOID
    with pytest.raises(UnsupportedModelError, match=r"weights by Keras 2\.2\.4, config by Keras 3\.3\.3"):
        lstmconv.load(tmp_path / "a.h5", config=tmp_path / "hard_sigmoid.json")


@pytest.mark.parametrize("version", [None, "1.0.4", "2.0.0", "2.2.4", "2.2.5", "2.2.4-tf", "2.3.0-tf"])
def test_trap_05_weights_only_files_before_2_3_and_of_tf_ask_for_the_recurrent_activation(
    tmp_path: Path, version: str | None
):
    write_legacy(tmp_path / "a.h5", {"lstm_1": named(fused(3, 5))}, version=version)
    checkpoint = lstmconv.load(tmp_path / "a.h5")
    assert checkpoint.layers[0].recurrent_activation is None
    assert "pass --config model.json, or --recurrent-activation" in checkpoint.unknown
    with pytest.raises(UnsupportedModelError, match="activation is unknown; pass config="):
        lstmconv.reference(checkpoint.layers[0], np.zeros((1, 1, 3)))
    with pytest.raises(UnsupportedModelError, match=r"a\.h5: weights only"):
        lstmconv.convert(tmp_path / "a.h5", tmp_path / "a.onnx")
    assert not (tmp_path / "a.onnx").exists()


@pytest.mark.parametrize("version", ["2.3.0", "2.3.1", "2.4.0", "2.10.0", "2.21.0", "3.0.5"])
def test_trap_05_weights_only_files_from_2_3_assume_sigmoid_and_say_so(tmp_path: Path, version: str):
    write_legacy(tmp_path / "a.h5", {"lstm_1": named(fused(3, 5))}, version=version)
    checkpoint = lstmconv.load(tmp_path / "a.h5")
    assert checkpoint.unknown is None
    assert (checkpoint.layers[0].recurrent_activation, checkpoint.layers[0].activation) == (SIGMOID, TANH)
    assert any("recurrent activation; sigmoid is assumed" in note for note in checkpoint.notes)


def test_weights_h5_files_assume_sigmoid_and_sequences_and_say_so(tmp_path: Path):
    write_saveable(tmp_path / "a.weights.h5", {"layers/lstm/cell": fused(3, 5)})
    checkpoint = lstmconv.load(tmp_path / "a.weights.h5")
    assert checkpoint.layers[0].recurrent_activation == SIGMOID
    assert checkpoint.layers[0].return_sequences is None
    for expected in ("sigmoid is assumed", "tanh", "does not say return_sequences"):
        assert any(expected in note for note in checkpoint.notes), expected


def test_activations_that_are_asked_for_overrule_the_file_s_with_a_note(tmp_path: Path):
    write_lstm(tmp_path / "a.h5")
    checkpoint = lstmconv.load(tmp_path / "a.h5", activation="relu", recurrent_activation="hard_sigmoid")
    assert str(checkpoint.layers[0].activation) == "relu"
    assert checkpoint.layers[0].recurrent_activation == HARD_SIGMOID_KERAS_2
    assert any("relu instead of tanh, as asked" in note for note in checkpoint.notes)


def test_a_layer_with_a_custom_activation_is_skipped_and_the_others_are_read(tmp_path: Path):
    config = sequential(lstm_config("lstm_1"), lstm_config("lstm_2", activation="my_activation"))
    layers = {"lstm_1": named(fused(3, 5)), "lstm_2": named(fused(5, 5), "lstm_2/")}
    checkpoint = lstmconv.load(write_legacy(tmp_path / "a.h5", layers, config=config))
    assert [layer.name for layer in checkpoint.layers] == ["lstm_1"]
    (skipped,) = checkpoint.skipped
    assert skipped.name == "lstm_2"
    assert "my_activation" in skipped.reason


# 6: CuDNNLSTM


def cudnn(inputs: int, units: int, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return a CuDNNLSTM's arrays, and by FORMATS A.6 the gates that they are."""
    arrays = [random((inputs, 4 * units), seed), random((units, 4 * units), seed + 1), random((8 * units,), seed + 2)]
    kernels = [block.ravel().reshape(units, inputs) for block in np.split(arrays[0], 4, axis=1)]
    recurrents = np.split(arrays[1], 4, axis=1)
    biases = [part.reshape(4, units) for part in np.split(arrays[2], 2)]
    return arrays, [np.stack(kernels), np.stack(recurrents), *biases]


@pytest.mark.parametrize(("inputs", "units"), [(3, 5), (4, 4), (5, 3)])
def test_trap_06_cudnn_lstm_is_told_by_its_bias_also_where_shapes_tell_nothing(tmp_path: Path, inputs: int, units: int):
    arrays, gates = cudnn(inputs, units)
    layer = only(write_legacy(tmp_path / "a.h5", {"lstm_1": named(arrays)}, version="2.1.5"))
    for found, expected in zip(layer.forward.arrays.values(), gates, strict=True):
        assert_same_bits(found, expected)
    # cuDNN computes nothing else, so nothing is asked.
    assert (layer.recurrent_activation, layer.activation) == (SIGMOID, TANH)


def test_trap_06_cudnn_lstm_inside_a_bidirectional(tmp_path: Path):
    forward, gates = cudnn(3, 3)
    backward, backward_gates = cudnn(3, 3, seed=10)
    inner = {"class_name": "CuDNNLSTM", "config": {"name": "cu_dnnlstm", "units": 3, "return_sequences": True}}
    config = sequential(bidirectional_config("both", inner))
    stored = named(forward, "both/forward_cu_dnnlstm/") | named(backward, "both/backward_cu_dnnlstm/")
    layer = only(write_legacy(tmp_path / "a.h5", {"both": stored}, version="2.2.4", config=config))
    for half, expected in ((layer.forward, gates), (layer.backward, backward_gates)):
        for found, desired in zip(half.arrays.values(), expected, strict=True):
            assert_same_bits(found, desired)
    assert layer.recurrent_activation == SIGMOID


def test_trap_06_cudnn_lstm_in_a_keras_file_has_no_cell_level(tmp_path: Path):
    arrays, gates = cudnn(3, 3)
    write_saveable(tmp_path / "a.weights.h5", {"layers/cu_dnnlstm": arrays})
    layer = only(tmp_path / "a.weights.h5")
    assert_same_bits(layer.forward.weight_ih, gates[0])
    assert_same_bits(layer.forward.bias_hh, gates[3])


def test_a_dense_like_layer_with_three_arrays_is_not_taken_for_a_cudnn_lstm(tmp_path: Path):
    others = [random((3, 20)), random((5, 20)), random((20,))]
    write_saveable(tmp_path / "a.weights.h5", {"layers/lstm/cell": fused(3, 5), "layers/my_layer": others})
    assert only(tmp_path / "a.weights.h5").name == "lstm"


# 7: initialisers


def test_trap_07_unit_forget_bias_adds_nothing(tmp_path: Path):
    """It is an initialiser: what it did is in the stored bias already."""
    arrays = [*fused(3, 5)[:2], np.zeros(20, np.float32)]
    write_lstm(tmp_path / "a.h5", arrays=arrays, unit_forget_bias=True)
    np.testing.assert_array_equal(np.asarray(only(tmp_path / "a.h5").forward.bias_ih), np.zeros((4, 5), np.float32))


# 11 and 12: names in .weights.h5


def test_trap_11_lstm_2_comes_before_lstm_10(tmp_path: Path):
    """HDF5 lists lstm, lstm_1, lstm_10, lstm_11, lstm_2."""
    cells = {f"layers/lstm_{k}/cell" if k else "layers/lstm/cell": fused(2, 2, seed=3 * k) for k in range(12)}
    checkpoint = lstmconv.load(write_saveable(tmp_path / "a.weights.h5", cells))
    assert [layer.name for layer in checkpoint.layers] == ["lstm", *(f"lstm_{k}" for k in range(1, 12))]
    for layer, arrays in zip(checkpoint.layers, cells.values(), strict=True):
        assert_direction(layer.forward, arrays)


def test_trap_11_layer_n9_lies_where_the_config_s_order_says(tmp_path: Path):
    """The groups are numbered in the order of the config, whatever the layers are called."""
    names = ["n3", "n12", "n9", "n0"]
    cells = {f"layers/lstm_{k}/cell" if k else "layers/lstm/cell": fused(5, 5, seed=3 * k) for k in range(4)}
    write_saveable(tmp_path / "a.weights.h5", cells)
    write_json(tmp_path / "a.json", sequential(*(lstm_config(name) for name in names)))
    checkpoint = lstmconv.load(tmp_path / "a.weights.h5", config=tmp_path / "a.json")
    assert [layer.name for layer in checkpoint.layers] == names
    assert_direction(checkpoint["n9"].forward, cells["layers/lstm_2/cell"])


def test_trap_12_class_names_count_each_class_and_a_subclass_is_another(tmp_path: Path):
    cells = {"layers/lstm/cell": fused(3, 5), "layers/dense": [random((5, 2))], "layers/lstm_1/cell": fused(2, 5, 9)}
    write_saveable(tmp_path / "a.weights.h5", cells)
    dense = {"class_name": "Dense", "config": {"name": "middle", "units": 2}}
    config = sequential(lstm_config("first"), dense, lstm_config("last"))
    checkpoint = lstmconv.load(tmp_path / "a.weights.h5", config=write_json(tmp_path / "a.json", config))
    assert_direction(checkpoint["first"].forward, cells["layers/lstm/cell"])
    assert_direction(checkpoint["last"].forward, cells["layers/lstm_1/cell"])
    assert checkpoint.edges == ()  # A Dense layer stands between.


def test_trap_12_a_subclassed_model_may_skip_an_index(tmp_path: Path):
    """An attribute that was visited first consumes index 0: there is layers/lstm_1 and no layers/lstm."""
    cells = {"encoder/cell": fused(3, 5), "layers/lstm_1/cell": fused(5, 2, 4), "layers/lstm_2/cell": fused(2, 7, 8)}
    checkpoint = lstmconv.load(write_saveable(tmp_path / "a.weights.h5", cells))
    assert [layer.name for layer in checkpoint.layers] == ["encoder", "lstm_1", "lstm_2"]
    assert_direction(checkpoint["lstm_1"].forward, cells["layers/lstm_1/cell"])


def test_trap_12_from_keras_3_6_on_the_file_holds_the_user_s_names(tmp_path: Path):
    write_saveable(tmp_path / "a.weights.h5", {"layers/functional/layers/lstm/cell": fused(3, 5)})
    with h5py.File(tmp_path / "a.weights.h5", "r+") as file:
        file.create_group("layers/functional/vars").attrs["name"] = "inner"
        file.create_group("layers/functional/layers/lstm/vars").attrs["name"] = "memory"
    assert only(tmp_path / "a.weights.h5").name == "inner/memory"


@pytest.mark.parametrize(
    ("file", "numbered"),
    [
        ("keras-3.0.5/lstm.weights.h5", True),
        ("keras-3.6.0/bidirectional_concat.weights.h5", False),
        ("wiring/same_names/two_layers_named_lstm.weights.h5", False),
    ],
)
def test_trap_12_before_keras_3_6_the_numbers_that_stand_for_names_are_said(file: str, numbered: bool):
    """Files that Keras wrote; the last one's layers are attributes, which are the user's own names."""
    notes = lstmconv.load(GOLDEN / file).notes
    assert any("numbered its layers by class" in note and "pass config" in note for note in notes) == numbered


# 13 to 18: legacy and saveable trees


def test_trap_13_optimizer_moments_are_not_taken_for_weights(tmp_path: Path):
    arrays = write_lstm(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        moments = [f"Adam/{slot}/lstm_1/{name}" for slot in "mv" for name in named(arrays, "")]
        group = file.create_group("optimizer_weights")
        group.attrs["weight_names"] = [name.encode() for name in ["Adam/iter:0", *moments]]
        group["Adam/iter:0"] = np.int64(7)
        for name in moments:
            shape = arrays[["kernel:0", "recurrent_kernel:0", "bias:0"].index(name.split("/")[-1])].shape
            group[name] = random(shape, 77)
        file.create_group("model_weights/top_level_model_weights").attrs["weight_names"] = np.zeros(0)
    checkpoint = lstmconv.load(tmp_path / "a.h5")
    assert [layer.name for layer in checkpoint.layers] == ["lstm_1"]
    assert checkpoint.skipped == ()
    assert_direction(checkpoint.layers[0].forward, arrays)


def test_trap_13_optimizer_and_metrics_of_a_keras_file_are_not_taken_for_weights(tmp_path: Path):
    arrays = fused(3, 5)
    moments = [np.float32(1), np.float32(1e-3), *fused(3, 5, 20), *fused(3, 5, 30)]
    cells = {
        "layers/lstm/cell": arrays,
        "optimizer": moments,
        "optimizer/cell": fused(3, 5, 40),
        "metrics/mean": [np.float32(1)],
        "layers/dropout/seed_generator": [np.zeros(2)],
    }
    checkpoint = lstmconv.load(write_saveable(tmp_path / "a.weights.h5", cells))
    assert [layer.name for layer in checkpoint.layers] == ["lstm"]
    assert_direction(checkpoint.layers[0].forward, arrays)


def test_trap_14_attributes_split_into_numbered_ones_are_joined_in_order(tmp_path: Path):
    """Keras splits lists over 64,512 bytes: layer_names0, layer_names1, ... as fixed-width bytes."""
    layers = {f"lstm_{k}": named(fused(2, 2, seed=3 * k), f"lstm_{k}/") for k in range(12)}
    write_legacy(tmp_path / "a.h5", layers)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        for group, name in [(file, "layer_names"), *((file[layer], "weight_names") for layer in layers)]:
            values = np.array([value.encode() if isinstance(value, str) else value for value in group.attrs[name]], "S")
            del group.attrs[name]
            for k, part in enumerate(np.array_split(values, 11 if name == "layer_names" else 2)):
                group.attrs[f"{name}{k}"] = part
    checkpoint = lstmconv.load(tmp_path / "a.h5")
    assert [layer.name for layer in checkpoint.layers] == list(layers)
    assert_direction(checkpoint["lstm_11"].forward, list(layers["lstm_11"].values()))


@pytest.mark.parametrize("kind", ["fixed bytes", "variable strings", "variable bytes"])
def test_trap_14_names_may_be_bytes_or_strings_and_an_empty_list_is_of_float64(tmp_path: Path, kind: str):
    arrays = fused(3, 5)
    write_legacy(tmp_path / "a.h5", {"input": {}, "lstm_1": named(arrays)})
    types = {
        "fixed bytes": "S40",
        "variable strings": h5py.string_dtype("utf-8"),
        "variable bytes": h5py.string_dtype("ascii"),
    }
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs.create("layer_names", ["input", "lstm_1"], dtype=types[kind])
        file["lstm_1"].attrs.create("weight_names", list(named(arrays)), dtype=types[kind])
        file["input"].attrs["weight_names"] = np.zeros(0, np.float64)
        file.attrs["keras_version"] = np.bytes_(b"2.3.1") if kind == "fixed bytes" else "2.3.1"
    checkpoint = lstmconv.load(tmp_path / "a.h5")
    assert checkpoint.provenance.keras_version == "2.3.1"
    assert [layer.name for layer in checkpoint.layers] == ["lstm_1"]
    assert_direction(checkpoint.layers[0].forward, arrays)


def test_trap_15_layer_names_may_hold_slashes_and_nest(tmp_path: Path):
    """Groups nest where names share a beginning; weight paths are relative to the layer's own group."""
    names = ["encoder/lstm", "encoder/lstm/deep", "encoder"]
    layers = {name: named(fused(3, 5, 10 * k), f"{name}/lstm_cell/") for k, name in enumerate(names)}
    config = sequential(*(lstm_config(name) for name in names))
    checkpoint = lstmconv.load(write_legacy(tmp_path / "a.h5", layers, config=config))
    assert [layer.name for layer in checkpoint.layers] == names
    for name in names:
        assert_direction(checkpoint[name].forward, list(layers[name].values()))
    without = lstmconv.load(write_legacy(tmp_path / "b.h5", layers))
    assert [layer.name for layer in without.layers] == names


@pytest.mark.parametrize("scope", ["enc/lstm_cell/", "enc/enc/lstm_cell/", "enc/enc/"])
def test_trap_15_a_repeated_layer_name_in_the_path_is_one_layer(tmp_path: Path, scope: str):
    arrays = fused(3, 5)
    layer = only(write_legacy(tmp_path / "a.h5", {"enc": named(arrays, scope)}))
    assert layer.name == "enc"
    assert_direction(layer.forward, arrays)


def test_layer_names_are_in_the_model_s_order_and_not_the_alphabet_s(tmp_path: Path):
    layers = {"z": named(fused(3, 5), "z/"), "a": named(fused(5, 5, 9), "a/")}
    assert [layer.name for layer in lstmconv.load(write_legacy(tmp_path / "a.h5", layers)).layers] == ["z", "a"]


SPELLINGS = {
    "Keras 2 with TensorFlow": ("foo/", ":0"),
    "Keras 2 with Theano or CNTK": ("foo/", ""),
    "Keras 3.0 to 3.2": ("", ""),
    "Keras 3.3 and later": ("foo/lstm_cell/", ""),
    "Keras 3.3 and later, Sequential": ("sequential/foo/lstm_cell/", ""),
    "tf.keras, a cell numbered on": ("foo/lstm_cell_7/", ":0"),
    "TensorFlow, a scope used again": ("foo_1/", ":0"),
    "TensorFlow, a second tensor": ("foo/", ":1"),
    "tf.keras 1": ("foo/", ":0"),
}


@pytest.mark.parametrize("writer", SPELLINGS)
@pytest.mark.parametrize("configured", [True, False], ids=["with config", "weights only"])
def test_trap_16_every_writer_spells_weight_names_its_own_way(tmp_path: Path, writer: str, configured: bool):
    arrays = fused(3, 5)
    config = sequential(lstm_config("foo")) if configured else None
    layer = only(write_legacy(tmp_path / "a.h5", {"foo": named(arrays, *SPELLINGS[writer])}, config=config))
    assert layer.name == "foo"
    assert_direction(layer.forward, arrays)


NESTED = {
    "class_name": "Functional",
    "config": {
        "name": "inner",
        "layers": [
            {"class_name": "InputLayer", "name": "in", "config": {"name": "in"}, "inbound_nodes": []},
            {**lstm_config("first"), "name": "first", "inbound_nodes": [[["in", 0, 0, {}]]]},
            {**lstm_config("second"), "name": "second", "inbound_nodes": [[["first", 0, 0, {}]]]},
        ],
    },
}


@pytest.mark.parametrize(
    ("prefix", "cell", "suffix"),
    [("", "lstm_cell/", ":0"), ("", "", ":0"), ("inner/", "lstm_cell/", "")],
    ids=["tf.keras", "Keras 2", "Keras 3"],
)
def test_trap_17_arrays_of_a_frozen_layer_are_stored_last_in_a_nested_model(
    tmp_path: Path, prefix: str, cell: str, suffix: str
):
    """Both layers have the same shapes: only the names tell which arrays are whose."""
    first, second = fused(5, 5), fused(5, 5, seed=30)
    stored = named(second, f"{prefix}second/{cell}", suffix) | named(first, f"{prefix}first/{cell}", suffix)
    checkpoint = lstmconv.load(write_legacy(tmp_path / "a.h5", {"inner": stored}, config=sequential(NESTED)))
    assert [layer.name for layer in checkpoint.layers] == ["inner/first", "inner/second"]
    assert_direction(checkpoint["inner/first"].forward, first)
    assert_direction(checkpoint["inner/second"].forward, second)
    assert checkpoint.edges == (("inner/first", "inner/second"),)


def test_trap_17_a_bidirectional_with_a_frozen_forward_half_is_told_by_names_too(tmp_path: Path):
    """Its arrays are stored last (Keras 3.15.1: forward_layer.trainable = False, save as .h5)."""
    forward, backward = fused(3, 5), fused(3, 5, seed=30)
    stored = named(backward, "both/backward_lstm/") | named(forward, "both/forward_lstm/")
    config = sequential(bidirectional_config("both", lstm_config("lstm")))
    for given in (config, None):
        layer = only(write_legacy(tmp_path / "a.h5", {"both": stored}, config=given))
        assert_direction(layer.forward, forward)
        assert_direction(layer.backward, backward)


@pytest.mark.parametrize("root", ["layers", "_layer_checkpoint_dependencies"])
def test_trap_18_layers_are_called_otherwise_at_every_level_from_2_12_to_2_14(tmp_path: Path, root: str):
    """There a layer with weights is counted twice, so that the second LSTM is lstm_2 (functional.py 2.13)."""
    second = "lstm_1" if root == "layers" else "lstm_2"
    cells = {
        f"{root}/functional/{root}/lstm/cell": fused(5, 5),
        f"{root}/functional/{root}/{second}/cell": fused(5, 5, 10),
        f"{root}/lstm/cell": fused(5, 5, 20),
    }
    write_saveable(tmp_path / "a.weights.h5", cells)
    write_json(tmp_path / "a.json", sequential(NESTED, lstm_config("after")), keras_version="2.13.1")
    checkpoint = lstmconv.load(tmp_path / "a.weights.h5", config=tmp_path / "a.json")
    assert [layer.name for layer in checkpoint.layers] == ["inner/first", "inner/second", "after"]
    for layer, arrays in zip(checkpoint.layers, cells.values(), strict=True):
        assert_direction(layer.forward, arrays)


# 19: bfloat16


def bfloat16_file(path: Path, policy: str | None) -> np.ndarray:
    """Write a legacy file as Keras 3 does: bfloat16 as two opaque bytes, and no attribute says so."""
    arrays = [array.astype(ml_dtypes.bfloat16) for array in fused(3, 5)]
    arrays[0][0, 0] = -0.16015625  # 0xbe24; as float16 it would be -1.535.
    opaque = {name: array.view(np.uint16).view("V2") for name, array in named(arrays).items()}
    config = sequential(lstm_config(dtype=policy)) if policy is not None else None
    write_legacy(path, {"lstm_1": opaque}, version="3.3.3", config=config)
    return arrays[0]


@pytest.mark.parametrize("policy", ["bfloat16", None])
def test_trap_19_two_opaque_bytes_are_bfloat16(tmp_path: Path, policy: str | None):
    kernel = bfloat16_file(tmp_path / "a.h5", policy)
    checkpoint = lstmconv.load(tmp_path / "a.h5")
    (layer,) = checkpoint.layers
    assert layer.dtype == np.dtype(ml_dtypes.bfloat16)
    assert float(layer.forward.weight_ih.i[0, 0]) == -0.16015625
    assert_same_bits(layer.forward.weight_ih, columns(kernel, 5))
    assert any("of two opaque bytes" in note and "bfloat16" in note for note in checkpoint.notes)


def test_trap_19_two_opaque_bytes_are_not_bfloat16_where_the_config_says_otherwise(tmp_path: Path):
    bfloat16_file(tmp_path / "a.h5", "float16")
    with pytest.raises(LstmconvError, match=r"two opaque bytes, and the config's dtype is .*float16"):
        lstmconv.load(tmp_path / "a.h5")


def test_trap_19_a_weights_h5_file_says_that_it_is_bfloat16(tmp_path: Path):
    arrays = [array.astype(ml_dtypes.bfloat16) for array in fused(3, 5)]
    opaque = [array.view(np.uint16).view("V2") for array in arrays]
    write_saveable(tmp_path / "a.weights.h5", {"layers/lstm/cell": opaque})
    with h5py.File(tmp_path / "a.weights.h5", "r+") as file:
        for index in "012":
            file[f"layers/lstm/cell/vars/{index}"].attrs["dtype"] = "bfloat16"
    checkpoint = lstmconv.load(tmp_path / "a.weights.h5")
    assert_same_bits(checkpoint.layers[0].forward.weight_hh, columns(arrays[1], 5))
    assert not any("opaque" in note for note in checkpoint.notes)


# 20: shards


def write_shards(folder: Path, names: Sequence[str]) -> tuple[Path, list[np.ndarray]]:
    """Write one cell's arrays over several shards: kernel in the first, the rest in the last."""
    arrays = fused(3, 5)
    for name, indices in zip(names, ((0,), (1, 2)), strict=True):
        with h5py.File(folder / Path(name).name, "w") as file:
            for index in indices:
                file[f"layers/lstm/cell/vars/{index}"] = arrays[index]
    index = {"metadata": {"total_size": 1}, "weight_map": {"/layers/lstm/cell/vars": list(names)}}
    return write_json(folder / "a.weights.json", index), arrays


def test_trap_20_one_cell_s_arrays_may_lie_in_two_shards(tmp_path: Path):
    path, arrays = write_shards(tmp_path, ["a_00000.weights.h5", "a_00001.weights.h5"])
    assert_direction(only(path).forward, arrays)


@pytest.mark.parametrize("name", ["../a_00001.weights.h5", "/etc/passwd", "sub/a.weights.h5", "..", ""])
def test_trap_20_and_38_a_shard_elsewhere_is_not_followed(tmp_path: Path, name: str):
    (tmp_path / "inner").mkdir()
    path, _ = write_shards(tmp_path / "inner", ["a_00000.weights.h5", "a_00001.weights.h5"])
    shutil.copy(tmp_path / "inner" / "a_00001.weights.h5", tmp_path)
    write_json(path, {"weight_map": {"/layers/lstm/cell/vars": ["a_00000.weights.h5", name]}})
    with pytest.raises(UnreadableFileError, match="not a plain file name; not followed"):
        lstmconv.load(path)


def test_trap_20_and_38_a_shard_that_is_a_symbolic_link_is_not_followed(tmp_path: Path):
    (tmp_path / "inner").mkdir()
    path, _ = write_shards(tmp_path / "inner", ["a_00000.weights.h5", "a_00001.weights.h5"])
    shard = tmp_path / "inner" / "a_00001.weights.h5"
    shard.rename(tmp_path / "elsewhere.h5")
    shard.symlink_to(tmp_path / "elsewhere.h5")
    with pytest.raises(UnreadableFileError, match=r"a_00001\.weights\.h5 is a symbolic link; not followed"):
        lstmconv.load(path)


def test_trap_20_a_missing_shard_is_named(tmp_path: Path):
    path, _ = write_shards(tmp_path, ["a_00000.weights.h5", "a_00001.weights.h5"])
    (tmp_path / "a_00001.weights.h5").unlink()
    with pytest.raises(UnreadableFileError, match=r"the shard a_00001\.weights\.h5 is missing beside it"):
        lstmconv.load(path)


@pytest.mark.parametrize("weight_map", [[1], {"a": 7}, {"a": [["x"]]}, {"a": {"b": "c"}}, {"a": None}])
def test_trap_20_a_damaged_index_of_shards_is_refused(tmp_path: Path, weight_map: object):
    write_json(tmp_path / "a.weights.json", {"weight_map": weight_map})
    with pytest.raises(UnreadableFileError):
        lstmconv.load(tmp_path / "a.weights.json")


# 21: arrays that are missing


@pytest.mark.parametrize("indices", [(0,), (0, 2), (1, 2), (1,)])
def test_trap_21_a_partly_built_cell_is_not_taken_for_one_without_bias(tmp_path: Path, indices: tuple[int, ...]):
    arrays = fused(3, 5)
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        for index in indices:
            file[f"layers/lstm/cell/vars/{index}"] = arrays[index]
    with pytest.raises(LstmconvError, match="partly built" if len(indices) == 1 else "not an LSTM's arrays"):
        lstmconv.load(tmp_path / "a.weights.h5")


def test_trap_21_a_cell_without_bias_is_not_taken_for_damage(tmp_path: Path):
    arrays = fused(3, 5)[:2]
    assert_direction(only(write_saveable(tmp_path / "a.weights.h5", {"layers/lstm/cell": arrays})).forward, arrays)
    assert_direction(only(write_legacy(tmp_path / "b.h5", {"lstm_1": named(arrays)})).forward, arrays)
    write_lstm(tmp_path / "c.h5", arrays=arrays, use_bias=False)
    assert_direction(only(tmp_path / "c.h5").forward, arrays)


def test_trap_21_a_missing_bias_is_damage_where_the_config_has_one(tmp_path: Path):
    write_lstm(tmp_path / "a.h5", arrays=fused(3, 5)[:2], use_bias=True)
    with pytest.raises(LstmconvError, match="lstm_1"):
        lstmconv.load(tmp_path / "a.h5")


def test_trap_21_an_announced_array_or_layer_that_is_not_there_is_a_truncated_file(tmp_path: Path):
    write_legacy(tmp_path / "a.h5", {"lstm_1": named(fused(3, 5))})
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["lstm_1/lstm_1/bias:0"]
    with pytest.raises(UnreadableFileError, match=r"lstm_1/bias:0' is listed and missing"):
        lstmconv.load(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["lstm_1"]
    with pytest.raises(UnreadableFileError, match="'lstm_1' is listed"):
        lstmconv.load(tmp_path / "a.h5")


def test_trap_21_a_keras_1_layer_that_lacks_a_gate_is_refused(tmp_path: Path):
    arrays = {f"lstm_a_{name}": array for name, array in per_gate(3, 5).items() if name != "U_f"}
    with pytest.raises(UnreadableFileError, match="lacks U_f"):
        lstmconv.load(write_legacy(tmp_path / "a.h5", {"lstm_a": arrays}, version=None))


@pytest.mark.parametrize(
    ("index", "shape"), [(0, (3, 19)), (0, (3,)), (0, (0, 20)), (2, (19,)), (2, (4, 5)), (1, (5, 20, 1))]
)
def test_arrays_of_impossible_shapes_are_refused(tmp_path: Path, index: int, shape: tuple[int, ...]):
    arrays = fused(3, 5)
    arrays[index] = random(shape)
    with pytest.raises(LstmconvError, match="lstm_1"):
        lstmconv.load(write_legacy(tmp_path / "a.h5", {"lstm_1": named(arrays)}))


def test_halves_of_a_bidirectional_may_differ_in_units_and_bias(tmp_path: Path):
    """Trap 26: five arrays are three and two, by the names and not by halving."""
    forward, backward = fused(3, 5), fused(3, 7, 30)[:2]
    own = lstm_config("backward", units=7, use_bias=False, go_backwards=True)
    config = sequential(bidirectional_config("both", lstm_config("lstm"), backward_layer=own))
    stored = named(forward, "both/forward_lstm/lstm_cell/") | named(backward, "both/backward/lstm_cell/")
    layer = only(write_legacy(tmp_path / "a.h5", {"both": stored}, config=config))
    assert_direction(layer.forward, forward)
    assert_direction(layer.backward, backward)


# 37: bytes


@pytest.mark.parametrize("storage", ["big-endian", "compressed", "chunked", "shuffled", "compact", "Fortran"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_trap_37_however_the_bytes_lie_the_numbers_are_the_same(tmp_path: Path, storage: str, dtype: str):
    arrays = fused(3, 5, dtype=np.dtype(dtype))
    write_lstm(tmp_path / "a.h5", arrays=arrays)
    options = {
        "compressed": {"compression": "gzip"},
        "chunked": {"chunks": True},
        "shuffled": {"compression": "gzip", "shuffle": True, "fletcher32": True},
    }.get(storage, {})
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        group = file["model_weights/lstm_1/lstm_1"]
        for name, array in named(arrays, "").items():
            del group[name]
            if storage == "compact":
                layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
                layout.set_layout(h5py.h5d.COMPACT)
                space, kind = h5py.h5s.create_simple(array.shape), h5py.h5t.py_create(array.dtype)
                h5py.h5d.create(group.id, name.encode(), kind, space, layout).write(h5py.h5s.ALL, h5py.h5s.ALL, array)
                continue
            stored = array.astype(f">{dtype}") if storage == "big-endian" else array
            stored = np.asfortranarray(stored) if storage == "Fortran" else stored
            group.create_dataset(name, data=stored, **options)
    layer = only(tmp_path / "a.h5")
    assert layer.dtype == np.dtype(dtype)
    assert_direction(layer.forward, arrays)


def test_signs_of_zero_and_nan_payloads_are_read_as_they_are(tmp_path: Path):
    bits = np.array([0x80000000, 1, 0x7FC00123, 0xFF800000], np.uint32)
    arrays = [np.resize(bits, array.shape).view(np.float32) for array in fused(3, 5)]
    write_lstm(tmp_path / "a.h5", arrays=arrays)
    assert_direction(only(tmp_path / "a.h5").forward, arrays)


# 39 and 40: options and configs


def test_trap_39_options_of_the_layer_are_read(tmp_path: Path):
    options = {"time_major": True, "stateful": True, "go_backwards": True, "return_state": True}
    write_lstm(tmp_path / "a.h5", **options, zero_output_for_mask=True, return_sequences=False)
    layer = only(tmp_path / "a.h5")
    assert (layer.time_major, layer.stateful, layer.go_backwards, layer.return_state) == (True, True, True, True)
    assert (layer.zero_output_for_mask, layer.return_sequences, layer.masking) == (True, False, False)


def test_trap_39_dropout_changes_no_weight(tmp_path: Path):
    arrays = write_lstm(tmp_path / "a.h5", dropout=0.5, recurrent_dropout=0.25, implementation=1)
    assert_direction(only(tmp_path / "a.h5").forward, arrays)


def test_trap_40_sequential_config_is_a_list_up_to_2_2_2_and_a_dict_later(tmp_path: Path):
    layers = [lstm_config("lstm_1", return_sequences=True), lstm_config("lstm_2", return_sequences=False)]
    arrays = {"lstm_1": named(fused(3, 5)), "lstm_2": named(fused(5, 5, 9), "lstm_2/")}
    for config in ({"class_name": "Sequential", "config": layers}, sequential(*layers)):
        checkpoint = lstmconv.load(write_legacy(tmp_path / "a.h5", arrays, version="2.1.6", config=config))
        assert [(layer.name, layer.return_sequences) for layer in checkpoint.layers] == [
            ("lstm_1", True),
            ("lstm_2", False),
        ]
        assert checkpoint.edges == (("lstm_1", "lstm_2"),)


def test_trap_40_keras_1_field_names_are_known(tmp_path: Path):
    """output_dim and inner_activation; a wrong output_dim is found out."""
    entry = {"name": "lstm_a", "output_dim": 5, "activation": "relu", "inner_activation": "sigmoid"}
    stored = {"lstm_a": {f"lstm_a_{name}": array for name, array in per_gate(3, 5).items()}}
    config = {"class_name": "Sequential", "config": [{"class_name": "LSTM", "config": entry}]}
    layer = only(write_legacy(tmp_path / "a.h5", stored, version="1.2.2", config=config))
    assert (str(layer.activation), layer.recurrent_activation) == ("relu", SIGMOID)
    entry["output_dim"] = 6
    with pytest.raises(UnsupportedModelError, match="lstm_a"):
        lstmconv.load(write_legacy(tmp_path / "b.h5", stored, version="1.2.2", config=config))


def test_trap_25_bidirectional_of_a_backwards_layer_swaps_the_directions(tmp_path: Path):
    config = sequential(bidirectional_config("both", lstm_config("lstm", go_backwards=True)))
    stored = named(fused(3, 5), "both/forward_lstm/") | named(fused(3, 5, 9), "both/backward_lstm/")
    layer = only(write_legacy(tmp_path / "a.h5", {"both": stored}, config=config))
    assert (layer.forward.go_backwards, layer.backward.go_backwards) == (True, False)


@pytest.mark.parametrize(("mode", "expected"), [("sum", "sum"), ("ave", "ave"), (None, "none")])
def test_trap_24_the_merge_mode_is_read_and_none_means_two_outputs(tmp_path: Path, mode: str | None, expected: str):
    config = sequential(bidirectional_config("both", lstm_config("lstm"), merge_mode=mode))
    stored = named(fused(3, 5), "both/forward_lstm/") | named(fused(3, 5, 9), "both/backward_lstm/")
    assert only(write_legacy(tmp_path / "a.h5", {"both": stored}, config=config)).merge_mode == expected


@pytest.mark.parametrize(
    ("layer", "masked"),
    [
        ({"class_name": "Masking", "config": {"name": "m", "mask_value": 0.0}}, True),
        ({"class_name": "Embedding", "config": {"name": "m", "mask_zero": True}}, True),
        ({"class_name": "Embedding", "config": {"name": "m", "mask_zero": False}}, False),
        ({"class_name": "Dropout", "config": {"name": "m", "rate": 0.5}}, False),
    ],
)
def test_a_mask_that_reaches_the_layer_is_known(tmp_path: Path, layer: Mapping[str, Any], masked: bool):
    config = sequential(layer, lstm_config())
    path = write_legacy(tmp_path / "a.h5", {"lstm_1": named(fused(3, 5))}, config=config)
    assert only(path).masking is masked


def test_layers_that_are_no_lstm_are_skipped_by_name(tmp_path: Path):
    gru = {"class_name": "GRU", "config": {"name": "gru", "units": 5, "recurrent_activation": "sigmoid"}}
    arrays = {"gru/kernel:0": random((5, 15)), "gru/recurrent_kernel:0": random((5, 15)), "gru/bias:0": random((30,))}
    layers = {"lstm_1": named(fused(3, 5)), "gru": arrays}
    for config in (sequential(lstm_config(), gru), None):
        checkpoint = lstmconv.load(write_legacy(tmp_path / "a.h5", layers, config=config))
        assert [(entry.name, entry.class_name) for entry in checkpoint.skipped] == [("gru", "GRU")]


def test_conv_lstm_with_keras_1_names_is_not_taken_for_an_lstm(tmp_path: Path):
    """ConvLSTM2D shares the twelve-array form; its kernels have four axes."""
    arrays = {f"conv_{name}": random((3, 3, 4, 5)) for name in per_gate(3, 5) if name[0] != "b"}
    arrays |= {f"conv_b_{gate}": random((5,)) for gate in "icfo"}
    with pytest.raises(UnsupportedModelError, match="ConvLSTM"):
        lstmconv.load(write_legacy(tmp_path / "a.h5", {"conv": arrays}, version=None))


# Files and configs that are not what their names say


@pytest.mark.parametrize("name", ["model.keras", "model.hdf5", "model.weights.h5", "model.pt", "model", "model.json"])
def test_an_hdf5_file_is_read_under_any_name(tmp_path: Path, name: str):
    arrays = write_lstm(tmp_path / name)
    assert_direction(only(tmp_path / name).forward, arrays)


@pytest.mark.parametrize("name", ["model.h5", "model.hdf5", "model.zip", "model"])
def test_a_keras_zip_is_read_under_any_name(tmp_path: Path, name: str):
    shutil.copy(GOLDEN / "keras-3.15.1" / "lstm.keras", tmp_path / name)
    assert only(tmp_path / name).name == "encoder"


def test_a_legacy_file_named_weights_h5_is_read_as_what_it_is(tmp_path: Path):
    arrays = fused(3, 5)
    write_legacy(tmp_path / "a.weights.h5", {"lstm_1": named(arrays)})
    checkpoint = lstmconv.load(tmp_path / "a.weights.h5")
    assert checkpoint.provenance.format == "Keras HDF5 (weights only)"
    assert_direction(checkpoint.layers[0].forward, arrays)


def test_a_keras_zip_may_be_deflated(tmp_path: Path):
    with (
        zipfile.ZipFile(GOLDEN / "keras-3.15.1" / "lstm.keras") as source,
        zipfile.ZipFile(tmp_path / "a.keras", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for member in source.namelist():
            target.writestr(member, source.read(member))
    plain, deflated = only(GOLDEN / "keras-3.15.1" / "lstm.keras"), only(tmp_path / "a.keras")
    assert_same_bits(deflated.forward.weight_ih, np.asarray(plain.forward.weight_ih))


def test_the_provenance_says_what_was_read(tmp_path: Path):
    write_lstm(tmp_path / "a.h5", version="2.21.0")
    provenance = lstmconv.load(tmp_path / "a.h5").provenance
    assert (provenance.source, provenance.format) == ("a.h5", "Keras HDF5 (whole model)")
    assert (provenance.keras_version, provenance.backend) == ("2.21.0", "tensorflow")
    archive = lstmconv.load(GOLDEN / "keras-3.15.1" / "lstm.keras").provenance
    assert (archive.format, archive.keras_version) == ("Keras .keras archive", "3.15.1")


def test_the_hash_is_that_of_the_file_s_bytes(tmp_path: Path):
    import hashlib

    write_lstm(tmp_path / "a.h5")
    expected = hashlib.sha256((tmp_path / "a.h5").read_bytes()).hexdigest()
    assert lstmconv.load(tmp_path / "a.h5").provenance.sha256 == expected


# --config


@pytest.mark.parametrize("kind", ["json", "h5", "keras"])
def test_a_config_may_come_from_json_from_h5_and_from_keras(tmp_path: Path, kind: str):
    model = sequential(lstm_config("memory", recurrent_activation="hard_sigmoid", go_backwards=True))
    config = tmp_path / f"config.{kind}"
    if kind == "json":
        write_json(config, model, keras_version="2.2.4")
    elif kind == "h5":
        write_legacy(config, {"memory": named(fused(3, 5, 60), "memory/")}, version="2.2.4", config=model)
    else:
        write_saveable(tmp_path / "body.h5", {"layers/lstm/cell": fused(3, 5, 60)})
        with zipfile.ZipFile(config, "w") as archive:
            archive.writestr("config.json", json.dumps(model))
            archive.writestr("metadata.json", json.dumps({"keras_version": "2.13.1"}))
            archive.write(tmp_path / "body.h5", "model.weights.h5")
    arrays = fused(3, 5)
    write_legacy(tmp_path / "a.h5", {"memory": named(arrays, "memory/")}, version="2.2.4")
    layer = only(tmp_path / "a.h5", config=config)
    assert layer.recurrent_activation == HARD_SIGMOID_KERAS_2
    assert layer.go_backwards
    assert_direction(layer.forward, arrays)  # The weights are the file's, not those beside the config.


@pytest.mark.parametrize("kind", ["legacy", "saveable"])
@pytest.mark.parametrize(
    "layers",
    [
        [lstm_config("other", units=6)],
        [lstm_config("other"), lstm_config("more")],
        [lstm_config("other", use_bias=False)],
        [lstm_config("lstm_1", units=6)],
    ],
    ids=["other units", "another layer", "no bias", "other units under the same name"],
)
def test_a_config_that_does_not_belong_to_the_weights_is_refused(tmp_path: Path, kind: str, layers: list):
    if kind == "legacy":
        write_legacy(tmp_path / "a.h5", {"lstm_1": named(fused(3, 5))})
    else:
        write_saveable(tmp_path / "a.h5", {"layers/lstm/cell": fused(3, 5)})
    write_json(tmp_path / "a.json", sequential(*layers))
    with pytest.raises(UnsupportedModelError, match=r"^a\.h5: "):
        lstmconv.load(tmp_path / "a.h5", config=tmp_path / "a.json")


def test_a_config_whose_layers_are_named_otherwise_is_matched_by_order_with_a_note(tmp_path: Path):
    """Layer names are numbered on through a session: lstm_1 may be lstm_7 in the next one."""
    layers = {"lstm_7": named(fused(3, 5), "lstm_7/"), "lstm_8": named(fused(5, 5, 9), "lstm_8/")}
    write_legacy(tmp_path / "a.h5", layers)
    write_json(tmp_path / "a.json", sequential(lstm_config("lstm_1"), lstm_config("lstm_2", activation="relu")))
    checkpoint = lstmconv.load(tmp_path / "a.h5", config=tmp_path / "a.json")
    assert_direction(checkpoint["lstm_2"].forward, list(layers["lstm_8"].values()))
    assert str(checkpoint["lstm_2"].activation) == "relu"
    assert "the config's layer 'lstm_2' is taken for 'lstm_8' of the file, by order" in checkpoint.notes


def test_a_file_that_holds_no_config_is_refused_as_one(tmp_path: Path):
    write_legacy(tmp_path / "a.h5", {"lstm_1": named(fused(3, 5))})
    with pytest.raises(UnreadableFileError, match="holds weights only, expected a model config"):
        lstmconv.load(tmp_path / "a.h5", config=tmp_path / "a.h5")
    write_json(tmp_path / "a.json", {"layers": []})
    with pytest.raises(UnreadableFileError, match="without class_name"):
        lstmconv.load(tmp_path / "a.h5", config=tmp_path / "a.json")
    with pytest.raises(UnreadableFileError, match=r"none\.json: no such file"):
        lstmconv.load(tmp_path / "a.h5", config=tmp_path / "none.json")


@pytest.mark.parametrize(
    "config",
    [
        {"class_name": "Sequential", "config": [{"class_name": "LSTM"}]},
        {"class_name": "Sequential", "config": {"layers": [7]}},
        {"class_name": "Sequential", "config": {"layers": [{"class_name": "Bidirectional", "config": {}}]}},
        {"class_name": "Sequential", "config": [{"class_name": "RNN", "config": {"cell": {"class_name": "X"}}}]},
        {"class_name": "Sequential", "config": 7},
        {"class_name": "Sequential", "config": [{"class_name": "LSTM", "config": {"name": "lstm_1", "units": "5"}}]},
        {"class_name": "Sequential", "config": [{"class_name": "LSTM", "config": {"activation": ["tanh"]}}]},
    ],
    ids=range(7),
)
def test_a_config_that_no_keras_writes_is_one_message(tmp_path: Path, config: Mapping[str, Any]):
    write_legacy(tmp_path / "a.h5", {"lstm_1": named(fused(3, 5))}, config=config)
    with pytest.raises(LstmconvError) as caught:
        lstmconv.load(tmp_path / "a.h5")
    assert "\n" not in str(caught.value)


def test_a_config_without_an_lstm_for_a_file_with_one_is_noted(tmp_path: Path):
    """A model class of the user's own has a config that lists no layers."""
    config = {"class_name": "MyModel", "config": {"width": 5}, "registered_name": "my_package>MyModel"}
    checkpoint = lstmconv.load(write_legacy(tmp_path / "a.h5", {"lstm_1": named(fused(3, 5))}, config=config))
    assert [layer.name for layer in checkpoint.layers] == ["lstm_1"]
    assert any("names no LSTM" in note for note in checkpoint.notes)


def test_models_that_nest_without_end_are_refused(tmp_path: Path):
    model = sequential(lstm_config())
    for _ in range(60):
        model = sequential(model)
    write_legacy(tmp_path / "a.h5", {"lstm_1": named(fused(3, 5))}, config=model)
    with pytest.raises(LstmconvError):
        lstmconv.load(tmp_path / "a.h5")


def test_edges_pass_through_what_computes_nothing_at_inference(tmp_path: Path):
    """Dropout and noise return their input; Dense and a layer that returns one step only do not."""
    between = [{"class_name": name, "config": {"name": name}} for name in ("Dropout", "GaussianNoise", "Dense")]
    names = ["lstm_1", "lstm_2", "lstm_3"]
    layers = {name: named(fused(5, 5, 10 * k), f"{name}/") for k, name in enumerate(names)}
    config = sequential(lstm_config("lstm_1"), *between[:2], lstm_config("lstm_2"), between[2], lstm_config("lstm_3"))
    assert lstmconv.load(write_legacy(tmp_path / "a.h5", layers, config=config)).edges == (("lstm_1", "lstm_2"),)


def test_a_keras_file_is_not_read_as_another_format():
    with pytest.raises(lstmconv.UnreadableFileError, match=r"expected what torch\.save writes"):
        lstmconv.load(GOLDEN / "keras-3.15.1" / "lstm.keras", from_="torch")
