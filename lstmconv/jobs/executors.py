"""Work on many files on any ``concurrent.futures.Executor``, such as a cluster's.

The workers may be threads, processes or other machines, which see the same files by the same absolute paths. An
executor may run an item again where a worker was lost (dask does, elsewhere); the function has to allow for it.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from lstmconv._optional import require
from lstmconv._version import __version__
from lstmconv.errors import UsageError, in_one_line
from lstmconv.jobs.workers import Outcome, unexpected

__all__ = ["dask_executor", "run"]

Item = TypeVar("Item")
Value = TypeVar("Value")

_ANSWERS_SECONDS = 10
"""A dask scheduler that is there answers within so many seconds."""


def run(executor: Executor, work: Sequence[tuple[Item, Callable[[], Value]]]) -> Iterator[Outcome[Item, Value]]:
    """Yield the result for every item, in the order of the items, as soon as it is known.

    Args:
        executor: It stays open.
        work: Each item with what is called for it, a ``functools.partial``; the call and its result are pickled where
            the workers are other processes.
    """
    key = uuid.uuid4().hex
    futures = deque(_submitted(executor, _Task(call, f"{key}-{number}")) for number, (_, call) in enumerate(work))
    try:
        for item, _ in work:
            try:
                value, error = futures[0].result()
            except Exception as lost:  # A worker was lost, or cannot read the task; the next item follows.
                value, error = None, unexpected(lost)
            futures.popleft()
            yield Outcome(item, value, error)
    finally:
        for future in futures:
            future.cancel()


@dataclass(frozen=True)
class _Task:
    """One item's work.

    Attributes:
        call: What is called.
        key: Differs for every task of every run: dask answers equal tasks with one result.
        version: Of lstmconv, where the task was made.
    """

    call: Callable[[], Any]
    key: str
    version: str = __version__

    def __call__(self) -> tuple[Any, str | None]:
        """Return the result, or why there is none."""
        if self.version != __version__:
            return None, f"the worker has lstmconv {__version__}, expected {self.version}; install the same on all"
        try:
            return self.call(), None
        except Exception as error:  # It belongs to this item only.
            return None, unexpected(error)


def _submitted(executor: Executor, task: _Task) -> Future[tuple[Any, str | None]]:
    try:
        return executor.submit(task)
    except Exception as error:  # An executor that lost its workers takes no more tasks.
        refused: Future[tuple[Any, str | None]] = Future()
        refused.set_exception(error)
        return refused


@contextmanager
def dask_executor(address: str) -> Iterator[Executor]:
    """Connect to a dask scheduler, and give its executor.

    Source: distributed/client.py (2026.8), ``Client.get_executor``.

    Args:
        address: Such as ``tcp://10.0.0.1:8786``.

    Raises:
        MissingDependencyError: dask.distributed is not installed.
        UsageError: No scheduler answers.
    """
    distributed = require("distributed", "--dask")
    try:
        client = distributed.Client(address, timeout=_ANSWERS_SECONDS, set_as_default=False)
    except (OSError, ValueError, ImportError, TypeError) as error:
        raise UsageError(
            f"--dask {address}: no dask scheduler answers there ({in_one_line(error)}); expected tcp://HOST:PORT"
        ) from error
    with client:
        yield client.get_executor()
