"""Decide which of a file's cells belong to which layer: by the config, or without one by the file's own names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.keras.reader.cells import LSTM_KINDS, Cell
from lstmconv.formats.keras.reader.cells_legacy import group_names
from lstmconv.formats.keras.reader.cells_saveable import stored_path, user_name
from lstmconv.formats.keras.reader.model_config import HalfSpec, LayerSpec, ModelSpec
from lstmconv.formats.keras.reader.open_file import KerasFile
from lstmconv.model import Skipped

__all__ = ["Matched", "discover", "match"]


class Matched(NamedTuple):
    """One layer's description and its cells, forward first."""

    spec: LayerSpec
    cells: tuple[Cell, ...]


def match(
    file: KerasFile, cells: list[Cell], spec: ModelSpec, notes: list[str], *, outside: bool
) -> tuple[list[Matched], list[Skipped]]:
    """Give every layer of the config its arrays."""
    if file.kind == "saveable":
        matched = _match_by_path(file, cells, spec)
    elif outside and not {layer.group for layer in spec.layers} <= set(group_names(file.weights)):
        matched = _match_by_order(file, cells, spec, notes)
    else:
        matched = [pair for group in _groups(spec) for pair in _match_group(file, cells, spec, group)]
    used = {id(cell) for pair in matched for cell in pair.cells}
    named = {entry.name.split("/")[0] for entry in spec.skipped} if file.kind == "legacy" else set()
    skipped = list(spec.skipped)
    skipped += [
        Skipped(cell.where, cell.kind, "stored, and no LSTM layer of the config owns it")
        for cell in cells
        if id(cell) not in used and cell.kind in LSTM_KINDS and cell.group not in named
    ]
    order = {id(layer): index for index, layer in enumerate(spec.layers)}
    return sorted(matched, key=lambda pair: order[id(pair.spec)]), skipped


def _groups(spec: ModelSpec) -> list[str]:
    return list(dict.fromkeys(layer.group for layer in spec.layers))


def _match_group(file: KerasFile, cells: list[Cell], spec: ModelSpec, group: str) -> list[Matched]:
    """Match one top-level layer's cells: a plain layer's by side and order, a nested model's by name.

    The arrays of frozen layers come last (trainable_weights first), inside a nested model and inside a
    Bidirectional, so order tells nothing where names do.
    """
    layers = [layer for layer in spec.layers if layer.group == group]
    inside = [cell for cell in cells if cell.group == group and cell.kind in LSTM_KINDS]
    nested = len(layers) > 1 or layers[0].name != group
    if not nested and {_side(cell) for cell in inside} == {"forward", "backward"}:
        inside.sort(key=lambda cell: _side(cell) == "backward")
    halves = [(layer, half) for layer in layers for half in layer.halves]
    if len(inside) < len(halves):
        raise UnsupportedModelError(
            f"{file.name}: '{group}' holds {len(inside)} LSTM cells where the config has {len(halves)}"
        )
    chosen: dict[int, Cell] = {}
    if nested or len(inside) > len(halves):
        chosen = _by_name(halves, inside)
    if len(chosen) < len(halves):
        frozen = nested and any(half.config.get("trainable") is False for _, half in halves)
        counted = len(inside) == len(halves)
        if frozen or not counted or not all(_fits(half, cell) for (_, half), cell in zip(halves, inside, strict=True)):
            raise UnsupportedModelError(
                f"{file.name}: cannot tell which arrays of '{group}' belong to which layer of the config: "
                f"{', '.join(cell.where for cell in inside)}"
            )
        chosen = dict(enumerate(inside))
    matched: list[Matched] = []
    index = 0
    for layer in layers:
        own = tuple(chosen[index + k] for k in range(len(layer.halves)))
        matched.append(Matched(layer, own))
        index += len(layer.halves)
    return matched


def _by_name(halves: Sequence[tuple[LayerSpec, HalfSpec]], cells: Sequence[Cell]) -> dict[int, Cell]:
    """Match halves to cells whose scope names them; only where each finds exactly one of its own."""
    chosen: dict[int, Cell] = {}
    for index, (layer, half) in enumerate(halves):
        wanted = [*layer.name.split("/")[1:], half.name]
        scores = [sum(part in cell.scope for part in wanted) if _fits(half, cell) else 0 for cell in cells]
        best = max(scores, default=0)
        if best and scores.count(best) == 1:
            chosen[index] = cells[scores.index(best)]
    distinct = {id(cell) for cell in chosen.values()}
    return chosen if len(distinct) == len(halves) else {}


def _match_by_order(file: KerasFile, cells: list[Cell], spec: ModelSpec, notes: list[str]) -> list[Matched]:
    """Match a config whose layers are named otherwise by order, which is what Keras' load_weights does."""
    inside = [cell for cell in cells if cell.kind in LSTM_KINDS]
    halves = [half for layer in spec.layers for half in layer.halves]
    if len(inside) != len(halves) or not all(_fits(half, cell) for half, cell in zip(halves, inside, strict=True)):
        found = ", ".join(f"{cell.where} ({cell.hidden_size} units)" for cell in inside)
        expected = ", ".join(f"{half.name} ({half.units} units)" for half in halves)
        raise UnsupportedModelError(
            f"{file.name}: the config does not belong to these weights: it has {expected or 'no LSTM'}, "
            f"the file {found or 'none'}"
        )
    matched: list[Matched] = []
    for layer in spec.layers:
        own = tuple(inside.pop(0) for _ in layer.halves)
        notes.append(f"the config's layer '{layer.name}' is taken for '{own[0].group}' of the file, by order")
        matched.append(Matched(layer, own))
    return matched


def _match_by_path(file: KerasFile, cells: list[Cell], spec: ModelSpec) -> list[Matched]:
    """Match by the path that Keras gives each object; a shared layer is stored at its first visit only."""
    by_path = {cell.group: cell for cell in cells}
    first_visit: dict[str, tuple[Cell, ...]] = {}
    matched: list[Matched] = []
    for layer in spec.layers:
        paths = [stored_path(file.weights, half.object_path) for half in layer.halves]
        own = tuple(by_path[path] for path in paths if path in by_path)
        last = layer.name.split("/")[-1]
        if len(own) < len(layer.halves):
            own = first_visit.get(last) or tuple(
                cell
                for cell in cells
                if user_name(file.weights, cell.group).split("/")[-1] == last and cell.kind in LSTM_KINDS
            )
        if len(own) != len(layer.halves) or not all(map(_fits, layer.halves, own)):
            raise UnsupportedModelError(
                f"{file.name}: the config's layer '{layer.name}' should lie at '{paths[0]}', "
                f"where the file has no LSTM of {layer.halves[0].units} units"
            )
        first_visit.setdefault(last, own)
        matched.append(Matched(layer, own))
    return matched


def _fits(half: HalfSpec, cell: Cell) -> bool:
    """Whether a cell can be the one that the config describes."""
    has_bias = "bias" in cell.arrays or "b_i" in cell.arrays
    return half.units in (None, cell.hidden_size) and half.use_bias == has_bias


def discover(file: KerasFile, cells: list[Cell]) -> tuple[list[Matched], list[Skipped]]:
    """Name the layers of a file without a config after its own groups."""
    named = [(_layer_name(file, cell, cells), cell) for cell in cells]
    skipped = [
        Skipped(name, cell.kind, "only LSTM layers convert" if cell.kind != "unknown" else "not an LSTM's arrays")
        for name, cell in named
        if cell.kind not in LSTM_KINDS
    ]
    matched: list[Matched] = []
    for name, cell in named:
        if cell.kind not in LSTM_KINDS:
            continue
        index = next((k for k, other in enumerate(matched) if other.spec.name == name), None)
        if index is None:
            spec = LayerSpec(name, "CuDNNLSTM" if cell.kind == "CuDNNLSTM" else "LSTM", (), {})
            matched.append(Matched(spec, (cell,)))
        elif len(matched[index].cells) == 1 and _are_halves(matched[index].cells[0], cell):
            spec = matched[index].spec._replace(class_name=f"Bidirectional({cell.kind})")
            halves = sorted((*matched[index].cells, cell), key=lambda half: _side(half) == "backward")
            matched[index] = Matched(spec, tuple(halves))
        else:  # Another layer of the same name, in another part of the model.
            spec = LayerSpec(cell.where, "CuDNNLSTM" if cell.kind == "CuDNNLSTM" else "LSTM", (), {})
            matched.append(Matched(spec, (cell,)))
    return matched, list(dict.fromkeys(skipped))


def _are_halves(a: Cell, b: Cell) -> bool:
    """Whether two cells of one name are the two halves of a Bidirectional; nameless ones (Keras 0) are."""
    sides = {_side(a), _side(b)}
    return sides == {"forward", "backward"} or (sides == {None} and not a.scope and not b.scope)


def _layer_name(file: KerasFile, cell: Cell, cells: list[Cell]) -> str:
    """Name a cell's layer; the two halves of a Bidirectional get the same name."""
    if file.kind == "saveable":
        return user_name(file.weights, cell.group)
    siblings = [other for other in cells if other.group == cell.group]
    halves = [other for other in siblings if _side(other) is not None]
    if len(siblings) == 1 or (len(siblings) == 2 and (len(halves) == 2 or not any(c.scope for c in siblings))):
        return cell.group
    inner = [part for part in cell.scope if part != cell.group]
    if len(inner) > 1 and inner[-1].startswith("lstm_cell") and "stacked_rnn_cells" not in inner:
        inner.pop()
    inner = [part for part in inner if not part.startswith(("forward_", "backward_"))] or inner
    return "/".join([cell.group, *inner])


def _side(cell: Cell) -> str | None:
    """Return which half of a Bidirectional a cell is, by its names: ``forward_lstm``, ``backward_layer``."""
    parts = cell.scope or cell.group.split("/")
    return next((part.split("_")[0] for part in parts if part.startswith(("forward_", "backward_"))), None)
