"""The contract: the same promises, kept by every format that is written."""

from __future__ import annotations

import hashlib
import json
import mmap
import zipfile

import numpy as np
import onnx
import pytest
import safetensors
import safetensors.numpy
import torch
from onnx import numpy_helper

import lstmconv
from lstmconv.activations import HARD_SIGMOID_KERAS_2, HARD_SIGMOID_KERAS_3, SIGMOID
from lstmconv.errors import LstmconvError, UnreadableFileError, UnsupportedModelError, UsageError
from lstmconv.formats import TARGETS
from lstmconv.proof.report import VerificationError
from tests.contract.building import make_checkpoint, make_half, make_halves, make_layer, write_h5

SUFFIXES = {
    "torch": ".pt",
    "safetensors": ".safetensors",
    "onnx": ".onnx",
    "cudnn": ".cudnn.safetensors",
    "cudnn-raw": ".cudnn.bin",
}
HIDDEN, FEATURES = 5, 3


def test_the_contract_covers_every_format_that_is_written():
    """Keras files and PyTorch source keep theirs in test_pairs.py, test_keras_target.py and test_torch_code.py."""
    known = {entry.name for entry in TARGETS}
    assert known == {name.removesuffix("-raw") for name in SUFFIXES} | {"keras", "keras-cudnn", "torch-code"}


@pytest.fixture(params=SUFFIXES)
def target(request, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / f"model{SUFFIXES[request.param]}"


@pytest.fixture(params=["torch", "safetensors", "onnx"])
def whole_target(request, tmp_path):
    """Return a file of each format that holds a whole model."""
    return tmp_path / f"model{SUFFIXES[request.param]}"


@pytest.fixture
def source(tmp_path):
    return write_h5(tmp_path / "model.h5", {"first": [make_half(3, 5, 1)], "second": make_halves(5, 7, 2)})


def noted(path):
    """Return the provenance, read with the format's own library."""
    if path.suffix == ".pt":
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("archive/extra/lstmconv.json"))
    if path.suffix == ".onnx":
        return json.loads({entry.key: entry.value for entry in onnx.load(path).metadata_props}["lstmconv"])
    if path.suffix == ".bin":
        return json.loads(path.with_suffix(".json").read_text())["lstmconv"]
    with safetensors.safe_open(path, "np") as file:
        return json.loads(file.metadata()["lstmconv"])


# What is written


def test_a_written_file_is_proved(source, target):
    result = lstmconv.convert(source, target, whole=False)
    assert result.paths[0] == target
    levels = {(check.layer, check.level) for check in result.report.checks if check.status == "passed"}
    assert levels == {(name, level) for name in ("first", "second") for level in ("structure", "weights", "outputs")}
    assert lstmconv.verify(source, target).passed


def test_a_written_whole_model_is_proved(source, whole_target):
    result = lstmconv.convert(source, whole_target, whole=True)
    levels = {(check.layer, check.level) for check in result.report.checks if check.status == "passed"}
    assert levels == {("sequential", level) for level in ("structure", "weights", "model")}
    assert lstmconv.verify(source, whole_target).passed
    assert noted(whole_target)["scope"] == "whole"


def test_provenance_names_the_source_its_hash_and_the_version(source, target):
    lstmconv.convert(source, target, verify=False)
    found = noted(target)
    assert found["source"] == "model.h5"
    assert found["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert found["version"] == lstmconv.__version__
    assert found["keras_version"] == "2.15.0"
    assert [entry["name"] for entry in found["layers"]] == ["first", "second"]
    assert found["layers"][0]["directions"][0]["recurrent_activation"] == {"name": "sigmoid"}


def test_the_same_input_gives_the_same_bytes(source, target):
    first = [path.read_bytes() for path in lstmconv.convert(source, target, verify=False).paths]
    again = [path.read_bytes() for path in lstmconv.convert(source, target, verify=False, force=True).paths]
    assert first == again


def test_nothing_of_the_machine_or_the_moment_is_in_the_file(source, target, tmp_path):
    for path in lstmconv.convert(source, target, verify=False).paths:
        assert str(tmp_path).encode() not in path.read_bytes()


def test_unknown_activations_are_refused_before_anything_is_written(target):
    half = make_half(recurrent_activation=None)
    checkpoint = make_checkpoint(make_layer(half), unknown="nobody knows the activations")
    with pytest.raises(UnsupportedModelError, match="nobody knows"):
        lstmconv.save(checkpoint, target)
    assert list(target.parent.iterdir()) == []


def test_a_dtype_that_no_format_holds_is_refused(source, target):
    with pytest.raises(UsageError, match="int8"):
        lstmconv.convert(source, target, dtype="int8")
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_another_dtype_is_proved(source, target, dtype):
    result = lstmconv.convert(source, target, dtype=dtype)
    assert dtype in next(check.detail for check in result.report.checks if check.level == "structure")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_a_source_of_another_dtype_is_proved(target, dtype):
    import ml_dtypes

    element = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    checkpoint = make_checkpoint(make_layer(*make_halves(3, 5, dtype=element)))
    lstmconv.save(checkpoint, target)
    report = lstmconv.verify(checkpoint, target)
    report.raise_for_failure()
    assert report.passed


@pytest.mark.parametrize(("features", "hidden"), [(1, 1), (5, 5), (7, 1), (1, 7), (13, 11)])
@pytest.mark.parametrize("bias", [True, False])
def test_every_size_is_proved(target, features, hidden, bias):
    checkpoint = make_checkpoint(make_layer(*make_halves(features, hidden, bias=bias)))
    lstmconv.save(checkpoint, target)
    lstmconv.verify(checkpoint, target).raise_for_failure()


@pytest.mark.parametrize("name", ["lstm", "a/b", "a.b", "лстм 1", "lstm_1_2", "x"])
def test_every_layer_name_is_proved(target, name):
    checkpoint = make_checkpoint(make_layer(make_half(), name=name), make_layer(make_half(seed=3), name="lstm_1"))
    lstmconv.save(checkpoint, target)
    report = lstmconv.verify(checkpoint, target)
    report.raise_for_failure()
    assert {check.layer for check in report.checks} == {name, "lstm_1"}


def test_weights_are_views_into_the_mapped_source_and_not_copies(source):
    checkpoint = lstmconv.load(source)
    content = np.memmap(source, np.uint8, "r")
    for layer in checkpoint.layers:
        for direction in layer.directions:
            for gates in direction.arrays.values():
                for gate in gates:
                    base = gate
                    while isinstance(base, np.ndarray) and base.base is not None:
                        base = base.base
                    assert isinstance(base, mmap.mmap)
                    assert not gate.flags.writeable
    first = checkpoint.layers[0].forward.weight_ih.i
    raw = np.ascontiguousarray(first.T[0]).tobytes()
    assert raw in content.tobytes()


# What the proof finds: the file is rewritten with the format's own library


def arrays_of(path):
    """Return {name: array} of every stored tensor that is a weight, and a function that writes them back."""
    if path.suffix == ".pt":
        state = torch.load(path, weights_only=True)
        note = noted(path)

        def save(arrays):
            tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}
            with path.open("wb") as file:  # Given a path, torch.save names the archive's folder after it.
                torch.save(tensors, file)
            with zipfile.ZipFile(path, "a") as archive:
                archive.writestr("archive/extra/lstmconv.json", json.dumps(note))

        return {name: value.numpy() for name, value in state.items()}, save
    if path.suffix == ".onnx":
        model = onnx.load(path)
        stored = {entry.name: numpy_helper.to_array(entry).copy() for entry in model.graph.initializer}

        def save(arrays):
            for entry in model.graph.initializer:
                if entry.name in arrays:
                    entry.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(arrays[entry.name]), entry.name))
            missing = set(stored) - set(arrays)
            for node in model.graph.node:
                inputs = ["" if name in missing else name for name in node.input]
                del node.input[:]
                node.input.extend(inputs)
            onnx.save(model, path)

        return stored, save
    if path.suffix == ".bin":

        def save(arrays):
            path.write_bytes(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays.values()))

        return {"lstm": np.frombuffer(path.read_bytes(), np.float32).copy()}, save
    with safetensors.safe_open(path, "np") as file:
        metadata = file.metadata()
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    def save(arrays):
        whole = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
        safetensors.numpy.save_file(whole, path, metadata)

    return stored, save


def places(path, arrays):
    """Return {part: (array, its slice as rows of gates)}: where each array of a Bidirectional layer lies."""
    found = {}
    if path.name.endswith((".cudnn.safetensors", ".bin")):
        flat, start = arrays["lstm"], 0
        h = HIDDEN
        for half in ("forward ", "backward "):
            for part, width in (("input matrix", FEATURES), ("recurrent matrix", h)):
                found[half + part] = flat[start : start + 4 * h * width].reshape(4, h * width)
                start += 4 * h * width
        for half in ("forward ", "backward "):
            for part in ("input bias", "recurrent bias"):
                found[half + part] = flat[start : start + 4 * h].reshape(4, h)
                start += 4 * h
        return found
    for index, half in enumerate(("forward ", "backward ")):
        if path.suffix == ".onnx":
            rows = {name: arrays[f"lstm.{name}"][index] for name in "WRB"}
            found[half + "input matrix"] = rows["W"].reshape(4, -1)
            found[half + "recurrent matrix"] = rows["R"].reshape(4, -1)
            found[half + "input bias"] = rows["B"][: 4 * HIDDEN].reshape(4, HIDDEN)
            found[half + "recurrent bias"] = rows["B"][4 * HIDDEN :].reshape(4, HIDDEN)
        else:
            end = "_l0_reverse" if index else "_l0"
            names = {"weight_ih": "input matrix", "weight_hh": "recurrent matrix"}
            names |= {"bias_ih": "input bias", "bias_hh": "recurrent bias"}
            for name, part in names.items():
                found[half + part] = arrays[f"lstm.{name}{end}"].reshape(4, -1)
    return found


@pytest.fixture
def written(target):
    checkpoint = make_checkpoint(make_layer(*make_halves(FEATURES, HIDDEN)))
    lstmconv.save(checkpoint, target)
    arrays, save = arrays_of(target)
    arrays = {name: value.copy() for name, value in arrays.items()}
    return checkpoint, target, arrays, save


def failed_details(checkpoint, target):
    report = lstmconv.verify(checkpoint, target)
    assert not report.passed
    with pytest.raises(VerificationError) as caught:
        report.raise_for_failure()
    assert "lstm" in str(caught.value)
    return [check.detail for check in report.failures if check.level == "weights"]


def test_a_file_rewritten_unchanged_still_passes(written):
    """The counterpart of the mutations below: rewriting alone breaks nothing."""
    checkpoint, target, arrays, save = written
    save(arrays)
    assert lstmconv.verify(checkpoint, target).passed


@pytest.mark.parametrize(
    ("part", "gates"),
    [
        ("forward input matrix", (0, 1)),
        ("forward input matrix", (2, 3)),
        ("forward recurrent matrix", (1, 2)),
        ("forward recurrent matrix", (0, 3)),
        ("forward input bias", (0, 1)),
        ("forward input bias", (2, 3)),
        ("backward input matrix", (1, 2)),
        ("backward input matrix", (0, 3)),
        ("backward recurrent matrix", (0, 1)),
        ("backward recurrent matrix", (2, 3)),
        ("backward input bias", (1, 2)),
        ("backward input bias", (0, 3)),
    ],
)
def test_two_exchanged_gates_are_found_and_the_array_named(written, part, gates):
    """Four pairs of gates in each kind of array, in both halves."""
    checkpoint, target, arrays, save = written
    rows = places(target, arrays)[part]
    rows[list(gates)] = rows[list(gates[::-1])]
    save(arrays)
    details = failed_details(checkpoint, target)
    assert len(details) == 1
    assert f"the {part}" in details[0]


@pytest.mark.parametrize("half", ["forward ", "backward "])
def test_a_bias_of_zeros_is_found_and_named(written, half):
    checkpoint, target, arrays, save = written
    places(target, arrays)[f"{half}input bias"][:] = 0
    save(arrays)
    assert f"the {half}input bias" in failed_details(checkpoint, target)[0]


@pytest.mark.parametrize("half", ["forward ", "backward "])
def test_trap_9_a_doubled_bias_is_found_and_named(written, half):
    checkpoint, target, arrays, save = written
    parts = places(target, arrays)
    parts[f"{half}recurrent bias"][:] = parts[f"{half}input bias"]
    save(arrays)
    assert f"the {half}recurrent bias" in failed_details(checkpoint, target)[0]


@pytest.mark.parametrize("part", ["input matrix", "recurrent matrix", "input bias"])
def test_exchanged_directions_are_found_and_named(written, part):
    checkpoint, target, arrays, save = written
    parts = places(target, arrays)
    forward, backward = parts[f"forward {part}"], parts[f"backward {part}"]
    kept = forward.copy()
    forward[:], backward[:] = backward, kept
    save(arrays)
    assert f"the forward {part}" in failed_details(checkpoint, target)[0]


@pytest.mark.parametrize("part", ["input matrix", "recurrent matrix", "input bias", "recurrent bias"])
def test_one_flipped_bit_is_found_and_its_place_named(written, part):
    checkpoint, target, arrays, save = written
    rows = places(target, arrays)[f"backward {part}"]
    rows.view(np.uint32)[2, 1] ^= 1
    save(arrays)
    assert f"the backward {part} differs in 1 of" in failed_details(checkpoint, target)[0]


def test_a_dropped_bias_is_found_and_named(written):
    checkpoint, target, arrays, save = written
    if target.name.endswith((".cudnn.safetensors", ".bin")):
        arrays["lstm"] = arrays["lstm"][: -4 * 4 * HIDDEN]
        save(arrays)
        with pytest.raises(LstmconvError):
            lstmconv.verify(checkpoint, target)
        return
    for name in [name for name in arrays if "bias" in name or name == "lstm.B"]:
        del arrays[name]
    save(arrays)
    if target.name.endswith((".pt", ".safetensors")):  # The record says that there are biases: neither is believed.
        with pytest.raises(UnreadableFileError, match="lstmconv's record in it describes other weights"):
            lstmconv.verify(checkpoint, target)
        return
    assert "the forward input bias is missing" in failed_details(checkpoint, target)[0]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_lost_extra_state_is_refused(tmp_path, suffix):
    target = tmp_path / f"m{suffix}"
    checkpoint = make_checkpoint(make_layer(make_half(recurrent_activation=HARD_SIGMOID_KERAS_2)))
    lstmconv.save(checkpoint, target)
    arrays, save = arrays_of(target)
    del arrays["lstm._extra_state"]
    save(arrays)
    with pytest.raises(UnreadableFileError, match=r"'lstm\._extra_state' is missing"):
        lstmconv.verify(checkpoint, target)


@pytest.mark.parametrize("name", ["torch", "safetensors", "onnx"])
@pytest.mark.parametrize("other", [SIGMOID, HARD_SIGMOID_KERAS_3])
def test_another_activation_is_found_by_what_the_file_says_and_by_the_outputs(tmp_path, name, other):
    """The weights are equal: the file names its function, and running it shows that it is another."""
    target = tmp_path / f"m{SUFFIXES[name]}"
    lstmconv.save(make_checkpoint(make_layer(make_half(recurrent_activation=other))), target)
    checkpoint = make_checkpoint(make_layer(make_half(recurrent_activation=HARD_SIGMOID_KERAS_2)))
    failures = lstmconv.verify(checkpoint, target).failures
    assert [check.level for check in failures] == ["structure", "outputs"]
    wanted = HARD_SIGMOID_KERAS_2
    assert (
        failures[0].detail
        == f"lstm has the recurrent activation {other}, the source has the recurrent activation {wanted}"
    )


def test_a_file_of_another_size_fails_by_its_structure(target):
    lstmconv.save(make_checkpoint(make_layer(make_half(3, 7))), target)
    report = lstmconv.verify(make_checkpoint(make_layer(make_half(3, 5))), target)
    assert [check.level for check in report.failures] == ["structure"]
    assert "(4, 7, 3), expected (4, 5, 3)" in report.failures[0].detail


def test_a_file_of_other_layers_is_refused(target):
    lstmconv.save(make_checkpoint(make_layer(make_half(), name="other")), target)
    with pytest.raises(UsageError, match=r"made from the layers \['other'\]"):
        lstmconv.verify(make_checkpoint(make_layer(make_half())), target)


# Damage


@pytest.mark.parametrize("cut", [0, 1, 7, 100, 0.5, -1])
def test_a_truncated_target_is_one_error_of_ours(target, cut):
    checkpoint = make_checkpoint(make_layer(make_half(11, 13)))
    paths = lstmconv.save(checkpoint, target)
    content = paths[0].read_bytes()
    target.write_bytes(content[: int(len(content) * cut) if isinstance(cut, float) else cut])
    with pytest.raises(LstmconvError) as caught:
        lstmconv.verify(checkpoint, target).raise_for_failure()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("garbage", [b"\0" * 500, b"\xff" * 500, b"PK\x03\x04" + b"x" * 500, b"{}", b"\x80\x02}."])
def test_garbage_for_a_target_is_one_error_of_ours(target, garbage):
    checkpoint = make_checkpoint(make_layer(make_half(11, 13)))
    lstmconv.save(checkpoint, target)
    target.write_bytes(garbage)
    with pytest.raises(LstmconvError) as caught:
        lstmconv.verify(checkpoint, target).raise_for_failure()
    assert "\n" not in str(caught.value)


def test_damage_anywhere_in_a_target_never_gives_another_kind_of_error(target):
    checkpoint = make_checkpoint(make_layer(make_half(2, 3)))
    paths = lstmconv.save(checkpoint, target)
    random = np.random.default_rng(0)
    originals = {path: path.read_bytes() for path in paths}
    for round_ in range(60):
        path = paths[round_ % len(paths)]
        damaged = bytearray(originals[path])
        place = int(random.integers(len(damaged)))
        value = int(random.integers(256))
        damaged[place] = value if value != ord("r") else 0
        path.write_bytes(damaged)
        try:
            lstmconv.verify(checkpoint, target)
        except LstmconvError:
            pass
        finally:
            path.write_bytes(originals[path])


@pytest.mark.parametrize(
    "change",
    [
        lambda note: note.pop("bias_mode"),
        lambda note: note.pop("layers"),
        lambda note: note.pop("prefix"),
        lambda note: note.update(bias_mode="sideways"),
        lambda note: note.update(layers=None),
        lambda note: note.update(layers=[]),
        lambda note: note.update(layers=[{}]),
        lambda note: note.update(layers=[{"name": "x", "source": "lstm", "directions": []}]),
    ],
    ids=["no mode", "no layers", "no prefix", "strange mode", "null layers", "empty layers", "empty layer", "no layer"],
)
def test_a_tampered_provenance_is_never_a_pass_by_accident_and_never_a_traceback(target, change):
    checkpoint = make_checkpoint(make_layer(make_half(2, 3)))
    lstmconv.save(checkpoint, target)
    note = noted(target)
    change(note)
    rewrite_note(target, note)
    try:
        report = lstmconv.verify(checkpoint, target)
    except LstmconvError:
        return
    if not report.passed:
        return
    assert {check.layer for check in report.checks} == {"lstm"}
    assert any(check.level == "weights" for check in report.checks)


def rewrite_note(path, note):
    if path.suffix == ".pt":
        with zipfile.ZipFile(path) as archive:
            records = {name: archive.read(name) for name in archive.namelist()}
        records["archive/extra/lstmconv.json"] = json.dumps(note).encode()
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in records.items():
                archive.writestr(name, content)
    elif path.suffix == ".onnx":
        model = onnx.load(path)
        for entry in model.metadata_props:
            if entry.key == "lstmconv":
                entry.value = json.dumps(note)
        onnx.save(model, path)
    elif path.suffix == ".bin":
        sidecar = path.with_suffix(".json")
        described = json.loads(sidecar.read_text())
        sidecar.write_text(json.dumps({**described, "lstmconv": note}))
    else:
        with safetensors.safe_open(path, "np") as file:
            metadata = file.metadata()
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        safetensors.numpy.save_file(stored, path, {**metadata, "lstmconv": json.dumps(note)})


# A failed verification


@pytest.fixture
def faulty_writer(monkeypatch):
    """Make every writer exchange two gates of the recurrent matrix, as a bug in a layout would."""
    from lstmconv.arrays import copying

    def exchanged(gates):
        square = len(gates.shape) == 3 and gates.shape[1] == gates.shape[2]
        return lstmconv.Gates(gates.f, gates.i, gates.g, gates.o) if square else gates

    copy_gates, parts = copying.copy_gates, copying._parts
    monkeypatch.setattr(copying, "copy_gates", lambda source, target: copy_gates(exchanged(source), target))
    monkeypatch.setattr(
        copying,
        "_parts",
        lambda piece, size: parts(piece if isinstance(piece, np.ndarray) else (piece[0], exchanged(piece[1])), size),
    )


@pytest.mark.parametrize("verify", [True, False])
def test_a_failed_verification_leaves_no_target(source, target, faulty_writer, verify):
    """Without the run in a framework the weights are compared all the same."""
    with pytest.raises(VerificationError, match=r"first: weights: the recurrent matrix differs"):
        lstmconv.convert(source, target, whole=False, verify=verify)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("verify", [True, False])
def test_a_failed_verification_of_a_whole_model_leaves_no_target(source, whole_target, faulty_writer, verify):
    with pytest.raises(VerificationError, match=r"weights: first: weight_hh differs"):
        lstmconv.convert(source, whole_target, whole=True, verify=verify)
    assert not whole_target.exists()


def test_a_failed_verification_keeps_an_old_target_byte_for_byte(source, target, faulty_writer):
    for path in (target, target.with_suffix(".json")):
        path.write_bytes(b"what was there")
    with pytest.raises(VerificationError):
        lstmconv.convert(source, target, force=True)
    assert sorted(target.parent.iterdir()) == sorted([target, target.with_suffix(".json")])
    assert target.read_bytes() == target.with_suffix(".json").read_bytes() == b"what was there"
