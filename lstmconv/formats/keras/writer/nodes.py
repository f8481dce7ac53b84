"""A Functional model about to be written: its layers with their options and variables, and their calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from lstmconv.formats.keras.writer.dialect import Dialect
from lstmconv.model import Array, Shape

__all__ = [
    "LAYERS",
    "OPERATIONS",
    "Graph",
    "Inbound",
    "Node",
    "Part",
    "Ref",
    "Value",
    "Variable",
    "input_part",
    "refs_in",
]

LAYERS = "keras.layers"
OPERATIONS = "keras.src.ops"
"""What the modules of Keras 3's operations begin with: they are no layers, and have no variables."""


FUNCTION_LAYERS = ("TFOpLambda", "SlicingOpLambda")
"""Layers of Keras 2 that compute one function of TensorFlow: any, and an index into a tensor."""


class Ref(NamedTuple):
    """One output of one call of a layer."""

    node: str
    call: int = 0
    tensor: int = 0


Value: TypeAlias = "Ref | Array"
"""A tensor of the model, or a constant."""


class Variable(NamedTuple):
    """One variable of a layer.

    Attributes:
        owner: The object inside the layer that owns it: ``""``, ``cell``, ``forward_layer/cell``.
        scope: What stands between the layer's name and the variable's in a legacy file: ``lstm_cell``.
        name: Keras' own: ``kernel``.
        make: Returns the array as Keras stores it.
        trainable: Legacy files hold trainable variables first.
    """

    owner: str
    scope: str
    name: str
    make: Callable[[], Array]
    trainable: bool = True


class Part(NamedTuple):
    """What a layer becomes in Keras.

    Attributes:
        class_name: Keras' class.
        options: Its config without its name, and without its dtype where that is the model's.
        variables: In Keras' order.
        module: Where the class is.
        shape_matters: Keras 3 is told the input's shape, which it may not infer itself.
        inner: The names of the objects inside, by their paths; empty for one without a name beside its variables.
    """

    class_name: str
    options: Mapping[str, Any]
    variables: tuple[Variable, ...] = ()
    module: str = LAYERS
    shape_matters: bool = False
    inner: Mapping[str, str] = {}

    @property
    def is_function(self) -> bool:
        """Whether it is a layer of Keras 2 that computes one function of TensorFlow."""
        return self.class_name in FUNCTION_LAYERS


@dataclass(eq=False)
class Inbound:
    """One call: what it takes by position and by name; lists and constants as they stand in the config."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def refs(self) -> list[Ref]:
        """The tensors, as Keras flattens them: arguments first, then keywords in the order of their names."""
        return [*refs_in(self.args), *(ref for key in sorted(self.kwargs) for ref in refs_in(self.kwargs[key]))]


@dataclass(eq=False)
class Node:
    """One layer, or one operation of Keras 3, with all its calls.

    Attributes:
        build_shape: The shape of its first input, where ``part.shape_matters``.
    """

    name: str
    part: Part
    calls: list[Inbound] = field(default_factory=list)
    build_shape: Shape | None = None

    @property
    def is_operation(self) -> bool:
        """Whether Keras 3 counts it among no model's layers."""
        return self.part.module.startswith(OPERATIONS)


@dataclass(eq=False)
class Graph:
    """A Functional model.

    Attributes:
        nodes: By name, InputLayers among them, in the order in which Keras lists them.
        inputs: The InputLayers.
        outputs: What the model returns.
        specs: The shape and the dtype of every tensor.
        dtype: The dtype of the layers that do not state their own.
    """

    name: str
    nodes: dict[str, Node]
    inputs: tuple[str, ...]
    outputs: tuple[Ref, ...]
    specs: Mapping[Ref, tuple[Shape, str]]
    dtype: str


def input_part(shape: Shape, dtype: str, dialect: Dialect) -> Part:
    """Return an InputLayer."""
    options: dict[str, Any] = {dialect.input_shape: list(shape), "dtype": dtype, "sparse": False}
    return Part("InputLayer", options | ({"ragged": False} if dialect.major == 2 else {}))


def refs_in(value: Any) -> Iterator[Ref]:
    """Yield the tensors in an argument, at any depth."""
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from refs_in(inner)
