"""The formats, one record each in one ordered tuple; a format's own module loads when it is used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, cast

from lstmconv.errors import UsageError

if TYPE_CHECKING:
    from lstmconv.arrays.copying import BiasMode
    from lstmconv.model import Checkpoint, Stack

__all__ = ["FORMATS", "BufferSizes", "Format", "Module", "ReadOptions", "WriteOptions", "by_name", "by_suffix", "stem"]


@dataclass(frozen=True)
class BufferSizes:
    """What a bare cuDNN buffer does not say of itself.

    Attributes:
        input_size: Features of one time step.
        hidden_size: Units.
        num_layers: Layers, each on the sequence of the one before it.
        bidirectional: Two pseudo-layers a layer.
        bias_mode: ``double``, ``single-input``, ``single-recurrent`` or ``none``.
        dtype: Of its elements.
    """

    input_size: int
    hidden_size: int
    num_layers: int = 1
    bidirectional: bool = False
    bias_mode: BiasMode = "double"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        """Refuse sizes that no LSTM has."""
        for name in ("input_size", "hidden_size", "num_layers"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, expected at least 1")
        modes = ("double", "single-input", "single-recurrent", "none")
        if self.bias_mode not in modes:
            raise UsageError(f"a cuDNN buffer's bias mode is one of {', '.join(modes)}, found {self.bias_mode!r}")


class ReadOptions(NamedTuple):
    """What a user may say about a file that is read.

    Attributes:
        config: ``model.to_json()``, or a Keras file with a config, for weights-only Keras files.
        activation: Overrules the file's, by Keras name.
        recurrent_activation: Likewise.
        buffer: The sizes of a bare cuDNN buffer.
    """

    config: Path | None = None
    activation: str | None = None
    recurrent_activation: str | None = None
    buffer: BufferSizes | None = None


class WriteOptions(NamedTuple):
    """What a user may choose about a written file.

    Attributes:
        dtype: ``float16``, ``bfloat16``, ``float32`` or ``float64``; ``None`` keeps the stored one.
        bias_mode: Where the bias goes; ``None`` loses nothing (see :func:`~lstmconv.arrays.copying.place_bias`).
        opset: ONNX operator set; ``None`` takes the most portable that holds the model.
        states: Initial states as ONNX inputs; ``None`` means for stateful layers.
        lengths: Sequence lengths as an ONNX input.
        raw: A bare cuDNN buffer beside a JSON file.
        prefix: Layer names lead the names in a state dict.
        sources: The source's layer name for each written one that was renamed.
        keras_version: 2 or 3, the Keras whose files are written; ``None`` takes 3 where it can hold the layers.
        weights_only: Keras HDF5 without a model config.
    """

    dtype: str | None = None
    bias_mode: BiasMode | None = None
    opset: int | None = None
    states: bool | None = None
    lengths: bool = False
    raw: bool = False
    prefix: bool = True
    sources: Mapping[str, str] | None = None
    keras_version: int | None = None
    weights_only: bool = False


class Module(Protocol):
    """What a format's module offers."""

    def obstacle(self, stack: Stack) -> str | None:
        """Say why the format cannot hold a stack (often of one layer) and what to do instead, or ``None``."""

    def read(self, path: Path, options: ReadOptions) -> Checkpoint:
        """Read all LSTM layers; arrays are views into the file where it allows them."""

    def write(self, checkpoint: Checkpoint, path: Path, options: WriteOptions) -> list[Path]:
        """Write all layers; return the files written, ``path`` first."""


class Format(NamedTuple):
    """One format.

    Attributes:
        name: What ``--to`` calls it.
        suffixes: The first is the one it is written with.
        title: For people.
        module: In :mod:`lstmconv.formats`.
        runtime: In :mod:`lstmconv.runtimes`; runs a written file in its own framework.
        biases: ``"two"`` apart, or ``"one"``, their sum.
    """

    name: str
    suffixes: tuple[str, ...]
    title: str
    module: str
    runtime: str
    biases: Literal["one", "two"] = "two"

    def load(self) -> Module:
        """Import the format's module."""
        return cast(Module, importlib.import_module(f"lstmconv.formats.{self.module}"))

    def load_runtime(self) -> Any:
        """Import the format's runtime; see :mod:`lstmconv.runtimes`."""
        return importlib.import_module(f"lstmconv.runtimes.{self.runtime}")


FORMATS = (
    Format("torch", (".pt", ".pth"), "PyTorch state dict", "torch.pt", "torch"),
    Format("cudnn", (".cudnn.safetensors", ".cudnn.bin"), "cuDNN weight space", "cudnn", "cudnn"),
    Format("safetensors", (".safetensors",), "PyTorch state dict in safetensors", "torch.safetensors", "torch"),
    Format("onnx", (".onnx",), "ONNX model", "onnx", "onnx"),
    Format("keras-cudnn", (".cudnn.h5",), "Keras CuDNNLSTM layers", "keras.cudnn_lstm", "keras"),
    Format("keras", (".keras", ".weights.h5", ".h5", ".hdf5"), "Keras model or weights", "keras", "keras", "one"),
)
"""In the order in which suffixes are looked at: ``.cudnn.safetensors`` before ``.safetensors``."""


def by_name(name: str) -> Format:
    """Return the format that ``--to`` and ``--from`` name.

    Raises:
        UsageError: There is none of that name.
    """
    for entry in FORMATS:
        if entry.name == name:
            return entry
    known = ", ".join(entry.name for entry in FORMATS)
    raise UsageError(f"unknown format {name!r}; expected one of {known}")


def by_suffix(path: Path) -> Format:
    """Return the format that a file name's suffix means.

    Raises:
        UsageError: No format has it.
    """
    for entry in FORMATS:
        if path.name.lower().endswith(entry.suffixes):
            return entry
    known = ", ".join(suffix for entry in FORMATS for suffix in entry.suffixes)
    raise UsageError(f"{path.name}: the suffix names no format; expected one of {known}, or pass --to")


def stem(path: Path) -> str:
    """Return a file's name without the longest suffix that a format has: ``model`` of ``model.weights.h5``."""
    name = path.name
    known = sorted((suffix for entry in FORMATS for suffix in entry.suffixes), key=len, reverse=True)
    suffix = next((suffix for suffix in known if name.lower().endswith(suffix)), path.suffix)
    return name[: -len(suffix)] if suffix else name
