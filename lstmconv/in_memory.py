"""The Python API for models in memory: from a framework's own objects into a checkpoint, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lstmconv.arrays.bias_modes import BiasMode
from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.formats import ReadOptions, WriteOptions
from lstmconv.misuse import misfit
from lstmconv.model import Array, Checkpoint, LSTMLayer, Model, Provenance, Stack
from lstmconv.spelling import speaks_python

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn

__all__ = ["from_keras", "from_onnx", "from_torch", "to_cudnn", "to_onnx", "to_torch"]


@speaks_python
def from_torch(module: nn.Module | Mapping[str, Tensor], *, name: str | None = None) -> Checkpoint:
    """Return the LSTMs of a torch module as layers; arrays share the parameters' memory on the CPU.

    An ``nn.LSTM`` of several layers is one stack of as many layers (``lstm_l0``, ``lstm_l1``). Layers take
    ``(batch, time, features)`` and return sequences, whatever ``batch_first`` says.

    Args:
        module: An ``nn.LSTM``, ``nn.LSTMCell`` or :class:`lstmconv.torch.LSTM`, any module that holds some, or the
            state dict of one.
        name: Its name; if the module has several LSTMs, the beginning of their names.

    Raises:
        UsageError: It is neither.
        UnsupportedModelError: It has no LSTM that converts (``proj_size``, quantised, weight_norm, a subclass, hooks).
    """
    from lstmconv.torch import read_module

    return read_module(module, name)


@speaks_python
def from_keras(model: Any) -> Checkpoint:
    """Return the layers of a Keras model in memory, of Keras 3, tf-keras or tf.keras, and the model itself.

    Keras saves the model to a temporary file, which is read as any other.

    Raises:
        UsageError: It is no Keras model.
        UnsupportedModelError: It has no weights yet, Keras cannot save it, or no LSTM in it converts.
    """
    from lstmconv.formats.keras.live import read_live

    return read_live(model)


@speaks_python
def from_onnx(model: onnx.ModelProto, *, name: str = "model.onnx") -> Checkpoint:
    """Return the LSTM nodes of an ONNX model as layers.

    Args:
        model: A model that contains its weights; load external data first.
        name: Its name in messages.

    Raises:
        UnsupportedModelError: It has no LSTM node that converts.
    """
    import hashlib

    from lstmconv.formats.onnx.reader.read import read_model

    if not hasattr(model, "SerializeToString"):
        raise misfit("from_onnx", model, "an onnx.ModelProto")

    origin = Provenance(name, hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest(), "ONNX model")
    return read_model(model, name, origin, ReadOptions(), None)


@speaks_python
def to_torch(source: Checkpoint | LSTMLayer | Model) -> nn.Module:
    """Return a torch module with the inputs and outputs of the whole Keras model, or of one Keras layer.

    For a checkpoint it is a :class:`lstmconv.torch.KerasModel`, for a layer a :class:`lstmconv.torch.KerasLSTM`.

    Raises:
        MissingDependencyError: torch is not installed.
        UnsupportedModelError: A layer or an activation is unknown, or the checkpoint does not contain its model.
    """
    if not isinstance(source, Checkpoint | LSTMLayer | Model):
        raise misfit("to_torch", source, "a Checkpoint, a model or a layer")
    from lstmconv.torch import to_torch

    return to_torch(source)


@speaks_python
def to_onnx(
    source: Checkpoint | LSTMLayer | Model,
    *,
    whole: bool | None = None,
    dtype: str | None = None,
    bias_mode: BiasMode | None = None,
    opset: int | None = None,
    states: bool | None = None,
    lengths: bool = False,
) -> onnx.ModelProto:
    """Return an ONNX model of the whole model, or of LSTM layers; :mod:`lstmconv.formats.onnx` has inputs and outputs.

    Args:
        source: A checkpoint, a model, or one layer.
        whole: ``False`` takes a checkpoint's LSTM layers alone, each with inputs and outputs of its own; ``True`` its
            whole model; ``None`` the whole model where the checkpoint has one, and else the layers. ``lengths`` asks
            for layers alone.
        dtype, bias_mode, opset, states, lengths: See :func:`convert`.

    Raises:
        UnsupportedModelError: ONNX cannot compute a layer, a layer of the whole model is unknown, or ``whole`` is true
            and the checkpoint has no model.
        UsageError: ``whole`` and ``lengths`` are both true.
    """
    from lstmconv.formats.onnx import build, build_model

    if not isinstance(source, Checkpoint | LSTMLayer | Model):
        raise misfit("to_onnx", source, "a Checkpoint, a model or a layer")
    if whole and lengths:
        raise UsageError("lengths are for LSTM layers alone; a whole model masks as Keras does")
    options = WriteOptions(dtype, bias_mode, opset, states, lengths)
    if isinstance(source, Model):
        return build_model(source, options)
    if isinstance(source, LSTMLayer):
        return build(Checkpoint((source,), Provenance("", "", "")), options)
    wanted = source.model is not None and not lengths if whole is None else whole
    if not wanted:
        return build(source, options)
    try:
        return build(source, replace(options, whole=True))
    except UnsupportedModelError as error:
        if whole or not source.layers:
            raise
        raise UnsupportedModelError(f"{error}; pass whole=False for the LSTM layers alone") from error


@speaks_python
def to_cudnn(layer: LSTMLayer | Stack, *, bias_mode: BiasMode | None = None, dtype: str | None = None) -> Array:
    """Return a layer's, or a stack's, flat cuDNN weight space, one axis; see :mod:`lstmconv.formats.cudnn`.

    Raises:
        UnsupportedModelError: cuDNN cannot compute the layer.
    """
    if not isinstance(layer, LSTMLayer | Stack):
        raise misfit("to_cudnn", layer, "one layer or stack")
    from lstmconv.formats.cudnn import pack
    from lstmconv.formats.tensors import dtype_of

    stack = Stack(layer.name, (layer,)) if isinstance(layer, LSTMLayer) else layer
    return pack(stack, bias_mode, dtype_of(stack, WriteOptions(dtype=dtype)))
