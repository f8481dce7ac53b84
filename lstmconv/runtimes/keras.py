"""Run a written Keras file in real Keras: ``keras`` for a file of Keras 3, ``tf_keras`` for one of Keras 2.

A file of weights only is loaded into layers that are built as lstmconv recorded them in it. A CuDNNLSTM needs
a GPU; its weights are loaded into LSTM layers by tf-keras' own conversion, and those run.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from lstmconv._optional import require
from lstmconv.formats.record import Record, RecordedDirection, RecordedLayer
from lstmconv.model import Array, Layer
from lstmconv.runtimes import (
    Decoded,
    DecodedLayer,
    Inputs,
    Loaded,
    LoadedModel,
    NotRunError,
    Outputs,
    Precision,
    Session,
    named_outputs,
)
from lstmconv.runtimes.keras_arrays import decode_model
from lstmconv.runtimes.keras_file import KerasContent, decode_layer, read_content
from lstmconv.runtimes.keras_model import in_float32, load_model, to_numpy
from lstmconv.runtimes.keras_objects import entries, refuse_others

__all__ = ["RUNTIME"]

_PURPOSE = "Running a Keras file"
_NATIVE_BACKENDS = ("torch", "jax", "tensorflow")


class _KerasFile(Session):
    """A Keras file of any generation, opened with h5py and zipfile alone and loaded by Keras itself."""

    @cached_property
    def _content(self) -> KerasContent:
        return read_content(self.artifact.file)

    def decode(self, names: Sequence[str], *, frameworks: bool = True) -> Decoded:
        """Return every named layer's weights.

        Raises:
            UnreadableFileError: A layer is not there.
        """
        return {name: decode_layer(self._content, name, self.artifact.path.name) for name in names}

    @cached_property
    def _loaded(self) -> _LoadedModel:
        return _load_model(self.artifact.path, self._content, self.record)

    def decode_model(self, layers: Sequence[Layer], *, frameworks: bool = True) -> Mapping[str, DecodedLayer]:
        """Return every layer's arrays of a whole model."""
        return decode_model(self._content, layers)

    def load_model(self) -> LoadedModel:
        """Load the whole model; half precisions are widened, which is exact.

        Raises:
            MissingDependencyError: The Keras it needs is not installed.
            NotRunError: The file does not contain its model, Keras has no backend here, or the file holds what is not
                run.
        """
        if self._content.config is None:
            raise NotRunError("the file does not contain its model")
        keras, framework, model = self._loaded

        with _quiet():
            loaded = load_model(self.artifact, keras, framework, model)

        def compute(given: Mapping[str, Array]) -> Mapping[str, Array]:
            with _quiet():
                return loaded.compute(given)

        return loaded._replace(compute=compute)

    def load(self, name: str, way: int = 0) -> Loaded:
        """Load one layer; half precisions are widened, which is exact.

        Raises:
            MissingDependencyError: The Keras it needs is not installed.
            NotRunError: Keras has no backend here, or the file holds what is not run.
        """
        stored = decode_layer(self._content, name, self.artifact.path.name)[0].weight_ih.dtype
        keras, framework, model = self._loaded
        with _quiet():
            layer = _widened(keras, model.get_layer(name), stored)

        def compute(inputs: Inputs) -> Outputs:
            with _quiet():
                return _called(keras, layer, inputs)

        width = "float64" if stored == np.float64 else "float32"
        return Loaded(framework, Precision(width, width), compute)


class _LoadedModel(NamedTuple):
    """A file that Keras has loaded.

    Attributes:
        keras: The module, ``keras`` or ``tf_keras``.
        framework: Names it and its version.
        model: Keras' own.
    """

    keras: ModuleType
    framework: str
    model: Any


def _load_model(path: Path, content: KerasContent, record: Record | None) -> _LoadedModel:
    """Load the file.

    Raises:
        MissingDependencyError: The Keras it needs is not installed.
        NotRunError: Keras has no backend here, or the file holds what is not run.
    """
    config = content.config
    cudnn = _holds_cudnn(content, record)
    refuse_others(config)
    if config is not None and content.major is not None and content.major < 2:
        raise NotRunError("a model of Keras 1, which is not run: its weights are compared")
    if config is None and record is None:
        raise NotRunError("weights only, and nothing in the file says what they are for")
    with _quiet():
        if _is_keras_2(content, record, cudnn=cudnn):
            keras = require("tf_keras", _PURPOSE)
            framework = f"tf_keras {keras.__version__}" + (", weights loaded into LSTM layers" if cudnn else "")
        else:
            keras = _keras_3()
            framework = f"keras {keras.__version__}, {keras.backend.backend()}"
        if config is not None and not cudnn:
            return _LoadedModel(keras, framework, keras.models.load_model(str(path), compile=False))
        if config is not None:
            model = keras.models.model_from_json(json.dumps(_with_lstm_layers(config)))
        else:
            assert record is not None
            model = _rebuilt(keras, record, cudnn=cudnn)
        model.load_weights(str(path))
        return _LoadedModel(keras, framework, model)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the frameworks' own warnings and TensorFlow's log from the user."""
    level = os.environ.get("TF_CPP_MIN_LOG_LEVEL")
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = level or "3"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if level is None:
            del os.environ["TF_CPP_MIN_LOG_LEVEL"]


def _keras_3() -> ModuleType:
    """Import Keras 3, on a backend that is installed if nobody chose one."""
    if "keras" not in sys.modules and "KERAS_BACKEND" not in os.environ:
        backend = next((name for name in _NATIVE_BACKENDS if importlib.util.find_spec(name)), None)
        if backend is None:
            raise NotRunError(f"{_PURPOSE} needs torch, jax or tensorflow. Install one with: pip install torch")
        os.environ["KERAS_BACKEND"] = backend
        try:
            keras = require("keras", _PURPOSE)
        finally:
            del os.environ["KERAS_BACKEND"]
    else:
        keras = require("keras", _PURPOSE)
    if int(keras.__version__.split(".")[0]) < 3:
        raise NotRunError(f"needs Keras 3, found {keras.__version__}. Install it with: pip install -U keras")
    return keras


def _holds_cudnn(content: KerasContent, record: Record | None) -> bool:
    if content.config is not None:
        return any(entry["class_name"] == "CuDNNLSTM" for entry in entries(content.config))
    names = [] if record is None else [layer.name for layer in record.layers]
    return content.legacy and any(
        decoded.bias_hh is not None for name in names for decoded in decode_layer(content, name, "")
    )


def _is_keras_2(content: KerasContent, record: Record | None, *, cudnn: bool) -> bool:
    """Whether a file is for Keras 2; weights by object path are stored alike for both, their layers may differ."""
    if content.major is not None:
        return content.major < 3
    if cudnn or content.config is not None:
        return True
    layers = () if record is None else record.layers
    halves = [half for layer in layers for half in layer.directions]
    old = any((half.recurrent_activation or {}).get("alpha") == 0.2 for half in halves)
    reversed_pair = any(len(layer.directions) == 2 and layer.directions[0].go_backwards for layer in layers)
    return old or reversed_pair or any(layer.time_major for layer in layers)


def _with_lstm_layers(value: Any) -> Any:
    """Return a config with LSTM layers in the place of CuDNNLSTM layers."""
    if isinstance(value, list):
        return [_with_lstm_layers(inner) for inner in value]
    if not isinstance(value, Mapping):
        return value
    made = {key: _with_lstm_layers(inner) for key, inner in value.items()}
    if made.get("class_name") == "CuDNNLSTM":
        plain = {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True}
        made |= {"class_name": "LSTM", "config": {**made["config"], **plain}}
    return made


def _rebuilt(keras: ModuleType, record: Record, *, cudnn: bool) -> Any:
    """Build the model that a file of weights only was written for, from what lstmconv recorded in it."""
    layers = {entry.name: replace(entry, dtype=record.dtype or entry.dtype) for entry in record.layers}
    order = list(layers)
    feeders: dict[str, str] = {}
    for below, above in record.edges or ():
        if order.index(below) < order.index(above) and _feeds(layers[below], layers[above]):
            feeders.setdefault(above, below)
    sequences: dict[str, Any] = {}
    given, returned = [], []
    for name, entry in layers.items():
        if name in feeders:
            x = sequences[feeders[name]]
        else:
            x = keras.layers.Input((None, entry.input_size), dtype=entry.dtype)
            given.append(x)
        found = _layer(keras, entry, cudnn=cudnn)(x)
        tensors = list(found) if isinstance(found, (list, tuple)) else [found]
        sequences[name] = tensors[0]
        returned += tensors[1:] if name in feeders.values() else tensors
    return keras.Model(given, returned)


def _feeds(below: RecordedLayer, above: RecordedLayer) -> bool:
    """Whether a layer returns one sequence that the other takes."""
    units = [half.hidden_size for half in below.directions]
    size = sum(units) if below.merge_mode == "concat" else units[0]
    one = below.return_sequences is not False and below.merge_mode != "none"
    return one and size == above.input_size and below.time_major == above.time_major


def _layer(keras: ModuleType, entry: RecordedLayer, *, cudnn: bool) -> Any:
    """Build one layer with Keras' own constructors."""
    halves = [_lstm(keras, entry, half, cudnn=cudnn) for half in entry.directions]
    if len(halves) == 1:
        return halves[0]
    mode = None if entry.merge_mode == "none" else entry.merge_mode
    return keras.layers.Bidirectional(
        halves[0], merge_mode=mode, backward_layer=halves[1], name=entry.name, dtype=entry.dtype
    )


def _lstm(keras: ModuleType, entry: RecordedLayer, half: RecordedDirection, *, cudnn: bool) -> Any:
    single = len(entry.directions) == 1
    return keras.layers.LSTM(
        half.hidden_size,
        activation=_activation(keras, half.activation or {}),
        recurrent_activation=_activation(keras, half.recurrent_activation or {}),
        use_bias=cudnn or bool(half.biases),
        recurrent_initializer="glorot_uniform",
        return_sequences=entry.return_sequences is not False,
        return_state=entry.return_state,
        go_backwards=half.go_backwards,
        dtype=entry.dtype,
        **({"name": entry.name} if single else {}),
        **({"time_major": True} if entry.time_major else {}),
    )


def _activation(keras: ModuleType, recorded: Mapping[str, str | float | None]) -> Any:
    """Return Keras' function or layer for a recorded activation."""
    numbers = {key: value for key, value in recorded.items() if key != "name"}
    if recorded["name"] == "relu":
        return keras.layers.ReLU(**numbers)
    return keras.layers.ELU(**numbers) if recorded["name"] == "elu" else recorded["name"]


def _widened(keras: ModuleType, layer: Any, stored: np.dtype[Any]) -> Any:
    """Return the layer, or for a half precision one like it in float32, which holds the same numbers exactly."""
    weights = [to_numpy(keras, weight) for weight in layer.weights]
    if any(weight.dtype != stored for weight in weights):
        raise NotRunError(f"the file holds {stored} and Keras' backend {weights[0].dtype} here")
    if stored.name not in ("float16", "bfloat16"):
        return layer
    wide = type(layer).from_config(in_float32(layer.get_config()))
    wide.build((None, None, weights[0].shape[0]))
    wide.set_weights([weight.astype(np.float32) for weight in weights])
    return wide


def _called(keras: ModuleType, layer: Any, inputs: Inputs) -> Outputs:
    """Call a layer on x with initial states, and return its outputs and its final states."""
    halves = [layer.forward_layer, layer.backward_layer] if hasattr(layer, "forward_layer") else [layer]
    for each in {id(each): each for each in (layer, *halves)}.values():
        each.return_state = True
    dtype = halves[0].compute_dtype
    convert = keras.ops.convert_to_tensor if hasattr(keras, "ops") else keras.backend.constant
    x, *states = (convert(array, dtype=dtype) for array in (inputs.x, *inputs.states))
    found = [to_numpy(keras, tensor) for tensor in layer(x, initial_state=states, training=False)]
    sequences, finals = found[: -2 * len(halves)], found[-2 * len(halves) :]
    return named_outputs(sequences, finals[0::2], finals[1::2])


RUNTIME = _KerasFile
