"""Give jobs to a worker process, and judge what it did by what every reader of untrusted files promises."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SECONDS = 10.0
"""Processor time that any file may take; a process that says nothing for six times as long is hung."""
BYTES = 1 << 30


class Worker:
    """One worker process, started when it is needed and again after it died."""

    def __init__(self, *, fork: bool) -> None:
        self.fork = fork
        self.process: subprocess.Popen | None = None

    def run(self, argv: list[str], writes: Path, **environment: str) -> dict:
        """Run ``lstmconv argv``, which may write below ``writes`` alone; with variables, where the worker forks."""
        if self.process is None or self.process.poll() is not None:
            self.process = self._started(writes)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"argv": argv, "writes": str(writes), "environment": environment}) + "\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], 6 * SECONDS)
        line = self.process.stdout.readline() if ready else ""
        if line:
            return json.loads(line)
        code = self.process.poll() if ready else None
        self.stop()
        return {"code": f"the process ended with {code}" if ready else "hung", "stderr": ""}

    def _started(self, folder: Path) -> subprocess.Popen:
        """Start a process and wait until it has loaded its libraries: a busy machine takes minutes, and none hangs."""
        command = [sys.executable, str(Path(__file__).with_name("worker.py")), *(["--fork"] if self.fork else [])]
        whole = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=whole, cwd=folder
        )
        assert process.stdout is not None
        process.stdout.readline()
        return process

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def faults(answer: dict) -> list[str]:
    """Say what a run did that no file may make it do."""
    found: list[str] = []
    code, stderr = answer["code"], answer["stderr"]
    if code not in (0, 1, 2):
        found.append(f"exit code {code}")
    lines = stderr.splitlines()
    errors = [line for line in lines if not line.startswith("note:")]
    if "Traceback" in stderr or "LSTMCONV_DEBUG" in stderr:
        found.append(f"an error that nobody foresaw: {stderr[-600:]}")
    if code == 2 and (len(errors) != 1 or not errors[0].startswith("lstmconv: ")):
        found.append(f"exit 2 with other than one line: {stderr[-600:]!r}")
    if code == 0 and errors:
        found.append(f"exit 0 with talk on stderr: {stderr[-600:]!r}")
    if any(not (character.isprintable() or character == "\n") for character in stderr + answer.get("stdout", "")):
        found.append("characters that command a terminal")
    if answer.get("events"):
        found.append(f"did what reading needs not: {answer['events'][:3]}")
    if answer.get("seconds", 0) > SECONDS:
        found.append(f"took {answer['seconds']:.1f} s")
    if answer.get("bytes", 0) > BYTES:
        found.append(f"took {answer['bytes'] >> 20} MiB")
    return found
