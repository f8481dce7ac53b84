"""Layers and models that are called several times, as real Keras computes them: in the reference, ONNX and PyTorch."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import onnxruntime
import pytest
import torch
from keras import layers

import lstmconv
import lstmconv.torch
from lstmconv.errors import LstmconvError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
TOLERANCE = 1e-5
"""Float32 sums of a few terms near 1."""


def agrees(model, inputs, folder):
    """Hold both whole targets to what Keras computes."""
    with torch.no_grad():
        expected = [np.asarray(y) for y in keras.tree.flatten(model(list(inputs.values()), training=False))]
    model.save(folder / "m.keras")
    lstmconv.convert(folder / "m.keras", folder, to=["onnx", "torch"], whole=True, verify=False)
    assert lstmconv.verify(folder / "m.keras", folder / "m.onnx").complete
    session = onnxruntime.InferenceSession(folder / "m.onnx", providers=["CPUExecutionProvider"])
    kinds = {"tensor(int64)": np.int64, "tensor(float)": np.float32}
    feeds = {entry.name: inputs[entry.name].astype(kinds[entry.type]) for entry in session.get_inputs()}
    with torch.no_grad():
        made = lstmconv.torch.load(folder / "m.pt")(*(torch.from_numpy(x) for x in inputs.values()))
    in_torch = [y.numpy() for y in (made if isinstance(made, list) else [made])]
    for wanted, *found in zip(expected, session.run(None, feeds), in_torch, strict=True):
        for each in found:
            np.testing.assert_allclose(each, wanted, rtol=0, atol=TOLERANCE)


def test_a_layer_without_weights_is_called_with_inputs_of_several_ranks(tmp_path):
    shapes = {"a": (7, 3, 4), "b": (7, 4), "c": (5, 4), "d": (4,), "e": (4,), "f": (7, 3, 2, 2)}
    a, b, c, d, e, f = (layers.Input(shape, name=name) for name, shape in shapes.items())
    dot, steps, soft = layers.Dot(axes=-1), layers.TimeDistributed(layers.Flatten()), layers.Softmax(axis=-1)
    flat, dense = layers.Flatten(), layers.Dense(3)
    y = [dot([b, c]), dot([d, e]), steps(a), steps(f), soft(a), soft(b), flat(a), flat(b), dense(b), dense(d)]
    model = keras.Model([a, b, c, d, e, f], y)
    draw = np.random.default_rng(3)
    agrees(model, {name: draw.normal(size=(2, *shape)).astype(np.float32) for name, shape in shapes.items()}, tmp_path)


def test_a_layer_of_weights_that_computes_otherwise_on_each_rank_is_refused_by_name(tmp_path):
    a, b = layers.Input((7, 3, 4)), layers.Input((7, 4))
    norm = layers.LayerNormalization(name="norm")
    keras.Model([a, b], [norm(a), norm(b)]).save(tmp_path / "m.keras")
    with pytest.raises(LstmconvError, match=r"norm:1 .*inputs of several shapes"):
        lstmconv.convert(tmp_path / "m.keras", tmp_path / "m.onnx", whole=True)


def test_a_nested_model_that_makes_masks_is_called_twice(tmp_path):
    ids = layers.Input((5,), dtype="int32", name="inner_ids")
    inner = keras.Model(ids, layers.LSTM(3)(layers.Embedding(11, 4, mask_zero=True)(ids)), name="inner")
    x, y = layers.Input((5,), dtype="int32", name="x"), layers.Input((5,), dtype="int32", name="y")
    model = keras.Model([x, y], layers.Subtract()([inner(x), inner(y)]))
    draw = np.random.default_rng(4)
    agrees(model, {name: draw.integers(0, 11, (4, 5)).astype(np.int32) for name in "xy"}, tmp_path)
