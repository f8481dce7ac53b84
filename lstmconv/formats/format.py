"""A format, and one opened file of it.

Everything that is true of a format hangs on its :class:`Format`, a row of :data:`lstmconv.formats.FORMATS`. Its
own module, which reads and writes its files, loads when it is used; so does the runtime that runs them, which
:func:`lstmconv.runtimes.session` finds by the row.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, cast

from lstmconv.errors import UnreadableFileError, UsageError
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.options import ReadOptions, WriteOptions

if TYPE_CHECKING:  # The command line's help lists the formats, and must not wait for NumPy.
    from lstmconv.formats.record import Record
    from lstmconv.model import Array, Checkpoint, LSTMLayer, Model, Stack

__all__ = ["Artifact", "Format", "Module", "Opened"]


class Opened(NamedTuple):
    """A file as a format's module has parsed it.

    Attributes:
        record: What lstmconv recorded in it; ``None`` for the files of others.
        content: The parsed file, of the module's own type; the format's runtime runs what is in it.
        interpret: Builds the layers from the content.
        weights: Returns arrays by their names in the file, where the layers do not contain all of the file's arrays.
    """

    record: Record | None
    content: object
    interpret: Callable[[], Checkpoint]
    weights: Callable[[], Mapping[str, Array]] = dict


class Module(Protocol):
    """The functions that a format's module has."""

    def open_file(self, file: MappedFile, options: ReadOptions) -> Opened:
        """Parse a file; arrays are views into it where it allows them."""

    def config_of(self, file: MappedFile) -> Mapping[str, Any]:
        """Return the model's config, as ``model.to_json()`` states it.

        Only formats whose files Keras writes (``from_keras``) need it.
        """

    def obstacle(self, stack: Stack) -> str | None:
        """Say why the format cannot hold a stack (often of one layer) and what to do instead, or ``None``."""

    def obstacle_of_model(self, model: Model, options: WriteOptions) -> str | None:
        """Say why the format cannot hold a whole model and what to do instead, or ``None``."""

    def write(self, checkpoint: Checkpoint, path: Path, options: WriteOptions) -> list[Path]:
        """Write all layers, or with ``options.whole`` the model; return the files written, ``path`` first."""

    def alteration(self, model: Model, artifact: Artifact, options: WriteOptions) -> str | None:
        """Name a difference between a whole file's graph and the graph that is written for a model, or ``None``.

        Only formats whose files have graphs (``runs_graphs``) need it.
        """

    def losses(self, checkpoint: Checkpoint, path: Path, options: WriteOptions) -> Iterator[str]:
        """Say in whole sentences which facts of the source the written file lacks."""

    def terms(self, layer: LSTMLayer) -> str:
        """Name the form in which a file holds a layer: ``one LSTM node``."""

    def usage(self, artifact: Artifact, place: Path) -> str | None:
        """Say in one line how a written file is used: what loads it, or which inputs it takes; or ``None``."""


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: What ``--to`` calls it.
        suffixes: The first is the one it is written with.
        aliases: What others call it, for a suggestion.
        title: For people.
        module: In :mod:`lstmconv.formats`; see :class:`Module`.
        runtime: In :mod:`lstmconv.runtimes`; runs a written file in its own framework.
        recognises: Whether a file is of this format, by its content or, where that does not show it, by its suffix.
        biases: ``"two"``, one for the input and one for the state, or ``"one"``, their sum.
        states_activations: Files that something else wrote state their activations and directions, too.
        from_keras: Keras writes such files; ``check`` takes them for sources, and others for targets.
        runs_graphs: Its files state how layers are connected. A state dict does not, and holds any layers alone.
        layers_alone: It can hold LSTM layers without their model.
        raw_suffix: What it is written with under ``--raw``.
        framework: The library that runs its whole files, as ``run --with`` names it; ``None`` for a format without one.
        layers_suffix: Files that end so hold the weights of LSTM layers, and no model.
        modules: What its weights load into, where that computes tanh and sigmoid only: ``nn.LSTM``.
        is_written: It can be a target; others are only read.
        shared: Suffixes that files of other kinds have too, each with what recognises such a file by its content.
        locate: Returns the files and folders that a path may mean, where that is not the path itself: a prefix of
            several files, one file of a folder, a folder. Empty for a path that means none of this format.
    """

    name: str
    suffixes: tuple[str, ...]
    title: str
    module: str
    runtime: str
    recognises: Callable[[MappedFile], bool]
    biases: Literal["one", "two"] = "two"
    states_activations: bool = False
    from_keras: bool = False
    runs_graphs: bool = False
    layers_alone: bool = True
    raw_suffix: str | None = None
    framework: str | None = None
    layers_suffix: str | None = None
    modules: str | None = None
    aliases: tuple[str, ...] = ()
    is_written: bool = True
    shared: Mapping[str, Callable[[MappedFile], bool]] = field(default_factory=dict)
    locate: Callable[[Path], Sequence[Path]] | None = None

    @property
    def _module(self) -> Module:
        return cast(Module, importlib.import_module(f"lstmconv.formats.{self.module}"))

    def open(self, file: MappedFile, options: ReadOptions | None = None) -> Artifact:
        """Read a file of this format.

        Raises:
            UnreadableFileError: It is not of this format, or damaged.
        """
        options = options or ReadOptions()
        return Artifact(file, self, self._module.open_file(file, options), options)

    def config_of(self, file: MappedFile) -> Mapping[str, Any]:
        """Return the model's config in a file of this format, as ``model.to_json()`` states it.

        Raises:
            UnreadableFileError: There is none in it, or it is damaged.
        """
        if not self.from_keras:
            raise UnreadableFileError(
                f"a {self.title}, expected what model.to_json() writes, or a Keras model that has it", about=file.name
            )
        return self._module.config_of(file)

    def obstacle(self, stack: Stack) -> str | None:
        """Say why the format cannot hold a stack (often of one layer) and what to do instead, or ``None``."""
        return self._module.obstacle(stack)

    def obstacle_of_model(self, model: Model, options: WriteOptions) -> str | None:
        """Say why the format cannot hold a whole model and what to do instead, or ``None``."""
        return self._module.obstacle_of_model(model, options)

    def alteration(self, model: Model, artifact: Artifact, options: WriteOptions) -> str | None:
        """Name a difference between a whole file's graph and the graph that is written for a model, or ``None``.

        It is ``None`` for formats whose files have no graph.

        Raises:
            UnsupportedModelError: The model cannot be written.
        """
        return self._module.alteration(model, artifact, options) if self.runs_graphs else None

    def terms(self, layer: LSTMLayer) -> str:
        """Name the form in which a file holds a layer: ``one LSTM node``."""
        return self._module.terms(layer)

    def write(self, checkpoint: Checkpoint, path: Path, options: WriteOptions) -> list[Path]:
        """Write a checkpoint's layers, or with ``options.whole`` its model; return the files, ``path`` first.

        Raises:
            UnsupportedModelError: The format cannot hold a layer, or an activation is unknown.
            UsageError: The options do not fit the format.
        """
        checkpoint.refuse_unknown()
        return self._module.write(checkpoint, path, options)

    def losses(self, checkpoint: Checkpoint, path: Path, options: WriteOptions) -> Iterator[str]:
        """Say in whole sentences which facts of the source the written file lacks."""
        return self._module.losses(checkpoint, path, options)

    def usage(self, artifact: Artifact, place: Path) -> str | None:
        """Say in one line how a written file is used: what loads it, or which inputs it takes; or ``None``.

        Args:
            artifact: The file, which may lie in a temporary folder.
            place: Where it will lie.
        """
        return self._module.usage(artifact, place)

    def has_suffix(self, path: Path) -> bool:
        """Whether a file name ends as this format's do."""
        return path.name.lower().endswith(self.suffixes)


class Artifact:
    """One opened file: it is opened and parsed once, however many parts of lstmconv read it.

    Attributes:
        file: Its bytes.
        format: Its format.
        options: What the user said about it.
        record: What lstmconv recorded in it; ``None`` for the files of others.
        content: The parsed file, of the format's own type.
        weights: See :class:`Opened`.
    """

    def __init__(self, file: MappedFile, format: Format, opened: Opened, options: ReadOptions) -> None:
        self.file = file
        self.format = format
        self.options = options
        self.record = opened.record
        self.content = opened.content
        self.weights = opened.weights
        self._interpret = opened.interpret

    @property
    def path(self) -> Path:
        """The path it was opened by."""
        return self.file.path

    @property
    def one_bias(self) -> bool:
        """Whether each direction has one bias; a Keras file of CuDNNLSTM layers has two, and its record says which."""
        modes = (None, "single-input")
        return self.format.biases == "one" and (self.record is None or self.record.bias_mode in modes)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The file's layers, and its model if the file contains one.

        Raises:
            UnreadableFileError: It is damaged.
            UnsupportedModelError: No LSTM in it converts.
            UsageError: The options say what the file states itself.
        """
        given = self.options.activation is not None or self.options.recurrent_activation is not None
        found = self._interpret()
        if self.options.wiring and not found.assumed:
            raise UsageError(
                f"{self.path.name}: states how its layers run; --return-sequences, --go-backwards and --merge-mode are "
                "for a weights-only Keras file"
            )
        return replace(found, activations_given=given)
