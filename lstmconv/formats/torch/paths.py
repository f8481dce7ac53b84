"""The names of tensors in a pickle's containers and modules: the path from the outermost object to each of them.

Keys of dictionaries and indexes of lists are joined by ``/``. A module's parameters and modules are joined by ``.``,
as its ``state_dict()`` has them, so that a module under a key reads as its state dict under that key would.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lstmconv.formats.torch.allowed_globals import Pairs, Refused, Tensor, Unread, kind
from lstmconv.formats.torch.opaque import Named, Unbuilt
from lstmconv.formats.torch.pickled_modules import PickledModule, members_of
from lstmconv.formats.torch.unpickler import Pickled

__all__ = ["named_objects"]

_MAX_DEPTH = 100
_MAX_KEY_LENGTH = 1024
_MAX_KEY_PARTS = 8
_MAX_SHARING = 4
"""How often containers may stand in several places, on average; the same dict twice is ordinary."""

# Tuples, which isinstance takes in a third of the time of unions.
_LEAVES = (Tensor, Unread)
_CONTAINERS = (Pairs, list, tuple)


class _Level(NamedTuple):
    """A container or a module on the way down."""

    path: str
    separator: str
    entries: Iterator[tuple[object, object]]
    in_module: bool


def named_objects(pickled: Pickled) -> Iterator[tuple[str, Tensor | Unread | Unbuilt | PickledModule]]:
    """Yield the tensors in containers and modules by their names, in order.

    Yields:
        Tensors, and objects that are not built, by their names; modules by the prefix of their tensors' names.

    A container in several places is walked once for each path to it, and within itself without end:
    the walk may see each entry of the pickle about four times.
    """
    budget = _MAX_SHARING * pickled.opcodes
    pending = [_Level("", "", iter([("", pickled.value)]), in_module=False)]
    while pending:
        level = pending[-1]
        for key, found in level.entries:
            if isinstance(key, Unbuilt):  # A class of another's decides what it is equal to.
                continue
            if found is not None and _is_extra_state(key) and not isinstance(found, (*_LEAVES, Unbuilt)):
                found = Unread(f"{kind(found)}, and no tensor")
            member = members_of(found) if isinstance(found, Unbuilt) else None
            if not isinstance(found, (*_LEAVES, Unbuilt)) and (not isinstance(found, _CONTAINERS) or not found):
                continue
            name = _joined(level, key)
            if isinstance(found, _LEAVES) or (isinstance(found, Unbuilt) and member is None):
                yield name, found
                continue
            inner = _entries(found) if member is None else member.entries
            separator = "." if member is not None and level.in_module else "/"
            if member is not None:
                yield f"{name}{separator}" if name else "", member.module
            budget -= len(inner)
            if len(pending) >= _MAX_DEPTH or budget < 0:
                raise Refused("containers nested too deeply, or inside themselves; save the state dict alone")
            pending.append(_Level(name, separator if name else "", iter(inner), in_module=member is not None))
            break
        else:
            pending.pop()


def _is_extra_state(key: object) -> bool:
    """Whether a module's ``get_extra_state`` made the value of a key (torch/nn/modules/module.py)."""
    return isinstance(key, str) and key.rpartition(".")[2] == "_extra_state"


def _joined(level: _Level, key: object) -> str:
    parts = key if isinstance(key, tuple) and len(key) <= _MAX_KEY_PARTS else (key,)
    parts = tuple(part.name if isinstance(part, Named) else part for part in parts)
    if any(not isinstance(part, str | int | float | None) for part in parts):
        raise Refused(
            f"tensors or containers under a key that is {kind(key)}, expected text; save the state dict alone"
        )
    # Each part first, for a tuple may have the same long text many times.
    text = str(key if isinstance(key, tuple) else parts[0])
    name = f"{level.path}{level.separator}{text}"
    if any(len(str(part)) > _MAX_KEY_LENGTH for part in parts) or len(name) > _MAX_KEY_LENGTH:
        raise Refused(f"a key of over {_MAX_KEY_LENGTH:,} characters; save the state dict alone")
    return name


def _entries(container: object) -> list[tuple[object, object]]:
    """Return the entries of a container; the last of one key in a dictionary stays, in the first one's place."""
    if isinstance(container, list | tuple):
        return list(enumerate(container))
    if not isinstance(container, Pairs):
        return []
    latest: dict[object, tuple[object, object]] = {}
    for index, pair in enumerate(container.pairs):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise Refused("a dictionary is built from other things than pairs; the file is damaged")
        key, value = pair
        # Text has a hash that no file can foresee; other keys are told apart by their text, or not at all.
        same = (type(key).__name__, str(key)) if isinstance(key, str | int | float) else index
        latest[same] = (key, value)
    return list(latest.values())
