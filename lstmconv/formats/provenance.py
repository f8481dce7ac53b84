"""What every written file says of itself: source, hash, layers, activations; one JSON object."""

from __future__ import annotations

import json
from typing import Any

from lstmconv._version import __version__
from lstmconv.activations import Activation
from lstmconv.errors import UnsupportedModelError
from lstmconv.formats import WriteOptions
from lstmconv.model import Checkpoint, LSTMDirection, LSTMLayer

__all__ = ["KEY", "describe", "describe_activation", "encoded", "require_known"]

KEY = "lstmconv"
"""Under this name the JSON stands in ONNX' metadata_props, in safetensors' ``__metadata__``, and in a
``.pt`` archive as the record ``extra/lstmconv.json``."""


def require_known(checkpoint: Checkpoint) -> None:
    """Refuse to write what nobody knows how to compute.

    Raises:
        UnsupportedModelError: An activation is unknown.
    """
    if checkpoint.unknown is not None:
        raise UnsupportedModelError(checkpoint.unknown)


def describe_activation(activation: Activation | None) -> dict[str, Any] | None:
    """Return an activation as JSON: ``{"name": "hard_sigmoid", "alpha": 0.2, "beta": 0.5}``."""
    if activation is None:
        return None
    finite = {key: value if abs(value) < float("inf") else None for key, value in activation.parameters}
    return {"name": activation.name, **finite}


def _direction(direction: LSTMDirection) -> dict[str, Any]:
    return {
        "hidden_size": direction.hidden_size,
        "activation": describe_activation(direction.activation),
        "recurrent_activation": describe_activation(direction.recurrent_activation),
        "go_backwards": direction.go_backwards,
        "biases": [name for name in ("bias_ih", "bias_hh") if name in direction.arrays],
    }


def _layer(layer: LSTMLayer, source: str) -> dict[str, Any]:
    return {
        "name": layer.name,
        "source": source,
        "class_name": layer.class_name,
        "input_size": layer.input_size,
        "dtype": str(layer.dtype),
        "directions": [_direction(direction) for direction in layer.directions],
        "merge_mode": layer.merge_mode if layer.bidirectional else None,
        "return_sequences": layer.return_sequences,
        "return_state": layer.return_state,
        "stateful": layer.stateful,
        "masking": layer.masking,
        "zero_output_for_mask": layer.zero_output_for_mask,
        "time_major": layer.time_major,
    }


def describe(checkpoint: Checkpoint, options: WriteOptions) -> dict[str, Any]:
    """Return the provenance of a file about to be written."""
    origin = checkpoint.provenance
    sources = options.sources or {}
    return {
        "version": __version__,
        "source": origin.source,
        "sha256": origin.sha256,
        "format": origin.format,
        "keras_version": origin.keras_version,
        "layers": [_layer(layer, sources.get(layer.name, layer.name)) for layer in checkpoint.layers],
        "edges": None if checkpoint.edges is None else [list(edge) for edge in checkpoint.edges],
        "dtype": options.dtype,
        "bias_mode": options.bias_mode,
        "prefix": options.prefix,
        "notes": list(checkpoint.notes),
    }


def encoded(checkpoint: Checkpoint, options: WriteOptions) -> str:
    """Return :func:`describe` as one line of JSON."""
    return json.dumps(describe(checkpoint, options), ensure_ascii=True)
