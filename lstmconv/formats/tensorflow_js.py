"""TensorFlow.js layers models: ``model.json`` with the weights' files beside it; read, and not written.

Sources: tensorflowjs 4.22 write_weights.py, quantization.py and converters/keras_h5_conversion.py; tfjs-layers
src/engine/container.ts. The config is Keras' own, the weights have the names of Keras' variables.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from lstmconv.errors import ForeignFileError, UnreadableFileError, UnsupportedModelError
from lstmconv.formats.format import Opened
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.options import ReadOptions
from lstmconv.formats.tensorflow import losses, obstacle, obstacle_of_model, terms, usage, write

if TYPE_CHECKING:
    from lstmconv.formats.hdf5.tree import StoredArray
    from lstmconv.formats.keras.reader.config import Config
    from lstmconv.formats.keras.reader.open_file import KerasFile
    from lstmconv.model import Array

__all__ = ["config_of", "losses", "obstacle", "obstacle_of_model", "open_file", "terms", "usage", "write"]

_NAMES_OF_LAYERS = ("name", "inbound_nodes", "input_layers", "output_layers")
"""Keys of a config."""
_DTYPES = {"float32": "<f4", "int32": "<i4", "bool": "?", "float16": "<f2", "uint8": "u1", "uint16": "<u2"}


def open_file(file: MappedFile, options: ReadOptions) -> Opened:
    """Open a ``model.json``; its weights become variables by their names.

    Raises:
        UnreadableFileError: It is damaged, or a file of weights is missing, a link, or not as long as it should be.
        ForeignFileError: It is a graph model, which holds operations and no layers.
        UnsupportedModelError: Its activation is not the same in TensorFlow.js and in the Keras that it came from.
    """
    from lstmconv.formats.keras.reader import read

    found = _read(file)
    return Opened(None, found, lambda: read.checkpoint_of(found, options))


def config_of(file: MappedFile) -> Mapping[str, Any]:
    """Return the config in a ``model.json``, as ``model.to_json()`` states it.

    Raises:
        UnreadableFileError: There is none in it.
        ForeignFileError: It is a graph model.
    """
    return _config(_stated(file), file.name).stated


def _stated(file: MappedFile) -> Mapping[str, Any]:
    """Return the JSON of a layers model."""
    from lstmconv.formats.safety.limits import JSON_BYTES, parse_json

    file.refuse_empty()
    stated = parse_json(file.content[: JSON_BYTES.value + 1].tobytes(), file.name)
    topology = stated.get("modelTopology") if isinstance(stated, dict) else None
    if isinstance(stated, dict) and (stated.get("format") == "graph-model" or _is_graph(topology)):
        raise ForeignFileError(
            "a TensorFlow.js graph model, which holds operations and no layers; convert the Keras model it was made "
            "from",
            about=file.name,
        )
    if not isinstance(stated, dict) or not isinstance(topology, dict):
        raise UnreadableFileError("without modelTopology, expected a TensorFlow.js model", about=file.name)
    return stated


def _is_graph(topology: object) -> bool:
    """Whether a topology is a GraphDef of TensorFlow's."""
    return isinstance(topology, dict) and "node" in topology


def _config(stated: Mapping[str, Any], name: str) -> Config:
    """Return the config that stands in ``modelTopology``."""
    from lstmconv.formats.keras.reader.config import Config, KerasVersion

    topology = stated["modelTopology"]
    model = topology.get("model_config", topology)
    if not isinstance(model, dict) or "class_name" not in model or "config" not in model:
        raise UnreadableFileError("its modelTopology is no Keras config", about=name)
    version = topology.get("keras_version")
    known = KerasVersion(version) if isinstance(version, str) else None
    if known is not None and (known.major or 0) >= 3 and _applies(model, "hard_sigmoid"):
        raise UnsupportedModelError(
            f"made from a model of Keras {known.text}, whose hard_sigmoid TensorFlow.js computes otherwise; convert "
            "the Keras model itself",
            about=name,
        )
    return Config({"class_name": model["class_name"], "config": model["config"]}, known)


def _applies(stated: object, activation: str) -> bool:
    """Whether a config states an activation anywhere; a layer may have its name."""
    if isinstance(stated, Mapping):
        return any(_applies(value, activation) for key, value in stated.items() if key not in _NAMES_OF_LAYERS)
    return any(_applies(value, activation) for value in stated) if isinstance(stated, list) else stated == activation


def _read(file: MappedFile) -> KerasFile:
    from lstmconv.formats.hashing import hashing
    from lstmconv.formats.hdf5.tree import Group
    from lstmconv.formats.keras.reader.open_file import KerasFile

    stated = _stated(file)
    config = _config(stated, file.name)
    groups = stated.get("weightsManifest")
    if not isinstance(groups, list):
        raise UnreadableFileError("without weightsManifest, expected a TensorFlow.js model", about=file.name)
    variables: dict[str, Group | StoredArray] = {}
    parts: dict[str, MappedFile] = {}
    for group in groups:
        for name, array in _group(file, group, parts):
            if name in variables:
                raise UnreadableFileError(f"holds '{name}' twice", about=file.name)
            variables[name] = array
    return KerasFile(
        name=file.name,
        kind="named",
        weights=Group("", {}, variables),
        description="TensorFlow.js model",
        hashed=hashing(file, *parts.values()),
        config=config,
        version=config.version,
        backend="tensorflow",
        parts=tuple(parts),
    )


def _group(file: MappedFile, group: Any, parts: dict[str, MappedFile]) -> Iterator[tuple[str, StoredArray]]:
    """Yield the weights of one entry of the manifest: they lie one behind the other in its files."""
    import numpy as np

    from lstmconv.formats.hdf5.tree import StoredArray

    if (
        not isinstance(group, dict)
        or not isinstance(group.get("paths"), list)
        or not isinstance(group.get("weights"), list)
    ):
        raise UnreadableFileError("an entry of weightsManifest has no paths or no weights", about=file.name)
    contents = [_part(file, path, parts).content for path in group["paths"]]
    content = contents[0] if len(contents) == 1 else np.concatenate([np.empty(0, np.uint8), *contents])
    start = 0
    for stated in group["weights"]:
        name, shape, dtype = _entry(file.name, stated)
        quantization = stated.get("quantization")
        stored = np.dtype(_DTYPES[dtype if quantization is None else _quantized(file.name, name, quantization)])
        stop = start + math.prod(shape) * stored.itemsize
        if stop > content.nbytes:
            raise UnreadableFileError(f"'{name}' ends at byte {stop:,} of {content.nbytes:,}: cut off", about=file.name)
        values: Array = content[start:stop].view(stored).reshape(shape)
        start = stop
        if quantization is not None:
            values = _dequantized(file.name, name, values, quantization)
        yield name, StoredArray(name, shape, values.dtype, {}, values)
    if start != content.nbytes:
        raise UnreadableFileError(
            f"{content.nbytes:,} bytes of weights, and the manifest names {start:,}", about=file.name
        )


def _part(file: MappedFile, path: object, parts: dict[str, MappedFile]) -> MappedFile:
    if not isinstance(path, str) or Path(path).name != path or path in ("", ".", "..") or "\\" in path or "\0" in path:
        raise UnreadableFileError(
            f"the file of weights {path!r} is not a plain file name; not followed", about=file.name
        )
    place = file.path.parent / path
    if place.is_symlink():
        raise UnreadableFileError(f"the file of weights {path} is a symbolic link; not followed", about=file.name)
    if not place.is_file():
        raise UnreadableFileError(f"the file of weights {path} is missing beside it", about=file.name)
    if path in parts:
        raise UnreadableFileError(f"names the file of weights {path} twice", about=file.name)
    parts[path] = MappedFile(place)
    return parts[path]


def _entry(file: str, stated: Any) -> tuple[str, tuple[int, ...], str]:
    name, shape, dtype = (stated.get(key) if isinstance(stated, dict) else None for key in ("name", "shape", "dtype"))
    sizes: Sequence[Any] = shape if isinstance(shape, list) else [-1]
    whole = all(isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 1 << 48 for size in sizes)
    if not isinstance(name, str) or not whole or len(sizes) > 32 or dtype not in ("float32", "int32", "bool"):
        raise UnreadableFileError(
            f"a weight of the name {name!r}, shape {shape!r:.60} and dtype {dtype!r:.20}", about=file
        )
    return name, tuple(sizes), str(dtype)


def _quantized(file: str, name: str, stated: object) -> str:
    dtype = stated.get("dtype") if isinstance(stated, dict) else None
    if dtype not in ("float16", "uint8", "uint16"):
        raise UnreadableFileError(
            f"'{name}' is quantized as {dtype!r:.20}, expected float16, uint8 or uint16", about=file
        )
    return str(dtype)


def _dequantized(file: str, name: str, values: Array, stated: Mapping[str, Any]) -> Array:
    """Return float32 as TensorFlow.js does: ``value * scale + min`` in double precision (tfjs-core io_utils.ts)."""
    import numpy as np

    if values.dtype == np.float16:
        return values.astype(np.float32)
    scale, least = stated.get("scale"), stated.get("min")
    if not _is_finite(scale) or not _is_finite(least):
        raise UnreadableFileError(f"'{name}' is quantized with scale {scale!r:.20} and min {least!r:.20}", about=file)
    with np.errstate(over="ignore"):  # A weight that is infinite then is named as such.
        return (values.astype(np.float64) * scale + least).astype(np.float32)


def _is_finite(number: object) -> TypeGuard[float]:
    return isinstance(number, int | float) and abs(number) < 1e300  # Whole numbers in JSON are of any length.
