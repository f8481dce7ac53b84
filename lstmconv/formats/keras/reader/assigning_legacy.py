"""Assign the arrays of a legacy file to the layers of a config: by groups, then by names, else by Keras' order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.keras.reader.cells_legacy import group_arrays, group_names, scope_of
from lstmconv.formats.keras.reader.counting import Counts
from lstmconv.formats.keras.reader.entries import Entry, Member, ModelEntry
from lstmconv.formats.keras.reader.open_file import KerasFile
from lstmconv.formats.keras.reader.stored import Leaf, Stored, leaves, top_level, variables_by_order

__all__ = ["assign_legacy", "by_names"]


def assign_legacy(
    file: KerasFile, model: ModelEntry, counts: Counts, notes: list[str], *, outside: bool
) -> dict[Entry, list[Stored]]:
    """Return the arrays of every object that owns arrays, in Keras' order.

    Args:
        file: A legacy file.
        model: The config.
        counts: How many variables each object has.
        notes: Receives a note for every assumption.
        outside: Whether the config comes from another file, so that its layers may have other names.

    Raises:
        UnreadableFileError: An array that the file lists is missing.
        UnsupportedModelError: Several assignments are possible, or the file does not belong to the config.
    """
    members = top_level(model)
    groups = group_names(file.weights)
    stored = {name: _stored(file, name) for name in dict.fromkeys(groups)}
    if outside and not {each.name for each in members if counts.any_in(each)} <= set(groups):
        pairs = _by_order(file, members, stored, counts, notes)
    else:
        pairs = [(member, member.name) for member in members if member.name in stored]
    found: dict[Entry, list[Stored]] = {}
    for member, group in pairs:
        for entry, arrays in _within(file, member, group, stored[group], counts).items():
            found.setdefault(entry, arrays)
    return found


def _stored(file: KerasFile, name: str) -> list[Stored]:
    group = file.weights.group(name)
    return [] if group is None else group_arrays(name, group)


def _by_order(
    file: KerasFile, members: Sequence[Member], stored: Mapping[str, Sequence[Stored]], counts: Counts, notes: list[str]
) -> list[tuple[Member, str]]:
    """Match layers with weights to groups one by one, as ``load_weights`` does if the names differ."""
    groups = [name for name, arrays in stored.items() if arrays]
    wanting = [member for member in members if counts.any_in(member) is not False]
    if len(groups) != len(wanting):
        wanting = [member for member in wanting if counts.any_in(member)]
    if len(groups) != len(wanting):
        raise UnsupportedModelError(
            f"the config does not belong to these weights: it has "
            f"{', '.join(member.name for member in wanting) or 'no layer with weights'}, "
            f"the file {', '.join(groups) or 'none'}",
            about=file.name,
        )
    for member, group in zip(wanting, groups, strict=True):
        if member.name != group:
            notes.append(f"the config's layer '{member.name}' is taken for '{group}' of the file, by order")
    return list(zip(wanting, groups, strict=True))


def _within(
    file: KerasFile, member: Member, group: str, stored: list[Stored], counts: Counts
) -> Mapping[Entry, list[Stored]]:
    """Divide the arrays of one group among the layer and the objects inside it."""
    owners = list(leaves(member.entry, member.name))
    if len(owners) == 1:
        return {owners[0].entry: stored}
    named = by_names(owners, stored)
    if named is not None and all(
        count is None or sum(count) == len(named.get(entry, []))
        for entry, count in ((owner.entry, counts.of(owner.entry)) for owner in owners)
    ):
        return named
    known = {id(owner.entry): counts.of(owner.entry) for owner in owners}
    order = None if None in known.values() else variables_by_order(member.entry, {k: v for k, v in known.items() if v})
    if order is None or len(order) != len(stored):
        raise UnsupportedModelError(
            f"cannot tell which arrays of '{group}' belong to which layer of the config: "
            f"{', '.join(owner.where for owner in owners if counts.of(owner.entry) != (0, 0))} have "
            f"{'an unknown number of' if order is None else len(order)} arrays, the file "
            f"{len(stored)}: {', '.join(each.name for each in stored[:12])}{', ...' if len(stored) > 12 else ''}",
            about=file.name,
        )
    found: dict[Entry, list[Stored]] = {}
    for entry, each in zip(order, stored, strict=True):
        found.setdefault(entry, []).append(each)
    return found


def by_names(owners: Sequence[Leaf], stored: Sequence[Stored]) -> dict[Entry, list[Stored]] | None:
    """Assign arrays by the scopes of their names; ``None`` if a scope fits no owner, or several equally well."""
    by_scope: dict[tuple[str, ...], list[Stored]] = {}
    for each in stored:
        by_scope.setdefault(scope_of(each.name), []).append(each)
    found: dict[Entry, list[Stored]] = {}
    for scope, arrays in by_scope.items():
        scores = [_score(owner, scope) for owner in owners]
        best = max(scores, default=0)
        if not best or scores.count(best) > 1:
            return None
        found.setdefault(owners[scores.index(best)].entry, []).extend(arrays)
    return found


def _score(owner: Leaf, scope: Sequence[str]) -> int:
    """Count how many levels of an owner's path occur in a scope; 0 if the owner's own name does not."""
    *above, own = owner.levels
    if not own.matches(scope):
        return 0
    exact = not own.names.isdisjoint(scope)
    return 2 * sum(level.matches(scope) for level in above) + (2 if exact else 1)
