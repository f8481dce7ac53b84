"""The record: what every file that lstmconv writes says of itself, one JSON object, parsed once.

It lies under the name ``lstmconv`` in ONNX' metadata_props, in safetensors' ``__metadata__`` and as an HDF5
attribute, and as ``extra/lstmconv.json`` in a ``.pt`` archive. The dataclasses below are its schema: a text that
does not fit them was written by something else, and is not used.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from lstmconv._version import __version__
from lstmconv.activations import describe_activation
from lstmconv.arrays.copying import BiasMode
from lstmconv.errors import UnreadableFileError
from lstmconv.formats.options import WriteOptions
from lstmconv.formats.safety.limits import parse_json
from lstmconv.model import Checkpoint, LSTMDirection, LSTMLayer, MergeMode

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
        source: Its name in the source.
    """

    name: str
    source: str
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
        """Check that names are unique and that stacks hold recorded layers, each one once.

        Raises:
            ValueError: They are not.
        """
        names = [layer.name for layer in self.layers]
        stacked = [name for stack in self.stacks for name in stack.layers]
        if len(set(names)) < len(names) or len({stack.name for stack in self.stacks}) < len(self.stacks):
            raise ValueError("two recorded layers or stacks have one name")
        if self.stacks and sorted(stacked) != sorted(names):
            raise ValueError("the recorded stacks do not hold the recorded layers, each one once")

    @property
    def modules(self) -> dict[str, tuple[RecordedLayer, ...]]:
        """The layers by the stack that holds them; each alone in a file that records no stacks."""
        layers = {layer.name: layer for layer in self.layers}
        if not self.stacks:
            return {name: (layer,) for name, layer in layers.items()}
        return {stack.name: tuple(layers[name] for name in stack.layers) for stack in self.stacks}

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


def describe(checkpoint: Checkpoint, options: WriteOptions) -> Record:
    """Return the record of a file about to be written."""
    from lstmconv.formats.model_record import describe_model

    origin = checkpoint.provenance
    sources = options.sources or {}
    return Record(
        version=__version__,
        source=origin.source,
        sha256=origin.sha256,
        layers=tuple(_layer(layer, sources.get(layer.name, layer.name)) for layer in checkpoint.layers),
        format=origin.format,
        keras_version=origin.keras_version,
        stacks=tuple(
            RecordedStack(stack.name, tuple(layer.name for layer in stack.layers)) for stack in checkpoint.stacks
        ),
        edges=checkpoint.edges,
        notes=checkpoint.notes,
        activations_given=checkpoint.activations_given,
        sources={new: old for new, old in sources.items() if new != old},
        asked=options.asked,
        scope="whole" if options.whole else "layers",
        model=describe_model(checkpoint.model) if options.whole and checkpoint.model is not None else None,
        dtype=options.dtype,
        bias_mode=options.bias_mode,
        prefix=options.prefix,
        opset=options.opset,
        states=options.states,
        lengths=options.lengths,
        keras_version_written=options.keras_version,
        weights_only=options.weights_only,
    )


def encode(checkpoint: Checkpoint, options: WriteOptions) -> str:
    """Return the record of a file about to be written as one line of JSON."""
    return json.dumps(asdict(describe(checkpoint, options)), ensure_ascii=True)


def parse_record(text: str | bytes | None) -> Record | None:
    """Return the record that a text is; ``None`` for anything else, which is not ours to trust."""
    if text is None:
        return None
    import msgspec

    try:
        record: Record = msgspec.convert(parse_json(text, KEY), Record)
    except (UnreadableFileError, msgspec.ValidationError):
        return None
    return record


def lacking(source: Checkpoint, record: Record | None, held: Collection[str]) -> list[str]:
    """Name the layers of a source that a file should hold and does not.

    Args:
        source: What the file was converted from, or should hold the same weights as.
        record: The file's own. It says which layers the user asked for; of another's file all are expected.
        held: The source's names of the layers that the file holds.
    """
    asked = record.asked if record is not None else ()
    names = [layer.name for layer in source.layers]
    return [name for name in names if name not in held and (not asked or name in asked)]


def _layer(layer: LSTMLayer, source: str) -> RecordedLayer:
    return RecordedLayer(
        name=layer.name,
        source=source,
        input_size=layer.input_size,
        dtype=str(layer.dtype),
        directions=tuple(map(_direction, layer.directions)),
        merge_mode=layer.merge_mode if layer.bidirectional else None,
        **{name: getattr(layer, name) for name in _OPTIONS},
    )


def _direction(direction: LSTMDirection) -> RecordedDirection:
    return RecordedDirection(
        hidden_size=direction.hidden_size,
        activation=describe_activation(direction.activation),
        recurrent_activation=describe_activation(direction.recurrent_activation),
        go_backwards=direction.go_backwards,
        biases=tuple(name for name in ("bias_ih", "bias_hh") if name in direction.arrays),
    )
