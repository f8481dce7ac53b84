"""A layer as cuDNN's packed weight space: one flat buffer, and where every matrix and bias sits in it.

cuDNN calls the buffer opaque and answers for its layout through ``cudnnGetRNNWeightParams``; what is
written here is the layout observed from it, without padding (jax/experimental/rnn.py
``_get_params_shapes_in_lstm``; tf_keras gru_lstm_utils.py ``canonical_to_params``; MXNet
``_forward_kernel``)::

    for each pseudo-layer:  W (4H x in) row-major, gates i f g o;  R (4H x H)
    for each pseudo-layer:  bW (4H), then bR (4H); only the one that a SINGLE mode has

A pseudo-layer is a layer's direction: forward, then backward. linLayerID 0..3 are i f g o of W, 4..7
those of R.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lstmconv.activations import SIGMOID, TANH
from lstmconv.copying import BiasMode, fill, place_bias
from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.formats import WriteOptions
from lstmconv.formats.provenance import KEY, describe, encoded, require_known
from lstmconv.formats.safetensors import write_file
from lstmconv.formats.state_dict import NamedTensor, dtype_of
from lstmconv.formats.state_dict import obstacle as unequal_halves
from lstmconv.layouts import CUDNN, Pattern
from lstmconv.model import GATES, Array, Checkpoint, Gates, LSTMDirection, LSTMLayer

__all__ = ["CUDNN_KEY", "manifest", "obstacle", "pack", "write"]

CUDNN_KEY = "cudnn"
"""The metadata entry that holds the manifests, by layer name."""

_MODES = {
    (False, False): "CUDNN_RNN_NO_BIAS",
    (True, False): "CUDNN_RNN_SINGLE_INP_BIAS",
    (False, True): "CUDNN_RNN_SINGLE_REC_BIAS",
    (True, True): "CUDNN_RNN_DOUBLE_BIAS",
}
_DATA_TYPES = {
    "float16": "CUDNN_DATA_HALF",
    "bfloat16": "CUDNN_DATA_BFLOAT16",
    "float32": "CUDNN_DATA_FLOAT",
    "float64": "CUDNN_DATA_DOUBLE",
}


def obstacle(layer: LSTMLayer) -> str | None:
    """Say why cuDNN cannot compute a layer, and the way out, or ``None``."""
    for direction in layer.directions:
        if direction.activation != TANH or direction.recurrent_activation != SIGMOID:
            return (
                f"cuDNN computes tanh and sigmoid only, the layer {direction.activation} and "
                f"{direction.recurrent_activation}; convert to onnx or torch"
            )
    order = [direction.go_backwards for direction in layer.directions]
    if order != [False, True][: len(order)]:
        return "cuDNN has no go_backwards; convert to onnx, or to torch and run it on the GPU"
    if layer.bidirectional and layer.merge_mode not in ("concat", "none"):
        return f"cuDNN concatenates the halves, the layer's merge_mode is {layer.merge_mode}; convert to onnx or torch"
    reason = unequal_halves(layer)
    return None if reason is None else reason.replace("nn.LSTM", "cuDNN")


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


def _biases(layer: LSTMLayer, mode: BiasMode | None) -> list[tuple[Gates | None, Gates | None]]:
    """Place the biases of all directions in one mode: cuDNN has one for the whole RNN."""
    return [place_bias(direction, mode, zeros=layer.has_bias) for direction in layer.directions]


def _parts(layer: LSTMLayer, mode: BiasMode | None) -> Iterator[_Part]:
    """Lay out one layer: all matrices of all pseudo-layers, then all biases."""
    start = 0

    def part(pseudo_layer: int, first_id: int, kind: str, pattern: Pattern, gates: Gates) -> _Part:
        nonlocal start
        made = _Part(pseudo_layer, first_id, kind, start, pattern, gates)
        start += made.size
        return made

    directions: tuple[LSTMDirection, ...] = layer.directions
    for index, direction in enumerate(directions):
        yield part(index, 0, "matrix", CUDNN.input_matrix, direction.weight_ih)
        yield part(index, 4, "matrix", CUDNN.recurrent_matrix, direction.weight_hh)
    for index, (bias_ih, bias_hh) in enumerate(_biases(layer, mode)):
        if bias_ih is not None:
            yield part(index, 0, "bias", CUDNN.one_bias, bias_ih)
        if bias_hh is not None:
            yield part(index, 4, "bias", CUDNN.one_bias, bias_hh)


def pack(layer: LSTMLayer, bias_mode: BiasMode | None = None, dtype: npt.DTypeLike | None = None) -> Array:
    """Return a layer's weight space as one flat array.

    Raises:
        UnsupportedModelError: cuDNN cannot compute the layer.
    """
    reason = obstacle(layer)
    if reason is not None:
        raise UnsupportedModelError(f"{layer.name}: {reason}")
    parts = list(_parts(layer, bias_mode))
    space = np.empty(sum(part.size for part in parts), layer.dtype if dtype is None else dtype)
    for part in parts:
        fill(space[part.start : part.start + part.size], part.pattern, part.gates)
    return space


def manifest(layer: LSTMLayer, bias_mode: BiasMode | None = None, dtype: npt.DTypeLike | None = None) -> dict[str, Any]:
    """Describe a weight space in cuDNN's own names; offsets are bytes, shapes row-major."""
    element = np.dtype(layer.dtype if dtype is None else dtype)
    parts = list(_parts(layer, bias_mode))
    bias_ih, bias_hh = _biases(layer, bias_mode)[0]
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
        "biasMode": _MODES[bias_ih is not None, bias_hh is not None],
        "dirMode": "CUDNN_BIDIRECTIONAL" if layer.bidirectional else "CUDNN_UNIDIRECTIONAL",
        "inputMode": "CUDNN_LINEAR_INPUT",
        "dataType": _DATA_TYPES[element.name],
        "inputSize": layer.input_size,
        "hiddenSize": layer.hidden_size,
        "projSize": layer.hidden_size,
        "numLayers": 1,
        "weightSpaceSize": sum(part.size for part in parts) * element.itemsize,
        "params": params,
    }


def write(checkpoint: Checkpoint, path: Path, options: WriteOptions) -> list[Path]:
    """Write every layer's weight space; with ``raw``, bare bytes and a JSON file beside them.

    Raises:
        UnsupportedModelError: cuDNN cannot compute a layer, or its activations are unknown.
    """
    require_known(checkpoint)
    if options.raw and path.suffix == ".safetensors":
        raise UsageError(f"{path.name}: --raw writes bare bytes; name the target .cudnn.bin")
    spaces: list[NamedTensor] = []
    manifests: dict[str, dict[str, Any]] = {}
    for layer in checkpoint.layers:
        dtype = dtype_of(layer, options)
        space = pack(layer, options.bias_mode, dtype)
        spaces.append(NamedTensor(layer.name, space.shape, space.dtype, space))
        manifests[layer.name] = manifest(layer, options.bias_mode, dtype)
    if options.raw or path.name.endswith(".bin"):
        return _write_raw(checkpoint, path, options, spaces, manifests)
    metadata = {CUDNN_KEY: json.dumps(manifests), KEY: encoded(checkpoint, options)}
    write_file(spaces, path, metadata)
    return [path]


def _write_raw(
    checkpoint: Checkpoint,
    path: Path,
    options: WriteOptions,
    spaces: list[NamedTensor],
    manifests: dict[str, dict[str, Any]],
) -> list[Path]:
    """Write the weight spaces one after the other; the JSON says at which byte each begins."""
    sidecar = path.with_suffix(".json")
    start = 0
    with path.open("wb") as file:
        for space in spaces:
            content = space.materialise().tobytes()
            manifests[space.name]["fileOffset"] = start
            start += file.write(content)
    described = {CUDNN_KEY: manifests, KEY: describe(checkpoint, options)}
    sidecar.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    return [path, sidecar]
