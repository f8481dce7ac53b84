"""Make the golden files of tf-keras 2.21.0, or of the Keras inside TensorFlow 2.13.1.

    python3.11 -m venv tf221 && tf221/bin/pip install tensorflow-cpu==2.21.0 tf-keras==2.21.0
    tf221/bin/python tests/golden/make_tf_keras.py tests/golden

    python3.11 -m venv tf213 && tf213/bin/pip install tensorflow-cpu==2.13.1
    tf213/bin/python tests/golden/make_tf_keras.py tests/golden

Where tf-keras is installed it is used and `tests/golden/tf-keras-2.21.0` is written; otherwise TensorFlow's own
Keras, and `tests/golden/tf-2.13.1`. No GPU is needed.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import recording
import tensorflow as tf
from recording import BATCH, FEATURES, STEPS, UNITS, Case, Recording, chain, fan, random_inputs

if importlib.util.find_spec("tf_keras"):
    import tf_keras as keras
    from tf_keras.src.layers.rnn.cudnn_lstm import CuDNNLSTM
    from tf_keras.src.layers.rnn.lstm_v1 import LSTM as LSTM_OF_TF1
    from tf_keras.src.saving.legacy import hdf5_format

    GENERATOR = f"tf-keras {keras.__version__}"
else:
    import keras

    GENERATOR = f"tf {tf.__version__}"


def evaluate(model, inputs, tensors):
    outputs = keras.models.Model(model.inputs, tensors)(inputs, training=False)
    return [output.numpy() for output in outputs]


def tensors_of(layer, call):
    return tf.nest.flatten(layer.get_input_at(call)), tf.nest.flatten(layer.get_output_at(call))


def save(model, stem, format):
    """Write one file and return its path."""
    suffix = {"h5": ".h5", "keras": ".keras", "weights": ".weights.h5", "weights_only": ".weights_only.h5"}[format]
    path = f"{stem}{suffix}"
    if format in {"h5", "keras"}:
        model.save(path)
        return path
    model.save_weights(path)
    Path(f"{stem}.json").write_text(model.to_json() + "\n")
    return path


# --- what only tf-keras can do ------------------------------------------------------------------------------------


def time_major(keras):
    """Input and output are (time, batch, features)."""
    layers = keras.layers
    x = layers.Input(batch_shape=(STEPS, BATCH, FEATURES), name="input")
    output = layers.LSTM(UNITS, time_major=True, return_sequences=True, name="time_major")(x)
    return Case(keras.models.Model(x, output), [np.moveaxis(random_inputs(), 1, 0)])


def bidirectional_backwards(keras):
    return recording.bidirectional(keras, "concat", go_backwards=True)


def stacked_cells(keras):
    layers = keras.layers
    cells = layers.StackedRNNCells([layers.LSTMCell(UNITS), layers.LSTMCell(2, use_bias=False)])
    return Case(chain(keras, layers.RNN(cells, return_sequences=True, name="stack")), [random_inputs()])


def legacy_lstm(keras):
    """Use the LSTM of TensorFlow 1, whose default recurrent activation is hard_sigmoid."""
    return Case(chain(keras, LSTM_OF_TF1(UNITS, return_sequences=True, name="encoder")), [random_inputs()])


def chunked_attributes(keras):
    """Attributes split over `layer_names0`, `layer_names1`, ..., as happens to those over 64512 bytes.

    The limit is lowered so that a small file shows it; the code that splits is the library's.
    """
    lstm = keras.layers.LSTM
    layers = [lstm(2, return_sequences=True, name=f"recurrent_layer_{number}") for number in ("one", "two")]
    return Case(chain(keras, *layers), [random_inputs()])


def save_chunked(model, stem, format):
    limit = hdf5_format.HDF5_OBJECT_HEADER_LIMIT
    hdf5_format.HDF5_OBJECT_HEADER_LIMIT = 50
    try:
        return save(model, stem, format)
    finally:
        hdf5_format.HDF5_OBJECT_HEADER_LIMIT = limit


ALL = ("h5", "weights_only", "weights", "keras")
WHOLE, BOTH_WHOLE = ("h5",), ("h5", "keras")
WEIGHTS, WEIGHTS_ONLY = ("weights",), ("weights_only",)
# (activation, recurrent_activation): every one that tf-keras ships. An exponential cell would grow without bounds.
ACTIVATIONS = [
    ("relu", "hard_sigmoid"),
    ("tanh", "exponential"),
    ("elu", "linear"),
    ("gelu", "mish"),
    ("selu", "sigmoid"),
    ("softplus", "softmax"),
    ("softsign", "swish"),
]

# name -> (builder, formats)
TF_KERAS = {
    "lstm": (recording.lstm, ALL),
    "lstm_hard_sigmoid": (recording.lstm_hard_sigmoid, WHOLE),
    "lstm_square": (recording.lstm_square, WHOLE),
    "legacy_lstm": (legacy_lstm, WHOLE),
    "go_backwards": (recording.go_backwards, WHOLE),
    "stacked": (recording.stacked, WHOLE),
    "nested_frozen": (recording.nested_frozen, WHOLE),
    "bidirectional_concat": (recording.bidirectional_concat, BOTH_WHOLE),
    "bidirectional_modes": (recording.bidirectional_modes, WHOLE),
    "bidirectional_no_bias": (recording.bidirectional_no_bias, WEIGHTS_ONLY),
    "bidirectional_backwards": (bidirectional_backwards, WHOLE),
    "own_backward_layer": (recording.own_backward_layer, WHOLE),
    "rnn_cell": (recording.rnn_cell, ("keras",)),
    "stacked_cells": (stacked_cells, WHOLE),
    "return_state": (recording.return_state, WHOLE),
    "shared": (recording.shared, WHOLE),
    "slash_names": (recording.slash_names, WEIGHTS_ONLY),
    "time_major": (time_major, WHOLE),
    "masking": (recording.masking, WHOLE),
    "masking_zero_output": (recording.masking_zero_output, WHOLE),
    "beside_others": (recording.beside_others, WHOLE),
    "optimizer": (recording.optimizer, WHOLE),
    "dtypes": (functools.partial(recording.dtypes, names=["float16", "float64", "mixed_float16"]), WHOLE),
    "bfloat16": (functools.partial(recording.dtypes, names=["bfloat16", "mixed_bfloat16"]), ("h5", "weights")),
    "activations": (functools.partial(recording.activations, pairs=ACTIVATIONS), WHOLE),
}
TF_2_13 = {
    "lstm": (recording.lstm, BOTH_WHOLE),
    "bidirectional_concat": (recording.bidirectional_concat, ("keras",)),
    "nested": (recording.nested, WEIGHTS),
}


# --- CuDNNLSTM ----------------------------------------------------------------------------------------------------


def cudnn_model(lstm, bidirectional):
    """Return a model of `lstm` layers: two with input and units of different and of equal sizes, or a Bidirectional."""
    if bidirectional:
        layers = [keras.layers.Bidirectional(lstm(UNITS, return_sequences=True), name="both_ways")]
    else:
        sizes = {"uneven": UNITS, "equal": FEATURES}
        layers = [lstm(units, return_sequences=True, name=name) for name, units in sizes.items()]
    return Case(fan(keras, *layers), [random_inputs()])


def make_cudnn(folder, name, bidirectional):
    """Save CuDNNLSTM layers, which cannot run here, and record what plain LSTMs compute that loaded the same file."""
    stem = folder / name
    case = cudnn_model(CuDNNLSTM, bidirectional)
    recording.randomise(case.model, case.gain)
    for format in ("h5", "weights_only", "keras"):
        save(case.model, stem, format)
    plain = cudnn_model(keras.layers.LSTM, bidirectional)
    plain.model.load_weights(f"{stem}.weights_only.h5")
    made = new_recording()
    made.model(plain.model, plain, plain.inputs)
    for key in [key for key in made.arrays if "|w_" in key or key.endswith(("|names", "|class"))]:
        del made.arrays[key]
    for layer in case.model.layers[1:]:
        made.weights(layer.name, layer)
        made.weights(layer.name, plain.model.get_layer(layer.name), kind="plain_w")
    made.save(f"{stem}.npz")
    print(f"{folder.name}/{name}: h5, weights_only, keras")  # noqa: T201


def new_recording():
    return Recording(GENERATOR, keras.__version__, evaluate, tensors_of)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the output folder; one for the generator is made in it")
    parser.add_argument("cases", nargs="*", help="only these")
    arguments = parser.parse_args(argv)
    folder = arguments.folder / GENERATOR.replace(" ", "-")
    table = TF_KERAS if GENERATOR.startswith("tf-keras") else TF_2_13

    def make(table, save):
        table = {name: row for name, row in table.items() if name in (arguments.cases or table)}
        return recording.make(
            cases={name: builder for name, (builder, _) in table.items()},
            formats={name: formats for name, (_, formats) in table.items()},
            folder=folder,
            keras=keras,
            recorder=new_recording,
            save=save,
        )

    failures = make(table, save)
    if table is TF_KERAS:
        failures += make({"chunked_attributes": (chunked_attributes, WEIGHTS_ONLY)}, save_chunked)
        for name, bidirectional in {"cudnn_lstm": False, "cudnn_bidirectional": True}.items():
            if name in (arguments.cases or [name]):
                make_cudnn(folder, name, bidirectional)
    return failures


if __name__ == "__main__":
    sys.exit(main())
