"""How each kind of layer becomes nodes: one function a kind, in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from lstmconv.formats.onnx.writer.calls import CallWriter, Value
from lstmconv.formats.onnx.writer.kinds import (
    attention,
    combining,
    convolution,
    dense,
    masking,
    normalizing,
    shaping,
)
from lstmconv.model import kinds

__all__ = ["WRITERS", "Writer"]

Writer: TypeAlias = "Callable[[CallWriter, Any], list[Value]]"
"""Adds the nodes of one call of a layer of its kind, and returns the outputs."""

WRITERS: Mapping[type[kinds.Kind], Writer] = {
    kinds.Dense: dense.dense,
    kinds.Embedding: dense.embedding,
    kinds.Activate: dense.activate,
    kinds.PReLU: dense.prelu,
    kinds.Rescaling: dense.rescaling,
    kinds.Normalization: dense.normalization,
    kinds.Identity: dense.identity,
    kinds.Convolution: convolution.convolution,
    kinds.TransposedConvolution: convolution.transposed_convolution,
    kinds.Pooling: convolution.pooling,
    kinds.GlobalPooling: convolution.global_pooling,
    kinds.BatchNormalization: normalizing.batch_normalization,
    kinds.LayerNormalization: normalizing.layer_normalization,
    kinds.UnitNormalization: normalizing.unit_normalization,
    kinds.Reshape: shaping.reshape,
    kinds.Permute: shaping.permute,
    kinds.RepeatVector: shaping.repeat_vector,
    kinds.Pad: shaping.pad,
    kinds.Crop: shaping.crop,
    kinds.Upsample: shaping.upsample,
    kinds.Slice: shaping.slice_,
    kinds.Merge: combining.merge,
    kinds.Concatenate: combining.concatenate,
    kinds.Stacking: combining.stacking,
    kinds.Dot: combining.dot,
    kinds.Constant: combining.constant,
    kinds.Operation: combining.operation,
    kinds.Cast: combining.cast,
    kinds.Reduce: combining.reduce,
    kinds.MaskSteps: masking.mask_steps,
    kinds.StepIsUnmasked: masking.step_is_unmasked,
    kinds.Attention: attention.attention,
    kinds.MultiHeadAttention: attention.multi_head_attention,
}
"""Every kind but TimeDistributed, which runs a model, and Unknown, which nobody runs."""
