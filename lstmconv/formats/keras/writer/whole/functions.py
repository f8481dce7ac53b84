"""The functions of tensors that a model is written with: operations of Keras 3, TensorFlow's own in Keras 2.

Sources: keras/src/ops/{numpy,core,math,nn}.py (3.3 to 3.15); tf_keras/src/layers/core/tf_op_layer.py (2.21).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from lstmconv.formats.keras.writer.dialect import Dialect
from lstmconv.formats.keras.writer.nodes import FUNCTION_LAYERS, OPERATIONS, Inbound, Part

__all__ = ["FUNCTIONS", "called"]


class Function(NamedTuple):
    """One function.

    Attributes:
        keras: The class of Keras 3, with its module: ``numpy.Add``.
        tensorflow: The symbol below ``tf``.
        second: What TensorFlow calls a second tensor.
        options: What TensorFlow calls an option that Keras calls otherwise.
    """

    keras: str
    tensorflow: str
    second: str = "y"
    options: Mapping[str, str] = {}


FUNCTIONS: Mapping[str, Function] = {
    "add": Function("numpy.Add", "math.add"),
    "subtract": Function("numpy.Subtract", "math.subtract"),
    "multiply": Function("numpy.Multiply", "math.multiply"),
    "divide": Function("numpy.TrueDivide", "math.truediv"),
    "floor_divide": Function("numpy.FloorDivide", "math.floordiv"),
    "power": Function("numpy.Power", "math.pow"),
    "maximum": Function("numpy.Maximum", "math.maximum"),
    "minimum": Function("numpy.Minimum", "math.minimum"),
    "matmul": Function("numpy.Matmul", "linalg.matmul", "b"),
    "equal": Function("numpy.Equal", "math.equal"),
    "not_equal": Function("numpy.NotEqual", "math.not_equal"),
    "less": Function("numpy.Less", "math.less"),
    "less_equal": Function("numpy.LessEqual", "math.less_equal"),
    "greater": Function("numpy.Greater", "math.greater"),
    "greater_equal": Function("numpy.GreaterEqual", "math.greater_equal"),
    "logical_and": Function("numpy.LogicalAnd", "math.logical_and"),
    "logical_or": Function("numpy.LogicalOr", "math.logical_or"),
    "negative": Function("numpy.Negative", "math.negative"),
    "abs": Function("numpy.Absolute", "math.abs"),
    "square": Function("numpy.Square", "math.square"),
    "sqrt": Function("numpy.Sqrt", "math.sqrt"),
    "rsqrt": Function("math.Rsqrt", "math.rsqrt"),
    "exp": Function("numpy.Exp", "math.exp"),
    "log": Function("numpy.Log", "math.log"),
    "logical_not": Function("numpy.LogicalNot", "math.logical_not"),
    "sign": Function("numpy.Sign", "math.sign"),
    "sum": Function("numpy.Sum", "math.reduce_sum"),
    "mean": Function("numpy.Mean", "math.reduce_mean"),
    "max": Function("numpy.Max", "math.reduce_max"),
    "min": Function("numpy.Min", "math.reduce_min"),
    "all": Function("numpy.All", "math.reduce_all"),
    "any": Function("numpy.Any", "math.reduce_any"),
    "cast": Function("core.Cast", "cast"),
    "concatenate": Function("numpy.Concatenate", "concat"),
    "stack": Function("numpy.Stack", "stack"),
    "transpose": Function("numpy.Transpose", "transpose", options={"axes": "perm"}),
    "reshape": Function("numpy.Reshape", "reshape", options={"newshape": "shape"}),
    "pad": Function("numpy.Pad", "pad", options={"pad_width": "paddings"}),
    "flip": Function("numpy.Flip", "reverse"),
    "get_item": Function("numpy.GetItem", "__operators__.getitem", "slice_spec"),
    "softmax": Function("nn.Softmax", "nn.softmax"),
    "log_softmax": Function("nn.LogSoftmax", "nn.log_softmax"),
    "gelu": Function("nn.Gelu", "nn.gelu"),
}


def called(
    function: str, dialect: Dialect, tensors: tuple[Any, ...], options: Mapping[str, Any]
) -> tuple[Part, Inbound]:
    """Return the layer or operation that computes a function, and its call.

    Args:
        function: A key of :data:`FUNCTIONS`.
        dialect: Who reads it.
        tensors: One or two tensors or constants, a list of them, or a tensor and an index.
        options: As Keras 3's class names them.
    """
    row = FUNCTIONS[function]
    if dialect.major == 3:
        module, class_name = row.keras.split(".")
        return Part(class_name, options, module=f"{OPERATIONS}.{module}"), Inbound(tensors, {})
    first, *rest = tensors
    kwargs: dict[str, Any] = dict.fromkeys([row.second], rest[0]) if rest else {}
    kwargs |= {row.options.get(name, name): value for name, value in options.items() if value is not None}
    return Part(FUNCTION_LAYERS[function == "get_item"], {"function": row.tensorflow}), Inbound((first,), kwargs)
