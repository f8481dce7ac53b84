"""Whole models that real Keras wrote, read as graphs: names, layers, and the numbers that Keras computed.

The graph is run by the float64 reference, so that a mask, a state, an input or an array at the wrong place shows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lstmconv.formats.hdf5 import tree
from lstmconv.formats.keras.reader.read import read_model
from lstmconv.model import Model
from lstmconv.semantics import run_model
from tests._cases import walk_here
from tests.golden.whole.cases import weights_with_config, whole_models

FILES = [(path, None, npz) for path, npz in whole_models()]
FILES += list(weights_with_config())

TOLERANCE = 3e-5
"""Of the largest output: Keras computes in float32, the reference in float64."""

UNKNOWN = {
    "bidirectional_own_backward": {"bidirectional_1"},  # A GRU runs backwards beside an LSTM.
    "shapes_2d": {"up_sampling2d_1"},  # Bilinear.
}

OF_THE_PYTORCH_BACKEND = {
    "average_pooling1d_4", "average_pooling2d_2", "average_pooling2d_3", "channels_first_1d/average_pooling1d",
    "layer_normalization/layer_normalization_1",
}  # fmt: skip
"""Outputs in which Keras' PyTorch backend stands alone: it counts padding into averages, and normalises the last axis
where axis 1 is asked for."""

NOT_COMPARED = {
    "rnn_of_cells_states": "Keras 3 returns the states of cells as nested lists, recorded as one array each",
    "dictionary_of_inputs": "recorded in the order of the returned dict, named in the order of output_names",
}


@pytest.fixture(autouse=True)
def _trust_golden_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the trial read in a child, which test_hdf5.py tests: these files are known to be whole."""
    monkeypatch.setattr(tree, "described", walk_here)


def model_of(path: Path, config: Path | None = None) -> Model:
    model = read_model(path, config=config).model
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
    model = model_of(path, config)
    assert {layer.name for layer in model.unknown} == UNKNOWN.get(npz.stem, set())
    with np.load(npz) as recording:
        inputs = [entry.name for entry in model.inputs]
        expected = recording["inputs"].tolist()
        if not any(name.startswith("keras_tensor") for name in expected):  # What Keras 3 calls it in a Sequential.
            assert inputs == expected
        assert list(model.outputs) == plain(recording["outputs"].tolist())
        if model.unknown or npz.stem in NOT_COMPARED:
            return
        found = run_model(model, [recording[f"x:{k}"] for k in range(len(inputs))])
        tolerance = float(recording["tol"]) if "tol" in recording.files else TOLERANCE
        for k, name in enumerate(model.outputs):
            if not OF_THE_PYTORCH_BACKEND.isdisjoint((name, f"{npz.stem}/{name}")) and "torch" in str(recording["by"]):
                continue
            desired = recording[f"y:{k}"]
            limit = tolerance * np.abs(desired).max()
            np.testing.assert_allclose(found[name], desired, rtol=0, atol=limit, err_msg=name)
