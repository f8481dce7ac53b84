"""Activation layers.

Sources: keras/layers/advanced_activations.py (1.2.2, 2.2.4), tf_keras/src/layers/activation,
keras/src/layers/activations.
"""

from __future__ import annotations

from lstmconv.activations import parse_activation
from lstmconv.formats.keras.reader.kinds import masks
from lstmconv.formats.keras.reader.kinds.entry import REQUIRED, NotUnderstoodError, is_integer
from lstmconv.formats.keras.reader.kinds.row import Place, Row, Variable
from lstmconv.model.kinds import Activate, PReLU

__all__ = ["ROWS"]


def _named(place: Place) -> tuple[Activate]:
    return (Activate(place.name, place.activation()),)


def _layer(place: Place) -> tuple[Activate]:
    """Build LeakyReLU and similar layers: the class and the options name the activation."""
    stated = {"class_name": place.entry.class_name, "config": place.options}
    return (Activate(place.name, parse_activation(stated, place.entry.major)),)


def _softmax(place: Place) -> tuple[Activate]:
    axis = place.options["axis"]
    if isinstance(axis, list | tuple) and len(axis) == 1:
        axis = axis[0]
    if not is_integer(axis):
        raise NotUnderstoodError(f"softmax over axes {axis!r} together")
    place.size(axis)
    return (Activate(place.name, parse_activation("softmax", place.entry.major), axis),)


def _slopes(place: Place) -> tuple[Variable, ...]:
    shared = place.options["shared_axes"] or ()
    shared = shared if isinstance(shared, list | tuple) else (shared,)
    shape = tuple(1 if axis in shared else size for axis, size in enumerate(place.shape))
    return (Variable("alpha", (shape[1:],)),)


def _prelu(place: Place) -> tuple[PReLU]:
    return (PReLU(place.name, place.arrays["alpha"]),)


ROWS = (
    Row(names=("Activation",), options={"activation": REQUIRED}, build=_named, masks=masks.passes),
    Row(
        names=("LeakyReLU",),
        options={"negative_slope": 0.3},
        renamed={"alpha": "negative_slope"},
        build=_layer,
        masks=masks.passes,
    ),
    Row(
        names=("ReLU",),
        options={"max_value": None, "negative_slope": 0.0, "threshold": 0.0},
        build=_layer,
        masks=masks.passes,
    ),
    Row(names=("ThresholdedReLU",), options={"theta": 1.0}, build=_layer, masks=masks.passes),
    Row(names=("ELU",), options={"alpha": 1.0}, build=_layer, masks=masks.passes),
    Row(names=("Softmax",), options={"axis": -1}, build=_softmax, masks=masks.softmax),
    Row(names=("PReLU",), options={"shared_axes": None}, variables=_slopes, build=_prelu, masks=masks.passes),
)
