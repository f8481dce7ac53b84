"""The Python API: what convert, save, load and verify accept, promise and leave behind."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import lstmconv
from lstmconv import publishing
from lstmconv.errors import (
    LstmconvError,
    MissingDependencyError,
    TargetExistsError,
    UnreadableFileError,
    UnsupportedModelError,
    UsageError,
)
from lstmconv.formats import by_name, by_suffix
from lstmconv.proof.report import Check, Report, VerificationError
from tests.contract.building import make_checkpoint, make_half, make_halves, make_layer, write_h5


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    return write_h5(folder / "model.h5", {"first": [make_half(3, 5, 1)], "second": make_halves(5, 7, 2)})


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def state_names(path):
    torch = pytest.importorskip("torch")
    return list(torch.load(path, weights_only=True))


# Targets


def test_the_suffix_decides_the_format(source, out):
    for name in ("m.pt", "m.pth", "m.safetensors", "m.onnx", "m.cudnn.safetensors", "m.cudnn.bin"):
        result = lstmconv.convert(source, out / name)
        assert result.paths[0] == out / name
    expected = ["m.cudnn.bin", "m.cudnn.json", "m.cudnn.safetensors", "m.onnx", "m.pt", "m.pth", "m.safetensors"]
    assert names(out) == expected


@pytest.mark.parametrize(
    ("name", "format_name"),
    [
        ("a.pt", "torch"),
        ("A.PTH", "torch"),
        ("a.safetensors", "safetensors"),
        ("a.cudnn.safetensors", "cudnn"),
        ("a.cudnn.bin", "cudnn"),
        ("a.b.onnx", "onnx"),
    ],
)
def test_suffixes_name_their_format(name, format_name):
    assert by_suffix(Path(name)).name == format_name


@pytest.mark.parametrize("name", ["a.bin", "a", "a.pt.txt", "a.h5.gz"])
def test_a_suffix_of_no_target_is_refused_with_the_known_ones(source, out, name):
    with pytest.raises(UsageError, match=r"\.pt.*\.onnx.*pass to"):
        lstmconv.convert(source, out / name)
    assert names(out) == []


@pytest.mark.parametrize("name", ["Keras", "caffe", ""])
def test_an_unknown_format_is_refused_with_the_known_ones(name):
    with pytest.raises(UsageError, match="torch, cudnn, safetensors, onnx"):
        by_name(name)


def test_several_formats_go_into_a_folder(source, out):
    result = lstmconv.convert(source, out / "new", to=["torch", "onnx", "safetensors", "cudnn"])
    assert names(out / "new") == ["model.cudnn.safetensors", "model.onnx", "model.pt", "model.safetensors"]
    assert {path.name for path in result.paths} == set(names(out / "new"))
    assert len(result.reports) == 4
    assert result.report.passed


def test_one_format_goes_into_an_existing_folder_or_a_file_of_any_name(source, out):
    assert lstmconv.convert(source, out, to="onnx").paths == (out / "model.onnx",)
    with pytest.raises(UsageError):
        lstmconv.convert(source, to="nothing")


def test_without_a_target_the_file_lies_beside_the_source(source):
    assert lstmconv.convert(source, to="torch").paths == (source.parent / "model.pt",)


def test_the_same_format_twice_is_written_once(source, out):
    assert len(lstmconv.convert(source, out, to=["torch", "torch"]).paths) == 1


@pytest.mark.parametrize(
    ("name", "stem"), [("m.weights.h5", "m"), ("m.h5", "m"), ("m.v2.hdf5", "m.v2"), ("M.H5", "M"), ("plain", "plain")]
)
def test_a_targets_name_is_the_sources_without_its_suffix(source, out, name, stem):
    renamed = source.with_name(name)
    source.rename(renamed)
    assert lstmconv.convert(renamed, out, to=["torch", "onnx"]).paths == (out / f"{stem}.pt", out / f"{stem}.onnx")


def test_neither_target_nor_format_is_refused(source):
    with pytest.raises(UsageError, match='to="onnx"'):
        lstmconv.convert(source)


def test_raw_writes_bytes_and_json(source, out):
    lstmconv.convert(source, out, to="cudnn", raw=True)
    assert names(out) == ["model.cudnn.bin", "model.cudnn.json"]


# Layers and names


def test_one_chosen_layer_is_written_without_its_name_as_a_prefix(source, out):
    result = lstmconv.convert(source, out / "m.pt", layer=["first"])
    assert state_names(out / "m.pt") == ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    assert [layer.name for layer in result.source.layers] == ["first"]
    assert result.report.passed
    assert lstmconv.verify(source, out / "m.pt").passed


def test_two_chosen_layers_keep_their_names(source, out):
    lstmconv.convert(source, out / "m.pt", layer=["second", "first"])
    assert {name.split(".")[0] for name in state_names(out / "m.pt")} == {"first", "second"}


def test_a_renamed_layer_is_proved_against_its_old_self(source, out):
    for suffix in (".pt", ".onnx", ".cudnn.safetensors"):
        result = lstmconv.convert(source, out / f"m{suffix}", rename={"first": "second", "second": "first"})
        assert result.report.passed
        assert lstmconv.verify(source, out / f"m{suffix}").passed
    assert "second.weight_ih_l0" in state_names(out / "m.pt")
    assert "first.weight_ih_l0_reverse" in state_names(out / "m.pt")


@pytest.mark.parametrize("options", [{"layer": ["third"]}, {"rename": {"third": "x"}}])
def test_a_layer_that_is_not_there_is_named_with_those_that_are(source, out, options):
    with pytest.raises(UsageError, match=r"'third'.*first, second"):
        lstmconv.convert(source, out / "m.pt", **options)


def test_two_layers_cannot_be_given_one_name(source, out):
    with pytest.raises(UsageError, match="same name"):
        lstmconv.convert(source, out / "m.pt", rename={"first": "second"})


# Activations and configs


def test_an_override_is_obeyed_and_noted(source, out):
    result = lstmconv.convert(source, out / "m.onnx", recurrent_activation="hard_sigmoid_keras2")
    assert any("hard_sigmoid" in note for note in result.notes)
    onnx = pytest.importorskip("onnx")
    model = onnx.load(out / "m.onnx")
    note = json.loads({entry.key: entry.value for entry in model.metadata_props}["lstmconv"])
    assert any("hard_sigmoid" in text for text in note["notes"])
    assert note["layers"][0]["directions"][0]["recurrent_activation"]["alpha"] == 0.2
    assert not lstmconv.verify(source, out / "m.onnx").passed
    assert lstmconv.verify(source, out / "m.onnx", recurrent_activation="hard_sigmoid_keras2").passed


def weights_only(tmp_path, version="2.1.6"):
    """Write a file of weights alone, and its config beside it."""
    import h5py

    whole = write_h5(
        tmp_path / "whole.h5", {"first": [make_half(3, 5, 1)]}, recurrent_activation="hard_sigmoid", version=version
    )
    with h5py.File(whole) as file, h5py.File(tmp_path / "weights.h5", "w") as target:
        group = file["model_weights"]
        for name in group:
            file.copy(group[name], target)
        for key, value in group.attrs.items():
            target.attrs[key] = value
        config = tmp_path / "model.json"
        model = json.loads(file.attrs["model_config"])
        config.write_text(json.dumps({**model, "keras_version": version, "backend": "tensorflow"}))
    return tmp_path / "weights.h5", config, whole


def test_a_weights_file_takes_its_activations_from_a_config(tmp_path, out):
    weights, config, whole = weights_only(tmp_path)
    with pytest.raises(UnsupportedModelError, match="config="):
        lstmconv.convert(weights, out / "m.onnx")
    assert names(out) == []
    result = lstmconv.convert(weights, out / "m.onnx", config=config)
    assert str(result.source.layers[0].recurrent_activation) == "hard_sigmoid(alpha=0.2, beta=0.5)"
    assert lstmconv.verify(whole, out / "m.onnx").passed
    assert lstmconv.verify(weights, out / "m.onnx", config=config).passed
    with pytest.raises(UnsupportedModelError, match="config="):
        lstmconv.verify(weights, out / "m.onnx")


def test_what_a_target_cannot_compute_is_refused_before_anything_is_written(tmp_path, out):
    source = write_h5(tmp_path / "m.h5", {"lstm": [make_half(3, 5)]}, recurrent_activation="hard_sigmoid")
    with pytest.raises(UnsupportedModelError, match="hard_sigmoid"):
        lstmconv.convert(source, out, to=["torch", "cudnn"])
    assert names(out) == []


def test_a_skipped_layer_and_a_mask_are_noted(tmp_path, out):
    path = write_h5(tmp_path / "m.h5", {"lstm": [make_half(3, 5)]})
    import h5py

    with h5py.File(path, "r+") as file:
        model = json.loads(file.attrs["model_config"])
        layers = model["config"]["layers"]
        masking = {"class_name": "Masking", "config": {"name": "masking", "mask_value": 0.0}}
        gru = {"class_name": "GRU", "config": {"name": "gru", "units": 2}}
        model["config"]["layers"] = [masking, *layers, gru]
        file.attrs["model_config"] = json.dumps(model)
        file["model_weights"].attrs["layer_names"] = [b"masking", b"lstm", b"gru"]
        for name, entries in {"masking": [], "gru": [b"gru/gru_cell/kernel:0"]}.items():
            group = file["model_weights"].create_group(name)
            group.attrs["weight_names"] = entries
        file["model_weights/gru"]["gru/gru_cell/kernel:0"] = np.zeros((5, 6), np.float32)
    result = lstmconv.convert(path, out / "m.pt", whole=False)
    assert any("skipped gru (GRU)" in note for note in result.notes)
    assert any("lstm: its model masks steps" in note for note in result.notes)


def test_a_layer_inside_time_distributed_says_so_where_it_is_converted_alone(golden, out):
    source = golden / "whole/keras-3.15.1/time_distributed.keras"
    result = lstmconv.convert(source, out / "m.pt", whole=False, rename={"time_distributed_5": "a"}, verify=False)
    for name, wrapper in (("a", "time_distributed_5"), ("time_distributed_6", "time_distributed_6")):
        assert any(f"{name}: its model runs it on each step of TimeDistributed '{wrapper}'" in n for n in result.notes)
    assert not any("lstm: its model runs it" in note for note in result.notes)


@pytest.mark.parametrize("suffix", [".pt", ".onnx"])
def test_a_model_without_an_lstm_converts_whole(golden, out, suffix):
    result = lstmconv.convert(golden / "whole/keras-1.2.2/activations.h5", out / f"m{suffix}")
    levels = [(check.level, check.status) for check in result.report.checks]
    assert levels == [("structure", "passed"), ("weights", "passed"), ("model", "passed")]


# Existing targets, the source, links


@pytest.mark.parametrize("suffix", [".pt", ".onnx", ".safetensors", ".cudnn.safetensors", ".cudnn.bin"])
def test_an_existing_target_is_kept_unless_forced(source, out, suffix):
    target = out / f"m{suffix}"
    target.write_bytes(b"old")
    with pytest.raises(TargetExistsError, match="force=True"):
        lstmconv.convert(source, target)
    assert target.read_bytes() == b"old"
    assert lstmconv.convert(source, target, force=True).paths[0] == target
    assert target.read_bytes() != b"old"


def test_an_existing_sidecar_is_kept_unless_forced(source, out):
    (out / "m.cudnn.json").write_text("old")
    with pytest.raises(TargetExistsError, match=r"m\.cudnn\.json"):
        lstmconv.convert(source, out / "m.cudnn.bin")
    assert names(out) == ["m.cudnn.json"]
    with pytest.raises(TargetExistsError, match=r"m\.cudnn\.json"):
        lstmconv.save(lstmconv.load(source), out / "m.cudnn.bin")
    assert (out / "m.cudnn.json").read_text() == "old"


def test_one_existing_target_of_several_stops_them_all(source, out):
    (out / "model.onnx").write_bytes(b"old")
    with pytest.raises(TargetExistsError):
        lstmconv.convert(source, out, to=["torch", "onnx"])
    assert names(out) == ["model.onnx"]


def test_the_source_is_never_written(source, out):
    before = (hashlib.sha256(source.read_bytes()).digest(), source.stat().st_mtime_ns, source.stat().st_mode)
    lstmconv.convert(source, out, to=["torch", "onnx", "safetensors", "cudnn"])
    lstmconv.verify(source, out / "model.pt")
    assert (hashlib.sha256(source.read_bytes()).digest(), source.stat().st_mtime_ns, source.stat().st_mode) == before
    assert names(source.parent) == ["model.h5"]


@pytest.mark.parametrize("link", ["same", "symbolic", "hard", "detour"])
def test_the_source_is_refused_as_a_target_also_through_links_and_with_force(source, out, link):
    content = source.read_bytes()
    target = out / "m.pt"
    if link == "same":
        target = source
    elif link == "symbolic":
        target.symlink_to(source)
    elif link == "hard":
        os.link(source, target)
    else:
        target = source.parent / ".." / source.parent.name / source.name
    with pytest.raises(UsageError, match="is the source itself"):
        lstmconv.convert(source, target, to="torch", force=True)
    assert source.read_bytes() == content


def test_a_target_that_is_a_link_is_replaced_and_what_it_points_to_is_kept(source, out):
    other = out / "precious"
    other.write_bytes(b"precious")
    (out / "m.pt").symlink_to(other)
    with pytest.raises(TargetExistsError):
        lstmconv.convert(source, out / "m.pt")
    lstmconv.convert(source, out / "m.pt", force=True)
    assert other.read_bytes() == b"precious"
    assert lstmconv.verify(source, out / "m.pt").passed


def test_a_dangling_link_counts_as_existing_and_nothing_is_written_through_it(source, out, tmp_path):
    (out / "m.pt").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TargetExistsError):
        lstmconv.convert(source, out / "m.pt")
    assert not (tmp_path / "elsewhere").exists()
    assert (out / "m.pt").is_symlink()


def test_a_folder_as_a_target_file_is_refused(source, out):
    (out / "m.pt").mkdir()
    with pytest.raises(UsageError, match="folder"):
        lstmconv.convert(source, out / "m.pt", force=True)
    assert names(out) == ["m.pt"]


def test_a_folder_that_does_not_exist_is_one_line(source, out):
    with pytest.raises(UsageError, match="does not exist"):
        lstmconv.convert(source, out / "none" / "m.pt")


def test_a_file_in_the_place_of_the_folder_is_one_line(source, out):
    (out / "file").write_bytes(b"")
    with pytest.raises(LstmconvError):
        lstmconv.convert(source, out / "file", to=["torch", "onnx"])


def refuse_writing(monkeypatch):
    """Act as a read-only folder does; root, who runs these tests, may write anywhere."""

    def mkdtemp(*_, **options):
        raise PermissionError(13, "Permission denied", options.get("dir"))

    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)


def test_a_read_only_folder_is_one_line(source, out, monkeypatch):
    refuse_writing(monkeypatch)
    with pytest.raises(LstmconvError, match="out") as caught:
        lstmconv.convert(source, out / "m.pt")
    assert "\n" not in str(caught.value)


# Publishing


@pytest.mark.parametrize("error", [RuntimeError("the disk is full"), KeyboardInterrupt(), OSError(28, "No space left")])
@pytest.mark.parametrize("old", [True, False])
def test_a_failure_while_writing_leaves_nothing_new_behind(source, out, monkeypatch, error, old):
    from lstmconv.formats.torch import pt as module

    right = module.write

    def broken(checkpoint, path, options):
        right(checkpoint, path, options)
        raise error

    if old:
        (out / "m.pt").write_bytes(b"old")
    monkeypatch.setattr(module, "write", broken)
    with pytest.raises((type(error), LstmconvError)):
        lstmconv.convert(source, out / "m.pt", force=True)
    assert names(out) == (["m.pt"] if old else [])
    if old:
        assert (out / "m.pt").read_bytes() == b"old"


def test_the_staging_folder_lies_beside_the_target_is_hidden_and_goes(out):
    with publishing.staging(out) as stage:
        assert stage.parent == out
        assert stage.name.startswith(".lstmconv-")
        (stage / "file").write_bytes(b"")
    assert names(out) == []


def test_a_second_format_that_fails_takes_the_first_with_it(source, out, monkeypatch):
    from lstmconv.formats import onnx as module

    def broken(*_):
        raise UnsupportedModelError("not today")

    monkeypatch.setattr(module, "write", broken)
    with pytest.raises(UnsupportedModelError):
        lstmconv.convert(source, out, to=["torch", "onnx"])
    assert names(out) == []


@pytest.mark.parametrize("force", [True, False])
def test_files_are_synced_before_they_are_moved(out, monkeypatch, force):
    events = []
    right_sync, right_replace, right_link = os.fsync, Path.replace, os.link
    monkeypatch.setattr(os, "fsync", lambda number: (events.append("sync"), right_sync(number)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (events.append("move"), right_replace(self, to)))
    monkeypatch.setattr(os, "link", lambda path, to: (events.append("move"), right_link(path, to)))
    with publishing.staging(out) as stage:
        (stage / "a").write_bytes(b"1")
        publishing.publish([stage / "a"], out, force=force)
    assert events == ["sync", "move", "sync"]
    assert names(out) == ["a"]


@pytest.mark.parametrize(("whole", "run"), [(False, "outputs"), (True, "model")])
def test_without_verification_weights_are_compared_and_nothing_is_run(source, out, whole, run):
    result = lstmconv.convert(source, out / "m.pt", whole=whole, verify=False)
    assert {(check.level, check.status) for check in result.report.checks} == {
        ("structure", "passed"),
        ("weights", "passed"),
        (run, "not run"),
    }
    assert not result.report.complete


def test_progress_is_told_before_each_step(source, out):
    lines = []
    lstmconv.convert(source, out / "m.pt", progress=lines.append)
    assert lines == ["Reading model.h5", "Writing m.pt", "Verifying m.pt"]


# Reports


def report(*statuses):
    levels = ("structure", "weights", "outputs")
    pairs = zip(levels, statuses, strict=False)
    return Report("m.pt", tuple(Check("lstm", level, status, "why") for level, status in pairs))


@pytest.mark.parametrize(
    ("statuses", "passed", "complete"),
    [
        (("passed", "passed", "passed"), True, True),
        (("passed", "passed", "not run"), True, False),
        (("passed", "passed", "failed"), False, True),
        (("passed", "failed", "passed"), False, True),
        (("passed", "not run", "not run"), False, False),
        (("failed",), False, True),
        ((), False, True),
    ],
)
def test_a_report_passes_if_weights_were_compared_and_nothing_failed(statuses, passed, complete):
    made = report(*statuses)
    assert (made.passed, made.complete) == (passed, complete)
    if passed:
        made.raise_for_failure()
    else:
        with pytest.raises(VerificationError, match=r"m\.pt"):
            made.raise_for_failure()


def test_raise_for_failure_names_every_failed_check():
    with pytest.raises(VerificationError, match=r"^m\.pt: lstm: structure: why; lstm: outputs: why$"):
        report("failed", "passed", "failed").raise_for_failure()


@pytest.mark.parametrize(("whole", "run", "checks"), [(False, "outputs", 6), (True, "model", 3)])
def test_to_json_is_plain_data_of_a_fixed_shape(source, out, whole, run, checks):
    data = json.loads(json.dumps(lstmconv.convert(source, out / "m.pt", whole=whole).report.to_json()))
    assert list(data) == ["target", "passed", "complete", "checks"]
    assert (data["target"], data["passed"], data["complete"]) == ("m.pt", True, True)
    assert len(data["checks"]) == checks
    for check in data["checks"]:
        keys = [
            "layer",
            "level",
            "status",
            "detail",
            "deviation",
            "tolerance",
            "evidence",
            "diagnosis",
            "not_finite",
            "seconds",
            "rescaled",
        ]
        assert list(check) == keys
        assert (check["seconds"] is not None) == (check["level"] == run and check["status"] != "not run")
    outputs = [check for check in data["checks"] if check["level"] == run]
    assert outputs
    assert all(check["deviation"] <= check["tolerance"] for check in outputs)


@pytest.mark.parametrize(("whole", "run"), [(False, "outputs"), (True, "model")])
def test_a_tolerance_of_zero_fails_and_says_where(source, out, whole, run):
    lstmconv.convert(source, out / "m.pt", whole=whole)
    found = lstmconv.verify(source, out / "m.pt", atol=0.0)
    assert not found.passed
    assert {check.level for check in found.failures} == {run}
    assert "[" in found.failures[0].detail
    assert lstmconv.verify(source, out / "m.pt", atol=1e-4, seed=5, batch=1, steps=1).passed


@pytest.mark.parametrize("options", [{"batch": 0}, {"steps": 0}, {"steps": -3}])
def test_settings_that_run_nothing_are_refused(source, out, options):
    lstmconv.convert(source, out / "m.pt", verify=False)
    with pytest.raises(UsageError, match="at least 1"):
        lstmconv.verify(source, out / "m.pt", **options)


@pytest.mark.parametrize("options", [{"atol": -1.0}, {"rtol": float("nan")}, {"atol": float("inf")}])
def test_a_tolerance_that_means_nothing_is_refused_or_fails(source, out, options):
    """An infinite tolerance passes everything: it must not be taken for a proof."""
    lstmconv.convert(source, out / "m.pt", verify=False)
    try:
        found = lstmconv.verify(source, out / "m.pt", **options)
    except UsageError:
        return
    assert not found.passed


# load, save, verify


def test_save_then_verify_is_the_round_trip(source, out):
    checkpoint = lstmconv.load(source)
    assert lstmconv.save(checkpoint, out / "m.onnx", opset=22, states=True) == (out / "m.onnx",)
    assert lstmconv.verify(checkpoint, out / "m.onnx").passed
    with pytest.raises(TargetExistsError):
        lstmconv.save(checkpoint, out / "m.onnx")
    lstmconv.save(checkpoint, out / "m.onnx", force=True)
    lstmconv.save(checkpoint, out / "noname.pt", to="torch")
    with pytest.raises(TypeError):
        lstmconv.save(checkpoint, out / "n.pt", colour="red")
    assert names(out) == ["m.onnx", "noname.pt"]


@pytest.mark.parametrize("name", ["none.h5", "folder"])
def test_a_source_that_is_not_there_or_no_file_is_one_line(tmp_path, name):
    (tmp_path / "folder").mkdir()
    for call in (lstmconv.load, lambda path: lstmconv.convert(path, tmp_path / "m.pt")):
        with pytest.raises(UnreadableFileError, match=name) as caught:
            call(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_target_that_is_not_there_is_one_line(source, out):
    with pytest.raises(UnreadableFileError, match="no such file"):
        lstmconv.verify(source, out / "m.pt")


def test_paths_may_be_strings(source, out):
    lstmconv.convert(str(source), str(out / "m.pt"))
    assert lstmconv.verify(str(source), str(out / "m.pt")).passed


def test_a_format_that_the_file_is_not_is_refused(source):
    with pytest.raises(lstmconv.UnreadableFileError, match="not an ONNX model"):
        lstmconv.load(source, from_="onnx")
    with pytest.raises(UsageError, match="'caffe'"):
        lstmconv.load(source, from_="caffe")


def test_a_checkpoint_finds_its_layers_by_name():
    checkpoint = make_checkpoint(make_layer(make_half(), name="a"), make_layer(make_half(), name="b"))
    assert checkpoint["b"].name == "b"
    with pytest.raises(KeyError, match="a, b"):
        checkpoint["c"]


def test_every_error_is_an_lstmconv_error_and_the_builtin_one_expects():
    builtin = {
        UnreadableFileError: ValueError,
        UnsupportedModelError: ValueError,
        UsageError: ValueError,
        TargetExistsError: FileExistsError,
        MissingDependencyError: ImportError,
        VerificationError: AssertionError,
    }
    for error, base in builtin.items():
        assert issubclass(error, LstmconvError)
        assert issubclass(error, base)


# Imports


FRAMEWORKS = {"h5py", "onnx", "torch", "onnxruntime", "keras", "tensorflow", "safetensors", "jax", "ml_dtypes"}
WATCHED = sorted(FRAMEWORKS | {"numpy", "einops", "typer", "rich"})


def loaded_by(script):
    """Run a script in a fresh interpreter and return the libraries it loaded."""
    code = f"{script}\nimport json, sys\nprint(json.dumps([name for name in {WATCHED} if name in sys.modules]))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(result.stdout.strip().splitlines()[-1])


def test_importing_lstmconv_loads_no_other_library():
    assert loaded_by("import lstmconv; lstmconv.__version__; dir(lstmconv)") == []


def test_every_public_name_can_be_had_without_a_framework():
    script = "import lstmconv\nfor name in lstmconv.__all__:\n    getattr(lstmconv, name)"
    assert set(loaded_by(script)) <= {"numpy", "einops"}


def test_converting_without_verification_loads_no_framework(source, out):
    script = f"import lstmconv; lstmconv.convert({str(source)!r}, {str(out / 'm.pt')!r}, verify=False)"
    assert not {"torch", "onnx", "onnxruntime", "keras"} & set(loaded_by(script))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lstmconv.nothing  # noqa: B018


@pytest.mark.parametrize(("module", "suffix"), [("onnx", ".onnx"), ("torch", ".pt"), ("onnxruntime", ".onnx")])
def test_without_a_framework_the_conversion_says_what_to_install(source, out, monkeypatch, module, suffix):
    """A missing writer's library is an error; a missing runtime is a proof not run."""
    monkeypatch.setitem(sys.modules, module, None)
    try:
        result = lstmconv.convert(source, out / f"m{suffix}")
    except MissingDependencyError as error:
        text = str(error)
        assert names(out) == []
    else:
        text = next(check.detail for check in result.report.checks if check.status == "not run")
        assert not result.report.complete
    assert "pip install" in text
