"""The computations of Keras' attention layers, with masks.

Sources: keras/src/layers/attention/{attention,additive_attention,multi_head_attention}.py (3.15) and
keras/src/backend/*/nn.py dot_product_attention, tf_keras/src/layers/attention (2.21).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lstmconv.activations import Activation
from lstmconv.model import kinds

__all__ = ["attention", "multi_head_attention"]

Array: TypeAlias = npt.NDArray[Any]
Float64: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]

_SOFTMAX = Activation("softmax")
_FAR = 1e9
"""The number that is subtracted from a masked score (attention.py _apply_scores)."""


def _weights(scores: Float64, allowed: Mask | None) -> Float64:
    """Return the softmax over the allowed steps; if no step is allowed, all steps count equally.

    In float32, scores minus 1e9 are equal to each other, and so are scores replaced by a large negative number.
    """
    return _SOFTMAX(scores if allowed is None else np.where(allowed, scores, -_FAR))


def _causal(queries: int, values: int) -> Mask:
    """Return the causal mask ``(queries, values)``: no query sees a later value."""
    return np.tri(queries, values, dtype=bool)


def _both(a: Mask | None, b: Mask | None) -> Mask | None:
    if a is None or b is None:
        return b if a is None else a
    return np.logical_and(a, b)


def _parts(inputs: Sequence[Array]) -> tuple[Float64, Float64, Float64]:
    """Return query, value and key; without a key, the value is used."""
    arrays = [np.asarray(array, np.float64) for array in inputs]
    return arrays[0], arrays[1], arrays[2] if len(arrays) > 2 else arrays[1]


def _mask(masks: Sequence[Mask | None], number: int) -> Mask | None:
    mask = masks[number] if len(masks) > number else None
    return None if mask is None else np.asarray(mask, bool)


def attention(layer: kinds.Attention, inputs: Sequence[Array], masks: Sequence[Mask | None]) -> tuple[Float64, ...]:
    """Compute Attention or AdditiveAttention: the context, and the weights with return_scores."""
    query, value, key = _parts(inputs)
    scale = 1.0 if layer.scale is None else np.asarray(layer.scale, np.float64)
    if layer.score == "dot":
        scores = query @ key.swapaxes(-1, -2) * scale
    else:
        sums = query[..., :, None, :] + key[..., None, :, :]
        if layer.score == "additive":
            scores = (scale * np.tanh(sums)).sum(axis=-1)
        else:
            scores = np.asarray(layer.concat_score_weight, np.float64) * np.tanh(scale * sums).sum(axis=-1)
    counted = _mask(masks, 1)
    allowed = None if counted is None else counted[..., None, :]
    allowed = _both(allowed, _causal(*scores.shape[-2:]) if layer.causal else None)
    weights = _weights(scores, allowed)
    context = weights @ value
    shown = _mask(masks, 0)
    if shown is not None:
        context = np.where(shown[..., None], context, 0.0)
    return (context, weights) if layer.return_scores else (context,)


def multi_head_attention(
    layer: kinds.MultiHeadAttention, inputs: Sequence[Array], masks: Sequence[Mask | None]
) -> tuple[Float64, ...]:
    """Compute MultiHeadAttention: the context, and with return_scores the weights ``(batch, heads, query, value)``."""
    given = zip(
        _parts(inputs),
        (layer.query_kernel, layer.value_kernel, layer.key_kernel),
        (layer.query_bias, layer.value_bias, layer.key_bias),
        strict=True,
    )
    query, value, key = (_projected(x, kernel, bias) for x, kernel, bias in given)
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    rows, columns, keys = (_mask(masks, number) for number in range(3))
    allowed = _both(
        None if rows is None else rows[:, None, :, None], None if columns is None else columns[:, None, None, :]
    )
    allowed = _both(allowed, None if keys is None else keys[:, None, None, :])
    explicit = _mask(masks, 3)
    if explicit is not None:
        allowed = _both(allowed, explicit[:, None] if explicit.ndim == 3 else explicit)
    weights = _weights(scores, _both(allowed, _causal(*scores.shape[-2:]) if layer.causal else None))
    context = np.einsum("bnqh,nho->bqo", weights @ value, np.asarray(layer.output_kernel, np.float64), optimize=True)
    if layer.output_bias is not None:
        context = context + np.asarray(layer.output_bias, np.float64)
    return (context, weights) if layer.return_scores else (context,)


def _projected(x: Float64, kernel: Array, bias: Array | None) -> Float64:
    """Return the projection for all heads, ``(batch, heads, steps, size)``."""
    features, heads, size = kernel.shape
    flat = x @ np.asarray(kernel, np.float64).reshape(features, heads * size)
    if bias is not None:
        flat = flat + np.asarray(bias, np.float64).reshape(-1)
    return flat.reshape(*x.shape[:-1], heads, size).swapaxes(1, 2)
