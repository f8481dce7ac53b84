"""Put arrays and configs into Keras' files: legacy HDF5, ``.weights.h5``, and the ``.keras`` zip.

Sources: keras/src/legacy/saving/legacy_h5_format.py ``save_model_to_hdf5``, ``save_subset_weights_to_hdf5_group``,
``save_attributes_to_hdf5_group``; keras/src/saving/saving_lib.py ``_save_model_to_fileobj``, ``_save_state``. The
same input gives the same bytes: no file has a time in it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lstmconv._optional import require
from lstmconv.errors import UsageError
from lstmconv.formats.keras.names import snake_case
from lstmconv.formats.keras.writer.dialect import Dialect
from lstmconv.formats.keras.writer.layer_graph import Graph
from lstmconv.formats.keras.writer.model_config import WrittenLayer, class_name
from lstmconv.formats.record import KEY

__all__ = [
    "BACKEND",
    "created",
    "save_array",
    "save_strings",
    "save_variables_group",
    "write_legacy",
    "write_native",
    "write_saveable",
    "zipped",
]

_LIMIT = 64512
"""HDF5_OBJECT_HEADER_LIMIT: the bytes that an attribute may have; longer ones are split over several."""
BACKEND = "tensorflow"
"""What legacy files state; Keras needs it for weights of convolutions only."""


@contextmanager
def created(target: Any) -> Iterator[Any]:
    """Open a new HDF5 file; a full disk is an OSError, also where the library notices it while it closes the file."""
    h5py = require("h5py", "Writing HDF5 files")
    try:
        with h5py.File(target, "w") as file:
            yield file
    except RuntimeError as error:
        raise OSError(f"the HDF5 library cannot write ({error})") from error


def write_legacy(
    path: Path,
    config: Mapping[str, Any] | None,
    layers: Mapping[str, WrittenLayer],
    graph: Graph,
    dialect: Dialect,
    record: str,
) -> None:
    """Write a legacy HDF5 file: a whole model, or without ``config`` its weights only."""
    with created(path) as file:
        weights = file
        if config is not None:
            file.attrs["keras_version"] = dialect.version
            file.attrs["backend"] = BACKEND
            file.attrs["model_config"] = json.dumps(config).encode()
            weights = file.create_group("model_weights")
        file.attrs[KEY] = record
        save_strings(weights, "layer_names", graph.order)
        weights.attrs["backend"] = BACKEND.encode()
        weights.attrs["keras_version"] = dialect.version.encode()
        for name in sorted(graph.order):
            _save_layer(weights.create_group(name), name, layers.get(name), dialect)
        save_strings(weights.create_group("top_level_model_weights"), "weight_names", [])


def _save_layer(group: Any, name: str, written: WrittenLayer | None, dialect: Dialect) -> None:
    """Save one layer's variables under their paths, ``lstm/lstm_cell/kernel``; an InputLayer has none."""
    named = []
    for half in written.halves if written is not None else ():
        scope = [name, *([half.name] if half.side else []), *([half.cell.cell] if half.cell.cell else [])]
        for variable, array in half.arrays():
            named.append("/".join([*scope, variable]) + dialect.suffix)
            save_array(group, named[-1], array)
    save_strings(group, "weight_names", named)


def save_array(group: Any, name: str, array: np.ndarray[Any, np.dtype[Any]]) -> Any:
    """Save one array, without a time."""
    return group.create_dataset(name, data=array, track_times=False)


def save_strings(group: Any, name: str, strings: Sequence[str]) -> None:
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


def write_saveable(
    target: Any, layers: Mapping[str, WrittenLayer], graph: Graph, dialect: Dialect, record: str
) -> None:
    """Write the variables by object path, ``layers/lstm_1/cell/vars/0``, to a path or a file object.

    The objects' names lie beside their variables, as Keras 3 writes them; Keras 2 writes none and ignores them.
    Keras 2 makes a group more, for the layer that a Bidirectional was made from.
    """
    counts: dict[str, int] = {}
    with created(target) as file:
        file.attrs[KEY] = record
        for name in graph.order:
            written = layers.get(name)
            container = snake_case(class_name(written)) if written is not None else "input_layer"
            count = counts[container] = counts.get(container, -1) + 1
            place = f"layers/{container}_{count}" if count else f"layers/{container}"
            save_variables_group(file, place, name)
            if written is not None:
                _save_halves(file, place, written, dialect)
        save_variables_group(file, "", dialect.model_name)


def _save_halves(file: Any, place: str, written: WrittenLayer, dialect: Dialect) -> None:
    for half in written.halves:
        owner = f"{place}/{half.side}_layer" if half.side else place
        if half.side:
            save_variables_group(file, owner, half.name)
        if half.cell.cell:
            owner += "/cell"
            save_variables_group(file, owner, half.cell.cell)
        for index, (_, array) in enumerate(half.arrays()):
            dataset = save_array(file, f"{owner}/vars/{index}", array)
            if dialect.major == 3 and array.dtype.name == "bfloat16":
                dataset.attrs["dtype"] = "bfloat16"
    if dialect.major == 2 and written.layer.bidirectional:
        for owner in (f"{place}/layer", f"{place}/layer/cell") if written.cell.cell else (f"{place}/layer",):
            save_variables_group(file, owner)


def save_variables_group(file: Any, owner: str, name: str | None = None) -> None:
    """Make the group of an object's variables, with the object's name."""
    group = file.create_group(f"{owner}/vars")
    if name is not None:
        group.attrs["name"] = name


def write_native(
    path: Path,
    config: Mapping[str, Any],
    layers: Mapping[str, WrittenLayer],
    graph: Graph,
    dialect: Dialect,
    record: str,
) -> None:
    """Write a ``.keras`` zip: metadata, config and weights, stored without compression."""
    zipped(path, json.dumps(config), dialect, lambda target: write_saveable(target, layers, graph, dialect, record))


def zipped(path: Path, config: str, dialect: Dialect, write_weights: Callable[[Any], None]) -> None:
    """Put a config and the weights that a function writes into a ``.keras`` zip."""
    metadata = json.dumps({"keras_version": dialect.version})
    with zipfile.ZipFile(path, "w") as archive, tempfile.TemporaryFile() as weights:
        for name, content in (("metadata.json", metadata), ("config.json", config)):
            archive.writestr(_member(name), content)
        write_weights(weights)
        entry = _member("model.weights.h5")
        entry.file_size = weights.seek(0, 2)
        weights.seek(0)
        with archive.open(entry, "w") as member:
            shutil.copyfileobj(weights, member, 1 << 20)


def _member(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.external_attr = 0o600 << 16
    return entry
