"""Read ``[tool.lstmconv]`` from the ``pyproject.toml`` of a repository."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

from lstmconv.checking.findings import RULES, Severity
from lstmconv.errors import UsageError
from lstmconv.formats import TARGETS

__all__ = ["Settings", "find_settings", "like", "read_settings"]

_KEYS = ("ignore", "pairs", "required-targets", "severity")


class Settings(NamedTuple):
    """The settings of a repository.

    Attributes:
        folder: The folder of its ``pyproject.toml``; paths in the settings are relative to it.
        ignore: Patterns of :mod:`fnmatch` for a path from ``folder``, for a folder in it, or for a name alone.
        pairs: The twins of each source, as absolute paths; for these files lstmconv searches no others.
        severity: The severity of a rule, if it differs from the default.
        required_targets: Formats, by their ``--to`` names, in which every source must exist.
    """

    folder: Path = Path()
    ignore: tuple[str, ...] = ()
    pairs: Mapping[Path, tuple[Path, ...]] = {}
    severity: Mapping[str, Severity] = {}
    required_targets: tuple[str, ...] = ()

    def ignores(self, path: Path) -> bool:
        """Whether the settings ignore a file."""
        whole = path.absolute()
        try:
            inside = whole.relative_to(self.folder.absolute())
        except ValueError:
            inside = Path(whole.name)
        parts = [inside.name, *(part.as_posix() for part in (inside, *inside.parents))]
        return any(fnmatchcase(part, pattern.rstrip("/")) for pattern in self.ignore for part in parts)

    def twins_of(self, source: Path) -> tuple[Path, ...] | None:
        """Return the twins in ``pairs``; ``None`` if it does not name the source."""
        stated = self.pairs.get(_whole(source))
        return None if stated is None else tuple(like(twin, source) for twin in stated)

    def source_of(self, twin: Path) -> Path | None:
        """Return the source of a twin in ``pairs``, or ``None``."""
        whole = _whole(twin)
        return next((like(source, twin) for source, twins in self.pairs.items() if whole in twins), None)

    def severity_of(self, rule: str) -> Severity:
        """Return the severity of a rule."""
        return self.severity.get(rule, RULES[rule].severity)


def like(path: Path, given: Path) -> Path:
    """Return an absolute path in the user's form: relative if the given path is."""
    if given.is_absolute():
        return path
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path


def find_settings(path: Path) -> Settings:
    """Return the settings of the nearest ``pyproject.toml`` above a file that has ``[tool.lstmconv]``.

    The search ends at the root of the repository, a folder with ``.git``.

    Raises:
        UsageError: That file is not valid TOML, or its settings are invalid.
    """
    for folder in path.absolute().parents:
        file = folder / "pyproject.toml"
        if file.is_file():
            table = _table(file)
            if table is not None:
                return _settings(file, table)
        if (folder / ".git").exists():
            break
    return Settings(path.absolute().parent)


def read_settings(file: Path) -> Settings:
    """Return the settings of one file.

    Raises:
        UsageError: The file does not exist, has no ``[tool.lstmconv]``, or its settings are invalid.
    """
    if not file.is_file():
        raise UsageError(f"{file}: no such file; expected a TOML file with [tool.lstmconv]")
    table = _table(file)
    if table is None:
        raise UsageError(f"{file}: has no [tool.lstmconv]")
    return _settings(file, table)


def _table(file: Path) -> Mapping[str, Any] | None:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        text = file.read_text(encoding="utf-8")
        if "lstmconv" not in text:
            return None
        tools = tomllib.loads(text).get("tool", {})
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{file}: cannot be read as TOML ({error})") from error
    table = tools.get("lstmconv") if isinstance(tools, dict) else None
    if table is not None and not isinstance(table, dict):
        raise UsageError(f"{file}: tool.lstmconv is {table!r}, expected a table with {', '.join(_KEYS)}")
    return table


def _settings(file: Path, table: Mapping[str, Any]) -> Settings:
    unknown = [key for key in table if key not in _KEYS]
    if unknown:
        raise UsageError(f"{file}: [tool.lstmconv] has the unknown key {unknown[0]!r}; known are {', '.join(_KEYS)}")
    folder = file.absolute().parent
    return Settings(
        folder=folder,
        ignore=_texts(file, "ignore", table.get("ignore", [])),
        pairs=_pairs(file, folder, table.get("pairs", {})),
        severity=_severity(file, table.get("severity", {})),
        required_targets=_targets(file, table.get("required-targets", [])),
    )


def _texts(file: Path, key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise UsageError(f"{file}: [tool.lstmconv] {key} is {value!r}, expected a list of strings")
    return tuple(value)


def _pairs(file: Path, folder: Path, value: object) -> Mapping[Path, tuple[Path, ...]]:
    if not isinstance(value, dict):
        raise UsageError(f'{file}: [tool.lstmconv] pairs is {value!r}, expected a table: "model.h5" = ["model.onnx"]')
    pairs: dict[Path, tuple[Path, ...]] = {}
    for source, twins in value.items():
        named = _texts(file, f"pairs.{source}", [twins] if isinstance(twins, str) else twins)
        pairs[_placed(folder, source)] = tuple(_placed(folder, twin) for twin in named)
    return pairs


def _placed(folder: Path, name: str) -> Path:
    return _whole(folder / name)


def _whole(path: Path) -> Path:
    """Return an absolute path without ``..``; symbolic links are not resolved."""
    return Path(os.path.normpath(path.absolute()))


def _severity(file: Path, value: object) -> Mapping[str, Severity]:
    known = get_args(Severity)
    if not isinstance(value, dict):
        raise UsageError(f'{file}: [tool.lstmconv] severity is {value!r}, expected a table: gate-stuck = "error"')
    for rule, level in value.items():
        if rule not in RULES:
            rules = ", ".join(RULES)
            raise UsageError(f"{file}: [tool.lstmconv.severity] has the unknown rule {rule!r}; known are {rules}")
        if level not in known:
            raise UsageError(
                f"{file}: [tool.lstmconv.severity] {rule} is {level!r}, expected one of {', '.join(known)}"
            )
    return cast("Mapping[str, Severity]", value)


def _targets(file: Path, value: object) -> tuple[str, ...]:
    names = _texts(file, "required-targets", value)
    known = [entry.name for entry in TARGETS]
    unknown: Sequence[str] = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"{file}: [tool.lstmconv] required-targets has {unknown[0]!r}; known are {', '.join(known)}")
    return names
