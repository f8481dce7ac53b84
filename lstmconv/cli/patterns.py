"""Expand the file names and patterns of a command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lstmconv.errors import UsageError

__all__ = ["all_are_sources", "expand", "targets_of"]


def expand(arguments: Sequence[Path]) -> list[Path]:
    """Return the files that match names and patterns (``*``, ``?``, ``[...]``, ``**`` for folders), each once.

    Raises:
        UsageError: A pattern matches no file.
    """
    from glob import glob

    found: dict[Path, None] = {}
    for argument in arguments:
        matches = [argument]
        if _is_pattern(argument):
            matches = [Path(name) for name in sorted(glob(str(argument), recursive=True))]  # noqa: PTH207  # absolute too
            if not matches:
                raise UsageError(f"no file matches the pattern {argument}; check the folder and the spelling")
        found |= dict.fromkeys(matches)
    return list(found)


def _is_pattern(path: Path) -> bool:
    """Whether a path is a pattern and not an existing file."""
    from glob import has_magic

    return has_magic(str(path)) and not path.exists()


def all_are_sources(arguments: Sequence[Path], folder: Path | None, to: Sequence[str], *, force: bool) -> bool:
    """Return whether all arguments are sources; otherwise they are a source and its target.

    Three or more paths with a format, a pattern, or a folder for the targets: every path is a source. Three or more
    paths without a format are a source and its targets.

    Raises:
        UsageError: Two arguments are ambiguous: the second would be replaced, but its suffix is not the format's; or
            several targets are files already.
    """
    if folder is not None or any(_is_pattern(path) for path in arguments):
        return True
    if len(arguments) > 2:
        there = next((path for path in arguments[1:] if path.is_file()), None)
        if not to and there is not None:
            raise UsageError(
                f"is {there} a second source, or a target to replace? For sources, add --to FORMAT; for targets, "
                "convert one at a time"
            )
        return bool(to)
    if len(arguments) == 2 and len(to) == 1 and force and arguments[1].is_file():
        from lstmconv.formats import by_name

        if not arguments[1].name.lower().endswith(by_name(to[0]).suffixes):
            raise UsageError(
                f"is {arguments[1]} a second source, or the target to replace? For two sources, add --into FOLDER; "
                f"for a target, use a name ending in {by_name(to[0]).suffixes[0]}"
            )
    return False


def targets_of(arguments: Sequence[Path]) -> Path | list[Path] | None:
    """Return the target that follows a source, or several."""
    if len(arguments) < 2:
        return None
    return arguments[1] if len(arguments) == 2 else list(arguments[1:])
