"""Keras files: read of every generation, written for Keras 2 and Keras 3, both without Keras."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lstmconv.formats import ReadOptions, WriteOptions

if TYPE_CHECKING:
    from lstmconv.model import Checkpoint, Stack

__all__ = ["losses", "obstacle", "read", "write"]


def read(path: Path, options: ReadOptions) -> Checkpoint:
    """Read every LSTM layer of a Keras file of any generation; see :func:`lstmconv.formats.keras.reader.read.read`."""
    from lstmconv.formats.keras.reader import read as reading

    return reading.read(
        path,
        config=options.config,
        activation=options.activation,
        recurrent_activation=options.recurrent_activation,
    )


def obstacle(stack: Stack) -> str | None:
    """Say why no Keras holds a stack's layers; see :func:`lstmconv.formats.keras.writer.write.obstacle`."""
    from lstmconv.formats.keras.writer import write as writing

    return writing.obstacle(stack)


def write(checkpoint: Checkpoint, path: Path, options: WriteOptions) -> list[Path]:
    """Write all layers as Keras itself would; see :func:`lstmconv.formats.keras.writer.write.write`."""
    from lstmconv.formats.keras.writer import write as writing

    return writing.write(checkpoint, path, options)


def losses(checkpoint: Checkpoint, path: Path, options: WriteOptions) -> tuple[str, ...]:
    """Say what the source tells and the file does not; see :func:`lstmconv.formats.keras.writer.write.losses`."""
    from lstmconv.formats.keras.writer import write as writing

    return writing.losses(checkpoint, path, options)
