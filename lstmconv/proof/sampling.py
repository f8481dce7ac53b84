"""Compare some units of a layer that is too large to be computed whole, in every direction, a step at a time.

In one step, a unit depends on its own rows of W, R and b, on the whole input and on all states before it. So the units
drawn here are computed from what the file itself returned: the states after the previous step, and the outputs of
the layer below. Rows are read as they are needed; memory contains those of one direction.

A file runs the first step and the second step alone, and both in a row. A stack's upper layers are compared in one
step, the lowest layer in two: two steps show the recurrent matrix also if a file takes no initial states, and the
order of time. Mistakes that need all rows at once (a matrix transposed, rows by unit) are not in this catalogue; all
numbers have been compared bit for bit before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from lstmconv.activations import Activation
from lstmconv.arrays.mapping import let_go
from lstmconv.model import Gates, LSTMDirection, LSTMLayer, Stack
from lstmconv.proof.mistakes import Mistake, Weights, mistakes_of_rows
from lstmconv.proof.noise import Noise, bound_of, spread_of
from lstmconv.proof.power import Outcome, mistaken, mistakes_about_outputs, place_of
from lstmconv.proof.trials import Settings, Trial, draw_steps
from lstmconv.runtimes import Inputs, NotRunError, Outputs, Precision, named_outputs
from lstmconv.semantics import Cell, CellType, LSTMCell, merge, returned

__all__ = ["SAMPLED", "Sampled", "sample"]

Float64: TypeAlias = npt.NDArray[np.float64]

SAMPLED = 64
"""Units of a direction. A mistake of the catalogue shows in every unit; one that were made in a tenth of all units
only would be missed once in 800 times (0.9^64), and its bits would differ."""


@dataclass(frozen=True, eq=False)
class Sampled:
    """What was compared of a layer's steps.

    Attributes:
        returned: What the file returned, by trial; the last trial is its outputs.
        noises: What rounding may do, by trial.
        catalogue: What mistakes would have returned.
    """

    returned: Mapping[Trial, Mapping[str, Float64]]
    noises: Mapping[Trial, Noise]
    catalogue: Sequence[Outcome]


@dataclass(frozen=True, eq=False)
class _Rows:
    """Some units of a direction, as :class:`lstmconv.semantics.LSTMCell` takes all of them.

    R is ``(4, units, hidden)``.
    """

    weight_ih: Float64
    weight_hh: Float64
    bias_ih: Float64 | None
    bias_hh: Float64 | None
    activation: Activation | None
    recurrent_activation: Activation | None

    @property
    def hidden_size(self) -> int:
        return int(self.weight_hh.shape[1])

    @property
    def weights(self) -> Weights:
        return Weights(self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)


@dataclass(frozen=True, eq=False)
class _Step:
    """One step of one direction.

    Attributes:
        number: The direction's, in the stack.
        place: The direction's name.
        direction: The direction.
        x: What it takes, ``(batch, input)``.
        before: h and c before it, of all units.
        after: h and c that the file returned.
        turned: x, h and c of the same step if time ran the other way; ``None`` for a first step.
    """

    number: int
    place: str
    direction: LSTMDirection
    x: Float64
    before: tuple[Float64, Float64]
    after: tuple[Float64, Float64]
    turned: tuple[Float64, Float64, Float64] | None = None


def sample(
    stack: Stack,
    ran: Callable[[Inputs], Outputs],
    precision: Precision,
    settings: Settings,
    accepted: frozenset[str],
) -> Sampled:
    """Run two steps of a stack of batch-first layers, and compute some of its units.

    Args:
        stack: What must be computed, with weights as the target's dtype holds them.
        ran: Runs the file.
        precision: In what it computes.
        settings: The seed, and how many sequences.
        accepted: What the file takes beside x.

    Raises:
        NotRunError: The file takes no initial states, and upper layers would never be seen from others than zeros; or
            an activation takes all units at once.
    """
    for half in stack.directions:
        for activation in (half.activation, half.recurrent_activation):
            if activation is not None and activation.coupled:
                raise NotRunError(
                    f"in a layer this large, single units are run, and {activation} needs all units at once"
                )
    if len(stack.layers) > 1 and "states" not in accepted:
        raise NotRunError("in a stack this large, single units are run from given states, and the file takes no states")
    random = np.random.default_rng(settings.seed)
    chosen = [_chosen(half.hidden_size, random) for half in stack.directions]
    matrices = [_rows(half, units).weight_ih for half, units in zip(stack.first.directions, chosen, strict=False)]
    inputs = draw_steps(stack, matrices, precision.stored, settings, accepted)
    found = [ran(_part(inputs, *part)) for part in ((0, 1), (1, 2), (0, 2))]
    compared: dict[Trial, Mapping[str, Float64]] = {}
    noises: dict[Trial, Noise] = {}
    catalogue: list[Outcome] = []
    loose: dict[int, tuple[Float64, Float64]] = {}
    for step in _all_steps(stack, inputs, found):
        units = chosen[step.number]
        rows = _rows(step.direction, units)
        trial = _trial(step, rows, units)
        compared[trial] = {"h": step.after[0][:, units], "c": step.after[1][:, units]}
        # The states before a second step are those of another run of the file, which rounds in its own way.
        noises[trial] = _noise(trial, rows, precision, () if step.turned is None else loose[step.number])
        loose[step.number] = _widest(noises[trial])
        catalogue += _mistakes(step, trial, rows, units)
    single = len(stack.layers) == 1
    trial = _outputs(stack.last, inputs, _sequences(stack, found, 2 if single else 1))
    outputs = found[2] if single else found[0]
    compared[trial] = {key: np.asarray(outputs[key], np.float64) for key in trial.expected}
    last = range(len(stack.directions) - len(stack.last.directions), len(stack.directions))
    allowed = 2 * max(float(loose[number][0].max()) for number in last) * len(last)
    noises[trial] = Noise({key: np.full_like(values, allowed) for key, values in trial.expected.items()}, "spread")
    if single:
        catalogue += mistakes_about_outputs(stack.last, trial)
    return Sampled(compared, noises, catalogue)


def _chosen(hidden: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw units, the first and the last among them."""
    if hidden <= SAMPLED:
        return np.arange(hidden)
    inner = random.choice(hidden - 2, SAMPLED - 2, replace=False) + 1
    return np.array([0, *sorted(inner), hidden - 1])


def _rows(direction: LSTMDirection, units: npt.NDArray[np.int64]) -> _Rows:
    def taken(gates: Gates | None) -> Any:
        if gates is None:
            return None
        rows = np.stack([gate[units].astype(np.float64) for gate in gates])
        for gate in gates:
            let_go(gate)  # A unit of a Keras file lies in every row: all of its pages were mapped.
        return rows

    return _Rows(
        taken(direction.weight_ih),
        taken(direction.weight_hh),
        taken(direction.bias_ih),
        taken(direction.bias_hh),
        direction.activation,
        direction.recurrent_activation,
    )


def _part(inputs: Inputs, start: int, stop: int) -> Inputs:
    lengths = None if inputs.lengths is None else np.full(len(inputs.x), stop - start)
    return replace(inputs, x=inputs.x[:, start:stop], lengths=lengths)


def _all_steps(stack: Stack, inputs: Inputs, found: Sequence[Outputs]) -> Iterator[_Step]:
    """Yield two steps of the lowest layer's directions, in their own order of time, and one of all others'."""
    x, number = inputs.x[:, 0], 0
    for layer in stack.layers:
        for half, direction in enumerate(layer.directions):
            place, own = place_of(stack, layer, half), number + half
            before = inputs.states[2 * own], inputs.states[2 * own + 1]
            if layer is not stack.first:
                yield _Step(own, place, direction, x, before, _states(found[0], own))
                continue
            first, second = (1, 0) if direction.go_backwards else (0, 1)
            middle = _states(found[first], own)
            yield _Step(own, place, direction, inputs.x[:, first], before, middle)
            turned = (inputs.x[:, first], *_states(found[second], own))
            yield _Step(own, place, direction, inputs.x[:, second], middle, _states(found[2], own), turned)
        halves = [_states(found[0], number + half)[0] for half in range(len(layer.directions))]
        x = halves[0] if layer.backward is None else merge(layer.merge_mode, *halves)
        number += len(layer.directions)


def _states(outputs: Outputs, number: int) -> tuple[Float64, Float64]:
    h, c = (np.asarray(outputs[f"{letter}{number}"], np.float64) for letter in "hc")
    return h, c


def _trial(step: _Step, rows: _Rows, units: npt.NDArray[np.int64]) -> Trial:
    """Compute a step of the units; as inputs it has what they see."""
    inputs = _seen(step.x, *step.before, units)
    return Trial(inputs, _stepped(rows, inputs, LSTMCell))


def _seen(x: Float64, h: Float64, c: Float64, units: npt.NDArray[np.int64]) -> Inputs:
    return Inputs(x[:, None], (h, c[:, units]))


def _stepped(rows: _Rows, inputs: Inputs, cell: CellType) -> dict[str, Float64]:
    h, c = _step(cell(cast(LSTMDirection, rows), "sampled units"), inputs)
    return {"h": h, "c": c}


def _step(cell: Cell, inputs: Inputs) -> tuple[Float64, Float64]:
    with np.errstate(all="ignore"):
        h, c = cell.step(cell.project(inputs.x)[..., 0, :], *inputs.states)
    return h, c


def _widest(noise: Noise) -> tuple[Float64, Float64]:
    """Return how far h and c of any unit may be off, sequence by sequence: ``(batch, 1)``."""
    h, c = (noise.allowed[letter].max(axis=-1, keepdims=True) for letter in "hc")
    return h, c


def _noise(trial: Trial, rows: _Rows, precision: Precision, moved: Sequence[Float64]) -> Noise:
    """Bound what rounding may do, or measure it: of layers so wide a bound says little."""
    compute = partial(_stepped, rows)
    return spread_of(compute, trial, precision, bound_of(compute, trial, precision, moved), moved)


def _mistakes(step: _Step, trial: Trial, rows: _Rows, units: npt.NDArray[np.int64]) -> Iterator[Outcome]:
    act, rec = rows.activation, rows.recurrent_activation
    if act is None or rec is None:
        return
    listed = mistakes_of_rows(rows.weights, act, rec)
    for mistake, h, c in mistaken(rows.weights, listed, act, rec, lambda cell: _step(cell, trial.inputs)):
        yield Outcome(mistake, step.place, trial, {"h": h, "c": c})
    if step.turned is not None:
        reversed_time = Mistake("time reversed", "run every direction the other way")
        yield Outcome(reversed_time, step.place, trial, _stepped(rows, _seen(*step.turned, units), LSTMCell))


def _sequences(stack: Stack, found: Sequence[Outputs], steps: int) -> list[Float64]:
    """Return the last layer's halves ``(batch, steps, hidden)`` in the order in which they are processed."""
    number = len(stack.directions) - len(stack.last.directions)
    sequences: list[Float64] = []
    for half, direction in enumerate(stack.last.directions):
        first = found[0] if steps == 1 or not direction.go_backwards else found[1]
        run = [first] if steps == 1 else [first, found[2]]
        sequences.append(np.stack([_states(outputs, number + half)[0] for outputs in run], axis=1))
    return sequences


def _outputs(layer: LSTMLayer, inputs: Inputs, sequences: Sequence[Float64]) -> Trial:
    """Return what the file must return, of all units, for the states that it returned."""
    return Trial(inputs, named_outputs(returned(layer, sequences)))
