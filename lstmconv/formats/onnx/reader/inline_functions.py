"""Replace the calls of a model's own functions by the functions' nodes, if they stay of a bounded size.

Source: IR.md, Functions: a function's body sees only its own inputs and attributes; a function may call others, but
never itself. ``onnx.inliner`` does the work; it renames nodes and values whose names collide: ``name__1``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from lstmconv._optional import require
from lstmconv.errors import UnreadableFileError, UnsupportedModelError, in_one_line
from lstmconv.formats.onnx.reader.message_count import MESSAGE_BYTES, count_messages
from lstmconv.formats.onnx.reader.scopes import nodes_within
from lstmconv.formats.safety.limits import ONNX_EXPANSION

if TYPE_CHECKING:
    import onnx

__all__ = ["without_functions"]

_DEPTH = 64
_Key: TypeAlias = "tuple[str, str, str]"


def without_functions(model: onnx.ModelProto, file: str, wanted: frozenset[str]) -> onnx.ModelProto:
    """Return the model with the nodes of its functions in place of the calls.

    ``onnx.inliner`` leaves a function in another version of ONNX' operators than the model's; the results of such a
    function are not known.

    Args:
        model: It is not changed.
        file: Its name, for errors.
        wanted: The operators that the caller looks for.

    Raises:
        UnreadableFileError: The functions expand without end, or do not fit their calls.
        UnsupportedModelError: A function that cannot be replaced holds a wanted operator, or has an operator's name.
    """
    if not model.functions:
        return model
    _Expansion(model, file).refuse_endless()
    try:
        inlined: onnx.ModelProto = require("onnx.inliner", "Reading ONNX files").inline_local_functions(model)
    except Exception as error:  # The C++ library throws RuntimeError and ValidationError, protobuf its own errors.
        raise UnreadableFileError(
            f"its functions do not fit their calls ({in_one_line(error)}); export it again", about=file
        ) from error
    for function in inlined.functions:
        if function.domain in ("", "ai.onnx") or any(node.op_type in wanted for node in nodes_within(function.node)):
            raise UnsupportedModelError(
                f"its function '{function.name}' is written in another version of ONNX' operators than the "
                "model; export the model without functions",
                about=file,
            )
    names = {node.name for function in model.functions for node in nodes_within(function.node)}
    for node in nodes_within(inlined.graph.node):
        name, _, number = node.name.rpartition("__")
        if number.isdigit() and name in names:
            node.name = name
    return inlined


@dataclass
class _Expansion:
    """How much memory a model's functions take once they stand where they are called."""

    model: onnx.ModelProto
    file: str
    sizes: dict[_Key, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.functions = {(one.domain, one.name, one.overload): one for one in self.model.functions}

    def refuse_endless(self) -> None:
        """Raise :class:`UnreadableFileError` if they take more than any exporter's."""
        most = ONNX_EXPANSION.value
        if self._of_calls(self.model.graph.node, 0) > most * MESSAGE_BYTES:
            raise UnreadableFileError(
                f"its functions expand to more than {most:,} nodes, tensors and attributes; {ONNX_EXPANSION.way_out}",
                about=self.file,
            )

    def _of_calls(self, nodes: Any, depth: int) -> int:
        keys = ((node.domain, node.op_type, node.overload) for node in nodes_within(nodes))
        return sum(self._of_function(key, depth + 1) for key in keys if key in self.functions)

    def _of_function(self, key: _Key, depth: int) -> int:
        if depth > _DEPTH:
            raise UnreadableFileError(f"its functions are nested more than {_DEPTH} deep", about=self.file)
        if key not in self.sizes:
            function = self.functions[key]
            stored = function.SerializeToString()
            messages = count_messages(stored, function.DESCRIPTOR, self.file)
            self.sizes[key] = len(stored) + messages * MESSAGE_BYTES + self._of_calls(function.node, depth)
        return self.sizes[key]
