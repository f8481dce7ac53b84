"""Assign the arrays of ``model.get_weights()``, a list in the order of that Keras version, to the layers of a config.

Sources; tests/golden/get_weights has arrays of real models for each:

* Keras 3: keras/src/layers/layer.py ``Layer.weights``: an object's own variables, then those of the objects inside it,
  one object after another; frozen variables stay in their place.
* tf.keras 2: keras/engine/training.py ``Model.weights``: layer by layer, also inside nested models; within one layer
  (base_layer.py ``Layer.weights``) the trainable variables, then the others.
* Keras 1 and 2 of keras-team: engine/network.py ``Network.get_weights``: layer by layer; in a nested model
  (``Network.weights``) the trainable variables, then the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.hdf5.tree import StoredArray
from lstmconv.formats.keras.reader.config import KerasVersion
from lstmconv.formats.keras.reader.counting import Counts
from lstmconv.formats.keras.reader.entries import Entry, ModelEntry
from lstmconv.formats.keras.reader.open_file import KerasFile
from lstmconv.formats.keras.reader.stored import Stored, leaves, top_level, variables_by_order

__all__ = ["assign_listed"]

_Counted = Mapping[int, tuple[int, int]]


def assign_listed(
    file: KerasFile, model: ModelEntry, counts: Counts, version: KerasVersion | None, notes: list[str]
) -> dict[Entry, list[Stored]]:
    """Return the arrays of every object that owns arrays, in Keras' order.

    Args:
        file: A file whose arrays have no names.
        model: The config.
        counts: How many variables each object has.
        version: The Keras version of the config; the arrays are assumed to have the same.
        notes: Receives a note for every assumption.

    Raises:
        UnsupportedModelError: Keras' order for this model is unknown, or the number of arrays is wrong.
    """
    listed = [Stored(key, array) for key, array in file.weights.children.items() if isinstance(array, StoredArray)]
    owners = [leaf for member in top_level(model) for leaf in leaves(member.entry, member.name)]
    known = {id(owner.entry): counts.of(owner.entry) for owner in owners}
    unknown = next((owner.where for owner in owners if known[id(owner.entry)] is None), None)
    if unknown is not None:
        raise UnsupportedModelError(
            f"the arrays have no names, and how many '{unknown}' has is not known; save the model as .keras",
            about=file.name,
        )
    if version is None or version.major != 3:
        _refuse_parts_frozen_alone(model, file.name)
    order = _order(model, {key: count for key, count in known.items() if count is not None}, version, file.name)
    if len(order) != len(listed):
        raise UnsupportedModelError(
            f"the config does not belong to these weights: its layers have {len(order)} arrays, the file {len(listed)}",
            about=file.name,
        )
    found: dict[Entry, list[Stored]] = {}
    for entry, each in zip(order, listed, strict=True):
        found.setdefault(entry, []).append(each)
    notes.append(f"{file.name}: its arrays have no names; they are taken in the order of model.get_weights()")
    if (version is None or version.major != 3) and any(owner.levels[-1].beginning == "forward_" for owner in owners):
        notes.append(
            f"{file.name}: Keras 2 lists a half of a Bidirectional that was frozen alone behind the other, which its "
            "config does not say; it is assumed that none is frozen"
        )
    return found


def _refuse_parts_frozen_alone(model: ModelEntry, name: str) -> None:
    """Refuse a config that freezes one direction of a Bidirectional, or one of several cells, and not the others.

    The config does not say where Keras 2 lists the frozen part. If it was frozen after construction, it comes last. If
    its constructor froze it, it keeps its place, because the wrapper's own ``trainable`` overrides it (tf-keras 2.21
    bidirectional.py ``__init__``).

    Raises:
        UnsupportedModelError: The config freezes such a part.
    """
    for member in model.members:
        _refuse_in(member.entry, name)


def _refuse_in(entry: Entry, name: str) -> None:
    if entry.model is not None:
        _refuse_parts_frozen_alone(entry.model, name)
    elif len({part.trainable for part in entry.parts.values()}) > 1:
        raise UnsupportedModelError(
            f"the arrays have no names, and the config says that one part of '{entry.name}' is frozen and another is "
            "not, which Keras 2 lists in one order or the other; save the model with model.save('model.h5')",
            about=name,
        )
    for part in entry.parts.values():
        _refuse_in(part, name)


def _order(model: ModelEntry, counts: _Counted, version: KerasVersion | None, name: str) -> list[Entry]:
    """Return the owner of each array; if the version is unknown, only if all versions have the same order.

    Raises:
        UnsupportedModelError: The version is unknown, and the orders differ.
    """
    members = [member.entry for member in top_level(model)]
    keras_3, tensorflow, keras_team = (
        _once((owner for member in members for owner in owners_of(member, counts)), counts)
        for owners_of in (_depth_first, _layer_by_layer, variables_by_order)
    )
    if version is not None and version.major is not None:
        if version.major >= 3:
            return keras_3
        return keras_team if version.is_keras_team else tensorflow
    if keras_3 == tensorflow == keras_team:
        return keras_3
    raise UnsupportedModelError(
        "the arrays have no names, and versions of Keras order them differently for this model, for it has "
        "frozen layers or models inside; pass a --config that states keras_version",
        about=name,
    )


def _once(owners: Iterable[Entry], counts: _Counted) -> list[Entry]:
    """List each variable only where it comes first: those of a shared layer are not repeated."""
    left = {key: sum(count) for key, count in counts.items()}
    listed: list[Entry] = []
    for owner in owners:
        if left[id(owner)]:
            left[id(owner)] -= 1
            listed.append(owner)
    return listed


def _depth_first(entry: Entry, counts: _Counted) -> Iterator[Entry]:
    yield from [entry] * sum(counts.get(id(entry), (0, 0)))
    parts = entry.parts.values() if entry.model is None else [member.entry for member in entry.model.members]
    for part in parts:
        yield from _depth_first(part, counts)


def _layer_by_layer(entry: Entry, counts: _Counted) -> Iterator[Entry]:
    if entry.model is None:
        yield from variables_by_order(entry, counts)
        return
    for member in entry.model.members:
        yield from _layer_by_layer(member.entry, counts)
