"""Save ``np.savez(path, *model.get_weights())`` beside the ``.h5`` of the same model.

Keras 2 and 3 order the arrays of frozen and nested layers differently; this model has both, each with arrays of one
shape, so that a wrong order shows in the numbers alone::

    KERAS_BACKEND=torch python make_get_weights.py keras-3.15.1      python -m venv with keras==3.15.1 torch
    python make_get_weights.py tf-keras-2.21.0                       tensorflow==2.21 tf-keras==2.21
    python make_get_weights.py keras-2.2.4 TREE                      on Theano; see ../make_old_keras.py
"""

import importlib
import sys
from pathlib import Path

import numpy as np


def model_of(keras):
    layers = keras.layers
    inside = layers.Input((None, 3))
    frozen = layers.LSTM(3, return_sequences=True, name="frozen")
    below = layers.LSTM(3, return_sequences=True, name="below")
    norm = layers.BatchNormalization(name="norm")
    inner = keras.models.Model(inside, norm(below(frozen(inside))), name="inner")
    frozen.trainable = False
    outside = layers.Input((None, 3), name="outside")
    both = layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="both")
    found = layers.BatchNormalization(name="norm_out")(both(inner(outside)))
    found = layers.TimeDistributed(layers.Dense(2), name="each")(found)
    model = keras.models.Model(outside, layers.LSTM(2, name="last")(found), name="mixed")
    if keras.__version__ >= "3":
        both.forward_layer.trainable = False  # Keras 2 would list it last, which its config does not say.
    rng = np.random.RandomState(7)
    model.set_weights([rng.uniform(0.1, 1, weight.shape).astype("float32") for weight in model.get_weights()])
    return model


def main():
    name, *tree = sys.argv[1:]
    if tree:
        sys.path.insert(0, str(Path(__file__).parent.parent))
        from make_old_keras import load_keras as load

        keras = load(tree[0])
    elif name.startswith("tf-keras"):
        keras = importlib.import_module("tf_keras")
    else:
        keras = importlib.import_module("keras")
    model = model_of(keras)
    folder = Path(__file__).parent
    model.save(str(folder / f"{name}.h5"))
    np.savez(folder / f"{name}.npz", *model.get_weights())


if __name__ == "__main__":
    main()
