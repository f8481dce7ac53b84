r"""What rounding alone may do to an LSTM's numbers: a bound where it is of use, else a measured spread.

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
* Where states or outputs are stored in a narrower dtype, they round once more to that.

The reference rounds too, in float64; since ``e`` grows at least in proportion to ``u``, computing with
``u + 2^-53`` covers both.

**The spread.** Through many steps and units the bound grows as if all errors pushed the same way, until it says
nothing. Then the layer is computed :data:`ORDERS` times in the framework's precision, each time in another order that
a framework might as well have chosen (features and units permuted; one product, or one each and in parts; the
bias first or last) and with activations that are off by up to what is allowed them. Of each array and step, the
largest deviation from the reference times :data:`SPREAD_MARGIN` is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lstmconv.activations import Activation
from lstmconv.model import LSTMDirection, float_type
from lstmconv.runtimes import Precision
from lstmconv.semantics import Cell, CellType

__all__ = ["ACTIVATION_ERROR", "ORDERS", "SPREAD_MARGIN", "Limits", "bounded", "limits", "reordered"]

Float64: TypeAlias = npt.NDArray[np.float64]

ACTIVATION_ERROR = 8
"""The error allowed to an implementation of an activation, in units of u (4 ulp).

Measured over 800,000 numbers, the largest is 4.6 u, of ONNX Runtime's tanh; PyTorch's sigmoid has 2.7 u;
``tests/test_rounding.py`` measures it again. Both approximate by polynomials and not by the C library.
"""

ORDERS = 8
"""Re-orderings that are run: with a batch of 3, every step of a single unit is then sampled 24 times."""

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


def _gamma(terms: int, u: float) -> float:
    return terms * u / (1 - terms * u) if terms * u < 1 else np.inf


def _carried(value: Float64, error: Float64) -> Float64:
    """Put a value and its bound into one array; what is beyond bounding is infinite."""
    return np.stack([value, np.where(np.isnan(error), np.inf, error)])


class _BoundedCell(Cell):
    """Computes values, and along an axis in front of them their bounds: ``(2, batch, ...)``."""

    def __init__(self, direction: LSTMDirection, name: str, precision: Precision) -> None:
        """Take the magnitudes of the weights too."""
        super().__init__(direction, name)
        self._u = limits(precision.arithmetic).roundoff + limits("float64").roundoff
        self._stored = limits(precision.stored).roundoff if precision.stored != precision.arithmetic else 0.0
        self._smallest = limits(precision.stored).smallest
        self._size_ih, self._size_hh = np.abs(self.weight_ih), np.abs(self.weight_hh)
        terms = self.weight_ih.shape[1] + self.weight_hh.shape[1] + 2
        self._gamma = _gamma(terms, self._u)

    def project(self, x: Float64) -> Float64:
        value, error = x
        size = (np.abs(value) + error) @ self._size_ih.T + sum(np.abs(bias) for bias in self.biases)
        return _carried(super().project(value), error @ self._size_ih.T + self._gamma * size)

    def step(self, projected: Float64, h: Float64, c: Float64) -> tuple[Float64, Float64]:
        (value, error), (c_value, c_error) = h, c
        z = projected[0] + value @ self.weight_hh.T
        e_z = projected[1] + error @ self._size_hh.T + self._gamma * ((np.abs(value) + error) @ self._size_hh.T)
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
        return self._narrowed(new_h, e_h), self._narrowed(new_c, e_c)

    def merge(self, mode: str, forward: Float64, backward: Float64) -> Float64:
        if mode == "concat":
            return super().merge(mode, forward, backward)
        if mode == "mul":
            value, error = self._product(tuple(forward), tuple(backward))
        else:
            value = super().merge(mode, forward[0], backward[0])
            error = forward[1] + backward[1]  # Of the average it is half, which rounds no more.
        return self._narrowed(value, error + _gamma(1, self._u) * (np.abs(value) + error))

    def _narrowed(self, value: Float64, error: Float64) -> Float64:
        """Add the rounding to what is stored."""
        return _carried(value, error + self._stored * (np.abs(value) + error) + self._smallest)

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


class _ReorderedCell(Cell):
    """Computes in a framework's precision, in one of the orders that it might take."""

    def __init__(self, direction: LSTMDirection, name: str, precision: Precision, order: int) -> None:
        """Draw the order: ``order`` seeds it."""
        super().__init__(direction, name)
        self._random = np.random.default_rng(order)
        self._dtype = float_type(precision.arithmetic)
        self._u = limits(precision.arithmetic).roundoff
        self._stored = float_type(precision.stored)
        self._late_bias = order % 2 == 1
        self._parts = 1 + order // 2 % 3
        features, hidden = self.weight_ih.shape[1], self.weight_hh.shape[1]
        self._features, self._units = self._random.permutation(features), self._random.permutation(hidden)
        self._ih = self.weight_ih[:, self._features].astype(self._dtype)
        self._hh = self.weight_hh[:, self._units].astype(self._dtype)
        self._own_biases = [bias.astype(self._dtype) for bias in self.biases]

    def _sum(self, x: npt.NDArray[Any], weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Multiply in parts, and add them up."""
        cuts = [len(weight.T) * part // self._parts for part in range(1, self._parts)]
        pieces = zip(np.split(x, cuts, axis=-1), np.split(weight, cuts, axis=-1), strict=True)
        products: npt.NDArray[Any] = sum(piece @ rows.T for piece, rows in pieces)
        return products

    def project(self, x: Float64) -> Float64:
        """Keep the input as it is: the order of the sum is the step's."""
        return x

    def step(self, projected: Float64, h: Float64, c: Float64) -> tuple[Float64, Float64]:
        with np.errstate(all="ignore"):
            from_input = self._sum(projected[..., self._features].astype(self._dtype), self._ih)
            from_state = self._sum(h[..., self._units].astype(self._dtype), self._hh)
            if self._late_bias:
                z = from_input + from_state + sum(self._own_biases)
            else:
                for bias in self._own_biases:
                    from_input = from_input + bias
                z = from_input + from_state
            i, f, g, o = np.split(z, 4, axis=-1)
            new_c = self._activated(self.rec, f) * c.astype(self._dtype)
            new_c = new_c + self._activated(self.rec, i) * self._activated(self.act, g)
            new_h = self._activated(self.rec, o) * self._activated(self.act, new_c)
        return self._narrowed(new_h), self._narrowed(new_c)

    def merge(self, mode: str, forward: Float64, backward: Float64) -> Float64:
        with np.errstate(all="ignore"):
            return self._narrowed(super().merge(mode, forward.astype(self._dtype), backward.astype(self._dtype)))

    def _narrowed(self, value: npt.NDArray[Any]) -> Float64:
        stored: Float64 = value.astype(self._stored).astype(np.float64)
        return stored

    def _activated(self, activation: Activation, z: npt.NDArray[Any]) -> npt.NDArray[Any]:
        value = np.asarray(activation(z), self._dtype)
        off = self._random.uniform(-ACTIVATION_ERROR, ACTIVATION_ERROR, value.shape) * self._u
        perturbed: npt.NDArray[Any] = value + (off * _scale(activation, z, value)).astype(self._dtype)
        return perturbed


def bounded(precision: Precision) -> CellType:
    """Return the cell that carries bounds: all arrays are ``(2, ...)``, values and bounds."""
    return lambda direction, name: _BoundedCell(direction, name, precision)


def reordered(precision: Precision, order: int) -> CellType:
    """Return the cell that computes in a precision, in the order of that number."""
    return lambda direction, name: _ReorderedCell(direction, name, precision, order)
