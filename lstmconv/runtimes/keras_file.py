"""Open a Keras file with h5py and zipfile alone, and cut its arrays into gates by hand.

Nothing here knows :mod:`lstmconv.formats.keras` or the layouts: paths and slices are written out from
Keras' own sources, keras/src/saving/saving_lib.py, keras/src/legacy/saving/legacy_h5_format.py and
tf_keras/src/saving/legacy/hdf5_format.py.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lstmconv._optional import require
from lstmconv.errors import UnreadableFileError
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.model import Array, Gates, float_type
from lstmconv.runtimes import DecodedDirection

__all__ = ["KerasContent", "array_of", "decode_cell", "decode_layer", "layer_places", "read_content", "strings"]


class Group(dict[str, Any]):
    """A group of an HDF5 file, read into memory: groups and arrays by name or path, and attributes.

    Nothing of the file stays open: h5py crashes the process if a file is still open when Python ends.
    """

    def __init__(self, group: Any) -> None:
        h5py = require("h5py", "Reading Keras files")
        kept = {key: entry for key, entry in group.items() if key != "optimizer_weights"}
        super().__init__(
            {key: Group(entry) if isinstance(entry, h5py.Group) else entry[()] for key, entry in kept.items()}
        )
        self.attrs = dict(group.attrs)

    def __getitem__(self, path: str) -> Any:
        """Return what lies at a path."""
        first, _, rest = path.partition("/")
        found = super().__getitem__(first)
        return found[rest] if rest else found


class KerasContent(NamedTuple):
    """The content of a Keras file.

    Attributes:
        file: The HDF5 file.
        weights: The group with ``layer_names``, or the file itself where variables lie by object path.
        config: The model's config; ``None`` in a file of weights only.
        version: The version of the Keras that wrote it, if the file states it.
    """

    file: Group
    weights: Group
    config: Mapping[str, Any] | None
    version: str | None

    @property
    def major(self) -> int | None:
        """The first number of the version; ``None`` if the file states none."""
        stated = re.match(r"\d+", self.version or "")
        return None if stated is None else int(stated[0])

    @property
    def legacy(self) -> bool:
        """Whether the variables lie by layer name."""
        return any(key in self.weights.attrs for key in ("layer_names", "layer_names0"))


_ZIP = b"PK\x03\x04"


def read_content(stored: MappedFile) -> KerasContent:
    """Read a ``.keras``, ``.weights.h5`` or legacy ``.h5`` file."""
    h5py = require("h5py", "Reading Keras files")
    if not stored.head.startswith(_ZIP):
        with h5py.File(stored.stream(), "r") as file:
            return _content(Group(file), file.attrs.get("model_config"), file.attrs.get("keras_version"))
    import zipfile

    with zipfile.ZipFile(stored.stream()) as archive:
        config, metadata = archive.read("config.json"), json.loads(archive.read("metadata.json"))
        body = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(body, "r") as file:
        return _content(Group(file), config, metadata.get("keras_version"))


def _content(file: Group, config: Any, version: Any) -> KerasContent:
    return KerasContent(
        file,
        file.get("model_weights", file),
        None if config is None else json.loads(config),
        _text(version) if version is not None else None,
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def decode_layer(content: KerasContent, name: str, where: str) -> tuple[DecodedDirection, ...]:
    """Return a layer's directions, forward first.

    Raises:
        UnreadableFileError: The file has no such LSTM layer.
    """
    cells = _legacy_cells(content, name) if content.legacy else _saveable_cells(content, name)
    if not cells or any("recurrent_kernel" not in cell for cell in cells):
        raise UnreadableFileError(f"{where}: has no LSTM layer {name!r}")
    return tuple(map(decode_cell, cells))


def _legacy_cells(content: KerasContent, name: str) -> list[dict[str, Array]]:
    """Group a layer's arrays by what stands before the variable's own name, in the order of weight_names."""
    if name not in content.weights:
        return []
    group = content.weights[name]
    paths = strings(group, "weight_names")
    if paths and all(_KERAS_1.fullmatch(path) for path in paths):
        return _keras_1_cells({path: array_of(group[path]) for path in paths})
    cells: dict[str, dict[str, Array]] = {}
    for path in paths:
        scope, _, variable = path.rpartition("/")
        cells.setdefault(scope, {})[variable.split(":")[0]] = array_of(group[path])
    ordered = sorted(cells, key=lambda scope: any(part.startswith("backward_") for part in scope.split("/")[1:]))
    return [cells[scope] for scope in ordered]


_KERAS_1 = re.compile(r"(?P<scope>.+)_(?P<matrix>[WUb])(_(?P<gate>[icfo]))?(:0)?")
"""``lstm_1_W_i``, or ``lstm_1_W`` of all gates: keras 1.2.2, keras/layers/recurrent.py, LSTM.build."""


def _keras_1_cells(arrays: Mapping[str, Array]) -> list[dict[str, Array]]:
    """Group Keras 1's arrays by what stands before ``_W``, forward half first.

    With consume_less "cpu" and "mem" each gate has its own arrays, named by it, in whatever order; with "gpu" the
    columns are i f c o. Source: keras 1.2.2, keras/layers/wrappers.py: Bidirectional names its halves ``forward_``
    and ``backward_``.
    """
    parts: dict[str, dict[tuple[str, str | None], Array]] = {}
    for path, array in arrays.items():
        found = _KERAS_1.fullmatch(path)
        if found is not None:
            parts.setdefault(found["scope"], {})[found["matrix"], found["gate"]] = array
    names = {"W": "kernel", "U": "recurrent_kernel", "b": "bias"}
    cells: list[dict[str, Array]] = []
    for scope in sorted(parts, key=lambda scope: scope.startswith("backward_")):
        own = parts[scope]
        gates = {letter: [own[letter, gate] for gate in "ifco" if (letter, gate) in own] for letter in names}
        whole = {names[letter]: array for (letter, gate), array in own.items() if gate is None}
        cells.append(
            whole | {names[key]: np.concatenate(each, axis=-1) for key, each in gates.items() if len(each) == 4}
        )
    return cells


def strings(group: Any, name: str) -> list[str]:
    """Read a list of strings, which may be split over ``name0``, ``name1``, ..."""
    if name in group.attrs:
        return [_text(value) for value in group.attrs[name]]
    found: list[str] = []
    number = 0
    while f"{name}{number}" in group.attrs:
        found += [_text(value) for value in group.attrs[f"{name}{number}"]]
        number += 1
    return found


def _saveable_cells(content: KerasContent, name: str) -> list[dict[str, Array]]:
    place = _place(content, name)
    if place is None:
        return []
    layer = content.file[place]
    sides = [layer[side] for side in ("forward_layer", "backward_layer") if side in layer] or [layer]
    return [_variables(side.get("cell", side)) for side in sides]


def _place(content: KerasContent, name: str) -> str | None:
    """Find a layer's group: the n-th of its class in the model's config, or the one that states the name."""
    if content.config is not None:
        listed = layer_places(content.config["config"]["layers"])
        return next((place for entry, place in listed if entry["config"]["name"] == name), None)
    layers = content.file.get("layers", {})
    for key, group in layers.items():
        if "vars" in group and _text(group["vars"].attrs.get("name", key)) == name:
            return f"layers/{key}"
    return None


def layer_places(entries: Sequence[Mapping[str, Any]], above: str = "") -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield the layers of a model with their paths in a ``.keras`` file; Keras 3's operations are no layers.

    Source: keras/src/saving/saving_lib.py, ``_save_container_state``: the n-th layer of its class, in snake case.
    """
    counts: dict[str, int] = {}
    for entry in entries:
        if str(entry.get("module", "")).startswith("keras.src.ops"):
            continue
        words = re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", entry["class_name"]))
        count = counts[words] = counts.get(words, -1) + 1
        yield entry, f"{above}layers/{words.lower()}" + (f"_{count}" if count else "")


def _variables(owner: Any) -> dict[str, Array]:
    """Read ``vars/0``, ``1``, ``2``: the order in which LSTMCell.build and CuDNNLSTM.build add them."""
    stored = owner.get("vars", {})
    names = ("kernel", "recurrent_kernel", "bias")
    return {names[int(key)]: array_of(stored[key]) for key in sorted(stored) if key in ("0", "1", "2")}


def array_of(stored: Array) -> Array:
    """Return an array as stored; two opaque bytes are a bfloat16."""
    values = np.asarray(stored)
    return values.view(float_type("bfloat16")) if values.dtype.str == "|V2" else values


def decode_cell(cell: Mapping[str, Array]) -> DecodedDirection:
    """Cut the columns i f c o; a bias of twice the columns is a CuDNNLSTM's, whose blocks are cuDNN's matrices."""
    kernel, recurrent, bias = cell["kernel"], cell["recurrent_kernel"], cell.get("bias")
    h = recurrent.shape[0]
    columns = [slice(0, h), slice(h, 2 * h), slice(2 * h, 3 * h), slice(3 * h, 4 * h)]
    if bias is not None and bias.shape == (8 * h,):
        w = Gates(*(kernel[:, part].reshape(h, kernel.shape[0]) for part in columns))
        r = Gates(*(recurrent[:, part] for part in columns))
        return DecodedDirection(w, r, Gates(*bias[: 4 * h].reshape(4, h)), Gates(*bias[4 * h :].reshape(4, h)))
    w = Gates(*(kernel[:, part].T for part in columns))
    r = Gates(*(recurrent[:, part].T for part in columns))
    return DecodedDirection(w, r, None if bias is None else Gates(*bias.reshape(4, h)), None)
