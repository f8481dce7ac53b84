"""Elementwise operations and casts, equal to Keras' and TensorFlow's operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["OPERATIONS", "cast"]

Array: TypeAlias = npt.NDArray[Any]

OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.true_divide,
    "floor_divide": np.floor_divide,
    "power": np.power,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "matmul": np.matmul,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "negative": np.negative,
    "abs": np.abs,
    "square": np.square,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1.0 / np.sqrt(x),
    "exp": np.exp,
    "log": np.log,
    "logical_not": np.logical_not,
    "sign": np.sign,
}
"""The functions by the names of :attr:`lstmconv.model.kinds.Operation.function`."""


def cast(array: npt.ArrayLike, dtype: str) -> Array:
    """Cast to a dtype, with float64 for every float type and int64 for every integer type.

    Args:
        array: The array.
        dtype: NumPy's name of the dtype. The cast from float to integer truncates toward zero.
    """
    values = np.asarray(array)
    if dtype == "bool":
        return values.astype(bool)
    if "int" in dtype:
        return np.trunc(values).astype(np.int64) if values.dtype.kind == "f" else values.astype(np.int64)
    return values.astype(np.float64)
