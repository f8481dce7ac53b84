"""Place a model's graph: inputs, calls and outputs on levels by depth, ordered so that few edges cross.

The steps are those of Sugiyama, Tagawa and Toda (1981): levels, points where an edge passes a level, order by the mean
of the neighbours, positions. A library for it is larger than this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from lstmconv.model import Call, Model

__all__ = ["Edge", "Node", "Placed", "placed"]

Role = Literal["input", "call", "output"]
Reads = Literal["input", "state", "mask"]
Key = tuple[str, str]

_SWEEPS = 6
"""Times that order and positions are improved."""


@dataclass(frozen=True)
class Node:
    """One box.

    Attributes:
        role: What it is.
        name: The name of the input, the call, or the output.
        level: 0 for inputs; every other one lies below all that it reads.
        x: The place of its middle.
    """

    role: Role
    name: str
    level: int
    x: float


@dataclass(frozen=True)
class Edge:
    """A line from one box to another.

    Attributes:
        xs: Where it passes each level, from its first box to its last.
        level: The level of its first box.
        reads: As what the lower box reads it.
    """

    xs: tuple[float, ...]
    level: int
    reads: Reads


@dataclass(frozen=True)
class Placed:
    """A whole graph.

    Attributes:
        nodes: Level by level, left to right.
        edges: Each pair of boxes once for each way of reading.
        levels: How many there are.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    levels: int


def placed(model: Model, width: float, gap: float) -> Placed:
    """Place a model's inputs, calls and outputs.

    Args:
        model: Any.
        width: The width of a box.
        gap: Between two boxes.
    """
    links = tuple(dict.fromkeys(_links(model)))
    level = _levels(model, links)
    chains = [_chain(first, last, reads, level) for first, last, reads in links]
    rows: list[list[Key]] = [[] for _ in range(max(level.values(), default=0) + 1)]
    for key, depth in level.items():
        rows[depth].append(key)
    for (first, _, _), chain in zip(links, chains, strict=True):
        for depth, key in enumerate(chain[1:-1], level[first] + 1):
            rows[depth].append(key)
    above, below = _neighbours(chains)
    for sweep in range(_SWEEPS):
        _order(rows, below if sweep % 2 else above, upwards=bool(sweep % 2))
    sizes = {key: width if key in level else gap for row in rows for key in row}
    x = _positions(rows, above, below, sizes, gap)
    nodes = [
        Node("input" if kind == "input" else "output" if kind == "output" else "call", name, depth, x[kind, name])
        for depth, row in enumerate(rows)
        for kind, name in row
        if (kind, name) in level
    ]
    edges = [
        Edge(tuple(x[key] for key in chain), level[first], reads)
        for (first, _, reads), chain in zip(links, chains, strict=True)
    ]
    return Placed(tuple(nodes), tuple(edges), len(rows))


def _links(model: Model) -> Iterator[tuple[Key, Key, Reads]]:
    """Yield which box reads which."""
    inputs = {entry.name for entry in model.inputs}

    def key(name: str) -> Key:
        return ("input" if name in inputs else "call", name)

    def read(call: Call) -> Iterator[tuple[str, Reads]]:
        yield from ((tensor.source, "input") for tensor in call.inputs)
        yield from ((tensor.source, "state") for tensor in call.states)
        yield from ((mask.source, "mask") for mask in call.masks if mask is not None)

    for call in model.calls:
        for source, reads in read(call):
            yield key(source), key(call.name), reads
    for name, tensor in model.outputs.items():
        yield key(tensor.source), ("output", name), "input"


def _levels(model: Model, links: Sequence[tuple[Key, Key, Reads]]) -> dict[Key, int]:
    """Return each box's level: one below the lowest that it reads."""
    level: dict[Key, int] = {("input", entry.name): 0 for entry in model.inputs}
    feeders: dict[Key, list[Key]] = {}
    for first, last, _ in links:
        feeders.setdefault(last, []).append(first)
    for key in [*(("call", call.name) for call in model.calls), *(("output", name) for name in model.outputs)]:
        level[key] = 1 + max((level[first] for first in feeders.get(key, ())), default=-1)
    return level


def _chain(first: Key, last: Key, reads: Reads, level: Mapping[Key, int]) -> list[Key]:
    """Return an edge's boxes with a point on each level between them; edges of one box share their points."""
    between = range(level[first] + 1, level[last])
    return [first, *(("passes", f"{first[0]} {first[1]} {reads} {depth}") for depth in between), last]


def _neighbours(chains: Sequence[Sequence[Key]]) -> tuple[dict[Key, list[Key]], dict[Key, list[Key]]]:
    """Return what lies above and below each box or point."""
    above: dict[Key, list[Key]] = {}
    below: dict[Key, list[Key]] = {}
    for chain in chains:
        for upper, lower in pairwise(chain):
            above.setdefault(lower, []).append(upper)
            below.setdefault(upper, []).append(lower)
    return above, below


def _order(rows: list[list[Key]], near: Mapping[Key, Sequence[Key]], *, upwards: bool) -> None:
    """Order each level by the mean place of what it is joined to on the level before."""
    for row in rows:
        row[:] = dict.fromkeys(row)  # Edges of one box share their points.
    pairs = list(pairwise(rows))
    for upper, lower in reversed(pairs) if upwards else pairs:
        fixed, moved = (lower, upper) if upwards else (upper, lower)
        place = {key: number / max(len(fixed) - 1, 1) for number, key in enumerate(fixed)}
        means = {
            key: sum(found) / len(found) if (found := [place[other] for other in near.get(key, ()) if other in place])
            else number / max(len(moved) - 1, 1)
            for number, key in enumerate(moved)
        }  # fmt: skip
        moved.sort(key=lambda key: means[key])


def _positions(
    rows: Sequence[Sequence[Key]],
    above: Mapping[Key, Sequence[Key]],
    below: Mapping[Key, Sequence[Key]],
    sizes: Mapping[Key, float],
    gap: float,
) -> dict[Key, float]:
    """Return where the middle of each box lies: near the mean of its neighbours, in the order of its level."""
    x: dict[Key, float] = {}
    for row in rows:
        x |= _apart(row, dict.fromkeys(row, 0.0), sizes, gap)
    for sweep in range(_SWEEPS):
        near = below if sweep % 2 else above
        for row in reversed(rows) if sweep % 2 else rows:
            wanted = {
                key: sum(x[other] for other in near[key]) / len(near[key]) if near.get(key) else x[key] for key in row
            }
            x |= _apart(row, wanted, sizes, gap)
    return x


def _apart(row: Sequence[Key], wanted: Mapping[Key, float], sizes: Mapping[Key, float], gap: float) -> dict[Key, float]:
    """Return places near the wanted ones, in the row's order and not closer than allowed.

    The mean of the two ways to push boxes apart, to the right and to the left, keeps every distance too.
    """
    least = [(sizes[a] + sizes[b]) / 2 + gap for a, b in pairwise(row)]
    right = [wanted[key] for key in row]
    left = list(right)
    for number, distance in enumerate(least):
        right[number + 1] = max(right[number + 1], right[number] + distance)
    for number, distance in reversed(list(enumerate(least))):
        left[number] = min(left[number], left[number + 1] - distance)
    return {key: (a + b) / 2 for key, a, b in zip(row, left, right, strict=True)}
