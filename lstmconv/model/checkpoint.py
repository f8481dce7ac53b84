"""The content of one file: its LSTM layers, and their provenance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from lstmconv.errors import Skipped
from lstmconv.model.graph import Model
from lstmconv.model.layers import LSTMLayer, Stack

__all__ = ["Checkpoint", "Provenance"]


class Provenance(NamedTuple):
    """The origin of a checkpoint.

    Attributes:
        source: The file's name, without its folder.
        hashed: The file's SHA-256, or a function that computes it on demand.
        format: A description such as ``"Keras HDF5 (whole model)"``.
        keras_version: As the file states it, or ``None``.
        backend: As the file states it, or ``None``.
        parts: Other files that belong to it: shards, external data.
    """

    source: str
    hashed: str | Callable[[], str]
    format: str
    keras_version: str | None = None
    backend: str | None = None
    parts: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """The hash of the file's bytes; for a folder or shards, of all files in the order of their names."""
        return self.hashed if isinstance(self.hashed, str) else self.hashed()


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """All LSTM layers of one file.

    Attributes:
        layers: In the model's order.
        provenance: The file.
        skipped: Recurrent layers that are not LSTMs, or not plain ones.
        edges: ``(a, b)``: layer ``a`` feeds layer ``b`` directly; nothing between them computes at
            inference. ``None`` if the file does not say it.
        branching: Layers whose sequence is also read by something other than the layer of ``edges``.
        joined: For each stack, the names of its layers. The stacks are those of the file, or those that
            :func:`lstmconv.model.stacking.join` made. A layer without an entry is a stack of one.
        notes: The assumptions made and the options used while reading, in whole sentences.
        unknown: Why activations are unknown: the text of the error that asks for them.
        model: The whole model as a graph, whose LSTM layers are ``layers``; ``None`` if the file does not say it.
    """

    layers: tuple[LSTMLayer, ...]
    provenance: Provenance
    skipped: tuple[Skipped, ...] = ()
    edges: tuple[tuple[str, str], ...] | None = None
    branching: tuple[str, ...] = ()
    joined: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unknown: str | None = None
    model: Model | None = None

    @property
    def stacks(self) -> tuple[Stack, ...]:
        """All layers as stacks, in the order of their first layers."""
        heads = {names[0]: (stack, names) for stack, names in self.joined.items()}
        inside = {name for names in self.joined.values() for name in names}
        made: list[Stack] = []
        for layer in self.layers:
            if layer.name in heads:
                stack, names = heads[layer.name]
                made.append(Stack(stack, tuple(self[name] for name in names)))
            elif layer.name not in inside:
                made.append(Stack(layer.name, (layer,)))
        return tuple(made)

    def __getitem__(self, name: str) -> LSTMLayer:
        """Return a layer by its name."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(f"no LSTM layer {name!r}; there are {', '.join(layer.name for layer in self.layers)}")
