"""What changed in a whole model's file since lstmconv wrote it: its graph beside the one that is written now.

A run compares what its inputs reach. An attribute that bounds numbers which no input comes near, or a node that cuts
them there, shows only in the graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.onnx.reader.parse_lazily import OWN
from lstmconv.formats.onnx.reader.tensors import Tensors
from lstmconv.listing import listed

if TYPE_CHECKING:
    import onnx

__all__ = ["alteration_of"]

_LONGEST = 160


def alteration_of(
    written: onnx.ModelProto, weights: Mapping[str, object], found: onnx.ModelProto, file: MappedFile
) -> str | None:
    """Say in what a file's model is not the one that is written, first difference first, or ``None``.

    Nodes are compared in order, with their inputs, outputs and attributes; inputs, outputs and initializers by name.
    Names of nodes, declared shapes and documentation compute nothing, and are left out.

    Args:
        written: The model as lstmconv writes it.
        weights: The initializers of it whose numbers are not in it; their numbers are compared elsewhere.
        found: The file's own.
        file: The file.
    """
    return next(_differences(written, weights, found, file), None)


def _differences(
    written: onnx.ModelProto, weights: Mapping[str, object], found: onnx.ModelProto, file: MappedFile
) -> Iterator[str]:
    opsets = [{entry.domain: entry.version for entry in model.opset_import} for model in (written, found)]
    if opsets[0] != opsets[1]:
        yield f"its operator sets are {opsets[1]}, expected {opsets[0]}"
    if found.functions or found.graph.sparse_initializer:
        yield "it has functions or sparse initializers, expected none"
    for what in ("input", "output"):
        yield from _values(what, getattr(written.graph, what), getattr(found.graph, what))
    yield from _nodes(written.graph.node, found.graph.node)
    yield from _initializers(written.graph.initializer, weights, found.graph.initializer, file)


def _values(what: str, written: Sequence[Any], found: Sequence[Any]) -> Iterator[str]:
    for wanted, own in zip_longest(written, found):
        if wanted is None or own is None:
            own_names, names = (", ".join(each.name for each in values) for values in (found, written))
            yield f"its {what}s are {own_names}, expected {names}"
            return
        if (wanted.name, _bytes(wanted.type)) != (own.name, _bytes(own.type)):
            yield f"its {what} {own.name} is not {wanted.name} of the type and the sizes that it is written with"


def _nodes(written: Sequence[onnx.NodeProto], found: Sequence[onnx.NodeProto]) -> Iterator[str]:
    for wanted, own in zip_longest(written, found):
        if wanted is None or own is None:
            what = f"has one more node, {_shown(own)}" if wanted is None else f"lacks the node {_shown(wanted)}"
            yield f"it {what}"
            return
        for field in ("op_type", "domain", "input", "output"):
            if list(getattr(wanted, field)) != list(getattr(own, field)):
                yield f"it has {_shown(own)} where {_shown(wanted)} is written"
                return
        attributes = [{each.name: each for each in node.attribute} for node in (wanted, own)]
        for name in sorted({*attributes[0], *attributes[1]}):
            one, other = (entries.get(name) for entries in attributes)
            if one is None or other is None or _bytes(one) != _bytes(other):
                yield f"{name} of {_shown(own)} is {_value(other)}, expected {_value(one)}"


def _initializers(
    written: Sequence[onnx.TensorProto],
    weights: Mapping[str, object],
    found: Sequence[onnx.TensorProto],
    file: MappedFile,
) -> Iterator[str]:
    own = {entry.name: entry for entry in found}
    wanted = {entry.name: entry for entry in written}
    odd = sorted(own.keys() ^ wanted.keys())
    if odd or len(own) != len(found):
        yield f"its initializers are others than are written: {listed(odd, 3) or 'one stands twice'}"
        return
    tensors = Tensors(file.name, file.path.parent, {OWN: file})
    for name, entry in wanted.items():
        if (entry.data_type, list(entry.dims)) != (own[name].data_type, list(own[name].dims)):
            yield f"{name} is {list(own[name].dims)}, expected {list(entry.dims)}, or of another type"
        elif name not in weights and tensors.array(own[name]).tobytes() != tensors.array(entry).tobytes():
            yield f"the constant {name} has other numbers than are written"


def _shown(node: onnx.NodeProto) -> str:
    return f"{node.op_type}({', '.join(node.input)}) -> {', '.join(node.output)}"[:_LONGEST]


def _value(attribute: onnx.AttributeProto | None) -> str:
    if attribute is None:
        return "missing"
    import onnx

    value = onnx.helper.get_attribute_value(attribute)
    return f"another {type(value).__name__}" if hasattr(value, "SerializeToString") else repr(value)[:_LONGEST]


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString(deterministic=True))
