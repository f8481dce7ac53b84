"""Whole models that real Keras wrote, read as graphs: names, layers, and the numbers that Keras computed.

The graph is run by the float64 reference, so that a mask, a state, an input or an array at the wrong place shows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lstmconv.formats import config_of
from lstmconv.formats.keras.reader.open_file import open_file
from lstmconv.formats.keras.reader.read import interpret
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.options import ReadOptions
from lstmconv.model import Model
from lstmconv.semantics import run_model
from tests.golden.whole.cases import compared, weights_with_config, whole_models

FILES = [(path, None, npz) for path, npz in whole_models()]
FILES += list(weights_with_config())

TOLERANCE = 3e-5
"""Of the largest output: Keras computes in float32, the reference in float64."""

UNKNOWN = {
    "keras-3.15.1/bidirectional_own_backward": {"bidirectional_1"},  # A GRU runs backwards beside an LSTM.
    "keras-3.15.1/shapes_2d": {"up_sampling2d_1"},  # Bilinear.
    "tf-keras-2.21.0/shapes_2d": {"up_sampling2d_1"},
    "keras-1.2.2/merge_function": {"merge_11"},  # The mode cos.
    "keras-1.2.2/merge_layer": {"merge_2"},
    "keras-1.2.2/prelu_shared_axes": {"prelu_1"},  # Keras 1 stores shared axes otherwise.
    "keras-2.2.4/pooling1d": {  # Theano pads otherwise.
        *(f"max_pooling1d_{k}" for k in (3, 4, 5)),
        *(f"average_pooling1d_{k}" for k in (3, 4, 5)),
    },
}

pytestmark = pytest.mark.usefixtures("trusted_golden_files")


def model_of(path: Path, config: Path | None = None) -> Model:
    described = None if config is None else config_of(config)
    model = interpret(open_file(MappedFile(path)), ReadOptions(described=described)).model
    assert model is not None
    return model


def plain(names: list[str]) -> list[str]:
    """Return names numbered where they stand twice, as the graph has them: Keras lists a layer for each output."""
    return [name if names.index(name) == k else f"{name}_{names[:k].count(name)}" for k, name in enumerate(names)]


@pytest.mark.parametrize(
    ("path", "config", "npz"), FILES, ids=[f"{path.parent.name}/{path.name}" for path, *_ in FILES]
)
def test_a_whole_model_of_real_keras_reads_as_a_graph_that_computes_what_keras_computed(
    path: Path, config: Path | None, npz: Path
):
    model, case = model_of(path, config), f"{npz.parent.name}/{npz.stem}"
    assert {layer.name for layer in model.unknown} == UNKNOWN.get(case, set())
    with np.load(npz) as recording:
        inputs = [entry.name for entry in model.inputs]
        expected = recording["inputs"].tolist()
        if not any(name.startswith("keras_tensor") for name in expected):  # What Keras 3 calls it in a Sequential.
            assert inputs == expected
        assert list(model.outputs) == plain(recording["outputs"].tolist())
        if model.unknown:
            return
        found = run_model(model, [recording[f"x:{k}"] for k in range(len(inputs))])
        tolerance = float(recording["tol"]) if "tol" in recording.files else TOLERANCE
        for k, name in compared(npz, list(model.outputs)):
            desired = recording[f"y:{k}"]
            limit = tolerance * np.abs(desired).max()
            np.testing.assert_allclose(found[name], desired, rtol=0, atol=limit, err_msg=name)
