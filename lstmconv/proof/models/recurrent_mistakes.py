"""How conversions go wrong about a recurrent layer inside of a model.

The LSTM's own catalogue (:mod:`lstmconv.proof.mistakes`) is used; of a layer that takes long to compute, a part of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import permutations
from typing import Any, TypeVar

import numpy as np

from lstmconv.model import (
    Call,
    Gates,
    GRUDirection,
    Layer,
    LSTMDirection,
    LSTMLayer,
    RecurrentLayer,
    SimpleRNNDirection,
    Stack,
)
from lstmconv.model.recurrent import GRU_GATES
from lstmconv.proof.mistakes import Mistake, Weights, mistakes_of, wrong
from lstmconv.proof.models.kinds.activations import activations_for
from lstmconv.proof.models.kinds.option import Made, Option, changed_output
from lstmconv.proof.models.variants import Found
from lstmconv.proof.power import WrongCell, weights_of
from lstmconv.semantics.cells import CellType, cell_of
from lstmconv.semantics.recurrent import returned, run_layer

__all__ = ["rare_options", "recurrent_options"]

_T = TypeVar("_T")


def recurrent_options(layer: LSTMLayer | RecurrentLayer | Stack, most: int) -> Iterator[Option]:
    """Yield the wrong versions of a recurrent layer, at most so many about a direction."""
    if isinstance(layer, Stack):
        for number, own in enumerate(layer.layers):
            for option in recurrent_options(own, most):
                if isinstance(option.instead, Made | LSTMLayer):
                    made = Made(partial(_in_stack, layer, number, option))
                    yield Option(f"{option.text} in {own.name}", option.fix, made)
        return
    for half, direction in enumerate(layer.directions):
        where = _where(layer, half)
        if isinstance(layer, LSTMLayer) and isinstance(direction, LSTMDirection):
            common = [mistake for mistake in _possible(direction) if not mistake.rare]
            yield from _about_lstm(layer, half, where, _sampled(common, most))
            continue
        for text, fix, instead in _sampled(list(_others(direction)), most):
            changed = replace(layer, **{("forward", "backward")[half]: instead})
            yield Option(text + where, fix, changed)
    yield from _about_halves(layer)
    yield from _about_time(layer)


def _sampled(found: Sequence[_T], most: int) -> Sequence[_T]:
    """Take so many at most: every second, third, ..."""
    return found[:: -(-len(found) // most)] if found else found


def rare_options(layer: Layer, most: int) -> Iterator[Option]:
    """Yield versions of an LSTM with gates in an order of no format, at most so many about a direction.

    A proof leaves them out, and a diagnosis names them.
    """
    if isinstance(layer, LSTMLayer):
        for half, direction in enumerate(layer.directions):
            rare = [mistake for mistake in _possible(direction) if mistake.rare]
            yield from _about_lstm(layer, half, _where(layer, half), _sampled(rare, most))


def _where(layer: LSTMLayer | RecurrentLayer, half: int) -> str:
    return (" in the forward direction", " in the backward direction")[half] if layer.backward is not None else ""


def _possible(direction: LSTMDirection) -> list[Mistake]:
    """List the mistakes about a direction that change what it computes."""
    act, rec = direction.activation, direction.recurrent_activation
    if act is None or rec is None:
        return []
    return [mistake for mistake in mistakes_of(weights_of(direction), act, rec) if not mistake.computes_the_same]


def _about_lstm(layer: LSTMLayer, half: int, where: str, listed: Sequence[Mistake]) -> Iterator[Option]:
    """Yield mistakes about one direction of an LSTM, those that share matrices computed together."""
    direction = layer.directions[half]
    act, rec = direction.activation, direction.recurrent_activation
    assert act is not None
    assert rec is not None
    weights = weights_of(direction)
    groups: dict[Any, list[Mistake]] = {}
    for mistake in listed:
        groups.setdefault((mistake.matrices, mistake.activations), []).append(mistake)
    for group in groups.values():
        together = None if layer.time_major else _Together(layer, half, WrongCell(weights, group, act, rec))
        for number, mistake in enumerate(group):
            first = None if together is None else partial(together.one, number)
            made = Made(partial(_wrong_layer, layer, half, weights, mistake))
            yield Option(mistake.text + where, mistake.fix, made, first)


def _in_stack(stack: Stack, number: int, option: Option) -> Stack:
    """Return a stack with a wrong layer in it."""
    wrong_layer = option.layer
    assert isinstance(wrong_layer, LSTMLayer)
    return Stack(stack.name, (*stack.layers[:number], wrong_layer, *stack.layers[number + 1 :]))


def _wrong_layer(layer: LSTMLayer, half: int, weights: Weights, mistake: Mistake) -> LSTMLayer:
    changes: dict[str, Any] = {
        ("forward", "backward")[half]: _wrong_direction(layer.directions[half], weights, mistake)
    }
    return replace(layer, **changes)


def _wrong_direction(direction: LSTMDirection, weights: Weights, mistake: Mistake) -> LSTMDirection:
    changed = wrong(mistake, weights)
    act, rec = mistake.activations or (direction.activation, direction.recurrent_activation)

    def gates(array: Any) -> Gates | None:
        return None if array is None else Gates(*array.astype(direction.dtype))

    arrays: dict[str, Any] = {
        "weight_ih": gates(changed.ih),
        "weight_hh": gates(changed.hh),
        "bias_ih": gates(changed.bias_ih),
        "bias_hh": gates(changed.bias_hh),
    }
    return replace(direction, **arrays, activation=act, recurrent_activation=rec)


class _Together:
    """Runs one direction with several mistakes at once, on the first inputs that are asked for."""

    def __init__(self, layer: LSTMLayer, half: int, cell: WrongCell) -> None:
        self._layer, self._half, self._cell = layer, half, cell
        self._ran: tuple[Sequence[Any], Sequence[Any]] | None = None

    def one(self, number: int, _: Call, inputs: Sequence[Any], states: Any, masks: Sequence[Any]) -> Found:
        """Return what a mistake computes, by its number in the cell."""
        if self._ran is None:
            self._ran = self._run(inputs[0], states, next(iter(masks), None))
        found, after = self._ran
        return tuple(array[number] for array in found), tuple(state[number] for state in after)

    def _run(self, x: Any, states: Any, mask: Any) -> tuple[list[Any], list[Any]]:
        layer = self._layer
        sequences: list[Any] = []
        after: list[Any] = []
        for half, direction in enumerate(layer.directions):
            alone = LSTMLayer(layer.name, direction, zero_output_for_mask=layer.zero_output_for_mask)
            cell: CellType = cell_of if half != self._half else lambda *_: self._cell
            run = run_layer(alone, x, None if states is None else states[2 * half : 2 * half + 2], mask, cell)
            (sequence,) = run.outputs
            sequences.append(sequence)
            after += run.states
        count = len(sequences[self._half])
        sequences = [_alike(array, count, 4) for array in sequences]
        after = [_alike(state, count, 3) for state in after]
        found = returned(layer, sequences)
        return [*found, *(after if layer.return_state else ())], after


def _alike(array: Any, count: int, rank: int) -> Any:
    """Give an array that all mistakes share an axis for them."""
    return array if array.ndim == rank else np.broadcast_to(array, (count, *array.shape))


def _others(direction: Any) -> Iterator[tuple[str, str, Any]]:
    return _gru(direction) if isinstance(direction, GRUDirection) else _simple(direction)


def _gru(direction: GRUDirection) -> Iterator[tuple[str, str, Any]]:
    for order in map("".join, permutations(GRU_GATES)):
        if order == GRU_GATES:
            continue
        places = [GRU_GATES.index(gate) for gate in order]
        text = f"gate order {' '.join(order)} instead of z r h"
        fix = f"put the gates into the order z r h; they stand as {' '.join(order)}"
        arrays = {name: getattr(direction, name) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
        moved = {name: array[places] for name, array in arrays.items() if array is not None}
        yield text, fix, replace(direction, **moved)
        yield f"{text} in W", fix, replace(direction, weight_ih=direction.weight_ih[places])
        yield f"{text} in R", fix, replace(direction, weight_hh=direction.weight_hh[places])
    yield from _matrices(direction)
    if direction.bias_hh is not None:
        yield "recurrent bias dropped", "write both", replace(direction, bias_hh=None)
        swapped = replace(direction, bias_ih=direction.bias_hh, bias_hh=direction.bias_ih)
        yield "biases exchanged", "the input's bias is the first", swapped
    after = direction.reset_after
    text = "reset gate before the product" if after else "reset gate after the product"
    yield text, f"reset_after is {after}", replace(direction, reset_after=not after)
    rec = direction.recurrent_activation
    for text, fix, other in activations_for(rec):
        yield f"{text} of the gates", fix, replace(direction, recurrent_activation=other)
    turned = replace(
        direction,
        weight_ih=_less_update(direction.weight_ih),
        weight_hh=_less_update(direction.weight_hh),
        bias_ih=_less(direction.bias_ih),
        bias_hh=_less(direction.bias_hh),
    )
    yield "update gate inverted", "z keeps the state, 1 - z takes the candidate", turned


def _less_update(matrix: Any) -> Any:
    return np.concatenate([-matrix[:1], matrix[1:]])


def _less(bias: Any) -> Any:
    return None if bias is None else _less_update(bias)


def _simple(direction: SimpleRNNDirection) -> Iterator[tuple[str, str, Any]]:
    yield from _matrices(direction)


def _matrices(direction: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield what may happen to matrices, a bias and the activation of a GRU or SimpleRNN."""
    ih, hh = direction.weight_ih, direction.weight_hh
    if direction.hidden_size > 1:
        yield (
            "R transposed",
            "each gate's block is (unit, column): transpose it",
            replace(direction, weight_hh=hh.swapaxes(-1, -2)),
        )
    if ih.shape == hh.shape:
        yield "W and R exchanged", "W multiplies the input, R the state", replace(direction, weight_ih=hh, weight_hh=ih)
        if direction.hidden_size > 1:
            turned = replace(direction, weight_ih=ih.swapaxes(-1, -2))
            yield "W transposed", "each gate's block is (unit, column): transpose it", turned
    if direction.bias_ih is not None and np.any(direction.bias_ih):
        yield "bias dropped", "write it", replace(direction, bias_ih=None)
        yield "bias doubled", "write it once", replace(direction, bias_ih=direction.bias_ih * 2)
    for text, fix, other in activations_for(direction.activation):
        yield text, fix, replace(direction, activation=other)


def _about_halves(layer: LSTMLayer | RecurrentLayer) -> Iterator[Option]:
    if layer.backward is None:
        return
    forward, backward = layer.forward, layer.backward
    if forward.hidden_size == backward.hidden_size:
        ways: dict[str, Any] = {
            "forward": replace(backward, go_backwards=forward.go_backwards),
            "backward": replace(forward, go_backwards=backward.go_backwards),
        }
        yield Option("weights of the directions exchanged", "the forward direction comes first", replace(layer, **ways))
    for mode in ("sum", "mul", "ave"):
        if layer.merge_mode in ("sum", "mul", "ave") and layer.merge_mode != mode:
            changes: dict[str, Any] = {"merge_mode": mode}
            yield Option(f"directions merged by {mode}", f"merge them by {layer.merge_mode}", replace(layer, **changes))
    if layer.merge_mode == "concat":
        units = forward.hidden_size
        yield Option("outputs of the directions exchanged", "the forward direction's come first",
                     changed_output(lambda y: np.concatenate([y[..., units:], y[..., :units]], axis=-1)))  # fmt: skip
        if layer.return_sequences is not False:
            axis = 0 if layer.time_major else 1

            def not_reversed(y: Any) -> Any:
                return np.concatenate([y[..., :units], np.flip(y[..., units:], axis)], axis=-1)

            fix = "flip the backward direction along time before it is merged"
            yield Option("backward output not re-reversed", fix, changed_output(not_reversed))


def _about_time(layer: LSTMLayer | RecurrentLayer) -> Iterator[Option]:
    turned: dict[str, Any] = {"forward": replace(layer.forward, go_backwards=not layer.forward.go_backwards)}
    if layer.backward is not None:
        turned["backward"] = replace(layer.backward, go_backwards=not layer.backward.go_backwards)
    yield Option("time reversed", "run every direction the other way", replace(layer, **turned))
    if layer.return_sequences is not False:
        axis = 0 if layer.time_major else 1
        yield Option(
            "outputs in the opposite order of time", "flip them along time", changed_output(lambda y: np.flip(y, axis))
        )
