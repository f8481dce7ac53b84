"""Whether the model that a file's record describes is its source's: inputs, layers with their options, calls, outputs.

A state dict runs as its record says. So the record is compared, whatever runs the file; arrays are compared elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lstmconv.arrays.comparing import array_difference
from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.model_record import describe_layer, describe_model
from lstmconv.listing import counted
from lstmconv.model import Gates, Layer, LSTMLayer, Model, Stack, TimeDistributed
from lstmconv.model.kinds import Constant, Dot, MaskSteps, Stacking, StepIsUnmasked
from lstmconv.model.names import arrays_of, name_inside, named_layers
from lstmconv.model.shapes import infer

__all__ = ["difference_of_namesakes", "graph_difference", "unseen_difference"]

_NOT_COMPUTED = frozenset({"class_name", "reason", "stored"})
"""Fields that name a layer or explain it."""


_RETURNED = ("return_sequences", "return_state", "stateful", "zero_output_for_mask")
"""What decides what an LSTM layer returns, beside its numbers."""
_PARTS = ("inputs", "layers", "calls", "outputs")
"""What a model consists of, in the order in which two models are compared."""
_ACTIVATIONS = frozenset({"activation", "recurrent_activation"})
_UNSEEN = _ACTIVATIONS | {"stateful"}


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
    for part in _PARTS:
        problem = next(_differences(wanted[part], described.get(part), part), None)
        if problem is not None:
            return f"the model in its record is another one: {problem}"
    return None


def difference_of_namesakes(expected: Model, found: Model) -> str | None:
    """Say in what two models differ in layers that both name alike, first difference first, or ``None``.

    Something else may have written the other file: what it names otherwise is not compared, and the arrays and
    activations of LSTM layers are compared elsewhere. Where all names agree, so must the calls, and the order of
    inputs and outputs.
    """
    own, others = dict(named_layers(expected)), dict(named_layers(found))
    ranks = _input_ranks(found) | _input_ranks(expected)
    for name, layer in own.items():
        other = others.get(name)
        if other is None or isinstance(layer, Stack):
            continue
        described, described_there = (json.loads(json.dumps(describe_layer(each))) for each in (layer, other))
        if isinstance(layer, LSTMLayer):
            described, described_there = (
                {key: each.get(key) for key in _RETURNED} for each in (described, described_there)
            )
        if type(layer) is type(other):
            described, described_there = (
                _with_axes_from_the_front(each, ranks.get(name, ())) for each in (described, described_there)
            )
            for key in _differently_counted(described, described_there):
                del described[key], described_there[key]
        problem = next(_differences(described, described_there, name), None) or _array_difference(name, layer, other)
        if problem is not None:
            return problem
    calls = [{call.name: call for call in model.calls} for model in (expected, found)]
    for name, call in calls[0].items():
        same = calls[1].get(name, call)
        for what in ("states", "masks"):
            counts = [sum(tensor is not None for tensor in getattr(each, what)) for each in (call, same)]
            if counts[0] != counts[1]:
                return f"{name} has {counted(counts[1], what[:-1])}, expected {counts[0]}"
    if list(own) != list(others):
        return None
    wanted, described = (json.loads(json.dumps(describe_model(model))) for model in (expected, found))
    for part in ("inputs", "outputs"):
        names = [[entry["name"] if part == "inputs" else entry for entry in each[part]] for each in (wanted, described)]
        if names[0] != names[1]:
            return f"its {part} are {', '.join(names[1])}, expected {', '.join(names[0])}"
    return next(_differences(wanted["calls"], described["calls"], "calls"), None)


def unseen_difference(expected: Model, found: Model) -> str | None:
    """Say what differs between layers of one name that a run on inputs drawn for the expected model may not show.

    That is a mask's value, where an activation bends, and whether a layer keeps its state for the next run.
    """
    own, others = dict(named_layers(expected)), dict(named_layers(found))
    for name, layer in own.items():
        if name not in others:
            continue
        wanted, found_there = (json.loads(json.dumps(describe_layer(each))) for each in (layer, others[name]))
        if not isinstance(layer, MaskSteps | StepIsUnmasked | Constant):
            wanted, found_there = ({key: each[key] for key in _UNSEEN & each.keys()} for each in (wanted, found_there))
        problem = next(_differences(wanted, found_there, name), None)
        if problem is not None:
            return problem
    return None


def _input_ranks(model: Model, above: str = "") -> dict[str, tuple[int, ...]]:
    """Return how many axes each input of a layer's first call has, by the layer's name; not behind unknown layers."""
    try:
        shapes = infer(model)
    except UnsupportedModelError:
        return {}
    ranks: dict[str, tuple[int, ...]] = {}
    for call in model.calls:
        name = name_inside(call.layer.name, above)
        if isinstance(call.layer, TimeDistributed):
            ranks |= _input_ranks(call.layer.model, name)
        elif all(tensor in shapes for tensor in call.inputs):
            ranks.setdefault(name, tuple(len(shapes[tensor]) for tensor in call.inputs))
    return ranks


def _with_axes_from_the_front(described: Mapping[str, Any], ranks: tuple[int, ...]) -> dict[str, Any]:
    """Count a described layer's axes from the front where its inputs' ranks are known: Keras counts from either end."""
    counted = dict(described)
    if not ranks:
        return counted
    if isinstance(described.get("axis"), int):
        counted["axis"] = described["axis"] % (ranks[0] + (described["kind"] == Stacking.__name__))
    if isinstance(described.get("axes"), list):
        each = ranks if described["kind"] == Dot.__name__ else ranks[:1] * len(described["axes"])
        counted["axes"] = [axis % rank for axis, rank in zip(described["axes"], each, strict=True)]
    return counted


def _differently_counted(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Name the fields that count axes from the front in one layer and from the back in the other."""
    return [key for key in ("axis", "axes") if _from_the_back(one.get(key)) != _from_the_back(other.get(key))]


def _from_the_back(axes: Any) -> bool:
    return any(axis < 0 for axis in (axes if isinstance(axes, list) else [axes]) if isinstance(axis, int))


def _array_difference(name: str, layer: Layer, other: Layer) -> str | None:
    """Say which array of two layers of one name differs; arrays that one of them lacks are compared elsewhere."""
    stored = arrays_of(other)
    for key, array in arrays_of(layer).items():
        found = stored.get(key)
        if isinstance(array, Gates) or isinstance(found, Gates) or found is None:
            continue
        if array.shape != found.shape:
            return f"{name} {key} is {found.shape}, expected {array.shape}"
        try:
            differs = array_difference(np.asarray(array), np.asarray(found))
        except UnsupportedModelError as error:
            return f"{name} {key}: {error}"
        if differs is not None:
            return f"{name} {key} differs in {differs.wrong:,} of {differs.total:,} numbers"
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
    """Return the place of an entry of a list: what has a name goes by it."""
    name = entry.get("name") if isinstance(entry, Mapping) else None
    if name is None:
        return f"{where}[{number}]"
    return str(name) if where in _PARTS else f"{where} {name}"


def _names(entries: list[Any]) -> str:
    """List what entries are called."""
    return (
        ", ".join(str(entry.get("name", "?")) if isinstance(entry, Mapping) else str(entry) for entry in entries)
        or "none"
    )


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
