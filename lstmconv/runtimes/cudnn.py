"""Run a written weight space: by an interpreter of cuDNN's packing, and in cuDNN itself on a GPU.

The interpreter walks the buffer as cuDNN documents it (linLayerID by linLayerID, see
:mod:`lstmconv.formats.cudnn`), with offsets of its own, and computes cuDNN's LSTM equations in
float64. It proves the packing as far as the packing is known; only a GPU proves cuDNN's side.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lstmconv._optional import require
from lstmconv.arrays.mapping import mapped
from lstmconv.errors import UnreadableFileError
from lstmconv.formats.provenance import KEY
from lstmconv.formats.torch.safetensors import read_safetensors
from lstmconv.model import Array, Gates, Stack, float_type
from lstmconv.runtimes import (
    Decoded,
    DecodedDirection,
    Inputs,
    Loaded,
    NotRunError,
    Outputs,
    Precision,
    Run,
    numbered_states,
)

__all__ = ["RUNS", "accepts", "decode", "provenance", "seen_by_target"]

_BIASES = {
    "CUDNN_RNN_NO_BIAS": (False, False),
    "CUDNN_RNN_SINGLE_INP_BIAS": (True, False),
    "CUDNN_RNN_SINGLE_REC_BIAS": (False, True),
    "CUDNN_RNN_DOUBLE_BIAS": (True, True),
}


def _read(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Any] | None, Mapping[str, Array]]:
    """Return the manifests, the provenance, and each layer's flat buffer."""
    if path.suffix != ".safetensors":
        sidecar = path.with_suffix(".json")
        if not sidecar.is_file():
            raise UnreadableFileError(f"{path.name}: needs {sidecar.name} beside it, which says what is in it")
        found = json.loads(sidecar.read_text(encoding="utf-8"))
        spaces: dict[str, Array] = {
            name: mapped(
                path, _element(entry), entry["fileOffset"], (entry["weightSpaceSize"] // _element(entry).itemsize,)
            )
            for name, entry in found["cudnn"].items()
        }
        return found["cudnn"], found.get(KEY), spaces
    content, metadata = read_safetensors(path)
    if "cudnn" not in metadata:
        raise UnreadableFileError(f"{path.name}: has no cudnn manifest; is it a state dict?")
    manifests = json.loads(metadata["cudnn"])
    noted = json.loads(metadata[KEY]) if KEY in metadata else None
    spaces = {name: content[name].reshape(-1).view(_element(entry)) for name, entry in manifests.items()}
    return manifests, noted, spaces


def _element(entry: Mapping[str, Any]) -> np.dtype[Any]:
    names = {"HALF": "float16", "BFLOAT16": "bfloat16", "FLOAT": "float32", "DOUBLE": "float64"}
    return float_type(names[entry["dataType"].removeprefix("CUDNN_DATA_")])


def provenance(path: Path) -> Mapping[str, Any] | None:
    """Return what lstmconv noted in the file, or ``None``."""
    return _read(path)[1]


def accepts(path: Path, name: str) -> frozenset[str]:
    """Say which inputs a layer takes beside x; always initial states."""
    return frozenset({"states"})


def seen_by_target(stack: Stack) -> Stack:
    """Return the Keras layers whose outputs cuDNN returns: whole sequences, both halves side by side."""
    layers = [
        replace(layer, return_sequences=True, time_major=False, merge_mode="concat", zero_output_for_mask=False)
        for layer in stack.layers
    ]
    return Stack(stack.name, tuple(layers))


def _unpack(space: Array, entry: Mapping[str, Any]) -> tuple[DecodedDirection, ...]:
    """Walk the buffer: for each pseudo-layer linLayerID 0..7, then for each its biases 0..7."""
    hidden = entry["hiddenSize"]
    ways = 2 if entry["dirMode"] == "CUDNN_BIDIRECTIONAL" else 1
    position = 0

    def take(rows: int, columns: int | None) -> Array:
        nonlocal position
        count = rows * (columns or 1)
        block = space[position : position + count]
        if block.size < count:
            raise UnreadableFileError(f"the weight space has {space.size} elements and ends before linLayerID 7's")
        position += count
        return block.reshape(rows, columns) if columns is not None else block

    matrices: list[tuple[Gates, Gates]] = []
    for pseudo_layer in range(entry["numLayers"] * ways):
        features = entry["inputSize"] if pseudo_layer < ways else ways * hidden
        w = [take(hidden, features) for _lin_layer_id in range(4)]
        r = [take(hidden, hidden) for _lin_layer_id in range(4, 8)]
        matrices.append((Gates(*w), Gates(*r)))
    has_input, has_recurrent = _BIASES[entry["biasMode"]]
    unpacked = []
    for w_all, r_all in matrices:
        b_w = Gates(*(take(hidden, None) for _ in range(4))) if has_input else None
        b_r = Gates(*(take(hidden, None) for _ in range(4))) if has_recurrent else None
        unpacked.append(DecodedDirection(w_all, r_all, b_w, b_r))
    return tuple(unpacked)


def decode(path: Path, names: list[str], noted: Mapping[str, Any] | None, *, frameworks: bool = True) -> Decoded:
    """Return every named stack's weights."""
    manifests, _, spaces = _read(path)
    return {name: _unpack(spaces[name], manifests[name]) for name in names}


def _sigmoid(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 0.5 * np.tanh(0.5 * x) + 0.5


def _interpreter(path: Path, name: str) -> Loaded:
    """Take one stack's buffer apart for the interpreter."""
    manifests, _, spaces = _read(path)
    ways = 2 if manifests[name]["dirMode"] == "CUDNN_BIDIRECTIONAL" else 1
    unpacked = _unpack(spaces[name], manifests[name])
    return Loaded(
        "packed-buffer interpreter, float64",
        Precision("float64", "float64"),
        lambda inputs: _interpret(unpacked, ways, inputs),
    )


def _interpret(unpacked: Sequence[DecodedDirection], ways: int, inputs: Inputs) -> Outputs:
    """Compute cuDNN's LSTM equations in float64."""
    x = inputs.x
    halves: list[npt.NDArray[np.float64]] = []
    states = []
    for pseudo_layer, direction in enumerate(unpacked):
        h, c = inputs.states[2 * pseudo_layer], inputs.states[2 * pseudo_layer + 1]
        w, r = np.asarray(direction.weight_ih, np.float64), np.asarray(direction.weight_hh, np.float64)
        bias = sum(np.asarray(bias, np.float64)[:, None] for bias in direction.biases if bias is not None)
        steps = range(x.shape[1])
        outputs = np.zeros((*x.shape[:2], h.shape[1]))
        for step in reversed(steps) if pseudo_layer % ways else steps:
            i, f, g, o = np.einsum("ghx,bx->gbh", w, x[:, step]) + np.einsum("ghk,bk->gbh", r, h) + bias
            c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
            h = _sigmoid(o) * np.tanh(c)
            outputs[:, step] = h
        halves.append(outputs)
        states.append((h, c))
        if len(halves) == ways:
            x, halves = np.concatenate(halves, axis=-1), []
    return {"y": x, **numbered_states([h for h, _ in states], [c for _, c in states])}


def _load_on_gpu(path: Path, name: str) -> Loaded:
    """Hand the flat buffer to cuDNN itself, through ``torch._cudnn_rnn`` (ATen/native/cudnn/RNN.cpp).

    PyTorch gives the buffer to cuDNN as it is; the single matrices, which it also asks for, it then only counts.

    Raises:
        NotRunError: There is no GPU, or PyTorch cannot hand cuDNN this bias mode or dtype.
    """
    try:
        torch = require("torch", "Running cuDNN")
    except ImportError as error:
        raise NotRunError(str(error)) from error
    if not torch.cuda.is_available() or not torch.backends.cudnn.is_available():
        raise NotRunError("no CUDA device here")
    manifests, _, spaces = _read(path)
    entry, space = manifests[name], spaces[name]
    if entry["biasMode"] != "CUDNN_RNN_DOUBLE_BIAS":
        raise NotRunError("PyTorch hands cuDNN double biases only")
    if space.dtype.name not in ("float16", "float32", "float64"):
        raise NotRunError(f"PyTorch hands cuDNN no {space.dtype} weight space")
    buffer = torch.from_numpy(space.copy()).cuda()
    hidden, bidirectional = entry["hiddenSize"], entry["dirMode"] == "CUDNN_BIDIRECTIONAL"
    weights = []
    for direction in _unpack(space, entry):
        matrices = (direction.weight_ih, direction.weight_hh)
        arrays = [np.asarray(gates).reshape(4 * hidden, -1) for gates in matrices]
        biases = [np.asarray(bias).reshape(-1) for bias in direction.biases if bias is not None]
        weights += [torch.from_numpy(array).cuda() for array in (*arrays, *biases)]

    def compute(inputs: Inputs) -> Outputs:
        x, h, c = (
            torch.from_numpy(np.ascontiguousarray(array)).to(buffer.dtype).cuda()
            for array in (inputs.x.swapaxes(0, 1), np.stack(inputs.states[0::2]), np.stack(inputs.states[1::2]))
        )
        allowed = torch.backends.cudnn.allow_tf32  # TF32 keeps 10 bits of a product's factors.
        torch.backends.cudnn.allow_tf32 = False
        try:
            y, h_n, c_n, *_ = torch._cudnn_rnn(
                *(x, weights, 4, buffer, h, c, _CUDNN_LSTM, hidden, 0, entry["numLayers"]),
                *(False, 0.0, False, bidirectional, [], None),
            )
        finally:
            torch.backends.cudnn.allow_tf32 = allowed
        y, h_n, c_n = (tensor.double().cpu().numpy() for tensor in (y, h_n, c_n))
        return {"y": y.swapaxes(0, 1), **numbered_states(h_n, c_n)}

    version = torch.backends.cudnn.version()
    arithmetic = "float64" if space.dtype == np.float64 else "float32"
    return Loaded(
        f"cuDNN {version} on {torch.cuda.get_device_name()}", Precision(arithmetic, space.dtype.name), compute
    )


_CUDNN_LSTM = 2
"""ATen/native/cudnn/RNN.cpp ``cudnn_rnn_mode_t``: CUDNN_LSTM."""

RUNS: tuple[Run, ...] = (_interpreter, _load_on_gpu)
