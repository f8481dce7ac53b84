"""How Keras, PyTorch and ONNX store the arrays of the layers beside an LSTM: a row an array.

Axes are einops patterns, as for the LSTM. ``...`` are a convolution's spatial axes, one to three of them, or
whatever axes an array has that no format reorders. A leading ``gate`` axis has the order that the entry states,
in the letters of :data:`lstmconv.model.recurrent.GRU_GATES`: ``z`` update, ``r`` reset, ``h`` candidate, PyTorch's n.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from einops import rearrange

from lstmconv.layouts.lstm import KERAS, ONNX, TORCH
from lstmconv.model import Array
from lstmconv.model.recurrent import GRU_GATES

__all__ = ["ARRAYS", "COLUMNS", "ArrayLayout", "Stored", "rows_of"]

COLUMNS: Mapping[str, str] = {"keras": KERAS.name, "torch": TORCH.name, "onnx": ONNX.name}
"""The table's columns, as ``lstmconv explain`` names them, with their titles."""


class Stored(NamedTuple):
    """One array as one format stores it.

    Attributes:
        name: The format's own name for it: a variable, a parameter, an operator's input.
        axes: Its axes as stored.
        gates: The order along ``gate``, where there is one.
    """

    name: str
    axes: str
    gates: str = ""


class ArrayLayout(NamedTuple):
    """A row of the table: one array of one kind of layer.

    Attributes:
        kind: The class in :mod:`lstmconv.model`; ``GRU`` and ``SimpleRNN`` are the directions of a RecurrentLayer.
        array: Its attribute there.
        axes: Its axes there; ``gate`` is in the order ``z r h``.
        keras: As Keras 2 and 3 store it.
        torch: As the module of ``torch.nn`` stores it, or lstmconv.torch's where PyTorch has none.
        onnx: As the operator takes it.
        source: Where this is written.
    """

    kind: str
    array: str
    axes: str
    keras: Stored
    torch: Stored
    onnx: Stored
    source: str

    def parts(self, array: Array, target: Literal["keras", "torch", "onnx"]) -> tuple[Array, ...]:
        """Return views that lie one behind the other in a target: one, or one a gate in the target's order.

        >>> import numpy as np
        >>> kernel = np.arange(6).reshape(2, 3)                     # 2 features, 3 units
        >>> rows_of("Dense")["kernel"].parts(kernel, "torch")[0].tolist()
        [[0, 3], [1, 4], [2, 5]]
        """
        stored: Stored = getattr(self, target)
        if not stored.gates:
            return (rearrange(array, f"{self.axes} -> {stored.axes}"),)
        if not stored.axes.startswith("(gate unit)"):
            raise ValueError(f"the gates of {stored.axes!r} do not lie one behind the other")
        return tuple(array[GRU_GATES.index(gate)] for gate in stored.gates)

    def view(self, stored: Array, source: Literal["keras", "torch", "onnx"], **sizes: int) -> Array:
        """Return a stored array in the model's axes; a view wherever the axes allow one.

        Args:
            stored: As the source has it.
            source: Whose axes it has.
            sizes: The sizes of axes that the pattern joins, such as ``head``.

        Raises:
            einops.EinopsError: The array's axes do not divide as the pattern says.
        """
        entry: Stored = getattr(self, source)
        if not entry.gates:
            return rearrange(stored, f"{entry.axes} -> {self.axes}", **sizes)
        by_gate = rearrange(stored, f"{entry.axes} -> {self.axes}", gate=len(entry.gates), **sizes)
        order = [entry.gates.index(gate) for gate in GRU_GATES]
        return by_gate if order == sorted(order) else by_gate[order]


def _same(axes: str, keras: str, torch: str, onnx: str) -> tuple[str, Stored, Stored, Stored]:
    """One order of axes everywhere."""
    return axes, Stored(keras, axes), Stored(torch, axes), Stored(onnx, axes)


_NORM = "keras/src/layers/normalization/batch_normalization.py build; torch.nn.BatchNorm1d; ONNX BatchNormalization-15"
_LAYER_NORM = "keras/src/layers/normalization/layer_normalization.py build; torch.nn.LayerNorm; LayerNormalization-17"
_OWN = "no module of torch.nn and no operator: lstmconv.torch's names are Keras'"
_HEADS = "keras/src/layers/attention/multi_head_attention.py build; torch.nn.MultiheadAttention: rows q, k, v"
_GRU = "keras/src/layers/rnn/gru.py GRUCell.call: z, r, h; torch.nn.GRU, Variables: r, z, n; ONNX GRU-14: W[zrh]"
_RNN = "keras/src/layers/rnn/simple_rnn.py SimpleRNNCell.call; torch.nn.RNN, Variables; ONNX RNN-14"

ARRAYS: tuple[ArrayLayout, ...] = (
    ArrayLayout(
        "Dense", "kernel", "input output",
        Stored("kernel", "input output"), Stored("weight", "output input"), Stored("MatMul B", "input output"),
        "keras/src/layers/core/dense.py: x @ kernel; torch.nn.Linear: x @ weight.T; ONNX MatMul-13",
    ),
    ArrayLayout(
        "Dense", "bias", *_same("output", "bias", "bias", "Add B"),
        "keras/src/layers/core/dense.py; torch.nn.Linear",
    ),
    ArrayLayout(
        "Embedding", "table", *_same("token feature", "embeddings", "weight", "Gather data"),
        "keras/src/layers/core/embedding.py; torch.nn.Embedding; ONNX Gather-13",
    ),
    ArrayLayout(
        "Convolution", "kernel", "... input filter",
        Stored("kernel", "... input filter"), Stored("weight", "filter input ..."), Stored("W", "filter input ..."),
        "keras/src/layers/convolutional/base_conv.py build; torch.nn.Conv1d; ONNX Conv-11; all three correlate. "
        "Keras' depthwise kernel (..., input, multiplier) is (..., 1, input * multiplier) in the model",
    ),
    ArrayLayout(
        "Convolution", "bias", *_same("filter", "bias", "bias", "B"),
        "keras/src/layers/convolutional/base_conv.py build; torch.nn.Conv1d; ONNX Conv-11",
    ),
    ArrayLayout(
        "TransposedConvolution", "kernel", "... filter input",
        Stored("kernel", "... filter input"), Stored("weight", "input filter ..."), Stored("W", "input filter ..."),
        "keras/src/layers/convolutional/base_conv_transpose.py build; torch.nn.ConvTranspose1d; ONNX ConvTranspose-11",
    ),
    ArrayLayout(
        "TransposedConvolution", "bias", *_same("filter", "bias", "bias", "B"),
        "keras/src/layers/convolutional/base_conv_transpose.py build; torch.nn.ConvTranspose1d; ONNX ConvTranspose-11",
    ),
    ArrayLayout("BatchNormalization", "mean", *_same("channel", "moving_mean", "running_mean", "input_mean"), _NORM),
    ArrayLayout(
        "BatchNormalization", "variance", *_same("channel", "moving_variance", "running_var", "input_var"), _NORM
    ),
    ArrayLayout("BatchNormalization", "gamma", *_same("channel", "gamma", "weight", "scale"), _NORM),
    ArrayLayout("BatchNormalization", "beta", *_same("channel", "beta", "bias", "B"), _NORM),
    ArrayLayout("LayerNormalization", "gamma", *_same("...", "gamma", "weight", "Scale"), _LAYER_NORM),
    ArrayLayout("LayerNormalization", "beta", *_same("...", "beta", "bias", "B"), _LAYER_NORM),
    ArrayLayout(
        "PReLU", "slope", *_same("...", "alpha", "weight", "slope"),
        "keras/src/layers/activations/prelu.py build; torch.nn.PReLU has one slope, or one a channel; ONNX PRelu-16",
    ),
    ArrayLayout("Normalization", "mean", *_same("...", "mean", "mean", "Sub B"), _OWN),
    ArrayLayout("Normalization", "variance", *_same("...", "variance", "variance", "Div B"), _OWN),
    ArrayLayout("Attention", "scale", *_same("...", "scale", "scale", "Mul B"), _OWN),
    ArrayLayout(
        "Attention", "concat_score_weight", *_same("...", "concat_score_weight", "concat_score_weight", "Mul B"), _OWN
    ),
    *(
        ArrayLayout(
            "MultiHeadAttention", f"{part}_kernel", "feature head size",
            Stored(f"{part}/kernel", "feature head size"),
            Stored(f"{part[0]}_proj_weight", "(head size) feature"),
            Stored("MatMul B", "feature (head size)"),
            _HEADS,
        )
        for part in ("query", "key", "value")
    ),
    ArrayLayout(
        "MultiHeadAttention", "output_kernel", "head size output",
        Stored("attention_output/kernel", "head size output"),
        Stored("out_proj.weight", "output (head size)"),
        Stored("MatMul B", "(head size) output"),
        _HEADS,
    ),
    *(
        ArrayLayout(
            "MultiHeadAttention", f"{part}_bias", "head size",
            Stored(f"{part}/bias", "head size"), Stored("in_proj_bias", "(head size)"), Stored("Add B", "(head size)"),
            _HEADS,
        )
        for part in ("query", "key", "value")
    ),
    ArrayLayout(
        "MultiHeadAttention", "output_bias",
        *_same("output", "attention_output/bias", "out_proj.bias", "Add B"), _HEADS,
    ),
    ArrayLayout(
        "GRU", "weight_ih", "gate unit feature",
        Stored("kernel", "feature (gate unit)", "zrh"),
        Stored("weight_ih", "(gate unit) feature", "rzh"),
        Stored("W", "(gate unit) feature", "zrh"),
        _GRU,
    ),
    ArrayLayout(
        "GRU", "weight_hh", "gate unit state",
        Stored("recurrent_kernel", "state (gate unit)", "zrh"),
        Stored("weight_hh", "(gate unit) state", "rzh"),
        Stored("R", "(gate unit) state", "zrh"),
        _GRU,
    ),
    *(
        ArrayLayout(
            "GRU", array, "gate unit",
            Stored(keras, "(gate unit)", "zrh"),
            Stored(array, "(gate unit)", "rzh"),
            Stored(onnx, "(gate unit)", "zrh"),
            _GRU,
        )
        for array, keras, onnx in (("bias_ih", "bias[0], or bias", "Wb of B"), ("bias_hh", "bias[1]", "Rb of B"))
    ),
    ArrayLayout(
        "SimpleRNN", "weight_ih", "unit feature",
        Stored("kernel", "feature unit"), Stored("weight_ih", "unit feature"), Stored("W", "unit feature"),
        _RNN,
    ),
    ArrayLayout(
        "SimpleRNN", "weight_hh", "unit state",
        Stored("recurrent_kernel", "state unit"), Stored("weight_hh", "unit state"), Stored("R", "unit state"),
        _RNN,
    ),
    ArrayLayout("SimpleRNN", "bias_ih", *_same("unit", "bias", "bias_ih", "Wb of B"), _RNN),
)  # fmt: skip
"""Every array that a layer beside an LSTM can have. What a config states, and not a variable, has no row: constants,
the numbers of Rescaling."""


def rows_of(kind: str) -> Mapping[str, ArrayLayout]:
    """Return the rows of one kind by array; none for a kind without arrays."""
    return {row.array: row for row in ARRAYS if row.kind == kind}
