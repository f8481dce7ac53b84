"""Whether a state dict still holds what its record says that it was written with.

The record says what the tensors compute. If somebody removed, renamed or added tensors, or copied the record to another
file, it describes other tensors, and the file is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from lstmconv.errors import UnreadableFileError
from lstmconv.formats.safety.limits import parse_json
from lstmconv.formats.tensors import NamedTensor
from lstmconv.model import Array

__all__ = ["refuse_disagreement"]


def refuse_disagreement(written: Iterable[NamedTensor], found: Mapping[str, Array], source: str) -> None:
    """Refuse a file whose tensors are not those that its record describes.

    Args:
        written: What lstmconv writes for what the record describes; values do not matter, but for ``_extra_state``.
        found: The file's tensors by name.
        source: The file's name.

    Raises:
        UnreadableFileError: A tensor is missing, is one too many, has another shape, or says other activations.
    """
    expected = {tensor.name: tensor for tensor in written}
    differs = _difference(expected, found)
    if differs is not None:
        raise UnreadableFileError(
            f"lstmconv's record in it describes other tensors: {differs}; "
            "convert the source again, or save the tensors without the record",
            about=source,
        )


def _difference(expected: Mapping[str, NamedTensor], found: Mapping[str, Array]) -> str | None:
    for name, tensor in expected.items():
        if name not in found:
            return f"'{name}' is missing"
        if name.rpartition(".")[2] == "_extra_state":
            if _said(found[name].tobytes()) != json.loads(b"".join(bytes(slab) for slab in tensor.slabs())):
                return f"'{name}' has another value"
        elif found[name].shape != tensor.shape:
            return f"'{name}' is {found[name].shape}, expected {tensor.shape}"
    more = next((name for name in found if name not in expected), None)
    return None if more is None else f"'{more}' is not in the record"


def _said(content: bytes) -> object:
    try:
        return parse_json(content, "_extra_state")
    except UnreadableFileError:
        return None
