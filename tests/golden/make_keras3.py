"""Make the golden files of Keras 3 with versions 3.0.5, 3.2.1, 3.3.3, 3.6.0 and 3.15.1, on PyTorch.

    python3.11 -m venv keras3
    keras3/bin/pip install torch==2.13.0 h5py==3.16.0 numpy==2.4.6 absl-py rich namex optree ml-dtypes packaging dm-tree
    keras3/bin/pip install --no-deps --target trees3/3.6.0 keras==3.6.0      # and so for each version
    PYTHONPATH=trees3/3.6.0 keras3/bin/python tests/golden/make_keras3.py tests/golden

writes the folder `tests/golden/keras-3.6.0`. No GPU is needed.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import tempfile
from pathlib import Path

os.environ.update(KERAS_BACKEND="torch", KERAS_HOME=tempfile.mkdtemp())

import keras
import recording
from recording import FEATURES, MORE_UNITS, STEPS, UNITS, Case, Recording, chain, random_inputs

VERSION = keras.__version__


def evaluate(model, inputs, tensors):
    outputs = keras.Model(model.inputs, tensors)(inputs, training=False)
    return [keras.ops.convert_to_numpy(output) for output in outputs]


def tensors_of(layer, call):
    node = layer._inbound_nodes[call]
    return [tensor for tensor in node.input_tensors if tensor.dtype != "bool"], list(node.output_tensors)


def save(model, stem, format):
    """Write one file, or a few, and return the path to open."""
    if format == "folder":  # What zipped=False writes.
        Path(f"{stem}.folder").mkdir(exist_ok=True)
        model.save(f"{stem}.folder", zipped=False)
        return f"{stem}.folder"
    suffix = {"h5": ".h5", "keras": ".keras", "weights": ".weights.h5", "sharded": ".weights.json"}[format]
    path = f"{stem}{suffix}"
    if format in {"h5", "keras"}:
        model.save(path)
        return path
    model.save_weights(path, **({"max_shard_size": 8e-7} if format == "sharded" else {}))
    Path(f"{stem}.json").write_text(model.to_json() + "\n")
    return path


# --- what only Keras 3 can do -----------------------------------------------------------------------------------


def twelve(keras):
    """Put twelve LSTMs in a row, named against the order of their paths: n0 is layers/lstm, n10 is layers/lstm_10."""
    layers = [keras.layers.LSTM(2, return_sequences=True, name=f"n{index}") for index in range(12)]
    return Case(chain(keras, *layers), [random_inputs()])


def nested_sequential(keras):
    """Put a Sequential in a Sequential."""
    layers = keras.layers
    x, recurrent = layers.Input((STEPS, FEATURES)), layers.LSTM(UNITS, return_sequences=True, name="recurrent")
    inner = keras.Sequential([x, recurrent], name="inner")
    before, after = layers.Dense(FEATURES, name="before"), layers.LSTM(2, name="after")
    outer = keras.Sequential([layers.Input((STEPS, FEATURES)), before, inner, after], name="outer")
    return Case(outer, [random_inputs()])


@keras.saving.register_keras_serializable("golden")
class Subclassed(keras.Model):
    """A model whose LSTMs are attributes: one by itself, in a list and in a dict."""

    def __init__(self, **options):
        super().__init__(**options)
        lstm = functools.partial(keras.layers.LSTM, return_sequences=True)
        self.encoder = lstm(UNITS, name="encoder_layer")
        self.blocks = [lstm(2, name="block_0"), lstm(MORE_UNITS, name="block_1")]
        self.towers = [lstm(2, name="tower_0"), lstm(2, name="tower_1")]
        self.heads = {"z": lstm(2, name="head_z"), "a": keras.layers.Bidirectional(lstm(2), name="head_a")}

    def in_order(self):
        return [self.encoder, *self.blocks, *self.towers, *self.heads.values()]

    def call(self, x):
        for layer in self.in_order():
            x = layer(x)
        return x


def make_subclassed(folder):
    model = Subclassed(name="subclassed")
    x = random_inputs()
    model(x)
    recording.randomise(model, 0.5)
    made = new_recording()
    for layer in model.in_order():
        y = keras.ops.convert_to_numpy(layer(x))
        made.layer(layer.name, layer, [x], [y])
        x = y
    made.save(folder / "subclassed.npz")
    model.save(folder / "subclassed.keras")
    print(f"{folder.name}/subclassed: keras")  # noqa: T201


WHOLE, KERAS, BOTH, ALL = ("h5",), ("keras",), ("h5", "keras"), ("h5", "keras", "weights")
# (activation, recurrent_activation): every one an LSTM can use; glu halves its input and threshold needs arguments.
ACTIVATIONS = [
    ("relu", "hard_sigmoid"), ("tanh", "exponential"), ("elu", "linear"), ("gelu", "mish"), ("selu", "sigmoid"),
    ("softplus", "softmax"), ("softsign", "silu"), ("celu", "hard_silu"), ("hard_tanh", "sparse_sigmoid"),
    ("hard_shrink", "leaky_relu"), ("log_sigmoid", "relu6"), ("soft_shrink", "sparse_plus"),
    ("squareplus", "sparsemax"), ("tanh_shrink", "log_softmax"),
]  # fmt: skip

# name -> (builder, formats)
EACH = {
    "lstm": (recording.lstm, ALL),
    "lstm_no_bias": (recording.lstm_no_bias, KERAS),
    "bidirectional_concat": (recording.bidirectional_concat, KERAS),
    "nested": (recording.nested, KERAS),
}
TABLES = {
    "3.0.5": EACH,
    "3.2.1": {"lstm": EACH["lstm"], "nested_sequential": (nested_sequential, WHOLE)},
    "3.3.3": {"lstm": (recording.lstm, BOTH), "bidirectional_concat": (recording.bidirectional_concat, WHOLE),
              "nested": (recording.nested, WHOLE)},
    "3.6.0": {"lstm": (recording.lstm, BOTH), "bidirectional_concat": (recording.bidirectional_concat, ("weights",)),
              "nested_sequential": (nested_sequential, KERAS)},
    "3.15.1": {
        "lstm": (recording.lstm, (*ALL, "folder")),
        "lstm_hard_sigmoid": (recording.lstm_hard_sigmoid, WHOLE),
        "lstm_no_bias": (recording.lstm_no_bias, ("weights",)),
        "go_backwards": (recording.go_backwards, WHOLE),
        "stacked": (recording.stacked, ("sharded",)),
        "twelve": (twelve, KERAS),
        "nested": (recording.nested, ("weights",)),
        "nested_frozen": (recording.nested_frozen, WHOLE),
        "bidirectional_concat": (recording.bidirectional_concat, KERAS),
        "bidirectional_modes": (recording.bidirectional_modes, WHOLE),
        "own_backward_layer": (recording.own_backward_layer, KERAS),
        "rnn_cells": (recording.rnn_cells, KERAS),
        "return_state": (recording.return_state, WHOLE),
        "shared": (recording.shared, WHOLE),
        "time_distributed": (recording.time_distributed, KERAS),
        "masking": (recording.masking, WHOLE),
        "optimizer": (recording.optimizer, KERAS),
        "dtypes": (functools.partial(recording.dtypes, names=["float16", "float64", "mixed_float16"]), KERAS),
        "bfloat16": (functools.partial(recording.dtypes, names=["bfloat16", "mixed_bfloat16"]), BOTH),
        "activations": (functools.partial(recording.activations, pairs=ACTIVATIONS), KERAS),
    },
}  # fmt: skip


def new_recording():
    return Recording(f"keras {VERSION}, {keras.backend.backend()}", VERSION, evaluate, tensors_of)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the output folder; keras-VERSION is made in it")
    parser.add_argument("cases", nargs="*", help="only these")
    arguments = parser.parse_args(argv)
    folder = arguments.folder / f"keras-{VERSION}"
    table = {name: row for name, row in TABLES[VERSION].items() if name in (arguments.cases or TABLES[VERSION])}
    failures = recording.make(
        cases={name: builder for name, (builder, _) in table.items()},
        formats={name: formats for name, (_, formats) in table.items()},
        folder=folder,
        keras=keras,
        recorder=new_recording,
        save=save,
    )
    if VERSION == "3.15.1" and "subclassed" in (arguments.cases or ["subclassed"]):
        make_subclassed(folder)
    return failures


if __name__ == "__main__":
    sys.exit(main())
