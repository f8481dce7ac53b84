"""One recurrent layer as ONNX nodes, LSTM, GRU or RNN, and what Keras returns from their outputs.

The same whether the layer stands alone in its file or inside a whole model: the frame around it declares
inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from lstmconv.arrays.copying import BiasMode
from lstmconv.formats.onnx.writer.graph_builder import Graph
from lstmconv.formats.onnx.writer.masks import Steps, flipped
from lstmconv.formats.onnx.writer.recurrent_weights import (
    Direction,
    activations,
    bias,
    input_matrix,
    node_attributes,
    operator,
    recurrent_matrix,
)
from lstmconv.formats.tensors import NamedTensor
from lstmconv.model import LSTMLayer
from lstmconv.model.recurrent import GRUDirection, RecurrentLayer

__all__ = ["States", "Ran", "RecurrentWriter", "halves_of", "state_groups", "states_of"]

States: TypeAlias = "Mapping[str, Sequence[str]]"
"""By letter, h and c: tensors ``(halves, batch, hidden)``, forward half first, one for all halves of the same units;
empty for zeros."""


def node_groups(layer: LSTMLayer | RecurrentLayer) -> tuple[tuple[int, ...], ...]:
    """Return the halves that share a node, by index: all, unless they differ in what a node has once."""
    directions = layer.directions
    if len(directions) == 1:
        return ((0,),)
    first, second = directions
    alike = first.hidden_size == second.hidden_size and first.go_backwards != second.go_backwards
    if isinstance(first, GRUDirection) and isinstance(second, GRUDirection):
        alike = alike and first.reset_after == second.reset_after
    return ((0, 1),) if alike else ((0,), (1,))


def state_groups(layer: LSTMLayer | RecurrentLayer) -> tuple[tuple[int, ...], ...]:
    """Return the halves whose states lie in one tensor, by index: all, unless their units differ."""
    sizes = {direction.hidden_size for direction in layer.directions}
    count = len(layer.directions)
    return (tuple(range(count)),) if len(sizes) == 1 else tuple((index,) for index in range(count))


def states_of(layer: LSTMLayer | RecurrentLayer) -> str:
    """Return the letters of the layer's states: ``hc`` or ``h``."""
    return "hc" if isinstance(layer, LSTMLayer) else "h"


@dataclass(frozen=True)
class _Half:
    """One Keras half inside the graph, by the names of its tensors.

    Attributes:
        sequence: ``(time, batch, hidden)``, in the order of the input's time.
        states: By letter, ``(batch, hidden)``: after the last step.
        initial: Likewise; empty where the states begin at zero.
    """

    sequence: str
    states: Mapping[str, str]
    initial: Mapping[str, str]


@dataclass(frozen=True)
class Ran:
    """What one call of a layer computes, by the names of the tensors.

    Attributes:
        outputs: As Keras returns them, two for merge_mode none: ``(batch, time, units)``, or ``(time, batch, units)``
            where that is asked for; ``(batch, units)`` without return_sequences.
        states: The final states, packed as the initial ones.
    """

    outputs: tuple[str, ...]
    states: Mapping[str, tuple[str, ...]]


def halves_of(graph: Graph, layer: LSTMLayer | RecurrentLayer, states: States, name: str) -> list[str]:
    """Return packed states as Keras lists them: h, c of the forward half, then of the backward half."""
    found: list[str] = []
    for number, group in enumerate(state_groups(layer)):
        for row, index in enumerate(group):
            for letter in states_of(layer):
                packed = states[letter][number]
                picked = graph.add("Gather", [packed, graph.constant(row)], f"{name}.{letter}.half_{index}", axis=0)
                found.append(picked)
    return found


class RecurrentWriter:
    """Adds the nodes of one call of a layer to a graph."""

    def __init__(
        self,
        graph: Graph,
        layer: LSTMLayer | RecurrentLayer,
        name: str,
        dtype: np.dtype[np.generic],
        steps: Steps | None = None,
        bias_mode: BiasMode | None = None,
        owner: str = "",
    ) -> None:
        """Take a layer, the name of the call, which leads all names, and the owner, which leads the weights'."""
        self.graph = graph
        self.layer = layer
        self.name = name
        self.dtype = dtype
        self.steps = steps
        self.bias_mode = bias_mode
        self.letters = states_of(layer)
        self.owner = owner or layer.name

    def named(self, name: str) -> str:
        """Lead a name with the call's."""
        return f"{self.name}.{name}"

    def add(self, x: str, initial: States, *, batch_first: bool) -> Ran:
        """Add the node or nodes on ``x (time, batch, input)``, and what Keras returns.

        Args:
            x: The sequence.
            initial: The initial states.
            batch_first: Sequences are returned ``(batch, time, units)``.
        """
        layer = self.layer
        ways = [direction.go_backwards for direction in layer.directions]
        groups = node_groups(layer)
        joined = layer.merge_mode == "concat" or len(ways) == 1
        if len(groups) == 1 and ways == sorted(ways) and self.steps is None and joined:
            return self._whole(x, initial, batch_first=batch_first)
        if self.steps is not None:
            x = self.steps.compact(x, self.name)
        halves: list[_Half] = []
        states: dict[str, tuple[str, ...]] = dict.fromkeys(self.letters, ())
        for number, group in enumerate(groups):
            suffix = f".half_{number}" if len(groups) > 1 else ""
            start = {letter: self._initial(initial[letter], number) for letter in self.letters}
            ran, packed = self._halves(x, group, suffix, start)
            halves += ran
            states = {letter: (*states[letter], packed[letter]) for letter in self.letters}
        if len(state_groups(layer)) < len(groups):
            states = {letter: (self._joined(packed, letter),) for letter, packed in states.items()}
        return Ran(self._outputs(halves, batch_first=batch_first), states)

    def _initial(self, packed: Sequence[str], number: int) -> str:
        """Return the initial state of a node: its own, or its row where two nodes' lie in one tensor."""
        groups = node_groups(self.layer)
        if len(packed) == len(groups) or not packed[0]:
            return packed[min(number, len(packed) - 1)]
        rows = self.graph.constant(groups[number])
        return self.graph.add("Gather", [packed[0], rows], f"{packed[0]}.half_{number}", axis=0)

    def _joined(self, packed: Sequence[str], letter: str) -> str:
        return self.graph.add("Concat", packed, self.named(f"{letter}.joined"), axis=0)

    def _whole(self, x: str, initial: States, *, batch_first: bool) -> Ran:
        """Add one node whose halves are in Keras' order and are concatenated: its outputs are the layer's."""
        graph, layer = self.graph, self.layer
        units = sum(direction.hidden_size for direction in layer.directions)
        y, *finals = self._node(x, layer.directions, "", [initial[letter][0] for letter in self.letters])
        states = {letter: (name,) for letter, name in zip(self.letters, finals, strict=True)}
        if layer.return_sequences is False:
            last = graph.add("Transpose", [finals[0]], self.named("Y_h.by_batch"), perm=[1, 0, 2])
            return Ran((graph.add("Reshape", [last, graph.constant([0, units])], self.named("returned")),), states)
        if layer.directions[0].go_backwards:
            y = flipped(graph, y, self.named("Y.processed"))
        order = [2, 0, 1, 3] if batch_first else [0, 2, 1, 3]
        y = graph.add("Transpose", [y], self.named("Y.by_batch" if batch_first else "Y.by_time"), perm=order)
        return Ran((graph.add("Reshape", [y, graph.constant([0, 0, units])], self.named("returned")),), states)

    def _halves(
        self, x: str, group: Sequence[int], suffix: str, initial: Mapping[str, str]
    ) -> tuple[list[_Half], Mapping[str, str]]:
        """Add a node and take its halves apart; ONNX keeps the forward way first, Keras the forward half.

        Returns:
            The halves in Keras' order, and by letter their final states ``(halves, batch, hidden)``.
        """
        graph, directions = self.graph, [self.layer.directions[index] for index in group]
        order = sorted(range(len(group)), key=lambda place: directions[place].go_backwards)
        swapped = [
            graph.add("Gather", [name, graph.constant(order)], self.named(f"initial.in_onnx_order{suffix}"), axis=0)
            if name and order != sorted(order)
            else name
            for name in initial.values()
        ]
        outputs = self._node(x, [directions[place] for place in order], suffix, swapped)
        halves: list[_Half] = []
        for index in range(len(group)):
            place = graph.constant(order.index(index))
            label = self.named(f"half_{group[index]}")
            sequence, *finals = (
                graph.add("Gather", [tensor, place], f"{label}.{key}", axis=1 if key == "y" else 0)
                for key, tensor in zip(("y", *self.letters), outputs, strict=True)
            )
            start = {
                letter: graph.add("Gather", [name, graph.constant(index)], f"{label}.initial_{letter}", axis=0)
                if name
                else ""
                for letter, name in initial.items()
            }
            half = _Half(sequence, dict(zip(self.letters, finals, strict=True)), start)
            halves.append(self._kept_states(half, label))
        if self.steps is None and order == sorted(order):
            return halves, dict(zip(self.letters, outputs[1:], strict=True))
        hidden = directions[0].hidden_size
        return halves, {letter: self._packed(halves, letter, hidden, suffix) for letter in self.letters}

    def _packed(self, halves: Sequence[_Half], letter: str, hidden: int, suffix: str) -> str:
        """Put the halves' states side by side, ``(halves, batch, hidden)``."""
        rows = [
            self.graph.add(
                "Reshape",
                [half.states[letter], self.graph.constant([1, -1, hidden])],
                self.named(f"{letter}.row{suffix}"),
            )
            for half in halves
        ]
        return self.graph.add("Concat", rows, self.named(f"{letter}.packed{suffix}"), axis=0)

    # The node

    def _node(self, x: str, directions: Sequence[Direction], suffix: str, initial: Sequence[str]) -> list[str]:
        """Add a node with its weights; return the names of Y, Y_h and, of an LSTM, Y_c.

        The first node of a layer has the layer's name, those of later calls the call's.
        """
        first = f"{self.owner}.W{suffix}" not in self.graph.shared
        lead = self.owner if first else self.name
        weights = [self._weight(key, suffix, directions) for key in "WRB"]
        inputs = [x, *weights, self.steps.lengths if self.steps is not None else "", *initial]
        while not inputs[-1]:
            inputs.pop()
        ways = [direction.go_backwards for direction in directions]
        return self.graph.add_node(
            operator(directions[0]),
            inputs,
            [self.named(f"{key}{suffix}") for key in ("Y", *(f"Y_{letter}" for letter in self.letters))],
            f"{lead}{suffix}",
            hidden_size=directions[0].hidden_size,
            direction="bidirectional" if len(ways) == 2 else "reverse" if ways[0] else "forward",
            **activations(directions),
            **node_attributes(directions[0]),
        )

    def _weight(self, key: str, suffix: str, directions: Sequence[Direction]) -> str:
        """Return the initializer, which all calls of a layer share; none where no half has a bias."""
        name = f"{self.owner}.{key}{suffix}"
        if name in self.graph.shared:
            return self.graph.shared[name]
        if key == "B":
            stored = bias(directions, self.bias_mode, self.dtype, zeros=self._biased)
            if stored is None:
                return ""
            tensor = NamedTensor(name, stored.shape, self.dtype, (stored.ravel(),))
        else:
            matrix = input_matrix if key == "W" else recurrent_matrix
            shape, pieces = matrix(directions)
            tensor = NamedTensor(name, shape, self.dtype, pieces)
        return self.graph.weight(tensor)

    @property
    def _biased(self) -> bool:
        return any(
            getattr(direction, name, None) is not None  # A SimpleRNN has one bias.
            for direction in self.layer.directions
            for name in ("bias_ih", "bias_hh")
        )

    # What Keras returns

    def _outputs(self, halves: Sequence[_Half], *, batch_first: bool) -> tuple[str, ...]:
        """Flip, repeat or zero what Keras flips, repeats or zeros, then merge."""
        layer, graph = self.layer, self.graph
        returned = [self._returned(half, index) for index, half in enumerate(halves)]
        if len(returned) == 2 and layer.merge_mode != "none":
            returned = [self._merged(returned)]
        if layer.return_sequences is not False and batch_first:
            names = ("returned", "returned_1")
            returned = [
                graph.add("Transpose", [tensor], self.named(name), perm=[1, 0, 2])
                for name, tensor in zip(names, returned, strict=False)
            ]
        return tuple(returned)

    def _merged(self, returned: Sequence[str]) -> str:
        graph, mode = self.graph, self.layer.merge_mode
        if mode == "concat":
            return graph.add("Concat", returned, self.named("merged"), axis=-1)
        merged = graph.add("Mul" if mode == "mul" else "Add", returned, self.named("merged"))
        if mode != "ave":
            return merged
        return graph.add("Mul", [merged, graph.constant(0.5, self.dtype)], self.named("averaged"))

    def _returned(self, half: _Half, index: int) -> str:
        """Return one half's outputs as Keras merges them: (time, batch, hidden) or (batch, hidden)."""
        backwards = self.layer.directions[index].go_backwards
        label = self.named(f"half_{index}")
        if self.layer.return_sequences is False:
            return self._last(half, label, backwards=backwards)
        sequence = half.sequence
        if self.steps is not None:
            zeros = self.layer.zero_output_for_mask
            last = self._where_some(half.states["h"], label)
            sequence = self.steps.put_back(sequence, last, label, backwards=backwards, zeros=zeros)
        # A forward half returns steps as it processed them, a backward half flips them.
        return flipped(self.graph, sequence, f"{label}.flipped") if backwards != (index == 1) else sequence

    def _where_some(self, h: str, label: str) -> str:
        """Return zeros where no step counts: the output is not the initial state."""
        assert self.steps is not None
        zero = self.graph.constant(0.0, self.dtype)
        return self.graph.add("Where", [self.steps.some(), h, zero], f"{label}.last")

    def _last(self, half: _Half, label: str, *, backwards: bool) -> str:
        """Return the last output: zero where no step counts, or the last one does not and Keras zeroes it."""
        if self.steps is None:
            return half.states["h"]
        if not self.layer.zero_output_for_mask:
            return self._where_some(half.states["h"], label)
        counts = self.steps.at_the_end(half.sequence, backwards=backwards)
        zero = self.graph.constant(0.0, self.dtype)
        return self.graph.add("Where", [counts, half.states["h"], zero], f"{label}.last")

    def _kept_states(self, half: _Half, label: str) -> _Half:
        """Keep the initial states where no step counts."""
        if self.steps is None:
            return half
        some, zero = self.steps.some(), self.graph.constant(0.0, self.dtype)
        kept = {
            letter: self.graph.add("Where", [some, state, half.initial[letter] or zero], f"{label}.{letter}.kept")
            for letter, state in half.states.items()
        }
        return replace(half, states=kept)
