"""One file for every Keras from 3.3 on: older ones know fewer keys, and refuse what they do not know."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lstmconv.formats import keras as keras_format
from lstmconv.formats.options import WriteOptions
from lstmconv.model import Call, Input, Model, Tensor, kinds
from tests.golden.whole.cases import compared
from tests.test_keras_whole import GOLDEN, MODELS, two_dense, written
from tests.test_whole_reading import TOLERANCE, model_of

pytestmark = pytest.mark.usefixtures("trusted_golden_files")

ONLY_LATER = {
    "activations": "celu and its like are new",
    "attention": "return_attention_scores returned no second tensor",
    "mask_attention": "a mask of values was taken as one of queries",
    "multi_head_attention": "queries and values had to have equally many features",
    "conv1d_transpose": "PyTorch backend: an odd kernel with strides and padding same begins one place off",
    "time_distributed_model": "a model inside TimeDistributed had no compute_output_shape",
}
"""Golden models that only a later Keras 3 computes: cases, and what the earlier one has not."""


def config_of(file: Path):
    with zipfile.ZipFile(file) as archive:
        return json.loads(archive.read("config.json"))["config"]


def test_a_single_input_stands_in_a_list_as_keras_3_3_wrote_it(tmp_path):
    genuine = config_of(GOLDEN / "keras-3.3.3" / "gru_classifier.keras")
    assert genuine["input_layers"] == [["tokens", 0, 0]]
    config = config_of(written(two_dense("one", "two"), tmp_path / "model.keras", 3))
    assert config["input_layers"] == [["x", 0, 0]]


@pytest.mark.parametrize(("layer", "named"), [("dense", False), ("mean", True), ("mean_1", True), ("mean_2x", False)])
def test_a_function_with_options_states_its_name_only_where_kerases_own_could_be_a_layers(layer, named, tmp_path):
    """Up to Keras 3.8 such functions take no name, and two things of one name are refused."""
    draw = np.random.default_rng(7)
    dense = kinds.Dense(layer, draw.normal(size=(3, 5)).astype("float32"), None)
    reduce = kinds.Reduce("over_steps", "mean", (1,), keepdims=False)
    calls = (Call(layer, dense, (Tensor("x"),)), Call("over_steps", reduce, (Tensor(layer),)))
    model = Model("m", (Input("x", (None, 7, 3)),), calls, {"y": Tensor("over_steps")})
    config = config_of(written(model, tmp_path / "model.keras", 3))
    (found,) = [entry for entry in config["layers"] if entry["class_name"] == "Mean"]
    assert found["name"] == "over_steps"
    assert found["config"] == {"axis": [1], "keepdims": False} | ({"name": "over_steps"} if named else {})


def trees() -> list[Path]:
    folder = os.environ.get("LSTMCONV_KERAS_3_TREES")
    return sorted(path for path in Path(folder).iterdir() if (path / "keras").is_dir()) if folder else []


@pytest.mark.parametrize("tree", trees() or [None], ids=lambda tree: tree.name if tree else "none")
def test_other_kerases_3_compute_what_keras_computed(tree, tmp_path):
    """Each folder: ``pip install --no-deps --target FOLDER/3.3.3 keras==3.3.3``; what it needs is here."""
    if tree is None:
        pytest.skip("LSTMCONV_KERAS_3_TREES names no folder of installed Kerases")
    files = {}
    for number, (path, npz) in enumerate(MODELS):
        model = model_of(path)
        if keras_format.obstacle_of_model(model, WriteOptions(keras_version=3)) is not None:
            continue
        file = files[path] = written(model, tmp_path / f"{number}.keras", 3)
        with np.load(npz) as golden:
            np.savez(f"{file}.in.npz", **{str(index): golden[f"x:{index}"] for index in range(len(model.inputs))})
    script = Path(__file__).parent / "frameworks" / "load_keras.py"
    environment = {**os.environ, "PYTHONPATH": str(tree), "KERAS_BACKEND": "torch"}
    subprocess.run(
        [sys.executable, str(script), "keras", *map(str, files.values())],
        check=True,
        capture_output=True,
        env=environment,
    )
    for path, npz in MODELS:
        if path not in files or path.stem in ONLY_LATER:
            continue
        case = f"{path.parent.name}/{path.name}"
        outputs = list(model_of(path).outputs)
        with np.load(f"{files[path]}.out.npz") as found, np.load(npz) as golden:
            assert "error" not in found, f"{case}: {found['error']}"
            tolerance = float(golden["tol"]) if "tol" in golden else TOLERANCE
            for index, name in compared(npz, outputs):
                want, got = golden[f"y:{index}"], found[f"y{outputs.index(name)}"]
                limit = tolerance * max(1.0, np.abs(want).max(initial=0))
                np.testing.assert_allclose(got, want, rtol=0, atol=limit, err_msg=f"{case}: {name}")
