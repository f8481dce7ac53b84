"""Run a state dict in ``.safetensors`` in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lstmconv._optional import require
from lstmconv.runtimes.torch import StateDict

__all__ = ["RUNTIME"]


class _SafetensorsStateDict(StateDict):
    def loaded_tensors(self) -> Mapping[str, Any]:
        """Load the tensors with safetensors' own library."""
        require("torch", "Running a state dict")
        loaded: Mapping[str, Any] = require("safetensors.torch", "Reading .safetensors files").load_file(
            self.artifact.path
        )
        return loaded


RUNTIME = _SafetensorsStateDict
