"""Calls of attention layers, and the masks that they are given."""

from __future__ import annotations

from typing import Any

from lstmconv.formats.keras.writer.nodes import Inbound, Ref
from lstmconv.formats.keras.writer.whole.building import Builder
from lstmconv.formats.keras.writer.whole.kinds import KINDS
from lstmconv.model import Call, kinds

__all__ = ["attention", "multi_head"]


def attention(builder: Builder, call: Call, layer: kinds.Attention) -> None:
    """Give it the masks of queries and values, where there are some."""
    refs = [builder.tensor(tensor, unmasked=True) for tensor in call.inputs]
    kwargs: dict[str, Any] = {}
    if any(mask is not None for mask in call.masks):
        kwargs["mask"] = [None if mask is None else builder.tensor(mask) for mask in call.masks[:2]]
    kwargs |= {"use_causal_mask": True} if layer.causal else {}
    kwargs |= {"return_attention_scores": True} if layer.return_scores else {}
    part = KINDS[kinds.Attention](layer, builder.place(call))
    builder.returns(call, builder.layer(layer.name, part, Inbound((refs,), kwargs)), masked=bool(call.masks))


_HEAD_MASKS = ("query_mask", "value_mask", "key_mask", "attention_mask")


def multi_head(builder: Builder, call: Call, layer: kinds.MultiHeadAttention) -> None:
    """Give it one mask of queries and values, which Keras 2 and 3 take alike."""
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
