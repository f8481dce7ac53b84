"""A whole model at a glance: each layer with its kind, shape and parameters, and what each target can hold of it.

``inspect`` lists it, and ``report`` draws it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lstmconv.errors import MissingDependencyError, UnsupportedModelError
from lstmconv.formats import TARGETS, Format, WriteOptions
from lstmconv.model import Checkpoint, Input, Layer, LSTMLayer, Model, RecurrentLayer, Stack, Tensor
from lstmconv.model.graph import Shape
from lstmconv.model.kinds import Constant, Identity, Operation, Unknown
from lstmconv.model.names import arrays_of
from lstmconv.model.recurrent import GRUDirection
from lstmconv.model.shapes import infer
from lstmconv.selection import obstacle_of

__all__ = ["LayerLine", "Overview", "Possible", "kind_of", "overview", "parameters_of", "shape_text", "to_json"]


@dataclass(frozen=True)
class LayerLine:
    """One layer of a model.

    Attributes:
        name: As in the file.
        kind: The layer's class in Keras, or lstmconv's kind for that class: ``Convolution`` for a Conv1D.
        shape: The shape that its first call returns, with the batch; ``None`` if it is not known.
        parameters: How many numbers it stores.
        calls: How often the model calls it; 0 for a layer that a TimeDistributed one calls.
        reason: Why lstmconv does not compute it; ``None`` for a layer that it computes.
    """

    name: str
    kind: str
    shape: Shape | None
    parameters: int
    calls: int
    reason: str | None


@dataclass(frozen=True)
class Possible:
    """What one format can hold of a model.

    Attributes:
        format: As ``--to`` names it.
        whole: Whether it can hold the whole model.
        note: What it holds, or why it cannot hold all, and what to do instead.
    """

    format: str
    whole: bool
    note: str


@dataclass(frozen=True)
class Overview:
    """A whole model.

    Attributes:
        name: The model's own.
        inputs: In Keras' order.
        outputs: By name, each with its shape where that is known.
        layers: Each once, in the order of their first calls.
        targets: One for each format.
        misfit: Why shapes are unknown, if sizes do not fit together.
    """

    name: str
    inputs: tuple[Input, ...]
    outputs: Mapping[str, Shape | None]
    layers: tuple[LayerLine, ...]
    targets: tuple[Possible, ...]
    misfit: str | None = None

    @property
    def parameters(self) -> int:
        """How many numbers all layers store."""
        return sum(layer.parameters for layer in self.layers)


def overview(checkpoint: Checkpoint) -> Overview | None:
    """Return the model of a file at a glance, or ``None`` if the file does not contain its model."""
    model = checkpoint.model
    if model is None:
        return None
    misfit = None
    try:
        shapes = infer(model)
    except UnsupportedModelError as error:
        shapes, misfit = {}, str(error)
    return Overview(
        model.name,
        model.inputs,
        {name: shapes.get(tensor) for name, tensor in model.outputs.items()},
        tuple(_line(model, layer, shapes) for layer in model.layers),
        tuple(_possible(checkpoint, model, entry) for entry in TARGETS),
        misfit,
    )


def kind_of(layer: Layer) -> str:
    """Name a layer's kind: as the file does, where that is kept.

    >>> from lstmconv.model.kinds import Identity
    >>> kind_of(Identity("dropout_1", "Dropout"))
    'Dropout'
    """
    if isinstance(layer, LSTMLayer | Identity | Unknown):
        return layer.class_name
    if isinstance(layer, Stack):
        return f"{len(layer.layers)} LSTM layers"
    if isinstance(layer, Operation):
        return layer.function
    if not isinstance(layer, RecurrentLayer):
        return type(layer).__name__
    cell = "GRU" if isinstance(layer.forward, GRUDirection) else "SimpleRNN"
    return cell if layer.backward is None else f"Bidirectional({cell})"


def parameters_of(layer: Layer) -> int:
    """Count the numbers that a layer stores, none of which is read; a constant of the config is no parameter."""
    if isinstance(layer, Constant):
        return 0
    return sum(array.size for array in arrays_of(layer).values())


def shape_text(shape: Shape | None) -> str:
    """Write a shape as people do.

    >>> shape_text((None, None, 16)), shape_text((None,)), shape_text(None)
    ('(batch, time, 16)', '(batch,)', '?')
    """
    if shape is None:
        return "?"
    sizes = [
        str(size) if size is not None else ("batch", "time")[axis] if axis < 2 else "?"
        for axis, size in enumerate(shape)
    ]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def to_json(found: Overview) -> dict[str, Any]:
    """Return an overview as plain data; docs/json.md documents the fields."""
    return {
        "name": found.name,
        "inputs": [{"name": entry.name, "shape": list(entry.shape), "dtype": entry.dtype} for entry in found.inputs],
        "outputs": {name: None if shape is None else list(shape) for name, shape in found.outputs.items()},
        "parameters": found.parameters,
        "layers": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "shape": None if layer.shape is None else list(layer.shape),
                "parameters": layer.parameters,
                "calls": layer.calls,
                "known": layer.reason is None,
                "reason": layer.reason,
            }
            for layer in found.layers
        ],
        "targets": {target.format: {"possible": target.whole, "note": target.note} for target in found.targets},
    }


def _line(model: Model, layer: Layer, shapes: Mapping[Tensor, Shape]) -> LayerLine:
    calls = model.calls_of(layer)
    shape = shapes.get(Tensor(calls[0].name)) if calls else None
    reason = layer.reason if isinstance(layer, Unknown) else None
    return LayerLine(layer.name, kind_of(layer), shape, parameters_of(layer), len(calls), reason)


def _possible(checkpoint: Checkpoint, model: Model, entry: Format) -> Possible:
    """Ask what ``convert`` asks."""
    target = Path(f"model{next(iter(entry.suffixes), '')}")
    try:
        reason = checkpoint.unknown or obstacle_of(checkpoint, entry, WriteOptions(), target)
    except MissingDependencyError as error:
        reason = str(error)
    if reason is not None:
        return Possible(entry.name, False, reason)
    if model.unknown:
        names = ", ".join(f"{layer.name} ({layer.class_name})" for layer in model.unknown)
        return Possible(entry.name, False, f"the arrays of all layers but {names}")
    return Possible(entry.name, True, "the whole model")
