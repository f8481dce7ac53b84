"""Layers that move, repeat or cut elements and compute nothing.

Sources: keras/layers/core.py and convolutional.py (1.2.2, 2.2.4), keras/src/layers/reshaping (3.15).
"""

from __future__ import annotations

from collections.abc import Mapping

from lstmconv.formats.keras.reader.kinds import masks
from lstmconv.formats.keras.reader.kinds.convolution import channels_first, spatial_rank
from lstmconv.formats.keras.reader.kinds.entry import REQUIRED, NotUnderstoodError, is_integer
from lstmconv.formats.keras.reader.kinds.options import pair, sizes_of
from lstmconv.formats.keras.reader.kinds.row import Place, Row
from lstmconv.model.kinds import Crop, Kind, Pad, Permute, RepeatVector, Reshape, Upsample

__all__ = ["ROWS"]

_SIDES_KERAS_1 = ({"left_pad": 0, "right_pad": 0}, {"top_pad": 0, "bottom_pad": 0, "left_pad": 0, "right_pad": 0})


def _flatten(place: Place) -> tuple[Kind, ...]:
    """Build a Flatten; Keras flattens channels-first inputs in channels-last order."""
    flat = Reshape(place.name, (-1,))
    if place.options["data_format"] not in ("channels_first", "channels_last", None):
        raise NotUnderstoodError(f"data_format is {place.options['data_format']!r}")
    if place.options["data_format"] != "channels_first" or place.rank < 3:
        return (flat,)
    return Permute(f"{place.name}/channels_last", (0, *range(2, place.rank), 1)), flat


def _reshape(place: Place) -> tuple[Reshape]:
    shape = place.options["target_shape"]
    if not isinstance(shape, list | tuple) or not all(map(is_integer, shape)):
        raise NotUnderstoodError(f"target_shape is {shape!r}, expected whole numbers")
    if list(shape).count(-1) > 1 or any(size < -1 for size in shape):
        raise NotUnderstoodError(f"target_shape is {shape!r}, expected at most one -1")
    return (Reshape(place.name, tuple(shape)),)


def _permute(place: Place) -> tuple[Permute]:
    dims = place.options["dims"]
    if not isinstance(dims, list | tuple) or sorted(dims) != list(range(1, place.rank)):
        raise NotUnderstoodError(f"dims is {dims!r} for an input of {place.rank} axes")
    return (Permute(place.name, (0, *dims)),)


def _repeat(place: Place) -> tuple[RepeatVector]:
    return (RepeatVector(place.name, place.whole("n")),)


def _amounts(place: Place, option: str) -> tuple[tuple[int, int], ...]:
    """Return the amounts before and after each axis of the input.

    A config has one number, one number or a pair for each spatial axis, or in Keras 1 a dictionary or four numbers.
    """
    stated, rank = place.options[option], spatial_rank(place.entry)
    if isinstance(stated, Mapping):
        if rank > 2 or not stated.keys() <= _SIDES_KERAS_1[rank - 1].keys():
            raise NotUnderstoodError(f"{option} is {stated!r}")
        stated = list({**_SIDES_KERAS_1[rank - 1], **stated}.values())
    if rank == 1:
        spatial = [pair(stated, option)]
    elif rank == 2 and isinstance(stated, list | tuple) and len(stated) == 4:
        spatial = [pair(stated[:2], option), pair(stated[2:], option)]
    else:
        each = stated if isinstance(stated, list | tuple) else [stated] * rank
        spatial = [pair(amount, option) for amount in each]
    if len(spatial) != rank:
        raise NotUnderstoodError(f"{option} is {stated!r}, expected one amount for each of {rank} axes")
    still = (0, 0)
    return (still, still, *spatial) if channels_first(place) else (still, *spatial, still)


def _pad(place: Place) -> tuple[Pad]:
    return (Pad(place.name, _amounts(place, "padding")),)


def _crop(place: Place) -> tuple[Crop]:
    return (Crop(place.name, _amounts(place, "cropping")),)


def _upsample(place: Place) -> tuple[Upsample]:
    factors = sizes_of(place.options["size"], spatial_rank(place.entry), "size")
    return (Upsample(place.name, (1, 1, *factors) if channels_first(place) else (1, *factors, 1)),)


_KERAS_1 = {"dim_ordering": "data_format"}

ROWS = (
    Row(names=("Flatten",), options={"data_format": None}, renamed=_KERAS_1, build=_flatten, masks=masks.stops),
    Row(names=("Reshape",), options={"target_shape": REQUIRED}, build=_reshape, masks=masks.stops),
    Row(names=("Permute",), options={"dims": REQUIRED}, build=_permute, masks=masks.stops),
    Row(names=("RepeatVector",), options={"n": REQUIRED}, build=_repeat, masks=masks.stops),
    Row(
        names=("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D"),
        options={"padding": 1, "data_format": None},
        renamed=_KERAS_1,
        build=_pad,
        masks=masks.stops,
    ),
    Row(
        names=("Cropping1D", "Cropping2D", "Cropping3D"),
        options={"cropping": REQUIRED, "data_format": None},
        renamed=_KERAS_1,
        build=_crop,
        masks=masks.stops,
    ),
    Row(
        names=("UpSampling1D", "UpSampling2D", "UpSampling3D"),
        options={"size": 2, "data_format": None},
        renamed={**_KERAS_1, "length": "size"},
        only={"interpolation": ("nearest",)},
        build=_upsample,
        masks=masks.stops,
    ),
)
