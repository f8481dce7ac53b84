"""Keras files: read of every generation, written for Keras 2 and Keras 3, both without Keras."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lstmconv.formats.format import Artifact, Opened
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.options import ReadOptions, WriteOptions

if TYPE_CHECKING:
    from lstmconv.model import Checkpoint, LSTMLayer, Model, Stack

__all__ = ["alteration", "config_of", "losses", "obstacle", "obstacle_of_model", "open_file", "terms", "usage", "write"]


def open_file(file: MappedFile, options: ReadOptions) -> Opened:
    """Open a Keras file of any generation; see :func:`lstmconv.formats.keras.reader.open_file.open_file`."""
    from lstmconv.formats.keras.reader import open_file as opening
    from lstmconv.formats.keras.reader import read

    content = opening.open_file(file)
    return Opened(content.record, content, lambda: read.checkpoint_of(content, options))


def config_of(file: MappedFile) -> Mapping[str, Any]:
    """Return the config that a file tells; see :func:`lstmconv.formats.keras.reader.open_file.open_config`."""
    from lstmconv.formats.keras.reader import open_file as opening

    return opening.open_config(file).stated


def obstacle(stack: Stack) -> str | None:
    """Say why no Keras holds a stack's layers; see :func:`lstmconv.formats.keras.writer.dialect.obstacle`."""
    from lstmconv.formats.keras.writer import dialect

    return dialect.obstacle(stack)


def alteration(model: Model, artifact: Artifact, options: WriteOptions) -> str | None:
    """Say in what a whole file is not the one that is written for a model, but for its arrays, or ``None``."""
    from lstmconv.formats.keras.writer.whole import altering

    content = cast(Any, artifact.content)
    config = None if content.config is None else content.config.model
    return altering.alteration(model, config, content.weights, options)


def obstacle_of_model(model: Model, options: WriteOptions) -> str | None:
    """Say why no Keras holds a model whole; see :func:`lstmconv.formats.keras.writer.whole.write.obstacle_of_model`."""
    from lstmconv.formats.keras.writer.whole import write as whole

    return whole.obstacle_of_model(model, options)


def terms(layer: LSTMLayer) -> str:
    """Say as what a Keras file holds a layer."""
    return "one LSTM layer"


def usage(artifact: Artifact, place: Path) -> str | None:
    """Say what loads a written file; ``None`` for a file of others."""
    record = artifact.record
    if record is None:
        return None
    if record.weights_only or place.name.lower().endswith(".weights.h5"):
        return f'load it into a model of these layers with model.load_weights("{place.as_posix()}")'
    return f'load it with keras.models.load_model("{place.as_posix()}")'


def write(checkpoint: Checkpoint, path: Path, options: WriteOptions) -> list[Path]:
    """Write all layers as Keras itself would; see :func:`lstmconv.formats.keras.writer.write.write`."""
    from lstmconv.formats.keras.writer import write

    return write.write(checkpoint, path, options)


def losses(checkpoint: Checkpoint, path: Path, options: WriteOptions) -> Iterator[str]:
    """Say which facts of the source the written file lacks."""
    from lstmconv.formats.keras.writer import write

    return write.losses(checkpoint, path, options)
