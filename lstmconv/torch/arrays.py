"""NumPy arrays as tensors and back, bfloat16 included."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lstmconv.model import Array, float_type

__all__ = ["array_of", "tensor_of", "torch_dtype"]


def torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    """Return torch's dtype of the same numbers."""
    found: torch.dtype = getattr(torch, dtype.newbyteorder("=").name)
    return found


def tensor_of(array: Array) -> Tensor:
    """Return an array as a tensor; torch.from_numpy does not know ml_dtypes' bfloat16."""
    own = array if array.flags.writeable and array.flags.c_contiguous else np.array(array)
    if own.dtype.name == "bfloat16":
        return torch.from_numpy(own.view("int16")).view(torch.bfloat16)
    return torch.from_numpy(own)


def array_of(tensor: Tensor) -> Any:
    """Return a tensor as an array of the same memory; NumPy's bfloat16 is ml_dtypes'."""
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(float_type("bfloat16"))
    return tensor.numpy()
