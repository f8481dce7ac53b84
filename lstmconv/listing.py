"""Lists and counts in messages."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

__all__ = ["counted", "listed"]


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "layer"), counted(1234, "layer")
    ('1 layer', '1,234 layers')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"


def listed(names: Collection[object], most: int = 4, joint: str = ", ") -> str:
    """Return names as a message lists them; nothing for none.

    >>> listed(["lstm", "gru"])
    'lstm, gru'
    >>> listed(["a", "b", "c", "d", "e", "f"])
    'a, b, c, d and 2 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return joint.join(map(str, islice(names, most))) + more
