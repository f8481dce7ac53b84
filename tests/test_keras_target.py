"""The Keras targets: files loaded and run by real Keras 3 and real tf-keras, against the loop in ``building``."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pytest

from lstmconv.activations import (
    ACTIVATIONS,
    HARD_SIGMOID_KERAS_2,
    HARD_SIGMOID_KERAS_3,
    LINEAR,
    SIGMOID,
    TANH,
    Activation,
)
from lstmconv.copying import packed
from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.formats import ReadOptions, WriteOptions, keras
from lstmconv.formats.keras import cudnn_lstm
from lstmconv.layouts import CUDNN_LSTM_LAYER
from lstmconv.model import LSTMDirection, Stack
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
    pairs = tuple(zip(names, names[1:], strict=False))
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
UNLOADABLE = {("bfloat16", 3, ".h5"), ("unequal halves feed", 3, ".h5"), ("a bias in one half", 2, ".h5")}
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
