"""Normalization layers.

Sources: keras/layers/normalization.py (1.0.0 to 2.2.4), tf_keras/src/layers/normalization and preprocessing,
keras/src/layers/normalization and preprocessing (3.15).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmconv.formats.keras.reader.kinds import masks
from lstmconv.formats.keras.reader.kinds.entry import REQUIRED, NotUnderstoodError, is_integer
from lstmconv.formats.keras.reader.kinds.row import Place, Row, Variable
from lstmconv.formats.keras.reader.kinds.values import array_of
from lstmconv.model import Array
from lstmconv.model.kinds import BatchNormalization, LayerNormalization, Normalization, Rescaling, UnitNormalization

__all__ = ["ROWS"]


def _axes(place: Place) -> tuple[int, ...]:
    """Return the option ``axis`` as sorted, unique axes, counted from the front."""
    stated = place.options["axis"]
    axes = tuple(stated) if isinstance(stated, list | tuple) else (stated,)
    if not axes or not all(map(is_integer, axes)):
        raise NotUnderstoodError(f"axis is {stated!r}, expected whole numbers")
    for axis in axes:
        place.size(axis)
    counted = tuple(sorted(axis % place.rank for axis in axes))
    if len(set(counted)) < len(counted) or counted[0] == 0:
        raise NotUnderstoodError(f"axis is {stated!r}, which names an axis twice or the batch")
    return counted


def _scaled(place: Place, shape: tuple[int | None, ...]) -> tuple[Variable, ...]:
    gamma, beta = Variable("gamma", (shape,)), Variable("beta", (shape,))
    return (*((gamma,) if place.options["scale"] else ()), *((beta,) if place.options["center"] else ()))


def _batch_variables(place: Place) -> tuple[Variable, ...]:
    axes = _axes(place)
    if len(axes) != 1:
        raise NotUnderstoodError(f"it normalises along {len(axes)} axes together")
    shape = (place.size(axes[0]),)
    return (*_scaled(place, shape), Variable("moving_mean", (shape,)), Variable("moving_variance", (shape,)))


def _batch(place: Place) -> tuple[BatchNormalization]:
    """Build a BatchNormalization; ``running_std`` of Keras 1 is a variance, up to 1.0.5 a deviation plus epsilon."""
    version = place.entry.version
    if "mode" in place.entry.config:
        text = "of an unknown version" if version is None else version.text
        numbers = tuple(int(part) for part in text.split("-")[0].split(".") if part.isdigit())
        if numbers < (1, 0, 8):
            raise NotUnderstoodError(
                f"Keras {text} may have divided by running_std + epsilon, later ones by its square root"
            )
    arrays = place.arrays
    return (
        BatchNormalization(
            place.name,
            arrays["moving_mean"],
            arrays["moving_variance"],
            arrays.get("gamma"),
            arrays.get("beta"),
            float(place.options["epsilon"]),
            _axes(place)[0],
        ),
    )


def _layer_variables(place: Place) -> tuple[Variable, ...]:
    return _scaled(place, tuple(place.size(axis) for axis in _axes(place)))


def _layer(place: Place) -> tuple[LayerNormalization]:
    gamma, beta = place.arrays.get("gamma"), place.arrays.get("beta")
    return (LayerNormalization(place.name, gamma, beta, float(place.options["epsilon"]), _axes(place)),)


def _root_mean_square_variables(place: Place) -> tuple[Variable, ...]:
    return (Variable("scale", (tuple(place.size(axis) for axis in _axes(place)),)),)


def _root_mean_square(place: Place) -> tuple[LayerNormalization]:
    epsilon, scale = float(place.options["epsilon"]), place.arrays["scale"]
    return (LayerNormalization(place.name, scale, None, epsilon, _axes(place), root_mean_square=True),)


def _unit(place: Place) -> tuple[UnitNormalization]:
    return (UnitNormalization(place.name, _axes(place)),)


def _rescaling(place: Place) -> tuple[Rescaling]:
    return (Rescaling(place.name, array_of(place.options["scale"]), array_of(place.options["offset"])),)


def _kept(place: Place) -> tuple[int, ...]:
    return () if place.options["axis"] in (None, [], ()) else _axes(place)


def _statistics(place: Place) -> tuple[Variable, ...]:
    if place.options["mean"] is not None:
        return ()
    shape = tuple(place.size(axis) for axis in _kept(place))
    return (Variable("mean", (shape,)), Variable("variance", (shape,)), Variable("count", ((),)))


def _normalization(place: Place) -> tuple[Normalization]:
    own = place.arrays or {"mean": array_of(place.options["mean"]), "variance": array_of(place.options["variance"])}
    mean, variance = (_broadcast(place, own[name]) for name in ("mean", "variance"))
    return (Normalization(place.name, mean, variance, bool(place.options["invert"])),)


def _broadcast(place: Place, array: Array) -> Array:
    """Reshape an array over the kept axes to the input's number of axes; a shorter array is for the last kept axes."""
    kept = _kept(place)
    if array.ndim > len(kept):
        raise NotUnderstoodError(f"its mean or variance has {array.ndim} axes where {len(kept)} are kept")
    shape = [1] * place.rank
    for axis, size in zip(reversed(kept), reversed(array.shape), strict=False):
        if size not in (1, place.size(axis)):
            raise NotUnderstoodError(f"its mean or variance is {array.shape}, the input {place.shape}")
        shape[axis] = size
    return np.reshape(array, shape)


_SCALED: dict[str, Any] = {"epsilon": 1e-3, "center": True, "scale": True}

ROWS = (
    Row(
        names=("BatchNormalization", "BatchNormalizationV1", "BatchNormalizationV2", "SyncBatchNormalization"),
        options={**_SCALED, "axis": -1, "epsilon": REQUIRED},
        only={"mode": (0,), "renorm": (False,), "virtual_batch_size": (None,)},
        ignored=frozenset({"momentum", "fused", "synchronized", "renorm_momentum", "renorm_clipping"}),
        variables=_batch_variables,
        build=_batch,
        masks=masks.passes,
    ),
    Row(
        names=("LayerNormalization",),
        options={**_SCALED, "axis": -1},
        only={"rms_scaling": (False,)},
        variables=_layer_variables,
        build=_layer,
        masks=masks.passes,
    ),
    Row(
        names=("RMSNormalization",),
        options={"axis": -1, "epsilon": 1e-6},
        variables=_root_mean_square_variables,
        build=_root_mean_square,
        masks=masks.stops,
    ),
    Row(names=("UnitNormalization",), options={"axis": -1}, build=_unit, masks=masks.passes),
    Row(
        names=("Rescaling",),
        options={"scale": REQUIRED, "offset": 0.0},
        build=_rescaling,
        masks=masks.passes_from_keras_3,
    ),
    Row(
        names=("Normalization",),
        options={"axis": -1, "mean": None, "variance": None, "invert": False},
        variables=_statistics,
        build=_normalization,
        masks=masks.passes_from_keras_3,
    ),
)
