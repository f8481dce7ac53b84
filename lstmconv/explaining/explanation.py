"""Explain a layer as values: where its gates lie, where its bias goes, one step of one unit.

:mod:`lstmconv.explaining.console` shows these values on a terminal, and :func:`to_json` returns them as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from lstmconv.arrays.copying import rounding_of_sum
from lstmconv.errors import NoLSTMError, UsageError
from lstmconv.explaining.blocks import (
    FormatLayout,
    HalfLayout,
    bias_contents,
    bias_names,
    default_formats,
    layout_in,
    stored_biases,
)
from lstmconv.explaining.equations import equations
from lstmconv.explaining.inspection import describe_layer, describe_options
from lstmconv.explaining.layout_names import LAYOUT_NAMES
from lstmconv.explaining.steps import Step, one_step
from lstmconv.formats.cudnn.packing import BIAS_MODES
from lstmconv.layouts import KERAS, Layout, by_name
from lstmconv.model import Checkpoint, LSTMDirection, LSTMLayer, Provenance, Stack

__all__ = ["BiasJourney", "Explanation", "example", "explain", "to_json"]


@dataclass(frozen=True)
class BiasJourney:
    """Where a direction's bias goes.

    Attributes:
        stored: The names of its biases in the source: none, one, or the input's and the recurrent one.
        size: Elements of each.
        summed: What Keras' single bias holds.
        rounding: Largest rounding of the sum of two biases, in units in the last place; ``None`` without two.
        cudnn_modes: What ``(bW, bR)`` hold in each of cuDNN's bias modes; ``None`` is not stored.
    """

    stored: tuple[str, ...]
    size: int
    summed: str | None
    rounding: float | None
    cudnn_modes: Mapping[str, tuple[str | None, ...]]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Everything that ``lstmconv explain`` shows, as values.

    Attributes:
        source: The file's name; ``None`` for the built-in example.
        file_format: What kind of file it is.
        layers: The layers explained: one, or those of a stack.
        stack: The stack that the layers are part of.
        own: The source's layout.
        layouts: The layers in each format, in the order asked for.
        equations: One step of the first layer's forward half, a line each.
        bias: The journey of the bias of the first layer's forward half.
        step: One step of the first layer's forward half.
        others: The file's other layers.
        notes: What was assumed while reading.
    """

    source: str | None
    file_format: str
    layers: tuple[LSTMLayer, ...]
    stack: Stack
    own: Layout
    layouts: tuple[FormatLayout, ...]
    equations: tuple[str, ...]
    bias: BiasJourney
    step: Step
    others: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def first(self) -> LSTMLayer:
        """The layer whose equations, bias and step are shown: its forward half."""
        return self.layers[0]


def example() -> Checkpoint:
    """Return a made-up Keras layer of 5 features and 4 units, with weights in sixteenths."""
    rng = np.random.default_rng(0)
    kernel, recurrent, bias = (
        (rng.integers(-16, 17, shape) / 16).astype(np.float32)
        for shape in (KERAS.input_matrix.shape(4, 5), KERAS.recurrent_matrix.shape(4, 5), KERAS.one_bias.shape(4, 5))
    )
    direction = LSTMDirection(
        KERAS.input_matrix.view(kernel),
        KERAS.recurrent_matrix.view(recurrent),
        KERAS.one_bias.view(bias),
        layout=KERAS.name,
    )
    return Checkpoint((LSTMLayer("lstm", direction),), Provenance("", "", "example"))


def explain(checkpoint: Checkpoint, layer: str | None = None, formats: Sequence[str] = ()) -> Explanation:
    """Explain a layer, or the layers of a stack; only the weights that are shown are read.

    Args:
        checkpoint: The content of a file.
        layer: A layer or a stack by its name; the first by default.
        formats: Some of :data:`~lstmconv.explaining.layout_names.LAYOUT_NAMES`; by default the source's own, PyTorch,
            ONNX and cuDNN.

    Raises:
        NoLSTMError: The model has no LSTM layer.
        UsageError: There is no such layer, or no such format.
    """
    stack, layers = _chosen(checkpoint, layer)
    for name in formats:
        if name not in LAYOUT_NAMES:
            raise UsageError(f"unknown layout {name!r}; expected one of {', '.join(LAYOUT_NAMES)}")
    direction = layers[0].forward
    own = by_name(direction.layout)
    own_name, *_ = default = default_formats(own)
    wanted = dict.fromkeys(formats or default)
    every = {name: _only(layout_in(stack, name, own), layers) for name in dict.fromkeys((own_name, *wanted))}
    source_layout = every[own_name]
    return Explanation(
        source=checkpoint.provenance.source or None,
        file_format=checkpoint.provenance.format,
        layers=layers,
        stack=stack,
        own=own,
        layouts=tuple(every[name] for name in wanted),
        equations=equations(direction, source_layout, source_layout.halves[0].arrays),
        bias=_journey(direction, own, source_layout.halves[0]),
        step=one_step(direction, own.gates),
        others=tuple(other.name for other in checkpoint.layers if other not in layers),
        notes=checkpoint.all_notes,
    )


def _chosen(checkpoint: Checkpoint, name: str | None) -> tuple[Stack, tuple[LSTMLayer, ...]]:
    """Pick a stack with all its layers, or one layer and the stack that holds it."""
    stacks = checkpoint.stacks
    if not stacks:
        source = checkpoint.provenance.source
        raise NoLSTMError(
            f"{source}: the model has no LSTM layer, and only LSTM layers are explained", checkpoint.skipped
        )
    if name is None:
        return stacks[0], stacks[0].layers
    for stack in stacks:
        if stack.name == name:
            return stack, stack.layers
    for stack in stacks:
        for layer in stack.layers:
            if layer.name == name:
                return stack, (layer,)
    layers = checkpoint.layers if checkpoint.model is None else checkpoint.model.layers
    known = dict.fromkeys([*checkpoint.joined, *(layer.name for layer in layers)])
    raise UsageError(f"no layer {name!r}; the file has {', '.join(known)}")


def _only(layout: FormatLayout, layers: tuple[LSTMLayer, ...]) -> FormatLayout:
    names = {layer.name for layer in layers}
    halves = tuple(half for half in layout.halves if half.layer in names)
    return replace(layout, halves=halves)


def _journey(direction: LSTMDirection, own: Layout, half: HalfLayout) -> BiasJourney:
    stored = tuple(array.name for array in half.arrays if array.content is not None)
    names = bias_names(own, stored_biases(direction), direction.hidden_size, half.place)
    modes = {
        name: bias_contents(direction, names, biases.mode, zeros=False)
        for name, biases in BIAS_MODES.items()
        if stored and biases.mode != "none"
    }
    summed = bias_contents(direction, names, "single-input", zeros=False)[0]
    return BiasJourney(stored, 4 * direction.hidden_size, summed, rounding_of_sum(direction), modes)


_GATE_FIELDS = (
    "gate", "input_product", "recurrent_product", "input_side", "recurrent_side", "biases", "activated"
)  # fmt: skip


def to_json(explanation: Explanation) -> dict[str, Any]:
    """Return an explanation as plain data; docs/json.md documents the fields. Numbers may be NaN or infinite."""
    step, bias = explanation.step, explanation.bias
    return {
        "source": explanation.source,
        "format": explanation.file_format,
        "layers": [_layer(layer) for layer in explanation.layers],
        "equations": list(explanation.equations),
        "layouts": [_layout(layout) for layout in explanation.layouts],
        "bias": {
            "stored": list(bias.stored),
            "size": bias.size,
            "summed": bias.summed,
            "rounding_ulps": bias.rounding,
            "cudnn_modes": {name: list(contents) for name, contents in bias.cudnn_modes.items()},
        },
        "step": {
            "layer": explanation.first.name,
            "half": "forward" if explanation.first.bidirectional else None,
            "unit": step.unit,
            "seed": step.seed,
            "x": step.x.tolist(),
            "h": step.h.tolist(),
            "c": step.c,
            "gates": [{name: getattr(gate, name) for name in _GATE_FIELDS} for gate in step.gates],
            "new_c": step.new_c,
            "new_h": step.new_h,
            "difference": step.difference,
            "omitted": step.omitted,
        },
        "others": list(explanation.others),
        "notes": list(explanation.notes),
    }


def _layer(layer: LSTMLayer) -> dict[str, Any]:
    halves = [{"hidden_size": half.hidden_size, **describe_options(half)} for half in layer.directions]
    return {**describe_layer(layer), "directions": halves}


def _layout(layout: FormatLayout) -> dict[str, Any]:
    return {
        "format": layout.format,
        "title": layout.row.name,
        "gate_order": layout.row.gates,
        "own": layout.own,
        "obstacle": layout.obstacle,
        "size": layout.size,
        "halves": [asdict(half) for half in layout.halves],
    }
