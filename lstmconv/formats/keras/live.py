"""Read a Keras model in memory: Keras saves it to a temporary file, which is read as any other."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from lstmconv.errors import UnsupportedModelError, in_one_line
from lstmconv.formats.options import ReadOptions
from lstmconv.misuse import is_keras_model, keras_package, misfit
from lstmconv.model import Checkpoint

__all__ = ["read_live"]


def read_live(model: Any) -> Checkpoint:
    """Return the layers of a model in memory.

    Raises:
        UsageError: It is no Keras model.
        UnsupportedModelError: It has no weights yet, Keras cannot save it, or no LSTM in it converts.
    """
    if not is_keras_model(model):
        raise misfit("from_keras", model, "a Keras model")
    if not model.weights:
        raise UnsupportedModelError("the model has no weights yet; build it, or call it once", about=model.name)
    from lstmconv.formats import open_file

    # Keras 3 calls .h5 a legacy; TensorFlow 2.13 names the groups of a .keras file in a way of its own.
    keras_3 = keras_package(model) == "keras"
    name = Path(str(model.name)).name or "model"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / f"{name}{'.keras' if keras_3 else '.h5'}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # About the format, which nobody chose.
                if keras_3:
                    model.save(path)
                else:
                    model.save(str(path), include_optimizer=False)
        except Exception as error:  # Keras refuses in its own kinds of errors.
            raise UnsupportedModelError(
                f"Keras cannot save it: {type(error).__name__}: {in_one_line(error)}", about=name
            ) from error
        read = open_file(path, ReadOptions()).checkpoint
        origin = read.provenance
        return replace(read, provenance=origin._replace(source=name, hashed=origin.sha256))
