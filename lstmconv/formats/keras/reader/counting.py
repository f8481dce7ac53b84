"""Count the variables of each object of a config, which tells where one layer's arrays end and the next begin."""

from __future__ import annotations

from lstmconv.errors import LstmconvError
from lstmconv.formats.keras.reader.config import KerasVersion
from lstmconv.formats.keras.reader.entries import Entry, Member
from lstmconv.formats.keras.reader.kinds import LayerEntry, variables_of
from lstmconv.formats.keras.reader.kinds.entry import CELL_CLASSES
from lstmconv.formats.keras.reader.kinds.row import Variable
from lstmconv.formats.keras.reader.stored import leaves
from lstmconv.model import Shape

__all__ = ["Counts", "known_variables"]

_NOT_TRAINABLE = {"moving_mean", "moving_variance", "mean", "variance", "count"}
_RANKS = (3, 2, 4, 5)


class Counts:
    """The number of trainable and of other variables of each object, by its class and config.

    Args:
        version: The Keras version that wrote the config.
    """

    def __init__(self, version: KerasVersion | None) -> None:
        self.version = version
        self.known: dict[int, tuple[int, int] | None] = {}

    def of(self, entry: Entry) -> tuple[int, int] | None:
        """Return both numbers, or ``None`` for an unknown layer."""
        if id(entry) not in self.known:
            self.known[id(entry)] = self._count(entry)
        return self.known[id(entry)]

    def any_in(self, member: Member) -> bool | None:
        """Whether a layer of a model, or any layer inside it, has variables; ``None`` if unknown."""
        known = [self.of(leaf.entry) for leaf in leaves(member.entry, member.name)]
        if any(count is not None and sum(count) for count in known):
            return True
        return None if None in known else False

    def _count(self, entry: Entry) -> tuple[int, int] | None:
        if entry.package is not None:
            return None
        if entry.is_operation or entry.own("InputLayer", "Lambda"):
            return 0, 0
        class_name = CELL_CLASSES.get(entry.class_name, entry.class_name)
        if class_name == "LSTM":
            gates_apart = entry.config.get("consume_less", "gpu") != "gpu"  # Keras 1, unless for a GPU.
            return (12 if gates_apart else 2 + bool(entry.config.get("use_bias", True))), 0
        if class_name == "CuDNNLSTM":
            return 3, 0
        variables = known_variables(entry, class_name, self.version)
        if variables is None:
            return None
        others = sum(variable.name in _NOT_TRAINABLE for variable in variables)
        return len(variables) - others, others


def known_variables(entry: Entry, class_name: str, version: KerasVersion | None) -> tuple[Variable, ...] | None:
    """Return the variables of a layer, in Keras' order; ``None`` for an unknown layer.

    The variables do not depend on the sizes of the input, but on its number of axes; several are tried.
    """
    named = LayerEntry(entry.name, class_name, entry.config, version)
    for rank in _RANKS:
        shape: Shape = (None,) * rank
        for shapes in ((shape,), (shape, shape)):
            try:
                return variables_of(named, shapes)
            except (LstmconvError, TypeError, ValueError, KeyError, AttributeError):
                continue
    return None
