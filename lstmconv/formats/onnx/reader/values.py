"""The value of a name that is known while reading: constants, and numbers moved from constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from lstmconv.errors import UnreadableFileError, UnsupportedModelError
from lstmconv.formats.onnx.reader.evaluation import ARITHMETIC, MOVES, NotEvaluatedError, run_node
from lstmconv.formats.onnx.reader.scopes import Place, Scope, attribute
from lstmconv.formats.onnx.reader.tensors import Tensors
from lstmconv.formats.safety.limits import ONNX_EVALUATIONS
from lstmconv.model import Array

if TYPE_CHECKING:
    import onnx

__all__ = ["EVALUATED", "Values"]

_FIELDS = {"value": "t", "value_float": "f", "value_floats": "floats", "value_int": "i", "value_ints": "ints"}
_SLACK = 1 << 20
_QUANTISED = ("DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear", "MatMulInteger")
_DROPOUT_ALWAYS_TESTS = 7  # Dropout-7 has no is_test any more.
_TRAINING = 2  # Dropout-12, Inputs: data, ratio, training_mode.
EVALUATED = MOVES | ARITHMETIC | {"Cast", "ConstantOfShape", "Shape", "Size"}


@dataclass
class Values:
    """Finds and evaluates values; each is computed once.

    Attributes:
        tensors: Reads stored tensors.
        stored: Bytes of a model in memory; with those of its files, one value may have twice as many,
            all that are computed together eight times.
        given: Values that are assumed: what stands in the way of a probe.
        evaluations: Counts the nodes that were run, also those of probes.
        shapes: What knows the shapes of values that are not known; used by Shape nodes alone.
    """

    tensors: Tensors
    stored: int
    given: Mapping[tuple[int, str], Array] = field(default_factory=dict)
    shapes: Values | None = None
    known: dict[tuple[int, str], Array | NotEvaluatedError] = field(default_factory=dict)
    computed: int = 0
    evaluations: Evaluations = field(default_factory=lambda: Evaluations())

    def probe(self, given: Mapping[tuple[int, str], Array], shapes: Values | None = None) -> Values:
        """Return the same with some values assumed."""
        return Values(self.tensors, self.stored, given, shapes, evaluations=self.evaluations)

    def constant(self, scope: Scope, name: str) -> Array:
        """Return the value of a name, read-only.

        Raises:
            NotEvaluatedError: It is not known while reading; the text says why.
            UnreadableFileError: A stored tensor is damaged, or a value depends on itself.
            UnsupportedModelError: A stored tensor's type is no plain number.
        """
        start = scope.place(name)
        if start is None:
            raise UnreadableFileError(f"nothing in the graph defines '{name}'", about=scope.file)
        waiting = [start]
        begun: set[tuple[int, str]] = set()
        while waiting:
            place = waiting[-1]
            if place.key in self.known:
                waiting.pop()
                continue
            missing = [source for source in self._sources(place) if source.key not in self.known]
            if not missing:
                self._settle(place)
                waiting.pop()
                continue
            if place.key in begun:
                raise UnreadableFileError(
                    f"'{place.name}' depends on itself; an ONNX graph has no cycles", about=scope.file
                )
            begun.add(place.key)
            waiting += missing
        found = self.known[start.key]
        if isinstance(found, NotEvaluatedError):
            raise found
        return found

    def _sources(self, place: Place) -> list[Place]:
        """Return what must be known before a place is; nothing where it is no matter of evaluation."""
        scope, name = place.scope, place.name
        if place.key in self.given or name in scope.tensors or name in scope.sparse:
            return []
        if name not in scope.producers:
            return []
        node = scope.nodes[scope.producers[name]]
        if node.op_type in ("Shape", "Size") and self.shapes is not None:
            return []
        if node.domain not in ("", "ai.onnx") or (node.op_type not in EVALUATED and node.op_type != "Dropout"):
            return []
        places = [scope.place(each) for each in node.input if each]
        return [each for each in places if each is not None]

    def _settle(self, place: Place) -> None:
        """Compute a place whose sources are known."""
        try:
            self.known.update(self._computed(place))
        except UnreadableFileError:
            raise
        except NotEvaluatedError as error:
            self.known[place.key] = error
        except UnsupportedModelError as error:
            self.known[place.key] = NotEvaluatedError(f"cannot be read ({error})")

    def _computed(self, place: Place) -> dict[tuple[int, str], Array]:
        scope, name = place.scope, place.name
        if place.key in self.given:
            return {place.key: self.given[place.key]}
        if name in scope.tensors:
            return {place.key: self.tensors.array(scope.tensors[name])}
        if name in scope.sparse:
            raise NotEvaluatedError("is stored as a sparse tensor")
        if name not in scope.producers:
            raise NotEvaluatedError(f"depends on the graph's input '{name}'")
        node = scope.nodes[scope.producers[name]]
        own = node.domain in ("", "ai.onnx")
        if node.op_type == "Constant" and own:
            return {place.key: self._constant_node(node)}
        if node.op_type in _QUANTISED:
            raise NotEvaluatedError(f"comes from {node.op_type}: quantised weights do not convert")
        if node.op_type == "Dropout" and own:
            return {place.key: self._undropped(scope, node, name)}
        if node.op_type not in EVALUATED or not own:
            raise NotEvaluatedError(f"comes from a {node.op_type} node, which is not evaluated")
        inputs = [self._input(scope, each, node.op_type) if each else None for each in node.input]
        self.evaluations.count(scope.file)
        outputs = run_node(node, inputs, scope.opset, 2 * self._stored)
        given = [array for array in inputs if array is not None]
        self.computed += sum(
            output.nbytes for output in outputs if not any(np.may_share_memory(output, array) for array in given)
        )
        if self.computed > 8 * self._stored:
            raise UnsupportedModelError("its constants grow far beyond what it stores; not evaluated", about=scope.file)
        for output in outputs:
            output.flags.writeable = False
        return {(id(scope), each): output for each, output in zip(node.output, outputs, strict=False) if each}

    @property
    def _stored(self) -> int:
        return self.stored + self.tensors.beside + _SLACK

    def _input(self, scope: Scope, name: str, operator: str) -> Array:
        if operator in ("Shape", "Size") and self.shapes is not None:
            return np.broadcast_to(np.uint8(0), self.shapes.constant(scope, name).shape)
        place = scope.place(name)
        if place is None:
            raise UnreadableFileError(f"nothing in the graph defines '{name}'", about=scope.file)
        return self._known(place)

    def _known(self, place: Place) -> Array:
        found = self.known[place.key]
        if isinstance(found, NotEvaluatedError):
            raise found
        return found

    def _undropped(self, scope: Scope, node: onnx.NodeProto, name: str) -> Array:
        """Return the input of a Dropout, which at inference returns it unchanged (Dropout-1 to 22)."""
        testing = attribute(node, "is_test")
        trains = scope.opset < _DROPOUT_ALWAYS_TESTS and (testing is None or not testing.i)
        if len(node.input) > _TRAINING and node.input[_TRAINING]:
            trains = bool(np.any(self._input(scope, node.input[_TRAINING], node.op_type)))
        if trains or name != node.output[0]:
            raise NotEvaluatedError("comes from a Dropout node in training mode")
        return self._input(scope, node.input[0], node.op_type)

    def _constant_node(self, node: onnx.NodeProto) -> Array:
        """Return what a Constant node holds (Constant-13, Attributes)."""
        for name in _FIELDS:
            stored = attribute(node, name)
            if stored is None:
                continue
            if name == "value":
                return self.tensors.array(stored.t)
            dtype = np.float32 if "float" in name else np.int64
            array = np.array(getattr(stored, _FIELDS[name]), dtype)
            array.flags.writeable = False
            return array
        raise NotEvaluatedError("comes from a Constant node that holds no plain numbers")


@dataclass
class Evaluations:
    """How many nodes of one model have been run."""

    run: int = 0

    def count(self, file: str) -> None:
        """Count one more.

        Raises:
            UnreadableFileError: There are more than any exporter needs to make its weights.
        """
        self.run += 1
        if self.run > ONNX_EVALUATIONS.value:
            raise UnreadableFileError(
                f"over {ONNX_EVALUATIONS.value:,} nodes make its weights; {ONNX_EVALUATIONS.way_out}", about=file
            )
