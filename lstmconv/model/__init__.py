"""The data model that all formats share: LSTM layers as gates, the model as a graph, and their provenance.

Every value is immutable. The other kinds of layers are in :mod:`lstmconv.model.kinds`.
"""

from __future__ import annotations

from lstmconv.errors import Skipped
from lstmconv.model.checkpoint import Checkpoint, Provenance
from lstmconv.model.gates import GATES, Array, Gates, float_type
from lstmconv.model.graph import Call, Input, Layer, Model, Shape, Tensor, TimeDistributed
from lstmconv.model.layers import LSTMDirection, LSTMLayer, MergeMode, Stack, sizes
from lstmconv.model.recurrent import GRUDirection, RecurrentLayer, SimpleRNNDirection

__all__ = [
    "GATES",
    "Array",
    "Call",
    "Checkpoint",
    "GRUDirection",
    "Gates",
    "Input",
    "LSTMDirection",
    "LSTMLayer",
    "Layer",
    "MergeMode",
    "Model",
    "Provenance",
    "RecurrentLayer",
    "Shape",
    "SimpleRNNDirection",
    "Skipped",
    "Stack",
    "Tensor",
    "TimeDistributed",
    "float_type",
    "sizes",
]
