"""Types to assign a file's arrays to the layers of a config: by paths, by names, or by Keras' own order.

Arrays are never assigned because their shapes fit: if several assignments are possible, an error lists them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from lstmconv.formats.hdf5.tree import StoredArray
from lstmconv.formats.keras.reader.entries import Entry, Member, ModelEntry

__all__ = ["Leaf", "Stored", "leaves", "top_level", "variables_by_order"]


class Stored(NamedTuple):
    """One array and its name in the file."""

    name: str
    array: StoredArray


class Level(NamedTuple):
    """One level of an object's path in a model, with the scope names that its variables may have.

    Attributes:
        names: Exact names.
        beginning: A prefix that is allowed too, such as ``forward_``.
    """

    names: frozenset[str]
    beginning: str | None = None

    def matches(self, scope: Sequence[str]) -> bool:
        """Whether a part of a scope has one of the names or the prefix."""
        return not self.names.isdisjoint(scope) or self.begins(scope)

    def begins(self, scope: Sequence[str]) -> bool:
        """Whether a part of a scope has the prefix."""
        return self.beginning is not None and any(part.startswith(self.beginning) for part in scope)


class Leaf(NamedTuple):
    """One object that owns variables: a layer, a half of a Bidirectional, a cell of an RNN.

    Attributes:
        entry: The object.
        levels: The path from the top-level layer down to the object.
    """

    entry: Entry
    levels: tuple[Level, ...]

    @property
    def where(self) -> str:
        """The object's path, for messages."""
        return "/".join(min(level.names, default="?") for level in self.levels)


def leaves(entry: Entry, name: str, above: tuple[Level, ...] = ()) -> Iterator[Leaf]:
    """Yield the objects inside a layer or model that own variables, in Keras' order; a shared object only once."""
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
    """Return the names that a half of a Bidirectional may have (bidirectional.py __init__ of every version).

    Keras prefixes the wrapped layer's name; in Keras 3 an explicit ``backward_layer`` keeps its name.
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
    """List the owner of each of a layer's variables, in Keras' order.

    Every version uses ``trainable_weights + non_trainable_weights``: the layers one after another, recursively, each
    once. Frozen variables count as non-trainable.

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
