"""The formats, one record each in one ordered tuple; a format's own module loads when it is used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from lstmconv.errors import UsageError

if TYPE_CHECKING:
    from lstmconv.copying import BiasMode
    from lstmconv.model import Checkpoint, LSTMLayer

__all__ = ["FORMATS", "Format", "Target", "WriteOptions", "by_name", "by_suffix"]


@dataclass(frozen=True)
class WriteOptions:
    """What a user may choose about a written file.

    Attributes:
        dtype: ``float16``, ``bfloat16``, ``float32`` or ``float64``; ``None`` keeps the stored one.
        bias_mode: Where the bias goes; ``None`` loses nothing (see :func:`~lstmconv.copying.place_bias`).
        opset: ONNX operator set; ``None`` takes the most portable that holds the model.
        states: Initial states as ONNX inputs; ``None`` means for stateful layers.
        lengths: Sequence lengths as an ONNX input.
        raw: A bare cuDNN buffer beside a JSON file.
        prefix: Layer names lead the names in a state dict.
        sources: The source's layer name for each written one that was renamed.
    """

    dtype: str | None = None
    bias_mode: BiasMode | None = None
    opset: int | None = None
    states: bool | None = None
    lengths: bool = False
    raw: bool = False
    prefix: bool = True
    sources: Mapping[str, str] | None = None


class Target(Protocol):
    """What a format's module offers for writing."""

    def obstacle(self, layer: LSTMLayer) -> str | None:
        """Say why the format cannot hold a layer and what to do instead, or ``None``."""

    def write(self, checkpoint: Checkpoint, path: Path, options: WriteOptions) -> list[Path]:
        """Write all layers; return the files written, ``path`` first."""


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: What ``--to`` calls it.
        suffixes: The first is the one it is written with.
        title: For people.
        module: In :mod:`lstmconv.formats`.
        runtime: In :mod:`lstmconv.runtimes`; runs a written file in its own framework.
        writable: Whether it can be a target.
    """

    name: str
    suffixes: tuple[str, ...]
    title: str
    module: str
    runtime: str
    writable: bool = True

    def load(self) -> Target:
        """Import the format's module."""
        return cast(Target, importlib.import_module(f"lstmconv.formats.{self.module}"))

    def load_runtime(self) -> Any:
        """Import the format's runtime; see :mod:`lstmconv.runtimes`."""
        return importlib.import_module(f"lstmconv.runtimes.{self.runtime}")


FORMATS = (
    Format("torch", (".pt", ".pth"), "PyTorch state dict", "torch", "torch"),
    Format("cudnn", (".cudnn.safetensors", ".cudnn.bin"), "cuDNN weight space", "cudnn", "cudnn"),
    Format("safetensors", (".safetensors",), "PyTorch state dict in safetensors", "safetensors", "torch"),
    Format("onnx", (".onnx",), "ONNX model", "onnx", "onnx"),
    Format("keras", (".h5", ".hdf5", ".keras", ".weights.h5"), "Keras file", "keras", "", writable=False),
)
"""In the order in which suffixes are looked at: ``.cudnn.safetensors`` before ``.safetensors``."""


def by_name(name: str) -> Format:
    """Return the target format that ``--to`` names.

    Raises:
        UsageError: There is none of that name.
    """
    for entry in FORMATS:
        if entry.name == name and entry.writable:
            return entry
    known = ", ".join(entry.name for entry in FORMATS if entry.writable)
    raise UsageError(f"unknown target format {name!r}; expected one of {known}")


def by_suffix(path: Path) -> Format:
    """Return the target format that a file name's suffix means.

    Raises:
        UsageError: No target format has it.
    """
    for entry in FORMATS:
        if entry.writable and path.name.lower().endswith(entry.suffixes):
            return entry
    known = ", ".join(suffix for entry in FORMATS if entry.writable for suffix in entry.suffixes)
    raise UsageError(f"{path.name}: the suffix names no target format; expected one of {known}, or pass --to")
