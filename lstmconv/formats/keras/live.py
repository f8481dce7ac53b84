"""Read a Keras model in memory: Keras saves it to a temporary file, which is read as any other."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.formats.options import ReadOptions
from lstmconv.model import Checkpoint

__all__ = ["is_keras_layer", "is_keras_model", "read_live"]

_PACKAGES = {"keras": ".keras", "tf_keras": ".h5", "tensorflow": ".h5"}
"""How the models of a package are saved. Keras 3 warns of .h5; TensorFlow 2.13's .keras files name groups otherwise."""


def is_keras_model(value: object) -> bool:
    """Whether a value is a model of Keras 3, tf-keras or tf.keras; none of them is imported."""
    return _package(value) is not None and all(hasattr(value, name) for name in ("layers", "get_config", "save"))


def is_keras_layer(value: object) -> bool:
    """Whether a value is a layer of theirs, and no model."""
    return _package(value) is not None and not is_keras_model(value) and hasattr(value, "get_config")


def _package(value: object) -> str | None:
    """Return the package of the first of a value's classes that one of them defines: users derive classes of theirs."""
    homes = (kind.__module__.partition(".")[0] for kind in type(value).__mro__)
    return next((home for home in homes if home in _PACKAGES), None)


def read_live(model: Any) -> Checkpoint:
    """Return the layers of a model in memory.

    Raises:
        UsageError: It is no Keras model.
        UnsupportedModelError: Keras cannot save it, it is not built, or no LSTM in it converts.
    """
    package = _package(model)
    if package is None or not is_keras_model(model):
        raise UsageError(f"from_keras takes a Keras model, found {type(model).__name__}")
    if not getattr(model, "built", True) or not model.weights:
        raise UnsupportedModelError(f"{model.name}: the model has no weights yet; call it once, or build it")
    from lstmconv.formats import open_file

    name = Path(str(model.name)).name or "model"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / f"{name}{_PACKAGES[package]}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # That .h5 is a legacy format is no news to who asks for it.
                model.save(
                    path if package == "keras" else str(path),
                    **({} if package == "keras" else {"include_optimizer": False}),
                )
        except Exception as error:  # Keras refuses in its own kinds of errors.
            line = str(error).split("\n")[0][:200]
            raise UnsupportedModelError(
                f"{model.name}: Keras cannot save it: {type(error).__name__}: {line}"
            ) from error
        read = open_file(path, ReadOptions()).checkpoint
        origin = read.provenance
        return replace(
            read, provenance=origin._replace(source=name, hashed=origin.sha256, format=f"{origin.format}, from memory")
        )
