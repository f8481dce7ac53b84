"""Which of a file's arrays belong to which layer of its config: by paths, by names, or by Keras' own order.

Never by what fits: where the file's rules leave a choice, that is an error which lists the candidates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from lstmconv.formats.hdf5.tree import StoredArray
from lstmconv.formats.keras.reader.entries import Entry, Member, ModelEntry

__all__ = ["Leaf", "Stored", "leaves", "top_level", "variables_by_order"]


class Stored(NamedTuple):
    """One array and what the file calls it."""

    name: str
    array: StoredArray


class Level(NamedTuple):
    """One part of a place in a model: what the scope of its variables may be called.

    Attributes:
        names: Any of these.
        beginning: Or whatever begins so: ``forward_``.
    """

    names: frozenset[str]
    beginning: str | None = None

    def matches(self, scope: Sequence[str]) -> bool:
        """Whether a part of a scope is this one."""
        return not self.names.isdisjoint(scope) or self.begins(scope)

    def begins(self, scope: Sequence[str]) -> bool:
        """Whether a part of a scope begins as this one does."""
        return self.beginning is not None and any(part.startswith(self.beginning) for part in scope)


class Leaf(NamedTuple):
    """One object that owns variables: a layer, a half of a Bidirectional, a cell of an RNN.

    Attributes:
        entry: The object.
        levels: From the top-level layer down to itself.
    """

    entry: Entry
    levels: tuple[Level, ...]

    @property
    def where(self) -> str:
        """Its place, for messages."""
        return "/".join(min(level.names, default="?") for level in self.levels)


def leaves(entry: Entry, name: str, above: tuple[Level, ...] = ()) -> Iterator[Leaf]:
    """Yield the objects of which a layer or model consists, in Keras' order; one that is shared at its first place."""
    seen: set[int] = set()
    for leaf in _leaves(entry, name, above, 0):
        if id(leaf.entry) not in seen:
            seen.add(id(leaf.entry))
            yield leaf


def _leaves(entry: Entry, name: str, above: tuple[Level, ...], depth: int) -> Iterator[Leaf]:
    here = Level(frozenset({name}))
    if entry.model is not None and depth < 64:
        for member in entry.model.members:
            if not member.entry.own("InputLayer"):
                yield from _leaves(member.entry, member.name, (*above, here), depth + 1)
    elif entry.own("Bidirectional"):
        for side, half in entry.parts.items():
            yield from _wrapped(half, (*above, here), Level(_half_names(entry, side, half), f"{side}_"))
    elif entry.own("TimeDistributed"):
        inner = entry.parts["layer"]
        if inner.model is None and not inner.parts:
            yield Leaf(inner, (*above, Level(frozenset({name, inner.name}))))
        else:
            yield from _leaves(inner, inner.name, (*above, here), depth + 1)
    elif entry.own("Merge"):
        for part in entry.parts.values():
            yield from _leaves(part, part.name, above, depth + 1)
    else:
        yield from _wrapped(entry, above, here)


def _wrapped(entry: Entry, above: tuple[Level, ...], here: Level) -> Iterator[Leaf]:
    """Yield the cells of an RNN, or the layer itself."""
    if "cell" in entry.parts:
        cell = entry.parts["cell"]
        yield Leaf(cell, (*above, Level(here.names | {cell.name}, here.beginning)))
    elif entry.own("RNN"):
        for cell in entry.parts.values():
            yield Leaf(cell, (*above, here, Level(frozenset({cell.name}))))
    else:
        yield Leaf(entry, (*above, here))


def _half_names(entry: Entry, side: str, half: Entry) -> frozenset[str]:
    """Return what a half of a Bidirectional may be called (bidirectional.py __init__ of every version).

    Keras prefixes the wrapped layer's name; a backward layer of its own keeps its name in Keras 3.
    """
    prefixed = half.name if half.name.startswith(f"{side}_") else f"{side}_{half.name}"
    own = side == "backward" and entry.config.get("backward_layer")
    return frozenset({prefixed, half.name} if own else {prefixed})


def top_level(model: ModelEntry) -> list[Member]:
    """List the layers that have a group of their own in a legacy file.

    A Merge that begins a Sequential is replaced by the layers of its branches (keras 1.2.2 models.py flattened_layers).
    """
    found: list[Member] = []
    for member in model.members:
        if member.entry.own("Merge") and member.entry.parts and member is model.members[0]:
            for part in member.entry.parts.values():
                found += top_level(part.model) if part.model is not None else [Member(part.name, part, ())]
        found.append(member)
    return found


def variables_by_order(entry: Entry, counts: Mapping[int, tuple[int, int]]) -> list[Entry]:
    """List the owners of a layer's variables, one entry a variable, in Keras' order.

    ``trainable_weights + non_trainable_weights`` of every version: the layers one after another, recursively, each
    once; what is frozen counts among the others.

    Args:
        entry: The layer or model.
        counts: How many trainable and other variables each object has, by its id.
    """
    return [owner for kind in _by_order(entry, counts, set()) for owner in kind]


def _by_order(entry: Entry, counts: Mapping[int, tuple[int, int]], seen: set[int]) -> tuple[list[Entry], list[Entry]]:
    if id(entry) in seen:
        return [], []
    seen.add(id(entry))
    parts: list[Entry] = list(entry.parts.values())
    if entry.model is not None:
        parts = [member.entry for member in entry.model.members]
    own, fixed = counts.get(id(entry), (0, 0))
    trainable, others = [entry] * own, [entry] * fixed
    for part in parts:
        more, more_fixed = _by_order(part, counts, seen)
        trainable += more
        others += more_fixed
    return (trainable, others) if entry.trainable else ([], trainable + others)
