"""What Keras computes, in NumPy float64: the judge of every conversion."""

from __future__ import annotations

from lstmconv.semantics.lstm import (
    Cell,
    CellType,
    LSTMOutputs,
    merge,
    reference,
    returned,
    run_layer,
    run_stack,
    times,
)

__all__ = ["Cell", "CellType", "LSTMOutputs", "merge", "reference", "returned", "run_layer", "run_stack", "times"]
