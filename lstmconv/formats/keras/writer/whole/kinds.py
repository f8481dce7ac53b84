"""What each kind of layer becomes in Keras: one row a kind, for Keras 2 and 3 alike but where a row says otherwise.

Options that decide nothing at inference (initializers, regularizers) are left out: Keras has defaults for them.
Sources: get_config and ``__init__`` of tf_keras/src/layers (2.21) and keras/src/layers (3.3 to 3.15).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstmconv.activations import Activation
from lstmconv.arrays.copying import copy_array
from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.keras.writer.dialect import Dialect, described
from lstmconv.formats.keras.writer.nodes import Part, Variable
from lstmconv.layouts.kinds import rows_of
from lstmconv.model import Array, Shape, kinds

__all__ = ["KINDS", "Place", "stored"]


@dataclass(frozen=True)
class Place:
    """Where a layer is written.

    Attributes:
        dialect: The Keras that reads it.
        dtype: The dtype of the whole model.
        shapes: The shapes of its inputs.
    """

    dialect: Dialect
    dtype: np.dtype[Any]
    shapes: tuple[Shape, ...]

    @property
    def rank(self) -> int:
        """How many axes the first input has."""
        return len(self.shapes[0])

    def activation(self, activation: Activation) -> Any:
        """Return what stands in a config for an activation.

        Raises:
            UnsupportedModelError: This Keras has none that computes it.
        """
        found = described(activation, self.dialect, str(self.dtype))
        if found is None:
            raise UnsupportedModelError(f"Keras {self.dialect.major} has no activation {activation}")
        return found

    def variables(self, layer: kinds.Kind, names: Sequence[str]) -> tuple[Variable, ...]:
        """Return the variables of the named arrays, those that there are, by the layouts' rows."""
        rows, arrays = rows_of(type(layer).__name__), layer.arrays
        return tuple(
            self.variable(rows[name].keras.name, rows[name].parts(arrays[name], "keras")[0])
            for name in names
            if name in arrays
        )

    def variable(
        self, name: str, array: Array, owner: str = "", scope: str = "", *, trainable: bool = True
    ) -> Variable:
        """Return a variable that holds an array in the model's dtype."""
        return Variable(owner, scope, name, lambda: stored(array, self.dtype), trainable)


def stored(array: Array, dtype: np.dtype[Any]) -> Array:
    """Return an array in a dtype, rounded once where that is narrower.

    Raises:
        UnsupportedModelError: A finite value does not fit it.
    """
    made: Array = np.empty(array.shape, dtype)
    copy_array(array if array.ndim else array.reshape(1), made if made.ndim else made.reshape(1))
    return made


def _data_format(channels_first: bool) -> str:
    return "channels_first" if channels_first else "channels_last"


def _spatial(place: Place, most: int = 3) -> str:
    """Return ``1D``, ``2D`` or ``3D`` for the input's spatial axes."""
    rank = place.rank - 2
    if not 1 <= rank <= most:
        raise UnsupportedModelError(f"Keras has no such layer for inputs of {place.rank} axes")
    return f"{rank}D"


def _dense(layer: kinds.Dense, place: Place) -> Part:
    options = {
        "units": layer.kernel.shape[1],
        "activation": place.activation(layer.activation),
        "use_bias": layer.bias is not None,
    }
    return Part("Dense", options, place.variables(layer, ("kernel", "bias")), shape_matters=True)


def _embedding(layer: kinds.Embedding, place: Place) -> Part:
    """Its mask, if it makes one, is computed beside it and given to what reads it."""
    tokens, features = layer.table.shape
    options: dict[str, Any] = {"input_dim": tokens, "output_dim": features, "mask_zero": False}
    if place.dialect.major == 2:
        options["input_length"] = None
    return Part("Embedding", options, place.variables(layer, ("table",)))


def _prelu(layer: kinds.PReLU, place: Place) -> Part:
    sizes = zip(layer.slope.shape, place.shapes[0][1:], strict=True)
    shared = [axis for axis, (own, size) in enumerate(sizes, 1) if own == 1 and size != 1]
    return Part("PReLU", {"shared_axes": shared or None}, place.variables(layer, ("slope",)), shape_matters=True)


def _moves(layer: kinds.Convolution | kinds.TransposedConvolution, place: Place) -> dict[str, Any]:
    return {
        "kernel_size": list(layer.kernel.shape[:-2]),
        "strides": list(layer.strides),
        "padding": layer.padding,
        "data_format": _data_format(layer.channels_first),
        "dilation_rate": list(layer.dilation),
        "activation": place.activation(layer.activation),
        "use_bias": layer.bias is not None,
    }


def _convolution(layer: kinds.Convolution, place: Place) -> Part:
    """Return a depthwise one where each input channel is a group of its own."""
    *size, inputs, filters = layer.kernel.shape
    rank = _spatial(place)
    alone = layer.groups > 1 and inputs == 1 and filters % layer.groups == 0
    depthwise = alone and rank != "3D" and layer.padding != "causal"
    if not depthwise:
        options = _moves(layer, place) | {"filters": filters, "groups": layer.groups}
        return Part(f"Conv{rank}", options, place.variables(layer, ("kernel", "bias")), shape_matters=True)
    multiplier = filters // layer.groups
    kernel = layer.kernel.reshape(*size, layer.groups, multiplier)
    name = "kernel" if place.dialect.major == 3 else "depthwise_kernel"
    variables = (place.variable(name, kernel), *place.variables(layer, ("bias",)))
    options = _moves(layer, place) | {"depth_multiplier": multiplier}
    return Part(f"DepthwiseConv{rank}", options, variables, shape_matters=True)


def _transposed(layer: kinds.TransposedConvolution, place: Place) -> Part:
    own = None if layer.output_padding is None else list(layer.output_padding)
    options = _moves(layer, place) | {"filters": layer.kernel.shape[-2], "output_padding": own}
    variables = place.variables(layer, ("kernel", "bias"))
    return Part(f"Conv{_spatial(place)}Transpose", options, variables, shape_matters=True)


_POOLS = {"max": "Max", "average": "Average"}


def _pooling(layer: kinds.Pooling, place: Place) -> Part:
    options = {
        "pool_size": list(layer.size),
        "strides": list(layer.strides),
        "padding": layer.padding,
        "data_format": _data_format(layer.channels_first),
    }
    return Part(f"{_POOLS[layer.function]}Pooling{_spatial(place)}", options)


def _global_pooling(layer: kinds.GlobalPooling, place: Place) -> Part:
    options = {"data_format": _data_format(layer.channels_first), "keepdims": layer.keepdims}
    return Part(f"Global{_POOLS[layer.function]}Pooling{_spatial(place)}", options)


def _batch_normalization(layer: kinds.BatchNormalization, place: Place) -> Part:
    options = {
        "axis": layer.axis % place.rank,
        "epsilon": layer.epsilon,
        "center": layer.beta is not None,
        "scale": layer.gamma is not None,
    }
    moving = (variable._replace(trainable=False) for variable in place.variables(layer, ("mean", "variance")))
    variables = (*place.variables(layer, ("gamma", "beta")), *moving)
    return Part("BatchNormalization", options, variables, shape_matters=True)


def _layer_normalization(layer: kinds.LayerNormalization, place: Place) -> Part:
    axes = sorted(axis % place.rank for axis in layer.axes)
    options: dict[str, Any] = {"axis": axes, "epsilon": layer.epsilon}
    if layer.root_mean_square:
        if place.dialect.major == 2 or layer.gamma is None:
            raise UnsupportedModelError("Keras 2 has no normalisation by the root mean square")
        (gamma,) = place.variables(layer, ("gamma",))
        return Part("RMSNormalization", options, (gamma._replace(name="scale"),), shape_matters=True)
    options |= {"center": layer.beta is not None, "scale": layer.gamma is not None}
    return Part("LayerNormalization", options, place.variables(layer, ("gamma", "beta")), shape_matters=True)


def _unit_normalization(layer: kinds.UnitNormalization, place: Place) -> Part:
    if layer.epsilon != 1e-12:
        raise UnsupportedModelError(f"Keras' UnitNormalization has the epsilon 1e-12, but the layer {layer.epsilon:g}")
    return Part("UnitNormalization", {"axis": [axis % place.rank for axis in layer.axes]})


def _rescaling(layer: kinds.Rescaling, place: Place) -> Part:
    return Part("Rescaling", {"scale": layer.scale.tolist(), "offset": layer.offset.tolist()})


def _normalization(layer: kinds.Normalization, place: Place) -> Part:
    """Its statistics are variables, as after ``adapt``; ``count`` is not used."""
    kept = [axis for axis, size in enumerate(layer.mean.shape) if size != 1]
    shape = [layer.mean.shape[axis] for axis in kept]
    statistics = (("mean", layer.mean), ("variance", layer.variance))
    variables = [place.variable(name, array.reshape(shape), trainable=False) for name, array in statistics]
    count = np.zeros((), np.int32 if place.dialect.major == 3 else np.int64)
    counted = Variable("", "", "count", lambda: count, trainable=False)
    options = {"axis": kept or None, "mean": None, "variance": None, "invert": layer.invert}
    return Part("Normalization", options, (*variables, counted), shape_matters=True)


_AT_REST: Mapping[str, Mapping[str, Any]] = {
    "Dropout": {"rate": 0.0},
    "SpatialDropout1D": {"rate": 0.0},
    "SpatialDropout2D": {"rate": 0.0},
    "SpatialDropout3D": {"rate": 0.0},
    "GaussianDropout": {"rate": 0.0},
    "AlphaDropout": {"rate": 0.0},
    "GaussianNoise": {"stddev": 0.0},
    "ActivityRegularization": {"l1": 0.0, "l2": 0.0},
}
"""Layers that do nothing at inference; with these options they do nothing in training either: a model has none."""


def _identity(layer: kinds.Identity, place: Place) -> Part:
    if layer.class_name in _AT_REST:
        return Part(layer.class_name, _AT_REST[layer.class_name])
    return Part("Activation", {"activation": "linear"})


def _permute(layer: kinds.Permute, place: Place) -> Part:
    return Part("Permute", {"dims": list(layer.order[1:])})


def _repeat(layer: kinds.RepeatVector, place: Place) -> Part:
    return Part("RepeatVector", {"n": layer.count})


def _upsample(layer: kinds.Upsample, place: Place) -> Part:
    rank = _spatial(place)
    channels_first = layer.factors[1] == 1 and layer.factors[-1] != 1 and rank != "1D"
    factors = layer.factors[2:] if channels_first else layer.factors[1:-1]
    if (1, 1, *factors) != layer.factors and (1, *factors, 1) != layer.factors:
        raise UnsupportedModelError(f"Keras has no layer that repeats places {layer.factors} times")
    size = factors[0] if rank == "1D" else list(factors)
    formed = {} if rank == "1D" else {"data_format": _data_format(channels_first)}
    return Part(f"UpSampling{rank}", {"size": size, **formed} | ({"interpolation": "nearest"} if rank == "2D" else {}))


def _mask_steps(layer: kinds.MaskSteps, place: Place) -> Part:
    return Part("Masking", {"mask_value": layer.value})


_MERGES = {
    "add": "Add", "subtract": "Subtract", "multiply": "Multiply", "average": "Average", "maximum": "Maximum",
    "minimum": "Minimum",
}  # fmt: skip


def _merge(layer: kinds.Merge, place: Place) -> Part:
    return Part(_MERGES[layer.operation], {})


def _concatenate(layer: kinds.Concatenate, place: Place) -> Part:
    return Part("Concatenate", {"axis": layer.axis})


def _dot(layer: kinds.Dot, place: Place) -> Part:
    return Part("Dot", {"axes": list(layer.axes), "normalize": layer.normalize})


def _attention(layer: kinds.Attention, place: Place) -> Part:
    options: dict[str, Any] = {"use_scale": layer.scale is not None, "dropout": 0.0}
    if layer.score == "additive":
        return Part("AdditiveAttention", options, place.variables(layer, ("scale",)))
    variables = place.variables(layer, ("scale", "concat_score_weight"))
    return Part("Attention", {**options, "score_mode": layer.score}, variables)


_PROJECTIONS = (("query", "query"), ("key", "key"), ("value", "value"), ("output", "attention_output"))


def _multi_head(layer: kinds.MultiHeadAttention, place: Place) -> Part:
    """Its projections own their variables: tf-keras calls them ``_query_dense``, Keras 3 leaves the ``_`` out."""
    arrays = layer.arrays
    variables: list[Variable] = []
    inner: dict[str, str] = {}
    biases = [name for part, _ in _PROJECTIONS if (name := f"{part}_bias") in arrays]
    if len(biases) not in (0, len(_PROJECTIONS)):
        raise UnsupportedModelError("some of its projections have a bias and some have none")
    for part, name in _PROJECTIONS:
        owner = f"{'' if place.dialect.major == 3 else '_'}{part}_dense"
        inner[owner] = name
        variables += [
            place.variable(kind, arrays[f"{part}_{kind}"], owner, name)
            for kind in ("kernel", "bias")
            if f"{part}_{kind}" in arrays
        ]
    _, heads, size = layer.query_kernel.shape
    output = layer.output_kernel.shape[-1]
    options: dict[str, Any] = {
        "num_heads": heads,
        "key_dim": size,
        "value_dim": layer.value_kernel.shape[-1],
        "use_bias": bool(biases),
        "output_shape": None if output == place.shapes[0][-1] else [output],
        "attention_axes": None,
    }
    if place.dialect.major == 2:  # It makes its projections before it is called.
        query, value, *key = place.shapes
        options |= {"query_shape": query, "value_shape": value, "key_shape": key[0] if key else value}
    return Part("MultiHeadAttention", options, tuple(variables), inner=inner)


KINDS: Mapping[type[kinds.Kind], Callable[[Any, Place], Part]] = {
    kinds.Dense: _dense,
    kinds.Embedding: _embedding,
    kinds.PReLU: _prelu,
    kinds.Convolution: _convolution,
    kinds.TransposedConvolution: _transposed,
    kinds.Pooling: _pooling,
    kinds.GlobalPooling: _global_pooling,
    kinds.BatchNormalization: _batch_normalization,
    kinds.LayerNormalization: _layer_normalization,
    kinds.UnitNormalization: _unit_normalization,
    kinds.Rescaling: _rescaling,
    kinds.Normalization: _normalization,
    kinds.Identity: _identity,
    kinds.Permute: _permute,
    kinds.RepeatVector: _repeat,
    kinds.Upsample: _upsample,
    kinds.MaskSteps: _mask_steps,
    kinds.Merge: _merge,
    kinds.Concatenate: _concatenate,
    kinds.Dot: _dot,
    kinds.Attention: _attention,
    kinds.MultiHeadAttention: _multi_head,
}
"""The kinds that are one layer of Keras."""
