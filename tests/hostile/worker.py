"""Run the command line on files that nobody should trust, and tell what it did.

``python worker.py [--fork]`` reads one job a line on stdin, ``{"argv": [...], "writes": "folder", "environment": {}}``,
and answers one line on stdout for each, after a first one when it is ready: the exit code, stderr, seconds of
processor time, the most memory, and every forbidden thing that Python was asked to do meanwhile: a program run, a
socket opened, a file written outside the folder. With ``--fork`` each job has a process of its own, which dies alone.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

MEMORY = 1 << 30
"""What a job may take beside the libraries, which are loaded before."""

ROOT = Path(__file__).parent.parent.parent
GOOD = (
    "sample_weights/airline_passengers.h5",
    "sample_weights/keras3_backwards.keras",
    "sample_weights/torch_stacked.pt",
    "tests/golden/onnx/tf2onnx_plain.onnx",
)
"""Files of the formats that hostile files pretend to be."""

_FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "subprocess.", "socket.", "pickle.", "ctypes.", "pty.")
_CHANGING = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.link", "os.symlink", "os.truncate")


class Watch:
    """Notes what Python's audit hooks report while a job runs (PEP 578)."""

    def __init__(self) -> None:
        self.writes: str | None = None
        self.events: list[str] = []
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple) -> None:
        if self.writes is None:
            return
        if event.startswith(_FORBIDDEN):
            self.events.append(f"{event} {str(arguments)[:200]}")
        elif event == "open":
            path, _, flags = arguments
            writing = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            # A folder is opened for a file without a name (O_TMPFILE), which leaves nothing.
            if writing and isinstance(path, str | bytes | os.PathLike) and not Path(os.fsdecode(path)).is_dir():
                self.note(event, path)
        elif event.startswith(_CHANGING):
            for path in arguments[:2]:
                if isinstance(path, str | bytes | os.PathLike):
                    self.note(event, path)

    def note(self, event: str, path: str | bytes | os.PathLike) -> None:
        place = os.path.realpath(os.fsdecode(path))
        outside = not place.startswith(os.path.realpath(self.writes or "/") + os.sep) and place != os.devnull
        if outside and not place.endswith(".pyc") and "__pycache__" not in place:
            self.events.append(f"{event} {place}")


def run(job: dict, watch: Watch) -> dict:
    """Run one command in this process and describe what happened."""
    from lstmconv import cli

    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        kept = [os.dup(1), os.dup(2)]
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        Path("/proc/self/clear_refs").write_text("5")  # Forget the most memory so far.
        start, used = time.monotonic(), _processor_seconds()
        sys.argv = ["lstmconv", *job["argv"]]
        watch.events, watch.writes = [], job["writes"]
        code: object = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        except BaseException as error:
            code = f"raised {error!r}"[:500]
        finally:
            watch.writes = None
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            for number, descriptor in enumerate(kept, 1):
                os.dup2(descriptor, number)
                os.close(descriptor)
        err.seek(0)
        out.seek(0)
        gc.collect()
        return {
            "code": code if code is not None else 0,
            "stderr": err.read(20_000).decode("utf-8", "replace"),
            "stdout": out.read(20_000).decode("utf-8", "replace"),
            "seconds": _processor_seconds() - used,
            "elapsed": time.monotonic() - start,
            "bytes": _most_memory(),
            "events": watch.events,
        }


def _processor_seconds() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def _most_memory() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def limit_memory() -> None:
    """Bound the address space: a job that wants more gets a MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run_forked(job: dict, watch: Watch) -> dict:
    """Run one command in a child; say which signal ended it, if one did."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.close(reading)
            os.environ.update(job["environment"])
            limit_memory()
            resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
            with os.fdopen(writing, "w") as answer:
                answer.write(json.dumps(run(job, watch)))
            os._exit(0)
        os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return json.loads(text) if text and status == 0 else {"code": f"the process ended with {status}", "stderr": ""}


def load_all() -> None:
    """Convert good files, so that no fork has to load what reading and writing need."""
    import onnx.reference  # noqa: F401

    from lstmconv import convert

    with tempfile.TemporaryDirectory() as folder:
        for number, source in enumerate(GOOD):
            convert(ROOT / source, Path(folder) / f"{number}.onnx", verify=False)


def main() -> None:
    import typer.main

    from lstmconv.cli import program

    load_all()

    # Typer builds the same commands anew for each call, which takes longer than reading a small file.
    program.app = typer.main.get_command(program.app)
    gc.collect()
    gc.freeze()  # What is loaded now is never garbage; collecting after each job need not look at it.
    forks = "--fork" in sys.argv
    watch = Watch()
    if not forks:
        limit_memory()
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        answers.write("ready\n")
        for line in sys.stdin:
            job = json.loads(line)
            answers.write(json.dumps((run_forked if forks else run)(job, watch)) + "\n")


if __name__ == "__main__":
    main()
