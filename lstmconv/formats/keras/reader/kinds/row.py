"""The types of the table of Keras classes: a row, its variables, and the input of its functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from lstmconv.activations import Activation, parse_activation
from lstmconv.formats.keras.reader.kinds.entry import LayerEntry, NotUnderstoodError, is_integer
from lstmconv.model.notes import LayerNote

if TYPE_CHECKING:
    from lstmconv.formats.keras.reader.kinds.masks import MaskRule
    from lstmconv.model import Array
    from lstmconv.model.graph import Layer, Shape

__all__ = ["Place", "Row", "Variable"]


class Variable(NamedTuple):
    """One variable that a layer must have.

    Attributes:
        name: Keras' name: ``kernel``, ``query/kernel``, ``forward/recurrent_kernel``.
        shapes: The shapes in which versions of Keras store it; ``None`` is any size. The first shape that fits is used.
        where: The path of its owner inside the layer in a saveable file: ``cell``, ``query_dense``.
    """

    name: str
    shapes: tuple[Shape, ...]
    where: str = ""

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether a stored array can be this variable."""
        return any(
            len(own) == len(shape) and all(size in (None, found) for size, found in zip(own, shape, strict=True))
            for own in self.shapes
        )


@dataclass(frozen=True)
class Place:
    """One layer with its options, input shapes and arrays: the input of a row's functions.

    Attributes:
        entry: The layer in the config.
        options: The layer's options by their names in Keras 2 and 3, with defaults.
        input_shapes: The shape of each input, with the batch.
        arrays: The arrays by :attr:`Variable.name`; empty while :attr:`Row.variables` is called.
        notes: Receives every assumption that a user should know, in whole sentences.
    """

    entry: LayerEntry
    options: Mapping[str, Any]
    input_shapes: tuple[Shape, ...]
    arrays: Mapping[str, Array] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.entry.name

    @property
    def rank(self) -> int:
        """The number of axes of the first input, with the batch."""
        return len(self.shape)

    @property
    def shape(self) -> Shape:
        """The first input's shape."""
        if not self.input_shapes:
            raise NotUnderstoodError("it is called without an input")
        return self.input_shapes[0]

    @property
    def backend_note(self) -> LayerNote:
        """The note for a layer that backends compute differently, in a file that does not state its backend."""
        text = "the file does not say its backend; TensorFlow is assumed, and Theano computes this layer differently"
        return LayerNote(self.name, text)

    def size(self, axis: int) -> int | None:
        """Return the size of one axis of the first input.

        Raises:
            NotUnderstoodError: The input has no such axis.
        """
        if not -self.rank <= axis < self.rank:
            raise NotUnderstoodError(f"axis {axis} of an input of {self.rank} axes")
        return self.shape[axis]

    def whole(self, option: str) -> int:
        """Return an option that is a positive whole number.

        Raises:
            NotUnderstoodError: The option is something else.
        """
        value = self.options[option]
        if not is_integer(value) or value <= 0:
            raise NotUnderstoodError(f"{option} is {value!r}, expected a positive whole number")
        return int(value)

    def activation(self, option: str = "activation") -> Activation:
        """Return an option that names an activation."""
        return parse_activation(self.options[option], self.entry.major)


Variables: TypeAlias = Callable[[Place], tuple[Variable, ...]]
Builder: TypeAlias = "Callable[[Place], tuple[Layer, ...]]"


def _no_variables(place: Place) -> tuple[Variable, ...]:
    return ()


@dataclass(frozen=True)
class Row:
    """One Keras class, or several classes that the same functions build.

    Attributes:
        names: The class's name in Keras 3, then its names in older generations and Keras' own aliases.
        build: Makes the model layers from a :class:`Place`.
        masks: Returns the mask rule.
        options: The options that change the result, with their defaults.
        renamed: Older names of options.
        only: Options with the values that are understood; other values are refused.
        ignored: Options without a meaning at inference, in addition to those of all classes.
        variables: Returns the variables in Keras' order: trainable ones first.
        inputs: The smallest and the largest number of inputs.
    """

    names: tuple[str, ...]
    build: Builder
    masks: Callable[[LayerEntry], MaskRule]
    options: Mapping[str, object] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    only: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()
    variables: Variables = _no_variables
    inputs: tuple[int, int] = (1, 1)
