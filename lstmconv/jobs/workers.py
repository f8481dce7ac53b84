"""Apply a function to many files in several processes; a file that crashes its process does not stop the others.

Threads do not help: the HDF5 library has one lock, and other libraries may crash on a damaged file; here a new worker
replaces one that ended. ``concurrent.futures.ProcessPoolExecutor`` does not help either: when one worker ends, it
ends the others in the middle of their files, and does not say which file was the cause.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lstmconv.errors import in_one_line

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess

__all__ = ["Outcome", "default_jobs", "run", "unexpected"]

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Outcome(Generic[Item, Value]):
    """The result for one item.

    Attributes:
        item: The item.
        value: The function's result; ``None`` if it failed.
        error: Why it failed, in one line.
    """

    item: Item
    value: Value | None
    error: str | None = None


def default_jobs() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def unexpected(error: Exception) -> str:
    """Return what a result says about an error that nobody expected."""
    return f"unexpected {type(error).__name__}: {in_one_line(error) if str(error) else 'no reason given'}"


def run(
    function: Callable[[Item], Value], items: Sequence[Item], jobs: int | None = None
) -> Iterator[Outcome[Item, Value]]:
    """Yield the function's result for every item, in the order of the items, as soon as it is known.

    Args:
        function: A module's top-level function, or a ``functools.partial`` of one; its argument and result are pickled.
        items: Each worker gets one at a time.
        jobs: The number of processes; by default, the number of cores.
    """
    import multiprocessing
    from multiprocessing.connection import wait

    forks = "fork" in multiprocessing.get_all_start_methods() and threading.active_count() == 1
    context = multiprocessing.get_context("fork" if forks and "jax" not in sys.modules else "spawn")
    todo = deque(enumerate(items))
    known: dict[int, Outcome[Item, Value]] = {}
    workers: list[_Worker] = []
    try:
        for _ in range(min(jobs or default_jobs(), len(items))):
            workers.append(_Worker(context, function, workers))
            workers[-1].take(todo)
        for number in range(len(items)):
            while number not in known:
                ready = wait([worker.connection for worker in workers if worker.busy])
                for worker in [worker for worker in workers if worker.connection in ready]:
                    done, value, error = worker.result()
                    known[done] = Outcome(items[done], value, error)
                    if not worker.alive:
                        workers[workers.index(worker)] = worker = _Worker(context, function, workers)
                    worker.take(todo)
            yield known.pop(number)
    finally:
        for worker in workers:
            worker.stop()


class _Worker:
    """One process and its current item."""

    def __init__(self, context: BaseContext, function: Callable[[Any], Any], others: Sequence[_Worker]) -> None:
        self.connection, theirs = context.Pipe()
        # A forked worker inherits this process' ends of all pipes; it closes them, or no worker sees this process end.
        forked = context.get_start_method() == "fork"
        inherited = [self.connection, *(worker.connection for worker in others)] if forked else []
        self.process: BaseProcess = context.Process(  # type: ignore[attr-defined]  # every concrete context has it
            target=_work, args=(theirs, function, inherited), daemon=True
        )
        self.process.start()
        theirs.close()
        self.number: int | None = None
        self.alive = True

    @property
    def busy(self) -> bool:
        return self.number is not None

    def take(self, todo: deque[tuple[int, Any]]) -> None:
        """Start the next item, if there is one."""
        self.number = None
        if todo:
            self.number, item = todo.popleft()
            with contextlib.suppress(OSError):  # The worker has just died; result() reports it.
                self.connection.send(item)

    def result(self) -> tuple[int, Any, str | None]:
        assert self.number is not None
        try:
            value, error = self.connection.recv()
        except (EOFError, OSError):
            self.alive = False
            self.process.join()
            return self.number, None, _ending(self.process.exitcode or 0)
        return self.number, value, error

    def stop(self) -> None:
        """End the process; a busy one is interrupted, so that it removes its unfinished files."""
        self.connection.close()
        if self.busy and self.alive and self.process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGINT)
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _ending(code: int) -> str:
    if code < 0:
        return f"it crashes the process that reads it (signal {-code}): the file is damaged"
    return f"the process that reads it ended with exit code {code}"


def _work(connection: Connection, function: Callable[[Any], Any], inherited: Sequence[Connection]) -> None:
    """Answer each item with a result until the connection closes."""
    for other in inherited:
        other.close()
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            item = connection.recv()
            try:
                answer = pickle.dumps((function(item), None))
            except Exception as error:  # Any error belongs to this item only; the next item follows.
                answer = pickle.dumps((None, unexpected(error)))
            connection.send_bytes(answer)
