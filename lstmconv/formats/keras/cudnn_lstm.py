"""Keras' CuDNNLSTM layers in a legacy ``.h5``: both biases apart, the matrices as cuDNN keeps them.

Source: tf_keras/src/layers/rnn/cudnn_lstm.py (2.21); the format itself is that of tf.keras' other layers.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lstmconv.activations import SIGMOID, TANH
from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.formats.keras import losses, open_file, usage
from lstmconv.formats.options import WriteOptions
from lstmconv.formats.tensors import dtype_of
from lstmconv.model import Checkpoint, LSTMLayer, Model, Stack

__all__ = ["losses", "obstacle", "obstacle_of_model", "open_file", "terms", "usage", "write"]

_TWO_BIASES = (None, "input", "recurrent", "both-halves", "double")


def obstacle_of_model(model: Model, options: WriteOptions) -> str | None:
    """Say that these layers are written alone."""
    return "CuDNNLSTM layers are written alone; write a whole model --to keras"


def obstacle(stack: Stack) -> str | None:
    """Say why CuDNNLSTM layers cannot hold a stack and what to do instead, or ``None``."""
    for layer in stack.layers:
        reason = _refusal(layer)
        if reason is not None:
            return reason if len(stack.layers) == 1 else f"{layer.name}: {reason}"
    return None


def terms(layer: LSTMLayer) -> str:
    """Say as what a CuDNNLSTM file holds a layer."""
    return "one CuDNNLSTM layer"


def _refusal(layer: LSTMLayer) -> str | None:
    for half in layer.directions:
        for activation, own in ((half.activation, TANH), (half.recurrent_activation, SIGMOID)):
            if activation not in (None, own):
                return f"a CuDNNLSTM computes {own}, but the layer has {activation}; convert it --to keras"
    if layer.time_major:
        return "a time_major CuDNNLSTM is not written; convert it --to keras"
    if layer.zero_output_for_mask and not layer.bidirectional:
        return "a CuDNNLSTM takes no masks, but the layer returns zeros for masked steps; convert it --to keras"
    return None


def write(checkpoint: Checkpoint, path: Path, options: WriteOptions) -> list[Path]:
    """Write all layers as one Functional model of CuDNNLSTM layers for tf-keras, or their weights only.

    A missing bias is zeros: a CuDNNLSTM always has both.

    Raises:
        UnsupportedModelError: A layer is not what cuDNN computes, or its activations are unknown.
        UsageError: The options ask for Keras 3, which has no CuDNNLSTM, or for another file than ``.h5``.
    """
    from lstmconv.formats.keras.writer.arrays import CUDNN_LSTM
    from lstmconv.formats.keras.writer.dialect import KERAS_2
    from lstmconv.formats.keras.writer.write import write_as

    name = path.name.lower()
    if not name.endswith((".h5", ".hdf5")) or name.endswith(".weights.h5"):
        raise UsageError("CuDNNLSTM layers go into a legacy .h5 file", about=path.name)
    if options.keras_version not in (None, 2):
        raise UsageError(f"Keras {options.keras_version} has no CuDNNLSTM layer; pass --keras-version 2, or --to keras")
    if options.bias_mode not in _TWO_BIASES:
        raise UsageError(f"a CuDNNLSTM stores two biases; bias mode {options.bias_mode!r} is for one")
    for layer in checkpoint.layers:
        reason = _refusal(layer)
        if reason is not None:
            raise UnsupportedModelError(reason, about=layer.name)
        if str(dtype_of(layer, options)) == "bfloat16":
            raise UnsupportedModelError(
                "Keras cannot load bfloat16 weights from a legacy .h5; pass --dtype float32", about=layer.name
            )
    options = replace(options, bias_mode=options.bias_mode or "double")  # Recorded in the file: both, zeros if need be.
    write_as(
        checkpoint, path, options, CUDNN_LSTM, "legacy weights" if options.weights_only else "legacy model", KERAS_2
    )
    return [path]
