"""Files that nobody should trust: each is refused in one line, and nothing of it is followed or executed.

The files are made by ``files.py``; each is given to ``convert`` in a process of its own, whose
time, memory, started programs, opened sockets and written files are watched (``worker.py``).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from onnx import helper

from lstmconv.formats.safety.limits import LIMITS
from tests.hostile import tensorflow_files  # noqa: F401  # It adds its own to HOSTILE.
from tests.hostile.files import HOSTILE, Hostile, with_nodes
from tests.hostile.running import ROOT, Worker, faults


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    """Start a process that has loaded what is slow to load, and that forks for each file."""
    started = Worker(fork=True)
    yield started
    started.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the hostile file goes, with a place beside it for what it wants to reach."""
    inner = tmp_path / "hostile"
    inner.mkdir()
    return inner


def state_of(folder: Path) -> dict[str, str]:
    """Return what lies in a folder: each entry's kind and content."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        plain = path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 30
        found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if plain else str(path.lstat().st_mode)
    return found


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name.replace(" ", "-"))
def test_a_hostile_file_is_one_line_and_nothing_of_it_is_followed(worker: Worker, folder: Path, case: Hostile):
    source = case.make(folder)
    (folder / "canary").unlink(missing_ok=True)
    before = state_of(folder.parent)
    target = folder / "out.onnx"
    options = ["--no-verify", "--recurrent-activation", "sigmoid"]
    converted = worker.run(["convert", str(source), str(target), *options], folder)
    assert faults(converted) == []
    assert converted["code"] == (0 if case.says is None else 2)
    assert (case.says or "") in converted["stderr"]
    target.unlink(missing_ok=case.says is not None)
    assert state_of(folder.parent) == before
    if case.says is None:
        inspected = worker.run(["inspect", str(source)], folder)
        assert (inspected["code"], faults(inspected)) == (0, [])


@pytest.mark.parametrize("name", ["pickle by GLOBAL and REDUCE in zip", "external link to another file", "zip bomb"])
def test_the_command_itself_does_what_the_workers_do(folder: Path, name: str):
    case = next(case for case in HOSTILE if case.name == name)
    source = case.make(folder)
    command = [sys.executable, "-m", "lstmconv", "inspect", str(source)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=folder, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert case.says is not None
    assert case.says in done.stderr


def test_a_module_beside_an_untrusted_file_is_not_imported(folder: Path):
    """A second interpreter that is given a program looks for modules in the working directory first."""
    (folder / "h5py.py").write_text("open('canary', 'w')\n")
    (folder / "numpy.py").write_text("open('canary', 'w')\n")
    program = (
        "import sys, threading; sys.path[0] = sys.argv.pop(1); import h5py, lstmconv\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "print(lstmconv.load(sys.argv[1]).layers[0].name)\n"
    )
    source = ROOT / "sample_weights" / "airline_passengers.h5"
    command = [sys.executable, "-c", program, str(ROOT), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=folder)
    assert (done.stdout, done.stderr) == ("lstm\n", "")
    assert not (folder / "canary").exists()


def test_files_that_crash_or_hang_the_hdf5_library_cost_one_line(worker: Worker, folder: Path, hostile_files: Path):
    for path in sorted(hostile_files.glob("*.h5")):
        answer = worker.run(["inspect", str(path)], folder)
        assert faults(answer) == [], path.name


LIFTED = {
    "attributes of many megabytes": ("LSTMCONV_ATTRIBUTE_BYTES", "99999999"),
    "safetensors header of many megabytes": ("LSTMCONV_JSON_BYTES", "99999999"),
    "config of nine hundred levels": ("LSTMCONV_JSON_DEPTH", "950"),
    "pickle of endless opcodes": ("LSTMCONV_PICKLE_OPCODES", "9999999"),
    "chunks that inflate a thousandfold": ("LSTMCONV_INFLATION", "2000"),
}


@pytest.mark.parametrize("name", LIFTED)
def test_a_limit_is_lifted_by_the_variable_that_its_message_names(worker: Worker, folder: Path, name: str):
    case = next(case for case in HOSTILE if case.name == name)
    source = case.make(folder)
    variable, value = LIFTED[name]
    lifted = worker.run(["inspect", str(source)], folder, **{variable: value, "LSTMCONV_HDF5_SECONDS": "60"})
    assert variable not in lifted["stderr"]


def test_the_nodes_that_make_weights_are_counted(worker: Worker, folder: Path):
    nodes = [helper.make_node("Identity", [f"v{k}" if k else "stored"], [f"v{k + 1}"]) for k in range(9)]
    source = with_nodes(folder, *nodes, helper.make_node("Identity", ["v9"], ["W"]))
    answer = worker.run(["inspect", str(source)], folder, LSTMCONV_ONNX_EVALUATIONS="9")
    assert (answer["code"], faults(answer)) == (2, [])
    assert "over 9 nodes make its weights; if you trust the file, set LSTMCONV_ONNX_EVALUATIONS" in answer["stderr"]


def test_a_variable_that_is_no_number_is_one_line(worker: Worker, folder: Path):
    source = ROOT / "sample_weights" / "keras3_backwards.keras"
    answer = worker.run(["inspect", str(source)], folder, LSTMCONV_JSON_BYTES="many")
    assert answer["stderr"] == "lstmconv: LSTMCONV_JSON_BYTES is 'many', expected a whole number\n"


def test_docs_list_the_limits_that_hold():
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    table = page.split("<!-- limits:")[1].split("<!-- /limits -->")[0]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert rows == [f"| `{limit.variable}` | {limit.default:,} | {limit.reason} |" for limit in LIMITS]


REGRESSIONS = sorted(Path(__file__).with_name("regressions").iterdir())


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.stem)
def test_what_fuzzing_found_stays_mended(worker: Worker, folder: Path, path: Path):
    options = ["--no-verify", "--recurrent-activation", "sigmoid"]
    for argv in (["inspect", str(path)], ["convert", str(path), str(folder / "out.onnx"), *options]):
        answer = worker.run(argv, folder, LSTMCONV_HDF5_SECONDS="1")  # One of them hangs for as long as it may.
        assert (faults(answer), answer["code"] in (0, 2)) == ([], True)


def test_a_few_hundred_damaged_files_do_nothing_worse_than_an_error():
    """Run the command of docs/security.md; its docstring says what it checks."""
    command = [sys.executable, str(ROOT / "tests" / "fuzz.py"), "--runs", "200", "--seed", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "200 runs from seed 0" in done.stdout
