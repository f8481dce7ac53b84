"""The LSTMs of a torch module as layers, and a file's model or layer as a torch module."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats import open_file
from lstmconv.formats.options import ReadOptions
from lstmconv.formats.torch.opaque import class_of
from lstmconv.formats.torch.parameters import read_parameters
from lstmconv.formats.torch.pickled_modules import PickledModule
from lstmconv.misuse import misfit
from lstmconv.model import Checkpoint, LSTMLayer, Model, Provenance
from lstmconv.torch.arrays import array_of
from lstmconv.torch.layer import from_layer
from lstmconv.torch.model import KerasModel, from_model
from lstmconv.torch.modules import LSTM

__all__ = ["load", "read_module", "to_torch"]


def read_module(module: nn.Module | Mapping[str, Tensor], name: str | None) -> Checkpoint:
    """Return the LSTMs of a module, or of its state dict; see :func:`lstmconv.from_torch`.

    Raises:
        UsageError: It is neither.
        UnsupportedModelError: No LSTM in it that converts.
    """
    if not isinstance(module, nn.Module | Mapping):
        raise misfit("from_torch", module, "a torch module or a state dict")
    state = module if isinstance(module, Mapping) else module.state_dict()
    called = "state dict" if isinstance(module, Mapping) else type(module).__name__
    prefix = "" if name is None else f"{name}."
    arrays: dict[str, Any] = {}
    for key, value in state.items():
        if isinstance(value, Tensor) and not value.is_quantized and value.layout == torch.strided:
            arrays[prefix + key] = array_of(value.detach().cpu())
        else:  # It is no weight that is read, and yet its module holds it.
            arrays[prefix + key] = np.empty(0, np.int8)
    known = {} if isinstance(module, Mapping) else dict(_facts(module, prefix))
    return read_parameters(arrays, Provenance(called, "", "torch module"), None, ReadOptions(), known)


def _facts(module: nn.Module, prefix: str) -> Iterator[tuple[str, PickledModule]]:
    """Yield what may change the outputs of each module, its class and its hooks, by the prefix of its tensors."""
    for path, part in module.named_modules(remove_duplicate=False):
        hooks = [*getattr(part, "_forward_pre_hooks", {}).values(), *getattr(part, "_forward_hooks", {}).values()]
        hooks += [part.__dict__["forward"]] if "forward" in part.__dict__ else []
        yield f"{prefix}{path}." if path else prefix, PickledModule(_class_name(part), {}, tuple(map(_title, hooks)))


def _class_name(module: nn.Module) -> str:
    """Return a module's class; that of nn.LSTM for lstmconv's own, which says in its state what it computes."""
    if isinstance(module, torch.jit.ScriptModule):
        return class_of(module._c._type().qualified_name())
    return _title(nn.LSTM if type(module) in (LSTM, nn.Module) else type(module))


def _title(named: Any) -> str:
    """Return the full name of a class or a function, or of an object's class."""
    own = named if hasattr(named, "__qualname__") else type(named)
    return f"{own.__module__}.{own.__qualname__}"


def to_torch(source: Model | Checkpoint | LSTMLayer) -> nn.Module:
    """Return a module with the inputs and outputs of the Keras model, or of the Keras layer.

    Raises:
        UnsupportedModelError: A layer is unknown, an activation is, or the checkpoint does not contain its model.
    """
    if isinstance(source, LSTMLayer):
        return from_layer(source)
    model = source.model if isinstance(source, Checkpoint) else source
    if model is None:
        assert isinstance(source, Checkpoint)
        names = ", ".join(layer.name for layer in source.layers)
        raise UnsupportedModelError(
            f"{source.provenance.source} has no model; pass one of its layers: checkpoint[name] of {names}"
        )
    return from_model(model)


def load(path: str | Path) -> KerasModel:
    """Return the module of a whole ``.pt`` or ``.safetensors`` that lstmconv wrote, from the file alone.

    Returns:
        Inputs and outputs are the Keras model's, in its order; in evaluation mode.

    Raises:
        UsageError: ``path`` is no path.
        UnreadableFileError: It is damaged.
        UnsupportedModelError: The file holds no whole model, or layers of it are unknown; they are named.
    """
    if not isinstance(path, str | os.PathLike):
        raise misfit("lstmconv.torch.load", path, "a path")
    file = Path(path).expanduser()
    checkpoint = open_file(file).checkpoint
    if checkpoint.model is None:
        raise UnsupportedModelError(f"{file.name}: holds no whole model; write one with: lstmconv convert --whole")
    return from_model(checkpoint.model)
