"""A stack of layers as cuDNN's packed weight space: one flat buffer, and where every matrix and bias sits in it.

cuDNN calls the buffer opaque and answers for its layout through ``cudnnGetRNNWeightParams``; what is
written here is the layout observed from it, without padding (jax/experimental/rnn.py
``_get_params_shapes_in_lstm``; tf_keras gru_lstm_utils.py ``canonical_to_params``; MXNet
``_forward_kernel``)::

    for each pseudo-layer:  W (4H x in) row-major, gates i f g o;  R (4H x H)
    for each pseudo-layer:  bW (4H), then bR (4H); only the one that a SINGLE mode has

A pseudo-layer is a layer's direction: forward, then backward, layer by layer; above the first layer in is
D*H. linLayerID 0..3 are i f g o of W, 4..7 those of R.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lstmconv.activations import SIGMOID, TANH
from lstmconv.arrays.copying import BiasMode, Piece, joined, place_bias
from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.torch.state_dict import obstacle as does_not_fit_together
from lstmconv.layouts import CUDNN, Pattern
from lstmconv.model import GATES, Array, Gates, Stack

__all__ = ["BIAS_MODES", "CUDNN_KEY", "DATA_TYPES", "manifest", "obstacle", "pack", "packed_pieces"]

CUDNN_KEY = "cudnn"
"""The metadata entry that holds the manifests, by layer name."""


class Biases(NamedTuple):
    """One of cuDNN's bias modes (cudnnRNNBiasMode_t).

    Attributes:
        mode: As ``--bias-mode`` names it.
        stored: Whether the weight space has the input's bias, and the recurrent one.
    """

    mode: BiasMode
    stored: tuple[bool, bool]


BIAS_MODES: Mapping[str, Biases] = {
    "CUDNN_RNN_DOUBLE_BIAS": Biases("double", (True, True)),
    "CUDNN_RNN_SINGLE_INP_BIAS": Biases("single-input", (True, False)),
    "CUDNN_RNN_SINGLE_REC_BIAS": Biases("single-recurrent", (False, True)),
    "CUDNN_RNN_NO_BIAS": Biases("none", (False, False)),
}
DATA_TYPES = {
    "float16": "CUDNN_DATA_HALF",
    "bfloat16": "CUDNN_DATA_BFLOAT16",
    "float32": "CUDNN_DATA_FLOAT",
    "float64": "CUDNN_DATA_DOUBLE",
}


def obstacle(stack: Stack) -> str | None:
    """Say why cuDNN cannot compute a stack, and the way out, or ``None``."""
    for direction in stack.directions:
        if direction.activation != TANH or direction.recurrent_activation != SIGMOID:
            return (
                f"cuDNN computes tanh and sigmoid only, but the layer has {direction.activation} and "
                f"{direction.recurrent_activation}; convert to onnx or torch"
            )
    for layer in stack.layers:
        ways = [direction.go_backwards for direction in layer.directions]
        if ways != [False, True][: len(ways)]:
            return "cuDNN has no go_backwards; convert to onnx, or to torch and run it on the GPU"
        if layer.bidirectional and layer.merge_mode not in ("concat", "none"):
            mode = layer.merge_mode
            return f"cuDNN concatenates both directions, but the layer's merge_mode is {mode}; convert to onnx or torch"
    return does_not_fit_together(stack, "cuDNN RNN")


@dataclass(frozen=True, eq=False)
class _Part:
    """One array of gates at its place in the weight space; ``start`` counts elements."""

    pseudo_layer: int
    first_id: int
    kind: str
    start: int
    pattern: Pattern
    gates: Gates

    @property
    def size(self) -> int:
        return int(np.prod(self.gates.shape))


def _parts(stack: Stack, mode: BiasMode | None) -> Iterator[_Part]:
    """Lay out a stack: all matrices of all pseudo-layers, then all biases."""
    start = 0

    def part(pseudo_layer: int, first_id: int, kind: str, pattern: Pattern, gates: Gates) -> _Part:
        nonlocal start
        made = _Part(pseudo_layer, first_id, kind, start, pattern, gates)
        start += made.size
        return made

    for index, direction in enumerate(stack.directions):
        yield part(index, 0, "matrix", CUDNN.input_matrix, direction.weight_ih)
        yield part(index, 4, "matrix", CUDNN.recurrent_matrix, direction.weight_hh)
    for index, direction in enumerate(stack.directions):
        bias_ih, bias_hh = place_bias(direction, mode, zeros=stack.has_bias)  # One mode for the whole RNN.
        if bias_ih is not None:
            yield part(index, 0, "bias", CUDNN.one_bias, bias_ih)
        if bias_hh is not None:
            yield part(index, 4, "bias", CUDNN.one_bias, bias_hh)


def pack(stack: Stack, bias_mode: BiasMode | None = None, dtype: npt.DTypeLike | None = None) -> Array:
    """Return a stack's weight space as one flat array.

    Raises:
        UnsupportedModelError: cuDNN cannot compute the stack.
    """
    return joined(packed_pieces(stack, bias_mode), np.dtype(stack.dtype if dtype is None else dtype))


def packed_pieces(stack: Stack, mode: BiasMode | None) -> tuple[Piece, ...]:
    """Return the parts of a stack's buffer, in order.

    Raises:
        UnsupportedModelError: cuDNN cannot compute the stack.
    """
    reason = obstacle(stack)
    if reason is not None:
        raise UnsupportedModelError(f"{stack.name}: {reason}")
    return tuple((part.pattern, part.gates) for part in _parts(stack, mode))


def manifest(stack: Stack, bias_mode: BiasMode | None = None, dtype: npt.DTypeLike | None = None) -> dict[str, Any]:
    """Describe a weight space in cuDNN's own names; offsets are bytes, shapes row-major."""
    element = np.dtype(stack.dtype if dtype is None else dtype)
    parts = list(_parts(stack, bias_mode))
    biased = tuple(any(part.kind == "bias" and part.first_id == first for part in parts) for first in (0, 4))
    params = []
    for part in parts:
        block = part.size // 4
        for number, gate in enumerate(GATES):
            params.append(
                {
                    "pseudoLayer": part.pseudo_layer,
                    "linLayerID": part.first_id + number,
                    "gate": gate,
                    "kind": part.kind,
                    "offset": (part.start + number * block) * element.itemsize,
                    "shape": list(part.gates.shape[1:]),
                }
            )
    return {
        "cellMode": "CUDNN_LSTM",
        "biasMode": next(name for name, biases in BIAS_MODES.items() if biases.stored == biased),
        "dirMode": "CUDNN_BIDIRECTIONAL" if stack.first.bidirectional else "CUDNN_UNIDIRECTIONAL",
        "inputMode": "CUDNN_LINEAR_INPUT",
        "dataType": DATA_TYPES[element.name],
        "inputSize": stack.first.input_size,
        "hiddenSize": stack.first.hidden_size,
        "projSize": stack.first.hidden_size,
        "numLayers": len(stack.layers),
        "weightSpaceSize": sum(part.size for part in parts) * element.itemsize,
        "params": params,
    }
