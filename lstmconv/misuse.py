"""What to do with a value of a wrong type: one row for each kind of value that people pass."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from lstmconv.errors import UsageError

__all__ = ["is_keras_model", "keras_package", "misfit", "path_of"]

_KERAS = ("keras", "tf_keras", "tensorflow")


def keras_package(value: object) -> str | None:
    """Return the Keras package that a value's class, or one that it is derived from, comes from; none is imported."""
    homes = (kind.__module__.partition(".")[0] for kind in type(value).__mro__)
    return next((home for home in homes if home in _KERAS), None)


def is_keras_model(value: object) -> bool:
    """Whether a value is a model of Keras 3, tf-keras or tf.keras."""
    return keras_package(value) is not None and all(hasattr(value, name) for name in ("layers", "get_config", "save"))


def _of(module: str, name: str) -> Callable[[object], bool]:
    """Return whether a value's class, or one that it is derived from, has this name in this package."""
    return lambda value: any(
        kind.__name__ == name and kind.__module__.partition(".")[0] == module for kind in type(value).__mro__
    )


def _is_state_dict(value: object) -> bool:
    return isinstance(value, Mapping) and any(hasattr(entry, "shape") for entry in value.values())


class _Kind(NamedTuple):
    """A kind of value.

    Attributes:
        fits: Whether a value is of it.
        called: What people call it.
        cure: What to do with it.
    """

    fits: Callable[[object], bool]
    called: str
    cure: str


_KINDS = (
    _Kind(lambda value: isinstance(value, str | os.PathLike), "a path", "read it first, with lstmconv.load(path)"),
    _Kind(is_keras_model, "a Keras model", "lstmconv.from_keras(model) reads it; or save it, and pass the file"),
    _Kind(
        lambda value: keras_package(value) is not None and hasattr(value, "get_config"),
        "a Keras layer",
        "put it into a keras.Sequential, and read that with lstmconv.from_keras(model)",
    ),
    _Kind(_of("torch", "Module"), "a torch module", "lstmconv.from_torch(module) reads it"),
    _Kind(_of("onnx", "ModelProto"), "an ONNX model", "lstmconv.from_onnx(model) reads it"),
    _Kind(_of("lstmconv", "Checkpoint"), "a Checkpoint", "pass one of its layers, such as checkpoint[0]"),
    _Kind(_of("lstmconv", "Conversion"), "a Conversion", "its files are in .paths, and .source is the Checkpoint"),
    _Kind(_of("lstmconv", "LSTMLayer"), "one layer", "pass the Checkpoint that has it"),
    _Kind(_of("lstmconv", "LSTMDirection"), "one direction of a layer", "pass the layer that has it"),
    _Kind(_is_state_dict, "a state dict", "lstmconv.from_torch(state_dict) reads it"),
    _Kind(lambda value: isinstance(value, list | tuple | set), "several values", "pass one at a time, in a loop"),
)


def misfit(function: str, value: object, expected: str) -> UsageError:
    """Return the error for an argument of a wrong type.

    Args:
        function: The function's name.
        value: What it was given.
        expected: What it takes, with its article.

    >>> print(misfit("to_torch", "model.h5", "a Checkpoint or a layer"))
    to_torch takes a Checkpoint or a layer, not a path: read it first, with lstmconv.load(path)
    """
    kind = next((kind for kind in _KINDS if kind.fits(value)), None)
    if kind is None:
        return UsageError(f"{function} takes {expected}, not {type(value).__name__}")
    return UsageError(f"{function} takes {expected}, not {kind.called}: {kind.cure}")


def path_of(function: str, value: object, expected: str = "a path") -> Path:
    """Return an argument as a path, with the user's folder for ``~``.

    Args:
        function: The function's name.
        value: What it was given.
        expected: What it takes, with its article.

    Raises:
        UsageError: It is no path.
    """
    if not isinstance(value, str | os.PathLike):
        raise misfit(function, value, expected)
    return Path(value).expanduser()
