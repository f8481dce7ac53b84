"""Record what tf-keras 2.21.0 computes where TimeDistributed returns a mask that the layer in it makes.

    python3.11 -m venv tf221 && tf221/bin/pip install tensorflow-cpu==2.21.0 tf-keras==2.21.0
    tf221/bin/python tests/golden/masked_steps/make_masked_steps.py tests/golden/masked_steps

For Embedding and Masking it writes the model, its input `x`, its output `masked`, and the output `unmasked` of the same
model without the mask.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tf_keras as keras

BATCH, STEPS, PLACES, WORDS, FEATURES, UNITS = 3, 5, 7, 11, 3, 2
HIDDEN = np.s_[[0, 0, 1, 2, 2], :, [5, 6, 0, 2, 4]]  # On the right, on the left, holes.

layers = keras.layers


def embedding(*, mask):
    words = keras.Input((STEPS, PLACES), dtype="int32")
    return words, layers.TimeDistributed(layers.Embedding(WORDS, FEATURES, mask_zero=mask), name="steps")(words)


def masking(*, mask):
    sequences = keras.Input((STEPS, PLACES, FEATURES))
    inner = layers.Masking() if mask else layers.Activation("linear")
    return sequences, layers.TimeDistributed(inner, name="steps")(sequences)


def main(folder):
    random = np.random.default_rng(1)
    words = random.integers(1, WORDS, (BATCH, STEPS, PLACES)).astype("int32")
    words[HIDDEN] = 0
    numbers = random.normal(size=(BATCH, STEPS, PLACES, FEATURES)).astype("float32")
    numbers[HIDDEN] = 0
    for build, x in ((embedding, words), (masking, numbers)):
        models = []
        for mask in (True, False):
            inputs, steps = build(mask=mask)
            lstm = layers.TimeDistributed(layers.LSTM(UNITS, name="inside"), name="sentence")(steps)
            models.append(keras.Model(inputs, lstm))
        model, plain = models
        model.set_weights([random.normal(0, 0.6, weight.shape) for weight in model.get_weights()])
        plain.set_weights(model.get_weights())
        model.save(folder / f"{build.__name__}.h5")
        computed = {"masked": model.predict(x, verbose=0), "unmasked": plain.predict(x, verbose=0)}
        np.savez_compressed(folder / f"{build.__name__}.npz", x=x, **computed)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
