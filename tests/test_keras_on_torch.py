"""Keras 3 on PyTorch: what ``torch.save(model.state_dict())`` keeps are Keras' variables, and so they are read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lstmconv
from lstmconv.errors import NoLSTMError, UnreadableFileError
from tests._cases import GOLDEN

FOLDER = GOLDEN / "keras_on_torch"
CONFIG = FOLDER / "config.json"
SOURCES = pytest.mark.parametrize("name", ["state_dict.pt", "by_name.npz"])
TOLERANCE = 2e-6
"""Keras computes in float32 over seven steps."""


@SOURCES
def test_with_a_config_the_whole_model_computes_what_keras_computed(name):
    checkpoint = lstmconv.load(FOLDER / name, config=CONFIG)
    with np.load(FOLDER / "io.npz") as file:
        found = lstmconv.reference(checkpoint, file["x"])
        np.testing.assert_allclose(found, file["y"], atol=TOLERANCE)


@SOURCES
def test_it_converts_whole_and_onnx_runtime_computes_the_same(tmp_path, name):
    onnxruntime = pytest.importorskip("onnxruntime")
    lstmconv.convert(FOLDER / name, tmp_path / "m.onnx", config=CONFIG, whole=True)
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    with np.load(FOLDER / "io.npz") as file:
        (found,) = session.run(None, {session.get_inputs()[0].name: file["x"]})
        np.testing.assert_allclose(found, file["y"], atol=TOLERANCE)


def test_without_a_config_the_lstms_are_read_by_their_paths():
    checkpoint = lstmconv.load(FOLDER / "state_dict.pt")
    assert [layer.name for layer in checkpoint.layers] == ["sequential/first", "sequential/second"]
    assert any("sigmoid is assumed" in note for note in checkpoint.notes)


def test_two_tensors_of_one_variable_must_agree(tmp_path):
    state = torch.load(FOLDER / "state_dict.pt", weights_only=True)
    key = next(key for key in state if key.startswith("_functional") and key.endswith("first/lstm_cell/kernel"))
    state[key] = state[key] + 1
    torch.save(state, tmp_path / "m.pt")
    with pytest.raises(UnreadableFileError, match="two tensors of 'sequential/first/lstm_cell/kernel' differ"):
        lstmconv.load(tmp_path / "m.pt")


def test_arrays_that_are_only_called_as_in_keras_are_named(tmp_path):
    """Haste's LSTM: the same names, the gates in another order."""
    arrays = {"kernel": (5, 24), "recurrent_kernel": (6, 24), "bias": (24,)}
    torch.save({f"rnn.{key}": torch.ones(shape) for key, shape in arrays.items()}, tmp_path / "m.pt")
    with pytest.raises(NoLSTMError, match=r"rnn \(unknown\): .*haste's LSTM \(gates i g f o"):
        lstmconv.load(tmp_path / "m.pt")


def test_arrays_by_other_names_are_named(tmp_path):
    np.savez(tmp_path / "m.npz", x=np.ones(2), y=np.ones(3))
    with pytest.raises(NoLSTMError, match=r"NumPy arrays by names \('x', 'y'\)"):
        lstmconv.load(tmp_path / "m.npz", config=CONFIG)
