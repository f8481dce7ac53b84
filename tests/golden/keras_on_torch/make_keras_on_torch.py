"""Save a Keras 3 model's ``state_dict()``, its variables by name, its config, and what it computes.

``KERAS_BACKEND=torch python make_keras_on_torch.py`` with keras==3.15.1 and torch==2.13.
"""

from pathlib import Path

import keras
import numpy as np
import torch

FOLDER = Path(__file__).parent


def main():
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((7, 5)),
            layers.LSTM(6, return_sequences=True, dropout=0.1, name="first"),
            layers.Bidirectional(layers.LSTM(4), name="second"),
            layers.BatchNormalization(name="norm"),
            layers.Dense(2, name="dense"),
        ],
        name="sequential",
    )
    rng = np.random.default_rng(7)
    model.set_weights([rng.uniform(0.1, 0.9, weight.shape).astype("float32") for weight in model.get_weights()])
    x = rng.standard_normal((2, 7, 5)).astype("float32")
    torch.save(model.state_dict(), FOLDER / "state_dict.pt")
    np.savez(FOLDER / "by_name.npz", **{variable.path: variable.numpy() for variable in reversed(model.weights)})
    (FOLDER / "config.json").write_text(model.to_json() + "\n")
    np.savez(FOLDER / "io.npz", x=x, y=model.predict(x, verbose=0))


if __name__ == "__main__":
    main()
