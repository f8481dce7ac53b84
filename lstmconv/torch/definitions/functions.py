"""Activations, windows, masks and products of batches."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    """Return `alpha * x + beta`, cut off below 0 and above 1."""
    return (alpha * x + beta).clamp(0.0, 1.0)


def relu(
    x: Tensor,
    negative_slope: float,
    max_value: float,
    threshold: float,
) -> Tensor:
    """Return Keras' ReLU, whose slope applies to `x - threshold`."""
    below = negative_slope * (x - threshold) if negative_slope else torch.zeros_like(x)
    return torch.where(x > threshold, x, below).clamp(max=max_value)


def softplus(x: Tensor) -> Tensor:
    """Return `log(exp(x) + 1)`, which torch's own cuts off at 20."""
    return torch.logaddexp(x, torch.zeros_like(x))


def sparsemax(x: Tensor) -> Tensor:
    """Return Keras' sparsemax, which adds up the sums of the whole support."""
    ordered = x.sort(dim=-1, descending=True).values
    sums = ordered.cumsum(dim=-1)
    rank = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
    support = ordered - (sums - 1) / rank > 0
    total = torch.where(support, sums, torch.zeros_like(sums)).sum(-1, keepdim=True)
    return (x - (total - 1) / support.sum(-1, keepdim=True)).clamp(min=0)


def sparse_plus(x: Tensor) -> Tensor:
    """Return 0 below -1, `x` above 1, and a parabola between."""
    inside = torch.where(x < 1, 0.25 * (x + 1) ** 2, x)
    return torch.where(x <= -1, torch.zeros_like(x), inside)


def squareplus(x: Tensor, b: float) -> Tensor:
    """Return a smooth ReLU."""
    return 0.5 * (x + (x * x + b).sqrt())


def lowered(x: Tensor, mask: Tensor) -> Tensor:
    """Return numbers that a softmax makes 0 in the place of those that are masked."""
    low = max(-1e9, torch.finfo(x.dtype).min)  # float16 ends at -65504.
    return torch.where(mask, x, torch.full_like(x, low))


def masked_softmax(x: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Return the softmax over the places that count; the others are 0."""
    return torch.where(mask, lowered(x, mask).softmax(dim), torch.zeros_like(x))


def masked_mean(
    x: Tensor,
    mask: Tensor,
    dim: int | tuple[int, ...],
    keepdim: bool,
) -> Tensor:
    """Return the mean of the steps that count."""
    total = torch.where(mask, x, torch.zeros_like(x)).sum(dim, keepdim)
    return total / mask.to(x.dtype).sum(dim, keepdim)


def pad_same(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int] | None = None,
    value: float = 0.0,
) -> Tensor:
    """Pad as TensorFlow's "same": the larger part of an odd number comes last."""
    amounts: list[int] = []
    for axis in reversed(range(len(kernel))):
        size = x.shape[axis + 2]
        window = (kernel[axis] - 1) * (1 if dilation is None else dilation[axis]) + 1
        last = (-(-size // stride[axis]) - 1) * stride[axis]
        total = max(last + window - size, 0)
        amounts += [total // 2, total - total // 2]
    return F.pad(x, amounts, value=value)


def average_same(
    pool: Callable[..., Tensor],
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
) -> Tensor:
    """Return averages of padded windows; padding does not count."""
    counted = pool(pad_same(torch.ones_like(x[:1, :1]), kernel, stride), kernel, stride)
    return pool(pad_same(x, kernel, stride), kernel, stride) / counted


def unit(x: Tensor, dim: int | tuple[int, ...], eps: float) -> Tensor:
    """Return unit vectors along `dim`."""
    return x * x.square().sum(dim, keepdim=True).clamp(min=eps).rsqrt()


def batch_dot(a: Tensor, b: Tensor, axis_a: int, axis_b: int) -> Tensor:
    """Return the products of two batches, summed over one axis of each."""
    left, right = a.movedim(axis_a, -1), b.movedim(axis_b, 1)
    rows = left.reshape(len(a), -1, left.shape[-1])
    products = rows @ right.reshape(len(b), right.shape[1], -1)
    return products.reshape(len(a), *left.shape[1:-1], *right.shape[2:])


def each_step(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Run a model on every time step; to the model they are one large batch."""
    out = model(x.flatten(0, 1))
    return out.reshape(*x.shape[:2], *out.shape[1:])


def detached(state: Any) -> Any:
    """Return states without their history."""
    if isinstance(state, tuple):
        return tuple(part.detach() for part in state)
    return state.detach()


def numbers(text: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return the numbers of a text."""
    return torch.tensor([float(word) for word in text.split()], dtype=dtype).view(shape)


def per_channel(norm: nn.Module, x: Tensor) -> Tensor:
    """Normalise along the last axis, whatever the others are."""
    out: Tensor = norm(x.flatten(0, -2))
    return out.view(x.shape)
