"""Wrong scales, heads and orders of query, key and value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lstmconv.model import Call, kinds
from lstmconv.proof.models.kinds.option import Option, Rules, Shapes, changed_inputs
from lstmconv.proof.models.variants import Found
from lstmconv.semantics.graph import compute

__all__ = ["RULES"]


def _attention(layer: kinds.Attention, shapes: Shapes) -> Iterator[Option]:
    if layer.scale is not None:
        yield Option("scale dropped", "multiply by it", replace(layer, scale=None))
    if layer.score == "dot":

        def divided(call: Call, inputs: Sequence[Any], states: Any, masks: Sequence[Any]) -> Found:
            less = [inputs[0] / np.sqrt(inputs[0].shape[-1]), *inputs[1:]]
            return compute(call.layer, less, None, masks)

        yield Option("scores divided by the root of their size", "divide by nothing", divided)
    yield _other_causality(layer)
    if len(shapes) > 2:
        fix = "the value comes before the key"
        yield Option("key and value exchanged", fix, changed_inputs(lambda inputs: [inputs[0], inputs[2], inputs[1]]))


def _other_causality(layer: Any) -> Option:
    text = "later steps seen" if layer.causal else "later steps not seen"
    fix = "a query sees " + ("no later steps" if layer.causal else "all steps")
    return Option(text, fix, replace(layer, causal=not layer.causal))


def _multi_head(layer: kinds.MultiHeadAttention, _: Shapes) -> Iterator[Option]:
    for name in ("query", "key", "value"):
        kernel = getattr(layer, f"{name}_kernel")
        features, heads, size = kernel.shape
        if min(heads, size) > 1:
            mixed = kernel.swapaxes(1, 2).reshape(features, heads, size)
            yield Option(f"heads of the {name} kernel interleaved", "a head's columns stand together",
                         replace(layer, **{f"{name}_kernel": mixed}))  # fmt: skip
    for name in ("query", "key", "value", "output"):
        if getattr(layer, f"{name}_bias") is not None:
            bare: dict[str, Any] = {f"{name}_bias": None}
            yield Option(f"{name} bias dropped", "write it", replace(layer, **bare))
    for first, second in (("query", "key"), ("key", "value")):
        if layer.arrays[f"{first}_kernel"].shape == layer.arrays[f"{second}_kernel"].shape:
            swapped: dict[str, Any] = {}
            for name, other in ((first, second), (second, first)):
                swapped |= {f"{name}_{array}": getattr(layer, f"{other}_{array}") for array in ("kernel", "bias")}
            yield Option(f"{first} and {second} weights exchanged", "query, key, value", replace(layer, **swapped))
    size = np.sqrt(layer.query_kernel.shape[-1])
    scaled: dict[str, Any] = {"query_kernel": np.asarray(layer.query_kernel, np.float64) * size}
    if layer.query_bias is not None:
        scaled["query_bias"] = np.asarray(layer.query_bias, np.float64) * size
    yield Option("scores not divided", "divide by the root of the key's size", replace(layer, **scaled))
    yield _other_causality(layer)


RULES: Rules = {
    kinds.Attention: _attention,
    kinds.MultiHeadAttention: _multi_head,
}
