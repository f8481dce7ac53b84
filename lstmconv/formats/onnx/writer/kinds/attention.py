"""Attention, AdditiveAttention and MultiHeadAttention.

Sources: keras/src/layers/attention/{attention,additive_attention,multi_head_attention}.py.
"""

from __future__ import annotations

import math

from lstmconv.formats.onnx.writer.calls import CallWriter, Value
from lstmconv.model.kinds import Attention, MultiHeadAttention

__all__ = ["attention", "multi_head_attention"]


def attention(call: CallWriter, layer: Attention) -> list[Value]:
    """Score each value step for each query step, and average the values by the softmax of the scores."""
    query, value, *rest = call.floats()
    key = rest[0] if rest else value
    scores = _scores(call, layer, query, key)
    query_mask, value_mask = (*call.masks, None, None)[:2]
    allowed = _both(call, _row(call, value_mask), _causal(call, scores) if layer.causal else None)
    if allowed is not None:
        scores = call.add("Where", [allowed, scores, call.number(call.lowest(65504.0))], "allowed")
    weights = call.add("Softmax", [scores], "weights", axis=-1)
    context = call.add("MatMul", [weights, value], "context")
    if query_mask is not None:
        column = call.unsqueezed(call.cast(query_mask, "float"), [2], "query_mask")
        context = call.add("Mul", [context, column], "masked")
    outputs = [call.value(context)]
    return [*outputs, call.value(weights, index=1)] if layer.return_scores else outputs


def _scores(call: CallWriter, layer: Attention, query: str, key: str) -> str:
    """Return ``(batch, query steps, value steps)``."""
    if layer.score == "dot":
        scores = call.add("MatMul", [query, call.moved(key, [0, 2, 1], "key.turned")], "scores")
        return scores if layer.scale is None else call.add("Mul", [scores, call.weight("scale")], "scaled")
    pairs = call.add("Add", [call.unsqueezed(query, [2], "queries"), call.unsqueezed(key, [1], "keys")], "pairs")
    scale = None if layer.scale is None else call.weight("scale")
    if layer.score == "additive":
        bent = call.add("Tanh", [pairs], "bent")
        bent = bent if scale is None else call.add("Mul", [bent, scale], "scaled")
        return call.reduce("Sum", bent, [3], "scores", keepdims=False)
    pairs = pairs if scale is None else call.add("Mul", [pairs, scale], "scaled")
    total = call.reduce("Sum", call.add("Tanh", [pairs], "bent"), [3], "total", keepdims=False)
    if layer.concat_score_weight is None:
        return total
    return call.add("Mul", [total, call.weight("concat_score_weight")], "scores")


def _row(call: CallWriter, mask: Value | None) -> str | None:
    """Return a mask of the values ``(batch, 1, value steps)``."""
    return None if mask is None else call.unsqueezed(call.cast(mask, "bool"), [1], "row")


def _both(call: CallWriter, first: str | None, second: str | None) -> str | None:
    if first is None or second is None:
        return first or second
    return call.add("And", [first, second], "both")


def _causal(call: CallWriter, scores: str) -> str:
    """Return ``(query steps, value steps)``: whether the value's step is not after the query's."""
    shape = call.add("Shape", [scores], "scores.shape")
    ranges = []
    for place, label in ((-2, "query"), (-1, "value")):
        size = call.add("Gather", [shape, call.integers(place)], f"{label}.steps", axis=0)
        ranges.append(call.add("Range", [call.integers(0), size, call.integers(1)], f"{label}.range"))
    return call.add("GreaterOrEqual", [call.unsqueezed(ranges[0], [1], "query.column"), ranges[1]], "causal")


def multi_head_attention(call: CallWriter, layer: MultiHeadAttention) -> list[Value]:
    """Project, attend in every head, and project back."""
    query, value, *rest = call.floats()
    key = rest[0] if rest else value
    heads = {name: _projected(call, layer, name, x) for name, x in (("query", query), ("key", key), ("value", value))}
    scaled = call.add("Mul", [heads["query"], call.number(1 / math.sqrt(layer.query_kernel.shape[2]))], "query.scaled")
    scores = call.add("MatMul", [scaled, call.moved(heads["key"], [0, 1, 3, 2], "key.turned")], "scores")
    allowed = _allowed(call, layer, scores)
    if allowed is not None:
        scores = call.add("Where", [allowed, scores, call.number(call.lowest(3e4))], "allowed")
    weights = call.add("Softmax", [scores], "weights", axis=-1)
    context = call.add("MatMul", [weights, heads["value"]], "context")
    joined = call.add(
        "Reshape",
        [call.moved(context, [0, 2, 1, 3], "context.by_step"), call.integers([0, 0, -1])],
        "context.joined",
    )
    y = call.add("MatMul", [joined, call.weight("output_kernel")], "output")
    if layer.output_bias is not None:
        y = call.add("Add", [y, call.weight("output_bias")], "output.sum")
    outputs = [call.value(y)]
    return [*outputs, call.value(weights, index=1)] if layer.return_scores else outputs


def _projected(call: CallWriter, layer: MultiHeadAttention, name: str, x: str) -> str:
    """Return ``(batch, heads, steps, size)``."""
    y = call.add("MatMul", [x, call.weight(f"{name}_kernel")], f"{name}.product")
    if getattr(layer, f"{name}_bias") is not None:
        y = call.add("Add", [y, call.weight(f"{name}_bias")], f"{name}.sum")
    _, heads, size = getattr(layer, f"{name}_kernel").shape
    apart = call.add("Reshape", [y, call.integers([0, 0, heads, size])], f"{name}.apart")
    return call.moved(apart, [0, 2, 1, 3], f"{name}.heads")


def _allowed(call: CallWriter, layer: MultiHeadAttention, scores: str) -> str | None:
    """Return all masks together, ``(batch, 1, query steps, value steps)`` with some sizes 1; ``None`` without any."""
    query, value, key, explicit = (*call.masks, None, None, None, None)[:4]
    found: str | None = None
    for mask, axes in ((query, [1, 3]), (value, [1, 2]), (key, [1, 2]), (explicit, [1])):
        if mask is None:
            continue
        wanted = axes if mask is not explicit or mask.rank == 3 else []
        found = _both(call, found, call.unsqueezed(call.cast(mask, "bool"), wanted, "mask"))
    return _both(call, found, _causal(call, scores) if layer.causal else None)
