"""Describe a checkpoint: what each array is, where its gates lie, and which target can hold it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lstmconv.activations import describe_activation
from lstmconv.errors import MissingDependencyError
from lstmconv.explaining.overview import overview, to_json
from lstmconv.formats import TARGETS, Format
from lstmconv.layouts import Layout, by_name
from lstmconv.model import Checkpoint, LSTMDirection, LSTMLayer, Stack

__all__ = ["describe_checkpoint", "describe_layer", "describe_options", "kind_text", "returns_text"]


def describe_checkpoint(checkpoint: Checkpoint, *, hashed: bool = True) -> dict[str, Any]:
    """Return everything ``lstmconv inspect`` shows, as plain data; docs/json.md documents the fields.

    Args:
        checkpoint: What a file holds.
        hashed: Include the file's hash, which takes long for a large file.
    """
    origin = checkpoint.provenance
    whole = overview(checkpoint)
    return {
        "source": origin.source,
        "sha256": origin.sha256 if hashed else None,
        "format": origin.format,
        "keras_version": origin.keras_version,
        "backend": origin.backend,
        "model": None if whole is None else to_json(whole),
        "layers": [_layer(layer, checkpoint.question) for layer in checkpoint.layers],
        "skipped": [
            {"name": entry.name, "class_name": entry.class_name, "reason": entry.reason} for entry in checkpoint.skipped
        ],
        "stacks": [
            {"name": stack.name, "layers": [layer.name for layer in stack.layers]} for stack in checkpoint.stacks
        ],
        "edges": None if checkpoint.edges is None else [list(edge) for edge in checkpoint.edges],
        "notes": list(checkpoint.notes),
        "unknown": checkpoint.question,
    }


def describe_layer(layer: LSTMLayer) -> dict[str, Any]:
    """Return what ``inspect`` and ``explain`` say of a layer alike."""
    return {
        "name": layer.name,
        "class_name": layer.class_name,
        "input_size": layer.input_size,
        "hidden_size": layer.hidden_size,
        "dtype": str(layer.dtype),
        "merge_mode": layer.merge_mode if layer.bidirectional else None,
    }


def describe_options(direction: LSTMDirection) -> dict[str, Any]:
    """Return what ``inspect`` and ``explain`` say alike of what a direction computes."""
    return {
        "activation": describe_activation(direction.activation),
        "recurrent_activation": describe_activation(direction.recurrent_activation),
        "go_backwards": direction.go_backwards,
    }


def kind_text(described: Mapping[str, Any]) -> str:
    """Name the kind of a layer that :func:`describe_layer` described: ``Bidirectional(LSTM), merge concat``."""
    merge = described["merge_mode"]
    return str(described["class_name"]) + ("" if merge is None else f", merge {merge}")


def returns_text(described: Mapping[str, Any]) -> str:
    """Say what a layer of :func:`describe_checkpoint` returns, and what else is set: ``every step, stateful``."""
    steps = {True: "every step", False: "the last step", None: "unknown"}[described["return_sequences"]]
    flags = ("return_state", "stateful", "masking", "time_major")
    return ", ".join([steps, *(flag for flag in flags if described[flag])])


def _layer(layer: LSTMLayer, unknown: str | None) -> dict[str, Any]:
    return {
        **describe_layer(layer),
        "return_sequences": layer.return_sequences,
        "return_state": layer.return_state,
        "stateful": layer.stateful,
        "masking": layer.masking,
        "time_major": layer.time_major,
        "directions": [_direction(direction) for direction in layer.directions],
        "targets": {entry.name: _target(entry, layer, unknown) for entry in TARGETS},
    }


def _direction(direction: LSTMDirection) -> dict[str, Any]:
    row = by_name(direction.layout)
    hidden, features = direction.hidden_size, direction.input_size
    biases = [name for name in ("bias_ih", "bias_hh") if name in direction.arrays]
    shapes = [list(pattern.shape(hidden, features)) for pattern in (row.input_matrix, row.recurrent_matrix)]
    return {
        "layout": row.name,
        "arrays": dict(zip(row.arrays, shapes, strict=False))
        | ({row.arrays[2]: [4 * hidden * len(biases)]} if biases else {}),
        "gate_order": row.gates,
        "gate_axis": _gate_axis(row),
        "gate_ranges": {gate: [k * hidden, (k + 1) * hidden] for k, gate in enumerate(row.gates)},
        "biases": len(biases),
        "forget_bias": _forget_bias(direction),
        **describe_options(direction),
        "activations": f"{direction.activation or 'unknown'}, recurrent {direction.recurrent_activation or 'unknown'}",
    }


def _gate_axis(row: Layout) -> str:
    """Return the axis of the matrices along which the gates lie."""
    matrix = row.recurrent_matrix
    if matrix.gate_axis is None:
        return "arrays"
    if len(matrix.shape(hidden=1, features=1)) == 1:
        return "units"  # One flat buffer: gate, then unit, then column.
    return "rows" if matrix.gate_axis == 0 else "columns"


def _forget_bias(direction: LSTMDirection) -> dict[str, float] | None:
    """Summarise the stored forget bias; two biases are summed."""
    with np.errstate(all="ignore"):  # NaN and infinities are shown as what they are.
        parts = [np.asarray(b.f, np.float64) for b in (direction.bias_ih, direction.bias_hh) if b is not None]
        if not parts:
            return None
        total = np.sum(parts, axis=0)
        return {"mean": float(total.mean()), "min": float(total.min()), "max": float(total.max())}


def _target(entry: Format, layer: LSTMLayer, unknown: str | None) -> dict[str, Any]:
    """Return whether a format can hold a layer, and in what form."""
    if unknown is not None:
        return {"possible": False, "note": "the activations are unknown; pass --config or --recurrent-activation"}
    try:
        reason = entry.obstacle(Stack(layer.name, (layer,)))
    except MissingDependencyError as error:
        reason = str(error)
    if reason is not None:
        return {"possible": False, "note": reason}
    return {"possible": True, "note": entry.terms(layer)}
