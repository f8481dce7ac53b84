"""Convert one file: read, select layers, write every target, verify it, publish all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from lstmconv.arrays.copying import rounding_of_sum
from lstmconv.errors import UsageError
from lstmconv.formats import Format, ReadOptions, WriteOptions, by_name, by_suffix
from lstmconv.formats import stem as stem_of
from lstmconv.model import Checkpoint
from lstmconv.model.stacking import join, unstacked
from lstmconv.opening import load_file, refuse_no_file
from lstmconv.publishing import publish, refuse_changed, refuse_existing, staging, stamps_of, stored_meanwhile

if TYPE_CHECKING:
    from lstmconv.proof.report import Report

__all__ = ["Conversion", "ConvertOptions", "Stacking", "convert_file", "in_folder"]

_LARGE_BYTES = 256 << 20
"""Over this size a target is stored on the disk while it is verified."""

Stacking: TypeAlias = Literal["all", "partial", "none"]


@dataclass(frozen=True)
class ConvertOptions:
    """How to convert; :func:`lstmconv.convert` and ``lstmconv convert`` build it once, and document each choice.

    Attributes:
        to: Names of formats; none if the target's suffix decides.
        layers: Only these layers or stacks; none for all.
        rename: New names by old ones.
        stack: Join or split stacks; ``None`` keeps them as the source has them.
        verify: Run each target in its own framework.
        force: Replace existing files.
        read: How to read the source.
        write: How to write the targets.
    """

    to: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    stack: Stacking | None = None
    verify: bool = True
    force: bool = False
    read: ReadOptions = field(default_factory=ReadOptions)
    write: WriteOptions = field(default_factory=WriteOptions)

    def __post_init__(self) -> None:
        """Refuse an unknown way of stacking."""
        if self.stack is not None and self.stack not in get_args(Stacking):
            raise UsageError(f"stack is {self.stack!r}, expected all, partial or none")


@dataclass(frozen=True)
class Conversion:
    """What :func:`lstmconv.convert` did.

    Attributes:
        source: The checkpoint that was read, as far as it was converted.
        paths: Every file written.
        reports: One report for each target.
        notes: Assumptions, replaced options and skipped layers, in sentences.
    """

    source: Checkpoint
    paths: tuple[Path, ...]
    reports: tuple[Report, ...]
    notes: tuple[str, ...]

    @property
    def report(self) -> Report:
        """All targets' checks as one report."""
        from lstmconv.proof.report import Report

        names = ", ".join(report.target for report in self.reports)
        return Report(names, tuple(check for report in self.reports for check in report.checks))


def convert_file(
    source: Path,
    target: Path | None,
    options: ConvertOptions,
    progress: Callable[[str], None] | None = None,
    stage_in: Callable[..., AbstractContextManager[Path]] = staging,
) -> Conversion:
    """Convert a file; see :func:`lstmconv.convert`.

    Args:
        source: The file to read.
        target: The file to write, or a folder; ``None`` writes beside the source.
        options: How.
        progress: Called with a line before each long step.
        stage_in: Gives the folder in which targets are put together; see :func:`lstmconv.publishing.shared_staging`.
    """
    from lstmconv.proof.verifying import verify_file

    say = progress or (lambda _: None)
    say(f"Reading {source.name}")
    refuse_no_file(source)
    stamps = stamps_of([source] if options.read.config is None else [source, options.read.config])
    checkpoint = load_file(source, options.read)
    stamps |= stamps_of([source.parent / part for part in checkpoint.provenance.parts])
    checkpoint.refuse_unknown()
    selected, sources = _select(checkpoint, options.layers, options.rename)
    places = _places(source, target, options.to, raw=options.write.raw)
    refuse_existing(list(places), source, force=options.force)
    reports: list[Report] = []
    notes: list[str] = []
    folder = next(iter(places)).parent
    with stage_in(folder, create=len(places) > 1) as stage:
        staged: list[Path] = []
        for place, chosen in places.items():
            say(f"Writing {place.name}")
            fitting = _stacked(selected, options.stack, chosen)
            alone = bool(options.layers) and len(fitting.stacks) == 1
            write = replace(options.write, sources=sources, prefix=not alone)
            written = chosen.write(fitting, stage / place.name, write)
            staged += written
            notes += _losses(fitting, chosen, place, write)
            say(f"Verifying {place.name}")
            with stored_meanwhile(written) if _nbytes(fitting) > _LARGE_BYTES else nullcontext():
                reports.append(verify_file(checkpoint, chosen.open(stage / place.name), run=options.verify))
                reports[-1].raise_for_failure()
        refuse_existing([folder / part.name for part in staged], source, force=options.force)
        refuse_changed(stamps)
        paths = publish(staged, folder, force=options.force)
    skipped = [f"skipped {entry.name} ({entry.class_name}): {entry.reason}" for entry in checkpoint.skipped]
    told = tuple(dict.fromkeys([*checkpoint.notes, *skipped, *notes]))
    return Conversion(selected, tuple(paths), tuple(reports), told)


def _select(
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


def _nbytes(checkpoint: Checkpoint) -> int:
    """Return the size of all weights, as the source stores them."""
    halves = (half for layer in checkpoint.layers for half in layer.directions)
    return sum(gate.nbytes for half in halves for gates in half.arrays.values() for gate in gates)


def _stacked(checkpoint: Checkpoint, stack: Stacking | None, chosen: Format) -> Checkpoint:
    """Join or open the layers as asked, as far as the format can hold them."""
    if stack is None:
        return checkpoint
    alone = unstacked(checkpoint)
    return alone if stack == "none" else join(alone, chosen.obstacle, partial=stack == "partial")


def _losses(checkpoint: Checkpoint, chosen: Format, place: Path, options: WriteOptions) -> Iterator[str]:
    """Say in sentences what the source has and the target does not."""
    one = chosen.biases == "one" or options.bias_mode not in (None, "double")
    for layer in checkpoint.layers:
        rounded = [ulps for half in layer.directions if (ulps := rounding_of_sum(half)) is not None] if one else []
        if rounded:
            kind = f"by {max(rounded):.2g} ulp at most" if max(rounded) else "exactly"
            yield f"{place.name}: {layer.name}: its two biases are written as their sum, rounded {kind}"
        if layer.masking and not options.lengths:
            yield f"{layer.name}: its model masks steps; the target runs every step"
        elif layer.masking:
            yield f"{layer.name}: its model masks steps; the target masks those beyond its lengths (right padding)"
    yield from chosen.losses(checkpoint, place, options)


def _places(source: Path, target: Path | None, to: Sequence[str], *, raw: bool) -> dict[Path, Format]:
    """Decide which files to write, in which format."""
    names = tuple(dict.fromkeys(to))
    if not names:
        if target is None:
            raise UsageError("no target is given; add one, such as model.onnx, or a format, such as --to onnx")
        return {target: by_suffix(target)}
    chosen = [by_name(name) for name in names]
    if len(chosen) == 1 and target is not None and not target.is_dir():
        return {target: chosen[0]}
    return in_folder(source, source.parent if target is None else target, names, raw=raw)


def in_folder(source: Path, folder: Path, to: Sequence[str], *, raw: bool) -> dict[Path, Format]:
    """Return the files that a source is written to in a folder, under its own name, each with its format.

    Raises:
        UsageError: An unknown format.
    """
    return {folder / (stem_of(source) + _suffix(entry, raw=raw)): entry for entry in map(by_name, to)}


def _suffix(entry: Format, *, raw: bool) -> str:
    return entry.raw_suffix if raw and entry.raw_suffix is not None else entry.suffixes[0]
