"""Make the golden whole models of keras-team Keras 2.2.4 (all) and 2.3.1 (some), on Theano.

The environment `old` and the folders `trees/VERSION` are those of `tests/golden/make_old_keras.py`. For each version

    old/bin/python tests/golden/whole/make_keras_2.py tests/golden/whole trees/2.2.4

writes the folder `tests/golden/whole/keras-2.2.4`. Names after the tree make these cases only.
"""

from __future__ import annotations

import sys

import graphs
import plain_layers as plain
import recurrent_layers as recurrent
from making import Kit, make
from theano_keras import clear, load, save, start

H5 = ("h5",)
TABLE = {
    "activations": (plain.activations, H5),
    "advanced_activations": (plain.advanced_activations, H5),
    "embedding": (plain.embedding, H5),
    "conv1d": (plain.conv1d, H5),
    "conv2d": (plain.conv2d, H5),
    "channels_first": (plain.channels_first, H5),
    "pooling1d": (plain.pooling1d, H5),
    "global_pooling": (plain.global_pooling, H5),
    "batch_normalization": (plain.batch_normalization, H5),
    "shapes": (plain.shapes, H5),
    "merges": (plain.merges, H5),
    "dot": (plain.dot, H5),
    "lstm_options": (recurrent.lstm_options, H5),
    "lstm_stateful": (recurrent.lstm_stateful, H5),
    "gru": (recurrent.gru, H5),
    "bidirectional_lstm": (recurrent.bidirectional_lstm, H5),
    "mask_lstm": (recurrent.mask_lstm, H5),
    "mask_bidirectional": (recurrent.mask_bidirectional, H5),
    "mask_embedding": (recurrent.mask_embedding, H5),
    "classifier": (graphs.classifier, H5),
    "several": (graphs.several, H5),
    "shared_layer": (graphs.shared_layer, H5),
    "nested": (graphs.nested, H5),
    "nested_frozen": (graphs.nested_frozen, H5),
    "shared_model": (graphs.shared_model, H5),
    "encoder_decoder_masked": (graphs.encoder_decoder_masked, H5),
    "states_from_layers": (graphs.states_from_layers, H5),
    "mask_merges": (graphs.mask_merges, H5),
    "mask_average": (graphs.mask_average, H5),
    "mask_nested": (graphs.mask_nested, H5),
    "mask_lost": (graphs.mask_lost, H5),
}
OF_2_3 = ("mask_average",)


def main(folder, tree, *only):
    keras = start(tree)
    version = keras.__version__
    table = TABLE if version == "2.2.4" else {name: TABLE[name] for name in OF_2_3}
    kit = Kit(keras, 2, f"keras {version} on theano", clear)
    return make(table, f"{folder}/keras-{version}", kit, save, load, only)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
