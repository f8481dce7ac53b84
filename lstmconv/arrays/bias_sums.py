"""Biases of two files of which neither was made from the other by lstmconv, so that they can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from lstmconv.arrays.comparing import difference
from lstmconv.arrays.copying import copy_gates
from lstmconv.model import Gates, LSTMDirection

__all__ = ["Biases", "ComparableBiases", "cast_gates", "comparable_biases"]

Biases: TypeAlias = "tuple[Gates | None, Gates | None]"
"""The input and the recurrent bias, each ``(4, hidden)``."""


class ComparableBiases(NamedTuple):
    """The biases of one direction in two files, ready to be compared.

    Attributes:
        expected: The source's, as the other file may hold it.
        stored: The other file's.
        summed: Two biases of one file are compared as their sum.
    """

    expected: Biases
    stored: Biases
    summed: bool


def comparable_biases(direction: LSTMDirection, stored: Biases, dtype: np.dtype[Any]) -> ComparableBiases:
    """Return the biases of a source, and of a file that was not made from it, in a form in which they can be compared.

    Two are compared with two where each is the other's. Otherwise sums are: only the sum matters to what an LSTM
    computes. One bias may be the sum in the source's dtype, rounded, or the sum of both rounded ones. Zeros stand for
    a bias that is not there.

    Args:
        direction: The source's.
        stored: The other file's biases.
        dtype: The other file's.
    """
    both = direction.bias_ih, direction.bias_hh
    if None not in (*stored, *both) and all(
        difference(own, other) is None  # type: ignore[arg-type]  # none is None
        for own, other in zip(both, stored, strict=True)
    ):
        return ComparableBiases(both, stored, summed=False)
    found = _total(stored, direction, dtype)
    exact, rounded = _total(both, direction, direction.dtype), _total(both, direction, dtype)
    chosen = rounded if difference(rounded, found) is None else exact
    return ComparableBiases((chosen, None), (found, None), summed=None not in both or None not in stored)


def _total(biases: Sequence[Gates | None], direction: LSTMDirection, dtype: np.dtype[Any]) -> Gates:
    """Return the one bias that two stand for, each rounded to ``dtype`` first; x + 0 is x bit for bit."""
    given = [np.asarray(cast_gates(bias, dtype)) for bias in biases if bias is not None]
    if not given:
        return Gates(*np.zeros(direction.weight_hh.shape[:2], dtype))
    if len(given) == 1:
        return Gates(*given[0])
    a, b = given
    with np.errstate(all="ignore"):
        return Gates(*np.where(b == 0, a, np.where(a == 0, b, a + b)))


def cast_gates(gates: Gates, dtype: np.dtype[Any]) -> Gates:
    """Round gates to a file's dtype.

    Raises:
        UnsupportedModelError: A finite value does not fit it.
    """
    rounded = Gates(*(np.empty(gate.shape, dtype) for gate in gates))
    copy_gates(gates, rounded)
    return rounded
