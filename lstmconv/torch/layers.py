"""Each kind of layer in torch: the module that holds its arrays, and the function that runs it as Keras does.

A module is torch.nn's own where it computes the same from the same parameters; what surrounds it (order of axes,
padding, activation) is the function's. The modules are made without numbers, on the device ``meta``: a state dict
fills them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from lstmconv.errors import UnsupportedModelError
from lstmconv.model.kinds import (
    Activate,
    BatchNormalization,
    Cast,
    Concatenate,
    Constant,
    Convolution,
    Crop,
    Dense,
    Dot,
    Embedding,
    GlobalPooling,
    Identity,
    Kind,
    LayerNormalization,
    MaskSteps,
    Merge,
    Normalization,
    Operation,
    Pad,
    Permute,
    Pooling,
    PReLU,
    Reduce,
    RepeatVector,
    Rescaling,
    Reshape,
    Slice,
    Stacking,
    StepIsUnmasked,
    TransposedConvolution,
    UnitNormalization,
    Upsample,
)
from lstmconv.torch.activations import activate
from lstmconv.torch.arrays import dtype_of, tensor_of

__all__ = ["BUILDERS", "Built", "Masks", "Numbers", "Run", "in_dtype_of"]

_F = nn.functional
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


class _Stated(nn.Module):
    """Numbers that stand in the config and so in no state dict: buffers that are not persistent."""

    def __init__(self, dtype: torch.dtype, **arrays: Any) -> None:
        super().__init__()
        for name, array in arrays.items():
            tensor = tensor_of(array)
            self.register_buffer(name, tensor.to(dtype) if tensor.is_floating_point() else tensor, persistent=False)


def in_dtype_of(x: Tensor, weight: Tensor) -> Tensor:
    """Return an input in the dtype in which a layer computes, that of its variables."""
    return x if x.dtype == weight.dtype else x.to(weight.dtype)


def _simple(function: Callable[[Tensor], Tensor]) -> Built:
    """Build a layer of one input, without arrays and masks."""
    return Built(None, lambda _, inputs, __: (function(inputs[0]),))


def _dense(layer: Dense, _: torch.dtype) -> Built:
    features, units = layer.kernel.shape
    module = nn.Linear(features, units, layer.bias is not None, device="meta", dtype=dtype_of(layer.kernel))

    def run(module: nn.Linear, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        return (activate(layer_activation, module(in_dtype_of(inputs[0], module.weight))),)

    layer_activation = layer.activation
    return Built(module, run)


def _embedding(layer: Embedding, _: torch.dtype) -> Built:
    tokens, features = layer.table.shape
    with torch.device("meta"):
        module = nn.Embedding(tokens, features, dtype=dtype_of(layer.table))
    return Built(module, lambda module, inputs, _: (module(inputs[0].long()),))


def _activate(layer: Activate, _: torch.dtype) -> Built:
    activation, axis = layer.activation, layer.axis

    def run(module: None, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        x, mask = inputs[0], masks[0] if masks else None
        if mask is None or not activation.coupled:
            return (activate(activation, x, axis),)
        # keras/src/layers/activations/softmax.py: masked places get -1e9, and zero afterwards.
        low = torch.where(mask, x, x.new_tensor(-3e4 if x.dtype == torch.float16 else -1e9))
        return (torch.where(mask, activate(activation, low, axis), x.new_zeros(())),)

    return Built(None, run)


def _prelu(layer: PReLU, _: torch.dtype) -> Built:
    dtype, shape = dtype_of(layer.slope), layer.slope.shape
    if len(shape) == 1:  # nn.PReLU has one slope, or one for each entry of axis 1.
        return Built(
            nn.PReLU(shape[0], device="meta", dtype=dtype),
            lambda m, inputs, _: (_slope(in_dtype_of(inputs[0], m.weight), m.weight),),
        )
    return Built(
        Numbers(dtype, weight=shape), lambda m, inputs, _: (_slope(in_dtype_of(inputs[0], m.weight), m.weight),)
    )


def _slope(x: Tensor, slope: Tensor) -> Tensor:
    """PReLU whose slopes have the input's shape without the batch, 1 where they are shared."""
    return torch.where(x > 0, x, slope * x)


_CONVOLUTIONS: Sequence[type[nn.Module]] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED: Sequence[type[nn.Module]] = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def _same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return TensorFlow's ``same``: of an odd number of zeros the larger part comes last."""
    total = max((math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def _padded(x: Tensor, layer: _Window, value: float = 0.0) -> Tensor:
    """Pad ``x (batch, channels, spatial...)`` as the layer's padding says."""
    if layer.padding == "valid":
        return x
    amounts: list[int] = []
    for axis in reversed(range(len(layer.size))):  # torch lists the last axis first.
        kernel, stride, dilation = layer.size[axis], layer.strides[axis], layer.dilation[axis]
        if layer.padding == "causal":
            amounts += [(kernel - 1) * dilation, 0]
        else:
            amounts += _same(x.shape[axis + 2], kernel, stride, dilation)
    return _F.pad(x, amounts, value=value) if any(amounts) else x


class _Window(NamedTuple):
    """A convolution's or a pooling's window."""

    size: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str
    channels_first: bool


def _convolution(layer: Convolution, _: torch.dtype) -> Built:
    *spatial, inputs_of_group, filters = layer.kernel.shape
    window = _Window(tuple(spatial), layer.strides, layer.dilation, layer.padding, layer.channels_first)
    module = _CONVOLUTIONS[len(spatial) - 1](
        inputs_of_group * layer.groups,
        filters,
        tuple(spatial),
        layer.strides,
        dilation=layer.dilation,
        groups=layer.groups,
        bias=layer.bias is not None,
        device="meta",
        dtype=dtype_of(layer.kernel),
    )
    activation = layer.activation

    def run(module: Any, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        x = _channels_first(in_dtype_of(inputs[0], module.weight), window.channels_first)
        return (activate(activation, _channels_back(module(_padded(x, window)), window.channels_first)),)

    return Built(module, run)


def _channels_first(x: Tensor, already: bool) -> Tensor:
    return x if already else x.movedim(-1, 1)


def _channels_back(x: Tensor, already: bool) -> Tensor:
    return x if already else x.movedim(1, -1)


def _transposed_convolution(layer: TransposedConvolution, _: torch.dtype) -> Built:
    *spatial, filters, channels = layer.kernel.shape
    rank = len(spatial)
    module = _TRANSPOSED[rank - 1](
        channels,
        filters,
        tuple(spatial),
        layer.strides,
        bias=layer.bias is not None,
        dilation=layer.dilation,
        device="meta",
        dtype=dtype_of(layer.kernel),
    )
    crops = [
        _transposed_crop(*sizes, layer.padding, None if layer.output_padding is None else layer.output_padding[axis])
        for axis, sizes in enumerate(zip(spatial, layer.strides, layer.dilation, strict=True))
    ]
    convolve: Any = (_F.conv_transpose1d, _F.conv_transpose2d, _F.conv_transpose3d)[rank - 1]
    strides, dilation, first, activation = layer.strides, layer.dilation, layer.channels_first, layer.activation

    def run(module: Any, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        x = _channels_first(in_dtype_of(inputs[0], module.weight), first)
        full = convolve(x, module.weight, None, strides, dilation=dilation)
        cut = _F.pad(full, [-amount for crop in reversed(crops) for amount in crop])  # Less than nothing is cut off.
        if module.bias is not None:
            cut = cut + module.bias.reshape(-1, *[1] * rank)
        return (activate(activation, _channels_back(cut, first)),)

    return Built(module, run)


def _transposed_crop(
    size: int, stride: int, dilation: int, padding: str, output_padding: int | None
) -> tuple[int, int]:
    """Return what Keras cuts off on both sides of the full output; negative where it adds zeros.

    Source: keras/src/backend/common/backend_utils.py compute_conv_transpose_output_crops_for_torch (3.15).
    """
    kernel = (size - 1) * dilation + 1
    if padding == "valid":
        return 0, -(max(kernel, stride) - kernel if output_padding is None else output_padding)
    total = stride + kernel - 2 if output_padding is None else kernel + kernel % 2 - 2 + output_padding
    left = min(total // 2 + total % 2, kernel - 1)
    return kernel - 1 - left, kernel - 1 - (total - left)


_POOLS: dict[str, Sequence[Callable[..., Tensor]]] = {
    "max": (_F.max_pool1d, _F.max_pool2d, _F.max_pool3d),
    "average": (_F.avg_pool1d, _F.avg_pool2d, _F.avg_pool3d),
}


def _pooling(layer: Pooling, _: torch.dtype) -> Built:
    rank = len(layer.size)
    window = _Window(layer.size, layer.strides, (1,) * rank, layer.padding, layer.channels_first)
    pool, largest = _POOLS[layer.function][rank - 1], layer.function == "max"

    def run(module: None, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        x = _channels_first(inputs[0], window.channels_first)
        padded = _padded(x, window, -math.inf if largest else 0.0)
        out = pool(padded, window.size, window.strides)
        if not largest and padded is not x:  # No padded place counts.
            out = out / pool(_padded(torch.ones_like(x[:1, :1]), window), window.size, window.strides)
        return (_channels_back(out, window.channels_first),)

    return Built(None, run)


def _global_pooling(layer: GlobalPooling, _: torch.dtype) -> Built:
    first, keep, largest = layer.channels_first, layer.keepdims, layer.function == "max"

    def run(module: None, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        x, mask = inputs[0], masks[0] if masks else None
        axes = tuple(range(2, x.dim())) if first else tuple(range(1, x.dim() - 1))
        if largest:
            return (x.amax(axes, keep),)
        if mask is None:
            return (x.mean(axes, keep),)
        # keras/src/layers/pooling/global_average_pooling1d.py: the sum over unmasked steps by their number.
        counted = mask.unsqueeze(1 if first else -1)
        total = torch.where(counted, x, x.new_zeros(())).sum(axes, keep)
        return (total / counted.to(x.dtype).sum(axes, keep),)

    return Built(None, run)


def _batch_normalization(layer: BatchNormalization, _: torch.dtype) -> Built:
    affine = layer.gamma is not None or layer.beta is not None
    module = nn.BatchNorm1d(
        len(layer.mean),
        layer.epsilon,
        momentum=0.01,  # Keras' default 0.99 keeps 0.99 of the old statistics, torch's momentum is what is new.
        affine=affine,
        device="meta",
        dtype=dtype_of(layer.mean),
    )
    axis = layer.axis

    def run(module: nn.BatchNorm1d, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        assert module.running_mean is not None
        x = in_dtype_of(inputs[0], module.running_mean).movedim(axis, 1)
        flat = x.reshape(x.shape[0], x.shape[1], -1)
        return (module(flat).reshape(x.shape).movedim(1, axis),)

    return Built(module, run)


def _layer_normalization(layer: LayerNormalization, _: torch.dtype) -> Built:
    array = layer.gamma if layer.gamma is not None else layer.beta
    epsilon, axes, mean_square = layer.epsilon, layer.axes, layer.root_mean_square
    module: nn.Module | None = None
    if array is not None and mean_square:
        module = Numbers(dtype_of(array), weight=array.shape)  # nn.RMSNorm's name; it needs torch 2.4.
    elif array is not None:
        module = nn.LayerNorm(array.shape, epsilon, bias=layer.beta is not None, device="meta", dtype=dtype_of(array))

    def run(module: Any, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        x = inputs[0] if module is None else in_dtype_of(inputs[0], module.weight)
        own = sorted(axis % x.dim() for axis in axes)
        ordered = x.movedim(own, list(range(-len(own), 0)))
        if mean_square:
            last = tuple(range(-len(own), 0))
            out = ordered * torch.rsqrt(ordered.square().mean(last, keepdim=True) + epsilon)
            out = out if module is None else out * module.weight
        else:
            out = (
                module(ordered)
                if module is not None
                else _F.layer_norm(ordered, ordered.shape[-len(own) :], eps=epsilon)
            )
        return (out.movedim(list(range(-len(own), 0)), own),)

    return Built(module, run)


def _unit_normalization(layer: UnitNormalization, _: torch.dtype) -> Built:
    return _simple(partial(_unit, axes=layer.axes, epsilon=layer.epsilon))


def _unit(x: Tensor, axes: tuple[int, ...], epsilon: float) -> Tensor:
    squares = x.square().sum(axes, keepdim=True)
    return x * torch.rsqrt(squares.clamp(min=epsilon))


def _normalization(layer: Normalization, _: torch.dtype) -> Built:
    module = Numbers(dtype_of(layer.mean), mean=layer.mean.shape, variance=layer.variance.shape)
    invert = layer.invert

    def run(module: Any, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        deviation = module.variance.sqrt().clamp(min=1e-7)
        x = in_dtype_of(inputs[0], deviation)
        return (module.mean + x * deviation if invert else (x - module.mean) / deviation,)

    return Built(module, run)


def _rescaling(layer: Rescaling, dtype: torch.dtype) -> Built:
    module = _Stated(dtype, scale=layer.scale, offset=layer.offset)
    return Built(module, lambda m, inputs, _: (in_dtype_of(inputs[0], m.scale) * m.scale + m.offset,))


def _constant(layer: Constant, dtype: torch.dtype) -> Built:
    return Built(_Stated(dtype, value=layer.value), lambda m, _, __: (m.value,))


def _identity(layer: Identity, _: torch.dtype) -> Built:
    return _simple(lambda x: x)


def _reshape(layer: Reshape, _: torch.dtype) -> Built:
    shape = layer.shape
    if layer.fixed_batch:
        return _simple(lambda x: x.reshape(shape))
    return _simple(lambda x: x.reshape(_whole_shape(x, shape)))


def _whole_shape(x: Tensor, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Work out the entry -1, which torch cannot for a batch of none."""
    known = math.prod(size for size in shape if size != -1)
    rest = math.prod(x.shape[1:]) // known if known else 0
    return (x.shape[0], *(rest if size == -1 else size for size in shape))


def _permute(layer: Permute, _: torch.dtype) -> Built:
    order = layer.order
    return _simple(lambda x: x.permute(order))


def _repeat_vector(layer: RepeatVector, _: torch.dtype) -> Built:
    count = layer.count
    return _simple(lambda x: x.unsqueeze(1).expand(-1, count, -1))


def _pad(layer: Pad, _: torch.dtype) -> Built:
    amounts, value = [amount for pair in reversed(layer.amounts) for amount in pair], layer.value
    return _simple(lambda x: _F.pad(x, amounts, value=value))


def _crop(layer: Crop, _: torch.dtype) -> Built:
    amounts = layer.amounts

    def cut(x: Tensor) -> Tensor:
        pairs = zip(amounts, x.shape, strict=True)
        return x[tuple(slice(before, size - after) for (before, after), size in pairs)]

    return _simple(cut)


def _upsample(layer: Upsample, _: torch.dtype) -> Built:
    factors = layer.factors

    def repeat(x: Tensor) -> Tensor:
        for axis, factor in enumerate(factors):
            x = x if factor == 1 else x.repeat_interleave(factor, dim=axis)
        return x

    return _simple(repeat)


_TWO: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "subtract": torch.sub,
    "multiply": torch.mul,
    "divide": torch.true_divide,
    "floor_divide": torch.floor_divide,
    "power": torch.pow,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "matmul": torch.matmul,
    "equal": torch.eq,
    "not_equal": torch.ne,
    "less": torch.lt,
    "less_equal": torch.le,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
}
_ONE: dict[str, Callable[[Tensor], Tensor]] = {
    "negative": torch.neg,
    "abs": torch.abs,
    "square": torch.square,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "exp": torch.exp,
    "log": torch.log,
    "logical_not": torch.logical_not,
    "sign": torch.sign,
}


def _merge(layer: Merge, _: torch.dtype) -> Built:
    operation = layer.operation

    def run(module: None, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        rank = max(x.dim() for x in inputs)
        # keras/src/layers/merging/base_merge.py: axes are added behind the batch.
        first, *rest = (x.reshape(x.shape[:1] + (1,) * (rank - x.dim()) + x.shape[1:]) for x in inputs)
        function = _TWO["add" if operation == "average" else operation]
        for x in rest:
            first = function(first, x)
        return (first / len(inputs) if operation == "average" else first,)

    return Built(None, run)


def _concatenate(layer: Concatenate, _: torch.dtype) -> Built:
    axis = layer.axis
    return Built(None, lambda _, inputs, __: (torch.cat(list(inputs), dim=axis),))


def _stacking(layer: Stacking, _: torch.dtype) -> Built:
    axis = layer.axis
    return Built(None, lambda _, inputs, __: (torch.stack(list(inputs), dim=axis),))


def _dot(layer: Dot, _: torch.dtype) -> Built:
    axes, normalize = layer.axes, layer.normalize

    def run(module: None, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        a, b = inputs
        if normalize:
            a, b = (_unit(x, (axis,), 1e-12) for x, axis in zip((a, b), axes, strict=True))
        left, right = a.movedim(axes[0], -1), b.movedim(axes[1], 1)
        # keras/src/layers/merging/dot.py batch_dot: the free axes of the first, then those of the second.
        flat = left.reshape(len(a), -1, left.shape[-1]) @ right.reshape(len(b), right.shape[1], -1)
        free = (*left.shape[1:-1], *right.shape[2:])
        return (flat.reshape(len(a), *(free or (1,))),)

    return Built(None, run)


def _operation(layer: Operation, _: torch.dtype) -> Built:
    if layer.function in _TWO:
        function = _TWO[layer.function]
        return Built(None, lambda _, inputs, __: (function(inputs[0], inputs[1]),))
    if layer.function not in _ONE:
        raise UnsupportedModelError(f"{layer.name}: the operation {layer.function!r} is unknown")
    return _simple(_ONE[layer.function])


def _cast(layer: Cast, dtype: torch.dtype) -> Built:
    if layer.dtype != "float32":
        target = getattr(torch, layer.dtype)
        return _simple(lambda x: x.to(target))
    # A buffer follows the module to another dtype: float32 is the model's own.
    return Built(_Stated(dtype, like=np.zeros(0)), lambda m, inputs, _: (inputs[0].to(m.like.dtype),))


def _reduce(layer: Reduce, dtype: torch.dtype) -> Built:
    function, axes, keep = layer.function, layer.axes, layer.keepdims

    def reduce(x: Tensor) -> Tensor:
        if function == "mean":
            return (x if x.is_floating_point() else x.to(dtype)).mean(axes, keep)
        if function in ("all", "any"):
            held = (x != 0).to(torch.uint8)
            return (held.amin(axes, keep) if function == "all" else held.amax(axes, keep)).bool()
        if function == "sum":
            return x.sum(axes, keep)
        return x.amax(axes, keep) if function == "max" else x.amin(axes, keep)

    return _simple(reduce)


def _slice(layer: Slice, _: torch.dtype) -> Built:
    index = layer.index

    def cut(x: Tensor) -> Tensor:
        axis = 0
        for entry in index:
            if entry is None:
                x = x.unsqueeze(axis)
            elif isinstance(entry, int):
                x = x.select(axis, entry)
                continue
            else:  # torch has no steps backwards.
                places = range(*slice(*entry).indices(x.shape[axis]))
                x = x.index_select(axis, torch.tensor(list(places), dtype=torch.long, device=x.device))
            axis += 1
        return x

    return _simple(cut)


def _mask_steps(layer: MaskSteps, _: torch.dtype) -> Built:
    value = layer.value
    return _simple(lambda x: x * (x != value).any(dim=-1, keepdim=True).to(x.dtype))


def _step_is_unmasked(layer: StepIsUnmasked, _: torch.dtype) -> Built:
    value = layer.value
    return _simple(lambda x: (x != value).any(dim=-1))


BUILDERS: dict[type[Kind], Callable[[Any, torch.dtype], Built]] = {
    Activate: _activate,
    BatchNormalization: _batch_normalization,
    Cast: _cast,
    Concatenate: _concatenate,
    Constant: _constant,
    Convolution: _convolution,
    Crop: _crop,
    Dense: _dense,
    Dot: _dot,
    Embedding: _embedding,
    GlobalPooling: _global_pooling,
    Identity: _identity,
    LayerNormalization: _layer_normalization,
    MaskSteps: _mask_steps,
    Merge: _merge,
    Normalization: _normalization,
    Operation: _operation,
    Pad: _pad,
    Permute: _permute,
    Pooling: _pooling,
    PReLU: _prelu,
    Reduce: _reduce,
    RepeatVector: _repeat_vector,
    Rescaling: _rescaling,
    Reshape: _reshape,
    Slice: _slice,
    Stacking: _stacking,
    StepIsUnmasked: _step_is_unmasked,
    TransposedConvolution: _transposed_convolution,
    UnitNormalization: _unit_normalization,
    Upsample: _upsample,
}
"""One row a kind; the second argument is the model's own float type. Attention has :mod:`lstmconv.torch.attention`."""
