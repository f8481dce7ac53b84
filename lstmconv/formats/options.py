"""Options for reading and writing files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lstmconv.arrays.bias_modes import BUFFER_BIAS_MODES, BiasMode
from lstmconv.errors import UnsupportedModelError, UsageError

__all__ = ["DTYPES", "MERGE_MODES", "BufferSizes", "ReadOptions", "WriteOptions"]

MERGE_MODES = ("concat", "sum", "mul", "ave", "none")
"""How a Bidirectional layer joins its outputs; ``none`` returns both."""
DTYPES = ("float16", "bfloat16", "float32", "float64")
"""The element types that weights are written with."""


@dataclass(frozen=True)
class BufferSizes:
    """The sizes of a bare cuDNN buffer, which does not contain them.

    Attributes:
        input_size: Features of one time step.
        hidden_size: Units.
        num_layers: Number of layers, each fed by the one before it.
        bidirectional: Each layer has two pseudo-layers.
        bias_mode: ``double``, ``single-input``, ``single-recurrent`` or ``none``.
        dtype: The element type.
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
        if self.bias_mode not in BUFFER_BIAS_MODES:
            known = ", ".join(BUFFER_BIAS_MODES)
            raise UsageError(f"a cuDNN buffer's bias mode is one of {known}, found {self.bias_mode!r}")


@dataclass(frozen=True)
class ReadOptions:
    """How to read a file.

    Attributes:
        config: A file with ``model.to_json()``, or a Keras model with a config, for a weights-only Keras file.
        described: What that file says, as ``model.to_json()`` states it; :func:`lstmconv.formats.open_file` reads it.
        activation: Keras name of the activation; replaces the file's.
        recurrent_activation: Keras name of the recurrent activation; replaces the file's.
        buffer: The sizes of a bare cuDNN buffer.
        format: The file's format by its name; ``None`` if the content decides.
        return_sequences, go_backwards, merge_mode: What a weights-only Keras file does not say about its layers.
    """

    config: Path | None = None
    described: Mapping[str, Any] | None = None
    activation: str | None = None
    recurrent_activation: str | None = None
    buffer: BufferSizes | None = None
    format: str | None = None
    return_sequences: bool | None = None
    go_backwards: bool | None = None
    merge_mode: str | None = None

    def __post_init__(self) -> None:
        """Refuse names that Keras does not have: a wrong option is not the file's fault.

        Raises:
            UsageError: An unknown activation or merge mode.
        """
        for option in ("activation", "recurrent_activation"):
            value = getattr(self, option)
            if value is not None:
                _refuse_unknown_activation(f"--{option.replace('_', '-')}", value)
        if self.merge_mode is not None and self.merge_mode not in MERGE_MODES:
            raise UsageError(f"--merge-mode: {self.merge_mode!r} is not one of {', '.join(MERGE_MODES)}")

    @property
    def wiring(self) -> bool:
        """Whether the user gives options that only weights-only files need."""
        return (self.return_sequences, self.go_backwards, self.merge_mode) != (None, None, None)


@dataclass(frozen=True)
class WriteOptions:
    """How to write a file.

    Attributes:
        dtype: ``float16``, ``bfloat16``, ``float32`` or ``float64``; ``None`` keeps the stored one.
        bias_mode: Where the bias goes; ``None`` loses nothing (see :func:`~lstmconv.arrays.copying.place_bias`).
        opset: ONNX operator set; ``None`` takes the most portable that holds the model.
        states: Initial states as ONNX inputs; ``None`` means for stateful layers.
        lengths: Sequence lengths as an ONNX input.
        raw: A bare cuDNN buffer beside a JSON file.
        prefix: Layer names lead the names in a state dict.
        sources: The name in the source of each renamed layer, by its name in the target.
        asked: The source's layers that the user asked for; empty for all.
        keras_version: 2 or 3, the Keras whose files are written; ``None`` takes 3 where it can hold the layers.
        weights_only: Keras HDF5 without a model config.
        whole: The whole model, as :attr:`~lstmconv.model.Checkpoint.model` has it; else the LSTM layers alone.
    """

    dtype: str | None = None
    bias_mode: BiasMode | None = None
    opset: int | None = None
    states: bool | None = None
    lengths: bool = False
    raw: bool = False
    prefix: bool = True
    sources: Mapping[str, str] | None = None
    asked: tuple[str, ...] = ()
    keras_version: int | None = None
    weights_only: bool = False
    whole: bool = False


def _refuse_unknown_activation(option: str, name: str) -> None:
    from lstmconv.activations import ACTIVATIONS, parse_activation
    from lstmconv.suggesting import suggestion

    try:
        parse_activation(name, 3)
    except UnsupportedModelError as error:
        known = [*ACTIVATIONS, "hard_sigmoid_keras2", "hard_sigmoid_keras3"]
        raise UsageError(f"{option}: {name!r} is no activation of Keras{suggestion(name, known)}") from error
