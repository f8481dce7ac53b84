"""Join what a Keras file's config says with the arrays it holds: LSTM layers, or a stated reason why not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import ml_dtypes
import numpy as np

from lstmconv.activations import SIGMOID, TANH, Activation, parse_activation
from lstmconv.errors import UnreadableFileError, UnsupportedModelError
from lstmconv.formats.keras.cells import PER_GATE, Cell
from lstmconv.formats.keras.config import HalfSpec, LayerSpec, ModelSpec, read_model
from lstmconv.formats.keras.container import Config, KerasFile, open_config, open_file
from lstmconv.formats.keras.hdf5 import StoredArray
from lstmconv.formats.keras.legacy import group_names, legacy_cells
from lstmconv.formats.keras.saveable import OLDER_ROOT, saveable_cells, stored_path, user_name
from lstmconv.layouts import CUDNN_LSTM_LAYER, KERAS, KERAS_1
from lstmconv.model import Array, Checkpoint, Gates, LSTMDirection, LSTMLayer, MergeMode, Provenance, Skipped

__all__ = ["read"]

_LAYOUTS = {"LSTM": KERAS, "LSTM per gate": KERAS_1, "CuDNNLSTM": CUDNN_LSTM_LAYER}
"""The layout in which each kind of LSTM cell is stored; other kinds do not convert."""


@dataclass(frozen=True)
class _Overrides:
    activation: str | None
    recurrent_activation: str | None


@dataclass(frozen=True)
class _Matched:
    """One layer's description and its cells, forward first."""

    spec: LayerSpec
    cells: tuple[Cell, ...]


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
    overrides = _Overrides(activation, recurrent_activation)
    if spec is None or description is None:
        matched, skipped = _discover(file, cells)
        edges = None
    else:
        matched, skipped = _match(file, cells, spec, notes, outside=given is not None)
        edges = spec.edges
        _check_versions(description, file)
    layers: list[LSTMLayer] = []
    major = _major(description, file)
    for each in matched:
        try:
            layers.append(_layer(each, spec is not None, file, major, description, overrides, notes))
        except UnsupportedModelError as error:
            skipped.append(Skipped(each.spec.name, each.spec.class_name, str(error)))
    if not layers:
        raise UnsupportedModelError(_no_lstm(file, skipped))
    unknown = _unknown(file) if any(layer.recurrent_activation is None for layer in layers) else None
    provenance = Provenance(
        file.name, file.sha256, file.description, file.version.text if file.version else None, file.backend
    )
    kept = {layer.name for layer in layers}
    if edges is not None:
        edges = tuple(edge for edge in edges if kept.issuperset(edge))
    return Checkpoint(tuple(layers), provenance, tuple(skipped), edges, tuple(dict.fromkeys(notes)), unknown)


def _root(file: KerasFile) -> str:
    return OLDER_ROOT if OLDER_ROOT in file.weights.children else "layers"


def _no_lstm(file: KerasFile, skipped: Sequence[Skipped]) -> str:
    if not skipped:
        return f"{file.name}: a Keras file without a recurrent layer; only LSTM layers convert"
    found = "; ".join(f"{entry.name} ({entry.class_name}): {entry.reason}" for entry in skipped)
    return f"{file.name}: no LSTM layer that converts; found {found}"


# Matching


def _match(
    file: KerasFile, cells: list[Cell], spec: ModelSpec, notes: list[str], *, outside: bool
) -> tuple[list[_Matched], list[Skipped]]:
    """Give every layer of the config its arrays."""
    if file.kind == "saveable":
        matched = _match_by_path(file, cells, spec)
    elif outside and not {layer.group for layer in spec.layers} <= set(group_names(file.weights)):
        matched = _match_by_order(file, cells, spec, notes)
    else:
        matched = [pair for group in _groups(spec) for pair in _match_group(file, cells, spec, group)]
    used = {id(cell) for pair in matched for cell in pair.cells}
    named = {entry.name.split("/")[0] for entry in spec.skipped} if file.kind == "legacy" else set()
    skipped = list(spec.skipped)
    skipped += [
        Skipped(cell.where, cell.kind, "stored, and no LSTM layer of the config owns it")
        for cell in cells
        if id(cell) not in used and cell.kind in _LAYOUTS and cell.group not in named
    ]
    order = {id(layer): index for index, layer in enumerate(spec.layers)}
    return sorted(matched, key=lambda pair: order[id(pair.spec)]), skipped


def _groups(spec: ModelSpec) -> list[str]:
    return list(dict.fromkeys(layer.group for layer in spec.layers))


def _match_group(file: KerasFile, cells: list[Cell], spec: ModelSpec, group: str) -> list[_Matched]:
    """Match one top-level layer's cells: a plain layer's by order, a nested model's by name.

    Inside a nested model the arrays of frozen layers come last (trainable_weights first), so their
    order tells nothing; the names do.
    """
    layers = [layer for layer in spec.layers if layer.group == group]
    inside = [cell for cell in cells if cell.group == group and cell.kind in _LAYOUTS]
    halves = [(layer, half) for layer in layers for half in layer.halves]
    if len(inside) < len(halves):
        raise UnsupportedModelError(
            f"{file.name}: '{group}' holds {len(inside)} LSTM cells where the config has {len(halves)}"
        )
    chosen: dict[int, Cell] = {}
    if len(layers) > 1 or len(inside) > len(halves) or layers[0].name != group:
        chosen = _by_name(halves, inside)
    if len(chosen) < len(halves):
        if len(inside) != len(halves) or not all(
            _fits(half, cell) for (_, half), cell in zip(halves, inside, strict=True)
        ):
            raise UnsupportedModelError(
                f"{file.name}: cannot tell which arrays of '{group}' belong to which layer of the config: "
                f"{', '.join(cell.where for cell in inside)}"
            )
        chosen = dict(enumerate(inside))
    matched: list[_Matched] = []
    index = 0
    for layer in layers:
        own = tuple(chosen[index + k] for k in range(len(layer.halves)))
        matched.append(_Matched(layer, own))
        index += len(layer.halves)
    return matched


def _by_name(halves: Sequence[tuple[LayerSpec, HalfSpec]], cells: Sequence[Cell]) -> dict[int, Cell]:
    """Match halves to cells whose scope names them; only where each finds exactly one of its own."""
    chosen: dict[int, Cell] = {}
    for index, (layer, half) in enumerate(halves):
        wanted = [*layer.name.split("/")[1:], half.name]
        scores = [sum(part in cell.scope for part in wanted) if _fits(half, cell) else 0 for cell in cells]
        best = max(scores, default=0)
        if best and scores.count(best) == 1:
            chosen[index] = cells[scores.index(best)]
    distinct = {id(cell) for cell in chosen.values()}
    return chosen if len(distinct) == len(halves) else {}


def _match_by_order(file: KerasFile, cells: list[Cell], spec: ModelSpec, notes: list[str]) -> list[_Matched]:
    """Match a config whose layers are named otherwise by order, which is what Keras' load_weights does."""
    inside = [cell for cell in cells if cell.kind in _LAYOUTS]
    halves = [half for layer in spec.layers for half in layer.halves]
    if len(inside) != len(halves) or not all(_fits(half, cell) for half, cell in zip(halves, inside, strict=True)):
        found = ", ".join(f"{cell.where} ({cell.hidden_size} units)" for cell in inside)
        expected = ", ".join(f"{half.name} ({half.units} units)" for half in halves)
        raise UnsupportedModelError(
            f"{file.name}: the config does not belong to these weights: it has {expected or 'no LSTM'}, "
            f"the file {found or 'none'}"
        )
    matched: list[_Matched] = []
    for layer in spec.layers:
        own = tuple(inside.pop(0) for _ in layer.halves)
        notes.append(f"the config's layer '{layer.name}' is taken for '{own[0].group}' of the file, by order")
        matched.append(_Matched(layer, own))
    return matched


def _match_by_path(file: KerasFile, cells: list[Cell], spec: ModelSpec) -> list[_Matched]:
    """Match by the path that Keras gives each object; a shared layer is stored at its first visit only."""
    by_path = {cell.group: cell for cell in cells}
    first_visit: dict[str, tuple[Cell, ...]] = {}
    matched: list[_Matched] = []
    for layer in spec.layers:
        paths = [stored_path(file.weights, half.object_path) for half in layer.halves]
        own = tuple(by_path[path] for path in paths if path in by_path)
        last = layer.name.split("/")[-1]
        if len(own) < len(layer.halves):
            own = first_visit.get(last) or tuple(
                cell
                for cell in cells
                if user_name(file.weights, cell.group).split("/")[-1] == last and cell.kind in _LAYOUTS
            )
        if len(own) != len(layer.halves) or not all(map(_fits, layer.halves, own)):
            raise UnsupportedModelError(
                f"{file.name}: the config's layer '{layer.name}' should lie at '{paths[0]}', "
                f"where the file has no LSTM of {layer.halves[0].units} units"
            )
        first_visit.setdefault(last, own)
        matched.append(_Matched(layer, own))
    return matched


def _fits(half: HalfSpec, cell: Cell) -> bool:
    """Whether a cell can be the one that the config describes."""
    has_bias = "bias" in cell.arrays or "b_i" in cell.arrays
    return half.units in (None, cell.hidden_size) and half.use_bias == has_bias


# Without a config


def _discover(file: KerasFile, cells: list[Cell]) -> tuple[list[_Matched], list[Skipped]]:
    """Name the layers of a file without a config after its own groups."""
    named = [(_layer_name(file, cell, cells), cell) for cell in cells]
    skipped = [
        Skipped(name, cell.kind, "only LSTM layers convert" if cell.kind != "unknown" else "not an LSTM's arrays")
        for name, cell in named
        if cell.kind not in _LAYOUTS
    ]
    matched: list[_Matched] = []
    for name, cell in named:
        if cell.kind not in _LAYOUTS:
            continue
        if matched and matched[-1].spec.name == name and len(matched[-1].cells) == 1:
            spec = replace(matched[-1].spec, class_name=f"Bidirectional({cell.kind})")
            matched[-1] = _Matched(spec, (*matched[-1].cells, cell))
            continue
        spec = LayerSpec(name, "CuDNNLSTM" if cell.kind == "CuDNNLSTM" else "LSTM", (), {})
        matched.append(_Matched(spec, (cell,)))
    return matched, list(dict.fromkeys(skipped))


def _layer_name(file: KerasFile, cell: Cell, cells: list[Cell]) -> str:
    """Name a cell's layer; the two halves of a Bidirectional get the same name."""
    if file.kind == "saveable":
        return user_name(file.weights, cell.group)
    siblings = [other for other in cells if other.group == cell.group]
    halves = [other for other in siblings if _side(other) is not None]
    if len(siblings) == 1 or (len(siblings) == 2 and (len(halves) == 2 or not any(c.scope for c in siblings))):
        return cell.group
    inner = [part for part in cell.scope if part != cell.group]
    if len(inner) > 1 and inner[-1].startswith("lstm_cell") and "stacked_rnn_cells" not in inner:
        inner.pop()
    inner = [part for part in inner if not part.startswith(("forward_", "backward_"))] or inner
    return "/".join([cell.group, *inner])


def _side(cell: Cell) -> str | None:
    return next((part.split("_")[0] for part in cell.scope if part.startswith(("forward_", "backward_"))), None)


# Layers


def _layer(
    matched: _Matched,
    configured: bool,
    file: KerasFile,
    major: int | None,
    description: Config | None,
    overrides: _Overrides,
    notes: list[str],
) -> LSTMLayer:
    spec, options = matched.spec, matched.spec.options
    name = spec.name
    halves = spec.halves or (None,) * len(matched.cells)
    directions = [
        _direction(name, half, cell, major, file, overrides, notes)
        for half, cell in zip(halves, matched.cells, strict=True)
    ]
    sequences = bool(options.get("return_sequences", False)) if configured else None
    bidirectional = len(directions) == 2
    if not configured:
        directions[1:] = [replace(direction, go_backwards=True) for direction in directions[1:]]
        assumed = "return_sequences, go_backwards" + (", merge_mode" if bidirectional else "")
        meaning = "sequences, forwards" + (", concatenated halves" if bidirectional else "")
        notes.append(f"{name}: the file does not tell {assumed}; taken as {meaning}")
    return LSTMLayer(
        name=name,
        forward=directions[0],
        backward=directions[1] if bidirectional else None,
        merge_mode=cast(MergeMode, spec.merge_mode),
        return_sequences=sequences,
        return_state=bool(options.get("return_state", False)),
        stateful=bool(options.get("stateful", False)),
        masking=spec.masking,
        zero_output_for_mask=_zero_output(options, bidirectional, description),
        time_major=bool(options.get("time_major", False)),
        class_name=spec.class_name,
    )


def _zero_output(options: Mapping[str, Any], bidirectional: bool, description: Config | None) -> bool:
    """Whether masked steps return zeros.

    Bidirectional forces it to be return_sequences (tf_keras and keras 3 bidirectional.py
    force_zero_output_for_mask); keras-team Keras up to 2.3 has no such option and repeats outputs.
    """
    if not bidirectional:
        return bool(options.get("zero_output_for_mask", False))
    version = description.version if description is not None else None
    if version is not None and version.names_a_release and version.release < (2, 4):
        return False
    return bool(options.get("return_sequences", False))


def _direction(
    name: str,
    half: HalfSpec | None,
    cell: Cell,
    major: int | None,
    file: KerasFile,
    overrides: _Overrides,
    notes: list[str],
) -> LSTMDirection:
    cudnn = cell.kind == "CuDNNLSTM" if half is None else half.cudnn
    activation, recurrent = _activations(name, half, cudnn, major, file, overrides, notes)
    backwards = bool(half.config.get("go_backwards", False)) if half is not None else False
    return LSTMDirection(*_gates(cell, half, notes), activation, recurrent, backwards, _LAYOUTS[cell.kind].name)


def _gates(cell: Cell, half: HalfSpec | None, notes: list[str]) -> tuple[Gates, Gates, Gates | None, Gates | None]:
    """See a cell's arrays through the layout that they are stored in."""
    arrays = {name: _floats(array, half, notes) for name, array in cell.arrays.items()}
    _check_shapes(cell, arrays)
    if _LAYOUTS[cell.kind] is KERAS_1:
        per_gate = [[arrays[f"{letter}_{gate}"] for gate in "icfo"] for letter in "WUb"]
        return (
            KERAS_1.input_matrix.view(per_gate[0]),
            KERAS_1.recurrent_matrix.view(per_gate[1]),
            KERAS_1.one_bias.view(per_gate[2]),
            None,
        )
    layout = _LAYOUTS[cell.kind]
    hidden = arrays["recurrent_kernel"].shape[0]
    weight_ih = layout.input_matrix.view(arrays["kernel"], hidden)
    weight_hh = layout.recurrent_matrix.view(arrays["recurrent_kernel"], hidden)
    bias = arrays.get("bias")
    if bias is None:
        return weight_ih, weight_hh, None, None
    if layout is KERAS:
        return weight_ih, weight_hh, layout.one_bias.view(bias, hidden), None
    biases = [layout.one_bias.view(part, hidden) for part in np.split(bias, 2)]
    return weight_ih, weight_hh, biases[0], biases[1]


def _floats(array: StoredArray, half: HalfSpec | None, notes: list[str]) -> Array:
    """Return a floating array; an opaque one is bfloat16 only if nothing speaks against it."""
    values = array.load()
    if values.dtype == ml_dtypes.bfloat16:
        if array.attributes.get("dtype") == "bfloat16":
            return values
        policy = json.dumps(half.config.get("dtype")) if half is not None else None
        if policy is not None and "bfloat16" not in policy:
            raise UnreadableFileError(f"'{array.path}' is of two opaque bytes, and the config's dtype is {policy}")
        notes.append("weights of two opaque bytes are read as bfloat16, which is how Keras stores it")
        return values
    if values.dtype.kind != "f":
        raise UnsupportedModelError(f"'{array.path}' is {values.dtype}, expected floating-point weights")
    return values


def _check_shapes(cell: Cell, arrays: Mapping[str, Array]) -> None:
    """Check every array's shape against the recurrent kernel's H, before anything is viewed."""
    if cell.kind == "LSTM per gate":
        missing = [name for name in PER_GATE if name not in arrays]
        if missing:
            raise UnreadableFileError(f"'{cell.where}' lacks {', '.join(missing)}: a truncated file")
        inputs, hidden = arrays["W_i"].shape[0], arrays["U_i"].shape[0]
        expected: dict[str, tuple[int, ...]] = {f"W_{g}": (inputs, hidden) for g in "icfo"}
        expected |= {f"U_{g}": (hidden, hidden) for g in "icfo"} | {f"b_{g}": (hidden,) for g in "icfo"}
    else:
        missing = [name for name in ("kernel", "recurrent_kernel") if name not in arrays]
        if missing:
            raise UnreadableFileError(f"'{cell.where}' lacks {', '.join(missing)}: a truncated file")
        hidden = arrays["recurrent_kernel"].shape[0]
        inputs = arrays["kernel"].shape[0] if arrays["kernel"].ndim == 2 else 0
        blocks = 8 if cell.kind == "CuDNNLSTM" else 4
        expected = {
            "kernel": (inputs, 4 * hidden),
            "recurrent_kernel": (hidden, 4 * hidden),
            "bias": (blocks * hidden,),
        }
    for name, array in arrays.items():
        if array.shape != expected[name] or not inputs:
            raise UnreadableFileError(
                f"'{cell.where}/{name}' is {array.shape}, expected {expected[name]} for {hidden} units"
            )


def _activations(
    name: str,
    half: HalfSpec | None,
    cudnn: bool,
    major: int | None,
    file: KerasFile,
    overrides: _Overrides,
    notes: list[str],
) -> tuple[Activation | None, Activation | None]:
    """Return the exact activation and recurrent activation, ``None`` where nothing tells."""
    if cudnn:  # cuDNN computes nothing else.
        return TANH, SIGMOID
    stated: dict[str, object] = {}
    if half is not None:
        stated = {
            "activation": half.config.get("activation", "tanh"),
            "recurrent_activation": half.config.get("recurrent_activation", half.config.get("inner_activation")),
        }
    chosen: dict[str, Activation | None] = {}
    for key in ("activation", "recurrent_activation"):
        override = getattr(overrides, key)
        if override is not None:
            chosen[key] = parse_activation(override, major)
            was = f" instead of {stated[key]}" if key in stated else ""
            notes.append(f"{name}: {key} is {chosen[key]}{was}, as asked")
        elif half is not None:
            if (
                key == "recurrent_activation"
                and stated[key] is None
                and "inner_activation" not in half.config
                and ("recurrent_activation" not in half.config)
            ):
                raise UnsupportedModelError(f"{name}: the config does not state the {key}; pass --recurrent-activation")
            chosen[key] = parse_activation(stated[key], major)
        else:
            chosen[key] = None
    if half is None:
        _assume(name, chosen, file, notes)
    return chosen["activation"], chosen["recurrent_activation"]


def _assume(name: str, chosen: dict[str, Activation | None], file: KerasFile, notes: list[str]) -> None:
    """Fill in what a weights-only file leaves open, where its version allows an assumption.

    LSTM's default recurrent_activation is hard_sigmoid before keras-team 2.3.0 and in TF 1, sigmoid
    later; activation is tanh in all of them.
    """
    if chosen["recurrent_activation"] is None:
        version = file.version
        known = file.kind == "saveable" or (
            version is not None and version.names_a_release and version.release >= (2, 3)
        )
        if not known:
            return
        chosen["recurrent_activation"] = SIGMOID
        notes.append(f"{name}: the file does not tell its activations; sigmoid and tanh are assumed, Keras' defaults")
    if chosen["activation"] is None:
        chosen["activation"] = TANH


def _unknown(file: KerasFile) -> str:
    if file.version is None:
        writer = "Keras 1 or older"
    elif not file.version.names_a_release:
        writer = f"Keras {file.version.text}, which had LSTM classes of either default"
    else:
        writer = f"Keras {file.version.text}, before sigmoid became the default in 2.3"
    return (
        f"{file.name}: weights only, by {writer}, and they do not say the recurrent activation: "
        "pass --config model.json, or --recurrent-activation hard_sigmoid (the default then) or sigmoid"
    )


def _major(description: Config | None, file: KerasFile) -> int | None:
    """Return the producer's major version; legacy weights without any version are Keras 1's or older."""
    if description is not None and description.major is not None:
        return description.major
    if file.version is not None:
        return file.version.major
    return 1 if file.kind == "legacy" else None


def _check_versions(description: Config, file: KerasFile) -> None:
    """Refuse a config and weights of producers that mean different things by hard_sigmoid."""
    a, b = description.version, file.version
    if a is None or b is None or a.major is None or b.major is None:
        return
    if (a.major >= 3) != (b.major >= 3) and "hard_sigmoid" in json.dumps(description.model):
        raise UnsupportedModelError(
            f"{file.name}: weights by Keras {b.text}, config by Keras {a.text}, which compute hard_sigmoid "
            "differently: pass --recurrent-activation hard_sigmoid_keras2 or hard_sigmoid_keras3 without --config"
        )
