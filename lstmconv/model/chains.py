"""Find the LSTM layers of a graph that feed each other, which a stack may join, and the layers that a mask reaches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from lstmconv.model.graph import Call, Layer, Model, Tensor, TimeDistributed
from lstmconv.model.kinds import Activate, Identity
from lstmconv.model.layers import LSTMLayer, Stack

__all__ = ["Chains", "chains_of", "lstm_layers", "stacks_of", "with_masking"]


class Chains(NamedTuple):
    """The LSTM layers that feed each other.

    Attributes:
        edges: ``(a, b)``: ``b`` reads only the sequence of ``a``. Nothing between them computes at inference, ``b`` has
            no initial state, the same mask reaches both, and each is called once.
        branching: Layers whose sequence has several readers; the model's outputs count as readers.
    """

    edges: tuple[tuple[str, str], ...]
    branching: tuple[str, ...]


def lstm_layers(model: Model) -> tuple[LSTMLayer, ...]:
    """Return all LSTM layers in the order of their first calls, with each layer of a stack."""
    return tuple(layer for each in model.layers for layer in _own_layers(each))


def stacks_of(model: Model) -> tuple[Stack, ...]:
    """Return the layers that are stacks in the model itself: ``RNN([cell, cell])``."""
    return tuple(layer for layer in model.layers if isinstance(layer, Stack))


def chains_of(model: Model) -> Chains:
    """Find the chains of a model and of the models inside TimeDistributed."""
    edges: list[tuple[str, str]] = []
    branching: list[str] = []
    for each in _models(model):
        origins = _origins(each)
        single = {id(layer) for layer, count in Counter(call.layer for call in each.calls).items() if count == 1}
        by_name = {call.name: call for call in each.calls}
        readers: Counter[Tensor] = Counter()
        for call in each.calls:
            if not _passes(call.layer):
                readers.update({origins.get(tensor, tensor) for tensor in call.reads})
            edges += _inside(call.layer)
            below = by_name.get(origins.get(call.inputs[0], call.inputs[0]).source) if call.inputs else None
            if below is not None and _feeds(below, call, origins) and single >= {id(below.layer), id(call.layer)}:
                edges.append((_own_layers(below.layer)[-1].name, _own_layers(call.layer)[0].name))
        readers.update(origins.get(tensor, tensor) for tensor in each.outputs.values())
        read = [call for call in each.calls if _own_layers(call.layer) and readers[Tensor(call.name)] > 1]
        branching += [_own_layers(call.layer)[-1].name for call in read]
    return Chains(tuple(dict.fromkeys(edges)), tuple(dict.fromkeys(branching)))


def _feeds(below: Call, call: Call, origins: dict[Tensor, Tensor]) -> bool:
    return (
        bool(_own_layers(below.layer) and _own_layers(call.layer))
        and origins.get(call.inputs[0], call.inputs[0]).index == 0
        and len(call.inputs) == 1
        and not call.states
        and call.masks == below.masks
    )


def _origins(model: Model) -> dict[Tensor, Tensor]:
    """Map the output of each layer that changes nothing at inference to the tensor from which it comes."""
    origins: dict[Tensor, Tensor] = {}
    for call in model.calls:
        if _passes(call.layer):
            origins[Tensor(call.name)] = origins.get(call.inputs[0], call.inputs[0])
    return origins


def _passes(layer: Layer) -> bool:
    return isinstance(layer, Identity) or (isinstance(layer, Activate) and layer.activation.name == "linear")


def _own_layers(layer: Layer) -> tuple[LSTMLayer, ...]:
    if isinstance(layer, Stack):
        return layer.layers
    return (layer,) if isinstance(layer, LSTMLayer) else ()


def _inside(layer: Layer) -> list[tuple[str, str]]:
    names = [each.name for each in _own_layers(layer)]
    return list(pairwise(names))


def _models(model: Model) -> Iterator[Model]:
    yield model
    for layer in model.layers:
        if isinstance(layer, TimeDistributed):
            yield layer.model


def with_masking(model: Model) -> Model:
    """Return the model with :attr:`LSTMLayer.masking` set for layers with a mask in one of their calls."""
    masked = {id(call.layer) for each in _models(model) for call in each.calls if any(call.masks)}
    return _replaced(model, masked, {})


def _replaced(model: Model, masked: set[int], made: dict[int, Layer]) -> Model:
    calls = tuple(replace(call, layer=_marked(call.layer, masked, made)) for call in model.calls)
    return Model(model.name, model.inputs, calls, model.outputs)


def _marked(layer: Layer, masked: set[int], made: dict[int, Layer]) -> Layer:
    if id(layer) not in made:
        marked: Layer = layer
        if isinstance(layer, LSTMLayer) and id(layer) in masked:
            marked = replace(layer, masking=True)
        elif isinstance(layer, Stack) and id(layer) in masked:
            marked = Stack(layer.name, tuple(replace(each, masking=True) for each in layer.layers))
        elif isinstance(layer, TimeDistributed):
            marked = replace(layer, model=_replaced(layer.model, masked, made))
        made[id(layer)] = marked
    return made[id(layer)]
