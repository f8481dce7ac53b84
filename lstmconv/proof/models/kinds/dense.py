"""Wrong kernels, biases, tables and slopes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from lstmconv.model import kinds
from lstmconv.proof.models.kinds.activations import activations_for
from lstmconv.proof.models.kinds.option import Made, Option, Rules, Shapes, changed_inputs, reshaped

__all__ = ["RULES", "weighted"]


def weighted(layer: Any) -> Iterator[Option]:
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
    yield from weighted(layer)


def _embedding(layer: kinds.Embedding, _: Shapes) -> Iterator[Option]:
    shifted = Made(lambda: replace(layer, table=np.roll(layer.table, 1, axis=0)))
    ids = changed_inputs(lambda inputs: [(inputs[0] - 1) % len(layer.table)])  # The same without a copy of the table.
    yield Option("token ids shifted by one", "id 0 is the first row", shifted, ids)
    if layer.table.shape[0] == layer.table.shape[1] > 1:
        yield Option("table transposed", "a row is a token", replace(layer, table=layer.table.T))


def _prelu(layer: kinds.PReLU, _: Shapes) -> Iterator[Option]:
    yield Option("slope dropped", "multiply by it below zero", replace(layer, slope=np.zeros_like(layer.slope)))
    if layer.slope.ndim == 2 and layer.slope.shape[0] == layer.slope.shape[1] > 1:
        yield Option("slope transposed", "keep the order of the axes", replace(layer, slope=layer.slope.T))


RULES: Rules = {
    kinds.Dense: _dense,
    kinds.Embedding: _embedding,
    kinds.PReLU: _prelu,
}
