"""cuDNN's weight spaces; :mod:`lstmconv.formats.cudnn.packing` says what lies where in the buffer."""

from __future__ import annotations

from lstmconv.formats.cudnn.packing import manifest, obstacle, pack
from lstmconv.formats.cudnn.reading import WeightSpaces, open_file
from lstmconv.formats.cudnn.writing import losses, obstacle_of_model, terms, usage, write

__all__ = [
    "WeightSpaces",
    "losses",
    "manifest",
    "obstacle",
    "obstacle_of_model",
    "open_file",
    "pack",
    "terms",
    "usage",
    "write",
]
