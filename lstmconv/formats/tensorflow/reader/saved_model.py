"""Read what Keras wrote into a SavedModel about its layers: their configs, as JSON.

Sources: tensorflow/python/keras/saving/saved_model/save.py of TensorFlow 2.0 to 2.15. From 2.5 on the texts lie in
``keras_metadata.pb`` (keras/protobuf/saved_metadata.proto), before in ``saved_model.pb``: meta_graphs (2) of
SavedModel, object_graph_def (7) of MetaGraphDef, nodes (1) of SavedObjectGraph, user_object (4) of SavedObject,
metadata (3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lstmconv.errors import UnreadableFileError
from lstmconv.formats.keras.reader.config import Config, KerasVersion
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.safety.limits import JSON_BYTES, TRACKED_OBJECTS, parse_json
from lstmconv.formats.tensorflow.reader.messages import Piece, pieces, text_of
from lstmconv.formats.wire import Content

__all__ = ["config_files", "config_of", "layer_configs"]

_METADATA = "keras_metadata.pb"
_MODEL = "saved_model.pb"
_TEXT = Path("assets") / "saved_model.json"
"""Where tf.keras.experimental.export_saved_model of TensorFlow 1.13 to 1.15 kept ``model.to_json()``."""


def config_files(folder: Path, name: str) -> list[MappedFile]:
    """Open the files of a SavedModel in which a config may stand.

    Raises:
        UnreadableFileError: One is a link.
    """
    places = [folder / part for part in (_METADATA, _MODEL, _TEXT) if (folder / part).is_file()]
    for path in places:
        if path.is_symlink():
            raise UnreadableFileError(f"{name}: {path.name} is a symbolic link; not followed")
    return [MappedFile(path) for path in places]


def config_of(files: Sequence[MappedFile], name: str) -> Config | None:
    """Return the model's config; ``None`` where Keras wrote none, as of a class of the user's own.

    Raises:
        UnreadableFileError: A file is damaged.
    """
    for file in files:
        content = memoryview(file.content.data)
        text = content if file.name == _TEXT.name else _root_text(content, file.name)
        if text is not None and len(text):
            found = _config(_plain(parse_json(bytes(text), f"{name}/{file.name}")))
            if found is not None:
                return found
    return None


def layer_configs(files: Sequence[MappedFile], name: str) -> dict[str, Mapping[str, Any]]:
    """Return what Keras wrote of each layer, by the path of its object: ``encoder/lstm``.

    Raises:
        UnreadableFileError: The file is damaged.
    """
    metadata = next((file for file in files if file.name == _METADATA), None)
    if metadata is None:
        return {}
    content = memoryview(metadata.content.data)
    found: dict[str, Mapping[str, Any]] = {}
    size, most = 0, JSON_BYTES.value
    for piece in _all(content, 0, len(content), 1, _METADATA):
        node = _one(content, piece, _METADATA)
        if 3 not in node or 5 not in node:
            continue
        text = bytes(content[node[5].body : node[5].stop])
        size += len(text)
        if size > most:
            raise UnreadableFileError(f"{name}/{_METADATA}: over {most:,} bytes of JSON; {JSON_BYTES.way_out}")
        stated = _plain(parse_json(text, f"{name}/{_METADATA}"))
        if isinstance(stated, dict) and isinstance(stated.get("config"), dict) and "class_name" in stated:
            place = text_of(content, node[3], _METADATA).removeprefix("root.").replace(".", "/")
            found[place] = {"class_name": stated["class_name"], "config": stated["config"]}
    return found


def _root_text(content: memoryview, name: str) -> Content | None:
    """Return the JSON that stands for the model itself."""
    if name == _METADATA:
        for piece in _all(content, 0, len(content), 1, name):
            found = _one(content, piece, name)
            if 3 in found and text_of(content, found[3], name) == "root":
                text = found.get(5)
                return None if text is None else content[text.body : text.stop]
        return None
    for graph in _all(content, 0, len(content), 2, name):
        for objects in _all(content, graph.body, graph.stop, 7, name):
            for node in _all(content, objects.body, objects.stop, 1, name):
                user = _one(content, node, name).get(4)
                text = None if user is None else _one(content, user, name).get(3)
                return None if text is None else content[text.body : text.stop]  # The first object is the root.
    return None


def _all(content: Content, begin: int, end: int, number: int, name: str) -> Iterator[Piece]:
    """Yield the messages in one field of a message."""
    for count, piece in enumerate(pieces(content, begin, end, name)):
        if count > TRACKED_OBJECTS.value:
            raise UnreadableFileError(f"{name}: more than {TRACKED_OBJECTS.value:,} objects; {TRACKED_OBJECTS.way_out}")
        if piece.number == number and piece.is_bytes:
            yield piece


def _one(content: Content, piece: Piece, name: str) -> dict[int, Piece]:
    """Return the last of each field of a message that is not too long to be walked through."""
    return {
        inner.number: inner
        for _, inner in zip(range(1000), pieces(content, piece.body, piece.stop, name), strict=False)
    }


def _plain(value: Any) -> Any:
    """Return JSON with tuples and shapes as the lists that they are in every other file (keras json_utils.py)."""
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") in ("__tuple__", "TensorShape") and isinstance(value.get("items"), list):
        return [_plain(inner) for inner in value["items"]]
    return {key: _plain(inner) for key, inner in value.items()}


def _config(found: Any) -> Config | None:
    """Return a model's config by its metadata: ``model_config`` where Keras could compute one from the model."""
    if not isinstance(found, dict):
        return None
    stated = found.get("keras_version")
    version = KerasVersion(stated) if isinstance(stated, str) else None
    model: Mapping[str, Any] | None = found.get("model_config") if "class_name" not in found else found
    if not isinstance(model, dict) or not isinstance(model.get("config"), dict) or "class_name" not in model:
        return None
    if "layers" not in model["config"]:  # A class of the user's own.
        return None
    return Config({"class_name": model["class_name"], "config": model["config"]}, version)
