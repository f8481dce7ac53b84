"""The inputs of a layer's call as expressions, with their shapes and types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from lstmconv.model import Array, Layer, Shape, kinds
from lstmconv.model.kinds import Kind

__all__ = ["Read", "Type", "type_of"]

Type: TypeAlias = Literal["float", "int", "bool", "other"]
"""The type of a tensor's numbers: ``float`` is the model's own float type, ``other`` another float type."""


class Read(NamedTuple):
    """The inputs of a call as expressions, with their shapes and types.

    Attributes:
        me: The layer's module: ``self.dense``.
        inputs, masks: The expressions; ``None`` for a missing mask.
        shapes, types: The shapes and types of the inputs.
        output: The shape of the first output.
        wide: The method that converts a tensor to the model's float type: ``float``, ``double``.
        constant: Adds an array of the config to the model under a name, and returns the expression for it.
    """

    me: str
    inputs: tuple[str, ...]
    masks: tuple[str | None, ...]
    shapes: tuple[Shape, ...]
    types: tuple[Type, ...]
    output: Shape
    wide: str
    constant: Callable[[str, Array], str]


def type_of(layer: Layer, types: tuple[Type, ...]) -> Type:
    """Return the type of a layer's output."""
    if isinstance(layer, Kind):
        rule = _RULES.get(type(layer))
        if rule is not None:
            return rule(layer, types)
        if isinstance(layer, _SAME):
            return _joined(types)
    return "float"


def _joined(types: tuple[Type, ...]) -> Type:
    for one in ("float", "other", "int"):
        if one in types:
            return one
    return types[0] if types else "float"


_SAME = (kinds.Identity, kinds.Reshape, kinds.Permute, kinds.RepeatVector, kinds.Pad, kinds.Crop, kinds.Upsample,
         kinds.Slice, kinds.Concatenate, kinds.Stacking, kinds.MaskSteps, kinds.Activate, kinds.Pooling,
         kinds.Dot, kinds.UnitNormalization)  # fmt: skip
"""Kinds whose output has the type of the input, or the widest type of several inputs."""
_BOOLEAN = (*kinds.COMPARISONS, "logical_and", "logical_or", "logical_not")
_FLOATING = ("divide", "sqrt", "rsqrt", "exp", "log")


def _arithmetic(name: str, types: tuple[Type, ...]) -> Type:
    if name in _BOOLEAN:
        return "bool"
    joined = _joined(types)
    return "float" if name in _FLOATING and joined != "other" else joined


def _reduced(layer: kinds.Reduce, types: tuple[Type, ...]) -> Type:
    if layer.function in ("all", "any"):
        return "bool"
    if layer.function == "mean":
        return types[0] if types[0] == "other" else "float"
    return "int" if layer.function == "sum" and types[0] == "bool" else types[0]


def _cast(dtype: str) -> Type:
    if dtype == "float32":  # float32 stands for the model's own float type.
        return "float"
    if dtype == "bool":
        return "bool"
    return "int" if "int" in dtype else "other"


def _constant(layer: kinds.Constant, _: tuple[Type, ...]) -> Type:
    return {"b": "bool", "i": "int", "u": "int"}.get(layer.value.dtype.kind, "float")  # type: ignore[return-value]  # as above


_RULES: Mapping[type[Kind], Callable[[Any, tuple[Type, ...]], Type]] = {
    kinds.Cast: lambda layer, _: _cast(layer.dtype),
    kinds.Constant: _constant,
    kinds.Merge: lambda layer, types: _arithmetic("divide" if layer.operation == "average" else "add", types),
    kinds.Operation: lambda layer, types: _arithmetic(layer.function, types),
    kinds.Reduce: _reduced,
    kinds.StepIsUnmasked: lambda *_: "bool",
}
