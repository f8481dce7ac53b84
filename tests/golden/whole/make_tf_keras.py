"""Make the golden whole models of tf-keras 2.21.0 (all), or of the Keras 2.13.1 inside TensorFlow (some).

    python3.11 -m venv tf221 && tf221/bin/pip install tensorflow-cpu==2.21.0 tf-keras==2.21.0
    tf221/bin/python tests/golden/whole/make_tf_keras.py tests/golden/whole

    python3.11 -m venv tf213 && tf213/bin/pip install tensorflow-cpu==2.13.1
    tf213/bin/python tests/golden/whole/make_tf_keras.py tests/golden/whole

Where tf-keras is installed it is used and `tests/golden/whole/tf-keras-2.21.0` is written; otherwise TensorFlow's own
Keras, and `tests/golden/whole/tf-2.13.1`. Names after the folder make these cases only. No GPU is needed.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import zlib
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import graphs
import numpy as np
import plain_layers as plain
import recurrent_layers as recurrent
import tensorflow as tf
from making import (
    FEATURES,
    STEPS,
    UNITS,
    VOCABULARY,
    Kit,
    Whole,
    faults,
    ids,
    make,
    numbers,
    randomise,
    run,
)

if importlib.util.find_spec("tf_keras"):
    import tf_keras as keras
    from tf_keras.src.layers.rnn.cudnn_gru import CuDNNGRU
    from tf_keras.src.layers.rnn.cudnn_lstm import CuDNNLSTM
    from tf_keras.src.layers.rnn.lstm_v1 import LSTM as LSTM_OF_TF1

    FOLDER, BY = f"tf-keras-{keras.__version__}", f"tf-keras {keras.__version__}"
else:
    import keras
    from keras.src.layers.rnn.cudnn_gru import CuDNNGRU
    from keras.src.layers.rnn.cudnn_lstm import CuDNNLSTM
    from keras.src.layers.rnn.lstm_v1 import LSTM as LSTM_OF_TF1

    FOLDER, BY = f"tf-{tf.__version__}", f"keras {keras.__version__} in tensorflow {tf.__version__}"


def save(model, path, format):
    if "weights" in format:
        model.save_weights(path)
    else:
        model.save(path)
    return path


def load(path):
    return keras.models.load_model(path, compile=False)


# --- what only tf.keras can do ----------------------------------------------------------------------------------


def operators(k):
    """Operators and TensorFlow functions on tensors of the graph: layers TFOpLambda and SlicingOpLambda."""
    layers = k.layers
    x, y = k.input(STEPS, FEATURES, name="x"), k.input(STEPS, FEATURES, name="y")
    outputs = [
        x * 2.0 + 1.0,
        3.0 - x,
        x - y,
        x / 4.0,
        -x,
        x[:, -1, :],
        x[:, 1:6:2, 0:2],
        layers.LSTM(UNITS)(x[:, ::-1] * y),
        tf.concat([x, y], axis=1),
        tf.concat([x, y], -1),
        tf.reshape(x, (-1, STEPS * FEATURES)),
        tf.transpose(x, perm=[0, 2, 1]),
        tf.expand_dims(x[:, 0], 1),
        tf.squeeze(x[:, 0:1], axis=1),
        tf.reduce_mean(x, axis=1),
        tf.reduce_sum(x, axis=-1, keepdims=True),
        tf.reduce_max(x, axis=1),
        tf.stack([x[:, 0], y[:, 0]], axis=1),
        tf.tanh(x),
        tf.nn.relu(y),
        tf.sigmoid(x),
        tf.nn.softmax(x, axis=1),
        tf.exp(x),
        tf.square(x),
        tf.sqrt(tf.abs(x)),
        tf.maximum(x, y),
        tf.minimum(x, 0.5),
        tf.matmul(x, y, transpose_b=True),
        x**2,
        keras.backend.mean(x, axis=1),
        keras.backend.concatenate([x, y], axis=-1),
    ]
    return Whole(k.model([x, y], outputs), [numbers(), numbers(seed=8)])


def mask_of_not_equal(k):
    layers = k.layers
    x = k.input(STEPS, name="tokens")
    embedded = layers.Embedding(VOCABULARY, FEATURES)(x)
    return Whole(k.model(x, layers.LSTM(UNITS, return_sequences=True)(embedded, mask=tf.not_equal(x, 0))), [ids()])


def legacy_lstm(k):
    """Use the LSTM of TensorFlow 1, whose default recurrent activation is hard_sigmoid."""
    return Whole(k.fan(LSTM_OF_TF1(UNITS, return_sequences=True, name="encoder")), [numbers()])


def training_in_the_call(k):
    """Call a Dropout with `training=False`, as the config then says."""
    layers = k.layers
    x = k.input(STEPS, FEATURES, name="x")
    tensor = layers.Dropout(0.3)(x, training=False)
    return Whole(k.model(x, layers.LSTM(UNITS)(tensor)), [numbers()])


def conv2d_groups(k):
    conv = k.layers.Conv2D
    return Whole(
        k.fan(conv(6, (3, 2), groups=3, padding="same"), conv(4, 2, groups=2), shape=(5, 4, 6)), [numbers(5, 4, 6)]
    )


H5, ZIP = ("h5",), ("keras",)
TABLE = {
    "dense": (plain.dense, ZIP),
    "dense_on_steps": (plain.dense_on_steps, ZIP),
    "activations": (plain.activations, ZIP),
    "advanced_activations": (plain.advanced_activations, ZIP),
    "embedding": (plain.embedding, H5),
    "embedding_of_floats": (plain.embedding_of_floats, ZIP),
    "noise": (plain.noise, H5),
    "conv1d": (plain.conv1d, ZIP),
    "conv1d_causal_strided": (plain.conv1d_causal_strided, ZIP),
    "conv1d_groups": (plain.conv1d_groups, ZIP),
    "conv2d": (plain.conv2d, ZIP),
    "conv2d_groups": (conv2d_groups, ZIP),
    "separable_conv1d": (plain.separable_conv1d, ZIP),
    "depthwise_conv1d": (plain.depthwise_conv1d, ZIP),
    "conv1d_transpose": (plain.conv1d_transpose, ZIP),
    "pooling1d": (plain.pooling1d, ZIP),
    "pooling2d": (plain.pooling2d, ZIP),
    "global_pooling": (plain.global_pooling, ZIP),
    "batch_normalization": (plain.batch_normalization, ZIP),
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
    "lstm_stateful": (recurrent.lstm_stateful, H5),
    "lstm_time_major": (recurrent.lstm_time_major, H5),
    "legacy_lstm": (legacy_lstm, H5),
    "rnn_of_cells": (recurrent.rnn_of_cells, ZIP),
    "rnn_of_cells_states": (recurrent.rnn_of_cells_states, ZIP),
    "gru": (recurrent.gru, ZIP),
    "simple_rnn": (recurrent.simple_rnn, ZIP),
    "bidirectional_lstm": (recurrent.bidirectional_lstm, ZIP),
    "bidirectional_gru": (recurrent.bidirectional_gru, ZIP),
    "bidirectional_simple_rnn": (recurrent.bidirectional_simple_rnn, ZIP),
    "bidirectional_states": (recurrent.bidirectional_states, ZIP),
    "bidirectional_own_backward": (recurrent.bidirectional_own_backward, ZIP),
    "bidirectional_backwards": (recurrent.bidirectional_backwards, H5),
    "bidirectional_frozen": (recurrent.bidirectional_frozen, ("h5_not_reloaded",)),
    "mask_lstm": (recurrent.mask_lstm, H5),
    "mask_others": (recurrent.mask_others, ZIP),
    "mask_bidirectional": (recurrent.mask_bidirectional, ZIP),
    "mask_zero_output": (recurrent.mask_zero_output, ZIP),
    "mask_embedding": (recurrent.mask_embedding, H5),
    "mask_stateful": (recurrent.mask_stateful, H5),
    "time_distributed": (recurrent.time_distributed, ZIP),
    "time_distributed_model": (recurrent.time_distributed_model, ZIP),
    "classifier": (graphs.classifier, H5),
    "forecaster": (graphs.forecaster, H5),
    "gru_classifier": (graphs.gru_classifier, ZIP),
    "several": (graphs.several, H5),
    "same_output_twice": (graphs.same_output_twice, H5),
    "shared_layer": (graphs.shared_layer, H5),
    "nested": (graphs.nested, ("h5",)),
    "nested_frozen": (graphs.nested_frozen, H5),
    "nested_deep": (graphs.nested_deep, ZIP),
    "nested_in_sequential": (graphs.nested_in_sequential, ZIP),
    "shared_model": (graphs.shared_model, ZIP),
    "encoder_decoder": (graphs.encoder_decoder, H5),
    "encoder_decoder_masked": (graphs.encoder_decoder_masked, H5),
    "states_from_layers": (graphs.states_from_layers, ZIP),
    "states_of_bidirectional": (graphs.states_of_bidirectional, ZIP),
    "constant_states": (graphs.constant_states, ("h5_not_reloaded",)),
    "explicit_mask": (graphs.explicit_mask, H5),
    "mask_merges": (graphs.mask_merges, ZIP),
    "mask_average": (graphs.mask_average, H5),
    "mask_nested": (graphs.mask_nested, ZIP),
    "mask_lost": (graphs.mask_lost, ZIP),
    "mask_attention": (graphs.mask_attention, ZIP),
    "mask_of_not_equal": (mask_of_not_equal, H5),
    "operators": (operators, H5),
    "training_in_the_call": (training_in_the_call, H5),
    "in_float64": (graphs.in_float64, H5),
    "in_mixed_float16": (graphs.in_mixed_float16, ZIP),
}
OF_2_13 = (
    "classifier",
    "several",
    "nested",
    "operators",
    "encoder_decoder",
    "mask_merges",
    "mask_lost",
    "states_from_layers",
)


# --- CuDNNLSTM and CuDNNGRU -------------------------------------------------------------------------------------


def make_cudnn(kit, folder):
    """Save layers that only a GPU can run; record what plain layers compute that loaded the same weights file."""
    kit.clear()
    model, inputs = recurrent.cudnn(kit, CuDNNLSTM, CuDNNGRU)
    randomise(model, 0.4, zlib.crc32(b"cudnn"))
    weights = folder / "cudnn.weights_only.h5"
    model.save(folder / "cudnn.h5")
    model.save_weights(weights)
    plain_model, _ = recurrent.cudnn(kit, kit.layers.LSTM, kit.layers.GRU, reset_after=True)
    plain_model.load_weights(weights)
    weights.unlink()
    outputs = run(plain_model, inputs)
    if problems := list(faults(outputs)):
        raise ValueError("; ".join(problems))
    recorded = {"by": np.array(f"{BY}, plain layers"), "inputs": np.array(model.input_names)}
    recorded |= {"outputs": np.array(model.output_names), "x:0": inputs[0]}
    np.savez_compressed(folder / "cudnn.npz", **recorded, **{f"y:{index}": y for index, y in enumerate(outputs)})


def main(folder, *only):
    table = TABLE if FOLDER.startswith("tf-keras") else {name: (TABLE[name][0], ZIP) for name in OF_2_13}
    folder = Path(folder) / FOLDER
    kit = Kit(keras, 2.5, BY, keras.backend.clear_session)
    failures = make(table, folder, kit, save, load, only)
    if table is TABLE and (not only or "cudnn" in only):
        make_cudnn(kit, folder)
    return failures


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
