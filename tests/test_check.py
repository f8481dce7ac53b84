"""``lstmconv check``: what passes, what is said, what stops a commit; each on files written here by hand."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

import lstmconv
from lstmconv.checking import RULES
from lstmconv.checking.file_cache import SUFFIXES
from lstmconv.checking.settings import find_settings
from lstmconv.formats import open_place
from lstmconv.proof.verifying import verify_file
from tests._cases import fused, lstm_config, random, sequential, write_legacy, write_lstm, write_saveable
from tests._command import lstmconv_command

ROOT = Path(__file__).parent.parent


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a repository's folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    (tmp_path / ".git").mkdir()
    return tmp_path


def run(*arguments, **environment):
    """Run the command as a user does in the current folder."""
    return lstmconv_command(*arguments, **{"GITHUB_ACTIONS": "false", **environment})


def rules(path, **options):
    """Return the status of one file and the rules of its findings."""
    (result,) = lstmconv.check([path], **options)
    return result.status, [finding.rule for finding in result.findings]


def only(path):
    """Return the one finding of a file."""
    (result,) = lstmconv.check([path])
    (finding,) = result.findings
    return finding


def edit(path, dataset, change):
    """Change one dataset of an HDF5 file in place."""
    with h5py.File(path, "r+") as file:
        found = []
        file.visititems(lambda name, item: found.append(item) if name.endswith(dataset) else None)
        (item,) = found
        item[...] = change(item[()])


def retrain(path):
    """Change one recurrent weight by 1, as a later training would."""

    def change(values):
        values[0, 0] += 1
        return values

    edit(path, "recurrent_kernel:0", change)


def convert(source, target, **options):
    lstmconv.convert(source, target, verify=False, **options)


# Whole and sound files


def test_a_whole_file_passes_and_names_its_layers(folder):
    write_lstm(folder / "model.h5")
    (result,) = lstmconv.check(["model.h5"])
    assert (result.path, result.status, result.layers, result.findings) == ("model.h5", "passed", ("lstm_1",), ())


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".keras", ".weights.h5", ".cudnn.h5"])
def test_keras_files_of_every_suffix_are_checked(folder, suffix):
    write_lstm(folder / "source.h5")
    convert("source.h5", f"model{suffix}")
    Path("source.h5").unlink()
    assert rules(f"model{suffix}") == ("passed", [])


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors", ".onnx", ".cudnn.safetensors"])
def test_files_of_other_formats_are_checked(folder, suffix):
    write_lstm(folder / "source.h5")
    convert("source.h5", f"model{suffix}")
    Path("source.h5").unlink()
    (result,) = lstmconv.check([f"model{suffix}"])
    assert (result.status, result.layers) == ("passed", ("lstm_1",))


def test_files_without_lstm_pass_silently(folder):
    dense = {"dense": {"dense/kernel:0": np.ones((2, 3), np.float32)}}
    config = sequential({"class_name": "Dense", "config": {"name": "dense", "units": 3}})
    write_legacy(folder / "dense.h5", dense, config=config)
    with h5py.File("data.h5", "w") as file:
        file["images"] = np.zeros((2, 2))
    save_file({"linear.weight": np.ones((2, 2), np.float32)}, "linear.safetensors")
    identity = helper.make_node("Identity", ["x"], ["y"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    onnx.save(helper.make_model(helper.make_graph([identity], "graph", ends[:1], ends[1:])), "identity.onnx")
    names = ["dense.h5", "data.h5", "linear.safetensors", "identity.onnx"]
    assert [result.status for result in lstmconv.check(names)] == ["no lstm"] * 4
    done = run("check", *names)
    assert (done.returncode, done.stdout) == (0, "4 files: 0 passed, 4 without LSTM\n")


def test_a_lone_tensor_and_a_file_without_tensors_hold_no_lstm(folder):
    torch = pytest.importorskip("torch")
    torch.save(torch.ones(2), "tensor.pt")
    torch.save({"epoch": 3}, "epoch.pt")
    assert [result.status for result in lstmconv.check(["tensor.pt", "epoch.pt"])] == ["no lstm", "no lstm"]


def test_a_gru_is_no_lstm(folder):
    arrays = {"gru/kernel:0": np.ones((2, 9)), "gru/recurrent_kernel:0": np.ones((3, 9)), "gru/bias:0": np.ones(9)}
    config = sequential({"class_name": "GRU", "config": {"name": "gru", "units": 3}})
    write_legacy(folder / "gru.h5", {"gru": arrays}, config=config)
    assert rules("gru.h5") == ("no lstm", [])


def test_a_shard_is_checked_with_its_index():
    shards = sorted((ROOT / "tests/golden/keras-3.15.1").glob("stacked_0000?.weights.h5"))
    assert len(shards) == 4
    assert {result.status for result in lstmconv.check(shards)} == {"passed"}


# Damaged files


def lfs_pointer(path):
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12\n")


def half(path):
    write_lstm(path.with_name("whole.h5"))
    if path.suffix == ".h5":
        content = path.with_name("whole.h5").read_bytes()
    else:
        convert(path.with_name("whole.h5"), path)
        content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("suffix", [".h5", ".keras", ".pt", ".safetensors", ".onnx", ".cudnn.safetensors"])
@pytest.mark.parametrize(
    ("make", "said"),
    [(lambda path: path.touch(), "the file is empty"), (lfs_pointer, "git lfs pull"), (half, "")],
    ids=["empty", "pointer", "truncated"],
)
def test_a_file_that_is_not_the_checkpoint_says_what_it_is(folder, suffix, make, said):
    path = folder / f"model{suffix}"
    make(path)
    found = only(path)
    assert (found.rule, found.severity) == ("damaged", "error")
    assert said in found.message
    assert "\n" not in found.message
    assert not found.message.startswith("model")


def test_an_html_page_instead_of_a_download_fails(folder):
    Path("model.pt").write_text("<!DOCTYPE html><html>Not found</html>")
    assert "HTML" in only("model.pt").message


def test_a_partly_built_layer_fails(folder):
    kernel, _, _ = fused(3, 5)
    write_saveable(folder / "model.weights.h5", {"layers/lstm/cell": [kernel]})
    found = only("model.weights.h5")
    assert found.rule == "damaged"
    assert "partly built" in found.message


def test_a_bias_that_the_config_announces_and_the_file_lacks_fails(folder):
    write_lstm(folder / "model.h5", arrays=fused(3, 5)[:2])
    assert rules("model.h5") == ("failed", ["damaged"])


@pytest.mark.parametrize("missing", ["bias_hh_l0", "bias_ih_l0", "weight_hh_l0"])
def test_a_state_dict_that_lacks_an_array_fails(folder, missing):
    arrays = {"weight_ih_l0": (20, 3), "weight_hh_l0": (20, 5), "bias_ih_l0": (20,), "bias_hh_l0": (20,)}
    tensors = {f"lstm.{name}": np.ones(shape, np.float32) for name, shape in arrays.items() if name != missing}
    save_file(tensors, "model.safetensors")
    assert rules("model.safetensors") == ("failed", ["damaged"])


def test_shapes_that_do_not_belong_together_fail(folder):
    kernel, recurrent, _ = fused(3, 5)
    write_lstm(folder / "model.h5", arrays=[kernel, recurrent, np.ones(16, np.float32)])
    found = only("model.h5")
    assert found.rule == "damaged"
    assert "(16,)" in found.message


@pytest.mark.parametrize(("value", "said"), [(np.nan, "1 NaN"), (np.inf, "1 infinite"), (-np.inf, "1 infinite")])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_numbers_that_are_none_fail_with_their_place(folder, value, said, place):
    arrays = fused(3, 5)
    arrays[place][..., 5 + 2] = np.where(
        np.arange(arrays[place][..., 0].size).reshape(arrays[place][..., 0].shape) == 0, value, 0
    )
    write_lstm(folder / "model.h5", arrays=arrays)
    found = only("model.h5")
    assert (found.rule, found.layer, found.severity) == ("not-finite", "lstm_1", "error")
    name, count = [("kernel", 60), ("recurrent_kernel", 100), ("bias", 20)][place]
    index = "[7]" if place == 2 else "[0, 7]"
    assert found.message.startswith(f"{said} of {count} numbers, first at {name}{index} (gate f)")


def test_a_file_that_is_not_there_or_may_not_be_read_is_not_done_and_stops_no_other(folder):
    write_lstm(folder / "model.h5")
    results = lstmconv.check(["missing.h5", "model.h5"])
    assert [result.status for result in results] == ["not done", "passed"]
    done = run("check", "missing.h5", "model.h5")
    assert done.returncode == 2
    assert done.stdout.splitlines() == [
        "✗ missing.h5  cannot be read (No such file or directory) [unavailable]",
        "✓ model.h5  lstm_1",
        "2 files: 1 passed, 1 could not be checked",
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes")
def test_a_pipe_is_not_waited_for(folder):
    os.mkfifo("model.h5")
    assert rules("model.h5") == ("not done", ["unavailable"])


def test_an_error_that_nobody_foresaw_is_one_files_and_one_line(folder, monkeypatch):
    write_lstm(folder / "first.h5")
    write_lstm(folder / "second.h5")
    from lstmconv.checking import weight_rules

    def fail(layer):
        monkeypatch.undo()
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(weight_rules, "violations_of", fail)
    first, second = lstmconv.check([folder / "first.h5", folder / "second.h5"])
    assert (first.status, second.status) == ("not done", "passed")
    assert first.findings[0].message == "unexpected RuntimeError: two lines; LSTMCONV_DEBUG=1 shows where"


def test_files_that_hurt_the_hdf5_library_hurt_nobody(hostile_files):
    results = lstmconv.check(sorted(hostile_files.glob("*.h5")))
    assert len(results) == 4
    assert all(result.status in ("failed", "passed") for result in results)


# Warnings


def warned(folder, arrays, **options):
    """Return the rules that warn of a layer of these arrays; none of them fails the file."""
    write_lstm(folder / "model.h5", 3, 5, arrays=arrays, **options)
    (result,) = lstmconv.check([folder / "model.h5"])
    assert result.status == "passed"
    assert {finding.severity for finding in result.findings} <= {"warning"}
    return {finding.rule: finding.message for finding in result.findings}


def test_an_ordinary_layer_warns_of_nothing(folder):
    assert warned(folder, fused(3, 5)) == {}
    assert warned(folder, fused(3, 5), recurrent_activation="hard_sigmoid", activation="relu") == {}


def test_all_zero_recurrent_weights_warn(folder):
    kernel, recurrent, bias = fused(3, 5)
    assert set(warned(folder, [kernel, 0 * recurrent, bias])) == {"recurrent-zero"}


@pytest.mark.parametrize("value", [0, 1])
def test_a_forget_bias_as_initialised_beside_trained_ones_warns(folder, value):
    kernel, recurrent, bias = fused(3, 5)
    bias[5:10] = value
    assert set(warned(folder, [kernel, recurrent, bias])) == {"forget-bias-untrained"}
    bias[7] = 0.5
    assert warned(folder, [kernel, recurrent, bias]) == {}


def test_biases_that_are_all_as_initialised_do_not_warn(folder):
    kernel, recurrent, _ = fused(3, 5)
    for forget in (0, 1):
        assert warned(folder, [kernel, recurrent, np.repeat(np.float32([0, forget, 0, 0]), 5)]) == {}


def test_weights_that_float16_cannot_hold_warn(folder):
    kernel, recurrent, bias = fused(3, 5)
    kernel[0, 0] = 65519
    assert warned(folder, [kernel, recurrent, bias]) == {}
    kernel[0, 0] = 65520
    assert set(warned(folder, [kernel, recurrent, bias])) == {"float16-overflow"}


@pytest.mark.parametrize(("shift", "how"), [(-1000, "is shut"), (1000, "is open")])
def test_a_gate_that_nothing_moves_warns(folder, shift, how):
    kernel, recurrent, bias = fused(3, 5)
    bias[15:20] += shift
    found = warned(folder, [kernel, recurrent, bias])
    assert set(found) == {"gate-stuck"}
    assert found["gate-stuck"].startswith(f"the output gate {how} in every unit")


def test_a_gate_is_stuck_exactly_where_its_sum_stays_beyond_its_reach(folder):
    """Sigmoid at 6.9068 is 0.999: sums from b - 10 * 3 * 0.1 - 5 * 0.1 on, for 3 features and 5 units."""
    kernel, recurrent, bias = fused(3, 5)
    kernel[:, 5:10], recurrent[:, 5:10] = 0.1, 0.1
    bias[5:10] = 6.9068 + 3.5 - 0.01
    assert warned(folder, [kernel, recurrent, bias]) == {}
    bias[5:10] = 6.9068 + 3.5 + 0.01
    assert set(warned(folder, [kernel, recurrent, bias])) == {"gate-stuck"}
    bias[7] = 0
    assert warned(folder, [kernel, recurrent, bias]) == {}


def test_hard_sigmoid_is_stuck_beyond_its_own_corner(folder):
    kernel, recurrent, bias = fused(3, 5)
    kernel[:, 5:10], recurrent[:, 5:10], bias[5:10] = 0.1, 0.1, 2.5 + 3.5
    assert set(warned(folder, [kernel, recurrent, bias], recurrent_activation="hard_sigmoid")) == {"gate-stuck"}
    assert warned(folder, [kernel, recurrent, bias]) == {}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_weights_of_every_dtype_are_looked_at(folder, dtype):
    kernel, recurrent, bias = fused(3, 5)
    bias[15:20] += 1000
    write_lstm(folder / "source.h5", arrays=[kernel, 0 * recurrent, bias])
    convert("source.h5", "model.safetensors", dtype=dtype)
    Path("source.h5").unlink()
    assert rules("model.safetensors") == ("passed", ["recurrent-zero", "gate-stuck"])


def test_a_gate_of_zero_weights_is_constant(folder):
    kernel, recurrent, bias = fused(3, 5)
    kernel[:, 0:5], recurrent[:, 0:5] = 0, 0
    assert "the input gate is constant" in warned(folder, [kernel, recurrent, bias])["gate-stuck"]


def test_exploded_weights_warn(folder):
    kernel, recurrent, bias = fused(3, 5)
    kernel[:, 10:15] = 100 / np.sqrt(3) + 0.01
    recurrent[:, 10:15] = 0
    assert set(warned(folder, [kernel, recurrent, bias])) == {"gate-exploded"}
    kernel[:, 10:15] = 100 / np.sqrt(3) - 0.01
    assert warned(folder, [kernel, recurrent, bias]) == {}


def test_a_layer_whose_activation_nobody_knows_warns_until_a_target_says_it(folder):
    named = dict(zip(("lstm_1/kernel:0", "lstm_1/recurrent_kernel:0", "lstm_1/bias:0"), fused(3, 5), strict=True))
    write_legacy(folder / "model.h5", {"lstm_1": named}, version="2.2.4")
    assert rules("model.h5") == ("passed", ["activation-unknown"])
    convert("model.h5", "model.onnx", recurrent_activation="hard_sigmoid")
    assert rules("model.h5") == ("passed", [])


def test_what_nn_lstm_cannot_compute_warns_only_where_it_is_bound_for_pytorch(folder):
    write_lstm(folder / "model.h5", recurrent_activation="hard_sigmoid")
    assert rules("model.h5") == ("passed", [])
    convert("model.h5", "model.onnx")
    assert rules("model.h5") == ("passed", [])
    convert("model.h5", "model.pt")
    assert rules("model.h5") == ("passed", ["pytorch-activation"])


def test_an_lstm_that_does_not_convert_is_said_not_to_be_checked(folder):
    shapes = {"weight_ih_l0": (20, 3), "weight_hh_l0": (20, 2), "weight_hr_l0": (2, 5)}
    save_file({f"rnn.{name}": np.ones(shape, np.float32) for name, shape in shapes.items()}, "model.safetensors")
    assert rules("model.safetensors") == ("no lstm", ["not-checked"])


def test_an_lstm_whose_gate_order_nobody_knows_is_said_not_to_be_checked(folder):
    """The file of haste, which holds nothing else, passed in silence."""
    shapes = {"rnn.kernel": (3, 20), "rnn.recurrent_kernel": (5, 20), "rnn.bias": (20,)}
    save_file({name: np.ones(shape, np.float32) for name, shape in shapes.items()}, "lstm.safetensors")
    assert rules("lstm.safetensors") == ("no lstm", ["not-checked"])
    shapes = {"rnn.kernel": (3, 15), "rnn.recurrent_kernel": (5, 15), "rnn.bias": (15,)}
    save_file({name: np.ones(shape, np.float32) for name, shape in shapes.items()}, "gru.safetensors")
    assert rules("gru.safetensors") == ("no lstm", [])


def test_an_lstm_with_more_arrays_than_an_lstm_is_said_not_to_be_checked(folder):
    shapes = {"weight_ih_l0": (20, 3), "weight_hh_l0": (20, 5), "bias_ih_l0": (20,), "bias_hh_l0": (20,)}
    arrays = {f"rnn.{name}": np.ones(shape, np.float32) for name, shape in shapes.items()}
    save_file({**arrays, "rnn.gamma": np.ones(7, np.float32)}, "model.safetensors")
    assert rules("model.safetensors") == ("no lstm", ["not-checked"])


def test_a_module_that_was_saved_whole_is_checked(folder):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.LSTM(2, 3), "model.pt")
    (result,) = lstmconv.check(["model.pt"])
    assert (result.status, result.layers, result.findings) == ("passed", ("lstm",), ())


def test_a_pickle_without_tensors_by_name_is_said_not_to_be_checked(folder):
    torch = pytest.importorskip("torch")
    torch.save({"args": argparse.Namespace(weights=torch.ones(3))}, "model.pt")
    found = only("model.pt")
    assert (found.rule, found.severity) == ("not-checked", "warning")
    assert "nothing was executed" in found.message


# Twins

TARGETS = [".onnx", ".pt", ".safetensors", ".cudnn.safetensors"]


@pytest.mark.parametrize("suffix", TARGETS)
def test_a_stale_twin_fails_from_both_sides_and_the_command_mends_it(folder, suffix):
    write_lstm(folder / "model.h5")
    convert("model.h5", f"model{suffix}")
    assert [result.status for result in lstmconv.check(["model.h5", f"model{suffix}"])] == ["passed", "passed"]
    retrain("model.h5")
    for path in ("model.h5", f"model{suffix}"):
        found = only(path)
        assert (found.rule, found.severity) == ("twin-differs", "error")
        assert "recurrent weights differ in 1 of 100 numbers, first at recurrent_kernel[0, 0] (gate i)" in found.message
        assert found.fix == f"lstmconv convert model.h5 model{suffix} --force"
    assert run(*shlex.split(found.fix)[1:], "--no-verify").returncode == 0
    assert [result.status for result in lstmconv.check(["model.h5", f"model{suffix}"])] == ["passed", "passed"]


def test_a_stale_twin_is_said_once_where_both_are_checked(folder):
    write_lstm(folder / "model.h5")
    convert("model.h5", "model.onnx")
    retrain("model.h5")
    source, twin = lstmconv.check(["model.h5", "model.onnx"])
    assert (source.status, source.twins) == ("passed", ())
    assert (twin.status, len(twin.findings)) == ("failed", 1)


def test_a_twin_is_in_step_with_its_source(folder):
    write_lstm(folder / "model.h5")
    convert("model.h5", "model.onnx")
    source, twin = lstmconv.check(["model.h5", "model.onnx"])
    assert (source.twins, twin.twins) == (("model.onnx",), ("model.h5",))


def test_a_source_that_changed_in_other_bytes_than_weights_keeps_its_twins(folder):
    write_lstm(folder / "model.h5")
    convert("model.h5", "model.onnx")
    with h5py.File("model.h5", "r+") as file:
        file.attrs["epoch"] = 3
    assert rules("model.h5") == ("passed", [])


def test_an_edited_twin_fails_though_its_note_names_the_source(folder):
    write_lstm(folder / "model.h5")
    convert("model.h5", "model.onnx")
    model = onnx.load("model.onnx")
    (bias,) = (one for one in model.graph.initializer if "B" in one.name or list(one.dims) == [1, 40])
    values = numpy_helper.to_array(bias).copy()
    values.flat[0] = np.nextafter(values.flat[0], np.float32(9))
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    onnx.save(model, "model.onnx")
    assert "biases differ in 1 of 20 numbers" in only("model.onnx").message


@pytest.mark.parametrize(
    ("suffix", "options", "flags"),
    [
        (".pt", {"dtype": "float16"}, "--dtype float16"),
        (".onnx", {"dtype": "float16", "bias_mode": "both-halves"}, "--dtype float16 --bias-mode both-halves"),
        (".cudnn.safetensors", {"bias_mode": "single-recurrent"}, "--bias-mode single-recurrent"),
        (".onnx", {"states": True, "lengths": True, "opset": 17}, "--states --lengths --opset 17"),
        (".safetensors", {"dtype": "bfloat16"}, "--dtype bfloat16"),
        (".pt", {"layer": ["upper"]}, "--layer upper"),
        (".safetensors", {"rename": {"lower": "encoder"}}, "--rename lower=encoder"),
        (".onnx", {"stack": "all"}, "--stack"),
        (".pt", {"stack": "all"}, "--stack"),
    ],
)
def test_the_command_has_the_options_that_the_twin_was_written_with(folder, suffix, options, flags):
    """It mends the twin to the very bytes that the same call of convert writes now."""
    layers = {}
    for k, name in enumerate(("lower", "upper")):
        arrays = fused(3 if k == 0 else 5, 5, seed=10 * k)
        layers[name] = dict(
            zip((f"{name}/kernel:0", f"{name}/recurrent_kernel:0", f"{name}/bias:0"), arrays, strict=True)
        )
    config = sequential(lstm_config("lower"), lstm_config("upper"))
    write_legacy(folder / "model.h5", layers, config=config)
    convert("model.h5", f"model{suffix}", **options)
    assert rules("model.h5") == ("passed", [])
    edit("model.h5", "upper/bias:0", lambda values: values + 1)
    found = only(f"model{suffix}")
    assert found.fix == f"lstmconv convert model.h5 model{suffix} {flags} --force"
    assert run(*shlex.split(found.fix)[1:], "--no-verify").returncode == 0
    convert("model.h5", f"again{suffix}", **options)
    assert Path(f"model{suffix}").read_bytes() == Path(f"again{suffix}").read_bytes()


def test_a_state_dict_without_prefix_is_written_without_again(folder):
    write_lstm(folder / "model.h5")
    convert("model.h5", "model.pt", layer=["lstm_1"])
    retrain("model.h5")
    found = only("model.pt")
    assert found.fix == "lstmconv convert model.h5 model.pt --layer lstm_1 --force"


def test_the_command_names_the_activation_that_the_source_does_not_tell(folder):
    named = dict(zip(("lstm_1/kernel:0", "lstm_1/recurrent_kernel:0", "lstm_1/bias:0"), fused(3, 5), strict=True))
    write_legacy(folder / "model.h5", {"lstm_1": named}, version="2.2.4")
    convert("model.h5", "model.onnx", recurrent_activation="hard_sigmoid")
    retrain("model.h5")
    fix = only("model.onnx").fix
    assert fix == "lstmconv convert model.h5 model.onnx --recurrent-activation hard_sigmoid_keras2 --force"


def test_a_name_with_a_space_is_quoted_in_the_command(folder):
    write_lstm(folder / "my model.h5")
    convert("my model.h5", "my model.onnx")
    retrain("my model.h5")
    assert only("my model.onnx").fix == "lstmconv convert 'my model.h5' 'my model.onnx' --force"


def test_a_twin_of_another_name_is_found_by_what_it_notes(folder):
    write_lstm(folder / "trained.h5")
    convert("trained.h5", "deployed.onnx")
    retrain("trained.h5")
    assert rules("trained.h5") == ("failed", ["twin-differs"])
    assert rules("deployed.onnx") == ("failed", ["twin-differs"])


def test_a_keras_file_made_from_a_state_dict_is_the_twin(folder):
    shutil.copy(ROOT / "sample_weights/torch_stacked.pt", "lstm.pt")
    convert("lstm.pt", "lstm.keras")
    convert("lstm.keras", "lstm.onnx", stack="all")
    first, second, third = lstmconv.check(["lstm.pt", "lstm.keras", "lstm.onnx"])
    assert [one.findings for one in (first, second, third)] == [(), (), ()]
    assert (first.twins, second.twins, third.twins) == (("lstm.keras",), ("lstm.pt", "lstm.onnx"), ("lstm.keras",))


def test_a_twin_whose_source_is_gone_is_checked_alone(folder):
    write_lstm(folder / "model.h5")
    convert("model.h5", "model.onnx")
    Path("model.h5").unlink()
    assert rules("model.onnx") == ("passed", [])


def state_dict(arrays, name="rnn"):
    """Return a Keras layer's arrays as others write them for PyTorch, by hand: (b, 0)."""
    kernel, recurrent, bias = arrays
    tensors = {"weight_ih_l0": kernel.T, "weight_hh_l0": recurrent.T, "bias_ih_l0": bias, "bias_hh_l0": 0 * bias}
    return {f"{name}.{key}": np.ascontiguousarray(value) for key, value in tensors.items()}


def test_a_twin_of_others_is_compared_by_weights(folder):
    tensors = state_dict(write_lstm(folder / "model.h5"))
    save_file(tensors, "model.safetensors")
    (result,) = lstmconv.check(["model.h5"])
    assert (result.status, result.twins) == ("passed", ("model.safetensors",))
    both = tensors["rnn.bias_ih_l0"].copy()
    save_file({**tensors, "rnn.bias_ih_l0": 0 * both, "rnn.bias_hh_l0": both}, "model.safetensors")
    assert rules("model.h5") == ("passed", [])
    tensors["rnn.bias_ih_l0"][3] += 1
    save_file(tensors, "model.safetensors")
    for path in ("model.h5", "model.safetensors"):
        found = only(path)
        assert (found.rule, found.fix) == ("twin-differs", None)
        assert "export it again" in found.message


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_two_biases_of_a_twin_of_others_are_compared_each_or_by_their_sum(folder, dtype):
    """In float16 the sum of both rounded biases is seldom the rounded sum; only one bias holds the latter."""
    draw = np.random.default_rng(5)
    kernel, recurrent, _ = fused(3, 5)
    first, second = draw.normal(size=(2, 20)).astype(np.float32)
    arrays = {"weight_ih_l0": np.ascontiguousarray(kernel.T), "weight_hh_l0": np.ascontiguousarray(recurrent.T)}
    save_file(arrays | {"bias_ih_l0": first, "bias_hh_l0": second}, "model.safetensors")
    configure(folder, '[tool.lstmconv.pairs]\n"model.safetensors" = "export.safetensors"\n')

    def exported(one, other):
        twin = {name: array.astype(dtype) for name, array in arrays.items()}
        save_file(twin | {"bias_ih_l0": one.astype(dtype), "bias_hh_l0": other.astype(dtype)}, "export.safetensors")
        return [finding.message for finding in lstmconv.check(["model.safetensors"])[0].findings]

    assert exported(first, second) == []
    assert exported(second, first) == []
    assert exported(first + second, 0 * first) == []
    last_bit = np.nextafter(first.astype(dtype), np.full_like(first, 9, dtype))
    (message,) = exported(last_bit, second.astype(dtype))
    assert "its sums of two biases differ" in message


def test_a_twin_of_others_that_cannot_be_paired_is_said_without_failing(folder):
    write_lstm(folder / "model.h5")
    save_file(state_dict(fused(3, 6)), "model.safetensors")
    assert rules("model.h5") == ("passed", ["twin-unpaired"])
    assert rules("model.safetensors") == ("passed", ["twin-unpaired"])


def test_a_twin_that_is_damaged_fails_its_source(folder):
    write_lstm(folder / "model.h5")
    Path("model.onnx").touch()
    found = only("model.h5")
    assert (found.rule, found.fix) == ("twin-differs", "lstmconv convert model.h5 model.onnx --force")


def test_a_twin_whose_note_lies_outside_its_folder_is_not_followed(folder):
    (folder / "in").mkdir()
    write_lstm(folder / "model.h5")
    convert("model.h5", "in/twin.onnx")
    model = onnx.load("in/twin.onnx")
    (entry,) = model.metadata_props
    entry.value = json.dumps({**json.loads(entry.value), "source": "../model.h5"})
    onnx.save(model, "in/twin.onnx")
    retrain("model.h5")
    assert rules("in/twin.onnx") == ("passed", [])


@pytest.mark.parametrize("whole", [False, True])
def test_deep_runs_a_twin_in_its_own_framework(folder, whole):
    pytest.importorskip("onnxruntime")
    write_lstm(folder / "model.h5")
    convert("model.h5", "model.onnx", whole=whole)
    assert rules("model.onnx", deep=True) == ("passed", [])
    model = onnx.load("model.onnx")
    (output,) = (entry.name for entry in model.graph.output if not entry.name.endswith((".h", ".c")))
    (place,) = ((node, k) for node in model.graph.node for k, name in enumerate(node.output) if name == output)
    place[0].output[place[1]] = "before"
    model.graph.node.append(helper.make_node("Neg", ["before"], [output]))
    onnx.save(model, "model.onnx")
    # A whole graph is compared with the one that is written for its source; that of layers alone is only run.
    assert rules("model.onnx") == (("failed", ["twin-differs"]) if whole else ("passed", []))
    assert rules("model.onnx", deep=True) == ("failed", ["twin-differs" if whole else "twin-outputs"])


def test_deep_says_what_was_not_run(folder):
    write_lstm(folder / "model.h5")
    convert("model.h5", "model.cudnn.safetensors")
    (result,) = lstmconv.check(["model.h5"], deep=True)
    assert result.status == "passed"
    assert {finding.rule for finding in result.findings} <= {"twin-not-run"}


def test_a_twin_whose_lstm_became_something_else_fails(folder):
    write_lstm(folder / "model.h5")
    convert("model.h5", "model.onnx")
    model = onnx.load("model.onnx")
    (node,) = (node for node in model.graph.node if node.op_type == "LSTM")
    node.attribute.append(helper.make_attribute("clip", 0.01))
    onnx.save(model, "model.onnx")
    assert rules("model.onnx") == ("failed", ["twin-differs", "not-checked"])
    assert rules("model.h5") == ("failed", ["twin-differs"])


def test_a_twin_that_computes_another_activation_fails(folder):
    write_lstm(folder / "model.h5")
    convert("model.h5", "model.onnx")
    write_lstm(folder / "model.h5", recurrent_activation="hard_sigmoid")
    said = "has the recurrent activation sigmoid, but model.h5 has the recurrent activation hard_sigmoid"
    assert only("model.onnx").message.startswith(said)


def edit_config(path, option, value):
    """Change one option of the only LSTM layer, or of its Bidirectional, in a file's config."""

    def edited(text):
        config = json.loads(text)
        (layer,) = (entry["config"] for entry in config["config"]["layers"] if entry["class_name"] != "InputLayer")
        halves = [layer[key]["config"] for key in ("layer", "backward_layer") if key in layer] or [layer]
        for holder in [layer] if option in layer else halves:
            assert holder.get(option) != value
            holder[option] = value
        return json.dumps(config)

    if path.endswith(".h5"):
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = edited(file.attrs["model_config"])
        return
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["config.json"] = edited(members["config.json"]).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def failures_without_a_run(source, target):
    """Return what fails in a target where its framework is not installed, or not asked."""
    return verify_file(lstmconv.load(source), open_place(Path(target)), run=False).failures


OTHER_OPTIONS = {
    "merge_mode": ("ave", "merges its directions by ave", "merges its directions by concat"),
    "return_sequences": (False, "returns the last step", "returns every step"),
    "return_state": (True, "returns its states", "returns no states"),
    "stateful": (True, "starts a batch where the previous one ended (stateful)", "starts every batch from zeros"),
    "zero_output_for_mask": (True, "returns zeros at masked steps", "repeats the last output at masked steps"),
    "time_major": (True, "takes (time, batch, ...)", "takes (batch, time, ...)"),
    "go_backwards": (True, "runs backwards", "runs forwards"),
}


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("option", OTHER_OPTIONS)
def test_a_twin_whose_layer_has_another_option_differs(folder, suffix, option):
    """The weights are the source's, and the output is another: only its config says so, to ``check`` and ``verify``."""
    value, found, expected = OTHER_OPTIONS[option]
    if option == "merge_mode":
        shutil.copy(ROOT / "sample_weights/tf_keras_bidirectional.h5", "model.h5")
    else:
        write_lstm(folder / "model.h5", return_sequences=True)
    twin = f"twin{suffix}"
    # Keras 3 has no time_major, and one that states it is none of Keras 3.
    convert("model.h5", twin, whole=False, keras_version=2 if option == "time_major" else 3)
    assert rules(twin) == ("passed", [])
    assert not failures_without_a_run("model.h5", twin)
    edit_config(twin, option, value)
    assert rules(twin) == ("failed", ["twin-differs"])
    assert only(twin).message == f"{found}, but model.h5 {expected}"
    (failure,) = failures_without_a_run("model.h5", twin)
    assert failure.level == "structure"
    assert failure.detail.endswith(f" {found}, the source {expected}")


def test_a_stateful_layer_that_was_written_without_its_states_is_no_difference(folder):
    """Keras needs a fixed batch size for them, and a note says so."""
    write_lstm(folder / "model.h5", stateful=True)
    convert("model.h5", "twin.keras", whole=False)
    assert rules("twin.keras") == ("passed", [])
    assert not failures_without_a_run("model.h5", "twin.keras")


@pytest.mark.parametrize("name", ["keras-2.1.6/lstm_relu", "keras-2.2.4/masking"])
def test_a_whole_twin_for_another_keras_is_no_difference(folder, name):
    """Weights of the old hard_sigmoid are multiplied by 1.2; a Bidirectional that repeats its output is two layers."""
    shutil.copy(ROOT / f"tests/golden/{name}.h5", "model.h5")
    convert("model.h5", "twin.h5", whole=True, keras_version=3)
    assert rules("twin.h5")[0] == "passed"
    with h5py.File("twin.h5", "r+") as file:
        found = []
        file.visititems(lambda name, item: found.append(item) if name.endswith("recurrent_kernel") else None)
        found[0][0, 0] += 1
    assert rules("twin.h5") == ("failed", ["twin-differs"])


@pytest.mark.parametrize("bias_mode", [None, "recurrent", "both-halves"])
def test_a_twin_of_cudnn_layers_has_both_biases(folder, bias_mode):
    """It is opened as a Keras file, whose other layers have one bias; this one is written with two."""
    write_lstm(folder / "model.h5")
    convert("model.h5", "twin.cudnn.h5", bias_mode=bias_mode)
    assert rules("twin.cudnn.h5") == ("passed", [])
    assert not failures_without_a_run("model.h5", "twin.cudnn.h5")
    edit("twin.cudnn.h5", "bias:0", lambda values: values + 1)
    assert rules("twin.cudnn.h5") == ("failed", ["twin-differs"])
    assert failures_without_a_run("model.h5", "twin.cudnn.h5")


@pytest.mark.parametrize("suffix", [".pt", ".onnx", ".weights.h5"])
def test_a_twin_of_a_layer_that_returns_something_else_now_differs(folder, suffix):
    """Its record says what the layer returned when the twin was written."""
    write_lstm(folder / "model.h5", return_sequences=True)
    convert("model.h5", f"twin{suffix}", whole=False)
    assert rules(f"twin{suffix}") == ("passed", [])
    edit_config("model.h5", "return_sequences", False)
    assert only(f"twin{suffix}").message == "returns every step, but model.h5 returns the last step"


def test_an_overruled_activation_is_no_difference_and_stays_in_the_command(folder):
    write_lstm(folder / "model.h5")
    convert("model.h5", "model.onnx", recurrent_activation="hard_sigmoid_keras3")
    assert rules("model.onnx") == ("passed", [])
    retrain("model.h5")
    assert "--recurrent-activation hard_sigmoid_keras3" in only("model.onnx").fix


def test_a_record_that_somebody_edited_is_not_trusted(folder):
    write_lstm(folder / "model.h5")
    convert("model.h5", "model.onnx", dtype="float16")
    model = onnx.load("model.onnx")
    (entry,) = model.metadata_props
    entry.value = json.dumps({**json.loads(entry.value), "stacks": [{"name": 3}]})
    onnx.save(model, "model.onnx")
    retrain("model.h5")
    found = only("model.onnx")
    assert found.rule == "twin-differs"
    assert found.fix is None


# Settings


def configure(folder, text):
    (folder / "pyproject.toml").write_text(text)


def test_settings_are_those_of_the_nearest_pyproject_that_has_them(folder):
    configure(folder, '[tool.lstmconv]\nignore = ["*.h5"]\n')
    inner = folder / "inner"
    inner.mkdir()
    (inner / "pyproject.toml").write_text("[project]\nname = 'inner'\n")
    write_lstm(inner / "model.h5")
    assert rules("inner/model.h5") == ("ignored", [])
    (inner / ".git").mkdir()
    assert rules("inner/model.h5") == ("passed", [])


@pytest.mark.parametrize("pattern", ["model.h5", "*.h5", "tests/data/*", "tests", "tests/", "tests/*/model.h5"])
def test_ignored_files_are_not_opened(folder, pattern):
    configure(folder, f'[tool.lstmconv]\nignore = ["{pattern}"]\n')
    (folder / "tests/data").mkdir(parents=True)
    (folder / "tests/data/model.h5").touch()
    assert rules("tests/data/model.h5") == ("ignored", [])


def test_a_pattern_that_fits_nothing_ignores_nothing(folder):
    configure(folder, '[tool.lstmconv]\nignore = ["other/*"]\n')
    write_lstm(folder / "model.h5")
    assert rules("model.h5") == ("passed", [])


def test_severity_turns_rules_into_errors_warnings_or_nothing(folder):
    kernel, recurrent, bias = fused(3, 5)
    write_lstm(folder / "model.h5", arrays=[kernel, 0 * recurrent, bias])
    for level, status, found in (("error", "failed", 1), ("warning", "passed", 1), ("off", "passed", 0)):
        configure(folder, f'[tool.lstmconv.severity]\nrecurrent-zero = "{level}"\n')
        (result,) = lstmconv.check(["model.h5"])
        assert (result.status, len(result.findings)) == (status, found)


def test_pairs_take_the_place_of_names(folder):
    (folder / "deploy").mkdir()
    write_lstm(folder / "model.h5")
    write_lstm(folder / "model.onnx.h5", 2, 4)
    convert("model.h5", "deploy/anything.onnx")
    save_file(state_dict(fused(3, 5, seed=7)), "model.safetensors")
    configure(folder, '[tool.lstmconv.pairs]\n"model.h5" = "deploy/anything.onnx"\n')
    (result,) = lstmconv.check(["model.h5"])
    assert (result.status, result.twins) == ("passed", (str(Path("deploy/anything.onnx")),))
    assert rules("model.safetensors") == ("passed", [])
    retrain("model.h5")
    found = only("deploy/anything.onnx")
    assert found.fix == "lstmconv convert model.h5 deploy/anything.onnx --force"


def test_a_pair_that_is_not_there_fails(folder):
    write_lstm(folder / "model.h5")
    configure(folder, '[tool.lstmconv.pairs]\n"model.h5" = ["model.onnx"]\n')
    found = only("model.h5")
    assert (found.rule, found.fix) == ("twin-missing", "lstmconv convert model.h5 model.onnx")


def test_required_targets_must_be_there(folder):
    write_lstm(folder / "model.h5")
    configure(folder, '[tool.lstmconv]\nrequired-targets = ["onnx", "torch"]\n')
    convert("model.h5", "model.pth")
    found = only("model.h5")
    assert (found.rule, found.fix) == ("twin-missing", "lstmconv convert model.h5 model.onnx")
    convert("model.h5", "model.onnx")
    assert [result.status for result in lstmconv.check(["model.h5", "model.onnx", "model.pth"])] == ["passed"] * 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tool.lstmconv]\nignored = []", "unknown key 'ignored'; known are ignore, pairs, required-targets, severity"),
        ("[tool.lstmconv]\nignore = 3", "expected a list of strings"),
        ("[tool.lstmconv.severity]\nstuck = 'off'", f"unknown rule 'stuck'; known are {', '.join(RULES)}"),
        ("[tool.lstmconv.severity]\ngate-stuck = 'low'", "expected one of error, warning, off"),
        ("[tool.lstmconv]\nrequired-targets = ['.onnx']", "known are torch, cudnn, safetensors, onnx"),
        ("[tool.lstmconv]\npairs = []", "expected a table"),
        ("[tool]\nlstmconv = 3", "expected a table"),
        ("[tool.lstmconv", "cannot be read as TOML"),
    ],
)
def test_settings_that_nobody_understands_are_one_line(folder, text, said):
    configure(folder, text)
    write_lstm(folder / "model.h5")
    with pytest.raises(lstmconv.UsageError) as error:
        lstmconv.check(["model.h5"])
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    done = run("check", "model.h5")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_settings_may_lie_elsewhere(folder):
    (folder / "ci").mkdir()
    (folder / "ci/lstm.toml").write_text('[tool.lstmconv]\nignore = ["model.h5"]\n')
    Path("model.h5").touch()
    assert rules("model.h5", settings="ci/lstm.toml") == ("ignored", [])
    with pytest.raises(lstmconv.UsageError, match="no such file"):
        lstmconv.check(["model.h5"], settings="none.toml")


def test_the_hook_asks_for_every_suffix_that_is_checked():
    (pattern,) = re.findall(r"files: (.*)", (ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    # Few Python files are sources of lstmconv's; those are checked as twins of a file that the hook asks for.
    asked = {*SUFFIXES, ".H5"} - {".py"}
    assert all(re.search(pattern, f"models/a{suffix}") for suffix in asked)
    assert not re.search(pattern, "a.h5.md")


def test_the_project_itself_has_no_settings():
    assert find_settings(ROOT / "sample_weights" / "model.h5").pairs == {}


# What is printed


def test_every_file_has_its_line_even_after_a_bad_one(folder):
    write_lstm(folder / "good.h5")
    Path("empty.h5").touch()
    write_lstm(folder / "stale.h5")
    convert("stale.h5", "stale.onnx")
    retrain("stale.h5")
    done = run("check", "empty.h5", "stale.onnx", "good.h5", "notes.txt")
    assert done.returncode == 1
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "✗ empty.h5  the file is empty; restore or download it again [damaged]"
    assert lines[1].startswith("✗ stale.onnx  lstm_1: its recurrent weights differ in 1 of 100 numbers")
    assert lines[2] == "    run: lstmconv convert stale.h5 stale.onnx --force"
    assert lines[3:] == ["✓ good.h5  lstm_1", "4 files: 1 passed, 2 failed, 1 ignored"]


def test_json_is_one_object(folder):
    write_lstm(folder / "model.h5")
    convert("model.h5", "model.onnx")
    retrain("model.h5")
    done = run("check", "--json", "model.onnx", GITHUB_ACTIONS="true")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["passed"] is False
    (file,) = found["files"]
    (finding,) = file.pop("findings")
    assert file == {"path": "model.onnx", "status": "failed", "layers": ["lstm_1"], "twins": []}
    assert sorted(finding) == ["fix", "layer", "message", "rule", "severity"]


def test_annotations_are_printed_in_github_actions_and_escaped(folder):
    name = "a,b:100%.h5"
    Path(name).touch()
    done = run("check", name, GITHUB_ACTIONS="true")
    command = done.stdout.splitlines()[-1]
    assert command == (
        "::error file=a%2Cb%3A100%25.h5,title=lstmconv check%3A damaged::"
        "the file is empty; restore or download it again [damaged]"
    )
    assert "::" not in run("check", name).stdout


def test_a_file_name_cannot_write_a_line_of_its_own(folder):
    name = "a\n::error::b\x1b[31m.h5"
    Path(name).touch()
    done = run("check", name, GITHUB_ACTIONS="true")
    assert "\x1b" not in done.stdout
    assert not any(line.startswith("::error::") for line in done.stdout.splitlines())


def test_a_check_loads_no_framework_and_no_format_it_does_not_need(folder):
    write_lstm(folder / "model.h5")
    code = (
        "import sys; from lstmconv.cli import main; sys.argv = ['lstmconv', 'check', 'model.h5']\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "print(sorted(loaded & {'torch', 'onnxruntime', 'keras', 'tensorflow', 'jax', 'onnx', 'safetensors'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_twins_are_compared_without_loading_a_framework(folder):
    write_lstm(folder / "model.h5")
    for suffix in TARGETS:
        convert("model.h5", f"model{suffix}")
    code = (
        "import sys, lstmconv; results = lstmconv.check(['model.h5'])\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "print(len(results[0].twins), sorted(loaded & {'torch', 'onnxruntime', 'keras', 'tensorflow', 'jax'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout == "4 []\n"


def test_files_are_checked_in_processes_with_the_same_results_in_the_same_order(folder):
    """Sources and twins in step and not, a file that is none, one that is damaged, and one given twice."""
    for number in range(5):
        write_lstm(folder / f"m{number}.h5", units=3 + number)
        convert(f"m{number}.h5", f"m{number}.onnx")
    shutil.copy("m3.onnx", "m4.onnx")
    (folder / "empty.h5").touch()
    (folder / "cut.h5").write_bytes((folder / "m1.h5").read_bytes()[:900])
    (folder / "notes.txt").write_text("no checkpoint")
    names = [*sorted(path.name for path in folder.iterdir() if path.is_file()), "m2.h5", "gone.h5"]
    alone = lstmconv.check(names)
    assert {result.status for result in alone} >= {"passed", "failed", "ignored", "not done"}
    for jobs in (2, 5):
        assert lstmconv.check(names, jobs=jobs) == alone


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills its own process")
def test_a_file_that_brings_its_process_down_is_said_to_in_one_line(folder):
    hostile = ROOT / "tests" / "hostile" / "regressions" / "a_heap_that_the_library_walks_for_ever.weights.h5"
    shutil.copy(hostile, "bad.weights.h5")
    for name in ("a.h5", "b.h5"):
        write_lstm(folder / name)
    done = run("check", "a.h5", "bad.weights.h5", "b.h5", "--jobs", "2", LSTMCONV_HDF5_SECONDS="1")
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["✓", "✗", "✓", "3"]
    assert "hangs on it" in done.stdout


_KILLED_AT_B = """
import json, os, signal
import lstmconv
from lstmconv.checking.running import _Run

checked = _Run.one

def one(self, path):
    if path.name == "b.h5":
        os.kill(os.getpid(), signal.SIGKILL)
    return checked(self, path)

_Run.one = one
print(json.dumps([result.to_json() for result in lstmconv.check(["a.h5", "b.h5", "c.h5"], jobs=2)]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills its own process")
def test_a_process_that_is_killed_is_the_result_of_its_files_alone(folder):
    """Two jobs for three files; what a library does to its process stops neither the other files nor the caller.

    In a process of its own: workers are forked, and inherit the changed method, where nothing has started threads.
    """
    for name in ("a.h5", "b.h5", "c.h5"):
        write_lstm(folder / name)
    done = subprocess.run([sys.executable, "-c", _KILLED_AT_B], cwd=folder, capture_output=True, text=True, check=True)
    results = json.loads(done.stdout)
    assert [result["status"] for result in results] == ["passed", "not done", "passed"]
    assert "checking b.h5: it crashes the process that reads it (signal 9)" in str(results[1]["findings"])


def test_patterns_are_expanded_and_one_that_fits_nothing_is_told(folder):
    for name in ("b.h5", "a.h5"):
        write_lstm(folder / name)
    done = run("check", "*.h5")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "2 files: 2 passed")
    assert [line.split()[1] for line in done.stdout.splitlines()[:2]] == ["a.h5", "b.h5"]
    done = run("check", "*.keras")
    assert (done.returncode, done.stderr) == (
        2,
        "lstmconv: no file matches the pattern *.keras; check the folder and the spelling\n",
    )


def test_real_files_are_judged_as_their_owners_would(real_files):
    """Only the pointer and the link fail; nothing is said of a gate in any of the trained ones."""
    paths = [path for path in sorted(real_files.rglob("*")) if path.name.endswith((".h5", ".hdf5", ".keras"))]
    results = lstmconv.check(paths)
    assert len(results) == 54
    failed = [Path(result.path).name.split(".")[0] for result in results if not result.passed]
    assert sorted(failed) == ["iamaaditya", "pcko1"]
    said = {finding.rule for result in results for finding in result.findings}
    assert said == {"damaged", "not-checked", "activation-unknown", "forget-bias-untrained"}


def test_docs_list_every_rule():
    page = (ROOT / "docs" / "check.md").read_text(encoding="utf-8")
    for name, rule in RULES.items():
        assert f"| `{name}` | {rule.severity} | {rule.meaning} |" in page


# Whole models


def dense_behind_lstm(folder):
    """Write an LSTM and a Dense layer as Keras 2 does."""
    named = dict(zip(("lstm_1/kernel:0", "lstm_1/recurrent_kernel:0", "lstm_1/bias:0"), fused(3, 5), strict=True))
    dense = {"dense/kernel:0": random((5, 2), 7), "dense/bias:0": random((2,), 8)}
    options = {"name": "dense", "units": 2, "activation": "linear", "use_bias": True}
    config = sequential(
        lstm_config(batch_input_shape=[None, None, 3], return_sequences=False),
        {"class_name": "Dense", "config": options},
    )
    return write_legacy(folder / "model.h5", {"lstm_1": named, "dense": dense}, config=config)


@pytest.mark.parametrize("suffix", [".onnx", ".pt", ".safetensors"])
def test_a_stale_layer_beside_the_lstm_fails_and_the_command_mends_it(folder, suffix):
    dense_behind_lstm(folder)
    convert("model.h5", f"model{suffix}", whole=True)
    assert rules(f"model{suffix}") == ("passed", [])
    edit("model.h5", "dense/bias:0", lambda values: values * [1, 2])
    found = only(f"model{suffix}")
    assert (found.rule, found.severity) == ("twin-differs", "error")
    assert "dense: bias differs in 1 of 2 numbers, first at bias[1]" in found.message
    assert found.fix == f"lstmconv convert model.h5 model{suffix} --force"
    assert run(*shlex.split(found.fix)[1:], "--no-verify").returncode == 0
    assert rules(f"model{suffix}") == ("passed", [])


@pytest.mark.parametrize("suffix", [".onnx", ".pt"])
def test_a_twin_of_lstm_layers_alone_stays_one(folder, suffix):
    dense_behind_lstm(folder)
    convert("model.h5", f"model{suffix}", whole=False)
    edit("model.h5", "dense/bias:0", lambda values: values + 1)
    assert rules(f"model{suffix}") == ("passed", [])
    retrain("model.h5")
    assert only(f"model{suffix}").fix == f"lstmconv convert model.h5 model{suffix} --lstm-only --force"
