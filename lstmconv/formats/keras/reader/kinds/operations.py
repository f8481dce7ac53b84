"""Functions between layers: Keras 3's operations and tf.keras' operator layers.

A function may become several steps: ``x + 2`` is a constant and an addition. The last :class:`Step` is the result.

Sources: keras/src/ops/{numpy,nn,core}.py (3.15: one class a function, its options in the config), TensorFlow's API as
tf_keras/src/layers/core/tf_op_layer.py (2.16) names it, TensorFlowOpLayer in tf_keras/src/engine/base_layer.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.keras.reader.kinds.entry import OPERATOR_LAYERS, LayerEntry, NotUnderstoodError
from lstmconv.formats.keras.reader.kinds.functions import FUNCTIONS, Function
from lstmconv.formats.keras.reader.kinds.steps import Arguments, Operand, Step
from lstmconv.formats.keras.reader.kinds.tensorflow_nodes import function_of_node
from lstmconv.formats.keras.reader.kinds.values import plain
from lstmconv.model.kinds import Unknown

__all__ = ["build_operation"]

_SYMBOL = re.compile(r"(?:compat\.v1\.)?(?:(?:math|nn|linalg|__operators__)\.)?(\w+)")
"""TensorFlow's public name of a function: ``math.add``, or ``compat.v1.`` and a name kept from version 1."""
_WITHOUT_MEANING = ("name", "out", "trainable", "dtype_policy")


def build_operation(entry: LayerEntry, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Step, ...]:
    """Return the steps for one call of a function; the last step is the result.

    Args:
        entry: The layer or operation in the config.
        args: Positional arguments of the config, with each tensor replaced by an :class:`Operand`.
        kwargs: Keyword arguments, with tensors replaced in the same way.

    Returns:
        The steps; a single :class:`~lstmconv.model.kinds.Unknown`, with all tensors in the order of the arguments, if
        anything is not understood.
    """
    try:
        function, args, kwargs = _function_of(entry, args, kwargs)
        return function.build(_bound(entry, function, args, kwargs))
    except UnsupportedModelError as error:
        reason = str(error)
    except (TypeError, ValueError, OverflowError, KeyError, AttributeError, IndexError) as error:
        # A config may contain anything. A list in place of a number must not end the whole conversion.
        reason = f"its call has a value that does not fit ({type(error).__name__}: {error})"
    return (Step(Unknown(entry.name, _shown(entry), reason, {}), tuple(_operands([args, kwargs]))),)


def _shown(entry: LayerEntry) -> str:
    function = entry.config.get("function")
    return f"tf.{function}" if entry.class_name in OPERATOR_LAYERS and function else entry.class_name


def _operands(value: Any) -> list[Operand]:
    if isinstance(value, Operand):
        return [value]
    if isinstance(value, Mapping):
        return [operand for each in value.values() for operand in _operands(each)]
    if isinstance(value, list | tuple):
        return [operand for each in value for operand in _operands(each)]
    return []


def _function_of(
    entry: LayerEntry, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Function, Sequence[Any], Mapping[str, Any]]:
    """Return the function and its arguments, from the place where this generation of Keras stores them."""
    if entry.class_name == "TensorFlowOpLayer":
        name, args, kwargs = function_of_node(entry.config, args)
    elif entry.class_name in OPERATOR_LAYERS:
        symbol = _SYMBOL.fullmatch(str(entry.config.get("function")))
        name = "" if symbol is None else symbol[1]
    else:
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", entry.class_name).lower()
        kwargs = {**entry.config, **kwargs}
    found = next((function for function in FUNCTIONS if name in function.names), None)
    if found is None:
        raise NotUnderstoodError(f"the function {_shown(entry)} is not among those that lstmconv computes")
    return found, args, kwargs


def _bound(entry: LayerEntry, function: Function, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Arguments:
    """Bind arguments to the function's parameters.

    Raises:
        NotUnderstoodError: An argument is unknown and not ``None``, is given twice, or is missing.
    """
    values = dict(function.defaults)
    if entry.class_name not in OPERATOR_LAYERS:
        values |= function.defaults_in_keras
    if len(args) > len(function.parameters):
        raise NotUnderstoodError(f"it is called with {len(args)} arguments")
    given = dict(zip(function.parameters, args, strict=False))
    for stated, value in kwargs.items():
        name = function.renamed.get(stated, stated)
        if name in function.parameters or name in function.defaults:
            if name in given:
                raise NotUnderstoodError(f"the argument {stated} is given twice")
            given[name] = value
        elif stated not in _WITHOUT_MEANING and value not in (None, False):
            raise NotUnderstoodError(f"the argument {stated} ({value!r:.40}) is not known")
    values |= {name: plain(value) for name, value in given.items()}
    missing = [name for name in function.parameters if name not in values]
    if missing:
        raise NotUnderstoodError(f"the argument {missing[0]} is missing")
    return Arguments(entry.name, values)
