"""Layers of every class are read into records: options and arrays as real Keras 3 states and holds them."""

from __future__ import annotations

import dataclasses
from math import inf

import keras
import numpy as np
import pytest
from keras import layers

from lstmconv.activations import HARD_SIGMOID_KERAS_2, LINEAR, SIGMOID, TANH, Activation
from lstmconv.formats import open_file
from lstmconv.formats.keras.reader.config import KerasVersion
from lstmconv.formats.keras.reader.kinds import LayerEntry, build, mask_rule, per_step, variables_of
from lstmconv.model import kinds
from lstmconv.model.graph import TimeDistributed
from lstmconv.model.recurrent import RecurrentLayer

# Keras 3.15 with torch 2.12 meets NumPy 2's copy keyword.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

STEPS, FEATURES, ROWS_OF_IMAGE = 11, 4, 13
SEQUENCE = (STEPS, FEATURES)
IMAGE = (STEPS, ROWS_OF_IMAGE, FEATURES)


def relu(negative_slope=0.0, max_value=inf, threshold=0.0):
    values = {"negative_slope": negative_slope, "max_value": max_value, "threshold": threshold}
    return Activation("relu", tuple(values.items()))


def made(layer, *shapes, call=None, **call_options):
    """Call a real layer on inputs of these shapes, give it random weights, and read it."""
    inputs = [keras.Input(shape) for shape in shapes]
    (call or layer)(inputs if len(inputs) > 1 else inputs[0], **call_options)
    generator = np.random.default_rng(7)
    layer.set_weights([generator.normal(size=array.shape).astype(array.dtype) for array in layer.get_weights()])
    arrays = {weight.path: np.asarray(weight) for weight in layer.weights}
    version = KerasVersion(keras.__version__)
    entry = LayerEntry("a", type(layer).__name__, layer.get_config(), version, call_options=call_options)
    notes: list[str] = []
    found = build(entry, arrays, [(None, *shape) for shape in shapes], notes)
    assert notes == []
    return found


def options_of(record):
    """Return what a record states beside arrays."""
    values = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    return {name: value for name, value in values.items() if not isinstance(value, np.ndarray)}


ONE_RECORD = [
    (layers.Dense(3, activation="relu"), SEQUENCE, kinds.Dense, {"activation": relu()}, {"kernel": 0, "bias": 1}),
    (layers.Dense(3, use_bias=False), (5,), kinds.Dense, {"bias": None, "activation": LINEAR}, {"kernel": 0}),
    (layers.Dense(3, layers.LeakyReLU(0.25)), (5,), kinds.Dense, {"activation": relu(0.25)}, {"kernel": 0, "bias": 1}),
    (layers.Embedding(7, 3, mask_zero=True), (5,), kinds.Embedding, {}, {"table": 0}),
    (layers.Dropout(0.3), SEQUENCE, kinds.Identity, {"class_name": "Dropout"}, {}),
    (layers.SpatialDropout1D(0.3), SEQUENCE, kinds.Identity, {"class_name": "SpatialDropout1D"}, {}),
    (layers.GaussianNoise(0.3), SEQUENCE, kinds.Identity, {"class_name": "GaussianNoise"}, {}),
    (layers.GaussianDropout(0.3), SEQUENCE, kinds.Identity, {"class_name": "GaussianDropout"}, {}),
    (layers.AlphaDropout(0.3), SEQUENCE, kinds.Identity, {"class_name": "AlphaDropout"}, {}),
    (layers.ActivityRegularization(0.3), SEQUENCE, kinds.Identity, {"class_name": "ActivityRegularization"}, {}),
    (layers.Identity(), SEQUENCE, kinds.Identity, {"class_name": "Identity"}, {}),
    (layers.Masking(2.0), SEQUENCE, kinds.MaskSteps, {"value": 2.0}, {}),
    (layers.Activation("tanh"), SEQUENCE, kinds.Activate, {"activation": TANH, "axis": -1}, {}),
    (layers.ReLU(6.0, 0.1, 0.5), SEQUENCE, kinds.Activate, {"activation": relu(0.1, 6.0, 0.5)}, {}),
    (layers.LeakyReLU(), SEQUENCE, kinds.Activate, {"activation": relu(0.3)}, {}),
    (layers.ELU(0.3), SEQUENCE, kinds.Activate, {"activation": Activation("elu", (("alpha", 0.3),))}, {}),
    (layers.Softmax(1), SEQUENCE, kinds.Activate, {"activation": Activation("softmax"), "axis": 1}, {}),
    (layers.PReLU(), SEQUENCE, kinds.PReLU, {}, {"slope": 0}),
    (layers.PReLU(shared_axes=[1]), SEQUENCE, kinds.PReLU, {}, {"slope": 0}),
    (
        layers.Conv1D(6, 3, padding="causal", dilation_rate=2, groups=2, activation="tanh"),
        SEQUENCE,
        kinds.Convolution,
        {
            "strides": (1,),
            "padding": "causal",
            "dilation": (2,),
            "groups": 2,
            "channels_first": False,
            "activation": TANH,
        },
        {"kernel": 0, "bias": 1},
    ),
    (
        layers.Conv2D(6, (3, 2), strides=(2, 1), padding="same", data_format="channels_first"),
        IMAGE,
        kinds.Convolution,
        {"strides": (2, 1), "padding": "same", "dilation": (1, 1), "groups": 1, "channels_first": True},
        {"kernel": 0, "bias": 1},
    ),
    (
        layers.Conv1DTranspose(5, 3, strides=2),
        SEQUENCE,
        kinds.TransposedConvolution,
        {"strides": (2,), "padding": "valid", "output_padding": None, "dilation": (1,), "channels_first": False},
        {"kernel": 0, "bias": 1},
    ),
    (
        layers.Conv2DTranspose(5, 3, strides=2, padding="same", output_padding=1),
        IMAGE,
        kinds.TransposedConvolution,
        {"strides": (2, 2), "padding": "same", "output_padding": (1, 1)},
        {"kernel": 0, "bias": 1},
    ),
    (
        layers.MaxPooling1D(3),
        SEQUENCE,
        kinds.Pooling,
        {"function": "max", "size": (3,), "strides": (3,), "padding": "valid", "channels_first": False},
        {},
    ),
    (
        layers.AveragePooling2D((3, 2), 2, "same", data_format="channels_first"),
        IMAGE,
        kinds.Pooling,
        {"function": "average", "size": (3, 2), "strides": (2, 2), "padding": "same", "channels_first": True},
        {},
    ),
    (layers.GlobalMaxPooling1D(), SEQUENCE, kinds.GlobalPooling, {"function": "max", "keepdims": False}, {}),
    (
        layers.GlobalAveragePooling2D(keepdims=True),
        IMAGE,
        kinds.GlobalPooling,
        {"function": "average", "keepdims": True},
        {},
    ),
    (
        layers.BatchNormalization(),
        SEQUENCE,
        kinds.BatchNormalization,
        {"epsilon": 0.001, "axis": 2},
        {"gamma": 0, "beta": 1, "mean": 2, "variance": 3},
    ),
    (
        layers.BatchNormalization(axis=1, scale=False, epsilon=0.1),
        SEQUENCE,
        kinds.BatchNormalization,
        {"epsilon": 0.1, "axis": 1, "gamma": None},
        {"beta": 0, "mean": 1, "variance": 2},
    ),
    (
        layers.LayerNormalization(axis=[1, 2], center=False),
        SEQUENCE,
        kinds.LayerNormalization,
        {"epsilon": 0.001, "axes": (1, 2), "beta": None, "root_mean_square": False},
        {"gamma": 0},
    ),
    (
        layers.RMSNormalization(),
        SEQUENCE,
        kinds.LayerNormalization,
        {"epsilon": 1e-6, "axes": (2,), "beta": None, "root_mean_square": True},
        {"gamma": 0},
    ),
    (layers.UnitNormalization(), SEQUENCE, kinds.UnitNormalization, {"axes": (2,)}, {}),
    (layers.Flatten(), SEQUENCE, kinds.Reshape, {"shape": (-1,), "fixed_batch": False}, {}),
    (layers.Reshape((-1, 2)), SEQUENCE, kinds.Reshape, {"shape": (-1, 2)}, {}),
    (layers.Permute((2, 1)), SEQUENCE, kinds.Permute, {"order": (0, 2, 1)}, {}),
    (layers.RepeatVector(3), (5,), kinds.RepeatVector, {"count": 3}, {}),
    (layers.ZeroPadding1D((1, 2)), SEQUENCE, kinds.Pad, {"amounts": ((0, 0), (1, 2), (0, 0)), "value": 0.0}, {}),
    (layers.ZeroPadding2D((1, 2)), IMAGE, kinds.Pad, {"amounts": ((0, 0), (1, 1), (2, 2), (0, 0))}, {}),
    (
        layers.ZeroPadding2D(((1, 2), (3, 5)), data_format="channels_first"),
        IMAGE,
        kinds.Pad,
        {"amounts": ((0, 0), (0, 0), (1, 2), (3, 5))},
        {},
    ),
    (layers.Cropping1D(2), SEQUENCE, kinds.Crop, {"amounts": ((0, 0), (2, 2), (0, 0))}, {}),
    (layers.Cropping2D(((1, 2), (3, 0))), IMAGE, kinds.Crop, {"amounts": ((0, 0), (1, 2), (3, 0), (0, 0))}, {}),
    (layers.UpSampling1D(3), SEQUENCE, kinds.Upsample, {"factors": (1, 3, 1)}, {}),
    (layers.UpSampling2D((2, 3)), IMAGE, kinds.Upsample, {"factors": (1, 2, 3, 1)}, {}),
]


def case_name(value):
    return type(value).__name__ if isinstance(value, layers.Layer) else ""


@pytest.mark.parametrize(("layer", "shape", "kind", "options", "arrays"), ONE_RECORD, ids=case_name)
def test_a_layer_of_keras_3_becomes_one_record(layer, shape, kind, options, arrays):
    (record,) = made(layer, shape)
    assert type(record) is kind
    assert {name: options_of(record)[name] for name in options} == options
    weights = layer.get_weights()
    assert set(record.arrays) == set(arrays)
    for name, place in arrays.items():
        np.testing.assert_array_equal(record.arrays[name], weights[place])


MERGES = [
    (layers.Add(), kinds.Merge, {"operation": "add"}),
    (layers.Subtract(), kinds.Merge, {"operation": "subtract"}),
    (layers.Multiply(), kinds.Merge, {"operation": "multiply"}),
    (layers.Average(), kinds.Merge, {"operation": "average"}),
    (layers.Maximum(), kinds.Merge, {"operation": "maximum"}),
    (layers.Minimum(), kinds.Merge, {"operation": "minimum"}),
    (layers.Concatenate(1), kinds.Concatenate, {"axis": 1}),
    (layers.Dot(-1, normalize=True), kinds.Dot, {"axes": (2, 2), "normalize": True}),
    (layers.Dot((1, 1)), kinds.Dot, {"axes": (1, 1), "normalize": False}),
    (
        layers.Attention(use_scale=True, score_mode="concat"),
        kinds.Attention,
        {"score": "concat", "causal": False, "return_scores": False},
    ),
    (layers.AdditiveAttention(), kinds.Attention, {"score": "additive", "concat_score_weight": None}),
]


@pytest.mark.parametrize(("layer", "kind", "options"), MERGES, ids=case_name)
def test_a_layer_of_two_inputs_becomes_one_record(layer, kind, options):
    (record,) = made(layer, SEQUENCE, SEQUENCE)
    assert type(record) is kind
    assert {name: options_of(record)[name] for name in options} == options
    for array, weight in zip(record.arrays.values(), layer.get_weights(), strict=True):
        np.testing.assert_array_equal(array, weight)


def test_options_of_a_call_reach_the_record():
    options = {"use_causal_mask": True, "return_attention_scores": True}
    (record,) = made(layers.Attention(), SEQUENCE, SEQUENCE, **options)
    assert (record.causal, record.return_scores) == (True, True)


def test_multi_head_attention_has_query_key_value_and_output():
    layer = layers.MultiHeadAttention(2, 3, value_dim=5, output_shape=7)
    (record,) = made(layer, SEQUENCE, (5, 6), (5, 9), call=lambda inputs: layer(*inputs))
    assert {name: array.shape for name, array in record.arrays.items()} == {
        "query_kernel": (4, 2, 3),
        "key_kernel": (9, 2, 3),
        "value_kernel": (6, 2, 5),
        "output_kernel": (2, 5, 7),
        "query_bias": (2, 3),
        "key_bias": (2, 3),
        "value_bias": (2, 5),
        "output_bias": (7,),
    }
    np.testing.assert_array_equal(record.output_bias, layer.get_weights()[-1])


def test_a_separable_convolution_is_two():
    layer = layers.SeparableConv1D(7, 3, depth_multiplier=2, strides=2, padding="same", activation="tanh")
    depthwise, pointwise = made(layer, SEQUENCE)
    kernel, second, bias = layer.get_weights()
    assert (depthwise.name, pointwise.name) == ("a/depthwise", "a/pointwise")
    assert (depthwise.groups, depthwise.strides, depthwise.activation, depthwise.bias) == (4, (2,), LINEAR, None)
    assert (pointwise.groups, pointwise.strides, pointwise.activation) == (1, (1,), TANH)
    # Output channel 5 is the second of input channel 2.
    np.testing.assert_array_equal(depthwise.kernel[:, 0, 5], kernel[:, 2, 1])
    np.testing.assert_array_equal(pointwise.kernel, second)
    np.testing.assert_array_equal(pointwise.bias, bias)


def test_a_depthwise_convolution_is_one_with_a_group_for_each_channel():
    layer = layers.DepthwiseConv2D((3, 2), depth_multiplier=2)
    (record,) = made(layer, IMAGE)
    assert (record.groups, record.kernel.shape) == (4, (3, 2, 1, 8))
    np.testing.assert_array_equal(record.kernel[..., 0, 5], layer.get_weights()[0][..., 2, 1])


def test_flatten_turns_channels_first_inputs_round():
    first, second = made(layers.Flatten(data_format="channels_first"), IMAGE)
    assert (first.order, second.shape) == ((0, 2, 3, 1), (-1,))


def test_rescaling_and_normalization_take_numbers_of_the_config():
    (scaled,) = made(layers.Rescaling([2.0, 3.0, 5.0, 7.0], offset=-1), SEQUENCE)
    assert (scaled.scale.tolist(), scaled.offset.tolist()) == ([2.0, 3.0, 5.0, 7.0], -1.0)
    (normal,) = made(
        layers.Normalization(mean=[1.0, 2.0, 3.0, 4.0], variance=[2.0, 3.0, 5.0, 7.0], invert=True), SEQUENCE
    )
    assert (normal.mean.tolist(), normal.invert) == ([[[1.0, 2.0, 3.0, 4.0]]], True)
    assert normal.variance.tolist() == [[[2.0, 3.0, 5.0, 7.0]]]


def test_normalization_takes_its_adapted_variables():
    layer = layers.Normalization(axis=1)
    (record,) = made(layer, SEQUENCE)
    assert record.mean.shape == (1, 11, 1)
    np.testing.assert_array_equal(record.variance[0, :, 0], layer.get_weights()[1])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru_outputs(half, x):
    """Run a GRU by the equations that its record's class states."""
    state = np.zeros((len(x), half.hidden_size))
    zero = np.zeros((3, half.hidden_size))
    inner, outer = (zero if bias is None else bias for bias in (half.bias_ih, half.bias_hh))
    for step in x.swapaxes(0, 1)[:: -1 if half.go_backwards else 1]:
        given = np.einsum("ghi,bi->gbh", half.weight_ih, step) + inner[:, None]
        own = np.einsum("ghk,bk->gbh", half.weight_hh, state) + outer[:, None]
        z, r = sigmoid(given[:2] + own[:2])
        if half.reset_after:
            candidate = np.tanh(given[2] + r * own[2])
        else:
            candidate = np.tanh(given[2] + (r * state) @ half.weight_hh[2].T)
        state = z * state + (1 - z) * candidate
    return state


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("options", [{}, {"use_bias": False}, {"go_backwards": True}], ids=str)
def test_a_gru_holds_what_keras_computes_with(reset_after, options):
    layer = layers.GRU(5, reset_after=reset_after, **options)
    (record,) = made(layer, SEQUENCE)
    assert (record.forward.reset_after, record.return_sequences) == (reset_after, False)
    x = np.random.default_rng(3).normal(size=(2, *SEQUENCE)).astype("float32")
    np.testing.assert_allclose(gru_outputs(record.forward, x), keras.ops.convert_to_numpy(layer(x)), atol=1e-5)


def test_an_rnn_of_one_gru_cell_is_a_gru():
    layer = layers.RNN(layers.GRUCell(5), return_state=True)
    (record,) = made(layer, SEQUENCE)
    x = np.random.default_rng(3).normal(size=(2, *SEQUENCE)).astype("float32")
    np.testing.assert_allclose(gru_outputs(record.forward, x), keras.ops.convert_to_numpy(layer(x)[0]), atol=1e-5)
    assert record.return_state


def test_bidirectional_has_two_halves_that_run_against_each_other():
    layer = layers.Bidirectional(layers.GRU(5, return_sequences=True), merge_mode=None)
    (record,) = made(layer, SEQUENCE)
    assert (record.forward.go_backwards, record.backward.go_backwards) == (False, True)
    assert (record.merge_mode, record.return_sequences, record.zero_output_for_mask) == ("none", True, True)
    backward_kernel = layer.get_weights()[3]
    np.testing.assert_array_equal(record.backward.weight_ih[1, 2], backward_kernel[:, 5 + 2])


def test_halves_of_two_classes_are_refused():
    layer = layers.Bidirectional(layers.GRU(5), backward_layer=layers.SimpleRNN(5, go_backwards=True))
    (record,) = made(layer, SEQUENCE)
    assert record.reason == "its directions are of two classes: GRU and SimpleRNN"


@keras.saving.register_keras_serializable("mine")
class GRU(layers.GRU):
    """A class of the user's own that bears the name of Keras'."""


@pytest.mark.parametrize("wrap", [layers.Bidirectional, lambda layer: layer], ids=["wrapped", "alone"])
def test_a_class_of_the_users_own_is_unknown_also_where_keras_wraps_it(tmp_path, wrap):
    x = keras.Input(SEQUENCE)
    file = tmp_path / "model.keras"
    keras.Model(x, wrap(GRU(3, return_sequences=True, name="g"))(layers.LSTM(2, return_sequences=True)(x))).save(file)
    (unknown,) = open_file(file).checkpoint.model.unknown
    assert "mine>GRU" in f"{unknown.class_name} {unknown.reason}"
    assert "a custom class: the file does not say what it computes" in unknown.reason


def test_a_simple_rnn_holds_turned_kernels():
    layer = layers.SimpleRNN(5, activation="relu", stateful=False, return_sequences=True)
    (record,) = made(layer, SEQUENCE)
    kernel, recurrent, bias = layer.get_weights()
    assert isinstance(record, RecurrentLayer)
    assert record.forward.activation == relu()
    np.testing.assert_array_equal(record.forward.weight_ih[2], kernel[:, 2])
    np.testing.assert_array_equal(record.forward.weight_hh[2], recurrent[:, 2])
    np.testing.assert_array_equal(record.forward.bias_ih, bias)


def read(class_name, config, arrays=(), shapes=((None, *SEQUENCE),), version="3.9.0", backend=None, notes=None):
    entry = LayerEntry("a", class_name, config, KerasVersion(version) if version else None, backend)
    named = {str(index): np.asarray(array, "float32") for index, array in enumerate(arrays)}
    return build(entry, named, shapes, [] if notes is None else notes)


GRU_CUDNN = {"units": 3, "return_sequences": False, "name": "g", "go_backwards": False}


def test_a_cudnn_gru_turns_each_block_of_its_kernel():
    """Turn each gate's block into Keras' kernel as keras saving.py _convert_rnn_weights does."""
    block = np.array([[0, 2, 4], [1, 3, 5]])
    kernel = np.concatenate([block, block + 10, block + 20], axis=1)
    recurrent = np.arange(27).reshape(3, 9)
    shapes = ((None, 7, 2),)
    (record,) = read("CuDNNGRU", GRU_CUDNN, [kernel, recurrent, np.arange(18)], shapes, "2.2.4")
    keras_kernel = block.T.reshape(block.shape, order="F")
    assert keras_kernel.tolist() == [[0, 4, 3], [2, 1, 5]]
    np.testing.assert_array_equal(record.forward.weight_ih[0], keras_kernel.T)
    np.testing.assert_array_equal(record.forward.weight_ih[2], keras_kernel.T + 20)
    np.testing.assert_array_equal(record.forward.weight_hh[1], recurrent[:, 3:6])
    assert record.forward.bias_ih.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert record.forward.bias_hh.tolist() == [[9, 10, 11], [12, 13, 14], [15, 16, 17]]
    assert (record.forward.reset_after, record.forward.recurrent_activation) == (True, SIGMOID)


GRU_KERAS_1 = {
    "name": "g", "output_dim": 3, "init": "glorot_uniform", "inner_init": "orthogonal", "activation": "tanh",
    "inner_activation": "hard_sigmoid", "W_regularizer": None, "U_regularizer": None, "b_regularizer": None,
    "dropout_W": 0.2, "dropout_U": 0.0, "return_sequences": True, "go_backwards": False, "stateful": False,
    "unroll": False, "consume_less": "cpu", "input_dim": 2, "input_length": None, "trainable": True,
}  # fmt: skip


def test_a_gru_of_keras_1_has_nine_arrays():
    arrays = [np.full(shape, k) for k in range(3) for shape in ((2, 3), (3, 3), (3,))]
    (record,) = read("GRU", GRU_KERAS_1, arrays, ((None, 7, 2),), "1.2.2")
    assert record.forward.recurrent_activation == HARD_SIGMOID_KERAS_2
    assert record.forward.weight_ih[:, 0, 0].tolist() == [0, 1, 2]
    assert record.forward.weight_hh.shape == (3, 3, 3)
    assert record.forward.bias_ih[:, 1].tolist() == [0, 1, 2]
    assert (record.forward.reset_after, record.forward.bias_hh, record.return_sequences) == (False, None, True)


def test_a_gru_of_keras_1_for_gpus_has_three_arrays():
    arrays = [np.arange(18).reshape(2, 9), np.zeros((3, 9)), np.zeros(9)]
    (record,) = read("GRU", {**GRU_KERAS_1, "consume_less": "gpu"}, arrays, ((None, 7, 2),), "1.2.2")
    assert record.forward.weight_ih[1].tolist() == [[3, 12], [4, 13], [5, 14]]


CONVOLUTION_KERAS_1 = {
    "name": "c", "trainable": True, "nb_filter": 5, "filter_length": 3, "init": "glorot_uniform", "activation": "relu",
    "border_mode": "same", "subsample_length": 2, "W_regularizer": None, "b_regularizer": None,
    "activity_regularizer": None, "W_constraint": None, "b_constraint": None, "bias": True, "input_dim": None,
    "input_length": None,
}  # fmt: skip
NO_BACKEND = "a: the file does not say its backend; TensorFlow is assumed, and Theano computes this layer differently"


def test_a_convolution_of_keras_1_drops_the_empty_axis():
    kernel, notes = np.arange(60).reshape(3, 1, 4, 5), []
    (record,) = read("Convolution1D", CONVOLUTION_KERAS_1, [kernel, np.zeros(5)], version="1.2.2", notes=notes)
    assert (record.strides, record.padding, record.activation) == ((2,), "same", relu())
    np.testing.assert_array_equal(record.kernel, kernel[:, 0])
    assert notes == [NO_BACKEND]


def test_a_convolution_of_keras_1_0_has_its_axes_turned():
    kernel = np.arange(60).reshape(5, 4, 3, 1)
    (record,) = read("Convolution1D", CONVOLUTION_KERAS_1, [kernel, np.zeros(5)], version="1.0.8")
    assert record.kernel.shape == (3, 4, 5)
    assert record.kernel[2, 3, 4] == kernel[4, 3, 2, 0]


def test_theano_runs_over_the_kernel_backwards():
    config = layers.Conv1D(5, 3).get_config()
    kernel = np.arange(60).reshape(3, 4, 5)
    (record,) = read("Conv1D", config, [kernel, np.zeros(5)], version="2.1.3", backend="theano")
    np.testing.assert_array_equal(record.kernel, kernel[::-1])


def test_theano_pads_half_a_kernel_on_each_side_whatever_the_stride():
    config = layers.Conv1D(5, 4, strides=2, padding="same", data_format="channels_first").get_config()
    arrays, shapes = [np.ones((4, 3, 5)), np.zeros(5)], ((None, 3, STEPS),)
    padded, convolved = read("Conv1D", config, arrays, shapes, "2.2.4", backend="theano")
    assert padded.amounts == ((0, 0), (0, 0), (2, 1))
    assert (convolved.padding, convolved.strides) == ("valid", (2,))


@pytest.mark.parametrize("size", [2, 5])
def test_theano_pads_windows_otherwise(size):
    config = layers.MaxPooling1D(size, 1, "same").get_config()
    (record,) = read("MaxPooling1D", config, version="2.2.4", backend="theano")
    assert record.reason == "Theano pads windows of such a size and stride otherwise for padding 'same'"


def test_a_dense_of_keras_1_is_a_dense():
    config = {"name": "d", "output_dim": 3, "activation": "softmax", "bias": False, "input_dim": 4, "init": "uniform"}
    (record,) = read("TimeDistributedDense", config, [np.ones((4, 3))], version="1.1.0")
    assert (type(record), record.activation, record.bias) == (kinds.Dense, Activation("softmax"), None)


BATCH_KERAS_1 = {"name": "b", "epsilon": 1e-5, "mode": 0, "axis": -1, "momentum": 0.99}


def test_running_std_of_keras_1_is_a_variance():
    arrays = [np.full(4, value) for value in (2.0, 3.0, 5.0, 7.0)]
    (record,) = read("BatchNormalization", BATCH_KERAS_1, arrays, version="1.2.2")
    assert [record.gamma[0], record.beta[0], record.mean[0], record.variance[0]] == [2.0, 3.0, 5.0, 7.0]
    assert record.epsilon == 1e-5


@pytest.mark.parametrize(
    ("mode", "operation"), [("sum", "add"), ("mul", "multiply"), ("ave", "average"), ("max", "maximum")]
)
def test_a_merge_of_keras_1_is_named_by_its_mode(mode, operation):
    config = {"name": "m", "mode": mode, "mode_type": "raw", "concat_axis": -1, "dot_axes": -1, "arguments": {}}
    (record,) = read("Merge", config, shapes=((None, 4), (None, 4)), version="1.2.2")
    assert record.operation == operation


def test_a_dot_merge_of_keras_1_counts_negative_axes_from_each_end():
    config = {"name": "m", "mode": "dot", "mode_type": "raw", "concat_axis": -1, "dot_axes": -1}
    (record,) = read("Merge", config, shapes=((None, 7, 4), (None, 4)), version="1.2.2")
    assert (record.axes, record.normalize) == ((2, 1), False)


def test_padding_of_keras_1_is_a_dictionary_or_four_numbers():
    image = ((None, *IMAGE),)
    sides = {"padding": {"top_pad": 1, "right_pad": 5}, "dim_ordering": "tf"}
    (record,) = read("ZeroPadding2D", sides, shapes=image, version="1.2.2")
    assert record.amounts == ((0, 0), (1, 0), (0, 5), (0, 0))
    (record,) = read("ZeroPadding2D", {"padding": [1, 2, 3, 5], "dim_ordering": "th"}, shapes=image, version="1.2.2")
    assert record.amounts == ((0, 0), (0, 0), (1, 2), (3, 5))


KERNEL, BIAS = np.ones((4, 3)), np.ones(3)
DENSE = {"name": "d", "units": 3, "activation": "linear", "use_bias": True}
REFUSED = [
    ("Lambda", {}, [], "Lambda is not among the layers that lstmconv computes"),
    ("ConvLSTM2D", {}, [], "ConvLSTM2D is not among the layers that lstmconv computes"),
    ("Dense", {**DENSE, "twist": 2}, [KERNEL, BIAS], "the option twist (2) is not known"),
    ("Dense", {"activation": "linear"}, [KERNEL, BIAS], "the config does not state units"),
    ("Dense", DENSE, [KERNEL, BIAS, BIAS], "expected the arrays kernel, bias, found 0 (4, 3), 1 (3,), 2 (3,)"),
    ("Dense", DENSE, [KERNEL], "expected the arrays kernel, bias, found 0 (4, 3)"),
    ("Dense", DENSE, [KERNEL.T, BIAS], "'0' is (3, 4), expected (4, 3) (kernel)"),
    ("Dense", {**DENSE, "lora_rank": 2}, [KERNEL, BIAS], "lora_rank is 2, which lstmconv does not compute"),
    (
        "Dense",
        {**DENSE, "dtype": {"class_name": "QuantizedDTypePolicy", "config": {}}},
        [KERNEL, BIAS],
        "its weights are quantized",
    ),
    ("BatchNormalization", {**BATCH_KERAS_1, "mode": 2}, [], "mode is 2, which lstmconv does not compute"),
    ("BatchNormalization", {"axis": -1}, [], "the config does not state epsilon"),
    ("LayerNormalization", {"rms_scaling": True}, [], "rms_scaling is True, which lstmconv does not compute"),
    ("UpSampling1D", {"size": "x"}, [], "size is 'x', expected 1 positive whole numbers"),
    (
        "Conv1D",
        {"filters": 5, "kernel_size": 3, "padding": "full"},
        [np.ones((3, 4, 5)), np.ones(5)],
        "padding 'full' is not computed",
    ),
    ("Merge", {"mode": "cos"}, [], "mode 'cos' is not computed"),
    ("Reshape", {"target_shape": [-1, -1]}, [], "target_shape is [-1, -1], expected at most one -1"),
    ("Softmax", {"axis": [1, 2]}, [], "softmax over axes [1, 2] together"),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3, "use_gate": True}, [], None),
]


@pytest.mark.parametrize(("class_name", "config", "arrays", "reason"), REFUSED)
def test_what_is_not_understood_is_named(class_name, config, arrays, reason):
    both = class_name in ("Merge", "MultiHeadAttention")
    shapes = ((None, *SEQUENCE),) * 2 if both else ((None, *SEQUENCE),)
    (record,) = read(class_name, config, arrays, shapes, "1.2.2" if "mode" in config else "3.9.0")
    assert type(record) is kinds.Unknown
    assert record.reason == (reason or "use_gate is True, which lstmconv does not compute")
    assert len(record.arrays) == len(arrays)


def test_a_custom_activation_is_named():
    (record,) = read("Dense", {**DENSE, "activation": "my_function"}, [KERNEL, BIAS])
    assert record.reason.startswith("activation 'my_function' is unknown (a custom function?)")


def test_batch_normalization_of_early_keras_1_divided_otherwise():
    arrays = [np.ones(4)] * 4
    (record,) = read("BatchNormalization", BATCH_KERAS_1, arrays, version="1.0.5")
    assert record.reason == "Keras 1.0.5 may have divided by running_std + epsilon, later ones by its square root"


@pytest.mark.parametrize("config", [{"units": [], "activation": {}}, {"units": None}, {"units": "7"}, {"units": -1}])
def test_a_config_of_wrong_types_makes_a_layer_unknown(config):
    (record,) = read("Dense", {**DENSE, **config}, [KERNEL, BIAS])
    assert type(record) is kinds.Unknown


def test_variables_are_named_and_placed_as_keras_stores_them():
    entry = LayerEntry("a", "Bidirectional", layers.Bidirectional(layers.SimpleRNN(5)).get_config())
    assert [(variable.name, variable.where) for variable in variables_of(entry, [(None, *SEQUENCE)])] == [
        ("forward/kernel", "forward_layer/cell"),
        ("forward/recurrent_kernel", "forward_layer/cell"),
        ("forward/bias", "forward_layer/cell"),
        ("backward/kernel", "backward_layer/cell"),
        ("backward/recurrent_kernel", "backward_layer/cell"),
        ("backward/bias", "backward_layer/cell"),
    ]


MASKS = [
    ("Dense", {}, "3.9.0", "passes", False),
    ("Conv1D", {}, "3.9.0", "stops", False),
    ("Identity", {}, "2.15.0", "stops", False),
    ("Identity", {}, "3.9.0", "passes", False),
    ("GlobalAveragePooling1D", {}, "2.2.4", "stops", True),
    ("GlobalMaxPooling1D", {}, "3.9.0", "stops", False),
    ("Embedding", {"mask_zero": True}, "2.2.4", "makes", False),
    ("Embedding", {"mask_zero": False}, "2.2.4", "stops", False),
    ("Softmax", {}, "2.2.4", "passes", False),
    ("Softmax", {}, "3.9.0", "passes", True),
    ("Add", {}, "3.3.3", "all", False),
    ("Add", {}, "3.4.1", "any", False),
    ("Concatenate", {}, "2.2.4", "all", False),
    ("Concatenate", {}, "3.9.0", "any", False),
    ("Merge", {"mode": "concat"}, "1.2.2", "all", False),
    ("LSTM", {}, "3.9.0", "recurrent", True),
    ("MultiHeadAttention", {}, "2.8.0", "stops", False),  # supports_masking is False in TensorFlow 2.8.4.
    ("MultiHeadAttention", {}, "2.9.0", "stops", False),
    ("MultiHeadAttention", {}, "2.10.0", "query", True),
    ("MultiHeadAttention", {}, "3.9.0", "query", True),
    ("StdPooling1D", {}, "3.9.0", "stops", False),
]


@pytest.mark.parametrize(("class_name", "config", "version", "output", "reads"), MASKS)
def test_masks_pass_by_the_rules_of_the_version(class_name, config, version, output, reads):
    rule = mask_rule(LayerEntry("a", class_name, config, KerasVersion(version)))
    assert (rule.output, rule.reads, rule.refuses) == (output, reads, "")
    assert rule.concatenates == (class_name == "Concatenate" or config.get("mode") == "concat")


def test_a_multiply_of_masked_inputs_is_refused_from_keras_3_4_on():
    rule = mask_rule(LayerEntry("a", "Multiply", {}, KerasVersion("3.4.0")))
    assert rule.refuses == "Multiply of masked inputs replaces masked values from Keras 3.4 on"


@pytest.mark.parametrize("layer", [case[0] for case in (*ONE_RECORD, *MERGES)], ids=case_name)
def test_masks_stop_at_layers_that_keras_3_says_do_not_support_them(layer):
    """Dot and GlobalAveragePooling1D support masks and return none."""
    class_name = type(layer).__name__
    rule = mask_rule(LayerEntry("a", class_name, layer.get_config(), KerasVersion(keras.__version__)))
    drops = class_name in ("Dot", "GlobalAveragePooling1D")
    assert (rule.output == "stops") == (not layer.supports_masking or drops)


def test_time_distributed_of_what_acts_on_the_last_axis_is_the_layer_itself():
    (dense,) = read("Dense", DENSE, [KERNEL, BIAS], ((None, 4),))
    assert per_step("t", (dense,), (None, 7, 4)) == (dense,)


def test_time_distributed_of_another_layer_runs_it_on_each_step():
    flat = read("Flatten", {"data_format": "channels_first"}, shapes=((None, *IMAGE),))
    (record,) = per_step("t", flat, (None, 7, *IMAGE))
    assert type(record) is TimeDistributed
    assert record.model.inputs[0].shape == (None, *IMAGE)
    assert [call.layer for call in record.model.calls] == list(flat)
