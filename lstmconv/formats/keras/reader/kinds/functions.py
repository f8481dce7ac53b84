"""The functions that lstmconv computes, one row each, by the names that Keras 3 and TensorFlow give them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from lstmconv.activations import ACTIVATIONS, Activation, parse_activation
from lstmconv.formats.keras.reader.kinds.entry import NOTHING, NotUnderstoodError, is_integer
from lstmconv.formats.keras.reader.kinds.indexing import parse_index
from lstmconv.formats.keras.reader.kinds.options import pair
from lstmconv.formats.keras.reader.kinds.steps import Arguments, Operand, Step, constant, joined
from lstmconv.model.kinds import (
    Activate,
    Cast,
    Concatenate,
    Constant,
    Operation,
    Pad,
    Permute,
    Reduce,
    Reshape,
    Slice,
    Stacking,
    UnitNormalization,
)

__all__ = ["FUNCTIONS", "Function"]


class Function(NamedTuple):
    """One function.

    Attributes:
        names: Keras 3's class in small letters, then TensorFlow's names and those of its nodes.
        build: Makes the records.
        parameters: Those that may be given by position, in their order.
        renamed: What Keras 3 and TensorFlow call a parameter otherwise.
        defaults: Of parameters; one that is not positional stands here only.
        defaults_in_keras: Where those of Keras 3 differ.
    """

    names: tuple[str, ...]
    build: Callable[[Arguments], tuple[Step, ...]]
    parameters: tuple[str, ...] = ("x",)
    renamed: Mapping[str, str] = NOTHING
    defaults: Mapping[str, Any] = NOTHING
    defaults_in_keras: Mapping[str, Any] = NOTHING


_X = dict.fromkeys(("input", "input_tensor", "tensor", "a", "features", "logits", "t"), "x")
_XY = {"x1": "x", "x2": "y", "a": "x", "b": "y"}


def _binary(function: str, *aliases: str) -> Function:
    def build(arguments: Arguments) -> tuple[Step, ...]:
        x, y = arguments.values["x"], arguments.values["y"]
        if function == "divide" and any(isinstance(each, Operand) and "float" not in each.dtype for each in (x, y)):
            raise NotUnderstoodError("a division of whole numbers")
        return joined(arguments, Operation(arguments.name, function), (x, y))

    return Function((function, *aliases), build, ("x", "y"), _XY)


def _unary(function: str, *aliases: str) -> Function:
    def build(arguments: Arguments) -> tuple[Step, ...]:
        return (Step(Operation(arguments.name, function), (arguments.tensor("x"),)),)

    return Function((function, *aliases), build, renamed=_X)


def _turned(name: str, rank: int) -> Permute:
    """Return the exchange of the last two axes."""
    return Permute(name, (*range(rank - 2), rank - 1, rank - 2))


def _matmul(arguments: Arguments) -> tuple[Step, ...]:
    steps: list[Step] = []
    inputs: list[Operand | int] = []
    for side in ("x", "y"):
        operand = arguments.tensor(side)
        inputs.append(operand)
        if arguments.values[f"transpose_{side}"]:
            steps.append(Step(_turned(f"{arguments.name}/{side}", arguments.rank(side)), (operand,)))
            inputs[-1] = len(steps) - 1
    return (*steps, Step(Operation(arguments.name, "matmul"), tuple(inputs)))


_Reduction: TypeAlias = Literal["sum", "mean", "max", "min", "all", "any"]


def _reduction(function: _Reduction) -> Function:
    def build(arguments: Arguments) -> tuple[Step, ...]:
        axes = arguments.axes("axis", arguments.rank("x"))
        reduce = Reduce(arguments.name, function, axes, bool(arguments.values["keepdims"]))
        return (Step(reduce, (arguments.tensor("x"),)),)

    return Function(
        (function, f"reduce_{function}"), build, ("x", "axis", "keepdims"), _X, {"axis": None, "keepdims": False}
    )


def _activate(arguments: Arguments, activation: Activation) -> tuple[Step, ...]:
    axis = arguments.values.get("axis")
    axis = -1 if axis is None else axis
    if not is_integer(axis):
        raise NotUnderstoodError(f"an activation along the axes {axis!r}")
    return (Step(Activate(arguments.name, activation, axis), (arguments.tensor("x"),)),)


def _activation(name: str, *aliases: str) -> Function:
    """One without options, or along an axis."""
    along = {"axis": -1} if ACTIVATIONS[name].coupled else NOTHING
    parameters = ("x", *along)
    return Function((name, *aliases), lambda given: _activate(given, parse_activation(name, 3)), parameters, _X, along)


def _formed(name: str, option: str, default: float, *aliases: str) -> Function:
    """One with a number."""

    def build(arguments: Arguments) -> tuple[Step, ...]:
        values = {**ACTIVATIONS[kept].defaults, option: arguments.number(option)}
        return _activate(arguments, Activation(kept, tuple(values.items())))

    kept = "relu" if name == "leaky_relu" else name
    renamed = {**_X, "alpha": option} if option == "negative_slope" else _X
    return Function((name, *aliases), build, ("x", option), renamed, {option: default})


def _gelu(arguments: Arguments) -> tuple[Step, ...]:
    approximate = 1.0 if arguments.values["approximate"] else 0.0
    return _activate(arguments, Activation("gelu", (("approximate", approximate),)))


def _silu(arguments: Arguments) -> tuple[Step, ...]:
    if arguments.number("beta") != 1:
        raise NotUnderstoodError(f"silu with beta {arguments.values['beta']}")
    return _activate(arguments, parse_activation("silu", 3))


def _relu6(arguments: Arguments) -> tuple[Step, ...]:
    return _activate(arguments, parse_activation("relu6", 3))


def _cast(arguments: Arguments) -> tuple[Step, ...]:
    dtype = arguments.values["dtype"]
    if not isinstance(dtype, str) or not dtype.startswith(("float", "bfloat", "int", "uint", "bool")):
        raise NotUnderstoodError(f"a cast to {dtype!r:.40}")
    wanted = "float32" if dtype.startswith(("float", "bfloat")) else dtype
    return (Step(Cast(arguments.name, wanted), (arguments.tensor("x"),)),)


def _slice(arguments: Arguments) -> tuple[Step, ...]:
    index = parse_index(arguments.values["key"], arguments.rank("x"))
    return (Step(Slice(arguments.name, index), (arguments.tensor("x"),)),)


_WHOLE = (None, None, None)


def _expand_dims(arguments: Arguments) -> tuple[Step, ...]:
    rank = arguments.rank("x")
    axis = arguments.axis("axis", rank + 1)
    index = (*(_WHOLE,) * axis, None, *(_WHOLE,) * (rank - axis))
    return (Step(Slice(arguments.name, index), (arguments.tensor("x"),)),)


def _squeeze(arguments: Arguments) -> tuple[Step, ...]:
    operand, rank = arguments.tensor("x"), arguments.rank("x")
    sizes = operand.shape or ()
    if arguments.values["axis"] in (None, [], ()):
        if None in sizes:
            raise NotUnderstoodError(f"squeeze without an axis of a tensor {sizes}")
        dropped = tuple(axis for axis, size in enumerate(sizes) if size == 1)
    else:
        dropped = arguments.axes("axis", rank)
    if any(sizes[axis] not in (1, None) for axis in dropped):
        raise NotUnderstoodError(f"squeeze along axes {dropped} of a tensor {sizes}")
    index = tuple(0 if axis in dropped else _WHOLE for axis in range(rank))
    return (Step(Slice(arguments.name, index), (operand,)),)


def _transpose(arguments: Arguments) -> tuple[Step, ...]:
    rank = arguments.rank("x")
    order = tuple(reversed(range(rank))) if arguments.values["axes"] is None else arguments.axes("axes", rank)
    if sorted(order) != list(range(rank)):
        raise NotUnderstoodError(f"a transposition by {order} of {rank} axes")
    return (Step(Permute(arguments.name, order), (arguments.tensor("x"),)),)


def _swapaxes(arguments: Arguments) -> tuple[Step, ...]:
    rank = arguments.rank("x")
    first, second = arguments.axis("axis1", rank), arguments.axis("axis2", rank)
    order = list(range(rank))
    order[first], order[second] = second, first
    return (Step(Permute(arguments.name, tuple(order)), (arguments.tensor("x"),)),)


def _reshape(arguments: Arguments) -> tuple[Step, ...]:
    """Return a reshape of each sample where the shape leaves the batch open and keeps samples apart."""
    operand, shape = arguments.tensor("x"), arguments.values["shape"]
    shape = shape if isinstance(shape, list | tuple) else (shape,)
    if not all(map(is_integer, shape)) or list(shape).count(-1) > 1:
        raise NotUnderstoodError(f"a reshape to {shape!r:.60}")
    sample = (operand.shape or (None, None))[1:]
    known = [size for size in sample if size is not None]
    if shape[:1] and shape[0] == -1 and len(known) == len(sample) and math.prod(known) == math.prod(shape[1:]):
        return (Step(Reshape(arguments.name, tuple(shape[1:])), (operand,)),)
    return (Step(Reshape(arguments.name, tuple(shape), fixed_batch=True), (operand,)),)


def _listed(arguments: Arguments) -> tuple[Any, ...]:
    values = arguments.values["x"]
    return tuple(values) if isinstance(values, list | tuple) else (values,)


def _concatenate(arguments: Arguments) -> tuple[Step, ...]:
    operands = _listed(arguments)
    if not all(isinstance(operand, Operand) for operand in operands):
        raise NotUnderstoodError("it joins a tensor and a constant")
    axis = arguments.values["axis"]
    if not is_integer(axis):
        raise NotUnderstoodError(f"it joins along the axis {axis!r:.40}")
    return (Step(Concatenate(arguments.name, axis), operands),)


def _stack(arguments: Arguments) -> tuple[Step, ...]:
    (step,) = _concatenate(arguments)
    return (Step(Stacking(arguments.name, arguments.values["axis"]), step.inputs),)


def _clip(arguments: Arguments) -> tuple[Step, ...]:
    name, operand = arguments.name, arguments.tensor("x")
    low, high = (constant(arguments.number(bound), operand.dtype) for bound in ("low", "high"))
    return (
        Step(Constant(f"{name}/low", low), ()),
        Step(Operation(f"{name}/maximum", "maximum"), (operand, 0)),
        Step(Constant(f"{name}/high", high), ()),
        Step(Operation(name, "minimum"), (1, 2)),
    )


def _l2_normalize(arguments: Arguments) -> tuple[Step, ...]:
    axes = arguments.axes("axis", arguments.rank("x"))
    return (Step(UnitNormalization(arguments.name, axes, arguments.number("epsilon")), (arguments.tensor("x"),)),)


def _pad(arguments: Arguments) -> tuple[Step, ...]:
    amounts, mode, value = (arguments.values[name] for name in ("amounts", "mode", "value"))
    rank = arguments.rank("x")
    if str(mode).lower() != "constant":
        raise NotUnderstoodError(f"padding of mode {mode!r:.40}")
    if len(amounts) != rank:
        raise NotUnderstoodError(f"padding by {amounts!r:.60} of {rank} axes")
    number = 0.0 if value is None else arguments.number("value")
    sides = tuple(pair(each, "padding") for each in amounts)
    return (Step(Pad(arguments.name, sides, number), (arguments.tensor("x"),)),)


def _like(filled: bool) -> Callable[[Arguments], tuple[Step, ...]]:
    """Zeros or ones of a tensor's shape: whether it differs from itself, whether it equals itself."""

    def build(arguments: Arguments) -> tuple[Step, ...]:
        if arguments.values["dtype"] != "bool":
            raise NotUnderstoodError(f"zeros or ones of dtype {arguments.values['dtype']!r:.40}")
        operand = arguments.tensor("x")
        return (Step(Operation(arguments.name, "equal" if filled else "not_equal"), (operand, operand)),)

    return build


FUNCTIONS: tuple[Function, ...] = (
    _binary("add", "addv2", "add_v2"),
    _binary("subtract", "sub"),
    _binary("multiply", "mul"),
    _binary("divide", "true_divide", "truediv", "real_div"),
    _binary("floor_divide", "floordiv", "floor_div"),
    _binary("power", "pow"),
    _binary("maximum"),
    _binary("minimum"),
    _binary("equal", "eq"),
    _binary("not_equal", "ne"),
    _binary("less", "lt"),
    _binary("less_equal", "le"),
    _binary("greater", "gt"),
    _binary("greater_equal", "ge"),
    _binary("logical_and", "and"),
    _binary("logical_or", "or"),
    _unary("negative", "neg"),
    _unary("abs", "absolute"),
    _unary("square"),
    _unary("sqrt"),
    _unary("rsqrt"),
    _unary("exp"),
    _unary("log"),
    _unary("logical_not", "invert"),
    _unary("sign"),
    Function(
        ("matmul",),
        _matmul,
        ("x", "y", "transpose_x", "transpose_y"),
        {**_XY, "transpose_a": "transpose_x", "transpose_b": "transpose_y"},
        {"transpose_x": False, "transpose_y": False},
    ),
    _reduction("sum"),
    _reduction("mean"),
    _reduction("max"),
    _reduction("min"),
    _reduction("all"),
    _reduction("any"),
    _activation("relu"),
    _activation("sigmoid"),
    _activation("tanh"),
    _activation("selu"),
    _activation("softplus"),
    _activation("softsign"),
    _activation("softmax"),
    _activation("log_softmax"),
    _activation("log_sigmoid"),
    _activation("mish"),
    _activation("hard_silu", "hard_swish"),
    _activation("hard_tanh"),
    _activation("hard_sigmoid"),
    _formed("leaky_relu", "negative_slope", 0.2),
    _formed("elu", "alpha", 1.0),
    _formed("celu", "alpha", 1.0),
    Function(("relu6", "relu_6"), _relu6, renamed=_X),
    Function(("gelu",), _gelu, ("x", "approximate"), _X, {"approximate": False}, {"approximate": True}),
    Function(("silu", "swish"), _silu, ("x", "beta"), _X, {"beta": 1.0}),
    Function(("cast",), _cast, ("x", "dtype"), _X),
    Function(("get_item", "getitem"), _slice, ("x", "key"), {**_X, "slice_spec": "key"}),
    Function(("expand_dims",), _expand_dims, ("x", "axis"), _X),
    Function(("squeeze",), _squeeze, ("x", "axis"), _X, {"axis": None}),
    Function(("transpose",), _transpose, ("x", "axes"), {**_X, "perm": "axes"}, {"axes": None}),
    Function(("swapaxes",), _swapaxes, ("x", "axis1", "axis2")),
    Function(("reshape",), _reshape, ("x", "shape"), {**_X, "newshape": "shape"}),
    Function(("concatenate", "concat"), _concatenate, ("x", "axis"), {"xs": "x", "values": "x"}, {"axis": 0}),
    Function(("stack",), _stack, ("x", "axis"), {"values": "x"}, {"axis": 0}),
    Function(
        ("clip", "clip_by_value"),
        _clip,
        ("x", "low", "high"),
        {**_X, "x_min": "low", "x_max": "high", "clip_value_min": "low", "clip_value_max": "high"},
    ),
    Function(("l2_normalize",), _l2_normalize, ("x", "axis", "epsilon"), _X, {"axis": None, "epsilon": 1e-12}),
    Function(
        ("pad",),
        _pad,
        ("x", "amounts", "mode", "value"),
        {**_X, "pad_width": "amounts", "paddings": "amounts", "constant_values": "value"},
        {"mode": "constant", "value": None},
    ),
    Function(("zeros_like",), _like(filled=False), ("x", "dtype"), _X, {"dtype": None}),
    Function(("ones_like",), _like(filled=True), ("x", "dtype"), _X, {"dtype": None}),
)
