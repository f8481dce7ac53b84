"""Run a written state dict in PyTorch: loaded strictly into ``nn.LSTM``, or into lstmconv.torch.LSTM."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lstmconv.errors import MissingDependencyError, require
from lstmconv.formats.provenance import KEY
from lstmconv.formats.safetensors import read_safetensors
from lstmconv.formats.torch import PROVENANCE_RECORD, read_state_dict
from lstmconv.model import Array, LSTMLayer, float_type
from lstmconv.runtimes import Decoded, DecodedDirection, Inputs, Outputs, Run

__all__ = ["RUNS", "accepts", "decode", "provenance", "seen_by_target"]


def _framework() -> str:
    """Name the framework and its version."""
    return f"torch {require('torch', 'Running a state dict').__version__}"


def provenance(path: Path) -> Mapping[str, Any] | None:
    """Return what lstmconv noted in the file, or ``None``."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if PROVENANCE_RECORD not in archive.namelist():
                return None
            return json.loads(archive.read(PROVENANCE_RECORD))  # type: ignore[no-any-return]  # an object, written so
    safetensors = require("safetensors", "Reading .safetensors files")
    with safetensors.safe_open(path, "np") as file:
        text = (file.metadata() or {}).get(KEY)
    return None if text is None else json.loads(text)


def accepts(path: Path, name: str) -> frozenset[str]:
    """Say which inputs a layer takes beside x; always initial states."""
    return frozenset({"states"})


def seen_by_target(layer: LSTMLayer) -> LSTMLayer:
    """Return the Keras layer whose outputs ``nn.LSTM`` returns: whole sequences, both halves side by side."""
    merge_mode = "concat" if layer.merge_mode == "none" else layer.merge_mode
    return replace(layer, return_sequences=True, time_major=False, merge_mode=merge_mode)


def _load(path: Path) -> dict[str, Any]:
    """Load the tensors with the formats' own libraries."""
    torch = require("torch", "Running a state dict")
    if not zipfile.is_zipfile(path):
        return dict(require("safetensors.torch", "Reading .safetensors files").load_file(path))
    return dict(torch.load(path, weights_only=True, map_location="cpu"))


def _load_arrays(path: Path) -> dict[str, Array]:
    """Load the tensors as arrays; without torch, a ``.pt`` through a reader that calls nothing."""
    if not zipfile.is_zipfile(path):
        return read_safetensors(path)
    try:
        return {name: _numpy(tensor) for name, tensor in _load(path).items()}
    except MissingDependencyError:
        return read_state_dict(path)


def _prefix(name: str, noted: Mapping[str, Any] | None) -> str:
    return "" if noted is not None and not noted["prefix"] else name.replace("/", ".") + "."


def _numpy(tensor: Any) -> Array:
    """Return a tensor's bits as a NumPy array; NumPy's bfloat16 is ml_dtypes'."""
    torch = require("torch", "Running a state dict")
    if tensor.dtype == torch.bfloat16:
        return np.asarray(tensor.view(torch.int16).numpy().view(float_type("bfloat16")))
    return np.asarray(tensor.numpy())


def _blocks(rows: Array) -> Array:
    """Cut rows into the gates i f g o (torch.nn.LSTM, Variables)."""
    hidden = rows.shape[0] // 4
    return np.stack([rows[0:hidden], rows[hidden : 2 * hidden], rows[2 * hidden : 3 * hidden], rows[3 * hidden :]])


def decode(path: Path, names: list[str]) -> Decoded:
    """Return every named layer's weights as PyTorch loads them."""
    state = _load_arrays(path)
    noted = provenance(path)
    decoded: dict[str, tuple[DecodedDirection, ...]] = {}
    for name in names:
        prefix = _prefix(name, noted)
        suffixes = [suffix for suffix in ("_l0", "_l0_reverse") if f"{prefix}weight_ih{suffix}" in state]
        decoded[name] = tuple(
            DecodedDirection(
                _blocks(state[f"{prefix}weight_ih{suffix}"]),
                _blocks(state[f"{prefix}weight_hh{suffix}"]),
                *(
                    _blocks(state[key]) if (key := f"{prefix}{bias}{suffix}") in state else None
                    for bias in ("bias_ih", "bias_hh")
                ),
            )
            for suffix in suffixes
        )
    return decoded


def _run(path: Path, name: str, inputs: Inputs) -> Outputs:
    """Load one layer strictly and run it; half precisions are widened first, which is exact."""
    torch = require("torch", "Running a state dict")
    prefix = _prefix(name, provenance(path))
    state = {key[len(prefix) :]: value for key, value in _load(path).items() if key.startswith(prefix)}
    rows, columns = state["weight_ih_l0"].shape
    options: dict[str, Any] = {
        "bias": "bias_ih_l0" in state,
        "batch_first": True,
        "bidirectional": "weight_ih_l0_reverse" in state,
    }
    if "_extra_state" in state:
        from lstmconv.torch import LSTM

        module = LSTM(columns, rows // 4, **options)
    else:
        module = torch.nn.LSTM(columns, rows // 4, **options)
    wide = torch.float64 if state["weight_ih_l0"].dtype == torch.float64 else torch.float32
    module.to(wide)
    module.load_state_dict(state, strict=True)
    with torch.no_grad():
        x = torch.from_numpy(inputs.x).to(wide)
        h = torch.from_numpy(np.stack(inputs.states[0::2])).to(wide)
        c = torch.from_numpy(np.stack(inputs.states[1::2])).to(wide)
        output, (h_n, c_n) = module(x, (h, c))
    return {"y": output.double().numpy(), "h": h_n.double().numpy(), "c": c_n.double().numpy()}


def _precision(dtype: np.dtype[Any]) -> str:
    return "float64" if dtype == np.float64 else "float32"


RUNS = (Run(_framework, _run, _precision),)
