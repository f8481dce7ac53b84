"""An interpreter with one thread that forks a child for each HDF5 file, for callers that must not fork.

Without it, a caller with threads or with a framework that forbids forking would start an interpreter for each file.
This takes half a second, and a fork takes milliseconds. The server itself opens no file, so no file can harm it. It
ends with its caller, or after a minute without work.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from lstmconv.arrays.mapping import mapped
from lstmconv.formats.hdf5.nameless_file import nameless_file
from lstmconv.model import Array

__all__ = ["serve", "walk"]

_IDLE_SECONDS = 60
_CODE_BYTES = 4
_PROGRAM = """
import sys
connection, *sys.path = sys.argv[1:]
import h5py
from lstmconv.formats.hdf5 import confinement, fork_server
fork_server.serve(int(connection), confinement.in_fork)
"""


class _Server:
    """The caller's end: one process and the connection to it."""

    def __init__(self) -> None:
        self.connection, theirs = socket.socketpair()
        # The child gets this process' import path. Otherwise ``python -c`` looks into the working directory first, and
        # would import a module that lies beside an untrusted file.
        command = [sys.executable, "-c", _PROGRAM, str(theirs.fileno()), *sys.path]
        with theirs:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C reaches only the caller, which ends the walk.
            )
        self.end = weakref.finalize(self, _end, self.connection, self.process)

    def walk(self, request: Mapping[str, object], files: list[int]) -> int | None:
        """Return the exit code of the child that walked the file, or ``None`` if the server has ended."""
        content = json.dumps(request).encode()
        with nameless_file(len(content)) as written:
            written.write(content)
            written.flush()
            try:
                socket.send_fds(self.connection, [b"?"], [written.fileno(), *files])
                answer = self.connection.recv(_CODE_BYTES, socket.MSG_WAITALL)
            except OSError:
                return None
            except BaseException:  # Such as KeyboardInterrupt.
                os.killpg(self.process.pid, signal.SIGKILL)
                raise
        return int.from_bytes(answer, "big", signed=True) if len(answer) == _CODE_BYTES else None


def _end(connection: socket.socket, process: subprocess.Popen[bytes]) -> None:
    connection.close()
    process.kill()
    process.wait()


_idle: list[_Server] = []
"""Servers that wait for work. A thread takes one out for a walk, so no two share one."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # The servers belong to the parent.


def walk(content: Path | Array, name: str, sink: BinaryIO, seconds: float) -> int:
    """Describe an HDF5 file in a child of a server.

    Returns:
        The child's exit code, negative for a signal.
    """
    request = {
        "path": os.path.abspath(content) if isinstance(content, Path) else None,  # noqa: PTH100  # Follows no link.
        "name": name,
        "seconds": seconds,
        "environment": dict(os.environ),
    }
    if isinstance(content, Path):
        return _walk(request, [sink.fileno()])
    with nameless_file(content.nbytes) as copy:
        copy.write(content.data)
        copy.flush()
        return _walk(request, [sink.fileno(), copy.fileno()])


def _walk(request: Mapping[str, object], files: list[int]) -> int:
    while _idle:
        server = _idle.pop()
        code = server.walk(request, files)
        if code is not None:
            _idle.append(server)
            return code
        server.end()  # The server had ended after a minute without work.
    server = _Server()
    code = server.walk(request, files)
    if code is None:
        server.connection.close()
        return server.process.wait()
    _idle.append(server)
    return code


def serve(descriptor: int, in_fork: Callable[[Path | Array, str, BinaryIO, float], int]) -> None:
    """Answer each request on a connection with the exit code of the child that walked the file.

    Args:
        descriptor: The connection's file descriptor.
        in_fork: The function that walks a file in a forked child and returns its exit code.
    """
    with socket.socket(fileno=descriptor) as connection:
        while select.select([connection], [], [], _IDLE_SECONDS)[0]:
            descriptors = socket.recv_fds(connection, 1, 3)[1]
            if not descriptors:  # The caller has ended.
                return
            with ExitStack() as opened:
                request, sink, *copy = [opened.enter_context(os.fdopen(number, "r+b")) for number in descriptors]
                request.seek(0)
                asked = json.loads(request.read())
                os.environ.clear()
                os.environ.update(asked["environment"])
                content = mapped(copy[0]) if copy else Path(asked["path"])
                code = in_fork(content, asked["name"], sink, asked["seconds"])
            connection.sendall(code.to_bytes(_CODE_BYTES, "big", signed=True))
