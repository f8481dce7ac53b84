"""The catalogue: how conversions of an LSTM go wrong, as data that can be computed and recognised.

A mistake of one direction reads its gates in another order, changes its matrices or biases, or computes another
activation. The same catalogue serves twice: :mod:`lstmconv.proof.power` computes what each one would have returned,
and :mod:`lstmconv.proof.diagnosis` names the one that explains a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any, TypeAlias

import numpy as np

from lstmconv.activations import HARD_SIGMOID_KERAS_2, HARD_SIGMOID_KERAS_3, SIGMOID, Activation
from lstmconv.model import GATES, Array

__all__ = [
    "ARRAYS",
    "Mistake",
    "Weights",
    "mistakes_of",
    "mistakes_of_arrays",
    "mistakes_of_rows",
    "wrong",
    "wrong_biases",
]

ARRAYS = ("W", "R", "b")
"""ONNX' names for the input matrix, the recurrent matrix and the biases."""


@dataclass(frozen=True, eq=False)
class Weights:
    """One direction's arrays, gates i f g o first.

    Attributes:
        ih: W, ``(4, hidden, input)``.
        hh: R, ``(4, hidden, hidden)``.
        bias_ih: ``(4, hidden)`` or ``None``.
        bias_hh: ``(4, hidden)`` or ``None``.
    """

    ih: Array
    hh: Array
    bias_ih: Array | None
    bias_hh: Array | None

    @property
    def hidden_size(self) -> int:
        """Units."""
        return int(self.hh.shape[1])


_PLACES = {"".join(order): [GATES.index(gate) for gate in order] for order in permutations(GATES)}
"""Every order of the gates as places in i f g o."""

Matrices: TypeAlias = "tuple[Array, Array]"
Biases: TypeAlias = "tuple[Array, Array]"


@dataclass(frozen=True)
class Mistake:
    """One way to be wrong about a direction.

    Attributes:
        text: What is wrong, for a person.
        fix: What mends it.
        orders: For W, R and b the gates that stand where i, f, g and o should.
        matrices: Changes W and R; the same function for the same change, so that they are run together.
        biases: Changes the two biases; a missing one is given as zeros.
        activations: The activation and the recurrent activation that are computed instead.
        computes_the_same: It changes the arrays and not what they compute: outputs never show it.
    """

    text: str
    fix: str
    orders: tuple[str, str, str] = (GATES, GATES, GATES)
    matrices: Callable[[Array, Array], Matrices] | None = None
    biases: Callable[[Array, Array], Biases] | None = None
    activations: tuple[Activation, Activation] | None = None
    computes_the_same: bool = False

    @property
    def indices(self) -> tuple[list[int], list[int], list[int]]:
        """The orders as places in i f g o."""
        ih, hh, bias = (_PLACES[order] for order in self.orders)
        return ih, hh, bias

    @property
    def rare(self) -> bool:
        """Whether it moves three gates or four into an order that no format has.

        A proof leaves such orders out, for exchanges of two gates lead off about as far; a diagnosis computes them.
        """
        return any(order not in _KNOWN_ORDERS and sum(map(str.__ne__, order, GATES)) > 2 for order in self.orders)


_KNOWN_ORDERS = {"iofg": "ONNX' order", "igfo": "the order of Keras 1 and of TensorFlow's LSTM cells"}
"""Orders that real files have: ONNX LSTM-14; keras/layers/recurrent.py (1.2.2), TF BasicLSTMCell (i, j, f, o)."""


def order_text(order: str) -> str:
    """Say an order of gates as what happened to i f g o.

    >>> order_text("ofgi")
    'gates i and o exchanged'
    >>> order_text("iofg")
    "gate order i o f g instead of i f g o (ONNX' order)"
    """
    moved = [gate for gate, found in zip(GATES, order, strict=True) if gate != found]
    if len(moved) == 2:
        text = f"gates {moved[0]} and {moved[1]} exchanged"
    else:
        text = f"gate order {' '.join(order)} instead of {' '.join(GATES)}"
    return f"{text} ({_KNOWN_ORDERS[order]})" if order in _KNOWN_ORDERS else text


def _orders(biased: bool) -> Iterator[Mistake]:
    for order in _PLACES:
        if order == GATES:
            continue
        text = order_text(order)
        fix = f"put the gates into the order {' '.join(GATES)}; they stand as {' '.join(order)}"
        yield Mistake(text, fix, (order, order, order))
        for place, array in enumerate(ARRAYS if biased else ARRAYS[:2]):
            orders = tuple(order if number == place else GATES for number in range(3))
            yield Mistake(f"{text} in {array}", fix, orders)  # type: ignore[arg-type]  # three of them


def _exchanged(ih: Array, hh: Array) -> Matrices:
    return hh, ih


_EXCHANGED = Mistake("W and R exchanged", "W multiplies the input, R the previous state", matrices=_exchanged)


def _transposed(array: Array) -> Array:
    return array.swapaxes(1, 2)


def _reshaped(array: Array) -> Array:
    """Read memory of ``(columns, gate unit)`` as ``(gate unit, columns)``."""
    rows = array.reshape(-1, array.shape[2])
    return np.ascontiguousarray(rows.T).reshape(array.shape)


def _by_unit(array: Array) -> Array:
    """Read rows that stand unit by unit, of each its four gates, as gate by gate."""
    return np.ascontiguousarray(array.swapaxes(0, 1)).reshape(array.shape)


def _w_transposed(ih: Array, hh: Array) -> Matrices:
    return _transposed(ih), hh


def _r_transposed(ih: Array, hh: Array) -> Matrices:
    return ih, _transposed(hh)


def _w_reshaped(ih: Array, hh: Array) -> Matrices:
    return _reshaped(ih), hh


def _r_reshaped(ih: Array, hh: Array) -> Matrices:
    return ih, _reshaped(hh)


def _matrices_by_unit(ih: Array, hh: Array) -> Matrices:
    return _by_unit(ih), _by_unit(hh)


def _biases_by_unit(ih: Array, hh: Array) -> Biases:
    return _by_unit(ih), _by_unit(hh)


def _matrices(features: int, hidden: int) -> Iterator[Mistake]:
    """Yield what may happen to W and R; what the shapes make the same is no mistake."""
    if features == hidden:
        yield _EXCHANGED
    transpose = "each gate's block is (unit, column): transpose it"
    if features == hidden > 1:
        yield Mistake("W transposed", transpose, matrices=_w_transposed)
    if hidden > 1:
        yield Mistake("R transposed", transpose, matrices=_r_transposed)
        reshape = "transpose the stored matrix; a reshape keeps its memory and scrambles its rows"
        yield Mistake("R reshaped, not transposed", reshape, matrices=_r_reshaped)
        if features > 1:
            yield Mistake("W reshaped, not transposed", reshape, matrices=_w_reshaped)
        yield Mistake(
            "rows ordered by unit, not by gate",
            "all units of gate i come first, then those of f",
            matrices=_matrices_by_unit,
            biases=_biases_by_unit,
        )


def _interleaved(order: str) -> Callable[[Array, Array], Biases]:
    """Return how halves look that were interleaved, gates in the order of a format, and read as halves."""
    places = _PLACES[order]
    back = [order.index(gate) for gate in GATES]

    def change(ih: Array, hh: Array) -> Biases:
        mixed = np.stack([ih[places], hh[places]], axis=1).reshape(8, -1)
        return mixed[:4][back], mixed[4:][back]

    return change


def _deinterleaved(order: str) -> Callable[[Array, Array], Biases]:
    """Return how halves look that were halves, and read as interleaved."""
    places = _PLACES[order]
    back = [order.index(gate) for gate in GATES]

    def change(ih: Array, hh: Array) -> Biases:
        whole = np.concatenate([ih[places], hh[places]])
        return whole[0::2][back], whole[1::2][back]

    return change


def _more_forget(ih: Array, hh: Array) -> Biases:
    more = ih.copy()
    more[GATES.index("f")] += 1
    return more, hh


def _biases(double: bool) -> Iterator[Mistake]:
    yield from _biases_of_units(double)
    for order, whose in ((GATES, ""), ("iofg", ", in ONNX' order")):
        halves = "write all of the input's bias first, then the recurrent one"
        yield Mistake(f"both biases interleaved{whose}", halves, biases=_interleaved(order))
        yield Mistake(f"both biases read as interleaved{whose}", halves, biases=_deinterleaved(order))


def _biases_of_units(double: bool) -> Iterator[Mistake]:
    """Yield what may happen to each unit's biases."""
    yield Mistake("bias dropped", "write it", biases=lambda ih, hh: (np.zeros_like(ih), np.zeros_like(hh)))
    yield Mistake(
        "bias doubled",
        "write it once, and zeros as the other: both are added",
        biases=lambda ih, hh: (ih + ih, hh + hh),
    )
    yield Mistake(
        "bias written twice", "write it once, and zeros as the other: both are added", biases=lambda ih, hh: (ih, ih)
    )
    yield Mistake("bias halved", "write it whole", biases=lambda ih, hh: (ih / 2, hh / 2))
    yield Mistake("forget bias + 1", "the file holds what Keras added; add nothing", biases=_more_forget)
    exchange = "the input's bias comes first"
    yield Mistake("both biases exchanged", exchange, biases=lambda ih, hh: (hh, ih), computes_the_same=True)
    if double:
        yield Mistake("input bias dropped", "write both", biases=lambda ih, hh: (np.zeros_like(ih), hh))
        yield Mistake("recurrent bias dropped", "write both", biases=lambda ih, hh: (ih, np.zeros_like(hh)))


def _activations(act: Activation, rec: Activation) -> Iterator[Mistake]:
    names = {
        SIGMOID: "sigmoid",
        HARD_SIGMOID_KERAS_2: "Keras 2's hard_sigmoid",
        HARD_SIGMOID_KERAS_3: "Keras 3's hard_sigmoid",
    }
    for other, name in names.items():
        if other != rec:
            fix = f"the recurrent activation is {rec}"
            yield Mistake(f"{name} for {names.get(rec, str(rec))}", fix, activations=(act, other))
    if act != rec:
        fix = f"{rec} is for the gates i f o, {act} for g and the output"
        yield Mistake("activation and recurrent activation exchanged", fix, activations=(rec, act))


def mistakes_of(weights: Weights, act: Activation, rec: Activation) -> list[Mistake]:
    """List the mistakes that can be made about a direction of these shapes and activations."""
    return [*mistakes_of_arrays(weights), *_activations(act, rec)]


def mistakes_of_arrays(weights: Weights) -> list[Mistake]:
    """List the mistakes that change what arrays of these shapes hold."""
    biased, double = _biased(weights)
    return [
        *_orders(biased),
        *_matrices(weights.ih.shape[2], weights.hidden_size),
        *(_biases(double) if biased else ()),
    ]


def mistakes_of_rows(weights: Weights, act: Activation, rec: Activation) -> list[Mistake]:
    """List those that show in some units' rows, R being ``(4, units, hidden)``."""
    biased, double = _biased(weights)
    return [
        *_orders(biased),
        *([_EXCHANGED] if weights.ih.shape == weights.hh.shape else ()),
        *(_biases_of_units(double) if biased else ()),
        *_activations(act, rec),
    ]


def _biased(weights: Weights) -> tuple[bool, bool]:
    """Tell whether there is a bias, and whether there are two that are not zeros."""
    both = [bias for bias in (weights.bias_ih, weights.bias_hh) if bias is not None]
    return bool(both), len(both) == 2 and all(bool(np.any(bias)) for bias in both)


def wrong(mistake: Mistake, weights: Weights) -> Weights:
    """Return the arrays as the mistake leaves them, missing biases as zeros if it touches them."""
    ih, hh, bias = mistake.indices
    matrices = (weights.ih, weights.hh) if mistake.matrices is None else mistake.matrices(weights.ih, weights.hh)
    bias_ih, bias_hh = wrong_biases(mistake, weights)
    changed = replace(weights, ih=matrices[0][ih], hh=matrices[1][hh])
    if bias_ih is None or bias_hh is None:
        return changed
    return replace(changed, bias_ih=bias_ih[bias], bias_hh=bias_hh[bias])


def wrong_biases(mistake: Mistake, weights: Weights) -> tuple[Array | None, Array | None]:
    """Return both biases as the mistake changes them, before their order; ``None`` if there are none."""
    if weights.bias_ih is None and weights.bias_hh is None:
        return None, None
    like: Any = weights.bias_ih if weights.bias_ih is not None else weights.bias_hh
    ih = np.zeros_like(like) if weights.bias_ih is None else weights.bias_ih
    hh = np.zeros_like(like) if weights.bias_hh is None else weights.bias_hh
    return (ih, hh) if mistake.biases is None else mistake.biases(ih, hh)
