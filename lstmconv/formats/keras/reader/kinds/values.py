"""Numbers and arrays in a config."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lstmconv.formats.keras.reader.kinds.entry import NotUnderstoodError
from lstmconv.model import Array

__all__ = ["array_of", "plain"]


def plain(value: object) -> object:
    """Return a serialised NumPy or tensor value as nested lists and numbers, and any other value unchanged.

    Sources: keras/src/saving/serialization_lib.py (``__numpy__``, ``__tensor__``), tf_keras json_utils (``ndarray``).
    """
    if not isinstance(value, Mapping):
        return value
    config = value.get("config")
    if value.get("class_name") in ("__numpy__", "__tensor__") and isinstance(config, Mapping):
        return config.get("value")
    if value.get("type") == "ndarray":
        return value.get("value")
    return value


def array_of(value: object, dtype: str = "float32") -> Array:
    """Return a number, or nested lists of numbers, as an array.

    Raises:
        NotUnderstoodError: The value is something else.
    """
    try:
        return np.asarray(plain(value), dtype=dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise NotUnderstoodError(f"{str(value)[:60]} is not an array of numbers") from error
