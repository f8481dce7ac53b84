"""Keras files: read of every generation, written for Keras 2 and Keras 3, both without Keras."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lstmconv.formats import ReadOptions
from lstmconv.formats.keras import reading
from lstmconv.formats.keras.writing import losses, obstacle, write

if TYPE_CHECKING:
    from lstmconv.model import Checkpoint

__all__ = ["losses", "obstacle", "read", "write"]


def read(path: Path, options: ReadOptions) -> Checkpoint:
    """Read every LSTM layer of a Keras file of any generation; see :func:`lstmconv.formats.keras.reading.read`."""
    return reading.read(
        path,
        config=options.config,
        activation=options.activation,
        recurrent_activation=options.recurrent_activation,
    )
