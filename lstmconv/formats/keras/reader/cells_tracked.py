"""Find the cells among the objects of a TensorFlow 2 checkpoint without a config."""

from __future__ import annotations

import re

from lstmconv.formats.hdf5.tree import StoredArray
from lstmconv.formats.keras.reader.cells import Cell, in_natural_order
from lstmconv.formats.keras.reader.tracked import Tracked, arrays_below
from lstmconv.formats.safety.limits import refuse_many_layers

__all__ = ["name_of_tracked", "tracked_cells"]

_INNER = {"cell", "cells", "forward_layer", "backward_layer", "layer"}
_NUMBERED = re.compile(r"layer(_with_weights)?-\d+")
_HALF_OR_CELL = re.compile(r"(forward|backward)_.*|(lstm|gru|simple_rnn)_cell(_\d+)?")


def tracked_cells(root: Tracked) -> list[Cell]:
    """Find all cells, in the order of their paths, forward halves first.

    Raises:
        UnreadableFileError: The file has more cells than the limit allows.
    """
    cells: list[Cell] = []
    for owner in root.walk():
        if all(name in owner.children and owner.children[name].array for name in ("kernel", "recurrent_kernel")):
            cells.append(Cell(owner.path, (), {**arrays_below(owner), **_beside(root, owner)}))
            refuse_many_layers(len(cells), "the file")
    return sorted(cells, key=in_natural_order)


def name_of_tracked(root: Tracked, path: str) -> str:
    """Name the layer of a cell by its variables' names in the graph, without the name of the user's model class.

    Without such names the layer is named by its path of attributes: ``encoder/memory``.
    """
    parts = [part for part in path.split("/") if part not in _INNER]
    cell = root.find(path)
    kernel = None if cell is None else cell.children.get("kernel")
    if kernel is None:
        return "/".join(parts) or path
    scope = [part for part in kernel.full_name.split("/")[:-1] if not _HALF_OR_CELL.fullmatch(part)]
    if len(scope) > 1 and not any(map(_NUMBERED.fullmatch, parts)) and _all_begin_with(root, scope[0]):
        del scope[0]
    return "/".join(scope) or "/".join(parts) or path


def _all_begin_with(root: Tracked, name: str) -> bool:
    return all(each.full_name.startswith(f"{name}/") for each in root.walk() if each.array is not None)


def _beside(root: Tracked, cell: Tracked) -> dict[str, StoredArray]:
    """Return the weights of a cell's layer that are outside the cell; an LSTM has none."""
    above, _, last = cell.path.rpartition("/")
    layer = root.find(above)
    if last != "cell" or layer is None:
        return {}
    return {f"../{key}": array for key, array in arrays_below(layer).items() if not key.startswith("cell/")}
