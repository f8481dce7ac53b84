"""All commands but ``convert``: arguments in, one call of the API, results out."""

import os
from pathlib import Path
from typing import Annotated

import typer

from lstmconv.cli.options import (
    FRAMEWORK_NAMES,
    MANY,
    AllowNotFinite,
    Dask,
    Json,
    Source,
    SourceOptions,
    choice,
    one_of,
    takes_source_options,
)
from lstmconv.explaining.layout_names import LAYOUT_NAMES, SHOWN

__all__ = ["check", "explain", "formats", "inspect", "report", "run", "verify"]

_MANY_FILES = 16
"""Use worker processes from this many files on."""


@takes_source_options
def inspect(source: Source, *, reading: SourceOptions, json: Json = False) -> None:
    """Show a file's model and LSTM layers: shapes, gate order, bias, activations, and which target can hold them."""
    from lstmconv.cli import output
    from lstmconv.explaining import inspection
    from lstmconv.opening import open_artifact

    checkpoint = open_artifact(source, reading.read_options()).checkpoint
    described = inspection.describe_checkpoint(checkpoint, hashed=json)
    if json:
        output.show_json(described)
        return
    output.show_inspection(described)
    output.show_notes(checkpoint.all_notes)


@takes_source_options
def explain(
    source: Annotated[
        Path | None, typer.Argument(help="A file of any format. Default: a small example.", show_default=False)
    ] = None,
    *,
    layer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Layer of any kind, or stack. Default: the first LSTM.")
    ] = None,
    layout: Annotated[
        list[str] | None,
        choice(
            LAYOUT_NAMES,
            "--format",
            metavar="FORMAT",
            help=f"Format to draw: {one_of(LAYOUT_NAMES)}. Default: the file's own and {', '.join(SHOWN)}. Repeatable.",
        ),
    ] = None,
    reading: SourceOptions,
    json: Json = False,
) -> None:
    """Explain a layer: where each format stores its gates, where its bias goes, and one step in numbers."""
    from lstmconv.cli import output
    from lstmconv.explaining import console, console_plain, explanation, plain_layers
    from lstmconv.opening import load_file

    checkpoint = explanation.example() if source is None else load_file(source, reading.read_options())
    if layer is not None and layer in plain_layers.plain_layers(checkpoint):
        plain = plain_layers.explain_plain(checkpoint, layer, layout or [])
        if json:
            output.show_json(plain_layers.to_json(plain))
        else:
            console_plain.show_plain(plain)
        return
    explained = explanation.explain(checkpoint, layer, layout or [])
    if json:
        output.show_json(explanation.to_json(explained))
        return
    console.show_explanation(explained)
    output.show_notes(explained.notes)


@takes_source_options
def verify(
    source: Source,
    target: Annotated[Path, typer.Argument(help="The file to compare with the source.", show_default=False)],
    *,
    atol: Annotated[
        float | None, typer.Option(help="Absolute tolerance. Default: the computed noise, or 0 with --rtol.")
    ] = None,
    rtol: Annotated[
        float | None,
        typer.Option(help="Tolerance relative to the expected value. Default: the computed noise, or 0 with --atol."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed for the test inputs.")] = 0,
    batch: Annotated[int, typer.Option(help="Number of test sequences.")] = 3,
    steps: Annotated[int, typer.Option(help="Time steps of each test sequence.")] = 16,
    allow_not_finite: AllowNotFinite = False,
    inputs: Annotated[
        Path | None,
        typer.Option(
            metavar="X.npz", help="Also run the target on your own arrays, by input name or in order: .npz or .npy."
        ),
    ] = None,
    reading: SourceOptions,
    json: Json = False,
) -> None:
    """Compare two files of any formats: structure, weights bit for bit, outputs.

    It runs the target in its own framework. To guard the files of a repository without running them, use check.
    """
    from lstmconv.cli import output
    from lstmconv.opening import load_file, open_artifact
    from lstmconv.proof.trials import Settings
    from lstmconv.proof.verifying import verify_file
    from lstmconv.running import read_arrays

    given = None if inputs is None else read_arrays([inputs])
    checkpoint = load_file(source, reading.read_options())
    checkpoint.refuse_unknown()
    settings = Settings(atol, rtol, seed, batch, steps, allow_not_finite)
    report = verify_file(checkpoint, open_artifact(target), settings, inputs=given)
    if json:
        output.show_json(report.to_json())
    else:
        output.show_report(report)
    if not report.passed:
        raise typer.Exit(1)


@takes_source_options
def run(
    source: Source,
    arrays: Annotated[
        list[Path],
        typer.Argument(
            metavar="X.npy...",
            help="An array for each input, in order; or one .npz with arrays by input name.",
            show_default=False,
        ),
    ],
    *,
    framework: Annotated[
        str | None,
        choice(
            FRAMEWORK_NAMES,
            "--with",
            metavar="FRAMEWORK",
            help=f"Run it in {one_of(FRAMEWORK_NAMES)}; a file of another framework is converted and verified first. "
            "Default: the float64 reference; for a file that does not contain its model, its own framework.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="Y.npz", help="File for the outputs, by their names.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    reading: SourceOptions,
    json: Json = False,
) -> None:
    """Run a file on your own arrays: what its Keras model computes, in float64, or in a framework."""
    from lstmconv import running
    from lstmconv.cli import output as shown
    from lstmconv.opening import open_artifact

    given = running.read_arrays(arrays)
    ran = running.run_artifact(open_artifact(source, reading.read_options()), given, framework)
    written = [] if output is None else [running.write_outputs(ran, output, [source, *arrays], force=force)]
    if json:
        shown.show_json({**running.to_json(ran, source), "path": str(written[0]) if written else None})
        return
    shown.show_outputs(source.name, ran)
    shown.show_paths(written)


@takes_source_options
def report(
    source: Source,
    targets: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[TARGET]...", help="Files to compare with the source.", show_default=False),
    ] = None,
    *,
    page: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="The page. Default: the source's name with .report.html."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing page.")] = False,
    reading: SourceOptions,
    json: Json = False,
) -> None:
    """Write one HTML page about a file: its layers, layouts and weights, and the proof of each target."""
    from lstmconv import reporting
    from lstmconv.cli import output
    from lstmconv.opening import load_file

    place = reporting.place_of(source, targets or [], page, force=force)
    with output.progress(source) as say:
        say(f"Reading {source.name}")
        checkpoint = load_file(source, reading.read_options())
        values = reporting.gather(checkpoint, targets or [], say)
        say(f"Writing {place.name}")
        written = reporting.write(values, place, force=force)
    if json:
        output.show_json({**reporting.to_json(values), "path": str(written)})
    else:
        for target in values.targets:
            output.show_report(target.report)
        output.show_paths([written])
        output.show_notes(checkpoint.all_notes)
        if not targets:
            output.show_notes(["no target was given: nothing was compared"])
    if values.passed is False:
        raise typer.Exit(1)


def check(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Checkpoints, folders to search, and quoted patterns. Files of other kinds are ignored.",
            show_default=False,
        ),
    ],
    settings: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="TOML file with [tool.lstmconv]. Default: the nearest pyproject.toml that has it."
        ),
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also run each converted file in its own framework, if it is installed.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            rich_help_panel=MANY,
            help=f"Number of processes. Default: the number of cores from {_MANY_FILES} files on, else 1.",
        ),
    ] = None,
    dask: Dask = None,
    json: Json = False,
) -> None:
    """Check that LSTM weights are complete and finite, and that converted files match their sources.

    Made for pre-commit: one line for each file, and a bad file does not stop the others. Exit codes: 0 no file failed,
    1 a file failed, 2 a file or the settings could not be read.
    """
    from lstmconv import checking
    from lstmconv.cli import output
    from lstmconv.cli.cluster import executor_at
    from lstmconv.cli.patterns import expand

    found = checking.checkpoints_in(expand(files))
    if jobs is None and dask is None and len(found) >= _MANY_FILES:
        from lstmconv.jobs.workers import default_jobs

        jobs = default_jobs()
    with executor_at(dask, jobs) as executor:
        done = checking.checked(found, settings, deep=deep, jobs=jobs or 1, executor=executor)
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


def formats(json: Json = False) -> None:
    """Print the table of layouts: how each format orders gates, axes and biases."""
    from lstmconv.cli import output

    if json:
        from lstmconv.layouts import LAYOUTS

        output.show_json({"layouts": [row.to_json() for row in LAYOUTS]})
        return
    output.show_layouts()
