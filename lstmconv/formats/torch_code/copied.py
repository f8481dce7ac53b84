"""Copy definitions from :mod:`lstmconv.torch.definitions`: those that a text uses, and those that they use.

The files of that package are read as text and never imported, because they import torch.
"""

from __future__ import annotations

import ast
from functools import cache
from importlib import resources
from typing import NamedTuple

__all__ = ["IMPORTS", "defined", "definitions", "imports", "names_in"]

IMPORTS = {
    "json": "import json",
    "math": "import math",
    "Callable": "from collections.abc import Callable",
    "Sequence": "from collections.abc import Sequence",
    "partial": "from functools import partial",
    "Path": "from pathlib import Path",
    "Any": "from typing import Any",
    "torch": "import torch",
    "Tensor": "from torch import Tensor",
    "nn": "from torch import nn",
    "F": "from torch.nn import functional as F",
}
"""The import statement for each name, in the order in which a formatter sorts imports."""
_FILES = ("functions.py", "normalizing.py", "attention.py", "recurrent.py")
"""The files, in the order in which their definitions are written."""
_OWN = frozenset({"torch", "Tensor", "nn", "F"})
"""The names that do not come from the standard library; their imports form a separate block."""


class _Definition(NamedTuple):
    text: str
    names: frozenset[str]


@cache
def _all() -> dict[str, _Definition]:
    found = {}
    for name in _FILES:
        text = resources.files("lstmconv").joinpath("torch", "definitions", name).read_text("utf-8")
        lines = text.splitlines()
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                own = "\n".join(lines[node.lineno - 1 : node.end_lineno])
                found[node.name] = _Definition(own, names_in(node))
    return found


def defined() -> frozenset[str]:
    """Return the names of all definitions."""
    return frozenset(_all())


def names_in(tree: ast.AST) -> frozenset[str]:
    """Return all names that a syntax tree reads or binds."""
    return frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))


def definitions(used: frozenset[str]) -> list[str]:
    """Return the definitions of these names and of the names that they use, in an order that Python can run."""
    known = _all()
    wanted: set[str] = set()
    waiting = [name for name in known if name in used]
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += [inner for inner in known[name].names if inner in known]
    return [known[name].text for name in known if name in wanted]


def imports(text: str) -> str:
    """Return the import statements that a text needs, sorted as a formatter sorts them."""
    used = names_in(ast.parse(text))
    blocks: list[list[str]] = [[], []]
    for name, line in IMPORTS.items():
        if name not in used:
            continue
        block = blocks[name in _OWN]
        origin, _, what = line.partition(" import ")
        if block and what and block[-1].startswith(f"{origin} import "):
            block[-1] += f", {what}"
        else:
            block.append(line)
    return "\n\n".join("\n".join(block) for block in blocks if block)
