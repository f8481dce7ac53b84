"""Whether the model that a file's record describes is its source's: inputs, layers with their options, calls, outputs.

A state dict runs as its record says. So the record is compared, whatever runs the file; arrays are compared elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lstmconv.formats.model_record import describe_model
from lstmconv.model import Model

__all__ = ["graph_difference"]

_NOT_COMPUTED = frozenset({"class_name", "reason", "stored"})
"""Fields that name a layer or explain it."""


_ACTIVATIONS = frozenset({"activation", "recurrent_activation"})


def graph_difference(expected: Model, described: Any, *, activations: bool = True) -> str | None:
    """Say in what a recorded model is not the expected one, first difference first, or ``None``.

    Args:
        expected: The source's model, by the file's names.
        described: The file's, as :func:`~lstmconv.formats.model_record.describe_model` writes it.
        activations: Compare them; not where the user replaced the source's.
    """
    wanted = json.loads(json.dumps(describe_model(expected)))
    if not isinstance(described, Mapping):
        return "its record describes no model"
    if not activations:
        wanted, described = _without(wanted, _ACTIVATIONS), _without(described, _ACTIVATIONS)
    for part in ("inputs", "layers", "calls", "outputs"):
        problem = next(_differences(wanted[part], described.get(part), part), None)
        if problem is not None:
            return f"the model in its record is another one: {problem}"
    return None


def _without(value: Any, keys: frozenset[str]) -> Any:
    """Return a described model without some fields, at any depth."""
    if isinstance(value, Mapping):
        return {key: _without(inner, keys) for key, inner in value.items() if key not in keys}
    return [_without(inner, keys) for inner in value] if isinstance(value, list) else value


def _differences(wanted: Any, found: Any, where: str) -> Iterator[str]:
    """Yield the differences of two values, depth first."""
    if _is_array(wanted) and _is_array(found):
        return
    if (_is_array(wanted) and found is None) or (_is_array(found) and wanted is None):
        yield f"{where} is {'missing' if found is None else 'there'}"
        return
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        yield from _entries(wanted, found, where)
    elif isinstance(wanted, list) and isinstance(found, list):
        if len(wanted) != len(found):
            yield f"{where}: {_names(found)}, expected {_names(wanted)}"
            return
        for number, (own, other) in enumerate(zip(wanted, found, strict=True)):
            yield from _differences(own, other, _inside(where, own, number))
    elif type(wanted) is not type(found) or wanted != found:
        yield f"{where} is {_shown(found)}, expected {_shown(wanted)}"


def _entries(wanted: Mapping[str, Any], found: Mapping[str, Any], where: str) -> Iterator[str]:
    if list(wanted) != list(found) and where == "outputs":
        yield f"{where}: {', '.join(map(str, found))}, expected {', '.join(wanted)}"
        return
    for key in dict.fromkeys([*wanted, *found]):
        if key in _NOT_COMPUTED:
            continue
        if key not in wanted or key not in found:
            there = wanted.get(key, found.get(key))
            if not _is_array(there) and there is not None:
                yield f"{where}: {key} is {'missing' if key in wanted else 'there'}"
            continue
        yield from _differences(wanted[key], found[key], f"{where} {key}")


def _is_array(value: Any) -> bool:
    """Whether a value describes a stored array: those are compared bit for bit."""
    return isinstance(value, Mapping) and set(value) == {"shape", "dtype"}


def _inside(where: str, entry: Any, number: int) -> str:
    name = entry.get("name") if isinstance(entry, Mapping) else None
    return f"{where}[{number}]" if name is None else str(name)


def _names(entries: list[Any]) -> str:
    """List what entries are called."""
    return (
        ", ".join(str(entry.get("name", "?")) if isinstance(entry, Mapping) else str(entry) for entry in entries)
        or "none"
    )


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
