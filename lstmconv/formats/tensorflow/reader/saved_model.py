"""Read the configs of layers that Keras wrote into a SavedModel, as JSON.

Sources: tensorflow/python/keras/saving/saved_model/save.py of TensorFlow 2.0 to 2.15. From 2.5 on the texts are in
``keras_metadata.pb`` (keras/protobuf/saved_metadata.proto), before in ``saved_model.pb``: meta_graphs (2) of
SavedModel, object_graph_def (7) of MetaGraphDef, nodes (1) of SavedObjectGraph, user_object (4) of SavedObject,
metadata (3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from lstmconv.errors import UnreadableFileError
from lstmconv.formats.keras.reader.config import Config, KerasVersion
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.safety.limits import JSON_BYTES, parse_json
from lstmconv.formats.tensorflow import places
from lstmconv.formats.tensorflow.reader.messages import Message

__all__ = ["config_files", "config_of", "layer_configs"]

_TEXT = Path("assets") / "saved_model.json"
"""The file with ``model.to_json()`` of tf.keras.experimental.export_saved_model in TensorFlow 1.13 to 1.15."""


def config_files(folder: Path, name: str) -> list[MappedFile]:
    """Open the files of a SavedModel that may contain a config.

    Raises:
        UnreadableFileError: A file is a link.
    """
    paths = [folder / part for part in (places.METADATA, places.MODEL, _TEXT) if (folder / part).is_file()]
    for path in paths:
        if path.is_symlink():
            raise UnreadableFileError(f"{path.name} is a symbolic link; not followed", about=name)
    return [MappedFile(path) for path in paths]


def config_of(files: Sequence[MappedFile], name: str) -> Config | None:
    """Return the model's config; ``None`` if Keras wrote none, such as for a custom model class.

    Raises:
        UnreadableFileError: A file is damaged.
    """
    for file in files:
        message = _message(file) if file.name == _TEXT.name else _root_text(file)
        text = b"" if message is None else message.bytes
        if text:
            found = _config(_plain(parse_json(text, f"{name}/{file.name}")))
            if found is not None:
                return found
    return None


def layer_configs(files: Sequence[MappedFile], name: str) -> dict[str, Mapping[str, Any]]:
    """Return the config of each layer, by the path of its object: ``encoder/lstm``.

    Raises:
        UnreadableFileError: The file is damaged.
    """
    metadata = next((file for file in files if file.name == places.METADATA), None)
    if metadata is None:
        return {}
    found: dict[str, Mapping[str, Any]] = {}
    size, most = 0, JSON_BYTES.value
    for node in _message(metadata).inner(1):
        fields = _last_of_each_field(node)
        if 3 not in fields or 5 not in fields:
            continue
        text = fields[5].bytes
        size += len(text)
        about = f"{name}/{metadata.name}"
        if size > most:
            raise UnreadableFileError(f"over {most:,} bytes of JSON; {JSON_BYTES.way_out}", about=about)
        stated = _plain(parse_json(text, about))
        if isinstance(stated, dict) and isinstance(stated.get("config"), dict) and "class_name" in stated:
            place = fields[3].text.removeprefix("root.").replace(".", "/")
            found[place] = {"class_name": stated["class_name"], "config": stated["config"]}
    return found


def _root_text(file: MappedFile) -> Message | None:
    """Return the JSON of the model itself."""
    if file.name == places.METADATA:
        for node in _message(file).inner(1):
            fields = _last_of_each_field(node)
            if 3 in fields and fields[3].text == "root":
                return fields.get(5)
        return None
    for graph in _message(file).inner(2):
        for objects in graph.inner(7):
            for node in objects.inner(1):
                user = _last_of_each_field(node).get(4)
                return None if user is None else _last_of_each_field(user).get(3)  # The first object is the root.
    return None


def _message(file: MappedFile) -> Message:
    return Message(memoryview(file.content.data), 0, file.size, file.name)


def _last_of_each_field(message: Message) -> dict[int, Message]:
    """Return those of a message's first 1,000 fields that are bytes; the last one for each number."""
    return {number: value for number, value in islice(message.fields(), 1000) if isinstance(value, Message)}


def _plain(value: Any) -> Any:
    """Return JSON with tuples and shapes as lists, as in every other file (keras json_utils.py)."""
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") in ("__tuple__", "TensorShape") and isinstance(value.get("items"), list):
        return [_plain(inner) for inner in value["items"]]
    return {key: _plain(inner) for key, inner in value.items()}


def _config(found: Any) -> Config | None:
    """Return a model's config from its metadata: ``model_config``, if Keras could compute it from the model."""
    if not isinstance(found, dict):
        return None
    stated = found.get("keras_version")
    version = KerasVersion(stated) if isinstance(stated, str) else None
    model: Mapping[str, Any] | None = found.get("model_config") if "class_name" not in found else found
    if not isinstance(model, dict) or not isinstance(model.get("config"), dict) or "class_name" not in model:
        return None
    if "layers" not in model["config"]:  # A custom model class.
        return None
    return Config({"class_name": model["class_name"], "config": model["config"]}, version)
