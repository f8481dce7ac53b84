"""The optional libraries, and the pip command that installs each."""

from __future__ import annotations

import importlib
from types import ModuleType

from lstmconv.errors import MissingDependencyError

__all__ = ["require"]

_EXTRAS = {
    "torch": "torch",
    "onnxruntime": "verify",
    "keras": "keras",
    "jinja2": "report",
    "matplotlib": "report",
    "distributed": "dask",
}


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
        extra = _EXTRAS.get(module.split(".")[0])
        package = f"'lstmconv[{extra}]'" if extra else module
        message = f"{purpose} needs {module}. Install it with: pip install {package}"
        raise MissingDependencyError(message) from error
