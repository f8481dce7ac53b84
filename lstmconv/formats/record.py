"""The record: what every file that lstmconv writes says of itself, one JSON object, parsed once.

It lies under the name ``lstmconv`` in ONNX' metadata_props, in safetensors' ``__metadata__`` and as an HDF5
attribute, and as ``extra/lstmconv.json`` in a ``.pt`` archive. The dataclasses below are its schema: a text that
does not fit them was written by something else, and is not used.

The LSTM layers of a whole model stand in the description of the model. ``layers`` and ``stacks`` repeat them for
readers that look for LSTM layers alone; a record in which they say anything else is not used either.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lstmconv._version import __version__
from lstmconv.arrays.copying import BiasMode
from lstmconv.errors import UnreadableFileError
from lstmconv.formats.options import WriteOptions
from lstmconv.formats.safety.limits import parse_json
from lstmconv.model import Checkpoint, MergeMode

__all__ = [
    "KEY",
    "Record",
    "RecordedDirection",
    "RecordedLayer",
    "RecordedStack",
    "describe",
    "encode",
    "lacking",
    "parse_record",
]

KEY = "lstmconv"
"""The name that the record lies under."""


@dataclass(frozen=True)
class RecordedDirection:
    """One direction of a recorded layer.

    Attributes:
        hidden_size: Units.
        activation: :func:`~lstmconv.activations.describe_activation` of it; ``None`` if unknown.
        recurrent_activation: Likewise.
        go_backwards: Steps run from the last to the first.
        biases: Which biases the source has: ``bias_ih``, ``bias_hh``.
    """

    hidden_size: int
    activation: Mapping[str, str | float | None] | None
    recurrent_activation: Mapping[str, str | float | None] | None
    go_backwards: bool
    biases: tuple[str, ...] = ()


@dataclass(frozen=True)
class RecordedLayer:
    """One LSTM layer as the source had it; the options are those of :class:`~lstmconv.model.LSTMLayer`.

    Attributes:
        name: Its name in this file.
    """

    name: str
    class_name: str
    input_size: int
    dtype: str
    directions: tuple[RecordedDirection, ...]
    merge_mode: MergeMode | None
    return_sequences: bool | None
    return_state: bool
    stateful: bool
    masking: bool
    zero_output_for_mask: bool
    time_major: bool

    @property
    def options(self) -> dict[str, Any]:
        """The options that the arrays alone do not tell, by the names of an LSTMLayer's attributes."""
        return {name: getattr(self, name) for name in _OPTIONS}


_OPTIONS = (
    "return_sequences",
    "return_state",
    "stateful",
    "masking",
    "zero_output_for_mask",
    "time_major",
    "class_name",
)


@dataclass(frozen=True)
class RecordedStack:
    """Layers that the file holds as one module."""

    name: str
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """The record that lstmconv writes into a file.

    Attributes:
        version: The lstmconv that wrote it.
        source: The source's file name.
        sha256: The source's hash.
        format: The source's format, for people.
        keras_version: The version of Keras that wrote the source, if the source states it.
        layers: The LSTM layers, in order.
        stacks: All layers as stacks, most of one layer.
        edges: See :class:`~lstmconv.model.Checkpoint`.
        notes: What was assumed while reading the source.
        activations_given: The user named an activation, in place of the source's or where the source states none.
        sources: The names that renamed layers have in the source, by their names in this file.
        asked: The source's layers that the user asked for; empty where all of them belong in the file.
        scope: ``whole``: the file is the whole model, described by ``model``; ``layers``: the LSTM layers alone.
        model: The graph; see :mod:`lstmconv.formats.model_record`.
        dtype, bias_mode, prefix, opset, states, lengths, keras_version_written, weights_only:
            The options that the file was written with; see :class:`~lstmconv.formats.options.WriteOptions`.
    """

    version: str
    source: str
    sha256: str
    layers: tuple[RecordedLayer, ...]
    format: str = ""
    keras_version: str | None = None
    stacks: tuple[RecordedStack, ...] = ()
    edges: tuple[tuple[str, str], ...] | None = None
    notes: tuple[str, ...] = ()
    activations_given: bool = False
    sources: Mapping[str, str] = field(default_factory=dict)
    asked: tuple[str, ...] = ()
    scope: Literal["layers", "whole"] = "layers"
    model: Mapping[str, Any] | None = None
    dtype: str | None = None
    bias_mode: BiasMode | None = None
    prefix: bool = True
    opset: int | None = None
    states: bool | None = None
    lengths: bool = False
    keras_version_written: int | None = None
    weights_only: bool = False

    def __post_init__(self) -> None:
        """Check that names are unique, that stacks hold recorded layers, each one once, and that the model has them.

        Raises:
            ValueError: They are not.
        """
        names = [layer.name for layer in self.layers]
        stacked = [name for stack in self.stacks for name in stack.layers]
        if len(set(names)) < len(names) or len({stack.name for stack in self.stacks}) < len(self.stacks):
            raise ValueError("two recorded layers or stacks have one name")
        if self.stacks and sorted(stacked) != sorted(names):
            raise ValueError("the recorded stacks do not hold the recorded layers, each one once")
        if (self.model is None) != (self.scope == "layers"):
            raise ValueError("a model is recorded where the file is a whole one, and only there")
        if self.model is not None:
            import msgspec

            described = _layers_and_stacks(*_of_model(self.model))
            if msgspec.convert(described["layers"], tuple[RecordedLayer, ...]) != self.layers:
                raise ValueError("the recorded layers are not those of the recorded model")
            if msgspec.convert(described["stacks"], tuple[RecordedStack, ...]) != self.stacks:
                raise ValueError("the recorded stacks are not those of the recorded model")

    @property
    def modules(self) -> dict[str, tuple[RecordedLayer, ...]]:
        """The layers by the stack that holds them; each alone in a file that records no stacks."""
        layers = {layer.name: layer for layer in self.layers}
        if not self.stacks:
            return {name: (layer,) for name, layer in layers.items()}
        return {stack.name: tuple(layers[name] for name in stack.layers) for stack in self.stacks}

    @property
    def origins(self) -> dict[str, str]:
        """The layers' names in the source by their names in this file."""
        return {layer.name: self.sources.get(layer.name, layer.name) for layer in self.layers}

    @property
    def options(self) -> WriteOptions:
        """The options that the file was written with."""
        return WriteOptions(
            dtype=self.dtype,
            bias_mode=self.bias_mode,
            opset=self.opset,
            states=self.states,
            lengths=self.lengths,
            prefix=self.prefix,
            keras_version=self.keras_version_written,
            weights_only=self.weights_only,
            whole=self.scope == "whole",
        )

    def made_from(self, checkpoint: Checkpoint) -> bool:
        """Whether the file was made from the very file that a checkpoint was read from."""
        return self.sha256 == checkpoint.provenance.sha256


def describe(checkpoint: Checkpoint, options: WriteOptions) -> dict[str, Any]:
    """Return the record of a file about to be written, as JSON."""
    from lstmconv.formats.model_record import describe_layer, describe_model

    origin, model = checkpoint.provenance, checkpoint.model if options.whole else None
    content: dict[str, Any] = {
        "version": __version__,
        "source": origin.source,
        "sha256": origin.sha256,
        "format": origin.format,
        "keras_version": origin.keras_version,
        "edges": checkpoint.edges,
        "notes": checkpoint.notes,
        "activations_given": checkpoint.activations_given,
        "sources": {new: old for new, old in (options.sources or {}).items() if new != old},
        "asked": options.asked,
        "scope": "layers" if model is None else "whole",
        "dtype": options.dtype,
        "bias_mode": options.bias_mode,
        "prefix": options.prefix,
        "opset": options.opset,
        "states": options.states,
        "lengths": options.lengths,
        "keras_version_written": options.keras_version,
        "weights_only": options.weights_only,
    }
    if model is not None:
        content["model"] = describe_model(model)
        return content | _layers_and_stacks(*_of_model(content["model"]))
    return content | _layers_and_stacks(
        [describe_layer(layer) for layer in checkpoint.layers],
        {stack.name: [layer.name for layer in stack.layers] for stack in checkpoint.stacks},
    )


def encode(checkpoint: Checkpoint, options: WriteOptions) -> str:
    """Return the record of a file about to be written as one line of JSON."""
    return json.dumps(describe(checkpoint, options), ensure_ascii=True)


def parse_record(text: str | bytes | None) -> Record | None:
    """Return the record that a text is; ``None`` for anything else, which is not ours to trust."""
    if text is None:
        return None
    import msgspec

    try:
        record: Record = msgspec.convert(parse_json(text, KEY), Record)
    except (UnreadableFileError, msgspec.ValidationError, KeyError, TypeError, IndexError):
        return None
    return record


def lacking(source: Checkpoint, record: Record | None, held: Collection[str]) -> list[str]:
    """Name the layers of a source that a file should hold and does not.

    Args:
        source: What the file was converted from, or should hold the same weights as.
        record: The file's own. It says which layers the user asked for; of another's file all are expected.
        held: The layers that the file contains, by their names in the source.
    """
    asked = record.asked if record is not None else ()
    names = [layer.name for layer in source.layers]
    return [name for name in names if name not in held and (not asked or name in asked)]


def _of_model(model: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], dict[str, list[str]]]:
    """Return the LSTM layers of a described model, also those inside TimeDistributed, and their names by stack."""
    layers: list[Mapping[str, Any]] = []
    stacks: dict[str, list[str]] = {}
    for layer in model["layers"]:
        if layer["kind"] == "TimeDistributed":
            inner, inner_stacks = _of_model(layer["model"])
            layers += inner
            stacks |= inner_stacks
        elif layer["kind"] in ("LSTMLayer", "Stack"):
            parts = layer.get("layers", [layer])
            layers += parts
            stacks[layer["name"]] = [part["name"] for part in parts]
    return layers, stacks


def _layers_and_stacks(layers: Iterable[Mapping[str, Any]], stacks: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return the two as a record has them; each layer as :func:`describe_layer` describes it."""
    return {
        "layers": [_layer(layer) for layer in layers],
        "stacks": [{"name": name, "layers": names} for name, names in stacks.items()],
    }


def _layer(described: Mapping[str, Any]) -> dict[str, Any]:
    halves = [half for half in (described["forward"], described["backward"]) if half is not None]
    return {
        "name": described["name"],
        "input_size": halves[0]["weight_ih"]["shape"][2],
        "dtype": halves[0]["weight_ih"]["dtype"],
        "directions": [_direction(half) for half in halves],
        "merge_mode": described["merge_mode"] if len(halves) == 2 else None,
        **{name: described[name] for name in _OPTIONS},
    }


def _direction(described: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "hidden_size": described["weight_hh"]["shape"][1],
        "biases": [name for name in ("bias_ih", "bias_hh") if described[name] is not None],
        **{name: described[name] for name in ("activation", "recurrent_activation", "go_backwards")},
    }
