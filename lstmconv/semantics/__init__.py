"""Keras' computations in NumPy float64, the reference for every conversion.

``cells`` computes one step of a recurrent layer, ``recurrent`` the order of time, masks and merging; ``layers``,
``attention`` and ``operations`` compute all other kinds, ``graph`` a whole model.
"""

from __future__ import annotations

from lstmconv.semantics.cells import Cell, CellType, LSTMCell, cell_of, merge, times
from lstmconv.semantics.graph import compute, run_model, state_slots, stateful_calls
from lstmconv.semantics.recurrent import RecurrentOutputs, returned, run_layer, run_stack
from lstmconv.semantics.reference import reference

__all__ = [
    "Cell",
    "CellType",
    "LSTMCell",
    "RecurrentOutputs",
    "cell_of",
    "compute",
    "merge",
    "reference",
    "returned",
    "run_layer",
    "run_model",
    "run_stack",
    "state_slots",
    "stateful_calls",
    "times",
]
