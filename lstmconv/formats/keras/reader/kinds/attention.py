"""Attention layers.

Sources: tf_keras/src/layers/attention (2.16), keras/src/layers/attention (3.15).
"""

from __future__ import annotations

from typing import Any

from lstmconv.formats.keras.reader.kinds import masks
from lstmconv.formats.keras.reader.kinds.entry import REQUIRED, NotUnderstoodError, is_integer
from lstmconv.formats.keras.reader.kinds.row import Place, Row, Variable
from lstmconv.model.kinds import Attention, MultiHeadAttention

__all__ = ["ROWS"]

_CALL = {"use_causal_mask": False, "return_attention_scores": False}


def _dot_variables(place: Place) -> tuple[Variable, ...]:
    scale = (Variable("scale", ((),)),) if place.options["use_scale"] else ()
    concat = (Variable("concat_score_weight", ((),)),) if place.options["score_mode"] == "concat" else ()
    return (*scale, *concat)


def _additive_variables(place: Place) -> tuple[Variable, ...]:
    return (Variable("scale", ((place.size(-1),),)),) if place.options["use_scale"] else ()


def _attention(place: Place) -> tuple[Attention]:
    score = place.options["score_mode"]
    if score not in ("dot", "concat", "additive"):
        raise NotUnderstoodError(f"score_mode {score!r} is not computed")
    if any(len(shape) != 3 for shape in place.input_shapes):
        raise NotUnderstoodError(f"attention over inputs of shapes {place.input_shapes}")
    return (
        Attention(
            place.name,
            score,
            place.arrays.get("scale"),
            place.arrays.get("concat_score_weight"),
            causal=bool(place.options["causal"] or place.options["use_causal_mask"]),
            return_scores=bool(place.options["return_attention_scores"]),
        ),
    )


def _multi_head_variables(place: Place) -> tuple[Variable, ...]:
    """Return the variables of query, key, value and output: the order in which the layer creates them."""
    heads, depth = (place.whole(name) for name in ("num_heads", "key_dim"))
    value_depth = depth if place.options["value_dim"] is None else place.whole("value_dim")
    shapes = place.input_shapes
    query, value = shapes[0][-1], shapes[1][-1]
    key = shapes[2][-1] if len(shapes) > 2 else value
    output = place.options["output_shape"]
    if isinstance(output, list | tuple) and len(output) == 1:
        output = output[0]
    if output is not None and not is_integer(output):
        raise NotUnderstoodError(f"output_shape is {output!r}")
    parts = (
        ("query", "query_dense", (query, heads, depth), (heads, depth)),
        ("key", "key_dense", (key, heads, depth), (heads, depth)),
        ("value", "value_dense", (value, heads, value_depth), (heads, value_depth)),
        ("attention_output", "output_dense", (heads, value_depth, output or query), (output or query,)),
    )
    return tuple(
        Variable(f"{name}/{kind}", (shape,), where)
        for name, where, kernel, bias in parts
        for kind, shape in (("kernel", kernel), ("bias", bias))
        if kind == "kernel" or place.options["use_bias"]
    )


def _multi_head(place: Place) -> tuple[MultiHeadAttention]:
    axes = place.options["attention_axes"]
    if any(len(shape) != 3 for shape in place.input_shapes) or axes not in (None, 1, [1], (1,), -2, [-2], (-2,)):
        raise NotUnderstoodError(f"attention over axes {axes!r} of inputs of shapes {place.input_shapes}")
    arrays: dict[str, Any] = {
        f"{field}_{kind}": place.arrays.get(f"{part}/{kind}")
        for field, part in (("query", "query"), ("key", "key"), ("value", "value"), ("output", "attention_output"))
        for kind in ("kernel", "bias")
    }
    return (
        MultiHeadAttention(
            place.name,
            **arrays,
            causal=bool(place.options["use_causal_mask"]),
            return_scores=bool(place.options["return_attention_scores"]),
        ),
    )


ROWS = (
    Row(
        names=("Attention",),
        options={**_CALL, "use_scale": False, "score_mode": "dot", "causal": False},
        ignored=frozenset({"dropout"}),
        variables=_dot_variables,
        build=_attention,
        masks=masks.attention,
        inputs=(2, 3),
    ),
    Row(
        names=("AdditiveAttention",),
        options={**_CALL, "use_scale": True, "score_mode": "additive", "causal": False},
        ignored=frozenset({"dropout"}),
        variables=_additive_variables,
        build=_attention,
        masks=masks.attention,
        inputs=(2, 3),
    ),
    Row(
        names=("MultiHeadAttention",),
        options={
            **_CALL, "num_heads": REQUIRED, "key_dim": REQUIRED, "value_dim": None, "use_bias": True,
            "output_shape": None, "attention_axes": None,
        },
        ignored=frozenset({"dropout", "flash_attention", "query_shape", "key_shape", "value_shape"}),
        only={"use_gate": (False,), "sliding_window": (None,), "softmax_robust_masking": (False,)},
        variables=_multi_head_variables,
        build=_multi_head,
        masks=masks.multi_head,
        inputs=(2, 3),
    ),
)  # fmt: skip
