"""Activations that the user gives in place of the file's."""

from __future__ import annotations

from dataclasses import replace

from lstmconv.activations import parse_activation
from lstmconv.formats.options import ReadOptions
from lstmconv.model import Checkpoint, LSTMLayer
from lstmconv.model.notes import LayerNote

__all__ = ["overruled"]


def overruled(checkpoint: Checkpoint, options: ReadOptions) -> Checkpoint:
    """Replace all layers' activations with those that the user gives, and note each replacement."""
    chosen = {
        key: parse_activation(value, None)
        for key in ("activation", "recurrent_activation")
        if (value := getattr(options, key)) is not None
    }
    if not chosen:
        return checkpoint
    layers: list[LSTMLayer] = []
    notes = list(checkpoint.notes)
    for layer in checkpoint.layers:
        halves = [replace(half, **chosen) for half in layer.directions]  # type: ignore[arg-type]  # both are Activations
        layers.append(layer.with_directions(halves))
        notes += [
            LayerNote(layer.name, f"{key} is {value} instead of {getattr(layer, key)}, as asked")
            for key, value in chosen.items()
        ]
    if checkpoint.model is not None:
        notes.append("the whole model is not used: the file states other activations than the options")
    return replace(checkpoint, layers=tuple(layers), notes=tuple(notes), model=None)
