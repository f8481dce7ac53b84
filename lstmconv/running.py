"""Run a file on a user's own arrays: by the float64 reference where the file contains its model, or in a framework."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lstmconv.converting import ConvertOptions, convert_file
from lstmconv.errors import LstmconvError, UnreadableFileError, UnsupportedModelError, UsageError, in_one_line
from lstmconv.formats import FORMATS, Artifact
from lstmconv.model import Array, Checkpoint, Input, Stack
from lstmconv.opening import open_artifact, refuse_no_file
from lstmconv.publishing import publish, refuse_existing, staging
from lstmconv.runtimes import NotRunError, session
from lstmconv.runtimes.alone import load_alone, model_of
from lstmconv.runtimes.feeding import Given, fed
from lstmconv.selection import Wish
from lstmconv.semantics import run_model, state_slots, stateful_calls

__all__ = ["Ran", "read_arrays", "run_artifact", "to_json", "write_outputs"]


class Ran(NamedTuple):
    """What a file returned.

    Attributes:
        framework: What computed it, with its version.
        outputs: By name, in the file's order; then final states.
    """

    framework: str
    outputs: Mapping[str, Array]


class _Runner(NamedTuple):
    """A file that is ready to run.

    Attributes:
        framework: Names what runs it.
        inputs: In the file's order.
        states: Initial states of recurrent layers, zeros where none is given.
        compute: Takes inputs and states by name, and returns the outputs by name.
    """

    framework: str
    inputs: Sequence[Input]
    states: Sequence[Input]
    compute: Callable[[Mapping[str, Array]], Mapping[str, Array]]


def run_artifact(artifact: Artifact, given: Given, framework: str | None = None) -> Ran:
    """Run a file.

    Args:
        artifact: The file. One without a model of its own must hold a single layer or stack, which starts from zeros.
        given: Arrays by input name or in order; initial states may be left out.
        framework: A format's, such as ``onnxruntime``; a file that it does not read is converted for it, and verified.
            By default the float64 reference computes what Keras computes if the file contains its model; any other
            file runs in its own framework.

    Raises:
        UsageError: An array does not fit, or the file cannot be run on these.
        UnsupportedModelError: The file holds several layers and does not say how they are wired, or one is unknown, or
            the framework cannot compute it.
        MissingDependencyError: The framework is not installed.
        VerificationError: The file that was converted for the framework does not compute the same.
    """
    name = artifact.path.name
    try:
        with _runner(artifact, framework) as runner:
            inputs = fed(name, runner.inputs, runner.states, given)
            return Ran(runner.framework, dict(runner.compute(inputs)))
    except LstmconvError:
        raise
    except NotRunError as error:
        raise UsageError(f"{name}: cannot be run: {error}") from error
    except Exception as error:  # A framework refuses a file, or arrays, in its own kind of error.
        text = f"{name}: does not run on these arrays: {type(error).__name__}: {in_one_line(error)}"
        raise UsageError(text) from error


@contextmanager
def _runner(artifact: Artifact, framework: str | None) -> Iterator[_Runner]:
    """Prepare a file to be run, for as long as it is."""
    if framework is None:
        known = artifact.format.from_keras or artifact.checkpoint.model is not None
        yield _of_reference(artifact.checkpoint) if known else _in_framework(artifact)
        return
    if artifact.format.framework == framework:
        yield _in_framework(artifact)
        return
    if artifact.checkpoint.model is None:
        if artifact.format.framework is not None and artifact.format.runs_graphs and not artifact.format.from_keras:
            own = artifact.format.framework
            raise UnsupportedModelError(f"{artifact.path.name}: its graph is run by {own} alone; run it without --with")
        _only(artifact.checkpoint)
    from tempfile import TemporaryDirectory

    entry = next(entry for entry in FORMATS if entry.framework == framework)
    wish = Wish(whole=True if artifact.checkpoint.model is not None else None)
    options = ConvertOptions(to=(entry.name,), wish=wish, read=artifact.options)
    with TemporaryDirectory(prefix="lstmconv-") as folder:
        made = convert_file(artifact.path, Path(folder) / f"model{entry.suffixes[0]}", options)
        yield _in_framework(open_artifact(made.paths[0]))


def read_arrays(paths: Sequence[Path]) -> Given:
    """Read ``.npy`` files in their order, or one ``.npz`` by its names.

    Raises:
        UnreadableFileError: A file does not exist, or is not a NumPy file of numbers.
        UsageError: There are several files, and one is an ``.npz``.
    """
    found: list[Array] = []
    for path in paths:
        refuse_no_file(path)
        try:
            read = np.load(path, allow_pickle=False)
            if not isinstance(read, np.ndarray):
                if len(paths) > 1:
                    raise UsageError(f"{path.name}: an .npz holds all arrays; pass it alone, or .npy files in order")
                with read:
                    return {name: read[name] for name in read.files}
        except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
            if isinstance(error, UsageError):
                raise
            raise UnreadableFileError(f"{path.name}: not a .npy or .npz file of numbers") from error
        found.append(read)
    return found


def write_outputs(ran: Ran, path: Path, sources: Sequence[Path], *, force: bool) -> Path:
    """Write the outputs to an ``.npz`` by their names, as a whole or not at all; return its path.

    bfloat16, which NumPy's files do not hold, is written as float32: exactly.

    Raises:
        UsageError: The path does not end in ``.npz``.
        TargetExistsError: It exists and ``force`` is not given, or it is one of the sources.
    """
    if path.suffix.lower() != ".npz":
        raise UsageError(f"{path.name}: outputs are written as .npz, by their names")
    for source in sources:
        refuse_existing([path], source, force=force)
    held = {
        name: array.astype(np.float32) if array.dtype.name == "bfloat16" else array
        for name, array in ran.outputs.items()
    }
    with staging(path.parent) as stage:
        with zipfile.ZipFile(stage / path.name, "w") as archive:  # numpy.savez takes no output named "file".
            for name, array in held.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
        (written,) = publish([stage / path.name], path.parent, force=force)
    return written


def to_json(ran: Ran, source: Path) -> dict[str, Any]:
    """Return what was run as plain data; docs/json.md documents the fields."""
    shown = {name: {"shape": list(array.shape), "dtype": str(array.dtype)} for name, array in ran.outputs.items()}
    return {"source": source.name, "framework": ran.framework, "outputs": shown}


def _of_reference(checkpoint: Checkpoint) -> _Runner:
    """Return what Keras computes, in float64."""
    checkpoint.refuse_unknown()
    model = checkpoint.model if checkpoint.model is not None else model_of(_only(checkpoint))
    unknown = next(iter(model.unknown), None)
    if unknown is not None:
        raise UnsupportedModelError(unknown.described)
    kept = [slot for call in stateful_calls(model) for slot in state_slots(call)]
    states = [Input(slot.initial, (len(slot.halves), None, slot.hidden), "float64") for slot in kept]
    own = [entry.name for entry in model.inputs]

    def compute(given: Mapping[str, Array]) -> Mapping[str, Array]:
        with np.errstate(all="ignore"):
            return run_model(
                model,
                {name: given[name] for name in own},
                {entry.name: given[entry.name] for entry in states},
            )

    return _Runner("lstmconv's reference, float64", model.inputs, states, compute)


def _in_framework(artifact: Artifact) -> _Runner:
    """Load a file into its own framework."""
    opened = session(artifact)
    whole = artifact.record is not None and artifact.record.scope == "whole"
    if whole or artifact.format.runs_graphs:
        loaded = opened.load_model()
    else:
        loaded = load_alone(opened, opened.seen_by_target(_only(artifact.checkpoint)))
    return _Runner(loaded.framework, loaded.inputs, loaded.states, loaded.compute)


def _only(checkpoint: Checkpoint) -> Stack:
    """Return the only stack of a file.

    Raises:
        UnsupportedModelError: There are several.
    """
    stacks = checkpoint.stacks
    if len(stacks) != 1:
        names = ", ".join(stack.name for stack in stacks)
        raise UnsupportedModelError(
            f"{checkpoint.provenance.source}: holds {names} and does not say how they are wired; convert one of them "
            "with --layer, and run that"
        )
    return stacks[0]
