"""Assign the variables of a checkpoint, stored by their names in the graph, to the layers of a config."""

from __future__ import annotations

from collections.abc import Sequence

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.keras.reader.assigning_legacy import by_names
from lstmconv.formats.keras.reader.cells_legacy import scope_of
from lstmconv.formats.keras.reader.cells_named import own_variables
from lstmconv.formats.keras.reader.counting import Counts, known_variables
from lstmconv.formats.keras.reader.entries import Entry, ModelEntry
from lstmconv.formats.keras.reader.kinds.entry import CELL_CLASSES
from lstmconv.formats.keras.reader.open_file import KerasFile
from lstmconv.formats.keras.reader.stored import Leaf, Stored, leaves, top_level

__all__ = ["assign_named"]


def assign_named(file: KerasFile, model: ModelEntry, counts: Counts) -> dict[Entry, list[Stored]]:
    """Return the arrays of every object that owns arrays, in Keras' order, by the scopes of their names.

    Raises:
        UnsupportedModelError: A name fits several layers, or a layer's variables are not those of its class.
    """
    owners: dict[int, Leaf] = {}
    for member in top_level(model):
        for leaf in leaves(member.entry, member.name):
            owners.setdefault(id(leaf.entry), leaf)
    variables = own_variables(file.weights)
    # A variable whose scope contains no layer's name is an optimizer's. A layer without variables is refused later.
    stored = [
        Stored(name, array)
        for name, array in variables.items()
        if any(owner.levels[-1].matches(scope_of(name)) for owner in owners.values())
    ]
    found = by_names(list(owners.values()), stored)
    if found is None:
        raise UnsupportedModelError(
            "cannot tell which layers of the config its variables belong to: "
            f"{', '.join(list(variables)[:6])}{', ...' if len(variables) > 6 else ''}",
            about=file.name,
        )
    return {entry: _in_order(file.name, entry, arrays, counts) for entry, arrays in found.items()}


def _in_order(name: str, entry: Entry, arrays: Sequence[Stored], counts: Counts) -> list[Stored]:
    """Return a layer's variables in the order of its class, because a checkpoint lists names alphabetically."""
    class_name = CELL_CLASSES.get(entry.class_name, entry.class_name)
    if entry.package is not None or class_name in ("LSTM", "CuDNNLSTM"):  # build_lstm uses the names.
        return list(arrays)
    known = known_variables(entry, class_name, counts.version)
    if known is None:
        return list(arrays)
    by_own = {each.name.split("/")[-1]: each for each in arrays}
    order = [variable.name.split("/")[-1] for variable in known]
    if len(by_own) != len(arrays) or sorted(order) != sorted(by_own):
        raise UnsupportedModelError(
            f"'{entry.name}' has the variables {', '.join(order) or 'none'}, and the file "
            f"{', '.join(each.name for each in arrays)}",
            about=name,
        )
    return [by_own[own] for own in order]
