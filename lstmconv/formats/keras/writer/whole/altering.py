"""Whether the config of a whole file is the one that lstmconv writes: the layers' options stand nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lstmconv.formats.keras.writer.whole.config import describe_graph
from lstmconv.formats.keras.writer.whole.write import planned
from lstmconv.formats.options import WriteOptions
from lstmconv.model import Model

__all__ = ["alteration"]


def alteration(model: Model, found: Mapping[str, Any] | None, options: WriteOptions) -> str | None:
    """Say in what a config is not the one that is written for a model, first difference first, or ``None``.

    Args:
        model: By the names in the file.
        found: The file's config.
        options: How it was written.

    Raises:
        UnsupportedModelError: The model cannot be written.
    """
    if found is None:
        return "it has no config"
    plan = planned(model, options)
    written = [
        json.loads(json.dumps(describe_graph(plan.graph, plan.dialect, plan.dtype, native=native)))
        for native in (True, False)  # A legacy file's layers do not state their modules.
    ]
    problems = [next(_differences(each, found, "config"), None) for each in written]
    return None if None in problems else problems[0]


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
