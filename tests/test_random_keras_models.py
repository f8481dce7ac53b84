"""Random models that real Keras 3 builds, saves and computes: their whole conversions compute the same.

Branches, masks with holes, states handed on, layers called twice: a seed decides. ``LSTMCONV_KERAS_MODELS`` sets how
many.
"""

from __future__ import annotations

import os

import keras
import numpy as np
import onnxruntime
import pytest
import torch
from keras import layers

import lstmconv
import lstmconv.torch

COUNT = int(os.environ.get("LSTMCONV_KERAS_MODELS", "8"))
TOLERANCE = 5e-5
"""Float32 sums of up to 60 terms, in some ten layers one behind the other, in two orders; measured: 4e-6 at most."""
TOKENS, STEPS = 13, 7


class Builder:
    """Grows a sequence ``(batch, time, features)`` layer by layer; a seed decides which."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.masked = bool(self.random.integers(2))

    def pick(self, *choices):
        return choices[int(self.random.integers(len(choices)))]

    def units(self):
        return int(self.pick(3, 5, 7))

    def recurrent(self, x):
        kind = self.pick(layers.LSTM, layers.LSTM, layers.GRU, layers.SimpleRNN)
        options = {"go_backwards": bool(self.random.integers(2))} if kind is layers.LSTM else {}
        if kind is layers.LSTM:
            options["recurrent_activation"] = self.pick("sigmoid", "hard_sigmoid")
        layer = kind(self.units(), return_sequences=True, **options)
        if self.random.integers(2):
            mode = self.pick("concat", "sum", "mul", "ave")
            layer = layers.Bidirectional(kind(self.units(), return_sequences=True), merge_mode=mode)
        return layer(x)

    def handed_on(self, x):
        """Let one LSTM start where another ended."""
        units = self.units()
        y, h, c = layers.LSTM(units, return_sequences=True, return_state=True)(x)
        return layers.LSTM(units, return_sequences=True)(y, initial_state=[h, c])

    def dense(self, x):
        layer = self.pick(
            layers.Dense, lambda units, activation: layers.TimeDistributed(layers.Dense(units, activation))
        )
        return layer(self.units(), self.pick("relu", "gelu", "softmax", "tanh"))(x)

    def normalised(self, x):
        return self.pick(layers.BatchNormalization, layers.LayerNormalization)()(x)

    def branches(self, x):
        units = self.units()
        a, b = layers.Dense(units)(x), layers.Dense(units, "tanh")(x)
        joined = [layers.Add, layers.Average, layers.Concatenate]
        joined += (
            [] if self.masked else [layers.Multiply, layers.Maximum]
        )  # From Keras 3.4 on, masks change their values.
        return self.pick(*joined)()([a, b])

    def twice(self, x):
        """Call one layer twice."""
        shared = layers.Dense(x.shape[-1], "tanh")
        return layers.Add()([shared(x), shared(shared(x))])

    def convolution(self, x):
        padding, dilation = self.pick(("same", 1), ("causal", 2), ("same", 2))
        return layers.Conv1D(self.units(), self.pick(2, 3), padding=padding, dilation_rate=dilation)(x)

    def model(self):
        masked = self.masked
        ids = layers.Input((STEPS,), dtype="int32", name="ids")
        numbers = layers.Input((STEPS, 4), name="numbers")
        embedded = layers.Embedding(TOKENS, 5, mask_zero=masked)(ids)
        x = layers.Concatenate()([embedded, layers.Masking()(numbers) if masked else numbers])
        steps = [self.recurrent, self.handed_on, self.dense, self.normalised, self.branches, self.twice]
        steps += [] if masked else [self.convolution]  # Keras stops a mask there, and warns.
        for _ in range(int(self.random.integers(2, 5))):
            x = self.pick(*steps)(x)
        pooled = self.pick(layers.LSTM(3), layers.GRU(3), layers.GlobalAveragePooling1D())(x)
        outputs = [layers.Dense(2, name="head")(pooled)]
        if self.random.integers(2):
            outputs.append(layers.Dense(3, "softmax", name="steps")(x))
        model = keras.Model([ids, numbers], outputs)
        for weight in model.weights:
            if weight.dtype.startswith("float"):
                value = self.random.normal(0, 0.4, weight.shape)
                weight.assign(np.abs(value) + 0.5 if "variance" in weight.path else value)
        return model

    def inputs(self, batch=4):
        ids = self.random.integers(1, TOKENS, (batch, STEPS))
        numbers = self.random.normal(size=(batch, STEPS, 4))
        holes = self.random.random((batch, STEPS)) < 0.3
        holes[0], holes[1] = False, np.arange(STEPS) < 3
        ids[holes], numbers[holes] = 0, 0.0
        return ids.astype(np.int32), numbers.astype(np.float32)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # Keras' own, with PyTorch's tensors.
@pytest.mark.filterwarnings("ignore:.*mask:UserWarning")
@pytest.mark.parametrize("seed", range(COUNT))
def test_a_random_keras_model_computes_the_same_as_onnx_and_in_torch(seed, tmp_path):
    builder = Builder(seed)
    model = builder.model()
    ids, numbers = builder.inputs()
    with torch.no_grad():
        computed = keras.tree.flatten(model([ids, numbers], training=False))
    expected = [y.numpy() for y in computed]
    model.save(tmp_path / "model.keras")
    lstmconv.convert(tmp_path / "model.keras", tmp_path, to=["onnx", "torch"], whole=True, verify=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {"ids": ids.astype(np.int64), "numbers": numbers})
    with torch.no_grad():
        outputs = lstmconv.torch.load(tmp_path / "model.pt")(torch.from_numpy(ids), torch.from_numpy(numbers))
    in_torch = [y.numpy() for y in (outputs if isinstance(outputs, list) else [outputs])]
    for wanted, *others in zip(expected, found, in_torch, strict=True):
        for other in others:
            np.testing.assert_allclose(other, wanted, rtol=0, atol=TOLERANCE * max(1.0, np.abs(wanted).max()))
