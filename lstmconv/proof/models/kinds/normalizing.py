"""Wrong means, variances, factors and offsets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from lstmconv.model import kinds
from lstmconv.proof.models.kinds.option import Option, Rules, Shapes, unchanged

__all__ = ["RULES"]


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


def _unit(layer: kinds.UnitNormalization, shapes: Shapes) -> Iterator[Option]:
    yield Option("normalization dropped", "divide by the norm", unchanged)
    rank = len(shapes[0])
    for axis in range(1, rank):
        if (axis,) != tuple(own % rank for own in layer.axes):
            yield Option(f"along axis {axis}", f"the axes are {layer.axes}", replace(layer, axes=(axis,)))


def _rescaling(layer: kinds.Rescaling, _: Shapes) -> Iterator[Option]:
    yield Option("offset dropped", "add it", replace(layer, offset=np.zeros_like(layer.offset)))
    yield Option("scale dropped", "multiply by it", replace(layer, scale=np.ones_like(layer.scale)))


RULES: Rules = {
    kinds.BatchNormalization: _batch_normalization,
    kinds.LayerNormalization: _layer_normalization,
    kinds.UnitNormalization: _unit,
    kinds.Rescaling: _rescaling,
    kinds.Normalization: _normalization,
}
