"""A folder is one model, whatever wrote it: every command takes it by one rule, and refuses one that holds several."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import lstmconv
from lstmconv.cli import app
from lstmconv.errors import LstmconvError, UnreadableFileError, UsageError
from tests._cases import GOLDEN
from tests.test_shared_suffixes import PATTERN
from tests.test_tensorflow import assert_same_model, only
from tests.test_tensorflow_js import made

__all__ = ["made"]

pytestmark = pytest.mark.usefixtures("trusted_golden_files")


@pytest.fixture
def chain(tmp_path) -> Path:
    """Return the folder of one model in TensorFlow 2.8's containers, beside its .h5."""
    return only(tmp_path, "2.8.4") / "chain"


def run(*argv: object) -> tuple[int, str, str]:
    """Run the command line; return its exit code and what it wrote."""
    done = CliRunner().invoke(app, [str(each) for each in argv], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


KINDS = {
    "SavedModel": lambda chain, _: chain / "saved_model",
    "TensorFlow.js": lambda _, made: made / "chain",
    "unpacked .keras": lambda chain, _: unpacked(chain.parent / "plain_name"),
    "checkpoint": lambda chain, _: chain / "object_based",
}


def unpacked(place: Path) -> Path:
    shutil.copytree(GOLDEN / "keras-3.15.1" / "lstm.folder", place)
    return place


@pytest.mark.parametrize("kind", KINDS)
def test_every_command_takes_a_folder_for_the_model_in_it(chain, made, kind, tmp_path):
    place = KINDS[kind](chain, made)
    config = ("--config", chain / "model.json") if kind == "checkpoint" else ()
    code, out, err = run("inspect", place, *config)
    assert (code, err) == (0, "")
    assert "to onnx           ✓ the whole model" in out
    code, _, err = run("convert", place, tmp_path / "out.onnx", "--whole", "--no-verify", *config)
    assert code == 0, err
    code, _, err = run("verify", place, tmp_path / "out.onnx", *config)
    assert code == 0, err
    (result,) = lstmconv.check(place)
    assert result.layers
    assert {finding.rule for finding in result.findings} == ({"activation-unknown"} if config else set())


def test_a_folder_of_tensorflow_js_is_the_model_of_its_model_json(made):
    place = made / "chain"
    expected = lstmconv.load(place / "model.json")
    assert_same_model(lstmconv.load(place).model, expected.model)
    shard = next(place.glob("group1-shard2of*.bin"))
    assert lstmconv.load(shard).provenance.sha256 == expected.provenance.sha256


def test_check_and_the_hook_know_the_files_of_tensorflow_js(made):
    place = made / "chain"
    files = sorted(place.iterdir())
    results = lstmconv.check(files)
    assert {(result.status, result.layers) for result in results} == {("passed", ("low", "both"))}
    assert all(re.search(PATTERN, f"web/{file.name}") for file in files)
    shard = next(place.glob("group1-shard2of*.bin"))
    shard.write_bytes(shard.read_bytes()[:-4])
    (result,) = lstmconv.check([shard])
    assert (result.status, result.findings[0].rule) == ("failed", "damaged")


@pytest.mark.parametrize("text", ["{}", '{"class_name": "Sequential"}', "[1]", ""])
def test_check_ignores_other_json(tmp_path, text):
    (tmp_path / "model.json").write_text(text)
    (tmp_path / "group1-shard1of1.bin").write_bytes(bytes(64))
    assert [result.status for result in lstmconv.check(sorted(tmp_path.iterdir()))] == ["ignored", "ignored"]


def both(chain: Path, made: Path) -> Path:
    """Return a folder that is a SavedModel, and holds a TensorFlow.js model and a checkpoint."""
    place = chain / "saved_model"
    for file in (*(made / "chain").iterdir(), *(chain / "object_based").iterdir()):
        shutil.copy(file, place)
    return place


def test_a_folder_that_holds_several_models_is_refused_and_names_them(chain, made):
    place = both(chain, made)
    says = r"several models: itself a TensorFlow SavedModel or checkpoint, cp\.ckpt\.index, model\.json; give a file"
    with pytest.raises(UnreadableFileError, match=says):
        lstmconv.load(place)
    for file, source in (("saved_model.pb", "saved_model"), ("cp.ckpt", "cp.ckpt.index"), ("model.json", "model.json")):
        config = chain / "model.json" if file == "cp.ckpt" else None
        assert lstmconv.load(place / file, config=config).provenance.source == source


def test_check_takes_each_model_of_such_a_folder(chain, made):
    place = both(chain, made)
    found = {Path(result.path).name: result.status for result in lstmconv.check(place)}
    assert found == {"cp.ckpt.index": "passed", "model.json": "passed", "keras_metadata.pb": "passed"}


def test_check_finds_the_folders_below_a_folder_each_once(chain, made):
    unpacked(chain / "plain_name")
    shutil.move(made / "chain", chain / "web")
    results = lstmconv.check(chain)
    found = {str(Path(result.path).relative_to(chain)) for result in results}
    assert {"saved_model", "plain_name", "web/model.json", "object_based/cp.ckpt.index", "model.h5"} <= found
    assert len(found) == len(results)
    assert not any(name.startswith(("saved_model/", "plain_name/")) for name in found)


def test_a_folder_without_a_model_says_what_is_expected(tmp_path):
    shutil.copy(GOLDEN / "keras-3.15.1" / "lstm.h5", tmp_path)
    with pytest.raises(UnreadableFileError, match=r"without model\.weights\.h5, .*; give one file in it") as caught:
        lstmconv.load(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_model_json_behind_a_link_is_not_followed(made):
    place = made / "chain"
    (place / "model.json").rename(made / "model.json")
    (place / "model.json").symlink_to(made / "model.json")
    with pytest.raises(LstmconvError, match="a folder without"):
        lstmconv.load(place)


CONFIGS = {
    "SavedModel": lambda chain, _: chain / "saved_model",
    "file of a SavedModel": lambda chain, _: chain / "saved_model" / "saved_model.pb",
    "TensorFlow.js": lambda _, made: made / "chain",
    "model.json of TensorFlow.js": lambda _, made: made / "chain" / "model.json",
    "whole .h5": lambda chain, _: chain / "model.h5",
    "to_json()": lambda chain, _: chain / "model.json",
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_config_is_taken_from_whatever_holds_one(chain, made, kind):
    expected = lstmconv.load(chain / "model.h5").model
    found = lstmconv.load(chain / "object_based", config=CONFIGS[kind](chain, made))
    assert_same_model(found.model, expected)


def test_a_saved_model_takes_a_config(chain):
    expected = lstmconv.load(chain / "model.h5").model
    assert_same_model(lstmconv.load(chain / "saved_model", config=chain / "model.json").model, expected)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("object_based", r"cp\.ckpt\.index: holds weights only, expected a model config in it"),
        ("object_based/cp.ckpt", r"cp\.ckpt\.index: holds weights only, expected a model config in it"),
        ("out.onnx", r"out\.onnx: a ONNX model, expected what model\.to_json\(\) writes"),
        ("nothing", r"nothing: no such file"),
        (".", "a folder without"),
    ],
)
def test_what_holds_no_config_is_refused_in_one_line(chain, name, says):
    lstmconv.convert(chain / "model.h5", chain / "out.onnx", verify=False)
    with pytest.raises(UnreadableFileError, match=says) as caught:
        lstmconv.load(chain / "object_based", config=chain / name)
    assert len(str(caught.value).splitlines()) == 1


def test_many_folders_are_converted_each_once_and_skipped_afterwards(chain, made, tmp_path):
    sources = [chain / "saved_model", made / "chain", unpacked(chain.parent / "plain")]
    out, options = tmp_path / "out", lstmconv.ConvertOptions(to=("torch",), verify=False)
    statuses = [
        [done.status for done in lstmconv.convert_many(sources, out, options, jobs=1, skip_existing=True)]
        for _ in range(2)
    ]
    assert statuses == [["converted"] * 3, ["skipped"] * 3]
    assert {path.name for path in out.iterdir()} == {"saved_model.pt", "model.pt", "plain.pt"}
    shutil.copytree(made / "chain", made / "again")
    with pytest.raises(UsageError, match="have the same target"):
        list(lstmconv.convert_many([made / "chain", made / "again"], out, options, jobs=1))
