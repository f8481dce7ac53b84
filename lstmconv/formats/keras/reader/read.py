"""Join the config and the arrays of a Keras file to a model and its LSTM layers, or give the reason why not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from lstmconv.errors import NoLSTMError, UnreadableFileError, UnsupportedModelError, UsageError
from lstmconv.formats.hdf5.tree import StoredArray
from lstmconv.formats.keras.reader.assigning_legacy import assign_legacy
from lstmconv.formats.keras.reader.assigning_listed import assign_listed
from lstmconv.formats.keras.reader.assigning_named import assign_named
from lstmconv.formats.keras.reader.assigning_saveable import assign_saveable
from lstmconv.formats.keras.reader.assigning_tracked import assign_tracked
from lstmconv.formats.keras.reader.cells import LSTM_KINDS, Cell
from lstmconv.formats.keras.reader.cells_legacy import group_names, legacy_cells
from lstmconv.formats.keras.reader.cells_named import named_cells
from lstmconv.formats.keras.reader.cells_saveable import is_numbered, saveable_cells
from lstmconv.formats.keras.reader.cells_tracked import tracked_cells
from lstmconv.formats.keras.reader.config import Config, config_from
from lstmconv.formats.keras.reader.counting import Counts
from lstmconv.formats.keras.reader.described_layers import described_layers
from lstmconv.formats.keras.reader.discovery import Discovered, discover
from lstmconv.formats.keras.reader.entries import Entry, ModelEntry, read_entries
from lstmconv.formats.keras.reader.layers import Layers
from lstmconv.formats.keras.reader.lstm import direction_of
from lstmconv.formats.keras.reader.open_file import KerasFile
from lstmconv.formats.keras.reader.producer import Producer
from lstmconv.formats.keras.reader.stored import Stored
from lstmconv.formats.keras.reader.trace import trace
from lstmconv.formats.options import ReadOptions
from lstmconv.formats.overrides import overruled
from lstmconv.formats.record import Record, RecordedLayer
from lstmconv.formats.restoring import restore
from lstmconv.formats.safety.limits import refuse_many_layers
from lstmconv.listing import listed
from lstmconv.model import Checkpoint, LSTMLayer, MergeMode, Provenance, Skipped, Stack
from lstmconv.model.chains import chains_of, lstm_layers, stacks_of, with_masking
from lstmconv.model.notes import LayerNote

__all__ = ["checkpoint_of", "interpret"]


def checkpoint_of(file: KerasFile, options: ReadOptions) -> Checkpoint:
    """Read a file as :func:`interpret` does, and refuse it if nothing in it converts.

    Raises:
        NoLSTMError: The file has no LSTM layer, and its model has a layer that lstmconv does not compute.
    """
    found = interpret(file, options)
    if found.layers or found.model is None or not found.model.unknown:
        return found
    if found.skipped:
        raise _no_lstm(file.name, found.skipped)
    first = found.model.unknown[0]
    raise NoLSTMError(
        f"no LSTM layer in it, and the model does not convert whole: {first.described}",
        about=file.name,
    )


def interpret(file: KerasFile, options: ReadOptions) -> Checkpoint:
    """Read every LSTM layer of an opened Keras file, and the model around them if the file contains it.

    A model without an LSTM is read too: its checkpoint has no layers. Unknown layers stay in the model.

    Args:
        file: A ``.h5``, ``.keras`` (zip or folder), ``.weights.h5`` or ``.weights.json``.
        options: A config for weights-only files, and activations that override the file's.

    Raises:
        UnreadableFileError: The file is damaged.
        UnsupportedModelError: The file has no LSTM, or the config and the weights do not belong together.
    """
    given = None if options.described is None else config_from(options.described)
    description = given or file.config
    if file.kind == "listed" and given is None:
        raise NoLSTMError(_without_names(file), about=file.name)
    cells = _cells(file)
    notes: list[str] = []
    entry = None if description is None else _entry(description, file)
    producer = Producer(
        file, None if entry is None else description, options.activation, options.recurrent_activation, notes
    )
    if entry is not None:
        checkpoint = _described(entry, cells, producer, outside=given is not None)
        if checkpoint is not None:
            return checkpoint
    if description is not None:
        notes[:] = ["the config names no LSTM (a custom model class?); layers are found by their arrays"]
        producer = replace(producer, config=None)
    return _discovered(cells, producer, options)


def _cells(file: KerasFile) -> list[Cell]:
    """Find the recurrent cells of a file, independently of its config."""
    if file.objects is not None:
        return tracked_cells(file.objects)
    if file.kind == "listed":  # Only a config tells what each array is.
        return []
    if file.kind == "named":
        return named_cells(file.weights)
    return legacy_cells(file.weights) if file.kind == "legacy" else saveable_cells(file.weights)


def _without_names(file: KerasFile) -> str:
    """Return the error text for unnamed arrays, with the option that names them."""
    arrays = [array for array in file.weights.children.values() if isinstance(array, StoredArray)]
    shapes = listed([array.shape for array in arrays])
    return (
        f"{len(arrays)} NumPy arrays without names ({shapes}); if they are model.get_weights(), pass "
        "--config with the model's to_json(), or a file that has it"
    )


def _entry(description: Config, file: KerasFile) -> Entry | None:
    """Read a config; ``None`` for a custom model class that lists no layers."""
    try:
        entry = read_entries(description.model, group_names(file.weights) if file.kind == "legacy" else ())
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise UnreadableFileError(f"the model config is not one that Keras writes ({error!r})") from error
    return entry if entry.model is not None and entry.model.members else None


def _described(entry: Entry, cells: Sequence[Cell], producer: Producer, *, outside: bool) -> Checkpoint | None:
    """Read the model that the config describes; ``None`` if the config has no LSTM and the file has one."""
    file, listed = producer.file, entry.model
    if listed is None:
        return None
    try:
        stored, places = _assigned(listed, producer, outside=outside)
        layers = Layers(stored, places, producer)
        model = with_masking(trace(listed, layers))
    except (UnreadableFileError, UnsupportedModelError):
        raise
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise UnreadableFileError(f"the model config is not one that Keras writes ({error!r})") from error
    skipped = [*layers.skipped, *_not_owned(cells, stored)]
    lstms = lstm_layers(model)
    refuse_many_layers(len(lstms), "the model config")
    if not lstms and not layers.skipped and cells:
        return None
    if not lstms and entry.package is not None:
        raise _no_lstm(file.name, skipped)
    chains = chains_of(model)
    return Checkpoint(
        layers=lstms,
        provenance=_provenance(file),
        skipped=tuple(skipped),
        edges=chains.edges,
        branching=chains.branching,
        joined={stack.name: tuple(layer.name for layer in stack.layers) for stack in stacks_of(model)},
        notes=tuple(dict.fromkeys(producer.notes)),
        unknown=producer.question if any(layer.recurrent_activation is None for layer in lstms) else None,
        model=model if entry.package is None else None,
    )


def _assigned(
    model: ModelEntry, producer: Producer, *, outside: bool
) -> tuple[Mapping[Entry, Sequence[Stored]], Mapping[Entry, str]]:
    """Return the arrays of every object of the config, and the path of each object in the file."""
    file = producer.file
    if file.kind == "saveable":
        return assign_saveable(file, model)
    version = producer.config.version if producer.config is not None else None
    counts = Counts(version or file.version)
    if file.objects is not None:
        return assign_tracked(file, file.objects, model, counts, producer.notes, outside=outside)
    if file.kind == "named":
        return assign_named(file, model, counts), {}
    if file.kind == "listed":
        return assign_listed(file, model, counts, version, producer.notes), {}
    return assign_legacy(file, model, counts, producer.notes, outside=outside), {}


def _not_owned(cells: Sequence[Cell], stored: Mapping[Entry, Sequence[Stored]]) -> list[Skipped]:
    """Name the LSTM cells in the file that no layer of the config owns."""
    owned = {each.array.path for arrays in stored.values() for each in arrays}
    return [
        Skipped(cell.where, cell.kind, "stored, and no LSTM layer of the config owns it")
        for cell in cells
        if cell.kind in LSTM_KINDS and not any(array.path in owned for array in cell.arrays.values())
    ]


def _discovered(cells: list[Cell], producer: Producer, options: ReadOptions) -> Checkpoint:
    """Read the layers of a file without a config, found by the file's own groups."""
    file = producer.file
    described = described_layers(cells, producer)
    found, skipped = discover(file, described.undescribed)
    skipped += described.skipped
    whole = described.layers.values()
    layers = [layer for each in whole for layer in (each.layers if isinstance(each, Stack) else (each,))]
    for each in found:
        try:
            layers.append(_alone(each, producer, options))
        except UnsupportedModelError as error:
            skipped.append(Skipped(each.name, each.class_name, str(error)))
    if not layers:
        raise _no_lstm(file.name, skipped)
    if options.merge_mode is not None and not any(layer.bidirectional for layer in layers):
        raise UsageError("no layer has two directions to merge; leave out --merge-mode", about=file.name)
    if file.record is not None and producer.config is None:
        return _restored(file, file.record, layers, skipped, options)
    if any(is_numbered(file.weights, cell.group) for each in found for cell in each.cells):
        producer.notes.append(
            f"{file.name}: Keras numbered its layers by class, as lstm and lstm_1, and their names in the model are "
            "not in the file; pass --config for them"
        )
    return Checkpoint(
        layers=tuple(layers),
        provenance=_provenance(file),
        skipped=tuple(skipped),
        notes=tuple(dict.fromkeys(producer.notes)),
        unknown=producer.question if any(layer.recurrent_activation is None for layer in layers) else None,
        joined={each.name: tuple(layer.name for layer in each.layers) for each in whole if isinstance(each, Stack)},
        assumed=bool(found),
    )


def _alone(found: Discovered, producer: Producer, options: ReadOptions) -> LSTMLayer:
    """Build a layer from its arrays and the user's options, without a config."""
    directions = [direction_of(found.name, None, cell, producer) for cell in found.cells]
    bidirectional = len(directions) == 2
    backwards = bool(options.go_backwards)
    ways = (backwards, not backwards)
    directions = [replace(each, go_backwards=way) for each, way in zip(directions, ways, strict=False)]
    left_open = {
        "return_sequences (assumed: every step)": "--last-step" if options.return_sequences is None else None,
        "go_backwards (assumed: forwards)": "--go-backwards" if options.go_backwards is None else None,
        "merge_mode (assumed: concat)": "--merge-mode" if bidirectional and options.merge_mode is None else None,
    }
    assumed = {what: flag for what, flag in left_open.items() if flag is not None}
    if assumed:
        flags = " or ".join(assumed.values())
        text = f"the file does not say {', '.join(assumed)}; pass {flags} where its model differs"
        producer.notes.append(LayerNote(found.name, text))
    return LSTMLayer(
        name=found.name,
        forward=directions[0],
        backward=directions[1] if bidirectional else None,
        merge_mode=cast("MergeMode", options.merge_mode or "concat"),
        return_sequences=options.return_sequences,
        zero_output_for_mask=producer.zero_output_for_mask(
            {"return_sequences": options.return_sequences is not False}, bidirectional=bidirectional
        ),
        class_name=found.class_name,
    )


def _provenance(file: KerasFile) -> Provenance:
    version = file.version.text if file.version else None
    return Provenance(file.name, file.hashed, file.description, version, file.backend, file.parts)


def _restored(
    file: KerasFile, record: Record, layers: Sequence[LSTMLayer], skipped: Sequence[Skipped], options: ReadOptions
) -> Checkpoint:
    """Complete weights without a config from lstmconv's record; a file that Keras saved again has no record."""
    modules = {layer.name: [layer] for layer in layers}
    paths = _container_names(record.layers)
    alone = replace(record, stacks=())
    restored = restore(modules, alone, file.name, lambda name: name if name in modules else paths[name])
    return overruled(
        Checkpoint(
            layers=restored.layers,
            provenance=Provenance(file.name, file.hashed, file.description, record.keras_version, file.backend),
            skipped=tuple(skipped),
            edges=restored.edges,
            notes=restored.notes,
        ),
        options,
    )


def _container_names(entries: Sequence[RecordedLayer]) -> dict[str, str]:
    """Return each recorded layer's name in a file that names layers by class and number (before Keras 3.6)."""
    counts: Counter[str] = Counter()
    named: dict[str, str] = {}
    for entry in entries:
        container = "bidirectional" if len(entry.directions) == 2 else "lstm"
        named[entry.name] = f"{container}_{counts[container]}" if counts[container] else container
        counts[container] += 1
    return named


def _no_lstm(name: str, skipped: Sequence[Skipped]) -> NoLSTMError:
    reason = "a Keras file without a recurrent layer; only LSTM layers convert"
    if skipped:
        reason = f"no LSTM layer that converts; found {'; '.join(entry.described for entry in skipped)}"
    return NoLSTMError(reason, skipped, about=name)
