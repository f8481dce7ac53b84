"""Make the golden whole models of Keras 1.2.2 on Theano.

The environment `old` and the folder `trees/1.2.2` are those of `tests/golden/make_old_keras.py`. Then

    old/bin/python tests/golden/whole/make_keras_1_2.py tests/golden/whole trees/1.2.2

writes the folder `tests/golden/whole/keras-1.2.2`. Names after the tree make these cases only.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from making import (
    BATCH,
    FEATURES,
    MORE_UNITS,
    STEPS,
    UNITS,
    VOCABULARY,
    Kit,
    Whole,
    ids,
    listed,
    make,
    masked_numbers,
    numbers,
    run,
)
from theano_keras import clear, load, save, start

CONVOLUTIONS = ("conv1d", "conv2d", "conv_theano_ordering", "conv_classifier", "time_distributed")


class Kit1(Kit):
    def model(self, inputs, outputs, **options):
        return self.keras.models.Model(input=inputs, output=outputs, **options)


# --- layers without a state -------------------------------------------------------------------------------------


def dense(k):
    dense = k.layers.Dense
    layers = [dense(6, activation=name) for name in ("linear", "relu", "softmax", "tanh", "hard_sigmoid", "softplus")]
    return Whole(k.fan(*layers, dense(5, bias=False), shape=(6,)), [numbers(6)])


def activations(k):
    layers = k.layers
    names = ["softmax", "softplus", "softsign", "relu", "tanh", "sigmoid", "hard_sigmoid", "linear"]
    some = [layers.LeakyReLU(0.15), layers.PReLU(), layers.ELU(0.7)]
    some.append(layers.ThresholdedReLU(0.6))
    return Whole(k.fan(*[layers.Activation(name) for name in names], *some), [numbers(scale=2.5)])


def prelu_shared_axes(k):
    """Share slopes over the steps, which the config does not say: the array has one step only."""
    return Whole(k.fan(k.layers.PReLU(shared_axes=[1])), [numbers()])


def conv1d(k):
    conv, atrous = k.layers.Convolution1D, k.layers.AtrousConvolution1D
    some = [
        conv(5, 3, activation="relu", name="valid"),
        conv(5, 3, border_mode="same", name="same_odd"),
        conv(2, 4, border_mode="same", subsample_length=2, bias=False, name="same_even_strided"),
        conv(3, 3, border_mode="same", name="cube"),
        atrous(2, 2, atrous_rate=3, name="dilated"),
    ]
    return Whole(k.fan(*some, shape=(11, 3)), [numbers(11, 3)])


def conv2d(k):
    conv = k.layers.Convolution2D
    some = [
        conv(5, 3, 2, activation="relu", name="valid"),
        conv(2, 2, 3, border_mode="same", subsample=(2, 3), name="same_strided"),
        conv(3, 3, 3, border_mode="same", name="cube"),
    ]
    return Whole(k.fan(*some, shape=(7, 6, 3)), [numbers(7, 6, 3)])


def conv_theano_ordering(k):
    """Channels first: `dim_ordering="th"`, whose kernels are stored in another order of axes."""
    layers, first = k.layers, {"dim_ordering": "th"}
    image = k.input(3, 7, 6, name="image")
    tensor = layers.Convolution2D(5, 3, 2, border_mode="same", activation="relu", **first)(image)
    tensor = layers.BatchNormalization(axis=1)(tensor)
    outputs = [layers.GlobalAveragePooling2D(**first)(tensor)]
    tensor = layers.MaxPooling2D((2, 3), **first)(tensor)
    outputs.append(layers.Dense(2)(layers.Flatten()(tensor)))
    return Whole(k.model(image, outputs), [numbers(3, 7, 6)])


def pooling(k):
    layers = k.layers
    steps, image = k.input(11, 3, name="steps"), k.input(7, 5, 2, name="image")
    kinds = (layers.MaxPooling1D, layers.AveragePooling1D)
    outputs = [kind(2)(steps) for kind in kinds]
    outputs += [kind(3, stride=2, border_mode="same")(steps) for kind in kinds]
    kinds = (layers.MaxPooling2D, layers.AveragePooling2D)
    outputs += [kind((2, 3))(image) for kind in kinds]
    outputs += [kind((3, 2), strides=(2, 1), border_mode="same")(image) for kind in kinds]
    outputs += [layers.GlobalMaxPooling1D()(steps), layers.GlobalAveragePooling1D()(steps)]
    outputs += [layers.GlobalMaxPooling2D()(image), layers.GlobalAveragePooling2D()(image)]
    return Whole(k.model([steps, image], outputs), [numbers(11, 3) - 3, numbers(7, 5, 2) - 3])


def batch_normalization(k):
    norm = k.layers.BatchNormalization
    row, steps = k.input(6, name="row"), k.input(3, 3, name="steps")
    outputs = [norm()(row), norm(epsilon=0.1)(row), norm()(steps), norm(axis=1, epsilon=1e-4)(steps)]
    return Whole(k.model([row, steps], outputs), [numbers(6), numbers(3, 3)])


def shapes(k):
    layers = k.layers
    x, row = k.input(STEPS, FEATURES, name="x"), k.input(5, name="row")
    some = [
        layers.Flatten(),
        layers.Reshape((-1, STEPS)),
        layers.Permute((2, 1)),
        layers.ZeroPadding1D(2),
        layers.ZeroPadding1D((3, 1)),
        layers.Cropping1D((0, 3)),
        layers.UpSampling1D(2),
    ]
    return Whole(
        k.model([x, row], [layer(x) for layer in some] + [layers.RepeatVector(4)(row)]), [numbers(), numbers(5)]
    )


# --- merging ----------------------------------------------------------------------------------------------------


def merge_function(k):
    """Call merge() in every mode."""
    merge = k.layers.merge
    one, two = k.input(5, 3, name="one"), k.input(5, 3, name="two")
    row, other = k.input(5, name="row"), k.input(5, name="other")
    outputs = [merge([one, two], mode=mode) for mode in ("sum", "mul", "ave", "max", "concat")]
    outputs += [merge([one, two], mode="concat", concat_axis=1), merge([one, two, one], mode="sum")]
    outputs += [merge([one, two], mode="dot", dot_axes=(2, 2)), merge([one, two], mode="dot", dot_axes=(1, 1))]
    outputs += [merge([row, other], mode="dot"), merge([row, other], mode="cos", dot_axes=1)]
    inputs = [numbers(5, 3), numbers(5, 3, seed=8), numbers(5), numbers(5, seed=8)]
    return Whole(k.model([one, two, row, other], outputs), inputs)


def merge_of_models(k):
    """Use Merge as the first layer of a Sequential: its inputs are models."""
    layers = k.layers
    left = k.sequential(layers.LSTM(UNITS, input_shape=(STEPS, FEATURES)))
    right = k.sequential(layers.Dense(UNITS, activation="tanh", input_shape=(6,)), layers.Dense(UNITS))
    merged = layers.Merge([left, right], mode="concat")
    return Whole(k.sequential(merged, layers.Dense(2, activation="softmax")), [numbers(), numbers(6)])


def merge_layer(k):
    """Use Merge as a layer that is called on tensors."""
    layers = k.layers
    one, two = k.input(STEPS, FEATURES, name="one"), k.input(STEPS, FEATURES, name="two")
    read = [layers.LSTM(UNITS)(one), layers.LSTM(UNITS, consume_less="gpu")(two)]
    outputs = [layers.Merge(mode="mul")(read), layers.Merge(mode="cos", dot_axes=1)(read)]
    return Whole(k.model([one, two], outputs), [numbers(), numbers(seed=8)])


# --- recurrent layers -------------------------------------------------------------------------------------------


def lstm_options(k):
    lstm = k.layers.LSTM
    some = [
        lstm(UNITS, return_sequences=True, name="sequences"),
        lstm(UNITS, go_backwards=True, return_sequences=True, name="backwards"),
        lstm(FEATURES, inner_activation="sigmoid", consume_less="gpu", name="square_gpu"),
        lstm(MORE_UNITS, activation="relu", consume_less="mem", unroll=True, name="mem"),
    ]
    return Whole(k.fan(*some), [numbers()])


def lstm_stateful(k):
    return Whole(k.fan(k.layers.LSTM(UNITS, stateful=True, return_sequences=True), batch=BATCH), [numbers()], runs=2)


def gru(k):
    gru = k.layers.GRU
    some = [
        gru(UNITS, return_sequences=True, name="sequences"),
        gru(UNITS, consume_less="gpu", go_backwards=True, name="gpu_backwards"),
        gru(FEATURES, inner_activation="sigmoid", consume_less="mem", name="square_mem"),
    ]
    return Whole(k.fan(*some), [numbers()])


def simple_rnn(k):
    rnn = k.layers.SimpleRNN
    return Whole(
        k.fan(rnn(UNITS, return_sequences=True), rnn(FEATURES, activation="relu", go_backwards=True)), [numbers()]
    )


def bidirectional(k):
    layers = k.layers
    some = [
        layers.Bidirectional(layers.LSTM(MORE_UNITS, return_sequences=steps, consume_less=mode), merge_mode=merge)
        for merge, steps, mode in (
            ("concat", True, "cpu"),
            ("concat", False, "gpu"),
            ("sum", True, "gpu"),
            ("ave", False, "gpu"),
        )
    ]
    some.append(layers.Bidirectional(layers.GRU(MORE_UNITS, consume_less="gpu"), merge_mode="mul"))
    return Whole(k.fan(*some), [numbers()])


def time_distributed(k):
    layers = k.layers
    each = layers.TimeDistributed
    x, video = k.input(STEPS, FEATURES, name="x"), k.input(3, 5, 4, 2, name="video")
    tensor = each(layers.Flatten())(each(layers.Convolution2D(3, 3, 2, activation="relu"))(video))
    outputs = [
        each(layers.Dense(UNITS, activation="softmax"))(x),
        layers.TimeDistributedDense(MORE_UNITS)(x),
        layers.LSTM(2)(tensor),
    ]
    return Whole(k.model([x, video], outputs), [numbers(), numbers(3, 5, 4, 2)])


# --- masks and wiring -------------------------------------------------------------------------------------------


def mask_lstm(k):
    layers = k.layers
    some = [
        layers.LSTM(UNITS, return_sequences=True, consume_less="gpu", name="sequences"),
        layers.LSTM(UNITS, consume_less="gpu", name="last"),
        layers.LSTM(MORE_UNITS, return_sequences=True, go_backwards=True, consume_less="gpu", name="backwards"),
        layers.Bidirectional(layers.LSTM(MORE_UNITS, return_sequences=True, consume_less="gpu"), name="both_ways"),
        layers.GRU(MORE_UNITS, consume_less="gpu", name="gru"),
    ]
    return Whole(k.fan(*some, before=[layers.Masking(mask_value=-2.0)]), [masked_numbers(value=-2.0)])


def mask_embedding(k):
    layers = k.layers
    x = k.input(STEPS, name="tokens", dtype="int32")
    tensor = layers.Embedding(VOCABULARY, FEATURES, mask_zero=True, name="embedding")(x)
    tensor = layers.Dropout(0.2)(tensor)
    tensor = layers.LSTM(UNITS, return_sequences=True, consume_less="gpu")(tensor)
    tensor = layers.TimeDistributed(layers.Dense(FEATURES))(tensor)
    last = layers.LSTM(MORE_UNITS, consume_less="gpu", name="last")(tensor)
    return Whole(k.model(x, [tensor, last, layers.Dense(2, activation="softmax")(last)]), [ids()])


def mask_merges(k):
    layers = k.layers
    one, two = k.input(STEPS, name="one", dtype="int32"), k.input(STEPS, name="two", dtype="int32")
    embed = layers.Embedding(VOCABULARY, FEATURES, mask_zero=True, name="masked")
    a, b = embed(one), embed(two)
    sums = {mode: layers.merge([a, b], mode=mode) for mode in ("sum", "concat")}
    sums["steps"] = layers.merge([a, b], mode="concat", concat_axis=1)
    outputs = [layers.LSTM(MORE_UNITS, consume_less="gpu", name=f"after_{name}")(x) for name, x in sums.items()]
    return Whole(k.model([one, two], outputs), [ids(), ids(seed=9)[[0, 2, 3, 1, 4]].copy()])


def classifier(k):
    layers = k.layers
    some = [
        layers.Embedding(VOCABULARY, FEATURES, input_length=STEPS),
        layers.SpatialDropout1D(0.2),
        layers.LSTM(UNITS, return_sequences=True, dropout_W=0.2, dropout_U=0.1),
        layers.GaussianNoise(0.1),
        layers.Bidirectional(layers.LSTM(FEATURES, consume_less="gpu")),
        layers.BatchNormalization(),
        layers.Dropout(0.5),
        layers.Dense(MORE_UNITS),
        layers.Activation("softmax"),
    ]
    return Whole(k.sequential(*some), [ids()])


def conv_classifier(k):
    layers = k.layers
    some = [
        layers.Embedding(VOCABULARY, FEATURES, input_length=STEPS),
        layers.Convolution1D(UNITS, 3, border_mode="same", activation="relu"),
        layers.MaxPooling1D(2),
        layers.LSTM(UNITS, consume_less="gpu"),
        layers.Dense(1, activation="sigmoid"),
    ]
    return Whole(k.sequential(*some), [ids()])


def shared_and_nested(k):
    """Call one LSTM and one model on two inputs each."""
    layers = k.layers
    x = k.input(STEPS, FEATURES, name="inner_x")
    lstm = layers.LSTM(UNITS, consume_less="gpu", name="inside")
    encoder = k.model(x, layers.Dense(FEATURES, name="head")(lstm(x)), name="encoder")
    plain = k.sequential(
        layers.Dense(FEATURES, activation="tanh", input_shape=(FEATURES,)), layers.Dense(2), name="plain"
    )
    left, right = k.input(STEPS, FEATURES, name="left"), k.input(STEPS, FEATURES, name="right")
    shared = layers.GRU(FEATURES, consume_less="gpu", name="shared")
    a, b = (
        layers.merge([encoder(left), shared(right)], mode="sum"),
        layers.merge([encoder(right), shared(left)], mode="mul"),
    )
    return Whole(k.model([right, left], [plain(a), plain(b), a]), [numbers(), numbers(seed=8)])


def several(k):
    layers = k.layers
    steps, facts = k.input(STEPS, FEATURES, name="steps"), k.input(UNITS, name="facts")
    read = layers.LSTM(UNITS, name="read")(steps)
    hidden = layers.Dense(4, activation="relu", name="hidden")(
        layers.merge([facts, read], mode="concat", name="joined")
    )
    return Whole(k.model([facts, steps], [layers.Dense(1, name="price")(hidden), read]), [numbers(UNITS), numbers()])


def forecaster(k):
    layers = k.layers
    some = [
        layers.LSTM(UNITS, input_shape=(STEPS, FEATURES), consume_less="gpu"),
        layers.RepeatVector(4),
        layers.LSTM(FEATURES, return_sequences=True),
        layers.TimeDistributed(layers.Dense(FEATURES)),
        layers.Flatten(),
        layers.Dense(MORE_UNITS),
    ]
    return Whole(k.sequential(*some), [numbers()])


BUILDERS = [
    dense, activations, prelu_shared_axes, conv1d, conv2d, conv_theano_ordering, pooling, batch_normalization, shapes,
    merge_function,
    merge_of_models, merge_layer, lstm_options, lstm_stateful, gru, simple_rnn, bidirectional, time_distributed,
    mask_lstm, mask_embedding, mask_merges, classifier, conv_classifier, shared_and_nested, several, forecaster,
]  # fmt: skip
FORMATS = {"classifier": ("h5", "weights_only"), "prelu_shared_axes": ("h5_not_reloaded",)}
TABLE = {build.__name__: (build, FORMATS.get(build.__name__, ("h5",))) for build in BUILDERS}


def as_tensorflow(folder, case):
    """Record as `y_tensorflow:0`, ... what the file means if the backend that made it was TensorFlow.

    Theano turns a convolution's kernel around, TensorFlow does not, and a file of Keras 1 does not say who made it.
    So the kernels are turned once more, and Keras computes again.
    """
    model = load(folder / f"{case}.h5")
    for layer in model.layers:
        inner = getattr(layer, "layer", layer)
        if "Convolution" in type(inner).__name__:
            kernel = inner.W.get_value()
            axes = (2, 3) if getattr(inner, "dim_ordering", "tf") == "th" else (0, 1)
            inner.W.set_value(np.flip(kernel, axes).copy())
    with np.load(folder / f"{case}.npz") as recording:
        recorded = dict(recording)
    inputs = [recorded[f"x:{index}"] for index in range(len(listed(model.inputs)))]
    recorded |= {f"y_tensorflow:{index}": y for index, y in enumerate(run(model, inputs))}
    np.savez_compressed(folder / f"{case}.npz", **recorded)


def main(folder, tree, *only):
    keras = start(tree)
    folder = Path(folder) / f"keras-{keras.__version__}"
    failures = make(TABLE, folder, Kit1(keras, 1, f"keras {keras.__version__} on theano", clear), save, load, only)
    for case in CONVOLUTIONS:
        if case in (only or CONVOLUTIONS) and (folder / f"{case}.npz").exists():
            as_tensorflow(folder, case)
    return failures


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
