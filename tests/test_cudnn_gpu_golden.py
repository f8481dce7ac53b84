"""cuDNN's own offsets and outputs, recorded on a GPU, against lstmconv; and the script that records them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import lstmconv
from lstmconv.formats.cudnn import manifest
from lstmconv.model import Gates, LSTMDirection, LSTMLayer, Stack
from lstmconv.proof.noise import bound, spread, worst_of
from lstmconv.proof.trials import Trial
from lstmconv.runtimes import Inputs, named_outputs
from lstmconv.runtimes.cudnn import precision_on_gpu
from lstmconv.semantics import run_stack
from tests._fake_cudnn import FakeCudnn
from tests.golden import make_cudnn_gpu
from tests.golden.cudnn_api import Cudnn
from tests.golden.make_cudnn_gpu import CASES, MODES, NOISE, record_all

GOLDEN = Path(__file__).parent / "golden" / "cudnn"
RECORDINGS = sorted(GOLDEN.glob("gpu-*.npz"))
NONE = "no recording of cuDNN on a GPU is committed; tests/golden/README.md says how to make one"
EVERY_RECORDING = pytest.mark.parametrize(
    "path", RECORDINGS or [pytest.param(None, marks=pytest.mark.skip(reason=NONE))], ids=lambda path: path and path.stem
)
VERSIONS = {"card": "NVIDIA Fake 1", "torch": "0"}


def cases_in(path):
    """Yield every case of a recording: its name, its entry in the JSON, its arrays."""
    entries = json.loads(path.with_suffix(".json").read_text())["cases"]
    assert entries
    with np.load(path) as recorded:
        for name, entry in entries.items():
            keys = [key for key in recorded if key.startswith(f"{name}|")]
            yield name, entry, {key.split("|")[1]: recorded[key] for key in keys}


def stack_at_cudnns_offsets(entry, arrays):
    """Cut the buffer at cuDNN's own addresses; linLayerID 0..3 are i f g o of W, 4..7 those of R."""
    content, dtype = arrays["weight_space"].tobytes(), arrays["weight_space"].dtype

    def gates(kind, pseudo_layer, first):
        found = []
        for offset, _, _, rows, columns, *_ in arrays[kind][pseudo_layer, first : first + 4].tolist():
            if offset < 0:
                return None
            block = np.frombuffer(content, dtype, rows * columns, offset)
            found.append(block.reshape(rows, columns) if kind == "matrices" else block)
        return Gates(*found)

    ways = 2 if entry["dirMode"] == "CUDNN_BIDIRECTIONAL" else 1
    directions = [
        LSTMDirection(
            *(gates(kind, k, first) for kind in ("matrices", "biases") for first in (0, 4)),
            go_backwards=k % ways == 1,
        )
        for k in range(entry["numLayers"] * ways)
    ]
    pairs = zip(directions[::ways], directions[1::2] if ways == 2 else [None] * len(directions), strict=True)
    return Stack("lstm", tuple(LSTMLayer(f"lstm_{k}", *pair) for k, pair in enumerate(pairs)))


def check_offsets(path):
    for name, entry, arrays in cases_in(path):
        stack = stack_at_cudnns_offsets(entry, arrays)
        described = manifest(stack, MODES[entry["biasMode"]])
        assert {key: described[key] for key in ("biasMode", "dirMode", "dataType")}.items() <= entry.items(), name
        assert described["weightSpaceSize"] == arrays["weight_space_size"], name
        ours = {(p["pseudoLayer"], p["linLayerID"], p["kind"]): (p["offset"], p["shape"]) for p in described["params"]}
        theirs = {}
        for kind, key in (("matrix", "matrices"), ("bias", "biases")):
            for place in np.ndindex(arrays[key].shape[:2]):
                offset, count, one, rows, columns, _, stride, step = arrays[key][place].tolist()
                if offset >= 0:
                    assert (count, one, stride, step) == (3, 1, columns, 1), (name, kind, place)
                    theirs[(*place, kind)] = offset, [rows, columns] if kind == "matrix" else [rows]
        assert ours == theirs, name


def check_packing(path):
    for name, entry, arrays in cases_in(path):
        stack = stack_at_cudnns_offsets(entry, arrays)
        space = lstmconv.to_cudnn(stack, bias_mode=MODES[entry["biasMode"]])
        np.testing.assert_array_equal(space, arrays["weight_space"], err_msg=name)


def check_outputs(path, prefix=""):
    """Compare what was recorded under ``prefix`` with the reference; return the number of cases that have it."""
    compared = 0
    for name, entry, arrays in cases_in(path):
        if prefix and entry["torch"].startswith("not run"):
            continue
        stack = stack_at_cudnns_offsets(entry, arrays)
        states = [arrays[key][k] for k in range(len(stack.directions)) for key in ("hx", "cx")]
        judged = run_stack(stack, arrays["x"], states)
        expected = {"y": judged.outputs[0], "hy": np.stack(judged.states[0::2]), "cy": np.stack(judged.states[1::2])}
        limit = NOISE[arrays["x"].dtype.name]
        for key, value in expected.items():
            found = arrays[prefix + key].astype(np.float64)
            np.testing.assert_allclose(found, value, rtol=0, atol=limit, err_msg=f"{name} {prefix}{key}")
        compared += 1
    return compared


@EVERY_RECORDING
def test_cudnn_on_a_gpu_has_every_offset_where_the_manifest_says(path):
    check_offsets(path)


@EVERY_RECORDING
def test_what_lies_at_cudnns_offsets_packs_to_the_same_bits(path):
    check_packing(path)


@EVERY_RECORDING
def test_cudnn_on_a_gpu_computes_the_reference_from_the_buffer(path):
    assert check_outputs(path)


@EVERY_RECORDING
def test_pytorch_on_a_gpu_computes_the_reference_from_the_buffer(path):
    assert check_outputs(path, "torch_")


@EVERY_RECORDING
def test_what_pytorch_and_cudnn_round_on_a_gpu_is_within_the_noise_of_the_proof(path):
    compared = 0
    for name, entry, arrays in cases_in(path):
        if entry["torch"] != "ran":
            continue
        stack = stack_at_cudnns_offsets(entry, arrays)
        states = tuple(arrays[key][k].astype(float) for k in range(len(stack.directions)) for key in ("hx", "cx"))
        inputs = Inputs(arrays["x"].astype(float), states)
        judged = run_stack(stack, inputs.x, states)
        expected = named_outputs(judged.outputs[:1], judged.states[0::2], judged.states[1::2])
        found = named_outputs([arrays["torch_y"]], arrays["torch_hy"], arrays["torch_cy"])
        trial = Trial(inputs, expected)
        precision = precision_on_gpu(arrays["x"].dtype.name)
        worst = worst_of(found, expected, spread(stack, trial, precision, bound(stack, trial, precision)))
        assert worst.ratio <= 1, (name, worst)
        compared += 1
    assert compared == sum(case.bias_mode == "CUDNN_RNN_DOUBLE_BIAS" for case in CASES)


@EVERY_RECORDING
def test_a_recording_has_every_case_and_says_its_versions(path):
    described = json.loads(path.with_suffix(".json").read_text())
    assert set(described["cases"]) == {case.name for case in CASES}
    assert {"cudnn", "cuda_driver", "card", "torch", "date"} <= described.keys()


# The script, with a stand-in for cuDNN


def run_script(folder, fake, cases=CASES):
    """Run the script on a fake; return the number of cases that differ, and the recording."""
    differing = record_all(Cudnn(fake.library()), cases, "cpu", folder, VERSIONS)
    return differing, folder / "gpu-9.12.34-NVIDIA-Fake-1.npz"


def test_the_script_records_every_case_and_destroys_what_it_made(tmp_path):
    fake = FakeCudnn()
    differing, path = run_script(tmp_path / "new", fake)
    assert differing == 0
    assert fake.made == {}
    assert len(list(cases_in(path))) == 3 * 3 * 2 * 4 * 2
    check_offsets(path)
    check_packing(path)
    assert check_outputs(path) == 144
    described = json.loads(path.with_suffix(".json").read_text())
    assert described["cudnn"] == "9.12.34"
    assert VERSIONS.items() <= described.items()


def test_absent_biases_and_projections_are_recorded_as_absent(tmp_path):
    case = next(case for case in CASES if case.bias_mode == "CUDNN_RNN_SINGLE_REC_BIAS")
    _, path = run_script(tmp_path, FakeCudnn(), [case])
    ((_, _, arrays),) = cases_in(path)
    assert (arrays["matrices"][0, :, 0] >= 0).tolist() == [True] * 8 + [False]
    assert (arrays["biases"][0, :, 0] >= 0).tolist() == [False] * 4 + [True] * 4 + [False]


@pytest.mark.parametrize("bias_mode", MODES)
def test_gates_at_other_places_are_recorded_printed_and_found_again(tmp_path, capsys, bias_mode):
    """As if cuDNN had MIOpen's order i f o g."""
    cases = [case for case in CASES if case.bias_mode == bias_mode and case.hidden_size == 7]
    differing, path = run_script(tmp_path, FakeCudnn([0, 1, 3, 2, 4, 5, 7, 6]), cases)
    assert differing == len(cases) == 12
    printed = capsys.readouterr().out
    assert re.search(
        r"pseudoLayer 0 linLayerID 2 matrix: cuDNN \[588, 3, 1, 7, 7, 49, 7, 1\], lstmconv \[392,", printed
    )
    assert re.search(r"y is \d\.\d+ off, 1e-05 allowed", printed)
    for _, entry, _ in cases_in(path):
        assert any("linLayerID 2 matrix" in line for line in entry["differences"])
        assert any(line.startswith("y is") for line in entry["differences"])
    for check in (check_offsets, check_packing):
        with pytest.raises(AssertionError):
            check(path)


@pytest.mark.parametrize("gates", [(3, 1, 2, 0), (0, 1, 3, 2)])
def test_gates_of_another_meaning_are_recorded_and_found_again(tmp_path, gates):
    """The offsets are right then; only the outputs tell."""
    differing, path = run_script(tmp_path, FakeCudnn(gates=gates), CASES[::5])
    assert differing == len(CASES[::5])
    check_offsets(path)
    check_packing(path)
    with pytest.raises(AssertionError, match=" y"):
        check_outputs(path)


def test_what_pytorch_computes_is_recorded_in_the_order_of_cudnns_states(tmp_path, monkeypatch):
    """The float64 interpreter stands in for PyTorch on a GPU."""
    monkeypatch.setattr(make_cudnn_gpu, "ON_GPU", 0)
    cases = [case for case in CASES if case.hidden_size == 5]
    differing, path = run_script(tmp_path, FakeCudnn(), cases)
    assert differing == 0
    assert check_outputs(path, "torch_") == len(cases) == 48


def test_what_cudnn_refuses_is_recorded_in_its_own_words(tmp_path):
    fake = FakeCudnn(refused="RNNForward")
    differing, path = run_script(tmp_path, fake, CASES[:1])
    ((_, entry, arrays),) = cases_in(path)
    assert differing == 1
    assert fake.made == {}
    assert entry["differences"] == ["cudnnRNNForward: CUDNN_STATUS_BAD_PARAM: so the fake was told"]
    assert "matrices" in arrays
    assert "y" not in arrays


def test_the_script_says_that_there_is_no_gpu(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert make_cudnn_gpu.main([str(tmp_path)]) == 2
    assert "NVIDIA GPU" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
