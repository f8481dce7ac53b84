"""The Python API for files: load, save, convert, verify."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from lstmconv.arrays.bias_modes import BiasMode
from lstmconv.converting import Conversion, ConvertOptions, convert_file, is_folder
from lstmconv.errors import UsageError
from lstmconv.formats import BufferSizes, ReadOptions, WriteOptions, by_name, by_suffix
from lstmconv.misuse import misfit, path_of
from lstmconv.model import Checkpoint
from lstmconv.model.notes import LayerNote
from lstmconv.opening import load_file, open_artifact
from lstmconv.publishing import publish, refuse_existing, staging
from lstmconv.selection import Stacking, Wish
from lstmconv.spelling import in_python, speaks_python

if TYPE_CHECKING:
    import numpy.typing as npt

    from lstmconv.proof.report import Report

__all__ = ["Conversion", "convert", "load", "save", "verify"]

PathLike: TypeAlias = "str | os.PathLike[str]"


def _path(function: str, value: object, expected: str = "a path") -> Path:
    if isinstance(value, Checkpoint):
        raise UsageError(f"{function} takes {expected}, not a Checkpoint: lstmconv.save(checkpoint, path) writes one")
    return path_of(function, value, expected)


@speaks_python
def load(
    path: PathLike,
    *,
    from_: str | None = None,
    config: PathLike | None = None,
    activation: str | None = None,
    recurrent_activation: str | None = None,
    return_sequences: bool | None = None,
    go_backwards: bool | None = None,
    merge_mode: str | None = None,
    buffer: BufferSizes | None = None,
) -> Checkpoint:
    """Read every LSTM layer of a file, and its model if the file contains it; weights are read-only views into it.

    Args:
        path: A file or folder of any format that lstmconv reads (docs/formats.md): Keras, TensorFlow, PyTorch, ONNX,
            cuDNN. The content decides which.
        from_: The file's format, by a name from ``lstmconv.formats.FORMATS``; by default, the content decides.
        config: A file with ``model.to_json()``, or a Keras file with a config, for a weights-only Keras file.
        activation: Keras name of the activation; replaces the file's.
        recurrent_activation: Keras name of the recurrent activation; replaces the file's.
        return_sequences, go_backwards, merge_mode: What a weights-only Keras file does not say about its layers.
        buffer: The sizes of a bare cuDNN buffer.

    Raises:
        UnreadableFileError: The file is of no known format, or damaged.
        UnsupportedModelError: The file has no LSTM, and no model that lstmconv knows whole.
        UsageError: ``path`` is no path, ``from_`` is unknown, or a bare buffer is without its sizes.

    >>> import lstmconv
    >>> checkpoint = lstmconv.load("sample_weights/airline_passengers.h5")
    >>> layer = checkpoint.layers[0]
    >>> layer.name, layer.forward.weight_ih.shape          # gates i f g o, units, features
    ('lstm', (4, 16, 1))
    """
    place = _path("load", path)
    checkpoint = load_file(
        place,
        _read_options(
            from_,
            config,
            activation=activation,
            recurrent_activation=recurrent_activation,
            return_sequences=return_sequences,
            go_backwards=go_backwards,
            merge_mode=merge_mode,
            buffer=buffer,
        ),
    )
    return replace(checkpoint, notes=tuple(map(_for_python, checkpoint.notes)))


def _for_python(note: str) -> str:
    return LayerNote(note.layer, in_python(note.sentence)) if isinstance(note, LayerNote) else in_python(note)


def _read_options(from_: str | None, config: PathLike | None, **options: Any) -> ReadOptions:
    place = None if config is None else _path("config", config)
    return ReadOptions(config=place, format=from_, **options)


@speaks_python
def save(
    checkpoint: Checkpoint, path: PathLike, *, to: str | None = None, force: bool = False, **options: Any
) -> tuple[Path, ...]:
    """Write a checkpoint, without verification; see :func:`convert` for the options.

    Raises:
        UnsupportedModelError: The target cannot hold a layer.
        TargetExistsError: ``path`` exists and ``force`` is not given.
    """
    if not isinstance(checkpoint, Checkpoint):
        raise misfit("save", checkpoint, "a Checkpoint")
    target = _path("save", path)
    chosen = by_name(to) if to is not None else by_suffix(target)
    source = Path(checkpoint.provenance.source)
    refuse_existing([target], source, force=force)
    with staging(target.parent) as stage:
        staged = chosen.write(checkpoint, stage / target.name, WriteOptions(**options))
        refuse_existing([target.parent / part.name for part in staged], source, force=force)
        return tuple(publish(staged, target.parent, force=force))


@speaks_python
def convert(
    source: PathLike,
    target: PathLike | Sequence[PathLike] | None = None,
    *,
    to: str | Sequence[str] | None = None,
    whole: bool | None = None,
    layer: str | Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    verify: bool = True,
    force: bool = False,
    allow_not_finite: bool = False,
    config: PathLike | None = None,
    activation: str | None = None,
    recurrent_activation: str | None = None,
    return_sequences: bool | None = None,
    go_backwards: bool | None = None,
    merge_mode: str | None = None,
    dtype: str | None = None,
    bias_mode: BiasMode | None = None,
    opset: int | None = None,
    states: bool | None = None,
    lengths: bool = False,
    raw: bool = False,
    stack: Stacking | None = None,
    keras_version: int | None = None,
    weights_only: bool = False,
    from_: str | None = None,
    buffer: BufferSizes | None = None,
    progress: Callable[[str], None] | None = None,
) -> Conversion:
    """Convert a file and prove that the result holds and computes the same.

    Every target is written to a temporary folder beside its place, verified, and only then moved. After a failure
    there is no new file, and an older one is unchanged.

    Args:
        source: See :func:`load`.
        target: The file to write, several of them, or a folder if ``to`` names formats. By default, the target lies
            beside the source.
        to: ``"torch"``, ``"safetensors"``, ``"onnx"``, ``"cudnn"``, ``"keras"``, ``"keras-cudnn"``, or several.
            By default, ``target``'s suffix decides.
        whole: ``True`` writes the whole model or fails; ``False`` writes the LSTM layers alone; ``None`` writes the
            whole model where the source says it, every layer of it is known and the target can hold it, and else the
            LSTM layers with a note. ``layer``, ``stack`` and ``lengths`` ask for LSTM layers alone, and so does cuDNN.
        layer: Names of the layers or stacks to convert, or one name. The keys of a state dict with a single one have
            no prefix.
        rename: New names by old ones.
        verify: Run the file in its own framework. Structure and weights are always compared, bit for bit.
        force: Replace existing files.
        allow_not_finite: Convert weights that are NaN or infinite, too; their outputs are not compared.
        config, activation, recurrent_activation, return_sequences, go_backwards, merge_mode: See :func:`load`.
        dtype: ``float16``, ``bfloat16``, ``float32`` or ``float64``; by default the stored one. Weights round once.
        bias_mode: ``input`` (b, 0), ``recurrent`` (0, b), ``both-halves`` (b/2, b/2); for cuDNN also
            ``double``, ``single-input``, ``single-recurrent``, ``none``.
        opset: ONNX operator set; 14 by default, 22 for bfloat16.
        states: Initial states as ONNX inputs; by default for stateful layers.
        lengths: Sequence lengths as ONNX inputs (right padding), with Keras' masked outputs.
        raw: Write a bare cuDNN buffer (``.bin``) beside a JSON file.
        stack: ``"all"`` joins layers that feed each other directly into one ``nn.LSTM``, one chained ONNX
            graph or one weight space, or fails; ``"partial"`` joins what fits; ``"none"`` splits every stack. By
            default, stacks stay as in the source. Keras targets always have single layers.
        keras_version: 2 or 3, for Keras targets; by default 3 if it can hold the layers.
        weights_only: Write a Keras ``.h5`` without the model's config.
        from_, buffer: See :func:`load`.
        progress: Called with a line before each long step.

    Raises:
        VerificationError: The target does not hold or compute the same; nothing is left behind.
        NotFiniteError: Weights are NaN or infinite, and ``allow_not_finite`` is not given.
        UnreadableFileError, UnsupportedModelError, UsageError, TargetExistsError: One line each.
    """
    options = ConvertOptions(
        to=(to,) if isinstance(to, str) else tuple(to or ()),
        wish=Wish(whole, (layer,) if isinstance(layer, str) else tuple(layer or ()), rename or {}, stack),
        verify=verify,
        force=force,
        allow_not_finite=allow_not_finite,
        folder=isinstance(target, str) and is_folder(target),
        read=_read_options(
            from_,
            config,
            activation=activation,
            recurrent_activation=recurrent_activation,
            return_sequences=return_sequences,
            go_backwards=go_backwards,
            merge_mode=merge_mode,
            buffer=buffer,
        ),
        write=WriteOptions(
            dtype=dtype,
            bias_mode=bias_mode,
            opset=opset,
            states=states,
            lengths=lengths,
            raw=raw,
            keras_version=keras_version,
            weights_only=weights_only,
        ),
    )
    place: Path | list[Path] | None = None
    if isinstance(target, list | tuple):
        place = [_path("convert", each, "paths as its targets") for each in target]
    elif target is not None:
        place = _path("convert", target, "a path as its target")
    done = convert_file(_path("convert", source), place, options, progress)
    return replace(done, notes=tuple(map(_for_python, done.notes)))


@speaks_python
def verify(
    source: PathLike | Checkpoint,
    target: PathLike,
    *,
    from_: str | None = None,
    config: PathLike | None = None,
    activation: str | None = None,
    recurrent_activation: str | None = None,
    return_sequences: bool | None = None,
    go_backwards: bool | None = None,
    merge_mode: str | None = None,
    buffer: BufferSizes | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    seed: int = 0,
    batch: int = 3,
    steps: int = 16,
    allow_not_finite: bool = False,
    inputs: Mapping[str, npt.ArrayLike] | Sequence[npt.ArrayLike] | None = None,
) -> Report:
    """Compare a converted file with its source: structure, weights bit for bit, outputs.

    Args:
        source: A file of any format, or a checkpoint already loaded.
        target: A file of any format. Its layers are paired with the source's by lstmconv's record in it, by their
            names, or, if both have the same number of layers, by their order.
        from_, config, activation, recurrent_activation, return_sequences, go_backwards, merge_mode, buffer: How to read
            the source; see :func:`load`.
        atol, rtol: Tolerances; by default, the noise of rounding (:mod:`lstmconv.proof.rounding`).
        seed: Random seed for the test inputs.
        batch: Number of test sequences.
        steps: Time steps of each test sequence.
        allow_not_finite: Weights that are NaN or infinite do not fail; their outputs cannot be compared.
        inputs: Your own arrays to run the target on too, by input name or in the target's order: one more check.

    Raises:
        UnreadableFileError, UnsupportedModelError, UsageError: One line each.
    """
    from lstmconv.proof.trials import Settings
    from lstmconv.proof.verifying import verify_file

    place = _path("verify", target, "a path as its target")
    if not isinstance(source, Checkpoint):
        opened = _path("verify", source, "a path or a Checkpoint")
        source = load_file(
            opened,
            _read_options(
                from_,
                config,
                activation=activation,
                recurrent_activation=recurrent_activation,
                return_sequences=return_sequences,
                go_backwards=go_backwards,
                merge_mode=merge_mode,
                buffer=buffer,
            ),
        )
    source.refuse_unknown()
    settings = Settings(atol, rtol, seed, batch, steps, allow_not_finite)
    return verify_file(source, open_artifact(place), settings, inputs=inputs)
