"""The command line as a newcomer types it: folders, several targets, JSON errors, suggestions, Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import lstmconv
from lstmconv.cli import main
from tests._cases import fused, write_lstm, write_saveable


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Return a function that runs a command in a folder, as the installed program does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)

    def called(*arguments):
        monkeypatch.setattr(sys, "argv", ["lstmconv", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    write_lstm("m.h5")
    return called


def files():
    return sorted(str(path) for path in Path().rglob("*") if path.is_file())


# Folders and targets


def test_a_target_with_a_slash_is_a_folder_that_is_made(run):
    assert run("convert", "m.h5", "new/deep/", "--to", "onnx", "--no-verify")[0] == 0
    assert files() == ["m.h5", "new/deep/m.onnx"]


def test_one_format_and_a_folder_work_as_several_do(run):
    Path("there").mkdir()
    assert run("convert", "m.h5", "there", "--to", "torch", "--no-verify")[0] == 0
    assert run("convert", "m.h5", "both", "--to", "torch", "--to", "onnx", "--no-verify")[0] == 0
    assert files() == ["both/m.onnx", "both/m.pt", "m.h5", "there/m.pt"]


def test_a_folder_needs_a_format_and_says_so(run):
    Path("there").mkdir()
    for folder in ("there", "new/"):
        code, _, error = run("convert", "m.h5", folder)
        assert (
            code,
            f"{folder.rstrip('/')} is a folder; add the format of the target, such as --to onnx" in error,
        ) == (2, True)
    assert files() == ["m.h5"]


def test_no_folder_is_left_of_a_conversion_that_failed(run):
    write_lstm("nan.h5", arrays=[np.full_like(array, np.nan) for array in fused(3, 5)])
    assert run("convert", "nan.h5", "new/", "--to", "onnx")[0] == 2
    assert not Path("new").exists()


def test_a_file_in_the_place_of_a_folder_is_not_said_to_be_missing(run):
    Path("a.txt").write_text("notes")
    error = run("convert", "m.h5", "a.txt", "--to", "onnx", "--to", "torch")[2]
    assert "a.txt is a file, expected a folder for the targets" in error


def test_one_source_and_several_targets(run):
    code, out, _ = run("convert", "m.h5", "a.pt", "b.onnx", "--no-verify")
    assert (code, files()) == (0, ["a.pt", "b.onnx", "m.h5"])
    assert "wrote a.pt\nwrote b.onnx\n" in out


def test_a_second_source_is_never_overwritten_as_a_target(run):
    write_lstm("n.h5", 2, 3)
    before = Path("n.h5").read_bytes()
    code, _, error = run("convert", "m.h5", "n.h5", "x.onnx", "--force")
    assert (code, "is n.h5 a second source, or a target to replace?" in error) == (2, True)
    assert (Path("n.h5").read_bytes(), files()) == (before, ["m.h5", "n.h5"])


# Errors and suggestions


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect", "none.h5"], "none.h5: no such file"),
        (["convert", "m.h5", "x.pt", "--dtype", "fp16"], "did you mean float16?"),
        (["convert", "m.h5"], "no target is given"),
        (["inspect"], "Missing argument"),
        (["verify", "m.h5", "none.pt"], "none.pt: no such file"),
    ],
)
def test_an_error_under_json_is_json(arguments, words, run):
    code, out, _ = run(*arguments, "--json")
    assert (code, words in json.loads(out)["error"]) == (2, True)


def test_files_of_other_sizes_are_not_equal(run):
    write_lstm("other.h5", 7, 2)
    code, out, _ = run("verify", "m.h5", "other.h5", "--json")
    assert (code, json.loads(out)["passed"]) == (1, False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["convert", "m.h5", "x.pt", "--to", "pytorch"], "did you mean torch?"),
        (["convert", "m.h5", "x.pt", "--dtype", "fp16"], "did you mean float16?"),
        (["convert", "m.h5", "x.pt", "--dtype", "bf16"], "did you mean bfloat16?"),
        (["inspect", "m.h5", "--recurrent-activation", "hardsigmoid"], "did you mean hard_sigmoid?"),
        (["m.h5", "m.pt"], "m.h5 is no command; did you mean: lstmconv convert m.h5 m.pt"),
        (["m.h5"], "did you mean: lstmconv inspect m.h5"),
        (["convrt", "m.h5"], "did you mean convert?"),
        (["convert", "m.h5", "-", "--to", "onnx"], "-: nothing is written to standard output; pass the name of a file"),
        (["inspect", "-"], "-: standard input is not read; pass the name of a file"),
    ],
)
def test_what_was_meant_is_suggested(arguments, words, run):
    code, _, error = run(*arguments)
    assert (code, words in error) == (2, True)
    assert files() == ["m.h5"]


def test_a_wrong_activation_is_the_options_fault(run):
    error = run("inspect", "m.h5", "--recurrent-activation", "sigmod")[2]
    assert error == "lstmconv: --recurrent-activation: 'sigmod' is no activation of Keras; did you mean sigmoid?\n"


def test_the_short_option_prints_the_version(run):
    assert run("-V")[1] == run("--version")[1] == f"lstmconv {lstmconv.__version__}\n"


def test_sentences_of_the_help_are_whole(run):
    shown = " ".join(run("--help")[1].split())
    assert "..." not in shown.replace("[ARGS]...", "")
    for sentence in (
        "check that the result computes the same.",
        "which target can hold them.",
        "the proof of each target.",
    ):
        assert sentence in shown


def test_the_help_lists_options_by_topic(run):
    """The everyday ones come first, without a topic; a topic says what its options are for, each option need not."""
    shown = run("convert", "--help")[1]
    topics = [line for line in shown.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert topics == [
        *("Arguments:", "Options:", "Which layers:", "Targets of one format:", "The source:"),
        *("The source is a weights-only Keras file:", "The source is a bare cuDNN buffer:", "Many files:"),
    ]
    of = {topic: shown.split(f"\n{topic}\n")[1].split("\n\n")[0] for topic in topics}
    for option, topic in [
        *(("--force", "Options:"), ("--json", "Options:"), ("--rename", "Which layers:")),
        *(("--opset", "Targets of one format:"), ("--from", "The source:"), ("--jobs", "Many files:")),
        *(("--merge-mode", topics[5]), ("--hidden-size", topics[6]), ("--dask", "Many files:")),
    ]:
        assert f"  {option}" in of[topic]


def test_ctrl_c_says_what_it_left(tmp_path):
    write_lstm(tmp_path / "m.h5")
    script = (
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"  # Jobs in the background ignore it.
    )
    script += (
        "import lstmconv.converting as c, time\nc.load_file = lambda *a: (print('on', flush=True), time.sleep(60))\n"
    )
    script += "import sys; sys.argv = ['lstmconv', 'convert', 'm.h5', 'm.pt']\nfrom lstmconv.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "on\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (130, "lstmconv: stopped; nothing was written\n")
    assert [path.name for path in tmp_path.iterdir()] == ["m.h5"]


# What a file of weights alone does not say


def test_the_user_says_what_a_file_of_weights_alone_leaves_open(run):
    write_saveable("w.weights.h5", {"layers/lstm/cell": fused(3, 5)})
    say = ["--recurrent-activation", "sigmoid"]
    assert (
        "does not say return_sequences (assumed: every step), go_backwards (assumed: forwards)"
        in run("inspect", "w.weights.h5", *say)[2]
    )
    code, out, error = run("inspect", "w.weights.h5", *say, "--last-step", "--go-backwards", "--json")
    (layer,) = json.loads(out)["layers"]
    assert (code, layer["return_sequences"], layer["directions"][0]["go_backwards"]) == (0, False, True)
    assert "does not say" not in error


def test_layers_computed_as_the_user_says_return_what_keras_returns(run):
    """Backwards and the last step alone: the reference of the same layer with both options stated by a file."""
    arrays = write_lstm("stated.h5", go_backwards=True, return_sequences=False)
    write_saveable("w.weights.h5", {"layers/lstm/cell": arrays})
    x = np.random.default_rng(0).normal(size=(2, 7, 3))
    told = lstmconv.load("w.weights.h5", recurrent_activation="sigmoid", return_sequences=False, go_backwards=True)
    expected = lstmconv.reference(lstmconv.load("stated.h5")[0], x)
    np.testing.assert_array_equal(lstmconv.reference(told[0], x), expected)


def test_a_merge_mode_is_for_layers_of_two_directions(run):
    cells = {
        f"layers/bidirectional/{way}_layer/cell": fused(3, 5, seed) for seed, way in enumerate(("forward", "backward"))
    }
    write_saveable("both.weights.h5", cells)
    write_saveable("one.weights.h5", {"layers/lstm/cell": fused(3, 5)})
    say = {"recurrent_activation": "sigmoid", "merge_mode": "sum"}
    assert lstmconv.load("both.weights.h5", **say)[0].merge_mode == "sum"
    with pytest.raises(lstmconv.UsageError, match="no layer has two directions to merge"):
        lstmconv.load("one.weights.h5", **say)
    with pytest.raises(lstmconv.UsageError, match="'average' is not one of concat, sum"):
        lstmconv.load("both.weights.h5", merge_mode="average")


def test_what_a_file_states_is_not_for_the_user_to_say(run):
    with pytest.raises(lstmconv.UsageError, match=r"m.h5: states how its layers run; return_sequences"):
        lstmconv.load("m.h5", return_sequences=False)


def test_the_hook_repeats_what_the_user_said_and_calls_no_twin_stale(run):
    write_saveable("w.weights.h5", {"layers/lstm/cell": fused(3, 5)})
    said = {"recurrent_activation": "sigmoid", "return_sequences": False, "go_backwards": True}
    lstmconv.convert("w.weights.h5", "w.onnx", verify=False, **said)
    assert [result.status for result in lstmconv.check(["w.weights.h5", "w.onnx"])] == ["passed", "passed"]
    write_saveable("w.weights.h5", {"layers/lstm/cell": fused(3, 5, 1)})
    (finding,) = lstmconv.check("w.onnx")[0].findings
    assert finding.fix.endswith("--last-step --go-backwards --force")


# Inspect


def test_inspect_shows_the_size_of_each_bias_and_what_a_module_becomes(run):
    import torch

    torch.save(torch.nn.LSTM(3, 5, num_layers=2).state_dict(), "t.pt")
    out = run("inspect", "t.pt")[1]
    assert "bias_ih, bias_hh  (20,) each" in out
    assert "one module of 2 layers" in out
    assert "2 LSTM nodes, each fed by the one before" in out
