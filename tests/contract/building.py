"""LSTM layers made in memory from Keras-style arrays, and what Keras computes with them, written out once more.

Nothing here uses lstmconv's layouts, copying or semantics: the gates are cut by literal slices, and the
expected outputs come from the loop below, in float64.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import h5py
import numpy as np

from lstmconv.activations import SIGMOID, TANH, Activation
from lstmconv.formats import open_file
from lstmconv.model import Checkpoint, Gates, LSTMDirection, LSTMLayer, Provenance
from lstmconv.proof.verifying import verify_file

FLOAT32_NOISE = 5e-6
"""A dozen steps of float32 LSTM with outputs of about 1 stay within a few units of 1e-7 each step."""
FLOAT64_NOISE = 1e-12
"""The same in float64, with room for another order of the sums."""

LEAKY = Activation("relu", (("negative_slope", 0.2), ("max_value", float("inf")), ("threshold", 0.0)))
RELU = Activation("relu", (("negative_slope", 0.0), ("max_value", float("inf")), ("threshold", 0.0)))
THRESHOLDED = Activation("relu", (("negative_slope", 0.0), ("max_value", float("inf")), ("threshold", 0.25)))


@dataclass(frozen=True, eq=False)
class Half:
    """One direction as Keras stores it: kernel (I, 4H), recurrent (H, 4H), bias (4H) or none; gates i f c o."""

    kernel: np.ndarray
    recurrent: np.ndarray
    bias: np.ndarray | None
    activation: Activation = TANH
    recurrent_activation: Activation = SIGMOID
    go_backwards: bool = False

    @property
    def hidden(self):
        return self.recurrent.shape[0]

    def direction(self):
        h = self.hidden

        def gates(array):
            return Gates(*(array[..., k * h : (k + 1) * h].T for k in range(4)))

        return LSTMDirection(
            gates(self.kernel),
            gates(self.recurrent),
            None if self.bias is None else gates(self.bias),
            None,
            self.activation,
            self.recurrent_activation,
            self.go_backwards,
        )


def make_half(features=3, hidden=5, seed=0, dtype="float32", *, bias=True, scale=0.6, **options):
    """Draw random weights wide enough that exchanged gates show."""
    random = np.random.default_rng([seed, features, hidden])

    def draw(*shape):
        return (random.normal(size=shape) * scale).astype(dtype)

    return Half(draw(features, 4 * hidden), draw(hidden, 4 * hidden), draw(4 * hidden) if bias else None, **options)


def make_halves(features=3, hidden=5, seed=0, dtype="float32", **options):
    """Make the two halves of a Bidirectional layer."""
    return [
        make_half(features, hidden, 2 * seed, dtype, **options),
        make_half(features, hidden, 2 * seed + 1, dtype, **{**options, "go_backwards": True}),
    ]


def make_layer(*halves, name="lstm", **options):
    """Make a layer of one half, or of two."""
    return LSTMLayer(name, *(half.direction() for half in halves), **options)


def make_checkpoint(*layers, **options):
    provenance = Provenance("model.h5", "0" * 64, "Keras HDF5 (whole model)", "2.15.0", "tensorflow")
    return Checkpoint(tuple(layers), provenance, **options)


def make_inputs(features=3, batch=4, steps=7, sizes=(5,), seed=1):
    """Draw x (batch, time, features) and h, c for every half, exact in float32."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(batch, steps, features)).astype(np.float32).astype(np.float64)
    states = [random.normal(size=(batch, size)).astype(np.float32).astype(np.float64) for size in sizes for _ in "hc"]
    return x, states


def compute(activation, x):
    """Compute the few activations that the targets' tests need, from their definitions."""
    numbers = dict(activation.parameters)
    return {
        "tanh": lambda: np.tanh(x),
        "sigmoid": lambda: 1 / (1 + np.exp(-x)),
        "linear": lambda: x,
        "hard_sigmoid": lambda: np.clip(numbers["alpha"] * x + numbers["beta"], 0, 1),
        "relu": lambda: np.where(x > numbers["threshold"], x, numbers["negative_slope"] * x),
        "elu": lambda: np.where(x > 0, x, numbers["alpha"] * (np.exp(x) - 1)),
        "celu": lambda: np.where(x > 0, x, np.exp(x) - 1),
        "softplus": lambda: np.log1p(np.exp(x)),
        "softsign": lambda: x / (1 + np.abs(x)),
        "sparse_sigmoid": lambda: np.clip(0.5 * x + 0.5, 0, 1),
    }[activation.name]()


def run_half(half, x, h, c, mask=None, *, zero_output=False):
    """Run one direction as Keras' rnn loop does; return its outputs in processing order, and h, c, last."""
    kernel, recurrent = half.kernel.astype(np.float64), half.recurrent.astype(np.float64)
    bias = 0.0 if half.bias is None else half.bias.astype(np.float64)
    order = range(x.shape[1] - 1, -1, -1) if half.go_backwards else range(x.shape[1])
    output, outputs, n = np.zeros_like(h), [], half.hidden
    for step in order:
        z = x[:, step] @ kernel + h @ recurrent + bias
        i, f, o = (compute(half.recurrent_activation, z[:, k * n : (k + 1) * n]) for k in (0, 1, 3))
        new_c = f * c + i * compute(half.activation, z[:, 2 * n : 3 * n])
        new_h = o * compute(half.activation, new_c)
        valid = np.ones((len(h), 1), bool) if mask is None else mask[:, step, None]
        output = np.where(valid, new_h, output)
        h, c = np.where(valid, new_h, h), np.where(valid, new_c, c)
        outputs.append(np.where(valid, output, 0.0) if zero_output else output)
    return np.stack(outputs, axis=1), h, c, outputs[-1]


def expected(halves, x, states=None, mask=None, *, merge="concat", sequences=True, zero_output=False):
    """Return Keras' outputs (a list) and final states [h, c, h, c] of an LSTM or Bidirectional layer."""
    if states is None:
        states = [np.zeros((len(x), half.hidden)) for half in halves for _ in "hc"]
    runs = [
        run_half(half, x, states[2 * k], states[2 * k + 1], mask, zero_output=zero_output)
        for k, half in enumerate(halves)
    ]
    finals = [state for _, h, c, _ in runs for state in (h, c)]
    parts = [run[0] if sequences else run[3] for run in runs]
    if len(parts) == 1:
        return parts, finals
    if sequences:
        parts[1] = parts[1][:, ::-1]
    merged = {
        "concat": lambda a, b: [np.concatenate([a, b], axis=-1)],
        "sum": lambda a, b: [a + b],
        "mul": lambda a, b: [a * b],
        "ave": lambda a, b: [(a + b) / 2],
        "none": lambda a, b: [a, b],
    }[merge](*parts)
    return merged, finals


def torch_arrays(half):
    """Return what ``nn.LSTM`` must hold: rows i f g o, the bias in bias_ih, zeros in bias_hh."""
    arrays = {"weight_ih": half.kernel.T, "weight_hh": half.recurrent.T}
    if half.bias is not None:
        arrays |= {"bias_ih": half.bias, "bias_hh": np.zeros_like(half.bias)}
    return arrays


def bits(array):
    """See an array as unsigned integers, so that -0.0 and NaN payloads count."""
    contiguous = np.ascontiguousarray(array)
    return contiguous.view(f"u{contiguous.dtype.itemsize}")


def write_h5(path, halves_by_name, *, activation="tanh", recurrent_activation="sigmoid", version="2.15.0", **config):
    """Write a whole model as tf.keras does: a Sequential of LSTMs, each one half or (forward, backward)."""
    layers = []
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights")
        for name, halves in halves_by_name.items():
            single = {
                "name": name,
                "units": halves[0].hidden,
                "activation": activation,
                "recurrent_activation": recurrent_activation,
                "use_bias": halves[0].bias is not None,
                "return_sequences": True,
                "go_backwards": halves[0].go_backwards,
                **config,
            }
            entry = {"class_name": "LSTM", "config": single}
            if len(halves) == 2:
                inner = {"class_name": "LSTM", "config": {**single, "name": f"{name}_inner"}}
                both = {"name": name, "layer": inner, "merge_mode": "concat"}
                entry = {"class_name": "Bidirectional", "config": both}
            layers.append(entry)
            own = group.create_group(name)
            names = []
            prefixes = [""] if len(halves) == 1 else ["forward_lstm/", "backward_lstm/"]
            for half, prefix in zip(halves, prefixes, strict=True):
                arrays = {"kernel": half.kernel, "recurrent_kernel": half.recurrent, "bias": half.bias}
                for key, array in arrays.items():
                    if array is not None:
                        names.append(f"{name}/{prefix}lstm_cell/{key}:0")
                        own[names[-1]] = array
            own.attrs["weight_names"] = [entry.encode() for entry in names]
        group.attrs["layer_names"] = [name.encode() for name in halves_by_name]
        for place in (file, group):
            place.attrs["keras_version"] = version
            place.attrs["backend"] = "tensorflow"
        model = {"class_name": "Sequential", "config": {"name": "sequential", "layers": layers}}
        file.attrs["model_config"] = json.dumps(model)
    return path


def verified(source, path, settings=None):
    """Open a written file and compare it with its source."""
    return verify_file(source, open_file(path), settings)
