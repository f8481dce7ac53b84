"""How conversions go wrong about a recurrent layer inside of a model.

The LSTM's own catalogue (:mod:`lstmconv.proof.mistakes`) is used; of a layer that takes long to compute, a part of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np

from lstmconv.model import (
    GATES,
    Call,
    Gates,
    GRUDirection,
    LSTMDirection,
    LSTMLayer,
    RecurrentLayer,
    SimpleRNNDirection,
    Stack,
)
from lstmconv.model.recurrent import GRU_GATES
from lstmconv.proof.mistakes import Mistake, mistakes_of, wrong
from lstmconv.proof.models.layer_mistakes import Option, activations_for
from lstmconv.proof.models.variants import Found
from lstmconv.proof.power import weights_of
from lstmconv.semantics.graph import compute

__all__ = ["recurrent_options"]

_SECONDS = 1.5
"""So long may the mistakes about one direction take."""
_FEWEST = 12
_STEP, _PRODUCT = 1e-4, 4e-10
"""What a step costs in seconds, and beside it each product of a weight and a sequence."""


def recurrent_options(layer: LSTMLayer | RecurrentLayer | Stack, steps: int, batch: int) -> Iterator[Option]:
    """Yield the wrong versions of a recurrent layer that is given ``batch`` sequences of ``steps``."""
    if isinstance(layer, Stack):
        for number, own in enumerate(layer.layers):
            for option in recurrent_options(own, steps, batch):
                if isinstance(option.instead, LSTMLayer):
                    layers = (*layer.layers[:number], option.instead, *layer.layers[number + 1 :])
                    yield Option(f"{option.text} in {own.name}", option.fix, Stack(layer.name, layers))
        return
    for half, direction in enumerate(layer.directions):
        where = (" in the forward half", " in the backward half")[half] if layer.backward is not None else ""
        weights = direction.hidden_size * (direction.hidden_size + direction.input_size) * 4
        most = max(_FEWEST, int(_SECONDS / (steps * (_STEP + _PRODUCT * weights * batch))))
        for text, fix, instead in _sampled(list(_directions(direction)), most):
            changed = replace(layer, **{("forward", "backward")[half]: instead})
            yield Option(text + where, fix, changed)
    yield from _about_halves(layer)
    yield from _about_time(layer)


def _sampled(found: Sequence[tuple[str, str, Any]], most: int) -> Sequence[tuple[str, str, Any]]:
    """Take so many at most: every second, third, ..."""
    return found[:: -(-len(found) // most)]


def _directions(direction: LSTMDirection | GRUDirection | SimpleRNNDirection) -> Iterator[tuple[str, str, Any]]:
    if isinstance(direction, LSTMDirection):
        return _lstm(direction)
    if isinstance(direction, GRUDirection):
        return _gru(direction)
    return _simple(direction)


def _lstm(direction: LSTMDirection) -> Iterator[tuple[str, str, Any]]:
    act, rec = direction.activation, direction.recurrent_activation
    if act is None or rec is None:
        return
    weights = weights_of(direction)
    for mistake in sorted(mistakes_of(weights, act, rec), key=_is_rare):
        if mistake.kind == "same":
            continue
        changed = wrong(mistake, weights)
        activations = mistake.activations or (act, rec)
        instead = replace(
            direction,
            weight_ih=Gates(*changed.ih),
            weight_hh=Gates(*changed.hh),
            bias_ih=None if changed.bias_ih is None else Gates(*changed.bias_ih),
            bias_hh=None if changed.bias_hh is None else Gates(*changed.bias_hh),
            activation=activations[0],
            recurrent_activation=activations[1],
        )
        yield mistake.text, mistake.fix, instead


def _is_rare(mistake: Mistake) -> bool:
    """Whether gates stand in an order of no format: what is left out first."""
    moved = sum(
        gate != found for gate, found in zip(GATES, max(mistake.orders, key=lambda order: order != GATES), strict=True)
    )
    return moved > 2 and "order" not in mistake.text


def _gru(direction: GRUDirection) -> Iterator[tuple[str, str, Any]]:
    for order in map("".join, permutations(GRU_GATES)):
        if order == GRU_GATES:
            continue
        places = [GRU_GATES.index(gate) for gate in order]
        text = f"gates z r h read as {' '.join(order)}"
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
        yield Option("weights of the directions exchanged", "the forward half comes first", replace(layer, **ways))
    for mode in ("sum", "mul", "ave"):
        if layer.merge_mode in ("sum", "mul", "ave") and layer.merge_mode != mode:
            changes: dict[str, Any] = {"merge_mode": mode}
            yield Option(f"halves merged by {mode}", f"merge them by {layer.merge_mode}", replace(layer, **changes))
    if layer.merge_mode == "concat":
        units = forward.hidden_size
        yield Option("outputs of the halves exchanged", "the forward half's come first",
                     _first_output(lambda y: np.concatenate([y[..., units:], y[..., :units]], axis=-1)))  # fmt: skip
        if layer.return_sequences is not False:
            axis = 0 if layer.time_major else 1

            def not_reversed(y: Any) -> Any:
                return np.concatenate([y[..., :units], np.flip(y[..., units:], axis)], axis=-1)

            fix = "flip the backward half along time before it is merged"
            yield Option("backward output not re-reversed", fix, _first_output(not_reversed))


def _about_time(layer: LSTMLayer | RecurrentLayer) -> Iterator[Option]:
    turned: dict[str, Any] = {"forward": replace(layer.forward, go_backwards=not layer.forward.go_backwards)}
    if layer.backward is not None:
        turned["backward"] = replace(layer.backward, go_backwards=not layer.backward.go_backwards)
    yield Option("time reversed", "run every direction the other way", replace(layer, **turned))
    if layer.return_sequences is not False:
        axis = 0 if layer.time_major else 1
        yield Option(
            "outputs in the opposite order of time", "flip them along time", _first_output(lambda y: np.flip(y, axis))
        )


def _first_output(change: Any) -> Any:
    def instead(call: Call, inputs: Sequence[Any], states: Any, masks: Sequence[Any]) -> Found:
        found, after = compute(call.layer, inputs, states, masks)
        return (change(found[0]), *found[1:]), after

    return instead
