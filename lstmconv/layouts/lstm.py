"""How each format orders the axes and the gates of an LSTM's arrays: a row a format.

A layout is data. Through its layout, every stored array is four gates with the named axes ``unit`` and
``feature`` (or ``state``), and converting is copying from one view to
another (see :mod:`lstmconv.arrays.copying`). A pattern names a stored array's axes the way einops does::

    "feature (gate unit)"    two axes; the second is four blocks of ``unit`` columns, one a gate
    "(gate unit) feature"    the same numbers, as rows
    "feature unit"           no gate axis: four arrays, one a gate, in the row's order

If a stored array is itself a reshaped matrix, the pattern has a ``=``. The left side names the axes of the
stored array; the right side names the axes of the same elements, in the same order.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from einops import rearrange

from lstmconv.errors import UsageError
from lstmconv.model import GATES, Array, Gates

__all__ = ["CUDNN", "CUDNN_LSTM_LAYER", "KERAS", "KERAS_1", "LAYOUTS", "ONNX", "TORCH", "Layout", "Pattern", "by_name"]


class Pattern(NamedTuple):
    """The axes of one stored array, and the order of its gates.

    >>> import numpy as np
    >>> kernel = np.arange(3 * 8).reshape(3, 8)                 # 3 features, 4 gates of 2 units
    >>> gates = Pattern("feature (gate unit)", "ifgo").view(kernel)
    >>> gates.f.tolist()                                        # columns 2 and 3, one row a unit
    [[2, 10, 18], [3, 11, 19]]
    """

    axes: str
    gates: str

    @property
    def canonical(self) -> str:
        """The axes of the view: ``"gate unit feature"``, ``"gate unit state"`` or ``"gate unit"``."""
        last = next((axis for axis in ("feature", "state") if axis in self.axes), "")
        return f"gate unit {last}".strip()

    def shape(self, hidden: int, features: int) -> tuple[int, ...]:
        """Return the shape of the stored array, or of each of the four arrays if there is no gate axis.

        >>> Pattern("(gate unit) feature", "ifgo").shape(hidden=2, features=3)
        (8, 3)
        """
        sizes = _sizes(hidden, features)
        stored, _, _ = self.axes.partition(" = ")
        parts = re.findall(r"\(([^)]*)\)|(\w+)", stored)
        return tuple(math.prod(sizes[axis] for axis in "".join(part).split()) for part in parts)

    @property
    def gate_axis(self) -> int | None:
        """The axis of the stored array along which the gates lie; ``None`` if each gate is its own array."""
        stored, _, _ = self.axes.partition(" = ")
        parts = re.findall(r"\([^)]*\)|\w+", stored)
        return next((axis for axis, part in enumerate(parts) if "gate" in part), None)

    def ranges(self, hidden: int, features: int) -> Mapping[str, tuple[int, int]]:
        """Return where each gate begins and ends along :attr:`gate_axis`, in the stored order.

        >>> Pattern("(gate unit) feature", "iofg").ranges(hidden=2, features=3)
        {'i': (0, 2), 'o': (2, 4), 'f': (4, 6), 'g': (6, 8)}

        If each gate is its own array, the range covers all units.
        """
        axis = self.gate_axis
        if axis is None:
            return dict.fromkeys(self.gates, (0, hidden))
        block = self.shape(hidden, features)[axis] // 4
        return {gate: (k * block, (k + 1) * block) for k, gate in enumerate(self.gates)}

    def view(self, stored: Array | Sequence[Array], hidden: int | None = None) -> Gates:
        """Return the gates of a stored array, as views if the axes allow that.

        Args:
            stored: One array, or four in the pattern's gate order if it has no gate axis.
            hidden: Units; necessary if the axes do not determine them (a flat buffer).

        Raises:
            einops.EinopsError: The array's axes do not fit the pattern.
        """
        if "gate" not in self.axes:
            target = self.canonical.removeprefix("gate ")
            each = [rearrange(array, f"{self.axes} -> {target}") for array in stored]
            return Gates(**dict(zip(self.gates, each, strict=True)))
        array = np.asanyarray(stored)
        axes, _, elements = self.axes.partition(" = ")
        if elements:
            array = rearrange(array, f"{axes} -> {_flattened(axes)}", gate=4)
            axes = elements
        sizes = {"unit": hidden} if hidden is not None else {}
        by_gate = rearrange(array, f"{axes} -> {self.canonical}", gate=4, **sizes)
        return Gates(**{gate: by_gate[self.gates.index(gate)] for gate in GATES})

    def stored_index(self, gate: str, index: Sequence[int], hidden: int, features: int) -> tuple[int, ...]:
        """Return where the stored array has an element of the view.

        Args:
            gate: The element's gate; if each gate is its own array, the index is in that array.
            index: In the gate: ``(unit, feature)``, ``(unit, state)`` or ``(unit,)``.
            hidden: Units.
            features: Features of one time step.

        >>> Pattern("feature (gate unit)", "ifgo").stored_index("f", (1, 2), hidden=2, features=3)   # row 2, column 3
        (2, 3)
        """
        sizes = _sizes(hidden, features)
        places = dict(zip(("unit", "state" if "state" in self.axes else "feature"), index, strict=False))
        places["gate"] = self.gates.index(gate)
        stored, _, elements = self.axes.partition(" = ")
        if elements:
            offset = _offset(re.findall(r"\w+", elements.partition("(")[2]), places, sizes)
            inner = re.findall(r"\w+", _flattened(stored).partition("(")[2])
            places |= dict(zip(inner, np.unravel_index(offset, [sizes[axis] for axis in inner]), strict=True))
        parts = [re.findall(r"\w+", part) for part in re.findall(r"\([^)]*\)|\w+", stored)]
        return tuple(int(_offset(part, places, sizes)) for part in parts)

    @property
    def gate_blocks(self) -> str:
        """The gates in stored order, if each is one block of rows in the stored array.

        >>> ONNX.input_matrix.gate_blocks
        'iofg'

        Raises:
            UsageError: The gates are not blocks of rows.
        """
        if not self.axes.startswith("(gate unit") or "=" in self.axes:
            raise UsageError(f"the gates of {self.axes!r} are not one block each")
        return self.gates

    @property
    def elements(self) -> Pattern | None:
        """The pattern of the stored elements, if the stored array is itself a reshaped matrix.

        >>> CUDNN_LSTM_LAYER.input_matrix.elements
        Pattern(axes='gate (unit feature)', gates='ifgo')
        """
        _, _, elements = self.axes.partition(" = ")
        return Pattern(elements, self.gates) if elements else None

    def store(self, blocks: Array, shape: tuple[int, ...]) -> Array:
        """Return blocks ``(gate, elements)`` as an array of ``shape`` with the stored axes; a view."""
        axes, _, _ = self.axes.partition(" = ")
        first = axes.split()[0]
        return rearrange(blocks, f"{_flattened(axes)} -> {axes}", **{first: shape[0]})


def _sizes(hidden: int, features: int) -> Mapping[str, int]:
    """Return the size of every axis that a pattern may name."""
    return {"gate": 4, "unit": hidden, "state": hidden, "feature": features, "row": features, "column": hidden}


def _offset(axes: Sequence[str], places: Mapping[str, int], sizes: Mapping[str, int]) -> int:
    """Return the index along axes that one stored axis joins, the last one fastest."""
    offset = 0
    for axis in axes:
        offset = offset * sizes[axis] + places[axis]
    return offset


def _flattened(axes: str) -> str:
    """Return the axes of a reshaped matrix as blocks: ``gate (row column)``."""
    inner = [axis for axis in axes.replace("(", " ").replace(")", " ").split() if axis != "gate"]
    return f"gate ({' '.join(inner)})"


class Layout(NamedTuple):
    """One format's layout: a row of the table.

    Attributes:
        name: The format.
        gates: The stored order of the gates.
        weight_ih: Axes of the input matrix.
        weight_hh: Axes of the recurrent matrix.
        bias: Axes of one bias.
        biases: For people: which biases are stored, in order: ``"input"`` (added to W x), ``"recurrent"``
            (added to R h). A single bias is their sum.
        arrays: For people: the format's own names of the input matrix, the recurrent matrix and the bias.
        source: The code or text that defines this order.
        bias_names: The names of the stored biases: one, or the input's and the recurrent one's, or one for each gate.
        two_biases: The format has an input and a recurrent bias.
        gate_matrices: The names of the input matrices and of the recurrent ones, each in the order of ``gates``, where
            every gate has a matrix of its own.
        directions: Where a direction is stored: in arrays whose ``names`` end in it (``_l0_reverse``), in ``rows`` of
            one array (``[1]``), in ``groups`` of the file, or behind the others in one ``buffer``.
        bias_array: The array of which both biases are parts, such as ``B`` of ONNX; ``None`` where each has its own.
        always_biased: A layer without a bias is stored with zeros.
        holds_any: Every Keras layer has this layout, whatever it computes.
    """

    name: str
    gates: str
    weight_ih: str
    weight_hh: str
    bias: str
    biases: str
    arrays: tuple[str, str, str]
    source: str
    bias_names: tuple[str, ...]
    two_biases: bool = True
    gate_matrices: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    directions: Literal["names", "rows", "groups", "buffer"] = "groups"
    bias_array: str | None = None
    always_biased: bool = False
    holds_any: bool = False

    @property
    def input_matrix(self) -> Pattern:
        """How the input matrix is stored."""
        return Pattern(self.weight_ih, self.gates)

    @property
    def recurrent_matrix(self) -> Pattern:
        """How the recurrent matrix is stored."""
        return Pattern(self.weight_hh, self.gates)

    @property
    def one_bias(self) -> Pattern:
        """How one bias is stored."""
        return Pattern(self.bias, self.gates)

    def stored_place(self, array: str, gate: str, index: Sequence[int], hidden: int, features: int) -> str:
        """Return an element as its owner finds it: the stored array's name and the index in it.

        Args:
            array: ``weight_ih``, ``weight_hh``, ``bias_ih`` or ``bias_hh``.
            gate: ``i``, ``f``, ``g`` or ``o``.
            index: In the gate's view.
            hidden: Units.
            features: Features of one time step.

        >>> KERAS.stored_place("weight_hh", "f", (3, 2), hidden=16, features=1)
        'recurrent_kernel[2, 19]'
        >>> KERAS_1.stored_place("weight_ih", "g", (3, 0), hidden=16, features=1)
        'W_c[0, 3]'
        >>> ONNX.stored_place("bias_hh", "o", (3,), hidden=16, features=1)
        'Rb[19]'
        """
        kind = ("weight_ih", "weight_hh", "bias_ih", "bias_hh").index(array)
        pattern = (self.input_matrix, self.recurrent_matrix, self.one_bias)[min(kind, 2)]
        place = pattern.stored_index(gate, index, hidden, features)
        if kind < 2 and self.gate_matrices is not None:
            name, place = self.gate_matrices[kind][self.gates.index(gate)], place if len(place) > 1 else tuple(index)
        elif kind < 2:
            name = self.arrays[kind]
        elif pattern.gate_axis is None:
            name = self.bias_names[self.gates.index(gate)]
        elif len(self.bias_names) == 2:
            name = self.bias_names[kind - 2]
        else:  # A recurrent bias stands behind the input's in one array.
            (name,), place = self.bias_names, (place[0] + 4 * hidden * (kind - 2),)
        return f"{name}[{', '.join(map(str, place))}]"

    def to_json(self) -> dict[str, Any]:
        """Return the row as the command ``formats`` prints it in JSON."""
        shown = ("name", "gates", "weight_ih", "weight_hh", "bias", "biases", "arrays", "source", "directions")
        rest = {"joins_biases": self.bias_array is not None, "always_biased": self.always_biased}
        return {name: getattr(self, name) for name in shown} | rest | {"holds_any": self.holds_any}


KERAS = Layout(
    name="Keras 2, 3",
    gates="ifgo",
    weight_ih="feature (gate unit)",
    weight_hh="state (gate unit)",
    bias="(gate unit)",
    biases="one",
    arrays=("kernel", "recurrent_kernel", "bias"),
    source="keras/src/layers/rnn/lstm.py LSTMCell.call: z split in four, i, f, c, o (also Keras 1 consume_less='gpu')",
    bias_names=("bias",),
    two_biases=False,
    holds_any=True,
)
KERAS_1 = Layout(
    name="Keras 1",
    gates="igfo",
    weight_ih="feature unit",
    weight_hh="state unit",
    bias="unit",
    biases="one",
    arrays=("W_i W_c W_f W_o", "U_i U_c U_f U_o", "b_i b_c b_f b_o"),
    source="keras 1.2.2 layers/recurrent.py LSTM.build: trainable_weights W_i U_i b_i, W_c .., W_f .., W_o ..",
    bias_names=("b_i", "b_c", "b_f", "b_o"),
    two_biases=False,
    gate_matrices=(("W_i", "W_c", "W_f", "W_o"), ("U_i", "U_c", "U_f", "U_o")),
    holds_any=True,
)
CUDNN_LSTM_LAYER = Layout(
    name="Keras CuDNNLSTM",
    gates="ifgo",
    weight_ih="row (gate column) = gate (unit feature)",
    weight_hh="unit (gate state)",
    bias="(gate unit)",
    biases="input, recurrent",
    arrays=("kernel", "recurrent_kernel", "bias"),
    source="tf_keras/src/saving/legacy/hdf5_format.py _convert_rnn_weights: kernels.T in Fortran order, block.T",
    bias_names=("bias",),
    bias_array="bias",
    always_biased=True,
)
TORCH = Layout(
    name="PyTorch",
    gates="ifgo",
    weight_ih="(gate unit) feature",
    weight_hh="(gate unit) state",
    bias="(gate unit)",
    biases="input, recurrent",
    arrays=("weight_ih", "weight_hh", "bias_ih, bias_hh"),
    source="torch.nn.LSTM, Variables: (W_ii|W_if|W_ig|W_io), (W_hi|W_hf|W_hg|W_ho)",
    bias_names=("bias_ih", "bias_hh"),
    directions="names",
)
ONNX = Layout(
    name="ONNX",
    gates="iofg",
    weight_ih="(gate unit) feature",
    weight_hh="(gate unit) state",
    bias="(gate unit)",
    biases="input, recurrent",
    arrays=("W", "R", "B = Wb, Rb"),
    source="ONNX LSTM-14, Inputs: W[iofc], R[iofc], B = [Wb[iofc], Rb[iofc]]; its c is g",
    bias_names=("Wb", "Rb"),
    directions="rows",
    bias_array="B",
)
CUDNN = Layout(
    name="cuDNN",
    gates="ifgo",
    weight_ih="(gate unit feature)",
    weight_hh="(gate unit state)",
    bias="(gate unit)",
    biases="none; input; recurrent; input, recurrent",
    arrays=("linLayerID 0-3", "linLayerID 4-7", "bW, bR"),
    source="cudnnGetRNNWeightParams: linLayerID 0..3 = i f g o of W, 4..7 of R; packing: jax.experimental.rnn",
    bias_names=("bW", "bR"),
    gate_matrices=(
        tuple(f"linLayerID {number}" for number in range(4)),
        tuple(f"linLayerID {number}" for number in range(4, 8)),
    ),
    directions="buffer",
)

LAYOUTS = (KERAS, KERAS_1, CUDNN_LSTM_LAYER, TORCH, ONNX, CUDNN)
"""All rows, in the order of ``lstmconv formats``."""


def by_name(name: str | None) -> Layout:
    """Return the row with this name, or the row of Keras 2 and 3 for ``None``.

    Raises:
        KeyError: The table has no such row.
    """
    return KERAS if name is None else {row.name: row for row in LAYOUTS}[name]
