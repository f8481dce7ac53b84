"""Find the cells of a legacy HDF5 file: ``layer_names``, and ``weight_names`` in each layer's group.

Each Keras generation writes other names. Only two things are always true: the variable's own name
comes last, and the arrays of a cell are listed in the order of creation.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence

from lstmconv.errors import UnreadableFileError
from lstmconv.formats.hdf5.tree import Group, StoredArray
from lstmconv.formats.keras.reader.cells import FUSED, PER_GATE, Cell, natural
from lstmconv.formats.keras.reader.stored import Stored
from lstmconv.formats.safety.limits import refuse_many_layers

__all__ = ["cell_of", "group_arrays", "group_names", "legacy_cells", "scope_of", "split_name"]

_NAMELESS = re.compile(r"(.*/)?param_\d+")
"""Names of variables that Theano and Keras 0 left unnamed."""
_OF_A_CELL = re.compile(r"kernel|recurrent_kernel|bias|[WUb]_[icfozrh]")
_OWN_CELL = re.compile(r"(forward_|backward_)?(lstm|cu_?dnn_?lstm)(_\d+)?")
"""Default names of layers that own the cell's arrays themselves."""
_KERAS_1_NAMES = {"W": "kernel", "U": "recurrent_kernel", "b": "bias"}


def group_names(weights: Group) -> list[str]:
    """Return the layers' groups in the model's order."""
    names = weights.strings("layer_names")
    if names is not None:
        return names
    count = weights.attributes.get("nb_layers")  # Keras 0.x
    announced = int(count) if isinstance(count, float) and count < math.inf else 0
    # One name more than there are groups is enough to notice a missing group.
    return [f"layer_{index}" for index in range(min(announced, len(weights.children) + 1))]


def legacy_cells(weights: Group) -> list[Cell]:
    """Find the cells of a legacy file, layer by layer in the model's order.

    Raises:
        UnreadableFileError: A layer or an array that the file lists is missing.
    """
    cells: list[Cell] = []
    # A layer that is listed twice is one layer.
    for name in dict.fromkeys(group_names(weights)):
        group = weights.group(name)
        if group is None:
            raise UnreadableFileError(f"the layer '{name}' is listed and its group is missing: a truncated file")
        cells += _group_cells(name, group)
        refuse_many_layers(len(cells), "the file")
    return cells


def group_arrays(layer: str, group: Group) -> list[Stored]:
    """Return one layer group's arrays in the order of ``weight_names``.

    Raises:
        UnreadableFileError: An array that the group lists is missing.
    """
    names = group.strings("weight_names")
    if names is None:
        names = sorted((key for key in group.children if key.startswith("param_")), key=natural)
    found: list[Stored] = []
    for name in dict.fromkeys(names):
        array = group.find(name)
        if not isinstance(array, StoredArray):
            raise UnreadableFileError(f"'{layer}/{name}' is listed and missing: a truncated file")
        found.append(Stored(name, array))
    return found


def scope_of(name: str) -> tuple[str, ...]:
    """Return the parts of a name before the variable's own name."""
    return () if _NAMELESS.fullmatch(name) else split_name(name)[0]


def cell_of(place: str, stored: Sequence[Stored]) -> Cell:
    """Name the arrays of one recurrent cell by the variables' names, or by their order if they have none."""
    named = {split_name(each.name)[1]: each.array for each in stored if not _NAMELESS.fullmatch(each.name)}
    if len(named) < len(stored) or not set(named) & {"kernel", "W_i"}:
        names = PER_GATE if len(stored) == len(PER_GATE) else (*FUSED, *(each.name for each in stored[len(FUSED) :]))
        named = dict(zip(names, (each.array for each in stored), strict=False))
    return Cell(place, (), named)


def _group_cells(layer: str, group: Group) -> Iterator[Cell]:
    """Split one layer group's arrays into cells by the scopes of their names, in the order of weight_names."""
    by_scope: dict[tuple[str, ...], dict[str, StoredArray]] = {}
    nameless: list[StoredArray] = []
    others: list[str] = []
    for name, array in group_arrays(layer, group):
        if _NAMELESS.fullmatch(name):
            nameless.append(array)
            continue
        scope, variable = split_name(name)
        if _OF_A_CELL.fullmatch(variable):
            by_scope.setdefault(scope, {})[variable] = array
        else:
            others.append(name)
    for arrays in _by_position(nameless):
        yield Cell(layer, (), arrays, tuple(others))
    cells = {scope: arrays for scope, arrays in by_scope.items() if {"recurrent_kernel", "U_i", "U_z"} & set(arrays)}
    others += ["/".join([*scope, name]) for scope in by_scope if scope not in cells for name in by_scope[scope]]
    for scope, arrays in cells.items():
        yield Cell(layer, scope, arrays, tuple(name for name in others if _stands_at(layer, scope, name)))


def _stands_at(group: str, scope: tuple[str, ...], name: str) -> bool:
    """Whether an array outside all cells belongs to the layer of the cell with this scope.

    A group may contain a whole nested model, where ``dense/kernel`` beside ``lstm/lstm_cell/kernel`` belongs to another
    layer.

    >>> _stands_at("rnn", ("rnn", "my_cell"), "rnn/norm/gamma:0"), _stands_at("lstm", ("lstm",), "lstm_gamma")
    (True, True)
    >>> _stands_at("model", ("lstm", "lstm_cell"), "dense/kernel:0"), _stands_at("model", ("lstm",), "norm_gamma")
    (False, False)
    """
    above = list(scope)
    # A cell has its class's or the user's name. An LSTM without a cell object (before TensorFlow 2) is ``lstm_1``.
    if len(above) > 1 and not _OWN_CELL.fullmatch(above[-1]):
        above.pop()
    while len(above) > 1 and above[-1].startswith(("forward_", "backward_", "stacked_rnn_cells")):
        above.pop()
    parts = re.sub(r":\d+$", "", name).split("/")
    if len(parts) > 1:
        return parts[: len(above)] == above
    return not above or group in above or any(name.startswith(f"{part}_") for part in above)


def split_name(name: str) -> tuple[tuple[str, ...], str]:
    """Split a weight's name into scope and variable: ``enc/lstm_cell_4/kernel:0``, ``lstm_1_W_i``.

    TensorFlow ends names in ``:0``, Theano and CNTK do not; Keras 1 has no scope but a prefix.
    """
    *scope, last = re.sub(r":\d+$", "", name).split("/")
    if last in FUSED:
        return tuple(scope), last
    keras_1 = re.fullmatch(r"(?:(?P<prefix>.+)_)?(?P<variable>[WUb])(?:_(?P<gate>[icfozrh]))?", last)
    if keras_1 is None:
        return tuple(scope), last
    if keras_1["prefix"]:
        scope.append(keras_1["prefix"])
    variable, gate = keras_1["variable"], keras_1["gate"]
    return tuple(scope), f"{variable}_{gate}" if gate else _KERAS_1_NAMES[variable]


def _by_position(arrays: list[StoredArray]) -> Iterator[dict[str, StoredArray]]:
    """Name unnamed arrays (Keras 0, and Theano's ``param_0``) by their number and order."""
    for names in (PER_GATE, FUSED):
        size = len(names)
        if len(arrays) not in (size, 2 * size):
            continue
        halves = [dict(zip(names, arrays[k : k + size], strict=True)) for k in range(0, len(arrays), size)]
        if all(_shapes_fit(half) for half in halves):
            yield from halves
            return


def _shapes_fit(arrays: Mapping[str, StoredArray]) -> bool:
    if "U_i" in arrays:
        hidden = arrays["U_i"].shape[:1]
        return all(arrays[f"U_{gate}"].shape == hidden * 2 and arrays[f"b_{gate}"].shape == hidden for gate in "icfo")
    recurrent = arrays["recurrent_kernel"].shape
    return len(recurrent) == 2 and recurrent[1] == 4 * recurrent[0] and len(arrays["kernel"].shape) == 2
