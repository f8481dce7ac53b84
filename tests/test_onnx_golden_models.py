"""Whole models of real Keras in ONNX: ONNX Runtime computes what Keras computed, for every golden model."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import onnx
import pytest

import lstmconv
from lstmconv.errors import NoLSTMError
from lstmconv.formats import WriteOptions
from lstmconv.formats import onnx as onnx_format
from lstmconv.formats.keras.reader import read as reading
from lstmconv.runtimes.onnx_model import load_model
from tests.golden.whole.cases import whole_models

FLOAT32_NOISE = 3e-5
"""Relative to the largest output."""
REFUSED = {"in_float64": "no LSTM in float64"}
"""What ONNX cannot hold."""
BY_BACKEND = {
    ("keras-3", "channels_first_1d"): {1},
    ("keras-3", "layer_normalization"): {1},
    ("keras-3", "pooling1d"): {9},
    ("keras-3", "pooling2d"): {6, 7},
    ("keras-1", "conv1d"): {2},
    ("keras-1", "conv2d"): {1},
    ("keras-1", "conv_classifier"): {0},
    ("keras-1", "pooling"): {2, 6, 7},
    ("keras-1", "time_distributed"): {2},
}
"""Outputs that a backend computes otherwise than TensorFlow.

PyTorch (Keras 3): an average repeats the edge where places are missing on one side only (keras/src/backend/torch/nn.py
_apply_same_padding, mode replicate), and LayerNormalization of one axis is always that of the last (ops/nn.py
_layer_normalization, is_continuous_axis). Theano (Keras 1 and 2): "same" has the larger part of an uneven padding
first, and pads a stride's rest otherwise (theano_backend.py, border_mode half).
"""

CASES = [pytest.param(path, npz, id=f"{path.parent.name}-{path.name}") for path, npz in whole_models()]


def model_of(path, monkeypatch):
    """Return the model also of a file without an LSTM, which `load` refuses."""
    found, trace = [], reading.trace
    monkeypatch.setattr(reading, "trace", lambda *given: found.append(trace(*given)) or found[-1])
    with suppress(NoLSTMError):
        lstmconv.load(path)
    return found[-1]


def recorded(npz, letter, count):
    """Return arrays as the model returns them: Keras gives each cell of an RNN its states as one array."""
    arrays = [npz[key] for index in range(len(npz)) if (key := f"{letter}:{index}") in npz]
    return (
        arrays
        if len(arrays) in (0, count)
        else [part for array in arrays for part in (array if array.ndim == 3 and len(array) == 2 else [array])]
    )


@pytest.mark.parametrize(("path", "npz"), CASES)
def test_onnx_computes_what_keras_computed(path, npz, tmp_path, monkeypatch):
    model = model_of(path, monkeypatch)
    if model.unknown or path.stem in REFUSED:
        reason = str(onnx_format.obstacle_of_model(model))
        assert (model.unknown[0].name if model.unknown else REFUSED[path.stem]) in reason
        return
    other = next(
        (own for (by, case), own in BY_BACKEND.items() if path.parent.name.startswith(by) and case == path.stem), ()
    )
    proto = onnx_format.build_model(model, WriteOptions())
    onnx.checker.check_model(proto, full_check=True)
    file = tmp_path / "model.onnx"
    file.write_bytes(proto.SerializeToString())
    loaded = load_model(file)
    names = [entry.name for entry in model.inputs]
    assert list(loaded.inputs)[: len(names)] == names
    with np.load(npz) as golden:
        states = None
        for given, wanted in (("x", "y_tensorflow" if "y_tensorflow:0" in golden else "y"), ("x2", "y2")):
            inputs = recorded(golden, given, len(names))
            if not inputs:
                continue
            feeds = dict(zip(names, inputs, strict=True))
            for name in list(loaded.inputs)[len(names) :]:
                entry = next(own for own in proto.graph.input if own.name == name)
                rows, _, hidden = (size.dim_value for size in entry.type.tensor_type.shape.dim)
                start = np.zeros((rows, len(inputs[0]), hidden))
                feeds[name] = start if states is None else states[name.replace(".initial_", ".")]
            states = loaded.compute(feeds)
            tolerance = float(golden["tol"]) if "tol" in golden else FLOAT32_NOISE
            for index, (found, want) in enumerate(
                zip(states.values(), recorded(golden, wanted, len(model.outputs)), strict=False)
            ):
                assert found.shape == want.shape, index
                if index in other:
                    continue
                largest = max(1.0, np.abs(want).max())
                np.testing.assert_allclose(found / largest, want / largest, rtol=0, atol=tolerance, err_msg=index)
