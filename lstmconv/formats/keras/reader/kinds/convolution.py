"""Convolutions of every rank and Keras generation.

Sources: keras/layers/convolutional.py (1.2.2), keras/src/layers/convolutional (3.15); for the stored axes of Keras 1
and for Theano's flipped kernels keras/engine/saving.py preprocess_weights_for_loading (2.2.4).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast, get_args

import numpy as np

from lstmconv.formats.keras.reader.kinds import masks
from lstmconv.formats.keras.reader.kinds.entry import REQUIRED, LayerEntry, NotUnderstoodError
from lstmconv.formats.keras.reader.kinds.options import sizes_of
from lstmconv.formats.keras.reader.kinds.row import Place, Row, Variable
from lstmconv.model import Array
from lstmconv.model.kinds import Convolution, Kind, Pad, Padding, TransposedConvolution

__all__ = ["ROWS", "channels_first", "padding", "spatial_rank"]

_KERAS_1 = {
    "nb_filter": "filters", "filter_length": "kernel_size", "subsample_length": "strides", "subsample": "strides",
    "border_mode": "padding", "dim_ordering": "data_format", "atrous_rate": "dilation_rate", "bias": "use_bias",
}  # fmt: skip
_KERNEL_SIDES_KERAS_1 = ("nb_row", "nb_col", "kernel_dim1", "kernel_dim2", "kernel_dim3")
_COMMON: Mapping[str, object] = {
    "kernel_size": None, "strides": 1, "padding": "valid", "data_format": None, "dilation_rate": 1,
    "activation": "linear", "use_bias": True, **dict.fromkeys(_KERNEL_SIDES_KERAS_1),
}  # fmt: skip


def spatial_rank(entry: LayerEntry) -> int:
    """Return how many spatial axes a class has, by its name: ``Conv2D``, ``MaxPool1D``."""
    found = re.search(r"([123])D", entry.class_name)
    if found is None:
        raise NotUnderstoodError(f"{entry.class_name} does not say how many axes it runs over")
    return int(found[1])


def channels_first(place: Place) -> bool:
    """Whether the channels come before the spatial axes.

    Some classes have no ``data_format``: Conv1D of Keras 1, and pooling over one axis.

    Raises:
        NotUnderstoodError: Keras has no such data format, or the input has another number of axes.
    """
    value, rank = place.options["data_format"], spatial_rank(place.entry)
    if value not in ("channels_first", "channels_last", None) or (value is None and rank > 1):
        raise NotUnderstoodError(f"data_format is {value!r}, expected 'channels_last' or 'channels_first'")
    if place.rank != rank + 2:
        raise NotUnderstoodError(f"its input has {place.rank} axes, expected {rank + 2}")
    return bool(value == "channels_first")


def padding(place: Place) -> Padding:
    """Return the padding.

    Raises:
        NotUnderstoodError: lstmconv does not compute this padding, such as ``full`` of Keras 1.
    """
    value = place.options["padding"]
    if value not in get_args(Padding) or (value == "causal" and spatial_rank(place.entry) > 1):
        raise NotUnderstoodError(f"padding {value!r} is not computed")
    return cast(Padding, value)


def _kernel_size(place: Place) -> tuple[int, ...]:
    sides = [place.options[side] for side in _KERNEL_SIDES_KERAS_1 if place.options[side] is not None]
    return sizes_of(sides or place.options["kernel_size"], spatial_rank(place.entry), "kernel_size")


def _channels(place: Place) -> int:
    size = place.size(1 if channels_first(place) else -1)
    if size is None:
        raise NotUnderstoodError("the number of its input channels is not known")
    return size


def _bias(place: Place, size: int) -> tuple[Variable, ...]:
    return (Variable("bias", ((size,),)),) if place.options["use_bias"] else ()


def _moves(place: Place) -> dict[str, Any]:
    """Return strides, padding, dilation and data format, as arguments of the model layers."""
    rank = spatial_rank(place.entry)
    return {
        "strides": sizes_of(place.options["strides"], rank, "strides"),
        "padding": padding(place),
        "dilation": sizes_of(place.options["dilation_rate"], rank, "dilation_rate"),
        "channels_first": channels_first(place),
    }


def _flipped(place: Place, kernel: Array) -> Array:
    """Flip a kernel that Theano stored, because Theano flips kernels when it convolves; other backends do not.

    Files of Keras 1 do not state their backend, and Keras 2 loads their kernels unchanged.
    """
    rank = spatial_rank(place.entry)
    turned = any(size > 1 for size in kernel.shape[:rank])
    if place.entry.backend is None and place.entry.major == 1 and turned:
        place.notes.append(place.backend_note)
    return np.flip(kernel, tuple(range(rank))) if place.entry.backend == "theano" else kernel


def _kernel_shapes(place: Place, size: tuple[int, ...], inputs: int, filters: int) -> tuple[tuple[int, ...], ...]:
    """Return the shapes in which a kernel may be stored, the most recent first."""
    if place.entry.major not in (1, None) or "nb_filter" not in place.entry.config:
        return ((*size, inputs, filters),)
    if len(size) == 1:  # Keras 1.1 and later; before Keras 1.1.
        return (*size, 1, inputs, filters), (filters, inputs, *size, 1)
    return ((filters, inputs, *size),) if channels_first(place) else ((*size, inputs, filters),)


def _stored_as_today(place: Place, kernel: Array, size: tuple[int, ...], inputs: int, filters: int) -> Array:
    """Return a kernel as ``(spatial..., input, filters)``."""
    today = (*size, inputs, filters)
    shapes = _kernel_shapes(place, size, inputs, filters)
    if shapes[0] == today:
        return kernel
    if len(size) > 1:
        return np.moveaxis(kernel, (1, 0), (-2, -1))
    return kernel[:, 0] if kernel.shape == shapes[0] else kernel[..., 0].transpose(2, 1, 0)


def _sizes(place: Place) -> tuple[tuple[int, ...], int, int]:
    inputs, groups = _channels(place), place.whole("groups")
    if inputs % groups:
        raise NotUnderstoodError(f"{inputs} input channels in {groups} groups")
    return _kernel_size(place), inputs // groups, place.whole("filters")


def _convolution_variables(place: Place) -> tuple[Variable, ...]:
    size, inputs, filters = _sizes(place)
    return (Variable("kernel", _kernel_shapes(place, size, inputs, filters)), *_bias(place, filters))


def _convolution(place: Place) -> tuple[Kind, ...]:
    kernel = _flipped(place, _stored_as_today(place, place.arrays["kernel"], *_sizes(place)))
    moves, bias, activation = _moves(place), place.arrays.get("bias"), place.activation()
    padded: tuple[Kind, ...] = ()
    if place.entry.backend == "theano" and moves["padding"] == "same":
        padded, moves = (_theano_padding(place, moves),), {**moves, "padding": "valid"}
    groups = place.whole("groups")
    return (*padded, Convolution(place.name, kernel, bias, groups=groups, activation=activation, **moves))


def _theano_padding(place: Place, moves: Mapping[str, Any]) -> Pad:
    """Pad as Theano does for "same": half the kernel on each side for every stride, the larger half first.

    For an even kernel, surplus outputs are cut off at the end: keras/backend/theano_backend.py (2.2.4)
    ``_preprocess_padding`` and ``_postprocess_conv2d_output``.
    """
    spread = [(size - 1) * by + 1 for size, by in zip(_kernel_size(place), moves["dilation"], strict=True)]
    amounts = tuple((size // 2, (size - 1) // 2) for size in spread)
    still = (0, 0)
    return Pad(
        f"{place.name}/padding", (still, still, *amounts) if moves["channels_first"] else (still, *amounts, still)
    )


def _depthwise_variables(place: Place) -> tuple[Variable, ...]:
    channels, multiplier = _channels(place), place.whole("depth_multiplier")
    kernel = Variable("kernel", ((*_kernel_size(place), channels, multiplier),))
    return (kernel, *_bias(place, channels * multiplier))


def _depthwise_kernel(kernel: Array) -> Array:
    """Return ``(..., input, multiplier)`` as ``(..., 1, input * multiplier)``."""
    return kernel.reshape(*kernel.shape[:-2], 1, -1)


def _depthwise(place: Place) -> tuple[Convolution]:
    _refuse_theano(place)
    kernel = _depthwise_kernel(place.arrays["kernel"])
    bias, activation = place.arrays.get("bias"), place.activation()
    return (Convolution(place.name, kernel, bias, groups=_channels(place), activation=activation, **_moves(place)),)


def _separable_variables(place: Place) -> tuple[Variable, ...]:
    if place.entry.major == 1 and channels_first(place):
        raise NotUnderstoodError("a channels-first separable convolution of Keras 1")
    channels, multiplier, filters = _channels(place), place.whole("depth_multiplier"), place.whole("filters")
    size = _kernel_size(place)
    return (
        Variable("depthwise_kernel", ((*size, channels, multiplier),)),
        Variable("pointwise_kernel", ((*(1 for _ in size), channels * multiplier, filters),)),
        *_bias(place, filters),
    )


def _separable(place: Place) -> tuple[Convolution, Convolution]:
    _refuse_theano(place)
    moves, rank = _moves(place), spatial_rank(place.entry)
    still = {"strides": (1,) * rank, "dilation": (1,) * rank, "channels_first": moves["channels_first"]}
    depthwise = _depthwise_kernel(place.arrays["depthwise_kernel"])
    pointwise, bias = place.arrays["pointwise_kernel"], place.arrays.get("bias")
    return (
        Convolution(f"{place.name}/depthwise", depthwise, groups=_channels(place), **moves),
        Convolution(f"{place.name}/pointwise", pointwise, bias, activation=place.activation(), **still),
    )


def _refuse_theano(place: Place) -> None:
    if place.entry.backend == "theano":
        raise NotUnderstoodError("how Theano computes such a convolution is not known")


def _transposed_variables(place: Place) -> tuple[Variable, ...]:
    filters = place.whole("filters")
    return (Variable("kernel", ((*_kernel_size(place), filters, _channels(place)),)), *_bias(place, filters))


def _transposed(place: Place) -> tuple[TransposedConvolution]:
    _refuse_theano(place)
    moves, own = _moves(place), place.options["output_padding"]
    rank = spatial_rank(place.entry)
    if moves["padding"] == "causal":
        raise NotUnderstoodError("padding 'causal' is not computed")
    numbers = tuple(own) if isinstance(own, list | tuple) else (own,) * rank
    if own is not None and not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise NotUnderstoodError(f"output_padding is {own!r}")
    return (
        TransposedConvolution(
            place.name,
            place.arrays["kernel"],
            place.arrays.get("bias"),
            output_padding=None if own is None else numbers,
            activation=place.activation(),
            **moves,
        ),
    )


ROWS = (
    Row(
        names=("Conv1D", "Convolution1D", "AtrousConvolution1D", "AtrousConv1D", "Conv2D", "Convolution2D",
            "AtrousConvolution2D", "AtrousConv2D", "Conv3D", "Convolution3D"),
        options={**_COMMON, "filters": REQUIRED, "groups": 1},
        renamed=_KERAS_1,
        variables=_convolution_variables,
        build=_convolution,
        masks=masks.stops,
    ),
    Row(
        names=("DepthwiseConv1D", "DepthwiseConv2D"),
        options={**_COMMON, "depth_multiplier": 1},
        ignored=frozenset({"filters"}),
        only={"groups": (1,)},
        variables=_depthwise_variables,
        build=_depthwise,
        masks=masks.stops,
    ),
    Row(
        names=("SeparableConv1D", "SeparableConvolution1D", "SeparableConv2D", "SeparableConvolution2D"),
        options={**_COMMON, "filters": REQUIRED, "depth_multiplier": 1},
        renamed=_KERAS_1,
        only={"groups": (1,)},
        variables=_separable_variables,
        build=_separable,
        masks=masks.stops,
    ),
    Row(
        names=("Conv1DTranspose", "Convolution1DTranspose", "Conv2DTranspose", "Convolution2DTranspose"),
        options={**_COMMON, "filters": REQUIRED, "output_padding": None},
        only={"groups": (1,)},
        variables=_transposed_variables,
        build=_transposed,
        masks=masks.stops,
    ),
)  # fmt: skip
