"""What a kind of layer becomes in torch: the module that holds its arrays, and the function that runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from lstmconv.formats.torch.constructors import CONSTRUCTORS, Constructor
from lstmconv.model.kinds import Kind
from lstmconv.torch.arrays import tensor_of
from lstmconv.torch.definitions import attention, normalizing

__all__ = ["Builders", "Built", "Masks", "Run", "Stated", "module_of", "simple"]

Masks: TypeAlias = "Sequence[Tensor | None]"
Run: TypeAlias = "Callable[[Any, Sequence[Tensor], Masks], tuple[Tensor, ...]]"
"""Runs a layer: its module, its inputs, its masks; returns its outputs."""
_OWN = {
    each.__name__: each
    for each in (
        attention.Attention,
        attention.MultiHeadAttention,
        normalizing.Normalization,
        normalizing.PReLU,
        normalizing.RMSNorm,
    )
}


class Built(NamedTuple):
    """A layer in torch.

    Attributes:
        module: Holds its arrays; ``None`` for a layer without any.
        run: Computes it.
    """

    module: nn.Module | None
    run: Run


def module_of(layer: Kind) -> nn.Module | None:
    """Return the module that holds a layer's arrays, on the device ``meta``; ``None`` for a layer without any."""
    rule = CONSTRUCTORS.get(type(layer))
    found = None if rule is None else rule(layer)
    return None if found is None else _made(found)


def _made(constructor: Constructor) -> nn.Module:
    name = constructor.class_name
    make: Callable[..., nn.Module] = _OWN[name] if constructor.own else getattr(nn, name)
    with torch.device("meta"):
        options = dict(constructor.options)
        if make is nn.Embedding:
            # A table that is given is not drawn: drawing it on this device loads PyTorch's compiler, in two seconds.
            options["_weight"] = torch.empty(*constructor.arguments)  # type: ignore[call-overload]  # two sizes
        return make(*constructor.arguments, **options)


class Stated(nn.Module):
    """Numbers that stand in the config and so in no state dict: buffers that are not persistent."""

    def __init__(self, dtype: torch.dtype, **arrays: Any) -> None:
        super().__init__()
        for name, array in arrays.items():
            tensor = tensor_of(array)
            self.register_buffer(name, tensor.to(dtype) if tensor.is_floating_point() else tensor, persistent=False)


def simple(function: Callable[[Tensor], Tensor]) -> Built:
    """Build a layer of one input, without arrays and masks."""
    return Built(None, lambda _, inputs, __: (function(inputs[0]),))


Builders: TypeAlias = "dict[type[Kind], Callable[[Any, torch.dtype], Built]]"
"""Builds a layer by its kind; the second argument is the model's own float type."""
