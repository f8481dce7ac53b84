"""A Keras 3 model's ``state_dict()`` from the torch backend: Keras' own variables by their paths.

Source: keras/src/backend/torch/layer.py (3.15) ``TorchLayer._track_variables``: a ``ParameterDict`` named
``_torch_params`` by ``variable.path``, in every layer and model for all that is inside it, so that most paths occur
several times. The axes and gates are Keras', not PyTorch's.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lstmconv.errors import UnreadableFileError
from lstmconv.formats.hashing import hashing
from lstmconv.formats.hdf5.tree import Group, StoredArray
from lstmconv.formats.keras.reader.config import KerasVersion
from lstmconv.formats.keras.reader.open_file import KerasFile
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.model import Array

__all__ = ["holds_keras_variables", "keras_file"]

_MARK = "_torch_params."
_SEED = "seed_generator_state"
"""keras/src/random/seed_generator.py: the state of a dropout's random numbers, which no weight is."""


def holds_keras_variables(tensors: Mapping[str, Array]) -> bool:
    """Whether a state dict is that of a Keras model."""
    return any(_MARK in key for key in tensors)


def keras_file(tensors: Mapping[str, Array], file: MappedFile) -> KerasFile:
    """Return the variables as a Keras file that keeps them by their names.

    Raises:
        UnreadableFileError: Two tensors of one path differ.
    """
    found: dict[str, StoredArray] = {}
    for key, array in tensors.items():
        _, mark, path = key.partition(_MARK)
        if not mark or path.rpartition("/")[2] == _SEED:
            continue
        if path in found and not np.array_equal(found[path].load(), array, equal_nan=array.dtype.kind == "f"):
            raise UnreadableFileError(
                f"two tensors of '{path}' differ, which are one variable of a Keras model; save it again",
                about=file.name,
            )
        found.setdefault(path, StoredArray(path, array.shape, array.dtype, {}, array))
    return KerasFile(
        name=file.name,
        kind="named",
        weights=Group("", {}, found),
        description="state dict of a Keras 3 model on PyTorch",
        hashed=hashing(file),
        version=KerasVersion("3"),
        backend="torch",
    )
