"""Give the layers of a written file the names and options that its record says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from lstmconv.activations import described_activation
from lstmconv.errors import UnreadableFileError
from lstmconv.formats.record import Record, RecordedLayer
from lstmconv.model import LSTMLayer
from lstmconv.model.notes import LayerNote

__all__ = ["Restored", "restore"]


class Restored(NamedTuple):
    """A file's layers, named as recorded; the fields are those of a Checkpoint."""

    layers: tuple[LSTMLayer, ...]
    joined: Mapping[str, tuple[str, ...]]
    edges: tuple[tuple[str, str], ...] | None
    notes: tuple[str, ...]


def restore(
    modules: Mapping[str, Sequence[LSTMLayer]],
    record: Record | None,
    source: str,
    key: Callable[[str], str] = lambda name: name,
    *,
    binding: bool = True,
) -> Restored:
    """Give the layers of a file the names and options that were recorded when it was written.

    Args:
        modules: The file's modules by their names in it, each with its layers.
        record: ``None`` for a file that something else wrote.
        source: The file's name.
        key: The module's name in the file for a recorded stack's name.
        binding: Whether only the record says what the file computes. Else the file has a graph: a record that does not
            fit is ignored, with a note.

    Raises:
        UnreadableFileError: A binding record does not describe the file's weights.
    """
    recorded = {} if record is None else {key(stack): (stack, entries) for stack, entries in record.modules.items()}
    layers: list[LSTMLayer] = []
    joined: dict[str, tuple[str, ...]] = {}
    notes: list[str] = []
    for module, found in modules.items():
        stack, entries = recorded.get(module, (module, ()))
        named = list(found)
        if len(entries) == len(found) and all(map(_fits, found, entries)):
            named = [_restored(layer, entry) for layer, entry in zip(found, entries, strict=True)]
        elif record is not None and binding:
            raise _of_another_file(
                source, f"'{module}' is not in it" if not entries else f"'{module}' has other sizes or biases"
            )
        elif record is not None:
            text = "lstmconv's record in the file does not describe its weights; it is ignored"
            notes.append(LayerNote(module or "the module", text))
        layers += named
        if len(named) > 1:
            joined[stack] = tuple(layer.name for layer in named)
    missing = next((module for module in recorded if module not in modules), None)
    if missing is not None and binding and record is not None and record.scope == "layers":
        raise _of_another_file(source, f"the file has no '{missing}'")
    names = {layer.name for layer in layers}
    pairs = None if record is None else record.edges
    edges = None if pairs is None else tuple((a, b) for a, b in pairs if a in names and b in names)
    if edges is None and not joined:
        return Restored(tuple(layers), joined, None, tuple(notes))
    chained = tuple(pair for inside in joined.values() for pair in pairwise(inside))
    return Restored(tuple(layers), joined, tuple(dict.fromkeys([*(edges or ()), *chained])), tuple(notes))


def _of_another_file(source: str, differs: str) -> UnreadableFileError:
    return UnreadableFileError(
        f"lstmconv's record in it describes other weights: {differs}; "
        "convert the source again, or save the weights without the record",
        about=source,
    )


def _fits(layer: LSTMLayer, entry: RecordedLayer) -> bool:
    """Whether a layer has the recorded sizes, and a bias where one is recorded; zeros may stand where none is."""
    sizes = [direction.hidden_size for direction in entry.directions]
    biased = all(
        half.bias_ih is not None or half.bias_hh is not None or not recorded.biases
        for half, recorded in zip(layer.directions, entry.directions, strict=False)
    )
    return biased and entry.input_size == layer.input_size and sizes == [half.hidden_size for half in layer.directions]


def _restored(layer: LSTMLayer, entry: RecordedLayer) -> LSTMLayer:
    halves = [
        replace(
            half,
            activation=described_activation(recorded.activation),
            recurrent_activation=described_activation(recorded.recurrent_activation),
            go_backwards=recorded.go_backwards,
        )
        for half, recorded in zip(layer.directions, entry.directions, strict=True)
    ]
    return replace(
        layer,
        name=entry.name,
        forward=halves[0],
        backward=halves[1] if layer.bidirectional else None,
        merge_mode=entry.merge_mode or "concat",
        **entry.options,
    )
