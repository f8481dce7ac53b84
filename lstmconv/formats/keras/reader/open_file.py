"""Open any Keras file, recognised by its content and never by its suffix: the weights, the config, the version.

Kinds (sources: keras/src/saving/{saving_lib,legacy/legacy_h5_format}.py, keras/engine/topology.py):

* ``legacy``: HDF5 with ``layer_names`` (Keras 1 to 3 ``.h5``), a whole model or weights only;
  ``nb_layers`` for Keras 0.
* ``saveable``: HDF5 with ``.../vars/0, 1, 2`` groups: ``.weights.h5``, the body of a ``.keras``
  zip or folder, and sharded weights, from Keras 2.11 on.

TensorFlow's own containers (:mod:`lstmconv.formats.tensorflow`) are two more kinds: ``tracked``, the objects of
TensorFlow 2 by the names of their attributes, and ``named``, the variables of TensorFlow 1 by their names in the graph.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lstmconv.errors import ForeignFileError, NoLSTMError, UnreadableFileError
from lstmconv.formats.hashing import hashing, sha256_of_all
from lstmconv.formats.hdf5.tree import SIGNATURE, Group, StoredArray, read_tree
from lstmconv.formats.keras.reader.config import Config, KerasVersion, config_from
from lstmconv.formats.keras.reader.tracked import Tracked
from lstmconv.formats.lookalikes import lookalike
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.record import KEY, Record, parse_record
from lstmconv.formats.safety.limits import JSON_BYTES, parse_json
from lstmconv.listing import listed

__all__ = ["KerasFile", "open_config", "open_file"]

_CELL_VARIABLE = re.compile(r".+/recurrent_kernel(:0)?")


@dataclass(frozen=True, kw_only=True, eq=False)
class KerasFile:
    """An opened Keras file.

    Attributes:
        name: The file's name.
        kind: ``"legacy"``, ``"saveable"``, ``"tracked"``, ``"named"``, or ``"listed"``: arrays without names in
            Keras' order.
        weights: The group that contains the layers' groups; for a ``named`` or ``listed`` file, all variables.
        description: The kind for people, such as ``"Keras HDF5 (whole model)"``.
        hashed: See :attr:`lstmconv.model.Provenance.hashed`.
        config: The model config, if the file has one.
        version: The Keras version that wrote the weights, if the file states it.
        backend: The Keras backend that the file states.
        record: lstmconv's record, if lstmconv wrote the file.
        parts: The names of the shards.
        objects: The root of a ``tracked`` file.
        layers: The configs of single layers by the paths of their objects, if the saved model is a custom class, which
            has no config itself.
    """

    name: str
    kind: Literal["legacy", "saveable", "tracked", "named", "listed"]
    weights: Group
    description: str
    hashed: str | Callable[[], str]
    config: Config | None = None
    version: KerasVersion | None = None
    backend: str | None = None
    record: Record | None = None
    parts: tuple[str, ...] = ()
    objects: Tracked | None = None
    layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def open_file(file: MappedFile) -> KerasFile:
    """Open a Keras file of any kind.

    Raises:
        UnreadableFileError: The file is no Keras file, is damaged, or uses features that no Keras file uses.
    """
    if file.path.is_dir():
        return _open_folder(file.path)
    file.refuse_empty()
    _refuse_lookalikes(file)
    if _is_hdf5(file):
        return _from_tree(file.name, read_tree(file, file.name), hashing(file))
    if _is_zip(file):
        return _open_zip(file)
    return _open_shards(file)


def open_config(file: MappedFile) -> Config:
    """Read a model config: ``model.to_json()`` or the config inside a ``.h5`` or ``.keras`` file.

    Raises:
        UnreadableFileError: The file contains no model config.
    """
    if not file.path.is_dir() and not _is_hdf5(file) and not _is_zip(file):
        found = _json(_text(file), file.name)
        if "class_name" not in found:
            raise UnreadableFileError(
                "a JSON file without class_name, expected what model.to_json() writes", about=file.name
            )
        return config_from(found)
    config = open_file(file).config
    if config is None:
        raise UnreadableFileError("holds weights only, expected a model config in it", about=file.name)
    return config


def _is_zip(file: MappedFile) -> bool:
    import zipfile

    try:
        return zipfile.is_zipfile(file.stream())
    except zipfile.BadZipFile:  # A zip split over several disks, which Python's zipfile does not read.
        return True


def _is_hdf5(file: MappedFile) -> bool:
    start = 0
    while start + len(SIGNATURE) <= file.size:
        if file.content[start : start + len(SIGNATURE)].tobytes() == SIGNATURE:
            return True
        start = max(512, 2 * start)
    return False


def _refuse_lookalikes(file: MappedFile) -> None:
    """Raise an error that names the real type of a file which only looks like a checkpoint."""
    name, head = file.name, file.head
    found = lookalike(head)
    if found is not None:
        kind = ForeignFileError if found.whole else UnreadableFileError
        raise kind(f"{found.what}, expected a Keras file; {found.way_out}", about=name)
    one_word = not head.lstrip().startswith((b"{", b"[", b"<")) and b"\n" not in head.strip()
    if file.size < 512 and head.isascii() and one_word and b"/" in head:
        raise UnreadableFileError(
            f"holds only the text {head.decode()!r} (a symbolic link stored as a file?), expected a Keras file",
            about=name,
        )


def _from_tree(name: str, tree: Group, hashed: str | Callable[[], str]) -> KerasFile:
    """Determine the kind of an HDF5 file."""
    version, backend = tree.text("keras_version"), tree.text("backend")
    config_text = tree.text("model_config")
    whole = tree.group("model_weights")
    config = None if config_text is None else config_from(_json(config_text.encode(), name), version)
    weights = whole if whole is not None and whole.strings("layer_names") is not None else tree
    record = parse_record(tree.text(KEY))
    if weights.strings("layer_names") is not None or "nb_layers" in weights.attributes:
        stated = _version(version or weights.text("keras_version"))
        return KerasFile(
            name=name,
            kind="legacy",
            weights=weights,
            description="Keras HDF5 (whole model)" if config else "Keras HDF5 (weights only)",
            hashed=hashed,
            config=config,
            version=stated or (config.version if config else None),
            backend=backend or weights.text("backend"),
            record=record,
        )
    if config is None and not any(group.path.rpartition("/")[2] == "vars" for group in tree.walk()):
        found = listed([f"'{child}'" for child in tree.children])
        if not found:
            raise UnreadableFileError("an HDF5 file that holds nothing; save it again", about=name)
        raise NoLSTMError(
            f"an HDF5 file without Keras weights (it holds {found}), expected layer_names or layers/", about=name
        )
    return KerasFile(
        name=name,
        kind="saveable",
        weights=_with_slashes(tree, name),
        description="Keras .weights.h5",
        hashed=hashed,
        config=config,
        version=_version(version),
        backend=backend,
        record=record,
    )


def _version(text: object) -> KerasVersion | None:
    return KerasVersion(text) if isinstance(text, str) and text else None


def _open_zip(file: MappedFile) -> KerasFile:
    """Open a ``.keras`` zip (Keras 2.11 and later)."""
    from lstmconv.formats.keras.reader.archive import read_archive
    from lstmconv.formats.keras.reader.npz import is_npz, read_npz, without_names

    if is_npz(file):
        arrays = read_npz(file)
        kind: Literal["named", "listed"] = "listed" if without_names(arrays) else "named"
        if kind == "named" and not any(_CELL_VARIABLE.search(key) for key in arrays):
            names = listed([f"{key!r:.40}" for key in arrays], 3)
            raise NoLSTMError(
                f"NumPy arrays by names ({names}), none of which Keras gives an LSTM's; expected "
                "np.savez(path, *model.get_weights()), with --config, or arrays by their variables' names",
                about=file.name,
            )
        weights = Group("", {}, arrays)
        return KerasFile(name=file.name, kind=kind, weights=weights, description="NumPy archive", hashed=hashing(file))
    tree, texts = read_archive(file)
    found = {name: _json(text, f"{file.name}:{name}") for name, text in texts.items()}
    return _archive(
        file.name, tree, found.get("config.json"), found.get("metadata.json"), hashing(file), "Keras .keras archive"
    )


def _open_folder(path: Path) -> KerasFile:
    """Open a ``.keras`` folder (``zipped=False``)."""
    body = path / "model.weights.h5"
    if not body.is_file():
        raise UnreadableFileError(
            "a folder without model.weights.h5, saved_model.pb, a checkpoint or a TensorFlow.js model.json, expected a "
            "model; give one file in it",
            about=path.name,
        )
    parts = {name: path / f"{name}.json" for name in ("config", "metadata")}
    for part in (body, *parts.values()):
        if part.is_symlink():
            raise UnreadableFileError(f"{part.name} is a symbolic link; not followed", about=path.name)
    files = {name: MappedFile(part) for name, part in parts.items() if part.is_file()}
    texts = {name: _json(_text(file), file.name) for name, file in files.items()}
    weights = MappedFile(body)
    hashed = sha256_of_all(sorted((weights, *files.values()), key=lambda file: file.path))
    tree = read_tree(weights, f"{path.name}/{body.name}")
    return _archive(path.name, tree, texts.get("config"), texts.get("metadata"), hashed, "Keras .keras folder")


def _archive(
    name: str,
    tree: Group,
    config: Mapping[str, Any] | None,
    metadata: Mapping[str, Any] | None,
    hashed: str | Callable[[], str],
    description: str,
) -> KerasFile:
    version = _version((metadata or {}).get("keras_version"))
    return KerasFile(
        name=name,
        kind="saveable",
        weights=_with_slashes(tree, name),
        description=description,
        hashed=hashed,
        config=None if config is None else config_from(config, None if version is None else version.text),
        version=version,
        record=parse_record(tree.text(KEY)),
    )


def _open_shards(file: MappedFile) -> KerasFile:
    """Open sharded weights: ``model.weights.json`` and the shards beside it (Keras 3.10 and later)."""
    path, head = file.path, _text(file)
    if not head.lstrip().startswith(b"{"):
        shown = head[:8].hex(" ")
        raise UnreadableFileError(
            f"begins with the bytes {shown}, expected HDF5, a .keras zip, or .weights.json",
            about=path.name,
        )
    index = _json(head, path.name)
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, Mapping):
        hint = "; give the weights and pass this with --config" if "class_name" in index else ""
        raise UnreadableFileError(f"a JSON file without weight_map, expected an index of shards{hint}", about=path.name)
    names: list[object] = []
    for value in weight_map.values():
        names += value if isinstance(value, list) else [value]
    merged = Group("")
    for value in names:
        if not isinstance(value, str) or Path(value).name != value or value in ("", ".", ".."):
            raise UnreadableFileError(f"shard {value!r} is not a plain file name; not followed", about=path.name)
    parts: list[MappedFile] = []
    for name in sorted(set(map(str, names))):
        shard = path.parent / name
        if shard.is_symlink():
            raise UnreadableFileError(f"the shard {name} is a symbolic link; not followed", about=path.name)
        if not shard.is_file():
            raise UnreadableFileError(f"the shard {name} is missing beside it", about=path.name)
        parts.append(MappedFile(shard))
        merged = _merge(merged, read_tree(parts[-1], name))
    return KerasFile(
        name=path.name,
        kind="saveable",
        weights=merged,
        description="Keras sharded weights",
        hashed=sha256_of_all(parts, head),
        parts=tuple(part.name for part in parts),
    )


def _with_slashes(tree: Group, name: str) -> Group:
    r"""Read the names that Keras 2.13 to 2.15 write on Windows: ``layers\lstm\cell`` is one link name at the root.

    Raises:
        UnreadableFileError: The file has names of both forms for one place, or names that no path has.
    """
    windows = [key for key in tree.children if "\\" in key]
    if not windows:
        return tree
    merged = Group(tree.path, tree.attributes)
    for key in windows:
        first, *inner = key.split("\\")
        if first in tree.children or {"", ".", ".."} & {first, *inner}:
            raise UnreadableFileError(
                f"has {key!r:.100}"
                + (f" and also {first!r:.40}, which are one place" if first in tree.children else ", which is no path")
                + "; damaged, or made to mislead",
                about=name,
            )
    for key, child in tree.children.items():
        *above, last = key.split("\\")
        branch = Group("", children={last: child})
        for part in reversed(above):
            branch = Group("", children={part: branch})
        merged = _merge(merged, branch)
    return merged


def _merge(a: Group, b: Group) -> Group:
    """Join two trees; one ``vars`` group may be split over two shards."""
    children: dict[str, Group | StoredArray] = dict(a.children)
    for key, child in b.children.items():
        mine = children.get(key)
        children[key] = _merge(mine, child) if isinstance(mine, Group) and isinstance(child, Group) else child
    return Group(a.path or b.path, {**a.attributes, **b.attributes}, children)


def _text(file: MappedFile) -> bytes:
    """Return a small file's content, one byte over the limit at most."""
    return file.content[: JSON_BYTES.value + 1].tobytes()


def _json(text: bytes, name: str) -> Mapping[str, Any]:
    found = parse_json(text, name)
    if not isinstance(found, dict):
        raise UnreadableFileError(f"JSON of type {type(found).__name__}, expected an object", about=name)
    return found
