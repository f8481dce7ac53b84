"""Layers that move numbers and compute none: Reshape, Permute, RepeatVector, Pad, Crop, Upsample, Slice."""

from __future__ import annotations

from lstmconv.formats.onnx.writer.calls import CallWriter, Value
from lstmconv.model.kinds import Crop, Pad, Permute, RepeatVector, Reshape, Slice, Upsample

__all__ = ["crop", "pad", "permute", "repeat_vector", "reshape", "slice_", "upsample"]

_LAST = (1 << 63) - 1
"""As the end of a Slice: up to the end of the axis, whatever its size. ``-_LAST`` with step -1: past its beginning."""


def reshape(call: CallWriter, layer: Reshape) -> list[Value]:
    """Add Reshape; 0 copies the batch."""
    shape = list(layer.shape) if layer.fixed_batch else [0, *layer.shape]
    return [call.value(call.add("Reshape", [call.x.name, call.integers(shape)], "reshaped"), call.x.type)]


def permute(call: CallWriter, layer: Permute) -> list[Value]:
    """Add Transpose."""
    return [call.value(call.moved(call.x.name, layer.order, "permuted"), call.x.type)]


def repeat_vector(call: CallWriter, layer: RepeatVector) -> list[Value]:
    """Add an axis and repeat along it."""
    column = call.unsqueezed(call.x.name, [1], "column")
    return [call.value(call.add("Tile", [column, call.integers([1, layer.count, 1])], "repeated"), call.x.type)]


def pad(call: CallWriter, layer: Pad) -> list[Value]:
    """Add Pad with a constant."""
    amounts = [*(before for before, _ in layer.amounts), *(after for _, after in layer.amounts)]
    return [call.value(call.add("Pad", [call.float_x, call.integers(amounts), call.number(layer.value)], "padded"))]


def crop(call: CallWriter, layer: Crop) -> list[Value]:
    """Add Slice."""
    cut = [(axis, before, after) for axis, (before, after) in enumerate(layer.amounts) if before or after]
    if not cut:
        return [call.value(call.x.name, call.x.type)]
    axes = call.integers([axis for axis, _, _ in cut])
    starts = call.integers([before for _, before, _ in cut])
    ends = call.integers([-after if after else _LAST for _, _, after in cut])
    return [call.value(call.add("Slice", [call.x.name, starts, ends, axes], "cropped"), call.x.type)]


def upsample(call: CallWriter, layer: Upsample) -> list[Value]:
    """Add Resize: each place as often as its factor says."""
    scales = call.graph.constant([float(factor) for factor in layer.factors], "float32")
    nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return [call.value(call.add("Resize", [call.float_x, "", scales], "upsampled", **nearest))]


def slice_(call: CallWriter, layer: Slice) -> list[Value]:
    """Cut ranges first, then take single places, the last axis first, then add new axes."""
    x = call.x.name
    old = [entry for entry in layer.index if entry is not None]
    ranges = [
        (axis, entry) for axis, entry in enumerate(old) if isinstance(entry, tuple) and entry != (None, None, None)
    ]
    if ranges:
        steps = [1 if step is None else step for _, (_, _, step) in ranges]
        starts = [
            (0 if step > 0 else _LAST) if start is None else start
            for (_, (start, _, _)), step in zip(ranges, steps, strict=True)
        ]
        stops = [
            (_LAST if step > 0 else -_LAST) if stop is None else stop
            for (_, (_, stop, _)), step in zip(ranges, steps, strict=True)
        ]
        axes = [axis for axis, _ in ranges]
        x = call.add("Slice", [x, *map(call.integers, (starts, stops, axes, steps))], "sliced")
    for axis, entry in reversed(list(enumerate(old))):
        if isinstance(entry, int):
            x = call.add("Gather", [x, call.integers(entry)], "place", axis=axis)
    kept = [entry for entry in layer.index if not isinstance(entry, int)]
    x = call.unsqueezed(x, [axis for axis, entry in enumerate(kept) if entry is None], "expanded")
    return [call.value(x, call.x.type)]
