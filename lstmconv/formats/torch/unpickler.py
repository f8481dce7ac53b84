"""Read PyTorch's pickles as plain data: no name in them is looked up and nothing in them is called.

A pickle is a program for a stack machine. Python's own machine (``pickle._Unpickler``, in Python) runs here with the
opcodes that ``torch.save`` writes for tensors, plain containers and objects, and no others. ``REDUCE`` calls the
functions of :mod:`~lstmconv.formats.torch.allowed_globals` alone; what other names would build stays
:class:`~lstmconv.formats.torch.opaque.Unbuilt`. Dictionaries become :class:`Pairs` and sets :data:`OPAQUE`, so that no
key that a hostile file made up is hashed.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol, cast

from lstmconv.formats.safety.limits import PICKLE_OPCODES
from lstmconv.formats.torch.allowed_globals import (
    OPAQUE,
    ForbiddenName,
    Foreign,
    Function,
    Pairs,
    Refused,
    Storage,
    kind,
    meaning,
    shown,
    storage_named,
)
from lstmconv.formats.torch.opaque import Named, Unbuilt, builds_tensors, made_of

__all__ = ["Pickled", "load"]

_MAX_NAMES = 100
_OPCODES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}
_PLAIN = {
    "PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "INT", "LONG", "BININT", "BININT1", "BININT2",
    "LONG1", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES",
    "SHORT_BINBYTES", "BINBYTES8", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "BINPUT",
    "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET", "APPEND", "APPENDS", "ADDITEMS", "SETITEM", "SETITEMS",
    "GLOBAL", "STACK_GLOBAL", "BINPERSID",
}  # fmt: skip
"""The opcodes that Python's own machine may run: they move values, and call nothing but the methods below."""


class _TensorUnpickler(pickle._Unpickler):
    """Python's machine with another meaning of names, calls, states and containers."""

    stack: list[Any]
    metastack: list[list[Any]]
    append: Callable[[object], None]
    read: Callable[[int], bytes]

    def __init__(self, file: Readable) -> None:
        super().__init__(cast("IO[bytes]", file), fix_imports=False, encoding="latin-1")
        self.storages: dict[str, Storage] = {}
        self.unknown: dict[str, None] = {}
        self.dispatch = _Counted()  # type: ignore[misc]  # load() looks each opcode up in it

    def find_class(self, module: str, name: str) -> Any:
        try:
            return meaning(module, name)
        except ForbiddenName as error:
            unknown = str(error)
            if builds_tensors(unknown):
                raise
        if len(self.unknown) < _MAX_NAMES:
            self.unknown.setdefault(shown(unknown))
        return Named(unknown)

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) == 4 and pid[0] == "module" and isinstance(pid[1], Named):
            return pid[1]  # torch/serialization.py _legacy_save: a module's class, with the text of its source
        storage = storage_named(pid)
        self.storages.setdefault(storage.key, storage)
        return storage

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if isinstance(function, Function):
            self.append(function(arguments))
        elif isinstance(function, Named | Unbuilt) and isinstance(arguments, tuple):
            if any(isinstance(argument, Storage) for argument in arguments):  # A tensor, in a way that is not known.
                raise ForbiddenName(function.name)
            self.append(Unbuilt(function.name))
        else:
            raise Refused(f"its pickle calls {kind(function)}, expected what builds a tensor; nothing was executed")

    def load_newobj(self) -> None:
        arguments, made = self.stack.pop(), self.stack.pop()
        self._make(made, arguments)

    def load_newobj_ex(self) -> None:
        named, arguments, made = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self._make(made, arguments if isinstance(named, Pairs) and not named.pairs else None)

    def _make(self, made: object, arguments: object) -> None:
        if not isinstance(made, Named | Unbuilt):
            raise Refused(f"its pickle makes an object of {kind(made)}; nothing was executed")
        self.append(made_of(made, arguments))

    def load_build(self) -> None:
        """Keep an object's attributes; drop the ``_metadata`` that torch hangs on a state dict.

        Source: torch/nn/modules/module.py ``state_dict``.
        """
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Unbuilt):
            target.set_state(state)
        elif not isinstance(target, Pairs) or not target.takes_state or not isinstance(state, Pairs):
            raise Refused(f"its pickle sets the state of {kind(target)}; nothing was executed")

    def load_empty_dictionary(self) -> None:
        self.append(Pairs([]))

    def load_empty_set(self) -> None:
        self.append(OPAQUE)

    def load_bytearray8(self) -> None:
        """Read the bytes; Python's own machine makes as many as they claim to be."""
        self.read(struct.unpack("<Q", self.read(8))[0])
        self.append(OPAQUE)


_ACTIONS: Mapping[int, Callable[[Any], None]] = {
    **{code: action for code, action in pickle._Unpickler.dispatch.items() if _OPCODES[code] in _PLAIN},
    pickle.REDUCE[0]: _TensorUnpickler.load_reduce,
    pickle.NEWOBJ[0]: _TensorUnpickler.load_newobj,
    pickle.NEWOBJ_EX[0]: _TensorUnpickler.load_newobj_ex,
    pickle.BUILD[0]: _TensorUnpickler.load_build,
    pickle.EMPTY_DICT[0]: _TensorUnpickler.load_empty_dictionary,
    pickle.EMPTY_SET[0]: _TensorUnpickler.load_empty_set,
    pickle.BYTEARRAY8[0]: _TensorUnpickler.load_bytearray8,
}


class _Counted(dict[int, Callable[[Any], None]]):
    """The allowed opcodes; counts how often one is looked up."""

    def __init__(self) -> None:
        super().__init__(_ACTIONS)
        self.count, self.most = 0, PICKLE_OPCODES.value
        self.last = pickle.STOP[0]

    def __getitem__(self, code: int) -> Callable[[Any], None]:
        self.count += 1
        if self.count > self.most:
            raise Refused(
                f"its pickle has over {self.most:,} opcodes; save the state dict alone, or, {PICKLE_OPCODES.way_out}"
            )
        self.last = code
        return super().__getitem__(code)

    def __missing__(self, code: int) -> Callable[[Any], None]:
        name = _OPCODES.get(code, f"{code:#04x}")
        raise Foreign(f"its pickle uses the opcode {name}, which no state dict has; nothing was executed")


class Readable(Protocol):
    """The file that a pickle is read from: an ``io.BytesIO`` or an ``mmap.mmap``."""

    def read(self, size: int, /) -> bytes: ...
    def readline(self) -> bytes: ...


@dataclass(frozen=True, eq=False)
class Pickled:
    """The content of a pickle.

    Attributes:
        value: Text, bytes, numbers, ``None``, tuples, lists, :class:`Pairs`, :class:`Tensor`,
            :class:`Unread`, :class:`Storage`, :class:`Unbuilt`, or something opaque that has no tensors.
        storages: For each key the first storage of that key, whether or not a tensor is seen in it.
        opcodes: How many opcodes it has, which bounds the entries of all its containers.
        unknown: Names in it that are not known, as they may be printed; the first hundred.
    """

    value: object
    storages: Mapping[str, Storage]
    opcodes: int
    unknown: Sequence[str] = ()


def load(file: Readable) -> Pickled:
    """Read one pickle and leave the file behind it.

    Raises:
        Refused: It has a name, an opcode or a tensor that is not allowed, more opcodes than any state dict, or it does
            not come to one value.
        ValueError, EOFError, pickle.UnpicklingError: It is damaged.
    """
    machine = _TensorUnpickler(file)
    opcodes = cast("_Counted", machine.dispatch)
    try:
        value = machine.load()
    except ForbiddenName as error:
        raise Foreign(_explanation(str(error))) from None
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise Refused(
            f"its pickle uses the opcode {_OPCODES[opcodes.last]} on values that it is not for; the file is damaged"
        ) from error
    if machine.metastack or machine.stack:
        raise Refused("its pickle does not end with one value; the file is damaged")
    return Pickled(value, machine.storages, opcodes.count, tuple(machine.unknown))


def _explanation(name: str) -> str:
    """Say what a file is in whose pickle tensors come from a function or type that is not known."""
    found, nothing = shown(name), "nothing was executed"
    if re.match(r"torch\._utils\._rebuild_qtensor|torch\.Q\w+Storage|torch\.ScriptObject", name):
        return f"holds quantised tensors ({found}), expected floats; save the model before quantising it; {nothing}"
    if re.match(r"torch\._utils\._rebuild_sparse_tensor|torch\.sparse\.", name):
        return f"holds sparse tensors ({found}), expected dense ones; save tensor.to_dense(); {nothing}"
    if re.match(r"torch\._utils\._rebuild_meta_tensor_no_storage", name):
        return f"holds tensors of the device meta ({found}), which have no numbers; {nothing}"
    if re.match(r"torch\.storage\._load_from_bytes", name):
        return f"a pickle made without torch.save ({found}); save the state dict with torch.save; {nothing}"
    return f"its pickle builds tensors by {found}, which is not known; {nothing}; save the state dict alone"
