"""A whole model as PyTorch's named tensors: names by Keras' layers, then as torch.nn's modules name their parameters.

``embedding.weight``, ``lstm.weight_ih_l0``, ``dense.weight``, ``batch_norm.running_mean``: torch.nn's modules of these
names load them strictly. A module that computes what torch.nn's own of these names does not has an ``_extra_state``.
A state dict needs no wiring: it carries the arrays of every known layer, also where others are unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from lstmconv.activations import SIGMOID, TANH, Activation, describe_activation
from lstmconv.arrays.copying import Piece
from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.options import WriteOptions
from lstmconv.formats.tensors import NamedTensor
from lstmconv.formats.torch.state_dict import (
    extra_tensor,
    obstacle,
    prefix_of,
    require_two_biases,
    stack_tensors,
    tensors,
    without_equal_names,
)
from lstmconv.layouts.kinds import ArrayLayout, rows_of
from lstmconv.model import (
    Array,
    Checkpoint,
    Gates,
    GRUDirection,
    Layer,
    LSTMLayer,
    Model,
    RecurrentLayer,
    SimpleRNNDirection,
    Stack,
    TimeDistributed,
    float_type,
)
from lstmconv.model.kinds import (
    BatchNormalization,
    Constant,
    Kind,
    LayerNormalization,
    MultiHeadAttention,
    Rescaling,
    Unknown,
)
from lstmconv.model.names import named_layers

__all__ = [
    "halves_fit",
    "model_tensors",
    "obstacle_of_model",
    "projections_joined",
    "recurrent_extra_state",
    "tensors_to_write",
    "whole_tensors",
]


def obstacle_of_model(model: Model, options: WriteOptions) -> str | None:
    """Say why no state dict can hold a model whole, or ``None``; unknown layers are none: their arrays are left out."""
    for name, layer in named_layers(model):
        if isinstance(layer, MultiHeadAttention):
            biases = (layer.query_bias, layer.key_bias, layer.value_bias, layer.output_bias)
            if len({bias is None for bias in biases}) > 1:
                return f"{name}: some of its projections have a bias and some have none"
        reason = _unknown_activation(layer)
        if reason is not None:
            return f"{name}: {reason}"
    return None


def _unknown_activation(layer: Layer) -> str | None:
    lstms = layer.layers if isinstance(layer, Stack) else (layer,) if isinstance(layer, LSTMLayer) else ()
    for lstm in lstms:
        if any(half.activation is None or half.recurrent_activation is None for half in lstm.directions):
            return "its activations are unknown; pass --config or --recurrent-activation"
    return None


def tensors_to_write(checkpoint: Checkpoint, options: WriteOptions) -> list[NamedTensor]:
    """List the tensors of the LSTM layers, or with ``options.whole`` of the model.

    Raises:
        UnsupportedModelError: A layer does not fit ``nn.LSTM``, its activations are unknown, or a whole model is asked
            for and the checkpoint has none.
    """
    return whole_tensors(checkpoint, options) if options.whole else tensors(checkpoint, options)


def whole_tensors(checkpoint: Checkpoint, options: WriteOptions) -> list[NamedTensor]:
    """List every tensor of a checkpoint's model.

    Raises:
        UnsupportedModelError: It has none; or as :func:`model_tensors`.
    """
    if checkpoint.model is None:
        raise UnsupportedModelError(f"{checkpoint.provenance.source} does not contain its model")
    return model_tensors(checkpoint.model, options)


def model_tensors(model: Model, options: WriteOptions) -> list[NamedTensor]:
    """List every tensor of a model, layer by layer.

    Raises:
        UnsupportedModelError: See :func:`obstacle_of_model`.
        UsageError: Two layers would have one name, or the bias mode is cuDNN's.
    """
    require_two_biases(options)
    reason = obstacle_of_model(model, options)
    if reason is not None:
        raise UnsupportedModelError(reason)
    return without_equal_names(
        [tensor for name, layer in named_layers(model) for tensor in _layer(layer, prefix_of(name), options)]
    )


def _layer(layer: Layer, prefix: str, options: WriteOptions) -> Iterator[NamedTensor]:
    if isinstance(layer, LSTMLayer | Stack):
        yield from _lstm(layer, prefix, options)
    elif isinstance(layer, RecurrentLayer):
        yield from _recurrent(layer, prefix, options)
    elif isinstance(layer, MultiHeadAttention):
        yield from _heads(layer, prefix, options)
    elif not isinstance(layer, Unknown | Constant | Rescaling | TimeDistributed):
        yield from _kind(layer, prefix, options)


def _dtype(array: Array | Gates, options: WriteOptions) -> np.dtype[Any]:
    return array.dtype.newbyteorder("=") if options.dtype is None else float_type(options.dtype)


def _tensor(name: str, array: Array, row: ArrayLayout, options: WriteOptions) -> NamedTensor:
    """Return one array in PyTorch's axes."""
    parts = row.parts(array, "torch")
    shape = parts[0].shape if len(parts) == 1 else (len(parts) * parts[0].shape[0], *parts[0].shape[1:])
    return NamedTensor(name, shape, _dtype(array, options), parts)


def _lstm(layer: LSTMLayer | Stack, prefix: str, options: WriteOptions) -> Iterator[NamedTensor]:
    """One nn.LSTM; else its layers as ``0``, ``1``; else a layer's halves as ``forward_layer``, ``backward_layer``."""
    stack = layer if isinstance(layer, Stack) else Stack(layer.name, (layer,))
    if obstacle(stack) is None:
        yield from stack_tensors(stack, prefix, options)
        return
    if len(stack.layers) > 1:
        for number, own in enumerate(stack.layers):
            yield from _lstm(own, f"{prefix}{number}.", options)
        return
    for name, half in zip(("forward_layer", "backward_layer"), stack.first.directions, strict=False):
        # Each half runs forwards; the layer turns its input round.
        alone = LSTMLayer(name, replace(half, go_backwards=False))
        yield from stack_tensors(Stack(name, (alone,)), f"{prefix}{name}.", options)


def _recurrent(layer: RecurrentLayer, prefix: str, options: WriteOptions) -> Iterator[NamedTensor]:
    if not halves_fit(layer):
        for name, half in zip(("forward_layer", "backward_layer"), layer.directions, strict=False):
            alone = RecurrentLayer(name, replace(half, go_backwards=False))
            yield from _recurrent(alone, f"{prefix}{name}.", options)
        return
    biased = any("bias_ih" in arrays for arrays in map(_direction_arrays, layer.directions))
    for direction, suffix in zip(layer.directions, ("_l0", "_l0_reverse"), strict=False):
        rows = rows_of(_cell(direction))
        arrays = _direction_arrays(direction)
        for name in ("weight_ih", "weight_hh"):
            yield _tensor(f"{prefix}{name}{suffix}", arrays[name], rows[name], options)
        if biased:
            for name in ("bias_ih", "bias_hh"):
                zeros = np.zeros(direction.weight_ih.shape[:-1], direction.weight_ih.dtype)
                yield _tensor(f"{prefix}{name}{suffix}", arrays.get(name, zeros), rows["bias_ih"], options)
    extra = recurrent_extra_state(layer)
    if extra is not None:
        yield extra_tensor(prefix, extra)


def halves_fit(layer: RecurrentLayer) -> bool:
    """Whether one module of torch.nn holds both halves: equal units, and one runs back."""
    first, *rest = layer.directions
    return all(
        half.hidden_size == first.hidden_size
        and half.go_backwards != first.go_backwards
        and getattr(half, "reset_after", None) == getattr(first, "reset_after", None)
        for half in rest
    )


def _cell(direction: GRUDirection | SimpleRNNDirection) -> str:
    return "GRU" if isinstance(direction, GRUDirection) else "SimpleRNN"


def _direction_arrays(direction: GRUDirection | SimpleRNNDirection) -> dict[str, Array]:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return {name: array for name in names if (array := getattr(direction, name, None)) is not None}


_RELU = Activation("relu", (("negative_slope", 0.0), ("max_value", float("inf")), ("threshold", 0.0)))


def recurrent_extra_state(layer: RecurrentLayer) -> dict[str, object] | None:
    """Return what a GRU or SimpleRNN computes that nn.GRU or nn.RNN does not, or ``None``.

    ``nn.RNN(nonlinearity="relu")`` computes relu: that is a constructor's argument, as BatchNorm's eps is.
    """
    activations = {half.activation for half in layer.directions}
    joined = layer.backward is None or layer.merge_mode in ("concat", "none")
    first = layer.forward
    if joined and not first.go_backwards:
        if isinstance(first, GRUDirection):
            gates = {half.recurrent_activation for half in layer.directions if isinstance(half, GRUDirection)}
            if activations == {TANH} and gates == {SIGMOID} and first.reset_after:
                return None
        elif activations in ({TANH}, {_RELU}):
            return None
    return {
        "activation": [describe_activation(half.activation) for half in layer.directions],
        "recurrent_activation": [
            describe_activation(half.recurrent_activation if isinstance(half, GRUDirection) else SIGMOID)
            for half in layer.directions
        ],
        "go_backwards": first.go_backwards,
        "merge_mode": layer.merge_mode if layer.backward is not None else "concat",
        **({"reset_after": first.reset_after} if isinstance(first, GRUDirection) else {}),
    }


def _kind(layer: Kind, prefix: str, options: WriteOptions) -> Iterator[NamedTensor]:
    rows = rows_of(type(layer).__name__)
    arrays = dict(layer.arrays)
    for name, fill in _filled(layer).items():
        like = arrays.get("gamma", arrays.get("beta"))
        assert like is not None
        arrays[name] = np.full(like.shape, fill, like.dtype)
    for name, row in rows.items():
        if name in arrays:
            yield _tensor(f"{prefix}{row.torch.name}", arrays[name], row, options)


def _filled(layer: Kind) -> dict[str, float]:
    """Return the arrays that a layer lacks and torch.nn's module has, by the number that changes nothing."""
    if isinstance(layer, BatchNormalization):
        if (layer.gamma is None) == (layer.beta is None):
            return {}
        return {"gamma": 1.0} if layer.gamma is None else {"beta": 0.0}
    if isinstance(layer, LayerNormalization) and layer.gamma is None and layer.beta is not None:
        return {"gamma": 1.0}
    return {}


_PROJECTIONS = ("query", "key", "value")


def projections_joined(layer: MultiHeadAttention) -> bool:
    """Whether nn.MultiheadAttention holds the three projections as one ``in_proj_weight``."""
    features, heads, size = layer.query_kernel.shape
    same = layer.query_kernel.shape == layer.key_kernel.shape == layer.value_kernel.shape
    return same and features == heads * size


def _heads(layer: MultiHeadAttention, prefix: str, options: WriteOptions) -> Iterator[NamedTensor]:
    """Yield nn.MultiheadAttention's tensors: one ``in_proj_weight`` where the sizes allow it, else three."""
    rows, arrays = rows_of("MultiHeadAttention"), layer.arrays
    kernels = [
        _tensor(f"{prefix}{rows[name].torch.name}", arrays[name], rows[name], options)
        for name in (f"{part}_kernel" for part in _PROJECTIONS)
    ]
    yield from [_joined(f"{prefix}in_proj_weight", kernels)] if projections_joined(layer) else kernels
    if layer.query_bias is not None:
        names = [f"{part}_bias" for part in _PROJECTIONS]
        yield _joined(f"{prefix}in_proj_bias", [_tensor("", arrays[name], rows[name], options) for name in names])
    for name in ("output_kernel", "output_bias"):
        if name in arrays:
            yield _tensor(f"{prefix}{rows[name].torch.name}", arrays[name], rows[name], options)


def _joined(name: str, tensors: list[NamedTensor]) -> NamedTensor:
    """Return tensors one behind the other as one."""
    rows = sum(tensor.shape[0] for tensor in tensors)
    pieces: tuple[Piece, ...] = tuple(piece for tensor in tensors for piece in tensor.pieces)
    return NamedTensor(name, (rows, *tensors[0].shape[1:]), tensors[0].dtype, pieces)
