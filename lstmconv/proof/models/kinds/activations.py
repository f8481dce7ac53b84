"""What is computed instead of an activation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lstmconv.activations import HARD_SIGMOID_KERAS_2, HARD_SIGMOID_KERAS_3, LINEAR, SIGMOID, TANH, Activation
from lstmconv.model import kinds
from lstmconv.proof.models.kinds.option import Option, Rules, Shapes

__all__ = ["RULES", "activations_for"]


def activations_for(activation: Activation) -> Iterator[tuple[str, str, Activation]]:
    """Yield what may be computed instead of an activation, with its text and what mends it."""
    fix = f"the activation is {activation}"
    if activation != LINEAR:
        yield "activation dropped", fix, LINEAR
    for other, name in (
        (HARD_SIGMOID_KERAS_2, "Keras 2's hard_sigmoid"),
        (HARD_SIGMOID_KERAS_3, "Keras 3's hard_sigmoid"),
    ):
        if activation.name in ("sigmoid", "hard_sigmoid") and other != activation:
            yield f"{name} for {activation.name}", fix, other
    if activation.name == "hard_sigmoid":
        yield "sigmoid for hard_sigmoid", fix, SIGMOID
    if activation.name == "softmax":
        yield "sigmoid for softmax", fix, SIGMOID
        yield "log_softmax for softmax", fix, Activation("log_softmax")
    if activation.name == "relu":
        for slope in (0.0, 0.01, 0.2, 0.3):
            if slope != activation["negative_slope"]:
                parameters = tuple(
                    (key, slope if key == "negative_slope" else value) for key, value in activation.parameters
                )
                yield (
                    f"negative slope {slope:g} for {activation['negative_slope']:g}",
                    fix,
                    Activation("relu", parameters),
                )
    if activation.name == "gelu":
        other = Activation("gelu", (("approximate", 1.0 - activation["approximate"]),))
        yield "the other form of gelu", fix, other
    if activation.name == "elu" and activation["alpha"] != 1.0:
        yield "alpha 1 for elu", fix, Activation("elu", (("alpha", 1.0),))
    if activation.name == "sigmoid":
        yield "tanh for sigmoid", fix, TANH


def _activate(layer: kinds.Activate, shapes: Shapes) -> Iterator[Option]:
    for text, fix, other in activations_for(layer.activation):
        yield Option(text, fix, replace(layer, activation=other))
    if layer.activation.coupled:
        rank = len(shapes[0])
        for axis in range(1, rank):
            if axis != layer.axis % rank:
                yield Option(f"along axis {axis}", f"the axis is {layer.axis % rank}", replace(layer, axis=axis))


RULES: Rules = {
    kinds.Activate: _activate,
}
