"""How conversions go wrong about one layer that is not recurrent: a row of the table for each kind."""

from __future__ import annotations

from collections.abc import Iterator

from lstmconv.model import kinds
from lstmconv.proof.models.kinds import activations, attention, combining, dense, normalizing, shaping, windows
from lstmconv.proof.models.kinds.option import Option, Rules, Shapes

__all__ = ["options_of"]

_RULES: Rules = {
    **dense.RULES,
    **windows.RULES,
    **activations.RULES,
    **normalizing.RULES,
    **shaping.RULES,
    **combining.RULES,
    **attention.RULES,
}


def options_of(layer: kinds.Kind, shapes: Shapes) -> Iterator[Option]:
    """Yield the wrong versions of a layer that is given inputs of these shapes."""
    rule = _RULES.get(type(layer))
    if rule is not None:
        yield from rule(layer, shapes)
