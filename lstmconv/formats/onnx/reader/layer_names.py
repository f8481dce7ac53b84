"""What the layers of a foreign graph are called: after their nodes, as short as the exporters allow."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Sequence

from lstmconv.formats.onnx.reader.scopes import Scope

__all__ = ["layer_name", "unique"]

_LONGEST = 200
_SCOPES = "pkg.torch.onnx.name_scopes"
"""torch.onnx's exporter since 2.5 notes a node's module path here, as a Python list of names, the operation last."""


def layer_name(scope: Scope, index: int) -> str:
    """Return a name for a recurrent node; empty if nothing in the graph names it.

    A torch module's path where the exporter tells it (``/rnn/LSTM`` and ``['', 'rnn', 'lstm']`` are both
    ``rnn``), else the node's name, else that of its weights or its output.
    """
    node = scope.nodes[index]
    module = next((_module(entry.value) for entry in getattr(node, "metadata_props", ()) if entry.key == _SCOPES), "")
    candidates = [module, _node_name(node.name, node.op_type), *node.input[1:2], *node.output[:1]]
    found = next((clean for name in candidates if (clean := _clean(name))), "")
    around = [clean for name in scope.path if (clean := _clean(name))]
    return "/".join([*around, found])[-_LONGEST:].lstrip("/") if found else ""


def _module(noted: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's, of what is odd in the text.
            path = ast.literal_eval(noted[:_LONGEST]) if noted.startswith("[") else []
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # TypeError: bytes that are not UTF-8.
        return ""
    return ".".join(part for part in path[:-1] if isinstance(part, str) and part)


def _node_name(name: str, operator: str) -> str:
    """Drop what exporters put around a module's name: ``/rnn/LSTM``, ``/rnn/LSTM_1``, ``node_LSTM_115``."""
    name = name.removeprefix("/")
    module = re.fullmatch(rf"(.+)/{operator}(?:_\d+)?", name)
    return module[1] if module else re.sub(rf"^node_({operator}_\d+)$", r"\1", name)


def _clean(name: str) -> str:
    return "".join(character for character in name if character.isprintable()).strip().strip("/")


def unique(names: Sequence[str]) -> list[str]:
    """Return the names with ``_1``, ``_2`` behind those that are there before; ``lstm_0`` for empty ones.

    >>> unique(["rnn", "rnn", "", "rnn_1"])
    ['rnn', 'rnn_1', 'lstm_2', 'rnn_1_1']
    """
    taken: set[str] = set()
    found: list[str] = []
    for index, name in enumerate(names):
        base = name or f"lstm_{index}"
        made, count = base, 0
        while made in taken:
            count += 1
            made = f"{base}_{count}"
        taken.add(made)
        found.append(made)
    return found
