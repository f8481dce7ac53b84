"""A whole model as PyTorch source: ``net.py``, and its weights beside it in ``net.pt``, a state dict.

lstmconv generates the source from the model and the record in the state dict. A source with any other text was changed,
or written by another version; it is not read, and so never run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from lstmconv.errors import UnreadableFileError, UnsupportedModelError
from lstmconv.formats.format import Artifact, Opened
from lstmconv.formats.hashing import hashing
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.options import ReadOptions, WriteOptions
from lstmconv.formats.record import Record
from lstmconv.formats.torch import pt
from lstmconv.formats.torch.whole import obstacle_of_model as obstacle_of_state_dict
from lstmconv.formats.torch_code.naming import layer_names
from lstmconv.formats.torch_code.source import source_of
from lstmconv.model import Array, Checkpoint, LSTMLayer, Model, Provenance, Stack
from lstmconv.model.chains import lstm_layers
from lstmconv.model.renaming import renamed

__all__ = ["Source", "alteration", "losses", "obstacle", "obstacle_of_model", "open_file", "terms", "usage", "write"]

_ALONE = "a .py file holds a whole model; convert its LSTM layers to torch"


class Source(NamedTuple):
    """A source and its weights.

    Attributes:
        text: The source that this version writes.
        weights: The file of the state dict.
        tensors: The state dict that lstmconv has read.
    """

    text: str
    weights: MappedFile
    tensors: dict[str, Array]


def obstacle(stack: Stack) -> str | None:
    """Return the reason why a single layer is never written."""
    return _ALONE


def obstacle_of_model(model: Model, options: WriteOptions) -> str | None:
    """Return the reason why a model is not written as source, or ``None``."""
    reason = obstacle_of_state_dict(model, options)
    if reason is not None:
        return reason
    try:
        source_of(renamed(model, layer_names(model)), _NO_RECORD)
    except UnsupportedModelError as error:
        return str(error)
    return None


_NO_RECORD = Record("", "", "", ())


def terms(layer: LSTMLayer) -> str:
    """Return the form that a layer has in a source."""
    return "a module of the whole model"


def alteration(model: Model, artifact: Artifact, options: WriteOptions) -> None:
    """Return ``None``: :func:`open_file` refuses a source that is not the text for the model in its record."""


def losses(checkpoint: Checkpoint, path: Path, options: WriteOptions) -> Iterator[str]:
    """Yield nothing: the record in the state dict has all facts about the model."""
    yield from ()


def write(checkpoint: Checkpoint, path: Path, options: WriteOptions) -> list[Path]:
    """Write the state dict, and the source that is generated from it.

    Raises:
        UnsupportedModelError: The checkpoint has no model, or the options do not ask for the whole model.
    """
    if checkpoint.model is None or not options.whole:
        raise UnsupportedModelError(_ALONE, checkpoint.provenance.source)
    names = layer_names(checkpoint.model)
    if names:
        sources = options.sources or {}
        options = replace(options, sources={**sources, **{new: sources.get(old, old) for old, new in names.items()}})
        model = renamed(checkpoint.model, names)
        joined = {names.get(stack, stack): tuple(names.get(name, name) for name in inside)
                  for stack, inside in checkpoint.joined.items()}  # fmt: skip
        checkpoint = replace(checkpoint, model=model, layers=lstm_layers(model), joined=joined)
    weights = path.with_suffix(".pt")
    weights.unlink(missing_ok=True)  # An older file; processes that have mapped it keep its bytes.
    pt.write(checkpoint, weights, options)
    written = pt.open_file(MappedFile(weights), ReadOptions())
    path.write_text(_text(written), "utf-8", newline="\n")
    return [path, weights]


def _text(weights: Opened) -> str:
    """Return the source of a state dict.

    Raises:
        UnsupportedModelError: The state dict has no whole model.
    """
    model = weights.interpret().model
    if weights.record is None or model is None:
        raise UnsupportedModelError("its state dict holds no whole model")
    return source_of(model, weights.record)


def open_file(file: MappedFile, options: ReadOptions) -> Opened:
    """Open a source that lstmconv wrote, with the state dict beside it; no code in it is run.

    Raises:
        UnreadableFileError: The state dict is missing or damaged, or lstmconv would write another source for it.
    """
    path = file.path
    weights = path.with_suffix(".pt")
    if not weights.is_file():
        raise UnreadableFileError(f"its weights, {weights.name}, are not beside it", path.name)
    beside = MappedFile(weights)
    opened = pt.open_file(beside, options)
    found = file.content.tobytes()
    try:
        text = _text(opened)
    except UnsupportedModelError as error:
        raise UnreadableFileError(f"{error}; convert the source again", path.name) from error
    if found != text.encode():
        raise UnreadableFileError(_differs(found, text, opened.record), path.name)

    def interpret() -> Checkpoint:
        origin = Provenance(path.name, hashing(file), "PyTorch source", parts=(weights.name,))
        return replace(opened.interpret(), provenance=origin)

    return Opened(opened.record, Source(text, beside, dict(opened.content)), interpret)  # type: ignore[call-overload]  # a mapping


def _differs(found: bytes, text: str, record: Record | None) -> str:
    """Return the error text with the first line that differs from lstmconv's own source."""
    lines, expected = found.split(b"\n"), text.encode().split(b"\n")
    pairs = zip(lines, expected, strict=False)
    number = next((k for k, (a, b) in enumerate(pairs) if a != b), min(len(lines), len(expected)))
    version = "" if record is None else f" (written by {record.version})"
    return (
        f"line {number + 1} is not what this lstmconv writes for the model in its state dict{version}; it is neither "
        "read nor run: convert the source again with --force"
    )


def usage(artifact: Artifact, place: Path) -> str | None:
    """Return the line that shows how to use the source."""
    return (
        f"from {place.stem} import load; model = load()" if place.stem.isidentifier() else "load() in it is the model"
    )
