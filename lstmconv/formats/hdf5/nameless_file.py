"""Files without a name, which vanish when closed."""

from __future__ import annotations

import os
from typing import BinaryIO, cast

__all__ = ["nameless_file"]

_LARGE_BYTES = 128 << 20
"""From this size on, the copied numbers of a file are kept on disk and not in memory."""


def nameless_file(size: int) -> BinaryIO:
    """Open a file without a name; in memory if the system has such files and ``size`` is small."""
    if size < _LARGE_BYTES and hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("lstmconv"), "r+b")
    import tempfile

    return cast(BinaryIO, tempfile.TemporaryFile())
