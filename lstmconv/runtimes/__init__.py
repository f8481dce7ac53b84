"""Run a written file in its own framework, and decode its weights by a path of their own.

A file is run stack by stack; the names are those of the stacks in the file.

Each runtime module offers

* ``decode(path, names, noted, frameworks=True) -> Decoded``: the weights again, gates i f g o, without the writer's
  layouts: slices and offsets written out by hand from the target's own specification, on what the vendor's own reader
  returns where there is one; with ``frameworks=False`` none that is heavy to load;
* ``RUNS``: the ways to run the file, each a function that loads one stack of it: ``load(path, name) -> Loaded``;
* ``seen_by_target(stack) -> Stack``: the Keras layers whose outputs those must equal;
* ``accepts(path, name)``: ``states`` and ``lengths``, where the file takes them;
* ``provenance(path)``: what lstmconv noted in the file, ``noted`` above.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from lstmconv.model import Gates

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "Decoded",
    "DecodedDirection",
    "Inputs",
    "Loaded",
    "NotRunError",
    "Outputs",
    "Precision",
    "Run",
    "numbered_states",
]

Outputs: TypeAlias = "Mapping[str, npt.NDArray[np.float64]]"
"""By name: ``y`` as the target returns it (``y_1`` the second output of ``merge_mode`` none), and the final states
``h0``, ``c0``, ``h1``, ... of every direction, layer by layer, each ``(batch, hidden)``."""


class NotRunError(Exception):
    """A file could not be run here; the text says why. It is not a failure, and not a pass."""


class DecodedDirection(NamedTuple):
    """One direction's weights as gates, views into the file where it can be mapped."""

    weight_ih: Gates
    weight_hh: Gates
    bias_ih: Gates | None
    bias_hh: Gates | None

    @property
    def biases(self) -> tuple[Gates | None, Gates | None]:
        """The input's and the recurrent bias."""
        return self.bias_ih, self.bias_hh


Decoded: TypeAlias = "Mapping[str, tuple[DecodedDirection, ...]]"
"""By the stack's name in the file; all directions, layer by layer, forward half first."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """Seeded inputs for one stack, float64, already rounded to what the target takes.

    Attributes:
        x: ``(batch, time, input)``.
        states: h, c of every direction, layer by layer, forward first, each ``(batch, hidden)``.
        lengths: ``(batch,)``: how many leading steps count; ``None`` where all do.
    """

    x: npt.NDArray[np.float64]
    states: tuple[npt.NDArray[np.float64], ...]
    lengths: npt.NDArray[np.int64] | None = None


class Precision(NamedTuple):
    """In what a framework computes, by the names of the dtypes; what rounding may do follows from it.

    Attributes:
        arithmetic: Of products, sums and activations.
        stored: Of the outputs and states, between layers and, on some devices, between steps.
    """

    arithmetic: str
    stored: str


class Loaded(NamedTuple):
    """One stack of a written file, loaded by its framework.

    Attributes:
        framework: Names the framework and its version.
        precision: In what it computes.
        compute: Runs the stack; may be called many times.
    """

    framework: str
    precision: Precision
    compute: Callable[[Inputs], Outputs]


Run: TypeAlias = "Callable[[Path, str], Loaded]"
"""Loads one stack of a file, by its name in it; raises :class:`NotRunError` where that cannot be done here."""


def numbered_states(h: npt.ArrayLike, c: npt.ArrayLike) -> dict[str, npt.NDArray[np.float64]]:
    """Name the final states of all directions, given as ``h`` and ``c`` ``(directions, batch, hidden)``."""
    named: dict[str, npt.NDArray[np.float64]] = {}
    for letter, states in (("h", h), ("c", c)):
        named |= {f"{letter}{k}": state for k, state in enumerate(np.asarray(states, np.float64))}
    return named
