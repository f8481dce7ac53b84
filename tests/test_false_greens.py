"""What looked right and was not: weights that are not finite, folders that nobody searched, files that nobody read."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

import lstmconv
from lstmconv.cli import app
from lstmconv.formats import open_file
from lstmconv.layouts import LAYOUTS
from lstmconv.proof.graphs import difference_of_namesakes
from lstmconv.proof.pairing import paired
from lstmconv.proof.trials import Settings
from lstmconv.proof.verifying import verify_file
from lstmconv.proof.wiring import check_wiring
from lstmconv.reporting.values import gather
from tests._cases import GOLDEN, fused, lstm_config, random, sequential, write_legacy, write_lstm

TARGETS = (".pt", ".safetensors", ".onnx", ".keras", ".cudnn.safetensors")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    return tmp_path


def put(path, dataset, value, at):
    """Write one number into the only dataset of this name."""
    with h5py.File(path, "r+") as file:
        found = []
        file.visititems(lambda name, item: found.append(item) if name.split("/")[-1].split(":")[0] == dataset else None)
        (item,) = found
        item[at] = value


def classifier(path, head="head", **activations):
    """Write a model of an LSTM and a Dense layer, as Keras 2 does."""
    kernel, recurrent, bias = fused(3, 5)
    options = {"name": head, "units": 2, "activation": "linear", "use_bias": True}
    lstm = lstm_config(units=5, batch_input_shape=[None, 7, 3], return_sequences=False, **activations)
    arrays = {
        "lstm_1": {"lstm_1/kernel:0": kernel, "lstm_1/recurrent_kernel:0": recurrent, "lstm_1/bias:0": bias},
        head: {f"{head}/kernel:0": random((5, 2)), f"{head}/bias:0": random((2,))},
    }
    write_legacy(path, arrays, config=sequential(lstm, {"class_name": "Dense", "config": options}))


def _dense_kernel(file):
    found = []
    file.visititems(lambda name, item: found.append(item) if name.endswith("head/kernel:0") else None)
    return found[0]


def invoke(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


# Weights that are not finite


@pytest.mark.parametrize("suffix", TARGETS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_target_is_written_from_weights_that_are_not_finite(suffix, value, folder):
    write_lstm("model.h5")
    put("model.h5", "recurrent_kernel", value, (3, 7))
    with pytest.raises(lstmconv.NotFiniteError, match=r"lstm_1: 1 (NaN|infinite) of .* at recurrent_kernel\[3, 7\]"):
        lstmconv.convert("model.h5", f"model{suffix}", whole=False)
    assert [each.name for each in folder.iterdir()] == ["model.h5"]


@pytest.mark.parametrize("suffix", [".pt", ".onnx", ".cudnn.safetensors"])
def test_every_target_says_the_same_of_weights_that_are_not_finite(suffix, folder):
    write_lstm("model.h5")
    put("model.h5", "recurrent_kernel", np.nan, (3, 7))
    done = lstmconv.convert("model.h5", f"model{suffix}", whole=False, allow_not_finite=True)
    assert "not finite" in done.notes[0]
    (outputs,) = {check.status for check in done.report.checks if check.level == "outputs"}
    assert outputs == "not run"
    with pytest.raises(lstmconv.VerificationError, match="not finite cannot be compared"):
        lstmconv.verify("model.h5", f"model{suffix}").raise_for_failure()
    assert lstmconv.verify("model.h5", f"model{suffix}", allow_not_finite=True).passed


@pytest.mark.parametrize("suffix", [".pt", ".onnx"])
def test_a_dense_layer_that_is_not_finite_stops_the_whole_model_and_not_its_lstm(suffix, folder):
    classifier("model.h5")
    with h5py.File("model.h5", "r+") as file:
        _dense_kernel(file)[4, 1] = np.nan
    with pytest.raises(lstmconv.NotFiniteError, match=r"head: 1 NaN of 10 numbers, first at kernel\[4, 1\]"):
        lstmconv.convert("model.h5", f"model{suffix}")
    assert lstmconv.convert("model.h5", f"model{suffix}", whole=False).report.complete


def test_the_command_line_needs_an_option_for_weights_that_are_not_finite(folder):
    write_lstm("model.h5")
    put("model.h5", "bias", np.nan, 9)
    refused = invoke("convert", "model.h5", "model.pt")
    assert (refused.exit_code, [each.name for each in folder.iterdir()]) == (
        1,
        ["model.h5"],
    )  # main() makes the error a line, and the code 2.
    assert isinstance(refused.exception, lstmconv.NotFiniteError)
    assert "--allow-not-finite" in str(refused.exception)
    assert invoke("convert", "model.h5", "model.pt", "--allow-not-finite").exit_code == 0
    assert invoke("verify", "model.h5", "model.pt").exit_code == 1
    assert invoke("verify", "model.h5", "model.pt", "--allow-not-finite").exit_code == 0


def test_a_report_does_not_call_files_equal_that_are_not_finite(folder):
    write_lstm("model.h5")
    put("model.h5", "bias", np.nan, 9)
    lstmconv.convert("model.h5", "model.pt", whole=False, allow_not_finite=True)
    values = gather(lstmconv.load("model.h5"), [Path("model.pt")])
    assert (values.passed, values.targets[0].verdict) == (False, "not finite")


@pytest.mark.parametrize("suffix", [".pt", ".onnx"])
def test_the_count_of_a_models_weights_is_the_sources(suffix, folder):
    """4 * 5 * (3 + 5 + 1) of the LSTM and (5 + 1) * 2 of the Dense layer: not the zeros of a second bias."""
    classifier("model.h5")
    report = lstmconv.convert("model.h5", f"model{suffix}", verify=False).report
    (detail,) = [check.detail for check in report.checks if check.level == "weights"]
    assert detail == "192 numbers of 5 arrays are equal bit for bit"


# The hook


def test_a_source_that_is_not_finite_never_overwrites_the_last_good_copy(folder):
    write_lstm("census.h5")
    lstmconv.convert("census.h5", "census.onnx", verify=False)
    put("census.h5", "recurrent_kernel", np.nan, (3, 7))
    for checked in (["census.h5"], ["census.onnx"], ["census.h5", "census.onnx"]):
        found = invoke("check", *checked)
        assert found.exit_code == 1
        assert "run:" not in found.stdout
        assert "keep this file, and restore census.h5" in found.stdout
    first, *_ = lstmconv.check("census.h5")[0].findings
    assert first.rule == "not-finite"
    assert first.message == "1 NaN of 100 numbers, first at recurrent_kernel[3, 7] (gate f)"


def test_a_damaged_target_of_a_source_that_is_not_finite_is_not_to_be_written_again(folder):
    write_lstm("census.h5")
    lstmconv.convert("census.h5", "census.onnx", verify=False)
    put("census.h5", "recurrent_kernel", np.nan, (3, 7))
    Path("census.onnx").write_bytes(b"")
    assert "run:" not in invoke("check", "census.h5", "census.onnx").stdout


def test_where_neither_file_is_finite_nothing_is_called_good(folder):
    write_lstm("census.h5")
    lstmconv.convert("census.h5", "census.onnx", verify=False)
    put("census.h5", "recurrent_kernel", np.nan, (3, 7))
    lstmconv.convert("census.h5", "census.onnx", verify=False, allow_not_finite=True, force=True)
    put("census.h5", "recurrent_kernel", np.nan, (0, 0))
    found = invoke("check", "census.onnx").stdout
    assert "neither is finite" in found
    assert "run:" not in found


def test_a_target_that_is_not_finite_is_written_again_from_its_good_source(folder):
    write_lstm("census.h5")
    good = Path("census.h5").read_bytes()
    put("census.h5", "recurrent_kernel", np.nan, (3, 7))
    lstmconv.convert("census.h5", "census.onnx", verify=False, allow_not_finite=True)
    Path("census.h5").write_bytes(good)
    assert "run: lstmconv convert census.h5 census.onnx --force" in invoke("check", "census.onnx").stdout


@pytest.mark.parametrize("converted", [None, "model.pt", "model.onnx"])
def test_a_dense_layer_that_is_not_finite_fails_the_check(converted, folder):
    classifier("model.h5")
    with h5py.File("model.h5", "r+") as file:
        _dense_kernel(file)[...] = np.nan
    if converted is not None:
        lstmconv.convert("model.h5", converted, verify=False, allow_not_finite=True)
        Path("model.h5").unlink()
    (result,) = lstmconv.check(converted or "model.h5")
    assert (result.status, [one.rule for one in result.findings]) == ("failed", ["not-finite"])
    assert "10 NaN of 10 numbers" in result.findings[0].message


def test_weights_of_a_layer_that_is_called_as_the_files_own_constants_are_checked(folder):
    """The constants of an ONNX file are called ``lstmconv.float32...``; they may be minus infinity."""
    classifier("model.h5", head="lstmconv")
    with h5py.File("model.h5", "r+") as file:
        file["model_weights/lstmconv/lstmconv/kernel:0"][...] = np.nan
    lstmconv.convert("model.h5", "model.onnx", verify=False, allow_not_finite=True)
    Path("model.h5").unlink()
    (result,) = lstmconv.check("model.onnx")
    assert [one.message for one in result.findings] == ["10 NaN of 10 numbers, first at lstmconv.kernel[0, 0]"]


# What is searched


def test_a_folder_stands_for_the_checkpoints_in_it(folder):
    for place in ("a.h5", "deep/er/b.keras", ".hidden/c.h5", "deep/notes.txt"):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        write_lstm(place) if place.endswith(("h5", "keras")) else Path(place).write_text("notes")
    put("a.h5", "bias", np.nan, 0)
    found = [(result.path, result.status) for result in lstmconv.check(".")]
    assert [path for path, _ in found] == ["a.h5", str(Path("deep/er/b.keras"))]
    assert found[0][1] == "failed"
    assert invoke("check", ".").exit_code == 1


def test_a_folder_without_checkpoints_is_an_error(folder):
    Path("docs").mkdir()
    (folder / "docs" / "notes.txt").write_text("notes")
    with pytest.raises(lstmconv.UsageError, match=r"docs: no file in this folder is checked; expected .pt"):
        lstmconv.check("docs")


def test_an_unpacked_keras_folder_is_one_checkpoint(folder):
    with zipfile.ZipFile(GOLDEN / "keras-3.15.1" / "lstm.keras") as archive:
        archive.extractall("models/model.keras")
    found = [(result.path, result.status) for result in lstmconv.check("models")]
    assert found == [(str(Path("models/model.keras")), "passed")]


def test_nothing_but_ignored_files_is_said_as_such(folder):
    Path("README.md").write_text("words")
    found = invoke("check", "README.md")
    assert (found.exit_code, "nothing was checked" in found.stdout) == (0, True)


@pytest.mark.parametrize("path", ["model.h5", Path("model.h5")])
def test_one_path_is_one_file_in_python(path, folder):
    write_lstm("model.h5")
    put("model.h5", "bias", np.nan, 0)
    assert [(result.path, result.status) for result in lstmconv.check(path)] == [("model.h5", "failed")]


# Other targets


@pytest.mark.parametrize("name", ["lstm_cpu.h5", "lstm_gpu.h5"])
def test_a_file_of_keras_1_is_equal_to_itself(name):
    source = GOLDEN / "keras-1.2.2" / name
    assert lstmconv.verify(source, source).passed


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_note_warns_of_strict_false_where_nn_lstm_computes_something_else(suffix, whole, folder):
    classifier("model.h5", recurrent_activation="hard_sigmoid")
    done = lstmconv.convert("model.h5", f"model{suffix}", whole=whole, verify=False)
    (note,) = [note for note in done.notes if "strict=False" in note]
    assert "from lstmconv.torch import LSTM" in note


@pytest.mark.parametrize("row", LAYOUTS, ids=lambda row: row.name)
def test_a_place_is_where_the_file_stores_the_number(row):
    hidden, features = 5, 3
    for pattern in (row.input_matrix, row.recurrent_matrix, row.one_bias):
        shape = pattern.shape(hidden, features)
        alone = "gate" not in pattern.axes
        stored = [np.arange(np.prod(shape)).reshape(shape) + 1000 * k for k in range(4 if alone else 1)]
        gates = pattern.view(stored if alone else stored[0], hidden)
        for gate in "ifgo":
            array = stored[pattern.gates.index(gate) if alone else 0]
            for index, value in np.ndenumerate(getattr(gates, gate)):
                assert array[pattern.stored_index(gate, index, hidden, features)] == value


def told(name, key, value):
    """Return a change of one option of a layer."""

    def change(config):
        layer = next(layer for layer in config["layers"] if layer["name"] == name)
        assert layer["config"][key] != value
        layer["config"][key] = value

    return change


def joined_otherwise(config):
    layer = next(layer for layer in config["layers"] if layer["name"] == "joined")
    layer["inbound_nodes"][0]["args"][0].reverse()


def outputs_exchanged(config):
    config["output_layers"][0], config["output_layers"][2] = config["output_layers"][2], config["output_layers"][0]


def with_config(source, target, change):
    """Return a copy of a .keras file with another config."""
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target, "w") as after:
        for name in before.namelist():
            content = before.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config["config"])
                content = json.dumps(config).encode()
            after.writestr(name, content)
    return target


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (told("hidden", "activation", "tanh"), 'hidden activation name is "tanh", expected "relu"'),
        (told("class", "activation", "sigmoid"), 'class activation name is "sigmoid"'),
        (told("joined", "axis", 1), None),
        (told("read", "zero_output_for_mask", True), "read zero_output_for_mask is true, expected false"),
        (joined_otherwise, "joined inputs"),
        (outputs_exchanged, "its outputs are class, read, price, expected price, read, class"),
    ],
)
def test_what_another_wrote_and_nothing_runs_is_compared_by_what_it_tells(change, said, tmp_path):
    """Its LSTM layers are the source's bit for bit; the difference lies in what Keras does behind them."""
    source = Path("tests/golden/whole/keras-3.3.3/several.keras")
    other = with_config(source, tmp_path / "other.keras", change)
    assert verify_file(lstmconv.load(source), open_file(source), run=False).passed
    report = verify_file(lstmconv.load(source), open_file(other), run=False)
    if said is None:  # The same axis of two.
        assert report.passed
        return
    assert not report.passed
    assert any(said in check.detail for check in report.failures), report.failures


def added_up(config):
    """Add two tensors of equal sizes up, which Concatenate joined along an axis."""
    layer = next(layer for layer in config["layers"] if layer["name"] == "concatenate")
    layer["class_name"] = "Add"
    del layer["config"]["axis"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (told("concatenate", "axis", 1), "concatenate axis is 1, expected 2"),
        (told("concatenate", "axis", 2), None),
        (added_up, 'concatenate kind is "Merge", expected "Concatenate"'),
    ],
)
def test_an_axis_from_the_front_is_compared_with_one_from_the_back(change, said, tmp_path):
    """Both join (batch, 5, 5) with (batch, 5, 5); -1 and 1 were taken for what may be the same."""
    source = Path("tests/golden/whole/keras-3.15.1/merges.keras")
    problem = difference_of_namesakes(
        lstmconv.load(source).model, lstmconv.load(with_config(source, tmp_path / "other.keras", change)).model
    )
    assert problem == said


def computed(source, other):
    """Compare two files of others: both graphs are computed, and Keras runs no layer."""
    checkpoint, target = lstmconv.load(source), open_file(other)
    pairing = paired(checkpoint, None, target.checkpoint)
    return check_wiring(checkpoint, target, pairing, Settings(batch=2, steps=5), run=True)


def test_outputs_in_another_order_are_another_model(tmp_path):
    """Keras returns a list: whoever reads its first entry reads something else."""
    source = Path("tests/golden/whole/keras-3.3.3/several.keras")
    assert computed(source, source).status == "passed"
    check = computed(source, with_config(source, tmp_path / "other.keras", outputs_exchanged))
    assert (check.status, check.detail) == ("failed", "its outputs are class, read, price, expected price, read, class")


def test_a_mask_value_that_no_drawn_input_has_is_told_apart(tmp_path):
    """The layers behind get the mask that Keras 3.15 states beside: Masking itself only sets such steps to zero."""
    source = Path("tests/golden/whole/keras-3.15.1/mask_lstm.keras")
    config = json.loads(zipfile.ZipFile(source).read("config.json"))["config"]
    name = next(layer["name"] for layer in config["layers"] if layer["class_name"] == "Masking")
    check = computed(source, with_config(source, tmp_path / "other.keras", told(name, "mask_value", 0.123)))
    assert check.status == "failed"
    assert "value is 0.123" in check.detail


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    ("expected", "found"),
    [(("first",), ("first",)), ((), ("first",)), (("first",), ()), (("first",), ("second",))],
)
def test_a_state_that_a_model_keeps_from_batch_to_batch_is_told_apart(expected, found, tmp_path):
    """The first batch starts from zeros in either model."""
    draw = np.random.default_rng(8)
    x = draw.normal(size=(3, 5, 2)).astype("float32")
    keras = pytest.importorskip("keras")
    weights, paths, outputs = None, [], []
    for stateful in (expected, found):
        start = keras.Input(batch_shape=(3, 5, 2))
        tensor = keras.layers.LSTM(7, return_sequences=True, stateful="first" in stateful, name="first")(start)
        end = keras.layers.LSTM(7, stateful="second" in stateful, name="second")(tensor)
        model = keras.Model(start, end, name="model")
        weights = weights or [draw.normal(0, 0.5, array.shape) for array in model.get_weights()]
        model.set_weights(weights)
        outputs.append([np.asarray(model(x).detach()) for _ in range(2)])
        paths.append(tmp_path / f"{len(paths)}.keras")
        model.save(paths[-1])
    np.testing.assert_array_equal(outputs[0][0], outputs[1][0])
    same = bool(np.array_equal(outputs[0][1], outputs[1][1]))
    assert same == (expected == found)
    assert (computed(*paths).status == "passed") == same


def test_a_dense_array_of_what_another_wrote_is_compared_where_nothing_runs(tmp_path):
    source = Path("tests/golden/whole/keras-3.3.3/several.keras")
    other = tmp_path / "other.keras"
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(other, "w") as after:
        for name in before.namelist():
            content = before.read(name)
            if name == "model.weights.h5":
                file = tmp_path / "weights.h5"
                file.write_bytes(content)
                with h5py.File(file, "r+") as opened:
                    kernel = opened["layers/dense_1/vars/0"]
                    kernel[2, 0] += 1
                content = file.read_bytes()
            after.writestr(name, content)
    report = verify_file(lstmconv.load(source), open_file(other), run=False)
    assert [check.detail for check in report.failures] == ["price kernel differs in 1 of 4 numbers"]
