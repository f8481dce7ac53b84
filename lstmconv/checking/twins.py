"""Find the files that belong together: a source, and the files that were converted from it.

The record of a file that lstmconv wrote names its source. Another file counts as a twin if it differs from a Keras
file beside it only in its suffix. ``pairs`` in ``[tool.lstmconv]`` replaces both rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lstmconv.arrays.finiteness import not_finite_in, weighted_layers
from lstmconv.checking.comparison import compare
from lstmconv.checking.convert_command import convert_command
from lstmconv.checking.file_cache import SUFFIXES, FileCache, is_checkpoint, is_keras
from lstmconv.checking.findings import Violation
from lstmconv.checking.settings import Settings
from lstmconv.errors import LstmconvError
from lstmconv.formats import by_name, stem
from lstmconv.model import Checkpoint

__all__ = ["Pair", "compare_pair", "missing", "source_of", "twins_of"]


class Pair(NamedTuple):
    """A source and a file converted from it, as paths in the user's form."""

    source: Path
    twin: Path


def source_of(path: Path, cache: FileCache, settings: Settings) -> Path | None:
    """Return the source of this file, if it exists.

    Args:
        path: A file with an LSTM.
        cache: The run's files.
        settings: Their ``pairs`` have precedence.
    """
    stated = settings.source_of(path)
    if stated is not None:
        return stated if stated.is_file() else None
    if settings.twins_of(path) is not None:
        return None
    record = cache.record_of(path)
    if record is not None:
        named = path.parent / Path(record.source).name
        if named != path and named.exists() and is_checkpoint(named):
            return named
    elif is_keras(path):
        return None
    others = [beside for beside in _of_the_same_name(path) if is_keras(beside) and cache.record_of(beside) is None]
    free = [beside for beside in others if settings.twins_of(beside) is None]
    return free[0] if len(free) == 1 else None


def twins_of(path: Path, cache: FileCache, settings: Settings) -> list[Path]:
    """Return the existing files that were converted from this one.

    Args:
        path: A file with an LSTM.
        cache: The run's files.
        settings: Their ``pairs`` have precedence.
    """
    stated = settings.twins_of(path)
    if stated is not None:
        return [twin for twin in stated if twin.is_file()]
    near = {beside for beside in _of_the_same_name(path) if not settings.ignores(beside)}
    near.update(cache.converted_from(path, settings.ignores, keras=False))
    if not is_keras(path):  # Opening Keras files is slow, so it is done only if the name matches, or here.
        near.update(cache.converted_from(path, settings.ignores, keras=True))
    return sorted(twin for twin in near if source_of(twin, cache, settings) == path)


def missing(path: Path, twins: Sequence[Path], settings: Settings) -> Iterator[Violation]:
    """Yield the targets that the settings require and that do not exist."""
    stated = settings.twins_of(path)
    for twin in stated or ():
        if not twin.is_file():
            text = f"{twin.name} does not exist, but [tool.lstmconv.pairs] names it"
            yield Violation("twin-missing", text, fix=convert_command(path, twin))
    for name in settings.required_targets:
        suffixes = by_name(name).suffixes
        if path.name.lower().endswith(suffixes) or any(_is(twin, suffixes) for twin in (*(stated or ()), *twins)):
            continue
        target = path.with_name(stem(path) + suffixes[0])
        text = f"{target.name} does not exist, but [tool.lstmconv] required-targets has {name}"
        yield Violation("twin-missing", text, fix=convert_command(path, target))


def compare_pair(pair: Pair, cache: FileCache, source: Checkpoint) -> list[Violation]:
    """Compare a twin with its source; each difference has the command that repairs it."""
    try:
        twin = cache.read(pair.twin)
    except (LstmconvError, OSError) as error:
        command = convert_command(pair.source, pair.twin) + " --force" if _is_finite(source) else None
        return [Violation("twin-differs", f"cannot be read: {error}", fix=command)]
    if twin.foreign is not None:
        return [Violation("twin-unpaired", f"cannot be compared with {pair.source.name}: {twin.foreign}")]
    violations = compare(source, pair.source.name, twin)
    if not any(violation.rule == "twin-differs" for violation in violations):
        return violations
    if not _is_finite(source):
        return [Violation("twin-differs", _after_a_broken_source(pair, twin.checkpoint))]
    if twin.record is None:
        text = f"not lstmconv's: export it again from {pair.source.name}, or name its source in [tool.lstmconv.pairs]"
        return [violation._replace(message=f"{violation.message} ({text})") for violation in violations]
    command = convert_command(pair.source, pair.twin, cache.read(pair.source), twin)
    return [violation._replace(fix=command) for violation in violations]


def _is_finite(checkpoint: Checkpoint) -> bool:
    return next(not_finite_in(weighted_layers(checkpoint)), None) is None


def _after_a_broken_source(pair: Pair, twin: Checkpoint | None) -> str:
    """Say what to do where the source is not finite: to convert it again would overwrite what may be the last copy."""
    source = pair.source.name
    if twin is not None and _is_finite(twin):
        return f"its weights are finite, those of {source} no longer are: keep this file, and restore {source}"
    return f"differs from {source}, and neither is finite: restore both from before the training broke"


def _is(path: Path, suffixes: tuple[str, ...]) -> bool:
    return path.name.lower().endswith(suffixes)


def _of_the_same_name(path: Path) -> list[Path]:
    """Return the other checkpoints that differ from this one only in the suffix."""
    name = stem(path)
    beside = [path.with_name(name + suffix) for suffix in SUFFIXES]
    return [other for other in beside if other != path and other.is_file() and is_checkpoint(other)]
