"""Run a written file in its own framework, and decode its weights by a path of their own.

Each runtime module offers

* ``decode(path, names) -> Decoded``: the weights again, gates i f g o, without the writer's
  layouts: slices and offsets written out by hand from the target's own specification;
* ``RUNS``: the ways to run the file, each a :class:`Run`;
* ``seen_by_target(layer) -> LSTMLayer``: the Keras layer whose outputs those must equal;
* ``accepts(path, name)``: ``states`` and ``lengths``, where the file takes them;
* ``provenance(path)``: what lstmconv noted in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lstmconv.model import Array

__all__ = ["Decoded", "DecodedDirection", "Inputs", "NotRunError", "Outputs", "Run"]

Outputs: TypeAlias = "Mapping[str, npt.NDArray[np.float64]]"
"""``y`` as the target returns it, ``h`` and ``c`` ``(directions, batch, hidden)``, by name."""


class NotRunError(Exception):
    """A file could not be run here; the text says why. It is not a failure, and not a pass."""


@dataclass(frozen=True, eq=False)
class DecodedDirection:
    """One direction's weights, gates i f g o: ``(4, hidden, input)``, ``(4, hidden, hidden)``, ``(4, hidden)``."""

    weight_ih: Array
    weight_hh: Array
    bias_ih: Array | None
    bias_hh: Array | None


Decoded: TypeAlias = "Mapping[str, tuple[DecodedDirection, ...]]"
"""By the layer's name in the file; forward half first."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """Seeded inputs for one layer, float64, already rounded to what the target takes.

    Attributes:
        x: ``(batch, time, input)``.
        states: h, c (forward), then h, c (backward), each ``(batch, hidden)``.
        lengths: ``(batch,)``: how many leading steps count; ``None`` where all do.
    """

    x: npt.NDArray[np.float64]
    states: tuple[npt.NDArray[np.float64], ...]
    lengths: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Run:
    """One way to run a written file.

    Attributes:
        framework: Names the framework and its version.
        compute: Runs one layer of a file, by the layer's name in it.
        precision: The precision of the computation for weights of a dtype: a key of
            :data:`lstmconv.proof.TOLERANCES`.
    """

    framework: Callable[[], str]
    compute: Callable[[Path, str, Inputs], Outputs]
    precision: Callable[[np.dtype[Any]], str]
