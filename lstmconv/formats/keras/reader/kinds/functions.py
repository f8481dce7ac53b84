"""The table of functions that lstmconv computes, with their names in Keras 3 and TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from lstmconv.activations import ACTIVATIONS, Activation, parse_activation
from lstmconv.formats.keras.reader.kinds import rearranging
from lstmconv.formats.keras.reader.kinds.entry import NOTHING, NotUnderstoodError, is_integer
from lstmconv.formats.keras.reader.kinds.steps import Arguments, Operand, Step, constant, joined
from lstmconv.model.kinds import (
    Activate,
    Cast,
    Constant,
    Identity,
    Operation,
    Permute,
    Reduce,
    UnitNormalization,
)

__all__ = ["FUNCTIONS", "Function"]


class Function(NamedTuple):
    """One function.

    Attributes:
        names: Keras 3's class in snake case, then the names of TensorFlow's functions and graph nodes.
        build: Makes the steps.
        parameters: The positional parameters, in order.
        renamed: Other names of parameters in Keras 3 and TensorFlow.
        defaults: The defaults of parameters; keyword-only parameters are listed only here.
        defaults_in_keras: The defaults of Keras 3 that differ.
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
    """Return a transposition of the last two axes."""
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
    """Return the row of an activation without options, or with an axis."""
    along = {"axis": -1} if ACTIVATIONS[name].coupled else NOTHING
    parameters = ("x", *along)
    return Function((name, *aliases), lambda given: _activate(given, parse_activation(name, 3)), parameters, _X, along)


def _formed(name: str, option: str, default: float, *aliases: str) -> Function:
    """Return the row of an activation with one numeric option."""

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
    if dtype in ("float16", "bfloat16"):
        raise NotUnderstoodError(f"a cast to {dtype}, which rounds")
    wanted = "float32" if dtype.startswith("float") else dtype
    return (Step(Cast(arguments.name, wanted), (arguments.tensor("x"),)),)


def _clip(arguments: Arguments) -> tuple[Step, ...]:
    name, operand = arguments.name, arguments.tensor("x")
    low, high = (constant(arguments.number(bound), operand.dtype) for bound in ("low", "high"))
    return (
        Step(Constant(f"{name}/low", low), ()),
        Step(Operation(f"{name}/maximum", "maximum"), (operand, 0)),
        Step(Constant(f"{name}/high", high), ()),
        Step(Operation(name, "minimum"), (1, 2)),
    )


def _as_it_is(arguments: Arguments) -> tuple[Step, ...]:
    if arguments.values["dtype"] is not None:
        return _cast(arguments)
    return (Step(Identity(arguments.name, "identity"), (arguments.tensor("x"),)),)


def _l2_normalize(arguments: Arguments) -> tuple[Step, ...]:
    axes = arguments.axes("axis", arguments.rank("x"))
    return (Step(UnitNormalization(arguments.name, axes, arguments.number("epsilon")), (arguments.tensor("x"),)),)


def _like(filled: bool) -> Callable[[Arguments], tuple[Step, ...]]:
    """Build zeros or ones of a tensor's shape, as a comparison of the tensor with itself."""

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
    Function(("identity", "stop_gradient", "convert_to_tensor"), _as_it_is, ("x", "dtype"), _X, {"dtype": None}),
    Function(("cast",), _cast, ("x", "dtype"), _X),
    Function(("get_item", "getitem"), rearranging.index, ("x", "key"), {**_X, "slice_spec": "key"}),
    Function(("expand_dims",), rearranging.expand_dims, ("x", "axis"), _X),
    Function(("squeeze",), rearranging.squeeze, ("x", "axis"), _X, {"axis": None}),
    Function(("flip", "reverse"), rearranging.flip, ("x", "axis"), _X, {"axis": None}),
    Function(("transpose",), rearranging.transpose, ("x", "axes"), {**_X, "perm": "axes"}, {"axes": None}),
    Function(("swapaxes",), rearranging.swapaxes, ("x", "axis1", "axis2")),
    Function(("reshape",), rearranging.reshape, ("x", "shape"), {**_X, "newshape": "shape"}),
    Function(
        ("concatenate", "concat"), rearranging.concatenate, ("x", "axis"), {"xs": "x", "values": "x"}, {"axis": 0}
    ),
    Function(("stack",), rearranging.stack, ("x", "axis"), {"values": "x"}, {"axis": 0}),
    Function(
        ("clip", "clip_by_value"),
        _clip,
        ("x", "low", "high"),
        {**_X, "x_min": "low", "x_max": "high", "clip_value_min": "low", "clip_value_max": "high"},
    ),
    Function(("l2_normalize",), _l2_normalize, ("x", "axis", "epsilon"), _X, {"axis": None, "epsilon": 1e-12}),
    Function(
        ("pad",),
        rearranging.pad,
        ("x", "amounts", "mode", "value"),
        {**_X, "pad_width": "amounts", "paddings": "amounts", "constant_values": "value"},
        {"mode": "constant", "value": None},
    ),
    Function(("zeros_like",), _like(filled=False), ("x", "dtype"), _X, {"dtype": None}),
    Function(("ones_like",), _like(filled=True), ("x", "dtype"), _X, {"dtype": None}),
)
