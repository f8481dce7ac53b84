"""The command line: arguments in, one call of the API, results out; no numbers move here.

Exit codes: 0 done and equal, 1 not equal, 2 could not do it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from lstmconv._version import __version__
from lstmconv.cli.arguments import Group
from lstmconv.errors import LstmconvError, UsageError
from lstmconv.proof.report import VerificationError

if TYPE_CHECKING:
    from lstmconv.formats import BufferSizes

__all__ = ["app", "build_only", "main"]

app = typer.Typer(
    name="lstmconv",
    cls=Group,
    help="Convert trained LSTMs between Keras, PyTorch, ONNX and cuDNN, and prove that they compute the same.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # Plain help: rich's panels take longer to load than all else that --help does.
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done and equal, 1 not equal, 2 could not do it.",
)


class Target(str, Enum):
    """A format to write."""

    torch = "torch"
    safetensors = "safetensors"
    onnx = "onnx"
    cudnn = "cudnn"
    keras = "keras"
    keras_cudnn = "keras-cudnn"


class Stacking(str, Enum):
    """What to do with layers that feed each other directly."""

    all = "all"
    partial = "partial"
    none = "none"


class DType(str, Enum):
    """The weights' element type."""

    float16 = "float16"
    bfloat16 = "bfloat16"
    float32 = "float32"
    float64 = "float64"


class BiasModeOption(str, Enum):
    """Where the bias goes."""

    input = "input"
    recurrent = "recurrent"
    both_halves = "both-halves"
    double = "double"
    single_input = "single-input"
    single_recurrent = "single-recurrent"
    none = "none"


class LayoutName(str, Enum):
    """A row of the table of layouts."""

    keras = "keras"
    keras_1 = "keras-1"
    keras_cudnn = "keras-cudnn"
    torch = "torch"
    onnx = "onnx"
    cudnn = "cudnn"


_MANY_FILES = 16
"""From here on starting processes costs less than it brings."""

Source = Annotated[
    Path,
    typer.Argument(
        help="A Keras file of any Keras, .pt, .safetensors, .onnx or .cudnn.safetensors.", show_default=False
    ),
]
SourceFormat = Annotated[
    Target | None, typer.Option("--from", metavar="FORMAT", help="The source's format, where its content misleads.")
]
InputSize = Annotated[int | None, typer.Option(help="Features, of a bare cuDNN buffer.")]
HiddenSize = Annotated[int | None, typer.Option(help="Units, of a bare cuDNN buffer.")]
Layers = Annotated[int, typer.Option(help="Layers, of a bare cuDNN buffer.")]
Bidirectional = Annotated[bool, typer.Option("--bidirectional", help="A bare cuDNN buffer has two directions.")]
BufferBiasMode = Annotated[
    BiasModeOption, typer.Option(metavar="MODE", help="Of a bare cuDNN buffer: double, single-input, ...")
]
BufferDType = Annotated[DType, typer.Option(metavar="TYPE", help="Of a bare cuDNN buffer's elements.")]
Config = Annotated[Path | None, typer.Option(help="model.json, or a Keras file with a config, for weights-only files.")]
Activation = Annotated[str | None, typer.Option(help="Overrule the file's activation, by its Keras name.")]
RecurrentActivation = Annotated[
    str | None,
    typer.Option(help="Overrule the file's: sigmoid, hard_sigmoid_keras2, hard_sigmoid_keras3, ..."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lstmconv {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


class _StackCommand(TyperCommand):
    """``--stack`` alone means ``--stack=all``, and never takes the argument that follows it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, ["--stack=all" if argument == "--stack" else argument for argument in args])


@app.command(cls=_StackCommand)
def convert(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE [TARGET] | SOURCE...",
            help="A file of any format and the file to write (or a folder, with several --to); or many sources, names "
            "and patterns: three or more, or with --into.",
            show_default=False,
        ),
    ],
    to: Annotated[
        list[Target] | None,
        typer.Option(
            metavar="FORMAT",
            help="torch, safetensors, onnx, cudnn, keras or keras-cudnn, where the suffix does not tell; repeatable.",
        ),
    ] = None,
    layer: Annotated[list[str] | None, typer.Option(help="Only this layer or stack; repeatable.")] = None,
    stack: Annotated[
        Stacking | None,
        typer.Option(
            metavar="[=partial|none]",
            help="Join layers that feed each other directly into one module; =partial as far as it fits, "
            "=none opens stacks. By default they stay as the source has them.",
        ),
    ] = None,
    rename: Annotated[list[str] | None, typer.Option(metavar="OLD=NEW", help="Rename a layer; repeatable.")] = None,
    dtype: Annotated[
        DType | None,
        typer.Option(metavar="TYPE", help="float16, bfloat16, float32, float64; the stored type by default."),
    ] = None,
    opset: Annotated[int | None, typer.Option(help="ONNX operator set; 14 by default, 22 for bfloat16.")] = None,
    bias_mode: Annotated[
        BiasModeOption | None,
        typer.Option(
            metavar="MODE",
            help="input (b, 0), recurrent (0, b), both-halves; cuDNN also single-input, single-recurrent, "
            "double, none. By default nothing is lost. Of a bare cuDNN buffer it is the source's.",
        ),
    ] = None,
    keras_version: Annotated[
        int | None, typer.Option(min=2, max=3, help="Keras targets: 2 or 3; by default 3 where it can hold the layers.")
    ] = None,
    weights_only: Annotated[bool, typer.Option("--weights-only", help="Keras .h5 without a model config.")] = False,
    states: Annotated[
        bool | None, typer.Option(help="Initial states as ONNX inputs; by default for stateful layers.")
    ] = None,
    lengths: Annotated[
        bool, typer.Option("--lengths", help="Sequence lengths as ONNX inputs (right padding).")
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", help="cuDNN: bare bytes (.bin) beside a JSON file.")] = False,
    recurrent_activation: RecurrentActivation = None,
    activation: Activation = None,
    config: Config = None,
    source_format: SourceFormat = None,
    input_size: InputSize = None,
    hidden_size: HiddenSize = None,
    layers: Layers = 1,
    bidirectional: Bidirectional = False,
    buffer_dtype: BufferDType = DType.float32,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Compare the weights, but do not run the result.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace existing targets.")] = False,
    into: Annotated[
        Path | None, typer.Option("--into", metavar="FOLDER", help="Where the targets of many sources go.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes for many sources; as many as cores by default.")
    ] = None,
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing",
            help="Of many sources, leave out those whose targets were made from the same bytes, with whatever options.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Convert a file's LSTM layers, and check that the result computes the same.

    \b
    lstmconv convert model.h5 model.pt
    lstmconv convert model.h5 out --to onnx --to torch
    lstmconv convert lstm.pt lstm.keras
    lstmconv convert 'models/*.h5' --to onnx --into converted
    """  # noqa: D301  # typer keeps the lines after a backspace as they are
    from lstmconv.cli.patterns import several

    mode: Any = None if bias_mode is None else bias_mode.value
    buffer = _buffer(input_size, hidden_size, layers, bidirectional, mode, buffer_dtype)
    formats = [entry.value for entry in to or []]
    options: dict[str, Any] = {
        "layers": layer,
        "rename": _renamed(rename or []),
        "verify": not no_verify,
        "force": force,
        "config": config,
        "activation": activation,
        "recurrent_activation": recurrent_activation,
        "dtype": None if dtype is None else dtype.value,
        "bias_mode": None if buffer else mode,
        "opset": opset,
        "states": states,
        "lengths": lengths,
        "raw": raw,
        "stack": None if stack is None else stack.value,
        "keras_version": keras_version,
        "weights_only": weights_only,
        "format": None if source_format is None else source_format.value,
        "buffer": buffer,
    }
    if several(files, into, formats, force=force):
        options |= {"jobs": jobs, "skip_existing": skip_existing}
        _convert_many(files, into, formats, options, json=json)
        return
    if skip_existing or jobs is not None:
        raise UsageError("--jobs and --skip-existing are for many sources; for one or two, pass --into FOLDER too")
    _convert_one(files[0], files[1] if len(files) > 1 else None, formats, options, json=json)


def _convert_many(files: list[Path], into: Path | None, to: list[str], options: dict[str, Any], *, json: bool) -> None:
    from lstmconv.cli import output
    from lstmconv.cli.patterns import expand
    from lstmconv.jobs.convert_many import convert_many

    sources = expand(files)
    done = convert_many(sources, into, to, **options)
    results = list(output.bar(done, len(sources), None if json else output.show_converted))
    if json:
        output.show_json({"results": [result.to_json() for result in results]})
    else:
        output.show_totals([result.status for result in results])
    raise typer.Exit(max((result.exit_code for result in results), default=0))


def _convert_one(source: Path, target: Path | None, to: list[str], options: dict[str, Any], *, json: bool) -> None:
    from lstmconv import api
    from lstmconv.cli import output

    with output.progress(source) as say:
        done = api.convert(source, target, to=to, progress=say, **options)
    output.show_notes(done.notes)
    if json:
        output.show_json(
            {
                "source": done.source.provenance.source,
                "paths": [str(path) for path in done.paths],
                "verified": options["verify"],
                "reports": [report.to_json() for report in done.reports],
                "notes": list(done.notes),
            }
        )
        return
    for report in done.reports:
        output.show_report(report)
    output.show_paths(done.paths)


def _buffer(
    input_size: int | None,
    hidden_size: int | None,
    layers: int,
    bidirectional: bool,
    bias_mode: Any,
    dtype: DType,
) -> BufferSizes | None:
    """Gather the sizes of a bare cuDNN buffer."""
    if input_size is None and hidden_size is None:
        return None
    if input_size is None or hidden_size is None:
        raise UsageError("a bare cuDNN buffer needs both --input-size and --hidden-size")
    from lstmconv.formats import BufferSizes

    return BufferSizes(input_size, hidden_size, layers, bidirectional, bias_mode or "double", dtype.value)


def _renamed(pairs: list[str]) -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs]
    for old, sign, new in split:
        if not (old and sign and new):
            raise UsageError(f"--rename {old}{sign}{new} is not OLD=NEW")
    return {old: new for old, _, new in split}


@app.command()
def inspect(
    source: Source,
    config: Config = None,
    activation: Activation = None,
    recurrent_activation: RecurrentActivation = None,
    source_format: SourceFormat = None,
    input_size: InputSize = None,
    hidden_size: HiddenSize = None,
    layers: Layers = 1,
    bidirectional: Bidirectional = False,
    bias_mode: BufferBiasMode = BiasModeOption.double,
    buffer_dtype: BufferDType = DType.float32,
    json: Json = False,
) -> None:
    """Show a file's LSTM layers: shapes, gate order, bias, activations, and which target can hold them."""
    from lstmconv import api
    from lstmconv.cli import output
    from lstmconv.explaining import inspection
    from lstmconv.formats import ReadOptions

    buffer = _buffer(input_size, hidden_size, layers, bidirectional, bias_mode.value, buffer_dtype)
    options = ReadOptions(config, activation, recurrent_activation, buffer)
    checkpoint = api.read(source, options, None if source_format is None else source_format.value)
    described = inspection.describe_checkpoint(checkpoint, hashed=json)
    if json:
        output.show_json(described)
        return
    output.show_inspection(described)
    output.show_notes([*checkpoint.notes, *([checkpoint.unknown] if checkpoint.unknown else [])])


@app.command()
def explain(
    source: Annotated[
        Path | None, typer.Argument(help="A file of any format; without one, a small example.", show_default=False)
    ] = None,
    layer: Annotated[str | None, typer.Option(help="A layer or a stack; the first by default.")] = None,
    layout: Annotated[
        list[LayoutName] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="keras, keras-1, keras-cudnn, torch, onnx or cudnn; repeatable. By default the file's own, torch, "
            "onnx and cudnn.",
        ),
    ] = None,
    config: Config = None,
    activation: Activation = None,
    recurrent_activation: RecurrentActivation = None,
    source_format: SourceFormat = None,
    input_size: InputSize = None,
    hidden_size: HiddenSize = None,
    layers: Layers = 1,
    bidirectional: Bidirectional = False,
    bias_mode: BufferBiasMode = BiasModeOption.double,
    buffer_dtype: BufferDType = DType.float32,
    json: Json = False,
) -> None:
    """Explain a layer: where each format keeps its gates, where its bias goes, and one step in numbers."""
    from lstmconv import api
    from lstmconv.cli import output
    from lstmconv.explaining import console, explanation

    if source is None:
        checkpoint = explanation.example()
    else:
        checkpoint = api.load(
            source,
            format=None if source_format is None else source_format.value,
            config=config,
            activation=activation,
            recurrent_activation=recurrent_activation,
            buffer=_buffer(input_size, hidden_size, layers, bidirectional, bias_mode.value, buffer_dtype),
        )
    explained = explanation.explain(checkpoint, layer, [entry.value for entry in layout or []])
    if json:
        output.show_json(explanation.to_json(explained))
        return
    console.show_explanation(explained)
    output.show_notes(explained.notes)


@app.command()
def verify(
    source: Source,
    target: Annotated[Path, typer.Argument(help="What it was converted to, or should equal.", show_default=False)],
    atol: Annotated[float | None, typer.Option(help="Absolute tolerance; by default the computed noise.")] = None,
    rtol: Annotated[float | None, typer.Option(help="Relative tolerance.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed for the test inputs.")] = 0,
    batch: Annotated[int, typer.Option(help="Number of test sequences.")] = 3,
    steps: Annotated[int, typer.Option(help="Time steps of each test sequence.")] = 16,
    config: Config = None,
    activation: Activation = None,
    recurrent_activation: RecurrentActivation = None,
    source_format: SourceFormat = None,
    input_size: InputSize = None,
    hidden_size: HiddenSize = None,
    layers: Layers = 1,
    bidirectional: Bidirectional = False,
    bias_mode: BufferBiasMode = BiasModeOption.double,
    buffer_dtype: BufferDType = DType.float32,
    json: Json = False,
) -> None:
    """Check one file against another, of any formats: structure, weights bit for bit, outputs."""
    from lstmconv import api
    from lstmconv.cli import output

    report = api.verify(
        source,
        target,
        format=None if source_format is None else source_format.value,
        buffer=_buffer(input_size, hidden_size, layers, bidirectional, bias_mode.value, buffer_dtype),
        config=config,
        activation=activation,
        recurrent_activation=recurrent_activation,
        atol=atol,
        rtol=rtol,
        seed=seed,
        batch=batch,
        steps=steps,
    )
    if json:
        output.show_json(report.to_json())
    else:
        output.show_report(report)
    if not report.passed:
        raise typer.Exit(1)


@app.command()
def report(
    source: Source,
    targets: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[TARGET]...",
            help="What it was converted to, or should equal; each is compared.",
            show_default=False,
        ),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="The page; SOURCE's name with .report.html by default."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing page.")] = False,
    config: Config = None,
    activation: Activation = None,
    recurrent_activation: RecurrentActivation = None,
    source_format: SourceFormat = None,
    input_size: InputSize = None,
    hidden_size: HiddenSize = None,
    layers: Layers = 1,
    bidirectional: Bidirectional = False,
    bias_mode: BufferBiasMode = BiasModeOption.double,
    buffer_dtype: BufferDType = DType.float32,
    json: Json = False,
) -> None:
    """Write one HTML page about a file: its layers, layouts and weights, and the proof of each target."""
    from lstmconv import api, reporting
    from lstmconv.cli import output

    place = reporting.place_of(source, targets or [], page, force=force)
    with output.progress(source) as say:
        say(f"Reading {source.name}")
        checkpoint = api.load(
            source,
            format=None if source_format is None else source_format.value,
            config=config,
            activation=activation,
            recurrent_activation=recurrent_activation,
            buffer=_buffer(input_size, hidden_size, layers, bidirectional, bias_mode.value, buffer_dtype),
        )
        values = reporting.gather(checkpoint, targets or [], say)
        say(f"Writing {place.name}")
        written = reporting.write(values, place, force=force)
    if json:
        output.show_json({**reporting.to_json(values), "path": str(written)})
    else:
        for target in values.targets:
            output.show_report(target.report)
        output.show_paths([written])
        output.show_notes(values.notes if targets else [*values.notes, "no target was given: nothing was compared"])
    if values.passed is False:
        raise typer.Exit(1)


@app.command()
def check(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="Checkpoints, names and patterns; other files are ignored.", show_default=False
        ),
    ],
    settings: Annotated[
        Path | None,
        typer.Option(help="A TOML file with [tool.lstmconv]; by default the nearest pyproject.toml that has it."),
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Run each converted file in its own framework, too, where it is installed.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes; as many as cores by default where there are many files.")
    ] = None,
    json: Json = False,
) -> None:
    """Check that LSTMs are whole and finite, and that converted files hold what their source does now.

    Made for pre-commit: one line a file, all files even after a bad one. Exit codes: 0 nothing failed, 1 a file
    failed, 2 a file or the settings could not be read at all.
    """
    from lstmconv import checking
    from lstmconv.cli import output
    from lstmconv.cli.patterns import expand

    found = expand(files)
    if jobs is None and len(found) >= _MANY_FILES:
        from lstmconv.jobs.workers import default_jobs

        jobs = default_jobs()
    done = checking.checked(found, settings, deep=deep, jobs=jobs or 1)
    results = list(output.bar(done, len(found), None if json else output.show_checked))
    if json:
        output.show_json({"passed": all(one.passed for one in results), "files": [one.to_json() for one in results]})
    else:
        output.show_summary(results)
        if os.environ.get("GITHUB_ACTIONS") == "true":
            output.show_annotations(results)
    statuses = {one.status for one in results}
    if statuses & {"failed", "not done"}:
        raise typer.Exit(2 if "not done" in statuses else 1)


@app.command()
def formats(json: Json = False) -> None:
    """Print the table of layouts: how each format orders gates, axes and biases."""
    from lstmconv.cli import output

    if json:
        from lstmconv.layouts import LAYOUTS

        output.show_json({"layouts": [row._asdict() for row in LAYOUTS]})
        return
    output.show_layouts()


def build_only(name: str) -> None:
    """Leave all commands but one without their options: typer builds every one first, which takes 10 ms."""
    if "_LSTMCONV_COMPLETE" in os.environ:  # A shell asks for the options of any of them.
        return
    for entry in app.registered_commands:
        if entry.callback is not None and entry.callback.__name__ != name:
            entry.callback = _named_as(entry.callback)


def _named_as(command: Callable[..., Any]) -> Callable[[], None]:
    """Return what the list of commands shows of one."""

    def listed() -> None:
        pass

    listed.__name__, listed.__doc__ = command.__name__, command.__doc__
    return listed


def main() -> None:
    """Run the command line; every error is one line and an exit code."""
    try:
        app()
    except VerificationError as error:
        _fail(error, 1)
    except LstmconvError as error:
        _fail(error, 2)
    except OSError as error:
        _fail(error, 2)
    except Exception as error:
        if os.environ.get("LSTMCONV_DEBUG"):
            raise
        _fail(f"unexpected {type(error).__name__}: {error}; LSTMCONV_DEBUG=1 shows where", 2)


def _fail(error: object, code: int) -> None:
    from lstmconv.cli import output

    report = getattr(error, "report", None)
    if report is not None:
        output.show_report(report)
    output.show_error(str(error))
    sys.exit(code)
