"""One model for each kind of layer without a state, which calls the layer with each of its options on one input."""

from __future__ import annotations

from making import FEATURES, STEPS, UNITS, VOCABULARY, Whole, ids, numbers

NAMED = ["elu", "hard_sigmoid", "linear", "relu", "selu", "sigmoid", "softmax", "softplus", "softsign", "tanh"]
SINCE_2_2 = ["exponential"]
SINCE_TF = ["gelu", "swish", "mish"]
SINCE_3 = [
    "silu", "relu6", "leaky_relu", "log_softmax", "hard_silu", "celu", "log_sigmoid", "hard_tanh", "hard_shrink",
    "soft_shrink", "tanh_shrink", "squareplus", "sparse_plus", "sparse_sigmoid", "sparsemax",
]  # fmt: skip


def activation_names(k):
    later = {2: [], 2.5: SINCE_TF, 3: ["gelu", "mish", *SINCE_3]}[k.generation]
    return NAMED + SINCE_2_2 + later


def dense(k):
    """Square kernels, with every classic activation, and one without a bias."""
    dense = k.layers.Dense
    layers = [dense(6, activation=name) for name in ("linear", "relu", "softmax", "tanh", "sigmoid", "elu", "selu")]
    return Whole(k.fan(*layers, dense(5, use_bias=False), shape=(6,)), [numbers(6)])


def dense_on_steps(k):
    """Three and four dimensions: the last is the one that counts."""
    dense = k.layers.Dense
    one, two = k.input(STEPS, FEATURES, name="steps"), k.input(2, STEPS, FEATURES, name="blocks")
    outputs = [dense(5, activation="softmax")(one), dense(3)(one), dense(5, activation="hard_sigmoid")(two)]
    return Whole(k.model([one, two], outputs), [numbers(), numbers(2, STEPS, FEATURES)])


def activations(k):
    return Whole(k.fan(*[k.layers.Activation(name) for name in activation_names(k)]), [numbers(scale=2.5)])


def advanced_activations(k):
    layers = k.layers
    slope = "negative_slope" if k.generation == 3 else "alpha"
    some = [
        layers.LeakyReLU(**{slope: 0.15}),
        layers.PReLU(),
        layers.PReLU(shared_axes=[1]),
        layers.ELU(alpha=0.7),
        layers.ReLU(max_value=1.75, negative_slope=0.25, threshold=0.5),
        layers.ReLU(6.0),
        layers.Softmax(),
        layers.Softmax(axis=1),
    ]
    if k.generation < 3:
        some += [layers.ThresholdedReLU(theta=0.6), layers.ReLU(threshold=0.5)]
    return Whole(k.fan(*some), [numbers(scale=2.5)])


def embedding(k):
    """Ids over the whole vocabulary, with 0 among them; no mask. A square matrix (the vocabulary's size) too."""
    layers = k.layers
    x = k.input(STEPS, name="tokens", **({"dtype": "int32"} if k.generation == 3 else {}))
    embedded = layers.Embedding(VOCABULARY, FEATURES, name="narrow")(x)
    square = layers.Embedding(VOCABULARY, VOCABULARY, name="square")(x)
    head = layers.Dense(2)(layers.Flatten()(embedded))
    return Whole(k.model(x, [embedded, square, head]), [ids(padded=False) - 1])


def embedding_of_floats(k):
    """Ids that arrive as floats, as Keras' Input makes them by default."""
    model = k.fan(k.layers.Embedding(VOCABULARY, FEATURES), shape=(STEPS,))
    return Whole(model, [ids(padded=False)])


def noise(k):
    """Layers that do nothing after training."""
    layers = k.layers
    some = [
        layers.Dropout(0.3),
        layers.SpatialDropout1D(0.4),
        layers.GaussianNoise(0.5),
        layers.GaussianDropout(0.3),
        layers.ActivityRegularization(l2=0.01),
        layers.AlphaDropout(0.2),
    ]
    model = (
        k.sequential(*some, layers.LSTM(UNITS, dropout=0.3, recurrent_dropout=0.2), shape=(STEPS, FEATURES))
        if (k.generation >= 2.5)
        else k.model(*noise_by_hand(k, some))
    )
    return Whole(model, [numbers()])


def noise_by_hand(k, layers):
    tensor = x = k.input(STEPS, FEATURES, name="x")
    for layer in layers:
        tensor = layer(tensor)
    return x, k.layers.LSTM(UNITS, dropout=0.3, recurrent_dropout=0.2)(tensor)


# --- convolutions -----------------------------------------------------------------------------------------------


def conv1d(k):
    """Each padding with odd and even kernels, strides and dilation; a kernel whose three axes are equal."""
    conv = k.layers.Conv1D
    some = [
        conv(5, 3, activation="relu", name="valid"),
        conv(5, 3, padding="same", name="same_odd"),
        conv(5, 4, padding="same", name="same_even"),
        conv(5, 4, padding="same", strides=2, name="same_even_strided"),
        conv(5, 3, padding="same", strides=3, name="same_odd_strided"),
        conv(2, 3, strides=2, use_bias=False, name="valid_strided"),
        conv(2, 2, dilation_rate=3, name="valid_dilated"),
        conv(2, 3, padding="same", dilation_rate=2, activation="tanh", name="same_dilated"),
        conv(2, 3, padding="causal", name="causal"),
        conv(2, 2, padding="causal", dilation_rate=2, name="causal_dilated"),
        conv(3, 3, padding="same", name="cube"),
        conv(5, 1, name="pointwise"),
    ]
    return Whole(k.fan(*some, shape=(11, 3)), [numbers(11, 3)])


def conv1d_causal_strided(k):
    return Whole(k.fan(k.layers.Conv1D(2, 3, padding="causal", strides=2), shape=(11, 3)), [numbers(11, 3)])


def conv1d_groups(k):
    conv = k.layers.Conv1D
    some = [conv(6, 3, groups=3), conv(4, 2, groups=2, padding="same", activation="relu")]
    return Whole(k.fan(*some, shape=(7, 6)), [numbers(7, 6)])


def conv2d(k):
    """Each padding with odd, even and oblong kernels, strides and dilation."""
    conv = k.layers.Conv2D
    some = [
        conv(5, (3, 2), activation="relu", name="valid"),
        conv(2, (4, 3), padding="same", name="same"),
        conv(2, (2, 3), padding="same", strides=(2, 3), name="same_strided"),
        conv(2, 3, strides=2, use_bias=False, name="valid_strided"),
        conv(2, (2, 3), dilation_rate=(2, 1), name="valid_dilated"),
        conv(2, 3, padding="same", dilation_rate=2, name="same_dilated"),
        conv(3, 3, padding="same", name="cube"),
    ]
    return Whole(k.fan(*some, shape=(7, 6, 3)), [numbers(7, 6, 3)])


def channels_first(k):
    """Convolution, pooling, normalisation and Flatten with the channels before the steps or pixels."""
    layers, first = k.layers, {"data_format": "channels_first"}
    image = k.input(3, 7, 6, name="image")
    tensor = layers.Conv2D(5, (3, 2), padding="same", activation="relu", **first)(image)
    tensor = layers.BatchNormalization(axis=1)(tensor)
    outputs = [layers.GlobalAveragePooling2D(**first)(tensor), layers.GlobalMaxPooling2D(**first)(tensor)]
    tensor = layers.MaxPooling2D((2, 3), **first)(tensor)
    padded = layers.ZeroPadding2D(((1, 0), (0, 2)), **first)(tensor)
    outputs += [
        padded,
        layers.Cropping2D(((1, 0), (0, 1)), **first)(tensor),
        layers.UpSampling2D((2, 3), **first)(tensor),
    ]
    outputs.append(layers.Dense(2)(layers.Flatten(**first)(tensor)))
    return Whole(k.model(image, outputs), [numbers(3, 7, 6)])


def channels_first_1d(k):
    layers, first = k.layers, {"data_format": "channels_first"}
    steps = k.input(3, 11, name="steps")
    tensor = layers.Conv1D(5, 4, padding="same", strides=2, activation="tanh", **first)(steps)
    outputs = [layers.MaxPooling1D(2, **first)(tensor), layers.AveragePooling1D(3, 2, padding="same", **first)(tensor)]
    outputs += [layers.GlobalAveragePooling1D(**first)(tensor), layers.GlobalMaxPooling1D(**first)(tensor)]
    outputs.append(layers.LSTM(2)(layers.Permute((2, 1))(tensor)))
    return Whole(k.model(steps, outputs), [numbers(3, 11)])


def separable_conv1d(k):
    conv = k.layers.SeparableConv1D
    some = [
        conv(5, 3, activation="relu", name="valid"),
        conv(5, 4, padding="same", depth_multiplier=2, name="same_even"),
        conv(2, 3, padding="same", strides=2, use_bias=False, name="same_strided"),
        conv(2, 2, dilation_rate=2, name="dilated"),
    ]
    if k.generation < 3:
        some.append(conv(2, 3, padding="causal", name="causal"))
    return Whole(k.fan(*some, shape=(11, 3)), [numbers(11, 3)])


def depthwise_conv1d(k):
    conv = k.layers.DepthwiseConv1D
    some = [
        conv(3, activation="relu", name="valid"),
        conv(4, padding="same", depth_multiplier=2, name="same_even"),
        conv(3, padding="same", strides=2, use_bias=False, name="same_strided"),
        conv(2, dilation_rate=2, depth_multiplier=3, name="dilated"),
    ]
    return Whole(k.fan(*some, shape=(11, 3)), [numbers(11, 3)])


def conv1d_transpose(k):
    conv = k.layers.Conv1DTranspose
    some = [
        conv(5, 3, activation="relu", name="valid"),
        conv(5, 3, padding="same", name="same"),
        conv(2, 4, padding="same", strides=2, name="same_even_strided"),
        conv(2, 3, padding="same", strides=2, use_bias=False, name="same_odd_strided"),
        conv(2, 3, strides=2, name="valid_strided"),
        conv(2, 2, strides=3, name="gaps"),
        conv(2, 3, strides=2, output_padding=1, name="output_padding"),
        conv(3, 3, padding="same", name="cube"),
    ]
    return Whole(k.fan(*some, shape=(7, 3)), [numbers(7, 3)])


def conv1d_transpose_dilated(k):
    some = [
        k.layers.Conv1DTranspose(2, 3, dilation_rate=2),
        k.layers.Conv1DTranspose(2, 2, dilation_rate=2, padding="same"),
    ]
    return Whole(k.fan(*some, shape=(7, 3)), [numbers(7, 3)])


# --- pooling ----------------------------------------------------------------------------------------------------


def pooling1d(k):
    """Pool so that what is added at the edges would show: all inputs are near -3."""
    largest, average = k.layers.MaxPooling1D, k.layers.AveragePooling1D
    options = [
        {"pool_size": 2},
        {"pool_size": 3, "strides": 2},
        {"pool_size": 3, "strides": 2, "padding": "same"},
        {"pool_size": 2, "padding": "same"},
        {"pool_size": 4, "strides": 1, "padding": "same"},
    ]
    layers = [kind(**each) for kind in (largest, average) for each in options]
    return Whole(k.fan(*layers, shape=(11, 3)), [numbers(11, 3) - 3])


def pooling2d(k):
    largest, average = k.layers.MaxPooling2D, k.layers.AveragePooling2D
    options = [
        {"pool_size": (2, 3)},
        {"pool_size": 3, "strides": (2, 1)},
        {"pool_size": (3, 2), "strides": 2, "padding": "same"},
        {"pool_size": (2, 4), "strides": 1, "padding": "same"},
    ]
    layers = [kind(**each) for kind in (largest, average) for each in options]
    return Whole(k.fan(*layers, shape=(7, 5, 2)), [numbers(7, 5, 2) - 3])


def global_pooling(k):
    layers = k.layers
    steps, image = k.input(7, 3, name="steps"), k.input(7, 5, 3, name="image")
    keep = {"keepdims": True}
    options = [{}] if k.generation == 2 else [{}, keep]
    outputs = [
        kind(**each)(steps) for kind in (layers.GlobalMaxPooling1D, layers.GlobalAveragePooling1D) for each in options
    ]
    outputs += [
        kind(**each)(image) for kind in (layers.GlobalMaxPooling2D, layers.GlobalAveragePooling2D) for each in options
    ]
    return Whole(k.model([steps, image], outputs), [numbers(7, 3), numbers(7, 5, 3)])


# --- normalisation ----------------------------------------------------------------------------------------------


def batch_normalization(k):
    """Each axis and epsilon, without scale, without center; on rows, steps and images. Square: 3 steps, 3 features."""
    norm = k.layers.BatchNormalization
    row, steps, image = k.input(6, name="row"), k.input(3, 3, name="steps"), k.input(5, 4, 2, name="image")
    outputs = [norm()(row), norm(epsilon=0.1, momentum=0.7)(row), norm()(steps), norm(axis=1)(steps)]
    outputs += [norm(scale=False)(steps), norm(center=False)(steps)]
    if k.generation > 2:  # Theano cannot
        outputs.append(norm(scale=False, center=False)(steps))
    outputs += [norm()(image), norm(axis=2, epsilon=0.01)(image)]
    return Whole(k.model([row, steps, image], outputs), [numbers(6), numbers(3, 3), numbers(5, 4, 2)])


def layer_normalization(k):
    norm = k.layers.LayerNormalization
    some = [norm(), norm(axis=1), norm(axis=[1, 2]), norm(epsilon=0.1, scale=False), norm(center=False)]
    return Whole(k.fan(*some, norm(scale=False, center=False), shape=(5, 5)), [numbers(5, 5)])


def scaling(k):
    """UnitNormalization, Rescaling and Normalization, whose mean and variance are options or weights."""
    layers = k.layers
    some = [
        layers.UnitNormalization(),
        layers.UnitNormalization(axis=1),
        layers.UnitNormalization(axis=[1, 2]),
        layers.Rescaling(0.25, offset=-1.5),
        layers.Normalization(mean=[0.5, -1.0, 2.0], variance=[4.0, 0.3, 1.7]),
        layers.Normalization(axis=None, mean=0.7, variance=2.3),
    ]
    adapted = [layers.Normalization(axis=-1), layers.Normalization(axis=1), layers.Normalization(axis=-1, invert=True)]
    for layer in adapted:
        layer.adapt(numbers(seed=3, scale=2.0) + 1)
    return Whole(k.fan(*some, *adapted), [numbers()])


def rescaling_by_feature(k):
    return Whole(k.fan(k.layers.Rescaling([0.25, 2.0, -1.0], offset=[1.0, 0.0, -3.0])), [numbers()])


# --- shapes -----------------------------------------------------------------------------------------------------


def shapes(k):
    layers = k.layers
    some = [
        layers.Flatten(),
        layers.Reshape((-1, 7)),
        layers.Reshape((FEATURES, STEPS)),
        layers.Reshape((-1,)),
        layers.Permute((2, 1)),
        layers.ZeroPadding1D(2),
        layers.ZeroPadding1D((3, 1)),
        layers.Cropping1D(1),
        layers.Cropping1D((0, 3)),
        layers.UpSampling1D(2),
    ]
    row = k.input(5, name="row")
    x = k.input(STEPS, FEATURES, name="x")
    outputs = [layer(x) for layer in some] + [layers.RepeatVector(4)(row), layers.Reshape((5, 1))(row)]
    return Whole(k.model([x, row], outputs), [numbers(), numbers(5)])


def shapes_2d(k):
    layers = k.layers
    some = [
        layers.Flatten(),
        layers.Reshape((5, -1)),
        layers.Permute((3, 1, 2)),
        layers.ZeroPadding2D((1, 2)),
        layers.ZeroPadding2D(((1, 0), (0, 3))),
        layers.Cropping2D(((1, 2), (0, 1))),
        layers.UpSampling2D((2, 3)),
    ]
    if k.generation >= 2.5:
        some.append(layers.UpSampling2D((2, 3), interpolation="bilinear"))
    return Whole(k.fan(*some, shape=(5, 4, 3)), [numbers(5, 4, 3)])


# --- merging ----------------------------------------------------------------------------------------------------


def merges(k):
    layers = k.layers
    one, two, three = (k.input(5, 5, name=name) for name in ("one", "two", "three"))
    outputs = [layers.Concatenate()([one, two]), layers.Concatenate(axis=1)([one, two, three])]
    outputs += [layers.Add()([one, two, three]), layers.Subtract()([one, two]), layers.Multiply()([one, two, three])]
    outputs += [layers.Average()([one, two, three]), layers.Maximum()([one, two, three])]
    if k.generation >= 2.5 or k.keras.__version__ >= "2.2":
        outputs.append(layers.Minimum()([one, two, three]))
    return Whole(k.model([one, two, three], outputs), [numbers(5, 5, seed=seed) for seed in (1, 2, 3)])


def merges_that_broadcast(k):
    layers = k.layers
    steps, one = k.input(5, 3, name="steps"), k.input(1, 3, name="one_step")
    outputs = [layers.Add()([steps, one]), layers.Multiply()([one, steps]), layers.Maximum()([steps, one])]
    return Whole(k.model([steps, one], outputs), [numbers(5, 3), numbers(1, 3, seed=8)])


def dot(k):
    """Dot over each pair of axes, plain and normalised (a cosine)."""
    layers = k.layers
    one, two, row, other = (
        k.input(5, 3, name="one"),
        k.input(5, 3, name="two"),
        k.input(7, name="row"),
        k.input(7, name="other"),
    )
    outputs = [
        layers.Dot(axes=2)([one, two]),
        layers.Dot(axes=1)([one, two]),
        layers.Dot(axes=2, normalize=True)([one, two]),
    ]
    outputs += [layers.Dot(axes=1)([row, other]), layers.Dot(axes=1, normalize=True)([row, other])]
    outputs.append(layers.Dot(axes=(2, 1))([one, layers.Permute((2, 1))(two)]))
    inputs = [numbers(5, 3), numbers(5, 3, seed=8), numbers(7), numbers(7, seed=8)]
    return Whole(k.model([one, two, row, other], outputs), inputs)


# --- attention --------------------------------------------------------------------------------------------------


def attention(k):
    """Attention and AdditiveAttention: of a query to values, with keys of their own, causal, scaled, as scores."""
    layers = k.layers
    query, value, key = k.input(7, 3, name="query"), k.input(5, 3, name="value"), k.input(5, 3, name="key")
    outputs = [
        layers.Attention()([query, value]),
        layers.Attention(use_scale=True)([query, value, key]),
        layers.Attention(score_mode="concat")([query, value]),
        layers.AdditiveAttention()([query, value]),
        layers.AdditiveAttention(use_scale=False)([query, value, key]),
        *layers.Attention()([query, value], return_attention_scores=True),
        layers.Attention()([query, query], use_causal_mask=True),
    ]
    inputs = [numbers(7, 3), numbers(5, 3, seed=8), numbers(5, 3, seed=9)]
    return Whole(k.model([query, value, key], outputs), inputs)


def multi_head_attention(k):
    layers = k.layers
    query, value, key = k.input(7, 5, name="query"), k.input(5, 3, name="value"), k.input(5, 2, name="key")
    heads = layers.MultiHeadAttention
    outputs = [
        heads(2, 3)(query, query),
        heads(2, 3, value_dim=4, output_shape=7)(query, value, key),
        *heads(1, 2, use_bias=False)(query, value, return_attention_scores=True, use_causal_mask=True),
    ]
    inputs = [numbers(7, 5), numbers(5, 3, seed=8), numbers(5, 2, seed=9)]
    return Whole(k.model([query, value, key], outputs), inputs)
