"""Write each kind of layer: the constructor of the module with its arrays, and the expressions that run it.

The expressions compute the same as :mod:`lstmconv.torch.kinds`, which cites Keras' sources.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.torch.constructors import CONSTRUCTORS, cropped, one_size, pads_alike
from lstmconv.formats.torch_code.activations import X, applied
from lstmconv.formats.torch_code.arithmetic import ARITHMETIC
from lstmconv.formats.torch_code.constants import number
from lstmconv.formats.torch_code.lines import literal
from lstmconv.formats.torch_code.reading import Read
from lstmconv.formats.torch_code.shaping import SHAPING
from lstmconv.model import kinds
from lstmconv.model.kinds import Kind

__all__ = ["RUNS", "attention_call", "constructor"]


def _arguments(*values: object, **named: object) -> str:
    """Return the arguments of a call."""
    return ", ".join([*map(literal, values), *(f"{name}={literal(value)}" for name, value in named.items())])


def constructor(layer: Kind) -> str | None:
    """Return the expression that creates a layer's module; ``None`` for a layer without arrays."""
    rule = CONSTRUCTORS.get(type(layer))
    made = None if rule is None else rule(layer)
    if made is None:
        return None
    return f"{'' if made.own else 'nn.'}{made.class_name}({_arguments(*made.arguments, **made.options)})"


def _run_dense(layer: kinds.Dense, read: Read) -> list[str]:
    return [f"{read.me}({X})", *applied(layer.activation)]


def _run_embedding(layer: kinds.Embedding, read: Read) -> list[str]:
    return [f"{read.me}({X})" if read.types[0] == "int" else f"{read.me}({X}.long())"]


def _run_activate(layer: kinds.Activate, read: Read) -> list[str]:
    mask = read.masks[0] if read.masks else None
    if mask is None or not layer.activation.coupled:
        return applied(layer.activation, layer.axis, len(read.shapes[0]))
    if layer.activation.name != "softmax":
        raise UnsupportedModelError(f"{layer.activation} under a mask is not written as source", layer.name)
    return [f"masked_softmax({X}, {mask}, {layer.axis})"]


def _channels(already_first: bool, rank: int, steps: Sequence[str]) -> list[str]:
    """Run steps with the channels on axis 1."""
    if already_first:
        return list(steps)
    ways = ("transpose(1, 2)", "transpose(1, 2)") if rank == 1 else ("movedim(-1, 1)", "movedim(1, -1)")
    return [f"{X}.{ways[0]}", *steps, f"{X}.{ways[1]}"]


def _run_convolution(layer: kinds.Convolution, read: Read) -> list[str]:
    spatial = layer.kernel.shape[:-2]
    steps = [f"{read.me}({X})"]
    if layer.padding == "causal":
        steps.insert(0, f"F.pad({X}, ({(spatial[0] - 1) * layer.dilation[0]}, 0))")
    elif layer.padding == "same" and not pads_alike(layer):
        dilation = () if set(layer.dilation) == {1} else (layer.dilation,)
        steps.insert(0, f"pad_same({X}, {_arguments(tuple(spatial), layer.strides, *dilation)})")
    return [*_channels(layer.channels_first, len(spatial), steps), *applied(layer.activation)]


def _run_transposed(layer: kinds.TransposedConvolution, read: Read) -> list[str]:
    crops = cropped(layer)
    limits = map(max, zip(layer.strides, layer.dilation, strict=True))
    if any(-right >= limit for (_, right), limit in zip(crops, limits, strict=True)):
        raise UnsupportedModelError("torch adds less at the end of a transposed convolution", layer.name)
    cut = [(-left, -max(0, right)) for left, right in crops]
    steps = [f"{read.me}({X})"]
    if any(amount for pair in cut for amount in pair):
        steps.append(f"F.pad({X}, {literal(tuple(amount for pair in reversed(cut) for amount in pair))})")
    rank = len(layer.kernel.shape) - 2
    return [*_channels(layer.channels_first, rank, steps), *applied(layer.activation)]


def _run_pooling(layer: kinds.Pooling, read: Read) -> list[str]:
    rank = len(layer.size)
    pool = f"F.{'max' if layer.function == 'max' else 'avg'}_pool{rank}d"
    sizes = f"{literal(one_size(layer.size))}, {literal(one_size(layer.strides))}"
    lists = _arguments(layer.size, layer.strides)
    if layer.padding == "valid":
        steps = [f"{pool}({X}, {sizes})"]
    elif layer.function == "max":
        steps = [f"pad_same({X}, {lists}, value=-math.inf)", f"{pool}({X}, {sizes})"]
    else:
        steps = [f"average_same({pool}, {X}, {lists})"]
    return _channels(layer.channels_first, rank, steps)


def _run_global_pooling(layer: kinds.GlobalPooling, read: Read) -> list[str]:
    rank, mask = len(read.shapes[0]), read.masks[0] if read.masks else None
    axes = tuple(range(2, rank)) if layer.channels_first else tuple(range(1, rank - 1))
    dim = literal(axes[0] if len(axes) == 1 else axes)
    keep = ", keepdim=True" if layer.keepdims else ""
    if layer.function == "max":
        return [f"{X}.amax({dim}{keep})"]
    if mask is None:
        return [f"{X}.mean({dim}{keep})"]
    if len(axes) != 1:
        raise UnsupportedModelError("a mask over several axes is not written as source", layer.name)
    return [f"masked_mean({X}, {mask}.unsqueeze({1 if layer.channels_first else -1}), {dim}, {layer.keepdims})"]


def _run_batch_norm(layer: kinds.BatchNormalization, read: Read) -> list[str]:
    rank = len(read.shapes[0])
    axis = layer.axis % rank
    if rank == 2 or (rank == 3 and axis == 1):
        return [f"{read.me}({X})"]
    if rank == 3:
        return [f"{X}.transpose(1, 2)", f"{read.me}({X})", f"{X}.transpose(1, 2)"]
    flat = f"per_channel({read.me}, {X})"
    return [flat] if axis == rank - 1 else [f"{X}.movedim({axis}, -1)", flat, f"{X}.movedim(-1, {axis})"]


def _run_layer_norm(layer: kinds.LayerNormalization, read: Read) -> list[str]:
    rank = len(read.shapes[0])
    own = sorted(axis % rank for axis in layer.axes)
    last = list(range(rank - len(own), rank))
    if layer.gamma is not None or layer.beta is not None:
        step = f"{read.me}({X})"
    elif layer.root_mean_square:
        step = f"root_mean_square({X}, {len(own)}, {literal(layer.epsilon)})"
    else:
        step = f"F.layer_norm({X}, {X}.shape[-{len(own)}:], eps={literal(layer.epsilon)})"
    if own == last:
        return [step]
    return [f"{X}.movedim({own}, {last})", step, f"{X}.movedim({last}, {own})"]


def _run_rescaling(layer: kinds.Rescaling, read: Read) -> list[str]:
    scale, offset = (
        read.constant(f"{layer.name}_{name}", array) if array.shape else number(array)
        for name, array in (("scale", layer.scale), ("offset", layer.offset))
    )
    scaled = X if not layer.scale.shape and layer.scale == 1 else f"{X} * {scale}"
    return [scaled if not layer.offset.shape and layer.offset == 0 else f"{scaled} + {offset}"]


def _run_unit(layer: kinds.UnitNormalization, read: Read) -> list[str]:
    dim = layer.axes[0] if len(layer.axes) == 1 else layer.axes
    return [f"unit({X}, {literal(dim)}, {literal(layer.epsilon)})"]


def attention_call(layer: kinds.Attention | kinds.MultiHeadAttention, read: Read) -> str:
    """Return the call of an attention layer, which returns its output and its weights."""
    names = ("query_mask", "value_mask", "key_mask", "mask")
    count = 2 if isinstance(layer, kinds.Attention) else 4
    masks = zip(names[:count], read.masks, strict=False)
    given = [f"{name}={mask}" for name, mask in masks if mask is not None]
    return f"{read.me}({', '.join([*read.inputs, *given])})"


RUNS: Mapping[type[Kind], Callable[[Any, Read], list[str]]] = {
    kinds.Activate: _run_activate,
    kinds.BatchNormalization: _run_batch_norm,
    kinds.Constant: lambda layer, read: [read.constant(layer.name, layer.value)],
    kinds.Convolution: _run_convolution,
    kinds.Dense: _run_dense,
    kinds.Embedding: _run_embedding,
    kinds.GlobalPooling: _run_global_pooling,
    kinds.LayerNormalization: _run_layer_norm,
    kinds.Normalization: lambda layer, read: [f"{read.me}.invert({X})" if layer.invert else f"{read.me}({X})"],
    kinds.Pooling: _run_pooling,
    kinds.PReLU: lambda _, read: [f"{read.me}({X})"],
    kinds.Rescaling: _run_rescaling,
    kinds.TransposedConvolution: _run_transposed,
    kinds.UnitNormalization: _run_unit,
    **ARITHMETIC,
    **SHAPING,
}
"""The expressions that run each kind, one after another; ``{x}`` is the first input, then the previous result.

For attention see :func:`attention_call`, for recurrent layers :mod:`lstmconv.formats.torch_code.recurrent`."""
