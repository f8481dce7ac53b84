"""What a user types reaches the API, whichever command takes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import typer.main
from typer.testing import CliRunner

import lstmconv
from lstmconv.cli import app
from lstmconv.errors import UsageError
from lstmconv.formats import TARGETS

BARE = ["--input-size", "3", "--hidden-size", "5", "--num-layers", "2", "--bidirectional", "--buffer-dtype", "float64"]
"""What a buffer of an ``nn.LSTM(3, 5, 2, bidirectional=True)`` in float64 does not say of itself."""


def run(*arguments: object) -> str:
    """Run the command line in this process, and return what it prints on stdout."""
    done = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def module():
    torch.manual_seed(0)
    return torch.nn.LSTM(3, 5, 2, bidirectional=True, dtype=torch.float64)


@pytest.fixture
def bare(module, tmp_path) -> Path:
    """Write a buffer without the JSON file that says its sizes."""
    path = tmp_path / "m.cudnn.bin"
    lstmconv.save(lstmconv.from_torch(module, name="rnn"), path, raw=True)
    (tmp_path / "m.cudnn.json").unlink()
    return path


def test_a_bare_buffer_is_converted_by_what_its_options_say(bare, module, tmp_path):
    run("convert", bare, tmp_path / "m.pt", *BARE, "--layer", "m", "--no-verify")
    state = torch.load(tmp_path / "m.pt")
    assert state.keys() == module.state_dict().keys()
    for name, values in module.state_dict().items():
        torch.testing.assert_close(state[name], values, rtol=0, atol=0)


@pytest.mark.parametrize("command", ["inspect", "explain", "report", "verify"])
def test_every_command_that_reads_a_source_takes_the_sizes_of_a_bare_buffer(command, bare, module, tmp_path):
    lstmconv.save(lstmconv.from_torch(module, name="rnn"), tmp_path / "m.safetensors")
    more = {"report": ["-o", tmp_path / "m.html"], "verify": [tmp_path / "m.safetensors"]}.get(command, [])
    shown = json.loads(run(command, bare, *more, *BARE, "--json"))
    if command != "verify":
        assert [(each["input_size"], each["hidden_size"], each["dtype"]) for each in shown["layers"]] == [
            (3, 5, "float64"),
            (10, 5, "float64"),
        ]


def test_bias_mode_is_the_sources_where_the_source_is_a_bare_buffer(tmp_path):
    """Of a buffer with input biases alone, PyTorch's recurrent biases are zeros."""
    module = torch.nn.LSTM(3, 5)
    checkpoint = lstmconv.from_torch(module, name="rnn")
    lstmconv.save(checkpoint, tmp_path / "m.cudnn.bin", raw=True, bias_mode="single-input")
    (tmp_path / "m.cudnn.json").unlink()
    sizes = ["--input-size", "3", "--hidden-size", "5", "--bias-mode", "single-input"]
    run("convert", tmp_path / "m.cudnn.bin", tmp_path / "m.pt", *sizes, "--no-verify")
    state = torch.load(tmp_path / "m.pt")
    (ih,), (hh,) = ([state[key] for key in state if kind in key] for kind in ("bias_ih", "bias_hh"))
    torch.testing.assert_close(ih, (module.bias_ih_l0 + module.bias_hh_l0).detach(), rtol=0, atol=0)
    assert not hh.any()


def test_half_the_sizes_are_refused(bare):
    with pytest.raises(UsageError, match="both --input-size and --hidden-size"):
        CliRunner().invoke(app, ["inspect", str(bare), "--input-size", "3"], catch_exceptions=False)


def test_every_format_is_offered_and_no_other(monkeypatch):
    """Help, error and completion list the formats that are written."""
    command = typer.main.get_command(app).commands["convert"]
    (to,) = (each for each in command.params if "--to" in each.opts)
    names = {entry.name for entry in TARGETS}
    assert all(name in to.help for name in names)
    refused = CliRunner().invoke(app, ["convert", "m.h5", "--to", "nothing"])
    assert refused.exit_code == 2
    assert set(refused.output.partition("is not one of ")[2].strip(" \n│.").split(", ")) == names
    monkeypatch.setenv("_LSTMCONV_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "lstmconv convert m.h5 --to ")
    monkeypatch.setenv("COMP_CWORD", "4")
    offered = CliRunner().invoke(app, [], prog_name="lstmconv").stdout.split()
    assert set(offered) == names
