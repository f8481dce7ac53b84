"""Check the weights of single layers: gates that no input changes, untrained biases.

The rules know neither the task nor the data. Each threshold follows from the equation of the gate
(:mod:`lstmconv.model`), for the inputs and states that its docstring names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lstmconv.activations import SIGMOID, TANH, Activation
from lstmconv.arrays.places import stored_name
from lstmconv.checking.findings import Violation
from lstmconv.explaining.gates import GATE_NAMES
from lstmconv.model import GATES, Array, Gates, LSTMDirection, LSTMLayer

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["EXPLODED_NORM", "INPUT_BOUND", "MOVED", "Rows", "pytorch_violation", "reach", "violations_of"]

INPUT_BOUND = 10.0
"""Inputs are assumed to lie within ±10: ten standard deviations of standardised features, ten times the range of
scaled ones."""
MOVED = 1e-3
"""A gate is stuck if no input changes it by this much: a sigmoid beyond ±6.9, a tanh beyond ±3.8. Its gradient is as
small, so training does not free it either."""
EXPLODED_NORM = 100.0
"""If a unit's row of input and recurrent weights has this norm, independent inputs of size 1 change its sum by ±100.
Sigmoid and tanh are flat beyond ±7, so the gate is fully open or shut at 19 of 20 steps, and noise flips it. Trained
rows have norms of about 1 to 20 (Glorot's initial ones about 1)."""
_FLOAT16_LIMIT = 65520.0
"""float16 rounds this and larger numbers to infinity; its largest number is 65504 (IEEE 754-2019, binary16)."""


def violations_of(layer: LSTMLayer) -> Iterator[Violation]:
    """Yield the rules that a layer's weights break; weights that are not finite break no other rule."""
    for number, direction in enumerate(layer.directions):
        half = f"the {('forward', 'backward')[number]} direction: " if layer.bidirectional else ""
        for rule, text in _suspicious(direction) if _is_finite(direction) else ():
            yield Violation(rule, half + text, layer.name)


def pytorch_violation(layer: LSTMLayer, target: str) -> Violation | None:
    """Return a violation if ``nn.LSTM`` cannot compute a layer that goes to PyTorch, else ``None``.

    Args:
        layer: The layer.
        target: The PyTorch file, for the message.
    """
    for direction in layer.directions:
        used = direction.activation, direction.recurrent_activation
        if None not in used and used != (TANH, SIGMOID):
            return Violation(
                "pytorch-activation",
                f"computes {used[0]} and {used[1]}, but nn.LSTM computes tanh and sigmoid only: load {target} into "
                "lstmconv.torch.LSTM",
                layer.name,
            )
    return None


def _is_finite(direction: LSTMDirection) -> bool:
    return all(np.isfinite(gate).all() for gates in direction.arrays.values() for gate in gates)


def _suspicious(direction: LSTMDirection) -> Iterator[tuple[str, str]]:
    largest = max(float(np.abs(gate).max(initial=0)) for gates in direction.arrays.values() for gate in gates)
    if largest >= _FLOAT16_LIMIT:
        text = f"its largest weight is {largest:.3g}; float16 represents up to 65504 (--dtype float16 would fail)"
        yield "float16-overflow", text
    if not any(gate.any() for gate in direction.weight_hh):
        yield (
            "recurrent-zero",
            f"{stored_name(direction, 'weight_hh')} is all zero: no step depends on the output of the previous one",
        )
    untrained = _untrained_forget_bias(direction)
    if untrained is not None:
        text = f"the forget gate's bias is exactly {untrained:g} in every unit, as initialised"
        yield "forget-bias-untrained", f"{text}, but the other biases are trained (did every sequence have one step?)"
    stuck: dict[str, list[str]] = {}
    exploded: list[str] = []
    for index, letter in enumerate(GATES):
        rows = Rows.of(direction, index)
        how = _stuck(rows, direction, letter)
        if how is not None:
            stuck.setdefault(how, []).append(letter)
        elif float(np.sort(rows.norms)[rows.norms.size // 2]) >= EXPLODED_NORM:
            exploded.append(letter)
    for how, letters in stuck.items():
        yield "gate-stuck", f"{_gates(letters)} {how} in every unit, for every state and every input within ±10"
    if exploded:
        text = f"{_gates(exploded)} sums inputs of size 1 to ±{EXPLODED_NORM:g} or more in half of the units"
        yield "gate-exploded", f"{text}: it acts as a switch (did the weights explode in training?)"


def _gates(letters: list[str]) -> str:
    names = ", ".join(GATE_NAMES[letter] for letter in letters)
    return f"the {names} gate" if len(letters) == 1 else f"each of the {names} gates"


def _untrained_forget_bias(direction: LSTMDirection) -> float | None:
    """Return 1 or 0 if every forget bias has that value, although the other biases show that the layer was trained.

    Keras initialises all biases to 0 and the forget gate's to 1 (``unit_forget_bias``). Training changes each of them,
    never by exactly zero in all units. If all biases are as initialised, the layer is frozen or new, on purpose.
    """
    parts = [gates for gates in (direction.bias_ih, direction.bias_hh) if gates is not None]
    if not parts:
        return None
    i, f, g, o = np.sum([np.asarray(gates, np.float64) for gates in parts], axis=0)
    others = any(gate.any() for gate in (i, g, o))
    return next((value for value in (1.0, 0.0) if others and (f == value).all()), None)


class Rows(NamedTuple):
    """Statistics of one gate's rows, each ``(hidden,)``.

    Attributes:
        inputs: The sum of the magnitudes of the input weights.
        states: The sum of the magnitudes of the recurrent weights.
        norms: The Euclidean norm of both together.
        bias: The bias, or the sum of both biases.
    """

    inputs: npt.NDArray[np.float64]
    states: npt.NDArray[np.float64]
    norms: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]

    @classmethod
    def of(cls, direction: LSTMDirection, index: int) -> Rows:
        """Compute the statistics of the gate with this index in ``GATES``."""

        def gate(gates: Gates) -> Array:
            values = tuple(gates)[index]
            return values if values.dtype.itemsize >= 4 else values.astype(np.float32)

        parts = [gates for gates in (direction.bias_ih, direction.bias_hh) if gates is not None]
        bias = np.zeros(direction.hidden_size) + sum(np.asarray(gate(gates), np.float64) for gates in parts)
        w, r = gate(direction.weight_ih), gate(direction.weight_hh)
        with np.errstate(over="ignore"):
            squares = [np.einsum("uk,uk->u", each, each, dtype=np.float64, casting="unsafe") for each in (w, r)]
            norms = np.sqrt(squares[0] + squares[1])
        inputs, states = (np.asarray(np.sum(np.abs(each), axis=1, dtype=np.float64)) for each in (w, r))
        return cls(inputs, states, norms, bias)


def reach(
    rows: Rows, direction: LSTMDirection, letter: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """Return the smallest and the largest value that each unit of a gate can have, or ``None`` if no bound is known.

    The sum lies within ``b ± (10 * sum|W| + sum|R|)``: a state is an output gate in 0..1 times a tanh. With an
    unbounded activation, states have no bound. An unknown recurrent activation counts as sigmoid: a gate that is stuck
    for sigmoid is also stuck for both hard_sigmoids, which are flat beyond 2.5 and 3.
    """
    activation = direction.activation if letter == "g" else direction.recurrent_activation
    function = _function(activation or (TANH if letter == "g" else SIGMOID))
    if function is None:
        return None
    bounded = (direction.activation or TANH) == TANH and _function(direction.recurrent_activation or SIGMOID)
    if not bounded and rows.states.any():
        return None
    spread = INPUT_BOUND * rows.inputs + rows.states
    return function(rows.bias - spread), function(rows.bias + spread)


def _stuck(rows: Rows, direction: LSTMDirection, letter: str) -> str | None:
    """Return how a gate is stuck in every unit, in words, or ``None``."""
    if not rows.inputs.any() and not rows.states.any():
        return "is constant (its weights are all zero)"
    reached = reach(rows, direction, letter)
    if reached is None:
        return None
    low, high = reached
    if float(np.max(high - low)) >= MOVED:
        return None
    if letter == "g":
        return "is saturated"
    if float(high.max()) < 0.5:
        return "is shut"
    return "is open" if float(low.min()) > 0.5 else "is saturated, open or shut,"


def _function(activation: Activation) -> Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]] | None:
    """Return an activation if it is bounded and increasing, else ``None``."""
    if activation.name not in ("tanh", "sigmoid", "hard_sigmoid"):
        return None

    def function(z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        result: Any = activation(z)
        return np.asarray(result, np.float64)

    return function
