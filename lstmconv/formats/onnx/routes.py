"""Which layer feeds which, decided by running what stands between them on numbers that are all different.

A layer's Y is assumed to be distinct numbers; whatever arrives at the next layer's X is compared with what
Keras' layer would return for them. So it does not matter how an exporter spells the way from one to the
other, and a way that only looks like the usual one is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.onnx.evaluation import MOVES, NotEvaluatedError
from lstmconv.formats.onnx.nodes import LSTMNode, direction_count
from lstmconv.formats.onnx.scopes import Scope, captured
from lstmconv.formats.onnx.values import Values
from lstmconv.model import Array, LSTMLayer

if TYPE_CHECKING:
    import onnx

__all__ = ["Placed", "Routes"]

_STEPS, _BATCH = 3, 2
_MOST = 1 << 20
"""Elements of a probe: each number must be exact in float32, too."""
_FAR = 10_000
"""Nodes between two layers that are looked at."""
_CARRIES = MOVES | {"Cast", "Dropout"}
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
        parts = []
        for index, (node, row) in enumerate(self.halves):
            y = probes[node.output(0)]
            sequence = y[:, :, row].swapaxes(0, 1) if node.layout else y[:, row]
            backwards = self.layer.directions[index].go_backwards
            parts.append(sequence[::-1] if backwards != (index == 1) else sequence)
        return np.concatenate(parts, axis=-1)


@dataclass(frozen=True, eq=False)
class _Live:
    """What reads what in one graph, nodes that compute no output left out."""

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
    """

    values: Values
    recurrent: Mapping[Scope, Sequence[int]]
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

    def value(self, node: LSTMNode, name: str) -> Array | None:
        """Return a value beside the sequences, such as initial states, with the probe's sizes for time and batch."""
        try:
            return self.values.probe({}, self._shapes_of(node.scope)).constant(node.scope, name)
        except NotEvaluatedError:
            return None

    def steps(self, node: LSTMNode) -> int:
        """Return how many time steps the probe has at a node."""
        self._shapes_of(node.scope)
        return self._sizes[id(node.scope), node.index][0]

    def feeds(self, below: Placed, above: Placed) -> frozenset[int] | None:
        """Return the nodes between two layers if the first one's sequence is the other's X, else ``None``."""
        if below.scope is not above.scope or below is above or below.layer.output_size != above.layer.input_size:
            return None
        path = self._between(below, above)
        if path is None:
            return None
        probes = self._probes(below)
        expected = below.returned(probes)
        values = self._probe(below, probes)
        for node in above.nodes:
            try:
                found = values.constant(node.scope, node.x)
            except NotEvaluatedError:
                return None
            if not np.array_equal(found.swapaxes(0, 1) if node.layout and found.ndim == 3 else found, expected):
                return None
        return path

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

    def ends(self, placed: Placed) -> list[Array | None]:
        """Return what is made of a layer's Y before anything is computed with it; ``None`` for what is not known."""
        live = self._live(placed.scope)
        values = self._probe(placed, self._probes(placed))
        waiting = [node.output(0) for node in placed.nodes]
        seen: set[str] = set()
        found: list[Array | None] = []
        while waiting and len(seen) < _FAR:
            name = waiting.pop()
            if name in seen or not name:
                continue
            seen.add(name)
            stops = name in live.returned
            for reader, place in live.readers.get(name, ()):
                node = placed.scope.nodes[reader]
                if node.op_type in _DIMENSIONLESS:
                    continue
                if node.op_type in _CARRIES and place >= 0 and all(map(self._known(values, placed.scope), node.output)):
                    waiting += node.output
                else:
                    stops = True
            if stops:
                found.append(values.constant(placed.scope, name))
        return found

    def _known(self, values: Values, scope: Scope):  # type: ignore[no-untyped-def]
        def known(name: str) -> bool:
            try:
                values.constant(scope, name)
            except NotEvaluatedError:
                return not name
            return True

        return known

    # The probes

    def _probes(self, placed: Placed) -> dict[str, Array]:
        """Return distinct numbers for each Y of a layer."""
        self._shapes_of(placed.scope)
        probes: dict[str, Array] = {}
        start = 0
        for node in placed.nodes:
            shape = self._y_shape(node.scope, node.index, node.directions[0].hidden_size)
            count = int(np.prod(shape))
            # Halves are exact in float32 up to 2^23 and in nothing narrower; shapes and indices are whole.
            probes[node.output(0)] = -(np.arange(start, start + count) + (1 << 20) + 0.5).reshape(shape)
            start += count
        return probes

    def _probe(self, placed: Placed, probes: Mapping[str, Array]) -> Values:
        given = {(id(placed.scope), name): probe for name, probe in probes.items() if name}
        return self.values.probe(given, self._shapes_of(placed.scope))

    def _shapes_of(self, scope: Scope) -> Values:
        """Return what knows the shapes of a graph: zeros stand for every X, Y and what X is moved from."""
        if id(scope) not in self._shapes:
            given: dict[tuple[int, str], Array] = {}
            for index in self.recurrent.get(scope, ()):
                given |= self._zeros(scope, index)
            self._shapes[id(scope)] = self.values.probe(given)
        return self._shapes[id(scope)]

    def _zeros(self, scope: Scope, index: int) -> dict[tuple[int, str], Array]:
        node = scope.nodes[index]
        features, hidden = self._features(scope, index)
        root = self._root(scope, node.input[0]) if node.input else ""
        shape = _declared(scope, root, features)
        source = np.zeros(shape, np.int8)
        found = {(id(scope), root): source}
        layout = scope.attribute(node, "layout")
        batch_first = layout is not None and layout.i == 1
        try:
            x = self.values.probe(dict(found)).constant(scope, node.input[0]) if node.input else source
            sizes = (x.shape[1], x.shape[0]) if batch_first else x.shape[:2]
        except (NotEvaluatedError, IndexError):
            sizes = ()
        steps, batch = (int(sizes[0]), int(sizes[1])) if len(sizes) == 2 else (_STEPS, _BATCH)
        if steps * batch * hidden * 2 > _MOST or not steps * batch:
            steps, batch = _STEPS, _BATCH
        self._sizes[id(scope), index] = (steps, batch)
        rows = direction_count(scope, node)
        state = (batch, rows, hidden) if batch_first else (rows, batch, hidden)
        shapes = [self._y_shape(scope, index, hidden), state, state]
        for name, each in zip(node.output, shapes, strict=False):
            if name:
                found[id(scope), name] = np.zeros(each, np.int8)
        if node.input and node.input[0] and features:
            found[id(scope), node.input[0]] = np.zeros(
                (batch, steps, features) if batch_first else (steps, batch, features), np.int8
            )
        return found

    def _y_shape(self, scope: Scope, index: int, hidden: int) -> tuple[int, int, int, int]:
        steps, batch = self._sizes[id(scope), index]
        node = scope.nodes[index]
        rows = direction_count(scope, node)
        layout = scope.attribute(node, "layout")
        return (batch, steps, rows, hidden) if layout is not None and layout.i == 1 else (steps, rows, batch, hidden)

    def _features(self, scope: Scope, index: int) -> tuple[int, int]:
        """Return the sizes of a recurrent node's input and states, from its W and R; 1 where they are not known."""
        found = []
        for name in scope.nodes[index].input[1:3]:
            try:
                found.append(self.values.constant(scope, name).shape[-1])
            except (UnsupportedModelError, IndexError):
                found.append(1)
        return tuple(found) if len(found) == 2 else (1, 1)  # type: ignore[return-value]  # of length 2

    def _root(self, scope: Scope, name: str) -> str:
        """Return what X is moved from: the graph's input, or what something computes."""
        for _ in range(_FAR):
            index = scope.producers.get(name)
            if index is None:
                return name
            node = scope.nodes[index]
            carries = node.op_type in _CARRIES - {"Concat"} and node.domain in ("", "ai.onnx")
            if not carries or scope.function(node) is not None or not node.input or not node.input[0]:
                return name
            name = node.input[0]
        return name

    def _between(self, below: Placed, above: Placed) -> frozenset[int] | None:
        """Return the nodes from which a layer's X is made, back to another's Y; ``None`` if a third layer feeds it."""
        scope = below.scope
        sources = {node.output(0) for node in below.nodes}
        others = {name for index in self.recurrent.get(scope, ()) for name in scope.nodes[index].output} - sources
        waiting = [node.x for node in above.nodes]
        path: set[int] = set()
        reached = False
        while waiting:
            name = waiting.pop()
            if name in sources:
                reached = True
                continue
            index = scope.producers.get(name)
            if index is None or index in path:
                continue
            if name in others:
                continue  # Its shape may be asked for; its numbers are unknown to the probe.
            path.add(index)
            if len(path) > _FAR:
                return None
            waiting += [each for each in scope.nodes[index].input if each]
        return frozenset(path) if reached else None


def _declared(scope: Scope, name: str, features: int) -> tuple[int, ...]:
    """Return a shape for what X is moved from: as declared, small where it is free."""
    kind = scope.types.get(name)
    free = (_STEPS, _BATCH, features)
    if kind is None or not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return free
    sizes = [int(dimension.dim_value) for dimension in kind.tensor_type.shape.dim]
    free = free if len(sizes) == 3 else (_STEPS, _BATCH, 1, 1, 1, 1, 1, 1)[: len(sizes)]
    shape = tuple(size if size > 0 else usual for size, usual in zip(sizes, free, strict=False))
    return shape if shape and int(np.prod([float(size) for size in shape])) <= _MOST else free


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
