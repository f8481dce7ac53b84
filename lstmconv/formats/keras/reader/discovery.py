"""Name the LSTM layers of a file without a config after its own groups."""

from __future__ import annotations

import re
from typing import NamedTuple

from lstmconv.formats.keras.reader.cells import LSTM_KINDS, Cell
from lstmconv.formats.keras.reader.cells_saveable import stands_beside, user_name
from lstmconv.formats.keras.reader.cells_tracked import name_of_tracked
from lstmconv.formats.keras.reader.open_file import KerasFile
from lstmconv.listing import listed
from lstmconv.model import Skipped

__all__ = ["Discovered", "discover"]

_SIDES = ("forward_", "backward_")
_OTHER = {"forward": "backward", "backward": "forward"}
_MISSING = "its {} half is missing: a truncated or filtered file"
_CELL = re.compile(r"cells?|lstm_cell.*|stacked_rnn_cells.*|\d+")
"""Names of the parts of a path inside a layer."""
_NEEDS_CONFIG = "alone, only LSTM layers convert; pass --config model.json for the whole model"


class Discovered(NamedTuple):
    """One layer, and its cells, forward first."""

    name: str
    class_name: str
    cells: tuple[Cell, ...]


def discover(file: KerasFile, cells: list[Cell]) -> tuple[list[Discovered], list[Skipped]]:
    """Name the layers of a file without a config after its own groups."""
    named = list(zip(_names(file, cells), cells, strict=True))
    skipped = [
        Skipped(name, "unknown", "not an LSTM's arrays", is_lstm=False)
        if cell.kind == "unknown"
        else Skipped(name, cell.kind, _NEEDS_CONFIG, is_lstm=False)
        for name, cell in named
        if cell.kind not in LSTM_KINDS
    ]
    found: list[Discovered] = []
    for name, cell in named:
        if cell.kind not in LSTM_KINDS:
            continue
        beside = stands_beside(file.weights, cell.group) if file.kind == "saveable" else cell.beside
        if beside:
            skipped.append(Skipped(name, "unknown", f"it holds {listed(beside, 3)} beside an LSTM's arrays"))
            continue
        class_name = "CuDNNLSTM" if cell.kind == "CuDNNLSTM" else "LSTM"
        index = next((k for k, other in enumerate(found) if other.name == name), None)
        if index is None:
            found.append(Discovered(name, class_name, (cell,)))
        elif len(found[index].cells) == 1 and _are_halves(found[index].cells[0], cell):
            halves = sorted((*found[index].cells, cell), key=lambda half: _side(half) == "backward")
            found[index] = Discovered(name, f"Bidirectional({cell.kind})", tuple(halves))
        else:  # Another part of the model has a layer of the same name.
            found.append(Discovered(cell.where, class_name, (cell,)))
    alone = {id(each): half for each in found if (half := _half_alone(each)) is not None}
    skipped += [
        Skipped(each.name, f"Bidirectional({each.class_name})", _MISSING.format(_OTHER[alone[id(each)]]), whole=False)
        for each in found
        if id(each) in alone
    ]
    return [each for each in found if id(each) not in alone], list(dict.fromkeys(skipped))


def _names(file: KerasFile, cells: list[Cell]) -> list[str]:
    """Name each cell's layer; layers with the same name in the file are named by their paths."""
    if file.kind in ("legacy", "named"):
        return [_legacy_name(cell, cells) for cell in cells]
    owners = [re.sub(r"/(forward|backward)_layer(/.*)?$", "", cell.group) for cell in cells]
    names = [
        user_name(file.weights, cell.group) if file.objects is None else name_of_tracked(file.objects, cell.group)
        for cell in cells
    ]
    used: dict[str, set[str]] = {}
    for name, owner in zip(names, owners, strict=True):
        used.setdefault(name, set()).add(owner)
    return [
        name if len(used[name]) == 1 else re.sub(r"(^layers/)|(/cell$)", "", owner)
        for name, owner in zip(names, owners, strict=True)
    ]


def _are_halves(a: Cell, b: Cell) -> bool:
    """Whether two cells of one name are the halves of a Bidirectional; two unnamed cells (Keras 0) are."""
    sides = {_side(a), _side(b)}
    return sides == {"forward", "backward"} or (sides == {None} and not a.scope and not b.scope)


def _half_alone(layer: Discovered) -> str | None:
    """Return ``forward`` or ``backward`` if a layer is one half of a Bidirectional without its other half.

    ``None`` for every other layer, also for one whose own name is ``forward_lstm``.
    """
    if len(layer.cells) > 1 or any(part.startswith(_SIDES) for part in layer.name.split("/")):
        return None
    cell = layer.cells[0]
    own = [part for part in cell.scope or cell.group.split("/") if not _CELL.fullmatch(part)]
    return _side(cell) if own and own[-1].startswith(_SIDES) else None


def _legacy_name(cell: Cell, cells: list[Cell]) -> str:
    """Name a cell's layer in a legacy file; the two halves of a Bidirectional get the same name."""
    siblings = [other for other in cells if other.group == cell.group]
    halves = [other for other in siblings if _side(other) is not None]
    if len(siblings) == 1 or (len(siblings) == 2 and (len(halves) == 2 or not any(c.scope for c in siblings))):
        return cell.group
    inner = [part for part in cell.scope if part != cell.group]
    if len(inner) > 1 and inner[-1].startswith("lstm_cell") and "stacked_rnn_cells" not in inner:
        inner.pop()
    inner = [part for part in inner if not part.startswith(_SIDES)] or inner
    return "/".join([cell.group, *inner])


def _side(cell: Cell) -> str | None:
    """Return which half of a Bidirectional a cell is, by its names: ``forward_lstm``, ``backward_layer``."""
    parts = cell.scope or cell.group.split("/")
    return next((part.split("_")[0] for part in parts if part.startswith(_SIDES)), None)
