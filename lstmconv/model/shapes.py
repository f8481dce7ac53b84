"""The shapes of a graph's tensors, with a rule for the output shapes of each kind of layer.

Shapes include the batch; ``None`` is an open size. Sources of the rules: ``compute_output_shape`` of each Keras layer
(keras/src/layers, 3.15) and keras/src/ops/operation_utils.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lstmconv.errors import UnsupportedModelError
from lstmconv.model import kinds, windows
from lstmconv.model.graph import Layer, Model, Shape, Tensor, TimeDistributed
from lstmconv.model.layers import LSTMLayer, Stack
from lstmconv.model.recurrent import RecurrentLayer
from lstmconv.model.shape_checks import Size, broadcast, expanded, misfit, refuse_other_size

__all__ = ["infer", "output_shapes"]


def infer(model: Model) -> Mapping[Tensor, Shape]:
    """Return the shapes of all tensors of a model.

    Tensors behind an unknown layer are left out, because their shapes are unknown too.

    Raises:
        UnsupportedModelError: Sizes do not fit together; the text names the call and the sizes.
    """
    known: dict[Tensor, Shape] = {Tensor(entry.name): entry.shape for entry in model.inputs}
    for call in model.calls:
        if isinstance(call.layer, kinds.Unknown) or any(tensor not in known for tensor in call.inputs):
            continue
        shapes = output_shapes(call.layer, [known[tensor] for tensor in call.inputs])
        known |= {Tensor(call.name, index): shape for index, shape in enumerate(shapes)}
    return known


def output_shapes(layer: Layer, input_shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    """Return the shapes of all outputs of one call of a layer, in the order of :class:`~lstmconv.model.Tensor`.

    Args:
        layer: Any layer except an unknown one.
        input_shapes: The shapes of its inputs.

    Raises:
        UnsupportedModelError: Sizes do not fit together, or the layer is unknown.
    """
    rule = _RULES.get(type(layer))
    if rule is None:
        raise UnsupportedModelError(f"{layer.name}: the shape of what {type(layer).__name__} returns is not known")
    try:
        shapes: tuple[Shape, ...] = rule(layer, [tuple(shape) for shape in input_shapes])
    except (IndexError, ValueError, TypeError) as error:
        if isinstance(error, UnsupportedModelError):
            raise
        raise misfit(layer, input_shapes, str(error)) from error
    if any(size is not None and size < 0 for shape in shapes for size in shape):
        raise misfit(layer, input_shapes, f"its output would be {shapes[0]}")
    return shapes


def _recurrent(layer: LSTMLayer | RecurrentLayer, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    a, b, features = shapes[0]
    refuse_other_size(layer, shapes, features, layer.forward.input_size, "features are")
    batch = b if layer.time_major else a
    units = [direction.hidden_size for direction in layer.directions]
    if layer.backward is not None and layer.merge_mode == "concat":
        outputs = [sum(units)]
    else:
        outputs = units if layer.merge_mode == "none" else units[:1]
    front = (batch,) if layer.return_sequences is False else (a, b)
    letters = "hc" if isinstance(layer, LSTMLayer) else "h"
    states = [(batch, size) for size in units for _ in letters] if layer.return_state else []
    return (*((*front, size) for size in outputs), *states)


def _stack(stack: Stack, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    x, outputs = shapes[0], [shapes[0]]
    for layer in stack.layers:
        outputs = list(_recurrent(layer, [x]))
        x = outputs[0]
    if not stack.last.return_state:
        return tuple(outputs)
    kept = len(outputs) - 2 * len(stack.last.directions)
    batch = x[0] if not stack.last.time_major or stack.last.return_sequences is False else x[1]
    states = [(batch, direction.hidden_size) for direction in stack.directions for _ in "hc"]
    return (*outputs[:kept], *states)


def _dense(layer: kinds.Dense, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    refuse_other_size(layer, shapes, shapes[0][-1], layer.kernel.shape[0], "features are")
    return ((*shapes[0][:-1], layer.kernel.shape[1]),)


def _embedding(layer: kinds.Embedding, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    return ((*shapes[0], layer.table.shape[1]),)


def _dot(layer: kinds.Dot, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    x, y = list(shapes[0]), list(shapes[1])
    a, b = layer.axes[0] % len(x), layer.axes[1] % len(y)
    if None not in (x[a], y[b]) and x[a] != y[b]:
        raise misfit(layer, shapes, f"sizes {x[a]} and {y[b]} cannot be summed over")
    batch = x[0] if x[0] is not None else y[0]
    left = [size for axis, size in enumerate(x) if axis not in (0, a)]
    right = [size for axis, size in enumerate(y) if axis not in (0, b)]
    return ((batch, *(left + right or [1])),)


def _same(_: Layer, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    return (shapes[0],)


def _batch_normalization(layer: kinds.BatchNormalization, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    refuse_other_size(layer, shapes, shapes[0][layer.axis], len(layer.mean), "channels are")
    return (shapes[0],)


def _layer_normalization(layer: kinds.LayerNormalization, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    rank = len(shapes[0])
    sizes = [shapes[0][axis] for axis in sorted(axis % rank for axis in layer.axes)]
    for array in (layer.gamma, layer.beta):
        if array is not None:
            if array.ndim != len(sizes):
                raise misfit(layer, shapes, f"gamma or beta is {array.shape}")
            for size, wanted in zip(sizes, array.shape, strict=True):
                refuse_other_size(layer, shapes, size, wanted, "the normalised axes are")
    return (shapes[0],)


def _broadcast_arrays(layer: kinds.Kind, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    """Broadcast a layer's own arrays with its input."""
    own = [array.shape for array in layer.arrays.values()]
    return (broadcast([shapes[0], *own]),)


def _reshape(layer: kinds.Reshape, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    given = shapes[0] if layer.fixed_batch else shapes[0][1:]
    wanted: list[Size] = list(layer.shape)
    total = None if None in given else math.prod(size for size in given if size is not None)
    rest = math.prod(size for size in layer.shape if size != -1)
    if -1 in layer.shape:
        if total is not None and (rest == 0 or total % rest):
            raise misfit(layer, shapes, f"{total} numbers cannot become {layer.shape}")
        wanted[layer.shape.index(-1)] = None if total is None else total // rest
    elif total is not None and total != rest:
        raise misfit(layer, shapes, f"{total} numbers cannot become {layer.shape}")
    return (tuple(wanted) if layer.fixed_batch else (shapes[0][0], *wanted),)


def _permute(layer: kinds.Permute, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    if sorted(layer.order) != list(range(len(shapes[0]))):
        raise misfit(layer, shapes, f"its order is {layer.order}")
    return (tuple(shapes[0][axis] for axis in layer.order),)


def _repeat(layer: kinds.RepeatVector, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    batch, features = shapes[0]
    return ((batch, layer.count, features),)


def _pad(layer: kinds.Pad, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    pairs = zip(shapes[0], layer.amounts, strict=True)
    return (tuple(None if size is None else size + sum(amounts) for size, amounts in pairs),)


def _crop(layer: kinds.Crop, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    pairs = zip(shapes[0], layer.amounts, strict=True)
    return (tuple(None if size is None else size - sum(amounts) for size, amounts in pairs),)


def _upsample(layer: kinds.Upsample, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    pairs = zip(shapes[0], layer.factors, strict=True)
    return (tuple(None if size is None else size * factor for size, factor in pairs),)


def _slice(layer: kinds.Slice, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    left = list(shapes[0])
    found: list[Size] = []
    for entry in layer.index:
        if entry is None:
            found.append(1)
            continue
        size = left.pop(0)
        if isinstance(entry, tuple):
            whole = entry in ((None, None, None), (None, None, 1), (0, None, None), (0, None, 1))
            found.append(size if whole else None if size is None else len(range(size)[slice(*entry)]))
        elif size is not None and not -size <= entry < size:
            raise misfit(layer, shapes, f"index {entry} is not there")
    return ((*found, *left),)


def _merge(layer: kinds.Merge, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    rank = max(map(len, shapes))
    return (_broadcast_of(layer, [expanded(shape, rank) for shape in shapes]),)


def _broadcast_of(layer: Layer, shapes: Sequence[Shape]) -> Shape:
    try:
        return broadcast(shapes)
    except ValueError as error:
        raise misfit(layer, shapes, str(error)) from error


def _concatenate(layer: kinds.Concatenate, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    rank, axis = len(shapes[0]), layer.axis % len(shapes[0])
    if any(len(shape) != rank for shape in shapes):
        raise misfit(layer, shapes, "their numbers of axes differ")
    joined: list[Size] = []
    for number, column in enumerate(zip(*shapes, strict=True)):
        if number == axis:
            joined.append(None if None in column else sum(size for size in column if size is not None))
            continue
        fixed = {size for size in column if size is not None}
        if len(fixed) > 1:
            raise misfit(layer, shapes, f"they differ in another axis than {axis}")
        joined.append(next(iter(fixed), None))
    return (tuple(joined),)


def _stacking(layer: kinds.Stacking, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    found = list(_broadcast_of(layer, shapes))
    found.insert(layer.axis % (len(found) + 1), len(shapes))
    return (tuple(found),)


def _operation(layer: kinds.Operation, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    if layer.function != "matmul":
        return (_broadcast_of(layer, shapes),)
    a, b = shapes
    if len(a) < 2 or len(b) < 2:
        raise misfit(layer, shapes, "a product of matrices needs two axes")
    if None not in (a[-1], b[-2]) and a[-1] != b[-2]:
        raise misfit(layer, shapes, f"sizes {a[-1]} and {b[-2]} cannot be summed over")
    return ((*_broadcast_of(layer, [a[:-2], b[:-2]]), a[-2], b[-1]),)


def _constant(layer: kinds.Constant, _: Sequence[Shape]) -> tuple[Shape, ...]:
    return (tuple(layer.value.shape),)


def _reduce(layer: kinds.Reduce, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    axes = {axis % len(shapes[0]) for axis in layer.axes}
    sizes = [(1 if axis in axes else size) for axis, size in enumerate(shapes[0]) if layer.keepdims or axis not in axes]
    return (tuple(sizes),)


def _steps(_: kinds.StepIsUnmasked, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    return (shapes[0][:-1],)


def _attention(layer: kinds.Attention, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    query, value = shapes[0], shapes[1]
    key = shapes[2] if len(shapes) > 2 else value
    if None not in (query[-1], key[-1]) and query[-1] != key[-1]:
        raise misfit(layer, shapes, f"features {query[-1]} and {key[-1]} cannot be compared")
    context = (*query[:-1], value[-1])
    return (context, (*query[:-1], key[-2])) if layer.return_scores else (context,)


def _multi_head(layer: kinds.MultiHeadAttention, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    query, value = shapes[0], shapes[1]
    key = shapes[2] if len(shapes) > 2 else value
    kernels = (layer.query_kernel, layer.value_kernel, layer.key_kernel)
    for shape, kernel in zip((query, value, key), kernels, strict=True):
        refuse_other_size(layer, shapes, shape[-1], kernel.shape[0], "features are")
    context = (*query[:-1], layer.output_kernel.shape[-1])
    heads = layer.query_kernel.shape[1]
    return (context, (query[0], heads, query[1], key[1])) if layer.return_scores else (context,)


def _time_distributed(layer: TimeDistributed, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    batch, time, *rest = shapes[0]
    inner = layer.model
    given = inner.inputs[0]._replace(shape=(None, *rest))
    known = infer(replace(inner, inputs=(given,)))
    (output,) = inner.outputs.values()
    if output not in known:
        raise misfit(layer, shapes, f"what {inner.name} returns is not known")
    return ((batch, time, *known[output][1:]),)


_RULES: Mapping[type[Any], Callable[[Any, list[Shape]], tuple[Shape, ...]]] = {
    **windows.RULES,
    LSTMLayer: _recurrent,
    RecurrentLayer: _recurrent,
    Stack: _stack,
    kinds.Dense: _dense,
    kinds.Embedding: _embedding,
    kinds.Activate: _same,
    kinds.PReLU: _broadcast_arrays,
    kinds.BatchNormalization: _batch_normalization,
    kinds.LayerNormalization: _layer_normalization,
    kinds.UnitNormalization: _same,
    kinds.Rescaling: _broadcast_arrays,
    kinds.Normalization: _broadcast_arrays,
    kinds.Identity: _same,
    kinds.Reshape: _reshape,
    kinds.Permute: _permute,
    kinds.RepeatVector: _repeat,
    kinds.Pad: _pad,
    kinds.Crop: _crop,
    kinds.Upsample: _upsample,
    kinds.Merge: _merge,
    kinds.Concatenate: _concatenate,
    kinds.Stacking: _stacking,
    kinds.Dot: _dot,
    kinds.Constant: _constant,
    kinds.Operation: _operation,
    kinds.Cast: _same,
    kinds.Reduce: _reduce,
    kinds.Slice: _slice,
    kinds.MaskSteps: _same,
    kinds.StepIsUnmasked: _steps,
    kinds.Attention: _attention,
    kinds.MultiHeadAttention: _multi_head,
    TimeDistributed: _time_distributed,
}
