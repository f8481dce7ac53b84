"""The description of one layer in a file."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from lstmconv.errors import UnsupportedModelError

if TYPE_CHECKING:
    from lstmconv.formats.keras.reader.config import KerasVersion

__all__ = ["CELL_CLASSES", "NOTHING", "OPERATOR_LAYERS", "REQUIRED", "LayerEntry", "NotUnderstoodError", "is_integer"]

NOTHING: Mapping[str, Any] = MappingProxyType({})

OPERATOR_LAYERS = ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer")
"""Layers of tf.keras that wrap one function; Keras 3's operations are recognised by their module."""


CELL_CLASSES: Mapping[str, str] = {"LSTMCell": "LSTM", "GRUCell": "GRU", "SimpleRNNCell": "SimpleRNN"}
"""The layer class with the same variables as a cell class."""


class NotUnderstoodError(UnsupportedModelError):
    """A part of a layer is not understood; the message becomes the reason of an ``Unknown``."""


class _Required:
    """The type of the default for an option that a config must state."""

    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED = _Required()


class LayerEntry(NamedTuple):
    """The description of one layer in a config.

    Attributes:
        name: The name of the model layer.
        class_name: Keras' own class, of any generation; the caller has checked ``registered_name`` and ``module``.
        config: The layer's config.
        version: The Keras version that wrote the config.
        backend: The backend that the file states: Theano convolves with flipped kernels.
        call_options: Keyword arguments of the layer's call that are no tensors: ``training``,
            ``return_attention_scores``, ``use_causal_mask``.
    """

    name: str
    class_name: str
    config: Mapping[str, Any]
    version: KerasVersion | None = None
    backend: str | None = None
    call_options: Mapping[str, Any] = NOTHING

    @property
    def major(self) -> int | None:
        """The major version of Keras; ``None`` if unknown."""
        return None if self.version is None else self.version.major

    @property
    def release(self) -> tuple[int, int]:
        """Major and minor version; ``(0, 0)`` if unknown."""
        return (0, 0) if self.version is None else self.version.release


def is_integer(value: object) -> bool:
    """Whether a value of a config is an integer, and not a boolean."""
    return isinstance(value, int) and not isinstance(value, bool)
