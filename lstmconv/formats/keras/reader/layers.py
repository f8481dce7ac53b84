"""Build the layers of a model from their entries in the config, each once, at its first call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from lstmconv.errors import LstmconvError, UnreadableFileError, UnsupportedModelError
from lstmconv.formats.keras.reader.config import KerasVersion, objects_in
from lstmconv.formats.keras.reader.entries import Entry
from lstmconv.formats.keras.reader.kinds import LayerEntry, build
from lstmconv.formats.keras.reader.lstm import WrongArraysError, build_lstm, is_lstm
from lstmconv.formats.keras.reader.producer import Producer
from lstmconv.formats.keras.reader.stored import Stored
from lstmconv.formats.keras.reader.views import load_array
from lstmconv.formats.model_record import describe_layer
from lstmconv.model import Array, Layer, LSTMLayer, RecurrentLayer, Shape, Skipped, Stack, TimeDistributed
from lstmconv.model.kinds import Constant, Rescaling, Unknown
from lstmconv.model.names import arrays_of
from lstmconv.model.shapes import output_shapes

__all__ = ["Layers"]

_OTHER_RECURRENT = {"GRU", "CuDNNGRU", "SimpleRNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "ConvRecurrent2D"}


class Layers:
    """Builds the layers of one model.

    Args:
        stored: The arrays of every object that owns arrays.
        places: The path of each object in the file, for messages.
        producer: The Keras version that wrote the file.

    Attributes:
        skipped: Recurrent layers that are no LSTMs, and LSTMs that do not convert.
    """

    def __init__(
        self, stored: Mapping[Entry, Sequence[Stored]], places: Mapping[Entry, str], producer: Producer
    ) -> None:
        self.stored = stored
        self.places = places
        self.producer = producer
        self.skipped: list[Skipped] = []
        self._built: dict[int, dict[tuple[Shape | None, ...], tuple[Layer, ...]]] = {}
        self._operations: dict[tuple[int, str], list[Layer]] = {}
        self._paths: dict[int, str] = {}

    @property
    def major(self) -> int | None:
        """The major version of Keras."""
        return self.producer.major

    @property
    def version(self) -> KerasVersion | None:
        """The Keras version that wrote the config."""
        return self.producer.version

    @property
    def takes_masks(self) -> bool:
        """Whether MultiHeadAttention removes the masks from its inputs: from Keras 3.8 on."""
        return self.version is not None and self.version.release >= (3, 8)

    def path(self, entry: Entry, path: str) -> str:
        """Return a layer's name: the path of its first call."""
        return self._paths.setdefault(id(entry), path)

    def described(self, entry: Entry, name: str, options: Mapping[str, object] | None = None) -> LayerEntry:
        """Describe a layer for the table of kinds."""
        backend = self.producer.file.backend
        return LayerEntry(name, entry.class_name, entry.config, self.version, backend, options or {})

    def once(
        self, entry: Entry, shapes: tuple[Shape | None, ...], make: Callable[[], tuple[Layer, ...]]
    ) -> tuple[Layer, ...]:
        """Return the model layers for an entry, made at its first call.

        A layer's computation can depend on the shape of its input: ``axis=-1`` is axis 3 of one input and axis 2 of
        another. Then each shape has model layers of its own, unless they have weights, which would be shared.
        """
        made = self._built.setdefault(id(entry), {})
        if shapes in made:
            return made[shapes]
        first = next(iter(made.values()), None)
        if first is None or None in shapes or is_lstm(entry) or isinstance(first[0], Unknown):
            made[shapes] = make() if first is None else first
            return made[shapes]
        made[shapes] = self._another(entry, first, make(), len(made))
        return made[shapes]

    def same(self, entry: Entry, layer: Layer) -> Layer:
        """Return the equal layer of an earlier call of an operation; if there is none, the layer with a new name."""
        made = self._operations.setdefault((id(entry), layer.name), [])
        if made:
            described = describe_layer(layer)
            for other in made:
                if describe_layer(replace(other, name=layer.name)) == described:
                    return other
            layer = replace(layer, name=f"{layer.name}:{len(made)}")
        made.append(layer)
        return layer

    def _another(
        self, entry: Entry, first: tuple[Layer, ...], found: tuple[Layer, ...], number: int
    ) -> tuple[Layer, ...]:
        """Return the layers for another shape: the first ones if they are equal, else the new ones with new names."""
        if [describe_layer(layer) for layer in found] == [describe_layer(layer) for layer in first]:
            return first
        if not any(_holds_weights(layer) for layer in (*first, *found)):
            return tuple(replace(layer, name=f"{layer.name}:{number}") for layer in found)
        reason = "it is called with inputs of several shapes, and computes otherwise on each"
        return (Unknown(f"{first[0].name}:{number}", entry.title, reason, {}),)

    def build(
        self, entry: Entry, name: str, shapes: Sequence[Shape | None], options: Mapping[str, object]
    ) -> tuple[Layer, ...]:
        """Build one layer, which is neither a model nor a TimeDistributed."""
        if entry.package is not None:
            self._skip_what_is_recurrent(entry, name)
            return (self.unknown(entry, name, "a custom class: the file does not say what it computes"),)
        foreign = next((part for part in entry.inside if part.package is not None), None)
        if foreign is not None:
            reason = f"it wraps {foreign.title}, a custom class: the file does not say what it computes"
            return (self.unknown(entry, name, reason),)
        if is_lstm(entry):
            return (self._lstm(entry, name),)
        self._skip_other_recurrent(entry, name)
        try:
            arrays = self._arrays(entry)
        except (UnreadableFileError, UnsupportedModelError) as error:
            return (Unknown(name, entry.title, str(error), {}),)
        return build(self.described(entry, name, options), arrays, self._shapes(entry, shapes), self.producer.notes)

    def unknown(self, entry: Entry, name: str, reason: str) -> Unknown:
        """Return an unknown layer, with its arrays if they can be read."""
        try:
            arrays = self._arrays(entry)
        except LstmconvError:
            arrays = {}
        unknown = Unknown(name, entry.title, reason, arrays)
        self._built[id(entry)] = {(): (unknown,)}
        return unknown

    def output_shapes(self, layer: Layer, shapes: Sequence[Shape | None]) -> Sequence[Shape | None]:
        """Return the shapes of a layer's outputs; ``None`` for an unknown layer and for layers behind it."""
        known = [shape for shape in shapes if shape is not None]
        if len(known) == len(shapes) and not isinstance(layer, Unknown):
            try:
                return output_shapes(layer, known)
            except UnsupportedModelError:  # Shapes are inferred again to run the model; a misfit is reported then.
                pass
        return [None] * _output_count(layer)

    def open_shape(self, entry: Entry) -> Shape:
        """Return the shape of an input that no config states: any sizes, with the number of axes of its first layer."""
        if entry.own("Embedding"):
            return (None, None)
        owner = entry.parts.get("forward", entry)
        owner = owner.parts.get("cell", owner)
        arrays = self.stored.get(owner, ())
        if is_lstm(entry) or entry.own(*_OTHER_RECURRENT, "RNN"):
            first = arrays[0].array.shape if arrays else ()
            return (None, None, first[0] if len(first) == 2 else None)
        return ()

    def _lstm(self, entry: Entry, name: str) -> LSTMLayer | Stack | Unknown:
        try:
            return build_lstm(entry, name, self.stored, self.places, self.producer)
        except WrongArraysError:
            raise
        except UnsupportedModelError as error:
            title = f"Bidirectional({entry.parts['forward'].class_name})" if entry.own("Bidirectional") else entry.title
            self.skipped.append(Skipped(name, title, str(error)))
            return self.unknown(entry, name, str(error))

    def _skip_other_recurrent(self, entry: Entry, name: str) -> None:
        inner = entry.parts.get("forward", entry)
        if inner.own(*_OTHER_RECURRENT):
            self.skipped.append(Skipped(name, inner.title, "only LSTM layers convert", is_lstm=False))
        elif inner.own("RNN"):
            cells = ", ".join(cell.title for cell in inner.parts.values())
            others = all(cell.own("GRUCell", "SimpleRNNCell") for cell in inner.parts.values())
            self.skipped.append(Skipped(name, f"RNN({cells})", "only LSTMCell converts", is_lstm=not others))

    def _skip_what_is_recurrent(self, entry: Entry, name: str) -> None:
        keys = {key for each in objects_in(entry.config) for key in each}
        if keys & {"recurrent_activation", "inner_activation"} or entry.class_name in ("RNN", "LSTM"):
            self.skipped.append(Skipped(name, entry.title, "a custom recurrent layer; only Keras' own LSTM converts"))

    def _arrays(self, entry: Entry) -> dict[str, Array]:
        """Load the arrays of a layer and of its wrapped layers, in Keras' order, by the file's names."""
        found: dict[str, Array] = {}
        for owner in (entry, *entry.inside):
            for name, array in self.stored.get(owner, ()):
                key = name if name not in found else f"{name} ({len(found)})"
                found[key] = load_array(array, owner.config, self.producer.notes)
        return found

    def _shapes(self, entry: Entry, shapes: Sequence[Shape | None]) -> tuple[Shape, ...]:
        """Return the shapes of a layer's inputs; behind an unknown layer, the shape in ``build_config``."""
        built = entry.shape if isinstance(entry.shape, list) else None
        stated: Shape | None = None
        if built and all(size is None or isinstance(size, int) for size in built):
            stated = tuple(built)
        return tuple(shape if shape is not None else stated or (None, None, None) for shape in shapes)


def _holds_weights(layer: Layer) -> bool:
    """Whether a layer has weights that a file stores."""
    if isinstance(layer, TimeDistributed):
        return any(map(_holds_weights, layer.model.layers))
    return not isinstance(layer, Constant | Rescaling) and bool(arrays_of(layer))


def _output_count(layer: Layer) -> int:
    if isinstance(layer, Stack):
        return 1 + (2 * len(layer.directions) if layer.last.return_state else 0)
    if isinstance(layer, LSTMLayer | RecurrentLayer):
        states = len(layer.directions) * (2 if isinstance(layer, LSTMLayer) else 1)
        return (2 if layer.backward and layer.merge_mode == "none" else 1) + (states if layer.return_state else 0)
    return 1
