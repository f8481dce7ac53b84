"""Run a whole ONNX model in ONNX Runtime on the CPU, and decode the arrays of all its layers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lstmconv._optional import require
from lstmconv.errors import MissingDependencyError, in_one_line
from lstmconv.formats.record import Record
from lstmconv.model import Array, Gates, Input, Layer, LSTMLayer, RecurrentLayer, Stack
from lstmconv.model.kinds import MultiHeadAttention
from lstmconv.runtimes import DecodedDirection, DecodedLayer, LoadedModel, NotRunError, Precision
from lstmconv.runtimes.onnx_arrays import StoredArrays, gate_rows

if TYPE_CHECKING:
    import onnx

__all__ = ["decode_model", "inference_session", "load_model", "precision_of"]


_DTYPES = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64", "tensor(int64)": "int64",
    "tensor(int32)": "int32", "tensor(bool)": "bool",
}  # fmt: skip
"""The dtypes that lstmconv writes, by ONNX Runtime's names; lengths are int32."""


def load_model(model: onnx.ModelProto, path: Path, record: Record | None) -> LoadedModel:
    """Load a file into ONNX Runtime, once for all runs.

    Outputs are named as Keras names them, also where the file has another name because an input is called so. Which
    inputs are initial states is recorded; a file of others has none, and every input must be given.

    Raises:
        NotRunError: ONNX Runtime does not take it; the text is its own.
    """
    try:
        session, framework = inference_session(path)
    except MissingDependencyError:
        raise
    except Exception as error:
        raise NotRunError(f"ONNX Runtime does not load it: {in_one_line(error)}") from error
    foreign = next((entry for entry in session.get_inputs() if entry.type not in _DTYPES), None)
    if foreign is not None:
        raise NotRunError(f"its input {foreign.name} is a {foreign.type}")
    taken = [
        Input(entry.name, tuple(size if isinstance(size, int) else None for size in entry.shape), _DTYPES[entry.type])
        for entry in session.get_inputs()
    ]
    states = _states(record, [entry.name for entry in taken])
    outputs = tuple(entry.doc_string or entry.name for entry in model.graph.output)

    def compute(given: Mapping[str, Array]) -> Mapping[str, Array]:
        feeds = {entry.name: np.asarray(given[entry.name]).astype(entry.dtype, copy=False) for entry in taken}
        return dict(zip(outputs, session.run(None, feeds), strict=True))

    dtypes = (_DTYPES.get(entry.type, "") for entry in (*session.get_inputs(), *session.get_outputs()))
    stored = next((dtype for dtype in dtypes if dtype.startswith("float")), "float32")
    return LoadedModel(
        framework,
        precision_of(stored),
        tuple(entry for entry in taken if entry.name not in states),
        outputs,
        compute,
        tuple(entry for entry in taken if entry.name in states),
    )


def inference_session(path: Path) -> tuple[Any, str]:
    """Load a file into ONNX Runtime on the CPU; return the session, and the framework with its version."""
    onnxruntime = require("onnxruntime", "Running an ONNX model")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session, f"onnxruntime {onnxruntime.__version__}"


def precision_of(stored: str) -> Precision:
    """Return in what ONNX Runtime computes a model of a float type: float16 is cast to float32 around the nodes."""
    return Precision("float32" if stored == "float16" else stored, stored)


def _states(record: Record | None, inputs: Sequence[str]) -> frozenset[str]:
    """Return the inputs that lstmconv added for initial states: beside the Keras model's own, or of its LSTM layers."""
    if record is None:
        return frozenset()
    if record.scope == "whole" and record.model is not None:
        return frozenset(inputs) - {entry["name"] for entry in record.model["inputs"]}
    added = {
        f"{layer.name}.initial_{letter}{suffix}" for layer in record.layers for letter in "hc" for suffix in ("", "_1")
    }
    return frozenset(inputs) & added


def decode_model(
    model: onnx.ModelProto, arrays_of: StoredArrays, layers: Iterable[Layer]
) -> Mapping[str, DecodedLayer]:
    """Return every layer's arrays by its name, from the initializers ``<layer>.<array>``; external ones are mapped.

    From the given layers only names, ways and the count of heads are read, never a number; no framework is loaded in
    either case. The node that reads a kernel decides its axes:
    ``Conv`` has W ``[M, C/group, spatial...]`` (ONNX operator specification, Conv-11), ``ConvTranspose`` W
    ``[C, M/group, spatial...]`` (ConvTranspose-11).
    """
    stored = {entry.name: entry for entry in model.graph.initializer}
    readers = {name: node.op_type for node in model.graph.node for name in node.input if name in stored}
    known = {one.name: one for layer in layers for one in (layer.layers if isinstance(layer, Stack) else (layer,))}
    own: dict[str, dict[str, str]] = {name: {} for name in known}
    for name in stored:
        owner, _, key = name.rpartition(".")
        if (half := re.fullmatch(r"half_(\d)(_\d+)?", key)) is not None:
            owner, _, matrix = owner.rpartition(".")
            key = f"{matrix}.{half[1]}"
        if owner in own:
            own[owner][re.sub(r"_\d+$", "", key)] = name  # A number stands behind it where an input has its name.
    decoded: dict[str, DecodedLayer] = {}
    for owner, found in own.items():
        if found:
            arrays = {key: (arrays_of.array(stored[name]), readers.get(name, "")) for key, name in found.items()}
            decoded[owner] = _decoded(known[owner], arrays)
    return decoded


def _decoded(layer: Layer, found: Mapping[str, tuple[Array, str]]) -> DecodedLayer:
    if not isinstance(layer, LSTMLayer | RecurrentLayer):
        return {key: _array(layer, key, array, operator) for key, (array, operator) in found.items()}
    weights = [key for key in ("W", "W.0", "W.1") if key in found]
    rows: list[tuple[Array, Array, Array | None, Array | None]] = []
    for key in weights:
        suffix = key.removeprefix("W")
        b = found[f"B{suffix}"][0] if f"B{suffix}" in found else None
        for row, (w, r) in enumerate(zip(found[key][0], found[f"R{suffix}"][0], strict=True)):
            wb, rb = (None, None) if b is None else np.split(b[row], 2)
            rows.append((w, r, wb, rb))
    if len(weights) == 1 and len(rows) == 2 and layer.directions[0].go_backwards:
        rows.reverse()  # A bidirectional node keeps the forward way first, Keras the forward half.
    if isinstance(layer, LSTMLayer):
        return tuple(DecodedDirection(gate_rows(w), gate_rows(r), *map(_maybe_gates, biases)) for w, r, *biases in rows)
    gates = {"GRU": 3, "RNN": 1}[found[weights[0]][1]]
    return tuple(dict(_cut(row, gates)) for row in rows)


def _maybe_gates(stored: Array | None) -> Gates | None:
    return None if stored is None else gate_rows(stored)


def _array(layer: Layer, key: str, array: Array, operator: str) -> Array:
    """Return one array in the axes of its kind."""
    if operator in ("Conv", "ConvTranspose") and key == "kernel":
        return array.transpose(*range(2, array.ndim), 1, 0)
    if isinstance(layer, MultiHeadAttention) and key != "output_bias":
        heads = layer.query_kernel.shape[1]
        if key == "output_kernel":
            return array.reshape(heads, -1, array.shape[-1])
        return array.reshape(*array.shape[:-1], heads, -1)
    return array


def _cut(row: tuple[Array | None, ...], gates: int) -> Iterator[tuple[str, Array]]:
    """Cut GRU's [3H, ...], stored z r h (GRU-14, Inputs), into ``(3, H, ...)``; an RNN has one gate, no such axis."""
    for name, part in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), row, strict=True):
        if part is not None:
            yield name, part if gates == 1 else part.reshape(gates, -1, *part.shape[1:])
