"""Read what ``torch.save`` wrote, without PyTorch and without executing anything: tensors by name.

The container is read by :mod:`~lstmconv.formats.torch.containers`, its pickle by
:mod:`~lstmconv.formats.torch.unpickler`; here tensors get their names and their numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from lstmconv.errors import ForeignFileError, NoLSTMError, UnreadableFileError
from lstmconv.formats.lookalikes import lookalike
from lstmconv.formats.mapped_file import LFS_POINTER, MappedFile
from lstmconv.formats.safety.limits import TENSORS
from lstmconv.formats.torch.allowed_globals import Foreign, Refused, Tensor, Tensorless, Unread, shown
from lstmconv.formats.torch.archive import Container
from lstmconv.formats.torch.containers import open_legacy, open_zip
from lstmconv.formats.torch.opaque import Unbuilt
from lstmconv.formats.torch.paths import named_objects
from lstmconv.formats.torch.pickled_modules import PickledModule
from lstmconv.listing import listed
from lstmconv.model import Array

__all__ = ["TorchFile", "read_tensors"]

_MAX_EXPANDED = 1 << 24
"""Elements that a tensor of overlapping strides, such as an expanded one, may have beyond its storage's."""
_MAX_SAFETENSORS_HEADER = 100_000_000  # safetensors/src/tensor.rs MAX_HEADER_SIZE


@dataclass(frozen=True, eq=False)
class TorchFile:
    """The tensors of a file that ``torch.save`` wrote.

    Attributes:
        tensors: Read-only arrays by key, in the file's order. Keys of dictionaries and indexes of
            lists around the innermost are joined by ``/``: ``state_dict/encoder.weight_ih_l0``. A module's
            tensors have the names of its ``state_dict()``.
            Floats, integers, bool and complex as torch had them; bfloat16 as ``ml_dtypes.bfloat16``.
            Views of a memory map of the file wherever the bytes stand there as they are.
        record: The text of ``extra/lstmconv.json``; ``None`` if the file has no such record.
        notes: A line for each tensor that was left out because NumPy has no such numbers, and one that names the
            unknown classes of other objects.
        description: Which container it is.
        modules: What is known of the modules in it, where it has modules and not only their tensors, by the prefix
            of their tensors: ``encoder.``.
        unread: Tensors whose numbers NumPy does not have, and objects that are not built, by their names.
    """

    tensors: Mapping[str, Array]
    record: str | None = None
    notes: tuple[str, ...] = ()
    description: str = "PyTorch zip"
    modules: Mapping[str, PickledModule] = field(default_factory=dict)
    unread: Mapping[str, Unread | Unbuilt] = field(default_factory=dict)


def read_tensors(file: MappedFile) -> TorchFile:
    """Read every tensor of a ``.pt``, ``.pth`` or ``.bin`` file; the suffix does not matter.

    Raises:
        UnreadableFileError: It is not what ``torch.save`` writes for tensors in plain containers, or
            it is damaged, or it claims more than it holds.
        NoLSTMError: It has no tensors, or one without a name.
    """
    try:
        return _read(file)
    except Tensorless as error:
        raise NoLSTMError(f"{error}", about=file.name) from error
    except Foreign as error:
        raise ForeignFileError(f"{error}", about=file.name) from error
    except Refused as error:
        raise UnreadableFileError(f"{error}", about=file.name) from error
    except UnreadableFileError:
        raise
    except Exception as error:  # Damage shows in as many kinds of error as zipfile, zlib and pickletools have.
        found = shown(f"{type(error).__name__}: {error}")
        raise UnreadableFileError(
            f"a damaged PyTorch file ({found}); restore it or save it again", about=file.name
        ) from error


def _read(file: MappedFile) -> TorchFile:
    if file.path.is_dir():
        raise Refused("not a file, expected what torch.save writes")
    head = file.head
    _refuse_lookalikes(head)
    container = open_zip(file) if head.startswith(b"PK\x03\x04") else open_legacy(file)
    return _resolve(container)


_LOOKALIKES = {
    LFS_POINTER: "a Git LFS pointer, not the file itself; run: git lfs pull",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as Keras writes, expected what torch.save writes",
    b"PK\x05\x06": "a zip without content; restore or download it again",
    b"{": "a JSON file, expected what torch.save writes",
}


def _refuse_lookalikes(head: bytes) -> None:
    """Say what a file is that no ``torch.save`` since 2016 began."""
    if not head:
        raise Refused("the file is empty; restore or download it again")
    # First, for its first byte is the length of a header and may be any.
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < _MAX_SAFETENSORS_HEADER:
        raise Refused("a safetensors file, expected what torch.save writes; give it the suffix .safetensors")
    for start, said in _LOOKALIKES.items():
        if head.startswith(start):
            raise Refused(said)
    if head[257:262] == b"ustar":  # torch/serialization.py legacy_load reads such files
        raise Foreign(
            "a tar file, as the first versions of torch wrote; load it with torch and save the state dict again"
        )
    if head.startswith(b"PK\x03\x04") or head[:1] in (b"\x80", b"L"):
        return
    found = lookalike(head)
    if found is not None:
        raise Refused(f"{found.what}, expected what torch.save writes; {found.way_out}")
    if not any(byte < 9 or 13 < byte < 32 for byte in head):
        raise Foreign(
            f"a text file ({shown(head[:20].decode(errors='replace'))!r}...), expected what torch.save writes"
        )
    raise Refused(f"begins with the bytes {head[:8].hex(' ')}, expected what torch.save writes")


def _resolve(container: Container) -> TorchFile:
    """Name the tensors of an object and see their storages' bytes through them."""
    tensors: dict[str, Array] = {}
    unread: dict[str, Unread | Unbuilt] = {}
    modules = dict(container.modules)
    most = TENSORS.value
    if isinstance(container.pickled.value, Tensor | Unread):
        raise Tensorless("a single tensor without a name, expected a state dict; save module.state_dict()")
    for key, found in named_objects(container.pickled):
        if isinstance(found, PickledModule):
            modules[key] = found
        elif isinstance(found, Unbuilt):
            unread.setdefault(key, found)
        elif key in tensors or isinstance(unread.get(key), Unread):
            raise Refused(f"two tensors have the name {shown(key)!r}; save the state dict alone")
        elif len(tensors) + len(unread) >= most:
            raise Refused(f"over {most:,} tensors; save the state dict alone, or, {TENSORS.way_out}")
        elif isinstance(found, Unread):
            unread[key] = found
        else:
            tensors[key] = _array(shown(key), found, container)
    if not tensors and container.record is None:  # A whole model may have no weights at all.
        raise _without_tensors(container)
    notes = [f"'{shown(key)}' is left out: {each.reason}" for key, each in unread.items() if isinstance(each, Unread)]
    classes = dict.fromkeys(shown(each.name) for each in unread.values() if isinstance(each, Unbuilt))
    if classes:
        notes.append(f"objects of other classes ({listed(classes, 3)}) are ignored; nothing was executed")
    return TorchFile(MappingProxyType(tensors), container.record, tuple(notes), container.description, modules, unread)


def _without_tensors(container: Container) -> Refused:
    if container.scripted:
        return Foreign(
            "a TorchScript archive that has no tensors by name (a frozen one has constants alone); "
            "save module.state_dict() with torch.save"
        )
    unknown = container.pickled.unknown
    if unknown:
        return Foreign(
            f"holds no tensors outside of what other classes and functions would build ({listed(unknown, 3)}); "
            "nothing was executed; save module.state_dict() with torch.save"
        )
    return Tensorless("holds no tensors, expected a state dict; save module.state_dict()")


def _array(name: str, tensor: Tensor, container: Container) -> Array:
    """See a storage's bytes as a tensor: a read-only view wherever their order is this machine's.

    Raises:
        Refused: The storage has other bytes than the pickle says, or the tensor reaches out of it.
    """
    storage, itemsize = tensor.storage, tensor.dtype.itemsize
    content = container.in_order(storage, tensor.dtype)
    # torch/storage.py _size: a storage of bytes counts whole elements, so that bytes may be left over.
    if content.size // storage.dtype.itemsize != storage.whole:
        raise Refused(
            f"'{name}' is in a storage of {content.size:,} bytes, expected {storage.whole:,} {storage.dtype.name}; "
            "the file is damaged"
        )
    content = content[storage.start * storage.dtype.itemsize :][: storage.count * storage.dtype.itemsize]
    available, count = content.size // itemsize, math.prod(tensor.size)
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.size, tensor.stride, strict=True))
    if count and (last >= available or count > max(available, _MAX_EXPANDED)):
        raise Refused(
            f"'{name}' has the shape {list(tensor.size)} at {tensor.offset:,} of a storage of {available:,} elements; "
            "the file is damaged"
        )
    if count == 0:
        empty: Array = np.empty(tensor.size, tensor.dtype)
        empty.setflags(write=False)
        return empty
    # The stride of a dimension of one element means nothing, and may be anything.
    strides = [step * itemsize if n > 1 else 0 for n, step in zip(tensor.size, tensor.stride, strict=True)]
    return np.ndarray(tensor.size, tensor.dtype, content, tensor.offset * itemsize, strides)
