"""The inputs of a proof: seeded, and chosen so that every gate moves and saturates somewhere.

Two sets are run. The *probe* is short, so that every mistake about a direction can be computed on it; the *trial* is as
long as asked for, so that errors have time to grow, states are carried on, and the order of time shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from lstmconv.errors import UsageError
from lstmconv.model import Stack, float_type
from lstmconv.proof.rounding import limits
from lstmconv.proof.sizes import weights_in_direction
from lstmconv.runtimes import Inputs, named_outputs
from lstmconv.semantics import CellType, cell_of, run_stack

__all__ = ["SPREADS", "Compared", "Settings", "Trial", "computed", "draw", "draw_large", "draw_steps", "rounded_inputs"]

Float64: TypeAlias = npt.NDArray[np.float64]

_PROBE_STEPS = 3
"""R acts on the second step even if states start at zero, and on what the first step did in the third."""
_WIDE = 1 << 20
"""If a direction has this many weights, the probe has as few steps as show W, R and b: one, or two from zero."""

SPREADS = (0.5, 2.0, 6.0)
"""Standard deviations of what x adds to a gate, sequence by sequence: a sigmoid is nearly linear to 0.5, turns within
2, and is saturated to 1e-2 at 4.6. The first is for the gate with the largest weights, the last for the smallest."""
_LARGE = 2.0**10
"""By how much :func:`draw_large` draws larger."""
_RAREST = 2.0**-10
"""A feature whose weights are smaller than this part of the largest is not blown up further."""


@dataclass(frozen=True)
class Settings:
    """How outputs are compared.

    Attributes:
        atol: Absolute tolerance; ``None`` derives what rounding may do, see :mod:`lstmconv.proof.rounding`.
        rtol: Tolerance relative to the expected value; 0 if only ``atol`` is given.
        seed: Random seed for the test inputs.
        batch: Sequences.
        steps: Time steps.
        allow_not_finite: If weights are not finite, report the outputs as not run instead of failed.
    """

    atol: float | None = None
    rtol: float | None = None
    seed: int = 0
    batch: int = 3
    steps: int = 16
    allow_not_finite: bool = False

    def __post_init__(self) -> None:
        """Refuse settings under which anything, or nothing, would pass."""
        if self.batch < 1 or self.steps < 1:
            raise UsageError(f"batch and steps are {self.batch} and {self.steps}, expected at least 1")
        for name in ("atol", "rtol"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise UsageError(f"{name} is {value}, expected a number from 0 up")


class Compared(Protocol):
    """A set of inputs that a file is run on."""

    @property
    def expected(self) -> Mapping[str, Float64]:
        """The expected outputs, by name."""


@dataclass(frozen=True, eq=False)
class Trial:
    """One set of inputs and what must come out.

    Attributes:
        inputs: What the target gets, batch first.
        expected: By name, as :data:`lstmconv.runtimes.Outputs`.
    """

    inputs: Inputs
    expected: Mapping[str, Float64]


def draw(stack: Stack, stored: str, settings: Settings, accepted: frozenset[str]) -> tuple[Trial, Trial]:
    """Draw the probe and the trial of a stack of batch-first layers.

    Args:
        stack: What must be computed.
        stored: The name of the dtype that the target takes: inputs are rounded to it.
        settings: Seed and sizes.
        accepted: What the target takes beside x: ``states``, ``lengths``.
    """
    random = np.random.default_rng(settings.seed)
    batch = max(settings.batch + 1, len(SPREADS))  # Another one: a file that has fixed its batch fails.
    wide = max(map(weights_in_direction, stack.directions)) >= _WIDE
    steps = _PROBE_STEPS if not wide else 1 if "states" in accepted else 2
    probe = _draw(stack, stored, random, (batch, steps), accepted, counted=False)
    return probe, _draw(stack, stored, random, (settings.batch, settings.steps), accepted, counted=True)


def draw_large(stack: Stack, stored: str, settings: Settings, accepted: frozenset[str]) -> Trial:
    """Draw two steps of numbers far beyond what turns any gate, so that a bound on them shows in the outputs.

    The arguments are those of :func:`draw`.
    """
    random = np.random.default_rng(settings.seed)
    return _draw(stack, stored, random, (len(SPREADS), 2), accepted, counted=False, scale=_LARGE)


def _draw(
    stack: Stack,
    stored: str,
    random: np.random.Generator,
    size: tuple[int, int],
    accepted: frozenset[str],
    *,
    counted: bool,
    scale: float = 1.0,
) -> Trial:
    """Draw inputs; halve the steps and quarter the numbers until no output overflows in the target's dtype."""
    batch, steps = size
    x, states = _values(stack, [half.weight_ih for half in stack.first.directions], stored, random, size, accepted)
    lengths = None
    if "lengths" in accepted:
        lengths = random.integers(0, steps + 1, batch) if counted else np.full(batch, steps)
        lengths[0] = steps
    largest = limits(stored).largest / 16
    for attempt in range(12):
        shrunk = scale * 4.0**-attempt
        kept = max(1, steps >> attempt)
        most = limits(stored).largest / 64
        inputs = Inputs(
            rounded_inputs(np.clip(x[:, :kept] * shrunk, -most, most), stored),
            tuple(rounded_inputs(np.clip(state * shrunk, -most, most), stored) for state in states),
            None if lengths is None else np.minimum(lengths, kept),
        )
        trial = Trial(inputs, computed(stack, inputs))
        if all(not (np.abs(values) > largest).any() for values in trial.expected.values()):
            break
    return trial


def draw_steps(
    stack: Stack, matrices: Sequence[npt.ArrayLike], stored: str, settings: Settings, accepted: frozenset[str]
) -> Inputs:
    """Draw two steps for a stack of which some units are computed.

    Args:
        stack: Batch-first layers.
        matrices: W of those units, ``(4, units, input)`` of each direction of the first layer.
        stored: As for :func:`draw`.
        settings: Seed and sequences.
        accepted: As for :func:`draw`.
    """
    random = np.random.default_rng(settings.seed)
    size = max(settings.batch, len(SPREADS)), 2
    x, states = _values(stack, matrices, stored, random, size, accepted)
    lengths = np.full(size[0], 2) if "lengths" in accepted else None
    return Inputs(rounded_inputs(x, stored), tuple(rounded_inputs(state, stored) for state in states), lengths)


def _values(
    stack: Stack,
    matrices: Sequence[npt.ArrayLike],
    stored: str,
    random: np.random.Generator,
    size: tuple[int, int],
    accepted: frozenset[str],
) -> tuple[Float64, list[Float64]]:
    """Draw x ``(batch, steps, input)`` and all directions' states, zeros where the target takes none."""
    batch, steps = size
    kinds = np.arange(batch) % len(SPREADS)
    spreads, scales = np.array(SPREADS)[kinds], _scales(matrices, stored)
    x = random.normal(size=(batch, steps, stack.first.input_size)) * scales[kinds][:, None]
    states: list[Float64] = []
    for direction in stack.directions:
        h = random.normal(size=(batch, direction.hidden_size)) * np.minimum(spreads[:, None], 2.0)
        c = random.normal(size=(batch, direction.hidden_size)) * spreads[:, None]
        states += [h, c] if "states" in accepted else [np.zeros_like(h), np.zeros_like(c)]
    return x, states


def _scales(matrices: Sequence[npt.ArrayLike], stored: str) -> Float64:
    """Return by how much to scale each feature of each kind of sequence, ``(3, input)``.

    All features add alike to the gates, however large their weights, and every gate is moved and saturated.
    """
    means = [np.square(np.asarray(matrix, np.float64)).mean(axis=1) for matrix in matrices]
    squares = np.nan_to_num(np.mean(means, axis=0), nan=0.0, posinf=0.0)  # (4, input), over all units and both halves
    sizes = np.sqrt(squares.mean(axis=0))
    largest = float(sizes.max(initial=0.0))
    if largest == 0.0:
        return np.ones((len(SPREADS), sizes.size))
    features: Float64 = 1 / np.maximum(sizes, largest * _RAREST)
    gates = np.sqrt(squares @ np.square(features))
    widest = float(gates.max())
    narrowest = max(float(gates.min()), widest * _RAREST)
    reach = np.array([widest, np.sqrt(widest * narrowest), narrowest])
    scales: Float64 = np.clip((np.array(SPREADS) / reach)[:, None] * features, 2.0**-20, limits(stored).largest / 64)
    return scales


def rounded_inputs(array: Float64, stored: str) -> Float64:
    """Round inputs to what a target takes, float32 at most, which every target with float64 takes too."""
    narrow: npt.NDArray[Any] = array.astype(float_type(stored if stored != "float64" else "float32"))
    return narrow.astype(np.float64)


def computed(stack: Stack, inputs: Inputs, cell: CellType = cell_of) -> dict[str, Float64]:
    """Compute what a file must return, by name; the lengths become Keras' mask.

    Args:
        stack: Batch-first layers.
        inputs: For a cell that carries an axis in front, all arrays have it.
        cell: How to compute; by default exactly, in float64.
    """
    steps = inputs.x.shape[-2]
    mask = None if inputs.lengths is None else np.arange(steps)[None] < inputs.lengths[:, None]
    with np.errstate(all="ignore"):
        result = run_stack(stack, inputs.x, inputs.states, mask, cell)
    return named_outputs(result.outputs, result.states[0::2], result.states[1::2])
