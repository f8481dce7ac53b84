"""Put a model into Keras' files: legacy HDF5, ``.weights.h5``, and the ``.keras`` zip.

Sources: keras/src/legacy/saving/legacy_h5_format.py ``save_model_to_hdf5``, ``save_subset_weights_to_hdf5_group``,
``save_attributes_to_hdf5_group``; keras/src/saving/saving_lib.py ``_save_model_to_fileobj``, ``_save_state``. The
same input gives the same bytes: no file has a time in it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lstmconv._optional import require
from lstmconv.errors import UsageError
from lstmconv.formats.keras.writer.dialect import Dialect
from lstmconv.formats.keras.writer.nodes import Graph, Node, Variable
from lstmconv.formats.keras.writer.places import objects_of, variables_of
from lstmconv.formats.record import KEY

__all__ = ["weight_names", "write_legacy", "write_native", "write_saveable"]

_LIMIT = 64512
"""HDF5_OBJECT_HEADER_LIMIT: the bytes that an attribute may have; longer ones are split over several."""
_BACKEND = "tensorflow"
"""What legacy files state; Keras needs it for weights of convolutions only."""


def write_native(path: Path, config: Mapping[str, Any], graph: Graph, dialect: Dialect, record: str) -> None:
    """Write a ``.keras`` zip: metadata, config and weights, stored without compression."""
    metadata = {"keras_version": dialect.version}
    with zipfile.ZipFile(path, "w") as archive, tempfile.TemporaryFile() as weights:
        for name, content in (("metadata.json", metadata), ("config.json", config)):
            archive.writestr(_member(name), json.dumps(content))
        write_saveable(weights, graph, dialect, record)
        entry = _member("model.weights.h5")
        entry.file_size = weights.seek(0, 2)
        weights.seek(0)
        with archive.open(entry, "w") as member:
            shutil.copyfileobj(weights, member, 1 << 20)


def _member(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.external_attr = 0o600 << 16
    return entry


def write_saveable(target: Any, graph: Graph, dialect: Dialect, record: str) -> None:
    """Write the variables by object path, ``layers/lstm_1/cell/vars/0``, to a path or a file object.

    The objects' names lie beside their variables, as Keras 3 writes them; Keras 2 writes none and ignores them.
    """
    counts: dict[str, int] = {}
    with _created(target) as file:
        file.attrs[KEY] = record
        for place, name in {**objects_of(graph), "": graph.name}.items():
            group = file.create_group(f"{place}/vars")
            if name:
                group.attrs["name"] = name
        for variable in variables_of(graph):
            index = counts[variable.owner] = counts.get(variable.owner, -1) + 1
            dataset = _save_array(file, f"{variable.owner}/vars/{index}", variable)
            if dialect.major == 3 and dataset.dtype.kind == "V":
                dataset.attrs["dtype"] = "bfloat16"


def write_legacy(path: Path, config: Mapping[str, Any] | None, graph: Graph, dialect: Dialect, record: str) -> None:
    """Write a legacy HDF5 file: a whole model, or without ``config`` its weights only.

    Layers without variables are listed too, operations are not.
    """
    layers: Mapping[str, Node] = {name: node for name, node in graph.nodes.items() if not node.is_operation}
    with _created(path) as file:
        weights = file
        if config is not None:
            file.attrs["keras_version"] = dialect.version
            file.attrs["backend"] = _BACKEND
            file.attrs["model_config"] = json.dumps(config).encode()
            weights = file.create_group("model_weights")
        file.attrs[KEY] = record
        _save_strings(weights, "layer_names", list(layers))
        weights.attrs["backend"] = _BACKEND.encode()
        weights.attrs["keras_version"] = dialect.version.encode()
        for name in sorted(layers):
            _save_layer(weights.create_group(name), layers[name], dialect)
        _save_strings(weights.create_group("top_level_model_weights"), "weight_names", [])


def _save_layer(group: Any, node: Node, dialect: Dialect) -> None:
    """Save one layer's variables under their paths, ``lstm/lstm_cell/kernel``; an InputLayer has none."""
    names = weight_names(node, dialect)
    for name, variable in zip(names, _in_order(node), strict=True):
        _save_array(group, name, variable)
    _save_strings(group, "weight_names", names)


def weight_names(node: Node, dialect: Dialect) -> list[str]:
    """Return the names of a layer's variables in the order in which a legacy file lists them."""
    return [
        "/".join(filter(None, (node.name, variable.scope, variable.name))) + dialect.suffix
        for variable in _in_order(node)
    ]


def _in_order(node: Node) -> list[Variable]:
    """Return a layer's variables, trainable ones first."""
    return sorted(node.part.variables, key=lambda variable: not variable.trainable)


@contextmanager
def _created(target: Any) -> Iterator[Any]:
    """Open a new HDF5 file; a full disk is an OSError, also where the library notices it while it closes the file."""
    h5py = require("h5py", "Writing HDF5 files")
    try:
        with h5py.File(target, "w") as file:
            yield file
    except RuntimeError as error:
        raise OSError(f"the HDF5 library cannot write ({error})") from error


def _save_array(group: Any, name: str, variable: Variable) -> Any:
    """Save one array, without a time."""
    return group.create_dataset(name, data=variable.make(), track_times=False)


def _save_strings(group: Any, name: str, strings: Sequence[str]) -> None:
    """Save a list of strings as an attribute, or where it is too long as several, ``layer_names0``, ..."""
    encoded = [text.encode() for text in strings]
    too_long = [text for text in encoded if len(text) > _LIMIT]
    if too_long:
        raise UsageError(f"a name has {len(too_long[0])} bytes, HDF5 takes {_LIMIT}; shorten it with --rename")
    array = np.asarray(encoded)
    chunks, count = [array], 1
    while any(chunk.nbytes > _LIMIT for chunk in chunks):
        count += 1
        chunks = np.array_split(array, count)
    if count == 1:
        group.attrs[name] = encoded
        return
    for index, chunk in enumerate(chunks):
        group.attrs[f"{name}{index}"] = chunk
