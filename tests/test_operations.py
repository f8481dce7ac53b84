"""Functions between layers become records: Keras 3's operations live, tf.keras' operator layers by their configs."""

from __future__ import annotations

import dataclasses
import json

import keras
import numpy as np
import pytest
from keras import ops

from lstmconv.formats.keras.reader.kinds import LayerEntry
from lstmconv.formats.keras.reader.kinds.operations import build_operation
from lstmconv.formats.keras.reader.kinds.steps import Operand
from lstmconv.model import kinds

SHAPE = (None, 5, 3)
WHOLE = (None, None, None)


def marked(value):
    """Put an operand wherever a config of Keras 3 has a tensor."""
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        return Operand(0, tuple(value["config"]["shape"]), value["config"]["dtype"])
    return [marked(each) for each in value] if isinstance(value, list) else value


def live(function, dtype="float32"):
    """Call an operation of real Keras 3 and read the last one of its model."""
    x = keras.Input(SHAPE[1:], dtype=dtype)
    described = json.loads(keras.Model(x, function(x)).to_json())["config"]["layers"][-1]
    (node,) = described["inbound_nodes"]
    entry = LayerEntry("f", described["class_name"], described["config"])
    return build_operation(entry, marked(node["args"]), marked(node["kwargs"]))


def stated(layer):
    values = {field.name: getattr(layer, field.name) for field in dataclasses.fields(layer) if field.name != "name"}
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}


ONE_RECORD = [
    (lambda x: x + x, kinds.Operation, {"function": "add"}),
    (lambda x: -x, kinds.Operation, {"function": "negative"}),
    (ops.abs, kinds.Operation, {"function": "abs"}),
    (ops.rsqrt, kinds.Operation, {"function": "rsqrt"}),
    (lambda x: ops.matmul(x, x[:, :3]), kinds.Operation, {"function": "matmul"}),
    (lambda x: ops.mean(x, axis=1), kinds.Reduce, {"function": "mean", "axes": (1,), "keepdims": False}),
    (
        lambda x: ops.sum(x, axis=(1, -1), keepdims=True),
        kinds.Reduce,
        {"function": "sum", "axes": (1, 2), "keepdims": True},
    ),
    (lambda x: ops.softmax(x, axis=1), kinds.Activate, {"axis": 1}),
    (lambda x: ops.cast(x, "bool"), kinds.Cast, {"dtype": "bool"}),
    (lambda x: ops.cast(x, "float32"), kinds.Cast, {"dtype": "float32"}),
    (lambda x: x[:, 1:4], kinds.Slice, {"index": (WHOLE, (1, 4, None), WHOLE)}),
    (lambda x: x[:, -1], kinds.Slice, {"index": (WHOLE, -1, WHOLE)}),
    (lambda x: x[..., 0], kinds.Slice, {"index": (WHOLE, WHOLE, 0)}),
    (lambda x: x[:, None, ::2], kinds.Slice, {"index": (WHOLE, None, (None, None, 2), WHOLE)}),
    (lambda x: ops.expand_dims(x, -1), kinds.Slice, {"index": (WHOLE, WHOLE, WHOLE, None)}),
    (lambda x: ops.squeeze(x[:, :1], 1), kinds.Slice, {"index": (WHOLE, 0, WHOLE)}),
    (lambda x: ops.transpose(x, (0, 2, 1)), kinds.Permute, {"order": (0, 2, 1)}),
    (lambda x: ops.swapaxes(x, 1, -1), kinds.Permute, {"order": (0, 2, 1)}),
    (lambda x: ops.reshape(x, (-1, 15)), kinds.Reshape, {"shape": (15,), "fixed_batch": False}),
    (lambda x: ops.reshape(x, (-1, 3)), kinds.Reshape, {"shape": (-1, 3), "fixed_batch": True}),
    (lambda x: ops.concatenate([x, x], axis=-1), kinds.Concatenate, {"axis": -1}),
    (lambda x: ops.stack([x, x], axis=1), kinds.Stacking, {"axis": 1}),
    (
        lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 0))),
        kinds.Pad,
        {"amounts": ((0, 0), (1, 2), (0, 0)), "value": 0.0},
    ),
]


@pytest.mark.parametrize(("function", "kind", "options"), ONE_RECORD)
def test_an_operation_of_keras_3_becomes_one_record(function, kind, options):
    (step,) = live(function)
    assert type(step.layer) is kind
    assert {name: stated(step.layer)[name] for name in options} == options
    assert step.layer.name == "f"


WITH_CONSTANTS = [
    (lambda x: x + 2, "add", 2.0, ["x", 0]),
    (lambda x: 3.0 - x, "subtract", 3.0, [0, "x"]),
    (lambda x: x / 2, "divide", 2.0, ["x", 0]),
    (lambda x: x // 2, "floor_divide", 2.0, ["x", 0]),
    (lambda x: x**2, "power", 2.0, ["x", 0]),
    (lambda x: ops.maximum(x, 0.5), "maximum", 0.5, ["x", 0]),
    (lambda x: x > 0, "greater", 0.0, ["x", 0]),
]


@pytest.mark.parametrize(("function", "name", "number", "order"), WITH_CONSTANTS)
def test_a_number_beside_a_tensor_is_a_constant_of_its_type(function, name, number, order):
    constant, result = live(function)
    assert (constant.layer.value.dtype, constant.layer.value.tolist(), constant.inputs) == ("float32", number, ())
    assert result.layer.function == name
    assert [each if isinstance(each, int) else "x" for each in result.inputs] == order


def test_a_number_beside_token_ids_is_a_whole_number():
    constant, _ = live(lambda x: ops.not_equal(x, 0), "int32")
    assert (constant.layer.value.dtype, constant.layer.value.tolist()) == ("int32", 0)


@pytest.mark.parametrize(
    ("function", "name", "parameters"),
    [
        (ops.gelu, "gelu", {"approximate": 1.0}),
        (lambda x: ops.gelu(x, approximate=False), "gelu", {"approximate": 0.0}),
        (ops.hard_sigmoid, "hard_sigmoid", {"alpha": 1 / 6, "beta": 0.5}),
        (ops.silu, "silu", {}),
        (lambda x: ops.elu(x, alpha=0.3), "elu", {"alpha": 0.3}),
        (lambda x: ops.leaky_relu(x, 0.1), "relu", {"negative_slope": 0.1}),
        (ops.relu6, "relu", {"max_value": 6.0}),
    ],
)
def test_an_activation_is_exact(function, name, parameters):
    (step,) = live(function)
    assert step.layer.activation.name == name
    assert {key: step.layer.activation[key] for key in parameters} == parameters


def test_clip_is_a_maximum_and_a_minimum():
    steps = live(lambda x: ops.clip(x, -1, 1.5))
    found = [stated(step.layer).get("function", stated(step.layer).get("value")) for step in steps]
    assert found == [-1.0, "maximum", 1.5, "minimum"]
    assert [[each for each in step.inputs if isinstance(each, int)] for step in steps] == [[], [0], [], [1, 2]]


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: ops.where(x > 0, x, 0.0), "the function Where is not among those that lstmconv computes"),
        (lambda x: ops.repeat(x, 2, axis=1), "the function Repeat is not among those that lstmconv computes"),
        (lambda x: ops.pad(x, ((0, 0), (1, 1), (0, 0)), "reflect"), "padding of mode 'reflect'"),
    ],
)
def test_an_operation_that_is_not_known_is_named(function, reason):
    (step,) = live(function)
    assert (type(step.layer), step.layer.reason) == (kinds.Unknown, reason)
    assert step.inputs


ALL_STEPS = {"start": None, "stop": None, "step": None}
X, Y = Operand(0, SHAPE), Operand(1, SHAPE)


def tf(function, *args, class_name="TFOpLambda", **kwargs):
    """Read an operator layer as tf_keras 2.16 writes it."""
    config = {"name": "tf", "trainable": True, "dtype": "float32", "function": function}
    return build_operation(LayerEntry("f", class_name, config), args, kwargs)


@pytest.mark.parametrize(
    ("steps", "kind", "options"),
    [
        (tf("__operators__.add", X, y=Y, name=None), kinds.Operation, {"function": "add"}),
        (tf("math.reduce_mean", X, axis=1), kinds.Reduce, {"function": "mean", "axes": (1,)}),
        (tf("math.reduce_sum", X, axis=-1, keepdims=True), kinds.Reduce, {"axes": (2,), "keepdims": True}),
        (tf("concat", [X, Y], axis=-1), kinds.Concatenate, {"axis": -1}),
        (tf("stack", [X, Y], axis=1), kinds.Stacking, {"axis": 1}),
        (tf("reshape", X, shape=[-1, 15]), kinds.Reshape, {"shape": (15,)}),
        (tf("compat.v1.transpose", X, perm=[0, 2, 1], conjugate=False), kinds.Permute, {"order": (0, 2, 1)}),
        (tf("transpose", X, perm=[0, 2, 1]), kinds.Permute, {"order": (0, 2, 1)}),
        (tf("expand_dims", X, axis=1), kinds.Slice, {"index": (WHOLE, None, WHOLE, WHOLE)}),
        (tf("cast", X, dtype="int64"), kinds.Cast, {"dtype": "int64"}),
        (tf("nn.softmax", X, axis=None), kinds.Activate, {"axis": -1}),
        (tf("math.l2_normalize", X, axis=-1), kinds.UnitNormalization, {"axes": (2,), "epsilon": 1e-12}),
        (
            tf("__operators__.getitem", X, class_name="SlicingOpLambda", slice_spec=[ALL_STEPS, -1]),
            kinds.Slice,
            {"index": (WHOLE, -1, WHOLE)},
        ),
    ],
)  # fmt: skip
def test_an_operator_layer_of_tf_keras_becomes_one_record(steps, kind, options):
    (step,) = steps
    assert type(step.layer) is kind
    assert {name: stated(step.layer)[name] for name in options} == options


def test_a_transposed_product_turns_its_operand_first():
    turned, product = tf("linalg.matmul", X, b=Y, transpose_b=True)
    assert (turned.layer.order, turned.inputs) == ((0, 2, 1), (Y,))
    assert (product.layer.function, product.inputs) == ("matmul", (X, 0))


def test_gelu_of_tensorflow_is_exact_by_default():
    (step,) = tf("nn.gelu", X)
    assert step.layer.activation["approximate"] == 0.0


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        (tf("where", X, x=Y, y=0), "the function tf.where is not among those that lstmconv computes"),
        (tf("random.add", X, y=Y), "the function tf.random.add is not among those that lstmconv computes"),
        (tf("linalg.matmul", X, b=Y, adjoint_b=True), "the argument adjoint_b (True) is not known"),
        (tf("nn.silu", X, beta=0.5), "silu with beta 0.5"),
        (tf("reshape", X, shape=[Y, 15]), "a reshape to"),
        (tf("math.reduce_mean", X, axis=7), "the argument axis is 7, expected axes of 3"),
        (tf("squeeze", X, axis=1), "squeeze along axes (1,) of a tensor (None, 5, 3)"),
        (tf("math.add", 1, y=2), "none of its arguments is a tensor"),
        (tf("math.add", X), "the argument y is missing"),
        (tf("math.add", X, y={"a": 1}), "{'a': 1} is not an array of numbers"),
    ],
)
def test_a_call_that_is_not_understood_is_named(steps, reason):
    (step,) = steps
    assert type(step.layer) is kinds.Unknown
    assert step.layer.reason.startswith(reason)


def node(op, constants, attr, *tensors):
    """Read a node as TensorFlow 2.3 writes it."""
    definition = {"name": "n", "op": op, "input": ["x", "n/y"], "attr": attr}
    config = {"name": "n", "node_def": json.dumps(definition), "constants": constants}
    return build_operation(LayerEntry("f", "TensorFlowOpLayer", config), list(tensors), {})


FLOAT = {"T": {"type": "DT_FLOAT"}}


def test_a_node_of_tensorflow_takes_constants_at_their_places():
    constant, result = node("Sub", {"0": 2.0}, FLOAT, X)
    assert (constant.layer.value.tolist(), result.layer.function, result.inputs) == (2.0, "subtract", (0, X))


@pytest.mark.parametrize(
    ("steps", "kind", "options"),
    [
        (node("AddV2", {}, FLOAT, [X, Y]), kinds.Operation, {"function": "add"}),
        (
            node("Mean", {"1": [1]}, {**FLOAT, "keep_dims": {"b": True}, "Tidx": {"type": "DT_INT32"}}, X),
            kinds.Reduce,
            {"function": "mean", "axes": (1,), "keepdims": True},
        ),
        (
            node("ConcatV2", {"2": -1}, {**FLOAT, "N": {"i": "2"}, "Tidx": {"type": "DT_INT32"}}, [X, Y]),
            kinds.Concatenate,
            {"axis": -1},
        ),
        (node("Pack", {}, {**FLOAT, "N": {"i": "2"}, "axis": {"i": "1"}}, [X, Y]), kinds.Stacking, {"axis": 1}),
        (node("ExpandDims", {"1": 1}, FLOAT, X), kinds.Slice, {"index": (WHOLE, None, WHOLE, WHOLE)}),
        (node("Cast", {}, {"DstT": {"type": "DT_INT64"}, "Truncate": {"b": False}}, X), kinds.Cast, {"dtype": "int64"}),
        (
            node(
                "StridedSlice",
                {"1": [0, -1], "2": [0, 0], "3": [1, 1]},
                {**FLOAT, "begin_mask": {"i": "1"}, "end_mask": {"i": "1"}, "shrink_axis_mask": {"i": "2"}},
                X,
            ),
            kinds.Slice,
            {"index": ((None, None, 1), -1, WHOLE)},
        ),
    ],
)  # fmt: skip
def test_a_node_of_tensorflow_becomes_one_record(steps, kind, options):
    (step,) = steps
    assert type(step.layer) is kind
    assert {name: stated(step.layer)[name] for name in options} == options


def test_an_attribute_that_is_not_known_is_named():
    (step,) = node("Relu", {}, {**FLOAT, "clip": {"f": 3.0}}, X)
    assert step.layer.reason == "the node Relu has the attribute clip"
