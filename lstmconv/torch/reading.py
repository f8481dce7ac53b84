"""The LSTMs of a torch module."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lstmconv.formats.options import ReadOptions
from lstmconv.formats.torch.parameters import read_parameters
from lstmconv.model import Checkpoint, Provenance
from lstmconv.torch.arrays import array_of

__all__ = ["read_module"]


def read_module(module: nn.Module, name: str | None) -> Checkpoint:
    """Return the LSTMs of a module; see :func:`lstmconv.from_torch`.

    Raises:
        UnsupportedModelError: No LSTM in it that converts.
    """
    prefix = "" if name is None else f"{name}."
    arrays: dict[str, Any] = {}
    for key, value in module.state_dict().items():
        if isinstance(value, Tensor) and not value.is_quantized and value.layout == torch.strided:
            arrays[prefix + key] = array_of(value.detach().cpu())
        elif not isinstance(value, Tensor) or value.is_quantized:
            arrays[prefix + key] = np.empty(0, np.int8)
    return read_parameters(arrays, Provenance(type(module).__name__, "", "torch module"), None, ReadOptions())
