"""A model as a graph: inputs, calls of layers in topological order, outputs.

The graph holds everything *between* layers: the input tensors of a call, the source of its initial state, and its
mask. Masks are ordinary tensors. A call computes each mask (Embedding's ``mask_zero``, Masking, an explicit
``mask=``), and the reader has propagated masks by Keras' rules, so code that runs the graph does not need the rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeAlias

from lstmconv.errors import UnsupportedModelError
from lstmconv.model.kinds import COMPARISONS, Embedding, Kind, Operation, Unknown
from lstmconv.model.layers import LSTMLayer, Stack
from lstmconv.model.recurrent import RecurrentLayer

__all__ = ["Call", "Input", "Layer", "Model", "Shape", "Tensor", "TimeDistributed"]

Layer: TypeAlias = "LSTMLayer | Stack | RecurrentLayer | Kind"
"""A layer that a call can have. ``RNN([LSTMCell, ...])`` is a :class:`~lstmconv.model.Stack`, named as the layer."""

Shape: TypeAlias = tuple[int | None, ...]
"""Sizes of a tensor's axes, the batch first; ``None`` for an axis of any size."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of a graph: an input, or one of a call's outputs.

    Attributes:
        source: The name of an :class:`Input` or of a :class:`Call`.
        index: Which output: of a recurrent call the sequence (both for merge_mode none), then, with return_state,
            the states h, c forward and h, c backward, as Keras returns them.
    """

    source: str
    index: int = 0


class Input(NamedTuple):
    """One input of a model.

    Attributes:
        name: Keras' name of the input.
        shape: The shape with the batch axis; ``None`` for an open size.
        dtype: NumPy's name. ``int32`` or ``int64`` for token ids, ``bool``, or a float type.
    """

    name: str
    shape: Shape
    dtype: str = "float32"

    @property
    def is_float(self) -> bool:
        """Whether its dtype is a float type, bfloat16 included."""
        return "float" in self.dtype


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer.

    Attributes:
        name: Unique in the model: the layer's own name for its first call, then ``name:1``, ``name:2``; a model
            that is called again gives ``model:1/dense``.
        layer: The same object for every call of one layer.
        inputs: The input tensors, in Keras' order.
        states: The initial state of a recurrent layer: h, c (only h for GRU and SimpleRNN) for each direction; empty if
            it starts from zeros. A ``Stack`` has the states of all its layers, one after another.
        masks: The masks of the call: one for a recurrent layer, GlobalPooling, Activate (softmax), TimeDistributed;
            query and value masks for attention; empty without a mask. Each is ``(batch, time)`` bool, true where a step
            counts.
    """

    name: str
    layer: Layer
    inputs: tuple[Tensor, ...]
    states: tuple[Tensor, ...] = ()
    masks: tuple[Tensor | None, ...] = ()

    @property
    def reads(self) -> tuple[Tensor, ...]:
        """All tensors that the call reads: inputs, states, masks."""
        return (*self.inputs, *self.states, *(mask for mask in self.masks if mask is not None))


@dataclass(frozen=True, eq=False)
class TimeDistributed(Kind):
    """A model of one input and one output, run on each step ``x[:, t]``; the batch of the inner model is open.

    For a wrapped layer that acts only on the last axis (Dense, Activate, Identity), the reader uses the layer itself.
    """

    model: Model

    def __post_init__(self) -> None:
        """Check that there is one input and one output.

        Raises:
            UnsupportedModelError: There are more, or none.
        """
        inputs, outputs = len(self.model.inputs), len(self.model.outputs)
        if (inputs, outputs) != (1, 1):
            found = f"{inputs} inputs and {outputs} outputs"
            raise UnsupportedModelError(
                f"{self.name}: TimeDistributed runs a model of 1 input and 1 output, found {found}"
            )


@dataclass(frozen=True, eq=False)
class Model:
    """A whole model.

    Attributes:
        name: The model's own name.
        inputs: In Keras' order.
        calls: The calls; each comes after the calls whose outputs it reads.
        outputs: The tensors that the model returns, by Keras' output names, in Keras' order.
    """

    name: str
    inputs: tuple[Input, ...]
    calls: tuple[Call, ...]
    outputs: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        """Check that names are unique and that every call follows the calls whose outputs it reads.

        Raises:
            UnsupportedModelError: A name occurs twice, or a tensor is read before it is computed.
        """
        known = {entry.name for entry in self.inputs}
        if len(known) < len(self.inputs):
            raise UnsupportedModelError(f"{self.name}: two inputs have the same name")
        for call in self.calls:
            missing = next((tensor.source for tensor in call.reads if tensor.source not in known), None)
            if missing is not None:
                raise UnsupportedModelError(
                    f"{self.name}: '{call.name}' reads '{missing}', which no earlier call computes"
                )
            if call.name in known:
                raise UnsupportedModelError(f"{self.name}: two calls or inputs are named '{call.name}'")
            known.add(call.name)
        for name, tensor in self.outputs.items():
            if tensor.source not in known:
                raise UnsupportedModelError(
                    f"{self.name}: the output '{name}' is '{tensor.source}', which nothing computes"
                )

    def __repr__(self) -> str:
        outputs = ", ".join(self.outputs)
        return f"Model({self.name!r}, {len(self.layers)} layers, {self.described_inputs} → {outputs})"

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Every layer once, in the order of the first calls; layers inside TimeDistributed come after it."""
        found: dict[int, Layer] = {}
        for call in self.calls:
            found.setdefault(id(call.layer), call.layer)
            if isinstance(call.layer, TimeDistributed):
                found |= {id(layer): layer for layer in call.layer.model.layers}
        return tuple(found.values())

    @property
    def unknown(self) -> tuple[Unknown, ...]:
        """The layers that lstmconv does not compute."""
        return tuple(layer for layer in self.layers if isinstance(layer, Unknown))

    def axes_of(self, entry: Input) -> tuple[int | str, ...]:
        """Return the sizes of an input's axes, with a name for each open size.

        All inputs share the batch. Several inputs may have different numbers of steps, so these names have the input's
        name as a prefix.

        >>> model = Model("m", (Input("months", (None, None, 1)),), (), {})
        >>> model.axes_of(model.inputs[0])
        ('batch', 'time', 1)
        """
        several = sum(None in other.shape[1:] for other in self.inputs) > 1
        lead = f"{entry.name}." if several else ""
        open_axes = ("batch", f"{lead}time", *(f"{lead}axis_{axis}" for axis in range(2, len(entry.shape))))
        return tuple(name if size is None else size for name, size in zip(open_axes, entry.shape, strict=False))

    @property
    def described_inputs(self) -> str:
        """The inputs in order, for people: ``months (batch, 12, 1), ids (batch, 7)``."""
        return ", ".join(f"{entry.name} ({', '.join(map(str, self.axes_of(entry)))})" for entry in self.inputs)

    def calls_of(self, layer: Layer) -> tuple[Call, ...]:
        """Return all calls of one layer, not those inside TimeDistributed."""
        return tuple(call for call in self.calls if call.layer is layer)

    def takes_tokens(self, name: str) -> bool:
        """Whether an input is token ids: only Embeddings read it, and comparisons, such as that of mask_zero."""
        readers = {id(reader): reader.layer for reader in self.readers_of(Tensor(name))}
        return any(map(_embeds, readers.values())) and all(
            _embeds(layer) or (isinstance(layer, Operation) and layer.function in COMPARISONS)
            for layer in readers.values()
        )

    def readers_of(self, tensor: Tensor) -> tuple[Call, ...]:
        """Return the calls that read a tensor, as input, state or mask."""
        return tuple(call for call in self.calls if tensor in call.reads)


def _embeds(layer: Layer) -> bool:
    """Whether a layer takes token ids: an Embedding, or a model of one, step by step."""
    if isinstance(layer, TimeDistributed):
        return layer.model.takes_tokens(layer.model.inputs[0].name)
    return isinstance(layer, Embedding)
