"""What a kind of layer becomes in torch: the module that holds its arrays, and the function that runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from lstmconv.model.kinds import (
    Kind,
)
from lstmconv.torch.arrays import tensor_of

__all__ = ["Builders", "Built", "Masks", "Numbers", "Run", "Stated", "in_dtype_of", "simple"]

Masks: TypeAlias = "Sequence[Tensor | None]"
Run: TypeAlias = "Callable[[Any, Sequence[Tensor], Masks], tuple[Tensor, ...]]"
"""Runs a layer: its module, its inputs, its masks; returns its outputs."""


class Built(NamedTuple):
    """A layer in torch.

    Attributes:
        module: Holds its arrays; ``None`` for a layer without any.
        run: Computes it.
    """

    module: nn.Module | None
    run: Run


class Numbers(nn.Module):
    """Arrays that no module of torch.nn has, by name, as parameters that are not trained."""

    def __init__(self, dtype: torch.dtype, **shapes: tuple[int, ...]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            empty = torch.empty(shape, dtype=dtype, device="meta")
            self.register_parameter(name, nn.Parameter(empty, requires_grad=False))


class Stated(nn.Module):
    """Numbers that stand in the config and so in no state dict: buffers that are not persistent."""

    def __init__(self, dtype: torch.dtype, **arrays: Any) -> None:
        super().__init__()
        for name, array in arrays.items():
            tensor = tensor_of(array)
            self.register_buffer(name, tensor.to(dtype) if tensor.is_floating_point() else tensor, persistent=False)


def in_dtype_of(x: Tensor, weight: Tensor) -> Tensor:
    """Return an input in the dtype in which a layer computes, that of its variables."""
    return x if x.dtype == weight.dtype else x.to(weight.dtype)


def simple(function: Callable[[Tensor], Tensor]) -> Built:
    """Build a layer of one input, without arrays and masks."""
    return Built(None, lambda _, inputs, __: (function(inputs[0]),))


Builders: TypeAlias = "dict[type[Kind], Callable[[Any, torch.dtype], Built]]"
"""Builds a layer by its kind; the second argument is the model's own float type."""
