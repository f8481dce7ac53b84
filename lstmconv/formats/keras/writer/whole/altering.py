"""Whether a whole file is the one that lstmconv writes, but for its arrays: they are compared elsewhere.

The layers' options stand in the config alone. Keras takes the weights of a legacy file by their position in its lists,
whatever their names are (keras/src/legacy/saving/legacy_h5_format.py ``load_weights_from_hdf5_group``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lstmconv.formats.hdf5.tree import Group
from lstmconv.formats.keras.writer.config import describe_graph
from lstmconv.formats.keras.writer.files import weight_names
from lstmconv.formats.keras.writer.whole.write import Planned, planned
from lstmconv.formats.options import WriteOptions
from lstmconv.listing import listed
from lstmconv.model import Model

__all__ = ["alteration"]


def alteration(model: Model, found: Mapping[str, Any] | None, weights: Group, options: WriteOptions) -> str | None:
    """Say in what a file is not the one that is written for a model, first difference first, or ``None``.

    Args:
        model: By the names in the file.
        found: The file's config.
        weights: Its group of weights.
        options: How it was written.

    Raises:
        UnsupportedModelError: The model cannot be written.
    """
    if found is None:
        return "it has no config"
    plan = planned(model, options)
    written = [
        json.loads(json.dumps(describe_graph(plan.graph, plan.dialect, native=native)))
        for native in (True, False)  # A legacy file's layers do not state their modules.
    ]
    problems = [next(_differences(each, found, "config"), None) for each in written]
    return _reordered(plan, weights) if None in problems else problems[0]


def _reordered(plan: Planned, weights: Group) -> str | None:
    """Say which list of a legacy file has another order, or ``None``; a ``.keras`` file has none."""
    found = weights.strings("layer_names")
    if found is None:
        return None
    layers = {name: node for name, node in plan.graph.nodes.items() if not node.is_operation}
    if found != list(layers):
        return f"its layer_names are {listed(found)}, expected {listed(list(layers))}"
    for name, node in layers.items():
        group = weights.group(name)
        own, other = weight_names(node, plan.dialect), None if group is None else group.strings("weight_names")
        if other != own:
            return f"{name} weight_names are {listed(other or [])}, expected {listed(own)}"
    return None


def _differences(wanted: Any, found: Any, where: str) -> Iterator[str]:
    if isinstance(wanted, dict) and isinstance(found, Mapping):
        for key in dict.fromkeys([*wanted, *found]):
            if key not in wanted or key not in found:
                yield f"{where}: {key} is {'missing' if key in wanted else 'there'}"
            else:
                yield from _differences(wanted[key], found[key], _inside(where, wanted, key))
    elif isinstance(wanted, list) and isinstance(found, list):
        if len(wanted) != len(found):
            yield f"{where} has {len(found)} entries, expected {len(wanted)}"
            return
        for number, (own, other) in enumerate(zip(wanted, found, strict=True)):
            yield from _differences(own, other, f"{where}[{number}]")
    elif type(wanted) is not type(found) or wanted != found:
        yield f"{where} is {found!r:.60}, expected {wanted!r:.60}"


def _inside(where: str, owner: Mapping[str, Any], key: str) -> str:
    name = owner.get("name")
    return f"{name} {key}" if isinstance(name, str) else f"{where.rpartition(' ')[0]} {key}".strip()
