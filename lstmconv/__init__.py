"""Convert trained Keras LSTMs to PyTorch, ONNX and cuDNN, and prove that they compute the same.

Importing lstmconv loads no other library; each name below brings what it needs when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lstmconv._version import __version__

if TYPE_CHECKING:
    from lstmconv.activations import Activation
    from lstmconv.api import Conversion, convert, load, save, verify
    from lstmconv.checking import CheckResult, Finding, check
    from lstmconv.converting import ConvertOptions
    from lstmconv.errors import (
        ForeignFileError,
        LstmconvError,
        MissingDependencyError,
        NoLSTMError,
        NotFiniteError,
        TargetExistsError,
        UnreadableFileError,
        UnsupportedModelError,
        UsageError,
    )
    from lstmconv.formats import BufferSizes, ReadOptions, WriteOptions
    from lstmconv.in_memory import from_keras, from_onnx, from_torch, to_cudnn, to_onnx, to_torch
    from lstmconv.jobs.convert_many import Converted, convert_many
    from lstmconv.model import Checkpoint, Gates, LSTMDirection, LSTMLayer, Stack
    from lstmconv.proof.report import Check, Report, VerificationError
    from lstmconv.selection import Wish
    from lstmconv.semantics import reference

__all__ = [
    "Activation",
    "BufferSizes",
    "Check",
    "CheckResult",
    "Checkpoint",
    "Conversion",
    "ConvertOptions",
    "Converted",
    "Finding",
    "ForeignFileError",
    "Gates",
    "LSTMDirection",
    "LSTMLayer",
    "LstmconvError",
    "MissingDependencyError",
    "NoLSTMError",
    "NotFiniteError",
    "ReadOptions",
    "Report",
    "Stack",
    "TargetExistsError",
    "UnreadableFileError",
    "UnsupportedModelError",
    "UsageError",
    "VerificationError",
    "Wish",
    "WriteOptions",
    "__version__",
    "check",
    "convert",
    "convert_many",
    "from_keras",
    "from_onnx",
    "from_torch",
    "load",
    "reference",
    "save",
    "to_cudnn",
    "to_onnx",
    "to_torch",
    "verify",
]

_HOMES = {
    "api": ("Conversion", "convert", "load", "save", "verify"),
    "in_memory": ("from_keras", "from_onnx", "from_torch", "to_cudnn", "to_onnx", "to_torch"),
    "checking": ("CheckResult", "Finding", "check"),
    "converting": ("ConvertOptions",),
    "jobs.convert_many": ("Converted", "convert_many"),
    "selection": ("Wish",),
    "activations": ("Activation",),
    "errors": tuple(name for name in __all__ if name.endswith("Error") and name != "VerificationError"),
    "formats": ("BufferSizes", "ReadOptions", "WriteOptions"),
    "model": ("Checkpoint", "Gates", "LSTMDirection", "LSTMLayer", "Stack"),
    "semantics": ("reference",),
    "proof.report": ("Check", "Report", "VerificationError"),
}


def __getattr__(name: str) -> Any:
    """Load a public name's module when the name is first used."""
    import importlib

    for home, names in _HOMES.items():
        if name in names:
            value = getattr(importlib.import_module(f"lstmconv.{home}"), name)
            globals()[name] = value
            return value
    if name in ("torch", "model", "layouts", "errors"):
        return importlib.import_module(f"lstmconv.{name}")
    raise AttributeError(f"module 'lstmconv' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
