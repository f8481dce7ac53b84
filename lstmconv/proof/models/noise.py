"""The noise of a model's outputs: each operation's rounding is drawn at random, through the whole graph.

This is what :mod:`lstmconv.proof.rounding` does for one LSTM. The graph is computed :data:`DRAWS` times (twice where
all tensors are wide) in float64 with roundings as large as the target's. An output may deviate by the largest deviation
seen, times :data:`SPREAD_MARGIN`. No upper bound is computed: after several layers it would be too wide to be of use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lstmconv.activations import LINEAR
from lstmconv.model import Array, Layer, LSTMLayer, Model, RecurrentLayer, Stack, Tensor, TimeDistributed, kinds
from lstmconv.proof.models.inputs import ModelTrial
from lstmconv.proof.models.variants import along
from lstmconv.proof.noise import Noise
from lstmconv.proof.rounding import ACTIVATION_ERROR, DRAWS, SPREAD_MARGIN, Roundings, drawn
from lstmconv.runtimes import Precision
from lstmconv.semantics.graph import compute, final_states, initial_states, is_streamed

__all__ = ["noise_of"]

_MANY = 8
_FEW_DRAWS = 2
"""With 8 features each step is then sampled twice as often as a single unit is by 8 draws."""

Float64: TypeAlias = npt.NDArray[np.float64]
Arrays: TypeAlias = "Sequence[Array]"


def noise_of(model: Model, trial: ModelTrial, precision: Precision) -> Noise:
    """Measure what rounding does to a trial's outputs, array by array and, of sequences, step by step."""
    inputs = {Tensor(entry.name): trial.inputs[entry.name] for entry in model.inputs}
    rounded = _Rounded(precision, _draws(trial))
    values = {tensor: np.broadcast_to(array, (rounded.draws, *array.shape)) for tensor, array in inputs.items()}
    final = _run(model, values, trial.inputs, rounded)
    found = {name: values[tensor] for name, tensor in model.outputs.items()} | final
    return Noise({name: _allowed(found[name], expected) for name, expected in trial.expected.items()}, "spread")


def _draws(trial: ModelTrial) -> int:
    """Return how often to draw: seldom where every tensor of floats has many features, all of them samples too.

    Where one has few, what follows depends on few roundings, however wide it is.
    """
    features = [array.shape[-1] for array in trial.values.values() if array.ndim > 1 and array.dtype.kind == "f"]
    return DRAWS if min(features, default=0) < _MANY else _FEW_DRAWS


def _allowed(drawn: Array, expected: Float64) -> Float64:
    off = np.abs(np.nan_to_num(drawn.astype(np.float64) - expected, nan=0.0, posinf=0.0, neginf=0.0))
    by_step = off.ndim == 4  # (draws, batch, time, features)
    widest = off.max(axis=(0, 1, 3), initial=0.0)[:, None] if by_step else off.max(initial=0.0)
    return np.broadcast_to(SPREAD_MARGIN * widest, expected.shape)


def _run(
    model: Model, values: dict[Tensor, Array], given: Mapping[str, Array], rounded: _Rounded
) -> dict[str, Float64]:
    """Compute all calls on arrays ``(draws, ...)``; return the final states."""
    final: dict[str, Float64] = {}
    for call in model.calls:
        inputs = [values[tensor] for tensor in call.inputs]
        states: list[Array] | None = [values[tensor] for tensor in call.states] or None
        streamed = is_streamed(call, given)
        if streamed:
            begun = initial_states(call, given, inputs[0][0])
            states = [np.broadcast_to(state, (rounded.draws, *state.shape)) for state in begun]
        masks = [None if mask is None else values[mask] for mask in call.masks]
        found, after = along(call.layer, inputs, states, masks, rounded, rounded.draws)
        values |= {Tensor(call.name, index): array for index, array in enumerate(found)}
        if streamed:
            by_draw = [final_states(call, [state[draw] for state in after]) for draw in range(rounded.draws)]
            final |= {name: np.stack([each[name] for each in by_draw]) for name in by_draw[0]}
    return final


class _Rounded:
    """Computes one call with roundings, as :func:`lstmconv.semantics.graph.compute` does without."""

    def __init__(self, precision: Precision, draws: int) -> None:
        """Take what the target computes in, and how many draws stand one after another in each batch."""
        self.draw = Roundings(precision)
        self.draws = draws
        self._precision = precision
        self._calls = 0

    def __call__(
        self, layer: Layer, inputs: Arrays, states: Arrays | None, masks: Sequence[Any]
    ) -> tuple[tuple[Array, ...], tuple[Float64, ...]]:
        self._calls += 1
        if isinstance(layer, (LSTMLayer, RecurrentLayer, Stack)):
            return self._recurrent(layer, inputs, states, masks)
        if isinstance(layer, TimeDistributed):
            return (self._time_distributed(layer, inputs[0]),), ()
        rule = _RULES.get(type(layer))
        if rule is None:
            found, after = compute(layer, inputs, None, masks)
        else:
            found, after = rule(self.draw, layer, inputs, masks), ()
        stored = type(layer) not in _EXACT
        return tuple(
            self.draw.narrowed(array) if stored and array.dtype.kind == "f" else array for array in found
        ), after

    def _recurrent(
        self, layer: LSTMLayer | RecurrentLayer | Stack, inputs: Arrays, states: Arrays | None, masks: Sequence[Any]
    ) -> tuple[tuple[Array, ...], tuple[Float64, ...]]:
        """Give the cells, which draw along an axis in front, the draws apart where one mask is all draws'."""
        cell = drawn(self._precision, self._calls)
        mask = next(iter(masks), None)
        draws = 1
        if not getattr(layer.first if isinstance(layer, Stack) else layer, "time_major", False):
            each = None if mask is None else mask.reshape(self.draws, -1, *mask.shape[1:])
            if each is None or (each == each[:1]).all():
                draws, masks = self.draws, [None if each is None else each[0]]

        def ahead(array: Array) -> Array:
            return array.reshape(draws, len(array) // draws, *array.shape[1:])

        def behind(array: Array) -> Array:
            return array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])

        begun = None if states is None else [ahead(state) for state in states]
        found, after = compute(layer, [ahead(array) for array in inputs], begun, masks, cell)
        return tuple(map(behind, found)), tuple(map(behind, after))

    def _time_distributed(self, layer: TimeDistributed, x: Array) -> Array:
        inner = layer.model
        values = {Tensor(inner.inputs[0].name): x.reshape(1, x.shape[0] * x.shape[1], *x.shape[2:])}
        for call in inner.calls:
            given = [values[tensor][0] for tensor in call.inputs]
            begun = [values[tensor][0] for tensor in call.states] or None
            masks = [None if mask is None else values[mask][0] for mask in call.masks]
            found, _ = self(call.layer, given, begun, masks)
            values |= {Tensor(call.name, index): array[None] for index, array in enumerate(found)}
        (tensor,) = inner.outputs.values()
        output: Array = values[tensor][0]
        return output.reshape(*x.shape[:2], *output.shape[1:])


Rule: TypeAlias = "Callable[[Roundings, Any, Arrays, Sequence[Any]], tuple[Array, ...]]"


def _exactly(layer: Layer, inputs: Arrays, masks: Sequence[Any] = ()) -> Array:
    found: tuple[Array, ...] = compute(layer, inputs, None, masks)[0]
    return found[0]


def _weighted(draw: Roundings, layer: Any, inputs: Arrays, _: Sequence[Any]) -> tuple[Array, ...]:
    """Round the sums of a layer with a kernel, then its activation."""
    linear = replace(layer, activation=LINEAR)
    bias = None if layer.bias is None else np.square(np.asarray(layer.bias, np.float64))
    squared = replace(linear, kernel=np.square(np.asarray(layer.kernel, np.float64)), bias=bias)
    filters = layer.kernel.shape[-2 if isinstance(layer, kinds.TransposedConvolution) else -1]
    z = _exactly(linear, inputs)
    q = _exactly(squared, [np.square(np.asarray(inputs[0], np.float64))])
    return (draw.activated(layer.activation, draw.summed(z, q, layer.kernel.size // filters + 1)),)


def _activate(draw: Roundings, layer: kinds.Activate, inputs: Arrays, masks: Sequence[Any]) -> tuple[Array, ...]:
    value = _exactly(layer, inputs, masks)
    if not layer.activation.coupled:
        return (draw.activated(layer.activation, np.asarray(inputs[0], np.float64)),)
    size = np.maximum(np.abs(value), 1.0) + np.abs(value) * np.abs(inputs[0]).max(initial=0.0)
    return (draw.moved(value, ACTIVATION_ERROR * size),)


def _pooling(draw: Roundings, layer: Any, inputs: Arrays, masks: Sequence[Any]) -> tuple[Array, ...]:
    value = _exactly(layer, inputs, masks)
    if layer.function == "max":
        return (value,)
    terms = int(np.prod(layer.size)) if isinstance(layer, kinds.Pooling) else max(1, inputs[0][0].size // value[0].size)
    squares = _exactly(layer, [np.square(np.asarray(inputs[0], np.float64))], masks) / terms
    return (draw.rounded(draw.summed(value, squares, terms)),)


def _batch_normalization(draw: Roundings, layer: Any, inputs: Arrays, _: Sequence[Any]) -> tuple[Array, ...]:
    """Allow for ``x * scale + shift`` as well: both terms may be larger than what is left of them."""
    value = _exactly(layer, inputs)
    size = _exactly(_magnitudes(layer), [np.abs(np.asarray(inputs[0], np.float64))])
    return (draw.moved(value, 4 * size + np.abs(value)),)


def _magnitudes(layer: kinds.BatchNormalization) -> kinds.BatchNormalization:
    return replace(
        layer,
        mean=-np.abs(np.asarray(layer.mean, np.float64)),
        gamma=None if layer.gamma is None else np.abs(np.asarray(layer.gamma, np.float64)),
        beta=None if layer.beta is None else np.abs(np.asarray(layer.beta, np.float64)),
    )


def _layer_normalization(
    draw: Roundings, layer: kinds.LayerNormalization, inputs: Arrays, _: Sequence[Any]
) -> tuple[Array, ...]:
    """Allow for a variance that is computed as the mean square less the square of the mean."""
    x = np.asarray(inputs[0], np.float64)
    value = _exactly(layer, inputs)
    unscaled = _exactly(replace(layer, gamma=None, beta=None), inputs)
    count = int(np.prod([x.shape[axis] for axis in layer.axes]))
    mean = np.abs(x.mean(axis=layer.axes, keepdims=True))
    deviation = np.sqrt(x.var(axis=layer.axes, keepdims=True) + layer.epsilon)
    far = mean / deviation
    gamma = 1.0 if layer.gamma is None else float(np.abs(layer.gamma).max(initial=0.0))
    size = gamma * (np.abs(unscaled) * (4 + np.sqrt(count) + np.square(far)) + 4 * far)
    return (draw.moved(value, size + 2 * np.abs(value)),)


def _elementwise(draw: Roundings, layer: Layer, inputs: Arrays, masks: Sequence[Any]) -> tuple[Array, ...]:
    """Round what is made of a few numbers each, as large as the largest of them."""
    value = _exactly(layer, inputs, masks)
    if value.dtype.kind != "f":
        return (value,)
    parts = [np.abs(np.asarray(array, np.float64)) for array in inputs]
    size: Any = np.abs(value)
    if isinstance(layer, kinds.Merge) and layer.operation in ("add", "subtract", "average"):
        size = size + _exactly(kinds.Merge("", "add"), parts)
    elif isinstance(layer, kinds.Operation):
        size = (
            ACTIVATION_ERROR * np.maximum(size, np.minimum(parts[0].max(initial=0.0), 1.0))
            if len(parts) == 1
            else 2 * size
        )
        if layer.function in ("add", "subtract"):
            size = size + parts[0] + parts[1]
    elif isinstance(layer, kinds.Rescaling):
        size = 2 * size + np.abs(np.asarray(layer.offset, np.float64))
    elif isinstance(layer, kinds.Normalization):
        scale = np.maximum(np.sqrt(np.asarray(layer.variance, np.float64)), 1e-7)
        size = 4 * size + 2 * np.abs(np.asarray(layer.mean, np.float64)) * (1.0 if layer.invert else 1.0 / scale)
    return (draw.moved(value, size * max(1, len(inputs) - 1)),)


def _products(draw: Roundings, layer: Layer, inputs: Arrays, masks: Sequence[Any]) -> tuple[Array, ...]:
    """Round sums of products and what is made of them, by moving every number that goes in.

    A sum of n products, however computed, is the exact sum of products each moved by a few roundings.
    """
    terms = max((array.shape[-1] for array in inputs), default=1)
    amount = 2 + np.sqrt(terms)
    moved = [draw.moved(np.asarray(array, np.float64), amount * np.abs(array)) for array in inputs]
    if isinstance(layer, kinds.Kind) and layer.arrays:
        weights: Any = {
            name: draw.moved(np.asarray(array, np.float64), amount * np.abs(array))
            for name, array in layer.arrays.items()
        }
        layer = replace(layer, **weights)
    found, _ = compute(layer, moved, None, masks)
    return tuple(draw.moved(value, ACTIVATION_ERROR * np.abs(value)) for value in found)


def _operation(draw: Roundings, layer: kinds.Operation, inputs: Arrays, masks: Sequence[Any]) -> tuple[Array, ...]:
    """Round a result that is a float, also that of whole numbers: a quotient, or one of them times a float."""
    whole = all(array.dtype.kind != "f" for array in inputs)
    product = layer.function == "matmul" and not whole
    return (_products if product else _elementwise)(draw, layer, inputs, masks)


def _reduce(draw: Roundings, layer: kinds.Reduce, inputs: Arrays, masks: Sequence[Any]) -> tuple[Array, ...]:
    value = _exactly(layer, inputs, masks)
    if layer.function not in ("sum", "mean") or value.dtype.kind != "f":
        return (value,)
    if inputs[0].dtype.kind != "f":  # The sum of whole numbers is exact; the mean divides, or multiplies by 1 / n.
        return (draw.moved(value, 2 * np.abs(value)),)
    terms = max(1, inputs[0].size // max(value.size, 1))
    squares = _exactly(layer, [np.square(inputs[0])]) / (terms if layer.function == "mean" else 1)
    return (draw.rounded(draw.summed(value, squares, terms)),)


def _unit(draw: Roundings, layer: kinds.UnitNormalization, inputs: Arrays, _: Sequence[Any]) -> tuple[Array, ...]:
    value = _exactly(layer, inputs)
    count = int(np.prod([inputs[0].shape[axis] for axis in layer.axes]))
    return (draw.moved(value, (4 + np.sqrt(count)) * np.abs(value)),)


_RULES: Mapping[type[Any], Rule] = {
    kinds.Dense: _weighted,
    kinds.Convolution: _weighted,
    kinds.TransposedConvolution: _weighted,
    kinds.Activate: _activate,
    kinds.PReLU: _elementwise,
    kinds.Pooling: _pooling,
    kinds.GlobalPooling: _pooling,
    kinds.BatchNormalization: _batch_normalization,
    kinds.LayerNormalization: _layer_normalization,
    kinds.UnitNormalization: _unit,
    kinds.Rescaling: _elementwise,
    kinds.Normalization: _elementwise,
    kinds.Merge: _elementwise,
    kinds.Dot: _products,
    kinds.Operation: _operation,
    kinds.Reduce: _reduce,
    kinds.Attention: _products,
    kinds.MultiHeadAttention: _products,
}
_EXACT = (kinds.Identity, kinds.Reshape, kinds.Permute, kinds.RepeatVector, kinds.Pad, kinds.Crop, kinds.Upsample,
          kinds.Concatenate, kinds.Stacking, kinds.Constant, kinds.Slice, kinds.Embedding, kinds.MaskSteps)  # fmt: skip
"""Kinds that only move numbers."""
