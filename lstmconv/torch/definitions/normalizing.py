"""Modules of one tensor: a ReLU with slopes, and normalizations."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class PReLU(nn.Module):
    """A ReLU whose slopes have the shape of a sample, 1 where they are shared."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` where it is positive, else `weight * x`."""
        return torch.where(x > 0, x, self.weight * x)


class RMSNorm(nn.Module):
    """Divides by the root of the mean square over the last axes."""

    def __init__(self, shape: Sequence[int], eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` normalised and scaled."""
        return root_mean_square(x, self.weight.dim(), self.eps) * self.weight


def root_mean_square(x: Tensor, axes: int, eps: float) -> Tensor:
    """Divide by the root of the mean square over the last axes."""
    last = tuple(range(-axes, 0))
    return x * torch.rsqrt(x.square().mean(last, keepdim=True) + eps)


class Normalization(nn.Module):
    """Subtracts a stored mean and divides by a stored deviation."""

    mean: Tensor
    variance: Tensor

    def __init__(self, mean: Sequence[int], variance: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(mean))
        self.register_buffer("variance", torch.ones(variance))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` normalised."""
        return (x - self.mean) / self.variance.sqrt().clamp(min=1e-7)

    def invert(self, x: Tensor) -> Tensor:
        """Return what was normalised."""
        return self.mean + x * self.variance.sqrt().clamp(min=1e-7)
