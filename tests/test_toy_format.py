"""A format is a row and a folder: every command works with one that nothing in lstmconv knows by name."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SAMPLE = TESTS.parent / "sample_weights" / "airline_passengers.h5"


def toy(*arguments, code=0):
    """Run the command line of tests/toy_format, and return what it prints."""
    command = [sys.executable, str(TESTS / "toy_format"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a Keras file and what it was converted to, told by the suffix."""
    made = tmp_path_factory.mktemp("toys")
    shutil.copy(SAMPLE, made / "m.h5")
    converted = json.loads(toy("convert", made / "m.h5", made / "m.toy", "--json"))
    statuses = {check["level"]: check["status"] for check in converted["reports"][0]["checks"]}
    assert statuses == {"structure": "passed", "weights": "passed", "outputs": "passed"}
    return made


def test_converting_by_name_writes_the_format_s_own_suffix(folder, tmp_path):
    toy("convert", folder / "m.h5", tmp_path, "--to", "toy", "--to", "onnx", "--no-verify")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "m.toy"]
    assert (tmp_path / "m.toy").read_bytes() == (folder / "m.toy").read_bytes()


def test_converting_from_it_carries_weights_and_activations(folder, tmp_path):
    toy("convert", folder / "m.toy", tmp_path / "again.pt", "--no-verify")
    toy("verify", folder / "m.h5", tmp_path / "again.pt")


def test_verifying_runs_it_and_finds_a_changed_weight(folder, tmp_path):
    assert "toy 1" in toy("verify", folder / "m.h5", folder / "m.toy")
    content = json.loads((folder / "m.toy").read_text())
    content["layers"]["lstm"]["r"]["g"][3][2] += 0.25
    (tmp_path / "m.toy").write_text(json.dumps(content))
    toy("verify", folder / "m.h5", tmp_path / "m.toy", code=1)


def test_checking_compares_it_with_its_source(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    checked = json.loads(toy("check", tmp_path / "m.h5", tmp_path / "m.toy", "--deep", "--json"))
    files = {Path(one["path"]).name: one for one in checked["files"]}
    assert {name: one["status"] for name, one in files.items()} == {"m.h5": "passed", "m.toy": "passed"}
    content = json.loads((tmp_path / "m.toy").read_text())
    content["layers"]["lstm"]["b"]["f"][5] += 1
    (tmp_path / "m.toy").write_text(json.dumps(content))
    toy("check", tmp_path / "m.h5", tmp_path / "m.toy", code=1)


def test_inspecting_shows_its_layout_and_what_it_can_hold(folder):
    of_keras, of_toy = (json.loads(toy("inspect", folder / name, "--json")) for name in ("m.h5", "m.toy"))
    assert of_keras["layers"][0]["targets"]["toy"] == {"possible": True, "note": "one toy layer"}
    assert of_toy["format"] == "toy"
    assert of_toy["layers"][0]["directions"][0]["gate_order"] == "ogfi"
    assert of_toy["layers"][0]["directions"][0]["activations"] == of_keras["layers"][0]["directions"][0]["activations"]


def test_the_table_of_layouts_shows_its_row():
    assert "tests/toy_format" in toy("formats")
