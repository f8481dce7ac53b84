"""``np.savez`` of weights: taken in the order of the Keras that wrote them, or named for what they are.

The arrays are ``model.get_weights()`` of genuine Keras (tests/golden/get_weights); the ``.h5`` of the same model, which
names its arrays, is the judge.
"""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile

import numpy as np
import pytest

import lstmconv
from lstmconv.errors import LstmconvError, NoLSTMError, UnreadableFileError, UnsupportedModelError
from tests._cases import GOLDEN

MODELS = GOLDEN / "get_weights"
NAMES = sorted(path.stem for path in MODELS.glob("*.npz"))


def halves(checkpoint):
    return [half for layer in checkpoint.layers for half in layer.directions]


def assert_same_model(found, expected):
    assert [layer.name for layer in found.layers] == [layer.name for layer in expected.layers]
    for one, other in zip(halves(found), halves(expected), strict=True):
        for gates, wanted in zip(
            (one.weight_ih, one.weight_hh, one.bias_ih), (other.weight_ih, other.weight_hh, other.bias_ih), strict=True
        ):
            np.testing.assert_array_equal(gates.i, wanted.i)
            np.testing.assert_array_equal(gates.o, wanted.o)
    for call, wanted in zip(found.model.calls, expected.model.calls, strict=True):
        for key, array in getattr(call.layer, "arrays", {}).items():
            np.testing.assert_array_equal(array, wanted.layer.arrays[key])


def test_every_generation_of_keras_is_there():
    assert {name.partition("-")[0] for name in NAMES} == {"keras", "tf"}
    assert len(NAMES) >= 4


@pytest.mark.parametrize("name", NAMES)
def test_weights_without_names_are_taken_in_the_order_of_their_keras(name):
    source = MODELS / f"{name}.h5"
    found = lstmconv.load(MODELS / f"{name}.npz", config=source)
    assert_same_model(found, lstmconv.load(source))
    assert found.notes[0].endswith("taken in the order of model.get_weights()")


def test_a_whole_model_converts_from_weights_without_names(tmp_path):
    source = MODELS / "keras-3.15.1.h5"
    done = lstmconv.convert(MODELS / "keras-3.15.1.npz", tmp_path / "m.onnx", config=source, whole=True)
    assert done.report.passed
    assert lstmconv.verify(source, tmp_path / "m.onnx").passed


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "deflated"])
def test_arrays_of_any_order_are_read(tmp_path, save):
    with np.load(MODELS / "keras-3.15.1.npz") as file:
        arrays = [file[key] for key in file.files]
    save(tmp_path / "m.npz", *[np.asfortranarray(array).astype(">f4") for array in arrays])
    source = MODELS / "keras-3.15.1.h5"
    assert_same_model(lstmconv.load(tmp_path / "m.npz", config=source), lstmconv.load(source))


def test_without_a_config_the_option_is_named():
    with pytest.raises(NoLSTMError) as error:
        lstmconv.load(MODELS / "keras-3.15.1.npz")
    assert str(error.value) == (
        "keras-3.15.1.npz: 25 NumPy arrays without names ((3, 12), (3, 12), (12,), (3, 12) and 21 more); if they are "
        "model.get_weights(), pass config with the model's to_json(), or a file that has it"
    )


def config_without_version(tmp_path, name):
    import h5py

    with h5py.File(MODELS / f"{name}.h5") as file:
        config = json.loads(file.attrs["model_config"])
    config.pop("keras_version", None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path / "config.json"


def test_a_config_that_does_not_tell_its_keras_is_refused_where_their_orders_differ(tmp_path):
    config = config_without_version(tmp_path, "keras-2.2.4")
    with pytest.raises(UnsupportedModelError, match="versions of Keras order them differently"):
        lstmconv.load(MODELS / "keras-2.2.4.npz", config=config)


@pytest.mark.parametrize("frozen", ["layer", "backward_layer"])
@pytest.mark.parametrize("name", ["tf-keras-2.21.0", "keras-3.15.1"])
def test_a_half_that_the_config_calls_frozen_alone_is_refused_where_keras_2_wrote_it(tmp_path, name, frozen):
    """Of LSTM(4, trainable=False) as the forward half tf-keras 2.21 lists the arrays first; frozen later, last."""
    import h5py

    with h5py.File(MODELS / f"{name}.h5") as file:
        config = json.loads(file.attrs["model_config"])
        config["keras_version"] = file.attrs["keras_version"]
    both = next(layer["config"] for layer in config["config"]["layers"] if layer["class_name"] == "Bidirectional")
    both.setdefault("backward_layer", json.loads(json.dumps(both["layer"])))["config"]["go_backwards"] = True
    both[frozen]["config"]["trainable"] = False
    (tmp_path / "config.json").write_text(json.dumps(config))
    if name.startswith("keras-3"):
        found = lstmconv.load(MODELS / f"{name}.npz", config=tmp_path / "config.json")
        assert_same_model(found, lstmconv.load(MODELS / f"{name}.h5"))
        return
    with pytest.raises(UnsupportedModelError, match=r"one part of '.*' is frozen and another is not"):
        lstmconv.load(MODELS / f"{name}.npz", config=tmp_path / "config.json")


def test_weights_of_another_model_are_refused(tmp_path):
    with np.load(MODELS / "keras-3.15.1.npz") as file:
        np.savez(tmp_path / "m.npz", *[file[key] for key in file.files[:-1]])
    with pytest.raises(UnsupportedModelError, match="its layers have 25 arrays, the file 24"):
        lstmconv.load(tmp_path / "m.npz", config=MODELS / "keras-3.15.1.h5")


def test_weights_in_another_order_do_not_fit(tmp_path):
    with np.load(MODELS / "keras-3.15.1.npz") as file:
        np.savez(tmp_path / "m.npz", *[file[key] for key in reversed(file.files)])
    with pytest.raises(LstmconvError, match="should hold an LSTM of 3 units"):
        lstmconv.load(tmp_path / "m.npz", config=MODELS / "keras-3.15.1.h5")


def test_arrays_of_objects_are_never_loaded(tmp_path):
    np.savez(tmp_path / "m.npz", np.array([np.ones(2), None], dtype=object))
    with pytest.raises(NoLSTMError, match=r"'arr_0' is an array of objects.*never loaded.*np.savez\(path, \*arrays\)"):
        lstmconv.load(tmp_path / "m.npz", config=MODELS / "keras-3.15.1.h5")


def npz(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npy(array, **header):
    content = io.BytesIO()
    described = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape, **header}
    np.lib.format.write_array_header_1_0(content, described)
    return content.getvalue() + array.tobytes()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x09\x00" + bytes(100),
        npy(np.ones(4), shape=(5,)),
        npy(np.ones(4), shape=(1 << 50,)),
        npy(np.ones(4), shape=(-4,)),
        npy(np.ones(4), shape=(1,) * 40),
        npy(np.ones(4))[:-1],
        b"\x93NUMPY\x01\x00\x40\x00" + b"(" * 64,
        b"\x93NUMPY\x01\x00\x10\x27" + b"[" * 10_000,
    ],
)
def test_damaged_arrays_are_one_line(tmp_path, content):
    path = npz(tmp_path / "m.npz", arr_0=content)
    with pytest.raises(UnreadableFileError, match="a damaged NumPy archive") as error:
        lstmconv.load(path, config=MODELS / "keras-3.15.1.h5")
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pickle.dumps([np.ones(2)]), r"a Python pickle, which is never loaded.*np\.savez"),
        (b"<!DOCTYPE html>\n<html>", "an HTML or XML page.*download the file itself"),
        (b"\x1f\x8b\x08" + bytes(600), "compressed with gzip.*gunzip"),
        (b"binf" + bytes(600), "an XGBoost model.*only LSTM layers convert"),
        (b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner" + bytes(600), "an XGBoost model"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", "a Git LFS pointer.*git lfs pull"),
        (npy(np.ones(4)), "one NumPy array"),
    ],
)
def test_what_lies_in_a_models_place_is_named(tmp_path, content, said):
    (tmp_path / "model.h5").write_bytes(content)
    with pytest.raises(LstmconvError, match=said):
        lstmconv.load(tmp_path / "model.h5")


def test_a_zip_that_is_no_keras_file_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.h5", "w") as archive:
        archive.writestr("notes.txt", "x")
    with pytest.raises(UnreadableFileError, match=r"a zip without model.weights.h5 \(it holds 'notes.txt'\)"):
        lstmconv.load(tmp_path / "a.h5")
    shutil.copy(MODELS / "keras-3.15.1.h5", tmp_path / "inner.h5")
    with zipfile.ZipFile(tmp_path / "b.h5", "w") as archive:
        archive.write(tmp_path / "inner.h5", "inner.h5")
    with pytest.raises(UnreadableFileError, match=r"a zip that holds 'inner\.h5'; unzip it"):
        lstmconv.load(tmp_path / "b.h5")
