"""What every format holds: LSTM layers as gates, and where they came from. All of it is immutable."""

from __future__ import annotations

from lstmconv.errors import Skipped
from lstmconv.model.checkpoint import Checkpoint, Provenance
from lstmconv.model.gates import GATES, Array, Gates, float_type
from lstmconv.model.layers import LSTMDirection, LSTMLayer, MergeMode, Stack, sizes

__all__ = [
    "GATES",
    "Array",
    "Checkpoint",
    "Gates",
    "LSTMDirection",
    "LSTMLayer",
    "MergeMode",
    "Provenance",
    "Skipped",
    "Stack",
    "float_type",
    "sizes",
]
