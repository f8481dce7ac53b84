"""The graphs of a model: its main graph, the bodies of If, Loop and Scan, and functions where they are called.

Source: IR.md: a subgraph sees the names of the graphs around it, a function body only its own inputs;
graph.input may name an initializer, which then is that input's default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lstmconv.errors import UnreadableFileError, UnsupportedModelError
from lstmconv.formats.safety.limits import ONNX_CALLS

if TYPE_CHECKING:
    import onnx

__all__ = ["Place", "Scope", "captured", "main_scope", "walk"]

_DEPTH = 64
_NODES = 1_000_000
"""Functions that call each other twice expand without end; no exported model comes near a million nodes."""
_GRAPH, _GRAPHS = 5, 10  # AttributeProto.AttributeType


@dataclass(frozen=True, eq=False)
class Place:
    """A name in the scope that defines it."""

    scope: Scope
    name: str

    @property
    def key(self) -> tuple[int, str]:
        """What tells it from every other place of the model."""
        return id(self.scope), self.name


@dataclass
class Calls:
    """How many calls of functions and subgraphs of one model have been opened."""

    opened: int = 0

    def open(self, file: str) -> None:
        """Count one more.

        Raises:
            UnreadableFileError: There are more than any exported model has.
        """
        self.opened += 1
        if self.opened > ONNX_CALLS.value:
            raise UnreadableFileError(
                f"{file}: its functions expand to more than {ONNX_CALLS.value:,} calls; {ONNX_CALLS.way_out}"
            )


@dataclass(eq=False)
class Scope:
    """One graph, or one call of a function, with the names that it defines.

    Attributes:
        file: The model's name, for errors.
        nodes: In the file's order.
        outputs: The names it returns.
        inputs: The names it is given.
        tensors: Its initializers.
        sparse: The names of its sparse initializers.
        types: Declared types of its inputs and values, by name.
        opset: The version of ONNX' own operators.
        functions: The model's functions by domain and name.
        path: The names of the nodes around it.
        parent: The graph around a subgraph; a function has none.
        bindings: For a function: what its inputs are at the place of the call.
        attributes: For a function: its attributes at the place of the call.
        children: Its subgraphs and calls by node, made when they are asked for.
        calls: Counts them, for the whole model.
    """

    file: str
    nodes: list[onnx.NodeProto]
    outputs: list[str]
    inputs: list[str]
    opset: int
    functions: Mapping[tuple[str, str], onnx.FunctionProto]
    tensors: Mapping[str, onnx.TensorProto] = field(default_factory=dict)
    sparse: frozenset[str] = frozenset()
    types: Mapping[str, onnx.TypeProto] = field(default_factory=dict)
    path: tuple[str, ...] = ()
    parent: Scope | None = None
    bindings: Mapping[str, Place] = field(default_factory=dict)
    attributes: Mapping[str, onnx.AttributeProto] = field(default_factory=dict)
    children: dict[int, list[Scope]] = field(default_factory=dict)
    calls: Calls = field(default_factory=Calls)

    def __post_init__(self) -> None:
        """Find which node writes which name.

        Raises:
            UnreadableFileError: Two nodes write the same name, or a name is not UTF-8.
        """
        self.producers: dict[str, int] = {}
        for index, node in enumerate(self.nodes):
            # Protocol Buffers gives bytes in place of a string whose bytes are no UTF-8.
            if not all(isinstance(text, str) for text in (node.name, node.op_type, *node.input, *node.output)):
                raise UnreadableFileError(f"{self.file}: a node's name is not UTF-8; the file is damaged")
            for name in filter(None, node.output):
                if name in self.producers:
                    raise UnreadableFileError(f"{self.file}: two nodes write '{name}'; an ONNX graph writes it once")
                self.producers[name] = index

    def place(self, name: str) -> Place | None:
        """Return where a name is defined: here, or in a graph around this one; ``None`` for a loose name."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.tensors or name in scope.producers or name in scope.inputs or name in scope.sparse:
                return Place(scope, name)
            scope = scope.parent
        return None

    def attribute(self, node: onnx.NodeProto, name: str) -> onnx.AttributeProto | None:
        """Return a node's attribute; in a function one that refers to the function's own (ref_attr_name)."""
        for attribute in node.attribute:
            if attribute.name == name:
                return self.attributes.get(attribute.ref_attr_name) if attribute.ref_attr_name else attribute
        return None

    def function(self, node: onnx.NodeProto) -> onnx.FunctionProto | None:
        """Return the model's function that a node calls, or ``None`` for an operator."""
        return self.functions.get((node.domain, node.op_type))

    def within(self, index: int) -> list[Scope]:
        """Return the scopes inside a node: the called function's, or its subgraphs."""
        if index not in self.children:
            node = self.nodes[index]
            label = node.name or f"{node.op_type}_{index}"
            if len(self.path) >= _DEPTH:
                raise UnreadableFileError(f"{self.file}: graphs are nested more than {_DEPTH} deep")
            self.calls.open(self.file)
            function = self.function(node)
            if function is not None:
                self.children[index] = [self._call(node, function, label)]
            else:
                self.children[index] = [self._subgraph(graph, label) for graph in subgraphs(node)]
        return self.children[index]

    def _call(self, node: onnx.NodeProto, function: onnx.FunctionProto, label: str) -> Scope:
        places = [self.place(name) if name else None for name in node.input]
        given = {attribute.name: self.attribute(node, attribute.name) for attribute in node.attribute}
        defaults = {attribute.name: attribute for attribute in function.attribute_proto}
        return Scope(
            self.file,
            list(function.node),
            list(function.output),
            list(function.input),
            _opset(function.opset_import, self.opset),
            self.functions,
            path=(*self.path, label),
            bindings={name: place for name, place in zip(function.input, places, strict=False) if place is not None},
            attributes={**defaults, **{name: value for name, value in given.items() if value is not None}},
            calls=self.calls,
        )

    def _subgraph(self, graph: onnx.GraphProto, label: str) -> Scope:
        return _graph_scope(
            self.file,
            graph,
            self.opset,
            self.functions,
            path=(*self.path, label),
            parent=self,
            attributes=self.attributes,
            calls=self.calls,
        )


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the graphs among a node's attributes."""
    found: list[onnx.GraphProto] = []
    for attribute in node.attribute:
        if attribute.type == _GRAPH:
            found.append(attribute.g)
        elif attribute.type == _GRAPHS:
            found += attribute.graphs
    return found


def captured(node: onnx.NodeProto) -> set[str]:
    """Return the names that a node's subgraphs read, their own among them."""
    names: set[str] = set()
    waiting = subgraphs(node)
    while waiting:
        graph = waiting.pop()
        names |= {output.name for output in graph.output}
        for inner in graph.node:
            names |= set(inner.input)
            waiting += subgraphs(inner)
    return names


def main_scope(model: onnx.ModelProto, file: str) -> Scope:
    """Return a model's main graph."""
    functions = {(function.domain, function.name): function for function in model.functions}
    return _graph_scope(file, model.graph, _opset(model.opset_import, 1), functions)


def _opset(imports: Any, otherwise: int) -> int:
    """Return the version of ONNX' own operators; its domain is written "" or "ai.onnx"."""
    return next((int(entry.version) for entry in imports if entry.domain in ("", "ai.onnx")), otherwise)


def _graph_scope(
    file: str,
    graph: onnx.GraphProto,
    opset: int,
    functions: Mapping[tuple[str, str], onnx.FunctionProto],
    **around: Any,
) -> Scope:
    return Scope(
        file,
        list(graph.node),
        [output.name for output in graph.output],
        [entry.name for entry in graph.input],
        opset,
        functions,
        tensors={tensor.name: tensor for tensor in graph.initializer},
        sparse=frozenset(tensor.values.name for tensor in graph.sparse_initializer),
        types={entry.name: entry.type for entry in (*graph.value_info, *graph.input)},
        **around,
    )


def walk(scope: Scope, wanted: frozenset[str]) -> Iterator[tuple[Scope, int]]:
    """Yield every node whose operator is wanted, with its scope: this one, then those inside its nodes.

    Raises:
        UnreadableFileError: Functions call each other without end.
        UnsupportedModelError: The graph expands to more nodes than any exported model has.
    """
    holding = _holding(scope, wanted)
    waiting = [(scope, 0)]
    visited = 0
    while waiting:
        current, start = waiting.pop()
        for index in range(start, len(current.nodes)):
            node = current.nodes[index]
            visited += 1
            if visited > _NODES:
                raise UnsupportedModelError(f"{scope.file}: its functions expand to more than {_NODES} nodes")
            function = current.function(node)
            if function is None and node.op_type in wanted:
                yield current, index
            inner = (function is not None and (function.domain, function.name) in holding) or (
                function is None and bool(subgraphs(node))
            )
            if inner:
                waiting.append((current, index + 1))
                waiting += [(child, 0) for child in reversed(current.within(index))]
                break


def _holding(scope: Scope, wanted: frozenset[str]) -> set[tuple[str, str]]:
    """Return the functions that hold a wanted node, themselves or through the functions that they call."""
    uses = {key: _uses(function.node) for key, function in scope.functions.items()}
    holding = {key for key, used in uses.items() if any(name in wanted for _, name in used - uses.keys())}
    grown = True
    while grown:
        more = {key for key, used in uses.items() if used & holding} - holding
        holding |= more
        grown = bool(more)
    return holding


def _uses(nodes: Any) -> set[tuple[str, str]]:
    used: set[tuple[str, str]] = set()
    waiting = [nodes]
    while waiting:
        for node in waiting.pop():
            used.add((node.domain, node.op_type))
            waiting += [graph.node for graph in subgraphs(node)]
    return used
