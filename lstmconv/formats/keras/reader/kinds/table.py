"""The one table of Keras' layer classes, by every name that a generation of Keras gave them."""

from __future__ import annotations

from collections.abc import Mapping

from lstmconv.formats.keras.reader.kinds import (
    activations,
    attention,
    convolution,
    dense,
    masks,
    merging,
    normalization,
    pooling,
    recurrent,
    shaping,
)
from lstmconv.formats.keras.reader.kinds.entry import LayerEntry, NotUnderstoodError
from lstmconv.formats.keras.reader.kinds.masks import MaskRule
from lstmconv.formats.keras.reader.kinds.row import Row

__all__ = ["ROWS", "mask_rule", "row_of"]

ROWS: Mapping[str, Row] = {
    name: row
    for module in (dense, activations, convolution, pooling, normalization, shaping, merging, attention, recurrent)
    for row in module.ROWS
    for name in row.names
}

_READ_ELSEWHERE = {
    "LSTM": masks.recurrent,
    "CuDNNLSTM": masks.recurrent,
    "TimeDistributed": masks.time_distributed,
    "InputLayer": masks.stops,
}
"""Classes whose records other rooms of the reader make, and what they do with a mask."""


def row_of(entry: LayerEntry) -> Row:
    """Return the row of a layer's class.

    Raises:
        NotUnderstoodError: There is none.
    """
    if entry.class_name not in ROWS:
        raise NotUnderstoodError(f"{entry.class_name} is not among the layers that lstmconv computes")
    return ROWS[entry.class_name]


def mask_rule(entry: LayerEntry) -> MaskRule:
    """Return what a layer does with masks; one of an unknown class drops them."""
    if entry.class_name in _READ_ELSEWHERE:
        return _READ_ELSEWHERE[entry.class_name](entry)
    return ROWS[entry.class_name].masks(entry) if entry.class_name in ROWS else masks.stops(entry)
