"""Every error that lstmconv raises for its user: what was found, what was expected, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = [
    "ForeignFileError",
    "LstmconvError",
    "MissingDependencyError",
    "NoLSTMError",
    "Skipped",
    "TargetExistsError",
    "UnreadableFileError",
    "UnsupportedModelError",
    "UsageError",
]


class LstmconvError(Exception):
    """The root of all errors that lstmconv raises on purpose; its text is one line for a person."""


class UnreadableFileError(LstmconvError, ValueError):
    """The file is damaged, hostile, or not of a kind that lstmconv reads."""


class UnsupportedModelError(LstmconvError, ValueError):
    """The file is fine, and what it holds cannot be read or cannot be expressed by the target."""


class ForeignFileError(UnreadableFileError):
    """The file is whole as far as can be told, and of a kind that lstmconv does not look into."""


class Skipped(NamedTuple):
    """A recurrent layer that is there and is not converted, and why.

    Attributes:
        name: The user's own layer name.
        class_name: What the file calls it.
        reason: Why, in words.
        whole: False where arrays are missing that such a layer has.
    """

    name: str
    class_name: str
    reason: str
    whole: bool = True


class NoLSTMError(UnsupportedModelError):
    """The file is fine, and no LSTM layer in it converts.

    Attributes:
        skipped: The recurrent layers that were found, and why each does not convert.
    """

    def __init__(self, message: str, skipped: Sequence[Skipped] = ()) -> None:
        super().__init__(message)
        self.skipped = tuple(skipped)


class UsageError(LstmconvError, ValueError):
    """The call contradicts itself or leaves out what it needs."""


class TargetExistsError(LstmconvError, FileExistsError):
    """The target is there already and nobody said to replace it."""


class MissingDependencyError(LstmconvError, ImportError):
    """An optional library is not installed; the text ends in the pip line that brings it."""
