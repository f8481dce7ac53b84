"""LSTM layers, their directions and their stacks, with all options that decide what they compute."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from lstmconv.activations import SIGMOID, TANH, Activation
from lstmconv.errors import UnsupportedModelError
from lstmconv.listing import counted
from lstmconv.model.gates import Gates

__all__ = [
    "RETURN_OPTIONS",
    "LSTMDirection",
    "LSTMLayer",
    "MergeMode",
    "OptionDifference",
    "Stack",
    "option_differences",
    "sizes",
]

MergeMode: TypeAlias = Literal["concat", "sum", "mul", "ave", "none"]
"""How Bidirectional joins its halves; ``"none"`` (Keras' ``None``) returns both."""


def sizes(input_size: int, hidden_size: int) -> str:
    """Return a layer's sizes in words.

    >>> sizes(1, 16)
    '1 feature, 16 units'
    """
    return f"{counted(input_size, 'feature')}, {counted(hidden_size, 'unit')}"


@dataclass(frozen=True, eq=False)
class LSTMDirection:
    """One LSTM that runs in one direction over time.

    Attributes:
        weight_ih: ``(4, hidden, input)``: multiplies the input (Keras ``kernel``, ONNX ``W``).
        weight_hh: ``(4, hidden, hidden)``: gate, unit, previous unit (``recurrent_kernel``, ``R``).
        bias_ih: ``(4, hidden)`` or ``None``; Keras' only bias is this one.
        bias_hh: ``(4, hidden)`` or ``None``; only formats with two biases have it.
        activation: For the candidate and the output; ``None`` if the file does not say it.
        recurrent_activation: For the gates i, f and o; ``None`` if the file does not say it.
        go_backwards: Steps run from the last to the first, and outputs have that order.
        layout: The file's layout: the name of a row of :data:`lstmconv.layouts.LAYOUTS`.
    """

    weight_ih: Gates
    weight_hh: Gates
    bias_ih: Gates | None = None
    bias_hh: Gates | None = None
    activation: Activation | None = TANH
    recurrent_activation: Activation | None = SIGMOID
    go_backwards: bool = False
    layout: str | None = None

    def __post_init__(self) -> None:
        """Check that sizes and dtypes agree."""
        hidden = self.weight_hh.shape[1]
        expected = {
            "weight_ih": (self.weight_ih, (4, hidden, self.weight_ih.shape[-1])),
            "weight_hh": (self.weight_hh, (4, hidden, hidden)),
            "bias_ih": (self.bias_ih, (4, hidden)),
            "bias_hh": (self.bias_hh, (4, hidden)),
        }
        for name, (gates, shape) in expected.items():
            if gates is not None and gates.shape != shape:
                raise UnsupportedModelError(f"{name} is {gates.shape}, expected {shape} for {hidden} units")
            if gates is not None and gates.dtype != self.dtype:
                raise UnsupportedModelError(f"{name} is {gates.dtype} where weight_ih is {self.dtype}")

    def __repr__(self) -> str:
        way = ", backwards" if self.go_backwards else ""
        functions = f"{self.activation or 'unknown'}, {self.recurrent_activation or 'unknown'}"
        return f"LSTMDirection({sizes(self.input_size, self.hidden_size)}, {self.dtype}, {functions}{way})"

    @property
    def input_size(self) -> int:
        """Features of one time step."""
        return int(self.weight_ih.shape[2])

    @property
    def hidden_size(self) -> int:
        """Units."""
        return int(self.weight_hh.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type of all its arrays."""
        return self.weight_ih.dtype

    @property
    def arrays(self) -> Mapping[str, Gates]:
        """The arrays that exist, by name."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return {name: gates for name in names if (gates := getattr(self, name)) is not None}


@dataclass(frozen=True, eq=False)
class LSTMLayer:
    """One Keras LSTM layer, or a Bidirectional one, with all options that decide what it computes.

    Attributes:
        name: The user's own layer name; ``/`` between nested models.
        forward: The layer, or a Bidirectional's ``forward_layer``.
        backward: A Bidirectional's ``backward_layer``; its sequence is flipped on time before merging.
        merge_mode: How the outputs of both halves are merged; unused without ``backward``.
        return_sequences: ``None`` if the file does not say it.
        return_state: The layer returns its states after its outputs.
        stateful: A batch starts where the previous one ended.
        masking: A mask reaches the layer in its model.
        zero_output_for_mask: Masked steps return zeros; otherwise they repeat the last output.
        time_major: Inputs and outputs are (time, batch, ...).
        class_name: The class in the file, with its wrapper: ``"Bidirectional(LSTM)"``.
    """

    name: str
    forward: LSTMDirection
    backward: LSTMDirection | None = None
    merge_mode: MergeMode = "concat"
    return_sequences: bool | None = True
    return_state: bool = False
    stateful: bool = False
    masking: bool = False
    zero_output_for_mask: bool = False
    time_major: bool = False
    class_name: str = "LSTM"

    def __post_init__(self) -> None:
        """Check that the two halves can belong together."""
        if self.merge_mode not in get_args(MergeMode):
            raise UnsupportedModelError(
                f"{self.name}: merge_mode is {self.merge_mode!r}, expected one of {', '.join(get_args(MergeMode))}"
            )
        if self.backward is None:
            return
        if self.backward.input_size != self.forward.input_size:
            raise UnsupportedModelError(
                f"{self.name}: its directions take {self.forward.input_size} and {self.backward.input_size} features"
            )
        if self.merge_mode in ("sum", "mul", "ave") and self.backward.hidden_size != self.forward.hidden_size:
            units = f"{self.forward.hidden_size} and {self.backward.hidden_size}"
            raise UnsupportedModelError(
                f"{self.name}: merge_mode {self.merge_mode} needs directions of equal size, found {units}"
            )
        if self.backward.go_backwards == self.forward.go_backwards:
            raise UnsupportedModelError(f"{self.name}: both directions run the same way, which Keras refuses")
        if self.backward.dtype != self.forward.dtype:
            raise UnsupportedModelError(
                f"{self.name}: its directions are {self.forward.dtype} and {self.backward.dtype}"
            )

    def __repr__(self) -> str:
        return f"LSTMLayer({self.name!r}, {self.described})"

    @property
    def described(self) -> str:
        """The layer in a few words: ``1 feature, 16 units, float32, returns the last step``."""
        words = [sizes(self.input_size, self.hidden_size), str(self.dtype)]
        words += ["bidirectional"] if self.bidirectional else ["backwards"] if self.go_backwards else []
        words += {True: ["returns every step"], False: ["returns the last step"], None: []}[self.return_sequences]
        return ", ".join(words)

    @property
    def directions(self) -> tuple[LSTMDirection, ...]:
        """The forward half, then the backward half if there is one."""
        return (self.forward,) if self.backward is None else (self.forward, self.backward)

    def with_directions(self, directions: Sequence[LSTMDirection]) -> LSTMLayer:
        """Return the layer with other directions, as many as it has, the forward half first."""
        forward, *backward = directions
        return replace(self, forward=forward, backward=backward[0] if backward else None)

    @property
    def has_bias(self) -> bool:
        """Whether any half has a bias."""
        return any("bias" in name for direction in self.directions for name in direction.arrays)

    @property
    def bidirectional(self) -> bool:
        """Whether the layer has two halves."""
        return self.backward is not None

    @property
    def input_size(self) -> int:
        """Features of one time step."""
        return self.forward.input_size

    @property
    def hidden_size(self) -> int:
        """Units of the forward half."""
        return self.forward.hidden_size

    @property
    def output_size(self) -> int:
        """Features of one step of the output (of the first output of ``merge_mode`` none)."""
        if self.backward is None or self.merge_mode != "concat":
            return self.forward.hidden_size
        return self.forward.hidden_size + self.backward.hidden_size

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type of the stored weights."""
        return self.forward.dtype

    @property
    def activation(self) -> Activation | None:
        """The activation of the forward half; ``None`` if unknown."""
        return self.forward.activation

    @property
    def recurrent_activation(self) -> Activation | None:
        """The recurrent activation of the forward half; ``None`` if unknown."""
        return self.forward.recurrent_activation

    @property
    def go_backwards(self) -> bool:
        """Whether the layer (a Bidirectional's forward half) runs from the last step to the first."""
        return self.forward.go_backwards


RETURN_OPTIONS = ("return_sequences", "return_state", "stateful", "zero_output_for_mask", "time_major")
"""The options that decide what a layer takes and returns, beside the numbers that it computes."""

_IN_WORDS = {
    "go_backwards": ("runs forwards", "runs backwards"),
    "return_sequences": ("returns the last step", "returns every step"),
    "return_state": ("returns no states", "returns its states"),
    "stateful": ("starts every batch from zeros", "starts a batch where the previous one ended (stateful)"),
    "zero_output_for_mask": ("repeats the last output at masked steps", "returns zeros at masked steps"),
    "time_major": ("takes (batch, time, ...)", "takes (time, batch, ...)"),
}
"""What a layer does without an option, and with it."""


class OptionDifference(NamedTuple):
    """An option by which two layers compute something else.

    Attributes:
        option: ``merge_mode``, ``activation``, ``recurrent_activation``, ``go_backwards``, or one of
            :data:`RETURN_OPTIONS`.
        expected: Its value in the first layer.
        found: Its value in the second one.
    """

    option: str
    expected: Any
    found: Any

    @property
    def in_words(self) -> tuple[str, str]:
        """What the first layer does, and what the second one does instead.

        >>> OptionDifference("return_sequences", expected=True, found=False).in_words
        ('returns every step', 'returns the last step')
        """
        if self.option in _IN_WORDS:
            return _IN_WORDS[self.option][self.expected], _IN_WORDS[self.option][self.found]
        if self.option == "merge_mode":
            return f"merges its directions by {self.expected}", f"merges its directions by {self.found}"
        name = self.option.replace("_", " ")
        return f"has the {name} {self.expected}", f"has the {name} {self.found}"


def option_differences(
    layer: LSTMLayer, other: LSTMLayer, returned: Collection[str] = ()
) -> Iterator[OptionDifference]:
    """Yield the options in which a layer differs from one with the same number of directions; unknown ones do not.

    Args:
        layer: The source's.
        other: The target's.
        returned: Which of :data:`RETURN_OPTIONS` are compared, too. A stateful layer is written as one that is not,
            because Keras needs a fixed batch size for that. A Bidirectional has no ``zero_output_for_mask`` of its
            own: it returns zeros in some versions of Keras and repeats its last output in others.
    """
    if layer.bidirectional and layer.merge_mode != other.merge_mode:
        yield OptionDifference("merge_mode", layer.merge_mode, other.merge_mode)
    for half, its in zip(layer.directions, other.directions, strict=True):
        for option in ("activation", "recurrent_activation", "go_backwards"):
            expected, found = getattr(half, option), getattr(its, option)
            if None not in (expected, found) and expected != found:
                yield OptionDifference(option, expected, found)
    for option in returned:
        expected, found = getattr(layer, option), getattr(other, option)
        on_purpose = (option == "stateful" and not found) or (option == "zero_output_for_mask" and layer.bidirectional)
        if None not in (expected, found) and expected != found and not on_purpose:
            yield OptionDifference(option, expected, found)


@dataclass(frozen=True, eq=False)
class Stack:
    """Layers that run as one module: each reads the sequence of the previous layer. A single layer is a stack of one.

    PyTorch calls it ``num_layers``, cuDNN ``numLayers``; ONNX and Keras chain nodes and layers.

    Attributes:
        name: The name of the module in a target.
        layers: From the input to the output.
    """

    name: str
    layers: tuple[LSTMLayer, ...]

    def __post_init__(self) -> None:
        """Check that each layer accepts the output of the previous layer."""
        for below, above in pairwise(self.layers):
            if above.input_size != below.output_size:
                raise UnsupportedModelError(
                    f"{above.name} takes {above.input_size} features, {below.name} returns {below.output_size}"
                )
            if below.return_sequences is False:
                raise UnsupportedModelError(f"{below.name} feeds {above.name} but returns its last step only")
            if below.bidirectional and below.merge_mode == "none":
                raise UnsupportedModelError(f"{below.name} feeds {above.name} but returns two sequences")
            if below.time_major != above.time_major:
                raise UnsupportedModelError(
                    f"{below.name} and {above.name}: one takes time as its first axis, the other the batch"
                )

    def __repr__(self) -> str:
        return f"Stack({self.name!r}, {', '.join(layer.name for layer in self.layers)})"

    @property
    def directions(self) -> tuple[LSTMDirection, ...]:
        """All directions of all layers, forward before backward: cuDNN's pseudo-layers."""
        return tuple(direction for layer in self.layers for direction in layer.directions)

    @property
    def first(self) -> LSTMLayer:
        """The layer that takes the input."""
        return self.layers[0]

    @property
    def last(self) -> LSTMLayer:
        """The layer that returns the output of the stack."""
        return self.layers[-1]

    @property
    def has_bias(self) -> bool:
        """Whether any layer has a bias."""
        return any(layer.has_bias for layer in self.layers)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type of the first layer's weights."""
        return self.first.dtype
