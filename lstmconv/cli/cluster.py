"""The option ``--dask``: the executor of a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lstmconv.errors import UsageError

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["executor_at"]


@contextmanager
def executor_at(address: str | None, jobs: int | None) -> Iterator[Executor | None]:
    """Give the executor of a dask scheduler, or ``None`` without an address.

    Raises:
        MissingDependencyError: dask.distributed is not installed.
        UsageError: No scheduler answers, or a number of processes is given too.
    """
    if address is None:
        yield None
        return
    if jobs is not None:
        raise UsageError(
            "--jobs is for processes of this machine; with --dask, the cluster decides how many run at once"
        )
    from lstmconv.jobs.executors import dask_executor

    with dask_executor(address) as executor:
        yield executor
