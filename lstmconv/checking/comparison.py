"""Compare two files' layers bit for bit, without running either."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lstmconv.arrays.comparing import difference
from lstmconv.arrays.copying import BiasMode, place_bias
from lstmconv.checking.file_cache import CheckedFile
from lstmconv.checking.findings import Violation
from lstmconv.errors import UnsupportedModelError
from lstmconv.model import Checkpoint, Gates, LSTMDirection, LSTMLayer

__all__ = ["compare"]


def compare(source: Checkpoint, name: str, twin: CheckedFile) -> list[Violation]:
    """Return where a twin no longer is what its source says: one violation a layer, none if they are in step.

    A twin that lstmconv wrote is compared as its record says: the dtype that weights were rounded to, and where
    the bias was put. Of another's, biases are compared by their sum, and layers that cannot be paired are said
    to be so. Activations are compared where both files tell them and nobody overruled them.

    Args:
        source: What the source holds.
        name: What to call it.
        twin: What the file converted from it holds.
    """
    checkpoint = twin.checkpoint
    if checkpoint is None and twin.record is not None:
        return [Violation("twin-differs", f"holds no LSTM any more that is read, and was made from {name}")]
    if checkpoint is None:
        return [Violation("twin-unpaired", f"cannot be compared with {name}: no LSTM layer is found in it")]
    pairs = _pairs(source, checkpoint, twin.record)
    if pairs is None:
        twin_names, source_names = (", ".join(layer.name for layer in each.layers) for each in (checkpoint, source))
        if twin.record is not None:
            text = f"was made from other layers ({twin_names}) than {name} has now ({source_names})"
            return [Violation("twin-differs", text)]
        pairing = f"neither names nor sizes tell which of {twin_names} is which of {source_names}"
        return [Violation("twin-unpaired", f"cannot be compared with {name}: {pairing}")]
    violations = (_differs(source_layer, twin_layer, name, twin) for twin_layer, source_layer in pairs)
    return [violation for violation in violations if violation is not None]


def _pairs(
    source: Checkpoint, twin: Checkpoint, record: Mapping[str, Any] | None
) -> list[tuple[LSTMLayer, LSTMLayer]] | None:
    """Return the twin's layers, each with the source's: by the record, by name, or by order where sizes agree."""
    origins = {} if record is None else {str(entry["name"]): str(entry["source"]) for entry in record["layers"]}
    names = [layer.name for layer in twin.layers]
    for wanted in ([origins.get(name, name) for name in names], names):
        named = _named(source.layers, wanted)
        if named is not None:
            return list(zip(twin.layers, named, strict=True))
    if [_sizes(layer) for layer in twin.layers] == [_sizes(layer) for layer in source.layers]:
        return list(zip(twin.layers, source.layers, strict=True))
    return None


def _named(layers: Sequence[LSTMLayer], names: Sequence[str]) -> list[LSTMLayer] | None:
    """Return the layers of these names, if each is there once; formats write ``/`` in a name as ``.`` or ``_``."""
    by_name = {re.sub("[./]", "_", layer.name): layer for layer in layers}
    chosen = [layer for name in names if (layer := by_name.get(re.sub("[./]", "_", name))) is not None]
    return chosen if len(chosen) == len(names) and len(by_name) == len(layers) else None


def _sizes(layer: LSTMLayer) -> list[tuple[int, int]]:
    return [(half.input_size, half.hidden_size) for half in layer.directions]


def _differs(source: LSTMLayer, twin: LSTMLayer, name: str, file: CheckedFile) -> Violation | None:
    """Say the first thing in which a layer of the twin differs from the source's."""
    if _sizes(source) != _sizes(twin):
        text = f"is of {_shown(twin)}, {name} has {_shown(source)}"
        return Violation("twin-differs", text, twin.name)
    one = file.record is None or file.format.biases == "one"
    mode: BiasMode | None = "single-input" if one else (file.record or {}).get("bias_mode")
    for number, (half, twin_half) in enumerate(zip(source.directions, twin.directions, strict=True)):
        where = f"the {('forward', 'backward')[number]} half's " if source.bidirectional else "its "
        for array, expected, stored in _arrays(half, twin_half, mode, summed=file.record is None):
            difference = _different(expected, stored, name)
            if difference is not None:
                return Violation("twin-differs", f"{where}{array} {difference}", twin.name)
    otherwise = _computes_otherwise(source, twin, name, file)
    return None if otherwise is None else Violation("twin-differs", otherwise, twin.name)


def _shown(layer: LSTMLayer) -> str:
    return " and ".join(f"{inputs} features, {units} units" for inputs, units in _sizes(layer))


def _arrays(
    source: LSTMDirection, twin: LSTMDirection, mode: BiasMode | None, *, summed: bool
) -> Iterator[tuple[str, Gates, Gates]]:
    """Pair the arrays; an absent bias adds nothing, as zeros do."""
    yield "input weights", source.weight_ih, twin.weight_ih
    yield "recurrent weights", source.weight_hh, twin.weight_hh
    expected = place_bias(source, mode, zeros=True)
    stored = place_bias(twin, "single-input", zeros=True) if summed else (twin.bias_ih, twin.bias_hh)
    for array, one, other in zip(("bias", "recurrent bias"), expected, stored, strict=True):
        yield array, one or _zeros(source), other or _zeros(twin)


def _zeros(direction: LSTMDirection) -> Gates:
    nothing = np.zeros(direction.hidden_size, direction.dtype)
    return Gates(nothing, nothing, nothing, nothing)


def _different(expected: Gates, stored: Gates, name: str) -> str | None:
    """Say in how many numbers two arrays differ, the expected one rounded once to the other's dtype."""
    try:
        differs = difference(expected, stored)
    except UnsupportedModelError:
        return f"do not fit {stored.dtype} any more"
    if differs is None:
        return None
    place = ", ".join(map(str, differs.place))
    values = f"{differs.found:.7g} where {name} has {differs.expected:.7g}"
    return (
        f"differ in {differs.wrong:,} of {differs.total:,} numbers, first in gate {differs.gate} at [{place}]: {values}"
    )


def _computes_otherwise(source: LSTMLayer, twin: LSTMLayer, name: str, file: CheckedFile) -> str | None:
    """Say which activation or direction of the twin is not the source's, or ``None``.

    State dicts and weight spaces of others do not tell theirs: what is read there is what ``nn.LSTM`` and cuDNN
    compute.
    """
    if file.record is None and file.format.name not in ("onnx", "keras"):
        return None
    overruled = any(str(note).endswith("as asked") for note in (file.record or {}).get("notes") or [])
    for half, twin_half in zip(source.directions, twin.directions, strict=True):
        for what in () if overruled else ("activation", "recurrent_activation"):
            mine, theirs = getattr(half, what), getattr(twin_half, what)
            if mine is not None and theirs is not None and mine != theirs:
                return f"its {what.replace('_', ' ')} is {theirs}, that of {name} is {mine}"
        if file.record is not None and half.go_backwards != twin_half.go_backwards:
            ways = ("forwards", "backwards")
            return f"runs {ways[twin_half.go_backwards]}, in {name} {ways[half.go_backwards]}"
    return None
