"""The names of an ONNX file's constants: the writer gives them, and the reader recognises them."""

from __future__ import annotations

import re

from lstmconv.model import Array

__all__ = ["constant_name", "is_constant"]

_CONSTANT = re.compile(r"lstmconv\.(bool|u?int\d+|b?float\d+)\.[^.]*\.")


def constant_name(values: Array) -> str:
    """Return a name that says a constant's type, shape and numbers: ``lstmconv.int64.2.0_-1``."""
    shape, numbers = "x".join(map(str, values.shape)), "_".join(map(str, values.ravel().tolist()))
    return f"lstmconv.{values.dtype.name}.{shape}.{numbers}"


def is_constant(name: str) -> bool:
    """Whether an initializer has a name that :func:`constant_name` gives; a layer may be called ``lstmconv``.

    >>> is_constant("lstmconv.float32..0.5"), is_constant("lstmconv.kernel")
    (True, False)
    """
    return _CONSTANT.match(name) is not None
