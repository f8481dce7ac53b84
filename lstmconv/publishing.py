"""Move written files to their place, all or none; a crash, a full disk or a kill leaves the old files or no file."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from lstmconv.errors import LstmconvError, TargetExistsError, UnreadableFileError, UsageError

__all__ = ["publish", "refuse_changed", "refuse_existing", "shared_staging", "staging", "stamps_of", "stored_meanwhile"]

_PREFIX = ".lstmconv-"
_OLD = ".old"
"""In the hidden folder: the files that the new ones replace."""
_LANDING = ".landing"
"""In the hidden folder: exists once all old files are moved out and new files begin to move in."""
_FRESH_SECONDS = 60
"""A younger hidden folder may belong to a running process that has not locked it yet."""


@contextmanager
def stored_meanwhile(paths: Sequence[Path]) -> Iterator[None]:
    """Sync written files to the disk while the caller verifies them.

    Syncing during writing would slow the writing.

    Raises:
        OSError: A file cannot be stored. The system reports this once; a second sync may succeed.
    """
    failures: list[OSError] = []

    def sync() -> None:
        try:
            for path in paths:
                _sync_file(path)
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=sync, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if failures:
        raise failures[0]


@contextmanager
def staging(folder: Path, *, create: bool = False) -> Iterator[Path]:
    """Give a hidden folder in ``folder`` (``.lstmconv-...``), so on the targets' file system; remove it at the end.

    This also removes folders that killed runs left, if they are older than a minute. At the end, ``folder`` is synced.

    Args:
        folder: The folder of the targets.
        create: Create ``folder`` if it does not exist; remove it at the end if it is empty.

    Raises:
        UsageError: ``folder`` is not a folder, or cannot be written (read-only, a full disk).
    """
    import tempfile  # Loading it takes 1.5 ms, and most commands need no stage.

    created = create and not folder.exists()
    if not created and not folder.is_dir():
        if folder.exists():
            raise UsageError(f"{folder} is a file, expected a folder for the targets")
        raise UsageError(f"the folder {folder} does not exist; create it first")
    stage: Path | None = None
    lock: int | None = None
    try:
        with _as_usage_error(folder):
            if created:
                folder.mkdir(parents=True)
                _sync(folder.parent)
            _clear(folder)
            stage = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
            lock = _lock(stage)
            yield stage
            _sync(folder)
    finally:
        if stage is not None:
            with suppress(OSError):
                for part in _parts(stage):  # A worker that was killed left it.
                    _settle(part, folder)
            shutil.rmtree(stage, ignore_errors=True)
        if lock is not None:
            os.close(lock)
        if created and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def shared_staging(stages: Mapping[Path, Path], folder: Path, *, create: bool = False) -> Iterator[Path]:
    """Give a folder of one conversion's own inside a stage that many conversions share, also those of other machines.

    Args:
        stages: The shared stage of each target folder; for other folders, :func:`staging` makes one.
        folder: As for :func:`staging`.
        create: As for :func:`staging`.

    Raises:
        UsageError: As for :func:`staging`.
    """
    if folder not in stages:
        with staging(folder, create=create) as stage:
            yield stage
        return
    import tempfile

    with _as_usage_error(folder):
        own = Path(tempfile.mkdtemp(dir=stages[folder]))
        try:
            yield own
        finally:
            shutil.rmtree(own, ignore_errors=True)


@contextmanager
def _as_usage_error(folder: Path) -> Iterator[None]:
    """Turn an error of the disk into a :class:`UsageError`."""
    try:
        yield
    except LstmconvError:
        raise
    except OSError as error:
        raise UsageError(f"cannot write into {folder}: {error.strerror or error}; nothing was left there") from error


def refuse_existing(paths: Sequence[Path], source: Path, *, force: bool) -> None:
    """Refuse to replace the source, a folder, or, without ``force``, any file.

    Raises:
        TargetExistsError: A target exists.
        UsageError: A target is the source, or a folder.
    """
    for path in paths:
        if path.exists() and source.exists() and path.samefile(source):
            raise UsageError(f"{path.name} is the source itself; choose another target")
        if path.is_dir():
            raise UsageError(f"{path} is a folder, expected a file name for one target")
        if (path.exists() or path.is_symlink()) and not force:
            raise TargetExistsError(f"{path} exists already; pass --force to replace it")


def publish(staged: Sequence[Path], folder: Path, *, force: bool) -> list[Path]:
    """Sync the staged files, and move each into ``folder`` under its own name.

    A single file replaces an older one in one step. Several files are replaced all together or not at all: all older
    files move out before the first new one moves in. After an error, everything moves back. After a kill, the next run
    in this folder completes the change or reverts it (:func:`staging`).

    Args:
        staged: Files in the folder that :func:`staging` gave.
        folder: The folder of the targets.
        force: Replace existing files. Without it, nothing is replaced, not even a file that appeared a moment ago.

    Raises:
        TargetExistsError: A target exists, and ``force`` is false.
    """
    for path in staged:
        _sync_file(path)
    placed = [folder / path.name for path in staged]
    if len(staged) == 1:
        _land(staged[0], placed[0], force=force)
    else:
        _land_all(staged, placed, force=force)
    return placed


def _land(path: Path, place: Path, *, force: bool) -> None:
    if not force:
        try:
            os.link(path, place)  # Unlike a rename, this fails if the target exists.
        except FileExistsError as error:
            raise TargetExistsError(f"{place} exists already; pass --force to replace it") from error
        except OSError:  # A file system without hard links.
            if os.path.lexists(place):
                raise TargetExistsError(f"{place} exists already; pass --force to replace it") from None
        else:
            path.unlink()
            return
    path.replace(place)


def _land_all(staged: Sequence[Path], placed: Sequence[Path], *, force: bool) -> None:
    stage = staged[0].parent
    kept = stage / _OLD
    landed: list[tuple[Path, Path]] = []
    kept.mkdir()
    try:
        for place in placed if force else ():
            if os.path.lexists(place):
                place.replace(kept / place.name)
        (stage / _LANDING).touch()
        _sync(stage)
        for path, place in zip(staged, placed, strict=True):
            _land(path, place, force=force)
            landed.append((path, place))
    except BaseException:
        for path, place in landed:
            place.replace(path)
        for path in kept.iterdir():
            path.replace(placed[0].parent / path.name)
        raise


def _clear(folder: Path) -> None:
    """Complete or revert the changes of killed runs in a folder, and remove their hidden folders.

    A run locks its hidden folder. The system releases the lock when the process ends, however it ends.
    """
    try:
        import fcntl
    except ImportError:  # Windows: hidden folders of killed runs stay.
        return
    for stage in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            fresh = time.time() - stage.lstat().st_mtime < _FRESH_SECONDS
            if fresh or stage.is_symlink() or not stage.is_dir():
                continue
            descriptor = os.open(stage, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for part in (stage, *_parts(stage)):
                    _settle(part, folder)
                shutil.rmtree(stage, ignore_errors=True)
            finally:
                os.close(descriptor)


def _parts(stage: Path) -> list[Path]:
    """Return the folders in a stage: a run over many files has one for each conversion."""
    return [part for part in stage.iterdir() if part.is_dir() and not part.is_symlink()]


def _settle(stage: Path, folder: Path) -> None:
    """Complete an interrupted publication if new files had begun to move in; otherwise revert it."""
    rest = stage if (stage / _LANDING).exists() else stage / _OLD
    if not (stage / _OLD).is_dir():
        return
    for path in rest.iterdir():
        if path.name not in (_OLD, _LANDING) and not os.path.lexists(folder / path.name):
            path.replace(folder / path.name)
    _sync(folder)


def _lock(stage: Path) -> int | None:
    """Lock a folder until the returned descriptor is closed."""
    try:
        import fcntl
    except ImportError:
        return None
    descriptor = os.open(stage, os.O_RDONLY)
    with suppress(OSError):  # A file system without locks: _FRESH_SECONDS still protects the folder.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def _sync_file(path: Path) -> None:
    """Write the file's bytes to the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Write the folder's entries to the disk."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stamps_of(paths: Sequence[Path]) -> dict[Path, tuple[int, ...]]:
    """Return device, inode, size and modification time of files, and of the files in folders."""
    files: list[Path] = []
    for path in paths:
        files += [each for each in sorted(path.iterdir()) if each.is_file()] if path.is_dir() else [path]
    found: dict[Path, tuple[int, ...]] = {}
    for file in files:
        state = file.stat()
        found[file] = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
    return found


def refuse_changed(before: Mapping[Path, tuple[int, ...]]) -> None:
    """Refuse to publish targets if their source has changed meanwhile.

    Raises:
        UnreadableFileError: A file is gone, or its size, time or inode differs from what :func:`stamps_of` returned.
    """
    for file, stamp in before.items():
        try:
            same = stamps_of([file]) == {file: stamp}
        except OSError:
            same = False
        if not same:
            raise UnreadableFileError(f"{file}: changed while it was converted; nothing was written; run again")
