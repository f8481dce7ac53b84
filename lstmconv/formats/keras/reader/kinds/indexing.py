"""Read the key of ``x[key]`` in a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from lstmconv.formats.keras.reader.kinds.entry import NotUnderstoodError, is_integer

__all__ = ["Index", "parse_index"]

Index: TypeAlias = tuple[int | tuple[int | None, int | None, int | None] | None, ...]
"""The index of a :class:`~lstmconv.model.kinds.Slice`."""

_WHOLE = (None, None, None)


def parse_index(key: Any, rank: int) -> Index:
    """Return an index with one entry for each of a tensor's axes; an ellipsis is replaced by whole axes.

    Raises:
        NotUnderstoodError: An entry is a tensor or has an unknown type, or there are too many entries.
    """
    entries = [_entry(each) for each in (key if isinstance(key, list | tuple) else [key])]
    missing = rank - sum(entry is not None and entry is not Ellipsis for entry in entries)
    if missing < 0 or entries.count(Ellipsis) > 1:
        raise NotUnderstoodError(f"an index of {len(entries)} entries into {rank} axes")
    if Ellipsis not in entries:
        entries.append(Ellipsis)
    place = entries.index(Ellipsis)
    return (*entries[:place], *(_WHOLE,) * missing, *entries[place + 1 :])


def _entry(value: Any) -> Any:
    """Read one entry, written by serialization_lib.py (Keras 3) or by tf_op_layer.py ``_slice_to_dict`` (tf_keras)."""
    if value is None or is_integer(value) or value is Ellipsis:
        return value
    if isinstance(value, slice):
        return _bounds({"start": value.start, "stop": value.stop, "step": value.step})
    if isinstance(value, Mapping):
        if value.get("class_name") in ("__ellipsis__", "Ellipsis"):
            return Ellipsis
        config = value.get("config") if value.get("class_name") == "__slice__" else value
        if isinstance(config, Mapping) and config.keys() == {"start", "stop", "step"}:
            return _bounds(config)
    raise NotUnderstoodError(f"an index by {value!r:.60}")


def _bounds(values: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    if not all(each is None or is_integer(each) for each in values.values()):
        raise NotUnderstoodError("an index by a range whose ends are tensors")
    return values["start"], values["stop"], values["step"]
