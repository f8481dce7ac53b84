"""Put written files in their place all at once: a crash, a full disk or a kill leaves the old ones or none."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from lstmconv.errors import LstmconvError, TargetExistsError, UsageError

__all__ = ["publish", "refuse_existing", "staging", "written_back"]


_EVERY_SECONDS = 0.2


@contextmanager
def written_back(folder: Path) -> Iterator[None]:
    """Let the disk store what a large file holds so far while the rest is computed: syncing at the end takes long."""
    done = threading.Event()

    def sync() -> None:
        while not done.wait(_EVERY_SECONDS):
            for path in folder.iterdir():
                with suppress(OSError), path.open("rb") as file:  # What cannot be stored fails when it is published.
                    os.fsync(file.fileno())

    thread = threading.Thread(target=sync, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def staging(folder: Path, *, create: bool = False) -> Iterator[Path]:
    """Give a hidden folder beside the targets (``.lstmconv-...``), on their file system; it goes at the end.

    Args:
        folder: Where the targets will lie.
        create: Make ``folder`` if it is not there; it goes again if nothing comes to lie in it.

    Raises:
        UsageError: ``folder`` is not a folder, or cannot be written (read-only, a full disk).
    """
    created = create and not folder.exists()
    if not created and not folder.is_dir():
        raise UsageError(f"the folder {folder} does not exist; create it first")
    stage: Path | None = None
    try:
        if created:
            folder.mkdir(parents=True)
        stage = Path(tempfile.mkdtemp(prefix=".lstmconv-", dir=folder))
        yield stage
    except LstmconvError:
        raise
    except OSError as error:
        raise UsageError(f"cannot write into {folder}: {error.strerror or error}; nothing was left there") from error
    finally:
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)
        if created and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def refuse_existing(paths: Sequence[Path], source: Path, *, force: bool) -> None:
    """Refuse to write over the source, a folder, or, without ``force``, any file.

    Raises:
        TargetExistsError: A target is there already.
        UsageError: A target is the source, or a folder.
    """
    for path in paths:
        if path.exists() and source.exists() and path.samefile(source):
            raise UsageError(f"{path.name} is the source itself; choose another target")
        if path.is_dir():
            raise UsageError(f"{path} is a folder, expected a file name for one target")
        if (path.exists() or path.is_symlink()) and not force:
            raise TargetExistsError(f"{path} exists already; pass --force to replace it")


def publish(staged: Sequence[Path], folder: Path) -> list[Path]:
    """Sync the staged files, move each into ``folder`` under its own name, and sync the folder."""
    for path in staged:
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    placed = [folder / path.name for path in staged]
    for path, place in zip(staged, placed, strict=True):
        path.replace(place)
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return placed
