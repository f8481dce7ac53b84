"""What real Keras hands to the layer inside TimeDistributed beside a step: its part of the mask, and the last state."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import lstmconv
from lstmconv.errors import UnsupportedModelError

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning"),
]

GOLDEN = Path(__file__).parent / "golden" / "masked_steps"
BATCH, STEPS, PLACES, WORDS, FEATURES, UNITS = 3, 5, 4, 7, 3, 2


def model_of(inner: Callable[[], keras.Layer], *, mask: bool) -> keras.Model:
    """Several words a step, embedded; the layer runs on each step."""
    keras.utils.set_random_seed(6)
    words = keras.Input((STEPS, PLACES), dtype="int32")
    embedded = layers.Embedding(WORDS, FEATURES, mask_zero=mask)(words)
    steps = layers.TimeDistributed(inner(), name="steps")(embedded)
    return keras.Model(words, layers.LSTM(UNITS)(layers.Conv1D(FEATURES, 2)(steps)))


def nested() -> keras.Model:
    step = keras.Input((PLACES, FEATURES))
    return keras.Model(step, layers.LSTM(UNITS, activation="relu", name="inside")(step))


def words() -> np.ndarray:
    ids = np.random.default_rng(3).integers(1, WORDS, (BATCH, STEPS, PLACES)).astype("int32")
    ids[0, :, 2:] = ids[1, :, :1] = ids[2, :, 1:3] = 0  # On the right, on the left, a hole.
    return ids


@pytest.mark.parametrize(
    ("inner", "reads"),
    [
        (lambda: layers.LSTM(UNITS, activation="relu", name="inside"), "inside"),
        (lambda: layers.Bidirectional(layers.LSTM(UNITS), name="inside"), "inside"),
        (lambda: layers.GRU(UNITS, name="inside"), "inside"),
        (lambda: layers.GlobalAveragePooling1D(name="inside"), "inside"),
        (nested, "inside"),
    ],
    ids=["LSTM", "Bidirectional", "GRU", "GlobalAveragePooling1D", "nested"],
)
def test_a_layer_that_computes_otherwise_under_its_part_of_the_mask_is_refused(
    inner: Callable[[], keras.Layer], reads: str
):
    masked, unmasked = model_of(inner, mask=True), model_of(inner, mask=False)
    unmasked.set_weights(masked.get_weights())
    apart = np.abs(masked.predict(words(), verbose=0) - unmasked.predict(words(), verbose=0)).max()
    assert apart > 1e-5, "Keras hands the mask on"
    unknown, *_ = lstmconv.from_keras(masked).model.unknown
    assert unknown.reason.startswith(f"a mask reaches '{reads}'")


def test_the_lstm_inside_keeps_what_the_config_says(tmp_path: Path):
    path = tmp_path / "model.keras"
    model_of(nested, mask=True).save(path)
    assert str(lstmconv.load(path)["steps/inside"].activation) == "relu"
    with pytest.raises(UnsupportedModelError, match="a mask reaches 'inside'"):
        lstmconv.convert(path, tmp_path / "model.onnx", whole=True)


@pytest.mark.parametrize(
    "inner",
    [lambda: layers.Activation("softmax"), lambda: layers.Dense(UNITS, "softmax"), lambda: layers.Flatten()],
    ids=["softmax", "Dense", "Flatten"],
)
@pytest.mark.parametrize("features", [FEATURES, STEPS])
def test_a_layer_that_takes_no_mask_computes_the_same_under_one(
    inner: Callable[[], keras.Layer], features: int, tmp_path: Path
):
    sequence = keras.Input((None, features))
    masked = layers.Masking()(sequence)
    model = keras.Model(sequence, layers.LSTM(UNITS)(layers.TimeDistributed(inner())(masked)))
    x = np.random.default_rng(4).normal(size=(BATCH, STEPS, features)).astype("float32")
    x[0, 3:] = x[1, :2] = x[2, 2] = 0
    path = tmp_path / "model.keras"
    model.save(path)
    np.testing.assert_allclose(lstmconv.reference(lstmconv.load(path), x), model.predict(x, verbose=0), atol=1e-6)


@pytest.mark.parametrize("maker", ["embedding", "masking"])
def test_a_mask_that_the_layer_inside_makes_is_refused(maker: str):
    """Keras 2's TimeDistributed asks the layer that it wraps for the mask of each step; the next one hands it on."""
    recorded = np.load(GOLDEN / f"{maker}.npz")
    assert np.abs(recorded["masked"] - recorded["unmasked"]).max() > 0.1, "tf-keras follows the mask"
    model = lstmconv.load(GOLDEN / f"{maker}.h5").model
    assert model is not None
    unknown, *_ = model.unknown
    assert (unknown.name, unknown.reason) == ("steps", "each of its steps has a mask of its own")


def cells(*, stateful: bool) -> keras.Layer:
    return layers.RNN([layers.LSTMCell(UNITS, name="a"), layers.LSTMCell(UNITS, name="b")], stateful=stateful)


@pytest.mark.parametrize("is_nested", [False, True], ids=["alone", "nested"])
@pytest.mark.parametrize("layer", [partial(layers.LSTM, UNITS), cells], ids=["LSTM", "cells"])
def test_a_state_that_goes_from_step_to_step_is_refused(
    layer: Callable[..., keras.Layer], is_nested: bool, tmp_path: Path
):
    """Keras runs one layer on the steps, one after another: a stateful one starts where the step before it ended."""

    def model_of(*, stateful: bool) -> keras.Model:
        keras.utils.set_random_seed(7)
        step = keras.Input(batch_shape=(BATCH, PLACES, FEATURES))
        inner: keras.Layer = layer(stateful=stateful)
        inner = keras.Model(step, inner(step)) if is_nested else inner
        pages = keras.Input(batch_shape=(BATCH, STEPS, PLACES, FEATURES))
        return keras.Model(pages, layers.TimeDistributed(inner)(pages))

    x = np.random.default_rng(5).normal(size=(BATCH, STEPS, PLACES, FEATURES)).astype("float32")
    keeps, starts = model_of(stateful=True), model_of(stateful=False)
    assert np.abs(np.asarray((keeps(x) - starts(x)).detach())).max() > 1e-3
    path = tmp_path / "model.keras"
    keeps.save(path)
    with pytest.raises(UnsupportedModelError, match="keeps a state from step to step"):
        lstmconv.convert(path, tmp_path / "model.onnx", whole=True)
