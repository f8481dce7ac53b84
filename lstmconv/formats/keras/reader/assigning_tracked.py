"""Assign the variables of a TensorFlow 2 checkpoint to the layers of a config: by the path of objects, then by names.

Source: keras/engine/functional.py ``_layer_checkpoint_dependencies`` (2.2 to 2.15; network.py before): the layers of a
model are ``layer-0``, ``layer-1``, ... in the order of ``model.layers``, and those with weights also
``layer_with_weights-0``, ``-1``, ...; every other child has the name of its attribute. TensorFlow's ``load_weights``
uses these names too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.hdf5.tree import Group
from lstmconv.formats.keras.reader.assigning_named import assign_named
from lstmconv.formats.keras.reader.counting import Counts, known_variables
from lstmconv.formats.keras.reader.entries import Entry, Member, ModelEntry
from lstmconv.formats.keras.reader.kinds.entry import CELL_CLASSES
from lstmconv.formats.keras.reader.open_file import KerasFile
from lstmconv.formats.keras.reader.stored import Stored
from lstmconv.formats.keras.reader.tracked import Tracked, arrays_below, by_full_names
from lstmconv.listing import listed

__all__ = ["assign_tracked"]

_IN_ORDER = re.compile(r"layer-(\d{1,6})")
_KERAS_3 = frozenset({"_functional", "_operations"})
"""Children of a Sequential and a Functional model of Keras 3 (keras/src/models/sequential.py, ops/function.py).

These models have no ``layer-N``; their variables are assigned by their names, which are the layers' paths.
"""
_WITH_WEIGHTS = re.compile(r"layer_with_weights-(\d{1,6})")


def assign_tracked(
    file: KerasFile, root: Tracked, model: ModelEntry, counts: Counts, notes: list[str], *, outside: bool
) -> tuple[dict[Entry, list[Stored]], dict[Entry, str]]:
    """Return the arrays of every object that owns arrays, in Keras' order, and the path of every object.

    Layers of the config that are the same object become one entry.

    Args:
        file: The checkpoint.
        root: The root of the checkpoint's objects.
        model: The config.
        counts: How many variables each layer has.
        notes: Receives a note for every assumption.
        outside: Whether the config comes from another file.

    Raises:
        UnsupportedModelError: The objects and the config do not belong together.
    """
    found = _model_in(root, file.name)
    if not _has_layers_in_order(found):
        named = replace(file, weights=Group("", {}, by_full_names(found, file.name)))
        return assign_named(named, model, counts), {}
    assigning = _Assigning(file.name, counts, notes, outside=outside)
    assigning.model(found, model)
    return assigning.stored, assigning.paths


def assign_layer(file: KerasFile, found: Tracked, entry: Entry, counts: Counts) -> _Assigning:
    """Assign the arrays of a single layer; the result has them in ``stored``, and the paths in ``paths``."""
    assigning = _Assigning(file.name, counts, [], outside=False)
    assigning.visit(found, entry)
    return assigning


def _has_layers_in_order(found: Tracked) -> bool:
    return any(map(_IN_ORDER.fullmatch, found.children))


def _model_in(root: Tracked, name: str) -> Tracked:
    """Return the model: the saved object itself, or an attribute of it (``tf.train.Checkpoint(model=...)``)."""
    candidates = [root, *root.children.values()]
    models = [each for each in candidates if _has_layers_in_order(each) or _KERAS_3 & each.children.keys()]
    if not models:
        found = listed(root.children) or "none"
        raise UnsupportedModelError(
            f"its layers are attributes of a custom class ({found}), which no config describes; convert it without "
            "--config",
            about=name,
        )
    if models[0] is not root and len(models) > 1:
        raise UnsupportedModelError(
            f"holds several models, and the config describes one: {listed([each.path for each in models])}; convert it "
            "without --config, and choose layers with --layer",
            about=name,
        )
    return models[0]


class _Assigning:
    def __init__(self, name: str, counts: Counts, notes: list[str], *, outside: bool) -> None:
        self.name = name
        self.counts = counts
        self.notes = notes
        self.outside = outside
        self.stored: dict[Entry, list[Stored]] = {}
        self.paths: dict[Entry, str] = {}
        self._of_object: dict[int, Entry] = {}

    def model(self, owner: Tracked, model: ModelEntry) -> None:
        """Visit the layers of a model."""
        for member, found in self._pairs(owner, model):
            before = self._of_object.get(id(found))
            if before is not None and before is not member.entry:
                if before.class_name != member.entry.class_name:
                    raise self._do_not_belong(f"'{member.name}' and '{before.name}' are one object, '{found.path}'")
                member.entry = before
            else:
                self.visit(found, member.entry)

    def _pairs(self, owner: Tracked, model: ModelEntry) -> list[tuple[Member, Tracked]]:
        """Pair each layer with its object.

        ``model.layers`` of a Sequential leaves out the InputLayer. TensorFlow 1 tracks it nevertheless, and its config
        does not list it.
        """
        members = [member for member in model.members if not member.entry.is_operation]
        in_order, weighty = _numbered(owner, _IN_ORDER), _numbered(owner, _WITH_WEIGHTS)
        if len(in_order) < len(members) and members[0].entry.own("InputLayer"):
            members = members[1:]
        if (
            len(in_order) - 1 == len(members) > 0
            and not members[0].entry.own("InputLayer")
            and not arrays_below(in_order[0])
        ):
            in_order = in_order[1:]
        wanting = [member for member in members if self.counts.any_in(member)]
        if len(in_order) == len(members):
            pairs = list(zip(members, in_order, strict=True))
            with_weights = {id(found) for found in weighty}
            differing = [
                member.name
                for member, found in pairs
                if self.counts.any_in(member) is not None and self.counts.any_in(member) != (id(found) in with_weights)
            ]
            if differing:
                raise self._do_not_belong(f"only one of the config and the file has weights at {listed(differing)}")
        elif all(self.counts.any_in(member) is not None for member in members) and len(wanting) == len(weighty):
            pairs = list(zip(wanting, weighty, strict=True))
        else:
            raise self._do_not_belong(
                f"the config has {len(members)} layers in '{model.name}', the file {len(in_order)}, "
                f"{len(weighty)} of them with weights"
            )
        self._compare_names(pairs)
        return pairs

    def _compare_names(self, pairs: Sequence[tuple[Member, Tracked]]) -> None:
        """Refuse a config whose layers have the file's names in another order; note the names that differ."""
        if not self.outside:
            return
        named = [(member, _name_of(found)) for member, found in pairs if member.entry.model is None]
        other = [(member.name, name) for member, name in named if name and name != member.name]
        if other and {member for member, _ in other} & {name for _, name in other}:
            raise self._do_not_belong(
                "they have layers of the same names in another order: "
                + listed([f"'{member}' would be '{name}'" for member, name in other])
            )
        self.notes += [
            f"the config's layer '{member}' is taken for '{name}' of the file, by order" for member, name in other
        ]

    def _do_not_belong(self, what: str) -> UnsupportedModelError:
        return UnsupportedModelError(f"the config does not belong to these weights: {what}", about=self.name)

    def visit(self, found: Tracked, entry: Entry) -> None:
        """Visit a layer, a half of a Bidirectional, or a cell."""
        self._of_object[id(found)] = entry
        self.paths[entry] = found.path
        if entry.model is not None:
            self.model(found, entry.model)
        elif entry.own("TimeDistributed"):
            self._part(found, "layer", entry.parts["layer"])
        elif entry.own("Bidirectional"):
            for side, half in entry.parts.items():
                self._part(found, f"{side}_layer", half)
        elif "cell" in entry.parts:
            self._part(found, "cell", entry.parts["cell"])
        elif entry.own("RNN"):
            for index, cell in enumerate(entry.parts.values()):
                self._part(found, f"cell/cells/{index}", cell)
        else:
            self.stored[entry] = self._arrays(found, entry)

    def _part(self, owner: Tracked, path: str, entry: Entry) -> None:
        found = owner.find(path)
        if found is None:
            raise self._do_not_belong(f"'{owner.path}' is '{entry.name}' and has no {path}")
        self.visit(found, entry)

    def _arrays(self, found: Tracked, entry: Entry) -> list[Stored]:
        """Return all arrays of a layer: those of its class in the order of the class, then the others."""
        arrays = arrays_below(found)
        class_name = CELL_CLASSES.get(entry.class_name, entry.class_name)
        known = None if entry.package is not None else known_variables(entry, class_name, self.counts.version)
        if class_name in ("LSTM", "CuDNNLSTM"):  # build_lstm uses the names.
            known = None
        keys: dict[str, str] = {}
        for variable in known or ():
            own = variable.name.split("/")[-1]
            where = "" if entry.class_name in CELL_CLASSES else variable.where
            fitting = [key for key in arrays if _is_at(key, where, own) or _called(found, key, own, where)]
            if len(fitting) == 1:
                keys[variable.name] = fitting[0]
        missing = [variable.name for variable in known or () if variable.name not in keys]
        left = [key for key in arrays if key not in keys.values()]
        if len(missing) == len(left) == 1:  # For example depthwise_kernel, which the table calls kernel.
            keys[missing[0]] = left.pop()
        elif missing and len(missing) == len(left):
            raise UnsupportedModelError(
                f"cannot tell which of {listed(left)} of '{entry.name}' is its {listed(missing)}", about=self.name
            )
        in_order = [keys[variable.name] for variable in known or () if variable.name in keys]
        return [Stored(key, arrays[key]) for key in (*in_order, *left)]


def _is_at(key: str, where: str, name: str) -> bool:
    """Whether an array lies where a layer keeps a variable: ``query_dense/kernel``, or ``_query_dense/kernel``."""
    path = f"{where}/{name}".lstrip("/")
    return key in (path, f"_{path}")


def _called(found: Tracked, key: str, name: str, where: str) -> bool:
    """Whether a layer's own variable has this name in the graph: the attribute ``adapt_mean`` is ``.../mean``."""
    variable = found.find(key)
    return not where and "/" not in key and variable is not None and variable.full_name.split("/")[-1] == name


def _numbered(owner: Tracked, pattern: re.Pattern[str]) -> list[Tracked]:
    """List the children with numbered names, in the order of the numbers; empty if a number is missing."""
    found: dict[int, Tracked] = {}
    for key, child in owner.children.items():
        match = pattern.fullmatch(key)
        if match is not None:
            found[int(match[1])] = child
    return [found[number] for number in sorted(found)] if sorted(found) == list(range(len(found))) else []


def _name_of(found: Tracked) -> str:
    """Return the layer name with which all its variables' names in the graph begin; empty if there is none."""
    names = {each.full_name.split("/")[0] for each in found.walk() if each.array is not None and "/" in each.full_name}
    return names.pop() if len(names) == 1 else ""
