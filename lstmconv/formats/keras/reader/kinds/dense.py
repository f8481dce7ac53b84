"""Dense, Embedding, Masking, and the layers that do nothing at inference.

Sources: keras/layers/core.py and embeddings.py (1.2.2, 2.2.4), keras/src/layers/core (3.15).
"""

from __future__ import annotations

from lstmconv.formats.keras.reader.kinds import masks
from lstmconv.formats.keras.reader.kinds.entry import REQUIRED
from lstmconv.formats.keras.reader.kinds.row import Place, Row, Variable
from lstmconv.model.kinds import Dense, Embedding, Identity, MaskSteps

__all__ = ["ROWS"]

_KERAS_1 = {"output_dim": "units", "bias": "use_bias"}


def _dense_variables(place: Place) -> tuple[Variable, ...]:
    units = place.whole("units")
    kernel = Variable("kernel", ((place.size(-1), units),))
    return (kernel, Variable("bias", ((units,),))) if place.options["use_bias"] else (kernel,)


def _dense(place: Place) -> tuple[Dense]:
    return (Dense(place.name, place.arrays["kernel"], place.arrays.get("bias"), place.activation()),)


def _embedding_variables(place: Place) -> tuple[Variable, ...]:
    return (Variable("embeddings", ((place.whole("input_dim"), place.whole("output_dim")),)),)


def _embedding(place: Place) -> tuple[Embedding]:
    return (Embedding(place.name, place.arrays["embeddings"]),)


def _identity(place: Place) -> tuple[Identity]:
    return (Identity(place.name, place.entry.class_name),)


def _masking(place: Place) -> tuple[MaskSteps]:
    return (MaskSteps(place.name, float(place.options["mask_value"])),)


_ONLY_IN_TRAINING = (
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout", "GaussianDropout",
    "GaussianNoise", "ActivityRegularization",
)  # fmt: skip

ROWS = (
    Row(
        names=("Dense", "TimeDistributedDense"),
        options={"units": REQUIRED, "activation": "linear", "use_bias": True},
        renamed=_KERAS_1,
        variables=_dense_variables,
        build=_dense,
        masks=masks.passes,
    ),
    Row(
        names=("Embedding",),
        options={"input_dim": REQUIRED, "output_dim": REQUIRED},
        ignored=frozenset({"mask_zero", "dropout"}),
        only={"sparse": (False, None)},
        variables=_embedding_variables,
        build=_embedding,
        masks=masks.embedding,
    ),
    Row(
        names=("Masking",),
        options={"mask_value": 0.0},
        build=_masking,
        masks=masks.masking,
    ),
    Row(
        names=_ONLY_IN_TRAINING,
        ignored=frozenset({"rate", "p", "noise_shape", "stddev", "sigma", "l1", "l2", "data_format", "dim_ordering"}),
        build=_identity,
        masks=masks.passes,
    ),
    Row(names=("Identity",), build=_identity, masks=masks.passes_from_keras_3),
)
