"""Every command opens, parses and loads each file once, whatever is in it; a target is run by its own framework."""

from __future__ import annotations

import os
import sys
import zipfile
from collections import Counter
from pathlib import Path

import msgspec
import onnx
import onnxruntime
import pytest
import safetensors
import safetensors.torch
import torch
from typer.testing import CliRunner

from lstmconv import reporting
from lstmconv.cli import app
from lstmconv.formats.hdf5 import tree
from lstmconv.formats.onnx.reader import parse_lazily
from lstmconv.formats.record import Record
from lstmconv.formats.torch import containers
from lstmconv.formats.torch import safetensors as safetensors_format
from lstmconv.opening import load_file
from lstmconv.proof import outputs
from lstmconv.proof.models import checking
from tests.contract.building import make_half, write_h5

LAYERS = 40
SOURCE = {"HDF5 walk": 1}
PARSED = {
    ".pt": {"zip": 1, "pickle": 1, "record": 1},
    ".safetensors": {"header": 1, "safe_open": 1, "record": 1},
    ".onnx": {"protobuf": 1, "record": 1},
    ".cudnn.safetensors": {"header": 1, "safe_open": 1, "record": 1},
}
"""What reading a file takes, whatever the command does with it."""
LOADED = {".pt": "torch.load", ".safetensors": "load_file", ".onnx": "InferenceSession", ".cudnn.safetensors": None}
"""What its own framework does where it is run; cuDNN's weight space is run by an interpreter of the buffer read."""

READ = 1
"""How often lstmconv opens a path to read it: for detection, parsing, weights and hash together."""
RUN = {".pt": 1, ".safetensors": 0, ".onnx": 0, ".cudnn.safetensors": 0, ".keras": 2}
"""How often Python code of the file's own framework opens it besides: torch.load once; keras.models.load_model looks
for a zip and then reads it. safetensors, ONNX Runtime and HDF5 open files in compiled code: Python does not see it."""
WRITTEN = 2
"""A new target is opened to write it, and to have the system store it before it is renamed."""

_opened: Counter[str] = Counter()


def _note_opened(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str | bytes):
        _opened[Path(os.fsdecode(arguments[0])).name] += 1


sys.addaudithook(_note_opened)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a model of 40 LSTM layers in a row, and everything it converts to."""
    made = tmp_path_factory.mktemp("many")
    write_h5(made / "many.h5", {f"lstm_{number:02}": [make_half(3, 3, number)] for number in range(LAYERS)})
    for suffix in PARSED:
        invoke("convert", made / "many.h5", made / f"many{suffix}", "--no-verify")
    invoke("convert", made / "many.h5", made / "alone.pt", "--no-verify", "--lstm-only")
    invoke("convert", made / "many.h5", made / "alone.onnx", "--no-verify", "--lstm-only")
    return made


@pytest.fixture
def counted(monkeypatch):
    """Count what parses a file and what loads it; no mistakes are computed, which open nothing and take long."""
    counts: Counter[str] = Counter()

    def count(owner, name, label, *, reading=lambda *_: True):
        original = getattr(owner, name)

        def counting(*arguments, **options):
            counts[label] += reading(*arguments)
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, counting)

    count(tree, "described", "HDF5 walk")
    count(zipfile, "ZipFile", "zip", reading=lambda _, mode="r", *__: mode == "r")
    count(containers, "load", "pickle")
    count(safetensors_format, "parse_json", "header")
    count(safetensors, "safe_open", "safe_open")
    count(parse_lazily, "refuse_many_messages", "protobuf")
    count(onnx, "load", "protobuf")
    count(msgspec, "convert", "record", reading=lambda _, wanted: wanted is Record)
    count(torch, "load", "torch.load")
    count(safetensors.torch, "load_file", "load_file")
    count(onnxruntime, "InferenceSession", "InferenceSession")
    monkeypatch.setattr(checking, "wrong_models", lambda model, trial: ())
    monkeypatch.setattr(outputs, "outcomes", lambda *arguments, **options: ())
    _opened.clear()
    return counts


def invoke(*arguments):
    done = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def expected(suffix, *, run, source=True):
    loads = {LOADED[suffix]: 1} if run and LOADED[suffix] else {}
    return {**(SOURCE if source else {}), **PARSED[suffix], **loads}


@pytest.mark.parametrize("suffix", [".pt", ".onnx"])
def test_converting_parses_source_and_target_once_and_loads_the_target_once(suffix, folder, tmp_path, counted):
    invoke("convert", folder / "many.h5", tmp_path / f"new{suffix}")
    assert counted == expected(suffix, run=True)
    assert _opened["many.h5"] == READ
    assert _opened[f"new{suffix}"] == WRITTEN + READ + RUN[suffix]


@pytest.mark.parametrize("suffix", [".safetensors", ".cudnn.safetensors"])
def test_converting_unverified_opens_source_and_target_once(suffix, folder, tmp_path, counted):
    invoke("convert", folder / "many.h5", tmp_path / f"new{suffix}", "--no-verify")
    assert (_opened["many.h5"], _opened[f"new{suffix}"]) == (READ, WRITTEN + READ)


def test_a_keras_archive_is_opened_once_beside_keras(tmp_path, counted):
    """Real Keras loads it; h5py and zipfile decode it from the bytes that are there."""
    write_h5(tmp_path / "one.h5", {"lstm": [make_half(3, 3, 1)]})
    invoke("convert", tmp_path / "one.h5", tmp_path / "one.keras", "--lstm-only")
    assert _opened["one.keras"] == WRITTEN + READ + RUN[".keras"]
    _opened.clear()
    invoke("verify", tmp_path / "one.h5", tmp_path / "one.keras")
    assert (_opened["one.h5"], _opened["one.keras"]) == (READ, READ + RUN[".keras"])


@pytest.mark.parametrize("name", [*(f"many{suffix}" for suffix in PARSED), "alone.pt", "alone.onnx"])
def test_verifying_parses_both_files_once_and_loads_the_target_once(name, folder, counted):
    """Of a whole model, and of 40 layers that are run one by one."""
    invoke("verify", folder / "many.h5", folder / name, "--steps", "2", "--batch", "1")
    suffix = name[name.index(".") :]
    assert counted == expected(suffix, run=True)
    assert _opened["many.h5"] == READ
    assert _opened[name] == READ + RUN[suffix]


@pytest.mark.parametrize("suffix", PARSED)
def test_inspecting_parses_a_file_once_and_loads_no_framework(suffix, folder, counted):
    invoke("inspect", folder / f"many{suffix}")
    assert counted == expected(suffix, run=False, source=False)
    assert _opened[f"many{suffix}"] == READ


def test_checking_parses_every_file_once(folder, counted):
    """A source and its twins are compared, and each is checked by itself."""
    files = [folder / "many.h5", *(folder / f"many{suffix}" for suffix in PARSED)]
    (folder / "alone.pt").rename(folder / "alone")
    (folder / "alone.onnx").rename(folder / "alone_")
    try:
        invoke("check", *files)
    finally:
        (folder / "alone").rename(folder / "alone.pt")
        (folder / "alone_").rename(folder / "alone.onnx")
    total = Counter(SOURCE)
    for parsed in PARSED.values():
        total += Counter(parsed)
    assert counted == total
    assert {file.name: _opened[file.name] for file in files} == {file.name: READ for file in files}


@pytest.mark.parametrize("suffix", [".pt", ".onnx"])
def test_a_report_parses_both_files_once_and_loads_the_target_once(suffix, folder, counted):
    reporting.gather(load_file(folder / "many.h5"), [folder / f"many{suffix}"])
    assert counted == expected(suffix, run=True)
