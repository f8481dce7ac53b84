"""Whole models in PyTorch, against live Keras 3: every kind of layer as a module, its state dict, its file."""

from __future__ import annotations

import copy
import json
import os

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import lstmconv
from lstmconv.activations import HARD_SIGMOID_KERAS_3, Activation, parse_activation
from lstmconv.errors import UnreadableFileError, UnsupportedModelError, UsageError
from lstmconv.formats import WriteOptions, by_suffix, open_file
from lstmconv.formats.model_record import describe_model
from lstmconv.formats.torch import pt
from lstmconv.formats.torch.whole import model_tensors
from lstmconv.formats.torch.whole_reader import read_model
from lstmconv.layouts import KERAS
from lstmconv.model import (
    Call,
    Checkpoint,
    GRUDirection,
    Input,
    LSTMDirection,
    LSTMLayer,
    Model,
    Provenance,
    RecurrentLayer,
    SimpleRNNDirection,
    Stack,
    Tensor,
    TimeDistributed,
)
from lstmconv.model import kinds as k
from lstmconv.model.chains import lstm_layers
from lstmconv.model.names import arrays_of, named_layers
from lstmconv.runtimes import DecodedDirection, session
from lstmconv.semantics.recurrent import run_layer
from lstmconv.torch import GRU, RNN, from_model, load

NOISE = 2e-6
"""A few float32 sums of numbers near 1."""
SOFTMAX = Activation("softmax")


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras")


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def chain(*layers, shape, dtype="float32", outputs=1):
    """Return a model that calls layers one after another."""
    calls, last = [], Tensor("x")
    for layer in layers:
        calls.append(Call(layer.name, layer, (last,)))
        last = Tensor(layer.name)
    return Model(
        "model", (Input("x", shape, dtype),), tuple(calls), {f"y{i}": Tensor(last.source, i) for i in range(outputs)}
    )


def drawn(layer, *shapes):
    """Build a Keras layer and give it weights that discriminate; variances stay positive."""
    layer.build(*shapes)
    for number, variable in enumerate(layer.weights):
        values = random(*variable.shape, seed=number) * 0.6
        variable.assign(np.abs(values) + 0.1 if "variance" in variable.name else values)
    return [np.asarray(variable.value.detach()) for variable in layer.weights]


def run(model, *inputs):
    with torch.no_grad():
        found = from_model(model)(*(torch.from_numpy(np.asarray(x)) for x in inputs))
    return [each.numpy() for each in (found if isinstance(found, list) else [found])]


def close(found, wanted):
    wanted = wanted if isinstance(wanted, (list, tuple)) else [wanted]
    assert len(found) >= len(wanted)
    for value, other in zip(found, wanted, strict=False):
        other = other.detach().numpy() if isinstance(other, torch.Tensor) else other
        assert value.shape == other.shape
        np.testing.assert_allclose(value, other, rtol=0, atol=NOISE * max(1, np.abs(other).max()))


def conv(weights, **options):
    return k.Convolution("c", weights[0], weights[1], **options)


RELU = parse_activation("relu", 3)

# Each: a Keras layer, the input's shape, the record of it made from Keras' weights by their names in Keras' own source.
ONE_INPUT = {
    "dense": (lambda of: of.Dense(5, "relu"), (3, 7), lambda w: k.Dense("d", *w, RELU)),
    "dense over time, no bias": (lambda of: of.Dense(5, use_bias=False), (3, 2, 7), lambda w: k.Dense("d", *w)),
    "square dense, softmax": (lambda of: of.Dense(6, "softmax"), (3, 6), lambda w: k.Dense("d", *w, SOFTMAX)),
    "conv1d valid": (lambda of: of.Conv1D(5, 3, activation="relu"), (2, 11, 7), lambda w: conv(w, activation=RELU)),
    "conv1d same, even kernel": (
        lambda of: of.Conv1D(5, 4, padding="same"), (2, 11, 7), lambda w: conv(w, padding="same"),
    ),
    "conv1d same, stride 3, even kernel": (
        lambda of: of.Conv1D(5, 4, 3, padding="same"), (2, 11, 7), lambda w: conv(w, padding="same", strides=(3,)),
    ),
    "conv1d same, stride 2, size divides": (
        lambda of: of.Conv1D(5, 3, 2, padding="same"), (2, 12, 7), lambda w: conv(w, padding="same", strides=(2,)),
    ),
    "conv1d causal, dilated": (
        lambda of: of.Conv1D(5, 3, padding="causal", dilation_rate=2), (2, 11, 7),
        lambda w: conv(w, padding="causal", dilation=(2,)),
    ),
    "conv1d groups": (lambda of: of.Conv1D(6, 3, groups=3), (2, 11, 9), lambda w: conv(w, groups=3)),
    "conv1d square": (lambda of: of.Conv1D(6, 6), (2, 11, 6), lambda w: conv(w)),
    "depthwise conv1d": (
        lambda of: of.DepthwiseConv1D(3, depth_multiplier=2), (2, 11, 5),
        lambda w: k.Convolution("c", w[0].reshape(3, 1, 10), w[1], groups=5),
    ),
    "conv2d": (
        lambda of: of.Conv2D(5, (3, 2), (2, 1), padding="same"), (2, 11, 13, 7),
        lambda w: conv(w, padding="same", strides=(2, 1), dilation=(1, 1)),
    ),
    "transposed valid": (
        lambda of: of.Conv1DTranspose(5, 3, 2), (2, 7, 3),
        lambda w: k.TransposedConvolution("c", *w, strides=(2,)),
    ),
    "transposed stride over kernel": (
        lambda of: of.Conv1DTranspose(5, 2, 3), (2, 7, 3),
        lambda w: k.TransposedConvolution("c", *w, strides=(3,)),
    ),
    "transposed same": (
        lambda of: of.Conv1DTranspose(5, 3, 2, padding="same", activation="relu"), (2, 7, 3),
        lambda w: k.TransposedConvolution("c", *w, strides=(2,), padding="same", activation=RELU),
    ),
    "transposed 2d same": (
        lambda of: of.Conv2DTranspose(5, (4, 3), (3, 2), padding="same"), (2, 7, 5, 3),
        lambda w: k.TransposedConvolution("c", *w, strides=(3, 2), padding="same", dilation=(1, 1)),
    ),
    "max pooling same": (
        lambda of: of.MaxPooling1D(3, 2, padding="same"), (2, 11, 5),
        lambda w: k.Pooling("p", "max", (3,), (2,), "same"),
    ),
    "average pooling same": (
        lambda of: of.AveragePooling1D(3, 2, padding="same"), (2, 11, 5),
        lambda w: k.Pooling("p", "average", (3,), (2,), "same"),
    ),
    "average pooling 2d": (
        lambda of: of.AveragePooling2D((3, 2)), (2, 11, 7, 5), lambda w: k.Pooling("p", "average", (3, 2), (3, 2)),
    ),
    "global max": (lambda of: of.GlobalMaxPooling1D(), (2, 11, 5), lambda w: k.GlobalPooling("p", "max")),
    "global average 2d": (
        lambda of: of.GlobalAveragePooling2D(keepdims=True), (2, 11, 7, 5),
        lambda w: k.GlobalPooling("p", "average", True),
    ),
    "batch norm": (
        lambda of: of.BatchNormalization(), (3, 5), lambda w: k.BatchNormalization("b", w[2], w[3], w[0], w[1]),
    ),
    "batch norm of images": (
        lambda of: of.BatchNormalization(epsilon=0.1), (3, 7, 11, 5),
        lambda w: k.BatchNormalization("b", w[2], w[3], w[0], w[1], 0.1),
    ),
    "batch norm along time": (
        lambda of: of.BatchNormalization(axis=1), (3, 7, 5),
        lambda w: k.BatchNormalization("b", w[2], w[3], w[0], w[1], axis=1),
    ),
    "batch norm without scale": (
        lambda of: of.BatchNormalization(scale=False), (3, 7, 5),
        lambda w: k.BatchNormalization("b", w[1], w[2], None, w[0]),
    ),
    "batch norm without center": (
        lambda of: of.BatchNormalization(center=False), (3, 5), lambda w: k.BatchNormalization("b", w[1], w[2], w[0]),
    ),
    "layer norm": (lambda of: of.LayerNormalization(), (3, 7, 5), lambda w: k.LayerNormalization("l", *w)),
    "layer norm of two axes": (
        lambda of: of.LayerNormalization(axis=(1, 2)), (3, 7, 5), lambda w: k.LayerNormalization("l", *w, axes=(1, 2)),
    ),
    "layer norm, beta only": (
        lambda of: of.LayerNormalization(scale=False), (3, 7, 5), lambda w: k.LayerNormalization("l", None, w[0]),
    ),
    "layer norm, gamma only": (
        lambda of: of.LayerNormalization(center=False), (3, 7, 5), lambda w: k.LayerNormalization("l", w[0]),
    ),
    "layer norm, neither": (
        lambda of: of.LayerNormalization(center=False, scale=False), (3, 7, 5), lambda w: k.LayerNormalization("l"),
    ),
    "unit norm": (lambda of: of.UnitNormalization(), (3, 7, 5), lambda w: k.UnitNormalization("u")),
    "rescaling": (
        lambda of: of.Rescaling(0.25, [1.0, 2.0, 3.0]), (2, 5, 3),
        lambda w: k.Rescaling("r", np.array(0.25), np.array([1.0, 2.0, 3.0])),
    ),
    "prelu": (lambda of: of.PReLU(), (3, 7, 5), lambda w: k.PReLU("p", *w)),
    "prelu shared over time": (lambda of: of.PReLU(shared_axes=[1]), (3, 7, 5), lambda w: k.PReLU("p", *w)),
    "prelu of a vector": (lambda of: of.PReLU(), (3, 5), lambda w: k.PReLU("p", *w)),
    "leaky relu": (
        lambda of: of.LeakyReLU(0.3), (3, 7, 5),
        lambda w: k.Activate("a", parse_activation({"class_name": "LeakyReLU", "config": {"negative_slope": 0.3}}, 3)),
    ),
    "softmax along time": (lambda of: of.Softmax(axis=1), (3, 7, 5), lambda w: k.Activate("a", SOFTMAX, 1)),
    "flatten": (lambda of: of.Flatten(), (3, 7, 5), lambda w: k.Reshape("f", (-1,))),
    "reshape": (lambda of: of.Reshape((5, -1)), (3, 7, 5), lambda w: k.Reshape("f", (5, -1))),
    "permute": (lambda of: of.Permute((2, 1)), (3, 7, 5), lambda w: k.Permute("p", (0, 2, 1))),
    "repeat": (lambda of: of.RepeatVector(4), (3, 5), lambda w: k.RepeatVector("r", 4)),
    "zero padding": (lambda of: of.ZeroPadding1D((2, 1)), (3, 7, 5), lambda w: k.Pad("z", ((0, 0), (2, 1), (0, 0)))),
    "cropping": (lambda of: of.Cropping1D((2, 1)), (3, 7, 5), lambda w: k.Crop("z", ((0, 0), (2, 1), (0, 0)))),
    "upsampling": (lambda of: of.UpSampling2D((2, 3)), (3, 7, 5, 2), lambda w: k.Upsample("u", (1, 2, 3, 1))),
    "dropout": (lambda of: of.Dropout(0.5), (3, 7, 5), lambda w: k.Identity("d", "Dropout")),
}  # fmt: skip


@pytest.mark.parametrize("case", ONE_INPUT, ids=str)
def test_a_layer_of_one_input_is_the_live_keras_layer(keras, case):
    make, shape, record = ONE_INPUT[case]
    layer = make(keras.layers)
    weights = drawn(layer, shape)
    x = random(*shape, seed=9)
    close(run(chain(record(weights), shape=(None, *shape[1:])), x), layer(x, training=False))


def test_layer_normalization_of_an_inner_axis_is_that_of_the_last_one_turned_round(keras):
    layer = keras.layers.LayerNormalization()
    weights = drawn(layer, (3, 5, 7))
    x = random(3, 7, 5)
    wanted = layer(x.transpose(0, 2, 1)).detach().numpy().transpose(0, 2, 1)
    close(run(chain(k.LayerNormalization("l", *weights, axes=(1,)), shape=(None, 7, 5)), x), wanted)


def test_a_root_mean_square_norm_is_keras_own_and_loads_into_pytorchs(keras):
    layer = keras.layers.RMSNormalization(epsilon=1e-3)
    weights = drawn(layer, (3, 7, 5))
    model = chain(k.LayerNormalization("l", weights[0], root_mean_square=True), shape=(None, 7, 5))
    x = random(3, 7, 5)
    close(run(model, x), layer(x))
    plain = nn.ModuleDict({"l": nn.RMSNorm(5, eps=1e-3)})
    plain.load_state_dict(from_model(model).state_dict())
    close([plain["l"](torch.tensor(x)).detach().numpy()], layer(x))


def test_embedding_takes_ids_of_any_number_type(keras):
    layer = keras.layers.Embedding(11, 5)
    (table,) = drawn(layer, (2, 7))
    model = chain(k.Embedding("e", table), shape=(None, 7), dtype="int32")
    ids = np.arange(14).reshape(2, 7) % 11
    for dtype in ("int32", "int64", "uint8", "float32"):
        close(run(model, ids.astype(dtype)), layer(ids))


@pytest.mark.parametrize("name", ["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"])
def test_merging_layers_broadcast_as_keras_does(keras, name):
    inputs = [random(3, 7, 5), random(3, 5, seed=1)]
    layer = getattr(keras.layers, name)()
    record = k.Merge("m", name.lower())
    call = Call("m", record, (Tensor("a"), Tensor("b")))
    entries = tuple(Input(each, (None, *x.shape[1:])) for each, x in zip("ab", inputs, strict=True))
    close(run(Model("model", entries, (call,), {"y": Tensor("m")}), *inputs), layer(inputs))


def two(record, *inputs, masks=(), outputs=1):
    entries = tuple(Input(each, (None, *x.shape[1:]), str(x.dtype)) for each, x in zip("abc", inputs, strict=False))
    entries += tuple(Input(f"mask{i}", (None, *m.shape[1:]), "bool") for i, m in enumerate(masks) if m is not None)
    placed = tuple(None if m is None else Tensor(f"mask{i}") for i, m in enumerate(masks))
    call = Call("m", record, tuple(Tensor(each.name) for each in entries[: len(inputs)]), masks=placed)
    named = {f"y{i}": Tensor("m", i) for i in range(outputs)}
    return run(Model("model", entries, (call,), named), *inputs, *(m for m in masks if m is not None))


@pytest.mark.parametrize("axes", [(1, 1), (2, 1), (2, 2), -1])
@pytest.mark.parametrize("normalize", [False, True])
def test_dot_is_the_live_keras_layer(keras, axes, normalize):
    shapes = {(1, 1): ((3, 5, 7), (3, 5, 2)), (2, 1): ((3, 7, 5), (3, 5, 2)), (2, 2): ((3, 7, 5), (3, 2, 5))}
    a, b = (random(*shape, seed=9) for shape in shapes.get(axes, ((3, 5), (3, 5))))
    own = (1, 1) if axes == -1 else axes
    close(two(k.Dot("d", own, normalize), a, b), keras.layers.Dot(axes, normalize)([torch.tensor(a), torch.tensor(b)]))


def test_concatenate_stack_and_slices_are_numpys():
    a, b = random(3, 7, 5), random(3, 2, 5)
    close(two(k.Concatenate("c", 1), a, b), np.concatenate([a, b], 1))
    close(two(k.Stacking("s", 1), a, a + 1), np.stack([a, a + 1], 1))
    cut = k.Slice("s", ((None, None, None), (5, None, -2), None, 3))
    close(two(cut, a), a[:, 5::-2, None, 3])


@pytest.mark.parametrize(
    "function", ["add", "subtract", "multiply", "divide", "power", "maximum", "matmul", "less_equal"]
)
def test_an_operation_on_two_inputs_is_numpys(function):
    a, b = np.abs(random(3, 5, 5)) + 0.5, np.abs(random(3, 5, 5, seed=1)) + 0.5
    close(two(k.Operation("o", function), a, b), getattr(np, function)(a, b))


@pytest.mark.parametrize("function", ["sum", "mean", "max", "min", "all", "any"])
def test_a_reduction_is_numpys(function):
    a = random(3, 7, 5) > -1 if function in ("all", "any") else random(3, 7, 5)
    close(two(k.Reduce("r", function, (1, 2), True), a), getattr(np, function)(a, (1, 2), keepdims=True))


MASK = np.array([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0, 1]], bool)
HOLES = np.vstack([MASK, np.zeros((1, 7), bool)])


def test_global_average_counts_unmasked_steps_only(keras):
    x = random(4, 7, 5)
    close(two(k.GlobalPooling("p", "average"), x, masks=(MASK,)), keras.layers.GlobalAveragePooling1D()(x, mask=MASK))


def test_masking_zeroes_the_steps_that_it_masks(keras):
    x = random(4, 7, 5)
    x[~MASK] = 0.5
    layer = keras.layers.Masking(0.5)
    close(two(k.MaskSteps("m", 0.5), x), layer(x))
    close(two(k.StepIsUnmasked("m", 0.5), x), MASK)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", ["dot", "scaled", "concat", "additive"])
def test_attention_is_the_live_keras_layer(keras, kind, causal, masked):
    of = keras.layers
    layer = {
        "dot": lambda: of.Attention(),
        "scaled": lambda: of.Attention(use_scale=True),
        "concat": lambda: of.Attention(score_mode="concat"),
        "additive": lambda: of.AdditiveAttention(),
    }[kind]()
    query, value, key = random(4, 7, 5), random(4, 7, 3, seed=1), random(4, 7, 5, seed=2)
    weights = drawn(layer, [query.shape, value.shape, key.shape])
    names = {"scaled": ["scale"], "concat": ["concat_score_weight"], "additive": ["scale"]}.get(kind, [])
    score = {"scaled": "dot"}.get(kind, kind)
    record = k.Attention("a", score, causal=causal, return_scores=True, **dict(zip(names, weights, strict=True)))
    masks = [torch.tensor(MASK), torch.tensor(MASK[::-1].copy()), torch.tensor(MASK)] if masked else None
    wanted = layer(
        [torch.tensor(x) for x in (query, value, key)], mask=masks, return_attention_scores=True, use_causal_mask=causal
    )
    found = two(record, query, value, key, masks=(MASK, MASK[::-1].copy()) if masked else (), outputs=2)
    close(found, list(wanted))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("heads", "size", "value_size"), [(2, 3, None), (3, 2, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_multi_head_attention_is_the_live_keras_layer(keras, heads, size, value_size, bias, masked):
    layer = keras.layers.MultiHeadAttention(heads, size, value_size, use_bias=bias)
    query, value = random(4, 7, 6), random(4, 5, 6, seed=1)
    weights = drawn(layer, query.shape, value.shape)
    step = 2 if bias else 1
    kernels = {f"{part}_kernel": weights[i * step] for i, part in enumerate(("query", "key", "value", "output"))}
    biases = (
        {f"{part}_bias": weights[i * 2 + 1] for i, part in enumerate(("query", "key", "value", "output"))}
        if bias
        else {}
    )
    record = k.MultiHeadAttention("m", **kernels, **biases, return_scores=True)
    explicit = np.random.default_rng(0).random((4, 7, 5)) > 0.4
    explicit[..., 0] = True
    mask = torch.tensor(explicit) if masked else None
    wanted = layer(torch.tensor(query), torch.tensor(value), attention_mask=mask, return_attention_scores=True)
    masks = (None, None, None, explicit) if masked else ()
    close(two(record, query, value, masks=masks, outputs=2), list(wanted))


def test_a_fitting_multi_head_attention_loads_into_pytorchs_and_computes_the_same():
    draw = iter(range(99))
    arrays = {f"{part}_kernel": random(6, 2, 3, seed=next(draw)) for part in ("query", "key", "value")}
    arrays |= {f"{part}_bias": random(2, 3, seed=next(draw)) for part in ("query", "key", "value")}
    record = k.MultiHeadAttention("m", **arrays, output_kernel=random(2, 3, 6), output_bias=random(6))
    model = Model("model", (Input("x", (None, 7, 6)),), (Call("m", record, (Tensor("x"),) * 2),), {"y": Tensor("m")})
    x = random(3, 7, 6)
    plain = nn.ModuleDict({"m": nn.MultiheadAttention(6, 2, batch_first=True)})
    plain.load_state_dict(from_model(model).state_dict(), strict=True)
    with torch.no_grad():
        close(run(model, x), plain["m"](*[torch.tensor(x)] * 3, need_weights=False)[0])


# Recurrent layers: real Keras, under any mask, with states


def lstm_half(weights, **options):
    kernel, recurrent, *bias = weights
    hidden = len(recurrent)
    return LSTMDirection(
        KERAS.input_matrix.view(kernel, hidden),
        KERAS.recurrent_matrix.view(recurrent, hidden),
        KERAS.one_bias.view(bias[0], hidden) if bias else None,
        **options,
    )


def gru_half(weights, *, reset_after=True, **options):
    kernel, recurrent, *bias = weights
    gates = [[array[:, i * 5 : i * 5 + 5].T for i in range(3)] for array in (kernel, recurrent)]
    biases = dict(zip(("bias_ih", "bias_hh"), bias[0].reshape(-1, 3, 5), strict=False)) if bias else {}
    return GRUDirection(np.array(gates[0]), np.array(gates[1]), **biases, reset_after=reset_after, **options)


def rnn_half(weights, **options):
    return SimpleRNNDirection(weights[0].T, weights[1].T, weights[2] if len(weights) > 2 else None, **options)


def recurrent(layer, x, mask=None, states=()):
    """Run a layer with everything it returns."""
    entries = [Input("x", (None, None, x.shape[2]))]
    given = [x]
    if mask is not None:
        entries.append(Input("mask", (None, None), "bool"))
        given.append(mask)
    places = []
    for number, state in enumerate(states):
        entries.append(Input(f"s{number}", (None, state.shape[1])))
        places.append(Tensor(f"s{number}"))
        given.append(state)
    call = Call("l", layer, (Tensor("x"),), tuple(places), () if mask is None else (Tensor("mask"),))
    count = (2 if isinstance(layer, LSTMLayer) else 1) * len(layer.directions)
    first = 2 if layer.backward is not None and layer.merge_mode == "none" else 1
    outputs = {f"y{i}": Tensor("l", i) for i in range(first + count)}
    return run(Model("model", tuple(entries), (call,), outputs), *given)


HARD = {"recurrent_activation": "hard_sigmoid"}
RECURRENT = {
    "LSTM": ("LSTM", {}, LSTMLayer, lstm_half, {}),
    "LSTM hard": ("LSTM", HARD, LSTMLayer, lstm_half, {"recurrent_activation": HARD_SIGMOID_KERAS_3}),
    "GRU": ("GRU", {}, RecurrentLayer, gru_half, {}),
    "GRU no bias": ("GRU", {"use_bias": False}, RecurrentLayer, gru_half, {}),
    "GRU reset before": ("GRU", {"reset_after": False}, RecurrentLayer, gru_half, {"reset_after": False}),
    "GRU hard": ("GRU", HARD, RecurrentLayer, gru_half, {"recurrent_activation": HARD_SIGMOID_KERAS_3}),
    "SimpleRNN": ("SimpleRNN", {}, RecurrentLayer, rnn_half, {}),
    "SimpleRNN relu": ("SimpleRNN", {"activation": "relu"}, RecurrentLayer, rnn_half, {"activation": RELU}),
    "SimpleRNN elu": (
        "SimpleRNN",
        {"activation": "elu"},
        RecurrentLayer,
        rnn_half,
        {"activation": parse_activation("elu", 3)},
    ),
}


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("case", RECURRENT)
def test_a_recurrent_layer_is_the_live_keras_layer_under_any_mask(keras, case, backwards, sequences):
    name, options, layer, half, own = RECURRENT[case]
    made = getattr(keras.layers, name)(
        5, return_sequences=sequences, return_state=True, go_backwards=backwards, **options
    )
    direction = half(drawn(made, (None, None, 3)), go_backwards=backwards, **own)
    record = layer("l", direction, return_sequences=sequences, return_state=True)
    x = random(5, 7, 3)
    states = [random(5, 5, seed=7 + i) for i in range(2 if name == "LSTM" else 1)]
    for mask in (None, HOLES):
        valid = None if mask is None else torch.tensor(mask)
        for initial in ((), states):
            given = [torch.tensor(state) for state in initial] or None
            wanted = made(torch.tensor(x), mask=valid, initial_state=given)
            close(recurrent(record, x, mask, initial), list(wanted))


@pytest.mark.parametrize("merge", ["concat", "sum", "mul", "ave", None])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("case", ["LSTM", "GRU", "SimpleRNN elu"])
def test_a_bidirectional_layer_is_the_live_keras_layer_under_any_mask(keras, case, sequences, merge):
    name, options, layer, half, own = RECURRENT[case]
    inner = getattr(keras.layers, name)(5, return_sequences=sequences, return_state=True, **options)
    made = keras.layers.Bidirectional(inner, merge_mode=merge)
    weights = drawn(made, (None, None, 3))
    count = len(weights) // 2
    halves = [half(weights[:count], **own), half(weights[count:], go_backwards=True, **own)]
    # keras/src/layers/rnn/bidirectional.py: zero_output_for_mask where sequences are returned.
    record = layer("l", *halves, merge or "none", sequences, return_state=True, zero_output_for_mask=sequences)
    x = random(5, 7, 3)
    for mask in (None, HOLES):
        valid = None if mask is None else torch.tensor(mask)
        close(recurrent(record, x, mask), list(made(torch.tensor(x), mask=valid)))


# The record


def everything():
    """Return a model with a layer of every kind of array: nested, stacked, split, shared, stateful, constant."""
    h = 5
    half = lambda features, seed, **o: lstm_half(  # noqa: E731
        [random(features, 4 * h, seed=seed), random(h, 4 * h, seed=seed + 1), random(4 * h, seed=seed + 2)], **o
    )
    gru = lambda features, seed, **o: GRUDirection(  # noqa: E731
        random(3, h, features, seed=seed), random(3, h, h, seed=seed + 1), random(3, h, seed=seed + 2), **o
    )
    small = lstm_half([random(h, 8), random(2, 8), random(8)], go_backwards=True)
    inner = Model(
        "inner",
        (Input("step", (None, 7)),),
        (
            Call("td", k.Dense("td", random(7, 3)), (Tensor("step"),)),
            Call("td/dense", k.Dense("td/dense", random(3, 2)), (Tensor("td"),)),
        ),
        {"y": Tensor("td/dense")},
    )
    heads = {f"{part}_kernel": random(h, 2, 3, seed=i) for i, part in enumerate(("query", "key"))}
    layers = [
        k.Embedding("encoder/embedding", random(11, 3)),
        LSTMLayer("lstm", half(3, 1), stateful=True),
        RecurrentLayer(
            "gru", *(gru(h, 4, reset_after=True, go_backwards=way) for way in (False, True)), return_sequences=True
        ),
        RecurrentLayer("early", gru(2 * h, 4, reset_after=False, activation=RELU), return_sequences=True),
        Stack("cells", (LSTMLayer("cell", half(h, 1)), LSTMLayer("cell_1", half(h, 9)))),
        LSTMLayer("unequal", half(h, 1), small, zero_output_for_mask=True),
        k.Convolution("separable/depthwise", random(3, 1, 7), random(7), groups=7, padding="same"),
        k.BatchNormalization("batch_norm", random(7), np.abs(random(7)), beta=random(7, seed=1)),
        TimeDistributed("td", Model(inner.name, inner.inputs, inner.calls, inner.outputs)),
        k.Dense("type", random(2, h), random(h), SOFTMAX),
        RecurrentLayer("rnn", SimpleRNNDirection(random(h, h), random(h, h, seed=1), random(h)), return_sequences=True),
    ]
    calls, last = [], Tensor("x")
    for layer in layers:
        calls.append(Call(layer.name, layer, (last,)))
        last = Tensor(layer.name)
    attention = k.MultiHeadAttention("heads", **heads, value_kernel=random(h, 2, 2), output_kernel=random(2, 2, 3))
    scale = k.Constant("scale", np.array([[[0.5, -2.0, np.inf]]], np.float32))
    calls += [
        Call("heads", attention, (last, last), masks=(None, None)),
        Call("scale", scale, ()),
        Call("minimum", k.Operation("minimum", "minimum"), (Tensor("heads"), Tensor("scale"))),
        Call("cut", k.Slice("cut", ((None, None, None), -1, (None, None, -1))), (Tensor("minimum"),)),
    ]
    return Model("model", (Input("x", (None, 7), "int32"),), tuple(calls), {"y": Tensor("cut"), "h": Tensor("lstm", 1)})


def test_a_model_comes_back_from_its_record_and_its_tensors_bit_for_bit():
    model = everything()
    again = written_and_read(model)
    assert describe_model(again) == describe_model(model)
    ids = np.arange(14).reshape(2, 7) % 11
    for found, wanted in zip(run(again, ids), run(model, ids), strict=True):
        np.testing.assert_array_equal(found, wanted)
    for (name, one), (other, two) in zip(named_layers(model), named_layers(again), strict=True):
        assert name == other
        mine, theirs = arrays_of(one), arrays_of(two)
        assert list(mine) == list(theirs)
        for key, array in mine.items():
            np.testing.assert_array_equal(np.asarray(theirs[key]), np.asarray(array))


def written_and_read(model):
    state = {entry.name: entry.materialise() for entry in model_tensors(model, WriteOptions())}
    return read_model(json.loads(json.dumps(describe_model(model))), state, "model.pt")


def test_the_state_dict_loads_strictly_into_modules_written_by_hand():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.ModuleDict({"embedding": nn.Embedding(11, 3)})
            self.lstm = nn.LSTM(3, 5)
            self.gru = nn.GRU(5, 5, bidirectional=True)
            self.early = GRU(10, 5)
            self.cells = nn.LSTM(5, 5, num_layers=2)
            self.unequal = nn.ModuleDict({"forward_layer": nn.LSTM(5, 5), "backward_layer": nn.LSTM(5, 2)})
            self.separable = nn.ModuleDict({"depthwise": nn.Conv1d(7, 7, 3, groups=7)})
            self.batch_norm = nn.BatchNorm1d(7)
            self.td = nn.Linear(7, 3, bias=False)
            self.td.dense = nn.Linear(3, 2, bias=False)
            self._modules["type"] = nn.Linear(2, 5)
            self.rnn = nn.RNN(5, 5)
            self.heads = nn.Module()
            self.heads.q_proj_weight = nn.Parameter(torch.empty(6, 5))
            self.heads.k_proj_weight = nn.Parameter(torch.empty(6, 5))
            self.heads.v_proj_weight = nn.Parameter(torch.empty(4, 5))
            self.heads.out_proj = nn.Linear(4, 3, bias=False)

    listed = model_tensors(everything(), WriteOptions())
    assert len({entry.name for entry in listed}) == len(listed)
    Net().load_state_dict({entry.name: torch.from_numpy(entry.materialise()) for entry in listed}, strict=True)


def test_a_gru_that_resets_before_the_product_is_refused_by_nn_gru():
    layer = RecurrentLayer("gru", GRUDirection(random(3, 5, 3), random(3, 5, 5), random(3, 5)))
    state = from_model(chain(layer, shape=(None, None, 3))).state_dict()
    with pytest.raises(RuntimeError, match="_extra_state"):
        nn.ModuleDict({"gru": nn.GRU(3, 5)}).load_state_dict(state)
    own = nn.ModuleDict({"gru": GRU(3, 5)})
    own.load_state_dict(state)
    assert own["gru"].reset_after is False


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda d: d.pop("calls"), "the model is dict, expected an object of name, inputs, layers, calls, outputs"),
        (lambda d: d["layers"].append(d["layers"][0]), "layers is 'encoder/embedding', expected each layer once"),
        (lambda d: d["layers"][0].update(kind="Evil"), "expected a kind of layer that this version knows"),
        (lambda d: d["layers"][0]["table"].update(shape=[11, 4]), r"expected the file's own shape, \(11, 3\)"),
        (lambda d: d["layers"][1].update(merge_mode="max"), "merge_mode is 'max', expected one of concat, sum"),
        (lambda d: d["layers"][1].update(forward=d["layers"][0]), "is 'Embedding', expected LSTMDirection"),
        (lambda d: d["layers"][6].update(groups=True), "groups is True, expected a whole number"),
        (lambda d: d["layers"][6].update(strides=[1 << 50]), "expected a whole number"),
        (lambda d: d["layers"][7].update(epsilon="much"), "epsilon is 'much', expected a number"),
        (lambda d: d["layers"][7].update(mean=None), "mean is None, expected an array"),
        (lambda d: d["calls"][0].update(layer="nobody"), "is 'nobody', expected a layer's name"),
        (lambda d: d["calls"][0].update(inputs=[["cut", 0]]), "contradicts itself .*reads 'cut'"),
        (lambda d: d["calls"].extend(d["calls"] * 3000), "at most 10,000 calls"),
        (lambda d: d["outputs"].update(y=["cut"]), "output y is '1 values', expected 2"),
        (lambda d: d["inputs"][0].update(shape={}), "shape is dict, expected a list"),
    ],
)  # fmt: skip
def test_a_record_that_lies_costs_one_line(spoil, words):
    model = everything()
    described = json.loads(json.dumps(describe_model(model)))
    spoil(described)
    state = {entry.name: entry.materialise() for entry in model_tensors(model, WriteOptions())}
    with pytest.raises(UnreadableFileError, match=words) as error:
        read_model(described, state, "model.pt")
    assert "\n" not in str(error.value)


def test_a_stateful_layer_goes_on_where_the_batch_before_ended(keras):
    made = keras.layers.LSTM(5, stateful=True, return_sequences=True)
    x = random(3, 8, 2)
    direction = lstm_half(drawn(made, (3, None, 2)))
    model = chain(LSTMLayer("lstm", direction, stateful=True), shape=(3, None, 2))
    module = from_model(model)
    with torch.no_grad():
        parts = [module(torch.from_numpy(part)).numpy() for part in np.split(x, 2, 1)]
        close(parts, [made(torch.tensor(part)) for part in np.split(x, 2, 1)])
        close([np.concatenate(parts, 1)], run(chain(LSTMLayer("lstm", direction), shape=(3, None, 2)), x))
        with pytest.raises(UsageError, match=r"a batch of 2 after one of 3; call reset_states\(\)"):
            module(torch.from_numpy(x[:2]))
        module.reset_states()
        close([module(torch.from_numpy(x[:2])).numpy()], run(model, x[:2]))


def test_states_go_from_layer_to_layer_and_a_constant_state_serves_every_batch():
    encoder, decoder = (
        LSTMLayer(name, lstm_half([random(3, 20, seed=i), random(5, 20), random(20)]), return_state=True)
        for i, name in enumerate(("encoder", "decoder"))
    )
    start = k.Constant("start", random(1, 5))
    x = random(2, 7, 3)
    calls = (
        Call("start", start, ()),
        Call("encoder", encoder, (Tensor("x"),), (Tensor("start"), Tensor("start"))),
        Call("decoder", decoder, (Tensor("x"),), (Tensor("encoder", 1), Tensor("encoder", 2))),
    )
    model = Model("model", (Input("x", (None, None, 3)),), calls, {"y": Tensor("decoder"), "c": Tensor("decoder", 2)})
    first = run_layer(encoder, x, [np.repeat(start.value, 2, 0)] * 2)
    wanted = run_layer(decoder, x, first.states)
    close(run(model, x), [wanted.outputs[0], wanted.states[1]])


def test_an_unknown_layer_is_named_and_its_neighbours_keep_their_arrays():
    odd = k.Unknown("odd", "my>Attention", "a class of its own", {"w": random(3)})
    model = chain(k.Dense("before", random(3, 5)), odd, k.Dense("after", random(5, 2)), shape=(None, 3))
    with pytest.raises(UnsupportedModelError, match=r"'odd' \(my>Attention\)"):
        from_model(model)
    assert [entry.name for entry in model_tensors(model, WriteOptions())] == ["before.weight", "after.weight"]
    again = written_and_read(model)
    assert [(layer.name, layer.class_name) for layer in again.unknown] == [("odd", "my>Attention")]


def test_names_that_fall_together_are_refused():
    model = chain(k.Dense("a/b", random(3, 5)), k.Dense("a.b", random(5, 3)), shape=(None, 3))
    with pytest.raises(UsageError, match=r"two layers would both write 'a\.b\.weight'"):
        from_model(model)


def test_a_module_computes_in_another_dtype_and_can_be_copied():
    module = from_model(chain(k.Dense("d", random(3, 5)), k.Cast("c", "float32"), shape=(None, 3))).double()
    found = copy.deepcopy(module)(torch.ones(2, 3))
    assert found.dtype == torch.float64


def test_inputs_may_be_a_list_or_named_and_are_counted():
    model = chain(k.Dense("d", random(3, 5)), shape=(None, 3))
    module, x = from_model(model), torch.ones(2, 3)
    assert torch.equal(module([x]), module({"x": x}))
    with pytest.raises(UsageError, match=r"2 inputs, expected 1 \(x\)"):
        module(x, x)
    with pytest.raises(UsageError, match="no input 'x'; it takes x"):
        module({"y": x})


# The files


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_whole_file_is_a_plain_state_dict_and_gives_module_and_model_again(tmp_path, suffix):
    model = everything()
    path = tmp_path / f"model{suffix}"
    written(model, path)
    plain = torch.load(path, weights_only=True) if suffix == ".pt" else safetensors.torch.load_file(path)
    listed = {entry.name: entry.materialise() for entry in model_tensors(model, WriteOptions())}
    assert set(plain) == set(listed)
    for name, tensor in plain.items():
        np.testing.assert_array_equal(tensor.numpy(), listed[name])
    checkpoint = lstmconv.load(path)
    assert describe_model(checkpoint.model) == describe_model(model)
    assert [layer.name for layer in checkpoint.layers] == ["lstm", "cell", "cell_1", "unequal"]
    ids = np.arange(14).reshape(2, 7) % 11
    with torch.no_grad():
        found = [tensor.numpy() for tensor in load(path)(torch.from_numpy(ids))]
    for value, wanted in zip(found, run(model, ids), strict=True):
        np.testing.assert_array_equal(value, wanted)


@pytest.mark.parametrize("frameworks", [True, False])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_every_array_of_a_whole_file_is_decoded_bit_for_bit(tmp_path, suffix, frameworks):
    model = everything()
    written(model, tmp_path / f"model{suffix}")
    decoded = session(open_file(tmp_path / f"model{suffix}")).decode_model(model.layers, frameworks=frameworks)
    held = [one for layer in model.layers for one in (layer.layers if isinstance(layer, Stack) else (layer,))]
    wanted = {layer.name: arrays_of(layer) for layer in held}
    wanted = {name: arrays for name, arrays in wanted.items() if arrays}
    assert set(decoded) == set(wanted)
    for name, arrays in wanted.items():
        ways = ("forward", "backward")
        found = decoded[name]
        for key, array in arrays.items():
            half, _, own = key.rpartition(".")
            part = found[ways.index(half)] if half else found
            value = getattr(part, own) if isinstance(part, DecodedDirection) else part[own]
            np.testing.assert_array_equal(np.asarray(value), np.asarray(array), strict=True)
        if isinstance(found, dict):
            assert set(found) == set(arrays)


def test_a_whole_file_runs_by_its_inputs_names(tmp_path):
    model = everything()
    written(model, tmp_path / "model.pt")
    loaded = session(open_file(tmp_path / "model.pt")).load_model()
    ids = np.arange(14).reshape(2, 7) % 11
    assert [(entry.name, entry.dtype) for entry in loaded.inputs] == [("x", "int32")]
    for _ in "ab":  # A stateful layer starts anew.
        found = loaded.compute({"x": ids})
        assert list(found) == ["y", "h"]
        for value, wanted in zip(found.values(), run(model, ids), strict=True):
            np.testing.assert_array_equal(value, wanted)


@pytest.mark.parametrize("options", [{"nonlinearity": "relu"}, {"recurrent_activation": "relu"}])
def test_an_rnn_refuses_what_its_activation_replaces(options):
    with pytest.raises(UsageError, match="an RNN has activation= alone"):
        RNN(3, 5, **options)


def test_a_whole_file_with_an_input_of_bfloat16_runs(tmp_path):
    written(chain(k.Dense("d", random(3, 5), random(5)), shape=(None, 3), dtype="bfloat16"), tmp_path / "model.pt")
    loaded = session(open_file(tmp_path / "model.pt")).load_model()
    assert [(entry.name, entry.dtype) for entry in loaded.inputs] == [("x", "float32")]
    found = loaded.compute({"x": random(2, 3)})["y0"]
    np.testing.assert_allclose(found, random(2, 3) @ random(3, 5) + random(5), atol=NOISE)


def test_a_whole_file_of_another_dtype_rounds_once(tmp_path):
    model = chain(k.Dense("d", random(3, 5), random(5)), shape=(None, 3))
    written(model, tmp_path / "model.pt", dtype="float16")
    state = torch.load(tmp_path / "model.pt")
    np.testing.assert_array_equal(state["d.weight"].numpy(), random(3, 5).T.astype(np.float16))
    assert load(tmp_path / "model.pt")(torch.ones(2, 3)).dtype == torch.float16


def test_a_file_of_layers_alone_is_no_module(tmp_path):
    layer = LSTMLayer("lstm", lstm_half([random(3, 20), random(5, 20), random(20)]))
    pt.write(Checkpoint((layer,), Provenance("model.h5", "", "")), tmp_path / "model.pt", WriteOptions())
    with pytest.raises(UnsupportedModelError, match=r"model\.pt: holds no whole model"):
        load(tmp_path / "model.pt")


def test_a_checkpoint_becomes_its_model_and_a_layer_its_module():
    layer = LSTMLayer("lstm", lstm_half([random(3, 20), random(5, 20), random(20)]))
    model = chain(layer, shape=(None, None, 3))
    origin = Provenance("model.h5", "", "")
    x = torch.from_numpy(random(2, 7, 3))
    with torch.no_grad():
        whole = lstmconv.to_torch(Checkpoint((layer,), origin, model=model))(x)
        assert torch.equal(whole, lstmconv.to_torch(layer)(x))
    with pytest.raises(UnsupportedModelError, match=r"checkpoint\[name\] of lstm"):
        lstmconv.to_torch(Checkpoint((layer,), origin))


def written(model, path, **options):
    checkpoint = Checkpoint(lstm_layers(model), Provenance("model.h5", "00", "made"), model=model)
    assert by_suffix(path).write(checkpoint, path, WriteOptions(whole=True, **options)) == [path]


def test_a_stateful_model_is_proven_with_the_states_it_starts_from(tmp_path):
    """The proof gives the states of a stateful layer, and compares what it keeps."""
    source = "tests/golden/whole/tf-keras-2.21.0/mask_stateful.h5"
    checks = lstmconv.convert(source, tmp_path / "model.pt").report.checks
    assert [check.status for check in checks] == ["passed"] * 3
