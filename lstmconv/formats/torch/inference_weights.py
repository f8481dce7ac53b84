"""The weights that run at inference, where a state dict stores them in parts or beside others.

Two kinds of modules keep an ``nn.LSTM``'s parameter X under other names and compute it before each run:

* pruning keeps ``X_orig`` and ``X_mask``; their product runs
  (torch/nn/utils/prune.py 2.13, ``BasePruningMethod.apply_mask``: ``mask.to(dtype=orig.dtype) * orig``);
* weight drop keeps ``X_raw``, beside the X of its last training step or in its place; at inference
  nothing is dropped, and ``X_raw`` itself runs (salesforce/awd-lstm-lm weight_drop.py ``WeightDrop``;
  fastai text/models/awdlstm.py ``WeightDropout``, whose LSTM is its submodule ``module``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from lstmconv.errors import UnreadableFileError
from lstmconv.model import Array

__all__ = ["inference_weights"]

_NAME = r"(?:weight|bias)_[ih]h(?:_l[0-9]{1,9})?(?:_reverse)?"
_PRUNED = re.compile(rf"(?P<name>(?:.*[./])?{_NAME})_orig", re.DOTALL)
_RAW = re.compile(rf"(?P<prefix>(?:.*[./])?)(?P<name>{_NAME})_raw", re.DOTALL)


def inference_weights(tensors: Mapping[str, Array], source: str) -> Mapping[str, Array]:
    """Return a state dict's tensors with each stored part replaced by the parameter that runs, of the same shape.

    Raises:
        UnreadableFileError: A mask has another shape than the weights that it prunes.
    """
    settled = dict(tensors)
    for key in tensors:
        pruned = _PRUNED.fullmatch(key)
        if pruned is not None and f"{pruned['name']}_mask" in tensors:
            mask = settled.pop(f"{pruned['name']}_mask")
            settled[pruned["name"]] = _product(settled.pop(key), mask, source, key)
        raw = _RAW.fullmatch(key)
        if raw is not None:
            settled[_dropped(raw, tensors)] = settled.pop(key)
    return settled


def _product(weights: Array, mask: Array, source: str, key: str) -> Array:
    if weights.shape != mask.shape:
        raise UnreadableFileError(
            f"'{key}' is {weights.shape} and its mask {mask.shape}, expected the same shape", about=source
        )
    with np.errstate(all="ignore"):  # Infinity times 0 is NaN here as in PyTorch.
        product: Array = mask.astype(weights.dtype) * weights
    product.setflags(write=False)
    return product


def _dropped(raw: re.Match[str], tensors: Mapping[str, Array]) -> str:
    """Return the parameter that a raw one runs as: its own module's, or that of the module inside."""
    inside = f"{raw['prefix']}module."
    wrapped = any(re.fullmatch(re.escape(inside) + _NAME, key) for key in tensors)
    return f"{inside if wrapped else raw['prefix']}{raw['name']}"
