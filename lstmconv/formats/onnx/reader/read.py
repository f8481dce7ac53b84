"""Read the LSTM layers of any ONNX model, whoever exported it, and of those that lstmconv wrote.

Weights are views of the file's bytes where it stores them as they are; where an exporter left it to the
graph to slice and join them, they are computed here. What the graph makes of a layer's sequence decides
what the layer returns and which layer it feeds (:mod:`lstmconv.formats.onnx.reader.edges`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lstmconv.activations import parse_activation
from lstmconv.errors import LstmconvError, NoLSTMError, UnreadableFileError, UnsupportedModelError
from lstmconv.formats.hashing import hashing
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.onnx.constant_names import is_constant
from lstmconv.formats.onnx.reader.edges import Placed, Routes
from lstmconv.formats.onnx.reader.inline_functions import without_functions
from lstmconv.formats.onnx.reader.layer_names import layer_name, unique
from lstmconv.formats.onnx.reader.lstm_node import RECURRENT, LSTMNode, Overrides, read_node, refusal
from lstmconv.formats.onnx.reader.own_files import own_modules
from lstmconv.formats.onnx.reader.parse_lazily import OWN, parse
from lstmconv.formats.onnx.reader.scopes import Scope, main_scope, walk
from lstmconv.formats.onnx.reader.states_and_lengths import Giver, fixed_lengths, given_states, masks
from lstmconv.formats.onnx.reader.tensors import Tensors
from lstmconv.formats.onnx.reader.time_flips import turns_round
from lstmconv.formats.onnx.reader.values import Values
from lstmconv.formats.options import ReadOptions
from lstmconv.formats.record import KEY, Record, parse_record
from lstmconv.formats.restoring import Restored, restore
from lstmconv.formats.safety.limits import refuse_many_layers
from lstmconv.model import Array, Checkpoint, LSTMLayer, Provenance, Skipped
from lstmconv.model.notes import LayerNote

if TYPE_CHECKING:
    import onnx

__all__ = ["parse_file", "read_file", "read_model", "record_of", "weights_of"]

_UNREAD = ("lstmconv's record in the file cannot be read; it is ignored",)
_MOST_BYTES = (1 << 31) - 1
"""Protocol Buffers, Encoding, Message Size: a message ends below 2 GiB."""


def parse_file(file: MappedFile) -> onnx.ModelProto:
    """Parse a ``.onnx`` file; the large weights of the message stay in the file.

    Raises:
        UnreadableFileError: It is no ONNX model, or a damaged one.
    """
    try:
        if file.size > _MOST_BYTES:
            raise UnreadableFileError(
                f"{file.size} bytes, more than an ONNX model has without its weights", about=file.name
            )
        model = parse(file.content, file.name)
    except LstmconvError:
        raise
    except Exception as error:  # protobuf's DecodeError, whose module differs between its versions.
        raise UnreadableFileError(
            "not an ONNX model, or a damaged one: its Protocol Buffers message cannot be parsed", about=file.name
        ) from error
    _refuse_no_graph(model, file.name)
    return model


def _refuse_no_graph(model: onnx.ModelProto, name: str) -> None:
    if not model.HasField("graph") or not (model.ir_version or model.opset_import):
        raise UnreadableFileError("not an ONNX model: it has no graph; expected what an exporter wrote", about=name)


def read_file(
    file: MappedFile,
    model: onnx.ModelProto,
    record: Record | None,
    notes: tuple[str, ...],
    options: ReadOptions,
) -> Checkpoint:
    """Read the LSTM layers of a parsed file; weights in files beside it are mapped, not loaded.

    Args:
        file: The file.
        model: What :func:`parse_file` returned.
        record: What :func:`record_of` returned, with its ``notes``.
        notes: Likewise.
        options: What the user states about the file.

    Raises:
        UnreadableFileError: Its weights lie outside its folder.
        UnsupportedModelError: It holds no LSTM that Keras could have.
    """
    tensors = Tensors(file.name, file.path.parent, {OWN: file})
    origin = _provenance(file.name, "", model)
    checkpoint = _read(model, file.name, origin, record, notes, options, tensors)
    parts = tuple(sorted(tensors.opened.keys() - {OWN}))
    hashed = hashing(file, *(tensors.opened[part] for part in parts))
    said = checkpoint.notes if record is None or record.scope != "whole" else (*checkpoint.notes, _whole(file, record))
    return replace(checkpoint, provenance=checkpoint.provenance._replace(hashed=hashed, parts=parts), notes=said)


def _whole(file: MappedFile, record: Record) -> str:
    """Return the note that only the LSTM layers of a whole model are read."""
    return (
        f"{file.name}: holds the whole model of {record.source}, but lstmconv reads only the LSTM layers of an ONNX "
        f"file; convert {record.source} for the whole model"
    )


def weights_of(file: MappedFile, model: onnx.ModelProto, record: Record | None) -> dict[str, Array]:
    """Return the layers' arrays of a file that lstmconv wrote, by the names of their initializers.

    A file of others may hold minus infinity on purpose, as lstmconv's own constants may: both are left out.
    """
    if record is None:
        return {}
    tensors = Tensors(file.name, file.path.parent, {OWN: file})
    weights = [entry for entry in model.graph.initializer if not is_constant(entry.name)]
    return {entry.name: tensors.array(entry) for entry in weights}


def read_model(
    model: onnx.ModelProto, name: str, provenance: Provenance, options: ReadOptions, folder: Path | None
) -> Checkpoint:
    """Read a model in memory.

    Args:
        model: As ``onnx.load`` returns it.
        name: What errors call it.
        provenance: Where it came from.
        options: What the user states about the file.
        folder: Where files with its weights lie; ``None`` refuses weights in other files.

    Raises:
        UnreadableFileError: It is damaged, or its weights lie outside the folder.
        UnsupportedModelError: It holds no LSTM that Keras could have.
    """
    _refuse_no_graph(model, name)
    record, notes = record_of(model)
    return _read(model, name, provenance, record, notes, options, Tensors(name, folder))


def record_of(model: onnx.ModelProto) -> tuple[Record | None, tuple[str, ...]]:
    """Return what lstmconv recorded in the model, and a note if that cannot be read."""
    texts = [entry.value for entry in model.metadata_props if entry.key == KEY]
    record = parse_record(texts[0]) if texts else None
    return record, _UNREAD if texts and record is None else ()


def _provenance(name: str, sha256: str, model: onnx.ModelProto) -> Provenance:
    producer = f"{model.producer_name} {model.producer_version}".strip()[:100]
    producer = "".join(character for character in producer if character.isprintable())
    return Provenance(name, sha256, f"ONNX model ({producer})" if producer else "ONNX model")


@dataclass
class _Found:
    """The LSTM nodes of a model as they were read."""

    nodes: list[LSTMNode] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    by_scope: dict[Scope, list[int]] = field(default_factory=dict)


def _read(
    model: onnx.ModelProto,
    name: str,
    provenance: Provenance,
    record: Record | None,
    unread: tuple[str, ...],
    options: ReadOptions,
    tensors: Tensors,
) -> Checkpoint:
    values = Values(tensors, 0 if OWN in tensors.opened else model.ByteSize())
    chosen = (options.activation, options.recurrent_activation)
    overrides = Overrides(*(None if one is None else parse_activation(one, None) for one in chosen))
    main = main_scope(without_functions(model, name, RECURRENT), name)
    found = _nodes(main, values, overrides, verbatim=record is not None or bool(unread))
    routes = Routes(values, found.by_scope)
    _leave_out_fixed_lengths(found, routes)
    if not found.nodes and (record is None or record.scope != "whole"):  # A whole model may have none.
        raise NoLSTMError(_nothing(name, found.skipped), found.skipped)
    modules = own_modules(found.nodes, record)
    restored, note = _restored({key: [placed.layer for placed in own] for key, own in modules.items()}, record, name)
    placed = [each for own in modules.values() for each in own]
    notes = [*unread, *note, *restored.notes]
    settled: list[Placed] = []
    described = [layer is not each.layer for each, layer in zip(placed, restored.layers, strict=True)]
    for each, layer, recorded in zip(placed, restored.layers, described, strict=True):
        used, more = (layer, []) if recorded else _as_used(each, routes)
        notes += [*more, *(LayerNote(layer.name, text) for node in each.nodes for text in node.notes)]
        settled.append(replace(each, layer=used))
    given = {each.layer.name: given_states(each, settled, routes) for each in settled}
    edges, branching = _edges(settled, given, routes)
    turned = [
        each.layer if recorded else _turned(each, routes, notes)
        for each, recorded in zip(settled, described, strict=True)
    ]
    layers = [_overruled(layer, overrides, notes) for layer in turned]
    return Checkpoint(
        tuple(layers),
        provenance,
        tuple(found.skipped),
        tuple(dict.fromkeys([*(restored.edges or ()), *edges])),
        tuple(branching),
        restored.joined,
        tuple(notes),
        given_states={layer: tuple(giver.text for giver in givers) for layer, givers in given.items() if givers},
    )


def _nodes(scope: Scope, values: Values, overrides: Overrides, *, verbatim: bool) -> _Found:
    """Read every recurrent node, or say why it is skipped."""
    found = _Found()
    places: list[tuple[Scope, int]] = []
    for place in walk(scope, RECURRENT):
        places.append(place)
        refuse_many_layers(len(places), scope.file)
    own = [inside.nodes[index].name if verbatim else "" for inside, index in places]
    names = unique([name or layer_name(*place) for name, place in zip(own, places, strict=True)])
    for (inside, index), name in zip(places, names, strict=True):
        node = inside.nodes[index]
        found.by_scope.setdefault(inside, []).append(index)
        reason = refusal(node)
        if reason is None:
            try:
                found.nodes.append(read_node(inside, index, name, values, overrides))
                continue
            except UnsupportedModelError as error:
                reason = str(error)
        found.skipped.append(Skipped(name, node.op_type, reason, is_lstm=node.op_type not in ("GRU", "RNN")))
    return found


def _leave_out_fixed_lengths(found: _Found, routes: Routes) -> None:
    """Skip the nodes whose sequence lengths are stored in the graph."""
    for node in tuple(found.nodes):
        reason = fixed_lengths(node, routes)
        if reason is not None:
            found.nodes.remove(node)
            found.skipped.append(Skipped(node.name, "LSTM", reason))


def _nothing(name: str, skipped: Sequence[Skipped]) -> str:
    if not skipped:
        return (
            f"{name}: no LSTM node; an LSTM that was exported cell by cell, or as a Loop, is not recognised: export "
            "a model that uses torch.nn.LSTM or Keras' LSTM layer"
        )
    return f"{name}: no LSTM that converts: " + "; ".join(one.described for one in skipped)


def _restored(
    modules: Mapping[str, Sequence[LSTMLayer]], record: Record | None, name: str
) -> tuple[Restored, tuple[str, ...]]:
    """Give the layers what was recorded of them; leave a record aside that names unknown activations."""
    try:
        return restore(modules, record, name, binding=False), ()
    except UnsupportedModelError:
        return restore(modules, None, name), _UNREAD


def _as_used(placed: Placed, routes: Routes) -> tuple[LSTMLayer, list[str]]:
    """Return a foreign graph's layer with the options that the graph implies, and notes on them."""
    layer = placed.layer
    notes: list[str] = []
    sequences = any(routes.reads_sequence(node) for node in placed.nodes)
    states = any(routes.reads_states(node) for node in placed.nodes)
    reading = routes.returns(placed) if sequences else "last"
    if sequences or states:
        layer = replace(layer, return_sequences=reading != "last")
    if reading == "other" and layer.go_backwards and not layer.bidirectional:
        text = "runs backwards and returns outputs in the input's order; go_backwards returns them in processing order"
        notes.append(LayerNote(layer.name, text))
    if any(masks(node, routes) for node in placed.nodes):
        layer = replace(layer, masking=True, zero_output_for_mask=True)
        text = "takes sequence lengths: padding comes last, and outputs are zero where a sequence has ended"
        notes.append(LayerNote(layer.name, text))
    return layer, notes


def _turned(placed: Placed, routes: Routes, notes: list[str]) -> LSTMLayer:
    """Return a layer with ``go_backwards`` if the graph reverses its input in time before the node reads it."""
    layer = placed.layer
    turns = {turns_round(node, routes) for node in placed.nodes}
    if turns == {False}:
        return layer
    if turns == {True} and not layer.bidirectional and not layer.go_backwards:
        return replace(layer, forward=replace(layer.forward, go_backwards=True))
    notes.append(
        LayerNote(layer.name, "the graph reverses its input in time first; the reversal is not part of the layer")
    )
    return layer


def _edges(
    layers: Sequence[Placed], given: Mapping[str, Sequence[Giver]], routes: Routes
) -> tuple[list[tuple[str, str]], list[str]]:
    """Return which layer feeds which, and the names of those whose sequence something else reads, too.

    A layer that starts from what the graph computes is fed by more than a sequence; the graph's own inputs are
    still inputs of what is joined.
    """
    edges: list[tuple[str, str]] = []
    branching: dict[str, None] = {}
    for above in layers:
        found = routes.feeder(above, layers)
        if found is None or not all(giver.is_input for giver in given[above.layer.name]):
            continue
        below, path = found
        edges.append((below.layer.name, above.layer.name))
        if routes.branches(below, above, path):
            branching[below.layer.name] = None
    return edges, list(branching)


def _overruled(layer: LSTMLayer, overrides: Overrides, notes: list[str]) -> LSTMLayer:
    """Return a layer with the activations that the user asks for."""
    chosen = {
        key: value for key in ("activation", "recurrent_activation") if (value := getattr(overrides, key)) is not None
    }
    if not chosen:
        return layer
    notes += [LayerNote(layer.name, f"{key} is {value}, as asked") for key, value in chosen.items()]
    return layer.with_directions([replace(half, **chosen) for half in layer.directions])
