"""Pooling over windows and over whole axes.

Sources: keras/layers/pooling.py (1.2.2, 2.2.4), keras/src/layers/pooling (3.15).
"""

from __future__ import annotations

from typing import Literal

from lstmconv.formats.keras.reader.kinds import masks
from lstmconv.formats.keras.reader.kinds.convolution import channels_first, padding, spatial_rank
from lstmconv.formats.keras.reader.kinds.entry import NotUnderstoodError
from lstmconv.formats.keras.reader.kinds.options import sizes_of
from lstmconv.formats.keras.reader.kinds.row import Place, Row
from lstmconv.model.kinds import GlobalPooling, Pooling

__all__ = ["ROWS"]

_KERAS_1 = {"pool_length": "pool_size", "stride": "strides", "border_mode": "padding", "dim_ordering": "data_format"}


def _window(place: Place, function: str) -> tuple[Pooling]:
    rank = spatial_rank(place.entry)
    size = sizes_of(place.options["pool_size"], rank, "pool_size")
    own = place.options["strides"]
    strides = size if own is None else sizes_of(own, rank, "strides")
    if place.options["padding"] == "causal":
        raise NotUnderstoodError("padding 'causal' is not computed")
    if place.options["padding"] == "same":
        _check_backend(place, size, strides)
    kind: Literal["max", "average"] = "max" if function == "max" else "average"
    return (Pooling(place.name, kind, size, strides, padding(place), channels_first(place)),)


def _check_backend(place: Place, size: tuple[int, ...], strides: tuple[int, ...]) -> None:
    """Refuse Theano, which pads equally on both sides: keras/backend/theano_backend.py (2.2.4) pool2d."""
    if all(each in ((1, 1), (3, 1)) for each in zip(size, strides, strict=True)):
        return
    if place.entry.backend == "theano":
        raise NotUnderstoodError("Theano pads windows of such a size and stride otherwise for padding 'same'")
    if place.entry.backend is None and place.entry.major == 1:
        place.notes.append(place.backend_note)


def _global(place: Place, function: str) -> tuple[GlobalPooling]:
    keepdims = bool(place.options["keepdims"])
    return (GlobalPooling(place.name, "max" if function == "max" else "average", keepdims, channels_first(place)),)


def _window_row(function: str, *names: str) -> Row:
    return Row(
        names=names,
        options={"pool_size": 2, "strides": None, "padding": "valid", "data_format": None},
        renamed=_KERAS_1,
        build=lambda place: _window(place, function),
        masks=masks.stops,
    )


def _global_row(function: str, *names: str, reads_masks: bool = False) -> Row:
    return Row(
        names=names,
        options={"data_format": None, "keepdims": False},
        renamed=_KERAS_1,
        build=lambda place: _global(place, function),
        masks=masks.reads_and_stops if reads_masks else masks.stops,
    )


ROWS = tuple(
    row
    for rank in (1, 2, 3)
    for row in (
        _window_row("max", f"MaxPooling{rank}D", f"MaxPool{rank}D"),
        _window_row("average", f"AveragePooling{rank}D", f"AvgPool{rank}D"),
        _global_row("max", f"GlobalMaxPooling{rank}D", f"GlobalMaxPool{rank}D"),
        _global_row("average", f"GlobalAveragePooling{rank}D", f"GlobalAvgPool{rank}D", reads_masks=rank == 1),
    )
)
