"""Every error that lstmconv raises for its user: what was found, what was expected, what to do."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lstmconv.model import Skipped
    from lstmconv.report import Report

__all__ = [
    "ForeignFileError",
    "LstmconvError",
    "MissingDependencyError",
    "NoLSTMError",
    "TargetExistsError",
    "UnreadableFileError",
    "UnsupportedModelError",
    "UsageError",
    "VerificationError",
    "require",
]


class LstmconvError(Exception):
    """The root of all errors that lstmconv raises on purpose; its text is one line for a person."""


class UnreadableFileError(LstmconvError, ValueError):
    """The file is damaged, hostile, or not of a kind that lstmconv reads."""


class UnsupportedModelError(LstmconvError, ValueError):
    """The file is fine, and what it holds cannot be read or cannot be expressed by the target."""


class ForeignFileError(UnreadableFileError):
    """The file is whole as far as can be told, and of a kind that lstmconv does not look into."""


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


class VerificationError(LstmconvError, AssertionError):
    """A converted file does not hold or does not compute the same as its source.

    Attributes:
        report: The :class:`~lstmconv.report.Report` that says what was found.
    """

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


_EXTRAS = {"torch": "torch", "onnxruntime": "verify", "keras": "keras", "jinja2": "report", "matplotlib": "report"}


def require(module: str, purpose: str) -> ModuleType:
    """Import an optional library, or say which pip line brings it.

    Args:
        module: The library's import name.
        purpose: What needs it, as the beginning of a sentence: ``"Running a .pt file"``.

    Raises:
        MissingDependencyError: The library is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        extra = _EXTRAS.get(module.split(".")[0])
        package = f"'lstmconv[{extra}]'" if extra else module
        message = f"{purpose} needs {module}. Install it with: pip install {package}"
        raise MissingDependencyError(message) from error
