"""Classes and functions that a pickle names and that are no tensors, and the objects that they would build.

None of them is looked up or called. An :class:`Unbuilt` object takes whatever the pickle does to it and keeps
nothing of that, with one exception: a plain object's attributes, for an ``nn.Module`` keeps its parameters in them
(torch/nn/modules/module.py ``Module.__init__``: ``_parameters``, ``_buffers``, ``_modules``), and TorchScript keeps
all attributes so (torch/csrc/jit/serialization/pickler.cpp ``pushIValueImpl``, for objects). Nobody knows what a
function returns, or what a class makes of its arguments: no tensor is read through such an object.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["Named", "Unbuilt", "builds_tensors", "class_of", "made_of"]

_BUILDERS = re.compile(
    r"torch\._utils\._rebuild_.+|torch\._tensor\..+|torch\.storage\..+|torch\.(cuda\.)?\w+Storage"
    r"|torch\.sparse\..+|torch\.ScriptObject"
)
"""PyTorch's own functions and types that tensors come from, beyond those that are understood."""

_SCRIPTED = re.compile(r"__torch__\.")
_MANGLED = re.compile(r"___torch_mangle_\d+\.")
"""torch/csrc/jit/serialization: every scripted class is under ``__torch__``, and numbered where two are named alike."""


@dataclass(frozen=True)
class Named:
    """A class or a function that a pickle names."""

    name: str


@dataclass(eq=False)
class Unbuilt:
    """An object of a class that is not known.

    Attributes:
        name: The class, or the function that would have made it.
        plain: Its class made it of nothing, so that its state is its attributes.
        state: Its attributes, a dictionary of the pickle; ``None`` where they are not known.
    """

    name: str
    plain: bool = False
    state: object = field(default=None, repr=False)

    def __setitem__(self, key: object, value: object) -> None:
        """Ignore an entry (``SETITEM``)."""

    def append(self, entry: object) -> None:
        """Ignore an entry (``APPEND``)."""

    def add(self, entry: object) -> None:
        """Ignore an entry (``ADDITEMS``)."""

    def set_state(self, state: object) -> None:
        """Keep the attributes of a plain object (``BUILD``); a second state would be mixed with the first."""
        self.plain, self.state = False, state if self.plain else None


def builds_tensors(name: str) -> bool:
    """Whether a name builds a tensor or a part of one; a file with an unknown one is refused: it may hide weights."""
    return _BUILDERS.fullmatch(name) is not None


def class_of(name: str) -> str:
    """Return the Python class of a scripted one; others stay.

    >>> class_of("__torch__.torch.nn.modules.rnn.___torch_mangle_5.LSTM")
    'torch.nn.modules.rnn.LSTM'
    """
    return _MANGLED.sub("", _SCRIPTED.sub("", name)) if _SCRIPTED.match(name) else name


def made_of(maker: Named | Unbuilt, arguments: object) -> Unbuilt:
    """Return what a class makes (``NEWOBJ``): a plain object if there are no arguments."""
    return Unbuilt(maker.name, plain=isinstance(maker, Named) and arguments == ())
