"""The command that repeats a conversion, with the options in the twin's record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lstmconv.activations import HARD_SIGMOID_KERAS_2, HARD_SIGMOID_KERAS_3, Activation, described_activation
from lstmconv.checking.file_cache import CheckedFile
from lstmconv.formats import format_of_name
from lstmconv.formats.record import Record
from lstmconv.model import Checkpoint
from lstmconv.selection import obstacle_of

__all__ = ["convert_command"]

_BY_FLAG = {HARD_SIGMOID_KERAS_2: "hard_sigmoid_keras2", HARD_SIGMOID_KERAS_3: "hard_sigmoid_keras3"}


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
        options = _whole(twin.record) if twin.record.scope == "whole" else _layers(original.checkpoint, twin)
        parts += [*options, *_written(twin.record), *_activations(original.checkpoint, twin.record)]
        parts += _wiring(twin.record) if original.checkpoint.assumed else []
    if twin is not None:
        parts += [*_format(target, twin), "--force"]
    import shlex

    return shlex.join(parts)


def _whole(record: Record) -> Iterator[str]:
    """Yield the renames of a whole model."""
    for new, old in record.sources.items():
        yield from ("--rename", f"{old}={new}")


def _layers(source: Checkpoint, twin: CheckedFile) -> Iterator[str]:
    """Yield what chooses, names and joins LSTM layers; alone, where the whole model would now be written."""
    record, artifact = twin.record, twin.artifact
    if record is None or artifact is None:
        return
    chosen, stacking = _chosen(source, record), _stacking(source, record)
    implied = record.lengths or chosen or stacking
    if not implied and obstacle_of(source, artifact.format, record.options, artifact.path) is None:
        yield "--lstm-only"
    for name in chosen:
        yield from ("--layer", name)
    yield from _renames(source, record)
    if stacking is not None:
        yield stacking


def _written_from(source: Checkpoint, record: Record) -> list[str]:
    """Return the names of the source's layers that the file was written from."""
    origins = set(record.origins.values())
    return [layer.name for layer in source.layers if layer.name in origins]


def _chosen(source: Checkpoint, record: Record) -> list[str]:
    """Return the layers that ``--layer`` named; none if it was not given."""
    found = _written_from(source, record)
    return found if len(found) < len(source.layers) or not record.prefix else []


def _stacks(record: Record) -> dict[str, tuple[str, ...]]:
    """Return the source's names of each written stack's layers."""
    origins = record.origins
    return {name: tuple(origins[layer.name] for layer in layers) for name, layers in record.modules.items()}


def _stacking(source: Checkpoint, record: Record) -> str | None:
    """Return the option ``--stack``; ``None`` if the file has the source's stacks."""
    stacks, found = _stacks(record), set(_written_from(source, record))
    joined = {layers for layers in stacks.values() if len(layers) > 1}
    if joined == {tuple(names) for names in source.joined.values() if set(names) <= found}:
        return None
    return "--stack=none" if not joined else "--stack" if len(stacks) == 1 else "--stack=partial"


def _written(record: Record) -> Iterator[str]:
    """Yield how the file is written."""
    for option, value in (("--dtype", record.dtype), ("--bias-mode", record.bias_mode)):
        if value is not None:
            yield from (option, value)
    if record.states is not None:
        yield "--states" if record.states else "--no-states"
    if record.lengths:
        yield "--lengths"
    if record.opset is not None:
        yield from ("--opset", str(record.opset))
    if record.weights_only:
        yield "--weights-only"
    if record.keras_version_written is not None:
        yield from ("--keras-version", str(record.keras_version_written))


def _renames(source: Checkpoint, record: Record) -> Iterator[str]:
    """Yield the renames; renaming a stack of the source also renames its layers."""
    origins, stacks = record.origins, _stacks(record)
    stack_of = {tuple(names): stack for stack, names in source.joined.items()}
    renamed = {stack_of[layers]: name for name, layers in stacks.items() if layers in stack_of}
    within = {layer for layers in stacks.values() if layers in stack_of for layer in layers}
    known = {layer.name for layer in source.layers} - within
    renamed |= {origin: name for name, origin in origins.items() if origin in known}
    for old, new in renamed.items():
        if old != new:
            yield from ("--rename", f"{old}={new}")


def _activations(source: Checkpoint, record: Record) -> Iterator[str]:
    """Yield the activations that the user gave, or that the source does not say."""
    if source.unknown is None and not record.activations_given:
        return
    for key in ("activation", "recurrent_activation"):
        used = {described_activation(getattr(half, key)) for entry in record.layers for half in entry.directions}
        stated = {getattr(half, key) for layer in source.layers for half in layer.directions}
        chosen = used.pop() if len(used) == 1 else None
        if chosen is not None and stated != {chosen} and not (key == "activation" and chosen.name == "tanh"):
            yield from (f"--{key.replace('_', '-')}", _flag(chosen))


def _wiring(record: Record) -> Iterator[str]:
    """Yield the options that the user gave for a source of arrays alone."""
    returns = {entry.return_sequences for entry in record.layers}
    if returns in ({True}, {False}):
        yield "--return-sequences" if returns == {True} else "--last-step"
    if {entry.directions[0].go_backwards for entry in record.layers} == {True}:
        yield "--go-backwards"
    modes = {entry.merge_mode for entry in record.layers if len(entry.directions) == 2}
    if len(modes) == 1 and modes != {"concat"}:
        yield from ("--merge-mode", str(modes.pop()))


def _flag(activation: Activation) -> str:
    return _BY_FLAG.get(activation, activation.name)


def _format(target: Path, twin: CheckedFile) -> Iterator[str]:
    """Yield the format if the target's suffix means another one."""
    if twin.artifact is not None and format_of_name(target) is not twin.artifact.format:
        yield from ("--to", twin.artifact.format.name)
