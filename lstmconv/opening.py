"""Open a file of any format; every failure becomes one line."""

from __future__ import annotations

from pathlib import Path

from lstmconv.errors import UnreadableFileError
from lstmconv.formats import Artifact, ReadOptions, located, open_file
from lstmconv.formats.hashing import begin_hashing
from lstmconv.model import Checkpoint

__all__ = ["load_file", "open_artifact", "refuse_no_file"]


def open_artifact(path: Path, options: ReadOptions | None = None) -> Artifact:
    """Open and read a file; it is hashed only when its hash is asked for.

    Raises:
        UnreadableFileError: There is no such file, or it is damaged.
        UnsupportedModelError: It has no LSTM, and no model that lstmconv knows whole.
        UsageError: The options do not fit it.
    """
    refuse_no_file(path)
    if options is not None and options.config is not None:
        refuse_no_file(options.config)
    try:
        artifact = open_file(path, options)
        _ = artifact.checkpoint
        return artifact
    except EOFError as error:  # Not an OSError, and the command line would take it for the user's.
        raise UnreadableFileError("cannot be read: it ends too early", about=path.name) from error
    except OSError as error:
        raise UnreadableFileError(f"cannot be read ({error.strerror or error})", about=path.name) from error


def load_file(path: Path, options: ReadOptions | None = None) -> Checkpoint:
    """Read a file as :func:`open_artifact` does, and start to hash it in the background."""
    checkpoint = open_artifact(path, options).checkpoint
    begin_hashing(checkpoint)
    return checkpoint


def refuse_no_file(path: Path) -> None:
    """Refuse a path with nothing at it, and what may never end: pipes and devices."""
    if str(path) == "-" and not path.exists():
        raise UnreadableFileError("-: standard input is not read; pass the name of a file")
    path = located(path)
    if not path.exists():
        raise UnreadableFileError("no such file", about=str(path))
    if not path.is_file() and not path.is_dir():
        raise UnreadableFileError("neither a file nor a folder (a pipe, a device?), expected a file", about=str(path))
