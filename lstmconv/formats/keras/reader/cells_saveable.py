"""Find the cells of a ``.weights.h5`` tree: ``layers/.../cell/vars/0, 1, 2``.

Source: keras/src/saving/saving_lib.py ``_save_state``: each object writes its variables into
``<path>/vars`` in the order of their creation, and from Keras 3.6 on its name as an attribute there.
"""

from __future__ import annotations

from collections.abc import Iterator

from lstmconv.errors import UnreadableFileError
from lstmconv.formats.hdf5.tree import Group, StoredArray
from lstmconv.formats.keras.reader.cells import FUSED, Cell, in_natural_order, natural
from lstmconv.formats.safety.limits import refuse_many_layers

__all__ = ["OLDER_ROOT", "cell_at", "is_numbered", "saveable_cells", "stands_beside", "user_name"]

OLDER_ROOT = "_layer_checkpoint_dependencies"
"""The name of ``layers`` in Keras 2.12 to 2.14."""

_CONTAINERS = {"layers", OLDER_ROOT, "cells"}
_INNER = {"cell", "forward_layer", "backward_layer", "layer"}
_NOT_LAYERS = {"optimizer", "metrics", "_optimizer", "optimizer_weights", "loss_tracker"}


def saveable_cells(root: Group) -> list[Cell]:
    """Find all cells, in natural order (``lstm_2`` before ``lstm_10``), forward halves first.

    Raises:
        UnreadableFileError: A cell is incomplete, or the file has more cells than the limit allows.
    """
    cells = list(_below(root, root, ()))
    refuse_many_layers(len(cells), "the file")
    return sorted(cells, key=in_natural_order)


def _below(root: Group, group: Group, path: tuple[str, ...]) -> Iterator[Cell]:
    cell = cell_at(root, "/".join(path))
    if cell is not None:
        yield cell
    for key, child in group.children.items():
        if isinstance(child, Group) and key != "vars" and not (not path and key in _NOT_LAYERS):
            yield from _below(root, child, (*path, key))


def user_name(root: Group, path: str) -> str:
    """Name the layer at an object path: by the user's names if the file has them, else by Keras' path.

    ``layers/functional/layers/lstm/cell`` is ``functional/lstm``, or ``encoder/memory`` if the
    groups' ``vars`` have those names (Keras 3.6 and later).
    """
    parts = path.split("/")
    names: list[tuple[str, str | None]] = []
    for depth, part in enumerate(parts, 1):
        if part in _CONTAINERS or part in _INNER:
            continue
        variables = root.group("/".join([*parts[:depth], "vars"]))
        names.append((part, variables.text("name") if variables is not None else None))
    # If layers have names, lists and dicts of layers still have none.
    named = [own for _, own in names if own is not None]
    return "/".join(named if names and names[-1][1] is not None else [own or part for part, own in names])


def is_numbered(root: Group, path: str) -> bool:
    """Whether the file names a layer by its class and a number only, and not by its own name.

    In Keras up to 3.5 ``layers/lstm_1`` is the second LSTM of a model, whatever its own name is.
    """
    parts = path.split("/")
    own = max((depth for depth, part in enumerate(parts) if part not in _CONTAINERS | _INNER), default=0)
    if own == 0 or parts[own - 1] not in _CONTAINERS:
        return False
    variables = root.group("/".join([*parts[: own + 1], "vars"]))
    return variables is None or variables.text("name") is None


def stands_beside(root: Group, path: str) -> tuple[str, ...]:
    """Return the paths of a layer's arrays that an LSTM does not have; the layer's cell is at ``path``.

    Other variables of Keras' LSTM are left out: seeds of dropout, and the states (batch, units) of a stateful layer
    (keras/src/layers/rnn/rnn.py ``_create_state_variables``).
    """
    cell = root.group(path)
    inside = () if cell is None else _arrays_below(cell, without={"vars", _SEEDS})
    layer = root.group(path.rpartition("/")[0]) if path.split("/")[-1] == "cell" else None
    if layer is None:
        return tuple(name for name, _ in inside)
    around = tuple(_arrays_below(layer, without={"cell", _SEEDS}))
    own = [array for name, array in around if name.startswith("vars/")]
    stateful = len(own) == 2 and len(own) == len(around) and {len(array.shape) for array in own} == {2}
    return tuple(name for name, _ in (*inside, *(() if stateful else around)))


_SEEDS = "seed_generator"


def _arrays_below(group: Group, without: set[str]) -> Iterator[tuple[str, StoredArray]]:
    """Yield the arrays in a group, and in groups inside it, by their paths."""
    for key, child in group.children.items():
        if key in without:
            continue
        if isinstance(child, StoredArray):
            yield key, child
        elif isinstance(child, Group):
            yield from ((f"{key}/{name}", array) for name, array in _arrays_below(child, {_SEEDS}))


def cell_at(root: Group, path: str) -> Cell | None:
    """Read the cell whose ``vars`` are at ``path``: 0 kernel, 1 recurrent_kernel, 2 bias.

    Returns ``None`` if the arrays belong to another class of layer.

    Raises:
        UnreadableFileError: Some of the cell's arrays are missing.
    """
    variables = root.group(f"{path}/vars")
    if variables is None:
        return None
    keys = sorted(variables.children, key=natural)
    arrays = [child for key in keys if isinstance(child := variables.children[key], StoredArray)]
    inside_a_cell = path.split("/")[-1] == "cell" or "/cells/" in path
    if not inside_a_cell and len(arrays) != 3:
        return None
    names = (*FUSED, *(f"vars/{key}" for key in keys[len(FUSED) :]))
    named = dict(zip(names, arrays, strict=False))
    if inside_a_cell and len(arrays) == 1:
        raise UnreadableFileError(
            f"'{path}/vars' holds only {', '.join(keys)}, expected 0, 1 and 2: Keras saved a layer that was only "
            "partly built; build the model and save it again"
        )
    if "recurrent_kernel" not in named:
        return None
    cell = Cell(path, (), named)
    # Only a CuDNNLSTM stores its arrays outside a cell; other layers may have three arrays too.
    return cell if inside_a_cell or cell.kind == "CuDNNLSTM" else None
