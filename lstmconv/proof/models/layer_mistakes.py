"""How conversions go wrong about one layer that is not recurrent: a row of the table for each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from lstmconv.activations import HARD_SIGMOID_KERAS_2, HARD_SIGMOID_KERAS_3, LINEAR, SIGMOID, TANH, Activation
from lstmconv.model import Array, Call, Layer, kinds
from lstmconv.model.windows import same_padding
from lstmconv.proof.models.variants import Found
from lstmconv.semantics.graph import compute

__all__ = ["Option", "activations_for", "options_of", "reshaped"]

Function: TypeAlias = "Callable[[Call, Sequence[Any], Any, Sequence[Any]], Found]"
Shapes: TypeAlias = "Sequence[tuple[int, ...]]"


@dataclass(frozen=True, eq=False)
class Made:
    """A layer that is made where it is computed: a copy of its weights is not kept."""

    make: Callable[[], Layer]

    def __call__(self, _: Call, inputs: Sequence[Any], states: Any, masks: Sequence[Any]) -> Found:
        """Compute a call with it."""
        return compute(self.make(), inputs, states, masks)


@dataclass(frozen=True, eq=False)
class Option:
    """One way to be wrong about a layer.

    Attributes:
        text: What is wrong, for a person.
        fix: What mends it.
        instead: The layer that is computed instead, what makes it, or a function that computes.
        first: Computes the same in the layer's first call, whose inputs are those of the right model; faster.
    """

    text: str
    fix: str
    instead: Layer | Made | Function
    first: Function | None = None

    @property
    def layer(self) -> Layer | None:
        """The layer that is computed instead, if there is one."""
        if isinstance(self.instead, Made):
            return self.instead.make()
        return None if callable(self.instead) else self.instead


def options_of(layer: kinds.Kind, shapes: Shapes) -> Iterator[Option]:
    """Yield the wrong versions of a layer that is given inputs of these shapes."""
    rule = _RULES.get(type(layer))
    if rule is not None:
        yield from rule(layer, shapes)


def _computed(change: Callable[[Any], Any]) -> Function:
    """Return a function that changes a call's first output."""

    def instead(call: Call, inputs: Sequence[Any], states: Any, masks: Sequence[Any]) -> Found:
        found, after = compute(call.layer, inputs, states, masks)
        return (change(found[0]), *found[1:]), after

    return instead


def _given(change: Callable[[Sequence[Any]], Sequence[Any]]) -> Function:
    """Return a function that changes what a call is given."""

    def instead(call: Call, inputs: Sequence[Any], states: Any, masks: Sequence[Any]) -> Found:
        return compute(call.layer, change(inputs), states, masks)

    return instead


def _unchanged(_: Call, inputs: Sequence[Any], __: Any, ___: Sequence[Any]) -> Found:
    return (inputs[0],), ()


# Weights


def reshaped(array: Array) -> Array:
    """Read the memory of a transposed array in the order of the array's own shape."""
    return np.ascontiguousarray(array.T).reshape(array.shape)


def activations_for(activation: Activation) -> Iterator[tuple[str, str, Activation]]:
    """Yield what may be computed instead of an activation, with its text and what mends it."""
    fix = f"the activation is {activation}"
    if activation != LINEAR:
        yield "activation dropped", fix, LINEAR
    for other, name in (
        (HARD_SIGMOID_KERAS_2, "Keras 2's hard_sigmoid"),
        (HARD_SIGMOID_KERAS_3, "Keras 3's hard_sigmoid"),
    ):
        if activation.name in ("sigmoid", "hard_sigmoid") and other != activation:
            yield f"{name} for {activation.name}", fix, other
    if activation.name == "hard_sigmoid":
        yield "sigmoid for hard_sigmoid", fix, SIGMOID
    if activation.name == "softmax":
        yield "sigmoid for softmax", fix, SIGMOID
        yield "log_softmax for softmax", fix, Activation("log_softmax")
    if activation.name == "relu":
        for slope in (0.0, 0.01, 0.2, 0.3):
            if slope != activation["negative_slope"]:
                parameters = tuple(
                    (key, slope if key == "negative_slope" else value) for key, value in activation.parameters
                )
                yield (
                    f"negative slope {slope:g} for {activation['negative_slope']:g}",
                    fix,
                    Activation("relu", parameters),
                )
    if activation.name == "gelu":
        other = Activation("gelu", (("approximate", 1.0 - activation["approximate"]),))
        yield "the other form of gelu", fix, other
    if activation.name == "elu" and activation["alpha"] != 1.0:
        yield "alpha 1 for elu", fix, Activation("elu", (("alpha", 1.0),))
    if activation.name == "sigmoid":
        yield "tanh for sigmoid", fix, TANH


def _weighted(layer: Any) -> Iterator[Option]:
    """Yield what may be wrong about a bias and an activation."""
    if layer.bias is not None:
        yield Option("bias dropped", "write it", replace(layer, bias=None))
        yield Option("bias doubled", "write it once", replace(layer, bias=layer.bias + layer.bias))
    for text, fix, other in activations_for(layer.activation):
        yield Option(text, fix, replace(layer, activation=other))


def _dense(layer: kinds.Dense, _: Shapes) -> Iterator[Option]:
    kernel = layer.kernel
    if kernel.shape[0] == kernel.shape[1] > 1:
        yield Option(
            "kernel transposed", "the kernel is (input, output): transpose it", replace(layer, kernel=kernel.T)
        )
    elif min(kernel.shape) > 1:
        fix = "transpose the stored kernel; a reshape keeps its memory and scrambles its rows"
        yield Option("kernel reshaped, not transposed", fix, replace(layer, kernel=reshaped(kernel)))
    yield from _weighted(layer)


def _convolution(layer: Any, shapes: Shapes) -> Iterator[Option]:
    kernel = layer.kernel
    spatial = kernel.ndim - 2
    if max(kernel.shape[:-2]) > 1:
        flipped = kernel[(slice(None, None, -1),) * spatial]
        yield Option("kernel flipped in time" if spatial == 1 else "kernel flipped", "Keras correlates: flip nothing",
                     replace(layer, kernel=flipped))  # fmt: skip
    if kernel.shape[-1] == kernel.shape[-2] > 1:
        fix = "the kernel's last axes are input and filters"
        yield Option("kernel transposed", fix, replace(layer, kernel=kernel.swapaxes(-1, -2)))
    if spatial == 2 and kernel.shape[0] == kernel.shape[1] > 1:
        fix = "the kernel's first axes are height and width"
        yield Option("height and width exchanged", fix, replace(layer, kernel=kernel.swapaxes(0, 1)))
    if sum(size > 1 for size in kernel.shape) > 1:
        fix = "move the kernel's axes; a reshape keeps its memory and scrambles it"
        yield Option("kernel reshaped, not transposed", fix, replace(layer, kernel=reshaped(kernel)))
    if getattr(layer, "groups", 1) > 1 and kernel.shape[-1] > layer.groups:
        by_group = kernel.reshape(*kernel.shape[:-1], layer.groups, -1).swapaxes(-1, -2).reshape(kernel.shape)
        yield Option(
            "filters ordered across groups",
            "all filters of the first group come first",
            replace(layer, kernel=by_group),
        )
    if isinstance(layer, kinds.Convolution):
        yield from _padding(layer, layer.kernel.shape[:-2], layer.dilation, shapes[0], 0.0)
    elif layer.padding == "same":
        yield Option("padding shifted", "cut as Keras does", _shifted(layer))
    yield from _weighted(layer)


def _padding(
    layer: Any, size: Sequence[int], dilation: Sequence[int], shape: tuple[int, ...], value: float
) -> Iterator[Option]:
    """Yield other ways to pad: an odd zero before instead of after, and the same on both sides for causal."""
    if layer.padding == "valid":
        return
    first = 2 if layer.channels_first else 1
    windows = [(places - 1) * rate + 1 for places, rate in zip(size, dilation, strict=True)]
    given = zip(shape[first : first + len(windows)], windows, layer.strides, strict=True)
    if layer.padding == "causal":
        amounts = [(window // 2, window - 1 - window // 2) for window in windows]
        text = "padded on both sides, not causally"
    else:
        amounts = [tuple(reversed(same_padding(*each))) for each in given]  # type: ignore[misc]  # of two
        text = "padding shifted"
        if all(before == after for before, after in amounts):
            amounts = [(before + 1, after - 1) for before, after in amounts]
    if any(after < 0 for _, after in amounts) or max(windows) == 1:
        return
    around = [(0, 0), *amounts, (0, 0)] if first == 1 else [(0, 0), (0, 0), *amounts]
    bare = replace(layer, padding="valid")

    def instead(_: Call, inputs: Sequence[Any], states: Any, masks: Sequence[Any]) -> Found:
        return compute(bare, [np.pad(inputs[0], around, constant_values=value)], None, masks)

    yield Option(text, "of an odd number of zeros the larger part comes last", instead)


def _shifted(layer: Any) -> Function:
    axis = 2 if layer.channels_first else 1
    return _computed(lambda y: np.roll(y, 1, axis=axis))


def _pooling(layer: kinds.Pooling, shapes: Shapes) -> Iterator[Option]:
    yield _other_pooling(layer)
    ones = (1,) * len(layer.size)
    value = -np.inf if layer.function == "max" else 0.0
    if layer.function == "max":
        yield from _padding(layer, layer.size, ones, shapes[0], value)
    elif layer.padding == "same":
        first = 2 if layer.channels_first else 1
        given = zip(shapes[0][first : first + len(layer.size)], layer.size, layer.strides, strict=True)
        amounts = [same_padding(*each) for each in given]
        around = [(0, 0), *amounts, (0, 0)] if first == 1 else [(0, 0), (0, 0), *amounts]
        bare = replace(layer, padding="valid")
        if any(map(sum, amounts)):
            yield Option(
                "average counts padded places",
                "divide by the places that are there",
                lambda _, inputs, __, ___: compute(bare, [np.pad(inputs[0], around)]),
            )


def _other_pooling(layer: Any) -> Option:
    other = "average" if layer.function == "max" else "max"
    return Option(f"{other} for {layer.function}", f"the function is {layer.function}", replace(layer, function=other))


# Normalization


def _batch_normalization(layer: kinds.BatchNormalization, _: Shapes) -> Iterator[Option]:
    yield from _epsilon(layer)
    yield from _gamma_beta(layer)
    fix = "the mean is subtracted, the variance divides"
    yield Option("mean and variance exchanged", fix, replace(layer, mean=layer.variance, variance=layer.mean))
    yield Option("mean dropped", "subtract it", replace(layer, mean=np.zeros_like(layer.mean)))
    squared = np.square(np.asarray(layer.variance, np.float64))
    yield Option("variance taken for a deviation", "take its root", replace(layer, variance=squared))


def _epsilon(layer: Any) -> Iterator[Option]:
    for epsilon in (1e-5, 1e-3):
        if epsilon != layer.epsilon:
            yield Option(
                f"epsilon {epsilon:g} for {layer.epsilon:g}",
                f"epsilon is {layer.epsilon:g}",
                replace(layer, epsilon=epsilon),
            )


def _gamma_beta(layer: Any) -> Iterator[Option]:
    if layer.gamma is not None:
        yield Option("gamma dropped", "multiply by it", replace(layer, gamma=None))
    if layer.beta is not None:
        yield Option("beta dropped", "add it", replace(layer, beta=None))
    if layer.gamma is not None and layer.beta is not None:
        yield Option(
            "gamma and beta exchanged",
            "gamma multiplies, beta is added",
            replace(layer, gamma=layer.beta, beta=layer.gamma),
        )


def _layer_normalization(layer: kinds.LayerNormalization, shapes: Shapes) -> Iterator[Option]:
    yield from _epsilon(layer)
    yield from _gamma_beta(layer)
    other = not layer.root_mean_square
    fix = "the mean is subtracted" if other else "no mean is subtracted"
    text = "mean not subtracted" if other else "mean subtracted"
    yield Option(text, fix, replace(layer, root_mean_square=other))
    if layer.gamma is not None and layer.gamma.ndim == 2 and layer.gamma.shape[0] == layer.gamma.shape[1]:
        turned = replace(layer, gamma=layer.gamma.T, beta=None if layer.beta is None else layer.beta.T)
        yield Option("gamma and beta transposed", "keep the order of the axes", turned)


def _normalization(layer: kinds.Normalization, _: Shapes) -> Iterator[Option]:
    yield Option(
        "mean and variance exchanged",
        "the mean is subtracted",
        replace(layer, mean=layer.variance, variance=layer.mean),
    )
    squared = np.square(np.asarray(layer.variance, np.float64))
    yield Option("variance taken for a deviation", "take its root", replace(layer, variance=squared))
    yield Option("the inverse computed", "subtract the mean, then divide", replace(layer, invert=not layer.invert))


def _rescaling(layer: kinds.Rescaling, _: Shapes) -> Iterator[Option]:
    yield Option("offset dropped", "add it", replace(layer, offset=np.zeros_like(layer.offset)))
    yield Option("scale dropped", "multiply by it", replace(layer, scale=np.ones_like(layer.scale)))


# Places


def _embedding(layer: kinds.Embedding, _: Shapes) -> Iterator[Option]:
    yield Option(
        "token ids shifted by one", "id 0 is the first row", replace(layer, table=np.roll(layer.table, 1, axis=0))
    )
    if layer.table.shape[0] == layer.table.shape[1] > 1:
        yield Option("table transposed", "a row is a token", replace(layer, table=layer.table.T))


def _activate(layer: kinds.Activate, shapes: Shapes) -> Iterator[Option]:
    for text, fix, other in activations_for(layer.activation):
        yield Option(text, fix, replace(layer, activation=other))
    if layer.activation.coupled:
        rank = len(shapes[0])
        for axis in range(1, rank):
            if axis != layer.axis % rank:
                yield Option(f"along axis {axis}", f"the axis is {layer.axis % rank}", replace(layer, axis=axis))


def _prelu(layer: kinds.PReLU, _: Shapes) -> Iterator[Option]:
    yield Option("slope dropped", "multiply by it below zero", replace(layer, slope=np.zeros_like(layer.slope)))
    if layer.slope.ndim == 2 and layer.slope.shape[0] == layer.slope.shape[1] > 1:
        yield Option("slope transposed", "keep the order of the axes", replace(layer, slope=layer.slope.T))


def _reshape(layer: kinds.Reshape, shapes: Shapes) -> Iterator[Option]:
    if len(shapes[0]) < 3 or min(sorted(shapes[0][1:])[-2:]) < 2:
        return
    fix = "the numbers of a sample stand with the last axis fastest"

    def first(inputs: Sequence[Any]) -> Sequence[Any]:
        return [np.ascontiguousarray(np.moveaxis(inputs[0], -1, 1)).reshape(inputs[0].shape)]

    yield Option("channels first where they are last", fix, _given(first))


def _permute(layer: kinds.Permute, shapes: Shapes) -> Iterator[Option]:
    if tuple(shapes[0][axis] for axis in layer.order) == tuple(shapes[0]):
        yield Option("axes left as they are", f"put them into the order {layer.order}", _unchanged)
    fix = "move the axes; a reshape keeps the order of the numbers"
    shape = [shapes[0][axis] for axis in layer.order]
    yield Option("reshaped, not permuted", fix, lambda _, inputs, __, ___: ((inputs[0].reshape(shape),), ()))


def _moved(layer: Any, _: Shapes) -> Iterator[Option]:
    other = tuple((after, before) for before, after in layer.amounts)
    if other != layer.amounts:
        fix = "the first amount is before, the second after"
        yield Option("before and after exchanged", fix, replace(layer, amounts=other))


def _upsample(layer: kinds.Upsample, _: Shapes) -> Iterator[Option]:
    tiled = lambda _, inputs, __, ___: ((np.tile(inputs[0], layer.factors),), ())  # noqa: E731
    yield Option("whole input repeated, not each place", "repeat each place", tiled)


def _slice(layer: kinds.Slice, shapes: Shapes) -> Iterator[Option]:
    for place, entry in enumerate(layer.index):
        if isinstance(entry, int):
            size = shapes[0][sum(other is not None for other in layer.index[:place])]
            other = 0 if entry % size else size - 1
            if other != entry % size:
                index = (*layer.index[:place], other, *layer.index[place + 1 :])
                yield Option(f"index {other} for {entry}", f"the index is {entry}", replace(layer, index=index))


# Several inputs


def _merge(layer: kinds.Merge, shapes: Shapes) -> Iterator[Option]:
    others: tuple[Any, ...] = ("add", "multiply", "average", "maximum", "minimum")
    for other in others:
        if other != layer.operation:
            yield Option(
                f"{other} for {layer.operation}", f"the operation is {layer.operation}", replace(layer, operation=other)
            )
    if layer.operation == "subtract":
        yield Option("operands exchanged", "the second is subtracted", _given(lambda inputs: list(reversed(inputs))))


def _concatenate(layer: Any, shapes: Shapes) -> Iterator[Option]:
    if len(shapes) > 1:
        yield Option("inputs in the opposite order", "keep Keras' order", _given(lambda inputs: list(reversed(inputs))))
    axes = [axis for axis in range(1, len(shapes[0])) if axis != layer.axis % len(shapes[0])]
    for axis in axes if isinstance(layer, kinds.Concatenate) else ():
        yield Option(f"along axis {axis}", f"the axis is {layer.axis}", _along_reshaped(axis))


def _along_reshaped(axis: int) -> Function:
    """Join along another axis, in the shape that is expected: what a later reshape makes of it."""

    def instead(call: Call, inputs: Sequence[Any], states: Any, masks: Sequence[Any]) -> Found:
        right, _ = compute(call.layer, inputs)
        return (np.concatenate(inputs, axis=axis).reshape(right[0].shape),), ()

    return instead


def _dot(layer: kinds.Dot, _: Shapes) -> Iterator[Option]:
    text = "not normalized" if layer.normalize else "normalized"
    yield Option(text, f"normalize is {layer.normalize}", replace(layer, normalize=not layer.normalize))
    other = (layer.axes[1], layer.axes[0])
    if other != layer.axes:
        yield Option("axes exchanged", f"the axes are {layer.axes}", replace(layer, axes=other))


def _operation(layer: kinds.Operation, shapes: Shapes) -> Iterator[Option]:
    if layer.function in ("subtract", "divide", "power", "floor_divide", "matmul", "less", "greater"):
        yield Option("operands exchanged", "keep their order", _given(lambda inputs: list(reversed(inputs))))
    others = {"add": "subtract", "subtract": "add", "multiply": "divide", "divide": "multiply", "maximum": "minimum",
              "minimum": "maximum", "equal": "not_equal", "not_equal": "equal", "exp": "log", "log": "exp"}  # fmt: skip
    if layer.function in others:
        other = others[layer.function]
        yield Option(
            f"{other} for {layer.function}", f"the function is {layer.function}", replace(layer, function=other)
        )
    if len(shapes) == 1:
        yield Option("operation dropped", f"compute {layer.function}", _unchanged)


def _reduce(layer: kinds.Reduce, shapes: Shapes) -> Iterator[Option]:
    others: Mapping[str, Any] = {"sum": "mean", "mean": "sum", "max": "min", "min": "max", "all": "any", "any": "all"}
    other = others[layer.function]
    yield Option(f"{other} for {layer.function}", f"the function is {layer.function}", replace(layer, function=other))


def _mask_steps(layer: kinds.MaskSteps, _: Shapes) -> Iterator[Option]:
    yield Option("masked steps not zeroed", "a masked step becomes zero", _unchanged)


def _attention(layer: kinds.Attention, shapes: Shapes) -> Iterator[Option]:
    if layer.scale is not None:
        yield Option("scale dropped", "multiply by it", replace(layer, scale=None))
    if layer.score == "dot":

        def divided(call: Call, inputs: Sequence[Any], states: Any, masks: Sequence[Any]) -> Found:
            less = [inputs[0] / np.sqrt(inputs[0].shape[-1]), *inputs[1:]]
            return compute(call.layer, less, None, masks)

        yield Option("scores divided by the root of their size", "divide by nothing", divided)
    yield _other_causality(layer)
    if len(shapes) > 2:
        fix = "the value comes before the key"
        yield Option("key and value exchanged", fix, _given(lambda inputs: [inputs[0], inputs[2], inputs[1]]))


def _other_causality(layer: Any) -> Option:
    text = "later steps seen" if layer.causal else "later steps not seen"
    fix = "a query sees " + ("no later steps" if layer.causal else "all steps")
    return Option(text, fix, replace(layer, causal=not layer.causal))


def _multi_head(layer: kinds.MultiHeadAttention, _: Shapes) -> Iterator[Option]:
    for name in ("query", "key", "value"):
        kernel = getattr(layer, f"{name}_kernel")
        features, heads, size = kernel.shape
        if min(heads, size) > 1:
            mixed = kernel.swapaxes(1, 2).reshape(features, heads, size)
            yield Option(f"heads of the {name} kernel interleaved", "a head's columns stand together",
                         replace(layer, **{f"{name}_kernel": mixed}))  # fmt: skip
    for name in ("query", "key", "value", "output"):
        if getattr(layer, f"{name}_bias") is not None:
            bare: dict[str, Any] = {f"{name}_bias": None}
            yield Option(f"{name} bias dropped", "write it", replace(layer, **bare))
    if layer.query_kernel.shape == layer.key_kernel.shape:
        exchanged = replace(
            layer,
            query_kernel=layer.key_kernel,
            key_kernel=layer.query_kernel,
            query_bias=layer.key_bias,
            key_bias=layer.query_bias,
        )
        yield Option("query and key weights exchanged", "query, key, value", exchanged)
    if layer.value_kernel.shape == layer.key_kernel.shape:
        exchanged = replace(
            layer,
            value_kernel=layer.key_kernel,
            key_kernel=layer.value_kernel,
            value_bias=layer.key_bias,
            key_bias=layer.value_bias,
        )
        yield Option("key and value weights exchanged", "query, key, value", exchanged)
    size = np.sqrt(layer.query_kernel.shape[-1])
    scaled: dict[str, Any] = {"query_kernel": np.asarray(layer.query_kernel, np.float64) * size}
    if layer.query_bias is not None:
        scaled["query_bias"] = np.asarray(layer.query_bias, np.float64) * size
    yield Option("scores not divided", "divide by the root of the key's size", replace(layer, **scaled))
    yield _other_causality(layer)


def _unit(layer: kinds.UnitNormalization, shapes: Shapes) -> Iterator[Option]:
    yield Option("normalization dropped", "divide by the norm", _unchanged)
    rank = len(shapes[0])
    for axis in range(1, rank):
        if (axis,) != tuple(own % rank for own in layer.axes):
            yield Option(f"along axis {axis}", f"the axes are {layer.axes}", replace(layer, axes=(axis,)))


_RULES: Mapping[type[Any], Callable[[Any, Shapes], Iterator[Option]]] = {
    kinds.Dense: _dense,
    kinds.Embedding: _embedding,
    kinds.Activate: _activate,
    kinds.PReLU: _prelu,
    kinds.Convolution: _convolution,
    kinds.TransposedConvolution: _convolution,
    kinds.Pooling: _pooling,
    kinds.GlobalPooling: lambda layer, _: iter([_other_pooling(layer)]),
    kinds.BatchNormalization: _batch_normalization,
    kinds.LayerNormalization: _layer_normalization,
    kinds.UnitNormalization: _unit,
    kinds.Rescaling: _rescaling,
    kinds.Normalization: _normalization,
    kinds.Reshape: _reshape,
    kinds.Permute: _permute,
    kinds.Pad: _moved,
    kinds.Crop: _moved,
    kinds.Upsample: _upsample,
    kinds.Slice: _slice,
    kinds.Merge: _merge,
    kinds.Concatenate: _concatenate,
    kinds.Stacking: _concatenate,
    kinds.Dot: _dot,
    kinds.Operation: _operation,
    kinds.Reduce: _reduce,
    kinds.MaskSteps: _mask_steps,
    kinds.Attention: _attention,
    kinds.MultiHeadAttention: _multi_head,
}
