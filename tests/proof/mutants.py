"""Wrong conversions, made on purpose: each is a right layer with one thing changed, and the words that must name it.

The changes are written out here once more, on plain arrays ``W (4, H, I)``, ``R (4, H, H)`` and ``b (4, H)`` with
gates i f g o, without lstmconv's own catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np

from lstmconv.model import Gates, LSTMDirection, LSTMLayer
from tests.contract.building import Half


@dataclass(frozen=True)
class Mutant:
    """One change to a direction's arrays.

    Attributes:
        name: What it is.
        words: Any of these in a diagnosis names it rightly.
        change: Takes and returns W, R, the input's bias and the recurrent one (``None``: as the source has it).
        fits: Whether it changes anything about ``input_size`` and ``hidden_size``.
    """

    name: str
    words: tuple[str, ...]
    change: Callable
    fits: Callable[[int, int], bool] = lambda features, hidden: True


def _orders() -> Iterator[Mutant]:
    for order in permutations(range(4)):
        moved = [k for k in range(4) if order[k] != k]
        if not moved:
            continue
        letters = "ifgo"
        if len(moved) == 2:
            words = f"gates {letters[moved[0]]} and {letters[moved[1]]} exchanged"
        else:
            words = f"gate order {' '.join(letters[k] for k in order)} instead of i f g o"
        rows = list(order)
        yield Mutant(f"{words} everywhere", (words,), lambda w, r, b, c, k=rows: (w[k], r[k], b[k], c))
        yield Mutant(f"{words} in W", (words,), lambda w, r, b, c, k=rows: (w[k], r, b, c))
        yield Mutant(f"{words} in R", (words,), lambda w, r, b, c, k=rows: (w, r[k], b, c))
        yield Mutant(f"{words} in b", (words,), lambda w, r, b, c, k=rows: (w, r, b[k], c))


def _forget(b):
    return np.stack([b[0], b[1] + b.dtype.type(1), b[2], b[3]])


def _interleaved(b):
    """Return the halves that a reader of halves finds where gate by gate the input's and zeros were written."""
    zeros = np.zeros_like(b[0])
    return np.stack([b[0], zeros, b[1], zeros]), np.stack([b[2], zeros, b[3], zeros])


def _reshaped(m):
    """Return what a reshape of Keras' (columns, 4 H) to (4 H, columns) makes of it."""
    stored = np.concatenate(list(m)).T.copy()
    return stored.ravel().reshape(m.shape)


def _unit_rows(m):
    """Return what reads rows that stand unit by unit as gate by gate."""
    flat = np.concatenate([m[:, unit] for unit in range(m.shape[1])])
    return flat.reshape(m.shape)


MUTANTS = [
    *_orders(),
    Mutant("bias dropped", ("bias dropped", "is zeros"), lambda w, r, b, c: (w, r, 0 * b, c)),
    Mutant("bias doubled", ("bias doubled", "bias written twice"), lambda w, r, b, c: (w, r, b + b, c)),
    Mutant("bias written twice", ("bias written twice", "bias doubled"), lambda w, r, b, c: (w, r, b, b)),
    Mutant("halves interleaved", ("interleaved",), lambda w, r, b, c: (w, r, *_interleaved(b))),
    Mutant("bias halved", ("bias halved",), lambda w, r, b, c: (w, r, b / b.dtype.type(2), c)),
    Mutant("forget bias + 1", ("forget bias + 1",), lambda w, r, b, c: (w, r, _forget(b), c)),
    Mutant("W and R exchanged", ("W and R exchanged",), lambda w, r, b, c: (r, w, b, c), lambda i, h: i == h),
    Mutant("W transposed", ("W transposed",), lambda w, r, b, c: (w.swapaxes(1, 2), r, b, c), lambda i, h: i == h > 1),
    Mutant("R transposed", ("R transposed",), lambda w, r, b, c: (w, r.swapaxes(1, 2), b, c), lambda i, h: h > 1),
    Mutant("W reshaped", ("W reshaped",), lambda w, r, b, c: (_reshaped(w), r, b, c), lambda i, h: i > 1 and h > 1),
    Mutant("R reshaped", ("R reshaped",), lambda w, r, b, c: (w, _reshaped(r), b, c), lambda i, h: h > 1),
    Mutant(
        "rows by unit",
        ("rows ordered by unit",),
        lambda w, r, b, c: (_unit_rows(w), _unit_rows(r), _unit_rows(b), c),
        lambda i, h: h > 1,
    ),
]


def arrays_of(half: Half) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut Keras' arrays into gates by literal slices."""
    h = half.hidden

    def cut(stored):
        return np.stack(
            [stored[..., 0:h].T, stored[..., h : 2 * h].T, stored[..., 2 * h : 3 * h].T, stored[..., 3 * h :].T]
        )

    return cut(half.kernel), cut(half.recurrent), cut(half.bias)


def mutated(half: Half, mutant: Mutant) -> LSTMDirection:
    """Return the direction that a writer with this mistake would hold in its hands."""
    ih, hh, bias_ih, bias_hh = mutant.change(*arrays_of(half), None)
    return replace(
        half.direction(),
        weight_ih=Gates(*ih),
        weight_hh=Gates(*hh),
        bias_ih=Gates(*bias_ih),
        bias_hh=None if bias_hh is None else Gates(*bias_hh),
    )


def with_forward(layer: LSTMLayer, direction: LSTMDirection) -> LSTMLayer:
    """Put a direction into a layer."""
    return replace(layer, forward=direction)


def with_backward(layer: LSTMLayer, direction: LSTMDirection) -> LSTMLayer:
    """Put a direction into a layer's backward half."""
    return replace(layer, backward=direction)
