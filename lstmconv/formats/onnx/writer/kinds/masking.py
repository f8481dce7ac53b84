"""Keras' Masking: the mask that it computes, and the steps that it sets to zero."""

from __future__ import annotations

from lstmconv.formats.onnx.writer.calls import CallWriter, Value
from lstmconv.model.kinds import MaskSteps, StepIsUnmasked

__all__ = ["mask_steps", "step_is_unmasked"]


def _differs(call: CallWriter, value: float, *, keepdims: bool) -> Value:
    """Return whether any feature of a step differs from a value."""
    same = call.add("Equal", [call.float_x, call.number(value)], "same")
    other = Value(call.add("Not", [same], "other"), "bool", call.x.shape)
    found = call.reduce("Max", call.cast(other, "int"), [call.x.rank - 1], "any", keepdims=keepdims)
    return Value(found, "int", ())


def step_is_unmasked(call: CallWriter, layer: StepIsUnmasked) -> list[Value]:
    """Return the mask ``(batch, time)``."""
    return [call.value(call.cast(_differs(call, layer.value, keepdims=False), "bool"), "bool")]


def mask_steps(call: CallWriter, layer: MaskSteps) -> list[Value]:
    """Multiply masked steps by 0, the others by 1, as Keras does."""
    kept = call.cast(_differs(call, layer.value, keepdims=True), "float")
    return [call.value(call.add("Mul", [call.float_x, kept], "masked"))]
