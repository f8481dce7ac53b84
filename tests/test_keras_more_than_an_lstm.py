"""Keras files whose groups hold more than an LSTM's arrays, where no config names the class: refused by name."""

from __future__ import annotations

import keras
import pytest
from keras import layers

import lstmconv
from lstmconv.errors import NoLSTMError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""Keras on PyTorch's backend, with NumPy 2."""


class LayerNormCell(layers.LSTMCell):
    """A cell that normalises what it returns: a layer inside the cell."""

    def __init__(self, units, **options):
        super().__init__(units, **options)
        self.norm = layers.LayerNormalization()

    def build(self, shape):
        """Build the cell and its layer."""
        super().build(shape)
        self.norm.build((None, self.units))

    def call(self, inputs, states, training=None):
        """Run a step."""
        output, states = super().call(inputs, states)
        return self.norm(output), states


class Scaled(layers.LSTM):
    """An LSTM with one weight more."""

    def build(self, shape):
        """Build the layer and the weight."""
        super().build(shape)
        self.scale = self.add_weight(shape=(self.units,), name="scale")


def saved(layer, path, batch=None):
    x = keras.Input((7, 3), batch_size=batch)
    model = keras.Model(x, layer(x))
    model.save_weights(path) if path.name.endswith(".weights.h5") else model.save(path)
    return path


@pytest.mark.parametrize("name", ["m.weights.h5", "m.keras"])
def test_a_layer_inside_the_cell_is_more_than_an_lstm(tmp_path, name):
    path = saved(layers.RNN(LayerNormCell(5), name="r"), tmp_path / name)
    with pytest.raises(NoLSTMError, match=r"norm/vars/0, norm/vars/1 beside an LSTM's arrays"):
        lstmconv.load(path)


def test_a_weight_beside_the_cell_is_more_than_an_lstm(tmp_path):
    with pytest.raises(NoLSTMError, match=r"holds vars/0 beside an LSTM's arrays"):
        lstmconv.load(saved(Scaled(5), tmp_path / "m.weights.h5"))


@pytest.mark.parametrize(
    ("make", "batch"),
    [
        (lambda: layers.LSTM(5, dropout=0.2, recurrent_dropout=0.3), None),
        (lambda: layers.LSTM(5, stateful=True), 2),
        (lambda: layers.Bidirectional(layers.LSTM(5, stateful=True, dropout=0.2)), 2),
        (lambda: layers.RNN([layers.LSTMCell(5, dropout=0.1), layers.LSTMCell(5)]), None),
    ],
    ids=["dropout", "stateful", "bidirectional", "cells"],
)
def test_seeds_and_states_are_an_lstm_s_own(tmp_path, make, batch):
    assert not lstmconv.load(saved(make(), tmp_path / "m.weights.h5", batch)).skipped
