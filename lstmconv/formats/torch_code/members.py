"""The modules of a model by their paths: attributes, and a class for every path to further modules."""

from __future__ import annotations

from collections.abc import Iterator

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.torch_code.copied import IMPORTS, defined
from lstmconv.formats.torch_code.lines import statement
from lstmconv.formats.torch_code.naming import class_name

__all__ = ["Members"]


class Members:
    """The modules of a model, each with its constructor, in the order in which they are called."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, ...], str] = {}

    def add(self, path: tuple[str, ...], constructor: str) -> None:
        """Add a module.

        Raises:
            UnsupportedModelError: Another module has the same path, or is inside this one, or contains it.
        """
        for other in self._made:
            shorter = min(len(other), len(path))
            if other[:shorter] == path[:shorter]:
                a, b = ("/".join(one) for one in sorted((other, path), key=len))
                raise UnsupportedModelError(f"'{b}' lies inside '{a}', and both have weights; rename one with --rename")
        self._made[path] = constructor

    def _holders(self) -> dict[tuple[str, ...], str]:
        """Return the class for every path to further modules, the innermost first."""
        holders: dict[tuple[str, ...], str] = {}
        for path in self._made:
            for length in range(1, len(path)):
                holder = path[:length]
                if holder not in holders:
                    holders[holder] = class_name(holder, {"Model", *IMPORTS, *defined(), *holders.values()})
        return dict(sorted(holders.items(), key=lambda item: -len(item[0])))

    def _inside(self, above: tuple[str, ...]) -> Iterator[str]:
        """Yield the statements that create the attributes of one class."""
        holders, seen = self._holders(), set()
        for path, constructor in self._made.items():
            if path[: len(above)] != above or path[len(above)] in seen:
                continue
            name = path[len(above)]
            seen.add(name)
            inner = (*above, name)
            yield f"self.{name} = {f'{holders[inner]}()' if inner in holders else constructor}"

    def names(self) -> set[str]:
        """Return the names of the model's own attributes."""
        return {path[0] for path in self._made}

    def constructors(self) -> list[str]:
        """Return the statements that create the model's own attributes."""
        return list(self._inside(()))

    def classes(self) -> Iterator[str]:
        """Yield the classes that contain the layers of nested models."""
        for path, name in self._holders().items():
            lines = [f"class {name}(nn.Module):", f'    """The layers of {".".join(path)[:60]}."""', ""]
            lines += ["    def __init__(self) -> None:", "        super().__init__()"]
            lines += [line for made in self._inside(path) for line in statement(made, 8)]
            yield "\n".join(lines)
