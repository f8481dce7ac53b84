"""Modules as pickles hold them: ``torch.save(model)``, and TorchScript; neither is built, their attributes are read.

Sources: torch/nn/modules/module.py ``Module.__init__`` (2.13): ``_parameters``, ``_buffers``, ``_modules``;
torch/nn/modules/rnn.py ``RNNBase.__init__``: ``input_size``, ``hidden_size``, ``num_layers``, ``bias``,
``batch_first``, ``bidirectional``. A scripted object has its tensors and modules among its attributes, and its
constants in its code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lstmconv.formats.torch.allowed_globals import Pairs, Tensor, Unread, shown
from lstmconv.formats.torch.opaque import Named, Unbuilt, class_of

__all__ = ["Member", "PickledModule", "members_of"]

_KEPT = ("_parameters", "_buffers", "_modules")
_HOOKS = ("_forward_pre_hooks", "_forward_hooks")
_SCRIPTED = "__torch__."
_MAX_TEXT = 100


@dataclass(frozen=True)
class PickledModule:
    """What a pickle says of one module besides its tensors.

    Attributes:
        class_name: Its class: ``torch.nn.modules.rnn.LSTM``.
        attributes: Those that are numbers or short texts: ``hidden_size``.
        hooks: The classes or functions of what runs before and after it, or in place of its ``forward``.
        changed_by: An operation of the program that takes its parameters before the LSTM does; empty if there is none.
    """

    class_name: str
    attributes: Mapping[str, object]
    hooks: tuple[str, ...] = ()
    changed_by: str = ""


@dataclass(frozen=True)
class Member:
    """A module with what it holds by name: tensors, and modules inside it."""

    module: PickledModule
    entries: list[tuple[object, object]]


def members_of(found: Unbuilt) -> Member | None:
    """See an object as a module; ``None`` if it is none, or its attributes are not known."""
    if not isinstance(found.state, Pairs):
        return None
    state = _named(found.state)
    if found.name.startswith(_SCRIPTED):
        entries: list[tuple[object, object]] = [
            (key, value)
            for key, value in state.items()
            if isinstance(value, Tensor | Unread) or (isinstance(value, Unbuilt) and value.name.startswith(_SCRIPTED))
        ]
    elif all(isinstance(state.get(key), Pairs) for key in _KEPT):
        entries = [entry for key in _KEPT for entry in _pairs(state[key])]
    else:
        return None
    plain = {
        key: value
        for key, value in state.items()
        if isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= _MAX_TEXT)
    }
    hooks = tuple(_title(hook) for key in _HOOKS for _, hook in _pairs(state.get(key)))
    if "forward" in state:  # Set on the module itself, it runs instead of its class's.
        hooks += (_title(state["forward"]),)
    return Member(PickledModule(shown(class_of(found.name)), plain, hooks), entries)


def _pairs(found: object) -> Iterator[tuple[object, object]]:
    for pair in found.pairs if isinstance(found, Pairs) else ():
        if isinstance(pair, list | tuple) and len(pair) == 2:
            yield pair[0], pair[1]


def _named(found: Pairs) -> dict[str, object]:
    return {key: value for key, value in _pairs(found) if isinstance(key, str)}


def _title(hook: object) -> str:
    return shown(hook.name) if isinstance(hook, Named | Unbuilt) else "one that has no name"
