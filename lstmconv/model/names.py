"""The layers of a whole model by their names, also inside TimeDistributed, and their arrays by attribute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from lstmconv.errors import UnsupportedModelError
from lstmconv.model import Array, Gates, Layer, Model, TimeDistributed
from lstmconv.model.kinds import Kind

__all__ = ["arrays_of", "name_inside", "named_layers"]


def name_inside(name: str, above: str) -> str:
    """Return a layer's name in the whole model: below the name of the TimeDistributed layer around it, if any.

    >>> name_inside("conv", "each_step"), name_inside("each_step", "each_step"), name_inside("dense", "")
    ('each_step/conv', 'each_step', 'dense')
    """
    return name if not above or name == above or name.startswith(f"{above}/") else f"{above}/{name}"


def named_layers(model: Model, above: str = "") -> Iterator[tuple[str, Layer]]:
    """Yield every layer once with its name in the whole model; layers inside TimeDistributed come after it.

    A wrapped layer may have the wrapper's own name: the wrapper has no arrays.

    Raises:
        UnsupportedModelError: Two layers have the same name.
    """
    seen: dict[str, Layer] = {}
    for call in model.calls:
        layer = call.layer
        if seen.setdefault(layer.name, layer) is not layer:
            raise UnsupportedModelError(f"{model.name}: two layers are named '{layer.name}'")
    for name, layer in seen.items():
        own = name_inside(name, above)
        yield own, layer
        if isinstance(layer, TimeDistributed):
            yield from named_layers(layer.model, own)


def arrays_of(layer: Layer) -> Mapping[str, Array | Gates]:
    """Return a layer's arrays by attribute, such as ``kernel`` or ``forward.weight_ih``."""
    if isinstance(layer, Kind):
        return layer.arrays
    return dict(_arrays(layer, ""))


def _arrays(value: Any, path: str) -> Iterator[tuple[str, Array | Gates]]:
    if isinstance(value, Gates | np.ndarray):
        yield path.removesuffix("."), value
    elif isinstance(value, tuple):
        for number, entry in enumerate(value):
            yield from _arrays(entry, f"{path}{number}.")
    elif is_dataclass(value):
        for field in fields(value):
            yield from _arrays(getattr(value, field.name), f"{path}{field.name}.")
