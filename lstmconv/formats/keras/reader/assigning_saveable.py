"""Assign the arrays of a ``.keras`` or ``.weights.h5`` file to the layers of a config: by the path of each object.

Source: keras/src/saving/saving_lib.py ``_save_state``, ``_save_container_state``: objects are visited in the order of
the layers, each once, so a shared object is stored where it was visited first.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.hdf5.tree import Group, StoredArray
from lstmconv.formats.keras.names import snake_case
from lstmconv.formats.keras.reader.cells import natural
from lstmconv.formats.keras.reader.cells_saveable import OLDER_ROOT
from lstmconv.formats.keras.reader.entries import Entry, ModelEntry
from lstmconv.formats.keras.reader.open_file import KerasFile
from lstmconv.formats.keras.reader.stored import Stored

__all__ = ["assign_saveable", "paths_of"]

_INSIDE: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"), ("cell",)),
    "MultiHeadAttention": tuple(
        f"{underscore}{part}_dense" for part in ("query", "key", "value", "output") for underscore in ("", "_")
    ),
}
"""The inner objects that own a layer's variables, by the layer's class, in Keras' order; other layers have none.

tf-keras writes the name of the attribute, ``_query_dense``; Keras 3 leaves the underscore out."""


def assign_saveable(file: KerasFile, model: ModelEntry) -> tuple[dict[Entry, list[Stored]], dict[Entry, str]]:
    """Return the arrays of every object that owns arrays, and the path of every object.

    Layers of the config that are the same object become one entry.

    Raises:
        UnsupportedModelError: A layer's path has no arrays, and several other layers could be the same object.
    """
    root = file.weights
    paths = paths_of(root, model)
    stored = {entry: list(_arrays(root, entry, path)) for entry, path in paths.items()}
    _unite(file, model, stored, paths, {})
    return stored, paths


def _unite(
    file: KerasFile,
    model: ModelEntry,
    stored: Mapping[Entry, Sequence[Stored]],
    paths: Mapping[Entry, str],
    full: dict[tuple[str, str], list[Entry]],
) -> None:
    """Replace entries without arrays by the shared layer they repeat, which is stored where it was visited first.

    Keras 3 writes a shared layer's id only at its later places. The layers are compared by their whole configs, in
    which inner objects, such as initializers, have ids too.
    """
    for member in model.members:
        entry = member.entry
        if entry.model is not None:
            _unite(file, entry.model, stored, paths, full)
            continue
        same = full.setdefault((entry.title, json.dumps(entry.config, sort_keys=True)), [])
        if any(stored.get(owner) for owner in (entry, *entry.inside)):
            if entry not in same:
                same.append(entry)
        elif len(same) > 1:
            raise UnsupportedModelError(
                f"'{paths[entry]}' holds no weights: '{member.name}' is a shared layer, which may be any of "
                f"{', '.join(paths[each] for each in same)}",
                about=file.name,
            )
        elif same:
            member.entry = same[0]


def paths_of(root: Group, model: ModelEntry) -> dict[Entry, str]:
    """Return the path of each object in a file: a layer, a half of a Bidirectional, a cell of an RNN."""
    container = OLDER_ROOT if OLDER_ROOT in root.children else "layers"
    paths: dict[Entry, str] = {}
    _visit_model(root, model, "", container, paths)
    return paths


def _visit_model(root: Group, model: ModelEntry, path: str, container: str, paths: dict[Entry, str]) -> None:
    here = f"{path}/{container}".lstrip("/")
    used: Counter[str] = Counter()
    for member in model.members:
        entry = member.entry
        if entry.is_operation:  # An operation is no layer, so model.layers does not list it.
            continue
        name = _class_name(entry)
        count = used[name]
        used[name] += 1
        if container == OLDER_ROOT:
            if entry not in paths:
                _visit(root, entry, f"{here}/{_older_name(root.group(here), name, count)}", container, paths)
        else:
            _visit(root, entry, f"{here}/{name}_{count}" if count else f"{here}/{name}", container, paths)


def _class_name(entry: Entry) -> str:
    return snake_case("Functional" if entry.own("Model") else entry.class_name)


def _older_name(group: Group | None, name: str, count: int) -> str:
    """Return the name that Keras 2.12 to 2.14 give the n-th layer of a class.

    These versions list a layer with weights twice (``layer_with_weights-0``, ``layer-1``; functional.py
    ``_layer_checkpoint_dependencies``) and count it twice, so the second LSTM is stored at ``lstm_2``.
    """
    pattern = re.compile(re.escape(name) + r"(_\d+)?")
    siblings = sorted((key for key in group.children if pattern.fullmatch(key)), key=natural) if group else []
    return siblings[count] if count < len(siblings) else f"{name}_{count}"


def _visit(root: Group, entry: Entry, path: str, container: str, paths: dict[Entry, str]) -> None:
    if entry in paths:
        return
    paths[entry] = path
    if entry.model is not None:
        _visit_model(root, entry.model, path, container, paths)
    elif entry.own("TimeDistributed"):
        _visit(root, entry.parts["layer"], f"{path}/layer", container, paths)
    elif entry.own("Bidirectional"):
        for side, half in entry.parts.items():
            _visit(root, half, f"{path}/{side}_layer", container, paths)
    elif "cell" in entry.parts:
        _visit(root, entry.parts["cell"], f"{path}/cell", container, paths)
    elif entry.own("RNN"):
        used: Counter[str] = Counter()
        for cell in entry.parts.values():
            name = snake_case(cell.class_name)
            _visit(root, cell, f"{path}/cell/cells/{name}" + (f"_{used[name]}" if used[name] else ""), container, paths)
            used[name] += 1


def _arrays(root: Group, entry: Entry, path: str) -> Iterator[Stored]:
    """Yield an object's own variables, then those of its inner objects (:data:`_INSIDE`)."""
    inside = _INSIDE.get(entry.class_name, ()) if entry.package is None else None
    if inside is None:
        yield from _below(root.group(path), "")
        return
    for part in ("", *inside):
        variables = root.group("/".join(filter(None, (path, part, "vars"))))
        for key in sorted(variables.children, key=natural) if variables is not None else ():
            array = variables.children[key] if variables is not None else None
            if isinstance(array, StoredArray):
                yield Stored(f"{part}/{key}".lstrip("/"), array)


def _below(group: Group | None, path: str) -> Iterator[Stored]:
    """Yield all arrays of an unknown object, by their paths."""
    for key, child in group.children.items() if group is not None else ():
        here = f"{path}/{key}".lstrip("/")
        if isinstance(child, StoredArray):
            yield Stored(here, child)
        elif key != "seed_generator":
            yield from _below(child, here)
