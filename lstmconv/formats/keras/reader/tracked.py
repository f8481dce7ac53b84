"""The objects that TensorFlow tracks and saves: layers, and the variables that are their attributes.

Source: tensorflow/python/trackable: every attribute of a layer that is a layer, a list of layers or a variable becomes
a child with the attribute's name; keras/engine/functional.py ``_layer_checkpoint_dependencies`` (2.2 to 2.15,
network.py before) names the layers of a model ``layer-N`` and, a second time, ``layer_with_weights-N``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.hdf5.tree import StoredArray

__all__ = ["Tracked", "arrays_below", "by_full_names"]

_NO_WEIGHTS = {"states", "_random_generator", "_generator"}
"""Children whose variables are no weights: the states of a stateful layer, and the seeds of random numbers."""
_MOST_LEVELS = 64


@dataclass(frozen=True, eq=False)
class Tracked:
    """One object. Objects may refer to each other in a circle: compare with ``is``, and skip objects already seen.

    Attributes:
        path: The shortest path from the root: ``layer_with_weights-0/cell``.
        children: The children by name, without TensorFlow's internal ones.
        array: The numbers, if the object is a variable.
        full_name: The variable's name in the graph: ``low/lstm_cell/kernel``.
    """

    path: str
    children: Mapping[str, Tracked]
    array: StoredArray | None = None
    full_name: str = ""

    def find(self, path: str) -> Tracked | None:
        """Return the object at a relative path such as ``forward_layer/cell``, or ``None``."""
        found: Tracked | None = self
        for part in filter(None, path.split("/")):
            found = None if found is None else found.children.get(part)
        return found

    def walk(self) -> Iterator[Tracked]:
        """Yield every object once, this one first, and each object after one of its parents."""
        seen = {id(self)}
        waiting = [self]
        for found in waiting:
            yield found
            for child in found.children.values():
                if id(child) not in seen:
                    seen.add(id(child))
                    waiting.append(child)


def arrays_below(owner: Tracked) -> dict[str, StoredArray]:
    """Return all weights of an object and of the objects inside it, each once, by their paths below the object."""
    found: dict[str, StoredArray] = {}
    seen = {id(owner)}
    level = [("", owner)]
    for _ in range(_MOST_LEVELS):
        below = []
        for path, each in level:
            for key, child in each.children.items():
                if id(child) in seen or key in _NO_WEIGHTS:
                    continue
                seen.add(id(child))
                here = f"{path}/{key}".lstrip("/")
                if child.array is not None:
                    found[here] = child.array
                below.append((here, child))
        level = below
    return found


def by_full_names(owner: Tracked, file: str) -> dict[str, StoredArray]:
    """Return all weights of an object and of the objects inside it, by their names in the graph.

    Args:
        owner: The object.
        file: The file's name, for errors.

    Raises:
        UnsupportedModelError: Two variables have the same name, so the name does not identify their layers.
    """
    found: dict[str, StoredArray] = {}
    for each in owner.walk():
        if each.array is None or not each.full_name:
            continue
        if each.full_name in found:
            raise UnsupportedModelError(
                f"two of its variables are called '{each.full_name}', which does not tell their layers apart; save the "
                "Keras model itself: model.save('model.keras')",
                about=file,
            )
        found[each.full_name] = each.array
    return found
