"""Which steps of a sequence count: leading ones by their number, or any by a mask.

ONNX' recurrent nodes know ``sequence_lens`` alone, and return zeros where Keras repeats the last output. So a
sequence is compacted to the steps that count, run with their number as its length, and put back. No Loop is needed.

Sequences are ``(time, batch, features)`` here, as ONNX' layout 0 has them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from lstmconv._optional import require
from lstmconv.formats.onnx.writer.graph_builder import Graph

__all__ = ["Lengths", "Mask", "Steps", "flipped"]

_LAST_INDEX = -(1 << 63) + 1
"""As the end of a Slice with step -1: runs past the first element."""


def flipped(graph: Graph, tensor: str, output: str, axis: int = 0) -> str:
    """Turn an axis round."""
    ends = [graph.constant([-1]), graph.constant([_LAST_INDEX]), graph.constant([axis]), graph.constant([-1])]
    return graph.add("Slice", [tensor, *ends], output)


class Steps(ABC):
    """The steps of a sequence that count.

    Attributes:
        lengths: ``(batch,)`` int32: how many count, for a node's ``sequence_lens``.
    """

    lengths: str

    @abstractmethod
    def compact(self, x: str, name: str) -> str:
        """Return the sequence with the steps that count in front, in their order."""

    @abstractmethod
    def put_back(self, y: str, last: str, name: str, *, backwards: bool, zeros: bool) -> str:
        """Return a node's sequence ``(time, batch, hidden)`` as Keras has it, in the order of the input's time.

        Args:
            y: What the node computes on the compacted sequence.
            last: ``(batch, hidden)``: the output of the last step that counts, zeros where none does.
            name: Leads the names of new tensors.
            backwards: The node runs from the last step to the first.
            zeros: Masked steps are zeros; otherwise they repeat the output before them, in the order of processing.
        """

    @abstractmethod
    def some(self) -> str:
        """Return ``(batch, 1)`` bool: whether any step counts."""

    @abstractmethod
    def at_the_end(self, sequence: str, *, backwards: bool) -> str:
        """Return ``(batch, 1)`` bool: whether the step counts that is processed last."""


class Lengths(Steps):
    """The leading steps, as many as an input says."""

    def __init__(self, graph: Graph, name: str, lengths: str) -> None:
        """Take the lengths ``(batch,)`` int32."""
        self.graph = graph
        self.name = name
        self.lengths = lengths
        cast = graph.add("Cast", [lengths], f"{name}.lengths.int64", to=_element("INT64"))
        self.column = graph.add("Reshape", [cast, graph.constant([-1, 1])], f"{name}.lengths.column")
        self.nonempty = graph.add("Greater", [self.column, graph.constant(0)], f"{name}.nonempty")

    def compact(self, x: str, name: str) -> str:
        """Return the sequence itself."""
        return x

    def put_back(self, y: str, last: str, name: str, *, backwards: bool, zeros: bool) -> str:
        """Repeat the last output; backwards, and where zeros are wanted, the node's own zeros stay."""
        if backwards or zeros:
            return y
        graph = self.graph
        steps = graph.add("Range", [graph.constant(0), self._steps(y, name), graph.constant(1)], f"{name}.time")
        steps = graph.add("Reshape", [steps, graph.constant([-1, 1, 1])], f"{name}.time.column")
        inside = graph.add("Less", [steps, self.column], f"{name}.inside")
        return graph.add("Where", [inside, y, last], f"{name}.repeated")

    def some(self) -> str:
        """Return the comparison of the lengths with 0."""
        return self.nonempty

    def at_the_end(self, sequence: str, *, backwards: bool) -> str:
        """Backwards the first step is the last: any sequence that is not empty has it."""
        if backwards:
            return self.some()
        steps = self._steps(sequence, self.name)
        return self.graph.add("Equal", [self.column, steps], f"{self.name}.full_length")

    def _steps(self, sequence: str, name: str) -> str:
        shape = self.graph.add("Shape", [sequence], f"{name}.shape")
        return self.graph.add("Gather", [shape, self.graph.constant(0)], f"{name}.steps", axis=0)


class Mask(Steps):
    """Any steps, as a mask says: padding on the left or on the right, holes, whole sequences.

    Made once for each mask, whatever the layers that it reaches.
    """

    def __init__(self, graph: Graph, name: str, mask: str, dtype: np.dtype[np.generic]) -> None:
        """Take the mask ``(batch, time)`` bool, and the dtype of the sequences."""
        self.graph = graph
        self.mask = mask
        self.zero = graph.constant(0.0, dtype)
        constant = graph.constant
        counted = graph.add("Cast", [mask], f"{name}.counted", to=_element("INT64"))
        # For each step: how many unmasked steps there are up to it, and before it.
        self.up_to = graph.add("CumSum", [counted, constant(1)], f"{name}.up_to")
        self.before = graph.add("CumSum", [counted, constant(1)], f"{name}.before", exclusive=1)
        total = graph.add("ReduceSum", [counted, constant([1])], f"{name}.total", keepdims=0)
        self.lengths = graph.add("Cast", [total], f"{name}.lengths", to=_element("INT32"))
        self.column = graph.add("Reshape", [total, constant([-1, 1])], f"{name}.lengths.column")
        self.nonempty = graph.add("Greater", [self.column, constant(0)], f"{name}.nonempty")
        self.name = name
        self.order = self._order(counted)

    def _order(self, counted: str) -> str:
        """Return ``(batch, time, 1)``: the steps that count in their order, then the others.

        By the largest of ``counted * time - step``, which are all different: TopK alone says nothing of equal ones.
        """
        graph, name, constant = self.graph, self.name, self.graph.constant
        shape = graph.add("Shape", [counted], f"{name}.shape")
        steps = graph.add("Slice", [shape, constant([1]), constant([2])], f"{name}.steps")
        scalar = graph.add("Reshape", [steps, graph.constant(np.empty(0))], f"{name}.steps.scalar")
        time = graph.add("Range", [constant(0), scalar, constant(1)], f"{name}.time")
        raised = graph.add("Mul", [counted, steps], f"{name}.raised")
        keys = graph.add("Sub", [raised, time], f"{name}.keys")
        _, order = graph.add_node("TopK", [keys, steps], [f"{name}.sorted", f"{name}.order"], axis=1)
        return graph.add("Unsqueeze", [order, constant([2])], f"{name}.order.column")

    def compact(self, x: str, name: str) -> str:
        """Gather the steps in the order of :meth:`_order`."""
        return self._gathered(x, self.order, f"{name}.compact")

    def _gathered(self, x: str, places: str, name: str) -> str:
        """Gather steps of ``x (time, batch, features)`` by ``places (batch, time, 1)``."""
        graph = self.graph
        by_batch = graph.add("Transpose", [x], f"{name}.by_batch", perm=[1, 0, 2])
        gathered = graph.add("GatherND", [by_batch, places], f"{name}.gathered", batch_dims=1)
        return graph.add("Transpose", [gathered], name, perm=[1, 0, 2])

    def put_back(self, y: str, last: str, name: str, *, backwards: bool, zeros: bool) -> str:
        """Gather at each step the last output that was computed for it or before it, in the order of processing."""
        graph, constant = self.graph, self.graph.constant
        if backwards:  # The next step that counts, whose place is the number of those before.
            place = self.before
            known = graph.add("Less", [place, self.column], f"{name}.known")
        else:
            place = graph.add("Sub", [self.up_to, constant(1)], f"{name}.place")
            known = graph.add("GreaterOrEqual", [place, constant(0)], f"{name}.known")
        inside = graph.add("Where", [known, place, constant(0)], f"{name}.inside")
        places = graph.add("Unsqueeze", [inside, constant([2])], f"{name}.places")
        gathered = self._gathered(y, places, f"{name}.put_back")
        shown = graph.add("Transpose", [self.mask if zeros else known], f"{name}.shown", perm=[1, 0])
        column = graph.add("Unsqueeze", [shown, constant([2])], f"{name}.shown.column")
        return graph.add("Where", [column, gathered, self.zero], f"{name}.repeated")

    def some(self) -> str:
        """Return what was computed once."""
        return self.nonempty

    def at_the_end(self, sequence: str, *, backwards: bool) -> str:
        """Return the mask's last step, backwards its first."""
        place = self.graph.constant([0 if backwards else -1])
        return self.graph.add("Gather", [self.mask, place], f"{self.name}.at_the_end", axis=1)


def _element(name: str) -> int:
    """Return ONNX' number of an element type."""
    return int(require("onnx", "Writing ONNX").TensorProto.DataType.Value(name))
