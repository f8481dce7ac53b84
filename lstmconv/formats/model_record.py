"""A model in a file's own record: graph and options as JSON; the arrays stand in the file itself.

Every field of every layer is described under its own name, so that a new field needs no line here, and read back
by its declared type, strictly: a record that says anything else than :func:`describe_model` writes is refused in
one line. Values that a config states (a constant, the numbers of Rescaling) are no weights: they stand in the record.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Literal, NamedTuple, TypeAlias, Union, get_args, get_origin, get_type_hints

import numpy as np

from lstmconv.activations import Activation, describe_activation, described_activation
from lstmconv.errors import UnreadableFileError, UnsupportedModelError
from lstmconv.formats.safety.limits import MODEL_CALLS
from lstmconv.model import (
    Array,
    Call,
    Gates,
    GRUDirection,
    Input,
    Layer,
    LSTMDirection,
    LSTMLayer,
    Model,
    RecurrentLayer,
    SimpleRNNDirection,
    Stack,
    Tensor,
    TimeDistributed,
)
from lstmconv.model.kinds import Constant, Kind, Rescaling, Unknown
from lstmconv.model.names import name_inside, named_layers

__all__ = [
    "Lookup",
    "Place",
    "describe_layer",
    "describe_model",
    "rebuild_model",
]

_STATED = (Constant, Rescaling)
"""Kinds whose arrays stand in the config."""
_MOST_STATED = 100_000
"""Numbers of one such array; a table is a layer's weight."""
_LARGEST = 1 << 40
"""No size, index or axis is larger."""


class Place(NamedTuple):
    """Where an array belongs in a model.

    Attributes:
        layer: The layer's name; inside TimeDistributed with the wrapper's name and ``/`` in front.
        kind: The class of the record that holds it: ``Dense``, ``LSTMDirection``.
        attribute: Its attribute: ``kernel``, ``forward.weight_ih``, ``layers.0.forward.weight_ih`` of a stack.
        shape: As described; ``None`` where the model that was written had no such array.
    """

    layer: str
    kind: str
    attribute: str
    shape: tuple[int, ...] | None


Lookup: TypeAlias = "Callable[[Place], Array | Gates | None]"
"""Returns the array of a place in the axes of :mod:`lstmconv.model`, or ``None``."""


def describe_model(model: Model) -> dict[str, Any]:
    """Return a model as JSON: inputs, layers with their options, calls, outputs; of arrays their shapes and dtypes.

    Raises:
        UnsupportedModelError: A constant is too large for a record, or two layers have one name.
    """
    layers = {layer.name: layer for _, layer in _own_layers(model)}
    return {
        "name": model.name,
        "inputs": [{"name": entry.name, "shape": list(entry.shape), "dtype": entry.dtype} for entry in model.inputs],
        "layers": [_described(layer) for layer in layers.values()],
        "calls": [
            {
                "name": call.name,
                "layer": call.layer.name,
                "inputs": [_pair(tensor) for tensor in call.inputs],
                "states": [_pair(tensor) for tensor in call.states],
                "masks": [None if tensor is None else _pair(tensor) for tensor in call.masks],
            }
            for call in model.calls
        ],
        "outputs": {name: _pair(tensor) for name, tensor in model.outputs.items()},
    }


def describe_layer(layer: Layer) -> Any:
    """Return one layer as JSON: its kind and options; of arrays their shapes and dtypes.

    Raises:
        UnsupportedModelError: A constant is too large for a record.
    """
    return _described(layer)


def _pair(tensor: Tensor) -> list[str | int]:
    return [tensor.source, tensor.index]


def _own_layers(model: Model) -> Iterator[tuple[str, Layer]]:
    """Yield the layers of this model's own calls."""
    inner = {
        id(layer)
        for outer in model.calls
        if isinstance(outer.layer, TimeDistributed)
        for layer in outer.layer.model.layers
    }
    for name, layer in named_layers(model):
        if id(layer) not in inner:
            yield name, layer


def _described(value: Any) -> Any:
    """Describe one value by its type."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Activation):
        return describe_activation(value)
    if isinstance(value, Model):
        return describe_model(value)
    if isinstance(value, Gates | np.ndarray):
        return {"shape": list(value.shape), "dtype": str(value.dtype)}
    if isinstance(value, tuple):
        return [_described(entry) for entry in value]
    if isinstance(value, Mapping):
        return {name: _described(entry) for name, entry in value.items()}
    described = {name: _described(getattr(value, name)) for name in _hints(type(value))}  # type: ignore[arg-type]  # classes are hashable
    if isinstance(value, _STATED):
        described |= {name: _stated(array, value.name) for name, array in value.arrays.items()}
    return {"kind": type(value).__name__, **described}


def _stated(array: Array, name: str) -> dict[str, Any]:
    if array.size > _MOST_STATED:
        raise UnsupportedModelError(
            f"a constant of {array.size:,} numbers; a record holds {_MOST_STATED:,}", about=name
        )
    return {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "values": [_described(x) for x in array.ravel().tolist()],
    }


@cache
def _kinds() -> Mapping[str, type[Any]]:
    """Every class that a layer or a part of one may be, by name."""
    parts = (LSTMLayer, Stack, RecurrentLayer, LSTMDirection, GRUDirection, SimpleRNNDirection)
    return {kind.__name__: kind for kind in (*Kind.__subclasses__(), *parts)}


@cache
def _hints(kind: type[Any]) -> Mapping[str, Any]:
    """Return the types of a record's fields, but for ``layout``, which is the file's and not the model's."""
    found = get_type_hints(kind, localns={"Array": np.ndarray, "Model": Model})
    return {field.name: found[field.name] for field in fields(kind) if field.name != "layout"}


def rebuild_model(described: object, lookup: Lookup, source: str, layout: str | None = None) -> Model:
    """Return the model that :func:`describe_model` described, with the arrays of a file.

    Args:
        described: From the record: not to be trusted.
        lookup: Finds each array; asked also where the description has none (a target may hold a bias more).
        source: What errors call the file.
        layout: The name of the row of :data:`lstmconv.layouts.LAYOUTS` in which the file stores LSTMs.

    Returns:
        Layers that were unknown stay so, without arrays.

    Raises:
        UnreadableFileError: It is no such description, or an array is missing or has another shape.
    """
    reader = _Reader(lookup, source, layout)
    try:
        return reader.model(described, "")
    except UnsupportedModelError as error:
        raise UnreadableFileError(f"the record of its model contradicts itself ({error})", about=source) from error


class _Reader:
    """Reads a description back."""

    def __init__(self, lookup: Lookup, source: str, layout: str | None) -> None:
        self.lookup, self.source, self.layout = lookup, source, layout
        self.calls = 0

    def refuse(self, where: str, found: object, expected: str) -> UnreadableFileError:
        shown = repr(found) if isinstance(found, str | int | float | bool | None) else type(found).__name__
        return UnreadableFileError(
            f"in the record of its model, {where[:200]} is {shown[:80]}, expected {expected}; convert the source again",
            about=self.source,
        )

    def entries(self, found: object, where: str, keys: tuple[str, ...]) -> Mapping[str, Any]:
        """Return an object that has exactly these keys."""
        if not isinstance(found, dict) or set(found) != set(keys):
            raise self.refuse(where, found, f"an object of {', '.join(keys)}")
        return found

    def listed(self, found: object, where: str) -> list[Any]:
        if not isinstance(found, list):
            raise self.refuse(where, found, "a list")
        return found

    def model(self, found: object, above: str) -> Model:
        entry = self.entries(found, above or "the model", ("name", "inputs", "layers", "calls", "outputs"))
        layers: dict[str, Layer] = {}
        for described in self.listed(entry["layers"], "layers"):
            layer = self.layer(described, above)
            if layer.name in layers:
                raise self.refuse("layers", layer.name, "each layer once")
            layers[layer.name] = layer
        calls = self.listed(entry["calls"], "calls")
        self.calls += len(calls)
        if self.calls > MODEL_CALLS.value:
            raise self.refuse("calls", self.calls, f"at most {MODEL_CALLS.value:,} calls; {MODEL_CALLS.way_out}")
        outputs = entry["outputs"]
        if not isinstance(outputs, dict):
            raise self.refuse("outputs", outputs, "an object")
        return Model(
            self.parsed(str, entry["name"], "name"),
            tuple(self.input(each) for each in self.listed(entry["inputs"], "inputs")),
            tuple(self.call(each, layers) for each in calls),
            {name: self.tensor(each, f"output {name}") for name, each in outputs.items()},
        )

    def input(self, found: object) -> Input:
        entry = self.entries(found, "an input", ("name", "shape", "dtype"))
        shape = self.parsed(tuple[int | None, ...], entry["shape"], "an input's shape")
        return Input(
            self.parsed(str, entry["name"], "an input's name"), shape, self.parsed(str, entry["dtype"], "dtype")
        )

    def tensor(self, found: object, where: str) -> Tensor:
        return Tensor(*self.parsed(tuple[str, int], found, where))

    def call(self, found: object, layers: Mapping[str, Layer]) -> Call:
        entry = self.entries(found, "a call", ("name", "layer", "inputs", "states", "masks"))
        name = self.parsed(str, entry["name"], "a call's name")
        if not isinstance(entry["layer"], str) or entry["layer"] not in layers:
            raise self.refuse(f"the layer of {name}", entry["layer"], "a layer's name")
        inputs, states, masks = (self.listed(entry[key], f"{key} of {name}") for key in ("inputs", "states", "masks"))
        return Call(
            name,
            layers[entry["layer"]],
            tuple(self.tensor(each, f"an input of {name}") for each in inputs),
            tuple(self.tensor(each, f"a state of {name}") for each in states),
            tuple(None if each is None else self.tensor(each, f"a mask of {name}") for each in masks),
        )

    def layer(self, found: object, above: str) -> Layer:
        name = found.get("name") if isinstance(found, dict) else None
        if not isinstance(name, str):
            raise self.refuse("a layer", found, "an object with a name")
        made = self.record(found, name_inside(name, above), "")
        if not isinstance(made, LSTMLayer | Stack | RecurrentLayer | Kind):
            raise self.refuse(name, type(made).__name__, "a layer")
        return made

    def record(self, found: object, layer: str, path: str) -> Any:
        """Return a layer, or a part of one, by its own class name."""
        where = f"{layer} {path}".strip()
        kind = _kinds().get(str(found.get("kind"))) if isinstance(found, dict) else None
        if kind is None:
            raise self.refuse(where, found, "a kind of layer that this version knows")
        hints = _hints(kind)  # type: ignore[arg-type]  # classes are hashable
        entry = self.entries(found, where, ("kind", *hints))
        values: dict[str, Any] = {}
        for name, hint in hints.items():
            attribute = f"{path}{name}"
            if kind is Unknown and name == "stored":
                values[name] = {}
            elif _holds_array(hint):
                values[name] = self.array(kind, hint, entry[name], layer, attribute)
            elif hint is Model:
                values[name] = self.model(entry[name], layer)
            else:
                values[name] = self.parsed(hint, entry[name], f"{where} {name}", layer, attribute)
        if any(field.name == "layout" for field in fields(kind)):
            values["layout"] = self.layout
        return kind(**values)

    def array(self, kind: type[Any], hint: Any, found: object, layer: str, attribute: str) -> Array | Gates | None:
        where = f"{layer} {attribute}"
        optional = type(None) in get_args(hint)
        if found is None and not optional:
            raise self.refuse(where, found, "an array")
        if kind in _STATED:
            return self.stated(found, where)
        shape = None
        if found is not None:
            described = self.entries(found, where, ("shape", "dtype"))
            shape = self.parsed(tuple[int, ...], described["shape"], f"the shape of {where}")
        array = self.lookup(Place(layer, kind.__name__, attribute, shape))
        if shape is not None and (array is None or array.shape != shape):
            stored = "missing" if array is None else str(array.shape)
            raise self.refuse(where, shape, f"the file's own shape, {stored}")
        return array

    def stated(self, found: object, where: str) -> Array:
        entry = self.entries(found, where, ("shape", "dtype", "values"))
        shape = self.parsed(tuple[int, ...], entry["shape"], f"the shape of {where}")
        values = self.listed(entry["values"], where)
        try:
            dtype = np.dtype(self.parsed(str, entry["dtype"], where))
            if dtype.kind not in "fiub" or len(values) != math.prod(shape) or len(values) > _MOST_STATED:
                raise ValueError
            if not all(isinstance(value, bool | int | float) or value in ("inf", "-inf", "nan") for value in values):
                raise ValueError
            made: Array = np.array([float(x) if isinstance(x, str) else x for x in values], dtype).reshape(shape)
        except (TypeError, ValueError, OverflowError) as error:
            raise self.refuse(where, entry["dtype"], f"{math.prod(shape):,} numbers of that type") from error
        return made

    def parsed(self, hint: Any, found: object, where: str, layer: str = "", path: str = "") -> Any:
        """Return a value of the declared type."""
        origin, options = get_origin(hint), get_args(hint)
        if origin is Union or origin is types.UnionType:
            return self.one_of(options, found, where, layer, path)
        if origin is Literal:
            if not isinstance(found, str) or found not in options:
                raise self.refuse(where, found, f"one of {', '.join(map(str, options))}")
            return found
        if origin is tuple:
            return self.several(options, found, where, layer, path)
        if hint is Activation:
            if not isinstance(found, dict):
                raise self.refuse(where, found, "an activation")
            return described_activation(found)
        if is_dataclass(hint):
            return self.part((hint,), found, where, layer, path)
        if hint is float:
            if isinstance(found, str) and found in ("inf", "-inf", "nan"):
                return float(found)
            if isinstance(found, bool) or not isinstance(found, int | float):
                raise self.refuse(where, found, "a number")
            return float(found)
        if type(found) is not hint or (isinstance(found, int) and abs(found) > _LARGEST):
            raise self.refuse(where, found, {str: "text", bool: "true or false", int: "a whole number"}[hint])
        return found

    def one_of(self, options: tuple[Any, ...], found: object, where: str, layer: str, path: str) -> Any:
        """Return a value of one of several types, which its form in JSON tells apart."""
        if found is None:
            if type(None) not in options:
                raise self.refuse(where, found, "a value")
            return None
        rest = [option for option in options if option is not type(None)]
        if is_dataclass(rest[0]) and rest[0] is not Activation:
            return self.part(tuple(rest), found, where, layer, path)
        fitting = [option for option in rest if (get_origin(option) is tuple) == isinstance(found, list)]
        if not fitting:
            raise self.refuse(where, found, "a list" if isinstance(found, list) else "a value of another form")
        return self.parsed(fitting[0], found, where, layer, path)

    def part(self, kinds: tuple[Any, ...], found: object, where: str, layer: str, path: str) -> Any:
        """Return a part of a layer that is of one of several classes."""
        names = [kind.__name__ for kind in kinds]
        if not isinstance(found, dict) or found.get("kind") not in names:
            raise self.refuse(where, found.get("kind") if isinstance(found, dict) else found, " or ".join(names))
        return self.record(found, layer, f"{path}.")

    def several(self, options: tuple[Any, ...], found: object, where: str, layer: str, path: str) -> tuple[Any, ...]:
        listed = self.listed(found, where)
        types_of = [options[0]] * len(listed) if options[1:] == (...,) else list(options)
        if len(types_of) != len(listed):
            raise self.refuse(where, f"{len(listed)} values", str(len(types_of)))
        return tuple(
            self.parsed(hint, each, where, layer, f"{path}.{number}")
            for number, (hint, each) in enumerate(zip(types_of, listed, strict=True))
        )


def _holds_array(hint: Any) -> bool:
    """Whether a field is an array, or Gates, or ``None`` in place of one."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return any(option in (Gates, np.ndarray) for option in options)
