"""What a row of the table states of a Keras class, and what its functions read."""

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
        name: Keras' own: ``kernel``, ``query/kernel``, ``forward/recurrent_kernel``.
        shapes: The shapes in which versions of Keras store it; ``None`` stands for any size. The first that fits holds.
        where: The object that owns it, by its path inside the layer in a saveable file: ``cell``, ``query_dense``.
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
    """All that stands at one layer's place; what a row's functions read.

    Attributes:
        entry: The layer in the config.
        options: Its options by their names in Keras 2 and 3, defaults filled in.
        input_shapes: The shape of each input, with the batch.
        arrays: By :attr:`Variable.name`; empty while the variables themselves are asked for.
        notes: What a user should know of assumptions, in whole sentences.
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
        """Axes of the first input, the batch included."""
        return len(self.shape)

    @property
    def shape(self) -> Shape:
        """The first input's shape."""
        if not self.input_shapes:
            raise NotUnderstoodError("it is called without an input")
        return self.input_shapes[0]

    @property
    def backend_note(self) -> LayerNote:
        """What is assumed of a layer that backends compute differently, where the file does not state the backend."""
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
            NotUnderstoodError: It is something else.
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
    """One Keras class, or several that differ in nothing that the builder asks.

    Attributes:
        names: The class's name in Keras 3, then those of older generations and Keras' own aliases.
        build: Makes the records from what stands at the place.
        masks: What happens to a mask.
        options: Those that change the meaning, with the default that holds where a config does not state them.
        renamed: Older names of options.
        only: Options of which only these values are understood.
        ignored: Options without a meaning at inference, beside those that all classes have.
        variables: The variables in Keras' order: trainable ones first.
        inputs: How many inputs it takes: the fewest and the most.
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
