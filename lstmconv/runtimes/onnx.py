"""Run a written ONNX model in ONNX Runtime on the CPU.

ONNX' own ReferenceEvaluator ignores activations and sequence_lens, so it stands in only where ONNX
Runtime has no kernel, float64 with tanh and sigmoid, and the report says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from lstmconv._optional import require
from lstmconv.arrays.mapping import mapped
from lstmconv.formats.onnx.reader.parse_lazily import OWN, parse
from lstmconv.formats.provenance import KEY
from lstmconv.model import Array, Gates, Stack
from lstmconv.runtimes import Decoded, DecodedDirection, Inputs, Loaded, NotRunError, Outputs, Precision, Run

__all__ = ["RUNS", "accepts", "array_of", "decode", "gate_rows", "provenance", "seen_by_target"]


_Session: TypeAlias = "Callable[[Mapping[str, Array]], list[Any]]"
"""Takes inputs by name, and returns the wanted outputs."""


def _load(path: Path) -> Any:
    return require("onnx", "Reading ONNX files").load(str(path))


def provenance(path: Path) -> Mapping[str, Any] | None:
    """Return what lstmconv noted in the file, or ``None``."""
    model = parse(path)
    for entry in model.metadata_props:
        if entry.key == KEY:
            return json.loads(entry.value)  # type: ignore[no-any-return]  # an object, written so
    return None


def accepts(path: Path, name: str) -> frozenset[str]:
    """Say which inputs a stack takes beside x: ``states``, ``lengths``."""
    model = parse(path)
    inputs = {entry.name for entry in model.graph.input}
    layers = _layers(name, provenance(path))
    states = all(f"{layer}.initial_h" in inputs for layer in layers)
    found = {"states": states, "lengths": f"{name}.lengths" in inputs}
    return frozenset(key for key, there in found.items() if there)


def _layers(name: str, noted: Mapping[str, Any] | None) -> list[str]:
    """Name the layers of a stack as lstmconv noted them."""
    stacks = (noted or {}).get("stacks") or []
    return next((list(stack["layers"]) for stack in stacks if stack["name"] == name), [name])


def seen_by_target(stack: Stack) -> Stack:
    """Return the stack itself: ``y`` is what Keras returns."""
    return stack


def gate_rows(stored: Array) -> Gates:
    """Cut [4H, ...] stored i o f c (LSTM-14, Inputs) into the gates i f g o."""
    hidden = stored.shape[0] // 4
    i, o, f, g = (stored[block * hidden : (block + 1) * hidden] for block in range(4))
    return Gates(i, f, g, o)


def decode(path: Path, names: list[str], noted: Mapping[str, Any] | None, *, frameworks: bool = True) -> Decoded:
    """Return every named layer's weights from the initializers that its LSTM nodes use, external ones mapped."""
    model = parse(path)
    stored = {entry.name: array_of(entry, path) for entry in model.graph.initializer}
    swapped = {
        entry["name"]
        for entry in (noted or {"layers": []})["layers"]
        if len(entry["directions"]) == 2 and entry["directions"][0]["go_backwards"]
    }
    decoded: dict[str, tuple[DecodedDirection, ...]] = {}
    for name in names:
        decoded[name] = tuple(
            direction
            for layer in _layers(name, noted)
            for direction in _decode_layer(model, stored, layer, swapped=layer in swapped)
        )
    return decoded


def array_of(tensor: Any, path: Path) -> Array:
    """Return an initializer; a large one, or external data (ONNX, docs/ExternalData.md), is mapped and not read."""
    helper = require("onnx.external_data_helper", "Reading ONNX files")
    if not helper.uses_external_data(tensor):
        array: Array = require("onnx.numpy_helper", "Reading ONNX files").to_array(tensor)
        return array
    where = helper.ExternalDataInfo(tensor)
    dtype = require("onnx.helper", "Reading ONNX files").tensor_dtype_to_np_dtype(tensor.data_type)
    file = path if where.location == OWN else path.parent / where.location
    return mapped(file, dtype, where.offset or 0, tuple(tensor.dims))


def _decode_layer(model: Any, stored: Mapping[str, Array], name: str, *, swapped: bool) -> tuple[DecodedDirection, ...]:
    """Cut one layer's weights out of its node or nodes; ONNX keeps the forward way first, Keras the forward half."""
    nodes = [
        node
        for node in model.graph.node
        if node.op_type == "LSTM" and node.name in (name, f"{name}.half_0", f"{name}.half_1")
    ]
    directions: list[DecodedDirection] = []
    for node in sorted(nodes, key=lambda node: node.name):
        w, r = stored[node.input[1]], stored[node.input[2]]
        b = stored[node.input[3]] if len(node.input) > 3 and node.input[3] else None
        for row in range(w.shape[0]):
            biases = (None, None) if b is None else tuple(map(gate_rows, np.split(b[row], 2)))
            directions.append(DecodedDirection(gate_rows(w[row]), gate_rows(r[row]), *biases))
    return tuple(reversed(directions)) if swapped and len(nodes) == 1 else tuple(directions)


def _load_stack(path: Path, name: str) -> Loaded:
    """Load one stack's outputs into ONNX Runtime.

    Raises:
        NotRunError: ONNX Runtime has no kernel for the dtype, or the graph has other inputs than ours.
    """
    onnx = require("onnx", "Reading ONNX files")
    model = _load(path)
    declared = {entry.name: entry for entry in model.graph.input}
    outputs = {entry.name for entry in model.graph.output}
    if f"{name}.x" not in declared:
        raise NotRunError("a graph that lstmconv did not write: its LSTM nodes are compared, the graph is not run")
    element = onnx.helper.tensor_dtype_to_np_dtype(declared[f"{name}.x"].type.tensor_type.elem_type)
    layers = _layers(name, provenance(path))
    states = [f"{layer}.{key}" for layer in layers for key in ("h", "h_1", "c", "c_1")]
    wanted = [key for key in (f"{name}.y", f"{name}.y_1", *states) if key in outputs]
    given = [key for key in declared if key.rpartition(".")[0] in (name, *layers)]
    alone = len(given) == len(declared)
    part = model if alone else onnx.utils.Extractor(model).extract_model(given, wanted)
    if element == np.float64 or element.name == "bfloat16":
        framework, session = _reference(part, wanted, given, str(element))
    else:
        framework, session = _onnxruntime(str(path) if alone else part.SerializeToString(), wanted)

    def compute(inputs: Inputs) -> Outputs:
        results = session(_feeds(declared, name, layers, inputs, element))
        found = {key: np.asarray(value, np.float64) for key, value in zip(wanted, results, strict=True)}
        h, c = (
            [row for layer in layers for key in (letter, f"{letter}_1") for row in found.pop(f"{layer}.{key}", ())]
            for letter in "hc"
        )
        named = {f"h{k}": state for k, state in enumerate(h)} | {f"c{k}": state for k, state in enumerate(c)}
        return {key.removeprefix(f"{name}."): value for key, value in found.items()} | named

    # ONNX Runtime's CPU kernel is float32's; float16 is cast around the nodes.
    arithmetic = "float32" if element == np.float16 else element.name
    return Loaded(framework, Precision(arithmetic, element.name), compute)


def _feeds(
    declared: Mapping[str, Any], name: str, layers: Sequence[str], inputs: Inputs, element: Any
) -> dict[str, Array]:
    feeds: dict[str, Array] = {f"{name}.x": inputs.x.astype(element)}
    if f"{name}.lengths" in declared and inputs.lengths is not None:
        feeds[f"{name}.lengths"] = inputs.lengths.astype(np.int32)
    own = {"h": list(inputs.states[0::2]), "c": list(inputs.states[1::2])}
    for layer in layers:
        for state, rows in own.items():
            for key in (f"{layer}.initial_{state}", f"{layer}.initial_{state}_1"):
                if key in declared:
                    count = declared[key].type.tensor_type.shape.dim[0].dim_value
                    feeds[key] = np.stack([rows.pop(0) for _ in range(count)]).astype(element)
    return feeds


def _onnxruntime(model: str | bytes, wanted: list[str]) -> tuple[str, _Session]:
    onnxruntime = require("onnxruntime", "Running an ONNX model")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return f"onnxruntime {onnxruntime.__version__}", lambda feeds: list(session.run(wanted, dict(feeds)))


def _reference(model: Any, wanted: list[str], given: list[str], dtype: str) -> tuple[str, _Session]:
    """Run in ONNX' ReferenceEvaluator, which computes tanh and sigmoid whatever the node says."""
    functions = {
        function.decode()
        for node in model.graph.node
        if node.op_type == "LSTM"
        for attribute in node.attribute
        if attribute.name == "activations"
        for function in attribute.strings
    }
    if functions != {"Sigmoid", "Tanh"} or any(key.endswith(".lengths") for key in given) or dtype == "bfloat16":
        raise NotRunError(f"ONNX Runtime has no {dtype} LSTM; --dtype float32 can be run")
    evaluator = require("onnx.reference", "Running an ONNX model").ReferenceEvaluator(model)
    version = require("onnx", "Running an ONNX model").__version__
    return f"onnx {version} ReferenceEvaluator", lambda feeds: list(evaluator.run(wanted, dict(feeds)))


RUNS: tuple[Run, ...] = (_load_stack,)
