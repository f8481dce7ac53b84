"""Keras files whose layers are right and stand in another order, or with something between them."""

from __future__ import annotations

import os
import shutil
import zipfile

os.environ.setdefault("KERAS_BACKEND", "torch")

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import lstmconv
from lstmconv.cli.program import app

keras = pytest.importorskip("keras")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def chain(path, order="ab", *, relu=False, named=None):
    """Save two LSTMs of one size, joined in an order; weights depend on names alone."""
    layers = {}
    for number, name in enumerate("ab"):
        keras.utils.set_random_seed(number)
        layers[name] = keras.layers.LSTM(5, return_sequences=True, name=name)
        layers[name].build((None, None, 5))
    x = y = keras.layers.Input((None, 5), name="x")
    for number, name in enumerate(order):
        y = layers[name](y)
        if relu and number == 0:
            y = keras.layers.Activation("relu", name="act")(y)
    keras.Model(x, y, name="chain").save(path)
    return path


@pytest.fixture
def source(tmp_path):
    return chain(tmp_path / "source.keras")


def test_keras_own_copy_passes_whole(source, tmp_path):
    report = lstmconv.verify(source, chain(tmp_path / "copy.keras"))
    assert report.passed
    assert ("model", "passed") in {(check.level, check.status) for check in report.checks}


@pytest.mark.parametrize("change", [{"relu": True}, {"order": "ba"}])
def test_another_model_of_the_same_layers_fails(change, source, tmp_path):
    report = lstmconv.verify(source, chain(tmp_path / "target.keras", **change))
    assert [check.level for check in report.failures] == ["model"]


@pytest.mark.parametrize(
    ("change", "said"),
    [({"relu": True}, "act (Activate) stands in its graph"), ({"order": "ba"}, "b feeds a in its graph")],
)
def test_a_file_is_held_to_its_own_graph_whatever_its_record_says(change, said, source, tmp_path):
    """The record is that of a right conversion; the model beside it is another one."""
    target = tmp_path / "target.keras"
    lstmconv.convert(source, target, whole=False)
    assert lstmconv.verify(source, target).passed
    other = chain(tmp_path / "other.keras", **change)
    record = _attribute(target)
    _attribute(other, record)
    shutil.move(other, target)
    failures = lstmconv.verify(source, target).failures
    assert [said in check.detail for check in failures] == [True]


@pytest.mark.parametrize("dtype", ["int32", "float16"])
def test_a_file_whose_input_casts_what_it_is_given_fails(dtype, source, tmp_path):
    """Keras casts an array to the dtype of the input: fractions are lost."""
    target = tmp_path / "target.keras"
    lstmconv.convert(source, target, whole=False)
    x = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    right = keras.models.load_model(target).predict(x, verbose=0)

    def cast(config):
        (entry,) = (layer for layer in config["layers"] if layer["class_name"] == "InputLayer")
        entry["config"]["dtype"] = dtype

    _edit(target, cast)
    wrong = keras.models.load_model(target).predict(x, verbose=0)
    assert max(np.abs(one - other).max() for one, other in zip(right, wrong, strict=True)) > 1e-5
    failures = lstmconv.verify(source, target).failures
    assert [f"is {dtype}, expected float32" in check.detail for check in failures] == [True]


def test_a_file_whose_second_layer_takes_the_first_one_s_input_fails(source, tmp_path):
    """Both layers are right, and the record says that one feeds the other; the graph does not."""
    target = tmp_path / "target.keras"
    lstmconv.convert(source, target, whole=False)
    x = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    right = keras.models.load_model(target).predict(x, verbose=0)

    def part(config):
        (entry,) = (layer for layer in config["layers"] if layer["name"] == "b")
        entry["inbound_nodes"][0]["args"][0]["config"]["keras_history"] = ["a_input", 0, 0]
        config["output_layers"] = [["a", 0, 0], ["b", 0, 0]]

    _edit(target, part)
    wrong = keras.models.load_model(target).predict(x, verbose=0)[-1]
    assert np.abs(right - wrong).max() > 0.01
    failures = lstmconv.verify(source, target).failures
    assert ["b takes an input of the model in its graph" in check.detail for check in failures] == [True]


def _edit(path, change):
    """Change the config in a .keras file."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config["config"])
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _attribute(path, text=None):
    """Read the record in a .keras file, or put another's there, with h5py and zipfile alone."""
    import io

    import h5py

    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    buffer = io.BytesIO(members["model.weights.h5"])
    with h5py.File(buffer, "r+") as file:
        if text is None:
            return file.attrs["lstmconv"]
        file.attrs["lstmconv"] = text
    members["model.weights.h5"] = buffer.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return text


def test_convert_prints_its_object_also_when_the_proof_fails(source, tmp_path, monkeypatch):
    from lstmconv.proof.report import Check, Report

    failed = Check("a", "weights", "failed", "the input matrix differs", float("nan"))
    monkeypatch.setattr("lstmconv.proof.verifying.verify_file", lambda *_, **__: Report("m.pt", (failed,)))
    found = CliRunner().invoke(app, ["convert", str(source), str(tmp_path / "m.pt"), "--json"])
    told = json.loads(found.stdout)
    assert found.exit_code == 1
    assert told["paths"] == []
    assert told["reports"][0]["checks"][0]["detail"] == "the input matrix differs"
    assert not (tmp_path / "m.pt").exists()


def test_a_report_draws_weights_whose_range_does_not_fit_their_dtype(source, tmp_path):
    from lstmconv.reporting.scanning import scan_gate, with_histogram

    values = np.array([[-3e38, 3e38], [1e38, 0.0]], np.float32)
    counts = with_histogram(values, scan_gate(values), float(np.abs(values).max())).counts
    assert (counts.sum(), counts[0], counts[-1]) == (4, 1, 1)


def test_the_same_note_about_many_layers_is_one_note(tmp_path):
    x = y = keras.layers.Input((None, 3))
    for number in range(6):
        y = keras.layers.LSTM(3, return_sequences=True, name=f"l{number}")(y)
    keras.Model(x, y).save_weights(tmp_path / "m.weights.h5")
    notes = lstmconv.convert(tmp_path / "m.weights.h5", tmp_path / "m.pt").notes
    assert sum("recurrent activation" in note for note in notes) == 1
    assert any(note.startswith("l0, l1, l2, l3 and 2 more: ") for note in notes)
