"""Build the model layers for one Keras layer; if any part of it is not understood, it is unknown, with a reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.keras.reader.kinds.entry import LayerEntry, NotUnderstoodError
from lstmconv.formats.keras.reader.kinds.options import read_options
from lstmconv.formats.keras.reader.kinds.row import Place, Row, Variable
from lstmconv.formats.keras.reader.kinds.table import row_of
from lstmconv.model import Array
from lstmconv.model.graph import Call, Input, Layer, Model, Shape, Tensor, TimeDistributed
from lstmconv.model.kinds import Activate, Dense, Identity, Unknown

__all__ = ["build", "per_step", "variables_of"]

_FLOATS = ("float16", "bfloat16", "float32", "float64")


def variables_of(entry: LayerEntry, input_shapes: Sequence[Shape]) -> tuple[Variable, ...]:
    """Return the variables that a layer must have, in Keras' order: trainable ones, then the others.

    Raises:
        NotUnderstoodError: The layer, or a part of its config, is unknown.
    """
    row, place = _place(entry, input_shapes)
    return row.variables(place)


def build(
    entry: LayerEntry, arrays: Mapping[str, Array], input_shapes: Sequence[Shape], notes: list[str]
) -> tuple[Layer, ...]:
    """Return the model layers for one Keras layer: one, or several that run one after another.

    Args:
        entry: The layer in the config.
        arrays: The arrays by the file's names, in the order of :func:`variables_of`.
        input_shapes: The shape of each input, with the batch.
        notes: Receives every assumption that a user should know, in whole sentences.

    Returns:
        The model layers; a single :class:`~lstmconv.model.kinds.Unknown` if anything is not understood.
    """
    try:
        row, place = _place(entry, input_shapes, notes)
        return row.build(Place(entry, place.options, place.input_shapes, _named(row.variables(place), arrays), notes))
    except UnsupportedModelError as error:
        return (Unknown(entry.name, entry.class_name, str(error), dict(arrays)),)
    except (TypeError, ValueError, OverflowError, KeyError, AttributeError) as error:
        # A config may contain anything. A list in place of a number must not end the whole conversion.
        reason = f"its config has a value that does not fit ({type(error).__name__}: {error})"
        return (Unknown(entry.name, entry.class_name, reason, dict(arrays)),)


def _place(entry: LayerEntry, input_shapes: Sequence[Shape], notes: list[str] | None = None) -> tuple[Row, Place]:
    row = row_of(entry)
    fewest, most = row.inputs
    if not fewest <= len(input_shapes) <= most:
        raise NotUnderstoodError(f"it is called with {len(input_shapes)} inputs, expected {fewest}")
    return row, Place(entry, read_options(row, entry), tuple(input_shapes), notes=[] if notes is None else notes)


def _named(variables: Sequence[Variable], arrays: Mapping[str, Array]) -> Mapping[str, Array]:
    """Assign each variable its array.

    Raises:
        NotUnderstoodError: The numbers of variables and arrays differ, or a shape or a dtype is not the expected one.
    """
    if len(variables) != len(arrays):
        expected = ", ".join(variable.name for variable in variables) or "none"
        found = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "none"
        raise NotUnderstoodError(f"expected the arrays {expected}, found {found}")
    for variable, (name, array) in zip(variables, arrays.items(), strict=True):
        if not variable.fits(array.shape):
            raise NotUnderstoodError(f"'{name}' is {array.shape}, expected {variable.shapes[0]} ({variable.name})")
        if array.dtype.name not in _FLOATS and variable.name != "count":
            raise NotUnderstoodError(f"'{name}' is {array.dtype}, expected a float type ({variable.name})")
    return {variable.name: array for variable, array in zip(variables, arrays.values(), strict=True)}


def per_step(name: str, layers: Sequence[Layer], input_shape: Shape) -> tuple[Layer, ...]:
    """Wrap built layers in TimeDistributed.

    Args:
        name: The wrapper's name.
        layers: The model layers of the wrapped layer, as :func:`build` returned them.
        input_shape: The shape of the wrapper's input: batch, time, and the axes of a step.

    Returns:
        The layers themselves if they treat each step alone or one is unknown, else one
        :class:`~lstmconv.model.kinds.TimeDistributed`.
    """
    if any(isinstance(layer, Unknown) for layer in layers) or all(map(_on_last_axis, layers)):
        return tuple(layers)
    calls: list[Call] = []
    tensor = Tensor("step")
    for layer in layers:
        calls.append(Call(layer.name, layer, (tensor,)))
        tensor = Tensor(layer.name)
    step = Input("step", (None, *input_shape[2:]))
    return (TimeDistributed(name, Model(name, (step,), tuple(calls), {"output": tensor})),)


def _on_last_axis(layer: Layer) -> bool:
    return isinstance(layer, Dense | Identity) or (
        isinstance(layer, Activate) and (not layer.activation.coupled or layer.axis == -1)
    )
