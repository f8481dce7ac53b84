"""Compute one step of one unit twice in float64: with the bias added to the input product, and to the state product."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lstmconv.activations import Activation
from lstmconv.model import LSTMDirection

__all__ = ["GateSums", "Step", "one_step"]

SEED = 0
UNIT = 0


@dataclass(frozen=True, eq=False)
class GateSums:
    """One gate of one unit before its activation; ``+`` rounds to float64 wherever it stands.

    Attributes:
        gate: ``i``, ``f``, ``g`` or ``o``.
        weights_ih: ``(input,)``: the unit's row of the input matrix.
        weights_hh: ``(hidden,)``: the unit's row of the recurrent matrix.
        input_product: The sum of ``weights_ih * x``.
        recurrent_product: The sum of ``weights_hh * h``.
        biases: The stored biases: none, one, or the input and the recurrent bias.
        input_side: ``(input_product + bias) + recurrent_product``; of two biases, their sum is the bias.
        recurrent_side: ``input_product + (recurrent_product + bias)``.
        activated: The activation of ``input_side``; ``None`` if it is unknown or needs the other units.
    """

    gate: str
    weights_ih: npt.NDArray[np.float64]
    weights_hh: npt.NDArray[np.float64]
    input_product: float
    recurrent_product: float
    biases: tuple[float, ...]
    input_side: float
    recurrent_side: float
    activated: float | None


@dataclass(frozen=True, eq=False)
class Step:
    """One step of one unit.

    Attributes:
        unit: Its number, from 0.
        seed: Random seed of ``x``, ``h`` and ``c``, which are multiples of 1/8, so that products stay short.
        x: ``(input,)``: the step's input.
        h: ``(hidden,)``: the state before.
        c: The unit's cell state before.
        gates: In the order in which the source stores them.
        new_c: The cell state after the step, with the bias added to the input product and to the state product;
            ``None`` without activations.
        new_h: The unit's output, computed both ways.
        difference: The largest difference between both ways, over the gates' sums and the output.
        omitted: Why ``activated``, ``new_c`` and ``new_h`` are ``None``.
    """

    unit: int
    seed: int
    x: npt.NDArray[np.float64]
    h: npt.NDArray[np.float64]
    c: float
    gates: tuple[GateSums, ...]
    new_c: tuple[float, float] | None
    new_h: tuple[float, float] | None
    difference: float
    omitted: str | None

    @property
    def same(self) -> bool:
        """Whether both ways gave the same numbers to the last bit."""
        return self.difference == 0


def one_step(direction: LSTMDirection, order: str, unit: int = UNIT, seed: int = SEED) -> Step:
    """Compute one step of one unit twice; only this unit's weights are read.

    Args:
        direction: The weights.
        order: The order in which to list the gates.
        unit: Number of the unit.
        seed: Random seed of the step's input and of the state before.
    """
    rng = np.random.default_rng(seed)
    x, h = (rng.integers(-8, 9, size) / 8 for size in (direction.input_size, direction.hidden_size))
    c = float(rng.integers(1, 9)) / 8
    omitted = _omitted(direction)
    gates = tuple(_sums(direction, gate, unit, x, h, known=omitted is None) for gate in order)
    both = [] if omitted else [_outputs(direction, gates, side, c) for side in ("input_side", "recurrent_side")]
    pairs = [(gate.input_side, gate.recurrent_side) for gate in gates]
    if both:
        pairs.append((both[0][1], both[1][1]))
    return Step(
        unit=unit,
        seed=seed,
        x=x,
        h=h,
        c=c,
        gates=gates,
        new_c=(both[0][0], both[1][0]) if both else None,
        new_h=(both[0][1], both[1][1]) if both else None,
        difference=max(_distance(first, second) for first, second in pairs),
        omitted=omitted,
    )


def _sums(
    direction: LSTMDirection,
    gate: str,
    unit: int,
    x: npt.NDArray[np.float64],
    h: npt.NDArray[np.float64],
    *,
    known: bool,
) -> GateSums:
    biases = tuple(
        float(getattr(gates, gate)[unit]) for gates in (direction.bias_ih, direction.bias_hh) if gates is not None
    )
    with np.errstate(all="ignore"):  # Weights that are inf or NaN stay so, and are shown.
        weights_ih, weights_hh = (
            np.asarray(getattr(gates, gate)[unit], np.float64) for gates in (direction.weight_ih, direction.weight_hh)
        )
        input_product, recurrent_product = float(weights_ih @ x), float(weights_hh @ h)
    bias = sum(biases)
    input_side = (input_product + bias) + recurrent_product
    activation = direction.activation if gate == "g" else direction.recurrent_activation
    return GateSums(
        gate=gate,
        weights_ih=weights_ih,
        weights_hh=weights_hh,
        input_product=input_product,
        recurrent_product=recurrent_product,
        biases=biases,
        input_side=input_side,
        recurrent_side=input_product + (recurrent_product + bias),
        activated=_at(activation, input_side) if known and activation is not None else None,
    )


def _outputs(direction: LSTMDirection, gates: tuple[GateSums, ...], side: str, c: float) -> tuple[float, float]:
    """Return the unit's new c and h from its gates' sums."""
    act, rec = direction.activation, direction.recurrent_activation
    if act is None or rec is None:
        raise ValueError("both activations are known here")
    z = {gate.gate: float(getattr(gate, side)) for gate in gates}
    i, f, o = (_at(rec, z[gate]) for gate in "ifo")
    new_c = f * c + i * _at(act, z["g"])
    return new_c, o * _at(act, new_c)


def _at(activation: Activation, z: float) -> float:
    with np.errstate(all="ignore"):
        return float(activation(np.array([[z]]))[0, 0])


def _omitted(direction: LSTMDirection) -> str | None:
    """Return why a unit's gates cannot be computed, or ``None``."""
    for kind in ("activation", "recurrent_activation"):
        activation: Activation | None = getattr(direction, kind)
        name = kind.replace("_", " ")
        if activation is None:
            return f"the {name} is unknown; pass --config or --{kind.replace('_', '-')}"
        if activation.coupled:
            return f"the {name} {activation.name} needs all units at once"
    return None


def _distance(first: float, second: float) -> float:
    """Return the distance of two numbers; 0 if both are NaN or the same infinity."""
    if first == second or (np.isnan(first) and np.isnan(second)):
        return 0.0
    return abs(first - second)
