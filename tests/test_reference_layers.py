"""The reference of every kind of layer, against real Keras 3 in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from lstmconv.activations import HARD_SIGMOID_KERAS_3, SIGMOID, Activation, parse_activation
from lstmconv.model import kinds
from lstmconv.model.graph import Call, Input, Model, Tensor, TimeDistributed
from lstmconv.model.recurrent import GRUDirection, RecurrentLayer, SimpleRNNDirection
from lstmconv.model.shapes import output_shapes
from lstmconv.semantics.graph import compute

keras = pytest.importorskip("keras")

EXACT = 1e-11
"""Both compute in float64; sums come in other orders."""


@dataclass(frozen=True, eq=False)
class Case:
    """One Keras layer, and the record that must compute the same.

    Attributes:
        layer: Makes the Keras layer, from its module ``keras.layers``.
        shapes: Of its inputs.
        kind: Makes the record from ``get_weights()``.
        masks: Masks to call it with, by argument.
        call: Other arguments of the call.
        ids: The inputs are token ids below this.
    """

    name: str
    layer: Callable[[Any], Any]
    shapes: list[tuple[int, ...]]
    kind: Callable[[list[np.ndarray]], Any]
    masks: tuple[str, ...] = ()
    call: dict[str, Any] = field(default_factory=dict)
    ids: int = 0


RELU = parse_activation("relu", 3)
SOFTMAX = Activation("softmax")


def conv(w, **options):
    return kinds.Convolution("x", w[0], w[1] if len(w) > 1 else None, **options)


def transposed(w, **options):
    return kinds.TransposedConvolution("x", w[0], w[1], **options)


def depthwise(w, strides, padding="valid", channels_first=False):
    *spatial, channels, multiplier = w[0].shape
    kernel = w[0].reshape(*spatial, 1, channels * multiplier)
    return kinds.Convolution("x", kernel, w[1], strides, padding, (1,) * len(spatial), channels, channels_first)


def gru(w, reset_after, **options):
    hidden = w[1].shape[0]
    cut = [np.stack([m[..., k * hidden : (k + 1) * hidden].T for k in range(3)]) for m in w[:2]]
    biases = [None, None]
    if len(w) > 2:
        rows = w[2].reshape(-1, 3, hidden)
        biases = [rows[0], rows[1] if reset_after else None]
    return GRUDirection(*cut, *biases, reset_after=reset_after, **options)


def gru_layer(w, reset_after, both=False, layer=None, **options):
    if not both:
        return RecurrentLayer("x", gru(w, reset_after, **options), **(layer or {}))
    half = len(w) // 2
    back = gru(w[half:], reset_after, go_backwards=True)
    return RecurrentLayer("x", gru(w[:half], reset_after), back, **(layer or {}))


def simple(w, layer=None, **options):
    return RecurrentLayer("x", SimpleRNNDirection(w[0].T, w[1].T, w[2], **options), **(layer or {}))


def heads(w, bias=True, **options):
    names = ("query", "key", "value", "output")
    step = 2 if bias else 1
    arrays = {f"{name}_kernel": w[k * step] for k, name in enumerate(names)}
    if bias:
        arrays |= {f"{name}_bias": w[k * step + 1] for k, name in enumerate(names)}
    return kinds.MultiHeadAttention("x", **arrays, **options)


def distributed(w):
    inner = conv(w, strides=(1,), activation=RELU)
    calls = (Call("c", inner, (Tensor("i"),)), Call("p", kinds.GlobalPooling("p", "max"), (Tensor("c"),)))
    return TimeDistributed("x", Model("m", (Input("i", (None, 7, 3)),), calls, {"o": Tensor("p")}))


KERAS = [
    Case(
        "Dense", lambda k: k.Dense(5, activation="relu"), [(2, 7, 3)], lambda w: kinds.Dense("x", *w, activation=RELU)
    ),
    Case("Dense without bias", lambda k: k.Dense(3, use_bias=False), [(2, 3)], lambda w: kinds.Dense("x", w[0])),
    Case(
        "Dense, softmax", lambda k: k.Dense(5, "softmax"), [(2, 3)], lambda w: kinds.Dense("x", *w, activation=SOFTMAX)
    ),
    Case("Embedding", lambda k: k.Embedding(11, 5), [(2, 7)], lambda w: kinds.Embedding("x", w[0]), ids=11),
    Case("Softmax", lambda k: k.Softmax(axis=1), [(2, 7, 3)], lambda w: kinds.Activate("x", SOFTMAX, 1)),
    Case("Softmax, masked", lambda k: k.Softmax(), [(3, 7)], lambda w: kinds.Activate("x", SOFTMAX), ("mask",)),
    Case("ELU", lambda k: k.ELU(0.3), [(2, 7)], lambda w: kinds.Activate("x", Activation("elu", (("alpha", 0.3),)))),
    Case("PReLU", lambda k: k.PReLU(shared_axes=[1]), [(2, 7, 3)], lambda w: kinds.PReLU("x", w[0])),
    Case(
        "Conv1D",
        lambda k: k.Conv1D(5, 3, 2, activation="relu"),
        [(2, 11, 3)],
        lambda w: conv(w, strides=(2,), activation=RELU),
    ),
    Case(
        "Conv1D, same, even", lambda k: k.Conv1D(5, 4, padding="same"), [(2, 11, 3)], lambda w: conv(w, padding="same")
    ),
    Case(
        "Conv1D, same, strides",
        lambda k: k.Conv1D(5, 4, 3, padding="same"),
        [(2, 11, 3)],
        lambda w: conv(w, strides=(3,), padding="same"),
    ),
    Case(
        "Conv1D, causal",
        lambda k: k.Conv1D(5, 3, padding="causal", dilation_rate=2),
        [(2, 11, 3)],
        lambda w: conv(w, padding="causal", dilation=(2,)),
    ),
    Case("Conv1D, groups", lambda k: k.Conv1D(10, 3, groups=2), [(2, 11, 6)], lambda w: conv(w, groups=2)),
    Case(
        "Conv1D, channels first",
        lambda k: k.Conv1D(5, 3, data_format="channels_first", padding="same", activation="softmax"),
        [(2, 3, 11)],
        lambda w: conv(w, channels_first=True, padding="same", activation=SOFTMAX),
    ),
    Case(
        "Conv2D",
        lambda k: k.Conv2D(5, (3, 2), (1, 2), padding="same"),
        [(2, 7, 11, 3)],
        lambda w: conv(w, strides=(1, 2), padding="same", dilation=(1, 1)),
    ),
    Case(
        "Conv3D",
        lambda k: k.Conv3D(5, (3, 2, 2)),
        [(2, 5, 7, 5, 3)],
        lambda w: conv(w, strides=(1, 1, 1), dilation=(1, 1, 1)),
    ),
    Case(
        "DepthwiseConv1D",
        lambda k: k.DepthwiseConv1D(3, depth_multiplier=2),
        [(2, 11, 5)],
        lambda w: depthwise(w, (1,)),
    ),
    Case(
        "DepthwiseConv2D",
        lambda k: k.DepthwiseConv2D(3, 2, padding="same"),
        [(2, 11, 7, 5)],
        lambda w: depthwise(w, (2, 2), "same"),
    ),
    *(
        Case(
            f"Conv1DTranspose {size} {stride} {padding} {extra}",
            lambda k, o=(size, stride, padding, extra): k.Conv1DTranspose(
                5, o[0], o[1], padding=o[2], output_padding=o[3]
            ),
            [(2, 7, 3)],
            lambda w, o=(size, stride, padding, extra): transposed(
                w, strides=(o[1],), padding=o[2], output_padding=None if o[3] is None else (o[3],)
            ),
        )
        for size, stride, padding, extra in [
            (3, 1, "valid", None),
            (3, 2, "valid", None),
            (2, 3, "valid", None),
            (3, 2, "same", None),
            (4, 2, "same", None),
            (5, 3, "same", None),
            (3, 2, "same", 1),
            (4, 3, "valid", 1),
            (2, 3, "same", None),
            (3, 1, "same", None),
        ]
    ),
    Case(
        "Conv1DTranspose, dilation",
        lambda k: k.Conv1DTranspose(5, 3, dilation_rate=2),
        [(2, 7, 3)],
        lambda w: transposed(w, dilation=(2,)),
    ),
    Case(
        "Conv2DTranspose",
        lambda k: k.Conv2DTranspose(5, (3, 2), 2, padding="same", activation="relu"),
        [(2, 7, 5, 3)],
        lambda w: transposed(w, strides=(2, 2), padding="same", dilation=(1, 1), activation=RELU),
    ),
    Case(
        "MaxPooling1D",
        lambda k: k.MaxPooling1D(3, 2, padding="same"),
        [(2, 11, 3)],
        lambda w: kinds.Pooling("x", "max", (3,), (2,), "same"),
    ),
    Case(
        "MaxPooling1D, valid",
        lambda k: k.MaxPooling1D(3),
        [(2, 11, 3)],
        lambda w: kinds.Pooling("x", "max", (3,), (3,)),
    ),
    Case(
        "AveragePooling1D",
        lambda k: k.AveragePooling1D(4, 3, padding="same"),
        [(2, 11, 3)],
        lambda w: kinds.Pooling("x", "average", (4,), (3,), "same"),
    ),
    Case(
        "AveragePooling2D, channels first",
        lambda k: k.AveragePooling2D(3, padding="same", data_format="channels_first"),
        [(2, 3, 7, 13)],
        lambda w: kinds.Pooling("x", "average", (3, 3), (3, 3), "same", channels_first=True),
    ),
    Case(
        "GlobalAveragePooling1D",
        lambda k: k.GlobalAveragePooling1D(),
        [(2, 7, 3)],
        lambda w: kinds.GlobalPooling("x", "average"),
    ),
    Case(
        "GlobalAveragePooling1D, masked",
        lambda k: k.GlobalAveragePooling1D(keepdims=True),
        [(3, 7, 5)],
        lambda w: kinds.GlobalPooling("x", "average", keepdims=True),
        ("mask",),
    ),
    Case(
        "GlobalMaxPooling2D",
        lambda k: k.GlobalMaxPooling2D(data_format="channels_first"),
        [(2, 3, 5, 7)],
        lambda w: kinds.GlobalPooling("x", "max", channels_first=True),
    ),
    Case(
        "BatchNormalization",
        lambda k: k.BatchNormalization(),
        [(2, 7, 3)],
        lambda w: kinds.BatchNormalization("x", w[2], w[3], w[0], w[1]),
    ),
    Case(
        "BatchNormalization, axis 1",
        lambda k: k.BatchNormalization(axis=1, scale=False, epsilon=0.1),
        [(2, 7, 3)],
        lambda w: kinds.BatchNormalization("x", w[1], w[2], None, w[0], 0.1, 1),
    ),
    Case(
        "LayerNormalization", lambda k: k.LayerNormalization(), [(2, 7, 3)], lambda w: kinds.LayerNormalization("x", *w)
    ),
    Case(
        "LayerNormalization, two axes",
        lambda k: k.LayerNormalization(axis=(1, 2), epsilon=0.1),
        [(2, 7, 3)],
        lambda w: kinds.LayerNormalization("x", *w, 0.1, (1, 2)),
    ),
    Case(
        "RMSNormalization",
        lambda k: k.RMSNormalization(epsilon=0.1),
        [(2, 7, 3)],
        lambda w: kinds.LayerNormalization("x", w[0], None, 0.1, root_mean_square=True),
    ),
    Case(
        "UnitNormalization",
        lambda k: k.UnitNormalization(axis=1),
        [(2, 7, 3)],
        lambda w: kinds.UnitNormalization("x", (1,)),
    ),
    Case(
        "Rescaling",
        lambda k: k.Rescaling(0.3, [1.0, 2.0, 3.0]),
        [(2, 7, 3)],
        lambda w: kinds.Rescaling("x", np.array(0.3), np.array([1.0, 2.0, 3.0])),
    ),
    Case(
        "Normalization",
        lambda k: k.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 5.0, 0.0]),
        [(2, 3)],
        lambda w: kinds.Normalization("x", np.array([[1.0, 2.0, 3.0]]), np.array([[4.0, 5.0, 0.0]])),
    ),
    Case(
        "Normalization, inverted",
        lambda k: k.Normalization(mean=2.0, variance=3.0, axis=None, invert=True),
        [(2, 3)],
        lambda w: kinds.Normalization("x", np.array(2.0), np.array(3.0), invert=True),
    ),
    Case("Dropout", lambda k: k.Dropout(0.5), [(2, 3)], lambda w: kinds.Identity("x", "Dropout")),
    Case("Flatten", lambda k: k.Flatten(), [(2, 7, 3)], lambda w: kinds.Reshape("x", (-1,))),
    Case("Reshape", lambda k: k.Reshape((3, -1)), [(2, 7, 6)], lambda w: kinds.Reshape("x", (3, -1))),
    Case("Permute", lambda k: k.Permute((2, 1)), [(2, 7, 3)], lambda w: kinds.Permute("x", (0, 2, 1))),
    Case("RepeatVector", lambda k: k.RepeatVector(5), [(2, 3)], lambda w: kinds.RepeatVector("x", 5)),
    Case(
        "ZeroPadding1D",
        lambda k: k.ZeroPadding1D((1, 2)),
        [(2, 7, 3)],
        lambda w: kinds.Pad("x", ((0, 0), (1, 2), (0, 0))),
    ),
    Case(
        "Cropping1D", lambda k: k.Cropping1D((1, 2)), [(2, 7, 3)], lambda w: kinds.Crop("x", ((0, 0), (1, 2), (0, 0)))
    ),
    Case("UpSampling2D", lambda k: k.UpSampling2D((2, 3)), [(2, 5, 7, 3)], lambda w: kinds.Upsample("x", (1, 2, 3, 1))),
    *(
        Case(
            cls,
            lambda k, cls=cls: getattr(k, cls)(),
            [(2, 7, 3), (2, 3), (2, 7, 1)][: 2 if cls == "Subtract" else 3],
            lambda w, cls=cls: kinds.Merge("x", cls.lower()),
        )
        for cls in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
    ),
    Case("Concatenate", lambda k: k.Concatenate(axis=1), [(2, 7, 3), (2, 5, 3)], lambda w: kinds.Concatenate("x", 1)),
    Case("Dot", lambda k: k.Dot(axes=(2, 1)), [(2, 7, 3), (2, 3, 5)], lambda w: kinds.Dot("x", (2, 1))),
    Case(
        "Dot, normalized",
        lambda k: k.Dot(axes=1, normalize=True),
        [(2, 7), (2, 7)],
        lambda w: kinds.Dot("x", (1, 1), normalize=True),
    ),
    Case("Dot of four axes", lambda k: k.Dot(axes=(1, 2)), [(2, 7, 3, 5), (2, 3, 7)], lambda w: kinds.Dot("x", (1, 2))),
    Case(
        "Attention",
        lambda k: k.Attention(use_scale=True),
        [(2, 7, 3), (2, 5, 3)],
        lambda w: kinds.Attention("x", "dot", w[0]),
        ("query", "value"),
    ),
    Case(
        "Attention, concat, causal",
        lambda k: k.Attention(use_scale=True, score_mode="concat"),
        [(2, 5, 3), (2, 5, 7), (2, 5, 3)],
        lambda w: kinds.Attention("x", "concat", w[0], w[1], causal=True, return_scores=True),
        call={"use_causal_mask": True, "return_attention_scores": True},
    ),
    Case(
        "AdditiveAttention",
        lambda k: k.AdditiveAttention(),
        [(2, 7, 3), (2, 5, 3)],
        lambda w: kinds.Attention("x", "additive", w[0]),
        ("query", "value"),
    ),
    Case("MultiHeadAttention", lambda k: k.MultiHeadAttention(2, 5, 3), [(2, 7, 3), (2, 11, 5)], heads),
    Case(
        "MultiHeadAttention, masked",
        lambda k: k.MultiHeadAttention(2, 5, use_bias=False),
        [(2, 5, 3), (2, 5, 3), (2, 5, 7)],
        lambda w: heads(w, bias=False, causal=True, return_scores=True),
        ("value_mask",),
        {"use_causal_mask": True, "return_attention_scores": True},
    ),
    Case(
        "TimeDistributed",
        lambda k: k.TimeDistributed(
            keras.Sequential(
                [k.Conv1D(5, 3, activation="relu", dtype="float64"), k.GlobalMaxPooling1D(dtype="float64")]
            )
        ),
        [(2, 5, 7, 3)],
        distributed,
    ),
    *(
        Case(
            f"GRU, reset_after={after}, {extra}",
            lambda k, o=(after, extra): k.GRU(
                5,
                reset_after=o[0],
                recurrent_activation="hard_sigmoid" if o[1] == "hard" else "sigmoid",
                use_bias=o[1] != "no bias",
                return_sequences=True,
                return_state=True,
                go_backwards=o[1] == "backwards",
            ),
            [(3, 7, 3)],
            lambda w, o=(after, extra): gru_layer(
                w,
                o[0],
                go_backwards=o[1] == "backwards",
                recurrent_activation=HARD_SIGMOID_KERAS_3 if o[1] == "hard" else SIGMOID,
                layer={"return_sequences": True, "return_state": True},
            ),
            ("mask",) if extra == "mask" else (),
        )
        for after in (False, True)
        for extra in ("plain", "mask", "hard", "no bias", "backwards")
    ),
    Case(
        "Bidirectional GRU",
        lambda k: k.Bidirectional(k.GRU(5, dtype="float64", return_sequences=True), merge_mode="sum"),
        [(3, 7, 3)],
        lambda w: gru_layer(
            w, True, True, {"merge_mode": "sum", "return_sequences": True, "zero_output_for_mask": True}
        ),
        ("mask",),
    ),
    Case("SimpleRNN", lambda k: k.SimpleRNN(5), [(3, 7, 3)], simple, ("mask",)),
    Case(
        "SimpleRNN, relu",
        lambda k: k.SimpleRNN(5, activation="relu", return_sequences=True, zero_output_for_mask=True),
        [(3, 7, 3)],
        lambda w: simple(w, {"return_sequences": True, "zero_output_for_mask": True}, activation=RELU),
        ("mask",),
    ),
]


def masks_for(case: Case, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw masks with a hole; no sequence is masked whole, and none at its first step."""
    masks = {}
    for name in case.masks:
        shape = case.shapes[1 if name.startswith("value") else 0][:2]
        masks[name] = random.random(shape) < 0.6
        masks[name][:, 0] = True
        masks[name][0, :2] = True, False
    return masks


def returned(layer, case: Case, inputs: list[np.ndarray], masks: dict[str, np.ndarray]):
    """Call the Keras layer the way its kind is called."""
    tensors = [keras.ops.convert_to_tensor(array) for array in inputs]
    given: dict[str, Any] = {name: keras.ops.convert_to_tensor(mask) for name, mask in masks.items()}
    if set(given) == {"query", "value"}:
        given = {"mask": [given["query"], given["value"]]}
    if isinstance(layer, keras.layers.MultiHeadAttention):
        return layer(*tensors, **given, **case.call)
    return layer(tensors if len(tensors) > 1 else tensors[0], **given, **case.call)


@pytest.fixture
def float64(monkeypatch):
    """Let Keras compute in float64 throughout: on PyTorch its own promotion makes float32 of it here and there."""
    from keras.src.backend.common import dtypes

    monkeypatch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


def drawn(variable, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Draw a weight; a variance is positive."""
    values = random.normal(size=shape)
    return np.abs(values) + 0.1 if "variance" in variable.path else values


@pytest.mark.usefixtures("float64")
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("case", KERAS, ids=lambda case: case.name)
def test_a_layer_is_computed_as_keras_computes_it(case):
    random = np.random.default_rng(len(case.name))
    inputs = [
        random.integers(0, case.ids, shape) if case.ids else random.normal(size=shape) * 2 for shape in case.shapes
    ]
    layer, masks = case.layer(keras.layers), masks_for(case, random)
    returned(layer, case, inputs, masks)
    layer.set_weights([drawn(variable, variable.shape, random) for variable in layer.weights])
    found = returned(layer, case, inputs, masks)
    expected = [keras.ops.convert_to_numpy(each) for each in (found if isinstance(found, (tuple, list)) else [found])]
    kind = case.kind(layer.get_weights())
    given = [None, *masks.values()] if "value_mask" in masks else list(masks.values())
    outputs, _ = compute(kind, inputs, None, given)
    assert len(outputs) == len(expected)
    for mine, wanted in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=EXACT, atol=EXACT)
    assert output_shapes(kind, case.shapes) == tuple(each.shape for each in expected)
    for shape, wanted in zip(output_shapes(kind, [(None, *shape[1:]) for shape in case.shapes]), expected, strict=True):
        assert shape == (None, *wanted.shape[1:])
