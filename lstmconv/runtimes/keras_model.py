"""Run a whole Keras file in real Keras, from the model's inputs to its outputs."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from lstmconv.formats import Artifact
from lstmconv.model import Array, Call, Input
from lstmconv.runtimes import LoadedModel, NotRunError, Precision
from lstmconv.semantics.graph import final_states, initial_states, stateful_calls

__all__ = ["in_float32", "load_model", "to_numpy"]


def load_model(artifact: Artifact, keras: ModuleType, framework: str, model: Any) -> LoadedModel:
    """Return a loaded model as the proof runs it; half precisions are widened, which is exact.

    Args:
        artifact: The file.
        keras: The module that loaded it.
        framework: Names it and its version.
        model: What it loaded.

    Raises:
        NotRunError: The file does not contain its model, or Keras finds other inputs and outputs in it.
    """
    entries, outputs = _inputs_and_outputs(artifact)
    counts = len(model.inputs), len(model.outputs)
    if counts != (len(entries), len(outputs)):
        raise NotRunError("Keras finds other inputs and outputs in it than lstmconv does")
    stored = {weight.dtype for weight in map(np.asarray, _weights(keras, model)) if weight.dtype.kind not in "iub"}
    wide = "float64" if np.dtype(np.float64) in stored else "float32"
    if any(dtype.itemsize < 4 for dtype in stored):
        model = _widened(keras, model)
    inputs = tuple(entry._replace(dtype=_dtype(tensor)) for entry, tensor in zip(entries, model.inputs, strict=True))
    checkpoint = artifact.checkpoint.model
    streamed = () if checkpoint is None else stateful_calls(checkpoint)

    def compute(given: Mapping[str, Array]) -> Mapping[str, Array]:
        arrays = [np.asarray(given[entry.name]).astype(entry.dtype) for entry in inputs]
        for call in streamed:
            _begin(model, call, given, len(arrays[0]))
        returned = model(arrays if len(arrays) > 1 else arrays[0], training=False)
        tensors = _flat(returned)
        found = {name: to_numpy(keras, tensor) for name, tensor in zip(outputs, tensors, strict=True)}
        for call in streamed:
            found |= final_states(call, [to_numpy(keras, state).astype(np.float64) for state in _states(model, call)])
        return found

    return LoadedModel(framework, Precision(wide, wide), inputs, outputs, compute)


def _inputs_and_outputs(artifact: Artifact) -> tuple[tuple[Input, ...], tuple[str, ...]]:
    """Return the inputs and the outputs' names: the source's where lstmconv wrote the file, else the reader's."""
    record = artifact.record
    if record is not None and record.scope == "whole" and record.model is not None:
        entries = (
            Input(str(entry["name"]), tuple(entry["shape"]), str(entry["dtype"])) for entry in record.model["inputs"]
        )
        return tuple(entries), tuple(map(str, record.model["outputs"]))
    model = artifact.checkpoint.model
    if model is None:
        raise NotRunError("the file does not contain its model")
    return model.inputs, tuple(model.outputs)


def _dtype(tensor: Any) -> str:
    """Return the name of an input's dtype, which Keras 3 has as a name and Keras 2 as TensorFlow's own type."""
    return str(getattr(tensor.dtype, "name", tensor.dtype))


def _flat(returned: Any) -> list[Any]:
    if isinstance(returned, Mapping):
        return [tensor for key in sorted(returned) for tensor in _flat(returned[key])]
    if isinstance(returned, (list, tuple)):
        return [tensor for each in returned for tensor in _flat(each)]
    return [returned]


def _weights(keras: ModuleType, model: Any) -> list[Array]:
    return [to_numpy(keras, weight) for weight in model.weights]


def _widened(keras: ModuleType, model: Any) -> Any:
    """Return the model in float32."""
    made = type(model).from_config(in_float32(model.get_config()))
    made.set_weights(
        [array if array.dtype.kind in "iub" else array.astype(np.float32) for array in _weights(keras, model)]
    )
    return made


def in_float32(value: Any) -> Any:
    """Return a config with every half precision in it float32."""
    if isinstance(value, list):
        return [in_float32(inner) for inner in value]
    if isinstance(value, tuple):
        return tuple(in_float32(inner) for inner in value)
    if isinstance(value, Mapping):
        return {key: in_float32(inner) for key, inner in value.items()}
    return "float32" if isinstance(value, str) and value in ("float16", "bfloat16") else value


def to_numpy(keras: ModuleType, tensor: Any) -> Array:
    """Return a variable or tensor of any backend as an array, bfloat16 as ml_dtypes'."""
    return np.asarray(keras.ops.convert_to_numpy(tensor) if hasattr(keras, "ops") else tensor.numpy())


def _states(model: Any, call: Call) -> list[Any]:
    """Return the variables in which a stateful layer keeps its states: forward half first."""
    layer = model.get_layer(call.layer.name)
    halves = (layer.forward_layer, layer.backward_layer) if hasattr(layer, "forward_layer") else (layer,)
    return [state for half in halves for state in half.states]


def _begin(model: Any, call: Call, given: Mapping[str, Array], batch: int) -> None:
    begun = initial_states(call, given, np.empty((batch, batch, 0)))
    for state, value in zip(_states(model, call), begun, strict=True):
        state.assign(value.astype(np.float32 if "64" not in str(state.dtype) else np.float64))
