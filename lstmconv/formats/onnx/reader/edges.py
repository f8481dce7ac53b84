"""Which layer feeds which, decided by running what stands between them on numbers that are all different.

A layer's Y is assumed to be distinct numbers; whatever arrives at the next layer's X is compared with what
Keras' layer would return for them. So it does not matter how an exporter spells the way from one to the
other, and a way that only looks like the usual one is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from lstmconv.errors import LstmconvError
from lstmconv.formats.onnx.reader.evaluation import MOVES, NotEvaluatedError
from lstmconv.formats.onnx.reader.lstm_node import LSTMNode, direction_count
from lstmconv.formats.onnx.reader.scopes import Scope, attribute, captured
from lstmconv.formats.onnx.reader.values import EVALUATED, Values
from lstmconv.model import Array, LSTMLayer

if TYPE_CHECKING:
    import onnx

__all__ = ["FAR", "MOVED", "Placed", "Routes"]

_STEPS, _BATCH = 3, 2
_MOST = 1 << 20
"""Elements of a probe: each number must be exact in float32, too."""
FAR = 10_000
"""Nodes between two layers that are looked at."""
_CARRIES = MOVES | {"Cast", "Dropout"}
MOVED = _CARRIES - {"Concat"}
"""Operators that return numbers of their first input only."""
_DIMENSIONLESS = ("Shape", "Size")


@dataclass(frozen=True, eq=False)
class Placed:
    """A layer, and where its halves stand in the graph.

    Attributes:
        layer: As Keras has it.
        halves: For the forward half, then the backward half: the node, and the row of it.
    """

    layer: LSTMLayer
    halves: tuple[tuple[LSTMNode, int], ...]

    @property
    def nodes(self) -> tuple[LSTMNode, ...]:
        """Its nodes: one, or one a half."""
        return tuple(dict.fromkeys(node for node, _ in self.halves))

    @property
    def scope(self) -> Scope:
        """The graph that it stands in."""
        return self.halves[0][0].scope

    def returned(self, probes: Mapping[str, Array]) -> Array:
        """Return what the Keras layer returns where the nodes' Y are the probes: (time, batch, features)."""
        halves = enumerate(self._sequences(probes))
        turned = [sequence[::-1] if backwards != (index == 1) else sequence for index, (sequence, backwards) in halves]
        return np.concatenate(turned, axis=-1)

    def last(self, probes: Mapping[str, Array]) -> Array:
        """Return what it returns without return_sequences: each half's last processed step, (batch, features)."""
        steps = [sequence[0 if backwards else -1] for sequence, backwards in self._sequences(probes)]
        return np.concatenate(steps, axis=-1)

    def _sequences(self, probes: Mapping[str, Array]) -> Iterator[tuple[Array, bool]]:
        """Yield each half's Y in the order of time, (time, batch, units), and whether the half runs backwards."""
        for (node, row), direction in zip(self.halves, self.layer.directions, strict=True):
            y = probes[node.output(0)]
            yield y[:, :, row].swapaxes(0, 1) if node.layout else y[:, row], direction.go_backwards


@dataclass(frozen=True, eq=False)
class _Live:
    """Which node reads which in one graph, without nodes that compute no output."""

    readers: Mapping[str, Sequence[tuple[int, int]]]
    returned: frozenset[str]

    def reads(self, name: str) -> bool:
        return name in self.readers or name in self.returned


@dataclass
class Routes:
    """Follows sequences through one model.

    Attributes:
        values: What is constant in the model.
        recurrent: All recurrent nodes, whether they convert or not, by scope.
        steps: Time steps of a probe where the graph leaves their number open.
    """

    values: Values
    recurrent: Mapping[Scope, Sequence[int]]
    steps: int = _STEPS
    _other: Routes | None = None
    _lives: dict[int, _Live] = field(default_factory=dict)
    _shapes: dict[int, Values] = field(default_factory=dict)
    _sizes: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)

    # What is read

    def reads_sequence(self, node: LSTMNode) -> bool:
        """Whether anything reads Y."""
        return bool(node.output(0)) and self._live(node.scope).reads(node.output(0))

    def reads_states(self, node: LSTMNode) -> bool:
        """Whether anything reads Y_h or Y_c."""
        return any(name and self._live(node.scope).reads(name) for name in (node.output(1), node.output(2)))

    def _live(self, scope: Scope) -> _Live:
        if id(scope) not in self._lives:
            self._lives[id(scope)] = _liveness(scope)
        return self._lives[id(scope)]

    # What arrives

    def probing(self, scope: Scope, given: Mapping[str, Array] | None = None) -> Values:
        """Return what knows a graph's values where some are given, with the probe's sizes for time and batch."""
        placed = {(id(scope), name): value for name, value in (given or {}).items() if name}
        return self.values.probe(placed, self.shapes_of(scope))

    def are_all_steps(self, scope: Scope, lengths: str, sequence: str, axis: int) -> bool:
        """Whether lengths are a sequence's whole axis, however many steps it has where the graph leaves them open."""
        return self._reach(scope, lengths, sequence, axis) and self._longer._reach(scope, lengths, sequence, axis)

    @property
    def _longer(self) -> Routes:
        """The same with probes of one step more, where the graph leaves their number open."""
        if self._other is None:
            self._other = Routes(self.values, self.recurrent, self.steps + 1)
        return self._other

    def _reach(self, scope: Scope, lengths: str, sequence: str, axis: int) -> bool:
        try:
            found = self.probing(scope).constant(scope, lengths)
            shape = self.shapes_of(scope).constant(scope, sequence).shape
        except NotEvaluatedError:
            return False
        return -len(shape) <= axis < len(shape) and not np.any(found != shape[axis])

    def feeder(self, above: Placed, layers: Sequence[Placed]) -> tuple[Placed, frozenset[int]] | None:
        """Return the layer whose sequence is a layer's X, and the nodes between them; ``None`` if there is none."""
        found = self._upstream(above)
        if found is None:
            return None
        outputs, path = found
        below = next((layer for layer in layers if outputs <= {node.output(0) for node in layer.nodes}), None)
        if not outputs or below is None or below is above or below.scope is not above.scope:
            return None
        probes = self._probes(below)
        expected = below.returned(probes)
        values = self.probing(below.scope, probes)
        for node in above.nodes:
            try:
                x = values.constant(node.scope, node.x)
            except NotEvaluatedError:
                return None
            if not np.array_equal(x.swapaxes(0, 1) if node.layout and x.ndim == 3 else x, expected):
                return None
        return below, path

    def branches(self, below: Placed, above: Placed, path: frozenset[int]) -> bool:
        """Whether something beside a way to the next layer reads a layer's sequence, or part of it."""
        live = self._live(below.scope)
        allowed = {node.index for node in above.nodes}
        waiting = [node.output(0) for node in below.nodes]
        seen: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name in seen or not name:
                continue
            seen.add(name)
            if name in live.returned:
                return True
            for reader, place in live.readers.get(name, ()):
                if below.scope.nodes[reader].op_type in _DIMENSIONLESS or (reader in allowed and place == 0):
                    continue
                if reader not in path or place < 0:
                    return True
                waiting += below.scope.nodes[reader].output
        return False

    def returns(self, placed: Placed) -> Literal["sequence", "last", "other"]:
        """Say whether what reads a layer's Y reads what Keras returns: the sequence, or its last step."""
        probes = self._probes(placed)
        ends = [np.squeeze(end) for end in self._ends(placed, probes)]
        sequence, last = placed.returned(probes), np.squeeze(placed.last(probes))
        either = [np.squeeze(sequence), np.squeeze(sequence.swapaxes(0, 1))]
        if sequence.shape[0] > 1 and ends and all(np.array_equal(end, last) for end in ends):
            return "last"
        kept = all(any(np.array_equal(end, each) for each in (*either, last)) for end in ends)
        return "sequence" if kept else "other"

    def _ends(self, placed: Placed, probes: Mapping[str, Array]) -> list[Array]:
        """Return what is made of a layer's Y before anything is computed with it."""
        live = self._live(placed.scope)
        values = self.probing(placed.scope, probes)
        waiting = [node.output(0) for node in placed.nodes]
        seen: set[str] = set()
        found: list[Array] = []
        while waiting and len(seen) < FAR:
            name = waiting.pop()
            if name in seen or not name:
                continue
            seen.add(name)
            stops = name in live.returned
            for reader, place in live.readers.get(name, ()):
                node = placed.scope.nodes[reader]
                if node.op_type in _DIMENSIONLESS:
                    continue
                outputs = [each for each in node.output if each and live.reads(each)]
                carries = node.op_type in _CARRIES and place >= 0
                if carries and all(_is_known(values, placed.scope, each) for each in outputs):
                    waiting += outputs
                else:
                    stops = True
            if stops:
                found.append(values.constant(placed.scope, name))
        return found

    # The probes

    def _probes(self, placed: Placed) -> dict[str, Array]:
        """Return distinct numbers for each Y of a layer."""
        self.shapes_of(placed.scope)
        probes: dict[str, Array] = {}
        start = 0
        for node in placed.nodes:
            shape = self._y_shape(node.scope, node.index, node.directions[0].hidden_size)
            count = int(np.prod(shape))
            # Halves are exact in float32 up to 2^23 and in nothing narrower; shapes and indices are whole.
            probes[node.output(0)] = -(np.arange(start, start + count) + (1 << 20) + 0.5).reshape(shape)
            start += count
        return probes

    def shapes_of(self, scope: Scope) -> Values:
        """Return what knows the shapes of a graph: zeros stand for every X, Y and what X is moved from."""
        if id(scope) not in self._shapes:
            given: dict[tuple[int, str], Array] = {}
            for index in self.recurrent.get(scope, ()):
                self._add_zeros(scope, index, given)
            self._shapes[id(scope)] = self.values.probe(given)
        return self._shapes[id(scope)]

    def _add_zeros(self, scope: Scope, index: int, given: dict[tuple[int, str], Array]) -> None:
        """Add zeros for a recurrent node's X, what X is moved from, and its outputs."""
        node = scope.nodes[index]
        features, hidden = self._features(scope, index)
        x = node.input[0] if node.input else ""
        root = (id(scope), self.root(scope, x))
        if root not in given:
            given[root] = np.zeros(_declared(scope, root[1], features, self.steps), np.int8)
        batch_first = _batch_first(node)
        found = self._shape(scope, x, given)
        steps, batch = (found[1::-1] if batch_first else found[:2]) if len(found) == 3 else (self.steps, _BATCH)
        if not 0 < steps * batch * hidden * 2 <= _MOST:
            steps, batch = self.steps, _BATCH
        self._sizes[id(scope), index] = (steps, batch)
        rows = direction_count(node)
        state = (batch, rows, hidden) if batch_first else (rows, batch, hidden)
        for name, shape in zip(node.output, [self._y_shape(scope, index, hidden), state, state], strict=False):
            given[id(scope), name] = np.zeros(shape, np.int8)
        given[id(scope), x] = np.zeros((batch, steps, features) if batch_first else (steps, batch, features), np.int8)

    def _shape(self, scope: Scope, name: str, given: Mapping[tuple[int, str], Array]) -> tuple[int, ...]:
        try:
            return self.values.probe(dict(given)).constant(scope, name).shape
        except LstmconvError:
            return ()

    def _y_shape(self, scope: Scope, index: int, hidden: int) -> tuple[int, int, int, int]:
        steps, batch = self._sizes[id(scope), index]
        node = scope.nodes[index]
        rows = direction_count(node)
        return (batch, steps, rows, hidden) if _batch_first(node) else (steps, rows, batch, hidden)

    def _features(self, scope: Scope, index: int) -> tuple[int, int]:
        """Return the sizes of a recurrent node's input and states, from its W and R; 1 where they are not known."""
        names = [*scope.nodes[index].input[1:3], "", ""][:2]
        features, hidden = (self._shape(scope, name, {})[-1:] or (1,) for name in names)
        return features[0], hidden[0]

    def root(self, scope: Scope, name: str) -> str:
        """Return what X is moved from: the graph's input, or what something computes."""
        for _ in range(FAR):
            index = scope.producers.get(name)
            if index is None:
                return name
            node = scope.nodes[index]
            carries = node.op_type in MOVED and node.domain in ("", "ai.onnx")
            if not carries or not node.input or not node.input[0]:
                return name
            name = node.input[0]
        return name

    def _upstream(self, above: Placed) -> tuple[set[str], frozenset[int]] | None:
        """Return the recurrent outputs that X is moved from, and the nodes between; ``None`` if it is computed."""
        scope = above.scope
        recurrent = set(self.recurrent.get(scope, ()))
        waiting = [node.x for node in above.nodes]
        reached: set[str] = set()
        path: set[int] = set()
        while waiting:
            name = waiting.pop()
            index = scope.producers.get(name)
            if index is None or index in path:
                continue
            if index in recurrent:
                reached.add(name)
                continue
            node = scope.nodes[index]
            if node.op_type not in EVALUATED | {"Constant", "Dropout"}:
                return None
            path.add(index)
            if len(path) > FAR:
                return None
            if node.op_type not in _DIMENSIONLESS:
                waiting += [each for each in node.input if each]
        return reached, frozenset(path)


def _batch_first(node: onnx.NodeProto) -> bool:
    layout = attribute(node, "layout")
    return layout is not None and layout.i == 1


def _is_known(values: Values, scope: Scope, name: str) -> bool:
    try:
        values.constant(scope, name)
    except NotEvaluatedError:
        return False
    return True


def _declared(scope: Scope, name: str, features: int, steps: int) -> tuple[int, ...]:
    """Return a shape for what X is moved from: as declared, small where it is free."""
    kind = scope.types.get(name)
    free: tuple[int, ...] = (steps, _BATCH, features)
    if kind is None or not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return free
    sizes = [int(dimension.dim_value) for dimension in kind.tensor_type.shape.dim]
    free = free if len(sizes) == 3 else (steps, _BATCH, 1, 1, 1, 1, 1, 1)[: len(sizes)]
    shape = tuple(size if size > 0 else usual for size, usual in zip(sizes, free, strict=False))
    return shape if shape and math.prod(shape) <= _MOST else free


def _liveness(scope: Scope) -> _Live:
    """Find which nodes the graph's outputs need, and what those read."""
    inner = {index: captured(node) for index, node in enumerate(scope.nodes) if node.attribute}
    waiting = list(scope.outputs)
    alive: set[int] = set()
    while waiting:
        index = scope.producers.get(waiting.pop())
        if index is None or index in alive:
            continue
        alive.add(index)
        waiting += [*scope.nodes[index].input, *inner.get(index, ())]
    if not scope.outputs:
        alive = set(range(len(scope.nodes)))
    readers: dict[str, list[tuple[int, int]]] = {}
    for index in sorted(alive):
        for place, name in enumerate(scope.nodes[index].input):
            if name:
                readers.setdefault(name, []).append((index, place))
        for name in inner.get(index, ()):
            readers.setdefault(name, []).append((index, -1))
    return _Live(readers, frozenset(scope.outputs))
