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


def masked(function):
    ids = layers.Input((5,), dtype="int32")
    return keras.Model(ids, layers.LSTM(3)(function(layers.Embedding(7, 4, mask_zero=True)(ids))))


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (attention, "its inputs have masks of their own"),
        (lambda: attention(return_attention_scores=True), "it returns its scores under a mask"),
        (lambda: numbers(lambda x: ops.softmax(x, axis=None)), "the whole tensor"),
        (lambda: numbers(lambda x: ops.cast(ops.cast(x, "float16"), "float32")), "a cast to float16, which rounds"),
        (lambda: masked(lambda x: ops.cast(x, "float32")), "it changes nothing"),
    ],
    ids=["mask beside masks", "scores under a mask", "softmax of everything", "rounding cast", "cast to its own dtype"],
)
@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning")
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


@pytest.mark.parametrize(
    "layer",
    [lambda: layers.Reshape((5, 4)), lambda: layers.Cropping1D(0), lambda: layers.Permute((1, 2))],
    ids=["reshape", "crop", "permute"],
)
@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning")
def test_a_mask_ends_in_a_layer_that_changes_nothing_and_a_note_names_the_backends(tmp_path, layer):
    model = masked(layer())
    numbers = np.random.default_rng(2)
    model.set_weights([numbers.normal(size=weight.shape) for weight in model.get_weights()])
    model.save(tmp_path / "model.keras")
    given = np.array([[1, 2, 3, 0, 0], [0, 2, 3, 4, 5], [1, 0, 2, 0, 3]])
    with torch.no_grad():
        expected = model(given, training=False).numpy()
    read = lstmconv.load(tmp_path / "model.keras")
    assert any("it changes nothing; the mask is assumed to end there" in note for note in read.notes)
    np.testing.assert_allclose(lstmconv.reference(read, given), expected, atol=2e-6)


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("suffix", ["onnx", "pt", "keras", "py"])
def test_cells_that_run_backwards_share_one_mask_turned_round_once(tmp_path, suffix, sequences):
    ids = layers.Input((5,), dtype="int32")
    cells = [layers.LSTMCell(3), layers.LSTMCell(2)]
    x = layers.Embedding(7, 4, mask_zero=True, embeddings_initializer="normal")(ids)
    model = keras.Model(ids, layers.RNN(cells, go_backwards=True, return_sequences=sequences)(x))
    numbers = np.random.default_rng(2)
    model.set_weights([numbers.normal(size=weight.shape) for weight in model.get_weights()])
    model.save(tmp_path / "model.keras")
    given = np.array([[1, 2, 3, 0, 0], [0, 2, 3, 4, 5], [1, 0, 2, 0, 3]])
    with torch.no_grad():
        expected = model(given, training=False).numpy()
    found = lstmconv.reference(lstmconv.load(tmp_path / "model.keras"), given)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    lstmconv.convert(tmp_path / "model.keras", tmp_path / f"other.{suffix}", whole=True)  # And runs, to compare.


def test_lengths_are_refused_where_cells_hand_on_their_steps_in_reverse(tmp_path):
    x = layers.Input((5, 4))
    cells = [layers.LSTMCell(3), layers.LSTMCell(2)]
    keras.Model(x, layers.RNN(cells, go_backwards=True)(x)).save(tmp_path / "model.keras")
    with pytest.raises(UnsupportedModelError, match="without lengths=True"):
        lstmconv.convert(tmp_path / "model.keras", tmp_path / "model.onnx", lengths=True)
    assert not (tmp_path / "model.onnx").exists()
