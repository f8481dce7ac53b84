"""Run a written ONNX model in ONNX Runtime on the CPU.

ONNX' own ReferenceEvaluator ignores activations and sequence_lens, so it stands in only where ONNX
Runtime has no kernel, float64 with tanh and sigmoid, and the report says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from lstmconv._optional import require
from lstmconv.model import Array, Layer
from lstmconv.runtimes import (
    Decoded,
    DecodedDirection,
    DecodedLayer,
    Inputs,
    Loaded,
    LoadedModel,
    NotRunError,
    Outputs,
    Session,
    named_outputs,
)
from lstmconv.runtimes.onnx_arrays import StoredArrays, gate_rows
from lstmconv.runtimes.onnx_model import decode_model, inference_session, load_model, precision_of

__all__ = ["RUNTIME"]

_Evaluate: TypeAlias = "Callable[[Sequence[str], Mapping[str, Array]], list[Any]]"
"""Takes the wanted outputs and the inputs by name, and returns the outputs."""


class _Framework(NamedTuple):
    """A framework that computes a model: its name, its call, and whether it is ONNX' own evaluator."""

    name: str
    evaluate: _Evaluate
    evaluator: bool = False


class _OnnxModel(Session):
    """An ONNX model; its artifact's content is the parsed message, whose large weights stay in the file."""

    @property
    def _model(self) -> Any:
        return self.artifact.content

    @cached_property
    def _declared(self) -> dict[str, Any]:
        """The inputs by name."""
        return {entry.name: entry for entry in self._model.graph.input}

    def _layers(self, name: str) -> list[str]:
        """Name the layers of a stack as lstmconv recorded them."""
        recorded = {} if self.record is None else self.record.modules
        return [layer.name for layer in recorded[name]] if name in recorded else [name]

    def accepts(self, name: str) -> frozenset[str]:
        """Say which inputs a stack takes beside x: ``states``, ``lengths``."""
        states = all(f"{layer}.initial_h" in self._declared for layer in self._layers(name))
        found = {"states": states, "lengths": f"{name}.lengths" in self._declared}
        return frozenset(key for key, there in found.items() if there)

    def decode(self, names: Sequence[str], *, frameworks: bool = True) -> Decoded:
        """Return the named stacks' weights from the initializers that their LSTM nodes use, external ones mapped."""
        arrays = StoredArrays(self.artifact.file)
        stored = {entry.name: arrays.array(entry) for entry in self._model.graph.initializer}
        swapped = {
            entry.name
            for entry in (() if self.record is None else self.record.layers)
            if len(entry.directions) == 2 and entry.directions[0].go_backwards
        }
        return {
            name: tuple(
                direction
                for layer in self._layers(name)
                for direction in _decode_layer(self._model, stored, layer, swapped=layer in swapped)
            )
            for name in names
        }

    def decode_model(self, layers: Sequence[Layer], *, frameworks: bool = True) -> Mapping[str, DecodedLayer]:
        """Return every layer's arrays from the initializers, external ones mapped."""
        return decode_model(self._model, StoredArrays(self.artifact.file), layers)

    def load_model(self) -> LoadedModel:
        """Load the whole file into ONNX Runtime."""
        return load_model(self._model, self.artifact.path, self.record)

    @cached_property
    def _framework(self) -> _Framework:
        """The whole file, loaded once: ONNX' evaluator where ONNX Runtime has no kernel for a dtype in it."""
        if {_dtype(entry).name for entry in self._declared.values()} & {"float64", "bfloat16"}:
            return _reference(require("onnx", "Reading ONNX files").load(str(self.artifact.path)))
        session, framework = inference_session(self.artifact.path)
        return _Framework(framework, lambda wanted, feeds: list(session.run(list(wanted), dict(feeds))))

    def load(self, name: str, way: int = 0) -> Loaded:
        """Load one stack's outputs; what the rest of the file takes is fed with a step of zeros.

        Raises:
            NotRunError: ONNX Runtime has no kernel for the dtype, or the graph has other inputs than ours.
        """
        if f"{name}.x" not in self._declared:
            raise NotRunError("a graph that lstmconv did not write: its LSTM nodes are compared, the graph is not run")
        element = _dtype(self._declared[f"{name}.x"])
        layers = self._layers(name)
        outputs = {entry.name for entry in self._model.graph.output}
        states = [f"{layer}.{key}" for layer in layers for key in ("h", "h_1", "c", "c_1")]
        wanted = [key for key in (f"{name}.y", f"{name}.y_1", *states) if key in outputs]
        framework = self._framework
        plain = _functions(self._model, layers) == {"Sigmoid", "Tanh"} and f"{name}.lengths" not in self._declared
        if framework.evaluator and (element.name == "bfloat16" or not plain):
            raise NotRunError(f"ONNX Runtime has no {element} LSTM; --dtype float32 can be run")
        others = {
            key: _zeros(entry) for key, entry in self._declared.items() if key.rpartition(".")[0] not in (name, *layers)
        }

        def compute(inputs: Inputs) -> Outputs:
            results = framework.evaluate(wanted, others | _feeds(self._declared, name, layers, inputs, element))
            found = dict(zip(wanted, results, strict=True))
            h, c = (
                [row for layer in layers for key in (letter, f"{letter}_1") for row in found.get(f"{layer}.{key}", ())]
                for letter in "hc"
            )
            return named_outputs([found[key] for key in (f"{name}.y", f"{name}.y_1") if key in found], h, c)

        weights = self.decode([name])[name][0].weight_ih.dtype
        stored = min(element, weights, key=lambda dtype: dtype.itemsize)
        return Loaded(framework.name, precision_of(stored.name), compute)


def _dtype(entry: Any) -> np.dtype[Any]:
    """Return the dtype of an input."""
    onnx = require("onnx", "Reading ONNX files")
    found: np.dtype[Any] = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type))
    return found


def _zeros(entry: Any) -> Array:
    """Return the smallest input that a declaration allows."""
    return np.zeros([axis.dim_value or 1 for axis in entry.type.tensor_type.shape.dim], _dtype(entry))


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


def _functions(model: Any, layers: Sequence[str]) -> set[str]:
    """Return the activations of some layers' nodes, by ONNX' names."""
    named = {f"{layer}{half}" for layer in layers for half in ("", ".half_0", ".half_1")}
    return {
        function.decode()
        for node in model.graph.node
        if node.op_type == "LSTM" and node.name in named
        for attribute in node.attribute
        if attribute.name == "activations"
        for function in attribute.strings
    }


def _reference(model: Any) -> _Framework:
    """Run in ONNX' ReferenceEvaluator, which computes tanh and sigmoid whatever the node says."""
    evaluator = require("onnx.reference", "Running an ONNX model").ReferenceEvaluator(model)
    version = require("onnx", "Running an ONNX model").__version__

    def evaluate(wanted: Sequence[str], feeds: Mapping[str, Array]) -> list[Any]:
        with np.errstate(over="ignore"):  # Its sigmoid is 1 / (1 + exp(-x)): exp overflows where the result is 0.
            return list(evaluator.run(list(wanted), dict(feeds)))

    return _Framework(f"onnx {version} ReferenceEvaluator", evaluate, evaluator=True)


RUNTIME = _OnnxModel
