"""Recognise a file's format by its content; the suffix decides only if the content does not show it.

Each function belongs to one format's row. A function that must look into a file imports what it needs for that: HDF5
files need none of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from lstmconv.errors import UnreadableFileError
from lstmconv.formats.mapped_file import MappedFile

__all__ = [
    "always",
    "is_cudnn",
    "is_hdf5",
    "is_npz",
    "is_onnx",
    "is_safetensors",
    "is_tensorflow",
    "is_tensorflow_js",
    "is_torch",
    "is_torch_code",
    "locate_keras_folder",
    "locate_tensorflow",
    "locate_tensorflow_js",
    "locate_torch_code",
    "never",
]

_HEADER_BYTES = 100_000_000
"""safetensors' own limit for its header."""
_HDF5 = b"\x89HDF\r\n\x1a\n"
_WRITTEN = b"\nWritten by lstmconv "
"""The second line of a source of lstmconv's begins with it."""
_ZIP = b"PK\x03\x04"
_TENSORFLOW_JS = "model.json"
"""What tensorflowjs and ``model.save("downloads://model")`` call the file that names the weights' files."""
_TENSORFLOW_JS_WEIGHTS = re.compile(r"group\d+-shard\d+of\d+(\.bin)?|model\.weights\.bin")
"""tensorflowjs 4.22 write_weights.py; tfjs-core src/io/browser_files.ts."""
_TORCH_RECORDS = ("data.pkl", "/archive_format", "serialized_exported_program.json")


def always(file: MappedFile) -> bool:
    """Take what no other format recognises."""
    return True


def never(file: MappedFile) -> bool:
    """Recognise nothing: another format reads these files too, and distinguishes them by their layers."""
    return False


def is_torch(file: MappedFile) -> bool:
    """Recognise what PyTorch writes; the pickles of PyTorch before 1.6 begin with their protocol, 2."""
    if file.head.startswith(_ZIP):
        return _is_torch_zip(file)
    if file.head.startswith(b"\x80\x02"):
        return True
    return _is_unmarked(file) and file.has_suffix(".pt", ".pth")


def is_hdf5(file: MappedFile) -> bool:
    """Recognise HDF5, as Keras writes it under any name."""
    return file.head.startswith(_HDF5)


def is_npz(file: MappedFile) -> bool:
    """Recognise a zip of NumPy arrays."""
    return file.head.startswith(_ZIP) and file.head[30:].partition(b".npy")[1] == b".npy"


def is_safetensors(file: MappedFile) -> bool:
    """Recognise a safetensors header: its length in eight bytes, then a JSON object."""
    return _has_header(file) or (_is_unmarked(file) and file.has_suffix(".safetensors"))


def is_cudnn(file: MappedFile) -> bool:
    """Recognise a weight space by the manifest in its safetensors header, a bare one by its suffix."""
    if _has_header(file):
        return _has_manifest(file)
    return _is_unmarked(file) and file.has_suffix(".bin")


def is_onnx(file: MappedFile) -> bool:
    """Recognise an ONNX model by its suffix: a Protocol Buffers message has no mark at its beginning."""
    return _is_unmarked(file) and file.has_suffix(".onnx")


def is_tensorflow(file: MappedFile) -> bool:
    """Recognise a SavedModel, a checkpoint, and TensorFlow's files that hold no layers, which its reader names."""
    if locate_tensorflow(file.path) or file.head[4:8] == b"TFL3":
        return True
    return _is_unmarked(file) and file.has_suffix(".pb", ".pbtxt", ".tflite")


def is_tensorflow_js(file: MappedFile) -> bool:
    """Recognise a ``model.json`` of TensorFlow.js by a key that it begins with and no config of Keras has."""
    return file.head.lstrip().startswith(b"{") and b'"modelTopology"' in file.head


def locate_tensorflow(path: Path) -> Sequence[Path]:
    """Return the SavedModel folders and the checkpoints' indexes that a path may mean."""
    from lstmconv.formats.tensorflow.places import located

    return located(path)


def is_torch_code(file: MappedFile) -> bool:
    """Recognise the source of a model by its docstring; other Python files are not recognised."""
    return file.has_suffix(".py") and file.head.startswith(b'"""') and _WRITTEN in file.head


def locate_tensorflow_js(path: Path) -> Sequence[Path]:
    """Return the ``model.json`` of TensorFlow.js for a folder, for a file of weights in it, or for the file itself."""
    is_weights = _TENSORFLOW_JS_WEIGHTS.fullmatch(path.name) is not None
    if path.is_dir():
        path /= _TENSORFLOW_JS
        if path.is_symlink():  # A link that was not named itself is not followed.
            return []
    elif is_weights:
        path = path.with_name(_TENSORFLOW_JS)
    return [path] if path.suffix.lower() == ".json" and _recognises(is_tensorflow_js, path) else []


def locate_keras_folder(path: Path) -> Sequence[Path]:
    """Return a folder that is an unpacked ``.keras`` file (``model.save(..., zipped=False)``)."""
    return [path] if (path / "model.weights.h5").is_file() and (path / "config.json").is_file() else []


def locate_torch_code(path: Path) -> Sequence[Path]:
    """Return the path of a source that lstmconv wrote; nothing for other files."""
    return [path] if path.suffix.lower() == ".py" and _recognises(is_torch_code, path) else []


def _recognises(recognises: Callable[[MappedFile], bool], path: Path) -> bool:
    """Whether a path is a file of a format; a file that cannot be opened is not."""
    try:
        return path.is_file() and recognises(MappedFile(path))
    except OSError:
        return False


def _is_unmarked(file: MappedFile) -> bool:
    """Whether a file's first bytes do not show its format."""
    marked = file.head.startswith((_HDF5, _ZIP, b"\x80\x02"))
    return bool(file.head) and not marked and not _has_header(file)


def _has_header(file: MappedFile) -> bool:
    size = int.from_bytes(file.head[:8], "little")
    return file.head[8:9] == b"{" and size < min(file.size, _HEADER_BYTES)


def _is_torch_zip(file: MappedFile) -> bool:
    import zipfile

    from lstmconv.formats.safety.zips import open_archive

    try:
        names = open_archive(file).namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return file.has_suffix(".pt", ".pth")
    return any(name.endswith(_TORCH_RECORDS) or "/code/" in name for name in names)


def _has_manifest(file: MappedFile) -> bool:
    from lstmconv.formats.cudnn.packing import CUDNN_KEY
    from lstmconv.formats.torch.safetensors import read_header

    try:
        metadata = read_header(file)[1].get("__metadata__")
    except UnreadableFileError:  # The safetensors reader says what is wrong with it.
        return False
    return isinstance(metadata, dict) and CUDNN_KEY in metadata
