"""Cut the arrays of a state dict by rules written out from PyTorch's own documentation."""

from __future__ import annotations

from lstmconv.model import Array, Gates

__all__ = ["blocks"]


def blocks(rows: Array) -> Gates:
    """Cut rows into the gates i f g o (torch.nn.LSTM, Variables)."""
    hidden = rows.shape[0] // 4
    return Gates(rows[0:hidden], rows[hidden : 2 * hidden], rows[2 * hidden : 3 * hidden], rows[3 * hidden :])
