"""TensorFlow's own containers, SavedModels and checkpoints: lstmconv reads them without TensorFlow, and writes none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstmconv.errors import UsageError
from lstmconv.formats.format import Artifact, Opened
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.options import ReadOptions, WriteOptions

if TYPE_CHECKING:
    from lstmconv.model import Checkpoint, LSTMLayer, Model, Stack

__all__ = ["config_of", "losses", "obstacle", "obstacle_of_model", "open_file", "terms", "usage", "write"]

_NOT_WRITTEN = "lstmconv reads TensorFlow's files and writes none; convert to keras, and save that file with TensorFlow"


def open_file(file: MappedFile, options: ReadOptions) -> Opened:
    """Open a SavedModel or a checkpoint; see :func:`lstmconv.formats.tensorflow.reader.open_file.open_file`."""
    from lstmconv.formats.keras.reader import read
    from lstmconv.formats.tensorflow.reader import open_file as opening

    content = opening.open_file(file)
    return Opened(None, content, lambda: read.checkpoint_of(content, options))


def config_of(file: MappedFile) -> Mapping[str, Any]:
    """Return the config in a SavedModel, as ``model.to_json()`` states it.

    Raises:
        UnreadableFileError: The file has no config; a checkpoint never has one.
    """
    from lstmconv.formats.tensorflow.reader import open_file as opening

    return opening.open_config(file).stated


def obstacle(stack: Stack) -> str | None:
    """Return the reason why lstmconv writes no TensorFlow files."""
    return _NOT_WRITTEN


def obstacle_of_model(model: Model, options: WriteOptions) -> str | None:
    """Return the reason why lstmconv writes no TensorFlow files."""
    return _NOT_WRITTEN


def terms(layer: LSTMLayer) -> str:
    """Return the form that a layer has in a SavedModel."""
    return "one LSTM layer"


def usage(artifact: Artifact, place: Path) -> str | None:
    """Return ``None``: lstmconv writes no TensorFlow files."""
    return None


def write(checkpoint: Checkpoint, path: Path, options: WriteOptions) -> list[Path]:
    """Refuse to write.

    Raises:
        UsageError: Always.
    """
    raise UsageError(_NOT_WRITTEN, about=path.name)


def losses(checkpoint: Checkpoint, path: Path, options: WriteOptions) -> Iterator[str]:
    """Yield nothing: lstmconv writes no TensorFlow files."""
    return iter(())
