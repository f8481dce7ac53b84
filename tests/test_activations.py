"""Each activation against real Keras 3 and against PyTorch, both in float64; and what a config's activation means."""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
import numpy as np
import pytest
import torch
from torch.nn import functional

from lstmconv.activations import (
    ACTIVATIONS,
    HARD_SIGMOID_KERAS_2,
    HARD_SIGMOID_KERAS_3,
    LINEAR,
    SIGMOID,
    TANH,
    Activation,
    describe_activation,
    described_activation,
    parse_activation,
)
from lstmconv.errors import UnsupportedModelError

FLOAT64_TOLERANCE = 1e-12
"""Both sides compute in float64; their exp, tanh and erf differ in the last bits, and sums of them a little more."""

# Both sides of every kink (0, +-0.5, +-1, +-2.5, +-3, 6), the kinks themselves, and the tails; softmax runs along rows.
POINTS = np.array(
    [
        [-40, -6, -3.5, -3, -2.9, -2.5],
        [-2.4, -1.5, -1, -0.9, -0.5, -0.4],
        [-0.01, 0, 0.01, 0.3, 0.5, 0.6],
        [0.9, 1, 1.1, 2.4, 2.5, 2.6],
        [3, 3.1, 5.9, 6, 6.1, 40],
    ]
)


def keras_tensor() -> torch.Tensor:
    return keras.ops.convert_to_tensor(POINTS, dtype="float64")


def assert_close(actual: np.ndarray, expected: torch.Tensor) -> None:
    np.testing.assert_allclose(
        actual, expected.detach().cpu().numpy(), rtol=FLOAT64_TOLERANCE, atol=FLOAT64_TOLERANCE, strict=True
    )


NAMES = sorted(
    {*ACTIVATIONS, "swish", "hard_swish", "leaky_relu", "relu6"}
)  # ACTIVATIONS only says which names to look up in Keras; what each computes comes from Keras.


@pytest.mark.parametrize("name", NAMES)
def test_activation_computes_what_keras_3_computes(name: str):
    assert_close(parse_activation(name, 3)(POINTS), keras.activations.get(name)(keras_tensor()))


def test_every_activation_of_keras_3_that_an_lstm_can_use_is_known():
    shipped = {name for name in dir(keras.activations) if not name.startswith("_")}
    unusable = {"get", "serialize", "deserialize", "glu", "threshold"}
    assert shipped - unusable == set(NAMES)


TORCH: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "linear": lambda x: x,
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": functional.hardsigmoid,
    "tanh": torch.tanh,
    "relu": functional.relu,
    "relu6": functional.relu6,
    "leaky_relu": lambda x: functional.leaky_relu(x, 0.2),
    "elu": functional.elu,
    "celu": functional.celu,
    "selu": functional.selu,
    "softplus": lambda x: functional.softplus(x, threshold=100),
    "softsign": functional.softsign,
    "exponential": torch.exp,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "mish": functional.mish,
    "hard_silu": functional.hardswish,
    "hard_tanh": functional.hardtanh,
    "log_sigmoid": functional.logsigmoid,
    "softmax": lambda x: functional.softmax(x, -1),
    "log_softmax": lambda x: functional.log_softmax(x, -1),
    "soft_shrink": functional.softshrink,
    "hard_shrink": functional.hardshrink,
    "tanh_shrink": functional.tanhshrink,
}


@pytest.mark.parametrize("name", TORCH)
def test_activation_computes_what_torch_computes(name: str):
    assert_close(parse_activation(name, 3)(POINTS), TORCH[name](torch.from_numpy(POINTS)))


def test_gelu_with_its_tanh_formula_computes_what_torch_computes():
    approximate = Activation("gelu", (("approximate", 1.0),))
    assert_close(approximate(POINTS), functional.gelu(torch.from_numpy(POINTS), approximate="tanh"))


def test_sigmoid_of_large_numbers_neither_overflows_nor_warns():
    np.testing.assert_array_equal(SIGMOID(np.array([[-1e4, 1e4]])), [[0.0, 1.0]])


# The two functions named hard_sigmoid


def test_hard_sigmoid_of_keras_2_by_literal_values():
    """keras/backend/theano_backend.py 2.3.1, tf_keras/src/backend.py: clip(0.2 x + 0.5, 0, 1)."""
    x = np.array([[-3.0, -2.5, -1.0, 0.0, 1.0, 2.5, 3.0]])
    expected = [[0.0, 0.0, 0.3, 0.5, 0.7, 1.0, 1.0]]
    np.testing.assert_allclose(HARD_SIGMOID_KERAS_2(x), expected, rtol=0, atol=1e-15)


def test_hard_sigmoid_of_keras_3_by_literal_values():
    """keras/src/backend/*/nn.py: relu6(x + 3) / 6."""
    x = np.array([[-3.0, -2.4, -1.2, 0.0, 1.2, 2.4, 3.0]])
    expected = [[0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0]]
    np.testing.assert_allclose(HARD_SIGMOID_KERAS_3(x), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("major", "expected"), [(0, HARD_SIGMOID_KERAS_2), (1, HARD_SIGMOID_KERAS_2), (2, HARD_SIGMOID_KERAS_2)]
)
def test_hard_sigmoid_up_to_keras_2_is_the_older_one(major: int, expected: Activation):
    assert parse_activation("hard_sigmoid", major) == expected
    assert expected["alpha"] == 0.2


def test_hard_sigmoid_from_keras_3_is_the_newer_one():
    assert parse_activation("hard_sigmoid", 3) == HARD_SIGMOID_KERAS_3
    assert parse_activation("hard_sigmoid", 4) == HARD_SIGMOID_KERAS_3
    assert HARD_SIGMOID_KERAS_3["alpha"] == 1 / 6


def test_hard_sigmoid_of_an_unknown_version_is_not_guessed():
    with pytest.raises(UnsupportedModelError, match="hard_sigmoid_keras2 or hard_sigmoid_keras3"):
        parse_activation("hard_sigmoid", None)


@pytest.mark.parametrize("major", [None, 1, 2, 3])
def test_hard_sigmoid_can_be_named_by_its_version(major: int | None):
    assert parse_activation("hard_sigmoid_keras2", major) == HARD_SIGMOID_KERAS_2
    assert parse_activation("hard_sigmoid_keras3", major) == HARD_SIGMOID_KERAS_3


# What a config says


def test_none_is_linear():
    assert parse_activation(None, 3) == LINEAR


@pytest.mark.parametrize("major", [None, 1, 2, 3])
def test_names_of_one_meaning_need_no_version(major: int | None):
    assert parse_activation("tanh", major) == TANH
    assert parse_activation("sigmoid", major) == SIGMOID


def test_swish_is_silu():
    assert parse_activation("swish", 2) == parse_activation("silu", 3) == Activation("silu")


LAYERS = [
    keras.layers.LeakyReLU(),
    keras.layers.LeakyReLU(negative_slope=0.07),
    keras.layers.ReLU(),
    keras.layers.ReLU(max_value=2.0, negative_slope=0.1, threshold=0.5),
    keras.layers.ReLU(max_value=6.0),
    keras.layers.ELU(alpha=0.6),
    keras.layers.Softmax(),
    keras.layers.Activation("gelu"),
    keras.layers.Activation("hard_sigmoid"),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_a_layer_that_stands_as_activation_computes_what_it_computes_in_keras_3(layer: keras.Layer):
    config = keras.saving.serialize_keras_object(layer)
    # A layer computes in its own dtype, float32, whatever comes in.
    float32_tolerance = 1e-6
    expected = layer(keras.ops.convert_to_tensor(POINTS, dtype="float32")).detach().cpu().numpy()
    np.testing.assert_allclose(
        parse_activation(config, 3)(POINTS), expected, rtol=float32_tolerance, atol=float32_tolerance
    )


def test_layers_of_keras_2_have_their_own_parameter_names():
    """tf_keras LeakyReLU(alpha=0.3) and ThresholdedReLU(theta=1.0), defaults included."""
    x = np.array([[-2.0, 0.5, 1.0, 1.5]])
    leaky = {"class_name": "LeakyReLU", "config": {"name": "leaky", "alpha": 0.25}}
    np.testing.assert_array_equal(parse_activation(leaky, 2)(x), [[-0.5, 0.5, 1.0, 1.5]])
    default = {"class_name": "LeakyReLU", "config": {}}
    np.testing.assert_allclose(parse_activation(default, 2)(x), [[-0.6, 0.5, 1.0, 1.5]], rtol=1e-15)
    thresholded = {"class_name": "ThresholdedReLU", "config": {"theta": 1.0}}
    np.testing.assert_array_equal(parse_activation(thresholded, 2)(x), [[0.0, 0.0, 0.0, 1.5]])


def test_a_function_may_be_serialised_as_an_object():
    value = {"module": "builtins", "class_name": "function", "config": "softsign", "registered_name": "function"}
    assert parse_activation(value, 3) == Activation("softsign")


@pytest.mark.parametrize(
    "value",
    [
        "my_activation",
        "my_package>my_activation",
        {"class_name": "function", "config": "my_activation", "registered_name": "my_package>my_activation"},
        {"module": None, "class_name": "Wavy", "config": {"frequency": 2}, "registered_name": "my_package>Wavy"},
        {"class_name": "PReLU", "config": {"shared_axes": None}},
        {"class_name": "Lambda", "config": {"function": ["4wEAAAA=", None, None]}},
    ],
    ids=["name", "registered name", "function", "class", "PReLU, which has weights", "Lambda"],
)
def test_custom_objects_are_refused(value: object):
    with pytest.raises(UnsupportedModelError, match=r"custom|is unknown; Keras has"):
        parse_activation(value, 3)


@keras.saving.register_keras_serializable("my_package", "LeakyReLU")
class NotKerasOwn(keras.layers.Layer):
    """Has the name of a layer of Keras."""

    def call(self, x: torch.Tensor) -> torch.Tensor:
        return x + 5


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (keras.layers.Softmax(axis=1), "Softmax over axis 1"),
        (keras.layers.Softmax(axis=[1, 2]), r"Softmax over axis \[1, 2\]"),
        (NotKerasOwn(), "custom object"),
    ],
    ids=["Softmax along time", "Softmax over two axes", "a class of the user's with a name of Keras'"],
)
def test_what_keras_writes_for_a_layer_that_is_no_activation_of_units_is_refused(layer: keras.Layer, why: str):
    """Of (batch, time, units), real Keras computes something else than along the units."""
    with pytest.raises(UnsupportedModelError, match=why):
        parse_activation(keras.saving.serialize_keras_object(layer), 3)


def test_an_activation_with_other_parameters_than_its_own_cannot_be_made():
    with pytest.raises(UnsupportedModelError, match="elu takes the parameters"):
        Activation("elu")
    with pytest.raises(UnsupportedModelError, match="is unknown; Keras has"):
        Activation("glu")


def test_an_activation_names_the_parameters_that_are_not_usual():
    assert str(parse_activation("relu6", 3)) == "relu(max_value=6)"
    assert str(parse_activation("relu", 3)) == "relu"
    assert str(HARD_SIGMOID_KERAS_3) == "hard_sigmoid(alpha=0.1666667, beta=0.5)"
    assert math.isinf(parse_activation("relu", 3)["max_value"])


def test_the_coupled_ones_are_those_whose_units_cannot_be_computed_alone():
    """A unit alone and among others: all but softmax and its like give the same."""
    z = np.array([[0.5, -1.5, 2.0]])
    for name in ACTIVATIONS:
        activation = Activation(name, tuple(ACTIVATIONS[name].defaults.items()))
        alone = np.concatenate([activation(z[:, k : k + 1]) for k in range(3)], axis=1)
        assert activation.coupled == (not np.array_equal(alone, activation(z))), name


@pytest.mark.parametrize(
    ("layer", "config", "named"),
    [
        ("ReLU", {"max_value": float("nan")}, "max_value of activation relu is nan"),
        ("ReLU", {"threshold": float("-inf")}, "threshold of activation relu is -inf"),
        ("LeakyReLU", {"alpha": float("inf")}, "negative_slope of activation relu is inf"),
        ("ELU", {"alpha": float("nan")}, "alpha of activation elu is nan"),
    ],
)
def test_a_parameter_that_is_no_number_is_refused(layer, config, named):
    """A record in JSON writes an unlimited max_value as null, and would read all of these back as that."""
    with pytest.raises(UnsupportedModelError, match=named):
        parse_activation({"class_name": layer, "config": config}, 3)


def test_an_unlimited_relu_is_described_and_read_back():
    unlimited = parse_activation({"class_name": "ReLU", "config": {"max_value": None}}, 3)
    assert described_activation(describe_activation(unlimited)) == unlimited
