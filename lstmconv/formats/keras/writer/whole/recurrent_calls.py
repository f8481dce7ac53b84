"""How a call of a recurrent layer is written: its states, its mask, and what stands in for what Keras has not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.keras.writer.nodes import Inbound, Part, Ref
from lstmconv.formats.keras.writer.whole.building import Builder
from lstmconv.formats.keras.writer.whole.kinds import stored
from lstmconv.formats.keras.writer.whole.recurrent import halves_alone, recurrent
from lstmconv.model import Call, LSTMLayer, RecurrentLayer, Stack, Tensor

__all__ = ["call_recurrent", "call_stack"]


def call_recurrent(builder: Builder, call: Call, layer: LSTMLayer | RecurrentLayer) -> None:
    """Write one recurrent layer, as several where this Keras has none that computes it."""
    mask = builder.tensor(call.masks[0]) if call.masks and call.masks[0] is not None else None
    x = builder.tensor(call.inputs[0], unmasked=mask is None)
    states = _states(builder, call, x)
    if layer.time_major and builder.dialect.major == 3:
        _batch_major(builder, call, layer, x, states, masked=mask is not None)
        return
    if _apart(builder, layer, masked=mask is not None):
        refs = _halves(builder, call, layer, x, states, mask)
    else:
        refs = _run(builder, call, layer, x, states, mask)
    for index, ref in enumerate(refs):
        builder.value(Tensor(call.name, index), ref)
    if mask is not None and layer.return_sequences is not False:
        builder.keeps_mask(Tensor(call.name))


def _apart(builder: Builder, layer: LSTMLayer | RecurrentLayer, *, masked: bool) -> bool:
    """Whether the halves of a Bidirectional must be layers of their own.

    Up to Keras 2.3 it repeats the last output at masked steps, later ones return zeros; Keras 3 refuses one whose
    forward half runs backwards.
    """
    if layer.backward is None:
        return False
    repeats = masked and layer.return_sequences is not False and not layer.zero_output_for_mask
    return repeats or (layer.forward.go_backwards and builder.dialect.major == 3)


def _halves(
    builder: Builder, call: Call, layer: LSTMLayer | RecurrentLayer, x: Ref, states: list[Ref], mask: Ref | None
) -> list[Ref]:
    """Write a Bidirectional as two layers, the flip of the second's sequence, and the join of both."""
    alone = halves_alone(layer)
    count = len(states) // 2
    found = []
    for half, begun in zip(alone, (states[:count], states[count:]), strict=True):
        if half.name not in builder.nodes and builder.free(half.name) != half.name:
            raise UnsupportedModelError(f"its halves become layers, and another has the name {half.name!r}")
        zeros = replace(half, zero_output_for_mask=layer.zero_output_for_mask)
        found.append(_run(builder, call, zeros, x, begun, mask))
    (first, *forward_states), (second, *backward_states) = found
    shape, dtype = builder.shapes[Tensor(call.name)], str(builder.dtype)
    for ref, half in zip((first, second), alone, strict=True):
        builder.specs[ref] = ((*shape[:-1], half.forward.hidden_size), dtype)
    if layer.return_sequences is not False:
        second = builder.function(builder.free(f"{layer.name}_flip"), "flip", (second,), {"axis": [1]})
    returned = [first, second] if layer.merge_mode == "none" else [_joined(builder, call, layer, first, second)]
    return [*returned, *forward_states, *backward_states]


def _joined(builder: Builder, call: Call, layer: LSTMLayer | RecurrentLayer, first: Ref, second: Ref) -> Ref:
    """Join both halves; no mask of theirs reaches what joins them."""
    own = builder.name_of(call)
    if layer.merge_mode == "concat":
        bare = builder.function(builder.free(f"{layer.name}_unmasked"), "add", (first, np.zeros(())), {})
        return builder.layer(own, Part("Concatenate", {"axis": -1}), Inbound(([bare, second],), {}))
    if layer.merge_mode != "ave":
        return builder.function(own, {"sum": "add", "mul": "multiply"}[layer.merge_mode], (first, second), {})
    total = builder.function(builder.free(f"{layer.name}_sum"), "add", (first, second), {})
    return builder.function(own, "multiply", (total, np.array(0.5)), {})


def _states(builder: Builder, call: Call, x: Ref) -> list[Ref]:
    """Return the initial states; a constant is added to zeros of the batch's size: what is less than itself."""
    found: list[Ref] = []
    zeros: Ref | None = None
    for state in call.states:
        value = builder.values[state]
        if isinstance(value, Ref):
            found.append(value)
            continue
        if zeros is None:
            key = [slice(None), 0, slice(0, 1)]
            name = call.layer.name
            shape = (builder.specs[x][0][0], 1)
            step = builder.function(builder.free(f"{name}_step"), "get_item", (x, key), {})
            builder.specs[step] = (shape, str(builder.dtype))
            never = builder.function(builder.free(f"{name}_never"), "less", (step, step), {})
            builder.specs[never] = (shape, "bool")
            zeros = builder.function(builder.free(f"{name}_zeros"), "cast", (never,), {"dtype": str(builder.dtype)})
            builder.specs[zeros] = (shape, str(builder.dtype))
        units = call.layer.directions[0].hidden_size  # type: ignore[union-attr]  # a recurrent layer
        rows = value.shape[0] if value.ndim > 1 else 1
        constant = stored(np.broadcast_to(value, (rows, units)), builder.dtype)
        ref = builder.function(builder.free(f"{call.layer.name}_state"), "add", (zeros, constant), {})
        builder.specs[ref] = ((builder.specs[x][0][0], units), str(builder.dtype))
        found.append(ref)
    return found


def _run(
    builder: Builder, call: Call, layer: LSTMLayer | RecurrentLayer, x: Ref, states: list[Ref], mask: Ref | None
) -> list[Ref]:
    """Call one recurrent layer; return all it returns."""
    place = builder.place(call)
    part = recurrent(layer, place)
    kwargs: dict[str, Any] = {} if mask is None else {"mask": mask}
    if builder.dialect.major == 3:
        kwargs |= {"initial_state": states} if states else {}
        inbound = Inbound((x,), kwargs)
    else:
        inbound = Inbound(([x, *states],) if states else (x,), kwargs)
    ref = builder.layer(layer.name, part, inbound, builder.shapes[call.inputs[0]])
    letters = 2 if isinstance(layer, LSTMLayer) else 1
    sequences = 2 if layer.backward is not None and layer.merge_mode == "none" else 1
    count = sequences + (letters * len(layer.directions) if layer.return_state else 0)
    return [Ref(ref.node, ref.call, index) for index in range(count)]


def _batch_major(
    builder: Builder, call: Call, layer: LSTMLayer | RecurrentLayer, x: Ref, states: list[Ref], *, masked: bool
) -> None:
    """Exchange time and batch before and behind a layer: Keras 3 has no time_major."""
    if masked:
        raise UnsupportedModelError("Keras 3 has no time_major, and a mask reaches the layer")
    time, batch, features = builder.shapes[call.inputs[0]]
    turned = builder.function(builder.free(f"{layer.name}_batch_major"), "transpose", (x,), {"axes": [1, 0, 2]})
    builder.specs[turned] = ((batch, time, features), str(builder.dtype))
    inner = replace(layer, time_major=False)
    shapes, builder.shapes[call.inputs[0]] = builder.shapes[call.inputs[0]], (batch, time, features)
    refs = _run(builder, call, inner, turned, states, None)
    builder.shapes[call.inputs[0]] = shapes
    sequences = 2 if layer.backward is not None and layer.merge_mode == "none" else 1
    for index, ref in enumerate(refs):
        tensor = Tensor(call.name, index)
        shape = builder.shapes[tensor]
        if index < sequences and layer.return_sequences is not False:
            builder.specs[ref] = ((shape[1], shape[0], shape[2]), str(builder.dtype))
            own = builder.free(f"{layer.name}_time_major")
            ref = builder.function(own, "transpose", (ref,), {"axes": [1, 0, 2]})
        builder.value(tensor, ref)


def call_stack(builder: Builder, call: Call, layer: Stack) -> None:
    """Run the layers of an RNN of several cells one after another."""
    mask = builder.tensor(call.masks[0]) if call.masks and call.masks[0] is not None else None
    x = builder.tensor(call.inputs[0], unmasked=mask is None)
    states = _states(builder, call, x)
    last, returned = layer.last, []
    shape = builder.shapes[call.inputs[0]]
    outputs: list[Ref] = []
    for own in layer.layers:
        one = own if own is last else replace(own, return_sequences=True, return_state=last.return_state)
        count = 2 * len(own.directions)
        begun, states = states[:count], states[count:]
        taken = Tensor(f"{call.name}/{own.name}/x")
        alone = Call(own.name, one, (taken,))
        builder.shapes[taken] = shape
        outputs = _run(builder, alone, one, x, begun, mask)
        x, shape = outputs[0], (*shape[:-1], own.output_size)
        builder.specs[x] = (shape, str(builder.dtype))
        returned += outputs[1:]
        if mask is not None and own is not last and own.go_backwards and not own.bidirectional:
            # The layers above take the steps in the order in which this one ran.
            mask = builder.function(builder.free(f"{own.name}_mask"), "flip", (mask,), {"axis": [1]})
    for index, ref in enumerate([outputs[0], *returned]):
        builder.value(Tensor(call.name, index), ref)
    if mask is not None and last.return_sequences is not False:
        builder.keeps_mask(Tensor(call.name))
