"""Compare two files' layers bit for bit, without running either."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lstmconv.arrays.bias_sums import comparable_biases
from lstmconv.arrays.comparing import difference
from lstmconv.arrays.copying import BiasMode, place_bias
from lstmconv.arrays.places import place_in
from lstmconv.checking.file_cache import CheckedFile
from lstmconv.checking.findings import Violation
from lstmconv.errors import UnsupportedModelError
from lstmconv.formats import Artifact
from lstmconv.formats.record import Record, lacking
from lstmconv.model import Checkpoint, Gates, LSTMDirection, LSTMLayer, Model
from lstmconv.model.layers import RETURN_OPTIONS, option_differences
from lstmconv.proof.pairing import named

__all__ = ["compare"]


def compare(source: Checkpoint, name: str, twin: CheckedFile) -> list[Violation]:
    """Return the differences between a twin and its source: one violation for each layer that differs.

    A whole model is compared as a graph, with every array of every layer; in a Keras file, LSTM layers too.

    If the twin has a record, the record says to which dtype weights were rounded and where the bias went, and the
    comparison uses both. Otherwise two biases are compared each with each, or by their sum, rounded as either dtype
    has it, and layers that cannot be paired are reported.
    Activations are compared if both files say them and the user did not replace them, and what layers return if both
    files say it.

    Args:
        source: The layers of the source.
        name: The source's name in messages.
        twin: The file that was converted from the source.
    """
    checkpoint = twin.checkpoint
    if checkpoint is None and twin.record is not None:
        return [Violation("twin-differs", f"has no LSTM layer that lstmconv reads, but was converted from {name}")]
    if checkpoint is None:
        return [Violation("twin-unpaired", f"cannot be compared with {name}: it has no LSTM layer")]
    whole = _whole(source, twin)
    if whole is not None and whole[2].format.from_keras:  # Its layers may be rescaled, or several in the place of one.
        return _whole_differs(*whole)
    pairs = _pairs(source, checkpoint, twin.record)
    if pairs is None:
        twin_names, source_names = (", ".join(layer.name for layer in each.layers) for each in (checkpoint, source))
        if twin.record is not None:
            text = f"was converted from other layers ({twin_names}) than {name} has now ({source_names})"
            return [Violation("twin-differs", text)]
        pairing = f"neither names nor sizes show which of {twin_names} is which of {source_names}"
        return [Violation("twin-unpaired", f"cannot be compared with {name}: {pairing}")]
    stated = not source.assumed
    violations = [_differs(source_layer, twin_layer, name, twin, stated=stated) for twin_layer, source_layer in pairs]
    missing = lacking(source, twin.record, {layer.name for _, layer in pairs})
    if missing:
        violations.append(Violation("twin-differs", f"lacks {', '.join(missing)}, which {name} has"))
    found = [violation for violation in violations if violation is not None]
    return found if found or whole is None else _whole_differs(*whole)


def _whole(source: Checkpoint, twin: CheckedFile) -> tuple[Model, Record, Artifact] | None:
    """Return what is compared where a twin is its source's whole model; ``None`` where it is not."""
    if source.model is None or twin.artifact is None or twin.record is None or twin.record.scope != "whole":
        return None
    return source.model, twin.record, twin.artifact


def _whole_differs(source: Model, record: Record, artifact: Artifact) -> list[Violation]:
    """Compare every array of a whole model, also of the layers that are no LSTMs; no framework is loaded."""
    from lstmconv.proof.trials import Settings
    from lstmconv.proof.whole_file import check_whole_file
    from lstmconv.runtimes import session

    checks = check_whole_file(source, record, session(artifact), Settings(), run=False)
    return [Violation("twin-differs", check.detail) for check in checks if check.status == "failed"]


def _pairs(source: Checkpoint, twin: Checkpoint, record: Record | None) -> list[tuple[LSTMLayer, LSTMLayer]] | None:
    """Pair the twin's layers with the source's: by the record, by name, or by order if all sizes agree."""
    origins = {} if record is None else record.origins
    names = [layer.name for layer in twin.layers]
    for wanted in ([origins.get(name, name) for name in names], names):
        chosen = named(source, wanted)
        if chosen is not None:
            return list(zip(twin.layers, chosen, strict=True))
    if [_sizes(layer) for layer in twin.layers] == [_sizes(layer) for layer in source.layers]:
        return list(zip(twin.layers, source.layers, strict=True))
    return None


def _sizes(layer: LSTMLayer) -> list[tuple[int, int]]:
    return [(half.input_size, half.hidden_size) for half in layer.directions]


def _differs(source: LSTMLayer, twin: LSTMLayer, name: str, file: CheckedFile, *, stated: bool) -> Violation | None:
    """Return the first difference between a layer of the twin and its source's layer, or ``None``.

    Directions are compared if the source tells them.
    """
    if _sizes(source) != _sizes(twin):
        text = f"has {_shown(twin)}, but {name} has {_shown(source)}"
        return Violation("twin-differs", text, twin.name)
    record = file.record
    one = record is None or (file.artifact is not None and file.artifact.one_bias)
    mode = "single-input" if one or record is None else record.bias_mode
    for number, (half, twin_half) in enumerate(zip(source.directions, twin.directions, strict=True)):
        where = f"the {('forward', 'backward')[number]} direction's " if source.bidirectional else "its "
        try:
            pairs = list(_arrays(half, twin_half, mode, free=record is None))
        except UnsupportedModelError as error:
            return Violation("twin-differs", f"{where}biases: {error}", twin.name)
        for array, words, expected, stored in pairs:
            found = _different(half, array, expected, stored, name)
            if found is not None:
                return Violation("twin-differs", f"{where}{words} {found}", twin.name)
    otherwise = _computes_otherwise(source, twin, name, file, stated=stated)
    return None if otherwise is None else Violation("twin-differs", otherwise, twin.name)


def _shown(layer: LSTMLayer) -> str:
    return " and ".join(f"{inputs} features, {units} units" for inputs, units in _sizes(layer))


def _arrays(
    source: LSTMDirection, twin: LSTMDirection, mode: BiasMode | None, *, free: bool
) -> Iterator[tuple[str, str, Gates, Gates]]:
    """Pair the arrays, each with its name and words for it; a missing bias counts as zeros.

    Args:
        source: A direction of the source.
        twin: The direction of the twin.
        mode: Where the source's biases went.
        free: No record says where; two biases are compared each with each, or by their sum.
    """
    yield "weight_ih", "input weights", source.weight_ih, twin.weight_ih
    yield "weight_hh", "recurrent weights", source.weight_hh, twin.weight_hh
    words = ["biases", "recurrent biases"]
    expected, stored = place_bias(source, mode, zeros=True), (twin.bias_ih, twin.bias_hh)
    if free:
        expected, stored, summed = comparable_biases(source, stored, twin.weight_ih.dtype)
        words[0] = "sums of two biases" if summed else "biases"
    for array, text, one, other in zip(("bias_ih", "bias_hh"), words, expected, stored, strict=True):
        yield array, text, one or _zeros(source), other or _zeros(twin)


def _zeros(direction: LSTMDirection) -> Gates:
    nothing = np.zeros(direction.hidden_size, direction.dtype)
    return Gates(nothing, nothing, nothing, nothing)


def _different(source: LSTMDirection, array: str, expected: Gates, stored: Gates, name: str) -> str | None:
    """Return in how many numbers two arrays differ, in words, or ``None``; the expected one is rounded once."""
    try:
        differs = difference(expected, stored)
    except UnsupportedModelError:
        return f"no longer fit {stored.dtype}"
    if differs is None:
        return None
    place = place_in(source, array, differs.gate, differs.place)
    values = f"{differs.found:.7g} where {name} has {differs.expected:.7g}"
    return f"differ in {differs.wrong:,} of {differs.total:,} numbers, first at {place}: {values}"


def _computes_otherwise(
    source: LSTMLayer, twin: LSTMLayer, name: str, file: CheckedFile, *, stated: bool
) -> str | None:
    """Return which option of the twin differs from the source, in words, or ``None``.

    A state dict or weight space without a record states no options. An ONNX graph that something else wrote shows its
    activations, which are compared. Where the source states arrays alone, only activations are compared, too.
    """
    record, format = file.record, None if file.artifact is None else file.artifact.format
    if record is None and (format is None or not format.states_activations):
        return None
    if file.checkpoint is not None and file.checkpoint.assumed:
        return None
    activations = record is None or not record.activations_given
    others = stated and (record is not None or (format is not None and format.from_keras))
    returned = RETURN_OPTIONS if others else ()
    for differs in option_differences(source, twin, returned):
        if activations if differs.option in ("activation", "recurrent_activation") else others:
            expected, found = differs.in_words
            return f"{found}, but {name} {expected}"
    return None
