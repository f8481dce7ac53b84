"""Run the HDF5 library in a child process, so that a crash, a hang or a memory bomb causes only an error message.

A forked child is fastest (some milliseconds), but is safe only in a process with one thread. With more threads, or with
frameworks that forbid forking, a server forks (:mod:`~lstmconv.formats.hdf5.fork_server`). Systems without fork start
an interpreter.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from lstmconv.errors import UnreadableFileError
from lstmconv.formats.hdf5.nameless_file import nameless_file
from lstmconv.formats.hdf5.walk import describe
from lstmconv.formats.safety.limits import WALK_SECONDS, allowed_inflation
from lstmconv.model import Array

__all__ = ["described", "in_fork"]

_OUT_OF_TIME = [getattr(signal, name) for name in ("SIGXCPU", "SIGALRM") if hasattr(signal, name)]
"""Signals that end a confined process that takes too long."""
_NO_FORK = {"jax", "tensorflow"}
"""Frameworks with threads of their own, which a forked child would lack."""
_PATIENCE = 3
"""The factor by which a walk may take longer than its processor time, on a busy machine or a slow disk."""
_LONGEST_SECONDS = 2**31 - 1
"""The limit of setitimer(2), whose C long may have 32 bits."""
_OWN_BYTES = 384 << 20
"""The memory of a child without the numbers that it copies: the library, its caches, the description."""


def described(content: Path | Array, name: str) -> BinaryIO:
    """Return the output of :func:`~lstmconv.formats.hdf5.walk.describe` as a file that vanishes when closed.

    Raises:
        UnreadableFileError: The HDF5 library crashes or hangs on the file.
    """
    size = content.stat().st_size if isinstance(content, Path) else content.nbytes
    seconds = WALK_SECONDS.value + size / 1e8
    sink = nameless_file(size)
    code = _way_to_walk()(content, name, sink, seconds)
    if code == 0:
        return sink
    sink.close()
    if code is None or -code in _OUT_OF_TIME:
        raise UnreadableFileError(
            f"the HDF5 library hangs on it (over {seconds:.0f} s): a damaged file; {WALK_SECONDS.way_out}", about=name
        )
    if code < 0:
        raise UnreadableFileError(f"the HDF5 library crashes on it (signal {-code}): a damaged file", about=name)
    raise UnreadableFileError(f"cannot be read: the process that walks it ended with exit code {code}", about=name)


def _way_to_walk() -> Callable[[Path | Array, str, BinaryIO, float], int | None]:
    if not hasattr(os, "fork"):
        return _in_new_process
    if threading.active_count() == 1 and not _NO_FORK & sys.modules.keys():
        return in_fork
    from lstmconv.formats.hdf5 import fork_server

    return fork_server.walk


def in_fork(content: Path | Array, name: str, sink: BinaryIO, seconds: float) -> int:
    """Walk a file in a forked child, and return its exit code, negative for a signal."""
    import h5py  # noqa: F401  # Imported before the fork, so that the next child has it too.

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python and JAX warn about threads, which the caller has checked.
        child = os.fork()
    if child == 0:
        try:
            confine(content, seconds)
            describe(content, name, sink)
        except BaseException:
            os._exit(1)
        os._exit(0)
    try:
        status = os.waitpid(child, 0)[1]
    except BaseException:  # Such as KeyboardInterrupt.
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    return os.waitstatus_to_exitcode(status)


def confine(content: Path | Array, seconds: float) -> None:
    """Silence this process, disable core files, and limit its time and memory.

    Memory is limited only on systems that say how much memory the process uses.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limits.
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # The default action ends the process.
    signal.setitimer(signal.ITIMER_REAL, min(_PATIENCE * seconds, _LONGEST_SECONDS))
    spent = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])  # The start of the interpreter does not count.
    _lower(resource.RLIMIT_CPU, math.ceil(spent + seconds) + 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (OSError, ValueError):
        return
    size = content.stat().st_size if isinstance(content, Path) else content.nbytes
    most = pages * resource.getpagesize() + 2 * allowed_inflation(size) + _OWN_BYTES
    _lower(resource.RLIMIT_AS, most)


def _lower(limit: int, most: int) -> None:
    """Set a limit of this process, unless it is already lower."""
    import resource

    soft, hard = resource.getrlimit(limit)
    if soft == resource.RLIM_INFINITY or most < soft:
        resource.setrlimit(limit, (most, hard))


_PROGRAM = """
import sys
path, name, seconds, *sys.path = sys.argv[1:]
import pathlib, numpy, h5py
from lstmconv.formats.hdf5 import confinement
content = pathlib.Path(path) if path else numpy.frombuffer(sys.stdin.buffer.read(), numpy.uint8)
confinement.confine(content, float(seconds))
confinement.describe(content, name, sys.stdout.buffer)
"""


def _in_new_process(content: Path | Array, name: str, sink: BinaryIO, seconds: float) -> int | None:
    argument, data = (str(content), None) if isinstance(content, Path) else ("", content.tobytes())
    # The child gets this process' import path. Otherwise ``python -c`` looks into the working directory first, and
    # would import a module that lies beside an untrusted file.
    command = [sys.executable, "-c", _PROGRAM, argument, name, str(seconds), *sys.path]
    try:
        done = subprocess.run(
            command, input=data, stdout=sink, stderr=subprocess.DEVNULL, timeout=_PATIENCE * seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    return done.returncode
