"""The inputs and outputs of a written ONNX model, in one line for its user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lstmconv._optional import require
from lstmconv.formats.format import Artifact
from lstmconv.listing import listed

__all__ = ["usage"]


def usage(artifact: Artifact, place: Path) -> str | None:
    """Say the inputs of a model with their shapes and types, and its outputs.

    Args:
        artifact: The file.
        place: Where it will lie.
    """
    graph: Any = getattr(artifact.content, "graph", None)
    if graph is None or artifact.record is None:
        return None
    inputs, outputs = list(map(_input, graph.input)), [entry.name for entry in graph.output]
    return f"takes {listed(inputs)}; returns {listed(outputs)}"


def _input(entry: Any) -> str:
    helper = require("onnx.helper", "Reading ONNX files")
    tensor = entry.type.tensor_type
    sizes = ", ".join(size.dim_param or str(size.dim_value) for size in tensor.shape.dim)
    return f"{entry.name} ({sizes}) {helper.tensor_dtype_to_np_dtype(tensor.elem_type).name}"
