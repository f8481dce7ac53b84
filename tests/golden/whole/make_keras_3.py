"""Make the golden whole models of Keras 3 (PyTorch backend): 3.15.1 all of them, 3.3.3 some.

    python3.11 -m venv keras3
    keras3/bin/pip install torch==2.13.0 h5py==3.16.0 numpy==2.4.6 absl-py rich namex optree ml-dtypes packaging
    keras3/bin/pip install --no-deps --target trees3/3.15.1 keras==3.15.1      # and so for each version
    PYTHONPATH=trees3/3.15.1 keras3/bin/python tests/golden/whole/make_keras_3.py tests/golden/whole

writes the folder `tests/golden/whole/keras-3.15.1`. Names after the folder make these cases only.
"""

from __future__ import annotations

import os
import sys
import tempfile

os.environ.update(KERAS_BACKEND="torch", KERAS_HOME=tempfile.mkdtemp())

import graphs
import keras
import plain_layers as plain
import recurrent_layers as recurrent
from making import FEATURES, MORE_UNITS, STEPS, UNITS, VOCABULARY, Kit, Whole, ids, make, numbers


def save(model, path, format):
    if "weights" in format:
        model.save_weights(path)
    else:
        model.save(path)
    return path


def load(path):
    return keras.models.load_model(path, compile=False)


# --- what only Keras 3 can do -----------------------------------------------------------------------------------


def operations(k):
    """Operators and `keras.ops` on tensors of the graph, which become layers of their own."""
    ops, layers = keras.ops, k.layers
    x, y = k.input(STEPS, FEATURES, name="x"), k.input(STEPS, FEATURES, name="y")
    outputs = [
        x * 2.0 + 1.0,
        3.0 - x,
        x - y,
        x / 4.0,
        -x,
        x[:, -1, :],
        x[:, 1:6:2, 0:2],
        layers.LSTM(UNITS)(ops.flip(x, axis=1) * y),
        ops.concatenate([x, y], axis=1),
        ops.concatenate([x, y], axis=-1),
        ops.reshape(x, (-1, STEPS * FEATURES)),
        ops.transpose(x, (0, 2, 1)),
        ops.expand_dims(x[:, 0, :], 1),
        ops.squeeze(x[:, 0:1, :], 1),
        ops.mean(x, axis=1),
        ops.sum(x, axis=-1, keepdims=True),
        ops.max(x, axis=1),
        ops.stack([x[:, 0], y[:, 0]], axis=1),
        ops.tanh(x),
        ops.relu(y),
        ops.sigmoid(x),
        ops.softmax(x, axis=1),
        ops.exp(x),
        ops.square(x),
        ops.sqrt(ops.abs(x)),
        ops.maximum(x, y),
        ops.minimum(x, 0.5),
        ops.matmul(x, ops.transpose(y, (0, 2, 1))),
        x**2,
    ]
    return Whole(k.model([x, y], outputs), [numbers(), numbers(seed=8)])


def mask_of_not_equal(k):
    """Compute the mask in the graph from the tokens."""
    layers = k.layers
    x = k.input(STEPS, name="tokens", dtype="int32")
    mask = keras.ops.not_equal(x, 0)
    embedded = layers.Embedding(VOCABULARY, FEATURES)(x)
    y = layers.LSTM(UNITS, return_sequences=True)(embedded, mask=mask)
    return Whole(k.model(x, [y, layers.GlobalAveragePooling1D()(embedded, mask=keras.ops.greater(x, 3))]), [some_ids()])


def some_ids():
    """Return ids of which every row has some above 3."""
    tokens = ids()
    tokens[4, 5] = 9
    return tokens


def noise_unused(k):
    """Dropout with a seed, whose generator's state is among the file's arrays."""
    layers = k.layers
    some = [
        layers.Dropout(0.3, seed=3),
        layers.LSTM(UNITS, dropout=0.2, recurrent_dropout=0.1, seed=4),
        layers.Dense(2),
    ]
    return Whole(k.sequential(*some, shape=(STEPS, FEATURES)), [numbers()])


def conv_grouped_2d(k):
    conv = k.layers.Conv2D
    some = [conv(6, (3, 2), groups=3, padding="same"), conv(4, 2, groups=2)]
    return Whole(k.fan(*some, shape=(5, 4, 6)), [numbers(5, 4, 6)])


def dictionary_of_inputs(k):
    """Take inputs and return outputs by name, in dictionaries."""
    layers = k.layers
    one, two = k.input(STEPS, FEATURES, name="zebra"), k.input(UNITS, name="ape")
    read = layers.LSTM(UNITS, name="read")(one)
    model = keras.Model(
        {"ape": two, "zebra": one}, {"sum": layers.Add()([read, two]), "head": layers.Dense(MORE_UNITS)(read)}
    )
    return Whole(model, [numbers(UNITS), numbers()])


ZIP, H5, WEIGHTS = ("keras",), ("h5",), ("weights",)
TABLE = {
    "dense": (plain.dense, H5),
    "dense_on_steps": (plain.dense_on_steps, ZIP),
    "activations": (plain.activations, ZIP),
    "advanced_activations": (plain.advanced_activations, ZIP),
    "embedding": (plain.embedding, ZIP),
    "embedding_of_floats": (plain.embedding_of_floats, ZIP),
    "noise": (plain.noise, ZIP),
    "noise_unused": (noise_unused, WEIGHTS),
    "conv1d": (plain.conv1d, ZIP),
    "conv1d_causal_strided": (plain.conv1d_causal_strided, ZIP),
    "conv1d_groups": (plain.conv1d_groups, ZIP),
    "conv2d": (plain.conv2d, ZIP),
    "conv2d_groups": (conv_grouped_2d, ZIP),
    "channels_first": (plain.channels_first, ZIP),
    "channels_first_1d": (plain.channels_first_1d, ZIP),
    "separable_conv1d": (plain.separable_conv1d, ZIP),
    "depthwise_conv1d": (plain.depthwise_conv1d, ZIP),
    "conv1d_transpose": (plain.conv1d_transpose, ZIP),
    "conv1d_transpose_dilated": (plain.conv1d_transpose_dilated, ZIP),
    "pooling1d": (plain.pooling1d, ZIP),
    "pooling2d": (plain.pooling2d, ZIP),
    "global_pooling": (plain.global_pooling, ZIP),
    "batch_normalization": (plain.batch_normalization, H5),
    "layer_normalization": (plain.layer_normalization, ZIP),
    "scaling": (plain.scaling, ZIP),
    "rescaling_by_feature": (plain.rescaling_by_feature, ZIP),
    "shapes": (plain.shapes, ZIP),
    "shapes_2d": (plain.shapes_2d, ZIP),
    "merges": (plain.merges, ZIP),
    "merges_that_broadcast": (plain.merges_that_broadcast, ZIP),
    "dot": (plain.dot, ZIP),
    "attention": (plain.attention, ZIP),
    "multi_head_attention": (plain.multi_head_attention, ZIP),
    "lstm_options": (recurrent.lstm_options, ZIP),
    "lstm_any_length": (recurrent.lstm_any_length, ZIP),
    "lstm_stateful": (recurrent.lstm_stateful, ZIP),
    "rnn_of_cells": (recurrent.rnn_of_cells, ZIP),
    "rnn_of_cells_states": (recurrent.rnn_of_cells_states, ZIP),
    "gru": (recurrent.gru, ZIP),
    "simple_rnn": (recurrent.simple_rnn, ZIP),
    "bidirectional_lstm": (recurrent.bidirectional_lstm, ZIP),
    "bidirectional_gru": (recurrent.bidirectional_gru, ZIP),
    "bidirectional_simple_rnn": (recurrent.bidirectional_simple_rnn, ZIP),
    "bidirectional_states": (recurrent.bidirectional_states, ZIP),
    "bidirectional_own_backward": (recurrent.bidirectional_own_backward, ZIP),
    "bidirectional_frozen": (recurrent.bidirectional_frozen, H5),
    "mask_lstm": (recurrent.mask_lstm, ZIP),
    "mask_others": (recurrent.mask_others, ZIP),
    "mask_bidirectional": (recurrent.mask_bidirectional, ZIP),
    "mask_zero_output": (recurrent.mask_zero_output, ZIP),
    "mask_embedding": (recurrent.mask_embedding, ("keras", "h5_not_reloaded")),
    "mask_stateful": (recurrent.mask_stateful, ZIP),
    "time_distributed": (recurrent.time_distributed, ZIP),
    "time_distributed_model": (recurrent.time_distributed_model, ZIP),
    "classifier": (graphs.classifier, ("keras", "weights")),
    "forecaster": (graphs.forecaster, H5),
    "gru_classifier": (graphs.gru_classifier, ZIP),
    "several": (graphs.several, ZIP),
    "same_output_twice": (graphs.same_output_twice, ZIP),
    "dictionary_of_inputs": (dictionary_of_inputs, ZIP),
    "shared_layer": (graphs.shared_layer, ZIP),
    "nested": (graphs.nested, ZIP),
    "nested_frozen": (graphs.nested_frozen, H5),
    "nested_deep": (graphs.nested_deep, ZIP),
    "nested_in_sequential": (graphs.nested_in_sequential, H5),
    "shared_model": (graphs.shared_model, H5),
    "constant_states": (graphs.constant_states, ZIP),
    "encoder_decoder": (graphs.encoder_decoder, ZIP),
    "encoder_decoder_masked": (graphs.encoder_decoder_masked, ZIP),
    "states_from_layers": (graphs.states_from_layers, ZIP),
    "states_of_bidirectional": (graphs.states_of_bidirectional, ZIP),
    "explicit_mask": (graphs.explicit_mask, ZIP),
    "mask_merges": (graphs.mask_merges, ZIP),
    "mask_average": (graphs.mask_average, ZIP),
    "mask_nested": (graphs.mask_nested, ZIP),
    "mask_lost": (graphs.mask_lost, ZIP),
    "mask_attention": (graphs.mask_attention, ZIP),
    "mask_of_not_equal": (mask_of_not_equal, ZIP),
    "operations": (operations, ZIP),
    "in_float64": (graphs.in_float64, ZIP),
    "in_mixed_float16": (graphs.in_mixed_float16, ZIP),
}
OF_3_3 = (
    "dense_on_steps",
    "gru_classifier",
    "several",
    "nested",
    "shared_layer",
    "encoder_decoder",
    "mask_embedding",
    "lstm_stateful",
)


def main(folder, *only):
    version = keras.__version__
    table = {name: TABLE[name] for name in OF_3_3} if version.startswith("3.3.") else TABLE
    kit = Kit(keras, 3, f"keras {version} on {keras.backend.backend()}", keras.utils.clear_session)
    return make(table, f"{folder}/keras-{version}", kit, save, load, only)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
