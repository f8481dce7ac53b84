"""Runs that end too early: killed, out of space, beside another writer, under a source that changes.

A target is whole or not there, an older one is whole, a source is never touched, and what a killed run
leaves has a name that tells what it is. ``LSTMCONV_KILLS=300`` kills as many runs instead of a dozen.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import pytest

import lstmconv
from lstmconv import publishing
from lstmconv.errors import LstmconvError, TargetExistsError, UnreadableFileError
from tests._cases import write_lstm
from tests.hostile.running import ROOT

SOURCE = ROOT / "sample_weights" / "tf_keras_bidirectional.h5"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
KILLS = int(os.environ.get("LSTMCONV_KILLS", "12"))

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals, limits and locks are POSIX'")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "lstmconv", *map(str, arguments)]


def run(*arguments: object, first: str = "") -> subprocess.CompletedProcess:
    """Run the command, after a line of Python in the same process."""
    program = f"import ctypes, resource\n{first}\nfrom lstmconv.cli import main\nmain()"
    started = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(started, capture_output=True, text=True, check=False, timeout=120, env=ENVIRONMENT)


def hashes(folder: Path) -> dict[str, str]:
    """Return the visible files of a folder; hidden ones are the runs' own."""
    plain = [path for path in folder.iterdir() if not path.name.startswith(".lstmconv-")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in plain}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a copy of a sample, so large that reading and writing it take a while."""
    path = tmp_path / "source" / "model.h5"
    path.parent.mkdir()
    write_lstm(path, 200, 400)
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


# kill -9

_FORKING = """
import os, signal, sys, time
import h5py, onnx, lstmconv.formats.onnx, lstmconv.formats.torch.pt, lstmconv.formats.keras
from lstmconv import api
source, target, scratch = sys.argv[1:]
options = dict(to=["torch", "onnx", "safetensors"], verify=False, force=True)
api.convert(source, scratch, **options)
begun = time.monotonic()
api.convert(source, scratch, **options)
whole = time.monotonic() - begun
for part in map(float, sys.stdin):
    child = os.fork()
    if child == 0:
        api.convert(source, target, **options)
        os._exit(0)
    time.sleep(part * whole)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    print("killed" if os.WIFSIGNALED(status) else "ended", flush=True)
"""
"""Convert twice, the second time by the clock, then for each line in a fork that is killed after that part of the time:
not while Python starts, or imports."""


def test_a_kill_at_any_moment_leaves_old_files_or_new_ones(source: Path, out: Path):
    names = {"model.pt", "model.onnx", "model.safetensors"}
    lstmconv.convert(source, out, to=["torch", "onnx", "safetensors"], verify=False)
    old = hashes(out)
    assert set(old) == names
    before = source.read_bytes()
    write_lstm(out.parent / "other.h5", 200, 400, arrays=[array + 1 for array in _arrays(source)])
    shutil.move(out.parent / "other.h5", source)  # From here on the same names get other weights.
    after = source.read_bytes()
    rng = random.Random(0)
    killed = 0
    program = [sys.executable, "-c", _FORKING, str(source), str(out), str(out.parent / "scratch")]
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as forking:
        for _ in range(KILLS):
            print(rng.uniform(0, 1.2), file=forking.stdin, flush=True)
            killed += forking.stdout.readline() == "killed\n"
            found = hashes(out)
            kinds = {"old" if old.get(name) == value else "new" for name, value in found.items()}
            assert len(kinds) < 2, f"old and new files lie together: {found}"
            for name in found:
                assert lstmconv.load(out / name).layers, name
            assert {path.name[:10] for path in out.iterdir() if path.name not in names} <= {".lstmconv-"}
    assert forking.returncode == 0
    assert killed > KILLS / 4
    assert source.read_bytes() == after != before


def _arrays(path: Path) -> list:
    with h5py.File(path) as file:
        group = file["model_weights/lstm_1/lstm_1"]
        return [group[name][()] for name in ("kernel:0", "recurrent_kernel:0", "bias:0")]


def test_the_command_killed_while_it_works_leaves_no_target(source: Path, out: Path):
    process = subprocess.Popen(command("convert", source, out / "a.onnx"), env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not any(out.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = [path.name for path in out.iterdir()]
    assert left
    assert all(name == "a.onnx" or name.startswith(".lstmconv-") for name in left)
    if (out / "a.onnx").exists():
        lstmconv.load(out / "a.onnx")


# What a killed run left, and its end in the next run


def left_over(out: Path, names: tuple[str, ...], *, age: float = 120) -> Path:
    stage = out / ".lstmconv-killed"
    stage.mkdir()
    for name in names:
        (stage / name).parent.mkdir(parents=True, exist_ok=True)
        (stage / name).write_text(f"staged {name}")
    os.utime(stage, (time.time() - age,) * 2)
    return stage


def test_the_left_over_of_a_killed_run_goes_with_the_next_one(out: Path):
    stage = left_over(out, ("a.pt",))
    lstmconv.convert(SOURCE, out / "b.pt", verify=False)
    assert not stage.exists()
    assert set(hashes(out)) == {"b.pt"}


def test_a_folder_that_another_run_uses_stays(out: Path):
    young = left_over(out, ("a.pt",), age=0)
    lstmconv.convert(SOURCE, out / "b.pt", verify=False)
    assert young.exists()
    os.utime(young, (0, 0))
    lock = publishing._lock(young)
    assert lock is not None
    lstmconv.convert(SOURCE, out / "c.pt", verify=False)
    assert young.exists()
    os.close(lock)


def test_files_that_had_moved_out_move_back_where_no_new_one_had_landed(out: Path):
    (out / "c.pt").write_text("mine")
    left_over(out, ("a.pt", "b.pt", "c.pt", ".old/a.pt", ".old/c.pt"))
    lstmconv.convert(SOURCE, out / "z.pt", verify=False)
    assert (out / "a.pt").read_text() == "staged .old/a.pt"
    assert (out / "c.pt").read_text() == "mine"
    assert set(hashes(out)) == {"a.pt", "c.pt", "z.pt"}


def test_files_that_had_begun_to_land_land_all(out: Path):
    (out / "a.pt").write_text("landed")
    left_over(out, ("b.pt", ".landing", ".old/a.pt", ".old/b.pt"))
    lstmconv.convert(SOURCE, out / "z.pt", verify=False)
    assert (out / "a.pt").read_text() == "landed"
    assert (out / "b.pt").read_text() == "staged b.pt"
    assert set(hashes(out)) == {"a.pt", "b.pt", "z.pt"}


@pytest.mark.parametrize(("names", "kept"), [((".old/a.pt",), "staged"), (("b.pt", ".landing", ".old/a.pt"), "landed")])
def test_what_a_process_of_many_left_half_done_is_brought_to_its_end(out: Path, names: tuple[str, ...], kept: str):
    """A run over many files has a folder for each process in its own."""
    if kept == "landed":
        (out / "a.pt").write_text("landed")
    left_over(out, tuple(f"123/{name}" for name in names))
    lstmconv.convert(SOURCE, out / "z.pt", verify=False)
    assert (out / "a.pt").read_text().startswith(kept)
    assert set(hashes(out)) == ({"a.pt", "z.pt"} if kept == "staged" else {"a.pt", "b.pt", "z.pt"})


def publish_two(out: Path, *, force: bool) -> None:
    with publishing.staging(out) as stage:
        for name in ("a.pt", "b.pt"):
            (stage / name).write_text(f"new {name}")
        publishing.publish([stage / "a.pt", stage / "b.pt"], out, force=force)


def test_an_error_between_two_targets_puts_the_old_ones_back(out: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("a.pt", "b.pt"):
        (out / name).write_text(f"old {name}")
    land = publishing._land

    def fail(path: Path, place: Path, *, force: bool) -> None:
        if place.name == "b.pt":
            raise OSError(28, "No space left on device")
        land(path, place, force=force)

    monkeypatch.setattr(publishing, "_land", fail)
    with pytest.raises(LstmconvError, match="No space left"):
        publish_two(out, force=True)
    assert {path.name: path.read_text() for path in out.iterdir()} == {"a.pt": "old a.pt", "b.pt": "old b.pt"}


# A full disk, a folder that cannot be written


@pytest.mark.parametrize(
    "suffix", [".pt", ".safetensors", ".onnx", ".cudnn.safetensors", ".keras", ".h5", ".weights.h5"]
)
def test_a_full_disk_is_one_line_and_leaves_the_old_file(source: Path, out: Path, suffix: str):
    """No file may grow over 100 kB; the weights take 3.8 MB."""
    old = out / f"model{suffix}"
    old.write_text("old")
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    done = run("convert", source, old, "--no-verify", "--force", first=limit)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "Traceback" not in done.stderr
    assert "unexpected" not in done.stderr
    assert [path.name for path in out.iterdir()] == [old.name]
    assert old.read_text() == "old"


def test_a_folder_that_may_not_be_written_is_one_line(source: Path, out: Path):
    """Root's right to write everywhere is given up first."""
    out.chmod(0o500)
    # capset(2): version 3, no capability effective, permitted or inheritable.
    drop = "ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())"
    done = run("convert", source, out / "a.pt", "--no-verify", first=drop)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "cannot write into" in done.stderr
    assert not any(out.iterdir())


# Two writers, a source that changes


@pytest.mark.parametrize("force", [True, False])
def test_two_writers_at_once_leave_one_whole_file(source: Path, out: Path, force: bool):
    options = ["--no-verify", *(["--force"] if force else [])]
    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(lambda _: run("convert", source, out / "a.pt", *options), range(3)))
    codes = sorted(done.returncode for done in runs)
    assert codes == [0, 0, 0] if force else [0, 2, 2]
    assert [path.name for path in out.iterdir()] == ["a.pt"]
    assert lstmconv.load(out / "a.pt").layers
    for done in runs:
        assert done.returncode == 0 or "exists already; pass --force" in done.stderr


def test_a_target_that_appears_at_the_last_moment_is_kept(out: Path):
    (out / "b.pt").write_text("another's")
    with pytest.raises(TargetExistsError):
        publish_two(out, force=False)
    assert {path.name: path.read_text() for path in out.iterdir()} == {"b.pt": "another's"}


def _in_place(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    with path.open("r+b") as file:
        file.write(content)


def _by_rename(path: Path) -> None:
    shutil.copy(path, path.with_name("next"))
    path.with_name("next").replace(path)


@pytest.mark.parametrize("change", [_in_place, _by_rename, Path.unlink], ids=["in place", "replaced", "removed"])
@pytest.mark.parametrize("name", ["model.h5", "stacked.weights.json", "folder.keras"])
def test_a_source_that_changes_meanwhile_is_told_and_nothing_is_written(
    tmp_path: Path, golden: Path, out: Path, change: object, name: str
):
    keras = golden / "keras-3.15.1"
    part = tmp_path / name
    if name == "folder.keras":
        shutil.copytree(keras / "lstm.folder", part)
        part /= "model.weights.h5"
    elif name == "model.h5":
        shutil.copy(SOURCE, part)
    else:
        for shard in keras.glob("stacked*.weights*"):
            shutil.copy(shard, tmp_path)
        part = tmp_path / "stacked_00001.weights.h5"

    def meanwhile(step: str) -> None:
        if step.startswith("Writing"):
            time.sleep(0.02)  # Times of files are no finer than the kernel's clock ticks.
            change(part)

    with pytest.raises(UnreadableFileError, match="changed while it was converted; nothing was written"):
        lstmconv.convert(
            tmp_path / name,
            out / "a.pt",
            verify=False,
            progress=meanwhile,
            activation="tanh",
            recurrent_activation="sigmoid",
        )
    assert not any(out.iterdir())
