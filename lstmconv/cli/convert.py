"""The command ``lstmconv convert``: one source, or many."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from lstmconv.arrays.bias_modes import BIAS_MODES, BiasMode
from lstmconv.cli.arguments import Command
from lstmconv.cli.options import (
    MANY,
    TARGET_NAMES,
    AllowNotFinite,
    Dask,
    Json,
    SourceOptions,
    choice,
    one_of,
    takes_source_options,
)
from lstmconv.errors import UsageError
from lstmconv.formats.options import DTYPES, WriteOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lstmconv.converting import ConvertOptions
    from lstmconv.proof.report import Report
    from lstmconv.selection import Stacking

__all__ = ["INTERRUPTED", "StackCommand", "convert"]

INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 and SIGINT's number, as shells have it."""

_STACKING = ("all", "partial", "none")
_LAYERS = "Which layers"
_ONE_FORMAT = "Targets of one format"


class StackCommand(Command):
    """``--stack`` alone means ``--stack=all``, and never takes the argument that follows it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, ["--stack=all" if argument == "--stack" else argument for argument in args])


@takes_source_options
def convert(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE [TARGET]... | SOURCE...",
            help="A source and its target, or its targets. With several --to, or a slash at its end, the target is a "
            "folder. Three or more paths with --to, a quoted pattern, or --into: every path is a source.",
            show_default=False,
        ),
    ],
    *,
    to: Annotated[
        list[str] | None,
        choice(
            TARGET_NAMES,
            metavar="FORMAT",
            help=f"Format of the target: {one_of(TARGET_NAMES)}. Default: decided by its suffix. Repeatable.",
        ),
    ] = None,
    whole: Annotated[
        bool | None,
        typer.Option(
            "--whole/--lstm-only",
            help="Convert the whole model or fail; or only its LSTM layers. Default: the whole model if every layer is "
            "known and the target can hold it, else the LSTM layers with a note.",
            show_default=False,
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Convert only this layer or stack. Repeatable.", rich_help_panel=_LAYERS),
    ] = None,
    stack: Annotated[
        str | None,
        choice(
            _STACKING,
            metavar="[=partial|none]",
            rich_help_panel=_LAYERS,
            help="Join layers that feed each other directly into one module. =partial joins what fits, =none splits "
            "stacks. Default: as in the source.",
        ),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(metavar="OLD=NEW", help="Rename a layer or stack. Repeatable.", rich_help_panel=_LAYERS),
    ] = None,
    dtype: Annotated[
        str | None,
        choice(
            DTYPES,
            metavar="TYPE",
            help=f"Element type of the target: {one_of(DTYPES)}. Default: as in the source.",
        ),
    ] = None,
    opset: Annotated[
        int | None,
        typer.Option(help="ONNX operator set. Default: 14, or 22 for bfloat16.", rich_help_panel=_ONE_FORMAT),
    ] = None,
    bias_mode: Annotated[
        str | None,
        choice(
            BIAS_MODES,
            metavar="MODE",
            rich_help_panel=_ONE_FORMAT,
            help="Where the bias b goes in a format with two biases: input (b, 0), recurrent (0, b), both-halves "
            "(b/2, b/2); for cuDNN also double, single-input, single-recurrent, none. Default: nothing is lost. For a "
            "bare cuDNN buffer as the source: the biases in the source.",
        ),
    ] = None,
    keras_version: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=3,
            help="Keras version of a Keras target. Default: 3 if it can hold the layers, else 2.",
            rich_help_panel=_ONE_FORMAT,
        ),
    ] = None,
    weights_only: Annotated[
        bool,
        typer.Option(
            "--weights-only", help="Write a Keras .h5 without the model's config.", rich_help_panel=_ONE_FORMAT
        ),
    ] = False,
    states: Annotated[
        bool | None,
        typer.Option(
            help="Initial states as ONNX inputs. Default: only for stateful layers.", rich_help_panel=_ONE_FORMAT
        ),
    ] = None,
    lengths: Annotated[
        bool,
        typer.Option(
            "--lengths", help="Sequence lengths as an ONNX input (right padding).", rich_help_panel=_ONE_FORMAT
        ),
    ] = False,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="Write a bare cuDNN buffer (.bin) beside a JSON file.", rich_help_panel=_ONE_FORMAT),
    ] = False,
    reading: SourceOptions,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Compare the weights, but do not run the target.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace existing targets.")] = False,
    allow_not_finite: AllowNotFinite = False,
    into: Annotated[
        Path | None,
        typer.Option("--into", metavar="FOLDER", help="Folder for the targets of many sources.", rich_help_panel=MANY),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of processes for many sources. Default: the number of cores.", rich_help_panel=MANY
        ),
    ] = None,
    dask: Dask = None,
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing",
            rich_help_panel=MANY,
            help="Skip sources already converted from identical bytes (options are ignored).",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Convert a model with LSTM layers, or the layers alone, and check that the result computes the same.

    \b
    lstmconv convert model.h5 model.pt
    lstmconv convert model.h5 out --to onnx --to torch
    lstmconv convert lstm.pt lstm.keras
    lstmconv convert 'models/*.h5' --to onnx --into converted
    """  # noqa: D301  # typer keeps the lines after a backspace as they are
    from lstmconv.cli.patterns import all_are_sources, targets_of
    from lstmconv.converting import ConvertOptions, is_folder
    from lstmconv.selection import Wish

    read = reading.read_options()
    options = ConvertOptions(
        to=tuple(to or ()),
        wish=Wish(whole, tuple(layer or ()), _renamed(rename or []), cast("Stacking | None", stack)),
        verify=not no_verify,
        force=force,
        allow_not_finite=allow_not_finite,
        folder=len(files) == 2 and is_folder(files[1]),
        read=read,
        write=WriteOptions(
            dtype=dtype,
            bias_mode=None if read.buffer else cast(BiasMode | None, bias_mode),
            opset=opset,
            states=states,
            lengths=lengths,
            raw=raw,
            keras_version=keras_version,
            weights_only=weights_only,
        ),
    )
    paths = [Path(each).expanduser() for each in files]
    if all_are_sources(paths, into, options.to, force=force):
        _convert_many(paths, into, options, jobs=jobs, dask=dask, skip_existing=skip_existing, json=json)
        return
    if skip_existing or jobs is not None or dask is not None:
        raise UsageError(
            "--jobs, --dask and --skip-existing are for many sources; for one or two sources, add --into FOLDER"
        )
    _convert_one(paths[0], targets_of(paths), options, json=json)


def _convert_one(source: Path, target: "Path | list[Path] | None", options: "ConvertOptions", *, json: bool) -> None:
    from lstmconv.cli import output
    from lstmconv.converting import convert_file
    from lstmconv.proof.report import VerificationError

    try:
        with output.progress(source) as say:
            done = convert_file(source, target, options, say)
    except VerificationError as error:
        if not json:
            raise
        output.show_notes(error.notes)
        output.show_json({**_as_json(source.name, options, error.reports, error.notes), "paths": [], "usage": []})
        output.show_error(str(error))
        raise typer.Exit(1) from error
    output.show_notes(done.notes)
    if json:
        shown = _as_json(done.source.provenance.source, options, done.reports, done.notes)
        output.show_json({**shown, "paths": [str(path) for path in done.paths], "usage": list(done.usage)})
        return
    for report in done.reports:
        output.show_report(report)
    output.show_paths(done.paths)
    output.show_usage(done.usage)


def _as_json(
    source: str, options: "ConvertOptions", reports: "Sequence[Report]", notes: "Sequence[str]"
) -> dict[str, Any]:
    return {
        "source": source,
        "verified": options.verify,
        "reports": [report.to_json() for report in reports],
        "notes": list(notes),
    }


def _convert_many(
    files: list[Path],
    into: Path | None,
    options: "ConvertOptions",
    *,
    jobs: int | None,
    dask: str | None,
    skip_existing: bool,
    json: bool,
) -> None:
    from lstmconv.cli import output
    from lstmconv.cli.cluster import executor_at
    from lstmconv.cli.patterns import expand
    from lstmconv.jobs.convert_many import convert_many

    sources = expand(files)
    try:
        with executor_at(dask, jobs) as executor:
            done = convert_many(sources, into, options, jobs=jobs, executor=executor, skip_existing=skip_existing)
            results = list(output.bar(done, len(sources), None if json else output.show_converted))
    except KeyboardInterrupt:
        output.show_error("stopped; targets that were finished stay: run it again with --skip-existing")
        sys.exit(INTERRUPTED)
    if json:
        output.show_json({"results": [result.to_json() for result in results]})
    else:
        output.show_totals([result.status for result in results])
    raise typer.Exit(max((result.exit_code for result in results), default=0))


def _renamed(pairs: list[str]) -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs]
    for old, sign, new in split:
        if not (old and sign and new):
            raise UsageError(f"--rename {old}{sign}{new}: expected OLD=NEW")
    return {old: new for old, _, new in split}
