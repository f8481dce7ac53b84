"""Memory that running a layer or a model takes, and how much is free."""

from __future__ import annotations

from pathlib import Path

from lstmconv.model import LSTMLayer, Model, Stack
from lstmconv.proof.sizes import weights_in

__all__ = ["BYTES_A_WEIGHT", "GIANT", "free_bytes", "lacking", "too_large"]

GIANT = 1 << 25
"""For a layer of more weights (134 MB of float32) some units are computed: all of them would take half a minute."""
BYTES_A_WEIGHT = 48
"""What the widest layer takes for each weight: five arrays of float64, for the reference, its noise and a mistake's
matrices, and the framework's own copy."""
_BYTES_LOADED = 8
"""What a framework takes for each number of a model: its own, and one more where it packs them."""


def free_bytes() -> int | None:
    """Return how much memory may still be taken, where the system says so."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = next((line.split() for line in lines if line.startswith("MemAvailable:")), None)
    return None if found is None else 1024 * int(found[1])


def lacking(needed: int) -> str | None:
    """Return a sentence about the memory that running takes if that much is not free, else ``None``."""
    free = free_bytes()
    if free is None or needed <= free:
        return None
    return f"running it takes about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free"


def too_large(model: Model) -> str | None:
    """Return why a whole model is not run: too little free memory, or more than half a minute; else ``None``."""
    sizes = {id(call.layer): (call.layer, weights_in(call.layer)) for call in model.calls}
    largest, weights = max(sizes.values(), key=lambda pair: pair[1])
    if weights > GIANT and isinstance(largest, LSTMLayer | Stack):
        return f"{largest.name} has {weights:,} weights, too many to compute all of its units"
    return lacking(BYTES_A_WEIGHT * weights + _BYTES_LOADED * sum(each for _, each in sizes.values()))
