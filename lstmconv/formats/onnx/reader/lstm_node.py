"""An ``LSTM`` node of any graph as LSTM directions: its weights and activations; what Keras' LSTM lacks is refused.

Source: ONNX operator specification, LSTM-1, LSTM-7, LSTM-14, LSTM-22: W [directions, 4*hidden, input],
R [directions, 4*hidden, hidden], B [directions, 8*hidden]; f, g, h default to Sigmoid, Tanh, Tanh; layout
(LSTM-14) moves the axes of X, Y and the states only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lstmconv.errors import About, UnreadableFileError, UnsupportedModelError
from lstmconv.formats.onnx.functions import Function, keras_activation, with_numbers
from lstmconv.formats.onnx.reader.evaluation import NotEvaluatedError
from lstmconv.formats.onnx.reader.scopes import Scope, attribute
from lstmconv.formats.onnx.reader.values import Values
from lstmconv.layouts import ONNX
from lstmconv.model import Array, LSTMDirection

if TYPE_CHECKING:
    import onnx

__all__ = ["RECURRENT", "LSTMNode", "Overrides", "direction_count", "read_node", "refusal"]

RECURRENT = frozenset({"LSTM", "GRU", "RNN", "DynamicQuantizeLSTM", "AttnLSTM", "QLinearLSTM"})
"""The operators that are read, or named as skipped."""

_ATTRIBUTES = {
    # Name: the AttributeProto.AttributeType it must be of.
    "activation_alpha": 6,
    "activation_beta": 6,
    "activations": 8,
    "clip": 1,
    "direction": 3,
    "hidden_size": 2,
    "input_forget": 2,
    "layout": 2,
    "output_sequence": 2,  # LSTM-1: whether Y is computed.
}
_WAYS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
_FLOATS = ("float16", "bfloat16", "float32", "float64")
_X, _W, _R, _B, _LENGTHS, _H, _C, _P = range(8)


@dataclass(frozen=True)
class Overrides:
    """Activations that the user gives in place of the file's."""

    activation: Any = None
    recurrent_activation: Any = None


@dataclass(frozen=True, eq=False)
class LSTMNode:
    """One node as read.

    Attributes:
        scope: Where it stands.
        index: Which of the scope's nodes.
        name: Its layer name, unique in the file.
        directions: In ONNX' order: forward before reverse.
        layout: 0 or 1, as the attribute.
        notes: What the layer does not hold.
    """

    scope: Scope
    index: int
    name: str
    directions: tuple[LSTMDirection, ...]
    layout: int
    notes: tuple[str, ...] = ()

    @property
    def proto(self) -> onnx.NodeProto:
        """The node itself."""
        return self.scope.nodes[self.index]

    def input(self, index: int) -> str:
        """Return the name of an input, empty for one that is left out."""
        return self.proto.input[index] if index < len(self.proto.input) else ""

    def output(self, index: int) -> str:
        """Return the name of an output, empty for one that is left out."""
        return self.proto.output[index] if index < len(self.proto.output) else ""

    @property
    def x(self) -> str:
        """X: (time, batch, input), or (batch, time, input) in layout 1."""
        return self.input(_X)

    @property
    def lengths(self) -> str:
        """sequence_lens: (batch,)."""
        return self.input(_LENGTHS)

    @property
    def states(self) -> tuple[str, str]:
        """initial_h and initial_c."""
        return self.input(_H), self.input(_C)


def refusal(node: onnx.NodeProto) -> str | None:
    """Say why a recurrent node is none that converts, or ``None`` for an ONNX LSTM."""
    if node.op_type in ("DynamicQuantizeLSTM", "QLinearLSTM"):
        return "its weights are quantised; convert the model that it was made from"
    if node.op_type == "AttnLSTM":
        return "an LSTM with attention inside; only plain LSTM layers convert"
    if node.op_type != "LSTM":
        return "only LSTM layers convert"
    if node.domain not in ("", "ai.onnx"):
        return f"an LSTM of the operator domain {node.domain}, not ONNX' own"
    return None


def read_node(scope: Scope, index: int, name: str, values: Values, overrides: Overrides) -> LSTMNode:
    """Read one LSTM node.

    Raises:
        UnsupportedModelError: It computes what a Keras LSTM does not, or its weights are not known here.
        UnreadableFileError: Its arrays contradict each other, or are damaged.
    """
    node = scope.nodes[index]
    attributes = _attributes(node, (scope.file, name))
    if "clip" in attributes:
        raise UnsupportedModelError(f"clip={attributes['clip']:g} bounds its gates, which Keras' LSTM does not do")
    if attributes.get("input_forget"):
        raise UnsupportedModelError("input_forget=1 couples the input and forget gates, which Keras' LSTM does not")
    ways = _ways(scope, attributes, name)
    layout = int(attributes.get("layout", 0))
    if layout not in (0, 1):
        raise UnreadableFileError(f"layout is {layout}, expected 0 or 1", about=(scope.file, name))
    notes = _peepholes(scope, node, values)
    w, r = (_weights(scope, node, place, values) for place in (_W, _R))
    b = _weights(scope, node, _B, values) if len(node.input) > _B and node.input[_B] else None
    _check_shapes((scope.file, name), w, r, b, len(ways), attributes.get("hidden_size"))
    functions = _functions(attributes, len(ways))
    directions = []
    for row, backwards in enumerate(ways):
        f, g, h = functions[3 * row : 3 * row + 3]
        if overrides.activation is None and g != h:
            raise UnsupportedModelError(
                f"its candidate has the activation {g} and its output {h}; Keras has one activation for both"
            )
        bias_ih, bias_hh = (None, None) if b is None else map(ONNX.one_bias.view, np.split(b[row], 2))
        directions.append(
            LSTMDirection(
                ONNX.input_matrix.view(w[row]),
                ONNX.recurrent_matrix.view(r[row]),
                bias_ih,
                bias_hh,
                activation=overrides.activation or keras_activation(g),
                recurrent_activation=overrides.recurrent_activation or keras_activation(f),
                go_backwards=backwards,
                layout=ONNX.name,
            )
        )
    return LSTMNode(scope, index, name, tuple(directions), layout, notes)


def _attributes(node: onnx.NodeProto, where: About) -> dict[str, Any]:
    """Return the node's attributes as plain values.

    Raises:
        UnsupportedModelError: One that no version of the operator has.
        UnreadableFileError: One of the wrong type.
    """
    found: dict[str, Any] = {}
    for entry in node.attribute:
        if entry.name not in _ATTRIBUTES:
            raise UnsupportedModelError(f"ONNX' LSTM has no attribute {entry.name!r}")
        if entry.type != _ATTRIBUTES[entry.name]:
            raise UnreadableFileError(f"the attribute {entry.name!r} is of another type", about=where)
        fields = {1: "f", 2: "i", 3: "s", 6: "floats", 8: "strings"}
        value = getattr(entry, fields[entry.type])
        if entry.type == 3:
            value = value.decode(errors="replace")
        elif entry.type == 8:
            value = [text.decode(errors="replace") for text in value]
        elif entry.type == 6:
            value = list(value)
        found[entry.name] = value
    return found


def _ways(scope: Scope, attributes: dict[str, Any], name: str) -> tuple[bool, ...]:
    direction = str(attributes.get("direction", "forward")).lower()
    if direction not in _WAYS:
        raise UnreadableFileError(
            f"{name}: direction is {direction!r}, expected one of {', '.join(_WAYS)}", about=scope.file
        )
    return _WAYS[direction]


def direction_count(node: onnx.NodeProto) -> int:
    """Return 2 for a bidirectional node, else 1."""
    direction = attribute(node, "direction")
    return 2 if direction is not None and direction.s.lower() == b"bidirectional" else 1


def _functions(attributes: dict[str, Any], count: int) -> list[Function]:
    """Return f, g, h of each direction."""
    names = attributes.get("activations") or ["Sigmoid", "Tanh", "Tanh"] * count
    if len(names) != 3 * count:
        raise UnsupportedModelError(f"it names {len(names)} activations, expected 3 a direction")
    return with_numbers(names, attributes.get("activation_alpha", ()), attributes.get("activation_beta", ()))


def _peepholes(scope: Scope, node: onnx.NodeProto, values: Values) -> tuple[str, ...]:
    """Refuse peepholes, unless they are zeros."""
    if len(node.input) <= _P or not node.input[_P]:
        return ()
    try:
        zeros = not np.any(values.constant(scope, node.input[_P]))
    except NotEvaluatedError:
        zeros = False
    if not zeros:
        raise UnsupportedModelError("it has peepholes (the input P), which Keras' LSTM does not")
    return ("has peepholes that are all zero, which compute nothing and are left out",)


def _weights(scope: Scope, node: onnx.NodeProto, place: int, values: Values) -> Array:
    letter = "XWRB"[place]
    if len(node.input) <= place or not node.input[place]:
        raise UnsupportedModelError(f"it has no {letter}")
    try:
        return values.constant(scope, node.input[place])
    except NotEvaluatedError as error:
        raise UnsupportedModelError(f"its {letter} {error}") from error


def _check_shapes(where: About, w: Array, r: Array, b: Array | None, count: int, stated: int | None) -> None:
    """Check W [D, 4H, I], R [D, 4H, H] and B [D, 8H] against each other.

    Raises:
        UnreadableFileError: They contradict each other.
        UnsupportedModelError: They are no floating-point weights.
    """
    hidden = r.shape[-1] if r.ndim == 3 else 0
    features = w.shape[-1] if w.ndim == 3 else 0
    expected = {"W": (count, 4 * hidden, features), "R": (count, 4 * hidden, hidden), "B": (count, 8 * hidden)}
    for letter, array in (("R", r), ("W", w), ("B", b)):
        if array is not None and (array.shape != expected[letter] or 0 in array.shape):
            wanted = {"W": "4*hidden, features", "R": "4*hidden, hidden", "B": "8*hidden"}[letter]
            raise UnreadableFileError(
                f"{letter} is {list(array.shape)}, expected [{count}, {wanted}]"
                + (f" for {hidden} units" if letter != "R" else ""),
                about=where,
            )
    if stated is not None and stated != hidden:
        raise UnreadableFileError(f"hidden_size is {stated}, R has {hidden} units", about=where)
    for letter, array in (("W", w), ("R", r), ("B", b)):
        if array is not None and (array.dtype.name not in _FLOATS or array.dtype != w.dtype):
            kinds = f"{array.dtype.name} beside {w.dtype.name}" if array.dtype != w.dtype else array.dtype.name
            raise UnsupportedModelError(f"its {letter} is {kinds}; expected one of {', '.join(_FLOATS)} for all")
