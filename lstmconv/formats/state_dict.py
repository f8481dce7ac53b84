"""A layer as PyTorch's named tensors: what ``.pt`` and ``.safetensors`` hold.

Names are ``torch.nn.LSTM``'s: ``weight_ih_l0``, ``weight_hh_l0``, ``bias_ih_l0``, ``bias_hh_l0``, and
``_reverse`` for the backward half. A layer that computes what ``nn.LSTM`` cannot has one tensor more,
``_extra_state`` (PyTorch's own name for such things): strict loading into ``nn.LSTM`` refuses it,
:class:`lstmconv.torch.LSTM` reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lstmconv.activations import SIGMOID, TANH
from lstmconv.copying import BiasMode, packed, place_bias
from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.formats import WriteOptions
from lstmconv.formats.provenance import describe_activation
from lstmconv.layouts import TORCH, Pattern
from lstmconv.model import Array, Checkpoint, Gates, LSTMDirection, LSTMLayer, float_type

__all__ = ["NamedTensor", "dtype_of", "extra_state", "obstacle", "tensors"]

_TWO_BIASES = (None, "input", "recurrent", "both-halves", "double")


@dataclass(frozen=True, eq=False)
class NamedTensor:
    """One tensor to be written: its gates and how they are laid out, or plain bytes."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    source: Gates | Array
    pattern: Pattern | None = None

    def materialise(self) -> Array:
        """Return the tensor as it is written, C-contiguous, little-endian."""
        if self.pattern is None or not isinstance(self.source, Gates):
            return np.asarray(self.source)
        return packed(self.pattern, self.source, self.shape, self.dtype)


def dtype_of(layer: LSTMLayer, options: WriteOptions) -> np.dtype[np.generic]:
    """Return the dtype a layer is written with.

    Raises:
        UsageError: ``options.dtype`` is none that the formats hold.
    """
    return layer.dtype if options.dtype is None else float_type(options.dtype)


def extra_state(layer: LSTMLayer) -> dict[str, object] | None:
    """Return what a layer computes that ``nn.LSTM`` does not, or ``None`` if they agree.

    ``nn.LSTM`` computes tanh and sigmoid, forwards (and backwards in its second half), and
    concatenates the halves.
    """
    order = [direction.go_backwards for direction in layer.directions]
    plain = all(
        direction.activation == TANH and direction.recurrent_activation == SIGMOID for direction in layer.directions
    )
    joined = not layer.bidirectional or layer.merge_mode in ("concat", "none")
    if plain and joined and order == [False, True][: len(order)]:
        return None
    return {
        "activation": [describe_activation(direction.activation) for direction in layer.directions],
        "recurrent_activation": [describe_activation(direction.recurrent_activation) for direction in layer.directions],
        "go_backwards": layer.go_backwards,
        "merge_mode": layer.merge_mode if layer.bidirectional else "concat",
    }


def obstacle(layer: LSTMLayer) -> str | None:
    """Say why one ``nn.LSTM`` cannot hold a layer's weights, or ``None``."""
    if len({direction.hidden_size for direction in layer.directions}) > 1:
        sizes = " and ".join(str(direction.hidden_size) for direction in layer.directions)
        return f"the halves have {sizes} units and nn.LSTM needs equal ones; use lstmconv.to_torch(layer)"
    return None


def tensors(checkpoint: Checkpoint, options: WriteOptions) -> list[NamedTensor]:
    """List every tensor of a state dict, in the order in which ``nn.LSTM`` names its parameters.

    Raises:
        UsageError: Two names fall together, a prefix is missing, or the bias mode is cuDNN's.
    """
    if options.bias_mode not in _TWO_BIASES:
        raise UsageError(f"bias mode {options.bias_mode!r} is cuDNN's; nn.LSTM takes input, recurrent or both-halves")
    if not options.prefix and len(checkpoint.layers) != 1:
        raise UsageError(f"without a prefix only one layer fits, found {len(checkpoint.layers)}")
    listed = [tensor for layer in checkpoint.layers for tensor in _layer(layer, options)]
    names = [tensor.name for tensor in listed]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"two layers would both write {twice[0]!r}; give one another name with --rename")
    return listed


def _layer(layer: LSTMLayer, options: WriteOptions) -> Iterator[NamedTensor]:
    prefix = layer.name.replace("/", ".") + "." if options.prefix else ""
    reason = obstacle(layer)
    if reason is not None:
        raise UnsupportedModelError(f"{layer.name}: {reason}")
    for direction, suffix in zip(layer.directions, ("", "_reverse"), strict=False):
        for name, gates, pattern in _arrays(direction, options.bias_mode, layer.has_bias):
            if gates is not None:
                shape = (4 * direction.hidden_size, *gates.shape[2:])
                yield NamedTensor(f"{prefix}{name}_l0{suffix}", shape, dtype_of(layer, options), gates, pattern)
    extra = extra_state(layer)
    if extra is not None:
        text = np.frombuffer(json.dumps(extra).encode(), np.uint8)
        yield NamedTensor(f"{prefix}_extra_state", text.shape, text.dtype, text)


def _arrays(
    direction: LSTMDirection, mode: BiasMode | None, biased: bool
) -> Iterator[tuple[str, Gates | None, Pattern]]:
    """List one direction's arrays; ``nn.LSTM`` has biases in both halves or in none."""
    bias_ih, bias_hh = place_bias(direction, mode, zeros=biased)
    yield "weight_ih", direction.weight_ih, TORCH.input_matrix
    yield "weight_hh", direction.weight_hh, TORCH.recurrent_matrix
    yield "bias_ih", bias_ih, TORCH.one_bias
    yield "bias_hh", bias_hh, TORCH.one_bias
