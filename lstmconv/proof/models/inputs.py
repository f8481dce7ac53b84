"""The inputs of a model's proof: seeded, and chosen so that wrong conversions show.

Token ids reach the whole table; where a mask is made, sequences are padded on the right, on the left and with holes.
Numbers come in three magnitudes, scaled by the first weights that they meet, so that activations turn and saturate.
Where the batch or the length is open, two of each are run: a file that fixed either fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lstmconv.errors import UnsupportedModelError
from lstmconv.model import Array, Call, Input, LSTMLayer, Model, RecurrentLayer, Shape, Stack, Tensor, kinds
from lstmconv.model.graph import TimeDistributed
from lstmconv.model.shapes import infer
from lstmconv.proof.rounding import limits
from lstmconv.proof.sizes import directions_of, weights_in_direction
from lstmconv.proof.trials import SPREADS, Settings, rounded_inputs
from lstmconv.semantics.graph import Values, run_calls, state_slots

__all__ = ["ModelTrial", "draw_trials"]

Float64: TypeAlias = npt.NDArray[np.float64]

_BATCHES = (5, 2)
_LONG = 1 << 8
"""For this many steps and more, three sequences are run: one of each magnitude, padded right, left and with holes."""
_LENGTHS = (4, 7, 11, 17, 29, 61, 127, 257, 509, 1021)
"""Lengths to try where they are open: 4 have a step from the first state, some from others, and places for padding of
every kind."""
_WINDOWS = 7
"""The shortest where windows run along time: with fewer, no step would have all its neighbours."""
_LONGER = 2
"""The second trial is this much longer."""
_WIDE = 1 << 20
"""If a direction of a recurrent layer has this many weights, few steps of three sequences are run: each takes long."""
_WINDOWED = (kinds.Convolution, kinds.TransposedConvolution, kinds.Pooling, TimeDistributed)
_SAME_PLACES = (kinds.Identity, kinds.Cast, kinds.Reshape, kinds.Permute, kinds.RepeatVector, kinds.Slice,
                kinds.Concatenate, kinds.Stacking, kinds.Pad, kinds.Crop, kinds.Upsample)  # fmt: skip
"""Kinds that hand numbers on as they are."""


@dataclass(frozen=True, eq=False)
class ModelTrial:
    """One set of inputs, and what must come out.

    Attributes:
        inputs: By name, the states too: float64 as the target's dtype holds them, int64 or bool.
        values: All tensors of the graph.
        expected: The outputs, the final states too, by name.
    """

    inputs: Mapping[str, Array]
    values: Values
    expected: Mapping[str, Float64]


def draw_trials(model: Model, streamed: Sequence[Call], stored: str, settings: Settings) -> list[ModelTrial]:
    """Draw two trials, or one where nothing is open.

    Args:
        model: Whose layers are all known.
        streamed: Calls whose states are inputs and outputs of the file.
        stored: The dtype that the target takes.
        settings: The seed.

    Raises:
        UnsupportedModelError: No length fits the model.
    """
    sizes = enumerate(_open_sizes(model))
    return [_draw(model, shapes, streamed, stored, [settings.seed, number]) for number, shapes in sizes]


def _open_sizes(model: Model) -> Iterator[tuple[Shape, ...]]:
    """Yield the inputs' shapes with open sizes filled in."""
    wide = any(weights_in_direction(half) >= _WIDE for call in model.calls for half in directions_of(call.layer))
    windows = any(isinstance(call.layer, _WINDOWED) for call in model.calls) and not wide
    lengths = [length for length in _LENGTHS if not windows or length >= _WINDOWS]
    batch = _BATCHES[0] if _padded_or_looked_up(model) and not wide else len(SPREADS)
    first = next(filter(None, (_filled(model, batch, length) for length in lengths)), None)
    if first is None:
        raise UnsupportedModelError(f"{model.name}: no length of its open inputs fits all of its layers")
    yield first
    longer = (_filled(model, _BATCHES[1], length + _LONGER) for length in lengths)
    other = next((shapes for shapes in longer if shapes is not None and len(shapes) == len(first)), None)
    if other is not None and other != first:
        yield other


def _padded_or_looked_up(model: Model) -> bool:
    """Whether a model has masks, which pad in more ways, or tables, which have more rows than a few steps reach."""
    return any(
        isinstance(call.layer, kinds.Embedding) or any(mask is not None for mask in call.masks) for call in model.calls
    )


def _filled(model: Model, batch: int, length: int) -> tuple[Shape, ...] | None:
    """Fill in the open sizes; ``None`` where some layer cannot take them."""
    if any((entry.shape[1] or 0) >= _LONG for entry in model.inputs if len(entry.shape) == 3):
        batch = min(batch, len(SPREADS))
    shapes = tuple(
        tuple((batch if axis == 0 else length) if size is None else size for axis, size in enumerate(entry.shape))
        for entry in model.inputs
    )
    given = tuple(entry._replace(shape=shape) for entry, shape in zip(model.inputs, shapes, strict=True))
    try:
        found = infer(Model(model.name, given, model.calls, model.outputs))
    except UnsupportedModelError:
        return None
    return shapes if all(size != 0 for shape in found.values() for size in shape) else None


def _draw(
    model: Model, shapes: Sequence[Shape], streamed: Sequence[Call], stored: str, seed: Sequence[int]
) -> ModelTrial:
    """Draw inputs, smaller ones where anything overflows in the target's dtype."""
    random = np.random.default_rng(seed)
    largest = limits(stored).largest / 16
    drawn = {entry.name: _input(model, entry, shape, random) for entry, shape in zip(model.inputs, shapes, strict=True)}
    batch = int(shapes[0][0] or 1) if shapes else 1
    states = {
        slot.initial: _state(slot.initial, (len(slot.halves), batch, slot.hidden), random)
        for call in streamed
        for slot in state_slots(call)
    }
    for attempt in range(8):
        given = {name: values(4.0**-attempt) for name, values in drawn.items()}
        given = {
            name: rounded_inputs(array, stored) if array.dtype.kind == "f" else array for name, array in given.items()
        }
        begun = {name: rounded_inputs(array, stored) for name, array in states.items()}
        with np.errstate(all="ignore"):
            values, final = run_calls(model, given, begun)
        outputs = {name: np.asarray(values[tensor], np.float64) for name, tensor in model.outputs.items()}
        expected = outputs | final
        if all(np.abs(np.nan_to_num(array, nan=0.0)).max(initial=0.0) <= largest for array in values.values()):
            break
    return ModelTrial({**given, **begun}, values, expected)


def _state(name: str, shape: tuple[int, ...], random: np.random.Generator) -> Float64:
    spread = 0.5 if ".initial_h" in name else 1.5
    return random.normal(size=shape) * spread


def _input(model: Model, entry: Input, shape: Shape, random: np.random.Generator) -> Callable[[float], Array]:
    """Return an input as a function of how far it is shrunk; ids and masks are not."""
    reached = list(_reached(model, Tensor(entry.name)))
    sizes = tuple(size or 1 for size in shape)
    tables = [len(layer.table) for layer in reached if isinstance(layer, kinds.Embedding)]
    if tables:
        ids = _token_ids(sizes, min(tables), _padding_id(model, entry.name), random)
        typed: Array = ids if "int" in entry.dtype else ids.astype(np.float64)
        return lambda _: typed
    if entry.dtype == "bool":
        counted = _padded(sizes, random)
        return lambda _: counted
    if "int" in entry.dtype:
        numbers = random.integers(0, 5, sizes)
        return lambda _: numbers
    middle, scale = _place(reached, sizes)
    noise = random.normal(size=sizes) * np.resize(SPREADS, sizes[0]).reshape(-1, *(1,) * (len(sizes) - 1))
    masks = [layer.value for layer in reached if isinstance(layer, (kinds.MaskSteps, kinds.StepIsUnmasked))]
    unmasked = _padded(sizes[:2], random)[..., None] if masks and len(sizes) == 3 else None

    def values(shrunk: float) -> Array:
        x: Float64 = middle + scale * noise * shrunk
        return x if unmasked is None else np.where(unmasked, x, masks[0])

    return values


def _reached(model: Model, tensor: Tensor) -> Iterator[Any]:
    """Yield the layers that a tensor's numbers reach unchanged."""
    waiting, seen = [tensor], set()
    while waiting:
        for call in model.readers_of(waiting.pop()):
            if call.name in seen:
                continue
            seen.add(call.name)
            yield call.layer
            if isinstance(call.layer, TimeDistributed):
                yield from _reached(call.layer.model, Tensor(call.layer.model.inputs[0].name))
            if isinstance(call.layer, (*_SAME_PLACES, kinds.MaskSteps)):
                waiting.append(Tensor(call.name))


def _padding_id(model: Model, name: str) -> int:
    """Return the id that a mask leaves out: what an input is compared with, as a rule 0."""
    constants = {Tensor(call.name): call.layer for call in model.calls if isinstance(call.layer, kinds.Constant)}
    for call in model.readers_of(Tensor(name)):
        if isinstance(call.layer, kinds.Operation) and call.layer.function in kinds.COMPARISONS:
            for tensor in call.inputs:
                layer = constants.get(tensor)
                if layer is not None and layer.value.size == 1:
                    return int(layer.value.reshape(()))
    return 0


def _token_ids(shape: tuple[int, ...], tokens: int, padding: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw ids from the whole table, its first and last among them, and pad sequences in every way."""
    ids = random.integers(0, tokens, shape)
    flat = ids.reshape(-1)
    flat[: min(2, flat.size)] = [tokens - 1, 0][: min(2, flat.size)]
    if len(shape) < 2 or not 0 <= padding < tokens:
        return ids
    counted = _padded(shape[:2], random).reshape(*shape[:2], *(1,) * (len(shape) - 2))
    other = padding + 1 if padding + 1 < tokens else padding - 1
    ids = np.where(ids == padding, max(other, 0), ids)
    return np.where(counted, ids, padding)


def _padded(shape: tuple[int, ...], random: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return which steps count: padded on the right, on the left, with holes, all, and by chance."""
    counted = np.ones(shape, bool)
    if len(shape) < 2:
        return random.random(shape) < 0.7
    steps = np.arange(shape[1]).reshape(-1, *(1,) * (len(shape) - 2))
    part = max(1, shape[1] // 3)
    for row in range(shape[0]):
        kind = row % 5
        if kind == 0:
            counted[row] = steps < shape[1] - part
        elif kind == 1:
            counted[row] = steps >= part
        elif kind == 2:
            counted[row] = (steps % 3 != 1) | (steps == 0)
        elif kind == 4:
            counted[row] = random.random(counted[row].shape) < 0.6
            counted[row, shape[1] // 2] = True
    return counted


def _place(reached: Sequence[Any], shape: tuple[int, ...]) -> tuple[Float64, Float64]:
    """Return around what and how widely to draw the features of an input, by the first layers that they meet."""
    for layer in reached:
        if isinstance(layer, (kinds.BatchNormalization, kinds.Normalization)) and not getattr(layer, "invert", False):
            middle, deviation = (np.asarray(array, np.float64) for array in (layer.mean, layer.variance))
            if middle.size in (1, shape[-1]):
                return middle.reshape(-1), np.sqrt(np.maximum(np.nan_to_num(deviation), 1e-6)).reshape(-1)
        if isinstance(layer, kinds.Rescaling) and np.all(layer.scale):
            inverse = 1.0 / np.asarray(layer.scale, np.float64)
            return np.asarray(-layer.offset * inverse, np.float64), np.abs(inverse)
    matrices = [matrix for layer in reached for matrix in _matrices(layer) if matrix.shape[0] == shape[-1]]
    if not matrices:
        return np.zeros(1), np.ones(1)
    sizes = np.sqrt(np.mean([np.square(matrix).mean(axis=1) for matrix in matrices], axis=0))
    largest = float(np.nan_to_num(sizes).max(initial=0.0))
    if largest == 0.0:
        return np.zeros(1), np.ones(1)
    features = 1 / np.maximum(np.nan_to_num(sizes, nan=largest), largest * 2.0**-6)
    return np.zeros(1), np.clip(features / np.sqrt(len(features)), 2.0**-20, 2.0**20)


def _matrices(layer: Any) -> list[Float64]:
    """Return what multiplies the features of a layer's input, ``(features, sums)``."""
    if isinstance(layer, kinds.Dense):
        return [np.asarray(layer.kernel, np.float64)]
    if isinstance(layer, kinds.Convolution) and layer.groups == 1 and not layer.channels_first:
        kernel = np.asarray(layer.kernel, np.float64)
        places = np.sqrt(np.prod(kernel.shape[:-2]))
        return [np.moveaxis(kernel, -2, 0).reshape(kernel.shape[-2], -1) * places]
    if isinstance(layer, Stack):
        return _matrices(layer.first)
    if isinstance(layer, (LSTMLayer, RecurrentLayer)):
        given = (np.asarray(direction.weight_ih, np.float64) for direction in layer.directions)
        return [matrix.reshape(-1, matrix.shape[-1]).T for matrix in given]
    return []
