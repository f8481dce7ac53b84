"""The Python API: load, save, convert, verify, and single layers into single frameworks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from lstmconv.arrays.copying import BiasMode, rounding_of_sum
from lstmconv.errors import UnreadableFileError, UsageError
from lstmconv.formats import Artifact, BufferSizes, Format, ReadOptions, WriteOptions, by_name, by_suffix, open_file
from lstmconv.formats import stem as stem_of
from lstmconv.formats.hashing import begin_hashing
from lstmconv.model import Array, Checkpoint, LSTMLayer, Model, Provenance, Stack
from lstmconv.model.stacking import join, unstacked
from lstmconv.publishing import publish, refuse_changed, refuse_existing, staging, stamps_of, stored_meanwhile

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from lstmconv.proof.report import Report

__all__ = [
    "Conversion",
    "convert",
    "from_onnx",
    "from_torch",
    "in_folder",
    "load",
    "open_artifact",
    "read",
    "save",
    "to_cudnn",
    "to_onnx",
    "to_torch",
    "verify",
]

_LARGE_BYTES = 256 << 20
"""Over this size a target is stored on the disk while it is verified."""

PathLike: TypeAlias = "str | os.PathLike[str]"


@dataclass(frozen=True)
class Conversion:
    """What :func:`convert` did.

    Attributes:
        source: The checkpoint that was read, as far as it was converted.
        paths: Every file written.
        reports: One a target, empty without verification.
        notes: What was assumed, overruled or skipped, in whole sentences.
    """

    source: Checkpoint
    paths: tuple[Path, ...]
    reports: tuple[Report, ...]
    notes: tuple[str, ...]

    @property
    def report(self) -> Report:
        """All targets' checks as one report."""
        from lstmconv.proof.report import Report

        names = ", ".join(report.target for report in self.reports)
        return Report(names, tuple(check for report in self.reports for check in report.checks))


def load(
    path: PathLike,
    *,
    format: str | None = None,
    config: PathLike | None = None,
    activation: str | None = None,
    recurrent_activation: str | None = None,
    buffer: BufferSizes | None = None,
) -> Checkpoint:
    """Read every LSTM layer of a file; weights are read-only views into it.

    Args:
        path: A Keras file of any generation, a PyTorch state dict (``.pt``, ``.safetensors``), an ONNX
            model, a cuDNN weight space; what it is is decided by its content.
        format: One of ``lstmconv.formats.FORMATS`` by name, where the content should not decide.
        config: ``model.to_json()``, or a Keras file with a config, for weights-only Keras files.
        activation: Overrules the file's activation, by Keras name.
        recurrent_activation: Overrules the file's recurrent activation.
        buffer: The sizes of a bare cuDNN buffer.

    Raises:
        UnreadableFileError: Not such a file, or a damaged one.
        UnsupportedModelError: No LSTM in it.
        UsageError: An unknown ``format``, or a bare buffer without its sizes.

    >>> import lstmconv
    >>> checkpoint = lstmconv.load("sample_weights/airline_passengers.h5")
    >>> layer = checkpoint.layers[0]
    >>> layer.name, layer.forward.weight_ih.shape          # gates i f g o, units, features
    ('lstm', (4, 16, 1))
    """
    options = ReadOptions(None if config is None else Path(config), activation, recurrent_activation, buffer)
    checkpoint = read(Path(path), options, format)
    begin_hashing(checkpoint)
    return checkpoint


def read(file: Path, options: ReadOptions, format: str | None = None) -> Checkpoint:
    """Read as :func:`load` does; the file is hashed only when its hash is asked for, and must still be there then."""
    return open_artifact(file, options, format).checkpoint


def open_artifact(file: Path, options: ReadOptions | None = None, format: str | None = None) -> Artifact:
    """Open and read a file of any format; an error of the system becomes one line.

    Raises:
        UnreadableFileError, UnsupportedModelError, UsageError: As :func:`load`.
    """
    _refuse_no_file(file)
    if options is not None and options.config is not None:
        _refuse_no_file(options.config)
    try:
        artifact = open_file(file, options, format)
        _ = artifact.checkpoint
        return artifact
    except EOFError as error:  # Not an OSError, and the command line would take it for the user's.
        raise UnreadableFileError(f"{file.name}: cannot be read: it ends too early") from error
    except OSError as error:
        raise UnreadableFileError(f"{file.name}: cannot be read ({error.strerror or error})") from error


def _refuse_no_file(path: Path) -> None:
    """Refuse what is not there, and what may never end: pipes and devices."""
    if not path.exists():
        raise UnreadableFileError(f"{path}: no such file")
    if not path.is_file() and not path.is_dir():
        raise UnreadableFileError(f"{path}: neither a file nor a folder (a pipe, a device?), expected a file")


def from_torch(module: nn.Module, *, name: str | None = None) -> Checkpoint:
    """Return the LSTMs of a torch module as layers; arrays share the parameters' memory on the CPU.

    An ``nn.LSTM`` of several layers is one stack of as many layers (``lstm_l0``, ``lstm_l1``). Layers take
    ``(batch, time, features)`` and return sequences, whatever ``batch_first`` says.

    Args:
        module: An ``nn.LSTM``, ``nn.LSTMCell`` or :class:`lstmconv.torch.LSTM`, or any module that holds some.
        name: What to call it; for a module that holds several, what leads their names.

    Raises:
        UnsupportedModelError: No LSTM in it that converts (``proj_size``, quantised, weight_norm).
    """
    from lstmconv.torch import read_module

    return read_module(module, name)


def from_onnx(model: onnx.ModelProto, *, name: str = "model.onnx") -> Checkpoint:
    """Return the LSTM nodes of an ONNX model as layers.

    Args:
        model: Its weights are in it; load external data first.
        name: What messages call it.

    Raises:
        UnsupportedModelError: No LSTM node in it that converts.
    """
    import hashlib

    from lstmconv.formats.onnx.reader.read import read_model

    origin = Provenance(name, hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest(), "ONNX model")
    return read_model(model, name, origin, ReadOptions(), None)


def _select(
    checkpoint: Checkpoint, layers: Sequence[str] | None, rename: Mapping[str, str] | None
) -> tuple[Checkpoint, dict[str, str]]:
    """Pick and rename layers and stacks; return them and each new name's source name."""
    known = [layer.name for layer in checkpoint.layers]
    stacks = dict(checkpoint.joined)
    unknown = [name for name in [*(layers or []), *(rename or {})] if name not in known and name not in stacks]
    if unknown:
        raise UsageError(f"no LSTM layer {unknown[0]!r}; there are {', '.join([*stacks, *known])}")
    wanted = {inner for name in layers or known for inner in stacks.get(name, (name,))}
    picked = [layer for layer in checkpoint.layers if layer.name in wanted]
    names = {layer.name: layer.name for layer in picked}
    joined: dict[str, tuple[str, ...]] = {}
    for stack, inside in stacks.items():
        new = (rename or {}).get(stack, stack)
        names |= {name: new + name.removeprefix(stack) for name in inside if name in names and name.startswith(stack)}
        if wanted.issuperset(inside):
            joined[new] = inside
    names |= {old: new for old, new in (rename or {}).items() if old in names and old not in stacks}
    if len(set(names.values())) < len(names):
        raise UsageError("two layers would get the same name; give each its own with --rename")
    edges = checkpoint.edges
    if edges is not None:
        edges = tuple((names[a], names[b]) for a, b in edges if a in names and b in names)
    selected = replace(
        checkpoint,
        layers=tuple(replace(layer, name=names[layer.name]) for layer in picked),
        edges=edges,
        branching=tuple(names[name] for name in checkpoint.branching if name in names),
        joined={stack: tuple(names[name] for name in inside) for stack, inside in joined.items()},
    )
    return selected, {new: old for old, new in names.items()}


def save(
    checkpoint: Checkpoint, path: PathLike, *, format: str | None = None, force: bool = False, **options: Any
) -> tuple[Path, ...]:
    """Write a checkpoint, without verification; see :func:`convert` for the options.

    Raises:
        UnsupportedModelError: The target cannot hold a layer.
        TargetExistsError: ``path`` exists and ``force`` is not given.
    """
    target = Path(path)
    chosen = by_name(format) if format is not None else by_suffix(target)
    source = Path(checkpoint.provenance.source)
    refuse_existing([target], source, force=force)
    with staging(target.parent) as stage:
        staged = chosen.write(checkpoint, stage / target.name, WriteOptions(**options))
        refuse_existing([target.parent / part.name for part in staged], source, force=force)
        return tuple(publish(staged, target.parent, force=force))


def convert(
    source: PathLike,
    target: PathLike | None = None,
    *,
    to: str | Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    verify: bool = True,
    force: bool = False,
    config: PathLike | None = None,
    activation: str | None = None,
    recurrent_activation: str | None = None,
    dtype: str | None = None,
    bias_mode: BiasMode | None = None,
    opset: int | None = None,
    states: bool | None = None,
    lengths: bool = False,
    raw: bool = False,
    stack: Literal["all", "partial", "none"] | None = None,
    keras_version: int | None = None,
    weights_only: bool = False,
    format: str | None = None,
    buffer: BufferSizes | None = None,
    progress: Callable[[str], None] | None = None,
    stage_in: Callable[..., AbstractContextManager[Path]] = staging,
) -> Conversion:
    """Convert a file and prove that the result holds and computes the same.

    Every target is written beside its place, verified there, and moved only then: a failure leaves
    no file behind, and an older one as it was.

    Args:
        source: See :func:`load`.
        target: The file to write; a folder if ``to`` names several formats; beside the source
            if not given.
        to: ``"torch"``, ``"safetensors"``, ``"onnx"``, ``"cudnn"``, ``"keras"``, ``"keras-cudnn"``, or several;
            else ``target``'s suffix decides.
        layers: Only these, by the name of a layer or of a stack. A single one is written without its name as
            a prefix in state dicts.
        rename: New names by old ones.
        verify: Run the file in its own framework too. Structure and weights, bit for bit, are compared in any case.
        force: Replace existing files.
        config, activation, recurrent_activation: See :func:`load`.
        dtype: ``float16``, ``bfloat16``, ``float32``, ``float64``; rounds once. The stored one by default.
        bias_mode: ``input`` (b, 0), ``recurrent`` (0, b), ``both-halves`` (b/2, b/2); for cuDNN also
            ``double``, ``single-input``, ``single-recurrent``, ``none``.
        opset: ONNX operator set; 14 by default, 22 for bfloat16.
        states: Initial states as ONNX inputs; by default for stateful layers.
        lengths: Sequence lengths as ONNX inputs (right padding), with Keras' masked outputs.
        raw: The bare cuDNN buffer (``.bin``) beside a JSON file.
        stack: ``"all"`` joins layers that feed each other directly into one ``nn.LSTM``, one chained ONNX
            graph, one weight space, or fails; ``"partial"`` joins what fits; ``"none"`` opens every stack; by
            default stacks stay as the source has them. Keras always gets single layers.
        keras_version: 2 or 3, for Keras targets; by default 3 where it can hold the layers.
        weights_only: Keras ``.h5`` without a model config.
        format, buffer: See :func:`load`.
        progress: Called with a line before each long step.
        stage_in: Gives the folder in which targets are put together; see :func:`lstmconv.publishing.shared_staging`.

    Raises:
        VerificationError: The target does not hold or compute the same; nothing is left behind.
        UnreadableFileError, UnsupportedModelError, UsageError, TargetExistsError: One line each.
    """
    say = progress or (lambda _: None)
    path = Path(source)
    say(f"Reading {path.name}")
    _refuse_no_file(path)
    stamps = stamps_of([path] if config is None else [path, Path(config)])
    checkpoint = load(
        path,
        format=format,
        config=config,
        activation=activation,
        recurrent_activation=recurrent_activation,
        buffer=buffer,
    )
    stamps |= stamps_of([path.parent / part for part in checkpoint.provenance.parts])
    checkpoint.refuse_unknown()
    selected, sources = _select(checkpoint, layers, rename)
    places = _places(path, None if target is None else Path(target), to, raw=raw)
    refuse_existing(list(places), path, force=force)
    options = WriteOptions(
        dtype=dtype,
        bias_mode=bias_mode,
        opset=opset,
        states=states,
        lengths=lengths,
        raw=raw,
        sources=sources,
        keras_version=keras_version,
        weights_only=weights_only,
    )
    from lstmconv.proof.verifying import verify_file

    reports: list[Report] = []
    notes: list[str] = []
    folder = next(iter(places)).parent
    with stage_in(folder, create=len(places) > 1) as stage:
        staged: list[Path] = []
        for place, chosen in places.items():
            say(f"Writing {place.name}")
            fitting = _stacked(selected, stack, chosen)
            options = replace(options, prefix=not (layers and len(fitting.stacks) == 1))
            written = chosen.write(fitting, stage / place.name, options)
            staged += written
            notes += _losses(fitting, chosen, place, options)
            say(f"Verifying {place.name}")
            with stored_meanwhile(written) if _nbytes(fitting) > _LARGE_BYTES else nullcontext():
                reports.append(verify_file(checkpoint, chosen.open(stage / place.name), run=verify))
                reports[-1].raise_for_failure()
        refuse_existing([folder / part.name for part in staged], path, force=force)
        refuse_changed(stamps)
        paths = publish(staged, folder, force=force)
    skipped = [f"skipped {entry.name} ({entry.class_name}): {entry.reason}" for entry in checkpoint.skipped]
    told = tuple(dict.fromkeys([*checkpoint.notes, *skipped, *notes]))
    return Conversion(selected, tuple(paths), tuple(reports), told)


def _nbytes(checkpoint: Checkpoint) -> int:
    """Return the size of all weights, as the source stores them."""
    halves = (half for layer in checkpoint.layers for half in layer.directions)
    return sum(gate.nbytes for half in halves for gates in half.arrays.values() for gate in gates)


def _stacked(checkpoint: Checkpoint, stack: str | None, chosen: Format) -> Checkpoint:
    """Join or open the layers as asked, as far as the format can hold them."""
    if stack is None:
        return checkpoint
    if stack not in ("all", "partial", "none"):
        raise UsageError(f"stack is {stack!r}, expected all, partial or none")
    alone = unstacked(checkpoint)
    return alone if stack == "none" else join(alone, chosen.obstacle, partial=stack == "partial")


def _losses(checkpoint: Checkpoint, chosen: Format, place: Path, options: WriteOptions) -> Iterator[str]:
    """Say what the target does not hold of the source, in whole sentences."""
    one = chosen.biases == "one" or options.bias_mode not in (None, "double")
    for layer in checkpoint.layers:
        rounded = [ulps for half in layer.directions if (ulps := rounding_of_sum(half)) is not None] if one else []
        if rounded:
            kind = f"by {max(rounded):.2g} ulp at most" if max(rounded) else "exactly"
            yield f"{place.name}: {layer.name}: its two biases are written as their sum, rounded {kind}"
        if layer.masking and not options.lengths:
            yield f"{layer.name}: its model masks steps; the target runs every step"
        elif layer.masking:
            yield f"{layer.name}: its model masks steps; the target masks those beyond its lengths (right padding)"
    yield from chosen.losses(checkpoint, place, options)


def _places(source: Path, target: Path | None, to: str | Sequence[str] | None, *, raw: bool) -> dict[Path, Format]:
    """Decide which files to write, in which format."""
    names = [to] if isinstance(to, str) else list(dict.fromkeys(to or []))
    if not names:
        if target is None:
            raise UsageError("neither a target nor --to is given; say what to write, such as model.onnx or --to onnx")
        return {target: by_suffix(target)}
    chosen = [by_name(name) for name in names]
    if len(chosen) == 1 and target is not None and not target.is_dir():
        return {target: chosen[0]}
    return in_folder(source, source.parent if target is None else target, names, raw=raw)


def in_folder(source: Path, folder: Path, to: Sequence[str], *, raw: bool) -> dict[Path, Format]:
    """Return the files that a source is written to in a folder, under its own name, each with its format.

    Raises:
        UsageError: An unknown format.
    """
    return {folder / (stem_of(source) + _suffix(entry, raw=raw)): entry for entry in map(by_name, to)}


def _suffix(entry: Format, *, raw: bool) -> str:
    return entry.raw_suffix if raw and entry.raw_suffix is not None else entry.suffixes[0]


def verify(
    source: PathLike | Checkpoint,
    target: PathLike,
    *,
    format: str | None = None,
    config: PathLike | None = None,
    activation: str | None = None,
    recurrent_activation: str | None = None,
    buffer: BufferSizes | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    seed: int = 0,
    batch: int = 3,
    steps: int = 16,
) -> Report:
    """Compare a converted file with its source: structure, weights bit for bit, outputs.

    Args:
        source: A file of any format, or a checkpoint already loaded.
        target: A file of any format. Its layers are told by what lstmconv noted in it, by their names, or,
            where the numbers of layers are equal, by their order.
        format, config, activation, recurrent_activation, buffer: Of the source; see :func:`load`.
        atol, rtol: Tolerances; by default what rounding may do, see :mod:`lstmconv.proof.rounding`.
        seed: Of the inputs.
        batch: Sequences run.
        steps: Time steps run.

    Raises:
        UnreadableFileError, UnsupportedModelError, UsageError: One line each.
    """
    from lstmconv.proof.trials import Settings
    from lstmconv.proof.verifying import verify_file

    if not isinstance(source, Checkpoint):
        source = load(
            source,
            format=format,
            config=config,
            activation=activation,
            recurrent_activation=recurrent_activation,
            buffer=buffer,
        )
    source.refuse_unknown()
    return verify_file(source, open_artifact(Path(target)), Settings(atol, rtol, seed, batch, steps))


def to_torch(source: Checkpoint | LSTMLayer | Model) -> nn.Module:
    """Return a torch module with the inputs and outputs of the whole Keras model, or of one Keras layer.

    Of a checkpoint it is the model that it tells, a :class:`lstmconv.torch.KerasModel`; of a layer a
    :class:`lstmconv.torch.KerasLSTM`.

    Raises:
        MissingDependencyError: torch is not installed.
        UnsupportedModelError: A layer or an activation is unknown, or the checkpoint does not tell its model.
    """
    from lstmconv.torch import to_torch

    return to_torch(source)


def to_onnx(
    checkpoint: Checkpoint | LSTMLayer,
    *,
    dtype: str | None = None,
    bias_mode: BiasMode | None = None,
    opset: int | None = None,
    states: bool | None = None,
    lengths: bool = False,
) -> onnx.ModelProto:
    """Return an ONNX model of every layer; see :mod:`lstmconv.formats.onnx` for its inputs and outputs.

    Raises:
        UnsupportedModelError: ONNX' LSTM cannot compute a layer.
    """
    from lstmconv.formats.onnx import build

    whole = Checkpoint((checkpoint,), Provenance("", "", "")) if isinstance(checkpoint, LSTMLayer) else checkpoint
    return build(whole, WriteOptions(dtype, bias_mode, opset, states, lengths))


def to_cudnn(layer: LSTMLayer | Stack, *, bias_mode: BiasMode | None = None, dtype: str | None = None) -> Array:
    """Return a layer's, or a stack's, flat cuDNN weight space, one axis; see :mod:`lstmconv.formats.cudnn`.

    Raises:
        UnsupportedModelError: cuDNN cannot compute the layer.
    """
    from lstmconv.formats.cudnn import pack
    from lstmconv.formats.tensors import dtype_of

    stack = Stack(layer.name, (layer,)) if isinstance(layer, LSTMLayer) else layer
    return pack(stack, bias_mode, dtype_of(stack, WriteOptions(dtype=dtype)))
