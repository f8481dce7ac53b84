"""Many files on an executor: threads, one that gives up, and a real dask cluster that loses a worker on the way."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from pathlib import Path

import pytest

import lstmconv
from lstmconv.jobs import executors

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "sample_weights"
TO_TORCH = lstmconv.ConvertOptions(to=("torch",), verify=False)

CLUSTER = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, preload=[sys.argv[1]])
    print(cluster.scheduler_address, flush=True)
    sys.stdin.read()
"""
PRELOAD = """
import os, pathlib, signal
from lstmconv.converting import convert_file
from lstmconv.jobs import convert_many

marks = pathlib.Path({marks!r})

def killed_once(source, *arguments, **options):
    # "before" ends its worker before it is converted; "after" once it is, before anyone hears of it.
    if source.stem == "before" and not (marks / "before").exists():
        (marks / "before").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    done = convert_file(source, *arguments, **options)
    if source.stem == "after" and not (marks / "after").exists():
        (marks / "after").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return done

convert_many.convert_file = killed_once
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two good sources, and one that is no Keras file; the working folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.h5", "b.h5"):
        shutil.copy(SAMPLES / "airline_passengers.h5", name)
    Path("z.h5").write_bytes(b"nothing like it")
    return tmp_path


def test_results_of_an_executor_are_those_of_processes(folder):
    sources = ["a.h5", "z.h5", "b.h5"]
    with ThreadPoolExecutor(2) as threads:
        here = list(lstmconv.convert_many(sources, "here", TO_TORCH, jobs=2))
        there = list(lstmconv.convert_many(sources, "there", TO_TORCH, executor=threads))
    assert [(one.source, one.status, one.paths) for one in there] == [
        ("a.h5", "converted", ("there/a.pt",)),
        ("z.h5", "failed", ()),
        ("b.h5", "converted", ("there/b.pt",)),
    ]
    assert [(one.detail, one.notes, one.reports) for one in here] == [
        (one.detail, one.notes, one.reports) for one in there
    ]
    for name in ("a.pt", "b.pt"):
        assert (folder / "here" / name).read_bytes() == (folder / "there" / name).read_bytes()
    assert sorted(path.name for path in (folder / "there").iterdir()) == ["a.pt", "b.pt"]


def test_a_check_on_an_executor_is_the_check(folder):
    list(lstmconv.convert_many(["a.h5"], None, TO_TORCH, jobs=1))
    shutil.copy(SAMPLES / "keras2_hard_sigmoid.h5", "b.h5")
    Path("pyproject.toml").write_text('[tool.lstmconv.pairs]\n"b.h5" = ["sub/b.pt"]\n')
    Path("sub").mkdir()
    shutil.copy("a.pt", "sub/b.pt")
    files = ["a.h5", folder / "a.h5", "a.pt", "b.h5", "sub/b.pt", "z.h5", "missing.h5"]
    found = lstmconv.check(files, executor=InTurn())
    assert [relative(one, folder) for one in found] == [relative(one, folder) for one in lstmconv.check(files, jobs=1)]
    assert [one.twins for one in found[:3]] == [("a.pt",), (str(folder / "a.pt"),), ("a.h5",)]


def relative(result: lstmconv.CheckResult, folder: Path) -> lstmconv.CheckResult:
    """Return a result whose commands name files as somebody in the folder does; workers are elsewhere."""
    findings = (
        one if one.fix is None else one._replace(fix=one.fix.replace(f"{folder}/", "")) for one in result.findings
    )
    return result._replace(findings=tuple(findings))


class InTurn(Executor):
    """Runs each task where it is submitted."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class GivesUp(Executor):
    """Runs one task, loses one, and takes no more."""

    def __init__(self):
        self.left = 2

    def submit(self, fn, /, *args, **kwargs):
        self.left -= 1
        if self.left < 0:
            raise BrokenExecutor("a process was killed")
        future = Future()
        future.set_result(fn()) if self.left else future.cancel()
        return future


def test_files_of_an_executor_that_breaks_are_named_once_each(folder):
    shutil.copy("a.h5", "c.h5")
    done = list(lstmconv.convert_many(["a.h5", "b.h5", "c.h5"], "out", TO_TORCH, executor=GivesUp()))
    assert [(one.source, one.status, one.detail) for one in done] == [
        ("a.h5", "converted", ""),
        ("b.h5", "failed", "b.h5: unexpected CancelledError: no reason given"),
        ("c.h5", "failed", "c.h5: unexpected BrokenExecutor: a process was killed"),
    ]


def test_an_older_target_is_not_taken_for_one_of_this_run(folder):
    """Not even where it was made from the same bytes, with other options."""
    list(lstmconv.convert_many(["a.h5"], None, TO_TORCH, jobs=1))
    (done,) = lstmconv.convert_many(["a.h5"], None, TO_TORCH, executor=InTurn())
    assert done.status == "failed"
    assert "a.pt exists already; pass --force" in done.detail


def test_a_worker_with_another_version_answers_nothing(monkeypatch):
    task = executors._Task(lambda: "done", "key")
    assert task() == ("done", None)
    monkeypatch.setattr(executors, "__version__", "0.0.1")
    value, error = task()
    assert value is None
    assert error.startswith("the worker has lstmconv 0.0.1, expected ")


# A cluster


@pytest.fixture(scope="module")
def marks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that will have a file for each source that killed its worker."""
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def cluster(marks: Path) -> Iterator[str]:
    """Two worker processes; a source named ``before`` or ``after`` kills the worker that first converts it."""
    pytest.importorskip("distributed")
    if not hasattr(signal, "SIGKILL"):
        pytest.skip("kills processes by signals")
    preload = marks / "preload.py"
    preload.write_text(PRELOAD.format(marks=str(marks)))
    (marks / "cluster.py").write_text(CLUSTER)
    command = [sys.executable, str(marks / "cluster.py"), str(preload)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with (marks / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=marks, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, (marks / "log").read_text()
        yield address
        process.communicate("", timeout=60)


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "lstmconv", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_a_cluster_that_loses_workers_does_or_names_every_file_once(cluster, marks, folder):
    for name in ("before.h5", "after.h5"):
        shutil.copy("a.h5", name)
    names = ["a.h5", "before.h5", "z.h5", "after.h5"]
    done = run("convert", *names, "--to", "torch", "--into", "out", "--no-verify", "--dask", cluster, cwd=folder)
    assert done.returncode == 2
    assert done.stderr.startswith("lstmconv: z.h5: begins with the bytes")
    assert len(done.stderr.splitlines()) == 1
    *lines, totals = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["a.h5", "before.h5", "after.h5"]
    assert lines[2] == "after.h5 was converted before: out/after.pt"
    assert totals.startswith("4 files: ")
    assert "1 failed" in totals
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["a.pt", "after.pt", "before.pt"]
    assert {path.name for path in marks.iterdir()} >= {"before", "after"}


def test_what_a_cluster_computed_before_is_not_answered_again(cluster, folder):
    """Dask gives equal tasks one result, as long as somebody holds it."""
    from distributed import Client

    with Client(cluster, set_as_default=False) as client:
        executor = client.get_executor()
        kept: list[Future] = []
        submit = executor.submit
        executor.submit = lambda *arguments: kept.append(submit(*arguments)) or kept[-1]
        assert [one.status for one in lstmconv.check(["a.h5"], executor=executor)] == ["passed"]
        Path("a.h5").write_bytes(b"nothing like it")
        assert [one.status for one in lstmconv.check(["a.h5"], executor=executor)] == ["failed"]


# The command line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.h5", "m.pt", "--dask", "tcp://127.0.0.1:9"], "--jobs, --dask and --skip-existing are for many sources"),
        (["*.h5", "--to", "torch", "--dask", "tcp://127.0.0.1:9", "--jobs", 2], "the cluster decides how many"),
        (["*.h5", "--to", "torch", "--dask", "no address"], "--dask no address: no dask scheduler answers there"),
    ],
)
def test_calls_that_make_no_sense_are_refused(folder, arguments, said):
    before = sorted(folder.iterdir())
    done = run("convert", *arguments, cwd=folder)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(folder.iterdir()) == before


def test_without_the_extra_the_pip_line_is_said(folder):
    code = (
        "import sys; sys.modules['distributed'] = None\n"
        "sys.argv = ['lstmconv', 'check', 'a.h5', '--dask', 'tcp://127.0.0.1:9']\n"
        "from lstmconv.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2
    assert done.stderr == "lstmconv: --dask needs distributed. Install it with: pip install distributed\n"
