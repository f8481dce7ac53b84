"""Read the LSTM layers of a custom model class, for which the file has the config of each layer.

TensorFlow's SavedModels have these configs (``keras_metadata.pb``). The code between the layers stays unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lstmconv.errors import UnreadableFileError, UnsupportedModelError
from lstmconv.formats.keras.reader.assigning_tracked import assign_layer
from lstmconv.formats.keras.reader.cells import LSTM_KINDS, Cell
from lstmconv.formats.keras.reader.counting import Counts
from lstmconv.formats.keras.reader.entries import Entry, read_entries
from lstmconv.formats.keras.reader.lstm import build_lstm, is_lstm
from lstmconv.formats.keras.reader.producer import Producer
from lstmconv.model import LSTMLayer, Skipped, Stack

__all__ = ["Described", "described_layers"]


class Described(NamedTuple):
    """The layers that have a config, and the cells that have none.

    Attributes:
        layers: The LSTM layers, by the paths of their objects.
        skipped: The layers that do not convert.
        undescribed: The cells that belong to no layer with a config.
    """

    layers: Mapping[str, LSTMLayer | Stack]
    skipped: Sequence[Skipped]
    undescribed: list[Cell]


def described_layers(cells: Sequence[Cell], producer: Producer) -> Described:
    """Read the layers that have configs, and return the other cells as ``undescribed``.

    Raises:
        UnreadableFileError: A layer's config is not one that Keras writes.
    """
    file = producer.file
    found: dict[str, LSTMLayer | Stack] = {}
    skipped: list[Skipped] = []
    seen: list[str] = []
    names = Counter(str(each["config"].get("name") or "") for each in file.layers.values())
    for path, description in file.layers.items():
        tracked = None if file.objects is None else file.objects.find(path)
        if tracked is None or any(path.startswith(f"{outer}/") for outer in seen):
            continue
        entry = _entry(path, description)
        if not is_lstm(entry):
            continue
        name = entry.name if names[entry.name] == 1 else path
        try:
            assigned = assign_layer(file, tracked, entry, Counts(file.version))
            found[path] = build_lstm(entry, name, assigned.stored, assigned.paths, producer)
        except UnsupportedModelError as error:
            skipped.append(Skipped(name, entry.title, str(error)))
        seen.append(path)
    left: list[Cell] = []
    for cell in cells:
        owner = cell.group.removesuffix("/cell")
        stated = file.layers.get(owner, {}).get("class_name")
        if any(f"{cell.group}/".startswith(f"{path}/") for path in seen):
            continue
        if stated is not None and cell.kind in LSTM_KINDS:
            skipped.append(Skipped(owner, str(stated), "a custom recurrent layer; only Keras' own LSTM converts"))
        else:
            left.append(cell)
    return Described(found, skipped, left)


def _entry(path: str, description: object) -> Entry:
    try:
        return read_entries(description)  # type: ignore[arg-type]  # If it is no mapping, the error is caught here.
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise UnreadableFileError(f"the config of '{path}' is not one that Keras writes ({error!r})") from error
