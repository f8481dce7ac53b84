"""Statistics of a layer's weights for each array and gate, and the units that stand out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lstmconv.arrays.places import stored_name
from lstmconv.checking.weight_rules import EXPLODED_NORM, MOVED, Rows, reach
from lstmconv.model import GATES, Gates, LSTMDirection, LSTMLayer
from lstmconv.reporting.scanning import Scan, scan_gate, with_histogram

__all__ = ["ArrayWeights", "HalfWeights", "Kind", "Mark", "weights_of"]

Kind = Literal["not finite", "dead", "saturated", "exploding"]


@dataclass(frozen=True)
class Mark:
    """Units of a gate that stand out.

    Attributes:
        gate: ``i``, ``f``, ``g`` or ``o``.
        kind: ``not finite``: NaN or infinite weights or biases. ``dead``: its input and recurrent weights are all
            zero, so that nothing moves it. ``saturated``: no state and no input within ±10 moves it by 0.001.
            ``exploding``: the norm of its weights is 100 or more. :mod:`lstmconv.checking.weight_rules` has the
            thresholds and their reasons; the check asks them of whole gates, this of each unit.
        units: Their numbers, from 0.
    """

    gate: str
    kind: Kind
    units: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ArrayWeights:
    """One array of a direction.

    Attributes:
        letter: ``W``, ``R`` and ``b``, or ``bW`` and ``bR`` for two biases, as ONNX and cuDNN call them.
        name: The array's name in the source.
        gates: In the order i, f, g, o.
        limit: The largest finite magnitude of all four.
    """

    letter: str
    name: str
    gates: tuple[Scan, ...]
    limit: float


@dataclass(frozen=True, eq=False)
class HalfWeights:
    """One direction of a layer.

    Attributes:
        layer: The layer's name.
        half: ``forward`` or ``backward``; ``None`` in a layer of one direction.
        arrays: Input matrix, recurrent matrix, biases.
        marks: By gate and kind; empty where nothing stands out.
    """

    layer: str
    half: str | None
    arrays: tuple[ArrayWeights, ...]
    marks: tuple[Mark, ...]


def weights_of(layer: LSTMLayer) -> Iterator[HalfWeights]:
    """Yield a layer's directions, forward before backward; every weight is looked at."""
    for number, direction in enumerate(layer.directions):
        arrays = tuple(_arrays(direction))
        half = ("forward", "backward")[number] if layer.bidirectional else None
        yield HalfWeights(layer.name, half, arrays, tuple(_marks(direction, arrays)))


def _arrays(direction: LSTMDirection) -> Iterator[ArrayWeights]:
    two = direction.bias_ih is not None and direction.bias_hh is not None
    letters = {"weight_ih": "W", "weight_hh": "R", "bias_ih": "bW" if two else "b", "bias_hh": "bR" if two else "b"}
    for name, gates in direction.arrays.items():
        yield _array(letters[name], stored_name(direction, name), gates)


def _array(letter: str, name: str, gates: Gates) -> ArrayWeights:
    scans = [scan_gate(gate) for gate in gates]
    limit = max(max(abs(scan.smallest), abs(scan.largest)) for scan in scans)
    return ArrayWeights(
        letter, name, tuple(with_histogram(gate, scan, limit) for gate, scan in zip(gates, scans, strict=True)), limit
    )


def _marks(direction: LSTMDirection, arrays: tuple[ArrayWeights, ...]) -> Iterator[Mark]:
    for index, gate in enumerate(GATES):
        scans = [array.gates[index] for array in arrays]
        finite = np.logical_and.reduce([scan.finite for scan in scans])
        yield from _found(gate, "not finite", ~finite)
        w, r = scans[0], scans[1]
        biases = [gates for gates in (direction.bias_ih, direction.bias_hh) if gates is not None]
        bias = np.zeros(direction.hidden_size)
        with np.errstate(all="ignore"):  # Units that are not finite have a mark of their own.
            for gates in biases:
                bias += np.asarray(tuple(gates)[index], np.float64)
            rows = Rows(w.magnitudes, r.magnitudes, np.sqrt(w.squares + r.squares), bias)
            dead = (rows.inputs == 0) & (rows.states == 0)
            reached = reach(rows, direction, gate)
            still = np.zeros_like(dead) if reached is None else reached[1] - reached[0] < MOVED
            exploding = rows.norms >= EXPLODED_NORM
        yield from _found(gate, "dead", dead & finite)
        yield from _found(gate, "saturated", still & ~dead & finite)
        yield from _found(gate, "exploding", exploding & finite)


def _found(gate: str, kind: Kind, units: np.ndarray) -> Iterator[Mark]:
    if units.any():
        yield Mark(gate, kind, tuple(map(int, np.flatnonzero(units))))
