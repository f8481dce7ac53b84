"""Put a whole model into Keras' files: legacy HDF5, and the ``.keras`` zip.

Sources: keras/src/legacy/saving/legacy_h5_format.py ``save_model_to_hdf5``, ``save_subset_weights_to_hdf5_group``;
keras/src/saving/saving_lib.py ``_save_model_to_fileobj``, ``_save_state``. The same input gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lstmconv.formats.keras.writer.dialect import Dialect
from lstmconv.formats.keras.writer.hdf5_files import (
    BACKEND,
    created,
    save_array,
    save_strings,
    save_variables_group,
    zipped,
)
from lstmconv.formats.keras.writer.whole.nodes import Graph, Node, Variable
from lstmconv.formats.keras.writer.whole.places import objects_of, variables_of
from lstmconv.formats.record import KEY

__all__ = ["weight_names", "write_legacy", "write_native"]


def write_native(path: Path, config: str, graph: Graph, dialect: Dialect, record: str) -> None:
    """Write a ``.keras`` zip: metadata, config and weights."""
    zipped(path, config, dialect, lambda target: _write_objects(target, graph, dialect, record))


def _write_objects(target: Any, graph: Graph, dialect: Dialect, record: str) -> None:
    """Write the variables by object path, ``layers/dense_1/vars/0``; the objects' names lie beside them."""
    counts: dict[str, int] = {}
    with created(target) as file:
        file.attrs[KEY] = record
        for place, name in objects_of(graph).items():
            save_variables_group(file, place, name)
        for variable in variables_of(graph):
            index = counts[variable.owner] = counts.get(variable.owner, -1) + 1
            array = variable.make()
            dataset = save_array(file, f"{variable.owner}/vars/{index}", array)
            if dialect.major == 3 and array.dtype.name == "bfloat16":
                dataset.attrs["dtype"] = "bfloat16"
        save_variables_group(file, "", graph.name)


def write_legacy(path: Path, config: str, graph: Graph, dialect: Dialect, record: str) -> None:
    """Write a legacy HDF5 file; layers without variables are listed too, operations are not."""
    layers: Mapping[str, Node] = {name: node for name, node in graph.nodes.items() if not node.is_operation}
    with created(path) as file:
        file.attrs["keras_version"] = dialect.version
        file.attrs["backend"] = BACKEND
        file.attrs["model_config"] = config.encode()
        file.attrs[KEY] = record
        weights = file.create_group("model_weights")
        save_strings(weights, "layer_names", list(layers))
        weights.attrs["backend"] = BACKEND.encode()
        weights.attrs["keras_version"] = dialect.version.encode()
        for name in sorted(layers):
            _save_layer(weights.create_group(name), layers[name], dialect)
        save_strings(weights.create_group("top_level_model_weights"), "weight_names", [])


def _save_layer(group: Any, node: Node, dialect: Dialect) -> None:
    """Save one layer's variables."""
    names = weight_names(node, dialect)
    for name, variable in zip(names, _in_order(node), strict=True):
        save_array(group, name, variable.make())
    save_strings(group, "weight_names", names)


def weight_names(node: Node, dialect: Dialect) -> list[str]:
    """Return the names of a layer's variables in the order in which a legacy file lists them."""
    return [
        "/".join(filter(None, (node.name, variable.scope, variable.name))) + dialect.suffix
        for variable in _in_order(node)
    ]


def _in_order(node: Node) -> list[Variable]:
    """Return a layer's variables, trainable ones first."""
    return sorted(node.part.variables, key=lambda variable: not variable.trainable)
