"""Stacks of layers as PyTorch's named tensors: what ``.pt`` and ``.safetensors`` hold.

Names are ``torch.nn.LSTM``'s: ``weight_ih_l0``, ``weight_hh_l0``, ``bias_ih_l0``, ``bias_hh_l0``, ``_l1``
for the next layer, and ``_reverse`` for the backward half. A stack that computes what ``nn.LSTM`` cannot has
one tensor more, ``_extra_state`` (PyTorch's own name for such things): strict loading into ``nn.LSTM``
refuses it, :class:`lstmconv.torch.LSTM` reads it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np

from lstmconv.activations import SIGMOID, TANH, describe_activation
from lstmconv.arrays.copying import BiasMode, place_bias
from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.formats.options import WriteOptions
from lstmconv.formats.tensors import NamedTensor, dtype_of
from lstmconv.layouts import TORCH, Pattern
from lstmconv.model import Checkpoint, Gates, LSTMDirection, LSTMLayer, Stack
from lstmconv.model.notes import LayerNote

__all__ = [
    "extra_state",
    "extra_tensor",
    "losses",
    "obstacle",
    "plain",
    "path_of",
    "prefix_of",
    "require_two_biases",
    "stack_tensors",
    "tensors",
    "terms",
    "without_equal_names",
]

_TWO_BIASES = (None, "input", "recurrent", "both-halves", "double")


def plain(stack: Stack) -> bool:
    """Whether ``nn.LSTM`` and cuDNN compute a stack: tanh and sigmoid, forwards, halves side by side."""
    activations = {(half.activation, half.recurrent_activation) for half in stack.directions}
    ways = [half.go_backwards for half in stack.first.directions]
    joined = not stack.first.bidirectional or all(layer.merge_mode in ("concat", "none") for layer in stack.layers)
    return activations == {(TANH, SIGMOID)} and joined and ways == [False, True][: len(ways)]


def extra_state(stack: Stack) -> dict[str, object] | None:
    """Return what a stack computes that ``nn.LSTM`` does not, or ``None`` if they agree.

    ``nn.LSTM`` computes tanh and sigmoid, forwards (and backwards in its second half), and
    concatenates the halves.
    """
    if plain(stack):
        return None
    layer = stack.first
    return {
        "activation": [describe_activation(direction.activation) for direction in layer.directions],
        "recurrent_activation": [describe_activation(direction.recurrent_activation) for direction in layer.directions],
        "go_backwards": layer.go_backwards,
        "merge_mode": layer.merge_mode if layer.bidirectional else "concat",
    }


def obstacle(stack: Stack, module: str = "nn.LSTM") -> str | None:
    """Say why one ``nn.LSTM`` (or ``module``, which has the same parameters) cannot hold a stack, or ``None``."""
    for layer in stack.layers:
        if len({direction.hidden_size for direction in layer.directions}) > 1:
            sizes = " and ".join(str(direction.hidden_size) for direction in layer.directions)
            return f"its directions have {sizes} units and {module} needs equal ones; use lstmconv.to_torch(layer)"
    for below, above in pairwise(stack.layers):
        for what, of in _SAME.items():
            if of(below) != of(above):
                return (
                    f"{what} of {below.name} and {above.name} differ ({_said(of(below))}, {_said(of(above))}) "
                    f"and one {module} has the same in all its layers"
                )
    if len(stack.layers) > 1 and stack.first.bidirectional and stack.first.merge_mode != "concat":
        return f"{module} concatenates both directions inside a stack, the merge_mode is {stack.first.merge_mode}"
    return None


_SAME: Mapping[str, Callable[[LSTMLayer], object]] = {
    "the units": lambda layer: layer.hidden_size,
    "the directions": lambda layer: [half.go_backwards for half in layer.directions],
    "the activations": lambda layer: [(half.activation, half.recurrent_activation) for half in layer.directions],
    "the merge modes": lambda layer: layer.merge_mode if layer.bidirectional else "concat",
    "the dtypes": lambda layer: layer.dtype,
}
"""What all layers of one ``nn.LSTM`` have in common."""


def terms(layer: LSTMLayer) -> str:
    """Say which module loads a layer's state dict."""
    alone = extra_state(Stack(layer.name, (layer,))) is None
    return "loads into torch.nn.LSTM" if alone else "loads into lstmconv.torch.LSTM; nn.LSTM refuses it"


def losses(checkpoint: Checkpoint, path: Path, options: WriteOptions) -> Iterator[str]:
    """Name the layers that ``nn.LSTM`` would load with ``strict=False`` and compute wrongly."""
    for stack in checkpoint.stacks:
        extra = extra_state(stack)
        if extra is not None:
            differs = ", ".join(dict.fromkeys(_departures(stack)))
            yield LayerNote(
                stack.name,
                f"{differs}, which nn.LSTM does not compute: it refuses this file, and with strict=False "
                "returns wrong numbers. Load it into lstmconv's own: from lstmconv.torch import LSTM",
            )


def _departures(stack: Stack) -> Iterator[str]:
    """Name what a stack has that ``nn.LSTM`` has not."""
    for layer in stack.layers:
        for direction in layer.directions:
            if direction.recurrent_activation != SIGMOID:
                yield f"recurrent activation {direction.recurrent_activation}"
            if direction.activation != TANH:
                yield f"activation {direction.activation}"
        if layer.go_backwards:
            yield "go_backwards"
        if layer.bidirectional and layer.merge_mode != "concat":
            yield f"merge mode {layer.merge_mode}"


def _said(value: object) -> str:
    if not isinstance(value, list):
        return str(value)
    each = [" and ".join(map(str, entry)) if isinstance(entry, tuple) else _WAYS.get(entry, entry) for entry in value]
    return " | ".join(map(str, each))


_WAYS = {False: "forwards", True: "backwards"}


def tensors(checkpoint: Checkpoint, options: WriteOptions) -> list[NamedTensor]:
    """List every tensor of a state dict, in the order in which ``nn.LSTM`` names its parameters.

    Raises:
        UsageError: Two names fall together, a prefix is missing, or the bias mode is cuDNN's.
        UnsupportedModelError: One ``nn.LSTM`` cannot hold a stack.
    """
    require_two_biases(options)
    stacks = checkpoint.stacks
    if not options.prefix and len(stacks) != 1:
        raise UsageError(f"without a prefix only one module fits, found {len(stacks)}")
    listed = [
        tensor
        for stack in stacks
        for tensor in stack_tensors(stack, prefix_of(stack.name) if options.prefix else "", options)
    ]
    return without_equal_names(listed)


def without_equal_names(listed: list[NamedTensor]) -> list[NamedTensor]:
    """Return tensors whose names differ.

    Raises:
        UsageError: Two have one name.
    """
    name, count = Counter(tensor.name for tensor in listed).most_common(1)[0] if listed else ("", 0)
    if count > 1:
        raise UsageError(f"two layers would both write {name!r}; give one another name with --rename")
    return listed


def require_two_biases(options: WriteOptions) -> None:
    """Refuse a bias mode that leaves ``nn.LSTM`` without one of its biases.

    Raises:
        UsageError: The bias mode is cuDNN's.
    """
    if options.bias_mode not in _TWO_BIASES:
        raise UsageError(f"bias mode {options.bias_mode!r} is cuDNN's; nn.LSTM takes input, recurrent or both-halves")


def path_of(name: str) -> str:
    """Return the path of a layer's submodule: ``a/b`` is ``a.b``."""
    return name.replace("/", ".")


def prefix_of(name: str) -> str:
    """Return what leads the names of a layer's tensors: ``a.b.``."""
    return f"{path_of(name)}."


def stack_tensors(stack: Stack, prefix: str, options: WriteOptions) -> Iterator[NamedTensor]:
    """Yield the tensors of one ``nn.LSTM``.

    Raises:
        UnsupportedModelError: One ``nn.LSTM`` cannot hold the stack.
    """
    reason = obstacle(stack)
    if reason is not None:
        raise UnsupportedModelError(f"{stack.name}: {reason}")
    dtype = dtype_of(stack, options)
    for number, layer in enumerate(stack.layers):
        for direction, suffix in zip(layer.directions, ("", "_reverse"), strict=False):
            for name, gates, pattern in _arrays(direction, options.bias_mode, stack.has_bias):
                if gates is not None:
                    shape = (4 * direction.hidden_size, *gates.shape[2:])
                    yield NamedTensor(f"{prefix}{name}_l{number}{suffix}", shape, dtype, ((pattern, gates),))
    extra = extra_state(stack)
    if extra is not None:
        yield extra_tensor(prefix, extra)


def extra_tensor(prefix: str, extra: Mapping[str, object]) -> NamedTensor:
    """Return an ``_extra_state``: the bytes of a JSON object."""
    text = np.frombuffer(json.dumps(extra).encode(), np.uint8)
    return NamedTensor(f"{prefix}_extra_state", text.shape, text.dtype, (text,))


def _arrays(
    direction: LSTMDirection, mode: BiasMode | None, biased: bool
) -> Iterator[tuple[str, Gates | None, Pattern]]:
    """List one direction's arrays; ``nn.LSTM`` has biases in all its layers or in none."""
    bias_ih, bias_hh = place_bias(direction, mode, zeros=biased)
    yield "weight_ih", direction.weight_ih, TORCH.input_matrix
    yield "weight_hh", direction.weight_hh, TORCH.recurrent_matrix
    yield "bias_ih", bias_ih, TORCH.one_bias
    yield "bias_hh", bias_hh, TORCH.one_bias
