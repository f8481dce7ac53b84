"""Record what tf-keras hands cuDNN: its own ``canonical_to_params`` on Keras weights.

    pip install tensorflow-cpu==2.21.0 tf-keras==2.21.0
    python make_canonical.py

``canonical.npz`` holds, for each case of sizes, the three Keras arrays (``<case>|kernel``,
``<case>|recurrent_kernel``, ``<case>|bias``) and the flat parameters ``<case>|params`` as
tf_keras/src/layers/rnn/lstm.py ``gpu_lstm`` builds them: one layer, one direction, with the bias as
cuDNN's second (recurrent) bias and zeros as its first.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf
from tf_keras.src.layers.rnn.gru_lstm_utils import canonical_to_params

SIZES = {"3x5": (3, 5), "7x2": (7, 2), "5x5": (5, 5), "3x1": (3, 1)}


def main() -> None:
    random = np.random.default_rng(20240722)
    recorded = {}
    for case, (features, hidden) in SIZES.items():
        kernel = random.normal(size=(features, 4 * hidden)).astype(np.float32)
        recurrent = random.normal(size=(hidden, 4 * hidden)).astype(np.float32)
        bias = random.normal(size=4 * hidden).astype(np.float32)
        weights = [*tf.split(kernel, 4, axis=1), *tf.split(recurrent, 4, axis=1)]
        biases = tf.split(tf.concat((tf.zeros_like(bias), bias), axis=0), 8)
        params = canonical_to_params(weights=weights, biases=biases, shape=tf.constant([-1]), transpose_weights=True)
        recorded |= {
            f"{case}|kernel": kernel,
            f"{case}|recurrent_kernel": recurrent,
            f"{case}|bias": bias,
            f"{case}|params": params.numpy(),
        }
    np.savez(Path(__file__).with_name("canonical.npz"), **recorded)


if __name__ == "__main__":
    main()
