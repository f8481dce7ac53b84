"""The optional libraries, and the pip command that installs each."""

from __future__ import annotations

import importlib
from types import ModuleType

from lstmconv.errors import MissingDependencyError

__all__ = ["require"]

_PACKAGES = {"keras": "keras torch", "jinja2": "jinja2 matplotlib", "matplotlib": "jinja2 matplotlib"}
"""What pip installs for a library that needs another one; any other is a package of its own name."""


def require(module: str, purpose: str) -> ModuleType:
    """Import an optional library, or name the pip command that installs it.

    Args:
        module: The library's import name.
        purpose: What needs the library, as the subject of a sentence: ``"Running a .pt file"``.

    Raises:
        MissingDependencyError: The library is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.split(".")[0]
        message = f"{purpose} needs {name}. Install it with: pip install {_PACKAGES.get(name, name)}"
        raise MissingDependencyError(message) from error
