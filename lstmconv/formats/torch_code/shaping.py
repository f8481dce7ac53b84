"""Write reshaping, padding, cropping and indexing as expressions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.torch_code.activations import X
from lstmconv.formats.torch_code.lines import literal
from lstmconv.formats.torch_code.reading import Read
from lstmconv.model import kinds
from lstmconv.model.kinds import Kind

__all__ = ["SHAPING"]


def _reshape(layer: kinds.Reshape, read: Read) -> list[str]:
    if layer.fixed_batch:
        return [f"{X}.reshape({', '.join(map(str, layer.shape))})"]
    if layer.shape == (-1,) and len(read.shapes[0]) > 1:
        return [f"{X}.flatten(1)"]
    # A size -1 is computed here if possible, because torch cannot compute it for an empty batch.
    known = read.output[1:]
    sizes = [size if size != -1 or known[axis] is None else known[axis] for axis, size in enumerate(layer.shape)]
    return [f"{X}.reshape({', '.join([f'len({X})', *map(str, sizes)])})"]


def _pad(layer: kinds.Pad, read: Read) -> list[str]:
    amounts = [amount for pair in reversed(layer.amounts) for amount in pair]
    while amounts[-2:] == [0, 0]:
        del amounts[-2:]
    value = "" if layer.value == 0 else f", value={literal(layer.value)}"
    return [f"F.pad({X}, {literal(tuple(amounts))}{value})"] if amounts else [X]


def _crop(layer: kinds.Crop, read: Read) -> list[str]:
    index = tuple((before or None, -after if after else None, None) for before, after in layer.amounts)
    return _indexed(layer.name, index, read)


def _slice(layer: kinds.Slice, read: Read) -> list[str]:
    return _indexed(layer.name, layer.index, read)


def _indexed(name: str, index: tuple[Any, ...], read: Read) -> list[str]:
    """Write NumPy's basic indexing; torch has no negative steps."""
    written: list[str] = []
    turned: list[int] = []
    source = target = 0
    for entry in index:
        if entry is None:
            written.append("None")
        elif isinstance(entry, int):
            written.append(str(entry))
        else:
            start, stop, step = entry
            if step is not None and step < 0:
                start, stop, step = _forwards(name, entry, read.shapes[0][source])
                turned.append(target)
            written.append(_written(start, stop, step))
        target += not isinstance(entry, int)
        source += entry is not None
    while written and written[-1] == ":":
        written.pop()
    steps = [f"{X}[{', '.join(written)}]"] if written else []
    return [*steps, *(f"{X}.flip({axis})" for axis in turned)] or [X]


def _written(start: int | None, stop: int | None, step: int | None) -> str:
    ends = ":".join("" if end is None else str(end) for end in (start, stop))
    return ends if step in (None, 1) else f"{ends}:{step}"


def _forwards(
    name: str, entry: tuple[int | None, int | None, int], size: int | None
) -> tuple[int | None, int | None, int]:
    """Return the forward slice with the same elements as a slice with a negative step."""
    if entry == (None, None, -1):
        return None, None, 1
    if size is None:
        raise UnsupportedModelError("a slice with steps backwards of an open size is not written as source", name)
    places = range(*slice(*entry).indices(size))
    return (places[-1], places[0] + 1, -entry[2]) if places else (0, 0, 1)


def _upsample(layer: kinds.Upsample, read: Read) -> list[str]:
    return [
        f"{X}.repeat_interleave({factor}, dim={axis})" for axis, factor in enumerate(layer.factors) if factor != 1
    ] or [X]


SHAPING: Mapping[type[Kind], Callable[[Any, Read], list[str]]] = {
    kinds.Crop: _crop,
    kinds.Identity: lambda *_: [X],
    kinds.Pad: _pad,
    kinds.Permute: lambda layer, _: [f"{X}.permute({', '.join(map(str, layer.order))})"],
    kinds.RepeatVector: lambda layer, _: [f"{X}.unsqueeze(1).expand(-1, {layer.count}, -1)"],
    kinds.Reshape: _reshape,
    kinds.Slice: _slice,
    kinds.Upsample: _upsample,
}
