"""Build LSTM layers from their configs and arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.keras.reader.cells import LSTM_KINDS, Cell, HalfSpec
from lstmconv.formats.keras.reader.cells_legacy import cell_of
from lstmconv.formats.keras.reader.entries import Entry
from lstmconv.formats.keras.reader.producer import Producer
from lstmconv.formats.keras.reader.stored import Stored
from lstmconv.formats.keras.reader.views import CELL_LAYOUTS, view_cell
from lstmconv.model import LSTMDirection, LSTMLayer, MergeMode, Stack

__all__ = ["WrongArraysError", "build_lstm", "direction_of", "is_lstm"]


class WrongArraysError(UnsupportedModelError):
    """The arrays of an LSTM do not fit its config: the file and the config do not belong together."""


def is_lstm(entry: Entry) -> bool:
    """Whether a layer consists only of Keras' own LSTM cells."""
    if entry.own("LSTM", "CuDNNLSTM"):
        return True
    if entry.own("RNN"):
        return bool(entry.parts) and all(cell.own("LSTMCell") for cell in entry.parts.values())
    return entry.own("Bidirectional") and all(is_lstm(half) for half in entry.parts.values())


def build_lstm(
    entry: Entry, name: str, stored: Mapping[Entry, Sequence[Stored]], places: Mapping[Entry, str], producer: Producer
) -> LSTMLayer | Stack:
    """Build one layer; an RNN of several cells becomes a stack.

    Args:
        entry: A layer for which :func:`is_lstm` is true.
        name: The layer's name, ``/`` between nested models.
        stored: The arrays of every cell.
        places: The path of every cell in the file, for messages.
        producer: The Keras version that wrote the file, which decides the activations.

    Raises:
        UnreadableFileError: The arrays are damaged.
        WrongArraysError: The arrays are not those of an LSTM of the config's sizes.
        UnsupportedModelError: An activation is unknown, or no LSTM layer computes the same.
    """
    maker = _Maker(stored, places, producer)
    if not entry.own("Bidirectional"):
        if entry.own("RNN") and "cell" not in entry.parts:
            return maker.stack(entry, name)
        return maker.layer(name, (maker.half(entry),), entry.config, _title(entry))
    forward, backward = entry.parts["forward"], entry.parts["backward"]
    for half in (forward, backward):
        if half.own("RNN") and "cell" not in half.parts:
            raise UnsupportedModelError("two stacks of cells side by side are not a stack of Bidirectional layers")
    halves = [maker.half(forward), maker.half(backward)]
    # Without a backward_layer in the config, the backward layer is the forward layer with go_backwards inverted
    # (bidirectional.py __init__), in Keras 2 also if the forward layer already runs backwards.
    if not entry.config.get("backward_layer"):
        spec, cell = halves[1]
        turned = {**spec.config, "go_backwards": not forward.config.get("go_backwards", False)}
        halves[1] = spec._replace(config=turned), cell
    mode = entry.config.get("merge_mode", "concat")
    layer = maker.layer(name, halves, forward.config, f"Bidirectional({_title(forward)})")
    return replace(layer, merge_mode=cast(MergeMode, "none" if mode is None else str(mode)))


def _title(entry: Entry) -> str:
    return "RNN(LSTMCell)" if entry.own("RNN") else entry.class_name


class _Maker:
    def __init__(
        self, stored: Mapping[Entry, Sequence[Stored]], places: Mapping[Entry, str], producer: Producer
    ) -> None:
        self.stored = stored
        self.places = places
        self.producer = producer

    def half(self, entry: Entry) -> tuple[HalfSpec, Cell]:
        """Return one direction, a layer of one cell: its description and its arrays."""
        owner = entry.parts.get("cell", entry)
        config = {**entry.config, **owner.config}
        return self.cell(owner, config, cudnn=entry.class_name == "CuDNNLSTM")

    def cell(self, owner: Entry, config: Mapping[str, Any], *, cudnn: bool) -> tuple[HalfSpec, Cell]:
        """Return one cell's description and arrays, which must be those of an LSTM of the config's sizes."""
        spec = HalfSpec(config, cudnn)
        place, arrays = self.places.get(owner, owner.name), self.stored.get(owner, ())
        cell = cell_of(place, arrays)
        if not arrays or not spec.describes(cell):
            shapes = ", ".join(f"{each.name} {each.array.shape}" for each in arrays) or "nothing"
            raise WrongArraysError(
                f"'{place}' should hold an LSTM of {spec.units} units "
                f"{'with' if spec.use_bias else 'without'} a bias, and it holds {shapes}",
                about=self.producer.file.name,
            )
        return spec, cell

    def stack(self, entry: Entry, name: str) -> Stack:
        """Build ``RNN([cell, cell])``: each cell is a layer, named after the layer and the cell."""
        cells = list(entry.parts.values())
        options = {key: value for key, value in entry.config.items() if key != "cell"}
        names = [cell.name or f"lstm_cell_{index}" for index, cell in enumerate(cells)]
        if len(set(names)) < len(names):
            names = [f"{own}_{index}" if index else own for index, own in enumerate(names)]
        layers: list[LSTMLayer] = []
        for index, (cell, own) in enumerate(zip(cells, names, strict=True)):
            # A cell after the first receives the output of the cell before it, already in processing order.
            own_options = {
                **options,
                "return_sequences": index < len(cells) - 1 or options.get("return_sequences", False),
            }
            own_options["go_backwards"] = bool(options.get("go_backwards")) and not index
            half = self.cell(cell, {**own_options, **cell.config}, cudnn=False)
            layers.append(self.layer(f"{name}/{own}", (half,), own_options, "RNN(LSTMCell)"))
        return Stack(name, tuple(layers))

    def layer(
        self, name: str, halves: Sequence[tuple[HalfSpec, Cell]], options: Mapping[str, Any], title: str
    ) -> LSTMLayer:
        directions = [direction_of(name, spec, cell, self.producer) for spec, cell in halves]
        return LSTMLayer(
            name=name,
            forward=directions[0],
            backward=directions[1] if len(directions) == 2 else None,
            return_sequences=bool(options.get("return_sequences", False)),
            return_state=bool(options.get("return_state", False)),
            stateful=bool(options.get("stateful", False)),
            zero_output_for_mask=self.producer.zero_output_for_mask(options, bidirectional=len(directions) == 2),
            time_major=bool(options.get("time_major", False)),
            class_name=title,
        )


def direction_of(name: str, spec: HalfSpec | None, cell: Cell, producer: Producer) -> LSTMDirection:
    """View one cell's arrays as a direction; without a config, ``spec`` is ``None`` and its options are unknown."""
    if cell.kind not in LSTM_KINDS:
        raise UnsupportedModelError(f"'{cell.where}' holds arrays that no LSTM has: {', '.join(cell.arrays)}")
    cudnn = cell.kind == "CuDNNLSTM" if spec is None else spec.cudnn
    activation, recurrent = producer.activations(name, spec, cudnn=cudnn)
    backwards = bool(spec.config.get("go_backwards", False)) if spec is not None else False
    gates = view_cell(cell, spec, producer.notes)
    return LSTMDirection(*gates, activation, recurrent, backwards, CELL_LAYOUTS[cell.kind].name)
