"""The modules of PyTorch that hold the arrays of each kind of layer: their classes, and what they are made with.

:mod:`lstmconv.torch` makes them, :mod:`lstmconv.formats.torch_code` writes how they are made. Their parameters have the
names of :mod:`lstmconv.layouts.kinds`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lstmconv.formats.torch.whole import projections_joined
from lstmconv.model import kinds
from lstmconv.model.kinds import Kind

__all__ = ["CONSTRUCTORS", "TAKE_FLOATS", "Constructor", "cropped", "one_size", "pads_alike"]


@dataclass(frozen=True)
class Constructor:
    """What makes a module.

    Attributes:
        class_name: The class.
        arguments: By position: numbers, texts, tuples and lists of numbers.
        options: By name, without those that have torch's default.
        own: The class is one of :mod:`lstmconv.torch.definitions`, else of torch.nn.
    """

    class_name: str
    arguments: tuple[object, ...]
    options: Mapping[str, object]
    own: bool


def _made_with(class_name: str, *arguments: object, own: bool = False, **options: object) -> Constructor:
    """Return a constructor; an option that is ``None`` is left out."""
    given = {name: value for name, value in options.items() if value is not None}
    return Constructor(class_name, arguments, given, own)


def one_size(sizes: Sequence[int]) -> int | tuple[int, ...]:
    """Return sizes as a person writes them: one number where all are the same."""
    return sizes[0] if len(set(sizes)) == 1 else tuple(sizes)


def _steps(sizes: Sequence[int]) -> int | tuple[int, ...] | None:
    """Return strides or dilations; ``None`` where all are 1, torch's default."""
    return None if set(sizes) == {1} else one_size(sizes)


def _linear(layer: kinds.Dense) -> Constructor:
    return _made_with("Linear", *layer.kernel.shape, bias=_without(layer.bias))


def _without(bias: object) -> bool | None:
    return False if bias is None else None


def _convolution(layer: kinds.Convolution) -> Constructor:
    *spatial, inputs_of_group, filters = layer.kernel.shape
    return _made_with(
        f"Conv{len(spatial)}d",
        inputs_of_group * layer.groups,
        filters,
        one_size(spatial),
        stride=_steps(layer.strides),
        padding="same" if pads_alike(layer) else None,
        dilation=_steps(layer.dilation),
        groups=None if layer.groups == 1 else layer.groups,
        bias=_without(layer.bias),
    )


def pads_alike(layer: kinds.Convolution) -> bool:
    """Whether ``same`` adds as much in front as behind, whatever the size: torch then does it, too."""
    windows = zip(layer.kernel.shape, layer.dilation, strict=False)
    return (
        layer.padding == "same"
        and set(layer.strides) == {1}
        and all((size - 1) * dilation % 2 == 0 for size, dilation in windows)
    )


def cropped(layer: kinds.TransposedConvolution) -> list[tuple[int, int]]:
    """Return what Keras cuts off on both sides of each axis; negative where it adds zeros.

    Source: keras/src/backend/common/backend_utils.py compute_conv_transpose_output_crops_for_torch (3.15).
    """
    found = []
    for axis, stride in enumerate(layer.strides):
        kernel = (layer.kernel.shape[axis] - 1) * layer.dilation[axis] + 1
        own = None if layer.output_padding is None else layer.output_padding[axis]
        if layer.padding == "valid":
            found.append((0, -(max(kernel, stride) - kernel if own is None else own)))
            continue
        total = stride + kernel - 2 if own is None else kernel + kernel % 2 - 2 + own
        left = min(total // 2 + total % 2, kernel - 1)
        found.append((kernel - 1 - left, kernel - 1 - (total - left)))
    return found


def _transposed(layer: kinds.TransposedConvolution) -> Constructor:
    *spatial, filters, channels = layer.kernel.shape
    added = [max(0, -right) for _, right in cropped(layer)]
    return _made_with(
        f"ConvTranspose{len(spatial)}d",
        channels,
        filters,
        one_size(spatial),
        stride=_steps(layer.strides),
        output_padding=one_size(added) if any(added) else None,
        bias=_without(layer.bias),
        dilation=_steps(layer.dilation),
    )


def _batch_norm(layer: kinds.BatchNormalization) -> Constructor:
    affine = None if layer.gamma is not None or layer.beta is not None else False
    # Keras' default 0.99 keeps 0.99 of the old statistics; torch's momentum is what is new.
    return _made_with("BatchNorm1d", len(layer.mean), eps=layer.epsilon, momentum=0.01, affine=affine)


def _layer_norm(layer: kinds.LayerNormalization) -> Constructor | None:
    array = layer.gamma if layer.gamma is not None else layer.beta
    if array is None:
        return None
    if layer.root_mean_square:
        return _made_with("RMSNorm", list(array.shape), layer.epsilon, own=True)
    shape = array.shape[0] if array.ndim == 1 else array.shape
    return _made_with("LayerNorm", shape, eps=layer.epsilon, bias=_without(layer.beta))


def _attention(layer: kinds.Attention) -> Constructor:
    weight = layer.concat_score_weight
    return _made_with(
        "Attention",
        layer.score,
        own=True,
        scale=None if layer.scale is None else list(layer.scale.shape),
        weight=None if weight is None else list(weight.shape),
        causal=layer.causal or None,
    )


def _heads(layer: kinds.MultiHeadAttention) -> Constructor:
    kernels = (layer.query_kernel, layer.key_kernel, layer.value_kernel)
    return _made_with(
        "MultiHeadAttention",
        [kernel.shape[0] for kernel in kernels],
        [kernel.shape[1] * kernel.shape[2] for kernel in kernels],
        layer.query_kernel.shape[1],
        layer.output_kernel.shape[-1],
        own=True,
        bias=_without(layer.query_bias),
        joined=None if projections_joined(layer) else False,
        causal=layer.causal or None,
    )


CONSTRUCTORS: Mapping[type[Kind], Callable[[Any], Constructor | None]] = {
    kinds.Attention: _attention,
    kinds.BatchNormalization: _batch_norm,
    kinds.Convolution: _convolution,
    kinds.Dense: _linear,
    kinds.Embedding: lambda layer: _made_with("Embedding", *layer.table.shape),
    kinds.LayerNormalization: _layer_norm,
    kinds.MultiHeadAttention: _heads,
    kinds.Normalization: lambda layer: _made_with(
        "Normalization", list(layer.mean.shape), list(layer.variance.shape), own=True
    ),
    kinds.PReLU: lambda layer: _made_with("PReLU", *layer.slope.shape, own=True),
    kinds.TransposedConvolution: _transposed,
}
"""One row a kind that holds arrays; a layer normalization may hold none."""

TAKE_FLOATS = (
    kinds.BatchNormalization,
    kinds.Convolution,
    kinds.Dense,
    kinds.LayerNormalization,
    kinds.MultiHeadAttention,
    kinds.Normalization,
    kinds.PReLU,
    kinds.Rescaling,
    kinds.TransposedConvolution,
)
"""Kinds whose inputs are computed with in the dtype of their arrays."""
