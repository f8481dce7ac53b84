"""Explain a layer that is no LSTM: how each format orders the axes of its arrays, from its rows of the layout table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lstmconv.errors import UsageError
from lstmconv.explaining.overview import kind_of, parameters_of
from lstmconv.layouts.kinds import COLUMNS, ArrayLayout, Stored, rows_of
from lstmconv.model import Array, Checkpoint, Layer, LSTMLayer, RecurrentLayer, Stack
from lstmconv.model.kinds import Unknown
from lstmconv.model.recurrent import GRUDirection

__all__ = ["ArrayInFormats", "Axis", "PlainExplanation", "StoredArray", "explain_plain", "plain_layers", "to_json"]

_SPATIAL = {1: ("time",), 2: ("height", "width"), 3: ("depth", "height", "width")}


@dataclass(frozen=True)
class Axis:
    """One stored axis: ``input``, ``gate unit`` for gates one behind the other; and its size."""

    name: str
    size: int


@dataclass(frozen=True)
class StoredArray:
    """One array as one format stores it.

    Attributes:
        format: As ``--format`` names it.
        title: For people.
        name: The format's own name for the array.
        axes: In stored order.
        gates: The order of the gates along ``gate``, if there are any.
        moved: Whether the order of axes or gates is another than Keras'.
    """

    format: str
    title: str
    name: str
    axes: tuple[Axis, ...]
    gates: str
    moved: bool


@dataclass(frozen=True)
class ArrayInFormats:
    """One array of a layer.

    Attributes:
        array: lstmconv's name for it, behind ``backward`` in a layer's backward direction.
        stored: In each format that was asked for.
        source: Where the orders are written.
    """

    array: str
    stored: tuple[StoredArray, ...]
    source: str


@dataclass(frozen=True)
class PlainExplanation:
    """A layer that is no LSTM.

    Attributes:
        source: The file's name.
        file_format: What kind of file it is.
        name, kind: The layer's.
        parameters: How many numbers it stores.
        reason: Why lstmconv does not compute it, or ``None``.
        arrays: In the order of the table.
        others: The model's other layers.
    """

    source: str
    file_format: str
    name: str
    kind: str
    parameters: int
    reason: str | None
    arrays: tuple[ArrayInFormats, ...]
    others: tuple[str, ...]


def plain_layers(checkpoint: Checkpoint) -> Mapping[str, Layer]:
    """Return the layers of a file's model that are no LSTMs, by name."""
    layers = () if checkpoint.model is None else checkpoint.model.layers
    return {layer.name: layer for layer in layers if not isinstance(layer, LSTMLayer | Stack)}


def explain_plain(checkpoint: Checkpoint, name: str, formats: Sequence[str] = ()) -> PlainExplanation:
    """Explain a layer of a file's model that is no LSTM; no number of it is read.

    Args:
        checkpoint: A file that contains its model.
        name: A key of :func:`plain_layers`.
        formats: Of ``keras``, ``torch`` and ``onnx``; by default all.

    Raises:
        UsageError: Another format, which holds LSTM layers alone.
    """
    known = plain_layers(checkpoint)
    layer = known[name]
    for wanted in formats:
        if wanted not in COLUMNS:
            raise UsageError(f"{name} is no LSTM layer: --format is one of {', '.join(COLUMNS)}, not {wanted}")
    return PlainExplanation(
        checkpoint.provenance.source,
        checkpoint.provenance.format,
        name,
        kind_of(layer),
        parameters_of(layer),
        layer.reason if isinstance(layer, Unknown) else None,
        tuple(_arrays(layer, tuple(dict.fromkeys(formats or COLUMNS)))),
        tuple(each.name for each in (() if checkpoint.model is None else checkpoint.model.layers) if each is not layer),
    )


def to_json(explained: PlainExplanation) -> dict[str, Any]:
    """Return an explanation as plain data; docs/json.md documents the fields."""
    return asdict(explained)


def _arrays(layer: Layer, formats: Sequence[str]) -> Iterator[ArrayInFormats]:
    if isinstance(layer, RecurrentLayer):
        for direction, lead in zip(layer.directions, ("", "backward "), strict=False):
            rows = rows_of("GRU" if isinstance(direction, GRUDirection) else "SimpleRNN")
            stored = {key: array for key in rows if (array := getattr(direction, key, None)) is not None}
            yield from (_array(f"{lead}{key}", rows[key], array, formats) for key, array in stored.items())
        return
    if isinstance(layer, LSTMLayer | Stack):
        return
    rows = rows_of(type(layer).__name__)
    yield from (_array(key, rows[key], array, formats) for key, array in layer.arrays.items() if key in rows)


def _array(name: str, row: ArrayLayout, array: Array, formats: Sequence[str]) -> ArrayInFormats:
    lengths = _lengths(row.axes, array.shape)
    keras = _stored(row.keras, lengths)
    return ArrayInFormats(
        name,
        tuple(
            StoredArray(
                key, COLUMNS[key], stored.name, axes, stored.gates, axes != keras or stored.gates != row.keras.gates
            )
            for key in formats
            for stored in (getattr(row, key),)
            for axes in (_stored(stored, lengths),)
        ),
        row.source,
    )


def _lengths(axes: str, shape: Sequence[int]) -> dict[str, tuple[Axis, ...]]:
    """Give each axis of a pattern its size; ``...`` stands for a convolution's spatial axes, or for all there are."""
    names = axes.split()
    spread = len(shape) - len(names) + 1
    spatial = _SPATIAL.get(spread) if len(names) > 1 else None
    found: dict[str, tuple[Axis, ...]] = {}
    sizes = iter(shape)
    for name in names:
        if name != "...":
            found[name] = (Axis(name, next(sizes)),)
            continue
        own = spatial or [f"axis {number + 1}" if spread > 1 else "feature" for number in range(spread)]
        found[name] = tuple(Axis(each, next(sizes)) for each in own)
    return found


def _stored(stored: Stored, lengths: Mapping[str, tuple[Axis, ...]]) -> tuple[Axis, ...]:
    axes: list[Axis] = []
    for group, single in re.findall(r"\(([^)]*)\)|(\S+)", stored.axes):
        if single:
            axes += lengths[single]
            continue
        inside = [axis for name in group.split() for axis in lengths[name]]
        size = 1
        for axis in inside:
            size *= axis.size
        axes.append(Axis(" ".join(axis.name for axis in inside), size))
    return tuple(axes)
