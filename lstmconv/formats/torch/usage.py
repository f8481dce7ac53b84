"""One line that says how to load a state dict that lstmconv wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from lstmconv.formats.format import Artifact
from lstmconv.formats.torch.state_dict import prefix_of
from lstmconv.listing import listed
from lstmconv.model import Array

__all__ = ["usage"]


def usage(artifact: Artifact, place: Path) -> str | None:
    """Say what loads a written state dict; ``None`` for a file of others.

    Args:
        artifact: The file.
        place: Where it will lie.
    """
    record = artifact.record
    if record is None:
        return None
    if record.scope == "whole":
        model = artifact.checkpoint.model
        if model is None or model.unknown:
            return "holds the arrays of the known layers, by the names of torch.nn's modules"
        return f'load it with lstmconv.torch.load("{place.as_posix()}")'
    state = cast("Mapping[str, Array]", artifact.content)
    prefixes = [prefix_of(name) if record.prefix else "" for name in record.modules]
    modules = [_module(state, prefix) + (f', prefix "{prefix}"' if prefix else "") for prefix in prefixes]
    return f"loads into {listed(modules, 3, '; ')}"


def _module(state: Mapping[str, Array], prefix: str) -> str:
    """Return the constructor call of the module that has the tensors under a prefix."""
    rows, columns = state[f"{prefix}weight_ih_l0"].shape
    name = "lstmconv.torch.LSTM" if f"{prefix}_extra_state" in state else "torch.nn.LSTM"
    return f"{name}({', '.join([str(columns), str(rows // 4), *_options(state, prefix)])})"


def _options(state: Mapping[str, Array], prefix: str) -> Iterator[str]:
    layers = sum(f"{prefix}weight_ih_l{number}" in state for number in range(len(state)))
    if layers > 1:
        yield f"num_layers={layers}"
    if f"{prefix}bias_ih_l0" not in state:
        yield "bias=False"
    yield "batch_first=True"
    if f"{prefix}weight_ih_l0_reverse" in state:
        yield "bidirectional=True"
    if state[f"{prefix}weight_ih_l0"].dtype == "float64":  # A module of float32 would round the weights silently.
        yield "dtype=torch.float64"
