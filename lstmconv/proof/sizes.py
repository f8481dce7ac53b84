"""How many weights layers have: what running them takes in time and memory follows from that."""

from __future__ import annotations

import math
from typing import Any

from lstmconv.model import Layer, LSTMLayer, RecurrentLayer, Stack, kinds

__all__ = ["directions_of", "weights_in", "weights_in_direction"]


def directions_of(layer: Layer) -> tuple[Any, ...]:
    """Return the directions of a recurrent layer; none of another."""
    return layer.directions if isinstance(layer, LSTMLayer | RecurrentLayer | Stack) else ()


def weights_in_direction(direction: Any) -> int:
    """Return how many numbers W and R of one direction have."""
    return int(math.prod(direction.weight_ih.shape) + math.prod(direction.weight_hh.shape))


def weights_in(layer: Layer) -> int:
    """Return how many weights a layer has; an Embedding, which computes with none, counts none."""
    if isinstance(layer, kinds.Kind):
        return 0 if isinstance(layer, kinds.Embedding) else sum(array.size for array in layer.arrays.values())
    return sum(map(weights_in_direction, layer.directions))
