"""Open TensorFlow's own containers as input for the Keras reader: a config, and arrays of objects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lstmconv.errors import ForeignFileError, UnreadableFileError
from lstmconv.formats.hashing import hashing
from lstmconv.formats.hdf5.tree import Group
from lstmconv.formats.keras.reader.config import Config
from lstmconv.formats.keras.reader.open_file import KerasFile
from lstmconv.formats.keras.reader.tracked import by_full_names
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.tensorflow import places
from lstmconv.formats.tensorflow.reader.bundle import Bundle, open_bundle
from lstmconv.formats.tensorflow.reader.object_graph import GRAPH_KEY, read_objects
from lstmconv.formats.tensorflow.reader.saved_model import config_files, config_of, layer_configs

__all__ = ["open_config", "open_file"]

_EXPORTED = "_all_variables"
"""The only child in files of ``model.export()`` and ExportArchive: an unordered list of variables, without layers
(keras/src/export/export_lib.py of 2.13 to 2.15, saved_model.py of 3)."""
_WAY_OUT = "save the Keras model it was made from with model.save('model.h5')"


def open_file(file: MappedFile) -> KerasFile:
    """Open a SavedModel by its folder, or a checkpoint by its index.

    Raises:
        UnreadableFileError: The file is neither of both, or is damaged.
        ForeignFileError: The file is another of TensorFlow's files.
    """
    file.refuse_empty()
    if file.path.is_dir() and places.is_saved_model(file.path):
        return _open_saved_model(file.path)
    if file.has_suffix(places.INDEX):
        return _open_checkpoint(file.path)
    _refuse_others(file)
    raise UnreadableFileError("no TensorFlow checkpoint or SavedModel; expected a folder, or .index", about=file.name)


def open_config(file: MappedFile) -> Config:
    """Read the model's config in a SavedModel.

    Raises:
        UnreadableFileError: The file has no config, or is damaged.
    """
    found = None
    if file.path.is_dir():
        name = file.path.resolve().name
        found = config_of(config_files(file.path, name), name)
    if found is None:
        raise UnreadableFileError("holds weights only, expected a model config in it", about=file.name)
    return found


def _refuse_others(file: MappedFile) -> None:
    """Refuse TensorFlow's files that contain no layers."""
    if file.has_suffix(".tflite"):
        raise ForeignFileError(
            f"a TensorFlow Lite model, whose layers are split into operations; {_WAY_OUT}", about=file.name
        )
    if file.has_suffix(".pb", ".pbtxt"):
        raise ForeignFileError(
            "a TensorFlow graph without a SavedModel's folder (a frozen graph?), which holds operations and no layers; "
            f"{_WAY_OUT}",
            about=file.name,
        )


def _open_saved_model(folder: Path) -> KerasFile:
    name = folder.resolve().name
    index = places.variables_of(folder)
    if not index.is_file():
        if any((folder / part).is_file() for part in (places.MODEL, places.MODEL_TEXT)):
            raise UnreadableFileError("a SavedModel without variables/variables.index: it holds no weights", about=name)
        raise UnreadableFileError(f"{places.METADATA} without variables/variables.index", about=name)
    if index.parent.is_symlink():
        raise UnreadableFileError(f"{index.parent.name} is a symbolic link; not followed", about=name)
    described = config_files(folder, name)
    bundle = open_bundle(index, name)
    config = config_of(described, name)
    parts = (*described, bundle.index, *bundle.shards)
    file = _file(name, bundle, config, "TensorFlow SavedModel", parts, folder)
    return file if config is not None else replace(file, layers=layer_configs(described, name))


def _open_checkpoint(index: Path) -> KerasFile:
    bundle = open_bundle(index, index.name)
    return _file(index.name, bundle, None, "TensorFlow checkpoint", (bundle.index, *bundle.shards), index)


def _file(
    name: str, bundle: Bundle, config: Config | None, description: str, files: tuple[MappedFile, ...], source: Path
) -> KerasFile:
    """Join a checkpoint with its config; without a graph of objects, the variables are found by their names."""
    parts = tuple(file.path.relative_to(source.parent).as_posix() for file in files if file.path != source)
    graph = bundle.text(GRAPH_KEY)
    objects = None if graph is None else read_objects(graph, bundle, name)
    exported = None if objects is None else objects.children.get(_EXPORTED)
    if exported is not None:
        description = "TensorFlow SavedModel of model.export()"
        variables, objects = Group("", {}, dict(sorted(by_full_names(exported, name).items()))), None
    elif objects is not None:
        variables = Group("")
    else:
        variables = Group("", {}, {key: bundle.array(key) for key in bundle.entries})
    return KerasFile(
        name=name,
        kind="named" if objects is None else "tracked",
        weights=variables,
        description=description,
        hashed=hashing(*files),
        config=config,
        version=None if config is None else config.version,
        backend="tensorflow",
        parts=parts,
        objects=objects,
    )
