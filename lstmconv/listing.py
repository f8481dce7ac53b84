"""Lists in messages: the first few are named, the others counted."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

__all__ = ["listed"]


def listed(names: Collection[object], most: int = 4, joint: str = ", ") -> str:
    """Return names as a message lists them; nothing for none.

    >>> listed(["lstm", "gru"])
    'lstm, gru'
    >>> listed(["a", "b", "c", "d", "e", "f"])
    'a, b, c, d and 2 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return joint.join(map(str, islice(names, most))) + more
