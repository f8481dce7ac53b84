"""What once converted in silence and computed otherwise: read right now, or refused by name. Keras 3 judges."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops

import lstmconv
from lstmconv.errors import UnsupportedModelError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def attention(**options):
    ids = layers.Input((5,), dtype="int32")
    mask = layers.Input((5, 5), dtype="bool")
    h = layers.Embedding(7, 4, mask_zero=True)(ids)
    given = options or {"attention_mask": mask}
    return keras.Model([ids, mask], layers.MultiHeadAttention(1, 2)(h, h, **given))


def numbers(function):
    x = layers.Input((5, 3))
    return keras.Model(x, function(layers.LSTM(4, return_sequences=True)(x)))


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (attention, "its inputs have masks of their own"),
        (lambda: attention(return_attention_scores=True), "it returns its scores under a mask"),
        (lambda: numbers(lambda x: ops.softmax(x, axis=None)), "the whole tensor"),
        (lambda: numbers(lambda x: ops.cast(ops.cast(x, "float16"), "float32")), "a cast to float16, which rounds"),
    ],
    ids=["mask beside masks", "scores under a mask", "softmax of everything", "rounding cast"],
)
def test_what_is_not_followed_is_refused_by_name(build, why, tmp_path):
    build().save(tmp_path / "model.keras")
    with pytest.raises(UnsupportedModelError, match=why):
        lstmconv.convert(tmp_path / "model.keras", tmp_path / "model.onnx", whole=True, verify=False)
    assert not (tmp_path / "model.onnx").exists()


def test_a_dictionary_of_inputs_is_taken_by_its_names(tmp_path):
    i, j = layers.Input((5, 2), name="q"), layers.Input((5, 2), name="p")
    a, b = layers.Input((5, 2)), layers.Input((5, 2))
    inner = keras.Model({"q": i, "p": j}, layers.Subtract()([layers.LSTM(3)(i), layers.LSTM(3)(j)]))
    model = keras.Model([a, b], inner({"q": b, "p": a}))
    model.save(tmp_path / "model.keras")
    x, y = np.random.default_rng(0).normal(size=(2, 3, 5, 2)).astype(np.float32)
    with torch.no_grad():
        expected = model([x, y], training=False).numpy()
    found = lstmconv.reference(lstmconv.load(tmp_path / "model.keras"), x, y)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_each_gate_of_a_gru_has_its_own_softmax(tmp_path):
    x = layers.Input((5, 3))
    model = keras.Model(x, layers.GRU(4, recurrent_activation="softmax", reset_after=False)(x))
    model.save(tmp_path / "model.keras")
    given = np.random.default_rng(1).normal(size=(3, 5, 3)).astype(np.float32)
    with torch.no_grad():
        expected = model(given, training=False).numpy()
    found = lstmconv.reference(lstmconv.load(tmp_path / "model.keras"), given)
    np.testing.assert_allclose(found, expected, atol=2e-6)
