"""Compare two files' layers bit for bit, without running either."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lstmconv.arrays.comparing import difference
from lstmconv.arrays.copying import BiasMode, place_bias
from lstmconv.checking.findings import Note
from lstmconv.checking.open_files import Held
from lstmconv.errors import UnsupportedModelError
from lstmconv.model import Checkpoint, Gates, LSTMDirection, LSTMLayer

__all__ = ["compare"]


def compare(source: Checkpoint, name: str, twin: Held) -> list[Note]:
    """Return where a twin no longer is what its source says: one note a layer, none if they are in step.

    A twin of lstmconv's is held to what was noted in it: the dtype that weights were rounded to, and where
    the bias was put. Of another's, biases are compared by their sum, and layers that cannot be paired are said
    to be so. Activations are compared where both files tell them and nobody overruled them.

    Args:
        source: What the source holds.
        name: What to call it.
        twin: What the file converted from it holds.
    """
    held = twin.checkpoint
    if held is None and twin.noted is not None:
        return [Note("twin-differs", f"holds no LSTM any more that is read, and was made from {name}")]
    if held is None:
        return [Note("twin-unpaired", f"cannot be compared with {name}: no LSTM layer is found in it")]
    pairs = _pairs(source, held, twin.noted)
    if pairs is None:
        own, others = (", ".join(layer.name for layer in each.layers) for each in (held, source))
        if twin.noted is not None:
            return [Note("twin-differs", f"was made from other layers ({own}) than {name} has now ({others})")]
        text = f"cannot be compared with {name}: neither names nor sizes tell which of {own} is which of {others}"
        return [Note("twin-unpaired", text)]
    notes = (_differs(layer, own, name, twin) for own, layer in pairs)
    return [note for note in notes if note is not None]


def _pairs(
    source: Checkpoint, held: Checkpoint, noted: Mapping[str, Any] | None
) -> list[tuple[LSTMLayer, LSTMLayer]] | None:
    """Return the twin's layers, each with the source's: by the note, by name, or by order where sizes agree."""
    origins = {} if noted is None else {str(entry["name"]): str(entry["source"]) for entry in noted["layers"]}
    own = [layer.name for layer in held.layers]
    for wanted in ([origins.get(name, name) for name in own], own):
        named = _named(source.layers, wanted)
        if named is not None:
            return list(zip(held.layers, named, strict=True))
    if [_sizes(layer) for layer in held.layers] == [_sizes(layer) for layer in source.layers]:
        return list(zip(held.layers, source.layers, strict=True))
    return None


def _named(layers: Sequence[LSTMLayer], names: Sequence[str]) -> list[LSTMLayer] | None:
    """Return the layers of these names, if each is there once; formats write ``/`` in a name as ``.`` or ``_``."""
    by_name = {re.sub("[./]", "_", layer.name): layer for layer in layers}
    found = [by_name.get(re.sub("[./]", "_", name)) for name in names]
    chosen = [layer for layer in found if layer is not None]
    return chosen if len(chosen) == len(names) and len(by_name) == len(layers) else None


def _sizes(layer: LSTMLayer) -> list[tuple[int, int]]:
    return [(half.input_size, half.hidden_size) for half in layer.directions]


def _differs(source: LSTMLayer, twin: LSTMLayer, name: str, held: Held) -> Note | None:
    """Say the first thing in which a layer of the twin differs from the source's."""
    if _sizes(source) != _sizes(twin):
        text = f"is of {_shown(twin)}, {name} has {_shown(source)}"
        return Note("twin-differs", text, twin.name)
    one = held.noted is None or held.format.biases == "one"
    mode: BiasMode | None = "single-input" if one else (held.noted or {}).get("bias_mode")
    for number, (half, own) in enumerate(zip(source.directions, twin.directions, strict=True)):
        where = f"the {('forward', 'backward')[number]} half's " if source.bidirectional else "its "
        for array, expected, found in _arrays(half, own, mode, summed=held.noted is None):
            difference = _different(expected, found, name)
            if difference is not None:
                return Note("twin-differs", f"{where}{array} {difference}", twin.name)
    otherwise = _computes_otherwise(source, twin, name, held)
    return None if otherwise is None else Note("twin-differs", otherwise, twin.name)


def _shown(layer: LSTMLayer) -> str:
    return " and ".join(f"{inputs} features, {units} units" for inputs, units in _sizes(layer))


def _arrays(
    source: LSTMDirection, twin: LSTMDirection, mode: BiasMode | None, *, summed: bool
) -> Iterator[tuple[str, Gates, Gates]]:
    """Pair the arrays; an absent bias adds nothing, as zeros do."""
    yield "input weights", source.weight_ih, twin.weight_ih
    yield "recurrent weights", source.weight_hh, twin.weight_hh
    expected = place_bias(source, mode, zeros=True)
    found = place_bias(twin, "single-input", zeros=True) if summed else (twin.bias_ih, twin.bias_hh)
    for array, one, other in zip(("bias", "recurrent bias"), expected, found, strict=True):
        yield array, one or _zeros(source), other or _zeros(twin)


def _zeros(direction: LSTMDirection) -> Gates:
    nothing = np.zeros(direction.hidden_size, direction.dtype)
    return Gates(nothing, nothing, nothing, nothing)


def _different(expected: Gates, found: Gates, name: str) -> str | None:
    """Say in how many numbers two arrays differ, the expected one rounded once to the other's dtype."""
    try:
        differs = difference(expected, found)
    except UnsupportedModelError:
        return f"do not fit {found.dtype} any more"
    if differs is None:
        return None
    place = ", ".join(map(str, differs.place))
    values = f"{differs.found:.7g} where {name} has {differs.expected:.7g}"
    return (
        f"differ in {differs.wrong:,} of {differs.total:,} numbers, first in gate {differs.gate} at [{place}]: {values}"
    )


def _computes_otherwise(source: LSTMLayer, twin: LSTMLayer, name: str, held: Held) -> str | None:
    """Say which activation or direction of the twin is not the source's, or ``None``.

    State dicts and weight spaces of others do not tell theirs: what is read there is what ``nn.LSTM`` and cuDNN
    compute.
    """
    if held.noted is None and held.format.name not in ("onnx", "keras"):
        return None
    overruled = any(str(note).endswith("as asked") for note in (held.noted or {}).get("notes") or [])
    for half, own in zip(source.directions, twin.directions, strict=True):
        for what in () if overruled else ("activation", "recurrent_activation"):
            mine, theirs = getattr(half, what), getattr(own, what)
            if mine is not None and theirs is not None and mine != theirs:
                return f"its {what.replace('_', ' ')} is {theirs}, that of {name} is {mine}"
        if held.noted is not None and half.go_backwards != own.go_backwards:
            ways = ("forwards", "backwards")
            return f"runs {ways[own.go_backwards]}, in {name} {ways[half.go_backwards]}"
    return None
