"""Check many files; each gets its own result, even if others fail."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from lstmconv.arrays.finiteness import not_finite_arrays, not_finite_in, weighted_layers
from lstmconv.checking import twins, weight_rules
from lstmconv.checking.file_cache import CheckedFile, FileCache, is_checkpoint
from lstmconv.checking.findings import CheckResult, Finding, Status, Violation
from lstmconv.checking.searching import checkpoints_in
from lstmconv.checking.settings import Settings, find_settings, like, read_settings
from lstmconv.checking.twins import Pair
from lstmconv.errors import LstmconvError, MissingDependencyError, in_one_line
from lstmconv.formats import FORMATS, format_of_name, place_of, stem
from lstmconv.misuse import path_of
from lstmconv.model import Checkpoint
from lstmconv.spelling import speaks_python

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from lstmconv.jobs.workers import Outcome

__all__ = ["check", "checked"]

PathLike: TypeAlias = "str | os.PathLike[str]"


@speaks_python
def check(
    paths: PathLike | Iterable[PathLike],
    *,
    settings: PathLike | None = None,
    deep: bool = False,
    jobs: int = 1,
    executor: Executor | None = None,
) -> list[CheckResult]:
    """Check the LSTMs of files, and that the files converted from them still hold their weights.

    A fault in a file becomes part of its result; it raises nothing.

    Args:
        paths: One file or several; files without the suffix of a checkpoint are ignored. A folder stands for the
            checkpoints in it and below it.
        settings: A TOML file with ``[tool.lstmconv]``; by default the nearest ``pyproject.toml`` above each file
            that has such a table, up to the root of its repository.
        deep: Also run each twin in its own framework, if that is installed.
        jobs: The number of processes; files that differ only in their suffix share one.
        executor: Runs the checks in place of processes of this machine, such as
            ``dask.distributed.Client(...).get_executor()``. Its workers must see the files by the same absolute paths.

    Returns:
        One result for each file, in the given order.

    Raises:
        UsageError: The settings are invalid, a folder has no checkpoint in it, or a value is no path.

    >>> import lstmconv
    >>> result, = lstmconv.check(["sample_weights/airline_passengers.h5"])
    >>> result.status, result.layers
    ('passed', ('lstm',))
    """
    each = paths if isinstance(paths, Iterable) and not isinstance(paths, str | os.PathLike) else [paths]
    found = checkpoints_in([path_of("check", path, "paths") for path in each])
    return list(checked(found, settings, deep=deep, jobs=jobs, executor=executor))


def checked(
    files: Sequence[Path], settings: PathLike | None, *, deep: bool, jobs: int, executor: Executor | None = None
) -> Iterator[CheckResult]:
    """Check as :func:`check` does; yield each result, in the order of the files, as soon as it is known.

    Raises:
        UsageError: The settings are invalid.
    """
    asked = list(files) if executor is None else [file.absolute() for file in files]
    given = None if settings is None else read_settings(Path(settings))
    by_folder: dict[Path, Settings] = {}
    for file in asked:
        if given is None and file.parent not in by_folder:
            by_folder[file.parent] = find_settings(file)
    run = _Run(FileCache(), frozenset(file.absolute() for file in files), given, by_folder, deep=deep)
    if executor is not None:
        return map(_as_given, files, _in_groups(run, asked, executor=executor))
    alone = jobs == 1 or os.environ.get("LSTMCONV_DEBUG")  # An error's traceback does not leave a process.
    return map(run.one, files) if alone else _in_groups(run, files, jobs=jobs)


def _in_groups(
    run: _Run, files: Sequence[Path], *, jobs: int | None = None, executor: Executor | None = None
) -> Iterator[CheckResult]:
    """Check groups of files in processes, or on an executor; a source and its targets are in one group."""
    groups: dict[tuple[Path, str], list[Path]] = {}
    for file in dict.fromkeys(files):
        place = place_of(file)
        groups.setdefault((place.parent, stem(place)), []).append(file)
    known: dict[Path, CheckResult] = {}
    outcomes = _outcomes(run, list(groups.values()), jobs, executor)
    for file in files:
        while file not in known:
            outcome = next(outcomes)
            if outcome.value is None:
                names = " with ".join(path.name for path in outcome.item)
                ended = Finding("unavailable", "error", f"checking {names}: {outcome.error}")
                known |= {path: CheckResult(str(path), "not done", (ended,)) for path in outcome.item}
            else:
                known |= zip(outcome.item, outcome.value, strict=True)
        yield known[file]


def _outcomes(
    run: _Run, groups: Sequence[list[Path]], jobs: int | None, executor: Executor | None
) -> Iterator[Outcome[list[Path], list[CheckResult]]]:
    if executor is None:
        from lstmconv.jobs import workers

        return workers.run(run.all_of, groups, jobs)
    from lstmconv.jobs import executors

    work = [(group, partial(run.in_folder(group[0].parent).all_of, group)) for group in groups]
    return executors.run(executor, work)


def _as_given(file: Path, result: CheckResult) -> CheckResult:
    """Name a result's files in the user's form; on an executor their paths were absolute."""
    return result._replace(path=str(file), twins=tuple(str(like(Path(twin), file)) for twin in result.twins))


class _Run:
    """The state of one call: the files read so far, and the files to check."""

    def __init__(
        self,
        cache: FileCache,
        checked: frozenset[Path],
        settings: Settings | None,
        by_folder: Mapping[Path, Settings],
        *,
        deep: bool,
    ) -> None:
        self._cache = cache
        self._checked = checked
        self._settings = settings
        self._by_folder = by_folder
        self._deep = deep
        self._pairs: dict[Pair, list[Violation]] = {}

    def in_folder(self, folder: Path) -> _Run:
        """Return what the files of one folder need of this: an executor sends it to a worker with each task."""
        settings = self._settings or self._by_folder[folder]
        near = {folder, *(twin.parent for twins in settings.pairs.values() for twin in twins)}
        checked = frozenset(file for file in self._checked if file.parent in near)
        return _Run(self._cache, checked, settings, {}, deep=self._deep)

    def all_of(self, paths: Sequence[Path]) -> list[CheckResult]:
        """Return the results of several files."""
        return [self.one(path) for path in paths]

    def one(self, path: Path) -> CheckResult:
        """Return a file's result; an unexpected error becomes a finding."""
        try:
            found = self._one(place_of(path), self._settings or self._by_folder[path.parent])
            return found._replace(path=str(path))
        except OSError as error:
            reason = f"cannot be read ({error.strerror or error})"
        except Exception as error:  # One file's failure does not stop the others; LSTMCONV_DEBUG shows its origin.
            if os.environ.get("LSTMCONV_DEBUG"):
                raise
            reason = f"unexpected {type(error).__name__}: {in_one_line(error)}; LSTMCONV_DEBUG=1 shows where"
        return CheckResult(str(path), "not done", (Finding("unavailable", "error", reason),))

    def _one(self, path: Path, settings: Settings) -> CheckResult:
        if settings.ignores(path) or not is_checkpoint(path):
            return CheckResult(str(path), "ignored")
        if path.exists() and not path.is_file() and not path.is_dir():
            return CheckResult(str(path), "not done", (Finding("unavailable", "error", "not a file"),))
        path.stat()  # A missing file raises OSError here, and an unreadable one below; neither is damaged.
        try:
            file = self._cache.read(path)
        except MissingDependencyError as error:
            return CheckResult(str(path), "not done", (Finding("unavailable", "error", str(error)),))
        except LstmconvError as error:
            return self._result(path, settings, "passed", [Violation("damaged", error.within(str(path), path.name))])
        violations = list(_skipped(file))
        source = None
        if file.checkpoint is not None or file.record is not None:
            source = twins.source_of(path, self._cache, settings)
        violations += _not_finite(file)
        if file.checkpoint is None:
            violations += [] if source is None else self._with_source(Pair(source, path))
            return self._result(path, settings, "no lstm", violations)
        names = tuple(layer.name for layer in file.checkpoint.layers)
        beside = [twin for twin in twins.twins_of(path, self._cache, settings) if twin != source]
        equal: list[Path] = []
        if source is not None:
            differences = self._with_source(Pair(source, path))
            violations += differences
            equal += [source] if _same_weights(differences) else []
        violations += self._with_twins(path, file.checkpoint, beside, settings, equal)
        if source is None:
            violations += self._original(path, file.checkpoint, beside, settings, paired=bool(equal))
        return self._result(path, settings, "passed", violations, names, equal)

    def _with_source(self, pair: Pair) -> list[Violation]:
        """Compare a file with its source."""
        try:
            source = self._cache.read(pair.source).checkpoint
        except (LstmconvError, OSError) as error:
            return [Violation("twin-unpaired", f"its source cannot be read: {error}")]
        if source is None:
            return [Violation("twin-unpaired", f"its source {pair.source.name} holds no LSTM")]
        return self._compared(pair, source)

    def _with_twins(
        self, path: Path, checkpoint: Checkpoint, beside: Sequence[Path], settings: Settings, equal: list[Path]
    ) -> Iterator[Violation]:
        """Compare the files that were converted from this one; add the equal ones to ``equal``."""
        for twin in beside:
            differences = self._compared(Pair(path, twin), checkpoint)
            if _same_weights(differences):
                equal.append(twin)
            if twin.absolute() not in self._checked or settings.ignores(twin):  # Else the twin's own result has it.
                yield from (
                    violation._replace(message=f"{twin.name}: {_with_layer(violation)}", layer=None)
                    for violation in differences
                )

    def _original(
        self,
        path: Path,
        checkpoint: Checkpoint,
        beside: Sequence[Path],
        settings: Settings,
        *,
        paired: bool,
    ) -> Iterator[Violation]:
        """Check the weights and the targets of a file that was not converted from another."""
        for layer in checkpoint.layers:
            yield from weight_rules.violations_of(layer)
        if checkpoint.unknown is not None and not paired:  # The record of an equal twin has the activation.
            yield Violation("activation-unknown", checkpoint.unknown)
        yield from _bound_for_pytorch(path, checkpoint, beside, settings)
        yield from twins.missing(path, beside, settings)

    def _compared(self, pair: Pair, source: Checkpoint) -> list[Violation]:
        """Compare a pair once, even if both files are checked."""
        if pair not in self._pairs:
            violations = twins.compare_pair(pair, self._cache, source)
            self._pairs[pair] = violations if violations or not self._deep else list(_run_twin(pair, source))
        return self._pairs[pair]

    def _result(
        self,
        path: Path,
        settings: Settings,
        status: Status,
        violations: Sequence[Violation],
        names: tuple[str, ...] = (),
        equal: Sequence[Path] = (),
    ) -> CheckResult:
        findings = [
            Finding(violation.rule, settings.severity_of(violation.rule), *violation[1:]) for violation in violations
        ]
        kept = sorted(
            (finding for finding in findings if finding.severity != "off"),
            key=lambda finding: (finding.severity, finding.rule != "not-finite"),
        )
        failed = any(finding.severity == "error" for finding in kept)
        return CheckResult(
            str(path), "failed" if failed else status, tuple(kept), names, tuple(str(twin) for twin in equal)
        )


def _same_weights(violations: Sequence[Violation]) -> bool:
    """Whether a pair has the same weights, also if it was not run."""
    return all(violation.rule == "twin-not-run" for violation in violations)


def _with_layer(violation: Violation) -> str:
    return violation.message if violation.layer is None else f"{violation.layer}: {violation.message}"


def _skipped(file: CheckedFile) -> Iterator[Violation]:
    """Yield what lstmconv did not check: LSTMs that do not convert, and files of another kind."""
    if file.foreign is not None:
        yield Violation("not-checked", file.foreign.within(file.path.name))
    for entry in file.skipped:
        if not entry.whole:
            yield Violation("damaged", entry.reason, entry.name)
        elif entry.is_lstm:
            yield Violation("not-checked", f"{entry.class_name} is not checked: {entry.reason}", entry.name)


def _not_finite(file: CheckedFile) -> Iterator[Violation]:
    """Yield the arrays that are not finite: of every layer where the file contains its model, else of the LSTMs."""
    if file.checkpoint is None or file.artifact is None:
        return
    found = list(not_finite_in(weighted_layers(file.checkpoint)))
    yield from (Violation("not-finite", text, layer) for layer, text in found)
    if not found:
        yield from (Violation("not-finite", text) for text in not_finite_arrays(file.artifact.weights()))


def _bound_for_pytorch(
    path: Path, checkpoint: Checkpoint, beside: Sequence[Path], settings: Settings
) -> Iterator[Violation]:
    """Yield the layers that go to PyTorch and that ``nn.LSTM`` cannot compute."""
    plain = [entry for entry in FORMATS if entry.modules is not None]
    files = [file for file in (*beside, path) if format_of_name(file) in plain]
    required = {entry.name for entry in plain} & set(settings.required_targets)
    target = files[0].name if files else f"its {min(required)} target" if required else None
    if target is None:
        return
    violations = (weight_rules.pytorch_violation(layer, target) for layer in checkpoint.layers)
    yield from (violation for violation in violations if violation is not None)


def _run_twin(pair: Pair, source: Checkpoint) -> Iterator[Violation]:
    """Run a twin in its own framework, and yield the differences."""
    from lstmconv.api import verify

    if source.unknown is not None:
        yield Violation("twin-not-run", f"not run: {pair.source.name} does not say its activations")
        return
    try:
        report = verify(source, pair.twin, allow_not_finite=True)
    except LstmconvError as error:
        yield Violation("twin-outputs", f"does not run: {error}")
        return
    for one in report.checks:
        if one.status == "failed":
            yield Violation("twin-outputs", f"{one.level}: {one.detail}", one.layer)
        elif one.status == "not run":
            yield Violation("twin-not-run", f"not run: {one.detail}", one.layer)
