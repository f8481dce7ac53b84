"""What reaches an LSTM node beside its sequence: initial states and sequence lengths.

A node whose states are not provably zeros starts from a state that is not part of the layer: a note names what gives
it, and the target takes it as an input. Lengths that are not provably all steps are a mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lstmconv.formats.onnx.reader.evaluation import NotEvaluatedError
from lstmconv.formats.onnx.reader.scopes import Scope
from lstmconv.listing import listed

if TYPE_CHECKING:
    from lstmconv.formats.onnx.reader.edges import Placed, Routes
    from lstmconv.formats.onnx.reader.lstm_node import LSTMNode

__all__ = ["Giver", "fixed_lengths", "given_states", "masks"]


@dataclass(frozen=True)
class Giver:
    """What gives a layer an initial state.

    Attributes:
        text: Its name in quotes, or that the graph stores the state.
        is_input: Whether it is one of the graph's own inputs.
    """

    text: str
    is_input: bool


def masks(node: LSTMNode, routes: Routes) -> bool:
    """Whether a node takes lengths that are not simply all steps."""
    return bool(node.lengths) and not routes.are_all_steps(node.scope, node.lengths, node.x, 1 if node.layout else 0)


def fixed_lengths(node: LSTMNode, routes: Routes) -> str | None:
    """Say why a node whose lengths are stored in the graph is no layer on its own, or ``None``."""
    if not masks(node, routes):
        return None
    try:
        lengths = routes.values.constant(node.scope, node.lengths)
    except NotEvaluatedError:
        return None  # An input, or computed from one: a mask, which a note names.
    shown = listed(lengths.ravel().tolist())
    return (
        f"its sequence lengths are stored in the graph ({shown}) and are not all steps; "
        "export it without lengths, or with lengths as an input"
    )


def given_states(placed: Placed, layers: Sequence[Placed], routes: Routes) -> tuple[Giver, ...]:
    """Return what gives a layer the states it starts from; nothing where they are provably zeros."""
    names: Mapping[tuple[int, str], str] = {
        (id(other.scope), output): other.layer.name
        for other in layers
        for node in other.nodes
        for output in node.proto.output
        if output
    }
    given = [_giver(node.scope, name, names, routes) for node in placed.nodes for name in node.states if name]
    return tuple(dict.fromkeys(each for each in given if each is not None))


def _giver(scope: Scope, name: str, layers: Mapping[tuple[int, str], str], routes: Routes) -> Giver | None:
    """Return what gives a state: a layer, an input, the graph, or what computes it; ``None`` for zeros."""
    try:
        stored = routes.probing(scope).constant(scope, name)
    except NotEvaluatedError:
        root = routes.root(scope, name)
        layer = layers.get((id(scope), root))
        return Giver(repr(layer or root), is_input=layer is None and root in scope.inputs)
    return Giver("a state stored in the graph", is_input=False) if np.any(stored) else None
