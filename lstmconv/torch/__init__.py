"""PyTorch modules that compute what Keras computes, also where torch.nn cannot.

:class:`LSTM`, :class:`GRU` and :class:`RNN` have the constructors, parameter names, inputs and outputs of torch.nn's,
and add Keras' activations, ``go_backwards`` and merge modes. :class:`KerasLSTM` has a Keras layer's inputs and
outputs, :class:`KerasModel` a whole model's. This package imports torch; nothing else in lstmconv does so on import.
"""

from __future__ import annotations

try:
    import torch  # noqa: F401
except ImportError as error:
    from lstmconv.errors import MissingDependencyError

    raise MissingDependencyError("lstmconv.torch needs torch. Install it with: pip install torch") from error

from lstmconv.torch.layer import KerasLSTM, from_layer
from lstmconv.torch.model import KerasModel, from_model
from lstmconv.torch.modules import GRU, LSTM, RNN
from lstmconv.torch.reading import load, read_module, to_torch

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "KerasLSTM",
    "KerasModel",
    "from_layer",
    "from_model",
    "load",
    "read_module",
    "to_torch",
]
