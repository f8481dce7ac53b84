"""Convert one file: read, select layers, write every target, verify it, publish all of them."""

from __future__ import annotations

import gc
import importlib
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lstmconv.arrays.finiteness import not_finite_in, weighted_layers
from lstmconv.errors import NotFiniteError, UsageError
from lstmconv.escaping import html_table
from lstmconv.formats import Format, MappedFile, ReadOptions, WriteOptions, by_name, by_suffix, located
from lstmconv.formats import stem as stem_of
from lstmconv.formats.hashing import sha256_of
from lstmconv.listing import listed
from lstmconv.model import Checkpoint, Layer
from lstmconv.model.kinds import Unknown
from lstmconv.model.notes import LayerNote
from lstmconv.opening import load_file, refuse_no_file
from lstmconv.publishing import publish, refuse_changed, refuse_existing, staging, stamps_of, stored_meanwhile
from lstmconv.selection import Selection, Wish, select

if TYPE_CHECKING:
    from lstmconv.proof.report import Report
    from lstmconv.proof.trials import Settings

__all__ = ["Conversion", "ConvertOptions", "convert_file", "in_folder", "is_folder"]

_LARGE_BYTES = 256 << 20
"""Over this size a target is stored on the disk while it is verified."""


@dataclass(frozen=True)
class ConvertOptions:
    """How to convert; :func:`lstmconv.convert` and ``lstmconv convert`` build it once, and document each choice.

    Attributes:
        to: Names of formats; none if the target's suffix decides.
        wish: What of the source goes into the targets.
        verify: Run each target in its own framework.
        force: Replace existing files.
        allow_not_finite: Convert weights that are NaN or infinite, too.
        folder: The target is a folder for the files of ``to``, and is made if it is not there.
        read: How to read the source.
        write: How to write the targets.
    """

    to: tuple[str, ...] = ()
    wish: Wish = field(default_factory=Wish)
    verify: bool = True
    force: bool = False
    allow_not_finite: bool = False
    folder: bool = False
    read: ReadOptions = field(default_factory=ReadOptions)
    write: WriteOptions = field(default_factory=WriteOptions)


@dataclass(frozen=True)
class Conversion:
    """What :func:`lstmconv.convert` did.

    Attributes:
        source: The checkpoint that was read, as far as it was converted.
        paths: Every file written.
        reports: One report for each target.
        notes: Assumptions, replaced options and skipped layers, in sentences.
        usage: How each target is used: what loads it, or what it takes.
    """

    source: Checkpoint
    paths: tuple[Path, ...]
    reports: tuple[Report, ...]
    notes: tuple[str, ...]
    usage: tuple[str, ...] = ()

    def __repr__(self) -> str:
        names = ", ".join(path.name for path in self.paths)
        complete = all(report.complete for report in self.reports)
        said = "equal" if complete else "equal so far, not everything was run"
        return f"Conversion({self.source.provenance.source} → {names}, {said}, {len(self.notes)} notes)"

    def _repr_html_(self) -> str:
        """Return the checks of every target as tables, and what uses them, for a notebook."""
        tables = "".join(report._repr_html_() for report in self.reports)
        return tables + (html_table("How to use them", ("",), [(line,) for line in self.usage]) if self.usage else "")

    @property
    def report(self) -> Report:
        """All targets' checks as one report."""
        from lstmconv.proof.report import Report

        names = ", ".join(report.target for report in self.reports)
        return Report(names, tuple(check for report in self.reports for check in report.checks))


def convert_file(
    source: Path,
    target: Path | Sequence[Path] | None,
    options: ConvertOptions,
    progress: Callable[[str], None] | None = None,
    stage_in: Callable[..., AbstractContextManager[Path]] = staging,
) -> Conversion:
    """Convert a file; see :func:`lstmconv.convert`.

    Args:
        source: The file to read.
        target: The file to write, or several, or a folder; ``None`` writes beside the source.
        options: How.
        progress: Called with a line before each long step.
        stage_in: Gives the folder in which targets are put together; see :func:`lstmconv.publishing.shared_staging`.
    """
    from lstmconv.proof.report import VerificationError
    from lstmconv.proof.trials import Settings

    say = progress or (lambda _: None)
    say(f"Reading {source.name}")
    refuse_no_file(source)
    source = located(source)
    stamps = stamps_of([source] if options.read.config is None else [source, options.read.config])
    checkpoint = load_file(source, options.read)
    stamps |= stamps_of([source.parent / part for part in checkpoint.provenance.parts])
    checkpoint.refuse_unknown()
    places = _places(source, target, options)
    refuse_existing(list(places), source, force=options.force)
    chosen = {place: select(checkpoint, options.wish, place, entry, options.write) for place, entry in places.items()}
    broken = _not_finite(checkpoint, tuple(chosen.values()), allowed=options.allow_not_finite)
    settings = Settings(allow_not_finite=options.allow_not_finite)
    if options.verify:
        _load_frameworks(places.values())
    reports: list[Report] = []
    usage: list[str] = []
    folder = next(iter(places)).parent
    with stage_in(folder, create=options.folder or len(options.to) > 1) as stage:
        staged: dict[Path, str] = {}
        for place, selection in chosen.items():
            say(f"Writing {place.name}")
            written = places[place].write(selection.checkpoint, stage / place.name, selection.options)
            _add(staged, written, place, several=len(places) > 1)
            say(f"Verifying {place.name}")
            with stored_meanwhile(written) if _nbytes(selection.checkpoint) > _LARGE_BYTES else nullcontext():
                report, said = _examined(checkpoint, places[place], place, stage, settings, run=options.verify)
            reports.append(report)
            usage += [] if said is None else [f"{place.name}: {said}"]
            try:
                report.raise_for_failure()
            except VerificationError as error:
                error.reports, error.notes = tuple(reports), (*broken, *_notes_of(checkpoint, tuple(chosen.values())))
                raise
        if options.verify and any(entry.from_keras for entry in places.values()):
            gc.collect()  # Which Keras is loaded depends on the file; see _load_frameworks.
        refuse_existing([folder / part.name for part in staged], source, force=options.force)
        refuse_changed(stamps)
        paths = publish(list(staged), folder, force=options.force)
    notes_shown = (*broken, *_notes_of(checkpoint, tuple(chosen.values())))
    return Conversion(next(iter(chosen.values())).checkpoint, tuple(paths), tuple(reports), notes_shown, tuple(usage))


def _load_frameworks(formats: Iterable[Format]) -> None:
    """Load what runs the targets before they are open: what imports raise and catch keeps the callers' files open."""
    for name in dict.fromkeys(entry.framework for entry in formats if entry.framework and not entry.from_keras):
        with suppress(ImportError):  # Whoever needs it says how it is installed.
            importlib.import_module(name)


def _add(staged: dict[Path, str], written: Sequence[Path], place: Path, *, several: bool) -> None:
    """Add what was written for one target; two targets may write one file only if it is the same.

    Raises:
        UsageError: It is not.
    """
    hashes = {part: sha256_of(MappedFile(part)) if several else "" for part in written}
    for part, found in hashes.items():
        if staged.setdefault(part, found) != found:
            raise UsageError(f"{part.name}: {place.name} and another target both write it, with different layer names; "
                             "write them into two folders")  # fmt: skip


def _not_finite(checkpoint: Checkpoint, selections: Sequence[Selection], *, allowed: bool) -> tuple[str, ...]:
    """Say which of the weights that are converted are not finite.

    Raises:
        NotFiniteError: Some are, and the user does not allow it.
    """
    layers = {id(layer): layer for selection in selections for layer in _converted(selection)}
    found = list(not_finite_in(layers.values()))
    if not found:
        return ()
    more = f"; and {len(found) - 1} more arrays" if len(found) > 1 else ""
    said = f"{checkpoint.provenance.source}: weights that are not finite: {found[0]}{more}"
    if allowed:
        return (f"{said}; a model with them returns NaN, and its outputs cannot be compared",)
    raise NotFiniteError(
        f"{said}; nothing was written: restore the file from before its training broke, or pass --allow-not-finite"
    )


def _converted(selection: Selection) -> tuple[Layer, ...]:
    """Return the layers whose arrays go into a target."""
    layers: tuple[Layer, ...] = selection.checkpoint.layers
    if selection.options.whole:
        layers = weighted_layers(selection.checkpoint)
    return tuple(layer for layer in layers if not isinstance(layer, Unknown))


def _examined(
    checkpoint: Checkpoint, format: Format, place: Path, stage: Path, settings: Settings, *, run: bool
) -> tuple[Report, str | None]:
    """Verify a staged file; return the report, and how the file is used from its place.

    When it returns, nothing in use holds the file: Windows moves no file that is open or mapped.
    """
    from lstmconv.proof.verifying import verify_file

    artifact = format.open(MappedFile(stage / place.name))
    report = verify_file(checkpoint, artifact, settings, run=run)
    return report, format.usage(artifact, place) if report.passed else None


def _notes_of(checkpoint: Checkpoint, selections: Sequence[Selection]) -> tuple[str, ...]:
    """Return what is said about a conversion: what was assumed, and what is not carried; each sentence once."""
    skipped = [f"skipped {entry.described}" for entry in checkpoint.skipped]
    alone = not any(selection.options.whole for selection in selections)
    notes = [note for selection in selections for note in selection.notes]
    notes_shown = dict.fromkeys([*checkpoint.notes, *(skipped if alone else ()), *notes])
    return _together(notes_shown)


def _together(notes: Iterable[str]) -> tuple[str, ...]:
    """Make one note of those that say the same of several layers."""
    layers: dict[str, list[str]] = {}
    for note in notes:
        if isinstance(note, LayerNote):
            layers.setdefault(note.sentence, []).append(note.layer)
        else:
            layers.setdefault(note, [])
    return tuple(f"{listed(names)}: {text}" if names else text for text, names in layers.items())


def _nbytes(checkpoint: Checkpoint) -> int:
    """Return the size of all weights, as the source stores them."""
    halves = (half for layer in checkpoint.layers for half in layer.directions)
    return sum(gate.nbytes for half in halves for gates in half.arrays.values() for gate in gates)


def is_folder(name: str) -> bool:
    """Whether a name that a user gives means a folder, there or not: it ends with a slash."""
    return name.endswith(("/", os.sep))


def _places(source: Path, target: Path | Sequence[Path] | None, options: ConvertOptions) -> dict[Path, Format]:
    """Decide which files to write, in which format."""
    names = tuple(dict.fromkeys(options.to))
    if isinstance(target, Path) and str(target) == "-":
        raise UsageError("-: nothing is written to standard output; pass the name of a file")
    if target is not None and not isinstance(target, Path):
        return _several(target, names)
    if not names:
        if target is not None and (options.folder or target.is_dir()):
            raise UsageError(f"{target} is a folder; add the format of the target, such as --to onnx")
        if target is None:
            raise UsageError("no target is given; add one, such as model.onnx, or a format, such as --to onnx")
        return {target: by_suffix(target)}
    chosen = [by_name(name) for name in names]
    if len(chosen) == 1 and target is not None and not options.folder and not target.is_dir():
        return {target: chosen[0]}
    return in_folder(source, source.parent if target is None else target, names, raw=options.write.raw)


def _several(targets: Sequence[Path], to: Sequence[str]) -> dict[Path, Format]:
    """Return several targets by their suffixes."""
    if to:
        raise UsageError("--to is for one target or a folder; the suffixes of several targets decide their formats")
    if len({target.parent for target in targets}) > 1:
        raise UsageError("several targets must lie in one folder, because they are replaced all together or not at all")
    if len(set(targets)) < len(targets):
        raise UsageError(f"{targets[0].name}: a target is given twice")
    return {target: by_suffix(target) for target in targets}


def in_folder(source: Path, folder: Path, to: Sequence[str], *, raw: bool) -> dict[Path, Format]:
    """Return the files that a source is written to in a folder, under its own name, each with its format.

    Raises:
        UsageError: An unknown format.
    """
    return {folder / (stem_of(source) + _suffix(entry, raw=raw)): entry for entry in map(by_name, to)}


def _suffix(entry: Format, *, raw: bool) -> str:
    return entry.raw_suffix if raw and entry.raw_suffix is not None else entry.suffixes[0]
