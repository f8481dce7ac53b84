"""What Windows asks: pipes in cp1252, files that move only when closed, no fork, no limits, processes spawned.

Windows itself is not at hand; its conditions are made here.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import pytest

import lstmconv
from lstmconv import converting

SAMPLES = Path(__file__).parents[1] / "sample_weights"
ROOT = Path(__file__).parents[1]


def run(program: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    path = os.pathsep.join([environment.pop("path", ""), str(ROOT)]).strip(os.pathsep)
    whole = {**os.environ, "PYTHONPATH": path, "KERAS_BACKEND": "torch", **environment}
    return subprocess.run([sys.executable, "-c", program], cwd=folder, env=whole, capture_output=True, check=False)


COMMANDS = [
    ["inspect", "модель.h5"],
    ["explain", "модель.h5"],
    ["convert", "модель.h5", "модель.pt"],
    ["convert", "модель.h5", "a.h5", "b.h5", "--to", "torch", "--into", "out", "--jobs", "1", "--no-verify"],
    ["verify", "модель.h5", "модель.pt"],
    ["run", "модель.h5", "x.npy"],
    ["check", "модель.h5", "модель.pt"],
    ["check", "bad.h5", "модель.h5"],
    ["formats"],
    ["report", "модель.h5", "-o", "r.html"],
    ["inspect", "нет.h5"],
]
JSON = [["inspect", "модель.h5"], ["verify", "модель.h5", "модель.pt"], ["check", "модель.h5"], ["formats"]]

RUN_ALL = """
import json, sys
from lstmconv.cli import main
codes = []
for arguments in json.loads(sys.argv[1] if len(sys.argv) > 1 else sys.stdin.readline()):
    sys.argv = ["lstmconv", *arguments]
    print("<<<", flush=True)
    try:
        main()
        code = 0
    except SystemExit as stopped:
        code = stopped.code or 0
    print(">>>", code, flush=True)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Give a folder with a model whose name no Western encoding has, and one without weights that are finite."""
    import h5py
    import numpy as np

    monkeypatch.chdir(tmp_path)
    for name in ("модель.h5", "a.h5", "b.h5", "bad.h5"):
        shutil.copy(SAMPLES / "airline_passengers.h5", name)
        Path(name).chmod(0o644)
    with h5py.File("bad.h5", "r+") as file:
        found = []
        file.visititems(lambda name, each: found.append(each) if isinstance(each, h5py.Dataset) else None)
        found[0][...] = np.nan
    np.save("x.npy", np.zeros((2, 12, 1), np.float32))
    return tmp_path


def run_all(commands, folder, encoding):
    program = f"import sys; sys.argv = ['', {json.dumps(json.dumps(commands))}]\n{RUN_ALL}"
    done = run(program, folder, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    answers = done.stdout.decode(encoding).split("<<<\n")[1:]
    said = [answer.rpartition(">>>") for answer in answers]
    assert len(said) == len(commands), done.stderr
    return [(int(code), text) for text, _, code in said], done.stderr.decode(encoding, "replace")


def test_every_command_prints_what_cp1252_has(folder):
    answers, errors = run_all([*COMMANDS, *([*command, "--json"] for command in JSON)], folder, "cp1252")
    assert "Unicode" not in errors
    said, objects = answers[: len(COMMANDS)], answers[len(COMMANDS) :]
    assert [code for code, _ in said] == [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 2]
    assert "?" * len("модель") + ".h5" in said[0][1]  # A letter that is not there is ?, a sign has one like it.
    assert "+ ??????.h5" in said[6][1]
    for code, text in objects:
        assert code == 0
        assert text.isascii()
        json.loads(text)
    assert json.loads(objects[0][1])["source"] == "модель.h5"


def test_latin_1_is_enough(folder):
    answers, errors = run_all([["inspect", "a.h5"], ["check", "a.h5"]], folder, "latin-1")
    assert ([code for code, _ in answers], errors) == ([0, 0], "")


def held_open(path: Path) -> list[str]:
    """Return how this process and its children hold a file: Windows moves no file that is open or mapped."""
    found = []
    me = os.getpid()
    children = [
        int(child) for task in Path("/proc/self/task").iterdir() for child in (task / "children").read_text().split()
    ]
    for process in (me, *children):
        maps = Path(f"/proc/{process}/maps").read_text()
        found += [f"mapped by {process}"] * (str(path) in maps)
        for entry in Path(f"/proc/{process}/fd").iterdir():
            try:
                found += [f"open in {process}"] * (entry.readlink() == path)
            except FileNotFoundError:
                continue
    return found


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads /proc")
@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("m.pt", {}),
        ("m.safetensors", {}),
        ("m.onnx", {}),
        ("m.pt", {"whole": False}),
        ("m.safetensors", {"whole": False}),
        ("m.onnx", {"whole": False}),
        ("m.cudnn.safetensors", {}),
        ("m.cudnn.bin", {"raw": True}),
        ("m.keras", {}),
        ("m.h5", {}),
        ("m.weights.h5", {}),
        ("m.cudnn.h5", {}),
    ],
)
def test_no_staged_file_is_open_or_mapped_when_it_is_moved(target, options, tmp_path, monkeypatch):
    seen = []
    publish = converting.publish

    def moved(staged, *arguments, **named):
        seen.extend((path.name, held_open(path)) for path in staged)
        return publish(staged, *arguments, **named)

    monkeypatch.setattr(converting, "publish", moved)
    gc.disable()  # Nothing is collected by luck.
    try:
        lstmconv.convert(SAMPLES / "airline_passengers.h5", tmp_path / target, **options)
    finally:
        gc.enable()
    assert seen
    assert [(name, held) for name, held in seen if held] == []


TAKEN_AWAY = """
import multiprocessing, os, signal, sys
for module in ("resource", "fcntl"):
    sys.modules[module] = None
for name in ("fork", "memfd_create", ):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGALRM", "setitimer", "alarm", "ITIMER_REAL", "SIGKILL"):
    if hasattr(signal, name):
        delattr(signal, name)
multiprocessing.get_all_start_methods = lambda: ["spawn"]
"""


@pytest.fixture
def without_unix(tmp_path):
    """Give a folder whose sitecustomize takes away what Windows lacks, in every process that is started."""
    place = tmp_path / "site"
    place.mkdir()
    (place / "sitecustomize.py").write_text(TAKEN_AWAY)
    return place


def test_everything_works_without_fork_limits_locks_and_alarms(folder, without_unix):
    (folder / "cut.h5").write_bytes((folder / "a.h5").read_bytes()[:3000])
    program = f"""
import json, subprocess, sys
if __name__ == "__main__":
    import os
    assert not hasattr(os, "fork")
    sys.argv = ['', {
        json.dumps(
            json.dumps(
                [
                    ["inspect", "a.h5"],
                    ["convert", "a.h5", "a.onnx"],
                    ["convert", "a.h5", "a.pt", "--lstm-only"],
                    ["verify", "a.h5", "a.onnx"],
                    [
                        "convert",
                        "a.h5",
                        "b.h5",
                        "bad.h5",
                        "cut.h5",
                        "--to",
                        "torch",
                        "--into",
                        "out",
                        "--jobs",
                        "2",
                        "--no-verify",
                    ],
                    ["check", "a.h5", "a.onnx", "b.h5"],
                    ["inspect", "cut.h5"],
                ]
            )
        )
    }]
    exec({RUN_ALL!r})
"""
    done = run(program, folder, path=str(without_unix))
    codes = [int(part.split("\n")[0]) for part in done.stdout.decode().split(">>> ")[1:]]
    assert codes == [0, 0, 0, 0, 2, 0, 2], done.stderr.decode()
    assert "unexpected" not in done.stderr.decode()
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["a.pt", "b.pt"]
