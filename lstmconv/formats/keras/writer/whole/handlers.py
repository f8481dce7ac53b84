"""How a call of each kind is written: what it takes, under which names, and what else computes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from lstmconv.activations import Activation
from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.keras.writer.dialect import described
from lstmconv.formats.keras.writer.nodes import Inbound, Part, Ref, Value
from lstmconv.formats.keras.writer.whole.building import Builder, Handlers
from lstmconv.formats.keras.writer.whole.kinds import KINDS
from lstmconv.formats.keras.writer.whole.recurrent_calls import call_recurrent, call_stack
from lstmconv.formats.keras.writer.whole.stepwise import stepwise
from lstmconv.model import Call, LSTMLayer, RecurrentLayer, Stack, Tensor, TimeDistributed, kinds
from lstmconv.model.windows import same_padding

__all__ = ["HANDLERS"]

_ENDS_MASK = (kinds.GlobalPooling,)
_JOINS = (kinds.Merge, kinds.Dot)


def _plain(builder: Builder, call: Call) -> None:
    """Call one layer of Keras on its only input, or on a list of all."""
    part = KINDS[type(call.layer)](call.layer, builder.place(call))  # type: ignore[index]  # a kind
    joins = isinstance(call.layer, _JOINS)
    reads = joins or isinstance(call.layer, kinds.GlobalPooling)
    refs = [builder.tensor(tensor, unmasked=reads) for tensor in call.inputs]
    mask = {"mask": builder.tensor(call.masks[0])} if call.masks and call.masks[0] is not None else {}
    if mask and isinstance(call.layer, kinds.GlobalPooling) and builder.dialect.major == 3:
        refs = [_copied(builder, call, refs[0])]
    inbound = Inbound((refs,) if joins else (refs[0],), mask)
    ref = builder.layer(call.layer.name, part, inbound, builder.shapes[call.inputs[0]])
    masked = not isinstance(call.layer, _ENDS_MASK) and builder.may_be_masked(call.inputs)
    builder.returns(call, ref, masked=masked or isinstance(call.layer, kinds.MaskSteps))


def _copied(builder: Builder, call: Call, ref: Ref) -> Ref:
    """Copy what a masked average is taken of: Keras 3 to 3.11 on PyTorch sets its masked steps to zero in place.

    Source: ``inputs *= mask`` in keras/src/layers/pooling/global_average_pooling1d.py.
    """
    copy = builder.function(builder.free(f"{call.layer.name}_copy"), "add", (ref, np.zeros(())), {})
    builder.specs[copy] = builder.specs[ref]
    return copy


def _layer_normalization(builder: Builder, call: Call) -> None:
    """Move the normalised axes to the end: Keras 3 on PyTorch takes the last axes whatever the axes are.

    Source: keras/src/backend/torch/nn.py ``layer_normalization``.
    """
    layer = call.layer
    assert isinstance(layer, kinds.LayerNormalization)
    shape = builder.shapes[call.inputs[0]]
    axes = sorted(axis % len(shape) for axis in layer.axes)
    order = [*(axis for axis in range(len(shape)) if axis not in axes), *axes]
    if order == sorted(order) or builder.dialect.major == 2:
        _plain(builder, call)
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


def _pooling(builder: Builder, call: Call) -> None:
    """Pool; an average with padding "same" is written so that no backend counts a padded place.

    Keras 3 on PyTorch does (keras/src/backend/torch/nn.py ``average_pool``). The input is padded, and divided by the
    share of each window that lies on it: the average of ones padded alike.
    """
    layer = call.layer
    assert isinstance(layer, kinds.Pooling)
    shape = builder.shapes[call.inputs[0]]
    sizes = shape[2:] if layer.channels_first else shape[1:-1]
    amounts = [_same(size, *moves) for size, *moves in zip(sizes, layer.size, layer.strides, strict=True)]
    averaged = layer.function == "average" and layer.padding == "same" and builder.dialect.major == 3
    if not averaged or all(pair == (0, 0) for pair in amounts):
        _plain(builder, call)
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


def _function(builder: Builder, call: Call, function: str, tensors: tuple[Any, ...], **options: Any) -> None:
    ref = builder.function(builder.name_of(call), function, tensors, options)
    builder.returns(call, ref, form=builder.form_of(call))


def _constant(builder: Builder, call: Call) -> None:
    builder.constant(Tensor(call.name), call.layer.value)  # type: ignore[union-attr]  # a Constant


def _operation(builder: Builder, call: Call) -> None:
    values = tuple(builder.values[tensor] for tensor in call.inputs)
    if not any(isinstance(value, Ref) for value in values):
        raise UnsupportedModelError("it computes with constants alone")
    _function(builder, call, call.layer.function, values)  # type: ignore[union-attr]  # an Operation


def _cast(builder: Builder, call: Call) -> None:
    layer = call.layer
    assert isinstance(layer, kinds.Cast)
    dtype = layer.dtype
    wanted = str(builder.dtype) if dtype.startswith("float") else dtype
    ref = builder.function(builder.name_of(call), "cast", (builder.tensor(call.inputs[0]),), {"dtype": wanted})
    form = "bool" if dtype == "bool" else "float" if dtype.startswith("float") else "int"
    builder.returns(call, ref, form=form)


def _reduce(builder: Builder, call: Call) -> None:
    layer = call.layer
    assert isinstance(layer, kinds.Reduce)
    axes = list(layer.axes)
    tensor = builder.tensor(call.inputs[0])
    _function(builder, call, layer.function, (tensor,), axis=axes, keepdims=layer.keepdims)


def _stacking(builder: Builder, call: Call) -> None:
    refs = [builder.tensor(tensor) for tensor in call.inputs]
    _function(builder, call, "stack", (refs,), axis=call.layer.axis)  # type: ignore[union-attr]  # a Stacking


def _concatenate(builder: Builder, call: Call) -> None:
    """Concatenate as a layer, masks too, where Keras' layer takes the axis and the number of tensors."""
    layer = call.layer
    assert isinstance(layer, kinds.Concatenate)
    refs = [builder.tensor(tensor, unmasked=True) for tensor in call.inputs]
    if layer.axis == 0 or len(refs) < 2:
        _function(builder, call, "concatenate", (refs,), axis=layer.axis)
        return
    part = KINDS[kinds.Concatenate](layer, builder.place(call))
    form = builder.forms.get(call.inputs[0], "float")
    builder.returns(call, builder.layer(layer.name, part, Inbound((refs,), {})), form=form)


def _permute(builder: Builder, call: Call) -> None:
    layer = call.layer
    assert isinstance(layer, kinds.Permute)
    if layer.order[0] == 0 and builder.forms.get(call.inputs[0]) == "float":
        _plain(builder, call)
        return
    _function(builder, call, "transpose", (builder.tensor(call.inputs[0]),), axes=list(layer.order))


def _reshape(builder: Builder, call: Call) -> None:
    """Flatten, Reshape, or the function where the batch is part of the shape."""
    layer = call.layer
    assert isinstance(layer, kinds.Reshape)
    tensor = builder.tensor(call.inputs[0])
    if layer.fixed_batch or builder.forms.get(call.inputs[0]) != "float":
        shape = list(layer.shape) if layer.fixed_batch else [-1, *layer.shape]
        _function(builder, call, "reshape", (tensor,), newshape=shape)
        return
    flat = layer.shape == (-1,)
    part = Part("Flatten", {"data_format": "channels_last"}) if flat else Part("Reshape", {"target_shape": layer.shape})
    ref = builder.layer(layer.name, part, Inbound((tensor,), {}))
    builder.returns(call, ref, masked=builder.may_be_masked(call.inputs))


def _spatial(builder: Builder, call: Call, option: str, names: str) -> bool:
    """Write padding or cropping as a layer, where it leaves the batch and the channels alone."""
    amounts = call.layer.amounts  # type: ignore[union-attr]  # a Pad or a Crop
    rank, still = len(amounts) - 2, (0, 0)
    first = amounts[1] == still and amounts[-1] != still
    spatial = amounts[2:] if first else amounts[1:-1]
    others = (amounts[0], amounts[1] if first else amounts[-1])
    if not 1 <= rank <= 3 or any(other != still for other in others) or (first and rank == 1):
        return False
    if builder.forms.get(call.inputs[0]) != "float":
        return False
    options: dict[str, Any] = {option: list(spatial[0]) if rank == 1 else [list(pair) for pair in spatial]}
    if rank > 1:
        options["data_format"] = "channels_first" if first else "channels_last"
    inbound = Inbound((builder.tensor(call.inputs[0]),), {})
    ref = builder.layer(call.layer.name, Part(f"{names}{rank}D", options), inbound)
    builder.returns(call, ref, masked=builder.may_be_masked(call.inputs))
    return True


def _pad(builder: Builder, call: Call) -> None:
    layer = call.layer
    assert isinstance(layer, kinds.Pad)
    if layer.value == 0 and _spatial(builder, call, "padding", "ZeroPadding"):
        return
    tensor = builder.tensor(call.inputs[0])
    part_options = {"pad_width": [list(pair) for pair in layer.amounts], "mode": "CONSTANT"}
    if builder.dialect.major == 3:
        part_options["mode"] = "constant"
    ref = builder.function(builder.name_of(call), "pad", (tensor,), part_options)
    if layer.value:
        builder.nodes[ref.node].calls[ref.call].kwargs = {
            **builder.nodes[ref.node].calls[ref.call].kwargs,
            "constant_values": layer.value,
        }
    builder.returns(call, ref, form=builder.form_of(call))


def _crop(builder: Builder, call: Call) -> None:
    layer = call.layer
    assert isinstance(layer, kinds.Crop)
    if _spatial(builder, call, "cropping", "Cropping"):
        return
    key = [slice(before, -after if after else None, None) for before, after in layer.amounts]
    _function(builder, call, "get_item", (builder.tensor(call.inputs[0]), key))


def _slice(builder: Builder, call: Call) -> None:
    """Take places; Keras 3 turns axes round before, since PyTorch takes no negative steps."""
    layer = call.layer
    assert isinstance(layer, kinds.Slice)
    value: Value = builder.tensor(call.inputs[0])
    turned = [
        axis
        for axis, entry in enumerate(entry for entry in layer.index if entry is not None)
        if entry == (None, None, -1)
    ]
    key: list[Any] = [slice(*entry) if isinstance(entry, tuple) else entry for entry in layer.index]
    if builder.dialect.major == 3:
        key = [slice(None) if entry == slice(None, None, -1) else entry for entry in key]
        if any(isinstance(entry, slice) and (entry.step or 1) < 0 for entry in key):
            raise UnsupportedModelError("Keras' PyTorch backend takes no slice that runs backwards")
        if turned and all(entry == slice(None) for entry in key):
            _function(builder, call, "flip", (value,), axis=turned)
            return
        if turned:
            value = builder.function(builder.free(f"{layer.name}_flip"), "flip", (value,), {"axis": turned})
    _function(builder, call, "get_item", (value, key))


def _step_is_unmasked(builder: Builder, call: Call) -> None:
    """Compute Masking's mask: whether any feature differs from the value."""
    layer = call.layer
    assert isinstance(layer, kinds.StepIsUnmasked)
    tensor = builder.tensor(call.inputs[0])
    differs = builder.function(
        builder.free(f"{layer.name}_not_equal"), "not_equal", (tensor, np.array(layer.value)), {}
    )
    builder.specs[differs] = (builder.shapes[call.inputs[0]], "bool")
    ref = builder.function(builder.name_of(call), "any", (differs,), {"axis": -1, "keepdims": False})
    builder.returns(call, ref, form="bool")


def _activate(builder: Builder, call: Call) -> None:
    layer = call.layer
    assert isinstance(layer, kinds.Activate)
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
        _function(builder, call, "log_softmax", (tensor,), axis=layer.axis)
        return
    if layer.activation == Activation("gelu", (("approximate", 1.0),)):
        _function(builder, call, "gelu", (tensor,), approximate=True)
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


def _attention(builder: Builder, call: Call) -> None:
    layer = call.layer
    assert isinstance(layer, kinds.Attention)
    refs = [builder.tensor(tensor, unmasked=True) for tensor in call.inputs]
    kwargs: dict[str, Any] = {}
    if any(mask is not None for mask in call.masks):
        kwargs["mask"] = [None if mask is None else builder.tensor(mask) for mask in call.masks[:2]]
    kwargs |= {"use_causal_mask": True} if layer.causal else {}
    kwargs |= {"return_attention_scores": True} if layer.return_scores else {}
    part = KINDS[kinds.Attention](layer, builder.place(call))
    builder.returns(call, builder.layer(layer.name, part, Inbound((refs,), kwargs)), masked=bool(call.masks))


_HEAD_MASKS = ("query_mask", "value_mask", "key_mask", "attention_mask")


def _multi_head(builder: Builder, call: Call) -> None:
    """Give it one mask of queries and values, which Keras 2 and 3 take alike."""
    layer = call.layer
    assert isinstance(layer, kinds.MultiHeadAttention)
    query, value, *key = (builder.tensor(tensor, unmasked=True) for tensor in call.inputs)
    kwargs: dict[str, Any] = {"value": value} if builder.dialect.major == 2 else {}
    if key:
        kwargs["key"] = key[0]
    mask = _joint_mask(builder, call)
    kwargs |= {} if mask is None else {"attention_mask": mask}
    kwargs |= {"use_causal_mask": True} if layer.causal else {}
    kwargs |= {"return_attention_scores": True} if layer.return_scores else {}
    part = KINDS[kinds.MultiHeadAttention](layer, builder.place(call))
    args = (query,) if builder.dialect.major == 2 else (query, value)
    builder.returns(call, builder.layer(layer.name, part, Inbound(args, kwargs)))


def _joint_mask(builder: Builder, call: Call) -> Ref | None:
    """Return the mask ``(batch, query steps, value steps)``: what all masks together leave."""
    steps, all_ = slice(None), slice(None)
    joint: Ref | None = None
    for name, mask in zip(_HEAD_MASKS, call.masks, strict=False):
        if mask is None:
            continue
        ref = builder.tensor(mask)
        if name != "attention_mask":
            key = [all_, steps, None] if name == "query_mask" else [all_, None, steps]
            own = builder.free(f"{call.layer.name}_{name}")
            ref = builder.function(own, "get_item", (ref, key), {})
            batch, time = builder.shapes[mask]
            builder.specs[ref] = ((batch, time, 1) if name == "query_mask" else (batch, 1, time), "bool")
        if joint is not None:
            shapes = [builder.specs[each][0] for each in (joint, ref)]
            ref = builder.function(builder.free(f"{call.layer.name}_mask"), "logical_and", (joint, ref), {})
            rows, columns = ((a if a != 1 else b) for a, b in zip(shapes[0][1:], shapes[1][1:], strict=True))
            builder.specs[ref] = ((shapes[0][0], rows, columns), "bool")
        joint = ref
    return joint


def _time_distributed(builder: Builder, call: Call) -> None:
    layer = call.layer
    assert isinstance(layer, TimeDistributed)
    part = stepwise(layer, builder)
    tensor = builder.tensor(call.inputs[0], unmasked=True)
    builder.returns(call, builder.layer(layer.name, part, Inbound((tensor,), {})))


HANDLERS: Handlers = {
    **dict.fromkeys(KINDS, _plain),
    kinds.LayerNormalization: _layer_normalization,
    kinds.Pooling: _pooling,
    kinds.Constant: _constant,
    kinds.Operation: _operation,
    kinds.Cast: _cast,
    kinds.Reduce: _reduce,
    kinds.Stacking: _stacking,
    kinds.Concatenate: _concatenate,
    kinds.Permute: _permute,
    kinds.Reshape: _reshape,
    kinds.Pad: _pad,
    kinds.Crop: _crop,
    kinds.Slice: _slice,
    kinds.StepIsUnmasked: _step_is_unmasked,
    kinds.Activate: _activate,
    kinds.Attention: _attention,
    kinds.MultiHeadAttention: _multi_head,
    LSTMLayer: call_recurrent,
    RecurrentLayer: call_recurrent,
    Stack: call_stack,
    TimeDistributed: _time_distributed,
}
