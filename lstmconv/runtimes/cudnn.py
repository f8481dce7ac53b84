"""Run a written weight space: by an interpreter of cuDNN's packing, and in cuDNN itself on a GPU.

The interpreter walks the buffer as cuDNN documents it (linLayerID by linLayerID, see
:mod:`lstmconv.formats.cudnn`), with offsets of its own, and computes cuDNN's LSTM equations in
float64. It proves the packing as far as the packing is known; only a GPU proves cuDNN's side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lstmconv._optional import require
from lstmconv.errors import UnreadableFileError
from lstmconv.formats.cudnn import WeightSpaces
from lstmconv.model import Array, Gates, Stack
from lstmconv.runtimes import (
    Decoded,
    DecodedDirection,
    Inputs,
    Loaded,
    NotRunError,
    Outputs,
    Precision,
    Session,
    named_outputs,
)

__all__ = ["RUNTIME", "precision_on_gpu"]

_BIASES = {  # Written out again: the decoder shares nothing with the writer.
    "CUDNN_RNN_NO_BIAS": (False, False),
    "CUDNN_RNN_SINGLE_INP_BIAS": (True, False),
    "CUDNN_RNN_SINGLE_REC_BIAS": (False, True),
    "CUDNN_RNN_DOUBLE_BIAS": (True, True),
}


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
            raise UnreadableFileError(f"the weight space has {space.size} elements and ends before its last array")
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


def _sigmoid(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 0.5 * np.tanh(0.5 * x) + 0.5


class _WeightSpaces(Session):
    """A file of weight spaces; the content of its artifact is the manifests and the buffers."""

    ways = 2

    @property
    def _content(self) -> WeightSpaces:
        found = self.artifact.content
        if not isinstance(found, WeightSpaces):
            raise NotRunError("a bare buffer, which does not say what is in it")
        return found

    def seen_by_target(self, stack: Stack) -> Stack:
        """Return the Keras layers whose outputs cuDNN returns: whole sequences, both halves side by side."""
        layers = [
            replace(layer, return_sequences=True, time_major=False, merge_mode="concat", zero_output_for_mask=False)
            for layer in stack.layers
        ]
        return Stack(stack.name, tuple(layers))

    def decode(self, names: Sequence[str], *, frameworks: bool = True) -> Decoded:
        """Return every named stack's weights."""
        content = self._content
        return {name: _unpack(content.spaces[name], content.manifests[name]) for name in names}

    def load(self, name: str, way: int = 0) -> Loaded:
        """Take one stack's buffer apart for the interpreter, or hand it to cuDNN itself."""
        entry, space = self._content.manifests[name], self._content.spaces[name]
        return _load_on_gpu(entry, space) if way else _load_interpreter(entry, space)


def _load_interpreter(entry: Mapping[str, Any], space: Array) -> Loaded:
    ways = 2 if entry["dirMode"] == "CUDNN_BIDIRECTIONAL" else 1
    unpacked = _unpack(space, entry)
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
    return named_outputs([x], [h for h, _ in states], [c for _, c in states])


def _load_on_gpu(entry: Mapping[str, Any], space: Array) -> Loaded:
    """Hand the flat buffer to cuDNN itself, through ``torch._cudnn_rnn`` (ATen/native/cudnn/RNN.cpp).

    PyTorch gives the buffer to cuDNN as it is; the single matrices, which it also asks for, it then only counts.

    The batch is packed (``batch_sizes``), because PyTorch then takes ``CUDNN_RNN_ALGO_STANDARD``, in full float32. For
    other layers of at most 192 units it takes ``CUDNN_RNN_ALGO_PERSIST_STATIC_SMALL_H`` (``get_algo``), which is off by
    up to 3e-5 (``tests/golden/README.md``): small mistakes would hide in that.

    Where weights are halves, cuDNN rounds W x and R h to halves before it adds them in float32: with these roundings
    99.96 % of the recorded numbers are equal, without them 53 %.

    Raises:
        MissingDependencyError: torch is not installed.
        NotRunError: There is no GPU, or PyTorch cannot hand cuDNN this bias mode or dtype.
    """
    torch = require("torch", "Running cuDNN")
    if not torch.cuda.is_available() or not torch.backends.cudnn.is_available():
        raise NotRunError("no CUDA device here")
    if entry["biasMode"] != "CUDNN_RNN_DOUBLE_BIAS":
        raise NotRunError("PyTorch hands cuDNN double biases only")
    if space.dtype.name not in ("float16", "float32", "float64"):
        raise NotRunError(f"PyTorch hands cuDNN no {space.dtype} weight space")
    buffer = torch.from_numpy(space.copy()).cuda()
    hidden, bidirectional = entry["hiddenSize"], entry["dirMode"] == "CUDNN_BIDIRECTIONAL"
    weights = []
    for direction in _unpack(space, entry):
        matrices = (direction.weight_ih, direction.weight_hh)
        arrays = [np.array(gates).reshape(4 * hidden, -1) for gates in matrices]
        biases = [np.array(bias).reshape(-1) for bias in direction.biases if bias is not None]
        weights += [torch.from_numpy(array).cuda() for array in (*arrays, *biases)]

    def compute(inputs: Inputs) -> Outputs:
        batch, steps = inputs.x.shape[:2]
        x, h, c = (
            torch.from_numpy(np.ascontiguousarray(array)).to(buffer.dtype).cuda()
            for array in (inputs.x.swapaxes(0, 1), np.stack(inputs.states[0::2]), np.stack(inputs.states[1::2]))
        )
        allowed = torch.backends.cudnn.allow_tf32  # TF32 keeps 10 bits of a product's factors.
        torch.backends.cudnn.allow_tf32 = False
        try:
            y, h_n, c_n, *_ = torch._cudnn_rnn(
                *(x.flatten(0, 1), weights, 4, buffer, h, c, _CUDNN_LSTM, hidden, 0, entry["numLayers"]),
                *(False, 0.0, False, bidirectional, [batch] * steps, None),
            )
        finally:
            torch.backends.cudnn.allow_tf32 = allowed
        y, h_n, c_n = (tensor.double().cpu().numpy() for tensor in (y.unflatten(0, (steps, batch)), h_n, c_n))
        return named_outputs([y.swapaxes(0, 1)], h_n, c_n)

    version = torch.backends.cudnn.version()
    return Loaded(f"cuDNN {version} on {torch.cuda.get_device_name()}", precision_on_gpu(space.dtype.name), compute)


def precision_on_gpu(dtype: str) -> Precision:
    """Return in what cuDNN's standard algorithm computes, by the dtype of its weights; see :func:`_load_on_gpu`."""
    return Precision("float32", dtype, products=dtype) if dtype == "float16" else Precision(dtype, dtype)


_CUDNN_LSTM = 2
"""ATen/native/cudnn/RNN.cpp ``cudnn_rnn_mode_t``: CUDNN_LSTM."""

RUNTIME = _WeightSpaces
