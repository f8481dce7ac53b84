"""What ``torch.export.save`` writes since torch 2.8 (``.pt2``): the weights by name, each a record of bare bytes.

Sources: torch/export/pt2_archive/_package.py (``_package_state_dict``), torch/csrc/export/pt2_archive_constants.h,
torch/_export/serde/schema.py (``PayloadMeta``, ``TensorMeta``, ``ScalarType``, ``Layout``), torch 2.13. The exported
program beside them says which module each call came from (``nn_module_stack`` in its nodes' metadata).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from lstmconv.formats.safety.limits import JSON_BYTES, parse_json
from lstmconv.formats.torch.allowed_globals import Element, Foreign, Pairs, Refused, Storage, Tensor, Unread, shown
from lstmconv.formats.torch.archive import Archive, Container
from lstmconv.formats.torch.pickled_modules import PickledModule
from lstmconv.formats.torch.unpickler import Pickled

__all__ = ["open_exported"]

_WEIGHTS = "data/weights/"
_CONFIG = re.compile(r"data/weights/(?P<model>[^/]*)_weights_config\.json")
_LSTM = "torch.ops.aten.lstm"
_STRIDED = 7
_SCALAR_TYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
    10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16", 34: "uint32", 35: "uint64",
}  # fmt: skip


def open_exported(archive: Archive, name: str) -> Container:
    """Read the list of weights; several models in one archive lead the names of theirs.

    Raises:
        Refused: It is damaged.
        Foreign: It holds no weights, as an archive that is compiled alone (AOTInductor).
    """
    found = {match["model"]: match.group() for record in archive.records if (match := _CONFIG.fullmatch(record))}
    if not found:
        raise Foreign("a torch.export archive without weights by name; save module.state_dict() with torch.save")
    pairs: list[Any] = []
    modules: dict[str, PickledModule] = {}
    for model, record in found.items():
        prefix = f"{model}/" if len(found) > 1 else ""
        try:
            pairs += [(prefix + key, value) for key, value in _weights(_json(archive, record, name), archive)]
            program = f"models/{model}.json"
            if program in archive.records:
                described = _modules(_json(archive, program, name))
                modules.update({prefix + key: value for key, value in described.items()})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Refused(f"{record} is not what torch.export writes ({error!r}); the file is damaged") from error
    order = archive.text("byteorder") or "little"
    return Container(
        Pickled(Pairs(pairs), {}, len(pairs)),
        lambda storage: archive.storage(storage, _WEIGHTS),
        order != sys.byteorder,
        None,
        "torch.export archive",
        modules=modules,
    )


def _json(archive: Archive, record: str, name: str) -> Any:
    return parse_json(archive.bytes(record, JSON_BYTES.value).tobytes(), f"{name}: {record}")


def _weights(found: Mapping[str, Any], archive: Archive) -> Iterator[tuple[str, Tensor | Unread]]:
    for key, payload in found["config"].items():
        meta, record = payload["tensor_meta"], payload["path_name"]
        if payload["use_pickle"] or meta is None:
            yield key, Unread("a tensor of a class of its own, which is pickled")
            continue
        dtype = Element(_SCALAR_TYPES.get(meta["dtype"], "")).dtype
        if meta["layout"] != _STRIDED or dtype is None:
            yield key, Unread("of a type or layout that NumPy does not have")
            continue
        entry = archive.records.get(f"{_WEIGHTS}{record}")
        if entry is None or not isinstance(record, str):
            raise Refused(f"the record of {shown(key)!r} is missing; the file is damaged, or shortened")
        whole = entry.file_size // dtype.itemsize
        storage = Storage(record, dtype, whole, 0, whole)
        offset, *sizes = (_integer(size) for size in (meta["storage_offset"], *meta["sizes"], *meta["strides"]))
        rank = len(meta["sizes"])
        if len(sizes) != 2 * rank or rank > 32:
            raise ValueError(f"{len(sizes)} sizes and strides")
        yield key, Tensor(storage, dtype, offset, tuple(sizes[:rank]), tuple(sizes[rank:]))


def _integer(stated: Mapping[str, Any]) -> int:
    value = stated["as_int"]
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError(f"a size of {value!r:.40}")
    return value


def _modules(program: Mapping[str, Any]) -> dict[str, PickledModule]:
    """Return what the exported program says of each module, by the prefix of its tensors."""
    found = dict(_module_stacks(program))
    for prefix, operation in _taken_otherwise(program).items():
        if prefix in found:
            found[prefix] = replace(found[prefix], changed_by=operation)
    return found


def _taken_otherwise(program: Mapping[str, Any]) -> dict[str, str]:
    """Return the operations that take a module's parameters and are no LSTM, by the prefix of its tensors.

    Where a program's LSTMs are decomposed into other operations, none is found.
    """
    graph = program["graph_module"]["graph"]
    if not any(node["target"].startswith(_LSTM) for node in graph["nodes"]):
        return {}
    specs = (spec["parameter"] for spec in program["graph_module"]["signature"]["input_specs"] if "parameter" in spec)
    owners = {spec["arg"]["name"]: spec["parameter_name"].rpartition(".") for spec in specs}
    found: dict[str, str] = {}
    for node in graph["nodes"]:
        for given in () if node["target"].startswith(_LSTM) else node["inputs"]:
            for tensor in (given["arg"].get("as_tensor"), *(given["arg"].get("as_tensors") or ())):
                if tensor is not None and tensor["name"] in owners:
                    path, dot, _ = owners[tensor["name"]]
                    found[path + dot] = shown(node["target"])
    return found


def _module_stacks(program: Mapping[str, Any]) -> Iterator[tuple[str, PickledModule]]:
    """Yield the class of each module that the exported program came through, by the prefix of its tensors."""
    for node in program["graph_module"]["graph"]["nodes"]:
        for level in node["metadata"].get("nn_module_stack", "").split(";"):
            _, _, place = level.partition(",")
            path, _, class_name = place.rpartition(",")
            if class_name:
                yield f"{path}." if path else "", PickledModule(shown(class_name), {})
