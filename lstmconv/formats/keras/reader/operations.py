"""Functions that stand between layers: Keras 3's operations, tf.keras' operator layers.

Sources: keras/src/ops/{numpy,nn,core}.py (3.x: one class a function, its own arguments in the config), tf_keras
src/layers/core/tf_op_layer.py (TFOpLambda, SlicingOpLambda), tensorflow 2.0 to 2.3 base_layer.py (TensorFlowOpLayer).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from lstmconv.activations import parse_activation
from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.keras.names import snake_case
from lstmconv.formats.keras.reader.nodes import tensor_value
from lstmconv.model import Array, Shape
from lstmconv.model.kinds import Activate, Cast, Concatenate, Kind, Operation, Permute, Reduce, Reshape, Slice, Stacking

__all__ = ["Operand", "function_of", "operation_kind"]

Operand: TypeAlias = "Array | None"
"""An operand that stands in the config, or ``None`` for one that is a tensor."""


_ALL = (None, None, None)
"""All of an axis."""
_NO_ARGUMENTS = ("name", "function", "trainable", "out", "dtype_policy", "node_def", "constants")
_BINARY = {
    "add": "add", "addv2": "add", "subtract": "subtract", "sub": "subtract", "multiply": "multiply", "mul": "multiply",
    "truediv": "divide", "divide": "divide", "realdiv": "divide", "true_divide": "divide", "div": "divide",
    "floordiv": "floor_divide", "floor_divide": "floor_divide", "power": "power", "pow": "power", "maximum": "maximum",
    "minimum": "minimum", "matmul": "matmul", "equal": "equal", "not_equal": "not_equal", "less": "less",
    "less_equal": "less_equal", "greater": "greater", "greater_equal": "greater_equal", "logical_and": "logical_and",
    "logical_or": "logical_or",
}  # fmt: skip
_UNARY = {
    "negative": "negative", "neg": "negative", "abs": "abs", "absolute": "abs", "square": "square", "sqrt": "sqrt",
    "rsqrt": "rsqrt", "exp": "exp", "log": "log", "logical_not": "logical_not", "sign": "sign",
}  # fmt: skip
_REDUCTIONS = {
    **{name: name for name in ("sum", "mean", "max", "min", "all", "any")},
    **{f"reduce_{name}": name for name in ("sum", "mean", "max", "min", "all", "any")},
}
_ACTIVATIONS = {
    "relu",
    "sigmoid",
    "tanh",
    "softmax",
    "elu",
    "selu",
    "softplus",
    "softsign",
    "gelu",
    "swish",
    "silu",
    "leaky_relu",
}


def function_of(class_name: str, config: Mapping[str, Any]) -> str:
    """Return the bare name of a function: ``not_equal`` of NotEqual, ``multiply`` of ``tf.math.multiply``."""
    if class_name in ("TFOpLambda", "SlicingOpLambda"):
        return str(config.get("function", "")).rsplit(".", 1)[-1]
    if class_name == "TensorFlowOpLayer":
        definition = config.get("node_def")
        name = str(definition.get("op", "")) if isinstance(definition, Mapping) else ""
        return snake_case(name)
    return snake_case(class_name)


class _Called(NamedTuple):
    """One call of a function.

    Attributes:
        name: What the record is to be called.
        function: See :func:`function_of`.
        args: Positional arguments, each tensor as ``None``.
        named: Keyword arguments, and those that an operation of Keras 3 keeps in its config.
        shapes: Of the tensors.
    """

    name: str
    function: str
    args: Sequence[Any]
    named: Mapping[str, Any]
    shapes: Sequence[Shape | None]

    @property
    def rank(self) -> int:
        """Axes of the first tensor."""
        shape = self.shapes[0] if self.shapes else None
        if shape is None:
            raise UnsupportedModelError("its input's number of axes is not known")
        return len(shape)

    def argument(self, *names: str, default: Any = None) -> Any:
        """Return the second argument, by its place or one of its names."""
        if len(self.args) > 1:
            return self.args[1]
        return next((self.named[name] for name in names if name in self.named), default)

    def listed(self) -> Sequence[Any]:
        """Return the tensors that a function joins."""
        listed = self.args[0] if self.args else self.named.get("xs", self.named.get("values", self.named.get("x")))
        return listed if isinstance(listed, list | tuple) else list(self.args)


_Made: TypeAlias = "tuple[Kind, tuple[Operand, ...]]"


def operation_kind(
    name: str,
    function: str,
    config: Mapping[str, Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    shapes: Sequence[Shape | None],
) -> tuple[Kind, tuple[Operand, ...]]:
    """Return what a function computes, and its operands: those that are ``None`` are the tensors, in their order.

    Args:
        name: What the record is to be called.
        function: See :func:`function_of`.
        config: An operation of Keras 3 keeps its own arguments here.
        args: Positional arguments, each tensor as ``None``.
        kwargs: Likewise.
        shapes: Of the tensors.

    Raises:
        UnsupportedModelError: The function, or one of its arguments, is not known.
    """
    named = {key: value for key, value in {**config, **kwargs}.items() if key not in _NO_ARGUMENTS}
    called = _Called(name, function, args, named, shapes)
    made = _elementwise(called)
    if made is None and function in _REDUCTIONS:
        made = _reduction(called), (None,)
    if made is None and function in _RULES:
        made = _RULES[function](called)
    if made is None:
        raise UnsupportedModelError(f"{function or 'a function without a name'} is not among what lstmconv computes")
    return made


def _elementwise(called: _Called) -> _Made | None:
    """Read arithmetic, comparisons, and activations."""
    function, named = called.function, called.named
    if function in _BINARY:
        operands = [*called.args, *(named[key] for key in ("x1", "x2", "x", "y", "a", "b") if key in named)]
        if len(operands) == 2:
            return Operation(called.name, _BINARY[function]), tuple(_operand(each) for each in operands)
    if len(called.args) > 1:
        return None
    if function in _UNARY:
        return Operation(called.name, _UNARY[function]), (None,)
    if function in _ACTIVATIONS and not set(named) - {"axis", "x", "features"}:
        return Activate(called.name, parse_activation(function, 3), int(named.get("axis", -1))), (None,)
    if function in ("zeros_like", "ones_like") and str(named.get("dtype")) == "bool":
        return Operation(called.name, "not_equal" if function == "zeros_like" else "equal"), (None, None)
    return None


def _cast(called: _Called) -> _Made:
    return Cast(called.name, _dtype(called.argument("dtype"))), (None,)


def _get_item(called: _Called) -> _Made:
    return Slice(called.name, _index(called.argument("slice_spec", "key"), called.rank)), (None,)


def _expand_dims(called: _Called) -> _Made:
    every: list[Any] = [_ALL] * called.rank
    every.insert(_axis(called.argument("axis"), called.rank + 1), None)
    return Slice(called.name, tuple(every)), (None,)


def _squeeze(called: _Called) -> _Made:
    axes = called.argument("axis")
    dropped = {_axis(axis, called.rank) for axis in (axes if isinstance(axes, list | tuple) else [axes])}
    return Slice(called.name, tuple(0 if axis in dropped else _ALL for axis in range(called.rank))), (None,)


def _transpose(called: _Called) -> _Made:
    order = called.argument("axes", "perm")
    order = list(reversed(range(called.rank))) if order is None else order
    return Permute(called.name, tuple(_axis(axis, called.rank) for axis in order)), (None,)


def _concatenate(called: _Called) -> _Made:
    axis = called.argument("axis", default=0)
    return Concatenate(called.name, int(axis)), tuple(_operand(each) for each in called.listed())


def _stack(called: _Called) -> _Made:
    axis = called.argument("axis", default=0)
    return Stacking(called.name, int(axis)), tuple(_operand(each) for each in called.listed())


def _reshape(called: _Called) -> _Made:
    """Read a shape that includes the batch; one that leaves it open is a reshape of each sample."""
    shape, name = called.argument("newshape", "shape"), called.name
    if not isinstance(shape, list | tuple) or not all(isinstance(size, int) for size in shape):
        raise UnsupportedModelError(f"a shape is {shape!r:.60}")
    given = called.shapes[0] if called.shapes else None
    sizes = [size for size in given[1:] if size is not None] if given else []
    fixed = given is not None and len(sizes) == len(given) - 1
    if shape and shape[0] == -1 and fixed and math.prod(shape[1:]) == math.prod(sizes):
        return Reshape(name, tuple(shape[1:])), (None,)
    return Reshape(name, tuple(shape), fixed_batch=True), (None,)


_RULES: Mapping[str, Callable[[_Called], _Made]] = {
    "cast": _cast, "getitem": _get_item, "get_item": _get_item, "expand_dims": _expand_dims, "squeeze": _squeeze,
    "transpose": _transpose, "concatenate": _concatenate, "concat": _concatenate, "stack": _stack, "reshape": _reshape,
}  # fmt: skip


def _operand(value: Any) -> Operand:
    if value is None:
        return None
    found = tensor_value(value)
    if found is None:
        raise UnsupportedModelError(f"an operand is {value!r:.60}")
    return found


def _axis(axis: Any, rank: int) -> int:
    if not isinstance(axis, int) or not -rank <= axis < rank:
        raise UnsupportedModelError(f"an axis is {axis!r:.40}")
    return axis % rank


def _dtype(value: Any) -> str:
    if not isinstance(value, str):
        raise UnsupportedModelError(f"a dtype is {value!r:.40}")
    return "float32" if value.startswith(("float", "bfloat")) else value


def _reduction(called: _Called) -> Reduce:
    axes, rank = called.argument("axis"), called.rank
    listed = range(rank) if axes is None else axes if isinstance(axes, list | tuple) else [axes]
    function: Any = _REDUCTIONS[called.function]
    keepdims = bool(called.named.get("keepdims", False))
    return Reduce(called.name, function, tuple(_axis(axis, rank) for axis in listed), keepdims)


def _index(key: Any, rank: int) -> tuple[int | tuple[int | None, int | None, int | None] | None, ...]:
    """Read a key of ``x[key]``, one entry an axis; an ellipsis stands for all axes that are not named."""
    entries = list(key) if isinstance(key, list | tuple) else [key]
    named = sum(each is not None and not _is_ellipsis(each) for each in entries)
    found: list[Any] = []
    for each in entries:
        if _is_ellipsis(each):
            found += [_ALL] * (rank - named)
        else:
            found.append(_index_entry(each))
    return tuple(found + [_ALL] * (rank - sum(each is not None for each in found)))


def _is_ellipsis(value: Any) -> bool:
    return (
        value is Ellipsis
        or value == "..."
        or (isinstance(value, Mapping) and value.get("class_name") == "__ellipsis__")
    )


def _index_entry(value: Any) -> Any:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, slice):
        parts: Sequence[Any] = (value.start, value.stop, value.step)
    elif isinstance(value, Mapping) and {"start", "stop", "step"} <= set(value):
        parts = (value["start"], value["stop"], value["step"])
    else:
        raise UnsupportedModelError(f"an index is {value!r:.60}")
    if not all(part is None or isinstance(part, int) for part in parts):
        raise UnsupportedModelError(f"an index is {value!r:.60}")
    return tuple(parts)
