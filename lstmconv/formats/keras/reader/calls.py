"""Collect the calls of a model while its config is read: unique names, a limit, no mask that nothing reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lstmconv.errors import UnreadableFileError
from lstmconv.formats.safety.limits import MODEL_CALLS
from lstmconv.model import Call, Layer, Tensor

__all__ = ["Calls"]


class Calls:
    """The calls of one model, in the order in which they are added."""

    def __init__(self) -> None:
        self.made: list[Call] = []
        self.names: set[str] = set()
        self._helpers: set[str] = set()

    def unique(self, name: str) -> str:
        """Return a name that no other call has: ``name``, else ``name:1``, ``name:2``."""
        unique, count = name, 0
        while unique in self.names:
            count += 1
            unique = f"{name}:{count}"
        self.names.add(unique)
        return unique

    def add(
        self,
        name: str,
        layer: Layer,
        inputs: Sequence[Tensor],
        states: Sequence[Tensor] = (),
        masks: Sequence[Tensor | None] = (),
    ) -> str:
        """Add a call and return its name.

        Raises:
            UnreadableFileError: The model has more calls than the limit allows.
        """
        if len(self.made) >= MODEL_CALLS.value:
            raise UnreadableFileError(
                f"more than {MODEL_CALLS.value:,} calls of layers; {MODEL_CALLS.way_out}", about="the model config"
            )
        name = self.unique(name)
        self.made.append(Call(name, layer, tuple(inputs), tuple(states), tuple(masks)))
        return name

    def helper(self, name: str, make: Callable[[str], Layer], inputs: Sequence[Tensor]) -> Tensor:
        """Add a call that computes a mask; :meth:`needed` leaves it out if nothing reads it."""
        own = name
        count = 0
        while own in self.names:
            count += 1
            own = f"{name}_{count}"
        own = self.add(own, make(own), inputs)
        self._helpers.add(own)
        return Tensor(own)

    def needed(self, outputs: Sequence[Tensor]) -> tuple[Call, ...]:
        """Return the calls without the helpers that nothing reads."""
        read = {tensor.source for tensor in outputs}
        kept: list[Call] = []
        for call in reversed(self.made):
            if call.name not in self._helpers or call.name in read:
                kept.append(call)
                read.update(tensor.source for tensor in call.reads)
        return tuple(reversed(kept))
