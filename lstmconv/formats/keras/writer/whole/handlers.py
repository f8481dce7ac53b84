"""How a call of each kind is written: what it takes, under which names, and what else computes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from lstmconv.activations import Activation
from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.keras.writer.dialect import described
from lstmconv.formats.keras.writer.nodes import Inbound, Part, Ref
from lstmconv.formats.keras.writer.whole import moves
from lstmconv.formats.keras.writer.whole.attention import attention, multi_head
from lstmconv.formats.keras.writer.whole.building import Builder, Handlers
from lstmconv.formats.keras.writer.whole.kinds import KINDS
from lstmconv.formats.keras.writer.whole.plain import plain
from lstmconv.formats.keras.writer.whole.recurrent_calls import call_recurrent, call_stack
from lstmconv.formats.keras.writer.whole.stepwise import stepwise
from lstmconv.model import Call, LSTMLayer, RecurrentLayer, Stack, Tensor, TimeDistributed, kinds
from lstmconv.model.windows import same_padding

__all__ = ["HANDLERS"]


def _layer_normalization(builder: Builder, call: Call, layer: kinds.LayerNormalization) -> None:
    """Move the normalised axes to the end: Keras 3 on PyTorch takes the last axes whatever the axes are.

    Source: keras/src/backend/torch/nn.py ``layer_normalization``.
    """
    shape = builder.shapes[call.inputs[0]]
    axes = sorted(axis % len(shape) for axis in layer.axes)
    order = [*(axis for axis in range(len(shape)) if axis not in axes), *axes]
    if order == sorted(order) or builder.dialect.major == 2:
        plain(builder, call, layer)
        return
    moved = replace(layer, axes=tuple(range(len(shape) - len(axes), len(shape))))
    turned_shape = tuple(shape[axis] for axis in order)
    tensor = builder.tensor(call.inputs[0])
    turned = builder.function(builder.free(f"{layer.name}_turned"), "transpose", (tensor,), {"axes": order})
    builder.specs[turned] = (turned_shape, str(builder.dtype))
    place = replace(builder.place(call), shapes=(turned_shape,))
    part = KINDS[kinds.LayerNormalization](moved, place)
    ref = builder.layer(layer.name, part, Inbound((turned,), {}), turned_shape)
    builder.specs[ref] = (turned_shape, str(builder.dtype))
    back = builder.function(
        builder.free(f"{layer.name}_back"), "transpose", (ref,), {"axes": np.argsort(order).tolist()}
    )
    builder.returns(call, back)


def _pooling(builder: Builder, call: Call, layer: kinds.Pooling) -> None:
    """Pool; an average with padding "same" is written so that no backend counts a padded place.

    Keras 3 on PyTorch does (keras/src/backend/torch/nn.py ``average_pool``). The input is padded, and divided by the
    share of each window that lies on it: the average of ones padded alike.
    """
    shape = builder.shapes[call.inputs[0]]
    sizes = shape[2:] if layer.channels_first else shape[1:-1]
    amounts = [_same(size, *moves) for size, *moves in zip(sizes, layer.size, layer.strides, strict=True)]
    averaged = layer.function == "average" and layer.padding == "same" and builder.dialect.major == 3
    if not averaged or all(pair == (0, 0) for pair in amounts):
        plain(builder, call, layer)
        return
    if None in amounts:
        raise UnsupportedModelError("Keras 3 on PyTorch counts padded places in an average, and the size is open")
    still = (0, 0)
    around = [still, still, *amounts] if layer.channels_first else [still, *amounts, still]
    part = KINDS[kinds.Pooling](replace(layer, padding="valid"), builder.place(call))
    tensor = builder.tensor(call.inputs[0])
    never = builder.function(builder.free(f"{layer.name}_never"), "less", (tensor, tensor), {})
    always = builder.function(builder.free(f"{layer.name}_always"), "logical_not", (never,), {})
    ones = builder.function(builder.free(f"{layer.name}_ones"), "cast", (always,), {"dtype": str(builder.dtype)})
    averages = []
    for name, ref in ((layer.name, tensor), (builder.free(f"{layer.name}_places"), ones)):
        widths = {"pad_width": [list(pair) for pair in around if pair is not None], "mode": "constant"}
        padded = builder.function(builder.free(f"{name}_padded"), "pad", (ref,), widths)
        averages.append(builder.layer(name, part, Inbound((padded,), {})))
    ref = builder.function(builder.free(f"{layer.name}_divided"), "divide", tuple(averages), {})
    builder.returns(call, ref)


def _same(size: int | None, window: int, stride: int) -> tuple[int, int] | None:
    """Return how many places "same" pads on both sides; ``None`` where an open size decides it."""
    if size is None and stride > 1 and window > 1:
        return None
    return same_padding(size or 1, window, stride)


def _constant(builder: Builder, call: Call, layer: kinds.Constant) -> None:
    builder.constant(Tensor(call.name), layer.value)


def _operation(builder: Builder, call: Call, layer: kinds.Operation) -> None:
    values = tuple(builder.values[tensor] for tensor in call.inputs)
    if not any(isinstance(value, Ref) for value in values):
        raise UnsupportedModelError("it computes with constants alone")
    builder.compute(call, layer.function, values)


def _cast(builder: Builder, call: Call, layer: kinds.Cast) -> None:
    dtype = layer.dtype
    wanted = str(builder.dtype) if dtype.startswith("float") else dtype
    ref = builder.function(builder.name_of(call), "cast", (builder.tensor(call.inputs[0]),), {"dtype": wanted})
    form = "bool" if dtype == "bool" else "float" if dtype.startswith("float") else "int"
    builder.returns(call, ref, form=form)


def _reduce(builder: Builder, call: Call, layer: kinds.Reduce) -> None:
    axes = list(layer.axes)
    tensor = builder.tensor(call.inputs[0])
    builder.compute(call, layer.function, (tensor,), axis=axes, keepdims=layer.keepdims)


def _stacking(builder: Builder, call: Call, layer: kinds.Stacking) -> None:
    refs = [builder.tensor(tensor) for tensor in call.inputs]
    builder.compute(call, "stack", (refs,), axis=layer.axis)


def _concatenate(builder: Builder, call: Call, layer: kinds.Concatenate) -> None:
    """Concatenate as a layer, masks too, where Keras' layer takes the axis and the number of tensors."""
    refs = [builder.tensor(tensor, unmasked=True) for tensor in call.inputs]
    if layer.axis == 0 or len(refs) < 2:
        builder.compute(call, "concatenate", (refs,), axis=layer.axis)
        return
    part = KINDS[kinds.Concatenate](layer, builder.place(call))
    form = builder.forms.get(call.inputs[0], "float")
    builder.returns(call, builder.layer(layer.name, part, Inbound((refs,), {})), form=form)


def _step_is_unmasked(builder: Builder, call: Call, layer: kinds.StepIsUnmasked) -> None:
    """Compute Masking's mask: whether any feature differs from the value."""
    tensor = builder.tensor(call.inputs[0])
    differs = builder.function(
        builder.free(f"{layer.name}_not_equal"), "not_equal", (tensor, np.array(layer.value)), {}
    )
    builder.specs[differs] = (builder.shapes[call.inputs[0]], "bool")
    ref = builder.function(builder.name_of(call), "any", (differs,), {"axis": -1, "keepdims": False})
    builder.returns(call, ref, form="bool")


def _activate(builder: Builder, call: Call, layer: kinds.Activate) -> None:
    mask = call.masks[0] if call.masks else None
    tensor = builder.tensor(call.inputs[0], unmasked=layer.activation.name == "softmax")
    rank = len(builder.shapes[call.inputs[0]])
    last = layer.axis % rank == rank - 1
    masked = builder.may_be_masked(call.inputs) or mask is not None
    if layer.activation.name == "softmax" and (mask is not None or not last):
        kwargs = {} if mask is None else {"mask": builder.tensor(mask)}
        part = Part("Softmax", {"axis": layer.axis})
        builder.returns(call, builder.layer(layer.name, part, Inbound((tensor,), kwargs)), masked=masked)
        return
    if layer.activation.coupled and not last:
        if layer.activation.name != "log_softmax":
            raise UnsupportedModelError(f"Keras has no {layer.activation} along axis {layer.axis}")
        builder.compute(call, "log_softmax", (tensor,), axis=layer.axis)
        return
    if layer.activation == Activation("gelu", (("approximate", 1.0),)):
        builder.compute(call, "gelu", (tensor,), approximate=True)
        return
    ref = tensor
    for number, (name, part) in enumerate(_activation_parts(builder, layer)):
        ref = builder.layer(name, part, Inbound((ref,), {}))
        if number == 0:
            builder.specs[ref] = (builder.shapes[call.inputs[0]], str(builder.dtype))
    builder.returns(call, ref, masked=masked)


def _activation_parts(builder: Builder, layer: kinds.Activate) -> list[tuple[str, Part]]:
    """Return the layers that compute an activation: one, or for another Keras' hard_sigmoid its line and its bounds."""
    config = described(layer.activation, builder.dialect, str(builder.dtype))
    if config is None and layer.activation.name == "hard_sigmoid":
        line = {"scale": layer.activation["alpha"], "offset": layer.activation["beta"]}
        bounds = {"max_value": 1.0, "negative_slope": 0.0, "threshold": 0.0}
        existing = f"{layer.name}_line"
        name = existing if existing in builder.nodes else builder.free(existing)
        return [(name, Part("Rescaling", line)), (layer.name, Part("ReLU", bounds))]
    if config is None:
        raise UnsupportedModelError(f"Keras {builder.dialect.major} has no activation {layer.activation}")
    if isinstance(config, Mapping):
        options = {key: value for key, value in config["config"].items() if key not in ("name", "trainable", "dtype")}
        return [(layer.name, Part(config["class_name"], options))]
    return [(layer.name, Part("Activation", {"activation": config}))]


def _time_distributed(builder: Builder, call: Call, layer: TimeDistributed) -> None:
    part = stepwise(layer, builder)
    tensor = builder.tensor(call.inputs[0], unmasked=True)
    builder.returns(call, builder.layer(layer.name, part, Inbound((tensor,), {})))


HANDLERS: Handlers = {
    **dict.fromkeys(KINDS, plain),
    kinds.LayerNormalization: _layer_normalization,
    kinds.Pooling: _pooling,
    kinds.Constant: _constant,
    kinds.Operation: _operation,
    kinds.Cast: _cast,
    kinds.Reduce: _reduce,
    kinds.Stacking: _stacking,
    kinds.Concatenate: _concatenate,
    kinds.Permute: moves.permute,
    kinds.Reshape: moves.reshape,
    kinds.Pad: moves.pad,
    kinds.Crop: moves.crop,
    kinds.Slice: moves.take,
    kinds.StepIsUnmasked: _step_is_unmasked,
    kinds.Activate: _activate,
    kinds.Attention: attention,
    kinds.MultiHeadAttention: multi_head,
    LSTMLayer: call_recurrent,
    RecurrentLayer: call_recurrent,
    Stack: call_stack,
    TimeDistributed: _time_distributed,
}
