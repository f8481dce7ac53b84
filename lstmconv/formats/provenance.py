"""What every written file says of itself: source, hash, layers, activations; one JSON object."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple, get_args

from lstmconv._version import __version__
from lstmconv.activations import ACTIVATIONS, Activation
from lstmconv.errors import UnreadableFileError, UnsupportedModelError
from lstmconv.formats import WriteOptions
from lstmconv.formats.safety.limits import parse_json
from lstmconv.model import Checkpoint, LSTMDirection, LSTMLayer, MergeMode

__all__ = [
    "KEY",
    "Restored",
    "describe",
    "describe_activation",
    "described_activation",
    "encoded",
    "parsed",
    "require_known",
    "restore",
]

KEY = "lstmconv"
"""Under this name the JSON stands in ONNX' metadata_props, in safetensors' ``__metadata__``, and in a
``.pt`` archive as the record ``extra/lstmconv.json``."""


def parsed(text: str | bytes | None) -> Mapping[str, Any] | None:
    """Return what :func:`encoded` wrote; ``None`` for anything else, which is not ours to trust."""
    try:
        found = None if text is None else parse_json(text, KEY)
    except UnreadableFileError:
        return None
    return found if _has_our_form(found) else None


def _has_our_form(found: Any) -> bool:
    """Whether every entry that is read back is of the type that :func:`describe` gives it."""
    if not isinstance(found, dict) or not isinstance(found.get("layers"), list):
        return False
    if not isinstance(found.get("keras_version"), str | None) or not isinstance(found.get("prefix", True), bool):
        return False
    stacks, edges = found.get("stacks"), found.get("edges")
    return (
        all(map(_is_noted_layer, found["layers"]))
        and (stacks is None or (isinstance(stacks, list) and all(map(_is_noted_stack, stacks))))
        and (edges is None or (isinstance(edges, list) and all(_are_texts(pair) and len(pair) == 2 for pair in edges)))
    )


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _is_noted_stack(stack: Any) -> bool:
    return isinstance(stack, dict) and isinstance(stack.get("name"), str) and _are_texts(stack.get("layers"))


def _is_noted_layer(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("directions"), list):
        return False
    texts = all(isinstance(entry.get(key), str) for key in ("name", "class_name"))
    # zero_output_for_mask and the like are True, False, or None where nobody knows.
    options = all(key in entry and isinstance(entry[key], bool | None) for key in _OPTIONS if key != "class_name")
    modes = entry.get("merge_mode", "") in (None, *get_args(MergeMode))
    return texts and options and modes and all(map(_is_noted_direction, entry["directions"]))


def _is_noted_direction(half: Any) -> bool:
    activations = ("activation", "recurrent_activation")
    return (
        isinstance(half, dict)
        and isinstance(half.get("go_backwards"), bool)
        and all(key in half and isinstance(half[key], dict | None) for key in activations)
    )


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


def described_activation(described: Mapping[str, Any] | None) -> Activation | None:
    """Return the activation that :func:`describe_activation` described.

    Raises:
        UnsupportedModelError: A name or a number that this version does not know.
    """
    if described is None:
        return None
    name = str(described.get("name"))
    if name not in ACTIVATIONS:
        raise UnsupportedModelError(f"the file names the activation {name!r}, which this version does not know")
    try:
        numbers = [(key, described[key]) for key in ACTIVATIONS[name].defaults]
        return Activation(name, tuple((key, math.inf if value is None else float(value)) for key, value in numbers))
    except (KeyError, TypeError, ValueError) as error:
        raise UnsupportedModelError(f"the file describes the activation {name} with {described}") from error


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
        "stacks": [
            {"name": stack.name, "layers": [layer.name for layer in stack.layers]} for stack in checkpoint.stacks
        ],
        "edges": None if checkpoint.edges is None else [list(edge) for edge in checkpoint.edges],
        "dtype": options.dtype,
        "bias_mode": options.bias_mode,
        "prefix": options.prefix,
        "notes": list(checkpoint.notes),
    }


def encoded(checkpoint: Checkpoint, options: WriteOptions) -> str:
    """Return :func:`describe` as one line of JSON."""
    return json.dumps(describe(checkpoint, options), ensure_ascii=True)


class Restored(NamedTuple):
    """A file's layers with what its provenance says of them; the fields are those of a Checkpoint."""

    layers: tuple[LSTMLayer, ...]
    joined: Mapping[str, tuple[str, ...]]
    edges: tuple[tuple[str, str], ...] | None
    notes: tuple[str, ...]


def restore(
    modules: Mapping[str, Sequence[LSTMLayer]],
    noted: Mapping[str, Any] | None,
    key: Callable[[str], str] = lambda name: name,
) -> Restored:
    """Give the layers of a file the names and options that were noted when it was written.

    Weights and sizes are the file's own: where the notes do not fit them, the notes are left aside, and
    that is noted.

    Args:
        modules: The file's modules by their names in it, each with its layers.
        noted: The provenance, or ``None`` for a file that something else wrote.
        key: The module's name in the file for a noted stack's name.
    """
    described = _by_module(noted, key)
    layers: list[LSTMLayer] = []
    joined: dict[str, tuple[str, ...]] = {}
    notes: list[str] = []
    for module, own in modules.items():
        stack, entries = described.get(module, (module, []))
        if len(entries) == len(own) and all(map(_fits, own, entries)):
            own = [_restored(layer, entry) for layer, entry in zip(own, entries, strict=True)]
        elif noted is not None:
            notes.append(f"{module or 'the module'}: the file's own notes do not describe its weights; left aside")
        layers += own
        if len(own) > 1:
            joined[stack] = tuple(layer.name for layer in own)
    names = {layer.name for layer in layers}
    pairs = noted.get("edges") if noted is not None else None
    edges = None if pairs is None else tuple((a, b) for a, b in pairs if a in names and b in names)
    if edges is None and all(len(own) == 1 for own in modules.values()) and not joined:
        return Restored(tuple(layers), joined, None, tuple(notes))
    chained = tuple(pair for inside in joined.values() for pair in pairwise(inside))
    return Restored(tuple(layers), joined, tuple(dict.fromkeys([*(edges or ()), *chained])), tuple(notes))


def _by_module(
    noted: Mapping[str, Any] | None, key: Callable[[str], str]
) -> dict[str, tuple[str, list[Mapping[str, Any]]]]:
    """Return each noted stack's name and layers by the name of its module in the file."""
    if noted is None:
        return {}
    try:
        layers = {entry["name"]: entry for entry in noted["layers"]}
        stacks = noted.get("stacks") or [{"name": name, "layers": [name]} for name in layers]
        return {key(stack["name"]): (stack["name"], [layers[name] for name in stack["layers"]]) for stack in stacks}
    except (KeyError, TypeError, AttributeError):
        return {}


def _fits(layer: LSTMLayer, entry: Mapping[str, Any]) -> bool:
    directions = entry.get("directions") or []
    sizes = [direction.get("hidden_size") for direction in directions]
    return entry.get("input_size") == layer.input_size and sizes == [half.hidden_size for half in layer.directions]


def _restored(layer: LSTMLayer, entry: Mapping[str, Any]) -> LSTMLayer:
    halves = [
        replace(
            half,
            activation=described_activation(noted["activation"]),
            recurrent_activation=described_activation(noted["recurrent_activation"]),
            go_backwards=bool(noted["go_backwards"]),
        )
        for half, noted in zip(layer.directions, entry["directions"], strict=True)
    ]
    return replace(
        layer,
        name=entry["name"],
        forward=halves[0],
        backward=halves[1] if layer.bidirectional else None,
        merge_mode=entry["merge_mode"] or "concat",
        **{key: entry[key] for key in _OPTIONS},
    )


_OPTIONS = (
    "return_sequences",
    "return_state",
    "stateful",
    "masking",
    "zero_output_for_mask",
    "time_major",
    "class_name",
)
