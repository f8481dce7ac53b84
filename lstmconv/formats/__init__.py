"""The formats, one row each in one ordered tuple: no other module knows a format by its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lstmconv.errors import LstmconvError, UnreadableFileError, UsageError
from lstmconv.formats import detection
from lstmconv.formats.format import Artifact, Format
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.options import BufferSizes, ReadOptions, WriteOptions
from lstmconv.listing import listed
from lstmconv.suggesting import suggestion

__all__ = [
    "ALIASES",
    "FORMATS",
    "TARGETS",
    "Artifact",
    "BufferSizes",
    "Format",
    "MappedFile",
    "ReadOptions",
    "WriteOptions",
    "by_name",
    "by_suffix",
    "detect",
    "format_of_name",
    "located",
    "open_file",
    "open_place",
    "place_of",
    "places",
    "stem",
]

FORMATS = (
    Format(
        name="torch",
        suffixes=(".pt", ".pth"),
        title="PyTorch state dict",
        module="torch.pt",
        runtime="torch",
        framework="torch",
        recognises=detection.is_torch,
        shared=dict.fromkeys((".ckpt", ".bin", ".pt2"), detection.is_torch),
        modules="nn.LSTM",
        aliases=("pytorch", "pt", "pth"),
    ),
    Format(
        name="cudnn",
        suffixes=(".cudnn.safetensors", ".cudnn.bin"),
        title="cuDNN weight space",
        module="cudnn",
        runtime="cudnn",
        recognises=detection.is_cudnn,
        raw_suffix=".cudnn.bin",
    ),
    Format(
        name="safetensors",
        suffixes=(".safetensors",),
        title="PyTorch state dict in safetensors",
        module="torch.safetensors",
        runtime="safetensors",
        framework="torch",
        recognises=detection.is_safetensors,
        modules="nn.LSTM",
    ),
    Format(
        name="onnx",
        suffixes=(".onnx",),
        title="ONNX model",
        module="onnx",
        runtime="onnx",
        framework="onnxruntime",
        recognises=detection.is_onnx,
        aliases=("ort", "onnxruntime"),
        states_activations=True,
        runs_graphs=True,
    ),
    Format(
        name="torch-code",
        suffixes=(".py",),
        title="PyTorch source",
        module="torch_code",
        runtime="torch_code",
        recognises=detection.is_torch_code,
        runs_graphs=True,
        layers_alone=False,
        shared={".py": detection.is_torch_code},
        locate=detection.locate_torch_code,
    ),
    Format(
        name="tensorflow",
        suffixes=(".ckpt.index", ".index"),
        title="TensorFlow SavedModel or checkpoint",
        module="tensorflow",
        runtime="keras",
        recognises=detection.is_tensorflow,
        biases="one",
        states_activations=True,
        runs_graphs=True,
        from_keras=True,
        is_written=False,
        shared={".index": detection.is_tensorflow},
        locate=detection.locate_tensorflow,
    ),
    Format(
        name="tensorflow-js",
        suffixes=(),
        title="TensorFlow.js layers model",
        module="tensorflow_js",
        runtime="keras",
        recognises=detection.is_tensorflow_js,
        biases="one",
        states_activations=True,
        runs_graphs=True,
        from_keras=True,
        is_written=False,
        shared={".json": detection.is_tensorflow_js},
        locate=detection.locate_tensorflow_js,
    ),
    Format(
        name="keras-cudnn",
        suffixes=(".cudnn.h5",),
        title="Keras CuDNNLSTM layers",
        module="keras.cudnn_lstm",
        runtime="keras",
        recognises=detection.never,
        from_keras=True,
    ),
    Format(
        name="keras",
        suffixes=(".keras", ".weights.h5", ".h5", ".hdf5"),
        title="Keras model or weights",
        module="keras",
        runtime="keras",
        framework="keras",
        recognises=detection.always,
        shared={".ckpt": detection.is_hdf5, ".npz": detection.is_npz},
        biases="one",
        states_activations=True,
        runs_graphs=True,
        from_keras=True,
        layers_suffix=".weights.h5",
        aliases=("tf", "tf-keras", "h5", "hdf5"),
        locate=detection.locate_keras_folder,
    ),
)
"""In the order in which files are recognised and suffixes looked at: ``.cudnn.safetensors`` before ``.safetensors``.

What no other format recognises is left to the Keras reader, which says what it found.
"""


TARGETS = tuple(entry for entry in FORMATS if entry.is_written)
"""The formats that can be written."""
ALIASES = {alias: entry.name for entry in FORMATS for alias in entry.aliases}
"""The name of a format by each name that others give it."""


def places(path: Path) -> dict[Path, Format]:
    """Return the files and folders that a path may mean, each with its format.

    TensorFlow names a checkpoint by a prefix that is no file, and a folder may hold several models. A plain file means
    itself alone: the mapping is empty.

    Raises:
        UnreadableFileError: What the path means is not there.
    """
    formats: dict[Path, Format] = {}
    for entry in FORMATS:
        for place in () if entry.locate is None else entry.locate(path):
            formats.setdefault(place, entry)
    return formats


def located(path: Path) -> Path:
    """Return the file or folder that a path means; the path itself if no format locates another.

    Raises:
        UnreadableFileError: A folder holds several models, or what the path means is not there.
    """
    candidates = places(path)
    if len(candidates) > 1:
        named = [f"itself a {entry.title}" if place == path else place.name for place, entry in candidates.items()]
        raise UnreadableFileError(
            f"a folder that holds several models: {listed(named)}; give a file of the one that is meant",
            about=path.name,
        )
    return next(iter(candidates), path)


def place_of(path: Path) -> Path:
    """Return the file or folder that a path means; the path itself if that fails, for its reader names the fault."""
    try:
        return located(path)
    except LstmconvError:
        return path


def detect(file: MappedFile, options: ReadOptions | None = None) -> Format:
    """Return the format of a file: the one the user names, else by its content, else by its suffix.

    Raises:
        UnreadableFileError: It is empty, or it is a Git LFS pointer.
    """
    if options is not None and options.format is not None:
        return by_name(options.format)
    if options is not None and options.buffer is not None:
        return next(entry for entry in FORMATS if entry.raw_suffix is not None)
    file.refuse_empty()
    return next(entry for entry in FORMATS if entry.recognises(file))


def open_file(path: Path, options: ReadOptions | None = None) -> Artifact:
    """Open a file of any format.

    Args:
        path: The file, or a path that :func:`located` resolves to one.
        options: What the user says about it.

    Raises:
        UnreadableFileError: It is not there, it is damaged, or it is of no format.
        UsageError: ``options.format`` is unknown.
    """
    return open_place(located(path), options)


def open_place(place: Path, options: ReadOptions | None = None) -> Artifact:
    """Open a file or a folder that :func:`located` or :func:`places` returned; see :func:`open_file`."""
    if not place.exists():
        raise UnreadableFileError("no such file", about=str(place))
    if options is not None and options.config is not None:
        options = replace(options, described=config_of(options.config))
    file = MappedFile(place)
    return detect(file, options).open(file, options)


def config_of(path: Path) -> Mapping[str, Any]:
    """Return the model config in a file, as ``model.to_json()`` states it.

    Args:
        path: A file with ``model.to_json()``, or a model of any format that Keras writes.

    Raises:
        UnreadableFileError: The file is not there, or has no config.
    """
    place = located(path)
    if not place.exists():
        raise UnreadableFileError("no such file", about=path.name)
    file = MappedFile(place)
    return detect(file).config_of(file)


def by_name(name: str) -> Format:
    """Return the format that ``--to`` and ``--from`` name.

    Raises:
        UsageError: There is none of that name.
    """
    for entry in FORMATS:
        if entry.name == name:
            return entry
    known = [entry.name for entry in FORMATS]
    raise UsageError(f"unknown format {name!r}; expected one of {', '.join(known)}{suggestion(name, known, ALIASES)}")


def format_of_name(path: Path) -> Format | None:
    """Return the format that a file name's suffix means; ``None`` if no format has it."""
    return next((entry for entry in FORMATS if entry.has_suffix(path)), None)


def by_suffix(path: Path) -> Format:
    """Return the format that a file name's suffix means.

    Raises:
        UsageError: No format has it.
    """
    found = format_of_name(path)
    if found is not None:
        return found
    known = ", ".join(suffix for entry in FORMATS for suffix in entry.suffixes)
    raise UsageError(f"the suffix names no format; expected one of {known}, or pass --to", about=path.name)


def stem(path: Path) -> str:
    """Return a file's name without the longest suffix that a format has: ``model`` of ``model.weights.h5``."""
    name = path.name
    known = sorted((suffix for entry in FORMATS for suffix in entry.suffixes), key=len, reverse=True)
    suffix = next((suffix for suffix in known if name.lower().endswith(suffix)), path.suffix)
    return name[: -len(suffix)] if suffix else name
