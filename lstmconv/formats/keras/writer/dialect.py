"""The two Kerases that files are written for, what each calls an activation, and what each cannot hold.

Keras 2 means tf.keras 2.15 and tf-keras, which still reads and writes its files; older ones are Keras 2
only where they read the same. Sources: tf_keras/src/{activations.py,layers/rnn/} (2.21),
keras/src/{activations,layers/rnn}/ (3.0.5 to 3.15).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstmconv.activations import HARD_SIGMOID_KERAS_2, HARD_SIGMOID_KERAS_3, Activation, parse_activation
from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.model import LSTMLayer, RecurrentLayer, Stack

__all__ = [
    "KERAS_2",
    "KERAS_3",
    "Dialect",
    "by_version",
    "choose",
    "described",
    "neither",
    "obstacle",
    "refusal",
    "wiring_refusal",
]


@dataclass(frozen=True)
class Dialect:
    """One generation of files.

    Attributes:
        major: ``keras_version`` as a user names it.
        version: What files state as their writer: the oldest release whose own files look the same.
        functions: The activations that a name says, and the name where it is not Keras 3's.
        functional: The module that ``Functional`` is imported from.
        model_name: What the model is called.
        input_shape: What an InputLayer calls its shape.
        orthogonal: What it calls the initializer of recurrent matrices; Keras 3 so before 3.6, and since as an alias.
        suffix: How the variables' names end in a legacy file.
    """

    major: int
    version: str
    functions: Mapping[str, str | None]
    functional: str
    model_name: str
    input_shape: str
    orthogonal: str
    suffix: str


_BOTH = (
    *("linear", "sigmoid", "tanh", "softmax", "softplus", "softsign", "exponential"),
    *("hard_sigmoid", "relu", "elu", "selu", "gelu", "mish"),
)
KERAS_2 = Dialect(
    major=2,
    version="2.15.0",  # The root is called "layers" from 2.15 on, and every cell "lstm_cell" from 2.13 on.
    functions={**dict.fromkeys(_BOTH), "silu": "swish"},
    functional="keras.src.engine.functional",
    model_name="model",
    input_shape="batch_input_shape",
    orthogonal="Orthogonal",
    suffix=":0",
)
KERAS_3 = Dialect(
    major=3,
    version="3.6.0",  # Names lie beside the variables from 3.6 on.
    functions=dict.fromkeys(
        (
            *_BOTH,
            *("silu", "hard_silu", "log_softmax", "celu", "hard_tanh", "log_sigmoid", "sparsemax", "sparse_plus"),
            *("sparse_sigmoid", "squareplus", "soft_shrink", "hard_shrink", "tanh_shrink"),
        )
    ),
    functional="keras.src.models.functional",
    model_name="functional",
    input_shape="batch_shape",
    orthogonal="OrthogonalInitializer",
    suffix="",
)


def by_version(version: int) -> Dialect:
    """Return the dialect that a user names.

    Raises:
        UsageError: It is neither 2 nor 3.
    """
    for dialect in (KERAS_2, KERAS_3):
        if dialect.major == version:
            return dialect
    raise UsageError(f"keras_version is {version}, expected 2 (tf.keras 2.15, tf-keras) or 3")


def described(activation: Activation, dialect: Dialect, dtype: str) -> str | dict[str, Any] | None:
    """Return what stands in a config for an activation: a name, a serialised layer, or ``None`` if nothing does.

    Args:
        activation: An exact function.
        dialect: Who reads the config.
        dtype: The layer's, which a serialised layer states too.
    """
    if activation.name in dialect.functions and parse_activation(activation.name, dialect.major) == activation:
        return dialect.functions[activation.name] or activation.name
    numbers = dict(activation.parameters)
    if dialect.major == 3:
        for name in ("leaky_relu", "relu6"):
            if parse_activation(name, dialect.major) == activation:
                return name
    if activation.name == "relu":
        unbounded = numbers["max_value"] == float("inf")
        return _layer("ReLU", "re_lu", {**numbers, "max_value": None if unbounded else numbers["max_value"]}, dtype)
    return _layer("ELU", "elu", numbers, dtype) if activation.name == "elu" else None


def _layer(class_name: str, name: str, numbers: Mapping[str, float | None], dtype: str) -> dict[str, Any]:
    config = {"name": name, "trainable": True, "dtype": dtype, **numbers}
    return {"module": "keras.layers", "class_name": class_name, "config": config, "registered_name": None}


def wiring_refusal(layer: LSTMLayer | RecurrentLayer, dialect: Dialect) -> str | None:
    """Say which way of running a recurrent layer a Keras does not have, or ``None``."""
    if dialect.major == 3 and layer.time_major:
        return "Keras 3 has no time_major"
    if dialect.major == 3 and layer.backward is not None and layer.forward.go_backwards:
        return "Keras 3 refuses a Bidirectional whose forward direction runs backwards"
    return None


def refusal(layer: LSTMLayer, dialect: Dialect) -> str | None:
    """Say why a Keras cannot hold a layer, or ``None``."""
    reason = wiring_refusal(layer, dialect)
    if reason is not None:
        return reason
    for half in layer.directions:
        for activation in (half.activation, half.recurrent_activation):
            reason = None if activation is None else _activation_refusal(activation, dialect, layer.dtype)
            if reason is not None:
                return reason
    return None


def _activation_refusal(activation: Activation, dialect: Dialect, dtype: np.dtype[Any]) -> str | None:
    name = f"Keras {dialect.major}"
    if described(activation, dialect, str(dtype)) is None:
        if activation.name == "hard_sigmoid":
            own = {2: "0.2x+0.5", 3: "x/6+0.5"}[dialect.major]
            return f"{name} computes hard_sigmoid as {own}, but the layer as {_line(activation)}"
        return f"{name} has no activation {activation}"
    # tf_keras/src/layers/activation/relu.py: the numbers go through backend.cast_to_floatx.
    inexact = [value for _, value in activation.parameters if float(np.float32(value)) != value]
    if dialect.major == 2 and inexact and dtype == np.float64 and activation.name in ("relu", "elu"):
        return f"{name} rounds the {inexact[0]:g} of {activation} to float32, and the layer is float64"
    return None


def _line(activation: Activation) -> str:
    known = {HARD_SIGMOID_KERAS_2: "0.2x+0.5", HARD_SIGMOID_KERAS_3: "x/6+0.5"}
    return known.get(activation, f"{activation['alpha']:.7g}x+{activation['beta']:.7g}")


def neither(layer: LSTMLayer) -> str | None:
    """Say why no Keras holds a layer and what to do, or ``None``."""
    reasons = [refusal(layer, dialect) for dialect in (KERAS_3, KERAS_2)]
    found = [reason for reason in reasons if reason is not None]
    if len(found) < len(reasons):
        return None
    return f"{'; '.join(dict.fromkeys(found))}; convert it --to onnx or torch"


def obstacle(stack: Stack) -> str | None:
    """Say why no Keras holds a stack's layers and what to do instead, or ``None``."""
    for layer in stack.layers:
        reason = neither(layer)
        if reason is not None:
            return reason if len(stack.layers) == 1 else f"{layer.name}: {reason}"
    if all(any(refusal(layer, dialect) for layer in stack.layers) for dialect in (KERAS_2, KERAS_3)):
        return "some of its layers need Keras 2 and others Keras 3; write them to two files, each with --layer"
    return None


def choose(layers: Sequence[LSTMLayer], version: int | None) -> Dialect:
    """Return the Keras to write for: the one asked for, or 3 where it holds all layers, or else 2.

    Raises:
        UnsupportedModelError: It, or any, cannot hold a layer.
        UsageError: There is no such version.
    """
    if version is not None:
        dialect = by_version(version)
        for layer in layers:
            reason = refusal(layer, dialect)
            if reason is None:
                continue
            cure = neither(layer)
            other = 5 - dialect.major
            raise UnsupportedModelError(cure or f"{reason}; pass --keras-version {other}", about=layer.name)
        return dialect
    for layer in layers:
        cure = neither(layer)
        if cure is not None:
            raise UnsupportedModelError(cure, about=layer.name)
    refused = {dialect.major: [layer for layer in layers if refusal(layer, dialect)] for dialect in (KERAS_2, KERAS_3)}
    if not refused[3]:
        return KERAS_3
    if not refused[2]:
        return KERAS_2
    for_2, for_3 = refused[3][0], refused[2][0]
    raise UnsupportedModelError(
        f"{for_2.name} needs Keras 2 ({refusal(for_2, KERAS_3)}) and {for_3.name} needs Keras 3 "
        f"({refusal(for_3, KERAS_2)}); write them to two files, each with --layer"
    )
