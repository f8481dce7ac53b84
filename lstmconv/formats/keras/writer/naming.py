"""The layers' names in a Keras file, which cannot be every name that other formats allow."""

from __future__ import annotations

import re
from dataclasses import replace

from lstmconv.errors import UsageError
from lstmconv.formats.keras.writer.dialect import Dialect
from lstmconv.formats.keras.writer.layer_graph import chained
from lstmconv.formats.options import WriteOptions
from lstmconv.model import Checkpoint

__all__ = ["renamed"]

_SCOPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\\>-]*")
"""tensorflow/python/framework/ops.py _VALID_SCOPE_NAME_REGEX, without the characters that are replaced."""
_TAKEN = ("top_level_model_weights",)
"""Keras' own group in a legacy file."""


def renamed(checkpoint: Checkpoint, options: WriteOptions, dialect: Dialect) -> tuple[Checkpoint, WriteOptions]:
    """Give the layers names that Keras takes, and each one's source in the options.

    ``/`` (which Keras 3 refuses) and ``.`` (which its PyTorch backend refuses) become ``_``. Stacks become
    chains of layers.

    Raises:
        UsageError: Two names fall together, or Keras cannot take one.
    """
    names = {layer.name: re.sub(r"[/.]", "_", layer.name) or "lstm" for layer in checkpoint.layers}
    owners: dict[str, str] = {}
    for old, new in names.items():
        if new in owners:
            raise UsageError(f"{owners[new]!r} and {old!r} would both be {new!r} in Keras; rename one with --rename")
        owners[new] = old
        if new in _TAKEN:
            raise UsageError(f"Keras keeps the name {new!r} for itself; give the layer another with --rename")
        if "\0" in new:
            raise UsageError(f"HDF5 holds no name with the character NUL, found {old!r}; give it another with --rename")
        if dialect.major == 2 and not _SCOPE.fullmatch(new):
            raise UsageError(
                f"TensorFlow takes ASCII letters, digits, '_', '-' and '>' in a layer's name, found {old!r}; "
                "give it another with --rename"
            )
    sources = options.sources or {}
    edges = chained(checkpoint)
    written = replace(
        checkpoint,
        layers=tuple(replace(layer, name=names[layer.name]) for layer in checkpoint.layers),
        edges=None if edges is None else tuple((names[a], names[b]) for a, b in edges if a in names and b in names),
        branching=tuple(names[name] for name in checkpoint.branching if name in names),
        joined={},
    )
    return written, replace(options, sources={new: sources.get(old, old) for old, new in names.items()})
