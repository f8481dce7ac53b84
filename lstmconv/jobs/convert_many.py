"""Convert many files in processes or on an executor; a file that crashes its process does not stop the others."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from lstmconv.converting import ConvertOptions, convert_file, in_folder
from lstmconv.errors import LstmconvError, TargetExistsError, UsageError
from lstmconv.formats import place_of
from lstmconv.jobs import workers
from lstmconv.proof.report import VerificationError
from lstmconv.publishing import shared_staging, staging

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from lstmconv.formats import Format

__all__ = ["Converted", "Status", "convert_many"]

PathLike: TypeAlias = "str | os.PathLike[str]"
Status = Literal["converted", "skipped", "not equal", "failed"]
_MOST_STAGES = 32
"""At most so many folders share a stage for the whole run; each needs an open file."""
EXIT_CODES: Mapping[Status, int] = {"converted": 0, "skipped": 0, "not equal": 1, "failed": 2}


@dataclass(frozen=True)
class Converted:
    """The result for one source.

    Attributes:
        source: The path as given.
        status: ``skipped`` if every target exists and was converted from identical bytes.
        paths: The files that were written or skipped.
        detail: Why the source was skipped or failed, in one line.
        notes: As :attr:`lstmconv.api.Conversion.notes`.
        reports: One report for each target, as JSON.
    """

    source: str
    status: Status
    paths: tuple[str, ...] = ()
    detail: str = ""
    notes: tuple[str, ...] = ()
    reports: tuple[Mapping[str, Any], ...] = ()

    @property
    def exit_code(self) -> int:
        """0, 1 or 2, as for the command line."""
        return EXIT_CODES[self.status]

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain data; docs/json.md documents the fields."""
        return {
            "source": self.source,
            "status": self.status,
            "paths": list(self.paths),
            "detail": self.detail,
            "notes": list(self.notes),
            "reports": list(self.reports),
        }


def convert_many(
    sources: Sequence[PathLike],
    folder: PathLike | None,
    options: ConvertOptions,
    *,
    jobs: int | None = None,
    executor: Executor | None = None,
    skip_existing: bool = False,
) -> Iterator[Converted]:
    """Convert each file, and yield the results in the order of the files.

    Args:
        sources: Files.
        folder: The folder of the targets; by default, each target lies beside its source.
        options: How to convert each.
        jobs: The number of processes; by default, the number of cores.
        executor: Runs the conversions in place of processes of this machine, such as
            ``dask.distributed.Client(...).get_executor()``. Its workers must see the files by the same absolute paths.
        skip_existing: Skip sources already converted from identical bytes (options are ignored).

    Raises:
        UsageError: No format is given, or two sources would be written to the same target.
    """
    files, into = [Path(source) for source in sources], None if folder is None else Path(folder)
    if not options.to:
        raise UsageError("several sources need --to, such as --to onnx")
    owners: dict[Path, Path] = {}
    for source in files:
        for place in _targets(source, into, options):
            if place in owners:
                raise UsageError(f"{owners[place]} and {source} have the same target {place}; convert them separately")
            owners[place] = source
    if into is not None:
        into.mkdir(parents=True, exist_ok=True)
    if executor is None:
        yield from _in_processes(files, into, list(owners), options, jobs, skip_existing=skip_existing)
    else:
        yield from _elsewhere(executor, files, into, list(owners), options, skip_existing=skip_existing)


def _in_processes(
    sources: Sequence[Path],
    folder: Path | None,
    places: Sequence[Path],
    options: ConvertOptions,
    jobs: int | None,
    *,
    skip_existing: bool,
) -> Iterator[Converted]:
    with ExitStack() as stages:
        work = _work(folder, options, _shared(places, stages), skip_existing=skip_existing)
        yield from map(_of_outcome, workers.run(work, sources, jobs))


def _elsewhere(
    executor: Executor,
    sources: Sequence[Path],
    folder: Path | None,
    places: Sequence[Path],
    options: ConvertOptions,
    *,
    skip_existing: bool,
) -> Iterator[Converted]:
    """Convert on an executor: workers have another working folder, so all paths are absolute on the way."""
    from lstmconv.jobs import executors

    config = options.read.config
    if config is not None:
        options = replace(options, read=replace(options.read, config=config.absolute()))
    with ExitStack() as stages:
        shared = _shared([place.absolute() for place in places], stages)
        convert = _work(None if folder is None else folder.absolute(), options, shared, skip_existing=skip_existing)
        work: list[tuple[Path, Callable[[], Converted]]] = []
        for source in sources:
            own = _targets(source, folder, options)
            new = not any(os.path.lexists(place) for place in own)
            work.append((source, partial(convert, source.absolute(), new=new)))
        for source, outcome in zip(sources, executors.run(executor, work), strict=True):
            done = _of_outcome(outcome)
            paths = (str((folder or place_of(source).parent) / Path(path).name) for path in done.paths)
            yield replace(done, source=str(source), paths=tuple(paths))


def _shared(places: Sequence[Path], open_stages: ExitStack) -> dict[Path, Path]:
    """Open a stage for each folder with several targets."""
    stages: dict[Path, Path] = {}
    for folder, count in Counter(place.parent for place in places).most_common(_MOST_STAGES):
        if count > 1:  # A folder with one target needs no shared stage.
            with suppress(UsageError):  # The error appears again for each of its files.
                stages[folder] = open_stages.enter_context(staging(folder))
    return stages


def _work(
    folder: Path | None,
    options: ConvertOptions,
    stages: Mapping[Path, Path],
    *,
    skip_existing: bool,
) -> Callable[..., Converted]:
    stage_in = partial(shared_staging, stages)
    return partial(_convert, folder=folder, options=options, skip_existing=skip_existing, stage_in=stage_in)


def _of_outcome(outcome: workers.Outcome[Path, Converted]) -> Converted:
    failed = f"{outcome.item.name}: {outcome.error}"
    return outcome.value or Converted(str(outcome.item), "failed", detail=failed)


def _convert(
    source: Path,
    *,
    folder: Path | None,
    options: ConvertOptions,
    skip_existing: bool,
    stage_in: Callable[..., AbstractContextManager[Path]],
    new: bool = False,
) -> Converted:
    """Convert one file; an error becomes its result.

    Args:
        source, folder, options, skip_existing, stage_in: As for :func:`convert_many` and ``convert_file``.
        new: Whether no target existed when the run began. Then a worker that was lost may have written them.
    """
    name = str(source)
    places = _targets(source, folder, options)
    try:
        if skip_existing and _are_made_from(source, places):
            return Converted(name, "skipped", tuple(map(str, places)), "converted from identical bytes before")
        done = convert_file(source, folder, options, stage_in=stage_in)
    except VerificationError as error:
        return Converted(name, "not equal", detail=str(error), reports=(error.report.to_json(),))
    except TargetExistsError as error:
        if new and _are_made_from(source, places):
            lost = "converted from identical bytes in this run, by a worker that was lost before it could report"
            return Converted(name, "skipped", tuple(map(str, places)), lost)
        return Converted(name, "failed", detail=str(error))
    except (LstmconvError, OSError) as error:
        return Converted(name, "failed", detail=str(error))
    reports = tuple(report.to_json() for report in done.reports)
    return Converted(name, "converted", tuple(map(str, done.paths)), notes=done.notes, reports=reports)


def _targets(source: Path, folder: Path | None, options: ConvertOptions) -> Mapping[Path, Format]:
    """Return what a source is written to, as ``convert_file`` does: under the name of what its path means."""
    place = place_of(source)
    return in_folder(place, folder or place.parent, options.to, raw=options.write.raw)


def _are_made_from(source: Path, targets: Mapping[Path, Format]) -> bool:
    """Whether all targets exist, and their records have the hash of the source's bytes."""
    from lstmconv.formats import MappedFile

    if not all(place.is_file() for place in targets):
        return False
    try:
        digest = _digest(source)
        records = [entry.open(MappedFile(target)).record for target, entry in targets.items()]
    except (LstmconvError, OSError):  # A damaged target is written again.
        return False
    return all(record is not None and record.sha256 == digest for record in records)


def _digest(source: Path) -> str:
    """Return the hash of a source's bytes; of a model of several files, that of all."""
    from lstmconv.formats import MappedFile, open_place
    from lstmconv.formats.hashing import sha256_of

    place = place_of(source)
    if place.is_file() and place == source:
        return sha256_of(MappedFile(source))
    return open_place(place).checkpoint.provenance.sha256
