"""Decide what of a source goes into a target: the whole model, or some of its LSTM layers, and by which names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

from lstmconv.arrays.copying import rounding_of_sum
from lstmconv.errors import NoLSTMError, UnsupportedModelError, UsageError
from lstmconv.formats import Format, WriteOptions
from lstmconv.listing import listed
from lstmconv.model import Checkpoint, Layer, LSTMLayer, Model, Stack, TimeDistributed
from lstmconv.model.chains import lstm_layers
from lstmconv.model.kinds import Identity, Kind, Unknown
from lstmconv.model.notes import LayerNote
from lstmconv.model.renaming import renamed
from lstmconv.model.stacking import join, unstacked

__all__ = ["Selection", "Stacking", "Wish", "obstacle_of", "select"]

_WRAPS = ("uint8", "int8", "uint16", "int16")
"""Types of inputs whose arithmetic no target and no reference does as Keras does it."""

Stacking: TypeAlias = Literal["all", "partial", "none"]


@dataclass(frozen=True)
class Wish:
    """What a user asks for.

    Attributes:
        whole: The whole model or an error (``True``), the LSTM layers alone (``False``), or what can be had (``None``).
        layers: Only these, by the name of a layer or of a stack; none for all.
        rename: New names by old ones.
        stack: How layers that feed each other directly are joined; ``None`` leaves them as the source has them.
    """

    whole: bool | None = None
    layers: Sequence[str] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    stack: Stacking | None = None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            UsageError: The whole model, and a part of it.
        """
        if self.whole and (self.layers or self.stack is not None):
            raise UsageError("--whole asks for the whole model, and --layer and --stack for LSTM layers alone")
        if self.stack not in (None, "all", "partial", "none"):
            raise UsageError(f"stack is {self.stack!r}, expected all, partial or none")

    @property
    def part(self) -> bool:
        """Whether the user asks for LSTM layers alone."""
        return self.whole is False or bool(self.layers) or self.stack is not None


@dataclass(frozen=True)
class Selection:
    """What goes into one target.

    Attributes:
        checkpoint: With the new names, and joined as asked.
        options: How it is written.
        notes: What the target does not contain, and why, in whole sentences.
    """

    checkpoint: Checkpoint
    options: WriteOptions
    notes: tuple[str, ...]


def select(checkpoint: Checkpoint, wish: Wish, target: Path, chosen: Format, options: WriteOptions) -> Selection:
    """Choose what of a source is written to one target.

    Args:
        checkpoint: The source.
        wish: What the user asks for.
        target: The file, for notes.
        chosen: Its format.
        options: How it is written, as far as the user says.

    Raises:
        UnsupportedModelError: ``wish.whole``, and the source, a layer or the format does not allow it; no LSTM layer.
        UsageError: No layer of a given name, or two layers would get one name.
    """
    reason = None if wish.part or options.lengths else obstacle_of(checkpoint, chosen, options, target)
    if wish.whole and options.lengths:
        raise UsageError("--lengths is for LSTM layers alone; a whole model masks as Keras does")
    if not chosen.layers_alone and (wish.part or options.lengths):
        raise UsageError(f"{target.name}: {chosen.title} holds a whole model; --layer, --lengths, --lstm-only and "
                         "--stack are for other targets")  # fmt: skip
    if (wish.whole or not chosen.layers_alone) and reason is not None:
        raise _not_whole(checkpoint, reason)
    if reason is None and not wish.part and not options.lengths and checkpoint.model is not None:
        return _whole(checkpoint, checkpoint.model, wish, target, chosen, options)
    selected = _layers(checkpoint, wish, target, chosen, options)
    left = () if checkpoint.model is None or wish.part or options.lengths else _not_carried(checkpoint.model)
    if not left:
        return selected
    note = f"{target.name}: holds the LSTM layers alone, without {_with_classes(left)}: {reason}"
    return replace(selected, notes=(note, *selected.notes))


def _not_whole(checkpoint: Checkpoint, reason: str) -> UnsupportedModelError:
    return UnsupportedModelError(f"{checkpoint.provenance.source}: cannot be converted whole: {reason}")


def obstacle_of(
    checkpoint: Checkpoint, chosen: Format, options: WriteOptions, target: Path | None = None
) -> str | None:
    """Say why a source's model cannot be written whole to a file of a format, or to one of this name, or ``None``."""
    model = checkpoint.model
    if model is None:
        return "the file does not say its model; pass --config model.json"
    if target is not None and chosen.layers_suffix is not None and target.name.lower().endswith(chosen.layers_suffix):
        return f"a {chosen.layers_suffix} file holds weights alone, expected {chosen.suffixes[0]}"
    if model.unknown and chosen.runs_graphs:
        return model.unknown[0].described
    narrow = next(
        (entry for entry in model.inputs if entry.dtype in _WRAPS and not model.takes_tokens(entry.name)), None
    )
    if narrow is not None:
        return f"the input {narrow.name} is {narrow.dtype}, and arithmetic in that type wraps"
    return chosen.obstacle_of_model(model, options)


def _whole(
    checkpoint: Checkpoint, model: Model, wish: Wish, target: Path, chosen: Format, options: WriteOptions
) -> Selection:
    if wish.whole and model.unknown:
        raise _not_whole(checkpoint, model.unknown[0].described)
    names = dict(wish.rename)
    known = [layer.name for layer in model.layers]
    missing = next((name for name in names if name not in known), None)
    if missing is not None:
        raise UsageError(f"no layer {missing!r}; the file has {', '.join(known)}")
    if len({names.get(name, name) for name in known}) < len(set(known)):
        raise UsageError("two layers would get the same name; give each a different one with --rename")
    moved = renamed(model, names)
    made = replace(checkpoint, model=moved, layers=lstm_layers(moved), edges=None, branching=(), joined={})
    made = replace(made, joined=_renamed_stacks(checkpoint.joined, names))
    options = replace(options, whole=True, sources={new: old for old, new in names.items()})
    notes = list(chosen.losses(made, target, options))
    if moved.unknown:
        notes.append(
            f"{target.name}: holds the arrays of all layers but {_with_classes(moved.unknown)}: "
            f"{moved.unknown[0].reason}"
        )
    return Selection(made, options, tuple(notes))


def _renamed_stacks(joined: Mapping[str, tuple[str, ...]], names: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    return {
        names.get(stack, stack): tuple(names.get(name, name) for name in inside) for stack, inside in joined.items()
    }


def _layers(checkpoint: Checkpoint, wish: Wish, target: Path, chosen: Format, options: WriteOptions) -> Selection:
    """Choose LSTM layers alone."""
    if not checkpoint.layers:
        reason = "no LSTM layer in it, and only the whole model could be converted"
        raise NoLSTMError(f"{checkpoint.provenance.source}: {reason}", checkpoint.skipped)
    picked, sources = _picked(checkpoint, wish.layers, wish.rename)
    fitting = _stacked(picked, wish.stack, chosen)
    reached = _given_states(checkpoint, sources)
    states = True if options.states is None and reached else options.states
    prefix = not (wish.layers and len(fitting.stacks) == 1)
    asked = tuple(sources.values()) if wish.layers else ()
    options = replace(options, whole=False, sources=sources, asked=asked, states=states, prefix=prefix)
    return Selection(fitting, options, tuple(_losses(fitting, reached, chosen, target, options)))


def _picked(
    checkpoint: Checkpoint, layers: Sequence[str], rename: Mapping[str, str]
) -> tuple[Checkpoint, dict[str, str]]:
    """Pick and rename layers and stacks; return them and each new name's source name."""
    known = [layer.name for layer in checkpoint.layers]
    stacks = dict(checkpoint.joined)
    unknown = [name for name in [*layers, *rename] if name not in known and name not in stacks]
    if unknown:
        raise UsageError(f"no LSTM layer {unknown[0]!r}; the file has {', '.join([*stacks, *known])}")
    wanted = {inner for name in layers or known for inner in stacks.get(name, (name,))}
    picked = [layer for layer in checkpoint.layers if layer.name in wanted]
    names = {layer.name: layer.name for layer in picked}
    joined: dict[str, tuple[str, ...]] = {}
    for stack, inside in stacks.items():
        new = rename.get(stack, stack)
        names |= {name: new + name.removeprefix(stack) for name in inside if name in names and name.startswith(stack)}
        if wanted.issuperset(inside):
            joined[new] = inside
    names |= {old: new for old, new in rename.items() if old in names and old not in stacks}
    if len(set(names.values())) < len(names):
        raise UsageError("two layers would get the same name; give each a different one with --rename")
    edges = checkpoint.edges
    if edges is not None:
        edges = tuple((names[a], names[b]) for a, b in edges if a in names and b in names)
    selected = replace(
        checkpoint,
        layers=tuple(replace(layer, name=names[layer.name]) for layer in picked),
        edges=edges,
        branching=tuple(names[name] for name in checkpoint.branching if name in names),
        joined={stack: tuple(names[name] for name in inside) for stack, inside in joined.items()},
    )
    return selected, {new: old for old, new in names.items()}


def _stacked(checkpoint: Checkpoint, stack: Stacking | None, chosen: Format) -> Checkpoint:
    """Join or open the layers as asked, as far as the format can hold them."""
    if stack is None:
        return checkpoint
    alone = unstacked(checkpoint)
    return alone if stack == "none" else join(alone, chosen.obstacle, partial=stack == "partial")


def _given_states(checkpoint: Checkpoint, sources: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return the chosen layers that start from a state that the model gives them, each with what gives it."""
    given = checkpoint.given_states
    found: dict[str, tuple[str, ...]] = {new: given[old] for new, old in sources.items() if old in given}
    for call in () if checkpoint.model is None else checkpoint.model.calls:
        layers = call.layer.layers if isinstance(call.layer, Stack) else (call.layer,)
        for new, old in sources.items():
            if call.states and any(layer.name == old for layer in layers if isinstance(layer, LSTMLayer)):
                found[new] = tuple(dict.fromkeys(f"'{tensor.source}'" for tensor in call.states))
    return found


def _time_distributed(checkpoint: Checkpoint, sources: Mapping[str, str]) -> dict[str, str]:
    """Return the chosen layers that the model wraps in TimeDistributed, each with the wrapper's name."""
    wrappers = [] if checkpoint.model is None else checkpoint.model.layers
    wrapped = {
        layer.name: wrapper.name
        for wrapper in wrappers
        if isinstance(wrapper, TimeDistributed)
        for layer in lstm_layers(wrapper.model)
    }
    return {new: wrapped[old] for new, old in sources.items() if old in wrapped}


def _losses(
    checkpoint: Checkpoint, given: Mapping[str, Sequence[str]], chosen: Format, target: Path, options: WriteOptions
) -> Iterator[str]:
    """Say what a target of LSTM layers does not hold of the source, in whole sentences."""
    one = chosen.biases == "one" or options.bias_mode not in (None, "double")
    for layer in checkpoint.layers:
        rounded = [ulps for half in layer.directions if (ulps := rounding_of_sum(half)) is not None] if one else []
        if rounded:
            kind = "rounded in the last digit, as any addition is" if max(rounded) else "which is exact"
            yield f"{target.name}: {layer.name}: its two biases are written as their sum, {kind}"
        if layer.masking and not options.lengths:
            yield LayerNote(layer.name, "its model masks steps; the target runs every step")
        elif layer.masking:
            text = "its model masks steps; the target masks those beyond its lengths (right padding)"
            yield LayerNote(layer.name, text)
        if layer.name in given:
            how = "as an input" if chosen.runs_graphs and options.states else "from the caller"
            given_by = " and ".join(given[layer.name])
            text = f"its model starts it from {given_by}; the target takes that state {how}"
            yield LayerNote(layer.name, text)
    for name, wrapper in _time_distributed(checkpoint, options.sources or {}).items():
        text = f"its model runs it on each step of TimeDistributed '{wrapper}'; give the target those steps as a batch"
        yield LayerNote(name, text)
    yield from chosen.losses(checkpoint, target, options)


def _not_carried(model: Model) -> tuple[Layer, ...]:
    """Return the layers that compute something and are no LSTMs."""
    return tuple(layer for layer in model.layers if isinstance(layer, Kind) and not isinstance(layer, Identity))


def _with_classes(layers: Sequence[Layer]) -> str:
    """Name the first layers, each with its class."""
    return listed(
        [f"{each.name} ({each.class_name if isinstance(each, Unknown) else type(each).__name__})" for each in layers]
    )
