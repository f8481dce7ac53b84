"""Notes about layers: texts for users, with the name of the layer as an attribute."""

from __future__ import annotations

__all__ = ["LayerNote"]


class LayerNote(str):
    """A note about one layer; as text, the layer's name and the sentence.

    Attributes:
        layer: The layer's name.
        sentence: The note without the layer's name.

    >>> LayerNote("lstm", "its model masks steps; the target runs every step")
    'lstm: its model masks steps; the target runs every step'
    """

    __slots__ = ("layer", "sentence")

    layer: str
    sentence: str

    def __new__(cls, layer: str, sentence: str) -> LayerNote:
        """Join both to the text that users read."""
        note = super().__new__(cls, f"{layer}: {sentence}")
        note.layer, note.sentence = layer, sentence
        return note

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]  # str has one argument, this has two
        """Return the arguments for a copy."""
        return self.layer, self.sentence
