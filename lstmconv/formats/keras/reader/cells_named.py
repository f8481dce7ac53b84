"""Find the cells of a checkpoint that stores variables by their names in a graph, without a config.

Source: tensorflow/python/training/saver.py; a slot of an optimizer is named after its variable:
``lstm/kernel/Adam``, ``training/Adam/lstm/kernel/m`` (slot_creator.py, optimizer_v2.py).
"""

from __future__ import annotations

from lstmconv.formats.hdf5.tree import Group, StoredArray
from lstmconv.formats.keras.reader.cells import Cell
from lstmconv.formats.keras.reader.cells_legacy import split_name
from lstmconv.formats.safety.limits import refuse_many_layers

__all__ = ["named_cells", "own_variables"]

_MOST_PARTS = 32
"""The most parts of a variable's name; longer names belong to no layer."""


def own_variables(weights: Group) -> dict[str, StoredArray]:
    """Return the variables by name, without optimizer slots, whose names contain another variable's whole name."""
    found = {key: array for key, array in weights.children.items() if isinstance(array, StoredArray)}
    names = {tuple(key.split("/")) for key in found if "/" in key}
    return {key: array for key, array in found.items() if not _is_slot(tuple(key.split("/")), names)}


def _is_slot(parts: tuple[str, ...], names: set[tuple[str, ...]]) -> bool:
    if len(parts) > _MOST_PARTS:
        return True
    stops = range(2, len(parts))
    return any(parts[start:stop] in names for stop in stops for start in range(stop - 1))


def named_cells(weights: Group) -> list[Cell]:
    """Find the cells: scopes with the variables ``kernel`` and ``recurrent_kernel``.

    Raises:
        UnreadableFileError: The file has more cells than the limit allows.
    """
    by_scope: dict[tuple[str, ...], dict[str, StoredArray]] = {}
    for key, array in own_variables(weights).items():
        scope, variable = split_name(key)
        by_scope.setdefault(scope, {})[variable] = array
    cells = [
        Cell("/".join(_layer_of(scope)), scope, arrays)
        for scope, arrays in by_scope.items()
        if {"kernel", "recurrent_kernel"} <= set(arrays)
    ]
    refuse_many_layers(len(cells), "the file")
    return cells


def _layer_of(scope: tuple[str, ...]) -> tuple[str, ...]:
    """Return the scope of a cell's layer: the cell's scope without the parts for the cell and the half."""
    kept = [part for part in scope if not part.startswith(("forward_", "backward_", "lstm_cell"))]
    return tuple(kept) or scope
