"""Convert many files in worker processes, so that a file that crashes its process does not stop the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lstmconv.converting import ConvertOptions, convert_file, in_folder
from lstmconv.errors import LstmconvError, UsageError
from lstmconv.jobs import workers
from lstmconv.proof.report import VerificationError
from lstmconv.publishing import shared_staging, staging

if TYPE_CHECKING:
    from lstmconv.formats import Format

__all__ = ["Converted", "Status", "convert_many"]

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
    sources: Sequence[Path],
    folder: Path | None,
    options: ConvertOptions,
    *,
    jobs: int | None = None,
    skip_existing: bool = False,
) -> Iterator[Converted]:
    """Convert each file, and yield the results in the order of the files.

    Args:
        sources: Files.
        folder: The folder of the targets; by default, each target lies beside its source.
        options: How to convert each.
        jobs: The number of processes; by default, the number of cores.
        skip_existing: Skip sources already converted from identical bytes (options are ignored).

    Raises:
        UsageError: No format is given, or two sources would be written to the same target.
    """
    if not options.to:
        raise UsageError("several sources need --to, such as --to onnx")
    owners: dict[Path, Path] = {}
    for source in sources:
        for place in in_folder(source, folder or source.parent, options.to, raw=options.write.raw):
            if place in owners:
                raise UsageError(f"{owners[place]} and {source} have the same target {place}; convert them separately")
            owners[place] = source
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as open_stages:
        stages: dict[Path, Path] = {}
        for target, count in Counter(place.parent for place in owners).most_common(_MOST_STAGES):
            if count > 1:  # A folder with one target needs no shared stage.
                with suppress(UsageError):  # The error appears again for each of its files.
                    stages[target] = open_stages.enter_context(staging(target))
        work: Callable[[Path], Converted] = partial(
            _convert,
            folder=folder,
            options=options,
            skip_existing=skip_existing,
            stage_in=partial(shared_staging, stages),
        )
        for outcome in workers.run(work, sources, jobs):
            yield outcome.value or Converted(
                str(outcome.item), "failed", detail=f"{outcome.item.name}: {outcome.error}"
            )


def _convert(
    source: Path,
    *,
    folder: Path | None,
    options: ConvertOptions,
    skip_existing: bool,
    stage_in: Callable[..., AbstractContextManager[Path]],
) -> Converted:
    """Convert one file; an error becomes its result."""
    name = str(source)
    try:
        if skip_existing and source.is_file():
            places = in_folder(source, folder or source.parent, options.to, raw=options.write.raw)
            if all(place.is_file() for place in places) and _are_made_from(source, places):
                return Converted(name, "skipped", tuple(map(str, places)), "converted from identical bytes before")
        done = convert_file(source, folder, options, stage_in=stage_in)
    except VerificationError as error:
        return Converted(name, "not equal", detail=str(error), reports=(error.report.to_json(),))
    except (LstmconvError, OSError) as error:
        return Converted(name, "failed", detail=str(error))
    reports = tuple(report.to_json() for report in done.reports)
    return Converted(name, "converted", tuple(map(str, done.paths)), notes=done.notes, reports=reports)


def _are_made_from(source: Path, targets: Mapping[Path, Format]) -> bool:
    """Whether the records of all targets have the hash of the source's bytes."""
    from lstmconv.formats import MappedFile
    from lstmconv.formats.hashing import sha256_of

    digest = sha256_of(MappedFile(source))
    try:
        records = [entry.open(MappedFile(target)).record for target, entry in targets.items()]
    except (LstmconvError, OSError):  # A damaged target is written again.
        return False
    return all(record is not None and record.sha256 == digest for record in records)
