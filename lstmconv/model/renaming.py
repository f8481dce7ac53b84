"""Give the layers of a model other names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lstmconv.model.graph import Call, Layer, Model, Tensor, TimeDistributed
from lstmconv.model.layers import Stack

__all__ = ["renamed"]


def renamed(model: Model, names: Mapping[str, str]) -> Model:
    """Return a model whose layers have new names, and whose calls are named after them; inputs and outputs stay.

    This includes the layers of a stack and of a model inside TimeDistributed.

    Args:
        model: The model.
        names: New layer names by old ones; other layers keep their names.

    Raises:
        UnsupportedModelError: Two calls would have the same name.
    """
    if not names:
        return model
    layers: dict[int, Layer] = {id(layer): _named(layer, names) for layer in model.layers}
    calls = {call.name: _call_name(call, names) for call in model.calls}

    def moved(tensor: Tensor) -> Tensor:
        return Tensor(calls.get(tensor.source, tensor.source), tensor.index)

    return Model(
        model.name,
        model.inputs,
        tuple(
            Call(
                calls[call.name],
                layers[id(call.layer)],
                tuple(map(moved, call.inputs)),
                tuple(map(moved, call.states)),
                tuple(None if mask is None else moved(mask) for mask in call.masks),
            )
            for call in model.calls
        ),
        {name: moved(tensor) for name, tensor in model.outputs.items()},
    )


def _named(layer: Layer, names: Mapping[str, str]) -> Layer:
    own = names.get(layer.name, layer.name)
    if isinstance(layer, Stack):
        return Stack(own, tuple(replace(one, name=names.get(one.name, one.name)) for one in layer.layers))
    if isinstance(layer, TimeDistributed):
        return replace(layer, name=own, model=renamed(layer.model, names))
    return layer if own == layer.name else replace(layer, name=own)


def _call_name(call: Call, names: Mapping[str, str]) -> str:
    """Return a call's new name: the layer's new name, and the number of the call."""
    old = call.layer.name
    return names[old] + call.name.removeprefix(old) if old in names and call.name.startswith(old) else call.name
