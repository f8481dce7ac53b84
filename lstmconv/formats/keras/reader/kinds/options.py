"""Read a layer's options by the row of its class; a layer with an unknown option is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lstmconv.formats.keras.reader.kinds.entry import REQUIRED, LayerEntry, NotUnderstoodError, is_integer
from lstmconv.formats.keras.reader.kinds.row import Row

__all__ = ["pair", "read_options", "sizes_of"]

_IGNORED = frozenset({
    "name", "trainable", "batch_input_shape", "batch_shape", "input_shape", "input_dtype", "input_dim", "input_length",
    "init", "inner_init", "gamma_init", "beta_init", "weights", "seed", "shared_object_id", "autocast", "consume_less",
    "ragged", "optional", "sparse_gradients",
})  # fmt: skip
"""Options of any class that have no meaning at inference."""
_IGNORED_ENDINGS = ("_initializer", "_regularizer", "_constraint")
_CALL_OPTIONS = frozenset({"training", "mask", "name"})
_ALL_CLASSES: Mapping[str, tuple[object, ...]] = {
    "quantization_config": (None,),
    "lora_rank": (None,),
    "lora_alpha": (None,),
}
"""Options of any class, with the values that are understood; other values mean other variables."""
_DATA_FORMATS = {"tf": "channels_last", "th": "channels_first"}


def read_options(row: Row, entry: LayerEntry) -> Mapping[str, Any]:
    """Return a layer's options by their names in Keras 2 and 3, with the row's defaults.

    Raises:
        NotUnderstoodError: An option is unknown and not ``None``, has a value that is not understood, or is missing.
    """
    _check_dtype(entry.config.get("dtype"))
    options: dict[str, Any] = dict(row.options)
    only = {**_ALL_CLASSES, **row.only}
    for stated, value in {**entry.config, **_call_options(entry)}.items():
        name = row.renamed.get(stated, stated)
        if name in row.options:
            options[name] = _DATA_FORMATS.get(value, value) if name == "data_format" else value
        elif name in only:
            if value not in only[name]:
                raise NotUnderstoodError(f"{stated} is {value!r}, which lstmconv does not compute")
        elif (
            name not in _IGNORED | row.ignored | {"dtype"} and not name.endswith(_IGNORED_ENDINGS) and value is not None
        ):
            raise NotUnderstoodError(f"the option {stated} ({value!r}) is not known")
    missing = [name for name, value in options.items() if value is REQUIRED]
    if missing:
        raise NotUnderstoodError(f"the config does not state {', '.join(missing)}")
    return options


def _call_options(entry: LayerEntry) -> Mapping[str, Any]:
    return {name: value for name, value in entry.call_options.items() if name not in _CALL_OPTIONS}


def _check_dtype(policy: object) -> None:
    """Refuse a policy under which the layer does not compute with the stored kernels."""
    if isinstance(policy, Mapping) and "Quantized" in str(policy.get("class_name")):
        raise NotUnderstoodError("its weights are quantized")


def sizes_of(value: object, count: int, what: str) -> tuple[int, ...]:
    """Return one positive whole number for each spatial axis; a single number is used for all axes.

    Raises:
        NotUnderstoodError: The value is something else.
    """
    numbers: tuple[Any, ...] = tuple(value) if isinstance(value, list | tuple) else (value,) * count
    if len(numbers) != count or not all(is_integer(number) and number > 0 for number in numbers):
        raise NotUnderstoodError(f"{what} is {value!r}, expected {count} positive whole numbers")
    return numbers


def pair(value: object, what: str) -> tuple[int, int]:
    """Return the amounts before and after an axis; a single number is used for both.

    Raises:
        NotUnderstoodError: The value is something else.
    """
    numbers: tuple[Any, ...] = tuple(value) if isinstance(value, list | tuple) else (value, value)
    if len(numbers) != 2 or not all(is_integer(number) and number >= 0 for number in numbers):
        raise NotUnderstoodError(f"{what} is {value!r}, expected whole numbers that are not negative")
    before, after = numbers
    return before, after
