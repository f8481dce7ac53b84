"""Each kind of layer in torch: the module that holds its arrays, and the function that runs it as Keras does.

A module is torch.nn's own where it computes the same from the same parameters; what surrounds it (order of axes,
padding, activation) is the function's. The modules are made without numbers, on the device ``meta``: a state dict
fills them.
"""

from __future__ import annotations

from lstmconv.torch.kinds import combining, convolution, dense, normalizing, shaping
from lstmconv.torch.kinds.built import Builders

__all__ = ["BUILDERS"]

BUILDERS: Builders = {
    **dense.BUILDERS,
    **convolution.BUILDERS,
    **normalizing.BUILDERS,
    **shaping.BUILDERS,
    **combining.BUILDERS,
}
"""One row a kind. Attention has :mod:`lstmconv.torch.attention`."""
