"""Join what a Keras file's config says with the arrays it holds: LSTM layers, or a stated reason why not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from lstmconv.errors import NoLSTMError, UnsupportedModelError
from lstmconv.formats import ReadOptions
from lstmconv.formats.keras.reader.cells import Cell
from lstmconv.formats.keras.reader.cells_legacy import legacy_cells
from lstmconv.formats.keras.reader.cells_saveable import OLDER_ROOT, saveable_cells
from lstmconv.formats.keras.reader.matching import Matched, discover, match
from lstmconv.formats.keras.reader.model_config import HalfSpec, read_model
from lstmconv.formats.keras.reader.open_file import KerasFile, open_config, open_file
from lstmconv.formats.keras.reader.producer import Producer
from lstmconv.formats.keras.reader.views import CELL_LAYOUTS, view_cell
from lstmconv.formats.overrides import overruled
from lstmconv.formats.provenance import restore
from lstmconv.model import Checkpoint, LSTMDirection, LSTMLayer, MergeMode, Provenance, Skipped

__all__ = ["read"]


def read(
    path: Path,
    *,
    config: Path | None = None,
    activation: str | None = None,
    recurrent_activation: str | None = None,
) -> Checkpoint:
    """Read every LSTM layer of a Keras file of any generation.

    Args:
        path: A ``.h5``, ``.keras`` (zip or folder), ``.weights.h5`` or ``.weights.json``; what it is
            is decided by its content.
        config: A ``model.to_json()`` file, or a Keras file with a config in it, for weights-only files.
        activation: Overrules the candidate's and the output's activation.
        recurrent_activation: Overrules the gates' activation.

    Raises:
        UnreadableFileError: Not a Keras file, or a damaged one.
        UnsupportedModelError: No LSTM in it, or config and weights do not belong together.
    """
    file = open_file(path)
    given = open_config(config) if config is not None else None
    description = given or file.config
    cells = legacy_cells(file.weights) if file.kind == "legacy" else saveable_cells(file.weights)
    notes: list[str] = []
    spec = None if description is None else read_model(description.model, _root(file))
    if spec is not None and not spec.layers and not spec.skipped and cells:
        notes.append("the config names no LSTM (a model class of its own?); layers are found by their arrays")
        spec = None
    producer = Producer(file, None if spec is None else description, activation, recurrent_activation, notes)
    if spec is None:
        matched, skipped = discover(file, cells)
    else:
        matched, skipped = match(file, cells, spec, notes, outside=given is not None)
    layers: list[LSTMLayer] = []
    for each in matched:
        try:
            layers.append(_layer(each, producer))
        except UnsupportedModelError as error:
            skipped.append(Skipped(each.spec.name, each.spec.class_name, str(error)))
    if not layers:
        raise NoLSTMError(_no_lstm(file, skipped), skipped)
    if spec is None and file.noted is not None:
        return _restored(file, layers, skipped, ReadOptions(None, activation, recurrent_activation))
    kept = {layer.name for layer in layers}
    return Checkpoint(
        layers=tuple(layers),
        provenance=Provenance(
            file.name,
            file.hashed,
            file.description,
            file.version.text if file.version else None,
            file.backend,
            file.parts,
        ),
        skipped=tuple(skipped),
        edges=None if spec is None else tuple(edge for edge in spec.edges if kept.issuperset(edge)),
        branching=() if spec is None else tuple(name for name in spec.branching if name in kept),
        notes=tuple(dict.fromkeys(notes)),
        unknown=producer.question if any(layer.recurrent_activation is None for layer in layers) else None,
    )


def _restored(
    file: KerasFile, layers: Sequence[LSTMLayer], skipped: Sequence[Skipped], options: ReadOptions
) -> Checkpoint:
    """Describe weights alone by what lstmconv noted when it wrote them; Keras itself drops the note."""
    noted = file.noted or {"layers": []}
    modules = {layer.name: [layer] for layer in layers}
    paths = _container_names(noted["layers"])
    restored = restore(modules, {**noted, "stacks": None}, lambda name: name if name in modules else paths[name])
    return overruled(
        Checkpoint(
            layers=restored.layers,
            provenance=Provenance(file.name, file.hashed, file.description, noted.get("keras_version"), file.backend),
            skipped=tuple(skipped),
            edges=restored.edges,
            notes=restored.notes,
        ),
        options,
    )


def _container_names(entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return each noted layer's name in a file that names layers by class and number (before Keras 3.6)."""
    counts: Counter[str] = Counter()
    named: dict[str, str] = {}
    for entry in entries:
        container = "bidirectional" if len(entry["directions"]) == 2 else "lstm"
        named[entry["name"]] = f"{container}_{counts[container]}" if counts[container] else container
        counts[container] += 1
    return named


def _root(file: KerasFile) -> str:
    return OLDER_ROOT if OLDER_ROOT in file.weights.children else "layers"


def _no_lstm(file: KerasFile, skipped: Sequence[Skipped]) -> str:
    if not skipped:
        return f"{file.name}: a Keras file without a recurrent layer; only LSTM layers convert"
    found = "; ".join(f"{entry.name} ({entry.class_name}): {entry.reason}" for entry in skipped)
    return f"{file.name}: no LSTM layer that converts; found {found}"


def _layer(matched: Matched, producer: Producer) -> LSTMLayer:
    """Build one layer from its description and its cells."""
    spec, options = matched.spec, matched.spec.options
    halves = spec.halves or (None,) * len(matched.cells)
    directions = [_direction(spec.name, half, cell, producer) for half, cell in zip(halves, matched.cells, strict=True)]
    bidirectional = len(directions) == 2
    if producer.config is None:
        directions[1:] = [replace(direction, go_backwards=True) for direction in directions[1:]]
        assumed = "return_sequences, go_backwards" + (", merge_mode" if bidirectional else "")
        meaning = "sequences, forwards" + (", concatenated halves" if bidirectional else "")
        producer.notes.append(f"{spec.name}: the file does not tell {assumed}; taken as {meaning}")
    return LSTMLayer(
        name=spec.name,
        forward=directions[0],
        backward=directions[1] if bidirectional else None,
        merge_mode=cast(MergeMode, spec.merge_mode),
        return_sequences=None if producer.config is None else bool(options.get("return_sequences", False)),
        return_state=bool(options.get("return_state", False)),
        stateful=bool(options.get("stateful", False)),
        masking=spec.masking,
        zero_output_for_mask=producer.zero_output_for_mask(options, bidirectional=bidirectional),
        time_major=bool(options.get("time_major", False)),
        class_name=spec.class_name,
    )


def _direction(name: str, half: HalfSpec | None, cell: Cell, producer: Producer) -> LSTMDirection:
    cudnn = cell.kind == "CuDNNLSTM" if half is None else half.cudnn
    activation, recurrent = producer.activations(name, half, cudnn=cudnn)
    backwards = bool(half.config.get("go_backwards", False)) if half is not None else False
    gates = view_cell(cell, half, producer.notes)
    return LSTMDirection(*gates, activation, recurrent, backwards, CELL_LAYOUTS[cell.kind].name)
