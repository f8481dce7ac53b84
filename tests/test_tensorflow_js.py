"""TensorFlow.js layers models that tensorflowjs' own converter wrote, against the .h5 of the same models."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import lstmconv
from lstmconv.errors import LstmconvError
from tests.test_tensorflow import assert_same_model, only

GOLDEN = Path(__file__).parent / "golden" / "tensorflow"

pytestmark = pytest.mark.usefixtures("trusted_golden_files")


@pytest.fixture
def made(tmp_path) -> Path:
    with zipfile.ZipFile(GOLDEN / "tfjs-4.22.0.zip") as archive:
        archive.extractall(tmp_path / "made")
    return tmp_path / "made"


@pytest.mark.parametrize("name", ["chain", "nested"])
def test_a_layers_model_in_shards_is_the_model_of_the_h5(made, tmp_path, name):
    expected = lstmconv.load(only(tmp_path, "2.13.1") / name / "model.h5").model
    assert_same_model(lstmconv.load(made / name / "model.json").model, expected)


@pytest.mark.parametrize("name", ["float16", "uint8", "uint16"])
def test_quantized_weights_are_what_tensorflowjs_reads(made, name):
    expected = np.load(made / name / "dequantized.npz")
    found = lstmconv.load(made / name / "model.json")["low"].forward
    for gates, key in ((found.weight_ih, "kernel"), (found.weight_hh, "recurrent_kernel")):
        its = expected[f"low/lstm_cell/{key}"]
        np.testing.assert_array_equal(np.concatenate(list(gates), axis=0).T, its)
        assert its.dtype == np.float32


def manifest(made: Path, change) -> Path:
    path = made / "chain" / "model.json"
    stated = json.loads(path.read_text())
    change(stated, stated["weightsManifest"][0])
    path.write_text(json.dumps(stated))
    return path


BAD = {
    "a file above": (lambda _, group: group["paths"].append("../x.bin"), "not a plain file name"),
    "an absolute file": (lambda _, group: group["paths"].append("/etc/passwd"), "not a plain file name"),
    "a missing file": (lambda _, group: group["paths"].append("x.bin"), "missing beside it"),
    "a file twice": (lambda _, group: group["paths"].append(group["paths"][0]), "twice"),
    "one file less": (lambda _, group: group["paths"].pop(), "cut off"),
    "one weight less": (lambda _, group: group["weights"].pop(), "bytes of weights"),
    "a giant shape": (lambda _, group: group["weights"][0].update(shape=[1 << 40, 1 << 40]), "cut off"),
    "a negative shape": (lambda _, group: group["weights"][0].update(shape=[-1]), "shape"),
    "text": (lambda _, group: group["weights"][0].update(dtype="string"), "dtype"),
    "a name twice": (lambda _, group: group["weights"][1].update(name=group["weights"][0]["name"]), "twice"),
    "a quantization of four bits": (
        lambda _, group: group["weights"][0].update(quantization={"dtype": "uint4"}),
        "quantized",
    ),
    "another layer's name": (
        lambda _, group: group["weights"][0].update(name="x/kernel"),
        "should hold an LSTM of 2 units",
    ),
    "no manifest": (lambda stated, _: stated.pop("weightsManifest"), "without weightsManifest"),
    "a graph model": (lambda stated, _: stated.update(format="graph-model"), "operations and no layers"),
    "a model of Keras 3": (
        lambda stated, _: stated["modelTopology"].update(keras_version="3.3.0"),
        "hard_sigmoid TensorFlow.js computes otherwise",
    ),
}


def test_a_model_of_keras_3_may_be_called_as_the_activation_that_is_refused(made):
    path = made / "chain" / "model.json"
    stated = json.loads(path.read_text().replace('"hard_sigmoid"', '"sigmoid"'))
    stated["modelTopology"].update(keras_version="3.3.0")
    stated["modelTopology"]["model_config"]["config"]["name"] = "hard_sigmoid"
    path.write_text(json.dumps(stated))
    assert lstmconv.load(path).model.name == "hard_sigmoid"


@pytest.mark.parametrize("name", BAD)
def test_a_model_that_lies_is_refused_in_one_line(made, tmp_path, name):
    change, says = BAD[name]
    path = manifest(made, change)
    with pytest.raises(LstmconvError, match=says) as caught:
        lstmconv.convert(path, tmp_path / "out.onnx", whole=True, verify=False)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "out.onnx").exists()


def test_weights_behind_a_link_are_not_followed(made):
    shard = made / "chain" / "group1-shard1of4.bin"
    shard.rename(made / "elsewhere.bin")
    shard.symlink_to(made / "elsewhere.bin")
    with pytest.raises(LstmconvError, match="a symbolic link; not followed"):
        lstmconv.load(made / "chain" / "model.json")
