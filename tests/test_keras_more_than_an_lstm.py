"""Keras files whose groups hold more than an LSTM's arrays, where no config names the class: refused by name."""

from __future__ import annotations

import zipfile

import h5py
import keras
import numpy as np
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


CELL = ("kernel:0", "recurrent_kernel:0", "bias:0")
KERAS_1 = tuple(f"{array}_{gate}" for gate in "icfo" for array in "WUb")
SHAPES = {"kernel": (3, 20), "recurrent_kernel": (5, 20), "bias": (20,), "W": (3, 5), "U": (5, 5), "b": (5,)}


def legacy(path, group, names):
    """Write weights alone as ``save_weights`` of Keras before 3.0 does."""
    draw = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [group.encode()]
        made = file.create_group(group)
        made.attrs["weight_names"] = [name.encode() for name in names]
        for name in names:
            own = name.split("/")[-1].removesuffix(":0")
            parts = own.split("_")
            shape = SHAPES.get(own) or SHAPES.get(parts[-2] if len(parts) > 1 else "", (5,))
            made[name] = draw.normal(size=shape).astype(np.float32)
    return path


def scoped(scope, *names):
    return [f"{scope}/{name}" for name in names]


@pytest.mark.parametrize(
    ("group", "names", "beside"),
    [
        # As tf-keras 2.21 names them: a subclassed cell with a layer inside, a weight more, a stack of such cells,
        ("rnn", scoped("rnn/norm_cell", *CELL, "layer_normalization/gamma:0"), "layer_normalization/gamma:0"),
        ("rnn", scoped("rnn/peep_cell", *CELL, "peephole:0"), "peephole:0"),
        ("rnn", scoped("rnn/stacked_rnn_cells/norm_cell", *CELL, "norm/beta:0"), "norm/beta:0"),
        # a subclassed LSTM with a weight, or a layer behind the recurrence, and a subclassed Bidirectional.
        ("scaled", ["scaled/scale:0", *scoped("scaled/lstm_cell", *CELL)], "scaled/scale:0"),
        ("norm", [*scoped("norm/lstm_cell", *CELL), "norm/after/gamma:0"], "norm/after/gamma:0"),
        ("norm", [*scoped("norm/lstm_cell", *CELL), "norm/attend/kernel:0"], "norm/attend/kernel"),
        (
            "bi",
            [
                "bi/mixing:0",
                *scoped("bi/forward_lstm/lstm_cell", *CELL),
                *scoped("bi/backward_lstm/lstm_cell", *CELL),
            ],
            "bi/mixing:0",
        ),
        # Keras 2.2.4 gives a cell's weights the layer's scope; Keras 1.2.2 has prefixes.
        ("rnn_1", scoped("rnn_1", "kernel", "recurrent_kernel", "bias", "peephole"), "rnn_1/peephole"),
        ("scaled_1", [f"scaled_1_{name}" for name in (*KERAS_1, "scale")], "scaled_1_scale"),
        ("bidirectional_1", [f"forward_scaled_2_{name}" for name in (*KERAS_1, "scale")], "forward_scaled_2_scale"),
    ],
)
def test_legacy_weights_beside_a_cell_are_more_than_an_lstm(tmp_path, group, names, beside):
    with pytest.raises(NoLSTMError, match=f"it holds .*{beside}.* beside an LSTM's arrays"):
        lstmconv.load(legacy(tmp_path / "m.h5", group, names))


@pytest.mark.parametrize(
    ("names", "layer"),
    [
        ([*scoped("lstm/lstm_cell", *CELL), "layer_normalization/gamma:0", "dense/bias:0"], "sequential"),
        (scoped("sequential", *(f"lstm/lstm_cell/{name}" for name in CELL), "dense/gamma:0"), "sequential"),
        ([*(f"lstm_1_{name}" for name in KERAS_1), "batchnormalization_1_gamma", "prelu_1_alphas"], "sequential"),
    ],
    ids=["tf-keras", "deferred", "keras-1"],
)
def test_weights_of_other_layers_of_a_nested_model_are_not_the_lstm_s(tmp_path, names, layer):
    checkpoint = lstmconv.load(legacy(tmp_path / "m.h5", "sequential", names), recurrent_activation="sigmoid")
    assert [found.name.split("/")[0] for found in checkpoint.layers] == [layer]
    assert not checkpoint.skipped


@pytest.mark.parametrize("half", ["forward", "backward"])
def test_a_bidirectional_that_lacks_a_half_is_no_lstm_of_one_direction(tmp_path, half):
    """Real files of Keras 3 and of tf-keras, weights alone, with the arrays of one half taken out."""
    with zipfile.ZipFile("tests/golden/keras-3.15.1/bidirectional_concat.keras") as archive:
        (tmp_path / "m.weights.h5").write_bytes(archive.read("model.weights.h5"))
    with h5py.File(tmp_path / "m.weights.h5", "r+") as file:
        del file[f"layers/bidirectional/{half}_layer"]
    with h5py.File("sample_weights/tf_keras_bidirectional.h5") as source, h5py.File(tmp_path / "m.h5", "w") as file:
        for name, group in source["model_weights"].items():
            source["model_weights"].copy(group, file)
            kept = [each for each in group.attrs["weight_names"] if f"/{half}_" not in str(each)]
            file[name].attrs["weight_names"] = kept
        file.attrs["layer_names"] = source["model_weights"].attrs["layer_names"]
    for name in ("m.weights.h5", "m.h5"):
        with pytest.raises(NoLSTMError, match=f"its {half} half is missing"):
            lstmconv.load(tmp_path / name, recurrent_activation="sigmoid")
        (result,) = lstmconv.check([tmp_path / name])
        assert (result.status, result.findings[0].rule) == ("failed", "damaged")
