"""Read PyTorch's pickles as plain data: no name in them is looked up and nothing in them is called.

A pickle is a program for a stack machine. Python's own machine (``pickle._Unpickler``, in Python) runs here with the
opcodes that ``torch.save`` writes for tensors and plain containers, and no others. ``GLOBAL`` and ``REDUCE`` know the
names of :mod:`~lstmconv.formats.torch.allowed_globals` alone. Dictionaries become :class:`Pairs` and sets
:data:`OPAQUE`, so that no key that a hostile file made up is hashed.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import struct
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
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
        self.dispatch = _Counted()  # type: ignore[misc]  # load() looks each opcode up in it

    def find_class(self, module: str, name: str) -> Any:
        return meaning(module, name)

    def persistent_load(self, pid: Any) -> Any:
        storage = storage_named(pid)
        self.storages.setdefault(storage.key, storage)
        return storage

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Function):
            raise Refused(f"its pickle calls {kind(function)}, expected what builds a tensor; nothing was executed")
        self.append(function(arguments))

    def load_build(self) -> None:
        """Drop the ``_metadata`` that torch hangs on a state dict (torch/nn/modules/module.py)."""
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, Pairs) or not target.takes_state or not isinstance(state, Pairs):
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
    """What a pickle is read from: an ``io.BytesIO`` or an ``mmap.mmap``."""

    def read(self, size: int, /) -> bytes: ...
    def readline(self) -> bytes: ...
    def tell(self) -> int: ...
    def seek(self, position: int, /) -> object: ...


@dataclass(frozen=True, eq=False)
class Pickled:
    """What a pickle holds.

    Attributes:
        value: Text, bytes, numbers, ``None``, tuples, lists, :class:`Pairs`, :class:`Tensor`,
            :class:`Unread`, :class:`Storage`, or something opaque that has no tensors.
        storages: For each key the first storage of that key, whether or not a tensor is seen in it.
        opcodes: How many opcodes it has, which bounds the entries of all its containers.
    """

    value: object
    storages: Mapping[str, Storage]
    opcodes: int


def load(file: Readable) -> Pickled:
    """Read one pickle and leave the file behind it.

    Raises:
        Refused: It has a name, an opcode or a tensor that is not allowed, more opcodes than any state dict, or it does
            not come to one value.
        ValueError, EOFError, pickle.UnpicklingError: It is damaged.
    """
    start = file.tell()
    machine = _TensorUnpickler(file)
    opcodes = cast("_Counted", machine.dispatch)
    try:
        value = machine.load()
    except ForbiddenName as error:
        file.seek(start)
        raise Foreign(_explanation(_forbidden(file) or [str(error)])) from None
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise Refused(
            f"its pickle uses the opcode {_OPCODES[opcodes.last]} on values that it is not for; the file is damaged"
        ) from error
    if machine.metastack or machine.stack:
        raise Refused("its pickle does not end with one value; the file is damaged")
    return Pickled(value, machine.storages, opcodes.count)


def _forbidden(file: Readable) -> list[str]:
    """Return the forbidden names in a pickle, so that it can be called what it is."""
    names: dict[str, None] = {}
    texts = ["", ""]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pickletools warns of escapes in a damaged string.
        try:
            for opcode, argument, _ in islice(pickletools.genops(cast("IO[bytes]", file)), PICKLE_OPCODES.value):
                if opcode.name == "GLOBAL":
                    texts = cast(str, argument).split(" ", 1)  # genops joins both lines by a space.
                elif isinstance(argument, str):
                    texts = [texts[-1], argument]
                if opcode.name in ("GLOBAL", "STACK_GLOBAL") and len(names) < _MAX_NAMES:
                    names.update(dict.fromkeys(_if_forbidden(texts[0], texts[1])))
        except ValueError:  # Damage behind the name that is refused anyway.
            pass
    return list(names)


def _if_forbidden(module: str, attribute: str) -> list[str]:
    try:
        meaning(module, attribute)
    except ForbiddenName as error:
        return [str(error)]
    return []


def _explanation(names: Sequence[str]) -> str:
    """Say what a file is whose pickle has these forbidden names, in their order."""
    nothing = "nothing was executed"

    def among(pattern: str) -> str | None:
        return next((shown(name) for name in names if re.match(pattern, name)), None)

    if found := among(r"torch\._utils\._rebuild_qtensor|torch\.Q\w+Storage|torch\.ScriptObject"):
        return f"holds quantised tensors ({found}), expected floats; save the model before quantising it; {nothing}"
    if found := among(r"torch\.nn\.(modules|quantized)\.|torch\.ao\.nn\.|torch\.jit\."):
        return f"a whole module ({found}), expected a state dict; save module.state_dict(); {nothing}"
    if found := among(r"torch\._utils\._rebuild_sparse_tensor|torch\.sparse\."):
        return f"holds sparse tensors ({found}), expected dense ones; save tensor.to_dense(); {nothing}"
    if found := among(r"torch\._utils\._rebuild_meta_tensor_no_storage"):
        return f"holds tensors of the device meta ({found}), which have no numbers; {nothing}"
    if found := among(r"torch\.storage\._load_from_bytes"):
        return f"a pickle made without torch.save ({found}); save the state dict with torch.save; {nothing}"
    return f"its pickle names {shown(names[0])}; {nothing}; save the state dict alone"
