"""Calls that are one layer of Keras."""

from __future__ import annotations

import numpy as np

from lstmconv.formats.keras.writer.nodes import Inbound, Ref
from lstmconv.formats.keras.writer.whole.building import Builder
from lstmconv.formats.keras.writer.whole.kinds import KINDS
from lstmconv.model import Call, kinds

__all__ = ["plain"]


def plain(builder: Builder, call: Call, layer: kinds.Kind) -> None:
    """Call one layer of Keras on its only input, or on a list of all."""
    part = KINDS[type(layer)](layer, builder.place(call))
    joins = isinstance(layer, kinds.Merge | kinds.Dot)
    averages = isinstance(layer, kinds.GlobalPooling)
    refs = [builder.tensor(tensor, unmasked=joins or averages) for tensor in call.inputs]
    mask = {"mask": builder.tensor(call.masks[0])} if call.masks and call.masks[0] is not None else {}
    if mask and averages and builder.dialect.major == 3:
        refs = [_copied(builder, layer.name, refs[0])]
    inbound = Inbound((refs,) if joins else (refs[0],), mask)
    ref = builder.layer(layer.name, part, inbound, builder.shapes[call.inputs[0]])
    masked = not averages and builder.may_be_masked(call.inputs)
    builder.returns(call, ref, masked=masked or isinstance(layer, kinds.MaskSteps))


def _copied(builder: Builder, name: str, ref: Ref) -> Ref:
    """Copy what a masked average is taken of: Keras 3 to 3.11 on PyTorch sets its masked steps to zero in place.

    Source: ``inputs *= mask`` in keras/src/layers/pooling/global_average_pooling1d.py.
    """
    copy = builder.function(builder.free(f"{name}_copy"), "add", (ref, np.zeros(())), {})
    builder.specs[copy] = builder.specs[ref]
    return copy
