"""Whose class an object in a Keras config is: Keras' own, or one that only has the name of one of Keras' own.

Sources: keras/src/saving/serialization_lib.py and object_registration.py (3.15), tf_keras/src/saving (2.21).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["package_of"]

_PACKAGES = {"keras", "tf_keras", "tensorflow", "builtins"}
"""What the modules of Keras' own classes begin with."""


def package_of(config: Mapping[str, Any]) -> tuple[str | None, str]:
    """Tell whose class it is, by ``registered_name`` and ``module``; a legacy file writes ``my>LSTM`` as the class.

    Args:
        config: The serialised object, with its ``class_name``.

    Returns:
        The package, ``None`` for Keras' own and empty where it is not stated; and the class without it.
    """
    class_name, module, registered = str(config["class_name"]), config.get("module"), config.get("registered_name")
    for name in (registered, class_name):
        if isinstance(name, str) and ">" in name:
            package, _, bare = name.rpartition(">")
            return package, bare if name == class_name else class_name
    if isinstance(module, str) and module.split(".")[0] not in _PACKAGES:
        return module, class_name
    if "module" in config and module is None and isinstance(registered, str):
        return "", class_name
    return None, class_name
