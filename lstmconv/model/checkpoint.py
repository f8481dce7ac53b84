"""The content of one file: its LSTM layers, and their provenance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from lstmconv.errors import Skipped, UnsupportedModelError
from lstmconv.escaping import html_table
from lstmconv.listing import listed
from lstmconv.model.graph import Model
from lstmconv.model.layers import LSTMLayer, Stack

__all__ = ["Checkpoint", "Provenance"]


class Provenance(NamedTuple):
    """The origin of a checkpoint.

    Attributes:
        source: The file's name, without its folder.
        hashed: The file's SHA-256, or a function that computes it on demand.
        format: A description such as ``"Keras HDF5 (whole model)"``.
        keras_version: The Keras version that the file states, or ``None``.
        backend: The Keras backend that the file states, or ``None``.
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
        skipped: Recurrent layers that are not LSTMs, and LSTMs that do not convert.
        edges: ``(a, b)``: layer ``a`` feeds layer ``b`` directly, with nothing between them that
            computes at inference. ``None`` if the file does not say.
        branching: Layers whose sequence has another reader besides the layer of ``edges``.
        joined: The names of the layers in each stack of the file, or that :func:`lstmconv.model.stacking.join` made;
            every other layer is a stack of its own.
        notes: The assumptions and overrides made while reading, in whole sentences.
        unknown: The reason why activations are unknown, and the option to pass.
        assumed: The file contains only arrays: its activations, directions and merge modes are assumed, or the user
            gave them.
        activations_given: The user named an activation, over the file's own or where the file states none.
        given_states: Layers that start from given states, each with the sources of the states, in words for a note;
            only if ``model`` does not show them.
        model: The whole model as a graph, whose LSTM layers are ``layers``; ``None`` if the file does not say.
    """

    layers: tuple[LSTMLayer, ...]
    provenance: Provenance
    skipped: tuple[Skipped, ...] = ()
    edges: tuple[tuple[str, str], ...] | None = None
    branching: tuple[str, ...] = ()
    joined: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unknown: str | None = None
    assumed: bool = False
    activations_given: bool = False
    given_states: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
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

    def __repr__(self) -> str:
        lstms = f"LSTM layers {listed([layer.name for layer in self.layers])}" if self.layers else "no LSTM layer"
        whole = "" if self.model is None else f", in a model of {len(self.model.layers)} layers"
        return f"Checkpoint({self.provenance.source!r}, {self.provenance.format}: {lstms}{whole})"

    def _repr_html_(self) -> str:
        """Return a table of the layers, for a notebook."""
        rows = [(layer.name, layer.class_name, layer.described) for layer in self.layers]
        head = f"{self.provenance.source}: {self.provenance.format}"
        if self.model is not None:
            known = {layer.name for layer in self.layers}
            rest = [layer for layer in self.model.layers if layer.name not in known]
            rows += [(layer.name, getattr(layer, "class_name", type(layer).__name__), "") for layer in rest]
        return html_table(head, ("layer", "kind", "sizes"), rows)

    def __len__(self) -> int:
        """Return the number of LSTM layers."""
        return len(self.layers)

    def __bool__(self) -> bool:
        """Return true: a file without an LSTM layer is a checkpoint, too."""
        return True

    def __iter__(self) -> Iterator[LSTMLayer]:
        """Yield the LSTM layers."""
        return iter(self.layers)

    def __contains__(self, name: object) -> bool:
        """Whether there is an LSTM layer of this name, or this very layer."""
        return any(name is layer or name == layer.name for layer in self.layers)

    def __getitem__(self, name: str | int) -> LSTMLayer:
        """Return a layer by its name, or by its number.

        Raises:
            KeyError: No layer has this name.
            IndexError: There are fewer layers.
        """
        if isinstance(name, int):
            return self.layers[name]
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(f"no LSTM layer {name!r}; there are {', '.join(layer.name for layer in self.layers)}")

    @property
    def question(self) -> str | None:
        """The question for unknown activations, with the file's name; ``None`` if all are known."""
        return None if self.unknown is None else f"{self.provenance.source}: {self.unknown}"

    @property
    def all_notes(self) -> tuple[str, ...]:
        """The notes, and the question if there is one."""
        return self.notes if self.question is None else (*self.notes, self.question)

    def refuse_unknown(self) -> None:
        """Refuse a checkpoint with unknown activations.

        Raises:
            UnsupportedModelError: An activation is unknown; the text asks for it.
        """
        if self.unknown is not None:
            raise UnsupportedModelError(self.unknown, about=self.provenance.source)
