"""Read PyTorch's pickles as plain data: no name in them is looked up and nothing in them is called.

A pickle is a program for a stack machine. The one here has only the opcodes that ``torch.save``
writes for tensors and plain containers, and its ``REDUCE`` knows the functions of
:mod:`~lstmconv.formats.torch.allowed_globals` alone. Dictionaries are lists of pairs, so that no key that a
hostile file made up is hashed.
"""

from __future__ import annotations

import pickletools
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, Any, Protocol, cast

from lstmconv.formats.safety.limits import PICKLE_OPCODES
from lstmconv.formats.torch.allowed_globals import (
    OPAQUE,
    ForbiddenName,
    Foreign,
    Function,
    Opaque,
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


@dataclass
class _Machine:
    """The stack machine: the current stack, those below its marks, and the memo."""

    stack: list[object] = field(default_factory=list)
    below: list[list[object]] = field(default_factory=list)
    memo: dict[int, object] = field(default_factory=dict)
    storages: dict[str, Storage] = field(default_factory=dict)

    def ignore(self, _: object) -> None:
        """``PROTO``, ``FRAME``, ``STOP``."""

    def push(self, argument: object) -> None:
        self.stack.append(argument)

    def push_none(self, _: object) -> None:
        self.stack.append(None)

    def push_true(self, _: object) -> None:
        self.stack.append(True)

    def push_false(self, _: object) -> None:
        self.stack.append(False)

    def push_opaque(self, _: object) -> None:
        self.stack.append(OPAQUE)

    def push_dict(self, _: object) -> None:
        self.stack.append(Pairs([]))

    def push_list(self, _: object) -> None:
        self.stack.append([])

    def push_tuple(self, _: object) -> None:
        self.stack.append(())

    def mark(self, _: object) -> None:
        self.below.append(self.stack)
        self.stack = []

    def above_mark(self) -> list[object]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def tuple_above_mark(self, _: object) -> None:
        items = self.above_mark()
        self.stack.append(tuple(items))

    def tuple_of_1(self, _: object) -> None:
        self.stack[-1] = (self.stack[-1],)

    def tuple_of_2(self, _: object) -> None:
        self.stack[-2:] = [(self.stack[-2], self.stack[-1])]

    def tuple_of_3(self, _: object) -> None:
        self.stack[-3:] = [(self.stack[-3], self.stack[-2], self.stack[-1])]

    def remember(self, index: Any) -> None:
        self.memo[index] = self.stack[-1]

    def memoize(self, _: object) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def recall(self, index: Any) -> None:
        self.stack.append(self.memo[index])

    def append(self, _: object) -> None:
        self.extend_by([self.stack.pop()])

    def appends(self, _: object) -> None:
        self.extend_by(self.above_mark())

    def extend_by(self, items: list[object]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise Refused(f"its pickle appends to {kind(target)}, expected a list; nothing was executed")
        target.extend(items)

    def add_items(self, _: object) -> None:
        self.above_mark()
        if not isinstance(self.stack[-1], Opaque):
            raise Refused("its pickle adds to what is no set; nothing was executed")

    def set_item(self, _: object) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.update_by([key, value])

    def set_items(self, _: object) -> None:
        self.update_by(self.above_mark())

    def update_by(self, items: list[object]) -> None:
        target = self.stack[-1]
        if not isinstance(target, Pairs):
            raise Refused(f"its pickle sets items of {kind(target)}, expected a dict; nothing was executed")
        target.pairs.extend(zip(items[::2], items[1::2], strict=True))

    def name(self, argument: Any) -> None:
        module, _, attribute = argument.partition(" ")  # genops joins both lines by a space
        self.stack.append(meaning(module, attribute))

    def name_from_stack(self, _: object) -> None:
        attribute, module = self.stack.pop(), self.stack.pop()
        if not isinstance(module, str) or not isinstance(attribute, str):
            raise Refused("its pickle names something by other than text; nothing was executed")
        self.stack.append(meaning(module, attribute))

    def call(self, _: object) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Function):
            raise Refused(f"its pickle calls {kind(function)}, expected what builds a tensor; nothing was executed")
        self.stack.append(function(arguments))

    def state(self, _: object) -> None:
        """``BUILD``: torch hangs ``_metadata`` on a state dict (torch/nn/modules/module.py); it is dropped."""
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, Pairs) or not target.takes_state or not isinstance(state, Pairs):
            raise Refused(f"its pickle sets the state of {kind(target)}; nothing was executed")

    def persistent(self, _: object) -> None:
        storage = storage_named(self.stack.pop())
        self.storages.setdefault(storage.key, storage)
        self.stack.append(storage)


_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), _Machine.ignore),
    **dict.fromkeys(("INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"), _Machine.push),
    **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING"), _Machine.push),  # Python 2's str
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _Machine.push),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "EMPTY_SET"), _Machine.push_opaque),
    "NONE": _Machine.push_none,
    "NEWTRUE": _Machine.push_true,
    "NEWFALSE": _Machine.push_false,
    "EMPTY_DICT": _Machine.push_dict,
    "EMPTY_LIST": _Machine.push_list,
    "EMPTY_TUPLE": _Machine.push_tuple,
    "MARK": _Machine.mark,
    "TUPLE": _Machine.tuple_above_mark,
    "TUPLE1": _Machine.tuple_of_1,
    "TUPLE2": _Machine.tuple_of_2,
    "TUPLE3": _Machine.tuple_of_3,
    "BINPUT": _Machine.remember,
    "LONG_BINPUT": _Machine.remember,
    "MEMOIZE": _Machine.memoize,
    "BINGET": _Machine.recall,
    "LONG_BINGET": _Machine.recall,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "ADDITEMS": _Machine.add_items,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.name_from_stack,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.state,
    "BINPERSID": _Machine.persistent,
}


class Readable(Protocol):
    """What a pickle is read from: a file, an ``io.BytesIO`` or an ``mmap.mmap``."""

    def read(self, size: int, /) -> bytes: ...
    def readline(self) -> bytes: ...
    def tell(self) -> int: ...


@dataclass(frozen=True, eq=False)
class Pickled:
    """What a pickle holds.

    Attributes:
        value: Text, numbers, ``None``, tuples, lists, :class:`Pairs`, :class:`Tensor`,
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
        Refused: It has a name, an opcode or a tensor that is not allowed, or more opcodes than any state dict.
        ValueError, IndexError, KeyError, TypeError: It is damaged.
    """
    with warnings.catch_warnings():
        # A damaged string may hold escapes that pickletools warns of; what is wrong with the file is said once.
        warnings.simplefilter("ignore", DeprecationWarning)
        return _load(file)


def _load(file: Readable) -> Pickled:
    machine = _Machine()
    opcodes = pickletools.genops(cast("IO[bytes]", file))
    count, most = 0, PICKLE_OPCODES.value
    for count, (opcode, argument, _) in enumerate(opcodes, 1):
        if count > most:
            raise Refused(
                f"its pickle has over {most:,} opcodes; save the state dict alone, or, {PICKLE_OPCODES.way_out}"
            )
        action = _ACTIONS.get(opcode.name)
        if action is None:
            raise Foreign(f"its pickle uses the opcode {opcode.name}, which no state dict has; nothing was executed")
        try:
            action(machine, argument)
        except ForbiddenName as error:
            raise Foreign(_explanation([str(error), *_forbidden(opcodes)])) from None
    if machine.below or len(machine.stack) != 1:
        raise Refused("its pickle does not end with one value; the file is damaged")
    return Pickled(machine.stack[0], machine.storages, count)


def _forbidden(opcodes: Iterator[Any]) -> list[str]:
    """Return the forbidden names in the rest of a pickle, so that it can be called what it is."""
    names: dict[str, None] = {}
    texts = ["", ""]
    try:
        for opcode, argument, _ in islice(opcodes, PICKLE_OPCODES.value):
            if opcode.name == "GLOBAL":
                texts = argument.split(" ", 1)
            elif isinstance(argument, str):
                texts = [texts[-1], argument]
            if opcode.name in ("GLOBAL", "STACK_GLOBAL") and len(names) < _MAX_NAMES:
                names.update(dict.fromkeys(_if_forbidden(texts[0], texts[1])))
    except ValueError:  # damaged behind the name that is refused anyway
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
