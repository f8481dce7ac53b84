"""Which files the words of a command line mean: names, and patterns that a shell did not expand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lstmconv.errors import UsageError

__all__ = ["expand", "is_pattern"]


def expand(arguments: Sequence[Path]) -> list[Path]:
    """Return the files that names and patterns mean (``*``, ``?``, ``[...]``, ``**`` for folders), each once.

    Raises:
        UsageError: A pattern that fits no file.
    """
    from glob import glob

    found: dict[Path, None] = {}
    for argument in arguments:
        matches = [argument]
        if is_pattern(argument):
            matches = [Path(name) for name in sorted(glob(str(argument), recursive=True))]  # noqa: PTH207  # absolute too
            if not matches:
                raise UsageError(f"no file fits the pattern {argument}")
        found |= dict.fromkeys(matches)
    return list(found)


def is_pattern(path: Path) -> bool:
    """Whether a name is a pattern, and not the name of a file."""
    from glob import has_magic

    return has_magic(str(path)) and not path.exists()
