"""The Python API: load, save, convert, verify, and single layers into single frameworks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from lstmconv.copying import BiasMode
from lstmconv.errors import UnreadableFileError, UnsupportedModelError, UsageError
from lstmconv.formats import FORMATS, Format, WriteOptions, by_name, by_suffix
from lstmconv.model import Array, Checkpoint, LSTMLayer, Provenance
from lstmconv.proof import Settings, verify_file
from lstmconv.publishing import publish, refuse_existing, staging
from lstmconv.report import Report

if TYPE_CHECKING:
    import onnx
    from torch import nn

__all__ = ["Conversion", "convert", "load", "save", "to_cudnn", "to_onnx", "to_torch", "verify"]

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
        names = ", ".join(report.target for report in self.reports)
        return Report(names, tuple(check for report in self.reports for check in report.checks))


def load(
    path: PathLike,
    *,
    format: str | None = None,
    config: PathLike | None = None,
    activation: str | None = None,
    recurrent_activation: str | None = None,
) -> Checkpoint:
    """Read every LSTM layer of a file; weights are read-only views into it.

    Args:
        path: A Keras file of any generation; what it is is decided by its content.
        format: ``"keras"`` or ``None``.
        config: ``model.to_json()``, or a Keras file with a config, for weights-only files.
        activation: Overrules the file's activation, by Keras name.
        recurrent_activation: Overrules the file's recurrent activation.

    Raises:
        UnreadableFileError: Not such a file, or a damaged one.
        UnsupportedModelError: No LSTM in it.
        UsageError: Another ``format``.

    >>> import lstmconv
    >>> checkpoint = lstmconv.load("sample_weights/airline_passengers.h5")
    >>> layer = checkpoint.layers[0]
    >>> layer.name, layer.forward.weight_ih.shape          # gates i f g o, units, features
    ('lstm', (4, 16, 1))
    """
    if format not in (None, "keras"):
        raise UsageError(f"format {format!r} cannot be read; expected 'keras' or none")
    from lstmconv.formats.keras import reading

    file = Path(path)
    if not file.exists():
        raise UnreadableFileError(f"{file}: no such file")
    try:
        return reading.read(
            file,
            config=None if config is None else Path(config),
            activation=activation,
            recurrent_activation=recurrent_activation,
        )
    except OSError as error:
        raise UnreadableFileError(f"{file.name}: cannot be read ({error.strerror or error})") from error


def _select(
    checkpoint: Checkpoint, layers: Sequence[str] | None, rename: Mapping[str, str] | None
) -> tuple[Checkpoint, dict[str, str]]:
    """Pick and rename layers; return them and each new name's source name."""
    known = [layer.name for layer in checkpoint.layers]
    unknown = [name for name in [*(layers or []), *(rename or {})] if name not in known]
    if unknown:
        raise UsageError(f"no LSTM layer {unknown[0]!r}; there are {', '.join(known)}")
    picked = [layer for layer in checkpoint.layers if not layers or layer.name in layers]
    names = {layer.name: (rename or {}).get(layer.name, layer.name) for layer in picked}
    if len(set(names.values())) < len(names):
        raise UsageError("two layers would get the same name; give each its own with --rename")
    renamed = tuple(replace(layer, name=names[layer.name]) for layer in picked)
    edges = checkpoint.edges
    if edges is not None:
        edges = tuple((names[a], names[b]) for a, b in edges if a in names and b in names)
    selected = replace(checkpoint, layers=renamed, edges=edges)
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
        staged = chosen.load().write(checkpoint, stage / target.name, WriteOptions(**options))
        refuse_existing([target.parent / part.name for part in staged], source, force=force)
        return tuple(publish(staged, target.parent))


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
    progress: Callable[[str], None] | None = None,
) -> Conversion:
    """Convert a Keras file and prove that the result holds and computes the same.

    Every target is written beside its place, verified there, and moved only then: a failure leaves
    no file behind, and an older one as it was.

    Args:
        source: See :func:`load`.
        target: The file to write; a folder if ``to`` names several formats; beside the source
            if not given.
        to: ``"torch"``, ``"safetensors"``, ``"onnx"``, ``"cudnn"``, or several; else ``target``'s suffix decides.
        layers: Only these. A single one is written without its name as a prefix in state dicts.
        rename: New names by old ones.
        verify: Compare weights bit for bit and run the file in its own framework.
        force: Replace existing files.
        config, activation, recurrent_activation: See :func:`load`.
        dtype: ``float16``, ``bfloat16``, ``float32``, ``float64``; rounds once. The stored one by default.
        bias_mode: ``input`` (b, 0), ``recurrent`` (0, b), ``both-halves`` (b/2, b/2); for cuDNN also
            ``double``, ``single-input``, ``single-recurrent``, ``none``.
        opset: ONNX operator set; 14 by default, 22 for bfloat16.
        states: Initial states as ONNX inputs; by default for stateful layers.
        lengths: Sequence lengths as ONNX inputs (right padding), with Keras' masked outputs.
        raw: The bare cuDNN buffer (``.bin``) beside a JSON file.
        progress: Called with a line before each long step.

    Raises:
        VerificationError: The target does not hold or compute the same; nothing is left behind.
        UnreadableFileError, UnsupportedModelError, UsageError, TargetExistsError: One line each.
    """
    say = progress or (lambda _: None)
    path = Path(source)
    say(f"Reading {path.name}")
    checkpoint = load(path, config=config, activation=activation, recurrent_activation=recurrent_activation)
    if checkpoint.unknown is not None:
        raise UnsupportedModelError(checkpoint.unknown)
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
        prefix=not (layers and len(selected.layers) == 1),
        sources=sources,
    )
    reports: list[Report] = []
    folder = next(iter(places)).parent
    with staging(folder, create=len(places) > 1) as stage:
        staged: list[Path] = []
        for place, chosen in places.items():
            say(f"Writing {place.name}")
            staged += chosen.load().write(selected, stage / place.name, options)
            if verify:
                say(f"Verifying {place.name}")
                reports.append(verify_file(checkpoint, stage / place.name, format=chosen))
                reports[-1].raise_for_failure()
        refuse_existing([folder / part.name for part in staged], path, force=force)
        paths = publish(staged, folder)
    return Conversion(selected, tuple(paths), tuple(reports), _notes(selected, lengths=lengths))


def _notes(checkpoint: Checkpoint, *, lengths: bool) -> tuple[str, ...]:
    skipped = [f"skipped {entry.name} ({entry.class_name}): {entry.reason}" for entry in checkpoint.skipped]
    runs = "masks what lies beyond its lengths input (right padding)" if lengths else "runs every step"
    masked = [f"{layer.name}: its model masks steps; the target {runs}" for layer in checkpoint.layers if layer.masking]
    return (*checkpoint.notes, *skipped, *masked)


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
    folder = source.parent if target is None else target
    return {folder / (_stem(source) + _suffix(entry, raw=raw)): entry for entry in chosen}


def _stem(source: Path) -> str:
    name = source.name
    known: Iterable[str] = sorted((s for entry in FORMATS for s in entry.suffixes), key=len, reverse=True)
    suffix = next((suffix for suffix in known if name.lower().endswith(suffix)), source.suffix)
    return name[: -len(suffix)] if suffix else name


def _suffix(entry: Format, *, raw: bool) -> str:
    return entry.suffixes[-1] if raw and entry.name == "cudnn" else entry.suffixes[0]


def verify(
    source: PathLike | Checkpoint,
    target: PathLike,
    *,
    config: PathLike | None = None,
    activation: str | None = None,
    recurrent_activation: str | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    seed: int = 0,
    batch: int = 3,
    steps: int = 16,
) -> Report:
    """Compare a converted file with its source: structure, weights bit for bit, outputs.

    Args:
        source: A Keras file, or a checkpoint already loaded.
        target: A ``.pt``, ``.safetensors``, ``.onnx`` or ``.cudnn.safetensors`` file.
        config, activation, recurrent_activation: See :func:`load`.
        atol, rtol: Tolerances; by default those of :data:`lstmconv.proof.TOLERANCES`.
        seed: Of the inputs.
        batch: Sequences run.
        steps: Time steps run.

    Raises:
        UnreadableFileError, UnsupportedModelError, UsageError: One line each.
    """
    if not isinstance(source, Checkpoint):
        source = load(source, config=config, activation=activation, recurrent_activation=recurrent_activation)
    if source.unknown is not None:
        raise UnsupportedModelError(source.unknown)
    file = Path(target)
    if not file.is_file():
        raise UnreadableFileError(f"{file}: no such file")
    return verify_file(source, file, Settings(atol, rtol, seed, batch, steps))


def to_torch(layer: LSTMLayer) -> nn.Module:
    """Return a torch module with the Keras layer's inputs and outputs; see :class:`lstmconv.torch.KerasLSTM`.

    Raises:
        MissingDependencyError: torch is not installed.
        UnsupportedModelError: The layer's activations are unknown.
    """
    from lstmconv.torch import from_layer

    return from_layer(layer)


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


def to_cudnn(layer: LSTMLayer, *, bias_mode: BiasMode | None = None, dtype: str | None = None) -> Array:
    """Return a layer's flat cuDNN weight space, one axis; see :mod:`lstmconv.formats.cudnn` for its order.

    Raises:
        UnsupportedModelError: cuDNN cannot compute the layer.
    """
    from lstmconv.formats.cudnn import pack
    from lstmconv.formats.state_dict import dtype_of

    return pack(layer, bias_mode, dtype_of(layer, WriteOptions(dtype=dtype)))
