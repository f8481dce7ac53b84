"""The Keras targets: files loaded and run by real Keras 3 and real tf-keras, against the loop in ``building``."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import lstmconv
from lstmconv.activations import (
    ACTIVATIONS,
    HARD_SIGMOID_KERAS_2,
    HARD_SIGMOID_KERAS_3,
    LINEAR,
    SIGMOID,
    TANH,
    Activation,
    parse_activation,
)
from lstmconv.errors import MissingDependencyError, UnreadableFileError, UnsupportedModelError, UsageError
from lstmconv.formats import WriteOptions, by_name, keras, open_file
from lstmconv.formats.keras import cudnn_lstm
from lstmconv.formats.keras.writer import files as keras_files
from lstmconv.formats.keras.writer.dialect import KERAS_2, KERAS_3, described
from lstmconv.model import Stack
from lstmconv.runtimes import Inputs, NotRunError, session
from tests.contract.building import (
    FLOAT32_NOISE,
    FLOAT64_NOISE,
    LEAKY,
    RELU,
    THRESHOLDED,
    Half,
    bits,
    expected,
    make_checkpoint,
    make_half,
    make_halves,
    make_inputs,
    make_layer,
)
from tests.frameworks.load_keras import observe

# Keras 3 on PyTorch, under NumPy 2, warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

GOLDEN = Path(__file__).parent / "golden"
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
HALF_NOISE = {"float16": 1e-2, "bfloat16": 8e-2}
"""A few units in the last place of an output of about 1, of 2**-11 and 2**-8, over seven steps."""


@dataclass(frozen=True, eq=False)
class Case:
    """A checkpoint and what a model of it must return.

    Attributes:
        layers: Halves and options, by source name.
        edges: As in a Checkpoint.
        joined: As in a Checkpoint.
        feeds: The layer that each is called on, where it is; by source name.
        names: The written names of layers that cannot keep theirs.
        majors: The Kerases that hold it.
        write: Options.
    """

    layers: dict
    edges: tuple | None = None
    joined: dict = field(default_factory=dict)
    feeds: dict = field(default_factory=dict)
    names: dict = field(default_factory=dict)
    majors: tuple = (2, 3)
    write: dict = field(default_factory=dict)

    def checkpoint(self):
        layers = [make_layer(*halves, name=name, **options) for name, (halves, options) in self.layers.items()]
        return make_checkpoint(*layers, edges=self.edges, joined=self.joined)

    def options(self, major):
        return WriteOptions(keras_version=major, **self.write)

    def weights(self):
        """Return the arrays that each written layer must hold, in Keras' order."""
        return {
            self.names.get(name, name): [
                array for half in halves for array in (half.kernel, half.recurrent, half.bias) if array is not None
            ]
            for name, (halves, _) in self.layers.items()
        }

    def run(self):
        """Return the model's inputs and outputs, by the loop in ``building``."""
        inputs, sequences, outputs = [], {}, []
        for index, (name, (halves, options)) in enumerate(self.layers.items()):
            if name in self.feeds:
                x = sequences[self.feeds[name]]
            else:
                x, _ = make_inputs(len(halves[0].kernel), 4, 7, seed=index)
                x = x.astype(halves[0].kernel.dtype).astype(np.float64)
                inputs.append(x.swapaxes(0, 1) if options.get("time_major") else x)
            several = options.get("return_sequences") is not False
            merged, states = expected(halves, x, merge=options.get("merge_mode", "concat"), sequences=several)
            sequences[name] = merged[0]
            if options.get("time_major"):
                merged = [each.swapaxes(0, 1) for each in merged]
            if name not in self.feeds.values():
                outputs += merged
            if options.get("return_state"):
                outputs += states
        return inputs, outputs


def one(*halves, name="lstm", majors=(2, 3), write=None, **options):
    return Case({name: (list(halves), options)}, majors=majors, write=write or {})


def with_activations(activation, recurrent, majors=(2, 3), **options):
    return one(make_half(activation=activation, recurrent_activation=recurrent, **options), majors=majors)


def relu(negative_slope=0.0, max_value=float("inf"), threshold=0.0):
    return Activation("relu", (("negative_slope", negative_slope), ("max_value", max_value), ("threshold", threshold)))


def chain(*sizes, joined=False, bidirectional=False):
    """Make layers l0, l1, ... that feed each other."""
    make = make_halves if bidirectional else lambda *size: [make_half(*size)]
    layers, features = {}, sizes[0]
    for index, hidden in enumerate(sizes[1:]):
        layers[f"l{index}"] = (make(features, hidden, index), {})
        features = hidden * (2 if bidirectional else 1)
    names = tuple(layers)
    pairs = tuple(pairwise(names))
    return Case(
        layers,
        edges=None if joined else pairs,
        joined={"whole": names} if joined else {},
        feeds={above: below for below, above in pairs},
    )


UNEQUAL = [make_half(3, 5, 1), make_half(3, 2, 2, go_backwards=True)]
CASES = {
    "plain": one(make_half()),
    "no bias": one(make_half(bias=False)),
    "square": one(make_half(5, 5)),
    "four to one": one(make_half(12, 3)),
    "one unit": one(make_half(7, 1)),
    "one feature": one(make_half(1, 1)),
    "last step": one(make_half(), return_sequences=False),
    "unknown sequences": one(make_half(), return_sequences=None),
    "states": one(make_half(), return_state=True),
    "backwards": one(make_half(go_backwards=True)),
    "backwards, last step, states": one(make_half(go_backwards=True), return_sequences=False, return_state=True),
    **{f"merge {mode}": one(*make_halves(), merge_mode=mode) for mode in ("concat", "sum", "mul", "ave", "none")},
    "both ways, last step": one(*make_halves(), return_sequences=False),
    "both ways, states": one(*make_halves(5, 5), return_state=True, merge_mode="none"),
    "both ways, no bias": one(*make_halves(bias=False)),
    "unequal halves": one(*UNEQUAL),
    "a bias in one half": one(make_half(3, 5, 1), make_half(3, 5, 2, bias=False, go_backwards=True)),
    "a bias in the other half": one(make_half(3, 5, 1, bias=False), make_half(3, 5, 2, go_backwards=True)),
    "activations of each half": one(
        make_half(3, 5, 1, activation=LINEAR, scale=0.2), make_half(3, 5, 2, go_backwards=True)
    ),
    "time first": one(make_half(), time_major=True, majors=(2,)),
    "both ways, time first": one(*make_halves(), time_major=True, majors=(2,)),
    "forward half backwards": one(make_half(3, 5, 1, go_backwards=True), make_half(3, 5, 2), majors=(2,)),
    "hard_sigmoid of Keras 2": with_activations(TANH, HARD_SIGMOID_KERAS_2, (2,)),
    "hard_sigmoid of Keras 3": with_activations(TANH, HARD_SIGMOID_KERAS_3, (3,)),
    "relu": with_activations(RELU, SIGMOID, scale=0.2),
    "leaky relu": with_activations(LEAKY, SIGMOID, scale=0.2),
    "relu6": with_activations(relu(max_value=6.0), SIGMOID, scale=0.2),
    "relu with numbers": with_activations(relu(0.1, 2.5, 0.0), SIGMOID, scale=0.3),
    "thresholded": with_activations(THRESHOLDED, SIGMOID, scale=0.3),
    "elu": with_activations(Activation("elu", (("alpha", 1.0),)), SIGMOID),
    "elu 0.5": with_activations(Activation("elu", (("alpha", 0.5),)), SIGMOID),
    "linear, softsign": with_activations(Activation("softsign"), LINEAR, scale=0.2),
    "softplus": with_activations(Activation("softplus"), SIGMOID, scale=0.2),
    "celu": with_activations(Activation("celu", (("alpha", 1.0),)), Activation("sparse_sigmoid"), (3,)),
    "float64": one(make_half(dtype="float64")),
    "float16": one(make_half(dtype="float16")),
    "bfloat16": one(make_half(dtype=BFLOAT16), majors=(3,)),
    "two layers": chain(3, 5, 2),
    "three layers": chain(3, 5, 5, 5),
    "a stack": chain(4, 2, 3, joined=True),
    "a stack both ways": chain(3, 2, 2, 2, joined=True, bidirectional=True),
    "unequal halves feed": Case(
        {"below": (UNEQUAL, {}), "above": ([make_half(7, 2, 5)], {})},
        edges=(("below", "above"),),
        feeds={"above": "below"},
    ),
    "one feeds two": Case(
        {"a": ([make_half(3, 5, 1)], {}), "b": ([make_half(5, 5, 2)], {}), "c": ([make_half(5, 5, 3)], {})},
        edges=(("a", "b"), ("a", "c")),
        feeds={"b": "a", "c": "a"},
    ),
    "states below": Case(
        {"a": ([make_half(3, 5, 1)], {"return_state": True}), "b": ([make_half(5, 5, 2)], {})},
        edges=(("a", "b"),),
        feeds={"b": "a"},
    ),
    "a short chain before a long one": Case(
        {
            "z": ([make_half(5, 5, 1)], {}),
            "a": ([make_half(5, 5, 2)], {}),
            "b": ([make_half(5, 5, 3)], {}),
            "m": (make_halves(5, 5, 4), {}),
            "c": ([make_half(5, 5, 5)], {}),
        },
        edges=(("a", "b"), ("b", "c")),
        feeds={"b": "a", "c": "b"},
    ),
    "an edge of another size": Case(
        {"a": ([make_half(3, 5, 1)], {}), "b": ([make_half(3, 5, 2)], {})}, edges=(("a", "b"),)
    ),
    "an edge after the last step": Case(
        {"a": ([make_half(5, 5, 1)], {"return_sequences": False}), "b": ([make_half(5, 5, 2)], {})},
        edges=(("a", "b"),),
    ),
    "names": Case(
        {"outer/inner": ([make_half()], {}), "a.b": ([make_half(seed=1)], {}), "x_input": ([make_half(seed=2)], {}),
         "x": ([make_half(seed=3)], {})},
        names={"outer/inner": "outer_inner", "a.b": "a_b"},
    ),
    "a name in another script": one(make_half(), name="prévision 予測", majors=(3,)),
    "eleven": Case({f"n{10 - k}": ([make_half(2, 2, k)], {}) for k in range(11)}),
}  # fmt: skip
FILES = [(name, major, suffix) for name, case in CASES.items() for major in case.majors for suffix in (".keras", ".h5")]
UNLOADABLE = {
    ("bfloat16", 3, ".h5"),
    ("unequal halves feed", 3, ".h5"),
    ("unequal halves feed", 3, ".weights.h5"),
    ("a bias in one half", 2, ".h5"),
}
"""What real Keras cannot load, or not build: (case, Keras, suffix)."""
FILES = [row for row in FILES if row not in UNLOADABLE]


def written(folder, name, major, suffix):
    """Write a case and its inputs, and return the file."""
    case = CASES[name]
    file = folder / f"{list(CASES).index(name)}-{major}{suffix}"
    assert keras.write(case.checkpoint(), file, case.options(major)) == [file]
    save_inputs(file, case)
    return file


def save_inputs(file, case):
    inputs, _ = case.run()
    dtypes = [halves[0].kernel.dtype for name, (halves, _) in case.layers.items() if name not in case.feeds]
    stored = ["float32" if dtype == BFLOAT16 else dtype for dtype in dtypes]
    arrays = {str(k): x.astype(dtype) for k, (x, dtype) in enumerate(zip(inputs, stored, strict=True))}
    np.savez(f"{file}.in.npz", **arrays)


def assert_holds(case, found):
    """Check every array bit for bit and every output against the loop."""
    assert "error" not in found, str(found["error"])
    for name, arrays in case.weights().items():
        for index, array in enumerate(arrays):
            exact = array.astype("float32") if array.dtype == BFLOAT16 else array
            np.testing.assert_array_equal(bits(found[f"{name}|{index}"]), bits(exact), strict=True)
        assert f"{name}|{len(arrays)}" not in found
    _, outputs = case.run()
    dtype = next(iter(case.layers.values()))[0][0].kernel.dtype.name
    noise = HALF_NOISE.get(dtype, FLOAT64_NOISE if dtype == "float64" else FLOAT32_NOISE)
    for index, output in enumerate(outputs):
        np.testing.assert_allclose(found[f"y{index}"], output, rtol=0, atol=noise)
    assert f"y{len(outputs)}" not in found


@pytest.fixture(scope="session")
def keras_3():
    return pytest.importorskip("keras")


@pytest.mark.parametrize(
    ("name", "suffix"), [(name, suffix) for name, major, suffix in FILES if major == 3], ids=lambda value: value
)
def test_keras_3_loads_and_computes(name, suffix, tmp_path, keras_3):
    file = written(tmp_path, name, 3, suffix)
    assert_holds(CASES[name], observe(keras_3, str(file)))


def tf_keras_python():
    """Return an interpreter with tf-keras, or skip."""
    if importlib.util.find_spec("tf_keras"):
        return sys.executable
    python = os.environ.get("LSTMCONV_TF_KERAS_PYTHON")
    if not python:
        pytest.skip("tf_keras is not installed, and LSTMCONV_TF_KERAS_PYTHON names no interpreter that has it")
    return python


def run_tf_keras(files):
    script = Path(__file__).parent / "frameworks" / "load_keras.py"
    command = [tf_keras_python(), str(script), "tf_keras", *map(str, files)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return {file: dict(np.load(f"{file}.out.npz")) for file in files}


@pytest.fixture(scope="session")
def tf_keras_results(tmp_path_factory):
    """Write all files for Keras 2, and load them in one process of tf-keras."""
    tf_keras_python()
    folder = tmp_path_factory.mktemp("tf_keras")
    files = {(name, suffix): written(folder, name, 2, suffix) for name, major, suffix in FILES if major == 2}
    results = run_tf_keras(list(files.values()))
    return {key: results[file] for key, file in files.items()}


@pytest.mark.parametrize(
    ("name", "suffix"), [(name, suffix) for name, major, suffix in FILES if major == 2], ids=lambda value: value
)
def test_tf_keras_loads_and_computes(name, suffix, tf_keras_results):
    assert_holds(CASES[name], tf_keras_results[name, suffix])


# Weights only, which real Keras loads into a model of its own


def lstm_model(framework):
    """Build a model of the layers below by Keras' own constructors."""
    layers = framework.layers
    first, second = layers.Input((None, 3)), layers.Input((None, 4))
    deep = layers.LSTM(5, return_sequences=True, name="a")(first)
    deep = layers.Bidirectional(layers.LSTM(5, return_sequences=True), name="b")(deep)
    return framework.Model([second, first], [layers.LSTM(5, use_bias=False, name="c")(second), deep])


LOADED = Case(
    {
        "c": ([make_half(4, 5, 9, bias=False)], {"return_sequences": False}),
        "a": ([make_half(3, 5, 1)], {}),
        "b": (make_halves(5, 5, 2), {}),
    },
    edges=(("a", "b"),),
    feeds={"b": "a"},
)


def assert_weights(found, case):
    for name, arrays in case.weights().items():
        for index, array in enumerate(arrays):
            np.testing.assert_array_equal(bits(found[f"{name}|{index}"]), bits(array))


@pytest.mark.parametrize("file", ["m.weights.h5", "m.h5"])
def test_keras_3_loads_weights_alone_into_a_model_of_its_own(file, tmp_path, keras_3):
    target = tmp_path / file
    keras.write(LOADED.checkpoint(), target, WriteOptions(keras_version=3, weights_only=True))
    model = lstm_model(keras_3)
    Path(f"{target}.json").write_text(model.to_json())
    assert_weights(observe(keras_3, str(target)), LOADED)


def test_tf_keras_loads_weights_alone_into_a_model_of_its_own(tmp_path):
    """The model's config is one that tf-keras wrote: the same layers in a whole model of ours, read by it."""
    files = [tmp_path / "m.weights.h5", tmp_path / "m.h5"]
    whole = tmp_path / "whole.h5"
    keras.write(LOADED.checkpoint(), whole, WriteOptions(keras_version=2))
    for file in files:
        keras.write(LOADED.checkpoint(), file, WriteOptions(keras_version=2, weights_only=True))
        Path(f"{file}.json").write_text(model_config(whole))
    for found in run_tf_keras(files).values():
        assert "error" not in found, str(found["error"])
        assert_weights(found, LOADED)


def model_config(path):
    with h5py.File(path) as file:
        return str(file.attrs["model_config"])


# CuDNNLSTM


def cudnn_block(plain):
    """Store one gate (features, units) as cuDNN's matrix (units, features) under Keras' shape."""
    return np.ascontiguousarray(plain.T).reshape(plain.shape)


def cudnn_arrays(half, bias_hh=None):
    """Return what a CuDNNLSTM must hold, by tf_keras hdf5_format.py _convert_rnn_weights, turned round."""
    h = half.hidden
    kernel = np.hstack([cudnn_block(half.kernel[:, k * h : (k + 1) * h]) for k in range(4)])
    recurrent = np.hstack([half.recurrent[:, k * h : (k + 1) * h].T for k in range(4)])
    bias = np.zeros(4 * h, half.kernel.dtype) if half.bias is None else half.bias
    return [kernel, recurrent, np.concatenate([bias, np.zeros_like(bias) if bias_hh is None else bias_hh])]


CUDNN_CASES = {
    "plain": one(make_half()),
    "square": one(make_half(5, 5)),
    "no bias": one(make_half(bias=False)),
    "backwards, last step": one(make_half(go_backwards=True), return_sequences=False),
    "both ways": one(*make_halves()),
    "both ways, sum, states": one(*make_halves(), merge_mode="sum", return_state=True),
    "unequal halves": one(*UNEQUAL),
    "float64": one(make_half(dtype="float64")),
    "a stack": chain(4, 2, 3, joined=True),
}


@pytest.mark.parametrize("weights_only", [False, True])
@pytest.mark.parametrize("name", CUDNN_CASES)
def test_trap_6_a_cudnn_lstm_file_holds_cudnns_own_blocks(name, weights_only, tmp_path):
    case, file = CUDNN_CASES[name], tmp_path / "m.cudnn.h5"
    cudnn_lstm.write(case.checkpoint(), file, WriteOptions(weights_only=weights_only))
    with h5py.File(file) as content:
        weights = content if weights_only else content["model_weights"]
        for layer, (halves, _) in case.layers.items():
            stored = [weights[layer][key][()] for key in weights[layer].attrs["weight_names"]]
            for array, wanted in zip(stored, [a for half in halves for a in cudnn_arrays(half)], strict=True):
                np.testing.assert_array_equal(bits(array), bits(wanted), strict=True)


def test_tf_keras_builds_cudnn_lstm_layers_and_converts_them_to_lstm(tmp_path):
    """It has no CPU kernel for a CuDNNLSTM: the layers are built and filled; plain LSTMs load the same file."""
    files, plain = {}, {}
    for name, case in CUDNN_CASES.items():
        number = list(CUDNN_CASES).index(name)
        files[name], plain[name] = (tmp_path / f"{number}{suffix}" for suffix in (".cudnn.h5", ".plain.cudnn.h5"))
        cudnn_lstm.write(case.checkpoint(), files[name], WriteOptions())
        cudnn_lstm.write(case.checkpoint(), plain[name], WriteOptions())
        biased = {
            layer: ([replace(half, bias=np.zeros(4 * half.hidden, half.kernel.dtype)) if half.bias is None else half
                     for half in halves], options)
            for layer, (halves, options) in case.layers.items()
        }  # fmt: skip
        whole = tmp_path / f"{number}.h5"
        keras.write(replace(case, layers=biased).checkpoint(), whole, WriteOptions(keras_version=2))
        Path(f"{plain[name]}.json").write_text(model_config(whole))
        save_inputs(plain[name], case)
    results = run_tf_keras([*files.values(), *plain.values()])
    for name, case in CUDNN_CASES.items():
        found = results[files[name]]
        assert "error" not in found, str(found["error"])
        for layer, (halves, _) in case.layers.items():
            for index, array in enumerate([a for half in halves for a in cudnn_arrays(half)]):
                np.testing.assert_array_equal(bits(found[f"{layer}|{index}"]), bits(array))
        found = results[plain[name]]
        assert "error" not in found, str(found["error"])
        noise = FLOAT64_NOISE if name == "float64" else FLOAT32_NOISE
        for index, output in enumerate(case.run()[1]):
            np.testing.assert_allclose(found[f"y{index}"], output, rtol=0, atol=noise)


def test_a_cudnn_lstm_notes_that_it_has_both_biases_even_where_the_source_has_none(tmp_path):
    cudnn_lstm.write(CUDNN_CASES["no bias"].checkpoint(), tmp_path / "m.cudnn.h5", WriteOptions())
    assert open_file(tmp_path / "m.cudnn.h5").record.bias_mode == "double"


def two_biases(dtype="float32"):
    half, other = make_half(dtype=dtype), make_half(seed=1, dtype=dtype)
    return half, other.bias, replace(half.direction(), bias_hh=other.direction().bias_ih)


def test_a_cudnn_lstm_keeps_two_biases_apart(tmp_path):
    half, bias_hh, direction = two_biases()
    layer = replace(make_layer(half), forward=direction)
    file = tmp_path / "m.cudnn.h5"
    cudnn_lstm.write(make_checkpoint(layer), file, WriteOptions())
    with h5py.File(file) as content:
        stored = content["model_weights/lstm/lstm/bias:0"][()]
    np.testing.assert_array_equal(bits(stored), bits(cudnn_arrays(half, bias_hh)[2]))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (make_layer(make_half(activation=RELU)), "computes tanh"),
        (make_layer(make_half(recurrent_activation=HARD_SIGMOID_KERAS_2)), "computes sigmoid"),
        (make_layer(make_half(), time_major=True), "time_major"),
        (make_layer(make_half(), zero_output_for_mask=True), "masks"),
    ],
)
def test_what_cudnn_cannot_compute_is_refused_by_name(layer, reason, tmp_path):
    assert reason in cudnn_lstm.obstacle(Stack("lstm", (layer,)))
    with pytest.raises(UnsupportedModelError, match=f"lstm: .*{reason}.*--to keras"):
        cudnn_lstm.write(make_checkpoint(layer), tmp_path / "m.cudnn.h5", WriteOptions())


@pytest.mark.parametrize(
    ("file", "options", "reason"),
    [
        ("m.cudnn.h5", WriteOptions(keras_version=3), "Keras 3 has no CuDNNLSTM"),
        ("m.cudnn.h5", WriteOptions(bias_mode="single-input"), "two biases"),
        ("m.keras", WriteOptions(), "legacy .h5"),
        ("m.weights.h5", WriteOptions(), "legacy .h5"),
    ],
)
def test_options_that_no_cudnn_lstm_has_are_refused(file, options, reason, tmp_path):
    with pytest.raises(UsageError, match=reason):
        cudnn_lstm.write(make_checkpoint(make_layer(make_half())), tmp_path / file, options)


# Bits, biases, types


def special_half(dtype):
    """Draw arrays of any bits: NaN payloads, both zeros, subnormals and infinities."""
    unsigned = np.dtype(f"u{np.dtype(dtype).itemsize}")
    random = np.random.default_rng(5)

    def draw(*shape):
        return random.integers(0, np.iinfo(unsigned).max, shape, unsigned, endpoint=True).view(dtype)

    return Half(draw(3, 20), draw(5, 20), draw(20))


@pytest.mark.parametrize("file", ["m.keras", "m.h5", "m.weights.h5"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_bit_pattern_survives(dtype, file, tmp_path):
    half = special_half(dtype)
    keras.write(make_checkpoint(make_layer(half)), tmp_path / file, WriteOptions())
    layer = open_file(tmp_path / file).checkpoint.layers[0]
    for found, wanted in zip(layer.forward.arrays.values(), make_layer(half).forward.arrays.values(), strict=True):
        np.testing.assert_array_equal(bits(np.asarray(found)), bits(np.asarray(wanted)))


def test_two_biases_become_their_sum(tmp_path, keras_3):
    half, bias_hh, direction = two_biases()
    keras.write(make_checkpoint(replace(make_layer(half), forward=direction)), tmp_path / "m.keras", WriteOptions())
    found = observe(keras_3, str(tmp_path / "m.keras"))
    np.testing.assert_array_equal(bits(found["lstm|2"]), bits(half.bias + bias_hh))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_another_dtype_is_that_of_the_arrays_and_of_the_layer(dtype, tmp_path, keras_3):
    half = make_half()
    keras.write(make_checkpoint(make_layer(half)), tmp_path / "m.keras", WriteOptions(dtype=dtype))
    model = keras_3.models.load_model(tmp_path / "m.keras")
    assert model.get_layer("lstm").compute_dtype == dtype
    found = observe(keras_3, str(tmp_path / "m.keras"))
    np.testing.assert_array_equal(bits(found["lstm|0"]), bits(half.kernel.astype(dtype)))


def test_a_stateful_layer_is_written_without_a_fixed_batch_and_said_so(tmp_path, keras_3):
    checkpoint = make_checkpoint(make_layer(make_half(), stateful=True))
    keras.write(checkpoint, tmp_path / "m.keras", WriteOptions())
    assert keras_3.models.load_model(tmp_path / "m.keras").get_layer("lstm").stateful is False
    assert "stateful" in " ".join(keras.losses(checkpoint, tmp_path / "m.keras", WriteOptions()))


def test_losses_are_whole_sentences_about_what_is_lost():
    unknown = make_checkpoint(make_layer(make_half(), return_sequences=None))
    assert len(list(keras.losses(unknown, Path("m.h5"), WriteOptions()))) == 1
    plain = make_checkpoint(make_layer(make_half()))
    assert list(keras.losses(plain, Path("m.keras"), WriteOptions())) == []
    for file, options in (("m.weights.h5", WriteOptions()), ("m.h5", WriteOptions(weights_only=True))):
        assert "weights-only" in " ".join(keras.losses(plain, Path(file), options))


# Which Keras


def chosen_version(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("metadata.json"))["keras_version"][0]


@pytest.mark.parametrize("name", CASES)
def test_keras_3_is_written_unless_a_layer_needs_keras_2(name, tmp_path):
    case = CASES[name]
    keras.write(case.checkpoint(), tmp_path / "m.keras", WriteOptions())
    assert chosen_version(tmp_path / "m.keras") == ("3" if 3 in case.majors else "2")


@pytest.mark.parametrize(
    ("name", "major", "reason"),
    [
        ("hard_sigmoid of Keras 2", 3, r"lstm: Keras 3 computes hard_sigmoid as x/6\+0.5, but the layer as 0.2x\+0.5"),
        ("hard_sigmoid of Keras 3", 2, r"lstm: Keras 2 computes hard_sigmoid as 0.2x\+0.5, but the layer as x/6\+0.5"),
        ("time first", 3, "Keras 3 has no time_major"),
        ("forward half backwards", 3, "forward direction runs backwards"),
        ("celu", 2, "Keras 2 has no activation celu"),
        ("bfloat16", 2, "pass --dtype float32"),
    ],
)
def test_a_keras_that_cannot_hold_a_layer_says_so_and_what_to_do(name, major, reason, tmp_path):
    with pytest.raises(UnsupportedModelError, match=reason) as raised:
        keras.write(CASES[name].checkpoint(), tmp_path / "m.keras", WriteOptions(keras_version=major))
    assert f"pass --keras-version {5 - major}" in str(raised.value) or name == "bfloat16"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "major", "suffix"), sorted(UNLOADABLE))
def test_what_real_keras_cannot_load_again_is_refused(name, major, suffix, tmp_path):
    with pytest.raises(UnsupportedModelError, match=r"Keras .*cannot (load|build) .*write \.keras"):
        keras.write(CASES[name].checkpoint(), tmp_path / f"m{suffix}", WriteOptions(keras_version=major))


@pytest.mark.parametrize(
    "activation",
    [
        Activation("hard_sigmoid", (("alpha", 0.3), ("beta", 0.5))),
        Activation("gelu", (("approximate", 1.0),)),
        Activation("celu", (("alpha", 2.0),)),
    ],
)
def test_an_activation_that_no_keras_has_is_an_obstacle(activation, tmp_path):
    layer = make_layer(make_half(recurrent_activation=activation))
    assert "--to onnx" in keras.obstacle(Stack("lstm", (layer,)))
    for version in (None, 2, 3):
        with pytest.raises(UnsupportedModelError, match="--to onnx"):
            keras.write(make_checkpoint(layer), tmp_path / "m.keras", WriteOptions(keras_version=version))


def test_layers_of_two_kerases_do_not_fit_one_file(tmp_path):
    old = make_layer(make_half(5, 5, recurrent_activation=HARD_SIGMOID_KERAS_2), name="old")
    new = make_layer(make_half(5, 5, recurrent_activation=HARD_SIGMOID_KERAS_3), name="new")
    with pytest.raises(UnsupportedModelError, match=r"old needs Keras 2 .*new needs Keras 3 .*two files"):
        keras.write(make_checkpoint(old, new), tmp_path / "m.keras", WriteOptions())
    assert "two files" in keras.obstacle(Stack("both", (old, new)))
    assert keras.obstacle(Stack("old", (old,))) is None


def test_float64_layers_keep_their_slopes_from_being_rounded(tmp_path):
    layer = make_layer(make_half(dtype="float64", activation=relu(0.1)))
    with pytest.raises(UnsupportedModelError, match=r"rounds the 0\.1 of relu"):
        keras.write(make_checkpoint(layer), tmp_path / "m.keras", WriteOptions(keras_version=2))
    keras.write(make_checkpoint(layer), tmp_path / "m.keras", WriteOptions())


@pytest.mark.parametrize("dialect", [KERAS_2, KERAS_3], ids=lambda dialect: dialect.version)
def test_every_name_that_is_written_means_the_same_when_read(dialect):
    for name, row in ACTIVATIONS.items():
        activation = Activation(name, tuple(row.defaults.items()))
        written = described(activation, dialect, "float32")
        assert written is None or parse_activation(written, dialect.major) == activation


@pytest.mark.parametrize(
    ("file", "options", "reason"),
    [
        ("m.keras", WriteOptions(weights_only=True), "whole model"),
        ("m.keras", WriteOptions(keras_version=4), "expected 2 .* or 3"),
        ("m.keras", WriteOptions(bias_mode="double"), "one bias"),
        ("m.pt", WriteOptions(), "expected .keras"),
    ],
)
def test_options_that_contradict_each_other_are_refused(file, options, reason, tmp_path):
    with pytest.raises(UsageError, match=reason):
        keras.write(make_checkpoint(make_layer(make_half())), tmp_path / file, options)


def test_unknown_activations_are_asked_for(tmp_path):
    checkpoint = make_checkpoint(make_layer(make_half()), unknown="pass --recurrent-activation")
    for name, file in (("keras", "m.keras"), ("keras-cudnn", "m.cudnn.h5")):
        with pytest.raises(UnsupportedModelError, match="--recurrent-activation"):
            by_name(name).write(checkpoint, tmp_path / file, WriteOptions())


# Names


@pytest.mark.parametrize(
    ("names", "version", "reason"),
    [
        (("a/b", "a_b"), 3, "'a/b' and 'a_b' would both be 'a_b'.*--rename"),
        (("top_level_model_weights",), 3, "for itself.*--rename"),
        (("prévision",), 2, "ASCII letters.*--rename"),
        (("_a",), 2, "ASCII letters.*--rename"),
    ],
)
def test_names_that_keras_cannot_take_ask_for_others(names, version, reason, tmp_path):
    checkpoint = make_checkpoint(*(make_layer(make_half(), name=name) for name in names))
    with pytest.raises(UsageError, match=reason):
        keras.write(checkpoint, tmp_path / "m.keras", WriteOptions(keras_version=version))


def test_the_provenance_has_the_names_in_the_file_and_their_sources(tmp_path):
    case = CASES["a stack"]
    checkpoint = replace(
        case.checkpoint(),
        layers=(make_layer(make_half(4, 2), name="x/y"), make_layer(make_half(2, 3), name="z")),
        joined={"s": ("x/y", "z")},
    )
    for file in ("m.keras", "m.h5", "m.weights.h5"):
        keras.write(checkpoint, tmp_path / file, WriteOptions(sources={"z": "original"}))
        record = open_file(tmp_path / file).record
        assert record.origins == {"x_y": "x/y", "z": "original"}
        assert [stack.layers for stack in record.stacks] == [("x_y",), ("z",)]
        assert record.edges == (("x_y", "z"),)


def test_many_layers_split_their_attributes_as_keras_does(tmp_path, monkeypatch, keras_3):
    monkeypatch.setattr(keras_files, "_LIMIT", 60)
    case = CASES["eleven"]
    keras.write(case.checkpoint(), tmp_path / "m.h5", WriteOptions())
    with h5py.File(tmp_path / "m.h5") as content:
        weights = content["model_weights"]
        assert "layer_names" not in weights.attrs
        assert weights.attrs["layer_names0"].dtype.kind == "S"
        assert "weight_names0" in weights["n3"].attrs
    save_inputs(tmp_path / "m.h5", case)
    assert_holds(case, observe(keras_3, str(tmp_path / "m.h5")))
    with pytest.raises(UsageError, match=r"67 bytes.*--rename"):
        keras.write(make_checkpoint(make_layer(make_half(), name="n" * 61)), tmp_path / "n.h5", WriteOptions())


# The files themselves


@pytest.mark.parametrize("file", ["m.keras", "m.h5", "m.weights.h5"])
@pytest.mark.parametrize("major", [2, 3])
def test_the_same_layers_give_the_same_bytes(major, file, tmp_path, monkeypatch):
    written = []
    for clock in (1e9, 1.7e9):
        monkeypatch.setattr(time, "time", lambda clock=clock: clock)
        keras.write(CASES["two layers"].checkpoint(), tmp_path / file, WriteOptions(keras_version=major))
        written.append((tmp_path / file).read_bytes())
    assert written[0] == written[1]


def structure(file):
    """Return an HDF5 file's paths with their shapes and the names of their attributes, lstmconv's own left out."""
    found = {"": (None, sorted(set(file.attrs) - {"lstmconv"}))}
    file.visititems(lambda name, item: found.update({name: (getattr(item, "shape", None), sorted(item.attrs))}))
    return found


def body(path):
    """Open the HDF5 file in a ``.keras``, or the file itself."""
    if not zipfile.is_zipfile(path):
        return h5py.File(path)
    with zipfile.ZipFile(path) as archive:
        return h5py.File(io.BytesIO(archive.read("model.weights.h5")))


def config_of(path):
    if not zipfile.is_zipfile(path):
        return json.loads(model_config(path))
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


# A genuine file of one Bidirectional layer "both_ways" of unequal halves, or of equal ones, in a Functional model.
GENUINE = [
    ("keras-3.15.1/own_backward_layer.keras", 3, "forward_lstm_5", "backward"),
    ("tf-keras-2.21.0/own_backward_layer.h5", 2, "forward_lstm_7", "backward_backward"),
    ("tf-keras-2.21.0/bidirectional_concat.keras", 2, "forward_lstm", "backward_lstm"),
]


@pytest.mark.parametrize(("genuine", "major", "forward", "backward"), GENUINE, ids=lambda value: str(value))
def test_a_file_has_the_paths_and_attributes_of_a_genuine_one(genuine, major, forward, backward, tmp_path):
    source = GOLDEN / genuine
    checkpoint = open_file(source).checkpoint
    target = tmp_path / source.name
    if "own" in genuine and major == 2:  # Real tf-keras writes this and cannot load it.
        forward_half = replace(checkpoint.layers[0].forward, bias_ih=None)
        checkpoint = replace(checkpoint, layers=(replace(checkpoint.layers[0], forward=forward_half),))
    keras.write(checkpoint, target, WriteOptions(keras_version=major))
    with body(source) as theirs, body(target) as ours:
        # The halves and the input have other names here; Keras 2 notes no names where ours do.
        renames = {forward: "forward_lstm", backward: "backward_lstm", "input": "both_ways_input"}
        wanted = {
            "/".join(renames.get(part, part) for part in path.split("/")): value
            for path, value in structure(theirs).items()
        }
        found = structure(ours)
        if major == 2:
            found = {path: (shape, [key for key in keys if key != "name"]) for path, (shape, keys) in found.items()}
            wanted.pop("model_weights/both_ways/both_ways/forward_lstm/lstm_cell/bias:0", None)
        assert found == wanted


DIFFERENCES = {
    3: {
        "dtype": "a plain name, which Keras 3.0 and 3.1 take too",
        "name": "of the half",
        "kernel_initializer": "without the keys that came later, by the name that Keras 3.0 knows",
        "recurrent_initializer": "likewise",
        "bias_initializer": "without shared_object_id",
    },
    2: {"name": "of the half", "kernel_initializer": "", "recurrent_initializer": "", "bias_initializer": ""},
}


CONFIGS = [
    *("keras-3.15.1/lstm.h5", "keras-3.15.1/return_state.h5", "keras-3.15.1/go_backwards.h5"),
    *("keras-3.15.1/bidirectional_modes.h5", "tf-keras-2.21.0/lstm.h5", "tf-keras-2.21.0/go_backwards.h5"),
    *("tf-keras-2.21.0/bidirectional_modes.h5", "tf-keras-2.21.0/time_major.h5"),
    *("tf-keras-2.21.0/masking_zero_output.h5", "tf-keras-2.21.0/cudnn_lstm.h5"),
    "tf-keras-2.21.0/cudnn_bidirectional.h5",
]


@pytest.mark.parametrize("genuine", CONFIGS)
def test_a_layers_config_agrees_with_the_genuine_one_key_by_key(genuine, tmp_path):
    source, target = GOLDEN / genuine, tmp_path / "m.h5"
    major = 2 if genuine.startswith("tf") else 3
    module = cudnn_lstm if "cudnn" in genuine else keras
    module.write(open_file(source).checkpoint, target, WriteOptions(keras_version=major))
    theirs = {entry["config"]["name"]: entry for entry in config_of(source)["config"]["layers"]}
    compared = 0
    for entry in config_of(target)["config"]["layers"]:
        if entry["class_name"] != "InputLayer":
            assert_same_config(entry, theirs[entry["config"]["name"]], major)
            compared += 1
    assert compared


def assert_same_config(ours, theirs, major):
    assert ours["class_name"] == theirs["class_name"]
    found, wanted = ours["config"], dict(theirs["config"])
    wanted.pop("batch_input_shape", None)  # Of the first layer of a Sequential model.
    assert found.keys() == wanted.keys()
    for key in found:
        if key in ("layer", "backward_layer"):
            assert_same_config(found[key], wanted[key], major)
        elif key not in DIFFERENCES[major]:
            assert found[key] == wanted[key], key


# The runtime


@pytest.mark.parametrize("file", ["m.keras", "m.h5", "m.weights.h5", "weights.h5"])
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.majors != (2,)])
def test_the_runtime_decodes_and_runs_what_is_written(name, file, tmp_path, keras_3):
    case = CASES[name]
    if (name, 3, {"m.h5": ".h5", "weights.h5": ".h5"}.get(file, file.removeprefix("m"))) in UNLOADABLE:
        return
    options = WriteOptions(keras_version=3, weights_only=file == "weights.h5")
    keras.write(case.checkpoint(), tmp_path / file, options)
    assert_runtime_agrees(case, tmp_path / file, "keras 3")


def assert_decodes(case, file, cudnn=False):
    decoded = session(open_file(file)).decode([case.names.get(source, source) for source in case.layers])
    for source, (halves, _) in case.layers.items():
        name = case.names.get(source, source)
        for half, found in zip(halves, decoded[name], strict=True):
            h = half.hidden
            for array, matrix in ((half.kernel, found.weight_ih), (half.recurrent, found.weight_hh)):
                literal = np.stack([array[:, k * h : (k + 1) * h].T for k in range(4)])
                np.testing.assert_array_equal(bits(matrix), bits(literal), strict=True)
            if half.bias is None and not cudnn:
                assert found.bias_ih is None
            elif half.bias is not None:
                np.testing.assert_array_equal(bits(found.bias_ih), bits(half.bias.reshape(4, h)))
            assert (found.bias_hh is not None) == cudnn


@pytest.mark.parametrize("file", ["m.keras", "m.h5", "m.weights.h5", "weights.h5"])
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if 2 in case.majors])
def test_the_runtime_decodes_what_is_written_for_keras_2(name, file, tmp_path):
    if (name, 2, ".h5") in UNLOADABLE and file in ("m.h5", "weights.h5"):
        return
    options = WriteOptions(keras_version=2, weights_only=file == "weights.h5")
    keras.write(CASES[name].checkpoint(), tmp_path / file, options)
    assert_decodes(CASES[name], tmp_path / file)


@pytest.mark.parametrize("name", CUDNN_CASES)
def test_the_runtime_decodes_cudnn_lstm_layers(name, tmp_path):
    cudnn_lstm.write(CUDNN_CASES[name].checkpoint(), tmp_path / "m.cudnn.h5", WriteOptions())
    assert_decodes(CUDNN_CASES[name], tmp_path / "m.cudnn.h5", cudnn=True)


def assert_runtime_agrees(case, file, framework=""):
    assert_decodes(case, file)
    opened = session(open_file(file))
    for source, (halves, options) in case.layers.items():
        name = case.names.get(source, source)
        wide = [replace(half, kernel=half.kernel.astype(float), recurrent=half.recurrent.astype(float),
                        bias=None if half.bias is None else half.bias.astype(float)) for half in halves]  # fmt: skip
        x, states = make_inputs(len(halves[0].kernel), 4, 7, [half.hidden for half in halves])
        given = x.swapaxes(0, 1) if options.get("time_major") else x
        loaded = opened.load(name)
        assert loaded.framework.startswith(framework)
        outputs = loaded.compute(Inputs(given, tuple(states)))
        several = options.get("return_sequences") is not False
        merged, finals = expected(wide, x, states, merge=options.get("merge_mode", "concat"), sequences=several)
        if options.get("time_major"):
            merged = [each.swapaxes(0, 1) for each in merged]
        wanted = {f"y_{k}" if k else "y": each for k, each in enumerate(merged)}
        wanted |= {f"{'hc'[k % 2]}{k // 2}": state for k, state in enumerate(finals)}
        assert set(outputs) == set(wanted)
        noise = FLOAT64_NOISE if halves[0].kernel.dtype == np.float64 else FLOAT32_NOISE
        for key, values in wanted.items():
            np.testing.assert_allclose(outputs[key], values, rtol=0, atol=noise, err_msg=key)


GENUINE_CASES = {
    *("lstm", "lstm_hard_sigmoid", "go_backwards", "bidirectional_concat", "bidirectional_modes"),
    *("own_backward_layer", "return_state", "bidirectional_backwards", "cudnn_lstm", "cudnn_bidirectional"),
}
GENUINE_FILES = [
    str(path.relative_to(GOLDEN))
    for folder in ("keras-3.15.1", "tf-keras-2.21.0")
    for path in sorted((GOLDEN / folder).iterdir())
    if path.suffix in (".h5", ".keras") and path.name.split(".")[0] in GENUINE_CASES
]


@pytest.mark.parametrize("case", GENUINE_FILES)
def test_the_runtime_decodes_genuine_files(case):
    artifact = open_file(GOLDEN / case)
    assert artifact.record is None
    for layer in artifact.checkpoint.layers:
        decoded = session(artifact).decode([layer.name])[layer.name]
        for half, found in zip(layer.directions, decoded, strict=True):
            np.testing.assert_array_equal(np.asarray(half.weight_ih), found.weight_ih)
            np.testing.assert_array_equal(np.asarray(half.weight_hh), found.weight_hh)


def hostile(tmp_path, **entry):
    """Write a model, and put another object into its config."""
    keras.write(CASES["plain"].checkpoint(), tmp_path / "m.h5", WriteOptions(keras_version=3))
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][1]["config"]["kernel_constraint"] = entry
        file.attrs["model_config"] = json.dumps(config)
    return tmp_path / "m.h5"


@pytest.mark.parametrize(
    "entry",
    [
        {"class_name": "Lambda", "config": {}},
        {"class_name": "Dense", "module": "os", "config": {}},
        {"class_name": "Dense", "registered_name": "mine>Dense", "config": {}},
        {"class_name": "function", "module": "os", "config": "system"},
    ],
)
def test_a_file_that_names_other_classes_is_not_run(entry, tmp_path):
    file = hostile(tmp_path, **entry)
    with pytest.raises(NotRunError, match=f"other layers .{entry['class_name']}.: not run"):
        session(open_file(file)).load("lstm").compute(Inputs(np.zeros((1, 1, 3)), (np.zeros((1, 5)),) * 2))


def test_a_foreign_file_of_weights_only_is_not_run():
    file = GOLDEN / "keras-3.15.1" / "lstm.weights.h5"
    with pytest.raises(NotRunError, match="weights only"):
        session(open_file(file)).load("encoder").compute(Inputs(np.zeros((1, 1, 3)), ()))


def test_a_file_of_keras_2_names_the_library_that_it_needs(tmp_path):
    if importlib.util.find_spec("tf_keras"):
        pytest.skip("tf_keras is installed")
    keras.write(CASES["time first"].checkpoint(), tmp_path / "m.keras", WriteOptions())
    with pytest.raises(MissingDependencyError, match="pip install tf_keras"):
        session(open_file(tmp_path / "m.keras")).load("lstm").compute(Inputs(np.zeros((1, 1, 3)), ()))


def test_a_layer_that_is_not_there_is_named(tmp_path):
    for file in ("m.keras", "m.h5", "m.weights.h5"):
        keras.write(CASES["plain"].checkpoint(), tmp_path / file, WriteOptions())
        with pytest.raises(UnreadableFileError, match="no LSTM layer 'other'"):
            session(open_file(tmp_path / file)).decode(["other"])


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".keras"])
def test_a_name_that_hdf5_does_not_hold_is_refused_in_one_line(tmp_path, suffix):
    shapes = {"weight_ih_l0": (20, 3), "weight_hh_l0": (20, 5)}
    save_file(
        {f"a\0b.{name}": np.ones(shape, np.float32) for name, shape in shapes.items()}, tmp_path / "m.safetensors"
    )
    with pytest.raises(
        UsageError, match=r"no name with the character NUL, found 'a\\x00b'; give it another with rename"
    ):
        lstmconv.convert(tmp_path / "m.safetensors", tmp_path / f"out{suffix}", verify=False)
