"""Wrong kernels and padding of convolutions, and wrong pooling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lstmconv.model import Call, kinds
from lstmconv.model.windows import same_padding, window_sizes
from lstmconv.proof.models.kinds.dense import weighted
from lstmconv.proof.models.kinds.option import Function, Option, Rules, Shapes, changed_output, reshaped
from lstmconv.proof.models.variants import Found
from lstmconv.semantics.graph import compute

__all__ = ["RULES"]


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
    yield from weighted(layer)


def _padding(
    layer: Any, size: Sequence[int], dilation: Sequence[int], shape: tuple[int, ...], value: float
) -> Iterator[Option]:
    """Yield other ways to pad: an odd zero before instead of after, and the same on both sides for causal."""
    if layer.padding == "valid":
        return
    first = 2 if layer.channels_first else 1
    windows = window_sizes(size, dilation)
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

    yield Option(text, "put the larger part of an odd number of zeros last", instead)


def _shifted(layer: Any) -> Function:
    axis = 2 if layer.channels_first else 1
    return changed_output(lambda y: np.roll(y, 1, axis=axis))


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


RULES: Rules = {
    kinds.Convolution: _convolution,
    kinds.TransposedConvolution: _convolution,
    kinds.Pooling: _pooling,
    kinds.GlobalPooling: lambda layer, _: iter([_other_pooling(layer)]),
}
