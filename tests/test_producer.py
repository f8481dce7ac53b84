"""Which Keras wrote a file decides what its words mean; a file that does not state its Keras tells it otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import keras
import numpy as np
import onnxruntime
import pytest
from keras import layers

import lstmconv
from lstmconv.errors import UnsupportedModelError
from tests._cases import GOLDEN

pytestmark = [
    pytest.mark.usefixtures("trusted_golden_files"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning"),
]

BATCH, STEPS, FEATURES, UNITS = 3, 5, 3, 2


def numbers() -> np.ndarray:
    return np.random.default_rng(4).normal(0, 3, (BATCH, STEPS, FEATURES)).astype("float32")


def test_a_config_without_a_version_is_read_by_the_rules_of_the_keras_that_wrote_the_weights(tmp_path: Path):
    """Keras 2.2.4 repeats the last output at masked steps of a Bidirectional layer, later ones return zeros."""
    weights = GOLDEN / "whole" / "keras-2.2.4" / "mask_bidirectional.h5"
    with h5py.File(weights) as file:
        (tmp_path / "config.json").write_text(json.dumps(json.loads(file.attrs["model_config"])))
    with np.load(weights.with_suffix(".npz")) as recording:
        found = lstmconv.reference(lstmconv.load(weights, config=tmp_path / "config.json"), recording["x:0"])
        assert len(found) > 1
        for k, value in enumerate(found):
            np.testing.assert_allclose(value, recording[f"y:{k}"], rtol=0, atol=1e-6)


def test_the_name_of_a_layer_does_not_tell_which_keras_wrote_a_config(tmp_path: Path):
    """Keras 3 computes another hard_sigmoid than Keras 2, which alone writes the option time_major."""
    keras.utils.set_random_seed(1)
    lstm = layers.LSTM(UNITS, recurrent_activation="hard_sigmoid", return_sequences=True, name="time_major")
    model = keras.Sequential([keras.Input((STEPS, FEATURES)), lstm])
    (tmp_path / "model.json").write_text(model.to_json())
    model.save_weights(tmp_path / "model.weights.h5")
    read = lstmconv.load(tmp_path / "model.weights.h5", config=tmp_path / "model.json")
    desired = model(numbers()).detach().numpy()
    np.testing.assert_allclose(lstmconv.reference(read, numbers()), desired, rtol=0, atol=1e-6)


def test_weights_of_keras_2_and_a_config_of_keras_3_that_does_not_state_it_are_refused(tmp_path: Path):
    """They compute hard_sigmoid differently."""
    lstm = layers.LSTM(UNITS, recurrent_activation="hard_sigmoid", name="lstm")
    (tmp_path / "model.json").write_text(keras.Sequential([keras.Input((STEPS, FEATURES)), lstm]).to_json())
    weights = GOLDEN / "keras-2.2.4" / "lstm.weights_only.h5"
    with pytest.raises(UnsupportedModelError, match=r"weights by Keras 2\.2\.4, config by Keras 3, which compute"):
        lstmconv.load(weights, config=tmp_path / "model.json")


@pytest.mark.parametrize("return_sequences", [True, False])
def test_weights_alone_of_a_bidirectional_layer_return_what_keras_returns_beyond_the_lengths(
    tmp_path: Path, return_sequences: bool
):
    keras.utils.set_random_seed(2)
    lstm = layers.LSTM(UNITS, return_sequences=return_sequences)
    model = keras.Sequential([keras.Input((STEPS, FEATURES)), layers.Masking(), layers.Bidirectional(lstm, name="bi")])
    x, lengths = numbers(), np.array([STEPS, 2, 3], "int32")
    for sample, length in zip(x, lengths, strict=True):
        sample[length:] = 0
    model.save_weights(tmp_path / "model.weights.h5")
    lstmconv.convert(
        tmp_path / "model.weights.h5", tmp_path / "bi.onnx", lengths=True, return_sequences=return_sequences
    )
    session = onnxruntime.InferenceSession(tmp_path / "bi.onnx")
    (found,) = session.run(["bi.y"], {"bi.x": x, "bi.lengths": lengths})
    np.testing.assert_allclose(found, model(x).detach().numpy(), rtol=0, atol=1e-6)
