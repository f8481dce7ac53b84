"""What the names in PyTorch's pickles stand for: descriptions of tensors, made by this module's own functions.

The allowed names are those of torch/_weights_only_unpickler.py ``_get_allowed_globals`` (2.13) as far
as they describe dense tensors. No name is imported; each of :data:`_CALLS` is a function from here.
Tensors stay descriptions (:class:`Tensor`) of a place in a storage. Other names stay names
(:mod:`~lstmconv.formats.torch.opaque`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstmconv.formats.torch.opaque import Named, Unbuilt
from lstmconv.model import float_type

__all__ = [
    "OPAQUE",
    "Element",
    "ForbiddenName",
    "Function",
    "Opaque",
    "Pairs",
    "Refused",
    "Storage",
    "StorageType",
    "Tensor",
    "Unread",
    "kind",
    "meaning",
    "shown",
    "storage_named",
]

_MAX_DIMENSIONS = 32
"""What every NumPy can hold (NumPy 1: 32, NumPy 2: 64)."""

_MAX_KEY_LENGTH = 64

_MODULE_ALIASES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
"""Protocol 2 writes Python 2's names (Lib/_compat_pickle.py)."""


class Refused(Exception):  # noqa: N818  # it becomes an UnreadableFileError where the file's name is known
    """The file is not what it should be; the text goes after the file's name."""


class Foreign(Refused):
    """The file is whole, and something else than tensors by name; it becomes a ForeignFileError."""


class Tensorless(Refused):
    """The file is whole, and has no tensors by name; it becomes a NoLSTMError."""


class ForbiddenName(Exception):  # noqa: N818
    """A pickle names something that is not known; the text is the name."""


def shown(value: object, limit: int = 120) -> str:
    r"""Return any text as one printable line of bounded length.

    >>> shown("os\nsystem")
    'os\\nsystem'
    """
    text = str(value)[: limit + 1].encode("unicode_escape").decode()
    return text if len(text) <= limit else text[:limit] + "..."


@dataclass(frozen=True)
class Element:
    """An element type by torch's name: ``float32``, ``bfloat16``, ``int64``, ``bool``, ``float8_e5m2``."""

    name: str

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """NumPy's type of the same bits; ``None`` if there is none."""
        known = self.name in _FLOATS or self.name in _OTHERS
        return _dtype(self.name) if known else None


def _dtype(name: str) -> np.dtype[Any]:
    return float_type(name) if name in _FLOATS else np.dtype(name)


_FLOATS = ("float16", "bfloat16", "float32", "float64")
_OTHERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128")

# torch/storage.py _dtype_to_storage_type_map, without the quantised ones; an untyped storage counts bytes.
_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}

# What NumPy lacks, by pattern: torch/storage.py _new_dtypes.
_FOREIGN = re.compile(r"float8_\w+|float4_\w+|complex32|bits\w+|u?int[1-7]")


@dataclass(frozen=True)
class StorageType:
    """A storage class such as ``torch.FloatStorage``."""

    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Storage:
    """A storage or a part of one: ``count`` elements from ``start`` of a whole of ``whole`` elements."""

    key: str
    dtype: np.dtype[Any]
    whole: int
    start: int
    count: int


@dataclass(frozen=True)
class Tensor:
    """A view into a storage; offset and strides count elements."""

    storage: Storage
    dtype: np.dtype[Any]
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Unread:
    """A tensor whose numbers cannot be seen as an array; ``reason`` says why."""

    reason: str


@dataclass(frozen=True, eq=False)
class Pairs:
    """A dictionary in the order of its entries; a later entry of the same key replaces an earlier one."""

    pairs: list[Any]
    """Tuples of two, or Python 2's lists of two; :mod:`.paths` checks that."""
    takes_state: bool = False
    """Whether it is an ``OrderedDict``, on which torch hangs ``_metadata``."""

    def __setitem__(self, key: object, value: object) -> None:
        """Add an entry, as ``SETITEM`` does."""
        self.pairs.append((key, value))


@dataclass(frozen=True)
class Opaque:
    """A value that is no tensor and holds none by name: bytes, a set, a device."""

    def add(self, entry: object) -> None:
        """Ignore an entry of a set (``ADDITEMS``)."""


OPAQUE = Opaque()


@dataclass(frozen=True)
class Function:
    """One of :data:`_CALLS`, by the name under which a pickle calls it."""

    name: str
    made_by: Callable[..., object]
    counts: range

    def __call__(self, arguments: object) -> object:
        """Build what the function stands for.

        Raises:
            Refused: The arguments are not what torch writes.
        """
        if not isinstance(arguments, tuple) or len(arguments) not in self.counts:
            found = f"{len(arguments)} arguments" if isinstance(arguments, tuple) else kind(arguments)
            raise Refused(f"its pickle gives {found} to {self.name}; the file is damaged")
        return self.made_by(*arguments)


def kind(value: object) -> str:
    """Say in words what a value of a pickle is.

    >>> kind(Pairs([]))
    'a dict'
    """
    known = (
        (Pairs, "a dict"),
        (Tensor | Unread, "a tensor"),
        (Storage, "a storage"),
        (Function, "a function"),
        (StorageType | Element | Opaque, "a type or a set"),
        (Named | Unbuilt, "of an unknown class"),
        (type(None), "None"),
    )
    article = "an" if isinstance(value, int) else "a"
    return next((words for types, words in known if isinstance(value, types)), f"{article} {type(value).__name__}")


def _count(value: object, what: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        found = shown(value, 40) if type(value) is int and abs(value) < 1 << 99 else kind(value)
        raise Refused(f"a tensor's {what} is {found}, expected a whole number from 0 on; the file is damaged")
    return value


def _counts(values: object, what: str) -> tuple[int, ...]:
    if not isinstance(values, tuple):
        raise Refused(f"a tensor's {what} is {kind(values)}, expected a tuple; the file is damaged")
    if len(values) > _MAX_DIMENSIONS:
        raise Refused(f"a tensor has {len(values)} dimensions, expected at most {_MAX_DIMENSIONS}; the file is damaged")
    return tuple(_count(value, what) for value in values)


def _tensor(storage: object, dtype: np.dtype[Any] | None, offset: object, size: object, stride: object) -> Tensor:
    if not isinstance(storage, Storage):
        raise Refused(f"a tensor's storage is {kind(storage)}; the file is damaged")
    tensor = Tensor(
        storage, dtype or storage.dtype, _count(offset, "offset"), _counts(size, "size"), _counts(stride, "stride")
    )
    if len(tensor.size) != len(tensor.stride):
        raise Refused(f"a tensor has {len(tensor.size)} sizes and {len(tensor.stride)} strides; the file is damaged")
    return tensor


def _with_metadata(tensor: Tensor, metadata: object) -> Tensor | Unread:
    # torch/_utils.py get_tensor_metadata: whether the conj or neg bit is set.
    if metadata is None or (isinstance(metadata, Pairs) and not metadata.pairs):
        return tensor
    return Unread("a lazy conjugate or negative, whose numbers do not stand in the file")


def _rebuild_tensor(storage: object, offset: object, size: object, stride: object) -> Tensor:
    return _tensor(storage, None, offset, size, stride)


def _rebuild_tensor_v2(
    storage: object,
    offset: object,
    size: object,
    stride: object,
    _grad: object,
    _hooks: object,
    metadata: object = None,
) -> Tensor | Unread:
    return _with_metadata(_tensor(storage, None, offset, size, stride), metadata)


def _rebuild_tensor_v3(
    storage: object,
    offset: object,
    size: object,
    stride: object,
    _grad: object,
    _hooks: object,
    element: object,
    metadata: object = None,
) -> Tensor | Unread:
    """See an untyped storage as elements of a type that stands beside it; the offset counts those elements."""
    if not isinstance(element, Element):
        raise Refused(f"a tensor's dtype is {kind(element)}; the file is damaged")
    if element.dtype is None:
        return Unread(f"torch.{element.name}, which NumPy does not have")
    return _with_metadata(_tensor(storage, element.dtype, offset, size, stride), metadata)


def _rebuild_parameter(data: object, _grad: object, _hooks: object, _state: object = None) -> Tensor | Unread:
    if isinstance(data, Unbuilt):
        return Unread(f"of the class {shown(data.name)}, which is not known")
    if not isinstance(data, Tensor | Unread):
        raise Refused(f"a parameter's data is {kind(data)}; the file is damaged")
    return data


def _rebuild_from_type(function: object, new_type: object, arguments: object, _state: object) -> Tensor | Unread:
    """Rebuild a tensor with attributes (torch/_tensor.py ``_rebuild_from_type_v2``); they are not kept."""
    inner = isinstance(function, Function) and function.made_by is not _rebuild_from_type
    made = function(arguments) if isinstance(function, Function) and inner else None
    if isinstance(made, Tensor | Unread) and isinstance(new_type, Named):
        return Unread(f"of the class {shown(new_type.name)}, which is not known")
    if not isinstance(made, Tensor | Unread) or not isinstance(new_type, Opaque):
        raise Refused(f"a tensor is built by {kind(function)} as {kind(new_type)}; the file is damaged")
    return made


def _ordered(entries: object = None) -> Pairs:
    """Build a dictionary from nothing, from a dictionary, or from Python 2's ``[[key, value], ...]``.

    The entries are shared and not copied, so that a pickle cannot double them at will.
    """
    if entries is None:
        return Pairs([], takes_state=True)
    if not isinstance(entries, Pairs | list):
        raise Refused(f"a dictionary is built from {kind(entries)}; the file is damaged")
    return Pairs(entries.pairs if isinstance(entries, Pairs) else entries, takes_state=True)


def _size(values: object) -> tuple[object, ...]:
    if not isinstance(values, list | tuple) or len(values) > _MAX_DIMENSIONS:
        raise Refused(f"a size is no tuple of up to {_MAX_DIMENSIONS} numbers; the file is damaged")
    return tuple(values)


def _default_dict(factory: object = None, entries: object = None) -> Pairs:
    return _ordered(entries)


def _reconstructor(made: object, base: object, state: object) -> Unbuilt:
    """Make a plain object as protocols 0 and 1 do (Lib/copyreg.py ``_reconstructor``)."""
    if not isinstance(made, Named):
        raise Refused(f"its pickle makes an object of {kind(made)}; nothing was executed")
    return Unbuilt(made.name, plain=base == Named("builtins.object") and state is None)


def _opaque(*_: object) -> Opaque:
    return OPAQUE


# What makes a value, and of how many arguments.
_CALLS: dict[str, tuple[Callable[..., object], range]] = {
    "torch._utils._rebuild_tensor": (_rebuild_tensor, range(4, 5)),
    "torch._utils._rebuild_tensor_v2": (_rebuild_tensor_v2, range(6, 8)),
    "torch._utils._rebuild_tensor_v3": (_rebuild_tensor_v3, range(7, 9)),
    "torch._utils._rebuild_parameter": (_rebuild_parameter, range(3, 4)),
    "torch._utils._rebuild_parameter_with_state": (_rebuild_parameter, range(4, 5)),
    "torch._tensor._rebuild_from_type_v2": (_rebuild_from_type, range(4, 5)),
    "torch.Size": (_size, range(1, 2)),
    "torch.device": (_opaque, range(1, 3)),
    "torch.serialization._get_layout": (_opaque, range(1, 2)),
    "collections.OrderedDict": (_ordered, range(2)),
    "collections.Counter": (_ordered, range(2)),
    "collections.defaultdict": (_default_dict, range(3)),
    "copyreg._reconstructor": (_reconstructor, range(3, 4)),
    "builtins.set": (_opaque, range(2)),
    "builtins.bytearray": (_opaque, range(3)),
    "builtins.complex": (_opaque, range(2, 3)),
    "_codecs.encode": (_opaque, range(2, 3)),
}

# Types that stand as arguments of the functions above.
_TYPES = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")


def meaning(module: str, attribute: str) -> object:
    """Return what this module has for a name; nothing is imported.

    Raises:
        ForbiddenName: It has nothing.
    """
    name = f"{_MODULE_ALIASES.get(module, module)}.{attribute}"
    if name in _CALLS:
        return Function(name, *_CALLS[name])
    if name in _TYPES:
        return OPAQUE
    if module in ("torch", "torch.cuda", "torch.storage") and attribute in _STORAGES:
        return StorageType(_dtype(_STORAGES[attribute]))
    element = Element(attribute)
    if module == "torch" and (element.dtype is not None or _FOREIGN.fullmatch(attribute)):
        return element
    raise ForbiddenName(name)


def storage_named(identifier: object) -> Storage:
    """Read ``("storage", type, key, location, count)``; the legacy format has a view or ``None`` at the end.

    Sources: torch/serialization.py ``_save`` and ``_legacy_save``, ``persistent_id`` (2.13); a view is
    ``(key, offset, count)`` in elements of the storage (``_legacy_load``, ``persistent_load``).
    """
    if not isinstance(identifier, tuple) or len(identifier) not in (5, 6) or identifier[0] != "storage":
        raise Refused(
            "its pickle refers to something that is no storage; nothing was executed; save the state dict alone"
        )
    _, storage_type, key, _, count, *rest = identifier
    if isinstance(storage_type, Named):
        raise ForbiddenName(storage_type.name)
    if not isinstance(storage_type, StorageType) or not isinstance(key, str) or len(key) > _MAX_KEY_LENGTH:
        raise Refused("its pickle refers to a storage without type or key; the file is damaged")
    whole = _count(count, "storage size")
    view = rest[0] if rest else None
    if view is None:
        return Storage(key, storage_type.dtype, whole, 0, whole)
    if not isinstance(view, tuple) or len(view) != 3:
        raise Refused("its pickle refers to a part of a storage that has no bounds; the file is damaged")
    start, part = _count(view[1], "storage offset"), _count(view[2], "storage size")
    if start + part > whole:
        raise Refused(f"elements {start} to {start + part} of a storage of {whole} are named; the file is damaged")
    return Storage(key, storage_type.dtype, whole, start, part)
