"""The layers other than LSTMs: one small dataclass for each kind; many Keras classes map to one kind.

Arrays are views into the file, with the axes of Keras 2 and 3 that each class states (a kernel is
``(input, output)``); :mod:`lstmconv.layouts` converts them to a target's axes. The attributes decide
the layer's result completely; training-only options (dropout rates, regularizers) are left out.

"axis" and "axes" count as NumPy does and include the batch axis, 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

import numpy as np

from lstmconv.activations import LINEAR, Activation
from lstmconv.model.gates import Array

__all__ = [
    "COMPARISONS", "Activate", "Attention", "BatchNormalization", "Cast", "Concatenate", "Constant", "Convolution",
    "Crop", "Dense", "Dot", "Embedding", "GlobalPooling", "Identity", "Kind", "LayerNormalization", "MaskSteps",
    "Merge", "MultiHeadAttention", "Normalization", "Operation", "PReLU", "Pad", "Padding", "Permute", "Pooling",
    "Reduce", "RepeatVector", "Rescaling", "Reshape", "Slice", "Stacking", "StepIsUnmasked", "TransposedConvolution",
    "UnitNormalization", "Unknown", "Upsample",
]  # fmt: skip

Padding: TypeAlias = Literal["valid", "same", "causal"]
"""``same`` pads like TensorFlow: ``ceil(size / stride)`` steps, and an odd number of zeros has its larger part last."""


@dataclass(frozen=True, eq=False)
class Kind:
    """The base class of all kinds.

    Attributes:
        name: The user's own layer name; ``/`` between nested models. Unique in a model.
    """

    name: str

    def __init_subclass__(cls) -> None:
        """Keep the short ``repr`` below: ``dataclass`` adds none to a class that has one."""
        cls.__repr__ = Kind.__repr__  # type: ignore[method-assign]  # on purpose

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in self.arrays.items())
        return f"{type(self).__name__}({self.name!r}{', ' if shapes else ''}{shapes})"

    @property
    def arrays(self) -> Mapping[str, Array]:
        """The arrays that exist, by attribute, in the order of the attributes."""
        return {
            field.name: value for field in fields(self) if isinstance(value := getattr(self, field.name), np.ndarray)
        }


@dataclass(frozen=True, eq=False)
class Dense(Kind):
    """``activation(x @ kernel + bias)`` on the last axis.

    Attributes:
        kernel: ``(input, output)``.
        bias: ``(output,)`` or ``None``.
    """

    kernel: Array
    bias: Array | None = None
    activation: Activation = LINEAR


@dataclass(frozen=True, eq=False)
class Embedding(Kind):
    """Rows of a table by integer token id; its mask (``mask_zero``) is a call of its own in the graph.

    Attributes:
        table: ``(tokens, features)``.
    """

    table: Array


@dataclass(frozen=True, eq=False)
class Activate(Kind):
    """An activation as a layer. Softmax and similar functions run along ``axis``; a mask (Softmax) excludes places."""

    activation: Activation
    axis: int = -1


@dataclass(frozen=True, eq=False)
class PReLU(Kind):
    """``x`` where positive, ``slope * x`` elsewhere.

    Attributes:
        slope: The input's shape without the batch; 1 along shared axes.
    """

    slope: Array


@dataclass(frozen=True, eq=False)
class Convolution(Kind):
    """A convolution over one, two or three spatial axes; depthwise where ``groups`` equals the input channels.

    A Keras depthwise kernel ``(..., input, multiplier)`` is the kernel ``(..., 1, input * multiplier)`` here.
    A separable convolution is two calls, ``<name>/depthwise`` and ``<name>/pointwise``.

    Attributes:
        kernel: ``(spatial..., input / groups, filters)``.
        bias: ``(filters,)`` or ``None``.
        strides, dilation: One number a spatial axis.
        padding: ``causal`` pads on the left only, one spatial axis.
        channels_first: Inputs and outputs are ``(batch, channels, spatial...)``.
    """

    kernel: Array
    bias: Array | None = None
    strides: tuple[int, ...] = (1,)
    padding: Padding = "valid"
    dilation: tuple[int, ...] = (1,)
    groups: int = 1
    channels_first: bool = False
    activation: Activation = LINEAR


@dataclass(frozen=True, eq=False)
class TransposedConvolution(Kind):
    """Conv1DTranspose and Conv2DTranspose.

    Attributes:
        kernel: ``(spatial..., filters, input)``, as Keras stores it.
        output_padding: One number a spatial axis, or ``None``: Keras' own choice
            (keras/src/backend/common/backend_utils.py compute_conv_transpose_output_length).
    """

    kernel: Array
    bias: Array | None = None
    strides: tuple[int, ...] = (1,)
    padding: Padding = "valid"
    output_padding: tuple[int, ...] | None = None
    dilation: tuple[int, ...] = (1,)
    channels_first: bool = False
    activation: Activation = LINEAR


@dataclass(frozen=True, eq=False)
class Pooling(Kind):
    """The maximum or the average of a window; an average counts no padded place."""

    function: Literal["max", "average"]
    size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: Padding = "valid"
    channels_first: bool = False


@dataclass(frozen=True, eq=False)
class GlobalPooling(Kind):
    """The maximum or the average over all spatial axes; an average of one spatial axis honours a mask."""

    function: Literal["max", "average"]
    keepdims: bool = False
    channels_first: bool = False


@dataclass(frozen=True, eq=False)
class BatchNormalization(Kind):
    """``(x - mean) / sqrt(variance + epsilon) * gamma + beta`` along ``axis``; arrays are ``(channels,)``."""

    mean: Array
    variance: Array
    gamma: Array | None = None
    beta: Array | None = None
    epsilon: float = 1e-3
    axis: int = -1


@dataclass(frozen=True, eq=False)
class LayerNormalization(Kind):
    """Each sample normalised by its mean and variance over ``axes``.

    ``root_mean_square`` (Keras 3 ``rms_scaling``) takes no mean and no beta.

    Attributes:
        gamma, beta: The shape of the normalised axes, or ``None``.
    """

    gamma: Array | None = None
    beta: Array | None = None
    epsilon: float = 1e-3
    axes: tuple[int, ...] = (-1,)
    root_mean_square: bool = False


@dataclass(frozen=True, eq=False)
class UnitNormalization(Kind):
    """``x / sqrt(max(sum of squares over axes, epsilon))``; also ``l2_normalize``."""

    axes: tuple[int, ...] = (-1,)
    epsilon: float = 1e-12


@dataclass(frozen=True, eq=False)
class Rescaling(Kind):
    """``x * scale + offset``; each is a scalar ``()`` or broadcasts against the input."""

    scale: Array
    offset: Array


@dataclass(frozen=True, eq=False)
class Normalization(Kind):
    """``(x - mean) / max(sqrt(variance), 1e-7)``, or back with ``invert``; arrays broadcast against the input."""

    mean: Array
    variance: Array
    invert: bool = False


@dataclass(frozen=True, eq=False)
class Identity(Kind):
    """A layer that does nothing at inference: dropout, noise, regularization.

    Attributes:
        class_name: The Keras class.
    """

    class_name: str


@dataclass(frozen=True, eq=False)
class Reshape(Kind):
    """A new shape for each sample: Reshape, and Flatten as ``(-1,)``.

    Attributes:
        shape: Without the batch; one entry may be -1.
        fixed_batch: The shape includes the batch axis: an operation on the whole tensor.
    """

    shape: tuple[int, ...]
    fixed_batch: bool = False


@dataclass(frozen=True, eq=False)
class Permute(Kind):
    """Axes in another order; ``order`` includes the batch: ``(0, 2, 1)``."""

    order: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class RepeatVector(Kind):
    """``(batch, features)`` becomes ``(batch, count, features)``."""

    count: int


@dataclass(frozen=True, eq=False)
class Pad(Kind):
    """A constant value before and after each axis of the input; the batch has ``(0, 0)``."""

    amounts: tuple[tuple[int, int], ...]
    value: float = 0.0


@dataclass(frozen=True, eq=False)
class Crop(Kind):
    """Places cut off before and after each axis; the batch has ``(0, 0)``."""

    amounts: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Upsample(Kind):
    """Each place ``factors[axis]`` times along each axis of the input (nearest); the batch has 1."""

    factors: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Merge(Kind):
    """Several inputs joined element by element, with NumPy's broadcasting after Keras' own expansion of dims."""

    operation: Literal["add", "subtract", "multiply", "average", "maximum", "minimum"]


@dataclass(frozen=True, eq=False)
class Concatenate(Kind):
    """Inputs concatenated along ``axis``."""

    axis: int = -1


@dataclass(frozen=True, eq=False)
class Stacking(Kind):
    """Inputs stacked along a new axis: ``stack``."""

    axis: int = 0


@dataclass(frozen=True, eq=False)
class Dot(Kind):
    """The batched dot product of two inputs along one axis each; ``normalize`` makes both unit vectors first."""

    axes: tuple[int, int]
    normalize: bool = False


@dataclass(frozen=True, eq=False)
class Constant(Kind):
    """A constant in the config: an operand, an initial state. It takes no input.

    Attributes:
        value: The array; a batch axis has size 1 if the constant broadcasts.
    """

    value: Array


COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
"""The functions of :class:`Operation` that return bool of two numbers."""


@dataclass(frozen=True, eq=False)
class Operation(Kind):
    """An elementwise operation on one or two inputs, with NumPy's broadcasting.

    Attributes:
        function: With two inputs: ``add subtract multiply divide floor_divide power maximum minimum matmul equal
            not_equal less less_equal greater greater_equal logical_and logical_or``. With one input: ``negative abs
            square sqrt rsqrt exp log logical_not sign``.
    """

    function: str


@dataclass(frozen=True, eq=False)
class Cast(Kind):
    """Another dtype, by NumPy's name: ``float32`` stands for the model's own float type."""

    dtype: str


@dataclass(frozen=True, eq=False)
class Reduce(Kind):
    """``sum``, ``mean``, ``max``, ``min``, ``all`` or ``any`` over ``axes``."""

    function: Literal["sum", "mean", "max", "min", "all", "any"]
    axes: tuple[int, ...]
    keepdims: bool = False


@dataclass(frozen=True, eq=False)
class Slice(Kind):
    """NumPy's basic indexing, one entry an axis.

    An integer removes the axis, ``(start, stop, step)`` keeps it, ``None`` adds an axis of size 1.
    """

    index: tuple[int | tuple[int | None, int | None, int | None] | None, ...]


@dataclass(frozen=True, eq=False)
class MaskSteps(Kind):
    """Keras' Masking: steps whose features all equal ``value`` become zero; its mask is a :class:`StepIsUnmasked`."""

    value: float


@dataclass(frozen=True, eq=False)
class StepIsUnmasked(Kind):
    """The mask that Masking computes, ``(batch, time)``: true where any feature (last axis) differs from ``value``."""

    value: float


@dataclass(frozen=True, eq=False)
class Attention(Kind):
    """Keras' Attention (``dot``, ``concat``) and AdditiveAttention.

    Inputs: query, value and, if given, key. Outputs: the context (and the weights).

    Call masks: :attr:`~lstmconv.model.graph.Call.masks` has the query mask and the value mask (``None`` if missing).

    Attributes:
        scale: ``()`` for ``dot`` with use_scale, ``(features,)`` for additive; ``None`` without.
        concat_score_weight: ``()`` for score_mode ``concat``.
    """

    score: Literal["dot", "concat", "additive"]
    scale: Array | None = None
    concat_score_weight: Array | None = None
    causal: bool = False
    return_scores: bool = False


@dataclass(frozen=True, eq=False)
class MultiHeadAttention(Kind):
    """Keras' MultiHeadAttention over one sequence axis. Inputs query, value and, if given, key.

    Call masks: query, value, key masks, then an explicit attention mask ``(batch, query steps, value steps)``.

    Attributes:
        query_kernel, key_kernel: ``(features, heads, key_size)``.
        value_kernel: ``(features, heads, value_size)``.
        output_kernel: ``(heads, value_size, output)``.
        query_bias, key_bias: ``(heads, key_size)`` or ``None``.
        value_bias: ``(heads, value_size)`` or ``None``.
        output_bias: ``(output,)`` or ``None``.
    """

    query_kernel: Array
    key_kernel: Array
    value_kernel: Array
    output_kernel: Array
    query_bias: Array | None = None
    key_bias: Array | None = None
    value_bias: Array | None = None
    output_bias: Array | None = None
    causal: bool = False
    return_scores: bool = False


@dataclass(frozen=True, eq=False)
class Unknown(Kind):
    """A layer that lstmconv does not compute: lstmconv joins no layers across it and proves nothing about it.

    Attributes:
        class_name: The class in the config, with the package if it is not Keras' own: ``my>LSTM``.
        reason: The reason why lstmconv does not compute the layer, for people.
        stored: The layer's arrays by the file's names.
    """

    class_name: str
    reason: str
    stored: Mapping[str, Array]

    @property
    def described(self) -> str:
        """The layer, its class and the reason in one line: ``double (Lambda): ...``."""
        return f"{self.name} ({self.class_name}): {self.reason}"

    @property
    def arrays(self) -> Mapping[str, Array]:
        """The layer's arrays by the file's names."""
        return self.stored
