"""The graphs of a model: its main graph, and the bodies of If, Loop and Scan.

Source: IR.md: a subgraph sees the names of the graphs around it; graph.input may name an initializer, which then is
that input's default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lstmconv.errors import UnreadableFileError

if TYPE_CHECKING:
    import onnx

__all__ = ["Place", "Scope", "attribute", "captured", "main_scope", "nodes_within", "walk"]


@dataclass(frozen=True, eq=False)
class Place:
    """A name in the scope that defines it."""

    scope: Scope
    name: str

    @property
    def key(self) -> tuple[int, str]:
        """A key that no other place of the model has."""
        return id(self.scope), self.name


@dataclass(eq=False)
class Scope:
    """One graph with the names that it defines.

    Attributes:
        file: The model's name, for errors.
        graph: The graph.
        opset: The version of ONNX' own operators.
        path: The names of the nodes around it.
        parent: The graph around a subgraph.
        children: Its subgraphs by node, made when they are asked for.
        nodes: In the file's order.
        outputs: The names it returns.
        inputs: The names it is given.
        tensors: Its initializers.
        sparse: The names of its sparse initializers.
        types: Declared types of its inputs and values, by name.
        producers: Which node writes which name.
    """

    file: str
    graph: onnx.GraphProto
    opset: int
    path: tuple[str, ...] = ()
    parent: Scope | None = None
    children: dict[int, list[Scope]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Look up the graph's names.

        Raises:
            UnreadableFileError: Two nodes write the same name, or a name is not UTF-8.
        """
        graph = self.graph
        self.nodes: list[onnx.NodeProto] = list(graph.node)
        self.outputs = [output.name for output in graph.output]
        self.inputs = [entry.name for entry in graph.input]
        self.tensors: Mapping[str, onnx.TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self.sparse = frozenset(tensor.values.name for tensor in graph.sparse_initializer)
        self.types = {entry.name: entry.type for entry in (*graph.value_info, *graph.input)}
        self.producers: dict[str, int] = {}
        for index, node in enumerate(self.nodes):
            # Protocol Buffers gives bytes in place of a string whose bytes are no UTF-8.
            if not all(isinstance(text, str) for text in (node.name, node.op_type, *node.input, *node.output)):
                raise UnreadableFileError("a node's name is not UTF-8; the file is damaged", about=self.file)
            for name in filter(None, node.output):
                if name in self.producers:
                    raise UnreadableFileError(
                        f"two nodes write '{name}'; an ONNX graph writes it once", about=self.file
                    )
                self.producers[name] = index

    def place(self, name: str) -> Place | None:
        """Return where a name is defined: here, or in a graph around this one; ``None`` for a loose name."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.tensors or name in scope.producers or name in scope.inputs or name in scope.sparse:
                return Place(scope, name)
            scope = scope.parent
        return None

    def within(self, index: int) -> list[Scope]:
        """Return the scopes of a node's subgraphs."""
        if index not in self.children:
            node = self.nodes[index]
            path = (*self.path, node.name or f"{node.op_type}_{index}")
            self.children[index] = [Scope(self.file, graph, self.opset, path, self) for graph in _subgraphs(node)]
        return self.children[index]


def attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto | None:
    """Return a node's attribute."""
    return next((entry for entry in node.attribute if entry.name == name), None)


def _subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the graphs among a node's attributes."""
    found: list[onnx.GraphProto] = []
    for entry in node.attribute:
        found += [entry.g] if entry.HasField("g") else entry.graphs
    return found


def nodes_within(nodes: Any) -> Iterator[onnx.NodeProto]:
    """Yield nodes, and those of the subgraphs inside them."""
    waiting = [nodes]
    while waiting:
        for node in waiting.pop():
            yield node
            waiting += [graph.node for graph in _subgraphs(node)]


def captured(node: onnx.NodeProto) -> set[str]:
    """Return the names that a node's subgraphs read, their own among them."""
    graphs = [graph for inner in nodes_within([node]) for graph in _subgraphs(inner)]
    read = {name for graph in graphs for inner in graph.node for name in inner.input}
    return read | {output.name for graph in graphs for output in graph.output}


def main_scope(model: onnx.ModelProto, file: str) -> Scope:
    """Return a model's main graph; ONNX' own domain is written "" or "ai.onnx"."""
    versions = (int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return Scope(file, model.graph, next(versions, 1))


def walk(scope: Scope, wanted: frozenset[str]) -> Iterator[tuple[Scope, int]]:
    """Yield every node whose operator is wanted, with its scope: in this graph, and in those inside its nodes."""
    for index, node in enumerate(scope.nodes):
        if node.op_type in wanted:
            yield scope, index
        for inner in scope.within(index):
            yield from walk(inner, wanted)
