"""Wrong conversions of whole models, made on purpose: one layer changed, and the words that must name it.

The changes are written out here once more, on plain arrays and records, without lstmconv's own catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lstmconv.activations import HARD_SIGMOID_KERAS_2, LINEAR, SIGMOID
from lstmconv.model import Call, Gates, LSTMLayer, Model, RecurrentLayer, kinds
from lstmconv.model.recurrent import GRUDirection


@dataclass(frozen=True)
class ModelMutant:
    """One change to a layer.

    Attributes:
        name: What it is.
        words: Any of these, beside the layer's name, names it rightly.
        kind: The layers that it is made to.
        change: Returns the changed layer, or ``None`` where it would change nothing.
    """

    name: str
    words: tuple[str, ...]
    kind: type[Any]
    change: Callable[[Any], Any]


def _square(layer: kinds.Dense) -> kinds.Dense | None:
    rows, columns = layer.kernel.shape
    return replace(layer, kernel=np.array(layer.kernel.T)) if rows == columns > 1 else None


def _scrambled(layer: kinds.Dense) -> kinds.Dense | None:
    rows, columns = layer.kernel.shape
    if min(rows, columns) < 2 or rows == columns:
        return None
    return replace(layer, kernel=np.array(layer.kernel.T.copy().ravel().reshape(rows, columns)))


def _no_bias(layer: Any) -> Any:
    return None if layer.bias is None else replace(layer, bias=None)


def _no_activation(layer: Any) -> Any:
    return None if layer.activation == LINEAR else replace(layer, activation=LINEAR)


def _exchange(layer: Any) -> Any:
    return replace(layer, gamma=layer.beta, beta=layer.gamma)


def _gates(order: str) -> Callable[[LSTMLayer], LSTMLayer]:
    def change(layer: LSTMLayer) -> LSTMLayer:
        half = layer.forward

        def moved(gates: Gates | None) -> Gates | None:
            return None if gates is None else Gates(*(getattr(gates, letter) for letter in order))

        return replace(
            layer,
            forward=replace(
                half, weight_ih=moved(half.weight_ih), weight_hh=moved(half.weight_hh), bias_ih=moved(half.bias_ih)
            ),
        )

    return change


def _transposed_state(layer: LSTMLayer) -> LSTMLayer | None:
    half = layer.forward
    if half.hidden_size < 2:
        return None
    turned = Gates(*(np.array(np.asarray(gate).T) for gate in half.weight_hh))
    return replace(layer, forward=replace(half, weight_hh=turned))


def _other_sigmoid(layer: LSTMLayer) -> LSTMLayer | None:
    rec = layer.forward.recurrent_activation
    other = SIGMOID if rec == HARD_SIGMOID_KERAS_2 else HARD_SIGMOID_KERAS_2
    halves = {"forward": replace(layer.forward, recurrent_activation=other)}
    return replace(layer, **halves) if layer.backward is None else None


def _gru(change: Callable[[GRUDirection], GRUDirection | None]) -> Callable[[RecurrentLayer], Any]:
    def changed(layer: RecurrentLayer) -> Any:
        if not isinstance(layer.forward, GRUDirection):
            return None
        forward = change(layer.forward)
        return None if forward is None else replace(layer, forward=forward)

    return changed


def _first_two(half: GRUDirection) -> GRUDirection:
    def moved(array: Any) -> Any:
        return None if array is None else array[[1, 0, 2]]

    return replace(
        half,
        weight_ih=moved(half.weight_ih),
        weight_hh=moved(half.weight_hh),
        bias_ih=moved(half.bias_ih),
        bias_hh=moved(half.bias_hh),
    )


def _before(half: GRUDirection) -> GRUDirection | None:
    return replace(half, reset_after=False, bias_hh=None) if half.reset_after and half.bias_hh is None else None


MUTANTS = [
    ModelMutant("kernel transposed", ("kernel transposed",), kinds.Dense, _square),
    ModelMutant("kernel reshaped", ("kernel reshaped",), kinds.Dense, _scrambled),
    ModelMutant("bias dropped", ("bias dropped",), kinds.Dense, _no_bias),
    ModelMutant("activation dropped", ("activation dropped",), kinds.Dense, _no_activation),
    ModelMutant(
        "kernel flipped", ("flipped",), kinds.Convolution,
        lambda layer: replace(layer, kernel=np.array(layer.kernel[::-1])) if len(layer.kernel) > 1 else None,
    ),
    ModelMutant("bias dropped", ("bias dropped",), kinds.Convolution, _no_bias),
    ModelMutant("activation dropped", ("activation dropped",), kinds.Convolution, _no_activation),
    ModelMutant(
        "padded on both sides", ("not causally",), kinds.Convolution,
        lambda layer: replace(layer, padding="same") if layer.padding == "causal" and len(layer.kernel) == 3 else None,
    ),
    ModelMutant("epsilon", ("epsilon 1e-05",), kinds.BatchNormalization, lambda layer: replace(layer, epsilon=1e-5)),
    ModelMutant("gamma and beta", ("gamma and beta",), kinds.BatchNormalization, _exchange),
    ModelMutant(
        "variance as deviation", ("variance taken",), kinds.BatchNormalization,
        lambda layer: replace(layer, variance=layer.variance**2),
    ),
    ModelMutant("gamma and beta", ("gamma and beta",), kinds.LayerNormalization, _exchange),
    ModelMutant("epsilon", ("epsilon 1e-05",), kinds.LayerNormalization, lambda layer: replace(layer, epsilon=1e-5)),
    ModelMutant(
        "max for average", ("max for average", "average for max"), kinds.GlobalPooling,
        lambda layer: replace(layer, function="max" if layer.function == "average" else "average"),
    ),
    ModelMutant(
        "max for average", ("max for average", "average for max"), kinds.Pooling,
        lambda layer: replace(layer, function="max" if layer.function == "average" else "average"),
    ),
    ModelMutant(
        "shifted ids", ("shifted by one",), kinds.Embedding,
        lambda layer: replace(layer, table=np.roll(layer.table, 1, 0)),
    ),
    ModelMutant(
        "added", ("add for", "average for add", "multiply for", "maximum for"), kinds.Merge,
        lambda layer: replace(layer, operation="add" if layer.operation != "add" else "multiply"),
    ),
    ModelMutant(
        "dropped", ("dropped", "sigmoid for softmax"), kinds.Activate, lambda layer: replace(layer, activation=LINEAR)
    ),
    ModelMutant("gates f and o", ("gates f and o exchanged",), LSTMLayer, _gates("iogf")),
    ModelMutant("ONNX' order", ("gate order i o f g instead of i f g o",), LSTMLayer, _gates("iofg")),
    ModelMutant("R transposed", ("R transposed",), LSTMLayer, _transposed_state),
    ModelMutant("another sigmoid", ("sigmoid",), LSTMLayer, _other_sigmoid),
    ModelMutant(
        "time reversed", ("time reversed",), LSTMLayer,
        lambda layer: None if layer.backward else replace(layer, forward=replace(layer.forward, go_backwards=True)),
    ),
    ModelMutant("gates z and r", ("gate order r z h",), RecurrentLayer, _gru(_first_two)),
    ModelMutant("reset before", ("reset gate before",), RecurrentLayer, _gru(_before)),
]  # fmt: skip


def mutants_of(model: Model) -> Iterator[tuple[str, tuple[str, ...], Model]]:
    """Yield wrong versions of a model, with the name of the changed layer and the words for it."""
    for mutant in MUTANTS:
        for number, call in enumerate(model.calls):
            if isinstance(call.layer, mutant.kind):
                changed = mutant.change(call.layer)
                if changed is not None:
                    yield (
                        f"{mutant.name} in {call.layer.name}",
                        mutant.words,
                        _with(model, number, replace(call, layer=changed)),
                    )
    for number, call in enumerate(model.calls):
        if any(mask is not None for mask in call.masks):
            yield f"mask dropped in {call.layer.name}", ("mask dropped",), _with(model, number, replace(call, masks=()))
        if isinstance(call.layer, kinds.Concatenate):
            other = replace(call, inputs=tuple(reversed(call.inputs)))
            yield f"inputs in the opposite order in {call.layer.name}", ("opposite order",), _with(model, number, other)


def _with(model: Model, number: int, call: Call) -> Model:
    return replace(model, calls=(*model.calls[:number], call, *model.calls[number + 1 :]))
