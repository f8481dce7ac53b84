"""The table of Keras' layer classes, by their names in every generation of Keras."""

from __future__ import annotations

import importlib
from functools import cache

from lstmconv.formats.keras.reader.kinds import masks
from lstmconv.formats.keras.reader.kinds.entry import LayerEntry, NotUnderstoodError
from lstmconv.formats.keras.reader.kinds.masks import MaskRule
from lstmconv.formats.keras.reader.kinds.row import Row

__all__ = ["MODULES", "is_computed", "mask_rule", "row_of"]

MODULES = (
    "dense", "shaping", "activations", "merging", "pooling", "convolution", "normalization", "recurrent", "attention",
)  # fmt: skip
"""The modules whose ``ROWS`` form the table, the most frequent first; a module is imported only when it is reached."""

_READ_ELSEWHERE = {
    "LSTM": masks.recurrent,
    "CuDNNLSTM": masks.cudnn,
    "TimeDistributed": masks.time_distributed,
    "InputLayer": masks.stops,
}
"""The mask rules of classes that other modules of the reader build."""


def row_of(entry: LayerEntry) -> Row:
    """Return the row of a layer's class.

    Raises:
        NotUnderstoodError: The table has no such class.
    """
    row = _row(entry.class_name)
    if row is None:
        raise NotUnderstoodError(f"{entry.class_name} is not among the layers that lstmconv computes")
    return row


def mask_rule(entry: LayerEntry) -> MaskRule:
    """Return the mask rule of a layer; unknown classes drop masks."""
    if entry.class_name in _READ_ELSEWHERE:
        return _READ_ELSEWHERE[entry.class_name](entry)
    row = _row(entry.class_name)
    return masks.stops(entry) if row is None else row.masks(entry)


def is_computed(class_name: str) -> bool:
    """Whether lstmconv computes layers of a class; these are Keras' own, which run no code from a file."""
    return class_name in _READ_ELSEWHERE or _row(class_name) is not None


@cache
def _row(class_name: str) -> Row | None:
    for module in MODULES:
        rows: tuple[Row, ...] = importlib.import_module(f"lstmconv.formats.keras.reader.kinds.{module}").ROWS
        for row in rows:
            if class_name in row.names:
                return row
    return None
