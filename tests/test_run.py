"""``lstmconv run`` and ``verify --inputs``: a user's own arrays, in order or by name, against real Keras."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import lstmconv
from lstmconv.cli import app
from lstmconv.errors import LstmconvError, TargetExistsError, UnreadableFileError, UnsupportedModelError, UsageError
from lstmconv.proof.own_inputs import beside_drawn
from lstmconv.proof.report import Check, Evidence
from tests.contract.building import make_half, write_h5

GOLDEN = Path("tests/golden/whole/tf-keras-2.21.0")
SAMPLE = Path("sample_weights/airline_passengers.h5")
TOLERANCE = 1e-5
"""Keras computed the golden numbers in float32."""


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Every golden model that is run here, as ONNX and as a state dict."""
    folder = tmp_path_factory.mktemp("converted")
    for name in ("forecaster", "encoder_decoder", "lstm_stateful"):
        lstmconv.convert(GOLDEN / f"{name}.h5", folder, to=["onnx", "torch"], verify=False)
    lstmconv.convert(SAMPLE, folder, to=["onnx", "torch"], verify=False)
    return folder


def invoke(*arguments):
    """Run the command line; an error of ours is raised, as ``main`` turns it into one line and exit code 2."""
    done = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def recorded(name, folder, key="x"):
    """Write a golden model's inputs as .npy files; return their paths."""
    paths = []
    with np.load(GOLDEN / f"{name}.npz") as golden:
        for index in range(sum(each.startswith(f"{key}:") for each in golden)):
            paths.append(folder / f"{key}{index}.npy")
            np.save(paths[-1], golden[f"{key}:{index}"])
    return paths


@pytest.mark.parametrize("name", ["forecaster", "encoder_decoder"])
@pytest.mark.parametrize("suffix", [".h5", ".onnx", ".pt"])
def test_a_file_returns_what_keras_returned(name, suffix, converted, tmp_path):
    file = (GOLDEN if suffix == ".h5" else converted) / f"{name}{suffix}"
    shown = invoke("run", file, *recorded(name, tmp_path), "-o", tmp_path / "y.npz")
    with np.load(GOLDEN / f"{name}.npz") as golden, np.load(tmp_path / "y.npz") as found:
        for index, output in enumerate(golden["outputs"]):
            np.testing.assert_allclose(found[output], golden[f"y:{index}"], rtol=TOLERANCE, atol=TOLERANCE)
            assert f"{found[output].shape} {found[output].dtype}" in shown


@pytest.mark.parametrize("suffix", [".h5", ".pt"])
@pytest.mark.parametrize("name", ["forecaster", "encoder_decoder"])
@pytest.mark.parametrize("framework", ["torch", "onnxruntime"])
def test_a_file_runs_in_the_framework_that_is_asked_for(framework, name, suffix, converted, tmp_path):
    file = (GOLDEN if suffix == ".h5" else converted) / f"{name}{suffix}"
    shown = invoke("run", file, *recorded(name, tmp_path), "-o", tmp_path / "y.npz", "--with", framework)
    assert f"{file.name}: {framework} " in shown
    with np.load(GOLDEN / f"{name}.npz") as golden, np.load(tmp_path / "y.npz") as found:
        for index, output in enumerate(golden["outputs"]):
            assert found[output].dtype == np.float32
            np.testing.assert_allclose(found[output], golden[f"y:{index}"], rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["encoder_decoder", "mask_merges", "lstm_options"])
def test_a_file_of_keras_3_runs_in_keras_and_by_the_reference(name, tmp_path):
    golden = GOLDEN.parent / "keras-3.15.1" / f"{name}.npz"
    paths = []
    with np.load(golden) as recorded:
        for index in range(len(recorded["inputs"])):
            paths.append(tmp_path / f"x{index}.npy")
            np.save(paths[-1], recorded[f"x:{index}"])
        for options, said in ([], "lstmconv's reference"), (["--with", "keras"], "keras 3."):
            shown = invoke("run", golden.with_suffix(".keras"), *paths, "-o", tmp_path / "y.npz", "--force", *options)
            assert said in shown
            with np.load(tmp_path / "y.npz") as found:
                assert len(found) == len(recorded["outputs"])
                for index, output in enumerate(found):
                    np.testing.assert_allclose(found[output], recorded[f"y:{index}"], rtol=TOLERANCE, atol=TOLERANCE)


def test_a_part_of_a_graph_is_not_run_for_the_whole(converted, tmp_path):
    """Of an ONNX model lstmconv knows the LSTM layers alone."""
    np.save(tmp_path / "x.npy", np.zeros((3, 12, 1), "float32"))
    with pytest.raises(UnsupportedModelError, match="its graph is run by onnxruntime alone"):
        invoke("run", converted / "airline_passengers.onnx", tmp_path / "x.npy", "--with", "torch")


def test_a_state_dict_runs_in_keras(converted, tmp_path):
    """As a Keras file that is written for it; the golden numbers are Keras' own."""
    shown = invoke("run", converted / "forecaster.pt", *recorded("forecaster", tmp_path), "-o", tmp_path / "y.npz",
                   "--with", "keras")  # fmt: skip
    assert "forecaster.pt: keras 3." in shown
    with np.load(GOLDEN / "forecaster.npz") as golden, np.load(tmp_path / "y.npz") as found:
        for index, output in enumerate(golden["outputs"]):
            np.testing.assert_allclose(found[output], golden[f"y:{index}"], rtol=TOLERANCE, atol=TOLERANCE)


def test_arrays_of_an_npz_go_by_name_or_in_order(converted, tmp_path):
    words, steps = (np.load(path) for path in recorded("encoder_decoder", tmp_path))
    with np.load(GOLDEN / "encoder_decoder.npz") as golden:
        first, second = golden["inputs"]
    np.savez(tmp_path / "named.npz", **{second: steps, first: words})
    np.savez(tmp_path / "ordered.npz", words, steps)
    returned = []
    for given in ("named", "ordered"):
        invoke("run", converted / "encoder_decoder.onnx", tmp_path / f"{given}.npz", "-o", tmp_path / f"{given}.y.npz")
        returned.append(dict(np.load(tmp_path / f"{given}.y.npz")))
    for name, array in returned[0].items():
        np.testing.assert_array_equal(array, returned[1][name])


def test_states_that_come_out_go_in_again(converted, tmp_path):
    """Keras ran the second batch of a stateful model from where the first ended."""
    file, states = converted / "lstm_stateful.onnx", []
    for key in ("x", "x2"):
        given = recorded("lstm_stateful", tmp_path, key)
        invoke("run", file, *given, *states, "-o", tmp_path / "y.npz", "--force")
        with np.load(tmp_path / "y.npz") as found:
            returned = dict(found)
        states = []
        for name in list(returned)[2:]:
            states.append(tmp_path / f"{name.replace('/', '_')}.npy")
            np.save(states[-1], returned[name])
    with np.load(GOLDEN / "lstm_stateful.npz") as golden:
        for index, output in enumerate(golden["outputs"]):
            np.testing.assert_allclose(returned[output], golden[f"y2:{index}"], rtol=TOLERANCE, atol=TOLERANCE)


def test_json_names_the_framework_and_the_shapes(converted, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((3, 12, 1), "float32"))
    found = json.loads(invoke("run", converted / "airline_passengers.onnx", tmp_path / "x.npy", "--json"))
    assert found["framework"].startswith("onnxruntime ")
    assert found["outputs"] == {"next_month": {"shape": [3, 1], "dtype": "float32"}}
    assert (found["source"], found["path"]) == ("airline_passengers.onnx", None)


def test_a_single_layer_without_a_model_runs_from_zeros(tmp_path):
    x = np.random.default_rng(0).normal(size=(2, 7, 1)).astype("float32")
    np.save(tmp_path / "x.npy", x)
    lstmconv.convert(SAMPLE, tmp_path / "m.pt", whole=False, verify=False)
    invoke("run", tmp_path / "m.pt", tmp_path / "x.npy", "-o", tmp_path / "y.npz")
    layer = replace(lstmconv.load(SAMPLE)["lstm"], return_sequences=True)
    with np.load(tmp_path / "y.npz") as found:
        assert list(found) == ["y", "h0", "c0"]
        np.testing.assert_allclose(found["y"], lstmconv.reference(layer, x), rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ([np.zeros((3, 12, 1))] * 2, r"takes months \(\?, 12, 1\) float32; 2 arrays are given"),
        ([np.zeros((3, 11, 1))], r"months is \(3, 11, 1\), expected \(\?, 12, 1\)"),
        ([np.zeros((3, 12, 1), complex)], "months is complex128, expected float32"),
        ({"nope": np.zeros((3, 12, 1)), "months": np.zeros((3, 12, 1))}, "it has no input nope"),
    ],
)
@pytest.mark.parametrize("suffix", [".h5", ".onnx", ".pt"])
def test_arrays_that_do_not_fit_are_refused(arrays, said, suffix, converted, tmp_path):
    file = SAMPLE if suffix == ".h5" else converted / f"airline_passengers{suffix}"
    paths = [tmp_path / "x.npz"]
    if isinstance(arrays, dict):
        np.savez(paths[0], **arrays)
    else:
        paths = [tmp_path / f"{number}.npy" for number in range(len(arrays))]
        for path, array in zip(paths, arrays, strict=True):
            np.save(path, array)
    with pytest.raises(UsageError, match=said):
        invoke("run", file, *paths, "-o", tmp_path / "y.npz")
    assert not (tmp_path / "y.npz").exists()


def test_files_that_are_no_arrays_are_refused(tmp_path):
    (tmp_path / "t.npy").write_text("hello")
    np.save(tmp_path / "o.npy", np.array(["a"], object), allow_pickle=True)
    for name, said in (("t.npy", "not a .npy"), ("o.npy", "not a .npy"), ("none.npy", "no such file")):
        with pytest.raises(UnreadableFileError, match=said):
            invoke("run", SAMPLE, tmp_path / name)


def test_layers_that_nothing_wires_are_not_run(tmp_path):
    source = write_h5(tmp_path / "s.h5", {"a": [make_half(3, 5, 1)], "b": [make_half(5, 7, 2)]})
    lstmconv.convert(source, tmp_path / "m.pt", whole=False, verify=False)
    np.save(tmp_path / "x.npy", np.zeros((2, 7, 3)))
    with pytest.raises(UnsupportedModelError, match="holds a, b and does not say how they are wired"):
        invoke("run", tmp_path / "m.pt", tmp_path / "x.npy")


def test_outputs_replace_nothing_unasked(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((3, 12, 1)))
    (tmp_path / "y.npz").write_text("precious")
    with pytest.raises(TargetExistsError):
        invoke("run", SAMPLE, tmp_path / "x.npy", "-o", tmp_path / "y.npz")
    assert (tmp_path / "y.npz").read_text() == "precious"
    with pytest.raises(LstmconvError, match=r"written as \.npz"):
        invoke("run", SAMPLE, tmp_path / "x.npy", "-o", tmp_path / "y.txt")


@pytest.mark.parametrize("whole", [None, False])
@pytest.mark.parametrize("suffix", [".onnx", ".pt"])
def test_verify_adds_a_check_on_own_inputs(suffix, whole, tmp_path):
    x = np.random.default_rng(0).normal(size=(2, 12, 1)).astype("float32")
    lstmconv.convert(SAMPLE, tmp_path / f"m{suffix}", whole=whole, verify=False)
    report = lstmconv.verify(SAMPLE, tmp_path / f"m{suffix}", inputs=[x])
    assert report.passed
    assert [check.level for check in report.checks][-2:] == (["outputs"] * 2 if whole is False else ["model"] * 2)
    assert "run on your inputs " in report.checks[-1].detail
    assert "worst of both on " in report.checks[-1].detail
    assert report.checks[-1].evidence.found <= report.checks[-1].evidence.noise


@pytest.mark.parametrize(("suffix", "dtype"), [(".pt", "bfloat16"), (".safetensors", "float16")])
def test_own_inputs_do_not_count_the_rounding_to_half_precision_against_a_file(suffix, dtype, tmp_path):
    """PyTorch runs such a file in float32; its weights are those of the source, rounded once."""
    x = np.random.default_rng(0).normal(size=(2, 12, 1)).astype("float32")
    lstmconv.convert(SAMPLE, tmp_path / f"m{suffix}", dtype=dtype, verify=False)
    report = lstmconv.verify(SAMPLE, tmp_path / f"m{suffix}", inputs=[x])
    assert report.passed
    assert report.checks[-1].evidence.found_ratio < 1


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    """Make a Keras 3 decoder, whose own inputs are called ``initial_h`` and ``initial_c``."""
    import keras

    x, h, c = (
        keras.Input(shape, name=name) for shape, name in (((7, 3), "x"), ((5,), "initial_h"), ((5,), "initial_c"))
    )
    y = keras.layers.LSTM(5, name="lstm")(x, initial_state=[h, c])
    folder = tmp_path_factory.mktemp("decoder")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras', of NumPy.
        keras.Model([x, h, c], y).save(folder / "m.keras")
    lstmconv.convert(folder / "m.keras", folder / "m.onnx", verify=False)
    return folder


@pytest.mark.parametrize("suffix", [".keras", ".onnx"])
def test_inputs_of_the_model_that_are_called_like_states_are_not_zeros_unless_given(suffix, decoder, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((2, 7, 3), "float32"))
    np.savez(tmp_path / "x.npz", x=np.ones((2, 7, 3), "float32"))
    with pytest.raises(UsageError, match=r"initial_h .* 1 array is given"):
        invoke("run", decoder / f"m{suffix}", tmp_path / "x.npy")
    with pytest.raises(UsageError, match=r"initial_h \(\?, 5\) float32, initial_c \(\?, 5\) float32 is not given"):
        invoke("run", decoder / f"m{suffix}", tmp_path / "x.npz")


def checked(ratio):
    """Return a check of outputs as a run on some inputs gives it."""
    evidence = Evidence(ratio, 1.0, "bound", None, None, None, 0, 0, (), (), "y[3, 0]", ratio)
    return Check("m", "model", "passed", "ran", ratio, 1.0, evidence)


def test_the_worst_of_drawn_and_own_inputs_is_named_in_units_of_noise():
    structure = Check("m", "structure", "passed", "1 layer")
    others = [structure, checked(0.4), checked(0.2)]
    assert beside_drawn(checked(0.3), others).detail == "ran · worst of both on the drawn inputs"
    assert beside_drawn(checked(0.5), others).detail == "ran · worst of both on your inputs, at y[3, 0]"
    assert beside_drawn(structure, others) == structure
    assert beside_drawn(checked(0.5), [structure]) == checked(0.5)


def test_own_inputs_fail_where_the_file_computes_something_else(converted, tmp_path):
    checkpoint = lstmconv.load(SAMPLE)
    calls = tuple(
        replace(call, layer=replace(call.layer, bias=call.layer.bias + np.float32(1e-3)))
        if call.name == "next_month"
        else call
        for call in checkpoint.model.calls
    )
    other = replace(checkpoint, model=replace(checkpoint.model, calls=calls))
    np.savez(tmp_path / "x.npz", months=np.zeros((2, 12, 1), "float32"))
    report = lstmconv.verify(other, converted / "airline_passengers.onnx", inputs=dict(np.load(tmp_path / "x.npz")))
    assert report.checks[-1].status == "failed"
    shown = CliRunner().invoke(
        app, ["verify", str(SAMPLE), str(converted / "airline_passengers.onnx"), "--inputs", str(tmp_path / "x.npz")]
    )
    assert shown.exit_code == 0
    assert "run on your inputs months (2, 12, 1)" in shown.stdout
    with pytest.raises(UsageError, match=r"months is \(2, 12\)"):
        lstmconv.verify(SAMPLE, converted / "airline_passengers.onnx", inputs=[np.zeros((2, 12))])
