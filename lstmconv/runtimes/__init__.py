"""Run a written file in its own framework, and decode its weights by a path of their own.

:func:`session` gives the :class:`Session` of an opened file. A file is loaded by its framework once, whatever is run
of it: stack by stack, by their names in the file, or a whole model from its inputs to its outputs.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, cast

import numpy as np

from lstmconv.errors import UsageError
from lstmconv.formats import Artifact
from lstmconv.formats.record import Record
from lstmconv.model import Array, Gates, Input, Layer, Stack

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "Decoded",
    "DecodedDirection",
    "DecodedLayer",
    "Inputs",
    "Loaded",
    "LoadedModel",
    "NotRunError",
    "Outputs",
    "Precision",
    "Session",
    "named_outputs",
    "session",
]

Outputs: TypeAlias = "Mapping[str, npt.NDArray[np.float64]]"
"""By name: ``y`` as the target returns it (``y_1`` the second output of ``merge_mode`` none), and the final states
``h0``, ``c0``, ``h1``, ... of every direction, layer by layer, each ``(batch, hidden)``."""


class NotRunError(Exception):
    """A file could not be run here; the text says why. The check is then reported as not run."""


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
    """The dtypes, by name, in which a framework computes; the noise of rounding follows from them.

    Attributes:
        arithmetic: The dtype of products, sums and activations.
        stored: The dtype of outputs and states, between layers and, on some devices, between steps.
        products: The dtype of ``W x`` and ``R h`` if each is stored before they are added; else ``None``.
    """

    arithmetic: str
    stored: str
    products: str | None = None


class Loaded(NamedTuple):
    """One stack of a written file, loaded by its framework.

    Attributes:
        framework: Names the framework and its version.
        precision: The dtypes in which it computes.
        compute: Runs the stack; may be called many times.
    """

    framework: str
    precision: Precision
    compute: Callable[[Inputs], Outputs]


class LoadedModel(NamedTuple):
    """A whole model, loaded by its framework.

    Attributes:
        framework: Names the framework and its version.
        precision: The dtypes in which it computes.
        inputs: In the file's order, each with the dtype that the framework takes.
        outputs: Their names, in the file's order.
        compute: Takes inputs and states by name, casts them, and returns all outputs by name; may be called many times.
        states: The inputs that are initial states of recurrent layers, which the Keras model does not have.
    """

    framework: str
    precision: Precision
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    compute: Callable[[Mapping[str, Array]], Mapping[str, Array]]
    states: tuple[Input, ...] = ()


DecodedLayer: TypeAlias = "Mapping[str, Array] | tuple[DecodedDirection, ...] | tuple[Mapping[str, Array], ...]"
"""A layer's arrays by their names, in the axes of :mod:`lstmconv.model.kinds`; an LSTM's directions; of a GRU or a
SimpleRNN each direction's ``weight_ih``, ``weight_hh``, ``bias_ih``, ``bias_hh``, in the axes of
:mod:`lstmconv.model.recurrent`, without the biases that the file has not."""


class Session(ABC):
    """One opened file, with what its own framework makes of it.

    Attributes:
        artifact: The file.
        ways: How many ways there are to run it: cuDNN's weight space runs in an interpreter, and on a GPU.
        bytes_a_weight: The memory that its framework takes for each weight of a large layer: at most four copies.
    """

    ways = 1
    bytes_a_weight = 16

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact

    @property
    def record(self) -> Record | None:
        """The record that lstmconv wrote into the file."""
        return self.artifact.record

    @abstractmethod
    def decode(self, names: Sequence[str], *, frameworks: bool = True) -> Decoded:
        """Return the named stacks' weights again, gates i f g o, without the writer's layouts.

        Slices and offsets are written out by hand from the target's own specification, on what the vendor's own reader
        returns where there is one.

        Args:
            names: Stacks.
            frameworks: Whether a framework that is heavy to load may be used.
        """

    @abstractmethod
    def load(self, name: str, way: int = 0) -> Loaded:
        """Load one stack.

        Raises:
            NotRunError: That cannot be done here.
        """

    def decode_model(self, layers: Sequence[Layer], *, frameworks: bool = True) -> Mapping[str, DecodedLayer]:
        """Return every layer's arrays of a whole file, by the layer's name; layers without arrays are left out.

        Args:
            layers: The expected layers; the numbers in them are not read.
            frameworks: As for :meth:`decode`.
        """
        return {}

    def load_model(self) -> LoadedModel:
        """Load a whole file.

        Raises:
            NotRunError: That cannot be done here.
        """
        raise NotRunError("whole models of this format are not run")

    def seen_by_target(self, stack: Stack) -> Stack:
        """Return the Keras layers whose outputs the file's must equal: by default the stack itself."""
        return stack

    def accepts(self, name: str) -> frozenset[str]:
        """Say which inputs a stack takes beside x: ``states``, ``lengths``; by default initial states."""
        return frozenset({"states"})


def session(artifact: Artifact) -> Session:
    """Return the session of an opened file; its framework loads when it is used.

    Raises:
        UsageError: Its format is only read.
    """
    if not artifact.format.is_written:
        raise UsageError(f"{artifact.path.name}: a {artifact.format.title} is read as a source: nothing here runs it")
    module = importlib.import_module(f"lstmconv.runtimes.{artifact.format.runtime}")
    return cast("type[Session]", module.RUNTIME)(artifact)


def named_outputs(
    outputs: Iterable[npt.ArrayLike], h: Iterable[npt.ArrayLike] = (), c: Iterable[npt.ArrayLike] = ()
) -> dict[str, npt.NDArray[np.float64]]:
    """Name what a stack returns, as :data:`Outputs` has it.

    Args:
        outputs: One sequence or last step; two where merge_mode is none.
        h: The final h of every direction, layer by layer, forward first, each ``(batch, hidden)``.
        c: The final c likewise.
    """
    named = {f"y_{index}" if index else "y": output for index, output in enumerate(outputs)}
    named |= {f"h{index}": state for index, state in enumerate(h)}
    named |= {f"c{index}": state for index, state in enumerate(c)}
    return {name: np.asarray(array, np.float64) for name, array in named.items()}
