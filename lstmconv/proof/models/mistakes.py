"""The catalogue for whole models: how a conversion goes wrong about a layer, between layers, and about the whole.

Each is a model with a few calls replaced (:class:`~lstmconv.proof.models.variants.Wrong`); what is wrong about
one layer is a row of ``kinds`` and ``recurrent_mistakes``, what is wrong about its surroundings is here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from lstmconv.model import Call, Layer, LSTMLayer, Model, RecurrentLayer, Stack, Tensor, TimeDistributed, kinds
from lstmconv.model.shapes import infer
from lstmconv.proof.mistakes import Mistake
from lstmconv.proof.models.inputs import ModelTrial
from lstmconv.proof.models.kinds import options_of
from lstmconv.proof.models.kinds.option import Option
from lstmconv.proof.models.recurrent_mistakes import rare_options, recurrent_options
from lstmconv.proof.models.variants import Found, Replaced, Wrong
from lstmconv.proof.sizes import directions_of, weights_in
from lstmconv.semantics.cells import state_letters
from lstmconv.semantics.graph import compute, is_streamed

__all__ = ["rare_models", "wrong_models"]

_OPERATIONS = 10**10
"""The operations that mistakes about all recurrent layers may take: about two seconds."""
_GATES = 500
"""Operations that the gates of a unit take in a step, without the products."""
_FEWEST = 6
_PAIRS = 30
"""Pairs of layers whose weights are exchanged, at most."""


def wrong_models(model: Model, trial: ModelTrial) -> list[Wrong]:
    """List the wrong versions of a model, those of one layer together."""
    found: list[Wrong] = []
    most = _most(model, trial)
    for call in model.calls:
        if model.calls_of(call.layer)[0] is call:
            shapes = [trial.values[tensor].shape for tensor in call.inputs]
            found += _about_layer(model, call, _options(call.layer, shapes, most))
        found += _about_call(call, trial)
    found += _about_weights(model)
    found += _about_inputs(model)
    return found


def _most(model: Model, trial: ModelTrial) -> int:
    """Return how many mistakes about one direction of a recurrent layer are computed at most: few for a large model."""
    operations = 0
    directions = 1
    for call in model.calls:
        tensors = [Tensor(call.name), *call.inputs]
        places = max(int(np.prod(trial.values[tensor].shape[:-1])) for tensor in tensors)
        units = sum(direction.hidden_size for direction in directions_of(call.layer))
        operations += (2 * weights_in(call.layer) + _GATES * units) * places
        directions += len(directions_of(call.layer))
    return max(_FEWEST, _OPERATIONS // (operations * directions + 1))


def rare_models(model: Model, trial: ModelTrial) -> list[Wrong]:
    """List the wrong versions that are computed only where a file fails: LSTM gates in an order of no format."""
    most = _most(model, trial)
    firsts = (call for call in model.calls if model.calls_of(call.layer)[0] is call)
    return [wrong for call in firsts for wrong in _about_layer(model, call, rare_options(call.layer, most))]


def _about_layer(model: Model, first: Call, options: Iterable[Option]) -> Iterator[Wrong]:
    """Replace a layer by its wrong versions, in all of its calls."""
    layer = first.layer
    for option in options:
        calls: dict[str, Replaced] = {}
        for call in model.calls_of(layer):
            calls[call.name] = option.instead if callable(option.instead) else replace(call, layer=option.instead)
        if option.first is not None:
            calls[first.name] = option.first
        yield Wrong(Mistake(option.text, option.fix), layer.name, calls)


def _options(layer: Layer, shapes: Sequence[tuple[int, ...]], most: int) -> Iterator[Option]:
    """Yield the wrong versions of a layer, those that hold the same numbers left out."""
    if isinstance(layer, (LSTMLayer, RecurrentLayer, Stack)):
        yield from recurrent_options(layer, most)
    elif isinstance(layer, TimeDistributed):
        yield from _inside(layer, shapes[0], most)
    else:
        yield from (option for option in options_of(layer, shapes) if not _equal(layer, option.instead))


def _inside(layer: TimeDistributed, shape: tuple[int, ...], most: int) -> Iterator[Option]:
    """Yield what may be wrong about the layers of an inner model."""
    inner = layer.model
    given = inner.inputs[0]._replace(shape=(shape[0] * shape[1], *shape[2:]))
    known = infer(replace(inner, inputs=(given,)))
    for number, call in enumerate(inner.calls):
        shapes: list[Any] = [known[tensor] for tensor in call.inputs]
        for option in _options(call.layer, shapes, most):
            other = option.layer
            if other is not None:
                calls = (*inner.calls[:number], replace(call, layer=other), *inner.calls[number + 1 :])
                text = f"{option.text} in {call.layer.name}" if len(inner.calls) > 1 else option.text
                yield replace(option, text=text, instead=replace(layer, model=replace(inner, calls=calls)))


def _equal(layer: Layer, other: Any) -> bool:
    """Whether two records of a kind hold the same numbers and options."""
    if not isinstance(other, kinds.Kind) or type(other) is not type(layer):
        return False
    for name, value in vars(layer).items():
        instead = getattr(other, name)
        if isinstance(value, np.ndarray) and isinstance(instead, np.ndarray):
            if value.shape != instead.shape or not np.array_equal(value, instead, equal_nan=True):
                return False
        elif value is not instead and (
            isinstance(value, np.ndarray) or isinstance(instead, np.ndarray) or value != instead
        ):
            return False
    return True


# Around a call


def _about_call(call: Call, trial: ModelTrial) -> Iterator[Wrong]:
    """Yield what may be wrong about what reaches a call: masks and states."""
    name = call.layer.name
    if any(mask is not None for mask in call.masks):
        dropped = replace(call, masks=())
        yield Wrong(Mistake("mask dropped", "let the layer leave out what its mask does"), name, {call.name: dropped})
        if isinstance(call.layer, (LSTMLayer, RecurrentLayer)) and call.layer.return_sequences is not False:
            zeros = call.layer.zero_output_for_mask
            other: Layer = replace(call.layer, zero_output_for_mask=not zeros)
            text = "masked steps repeat the last output" if zeros else "masked steps return zeros"
            fix = "they return " + ("zeros" if zeros else "the last output again")
            yield Wrong(Mistake(text, fix), name, {call.name: replace(call, layer=other)})
    if call.states:
        pass_on = "pass the states on"
        yield Wrong(Mistake("initial states dropped", pass_on), name, {call.name: replace(call, states=())})
        if len(_letters(call.layer)) == 2:
            pairs = [call.states[place : place + 2] for place in range(0, len(call.states), 2)]
            swapped = tuple(state for pair in pairs for state in reversed(pair))
            exchanged = replace(call, states=swapped)
            yield Wrong(Mistake("initial h and c exchanged", "h comes first, then c"), name, {call.name: exchanged})
    elif is_streamed(call, trial.inputs):
        yield Wrong(Mistake("initial states dropped", "pass them on"), name, {call.name: _without_states})
        if len(_letters(call.layer)) == 2:
            exchange = Mistake("initial h and c exchanged", "h comes first, then c")
            yield Wrong(exchange, name, {call.name: _with_swapped_states})


def _letters(layer: Layer) -> str:
    return state_letters(layer) if isinstance(layer, (LSTMLayer, RecurrentLayer, Stack)) else ""


def _without_states(call: Call, inputs: Sequence[Any], _: Any, masks: Sequence[Any]) -> Found:
    return compute(call.layer, inputs, None, masks)


def _with_swapped_states(call: Call, inputs: Sequence[Any], states: Any, masks: Sequence[Any]) -> Found:
    swapped = [state for place in range(0, len(states), 2) for state in (states[place + 1], states[place])]
    return compute(call.layer, inputs, swapped, masks)


# Between layers


def _about_weights(model: Model) -> Iterator[Wrong]:
    """Yield exchanges of the weights of two layers that have the same shapes."""
    layers = list({id(call.layer): call.layer for call in model.calls}.values())
    pairs = 0
    for a, b in combinations(layers, 2):
        exchanged = _exchanged(a, b)
        if exchanged is None or pairs >= _PAIRS:
            continue
        pairs += 1
        calls: dict[str, Replaced] = {}
        for layer, instead in zip((a, b), exchanged, strict=True):
            calls |= {call.name: replace(call, layer=instead) for call in model.calls_of(layer)}
        mistake = Mistake(f"weights of {a.name} and {b.name} exchanged", "take each layer's by its name")
        yield Wrong(mistake, "", calls)


def _exchanged(a: Layer, b: Layer) -> tuple[Layer, Layer] | None:
    """Return two layers with each other's weights; ``None`` where they cannot be taken for each other."""
    if type(a) is not type(b):
        return None
    if isinstance(a, kinds.Kind) and isinstance(b, kinds.Kind):
        shapes = [{name: array.shape for name, array in layer.arrays.items()} for layer in (a, b)]
        if isinstance(a, (kinds.Unknown, kinds.Constant)) or not shapes[0] or shapes[0] != shapes[1]:
            return None
        if all(np.array_equal(array, b.arrays[name]) for name, array in a.arrays.items()):
            return None
        arrays: dict[str, Any] = dict(a.arrays)
        others: dict[str, Any] = dict(b.arrays)
        return replace(a, **others), replace(b, **arrays)
    if isinstance(a, (LSTMLayer, RecurrentLayer)) and isinstance(b, (LSTMLayer, RecurrentLayer)):
        return _exchanged_directions(a, b)
    return None


def _exchanged_directions(a: LSTMLayer | RecurrentLayer, b: LSTMLayer | RecurrentLayer) -> tuple[Layer, Layer] | None:
    shapes = [
        [(type(half), half.weight_ih.shape, half.weight_hh.shape) for half in layer.directions] for layer in (a, b)
    ]
    if shapes[0] != shapes[1]:
        return None
    return _with_arrays_of(a, b), _with_arrays_of(b, a)


def _with_arrays_of(layer: LSTMLayer | RecurrentLayer, other: LSTMLayer | RecurrentLayer) -> Layer:
    """Return a layer with another's arrays; the options of its directions stay."""
    options = ("activation", "recurrent_activation", "reset_after", "go_backwards")
    halves: list[Any] = [
        replace(theirs, **{name: getattr(own, name) for name in options if hasattr(theirs, name)})
        for own, theirs in zip(layer.directions, other.directions, strict=True)
    ]
    return layer.with_directions(halves)


def _about_inputs(model: Model) -> Iterator[Wrong]:
    """Yield exchanges of two inputs that could be given for each other."""
    for a, b in combinations(model.inputs, 2):
        if a.shape != b.shape or a.dtype != b.dtype:
            continue
        other = {Tensor(a.name): Tensor(b.name), Tensor(b.name): Tensor(a.name)}
        calls: dict[str, Replaced] = {
            call.name: replace(
                call,
                inputs=tuple(other.get(tensor, tensor) for tensor in call.inputs),
                states=tuple(other.get(tensor, tensor) for tensor in call.states),
                masks=tuple(None if mask is None else other.get(mask, mask) for mask in call.masks),
            )
            for call in model.calls
            if any(tensor in other for tensor in call.reads)
        }
        yield Wrong(Mistake(f"inputs {a.name} and {b.name} exchanged", "take each by its name"), "", calls)
