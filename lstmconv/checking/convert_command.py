"""The command that repeats a conversion, with the options in the twin's record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lstmconv.activations import HARD_SIGMOID_KERAS_2, HARD_SIGMOID_KERAS_3, Activation
from lstmconv.checking.file_cache import CheckedFile
from lstmconv.errors import LstmconvError, UsageError
from lstmconv.formats import by_name, by_suffix
from lstmconv.formats.provenance import described_activation
from lstmconv.model import Checkpoint

__all__ = ["convert_command"]

_BY_FLAG = {HARD_SIGMOID_KERAS_2: "hard_sigmoid_keras2", HARD_SIGMOID_KERAS_3: "hard_sigmoid_keras3"}
_DEFAULT_OPSET = {True: 22, False: 14}
"""The operator set that ``convert`` chooses, with and without bfloat16."""


def convert_command(
    source: Path, target: Path, original: CheckedFile | None = None, twin: CheckedFile | None = None
) -> str:
    """Return the ``lstmconv convert`` command for a target, with the options in the twin's record.

    Args:
        source: The source's path in the command.
        target: The target's path in the command.
        original: The source's content.
        twin: The target's content until now; without it, the command has no options.
    """
    parts = ["lstmconv", "convert", str(source), str(target)]
    if original is not None and twin is not None and twin.record is not None and original.checkpoint is not None:
        try:
            options = [
                *_options(original.checkpoint, twin, twin.record),
                *_activations(original.checkpoint, twin.record),
            ]
        except (LstmconvError, AttributeError, KeyError, TypeError):  # The record was edited.
            options = []
        parts += options
    if twin is not None:
        parts += [*_format(target, twin), "--force"]
    import shlex

    return shlex.join(parts)


def _options(source: Checkpoint, twin: CheckedFile, record: Mapping[str, Any]) -> Iterator[str]:
    origins = {str(entry["name"]): str(entry["source"]) for entry in record["layers"]}
    known = [layer.name for layer in source.layers]
    chosen = [name for name in known if name in origins.values()]
    if chosen and (len(chosen) < len(known) or record.get("prefix") is False):
        for name in chosen:
            yield from ("--layer", name)
    stacks = {name: tuple(origins.get(layer, layer) for layer in layers) for name, layers in _stacks(record).items()}
    yield from _renames(source, origins, stacks)
    joined = {layers for layers in stacks.values() if len(layers) > 1}
    stored = {tuple(names) for names in source.joined.values() if set(names) <= set(chosen)}
    if joined != stored:
        yield "--stack=none" if not joined else "--stack" if len(stacks) == 1 else "--stack=partial"
    for key in ("dtype", "bias_mode"):
        if isinstance(record.get(key), str):
            yield from (f"--{key.replace('_', '-')}", str(record[key]))
    if twin.format.name == "onnx":
        yield from _onnx(twin, record, next(iter(stacks)))
    if twin.format.name == "keras":
        yield from _keras(twin)


def _stacks(record: Mapping[str, Any]) -> dict[str, list[str]]:
    stacks = record.get("stacks") or [{"name": entry["name"], "layers": [entry["name"]]} for entry in record["layers"]]
    return {str(stack["name"]): [str(name) for name in stack["layers"]] for stack in stacks}


def _renames(source: Checkpoint, origins: Mapping[str, str], stacks: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Yield the renames; renaming a stack of the source also renames its layers."""
    stack_of = {tuple(names): stack for stack, names in source.joined.items()}
    renamed = {stack_of[layers]: name for name, layers in stacks.items() if layers in stack_of}
    within = {layer for layers in stacks.values() if layers in stack_of for layer in layers}
    known = {layer.name for layer in source.layers} - within
    renamed |= {origin: name for name, origin in origins.items() if origin in known}
    for old, new in renamed.items():
        if old != new:
            yield from ("--rename", f"{old}={new}")


def _onnx(twin: CheckedFile, record: Mapping[str, Any], name: str) -> Iterator[str]:
    """Yield the options that the graph itself shows."""
    import onnx

    model = onnx.load(str(twin.path), load_external_data=False)
    accepted = twin.format.load_runtime().accepts(twin.path, name)
    stateful = any(entry.get("stateful") for entry in record["layers"])
    if ("states" in accepted) != stateful:
        yield "--states" if "states" in accepted else "--no-states"
    if "lengths" in accepted:
        yield "--lengths"
    opset = next((entry.version for entry in model.opset_import if not entry.domain), 0)
    bfloat16 = twin.checkpoint is not None and any(layer.dtype.name == "bfloat16" for layer in twin.checkpoint.layers)
    if opset != _DEFAULT_OPSET[bfloat16]:
        yield from ("--opset", str(opset))


def _keras(twin: CheckedFile) -> Iterator[str]:
    if twin.checkpoint is None:
        return
    origin = twin.checkpoint.provenance
    if origin.format == "Keras HDF5 (weights only)":
        yield "--weights-only"
    if (origin.keras_version or "").startswith("2"):
        yield from ("--keras-version", "2")


def _activations(source: Checkpoint, record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the activations that the user gave, if the source does not say them or the user replaced them."""
    overruled = any(str(note).endswith("as asked") for note in record.get("notes") or [])
    if source.unknown is None and not overruled:
        return
    for key in ("activation", "recurrent_activation"):
        used = {described_activation(half.get(key)) for entry in record["layers"] for half in entry["directions"]}
        stated = {getattr(half, key) for layer in source.layers for half in layer.directions}
        chosen = used.pop() if len(used) == 1 else None
        if chosen is not None and stated != {chosen} and not (key == "activation" and chosen.name == "tanh"):
            yield from (f"--{key.replace('_', '-')}", _flag(chosen))


def _flag(activation: Activation) -> str:
    return _BY_FLAG.get(activation, activation.name)


def _format(target: Path, twin: CheckedFile) -> Iterator[str]:
    """Yield the format if the target's suffix means another one."""
    try:
        meant = by_suffix(target)
    except UsageError:
        meant = None
    if meant != by_name(twin.format.name):
        yield from ("--to", twin.format.name)
