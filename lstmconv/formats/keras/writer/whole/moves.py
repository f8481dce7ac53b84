"""Calls that move, cut or pad places and compute nothing: layers of Keras where it has them, else functions."""

from __future__ import annotations

from typing import Any

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.keras.writer.nodes import Inbound, Part, Value
from lstmconv.formats.keras.writer.whole.building import Builder
from lstmconv.formats.keras.writer.whole.plain import plain
from lstmconv.model import Call, kinds

__all__ = ["crop", "pad", "permute", "reshape", "take"]


def permute(builder: Builder, call: Call, layer: kinds.Permute) -> None:
    """Permute as a layer, which takes numbers and leaves the batch where it is, or transpose."""
    if layer.order[0] == 0 and builder.forms.get(call.inputs[0]) == "float":
        plain(builder, call, layer)
        return
    builder.compute(call, "transpose", (builder.tensor(call.inputs[0]),), axes=list(layer.order))


def reshape(builder: Builder, call: Call, layer: kinds.Reshape) -> None:
    """Flatten, Reshape, or the function where the batch is part of the shape."""
    tensor = builder.tensor(call.inputs[0])
    if layer.fixed_batch or builder.forms.get(call.inputs[0]) != "float":
        shape = list(layer.shape) if layer.fixed_batch else [-1, *layer.shape]
        builder.compute(call, "reshape", (tensor,), newshape=shape)
        return
    flat = layer.shape == (-1,)
    part = Part("Flatten", {"data_format": "channels_last"}) if flat else Part("Reshape", {"target_shape": layer.shape})
    ref = builder.layer(layer.name, part, Inbound((tensor,), {}))
    builder.returns(call, ref, masked=builder.may_be_masked(call.inputs))


def _spatial(builder: Builder, call: Call, layer: kinds.Pad | kinds.Crop, option: str, names: str) -> bool:
    """Write padding or cropping as a layer, where it leaves the batch and the channels alone."""
    amounts = layer.amounts
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
    ref = builder.layer(layer.name, Part(f"{names}{rank}D", options), inbound)
    builder.returns(call, ref, masked=builder.may_be_masked(call.inputs))
    return True


def pad(builder: Builder, call: Call, layer: kinds.Pad) -> None:
    """Pad by a layer, which takes zeros, or by a function."""
    if layer.value == 0 and _spatial(builder, call, layer, "padding", "ZeroPadding"):
        return
    tensor = builder.tensor(call.inputs[0])
    mode = "constant" if builder.dialect.major == 3 else "CONSTANT"
    ref = builder.function(
        builder.name_of(call), "pad", (tensor,), {"pad_width": [list(pair) for pair in layer.amounts], "mode": mode}
    )
    if layer.value:
        inbound = builder.nodes[ref.node].calls[ref.call]
        inbound.kwargs = {**inbound.kwargs, "constant_values": layer.value}
    builder.returns(call, ref, form=builder.form_of(call))


def crop(builder: Builder, call: Call, layer: kinds.Crop) -> None:
    """Crop by a layer, or take a slice."""
    if _spatial(builder, call, layer, "cropping", "Cropping"):
        return
    key = [slice(before, -after if after else None, None) for before, after in layer.amounts]
    builder.compute(call, "get_item", (builder.tensor(call.inputs[0]), key))


def take(builder: Builder, call: Call, layer: kinds.Slice) -> None:
    """Take places; Keras 3 turns axes round before, since PyTorch takes no negative steps."""
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
            builder.compute(call, "flip", (value,), axis=turned)
            return
        if turned:
            value = builder.function(builder.free(f"{layer.name}_flip"), "flip", (value,), {"axis": turned})
    builder.compute(call, "get_item", (value, key))
