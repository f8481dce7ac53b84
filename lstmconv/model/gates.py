"""The gates of one array, as views.

Gates are ``i f g o``: input, forget, cell candidate, output. Keras calls ``g`` "c", papers "z" or
"j". The equations, for every format (``rec`` and ``act`` are the two activations)::

    i, f, o = rec(weight_ih x + bias_ih + weight_hh h + bias_hh)
    g       = act(weight_ih x + bias_ih + weight_hh h + bias_hh)
    c' = f * c + i * g
    h' = o * act(c')
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from lstmconv.errors import UnsupportedModelError, UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["GATES", "Array", "Gates", "float_type"]

Array: TypeAlias = "npt.NDArray[Any]"
"""An array of float16, bfloat16 (ml_dtypes), float32 or float64, usually a view into the file."""


def float_type(name: str) -> np.dtype[Any]:
    """Return the dtype of a name such as ``float32``; bfloat16 comes from ml_dtypes.

    Raises:
        UsageError: No format stores weights of that type.
    """
    known = ("float16", "bfloat16", "float32", "float64")
    if name not in known:
        raise UsageError(f"dtype {name!r} is unknown; expected one of {', '.join(known)}")
    if name != "bfloat16":
        return np.dtype(name)
    import ml_dtypes

    bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return bfloat16


GATES = "ifgo"
"""The order of the four views in :class:`Gates`."""


@dataclass(frozen=True, eq=False)
class Gates:
    """The four gates of one array, each a view ``(hidden, input)``, ``(hidden, hidden)`` or ``(hidden,)``.

    There are four views instead of one array, because a stored order such as ONNX' ``iofg`` has no ``ifgo``
    view, and Keras 1 stores each gate as its own array. ``numpy.asarray(gates)`` returns them as one
    ``(4, hidden, ...)`` array in the order ``i f g o``: a copy, unless they are views of such an array.
    """

    i: Array
    f: Array
    g: Array
    o: Array

    def __post_init__(self) -> None:
        """Check that the four agree in shape and dtype."""
        if len({(gate.shape, gate.dtype) for gate in self}) != 1:
            each = ", ".join(f"{name} {gate.shape} {gate.dtype}" for name, gate in zip(GATES, self, strict=True))
            raise UnsupportedModelError(f"the four gates differ in shape or dtype: {each}")

    def __repr__(self) -> str:
        return f"Gates(i f g o, each {self.i.shape} {self.dtype})"

    def __iter__(self) -> Iterator[Array]:
        """Yield the gates in the order i, f, g, o."""
        return iter((self.i, self.f, self.g, self.o))

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        """Return the gates as one ``(4, hidden, ...)`` array: a copy, unless they are views of such an array."""
        block = self.i.base
        one = isinstance(block, np.ndarray) and copy is not True
        if not one or block is None or dtype not in (None, block.dtype) or block.shape != self.shape:
            return self._copied(self.dtype if dtype is None else dtype)
        if not all(_is(gate, block[place]) for place, gate in enumerate(self)):
            return self._copied(block.dtype)
        return block

    def _copied(self, dtype: npt.DTypeLike) -> Array:
        stacked = np.empty(self.shape, dtype)
        for place, gate in zip(stacked, self, strict=True):
            np.copyto(place, gate, casting="unsafe")
        return stacked

    @classmethod
    def of(cls, block: Array) -> Gates:
        """Return the gates of one ``(4, hidden, ...)`` array in the order ``i f g o``."""
        return cls(*block)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(4, hidden, ...)``."""
        return (4, *self.i.shape)

    @property
    def size(self) -> int:
        """The number of elements of all four gates."""
        return 4 * self.i.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type, in native byte order."""
        return self.i.dtype.newbyteorder("=")


def _is(view: Array, other: Array) -> bool:
    """Whether two views of one array are the same part of it."""
    return view.__array_interface__ == other.__array_interface__
