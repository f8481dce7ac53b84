"""Load files with real Keras, and save what they hold and compute: a script for an interpreter of its own.

    python load_keras.py keras|tf_keras|tensorflow.keras FILE...

``FILE.in.npz`` holds the model's inputs ``0``, ``1``, ...; ``FILE.out.npz`` gets ``y0``, ``y1``, ... and each layer's
weights, ``NAME|0``, ... in the order of ``get_weights()``, or the ``error``. Beside a file of weights only,
``FILE.json`` is the model's config.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np


def load(keras, file):
    config = Path(f"{file}.json")
    if not config.exists():
        return keras.models.load_model(file, compile=False)
    model = keras.models.model_from_json(config.read_text(encoding="utf-8"))
    model.load_weights(file)
    return model


def observe(keras, file):
    """Return a file's weights, bfloat16 as float32, and its outputs in float64."""
    model = load(keras, file)
    found = {}
    for layer in model.layers:
        for index, weight in enumerate(layer.get_weights()):
            found[f"{layer.name}|{index}"] = weight.astype("float32") if weight.dtype.name == "bfloat16" else weight
    if Path(f"{file}.in.npz").exists():
        with np.load(f"{file}.in.npz") as arrays:
            given = [arrays[str(index)] for index in range(len(arrays.files))]
        returned = model(given if len(given) > 1 else given[0], training=False)
        returned = returned if isinstance(returned, (list, tuple)) else [returned]
        to_numpy = keras.ops.convert_to_numpy if hasattr(keras, "ops") else np.asarray
        found |= {f"y{index}": np.asarray(to_numpy(y)).astype(np.float64) for index, y in enumerate(returned)}
    return found


def main(framework, *files):
    keras = importlib.import_module(framework)
    for file in files:
        try:
            found = observe(keras, file)
        except Exception as error:
            found = {"error": np.array(f"{type(error).__name__}: {error}")}
        np.savez(f"{file}.out.npz", **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
