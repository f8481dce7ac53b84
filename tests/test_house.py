"""The house rules: lint, format, types and the direction of imports hold."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from lstmconv.explaining.layout_names import LAYOUT_NAMES
from lstmconv.formats import FORMATS
from lstmconv.layouts import LAYOUTS

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["lint-imports", "--no-cache"],
    ],
    ids=["lint", "format", "types", "imports"],
)
def test_house_rules_hold(command: list[str]) -> None:
    """Each tool finds nothing to say."""
    tool = Path(sys.executable).parent / command[0]
    done = subprocess.run([tool, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


FORMAT_ROOMS = ("formats", "runtimes", "torch", "layouts")
"""What a format is, how it is stored, and what runs it; everything else works with any format."""
NAMES = {name for entry in FORMATS for name in (entry.name, entry.title, entry.module, *entry.suffixes)}
NAMES |= {*LAYOUT_NAMES, *(row.name for row in LAYOUTS)}
PACKAGES = ["lstmconv/__init__.py", "lstmconv/_optional.py"]
"""Here ``torch`` is a module, and a library."""


def decided_by_name(node: ast.AST) -> bool:
    """Whether a comparison, a key or a text method depends on the name or the suffix of a format."""
    if isinstance(node, ast.Compare):
        parts: list[ast.AST] = [node.left, *node.comparators]
    elif isinstance(node, ast.Dict):
        parts = [key for key in node.keys if key is not None]
    elif isinstance(node, ast.Subscript):
        parts = [node.slice]
    elif isinstance(node, ast.MatchValue):
        parts = [node.value]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        parts = list(node.args) if node.func.attr in ("startswith", "endswith", "get", "by_name") else []
    else:
        return False
    parts += [item for part in parts if isinstance(part, ast.Tuple | ast.Set | ast.List) for item in part.elts]
    return any(isinstance(part, ast.Constant) and part.value in NAMES for part in parts)


def test_nothing_outside_its_room_is_decided_by_a_format_s_name() -> None:
    """A new format is a row and a folder: what is true of it alone is an attribute of its row."""
    found = []
    for file in sorted((ROOT / "lstmconv").rglob("*.py")):
        place = file.relative_to(ROOT)
        if place.parts[1] in FORMAT_ROOMS or place.as_posix() in PACKAGES:
            continue
        decisions = filter(decided_by_name, ast.walk(ast.parse(file.read_text())))
        found += [f"{place}: {ast.unparse(node)}" for node in decisions]
    assert not found, "\n".join(found)
