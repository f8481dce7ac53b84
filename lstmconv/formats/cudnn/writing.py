"""Write cuDNN's weight spaces, in safetensors or bare, with a manifest that says what is where."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lstmconv.errors import UsageError
from lstmconv.formats.cudnn.packing import CUDNN_KEY, manifest, packed_pieces
from lstmconv.formats.format import Artifact
from lstmconv.formats.options import WriteOptions
from lstmconv.formats.record import KEY, describe, encode
from lstmconv.formats.tensors import NamedTensor, dtype_of
from lstmconv.formats.torch.safetensors import write_file
from lstmconv.model import Checkpoint, LSTMLayer, Model

__all__ = ["losses", "obstacle_of_model", "terms", "usage", "write"]


def obstacle_of_model(model: Model, options: WriteOptions) -> str:
    """Say why a weight space never holds a whole model."""
    return "a cuDNN weight space holds one stack of LSTM layers; convert to onnx or torch for the whole model"


def terms(layer: LSTMLayer) -> str:
    """Say what a layer becomes in a cuDNN file."""
    return "one packed weight space"


def usage(artifact: Artifact, place: Path) -> None:
    """Return nothing: a program that calls cuDNN reads the manifest in the file."""


def losses(checkpoint: Checkpoint, path: Path, options: WriteOptions) -> Iterator[str]:
    """Yield what a weight space loses of the source: nothing, because its record holds the rest."""
    yield from ()


def write(checkpoint: Checkpoint, path: Path, options: WriteOptions) -> list[Path]:
    """Write every stack's weight space; with ``raw``, bare bytes and a JSON file beside them.

    Raises:
        UnsupportedModelError: cuDNN cannot compute a layer, or its activations are unknown.
    """
    if options.raw and path.suffix == ".safetensors":
        raise UsageError("--raw writes bare bytes; name the target .cudnn.bin", about=path.name)
    spaces: list[NamedTensor] = []
    manifests: dict[str, dict[str, Any]] = {}
    for stack in checkpoint.stacks:
        dtype = dtype_of(stack, options)
        pieces = packed_pieces(stack, options.bias_mode)
        manifests[stack.name] = manifest(stack, options.bias_mode, dtype)
        elements = manifests[stack.name]["weightSpaceSize"] // dtype.itemsize
        spaces.append(NamedTensor(stack.name, (elements,), dtype, pieces))
    if options.raw or path.name.endswith(".bin"):
        return _write_raw(checkpoint, path, options, spaces, manifests)
    described = json.dumps(manifests)
    write_file(spaces, path, lambda of: {CUDNN_KEY: described, KEY: encode(of, options)}, checkpoint)
    return [path]


def _write_raw(
    checkpoint: Checkpoint,
    path: Path,
    options: WriteOptions,
    spaces: list[NamedTensor],
    manifests: dict[str, dict[str, Any]],
) -> list[Path]:
    """Write the weight spaces one after the other; the JSON says at which byte each begins."""
    sidecar = path.with_suffix(".json")
    with path.open("wb") as file:
        for space in spaces:
            manifests[space.name]["fileOffset"] = file.tell()
            file.writelines(space.slabs())
    described = {CUDNN_KEY: manifests, KEY: describe(checkpoint, options)}
    sidecar.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    return [path, sidecar]
