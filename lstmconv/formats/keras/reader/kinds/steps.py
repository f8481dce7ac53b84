"""The steps of one call of a function, and the arguments from which they are built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from lstmconv.formats.keras.reader.kinds.entry import NotUnderstoodError, is_integer
from lstmconv.formats.keras.reader.kinds.values import array_of
from lstmconv.model import Array
from lstmconv.model.graph import Shape
from lstmconv.model.kinds import Constant, Kind

__all__ = ["Arguments", "Operand", "Step", "constant", "joined"]


@dataclass(frozen=True)
class Operand:
    """A tensor among the arguments of a call.

    Attributes:
        index: The tensor's number in the caller's list.
        shape: The shape with the batch; ``None`` if not even the number of axes is known.
        dtype: NumPy's name of the dtype.
    """

    index: int
    shape: Shape | None
    dtype: str = "float32"


class Step(NamedTuple):
    """One model layer and its inputs: tensors of the call, and outputs of earlier steps by their numbers."""

    layer: Kind
    inputs: tuple[Operand | int, ...]


@dataclass(frozen=True)
class Arguments:
    """The arguments of one call by the names of the function's parameters.

    Attributes:
        name: The name of the result's layer.
        values: The arguments: each tensor is an :class:`Operand`, everything else is as the config states it.
    """

    name: str
    values: Mapping[str, Any]

    def tensor(self, parameter: str) -> Operand:
        """Return an argument that is a tensor.

        Raises:
            NotUnderstoodError: The argument is no tensor.
        """
        value = self.values[parameter]
        if isinstance(value, list | tuple) and len(value) == 1:
            (value,) = value
        if not isinstance(value, Operand):
            raise NotUnderstoodError(f"the argument {parameter} is {value!r:.40}, expected a tensor")
        return value

    def rank(self, parameter: str) -> int:
        """Return how many axes a tensor has.

        Raises:
            NotUnderstoodError: The number of axes is unknown.
        """
        shape = self.tensor(parameter).shape
        if shape is None:
            raise NotUnderstoodError("the number of its input's axes is not known")
        return len(shape)

    def number(self, parameter: str) -> float:
        """Return an argument that is a number."""
        value = self.values[parameter]
        if not isinstance(value, int | float):
            raise NotUnderstoodError(f"the argument {parameter} is {value!r:.40}, expected a number")
        return float(value)

    def axis(self, parameter: str, rank: int) -> int:
        """Return an argument that is one axis, counted from the front."""
        (axis,) = self.axes(parameter, rank)
        return axis

    def axes(self, parameter: str, rank: int) -> tuple[int, ...]:
        """Return an argument that is one axis or several, counted from the front; all of them for ``None``.

        Raises:
            NotUnderstoodError: A value is no axis of a tensor of that rank.
        """
        value = self.values[parameter]
        listed = range(rank) if value is None else value if isinstance(value, list | tuple) else (value,)
        if not all(is_integer(axis) and -rank <= axis < rank for axis in listed):
            raise NotUnderstoodError(f"the argument {parameter} is {value!r:.40}, expected axes of {rank}")
        return tuple(axis % rank for axis in listed)


def joined(arguments: Arguments, layer: Kind, operands: tuple[Any, ...]) -> tuple[Step, ...]:
    """Return the steps for one layer with several operands; numbers become constants of the tensors' dtype."""
    tensors = [operand for operand in operands if isinstance(operand, Operand)]
    if not tensors:
        raise NotUnderstoodError("none of its arguments is a tensor")
    steps: list[Step] = []
    inputs: list[Operand | int] = []
    for operand in operands:
        if isinstance(operand, Operand):
            inputs.append(operand)
            continue
        number = f"{len(steps)}" if steps else ""
        value = constant(operand, tensors[0].dtype)
        steps.append(Step(Constant(f"{arguments.name}/constant{number}", value), ()))
        inputs.append(len(steps) - 1)
    return (*steps, Step(layer, tuple(inputs)))


def constant(value: object, dtype: str) -> Array:
    """Return a constant operand in the dtype of the tensor operand; ``float32`` is the model's own float type.

    Raises:
        NotUnderstoodError: The value is no array of numbers, or has fractions, which would promote an integer tensor.
    """
    array = array_of(value, "float64")
    if not dtype.startswith(("float", "bfloat")) and not (array == array.round()).all():
        raise NotUnderstoodError(f"{value!r:.40} beside a tensor of {dtype}")
    return array.astype("float32" if dtype.startswith(("float", "bfloat")) else dtype)
