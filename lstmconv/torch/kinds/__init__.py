"""Each kind of layer in torch: the module that holds its arrays, and the function that runs it as Keras does.

The module is that of :mod:`lstmconv.formats.torch.constructors`; what surrounds it (order of axes, padding, activation)
is the function's. The modules are made without numbers, on the device ``meta``: a state dict fills them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.torch.constructors import TAKE_FLOATS
from lstmconv.model.kinds import Kind
from lstmconv.torch.kinds import attention, combining, convolution, dense, normalizing, shaping
from lstmconv.torch.kinds.built import Builders, Built, Masks, Run, module_of

__all__ = ["BUILDERS", "build"]

BUILDERS: Builders = {
    **attention.BUILDERS,
    **combining.BUILDERS,
    **convolution.BUILDERS,
    **dense.BUILDERS,
    **normalizing.BUILDERS,
    **shaping.BUILDERS,
}


def build(layer: Kind, dtype: torch.dtype) -> Built:
    """Build a layer.

    Args:
        layer: Of any kind.
        dtype: The model's own float type.

    Raises:
        UnsupportedModelError: Nothing computes it.
    """
    builder = BUILDERS.get(type(layer))
    if builder is None:
        raise UnsupportedModelError(f"{layer.name}: nothing computes a {type(layer).__name__} in torch")
    stated, run = builder(layer, dtype)
    module = module_of(layer) if stated is None else stated
    return Built(module, _in_own_dtype(run) if module is not None and isinstance(layer, TAKE_FLOATS) else run)


def _in_own_dtype(run: Run) -> Run:
    """Run a layer on inputs in the dtype of its arrays."""

    def cast(module: Any, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        dtype = next(chain(module.parameters(), module.buffers())).dtype
        return run(module, [x.to(dtype) for x in inputs], masks)

    return cast
