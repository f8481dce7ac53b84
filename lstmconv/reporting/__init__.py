"""The report of a file as one HTML page: ``lstmconv report``.

:mod:`~lstmconv.reporting.values` gathers its content, :mod:`~lstmconv.reporting.figures` draws it with matplotlib,
:mod:`~lstmconv.reporting.page` puts it into the page of ``page.html`` with Jinja. The page has no script and asks
nothing of any network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lstmconv._optional import require
from lstmconv.errors import UsageError
from lstmconv.formats import stem
from lstmconv.publishing import publish, refuse_existing, staging
from lstmconv.reporting.values import ReportValues, gather, to_json

__all__ = ["ReportValues", "gather", "place_of", "to_json", "write"]


def place_of(source: Path, targets: Sequence[Path], output: Path | None, *, force: bool) -> Path:
    """Decide where the page goes, before any work: ``model.report.html`` beside ``model.h5`` by default.

    Raises:
        MissingDependencyError: The extra ``report`` is not installed.
        UsageError: The place is the source, a target, or a folder.
        TargetExistsError: Something is there, and ``force`` is not given.
    """
    for library in ("jinja2", "matplotlib"):
        require(library, "Writing a report")
    place = source.parent / f"{stem(source)}.report.html" if output is None else output
    for target in targets:
        if place.exists() and target.exists() and place.samefile(target):
            raise UsageError(f"{place.name} is one of the files to compare; choose another file with -o")
    refuse_existing([place], source, force=force)
    return place


def write(values: ReportValues, place: Path, *, force: bool) -> Path:
    """Write the page, whole or not at all.

    Raises:
        TargetExistsError: Something came to lie there meanwhile, and ``force`` is not given.
        UsageError: The folder is not there, or cannot be written.
    """
    from lstmconv.reporting.page import rendered

    text = rendered(values)
    with staging(place.parent) as stage:
        staged = stage / place.name
        staged.write_bytes(text.encode())
        return publish([staged], place.parent, force=force)[0]
