"""Which layers of the source a target's stacks should hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lstmconv.errors import UsageError
from lstmconv.formats.record import Record, lacking
from lstmconv.model import Checkpoint, LSTMLayer, Stack

__all__ = ["Pairing", "named", "paired"]


@dataclass(frozen=True)
class Pairing:
    """Which layers of the target belong to which of the source.

    Attributes:
        stacks: The target's stacks by name, each with the source's layers that it should contain.
        how: How the pairs were found, as the end of a report's line; ``""`` if by record or name.
        lacking: The names of the source's layers that the target should contain and does not.
    """

    stacks: list[tuple[str, Stack]]
    how: str
    lacking: list[str]


def paired(source: Checkpoint, record: Record | None, read: Checkpoint) -> Pairing:
    """Pair the target's stacks with the source's layers.

    Raises:
        UsageError: Neither the record nor names nor the number of layers determines the pairs.
    """
    stacks, origins = _stacks(record, read)
    target = read.provenance.source
    layer_names = [name for names in stacks.values() for name in names]
    made_of = [origins[name] for name in layer_names]
    layers, how = named(source, made_of) or named(source, layer_names), ""
    if layers is None and record is not None and record.made_from(source):
        missing = [name for name in made_of if name not in {layer.name for layer in source.layers}]
        raise UsageError(f"{target}: was made from the layers {missing}, which the source does not have")
    if layers is None:
        layers, how = list(source.layers), ", paired by order"
    if len(layers) != len(layer_names):
        others = ", ".join(layer.name for layer in source.layers)
        raise UsageError(
            f"{target} holds the layers {', '.join(layer_names)}, the source {others}: "
            "neither names nor counts show which belong together"
        )
    chosen = dict(zip(layer_names, layers, strict=True))
    pairs = [(stack, Stack(stack, tuple(chosen[name] for name in names))) for stack, names in stacks.items()]
    return Pairing(pairs, how, lacking(source, record, {layer.name for layer in layers}))


def named(source: Checkpoint, names: Sequence[str]) -> list[LSTMLayer] | None:
    """Return the source's layers of these names, or ``None``; formats write ``/`` in a name as ``.`` or ``_``."""
    exact = {layer.name: layer for layer in source.layers}
    if all(name in exact for name in names):
        return [exact[name] for name in names]
    folded = {re.sub("[./]", "_", name): layer for name, layer in exact.items()}
    if len(folded) < len(exact) or not all(re.sub("[./]", "_", name) in folded for name in names):
        return None
    return [folded[re.sub("[./]", "_", name)] for name in names]


def _stacks(record: Record | None, read: Checkpoint) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return the file's stacks with the names of their layers, and each layer's name in the source."""
    if record is None:
        stacks = {stack.name: [layer.name for layer in stack.layers] for stack in read.stacks}
        return stacks, {layer.name: layer.name for layer in read.layers}
    modules = {name: [layer.name for layer in layers] for name, layers in record.modules.items()}
    return modules, record.origins
