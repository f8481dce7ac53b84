"""Many files: each in a process that it may bring down, in order, beside the others."""

import faulthandler
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lstmconv
from lstmconv.converting import ConvertOptions
from lstmconv.jobs import workers

SAMPLES = Path(__file__).parent.parent / "sample_weights"
SAMPLE = SAMPLES / "airline_passengers.h5"
HANGING = Path(__file__).parent / "hostile" / "regressions" / "a_heap_that_the_library_walks_for_ever.weights.h5"

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes by signals")


def act(item: str) -> str:
    """Do what the item says."""
    if item == "crash":
        faulthandler.disable()  # pytest's own, which would tell of it at length.
        os.kill(os.getpid(), signal.SIGSEGV)
    if item == "leave":
        os._exit(3)
    if item == "raise":
        raise ValueError("two\nlines")
    if item == "slow":
        time.sleep(0.5)
    return item.upper()


@pytest.mark.parametrize("jobs", [1, 2, 8])
def test_results_come_in_order_and_a_bad_item_stops_none(jobs):
    items = ["slow", "a", "crash", "b", "raise", "crash", "leave", "c", "d"]
    outcomes = list(workers.run(act, items, jobs))
    assert [outcome.item for outcome in outcomes] == items
    assert [outcome.value for outcome in outcomes] == ["SLOW", "A", None, "B", None, None, None, "C", "D"]
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    crash = "it crashes the process that reads it (signal 11): the file is damaged"
    ended = "the process that reads it ended with exit code 3"
    assert errors == [crash, "unexpected ValueError: two lines", crash, ended]


def test_no_items_are_no_work():
    assert list(workers.run(act, [], 4)) == []


def own_number(item: str) -> int:
    if item == "late":
        time.sleep(60)
    return os.getpid()


def test_a_run_that_is_given_up_ends_its_processes():
    outcomes = workers.run(own_number, ["at once", "late", "late"], 1)
    child = next(outcomes).value
    outcomes.close()
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def hang(path: Path) -> None:
    """Read a file with a library that hangs on it."""
    from lstmconv.formats.hdf5 import confinement
    from lstmconv.formats.hdf5.tree import read_tree
    from lstmconv.formats.mapped_file import MappedFile

    os.environ["LSTMCONV_HDF5_SECONDS"] = "1"
    confinement.describe = lambda *_: time.sleep(60)
    read_tree(MappedFile(path), path.name)


def test_a_file_that_hangs_the_library_costs_its_time_limit():
    (outcome,) = workers.run(hang, [SAMPLE], 1)
    assert "the HDF5 library hangs on it (over 1 s): a damaged file" in (outcome.error or "")


# The command line


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "lstmconv", "convert", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four sources: two good ones, one that asks for an activation, one that is no Keras file."""
    for name in ("a.h5", "b.h5"):
        shutil.copy(SAMPLE, tmp_path / name)
    shutil.copy(SAMPLES / "keras2_weights_only.h5", tmp_path / "unknown.h5")
    (tmp_path / "z.h5").write_bytes(b"nothing like it")
    return tmp_path


def test_a_pattern_converts_all_that_can_be_and_says_what_cannot(folder):
    done = run("*.h5", "--to", "safetensors", "--to", "onnx", "--into", "out", "--no-verify", "--jobs", 2, cwd=folder)
    assert done.returncode == 2
    assert done.stdout.splitlines() == [
        "a.h5 → out/a.safetensors, out/a.onnx  ✓ equal weights, outputs not run",
        "b.h5 → out/b.safetensors, out/b.onnx  ✓ equal weights, outputs not run",
        "4 files: 2 converted, 2 failed",
    ]
    assert "unknown.h5: weights only, by Keras 2.2.4" in done.stderr
    assert "z.h5: begins with the bytes" in done.stderr
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "a.onnx", "a.safetensors", "b.onnx", "b.safetensors",
    ]  # fmt: skip
    assert (folder / "out/a.onnx").read_bytes() == (folder / "out/b.onnx").read_bytes().replace(b"b.h5", b"a.h5")


def test_what_many_write_is_what_one_writes(folder):
    lstmconv.convert(folder / "a.h5", folder / "alone.pt", verify=False)
    assert run("a.h5", "b.h5", "a.h5", "--to", "torch", "--no-verify", cwd=folder).returncode == 0
    assert (folder / "a.pt").read_bytes() == (folder / "alone.pt").read_bytes()


def test_a_rerun_converts_what_is_missing_or_made_from_other_bytes(folder):
    arguments = ("a.h5", "b.h5", "--to", "safetensors", "--into", "out", "--no-verify")
    assert run(*arguments, cwd=folder).returncode == 0
    before = (folder / "out/a.safetensors").stat().st_mtime_ns
    shutil.copy(SAMPLES / "keras2_hard_sigmoid.h5", folder / "b.h5")
    refused = run(*arguments, "--skip-existing", cwd=folder)
    assert refused.returncode == 2
    assert "b.safetensors exists already" in refused.stderr
    done = run(*arguments, "--skip-existing", "--force", "--json", cwd=folder)
    assert [result["status"] for result in json.loads(done.stdout)["results"]] == ["skipped", "converted"]
    assert (folder / "out/a.safetensors").stat().st_mtime_ns == before


def test_a_check_that_fails_is_the_exit_code_where_nothing_is_worse(folder):
    """One that could not be converted is worse: 2."""
    code = (
        "import sys\nfrom lstmconv import cli\nfrom lstmconv.jobs import convert_many as batch\n"
        "from lstmconv.converting import ConvertOptions\n"
        "batch._convert = lambda source, **_: batch.Converted(str(source), 'not equal', detail='differs')\n"
        "sys.argv = ['lstmconv', 'convert', 'a.h5', 'b.h5', '--to', 'onnx', '--into', 'out']\ncli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "2 files: 2 not equal")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.h5", "b.h5", "z.h5"], "is b.h5 a second source, or a target to replace?"),
        (["a.h5", "b.h5", "--to", "onnx", "--force"], "is b.h5 a second source, or the target to replace?"),
        (["nothing*.h5", "--to", "onnx"], "no file matches the pattern nothing*.h5"),
        (["a.h5", "sub/a.h5", "--to", "onnx", "--into", "out"], "have the same target out/a.onnx"),
        (["a.h5", "m.onnx", "--jobs", "2"], "--jobs, --dask and --skip-existing are for many sources"),
        (["a.h5", "b.h5", "--to", "nonsense", "--into", "out"], "nonsense"),
    ],
)
def test_calls_that_could_mean_two_things_are_refused(folder, arguments, said):
    before = sorted(folder.rglob("*"))
    done = run(*arguments, cwd=folder)
    assert done.returncode == 2
    assert said in done.stderr
    assert sorted(folder.rglob("*")) == before


def test_a_source_and_a_target_stay_a_source_and_a_target(folder):
    assert run("a.h5", "m.onnx", "--no-verify", cwd=folder).returncode == 0
    assert run("a.h5", "m.bin", "--to", "onnx", "--no-verify", cwd=folder).returncode == 0
    assert (folder / "m.onnx").read_bytes() == (folder / "m.bin").read_bytes()


@pytest.mark.parametrize("name", ["hdf5_bitflip_1_13.h5", "hdf5_bitflip_13_94.h5"])
def test_a_file_that_brings_the_library_down_stops_no_other(folder, name):
    hostile = os.environ.get("LSTMCONV_HOSTILE_FILES")
    if hostile is None:
        pytest.skip("LSTMCONV_HOSTILE_FILES names no folder")
    shutil.copy(Path(hostile) / name, folder / "evil.h5")
    done = run("a.h5", "evil.h5", "b.h5", "--to", "onnx", "--no-verify", "--jobs", 1, cwd=folder)
    assert done.returncode == 2
    assert done.stdout.splitlines()[-1] == "3 files: 2 converted, 1 failed"


def test_a_worker_that_is_killed_while_it_replaces_files_loses_none(tmp_path):
    """It had moved the older files out of the folder; the end of the run moves them back."""
    from lstmconv.publishing import shared_staging, staging

    (tmp_path / "m.onnx").write_text("older")
    with staging(tmp_path) as stage:
        child = os.fork()
        if child == 0:
            with shared_staging({tmp_path: stage}, tmp_path) as own:
                (own / ".old").mkdir()
                (tmp_path / "m.onnx").rename(own / ".old" / "m.onnx")
                os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        assert not (tmp_path / "m.onnx").exists()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("m.onnx", "older")]


@pytest.mark.parametrize("formats", [["onnx"], ["onnx", "torch", "safetensors"]])
def test_nothing_is_left_beside_the_targets_of_many_files(tmp_path, formats):
    """Not of files that fail, nor of one that brings its process down."""
    from lstmconv.jobs import convert_many

    names = [f"m{number}.h5" for number in range(6)]
    for name in names:
        shutil.copy(SAMPLE, tmp_path / name)
    (tmp_path / "cut.h5").write_bytes(SAMPLE.read_bytes()[:1000])
    shutil.copy(HANGING, tmp_path / "hanging.weights.h5")
    sources = [tmp_path / name for name in (*names[:3], "cut.h5", "hanging.weights.h5", *names[3:])]
    options = ConvertOptions(to=tuple(formats), verify=False)
    done = list(convert_many.convert_many(sources, tmp_path / "out", options, jobs=2))
    assert [one.status for one in done] == ["converted"] * 3 + ["failed"] * 2 + ["converted"] * 3
    suffixes = {"onnx": ".onnx", "torch": ".pt", "safetensors": ".safetensors"}
    expected = {f"m{number}{suffixes[name]}" for number in range(6) for name in formats}
    assert {path.name for path in (tmp_path / "out").iterdir()} == expected


def test_targets_beside_sources_in_a_folder_that_may_not_be_written_stop_no_other(tmp_path):
    from lstmconv.jobs import convert_many

    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(SAMPLE, tmp_path / folder / "m.h5")
    (tmp_path / "a" / "m.safetensors").mkdir()
    sources = [tmp_path / "a" / "m.h5", tmp_path / "b" / "m.h5"]
    done = list(convert_many.convert_many(sources, None, ConvertOptions(to=("safetensors",), verify=False), jobs=2))
    assert [one.status for one in done] == ["failed", "converted"]
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["m.h5", "m.safetensors"]


def test_more_folders_than_files_may_be_open_are_no_obstacle(tmp_path):
    """Two sources in each of 80 folders, where a process may open 64 files."""
    for number in range(80):
        (tmp_path / f"{number}").mkdir()
        for name in ("a.h5", "b.h5"):
            (tmp_path / f"{number}" / name).symlink_to(SAMPLE)
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "from pathlib import Path; from lstmconv.jobs import convert_many as batch\n"
        "from lstmconv.converting import ConvertOptions\n"
        "options = ConvertOptions(to=('torch',), verify=False)\n"
        "done = list(batch.convert_many(sorted(Path('.').glob('*/*.h5')), None, options, jobs=2))\n"
        "print(len(done), {one.status for one in done})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "160 {'converted'}\n"
