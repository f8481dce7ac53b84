"""Make the golden files of keras-team Keras 1.2.2, 2.0.0, 2.0.9, 2.1.6, 2.2.4 and 2.3.1 with those very versions.

They run on Python 3.11 with the Theano backend. Once:

    python3.11 -m venv old
    old/bin/pip install wheel setuptools==65.5.0 numpy==1.23.5 h5py==3.8.0 "scipy<1.11" Theano-PyMC==1.1.2 pyyaml six
    old/bin/pip install keras-applications==1.0.8 keras-preprocessing==1.1.2
    old/bin/pip install --no-deps --no-build-isolation --target trees/2.2.4 Keras==2.2.4    # and so for each version

Then, for each version:

    old/bin/python tests/golden/make_old_keras.py tests/golden trees/2.2.4

which writes the folder `tests/golden/keras-2.2.4`. No C compiler is used, so a version takes a minute or two.
"""

from __future__ import annotations

import argparse
import collections
import collections.abc
import importlib
import inspect
import os
import sys
import tempfile
from pathlib import Path

import recording
from recording import FEATURES, MORE_UNITS, STEPS, UNITS, Case, random_inputs


def load_keras(tree):
    """Import Keras from the folder `tree`, giving back to Python and NumPy the names it and Theano expect."""
    os.environ.update(
        KERAS_BACKEND="theano",
        KERAS_HOME=tempfile.mkdtemp(),
        THEANO_FLAGS="device=cpu,floatX=float32,cxx=,optimizer=None,mode=FAST_COMPILE,blas__ldflags="
        f",base_compiledir={tempfile.mkdtemp()}",
    )
    for name in ("Callable", "Iterable", "Mapping", "Sequence", "MutableMapping", "Iterator", "Hashable"):
        setattr(collections, name, getattr(collections.abc, name))
    if not hasattr(inspect, "getargspec"):
        spec = collections.namedtuple("ArgSpec", "args varargs keywords defaults")
        inspect.getargspec = lambda function: spec(*inspect.getfullargspec(function)[:4])
    sys.path.insert(0, str(tree))
    import numpy.distutils.__config__ as config

    if not hasattr(config, "blas_opt_info"):
        config.blas_opt_info = {}
    import theano.sandbox.rng_mrg as rng

    if not hasattr(rng, "MRG_RandomStreams"):
        rng.MRG_RandomStreams = rng.MRG_RandomStream
    keras = importlib.import_module("keras")
    importlib.import_module("keras.models")
    importlib.import_module("keras.layers")
    return keras


def evaluate(model, inputs, tensors):
    from keras import backend

    return backend.function([*model.inputs, backend.learning_phase()], tensors)([*inputs, 0])


def tensors_of(layer, call):
    def listed(value):
        return list(value) if isinstance(value, (list, tuple)) else [value]

    return listed(layer.get_input_at(call)), listed(layer.get_output_at(call))


def save(model, stem, format):
    """Write one file and return its path."""
    path = {"h5": f"{stem}.h5", "weights_only": f"{stem}.weights_only.h5"}[format]
    if format == "h5":
        model.save(path)
    else:
        model.save_weights(path)
        Path(f"{stem}.json").write_text(model.to_json() + "\n")
    return path


# --- Keras 1.2.2 ------------------------------------------------------------------------------------------------


def sequential_1(keras, *layers):
    model = keras.models.Sequential()
    for layer in layers:
        model.add(layer)
    return Case(model, [random_inputs()])


def functional_1(keras, *layers, shape=(STEPS, FEATURES)):
    """Apply each of `layers` to the same input."""
    x = keras.layers.Input(shape=shape, name="input")
    return Case(keras.models.Model(input=x, output=[layer(x) for layer in layers]), [random_inputs(*shape)])


def lstm_1(mode, units=UNITS, features=FEATURES, **options):
    def build(keras):
        return sequential_1(
            keras,
            keras.layers.LSTM(
                units,
                consume_less=mode,
                return_sequences=True,
                input_shape=(STEPS, features),
                name="encoder",
                **options,
            ),
            keras.layers.TimeDistributed(keras.layers.Dense(2), name="head"),
        )

    return build


def square_1(keras):
    lstm = keras.layers.LSTM
    return functional_1(
        keras,
        lstm(UNITS, name="equal_cpu"),
        lstm(UNITS, consume_less="gpu", name="equal_gpu"),
        lstm(1, consume_less="gpu", unroll=True, name="single"),
        shape=(STEPS, UNITS),
    )


def go_backwards_1(keras):
    lstm = keras.layers.LSTM
    return functional_1(
        keras,
        lstm(UNITS, go_backwards=True, return_sequences=True, name="all_steps"),
        lstm(MORE_UNITS, go_backwards=True, consume_less="gpu", name="last_step"),
    )


def stacked_1(keras):
    return sequential_1(
        keras,
        keras.layers.LSTM(UNITS, return_sequences=True, input_shape=(STEPS, FEATURES), name="lower"),
        keras.layers.LSTM(MORE_UNITS, consume_less="gpu", name="upper"),
    )


def bidirectional_1(merge_mode, consume_less):
    def build(keras):
        lstm = keras.layers.LSTM(UNITS, consume_less=consume_less, return_sequences=True)
        return functional_1(keras, keras.layers.Bidirectional(lstm, merge_mode=merge_mode, name="both_ways"))

    return build


def beside_gru_1(keras):
    return functional_1(
        keras,
        keras.layers.GRU(UNITS, name="gru"),
        keras.layers.LSTM(UNITS, name="lstm"),
        keras.layers.GRU(UNITS, consume_less="gpu", name="gru_gpu"),
    )


def adam_1(keras):
    case = lstm_1("cpu")(keras)
    case.model.compile(optimizer="adam", loss="mse")
    case.model.train_on_batch(case.inputs[0], random_inputs(STEPS, 2))
    return case


def masking_1(keras):
    layers = keras.layers
    x, mask = recording.padded()
    tensor = layers.Input(shape=(STEPS, FEATURES), name="input")
    masked = layers.Masking(name="masking")(tensor)
    recurrent = [layers.LSTM(UNITS, return_sequences=True, name="all_steps"), layers.LSTM(UNITS, name="last_step")]
    model = keras.models.Model(input=tensor, output=[layer(masked) for layer in recurrent])
    return Case(model, [x], masks={layer.name: mask for layer in recurrent})


BOTH, WHOLE, WEIGHTS = ("h5", "weights_only"), ("h5",), ("weights_only",)

# name -> (builder, formats)
KERAS_1 = {
    "lstm_cpu": (lstm_1("cpu"), BOTH),
    "lstm_gpu": (lstm_1("gpu"), BOTH),
    "lstm_mem": (lstm_1("mem"), WEIGHTS),
    "lstm_sigmoid": (lstm_1("cpu", inner_activation="sigmoid"), WHOLE),
    "lstm_square": (square_1, WHOLE),
    "go_backwards": (go_backwards_1, WHOLE),
    "stacked": (stacked_1, WHOLE),
    "bidirectional_concat_cpu": (bidirectional_1("concat", "cpu"), BOTH),
    "bidirectional_concat_gpu": (bidirectional_1("concat", "gpu"), WEIGHTS),
    "bidirectional_sum_gpu": (bidirectional_1("sum", "gpu"), WHOLE),
    "beside_gru": (beside_gru_1, WHOLE),
    "masking": (masking_1, WHOLE),
    "optimizer": (adam_1, WHOLE),
}

# --- Keras 2 ----------------------------------------------------------------------------------------------------

KERAS_2_0_0 = {
    "lstm": (recording.lstm, BOTH),
    "go_backwards": (recording.go_backwards, WHOLE),
    "nested_frozen": (recording.nested_frozen, WEIGHTS),
}
KERAS_2_0_9 = {
    "lstm": (recording.lstm, BOTH),
    "nested_frozen": (recording.nested_frozen, WEIGHTS),
    "bidirectional_concat": (recording.bidirectional_concat, WEIGHTS),
}
KERAS_2_1_6 = {
    "lstm": (recording.lstm, BOTH),
    "lstm_sigmoid": (recording.lstm_sigmoid, WHOLE),
    "lstm_relu": (recording.lstm_relu, WHOLE),
    "lstm_no_bias": (recording.lstm_no_bias, WHOLE),
    "nested_frozen": (recording.nested_frozen, WHOLE),
    "bidirectional_concat": (recording.bidirectional_concat, WHOLE),
}
KERAS_2_2_4 = {
    "lstm": (recording.lstm, BOTH),
    "lstm_no_bias": (recording.lstm_no_bias, WHOLE),
    "lstm_square": (recording.lstm_square, WEIGHTS),
    "go_backwards": (recording.go_backwards, WHOLE),
    "stacked": (recording.stacked, WHOLE),
    "nested": (recording.nested, WEIGHTS),
    "nested_frozen": (recording.nested_frozen, WHOLE),
    "bidirectional_concat": (recording.bidirectional_concat, WHOLE),
    "bidirectional_modes": (recording.bidirectional_modes, WHOLE),
    "bidirectional_no_bias": (recording.bidirectional_no_bias, WHOLE),
    "time_distributed": (recording.time_distributed, WHOLE),
    "rnn_cell": (recording.rnn_cell, WHOLE),
    "return_state": (recording.return_state, WHOLE),
    "masking": (recording.masking, WHOLE),
    "slash_names": (recording.slash_names, WEIGHTS),
    "optimizer": (recording.optimizer, WHOLE),
}
# The default recurrent activation became sigmoid here.
KERAS_2_3_1 = {
    "lstm": (recording.lstm, BOTH),
    "lstm_hard_sigmoid": (recording.lstm_hard_sigmoid, WHOLE),
    "lstm_no_bias": (recording.lstm_no_bias, WEIGHTS),
    "nested_frozen": (recording.nested_frozen, WHOLE),
    "bidirectional_concat": (recording.bidirectional_concat, WHOLE),
    "initial_state": (recording.initial_state, WHOLE),
}
CASES = {
    "1.2.2": KERAS_1,
    "2.0.0": KERAS_2_0_0,
    "2.0.9": KERAS_2_0_9,
    "2.1.6": KERAS_2_1_6,
    "2.2.4": KERAS_2_2_4,
    "2.3.1": KERAS_2_3_1,
}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the output folder; keras-VERSION is made in it")
    parser.add_argument("tree", type=Path, help="the folder pip installed one Keras version into")
    parser.add_argument("cases", nargs="*", help="only these")
    arguments = parser.parse_args(argv)
    keras = load_keras(arguments.tree)
    version = keras.__version__
    table = {name: row for name, row in CASES[version].items() if name in (arguments.cases or CASES[version])}
    return recording.make(
        cases={name: builder for name, (builder, _) in table.items()},
        formats={name: formats for name, (_, formats) in table.items()},
        folder=arguments.folder / f"keras-{version}",
        keras=keras,
        recorder=lambda: recording.Recording(f"keras {version}, theano", version, evaluate, tensors_of),
        save=save,
    )


if __name__ == "__main__":
    sys.exit(main())
