r"""How far rounding alone may move an LSTM's numbers: a bound where it is of use, else a measured spread.

**The bound** is carried beside the float64 reference, step by step (a running error analysis: Higham, *Accuracy and
Stability of Numerical Algorithms*, 2nd ed. 2002, section 3.3). ``u`` is the unit roundoff, 2^-24 for float32; every
computed quantity ``v`` comes with an ``e(v)`` such that ``|computed - exact| <= e(v)``.

* A sum of n products, in whatever order, with or without fused operations, is wrong by at most
  ``gamma_n * sum |factors|``, where ``gamma_n = n u / (1 - n u)`` (ibid., section 3.1). A gate's sum has
  ``n = input + hidden + 2`` terms, and carries the errors of its inputs::

      e(z) = |W| e(x) + |R| e(h) + gamma_n (|W| (|x| + e(x)) + |R| (|h| + e(h)) + |b_ih| + |b_hh|)

* An activation ``a`` that rises everywhere maps the interval ``z - e(z) .. z + e(z)`` to the one between its ends, and
  an implementation of it is good to :data:`ACTIVATION_ERROR`::

      e(a) = max |a(z +- e(z)) - a(z)| + ACTIVATION_ERROR u max(|a(z)|, |a(0)|, min(|z|, 1))

* A product carries ``|a| e(b) + |b| e(a) + e(a) e(b)``; ``c' = f c + i g`` rounds twice, ``h' = o a(c')`` once.
* Where states or outputs are stored in a narrower dtype, they round once more to that; so do ``W x`` and ``R h``, each,
  where they are stored before they are added (:attr:`~lstmconv.runtimes.Precision.products`).

The reference rounds too, in float64; since ``e`` grows at least in proportion to ``u``, computing with
``u + 2^-53`` covers both.

**The spread.** Through many steps and units the bound grows as if all errors pushed the same way, until it says
nothing. Then the layer is computed :data:`DRAWS` times in float64 with every rounding drawn at random, as large as in
the framework's precision (Monte Carlo arithmetic: Parker, *Monte Carlo Arithmetic*, UCLA CSD-970002, 1997), and of each
array and step the largest deviation from the reference times :data:`SPREAD_MARGIN` is taken. A gate's sum is drawn as
if its n terms were added one after another, the honest order that rounds most. Each addition then rounds the partial
sum by a random part of u, standard deviation ``u |s_k| / sqrt 3``. Partial sums wander like the terms (``k q / n``,
q the sum of their squares) and drift towards the total z (``k z / n``), so together::

    var(z) = u^2 / 3 * (n (z^2 / 3 + q / 2) + q)

where the last q is the rounding of the products. Blocked and vectorised sums round less.
``tests/proof/test_rounding.py`` compares this with real re-orderings in float32, and with every framework.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lstmconv.activations import Activation
from lstmconv.model import GRUDirection, LSTMDirection, SimpleRNNDirection, float_type
from lstmconv.runtimes import Precision
from lstmconv.semantics.cells import Cell, CellType, Direction, GRUCell, LSTMCell, SimpleRNNCell, times

__all__ = [
    "ACTIVATION_ERROR",
    "DRAWS",
    "SPREAD_MARGIN",
    "Limits",
    "Roundings",
    "UselessBoundError",
    "bounded",
    "drawn",
    "limits",
]

Float64: TypeAlias = npt.NDArray[np.float64]

ACTIVATION_ERROR = 8
"""The error allowed to an implementation of an activation, in units of u (4 ulp).

Measured over 800,000 numbers, the largest is 4.6 u, of ONNX Runtime's tanh; PyTorch's sigmoid has 2.7 u;
``tests/proof/test_rounding.py`` measures it again. Both approximate by polynomials and not by the C library.
"""

DRAWS = 8
"""Draws: with a batch of 3, every step of a single unit is then sampled 24 times."""

SPREAD_MARGIN = 4
"""How far honest runs may leave the sampled ones behind.

Rounding errors are sums of many small independent ones, near to normal (Higham and Mary 2019, SIAM J. Sci. Comput.
41(5)). The largest of 24 normal samples is under one standard deviation once in 10,000 times (0.68^24), and another
sample is over four once in 16,000: both together, once in 10^8. With more units it is rarer by far.
"""

_RISING = frozenset(
    {
        *("linear", "sigmoid", "hard_sigmoid", "tanh", "relu", "elu", "celu", "selu", "softplus", "softsign"),
        *("exponential", "hard_tanh", "log_sigmoid", "sparse_plus", "sparse_sigmoid", "squareplus", "soft_shrink"),
        "tanh_shrink",
    }
)
"""Activations that never fall; of the others (gelu, softmax, ...) no bound is carried."""


@dataclass(frozen=True)
class Limits:
    """What a dtype can hold.

    Attributes:
        roundoff: u, half the distance from 1 to the next number.
        smallest: What rounding may do near zero: half the smallest subnormal.
        largest: The largest finite number.
    """

    roundoff: float
    smallest: float
    largest: float


def limits(dtype: str) -> Limits:
    """Return the limits of a dtype by its name.

    >>> limits("float32").roundoff == 2.0**-24
    True
    """
    import ml_dtypes

    found: Any = ml_dtypes.finfo(float_type(dtype))  # type: ignore[no-untyped-call]
    return Limits(float(found.eps) / 2, float(found.smallest_subnormal) / 2, float(found.max))


class UselessBoundError(Exception):
    """The bound has outgrown the numbers themselves; going on would only cost time."""


def _gamma(terms: int, u: float) -> float:
    return terms * u / (1 - terms * u) if terms * u < 1 else np.inf


def _carried(value: Float64, error: Float64) -> Float64:
    """Put a value and its bound into one array; what is beyond bounding is infinite."""
    return np.stack([value, np.where(np.isnan(error), np.inf, error)])


class _BoundedCell(LSTMCell):
    """Computes values, and along an axis in front of them their bounds: ``(2, batch, ...)``."""

    def __init__(self, direction: LSTMDirection, name: str, precision: Precision) -> None:
        """Take the magnitudes of the weights too."""
        super().__init__(direction, name)
        self._u = limits(precision.arithmetic).roundoff + limits("float64").roundoff
        self._stored = limits(precision.stored).roundoff if precision.stored != precision.arithmetic else 0.0
        self._smallest = limits(precision.stored).smallest
        self._products = limits(precision.products) if precision.products else None
        self._size_ih, self._size_hh = np.abs(self.weight_ih), np.abs(self.weight_hh)
        terms = self.weight_ih.shape[1] + self.weight_hh.shape[1] + 2
        self._gamma = _gamma(terms, self._u)

    def project(self, x: Float64) -> Float64:
        value, error = x
        size = times((np.abs(value) + error), self._size_ih) + sum(np.abs(bias) for bias in self.biases)
        projected = super().project(value)
        e_projected = times(error, self._size_ih) + self._gamma * size
        return _carried(projected, e_projected + self._of_product(projected - sum(self.biases), e_projected))

    def step(self, projected: Float64, *states: Float64) -> tuple[Float64, ...]:
        (value, error), (c_value, c_error) = states
        recurrent = times(value, self.weight_hh)
        e_recurrent = times(error, self._size_hh) + self._gamma * times(np.abs(value) + error, self._size_hh)
        z = projected[0] + recurrent
        e_z = projected[1] + e_recurrent + self._of_product(recurrent, e_recurrent)
        i, f, g, o = (
            self._activated(self.act if gate == 2 else self.rec, *pair)
            for gate, pair in enumerate(zip(np.split(z, 4, axis=-1), np.split(e_z, 4, axis=-1), strict=True))
        )
        kept, added = self._product(f, (c_value, c_error)), self._product(i, g)
        new_c = kept[0] + added[0]
        e_c = kept[1] + added[1]
        e_c = e_c + _gamma(2, self._u) * (np.abs(kept[0]) + kept[1] + np.abs(added[0]) + added[1])
        new_h, e_h = self._product(o, self._activated(self.act, new_c, e_c))
        e_h = e_h + _gamma(1, self._u) * (np.abs(new_h) + e_h)
        if np.median(e_h) > np.abs(new_h).max():
            raise UselessBoundError
        return self._narrowed(new_h, e_h), self._narrowed(new_c, e_c)

    def merge(self, mode: str, forward: Float64, backward: Float64) -> Float64:
        if mode == "concat":
            return super().merge(mode, forward, backward)
        if mode == "mul":
            value, error = self._product(tuple(forward), tuple(backward))
        else:
            value = super().merge(mode, forward[0], backward[0])
            error = forward[1] + backward[1]  # The average is half of the sum; halving rounds nothing.
        return self._narrowed(value, error + _gamma(1, self._u) * (np.abs(value) + error))

    def _narrowed(self, value: Float64, error: Float64) -> Float64:
        """Add the rounding to what is stored."""
        return _carried(value, error + self._stored * (np.abs(value) + error) + self._smallest)

    def _of_product(self, value: Float64, error: Float64) -> Float64 | float:
        """Return what storing a product adds to its error."""
        if self._products is None:
            return 0.0
        return self._products.roundoff * (np.abs(value) + error) + self._products.smallest

    def _activated(self, activation: Activation, z: Float64, e_z: Float64) -> tuple[Float64, Float64]:
        value = activation(z)
        if activation.name not in _RISING:
            return value, np.full_like(value, np.inf)
        moved = np.maximum(np.abs(activation(z + e_z) - value), np.abs(activation(z - e_z) - value))
        return value, moved + self._u * ACTIVATION_ERROR * _scale(activation, z, value)

    @staticmethod
    def _product(a: tuple[Float64, ...], b: tuple[Float64, ...]) -> tuple[Float64, Float64]:
        (value_a, error_a), (value_b, error_b) = a, b
        error = np.abs(value_a) * error_b + np.abs(value_b) * error_a + error_a * error_b
        return value_a * value_b, error


def _scale(activation: Activation, z: Float64, value: Float64) -> Float64:
    """Return what an activation's error is relative to: small where it leaves zero linearly, else its size."""
    at_zero = abs(float(activation(np.zeros((1, 1)))[0, 0]))
    return np.maximum(np.maximum(np.abs(value), at_zero), np.minimum(np.abs(z), 1.0))


def _moved(value: Float64, amount: Float64) -> Float64:
    moved = value + amount
    return moved if np.isfinite(moved).all() else np.where(np.isfinite(value), moved, value)


class Roundings:
    """Draws roundings at random, as large as those of a precision."""

    def __init__(self, precision: Precision, seed: int = 0) -> None:
        """Take what a framework computes in, and a seed."""
        self._random = np.random.default_rng(seed)
        self.u = limits(precision.arithmetic).roundoff
        self._stored = limits(precision.stored)
        self._narrows = precision.stored != precision.arithmetic
        self._products = limits(precision.products) if precision.products else None

    def moved(self, value: Float64, amount: Float64 | float) -> Float64:
        """Move each number by up to an amount, in units of u; infinite ones are exact."""
        return _moved(value, self.u * amount * self._random.uniform(-1.0, 1.0, value.shape))

    def summed(self, value: Float64, squares: Float64, terms: int) -> Float64:
        """Round a sum of products; ``squares`` is the sum of their squares."""
        variance = (terms * (np.square(value) / 3 + squares / 2) + squares) / 3
        return _moved(value, self.u * np.sqrt(variance) * self._random.standard_normal(value.shape))

    def rounded(self, value: Float64) -> Float64:
        """Round each number once."""
        return self.moved(value, np.abs(value))

    def narrowed(self, value: Float64) -> Float64:
        """Round to what is stored, if that is narrower than the arithmetic."""
        return self._to(self._stored, value) if self._narrows else value

    def product(self, value: Float64) -> Float64:
        """Round a product of a matrix to what it is stored in, if it is stored."""
        return value if self._products is None else self._to(self._products, value)

    def _to(self, narrow: Limits, value: Float64) -> Float64:
        allowed = narrow.roundoff * np.abs(value) + narrow.smallest
        return _moved(value, allowed * self._random.uniform(-1.0, 1.0, value.shape))

    def activated(self, activation: Activation, z: Float64) -> Float64:
        """Compute an activation as an implementation of it may."""
        value = activation(z)
        return self.moved(value, ACTIVATION_ERROR * _scale(activation, z, value))


class _Drawn(Cell):
    """The base of cells that draw every rounding at random: ``(draws, batch, ...)``."""

    draw: Roundings
    terms: int

    def _begin(self, precision: Precision, seed: int) -> None:
        """Take the squares of the weights too, and the source of the draws."""
        self.draw = Roundings(precision, seed)
        self.terms = self.weight_ih.shape[1] + self.weight_hh.shape[1] + 2
        self._square_ih, self._square_hh = _squared(self.weight_ih), _squared(self.weight_hh)
        self._square_biases = sum(np.square(bias) for bias in self.biases)

    def project(self, x: Float64) -> Float64:
        """Return the exact sums, and beside them those of squares (of the first draw, for all)."""
        squares = _sum_of_squares(x[:1], self._square_ih) + self._square_biases
        return np.concatenate([self.draw.product(times(x, self.weight_ih)) + sum(self.biases), squares])

    def gates(self, projected: Float64, h: Float64, bias: Float64 | float = 0.0) -> Float64:
        """Round the sums of all gates; ``bias`` is added to what h gives."""
        q = projected[-1:] + _sum_of_squares(h[:1], self._square_hh) + np.square(bias)
        return self.draw.summed(projected[:-1] + self.draw.product(times(h, self.weight_hh)) + bias, q, self.terms)

    def merge(self, mode: str, forward: Float64, backward: Float64) -> Float64:
        merged = super().merge(mode, forward, backward)
        return merged if mode == "concat" else self.draw.narrowed(self.draw.rounded(merged))


_LARGE = 1 << 20
"""From so many numbers on, squares are float32, half the memory: of a variance, seven digits are enough."""
_SAFE = 2.0**40
"""Squares of numbers below this, and sums of products of those, are far from what float32 cannot hold."""


def _squared(matrix: Float64) -> npt.NDArray[Any]:
    """Square a matrix; in float32 where it is large and its numbers are ordinary."""
    ordinary = matrix.size >= _LARGE and 1 / _SAFE < max(matrix.max(), -matrix.min()) < _SAFE
    return np.square(matrix, dtype=np.float32, casting="same_kind") if ordinary else np.square(matrix)


def _sum_of_squares(array: Float64, squared: npt.NDArray[Any]) -> Float64:
    """Return the sums of the squares of the products of ``(..., columns)`` and the rows of a matrix that is squared."""
    squares: npt.NDArray[Any] = np.square(array)
    if squared.dtype == np.float32:
        if not squares.max(initial=0.0) < _SAFE * _SAFE:
            return times(squares, squared.astype(np.float64))
        squares = squares.astype(np.float32)
    return times(squares, squared)


class _DrawnLSTM(_Drawn, LSTMCell):
    def __init__(self, direction: LSTMDirection, name: str, precision: Precision, seed: int) -> None:
        LSTMCell.__init__(self, direction, name)
        self._begin(precision, seed)

    def step(self, projected: Float64, *states: Float64) -> tuple[Float64, ...]:
        h, c = states
        draw = self.draw
        i, f, g, o = np.split(self.gates(projected, h), 4, axis=-1)
        kept = draw.rounded(draw.activated(self.rec, f) * c)
        new_c = draw.rounded(kept + draw.rounded(draw.activated(self.rec, i) * draw.activated(self.act, g)))
        new_h = draw.rounded(draw.activated(self.rec, o) * draw.activated(self.act, new_c))
        return draw.narrowed(new_h), draw.narrowed(new_c)


class _DrawnGRU(_Drawn, GRUCell):
    def __init__(self, direction: GRUDirection, name: str, precision: Precision, seed: int) -> None:
        GRUCell.__init__(self, direction, name)
        self._begin(precision, seed)

    def step(self, projected: Float64, *states: Float64) -> tuple[Float64, ...]:
        (h,) = states
        draw, hidden = self.draw, h.shape[-1]
        both, ours = slice(0, 2 * hidden), slice(2 * hidden, None)
        gates = self.gates(projected, h, self.recurrent_bias)
        z, r = np.split(draw.activated(self.rec, gates[..., both]), 2, axis=-1)
        rows, bias = self.weight_hh[ours], self.recurrent_bias[ours]
        given = times(h, rows) + bias if self.reset_after else times(draw.rounded(r * h), rows)
        squares = _sum_of_squares(h[:1], self._square_hh[ours]) + np.square(bias)
        inner = draw.summed(given, squares, self.terms)
        if self.reset_after:
            inner = draw.rounded(r * inner)
        sums = projected[:-1, ..., ours] + inner
        n = draw.activated(self.act, draw.summed(sums, projected[-1:, ..., ours] + np.square(inner), self.terms))
        new_h = draw.rounded(draw.rounded(z * h) + draw.rounded(draw.rounded(1.0 - z) * n))
        return (draw.narrowed(new_h),)


class _DrawnSimpleRNN(_Drawn, SimpleRNNCell):
    def __init__(self, direction: SimpleRNNDirection, name: str, precision: Precision, seed: int) -> None:
        SimpleRNNCell.__init__(self, direction, name)
        self._begin(precision, seed)

    def step(self, projected: Float64, *states: Float64) -> tuple[Float64, ...]:
        return (self.draw.narrowed(self.draw.activated(self.act, self.gates(projected, states[0]))),)


def bounded(precision: Precision) -> CellType:
    """Return the cell that carries bounds: all arrays are ``(2, ...)``, values and bounds."""
    return lambda direction, name: _BoundedCell(direction, name, precision)


def drawn(precision: Precision, seed: int = 0) -> CellType:
    """Return the cell that draws its roundings: all arrays are ``(draws, ...)``."""

    def make(direction: Direction, name: str) -> Cell:
        if isinstance(direction, GRUDirection):
            return _DrawnGRU(direction, name, precision, seed)
        if isinstance(direction, SimpleRNNDirection):
            return _DrawnSimpleRNN(direction, name, precision, seed)
        return _DrawnLSTM(direction, name, precision, seed)

    return make
