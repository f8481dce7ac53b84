"""Power: what every mistake of the catalogue would have returned, on the same inputs.

A mistake in one direction is computed from the right inputs of its layer, and judged by that direction's own final
states; all mistakes that share matrices run together, along an axis in front of the batch. A mistake about the
whole (time, directions, merging, the order of layers) is computed as the stack that it makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lstmconv.activations import Activation
from lstmconv.errors import LstmconvError
from lstmconv.model import LSTMDirection, LSTMLayer, MergeMode, Stack
from lstmconv.proof.mistakes import Mistake, Weights, mistakes_of, wrong_biases
from lstmconv.proof.trials import Compared, Trial, computed
from lstmconv.runtimes import Inputs
from lstmconv.semantics import Cell, LSTMCell, run_layer, times

__all__ = ["Outcome", "WrongCell", "mistaken", "mistakes_about_outputs", "outcomes", "place_of", "weights_of"]

Float64: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a mistake would have returned.

    Attributes:
        mistake: What is wrong.
        place: The layer and half it is made in, or ``""`` for the whole stack.
        trial: On which inputs.
        outputs: What it returns, by name; outputs that it does not concern are left out.
    """

    mistake: Mistake
    place: str
    trial: Compared
    outputs: Mapping[str, Float64]

    @property
    def text(self) -> str:
        """The mistake and its place."""
        return f"{self.mistake.text} in {self.place}" if self.place else self.mistake.text


def outcomes(stack: Stack, probe: Trial, trial: Trial) -> Iterator[Outcome]:
    """Compute every mistake about a stack of batch-first layers: about time on the trial, all others on the probe."""
    x = probe.inputs.x
    number = 0
    states = probe.inputs.states
    for layer in stack.layers:
        own = states[2 * number : 2 * (number + len(layer.directions))]
        for half, direction in enumerate(layer.directions):
            place = place_of(stack, layer, half)
            for mistake, h, c in _directions(direction, x, own[2 * half], own[2 * half + 1]):
                yield Outcome(mistake, place, probe, {f"h{number + half}": h, f"c{number + half}": c})
        x = run_layer(layer, x, own).outputs[0]
        number += len(layer.directions)
    for mistake, change in _about_states(stack, probe):
        yield from _whole(mistake, probe, change)
    for mistake, change in _about_time(stack, trial):
        yield from _whole(mistake, trial, change)


def place_of(stack: Stack, layer: LSTMLayer, half: int) -> str:
    """Name a direction as briefly as distinguishes it from the stack's others; ``""`` if there is one."""
    way = ("the forward direction", "the backward direction")[half] if layer.bidirectional else ""
    name = layer.name if len(stack.layers) > 1 else ""
    return " of ".join(part for part in (way, name) if part)


def weights_of(direction: LSTMDirection) -> Weights:
    """Return a direction's arrays in float64."""
    return Weights(
        *(
            None if gates is None else np.asarray(gates, np.float64)
            for gates in (direction.weight_ih, direction.weight_hh, direction.bias_ih, direction.bias_hh)
        )  # type: ignore[arg-type]  # W and R are there
    )


class WrongCell(LSTMCell):
    """Computes several mistakes that share matrices and activations: ``(mistakes, batch, ...)`` after a step."""

    def __init__(self, weights: Weights, mistakes: Sequence[Mistake], act: Activation, rec: Activation) -> None:
        """Apply what the mistakes share, and gather in what they differ."""
        first = mistakes[0]
        ih, hh = (weights.ih, weights.hh) if first.matrices is None else first.matrices(weights.ih, weights.hh)
        self._hidden = weights.hidden_size
        self._gates_ih, self._gates_hh = ih, hh
        self.act, self.rec = first.activations or (act, rec)
        self._ih, self._hh = (np.array([mistake.indices[k] for mistake in mistakes]) for k in (0, 1))
        self._bias = np.zeros((len(mistakes), 1, 4, self._hidden))
        for row, mistake in zip(self._bias, mistakes, strict=True):
            changed = wrong_biases(mistake, weights)
            row[0] = sum(bias[mistake.indices[2]] for bias in changed if bias is not None)

    def project(self, x: Float64) -> Float64:
        return _by_gate(x, self._gates_ih)

    def step(self, projected: Float64, *states: Float64) -> tuple[Float64, ...]:
        h, c = states
        # Before the first step h is (batch, hidden), and all mistakes share its product.
        z = self._ordered(projected, self._ih) + self._ordered(_by_gate(h, self._gates_hh), self._hh) + self._bias
        both = self.rec(z[:, :, :2])  # i and f.
        new_c = both[:, :, 1] * c + both[:, :, 0] * self.act(z[:, :, 2])
        return self.rec(z[:, :, 3]) * self.act(new_c), new_c

    def _ordered(self, rows: Float64, orders: npt.NDArray[np.int64]) -> Float64:
        """Cut rows, shared or one for each mistake, into gates in its order: ``(mistakes, batch, 4, hidden)``."""
        cut = rows.reshape(*rows.shape[:-1], 4, self._hidden)
        if cut.ndim == 3:
            return cut[:, orders].swapaxes(0, 1)
        return np.take_along_axis(cut, orders[:, None, :, None], axis=2)


def _by_gate(array: Float64, gates: Float64) -> Float64:
    """Multiply by each gate's rows ``(4, hidden, columns)``, which may be transposed views: ``(..., 4 * hidden)``."""
    return np.concatenate([times(array, rows) for rows in gates], axis=-1)


def _directions(
    direction: LSTMDirection, x: Float64, h: Float64, c: Float64
) -> Iterator[tuple[Mistake, Float64, Float64]]:
    """Run every mistake about one direction; yield its final h and c."""
    act, rec = direction.activation, direction.recurrent_activation
    if act is None or rec is None:
        return
    weights = weights_of(direction)
    layer = LSTMLayer("", replace(direction, go_backwards=False))
    ordered = x[:, ::-1] if direction.go_backwards else x

    def run(cell: Cell) -> tuple[Float64, Float64]:
        new_h, new_c = run_layer(layer, ordered, [h, c], cell=partial(_given, cell)).states
        return new_h, new_c

    yield from mistaken(weights, mistakes_of(weights, act, rec), act, rec, run)


def mistaken(
    weights: Weights,
    mistakes: Sequence[Mistake],
    act: Activation,
    rec: Activation,
    run: Callable[[Cell], tuple[Float64, Float64]],
) -> Iterator[tuple[Mistake, Float64, Float64]]:
    """Run mistakes about one direction's weights, those that share matrices together; yield the h and c that come out.

    Args:
        weights: The right ones.
        mistakes: Those that only differ in their bits are passed over.
        act: The right activation.
        rec: The right recurrent activation.
        run: Runs a cell that computes several mistakes along an axis in front of all arrays.
    """
    groups: dict[Any, list[Mistake]] = {}
    for mistake in mistakes:
        if not mistake.computes_the_same:
            groups.setdefault((mistake.matrices, mistake.activations), []).append(mistake)
    for group in groups.values():
        with np.errstate(all="ignore"):
            h, c = run(WrongCell(weights, group, act, rec))
        yield from zip(group, h, c, strict=True)


def _given(cell: Cell, *_: object) -> Cell:
    return cell


Change: TypeAlias = "Callable[[], Mapping[str, Float64]]"


def _whole(mistake: Mistake, trial: Trial, change: Change) -> Iterator[Outcome]:
    """Compute a mistake about the whole stack; what cannot be built, or has other shapes, is none."""
    try:
        found = dict(change())
    except LstmconvError:
        return
    same = {name: array for name, array in found.items() if array.shape == trial.expected[name].shape}
    yield Outcome(mistake, "", trial, same)


def _run(stack: Stack, inputs: Inputs, *layers: LSTMLayer) -> Mapping[str, Float64]:
    return computed(Stack(stack.name, layers or stack.layers), inputs)


def _about_states(stack: Stack, probe: Trial) -> Iterator[tuple[Mistake, Change]]:
    """Yield mistakes about initial states, halves and the order of layers."""
    inputs, layers = probe.inputs, stack.layers
    if any(state.any() for state in inputs.states):
        dropped = replace(inputs, states=tuple(np.zeros_like(state) for state in inputs.states))
        yield Mistake("initial states dropped", "pass them on"), partial(_run, stack, dropped)
        swapped = [state for pair in zip(inputs.states[1::2], inputs.states[0::2], strict=True) for state in pair]
        exchanged = replace(inputs, states=tuple(swapped))
        yield Mistake("initial h and c exchanged", "h comes first, then c"), partial(_run, stack, exchanged)
    for mistake, number, layer in _about_halves(layers):
        yield mistake, partial(_run, stack, inputs, *layers[:number], layer, *layers[number + 1 :])
    for a, b in combinations(range(len(layers)), 2):
        order = list(layers)
        order[a], order[b] = order[b], order[a]
        text = f"layers {layers[a].name} and {layers[b].name} exchanged"
        yield Mistake(text, "keep the source's order"), partial(_run, stack, inputs, *order)


def _about_time(stack: Stack, trial: Trial) -> Iterator[tuple[Mistake, Change]]:
    """Yield mistakes about the order of steps, and about what is done to the right outputs."""
    turned = cache(partial(_run, stack, trial.inputs, *map(_turned, stack.layers)))
    yield Mistake("time reversed", "run every direction the other way"), lambda: _flipped(turned())
    yield Mistake("time reversed, and its outputs too", "run every direction the other way"), turned
    if trial.inputs.lengths is not None:
        whole = replace(trial.inputs, lengths=None)
        yield Mistake("lengths ignored", "mask the steps after them"), partial(_run, stack, whole)
    yield from _about_outputs(stack.last, trial.expected)


def _flipped(outputs: Mapping[str, Float64]) -> Mapping[str, Float64]:
    """Turn sequences round in time."""
    return {name: array[:, ::-1] if array.ndim == 3 else array for name, array in outputs.items()}


def _turned(layer: LSTMLayer) -> LSTMLayer:
    """Run a layer the other way over time."""
    forward = replace(layer.forward, go_backwards=not layer.go_backwards)
    if layer.backward is None:
        return replace(layer, forward=forward)
    return replace(layer, forward=forward, backward=replace(layer.backward, go_backwards=layer.go_backwards))


def _about_halves(layers: Sequence[LSTMLayer]) -> Iterator[tuple[Mistake, int, LSTMLayer]]:
    """Yield what may go wrong between two halves, with the place of the layer and what it becomes."""
    modes: tuple[MergeMode, ...] = ("sum", "mul", "ave")
    for number, layer in enumerate(layers):
        if layer.backward is None:
            continue
        whose = f" of {layer.name}" if len(layers) > 1 else ""
        ways = layer.go_backwards, layer.backward.go_backwards
        exchanged = replace(
            layer,
            forward=replace(layer.backward, go_backwards=ways[0]),
            backward=replace(layer.forward, go_backwards=ways[1]),
        )
        text = f"weights of the directions{whose} exchanged"
        yield Mistake(text, "the forward direction comes first"), number, exchanged
        for mode in modes:
            if layer.merge_mode in modes and layer.merge_mode != mode:
                mistake = Mistake(f"directions{whose} merged by {mode}", f"merge them by {layer.merge_mode}")
                yield mistake, number, replace(layer, merge_mode=mode)


def mistakes_about_outputs(last: LSTMLayer, trial: Trial) -> Iterator[Outcome]:
    """Compute what may happen to a layer's right outputs."""
    for mistake, change in _about_outputs(last, trial.expected):
        yield from _whole(mistake, trial, change)


def _about_outputs(last: LSTMLayer, expected: Mapping[str, Float64]) -> Iterator[tuple[Mistake, Change]]:
    """Yield what may happen to the right outputs."""
    sequences = {name: array for name, array in expected.items() if array.ndim == 3}
    if sequences:
        yield Mistake("outputs in the opposite order of time", "flip them along time"), lambda: _flipped(sequences)
    if last.backward is None or last.merge_mode != "concat":
        return
    forward, backward = np.split(expected["y"], [last.hidden_size], axis=-1)
    yield (
        Mistake("outputs of the directions exchanged", "the forward direction's come first"),
        lambda: {"y": np.concatenate([backward, forward], axis=-1)},
    )
    if sequences:
        yield (
            Mistake("backward output not re-reversed", "flip the backward direction along time before it is merged"),
            lambda: {"y": np.concatenate([forward, backward[:, ::-1]], axis=-1)},
        )
