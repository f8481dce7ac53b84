"""Every error that lstmconv raises for its user: what it found, what it expected, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

__all__ = [
    "About",
    "ForeignFileError",
    "LstmconvError",
    "MissingDependencyError",
    "NoLSTMError",
    "NotFiniteError",
    "Skipped",
    "TargetExistsError",
    "UnreadableFileError",
    "UnsupportedModelError",
    "UsageError",
    "in_one_line",
]


About: TypeAlias = "str | tuple[str, ...]"
"""What an error is about: the name of a file, or of a file and of the part of it or the layer."""


class LstmconvError(Exception):
    """The root of all errors that lstmconv raises on purpose; its text is one line for a person.

    Attributes:
        reason: What is wrong, and what to do.
        about: The names that the text begins with: of the file, then of the part of it or of the layer.
    """

    def __init__(self, reason: str, about: About = ()) -> None:
        self.reason = reason
        self.about = (about,) if isinstance(about, str) else tuple(about)
        super().__init__(": ".join((*self.about, reason)))

    def within(self, *files: str) -> str:
        """Return the text for where the file is named already: without its first name, if that is one of some."""
        named = self.about[1:] if self.about and self.about[0] in files else self.about
        return ": ".join((*named, self.reason))


class UnreadableFileError(LstmconvError, ValueError):
    """The file is damaged, hostile, or in a format that lstmconv does not read."""


class UnsupportedModelError(LstmconvError, ValueError):
    """The file is intact, but lstmconv cannot read its model or the target cannot express it."""


class ForeignFileError(UnreadableFileError):
    """The file seems intact, but lstmconv does not read files of its kind."""


class Skipped(NamedTuple):
    """A recurrent layer that lstmconv does not convert, and why.

    Attributes:
        name: The user's own layer name.
        class_name: Its class in the file.
        reason: Why lstmconv does not convert it, in words.
        whole: False if arrays are missing that such a layer has.
        is_lstm: False if it certainly is another recurrent layer, such as a GRU.
    """

    name: str
    class_name: str
    reason: str
    whole: bool = True
    is_lstm: bool = True

    @property
    def described(self) -> str:
        """The layer, its class and the reason in one line: ``gru (GRU): only LSTM layers convert``."""
        return f"{self.name} ({self.class_name}): {self.reason}"


class NoLSTMError(UnsupportedModelError):
    """The file is intact, but no LSTM layer in it converts.

    Attributes:
        skipped: The recurrent layers in the file, and why each does not convert.
    """

    def __init__(self, reason: str, skipped: Sequence[Skipped] = (), *, about: About = ()) -> None:
        super().__init__(reason, about)
        self.skipped = tuple(skipped)


class NotFiniteError(LstmconvError, ValueError):
    """Weights hold NaN or infinities, and the call does not allow them."""


class UsageError(LstmconvError, ValueError):
    """The arguments contradict each other, or a necessary one is missing."""


class TargetExistsError(LstmconvError, FileExistsError):
    """The target exists, and the call does not allow to replace it."""


class MissingDependencyError(LstmconvError, ImportError):
    """An optional library is not installed; the text ends in the pip command that installs it."""


def in_one_line(error: BaseException) -> str:
    r"""Return what another library's error says, in one line of at most 200 characters; its class if it says nothing.

    >>> in_one_line(ValueError("no such\n\tlayer")), in_one_line(MemoryError())
    ('no such layer', 'MemoryError')
    """
    return " ".join(str(error).split())[:200] or type(error).__name__
