"""Read a ``.keras`` zip (Keras 2.11 and later): the HDF5 weights as a view of the file, the JSON texts in full."""

from __future__ import annotations

from lstmconv.errors import ForeignFileError, LstmconvError, UnreadableFileError
from lstmconv.formats.hdf5.tree import Group, read_tree
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.safety.limits import JSON_BYTES
from lstmconv.formats.safety.zips import inflated, member_bytes, open_archive
from lstmconv.listing import listed

__all__ = ["read_archive"]

_TEXTS = ("config.json", "metadata.json")
_MODELS = (".h5", ".hdf5", ".keras", ".pt", ".pth", ".onnx", ".safetensors", "saved_model.pb")


def read_archive(file: MappedFile) -> tuple[Group, dict[str, bytes]]:
    """Return the tree of weights, and the JSON texts that the zip contains, by name.

    Raises:
        UnreadableFileError: The zip is damaged, is no Keras file, or a member claims more bytes than the limit.
    """
    try:
        archive = open_archive(file)
        names = archive.namelist()
        body = next((name for name in ("model.weights.h5", "variables.h5") if name in names), None)
        if body is None:
            raise _no_body(file.name, names)
        tree = read_tree(member_bytes(file, archive, archive.getinfo(body)), f"{file.name}:{body}")
        most = JSON_BYTES.value
        texts = {name: inflated(file.name, archive, archive.getinfo(name), most) for name in _TEXTS if name in names}
    except LstmconvError:
        raise
    except Exception as error:  # zipfile passes on errors of struct, zlib and the file, such as EOFError.
        reason = str(error) or type(error).__name__
        raise UnreadableFileError(
            f"damaged zip file ({reason}); restore or download it again", about=file.name
        ) from error
    return tree, texts


def _no_body(name: str, names: list[str]) -> UnreadableFileError:
    if "model.weights.npz" in names:
        return ForeignFileError(
            "its weights are pickled (model.weights.npz), which is never loaded; "
            "save it again with Keras as .keras in the default format",
            about=name,
        )
    beside = (entry for entry in names if ".." not in entry.split("/") and not entry.startswith("/"))
    inside = next((entry for entry in beside if entry.lower().endswith(_MODELS)), None)
    if inside is not None:
        return UnreadableFileError(f"a zip that holds {inside!r:.100}; unzip it and pass the file inside", about=name)
    found = listed([f"{entry!r:.40}" for entry in names], 3) or "nothing"
    return UnreadableFileError(f"a zip without model.weights.h5 (it holds {found}), expected a .keras file", about=name)
