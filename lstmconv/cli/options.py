"""Options that several commands share, declared once.

The names that an option takes come from the place that defines them, so help, errors and completion list the same.
Nothing here may load NumPy: ``--help`` imports it.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from lstmconv.arrays.bias_modes import BUFFER_BIAS_MODES, BiasMode
from lstmconv.errors import UsageError
from lstmconv.formats import ALIASES, FORMATS, TARGETS
from lstmconv.formats.options import DTYPES, MERGE_MODES, BufferSizes, ReadOptions
from lstmconv.suggesting import suggestion

__all__ = [
    "TARGET_NAMES",
    "AllowNotFinite",
    "Dask",
    "FRAMEWORK_NAMES",
    "Json",
    "MANY",
    "Source",
    "SourceOptions",
    "choice",
    "one_of",
    "takes_source_options",
]

FORMAT_NAMES = tuple(sorted(entry.name for entry in FORMATS))
FRAMEWORK_NAMES = tuple(sorted({entry.framework for entry in FORMATS if entry.framework is not None}))
TARGET_NAMES = tuple(sorted(entry.name for entry in TARGETS))


def one_of(names: Sequence[str]) -> str:
    """Return names as alternatives in a sentence.

    >>> one_of(("input", "recurrent", "none"))
    'input, recurrent or none'
    """
    return f"{', '.join(names[:-1])} or {names[-1]}"


def choice(
    names: Sequence[str], *declarations: str, metavar: str, help: str, rich_help_panel: str | None = None
) -> Any:
    """Declare an option that takes one of some names; typer refuses others and completes these."""

    def known(value: str | list[str] | None) -> Any:
        for each in [value] if isinstance(value, str) else value or []:
            if each not in names:
                meant = suggestion(each, names, ALIASES) or "."
                raise typer.BadParameter(f"{each!r} is not one of {', '.join(names)}{meant}")
        return value

    return typer.Option(
        *declarations,
        metavar=metavar,
        help=help,
        rich_help_panel=rich_help_panel,
        callback=known,
        autocompletion=lambda: list(names),
    )


Source = Annotated[
    Path,
    typer.Argument(
        help="A model or weights in any format that lstmconv reads: a Keras file, a TensorFlow folder, .pt, .onnx, ...",
        show_default=False,
    ),
]
MANY = "Many files"
"""The heading of the options for many files in the help."""
Dask = Annotated[
    str | None,
    typer.Option(
        "--dask",
        metavar="ADDRESS",
        rich_help_panel=MANY,
        help="Run on the workers of a dask scheduler, such as tcp://10.0.0.1:8786.",
    ),
]
AllowNotFinite = Annotated[
    bool,
    typer.Option("--allow-not-finite", help="Accept weights that are NaN or infinite; their outputs are not compared."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]

_SOURCE = "The source"
_WEIGHTS = "The source is a weights-only Keras file"
_BUFFER = "The source is a bare cuDNN buffer"


@dataclass(frozen=True)
class SourceOptions:
    """The options about the source; every command that reads one has an option for each field."""

    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=_SOURCE,
            help="Config of the model, for a source without one: model.json, .h5, .keras, or a SavedModel's folder.",
        ),
    ] = None
    activation: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", rich_help_panel=_SOURCE, help="Keras name of the activation; replaces the file's."
        ),
    ] = None
    recurrent_activation: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_SOURCE,
            help="Keras name of the recurrent activation; replaces the file's. hard_sigmoid_keras2 and "
            "hard_sigmoid_keras3 are the two functions that Keras calls hard_sigmoid.",
        ),
    ] = None
    source_format: Annotated[
        str | None,
        choice(
            FORMAT_NAMES,
            "--from",
            metavar="FORMAT",
            rich_help_panel=_SOURCE,
            help=f"Format of the source: {one_of(FORMAT_NAMES)}. Default: decided by the file's content.",
        ),
    ] = None
    return_sequences: Annotated[
        bool | None,
        typer.Option(
            "--return-sequences/--last-step",
            rich_help_panel=_WEIGHTS,
            help="The layers return every step, or the last one.",
            show_default=False,
        ),
    ] = None
    go_backwards: Annotated[
        bool,
        typer.Option(
            "--go-backwards", rich_help_panel=_WEIGHTS, help="The layers run from the last step to the first."
        ),
    ] = False
    merge_mode: Annotated[
        str | None,
        choice(
            MERGE_MODES,
            metavar="MODE",
            rich_help_panel=_WEIGHTS,
            help=f"How bidirectional layers join their outputs: {one_of(MERGE_MODES)}. Default: concat.",
        ),
    ] = None
    input_size: Annotated[int | None, typer.Option(rich_help_panel=_BUFFER, help="Features.")] = None
    hidden_size: Annotated[int | None, typer.Option(rich_help_panel=_BUFFER, help="Units.")] = None
    num_layers: Annotated[int, typer.Option(rich_help_panel=_BUFFER, help="Number of layers.")] = 1
    bidirectional: Annotated[
        bool, typer.Option("--bidirectional", rich_help_panel=_BUFFER, help="The layers have two directions.")
    ] = False
    bias_mode: Annotated[
        str | None,
        choice(
            BUFFER_BIAS_MODES,
            metavar="MODE",
            rich_help_panel=_BUFFER,
            help=f"Biases in the source: {one_of(BUFFER_BIAS_MODES)}. Default: double.",
        ),
    ] = None
    buffer_dtype: Annotated[
        str,
        choice(DTYPES, metavar="TYPE", rich_help_panel=_BUFFER, help=f"Element type of the source: {one_of(DTYPES)}."),
    ] = "float32"

    @property
    def buffer(self) -> BufferSizes | None:
        """The sizes of a bare cuDNN buffer; ``None`` for any other source.

        Raises:
            UsageError: One of both sizes is missing.
        """
        if self.input_size is None and self.hidden_size is None:
            return None
        if self.input_size is None or self.hidden_size is None:
            raise UsageError("a bare cuDNN buffer needs both --input-size and --hidden-size")
        mode = cast(BiasMode, self.bias_mode or "double")
        return BufferSizes(
            self.input_size, self.hidden_size, self.num_layers, self.bidirectional, mode, self.buffer_dtype
        )

    def read_options(self) -> ReadOptions:
        """Return what the API takes."""
        return ReadOptions(
            config=self.config,
            activation=self.activation,
            recurrent_activation=self.recurrent_activation,
            buffer=self.buffer,
            format=self.source_format,
            return_sequences=self.return_sequences,
            go_backwards=self.go_backwards or None,
            merge_mode=self.merge_mode,
        )


def takes_source_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command every option of :class:`SourceOptions` in place of its parameter ``reading``.

    An option that the command declares itself, with a help text of its own, reaches both.
    """
    own = inspect.signature(command).parameters
    names = [field.name for field in fields(SourceOptions)]

    @wraps(command)
    def run(**values: Any) -> None:
        reading = SourceOptions(**{name: values[name] for name in names})
        command(**{name: value for name, value in values.items() if name in own}, reading=reading)

    shared = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=field.type,
        )
        for field in fields(SourceOptions)
        if field.name not in own
    ]
    parameters = [each for one in own.values() for each in (shared if one.name == "reading" else [one])]
    annotations: dict[str, Any] = {each.name: each.annotation for each in parameters}
    run.__dict__["__signature__"] = inspect.Signature(parameters)  # typer reads both.
    run.__annotations__ = annotations
    return run
