"""Whole models made in memory: small, of random layers and weights, as a reader would return them."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmconv.activations import (
    HARD_SIGMOID_KERAS_2,
    HARD_SIGMOID_KERAS_3,
    LINEAR,
    SIGMOID,
    TANH,
    Activation,
    parse_activation,
)
from lstmconv.model import Call, Gates, Input, LSTMDirection, LSTMLayer, Model, RecurrentLayer, Tensor, kinds
from lstmconv.model.recurrent import GRUDirection, SimpleRNNDirection

RELU = parse_activation("relu", 3)
LEAKY = parse_activation("leaky_relu", 3)
SOFTMAX = Activation("softmax")
ELU = parse_activation("elu", 3)
GELU = parse_activation("gelu", 3)
SIZES = (2, 3, 5, 7)


class Builder:
    """Adds calls one after another; the last one's output is what the next one takes."""

    def __init__(self, seed: int) -> None:
        """Take the seed of sizes, layers and weights."""
        self.random = np.random.default_rng(seed)
        self.inputs: list[Input] = []
        self.calls: list[Call] = []
        self.names: dict[str, int] = {}

    def pick(self, *options: Any) -> Any:
        return options[self.random.integers(len(options))]

    def size(self) -> int:
        return int(self.pick(*SIZES))

    def draw(self, *shape: int, scale: float = 0.6) -> np.ndarray:
        return (self.random.normal(size=shape) * scale).astype(np.float32)

    def bias(self, size: int) -> np.ndarray | None:
        return self.draw(size) if self.random.random() < 0.8 else None

    def name(self, kind: str) -> str:
        self.names[kind] = self.names.get(kind, 0) + 1
        return f"{kind}_{self.names[kind]}"

    def given(self, shape: tuple[int | None, ...], dtype: str = "float32") -> Tensor:
        name = self.name("input")
        self.inputs.append(Input(name, shape, dtype))
        return Tensor(name)

    def add(self, layer: Any, *inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        masks = () if mask is None else (mask,)
        self.calls.append(Call(layer.name, layer, inputs, (), masks))
        return Tensor(layer.name)

    def model(self, *outputs: Tensor) -> Model:
        return Model("model", tuple(self.inputs), tuple(self.calls), {tensor.source: tensor for tensor in outputs})

    # Layers

    def dense(self, features: int, units: int, activation: Activation = LINEAR) -> kinds.Dense:
        return kinds.Dense(self.name("dense"), self.draw(features, units), self.bias(units), activation)

    def direction(self, features: int, units: int, **options: Any) -> LSTMDirection:
        def gates(*shape: int) -> Gates:
            return Gates(*self.draw(4, *shape))

        bias = gates(units) if self.random.random() < 0.8 else None
        return LSTMDirection(gates(units, features), gates(units, units), bias, **options)

    def lstm(self, features: int, units: int, sequences: bool = True) -> LSTMLayer:
        rec = self.pick(SIGMOID, SIGMOID, HARD_SIGMOID_KERAS_2, HARD_SIGMOID_KERAS_3)
        forward = self.direction(features, units, recurrent_activation=rec)
        if self.random.random() < 0.3:
            backward = self.direction(features, units, recurrent_activation=rec, go_backwards=True)
            mode = self.pick("concat", "sum", "mul", "ave")
            return LSTMLayer(self.name("bidirectional"), forward, backward, mode, sequences, zero_output_for_mask=True)
        return LSTMLayer(self.name("lstm"), forward, return_sequences=sequences)

    def gru(self, features: int, units: int, sequences: bool = True) -> RecurrentLayer:
        after = bool(self.random.random() < 0.5)
        direction = GRUDirection(
            self.draw(3, units, features),
            self.draw(3, units, units),
            self.draw(3, units),
            self.draw(3, units) if after else None,
            reset_after=after,
        )
        return RecurrentLayer(self.name("gru"), direction, return_sequences=sequences)

    def simple(self, features: int, units: int, sequences: bool = True) -> RecurrentLayer:
        direction = SimpleRNNDirection(self.draw(units, features), self.draw(units, units), self.draw(units))
        return RecurrentLayer(self.name("simple_rnn"), direction, return_sequences=sequences)

    def convolution(self, features: int, filters: int) -> kinds.Convolution:
        window = int(self.pick(1, 2, 3, 4))
        padding = self.pick("same", "causal", "same")
        rate = int(self.pick(1, 1, 2))
        kernel = self.draw(window, features, filters)
        activation = self.pick(LINEAR, RELU, TANH)
        return kinds.Convolution(
            self.name("conv1d"), kernel, self.bias(filters), (1,), padding, (rate,), activation=activation
        )

    def batch_normalization(self, features: int) -> kinds.BatchNormalization:
        variance = np.abs(self.draw(features)) + np.float32(0.05)
        return kinds.BatchNormalization(
            self.name("batch_normalization"), self.draw(features), variance, self.draw(features), self.draw(features)
        )

    def layer_normalization(self, features: int) -> kinds.LayerNormalization:
        return kinds.LayerNormalization(self.name("layer_normalization"), self.draw(features), self.draw(features))


def random_model(seed: int) -> Model:
    """Build a model: an input, masked or not, layers on sequences, one that takes the time away, and a head."""
    build = Builder(seed)
    steps = None if build.random.random() < 0.5 else 11
    tensor, mask, features = _beginning(build, steps)
    for _ in range(int(build.random.integers(1, 4))):
        tensor, mask, features = _on_sequences(build, tensor, mask, features)
    tensor, features = _without_time(build, tensor, mask, features, steps)
    for _ in range(int(build.random.integers(0, 2))):
        units = build.size()
        tensor = build.add(build.dense(features, units, build.pick(RELU, TANH, LEAKY, ELU, GELU)), tensor)
        features = units
    units = build.size()
    output = build.add(build.dense(features, units, build.pick(LINEAR, SIGMOID, SOFTMAX)), tensor)
    return build.model(output)


def _beginning(build: Builder, steps: int | None) -> tuple[Tensor, Tensor | None, int]:
    features = build.size()
    if build.random.random() < 0.4:
        tokens = build.given((None, steps), "int32")
        mask = None
        if build.random.random() < 0.6:
            zero = build.add(kinds.Constant(build.name("zero"), np.array(0, np.int64)))
            mask = build.add(kinds.Operation(build.name("not_equal"), "not_equal"), tokens, zero)
        return build.add(kinds.Embedding(build.name("embedding"), build.draw(13, features)), tokens), mask, features
    x = build.given((None, steps, features))
    if build.random.random() < 0.3:
        mask = build.add(kinds.StepIsUnmasked(build.name("mask"), 0.0), x)
        return build.add(kinds.MaskSteps(build.name("masking"), 0.0), x), mask, features
    return x, None, features


def _on_sequences(
    build: Builder, tensor: Tensor, mask: Tensor | None, features: int
) -> tuple[Tensor, Tensor | None, int]:
    units = int(build.pick(features, build.size()))
    kind = build.pick(
        "lstm", "gru", "simple", "conv", "batch", "layer", "dense", "branch", "residual", "activate", "pool"
    )
    if kind in ("lstm", "gru", "simple"):
        layer = getattr(build, kind)(features, units)
        both = kind == "lstm" and layer.backward is not None and layer.merge_mode == "concat"
        return build.add(layer, tensor, mask=mask), mask, 2 * units if both else units
    if kind == "conv":
        return build.add(build.convolution(features, units), tensor), None, units
    if kind == "batch":
        return build.add(build.batch_normalization(features), tensor), mask, features
    if kind == "layer":
        return build.add(build.layer_normalization(features), tensor), mask, features
    if kind == "branch":
        a = build.add(build.dense(features, units, TANH), tensor)
        b = build.add(build.convolution(features, units), tensor)
        return build.add(kinds.Concatenate(build.name("concatenate")), a, b), None, 2 * units
    if kind == "residual":
        inner = build.add(build.dense(features, features, RELU), tensor)
        operation = build.pick("add", "multiply", "maximum", "average")
        return build.add(kinds.Merge(build.name(operation), operation), tensor, inner), mask, features
    if kind == "activate":
        return (
            build.add(kinds.Activate(build.name("activation"), build.pick(RELU, SIGMOID, SOFTMAX)), tensor),
            mask,
            features,
        )
    if kind == "pool":
        function = build.pick("max", "average")
        return build.add(kinds.Pooling(build.name("pooling"), function, (2,), (1,), "same"), tensor), None, features
    return build.add(build.dense(features, units, build.pick(RELU, TANH)), tensor), mask, units


def _without_time(
    build: Builder, tensor: Tensor, mask: Tensor | None, features: int, steps: int | None
) -> tuple[Tensor, int]:
    kind = build.pick("lstm", "gru", "average", "max", "flatten", "attention")
    if kind == "flatten" and steps is not None:
        return build.add(kinds.Reshape(build.name("flatten"), (-1,)), tensor), steps * features
    if kind in ("lstm", "gru"):
        units = build.size()
        layer = getattr(build, kind)(features, units, False)
        both = kind == "lstm" and layer.backward is not None and layer.merge_mode == "concat"
        return build.add(layer, tensor, mask=mask), 2 * units if both else units
    if kind == "attention":
        tensor = build.add(kinds.Attention(build.name("attention"), "dot"), tensor, tensor)
        mask = None
    function = "max" if kind == "max" else "average"
    pooling = kinds.GlobalPooling(build.name("global_pooling"), function)
    return build.add(pooling, tensor, mask=mask if function == "average" else None), features
