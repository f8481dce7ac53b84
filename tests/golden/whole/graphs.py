"""Models whose point is the wiring: several inputs and outputs, shared and nested parts, states and masks."""

from __future__ import annotations

import numpy as np
from making import FEATURES, MORE_UNITS, STEPS, UNITS, VOCABULARY, Whole, ids, masked_numbers, numbers, some_mask


def classifier(k):
    """Tell classes from tokens, as most published models do."""
    layers = k.layers
    some = [
        layers.SpatialDropout1D(0.2),
        layers.Conv1D(UNITS, 3, padding="same", activation="relu"),
        layers.MaxPooling1D(2),
        layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True)),
        layers.LSTM(FEATURES),
        layers.BatchNormalization(),
        layers.Dense(UNITS),
        layers.LeakyReLU(),
        layers.Dropout(0.5),
        layers.Dense(MORE_UNITS),
        layers.Activation("softmax"),
    ]
    if k.generation == 2:
        first = layers.Embedding(VOCABULARY, FEATURES, input_length=STEPS)
        return Whole(k.sequential(first, *some), [ids()])
    return Whole(k.sequential(layers.Embedding(VOCABULARY, FEATURES), *some, shape=(STEPS,)), [ids()])


def forecaster(k):
    """Forecast from a window, in a Sequential: the repeated code of a sequence is decoded."""
    layers = k.layers
    some = [
        layers.RepeatVector(4),
        layers.LSTM(FEATURES, return_sequences=True),
        layers.TimeDistributed(layers.Dense(FEATURES)),
        layers.Flatten(),
        layers.Dense(MORE_UNITS),
    ]
    if k.generation == 2:
        return Whole(k.sequential(layers.LSTM(UNITS, input_shape=(STEPS, FEATURES)), *some), [numbers()])
    return Whole(k.sequential(layers.LSTM(UNITS), *some, shape=(STEPS, FEATURES)), [numbers()])


def gru_classifier(k):
    """Hold no LSTM at all."""
    layers = k.layers
    x = k.input(STEPS, name="tokens")
    tensor = layers.GRU(UNITS)(layers.Embedding(VOCABULARY, FEATURES)(x))
    return Whole(k.model(x, layers.Dense(1, activation="sigmoid")(tensor)), [ids()])


def several(k):
    """Two inputs that the model lists against the order of their use, and outputs that are inputs of others."""
    layers = k.layers
    steps, facts = k.input(STEPS, FEATURES, name="steps"), k.input(UNITS, name="facts")
    read = layers.LSTM(UNITS, name="read")(steps)
    joined = layers.Concatenate(name="joined")([facts, read])
    hidden = layers.Dense(4, activation="relu", name="hidden")(joined)
    outputs = [layers.Dense(1, name="price")(hidden), read, layers.Dense(3, activation="softmax", name="class")(hidden)]
    return Whole(k.model([facts, steps], outputs), [numbers(UNITS), numbers()])


def same_output_twice(k):
    layers = k.layers
    x = k.input(STEPS, FEATURES, name="x")
    y = layers.LSTM(UNITS)(x)
    z = layers.Dense(MORE_UNITS)(y)
    return Whole(k.model(x, [z, y, z]), [numbers()])


def shared_layer(k):
    """Build a siamese model: one LSTM and one Dense read both inputs, the second first."""
    layers = k.layers
    left, right = k.input(STEPS, FEATURES, name="left"), k.input(STEPS, FEATURES, name="right")
    lstm, dense = layers.LSTM(UNITS, name="siamese"), layers.Dense(UNITS, activation="tanh", name="shared_dense")
    second, first = dense(lstm(right)), dense(lstm(left))
    outputs = [layers.Subtract()([first, second]), layers.Dense(1)(layers.Concatenate()([second, first])), dense(first)]
    return Whole(k.model([left, right], outputs), [numbers(), numbers(seed=8)])


def nested(k, frozen=False):
    """Put a Sequential and a Functional in a Functional, the latter with two inputs and two outputs."""
    layers = k.layers
    if k.generation == 2:
        plain = k.sequential(
            layers.Dense(UNITS, activation="relu", input_shape=(STEPS, FEATURES)), layers.Dense(FEATURES), name="plain"
        )
    else:
        plain = k.sequential(
            layers.Dense(UNITS, activation="relu"), layers.Dense(FEATURES), shape=(STEPS, FEATURES), name="plain"
        )
    one, two = k.input(STEPS, FEATURES, name="one"), k.input(FEATURES, name="two")
    read = layers.LSTM(UNITS, name="first")(one)
    also = layers.LSTM(UNITS, name="second")(one)
    added = layers.Add()([read, also])
    inner = k.model([two, one], [layers.Dense(UNITS)(layers.Concatenate()([two, added])), read], name="inner")
    if frozen:
        inner.get_layer("first").trainable = False
        plain.layers[-2].trainable = False
    x, facts = k.input(STEPS, FEATURES, name="x"), k.input(FEATURES, name="facts")
    a, b = inner([facts, plain(x)])
    return Whole(k.model([x, facts], [layers.Dense(2)(a), b]), [numbers(), numbers(FEATURES)])


def nested_frozen(k):
    return nested(k, frozen=True)


def nested_deep(k):
    """Put a model in a model in a model, and a layer of the same name at each depth."""
    layers = k.layers
    model = None
    for depth, units in enumerate((FEATURES, UNITS, MORE_UNITS)):
        tensor = x = k.input(STEPS, FEATURES, name=f"x{depth}")
        if model is not None:
            tensor = model(tensor)
        tensor = layers.Dense(FEATURES, name="mix")(tensor)
        tensor = layers.LSTM(units if depth == 2 else FEATURES, return_sequences=True, name="read")(tensor)
        model = k.model(x, tensor, name=f"depth{depth}")
    return Whole(model, [numbers()])


def nested_in_sequential(k):
    layers = k.layers
    x = k.input(STEPS, FEATURES, name="inner_x")
    inner = k.model(x, layers.LSTM(UNITS, return_sequences=True)(x), name="inner")
    if k.generation == 2:
        last = k.sequential(layers.LSTM(FEATURES, input_shape=(STEPS, UNITS)), layers.Dense(2), name="last")
        return Whole(k.sequential(inner, last), [numbers()])
    last = k.sequential(layers.LSTM(FEATURES), layers.Dense(2), shape=(STEPS, UNITS), name="last")
    return Whole(k.sequential(inner, last, shape=(STEPS, FEATURES)), [numbers()])


def shared_model(k):
    """One encoder model called twice, and one of its layers used outside it."""
    layers = k.layers
    x = k.input(STEPS, FEATURES, name="inner_x")
    head = layers.Dense(UNITS, name="head")
    encoder = k.model(x, head(layers.LSTM(UNITS, name="read")(x)), name="encoder")
    left, right = k.input(STEPS, FEATURES, name="left"), k.input(STEPS, FEATURES, name="right")
    a, b = encoder(left), encoder(right)
    return Whole(k.model([left, right], [layers.Subtract()([a, b]), head(b)]), [numbers(), numbers(seed=8)])


# --- states -----------------------------------------------------------------------------------------------------


def encoder_decoder(k):
    """Sequence to sequence: the decoder begins with the encoder's states."""
    layers = k.layers
    source, target = k.input(STEPS, name="source"), k.input(5, FEATURES, name="target")
    embedded = layers.Embedding(VOCABULARY, FEATURES, name="embedding")(source)
    _, h, c = layers.LSTM(UNITS, return_state=True, name="encoder")(embedded)
    y, _, last = layers.LSTM(UNITS, return_sequences=True, return_state=True, name="decoder")(
        target, initial_state=[h, c]
    )
    return Whole(
        k.model([source, target], [layers.Dense(4, activation="softmax")(y), last]),
        [ids(), numbers(5, FEATURES, batch=5)],
    )


def encoder_decoder_masked(k):
    """Both sides padded; the encoder is a Bidirectional, whose states are joined."""
    layers = k.layers
    source, target = k.input(STEPS, name="source"), k.input(STEPS, name="target")
    embedding = layers.Embedding(VOCABULARY, FEATURES, mask_zero=True, name="embedding")
    wrapped = layers.Bidirectional(layers.LSTM(MORE_UNITS, return_sequences=True, return_state=True), name="encoder")
    outputs = wrapped(embedding(source))
    states = [layers.Concatenate()([outputs[1], outputs[3]]), layers.Concatenate()([outputs[2], outputs[4]])]
    y = layers.LSTM(2 * MORE_UNITS, return_sequences=True, name="decoder")(embedding(target), initial_state=states)
    attended = layers.Dot(axes=(2, 2))([y, outputs[0]])
    return Whole(k.model([source, target], [y, attended]), [ids(), ids(seed=8)[::-1].copy()])


def states_from_layers(k):
    """States from Dense layers, from inputs, from a GRU; the same tensor for both states."""
    layers = k.layers
    x, facts = k.input(STEPS, FEATURES, name="x"), k.input(UNITS, name="facts")
    h, c = layers.Dense(UNITS, activation="tanh", name="to_h")(facts), layers.Dense(UNITS, name="to_c")(facts)
    read, last = layers.GRU(UNITS, return_state=True, name="gru")(x)
    outputs = [
        layers.LSTM(UNITS, return_sequences=True, name="from_dense")(x, initial_state=[h, c]),
        layers.LSTM(UNITS, name="from_input")(x, initial_state=[facts, last]),
        layers.LSTM(UNITS, go_backwards=True, name="twice_the_same")(x, initial_state=[facts, facts]),
        layers.GRU(UNITS, name="gru_from_dense")(x, initial_state=c),
        layers.SimpleRNN(UNITS, name="simple_from_dense")(x, initial_state=h),
        read,
    ]
    return Whole(k.model([x, facts], outputs), [numbers(), numbers(UNITS)])


def states_of_bidirectional(k):
    """Four initial states as inputs; the states returned go to a second Bidirectional."""
    layers = k.layers
    x = k.input(STEPS, FEATURES, name="x")
    states = [k.input(UNITS, name=name) for name in ("h", "c", "backward_h", "backward_c")]
    first = layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True, return_state=True), name="first")
    y, *returned = first(x, initial_state=states)
    second = layers.Bidirectional(layers.LSTM(UNITS), merge_mode="mul", name="second")(y, initial_state=returned)
    given = [numbers(UNITS, seed=seed, scale=0.7) for seed in range(4)]
    return Whole(k.model([x, *states], [y, second]), [numbers(), *given])


def constant_states(k):
    """Keep initial states as constants in the config."""
    layers, random = k.layers, np.random.RandomState(5)
    x = k.input(STEPS, FEATURES, name="x", batch=3)
    constant = k.keras.ops.convert_to_tensor if k.generation == 3 else k.keras.backend.constant
    h, c = (constant(random.normal(0, 0.7, (3, UNITS)).astype("float32")) for _ in "hc")
    return Whole(k.model(x, layers.LSTM(UNITS, return_sequences=True)(x, initial_state=[h, c])), [numbers()])


# --- masks ------------------------------------------------------------------------------------------------------


def explicit_mask(k):
    """Take a mask that is an input of the model."""
    layers = k.layers
    x, mask = k.input(STEPS, FEATURES, name="x"), k.input(STEPS, name="mask", dtype="bool")
    y = layers.LSTM(UNITS, return_sequences=True, name="lstm")(x, mask=mask)
    both = layers.Bidirectional(layers.LSTM(MORE_UNITS), name="both_ways")(x, mask=mask)
    return Whole(k.model([x, mask], [y, both]), [numbers(batch=5), some_mask()])


def mask_merges(k):
    """Masks that meet: two embeddings concatenated on each axis, added; one masked and one unmasked side."""
    layers = k.layers
    one, two = k.input(STEPS, name="one"), k.input(STEPS, name="two")
    embed = layers.Embedding(VOCABULARY, FEATURES, mask_zero=True, name="masked")
    other = layers.Embedding(VOCABULARY, FEATURES, name="unmasked")
    a, b = embed(one), embed(two)
    sums = {
        "features": layers.Concatenate()([a, b]),
        "steps": layers.Concatenate(axis=1)([a, b]),
        "added": layers.Add()([a, b]),
        "one_side": layers.Add()([a, other(two)]),
    }
    if k.generation > 2:
        sums["one_side_joined"] = layers.Concatenate()([a, other(two)])
    outputs = [layers.LSTM(MORE_UNITS, return_sequences=name == "added", name=name)(x) for name, x in sums.items()]
    return Whole(k.model([one, two], outputs), [ids(), ids(seed=9)[[0, 2, 3, 1, 4]].copy()])


def mask_average(k):
    """GlobalAveragePooling1D counts the steps that are not masked; other layers drop the mask."""
    layers = k.layers
    x = k.input(STEPS, FEATURES, name="x")
    masked = layers.Masking()(x)
    outputs = (
        [layers.GlobalAveragePooling1D(name="average")(masked)]
        if k.generation > 2 or k.keras.__version__ > "2.2.0"
        else []
    )
    outputs.append(layers.GlobalAveragePooling1D(name="after_lstm")(layers.LSTM(UNITS, return_sequences=True)(masked)))
    inputs = masked_numbers()
    inputs[4, 3] = 1.0  # an average over no step is 0/0
    return Whole(k.model(x, outputs), [inputs])


def mask_nested(k):
    """Make a mask that enters a model within the model, and one that is made in it and leaves it."""
    layers = k.layers
    inner_x = k.input(STEPS, FEATURES, name="inner_x")
    reader = k.model(inner_x, layers.LSTM(UNITS, return_sequences=True, name="inside")(inner_x), name="reader")
    tokens = k.input(STEPS, name="inner_tokens")
    maker = k.model(tokens, layers.Embedding(VOCABULARY, FEATURES, mask_zero=True)(tokens), name="maker")
    x = k.input(STEPS, name="tokens")
    read = reader(maker(x))
    return Whole(k.model(x, [read, layers.LSTM(MORE_UNITS, name="after")(read)]), [ids()])


def mask_lost(k):
    """Layers after which the LSTM is masked no more, and ones that keep the mask."""
    layers = k.layers
    x = k.input(STEPS, name="tokens")
    embedded = layers.Embedding(VOCABULARY, FEATURES, mask_zero=True)(x)
    between = {
        "dense": layers.Dense(FEATURES),
        "batch_normalization": layers.BatchNormalization(),
        "leaky_relu": layers.LeakyReLU(),
        "spatial_dropout": layers.SpatialDropout1D(0.2),
    }
    if k.generation > 2:
        between |= {"permute_twice": layers.Permute((1, 2)), "conv": layers.Conv1D(FEATURES, 3, padding="same")}
        between |= {"reshape": layers.Reshape((STEPS, FEATURES)), "layer_normalization": layers.LayerNormalization()}
    outputs = [layers.LSTM(MORE_UNITS, name=f"after_{name}")(layer(embedded)) for name, layer in between.items()]
    return Whole(k.model(x, outputs), [ids()])


def mask_attention(k):
    """Masks of query and value in each attention layer; then a mean over the steps that the query's mask keeps."""
    layers = k.layers
    one, two = k.input(STEPS, name="one"), k.input(STEPS, name="two")
    embed = layers.Embedding(VOCABULARY, FEATURES, mask_zero=True)
    query, value = embed(one), embed(two)
    outputs = [
        layers.Attention(name="dot")([query, value]),
        layers.AdditiveAttention(name="additive")([query, value]),
        layers.MultiHeadAttention(2, 3, name="heads")(query, value),
        layers.LSTM(MORE_UNITS)(layers.Attention(use_scale=True, name="scaled")([query, value])),
        layers.Attention(name="causal")([query, query], use_causal_mask=True),
    ]
    tokens = ids(seed=9)[[0, 2, 3, 1, 4]].copy()
    tokens[4, 2] = 3  # no value at all has a mean that is not said
    queries = ids()
    queries[4, 2:4] = 5
    queries[2, 0] = queries[3, 0] = 4
    return Whole(k.model([one, two], outputs), [queries, tokens])


# --- precision --------------------------------------------------------------------------------------------------


def in_float64(k):
    layers = k.layers
    x = k.input(STEPS, FEATURES, name="x", dtype="float64")
    tensor = layers.LSTM(UNITS, dtype="float64", return_sequences=True)(x)
    tensor = layers.BatchNormalization(dtype="float64")(tensor)
    return Whole(k.model(x, layers.Dense(2, dtype="float64", activation="tanh")(tensor)), [numbers().astype("float64")])


def in_mixed_float16(k):
    """Compute in half precision with float32 variables."""
    layers, policy = k.layers, {"dtype": "mixed_float16"}
    x = k.input(STEPS, name="tokens")
    tensor = layers.Embedding(VOCABULARY, FEATURES, **policy)(x)
    tensor = layers.LSTM(UNITS, return_sequences=True, **policy)(tensor)
    tensor = layers.Conv1D(UNITS, 3, padding="same", **policy)(tensor)
    return Whole(k.model(x, layers.Dense(2, dtype="float32")(tensor)), [ids()], tolerance=2e-2)
