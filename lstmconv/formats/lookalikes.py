"""Name files that are no checkpoints, by their first bytes, and say what to do instead."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Lookalike", "lookalike"]


class Lookalike(NamedTuple):
    """A kind of file that lstmconv does not read.

    Attributes:
        what: ``"a pickle"``.
        way_out: What to do instead.
        whole: Whether it is an intact file of its kind; other kinds come from failed downloads or copies.
    """

    what: str
    way_out: str
    whole: bool = False


_PICKLE = Lookalike(
    "a Python pickle, which is never loaded",
    "if you trust it, open it in Python and save the weights: np.savez(path, *model.get_weights()) or "
    "torch.save(module.state_dict(), path)",
    whole=True,
)
_PACKED = Lookalike("a compressed file", "unpack it and pass the file inside")

_BEGINNINGS = (
    (b"<", Lookalike("an HTML or XML page", "download the file itself")),
    (b"\x1f\x8b", Lookalike("compressed with gzip", "run gunzip on it")),
    (b"BZh", _PACKED),
    (b"\xfd7zXZ\x00", _PACKED),
    (b"\x28\xb5\x2f\xfd", _PACKED),  # RFC 8878, Zstandard
    (b"7z\xbc\xaf\x27\x1c", _PACKED),
    (b"Rar!\x1a\x07", _PACKED),
    *((bytes([0x80, protocol]), _PICKLE) for protocol in range(2, 6)),
    # joblib/numpy_pickle.py: a pickle in zlib's format (RFC 1950).
    *((bytes([0x78, level]), _PICKLE) for level in (0x01, 0x5E, 0x9C, 0xDA)),
    # xgboost doc/tutorials/saving_model.rst: JSON, UBJSON and the binary format before 2.1.
    (b'{"learner"', Lookalike("an XGBoost model", "only LSTM layers convert", whole=True)),
    (b"{L", Lookalike("an XGBoost model", "only LSTM layers convert", whole=True)),
    (b"binf", Lookalike("an XGBoost model", "only LSTM layers convert", whole=True)),
    (b"tree\nversion=", Lookalike("a LightGBM model", "only LSTM layers convert", whole=True)),
    (b"\x93NUMPY", Lookalike("one NumPy array", "save all weights: np.savez(path, *model.get_weights())", whole=True)),
)
_TAR = Lookalike("a tar file", "unpack it and pass the file inside")


def lookalike(head: bytes) -> Lookalike | None:
    """Name the kind of a file by its first 512 bytes; ``None`` if it is none of these kinds.

    >>> lookalike(b"<!DOCTYPE html>").what
    'an HTML or XML page'
    """
    if head[257:262] == b"ustar":  # POSIX.1-1988 ustar, magic
        return _TAR
    return next((found for beginning, found in _BEGINNINGS if head.lstrip(b"\r\n ").startswith(beginning)), None)
