"""What each Keras layer is: its options, its variables, its records, and what it does with a mask.

:mod:`.table` holds one row a class; :func:`build` reads one layer by its row. An option, an array or a value
that no row knows makes the layer :class:`~lstmconv.model.kinds.Unknown`, with the reason in words. :mod:`.operations`
reads the functions that stand between layers; few files have any, so it is imported where one is met.
"""

from lstmconv.formats.keras.reader.kinds.building import build, per_step, variables_of
from lstmconv.formats.keras.reader.kinds.entry import OPERATOR_LAYERS, LayerEntry, NotUnderstoodError
from lstmconv.formats.keras.reader.kinds.masks import MaskRule
from lstmconv.formats.keras.reader.kinds.row import Variable
from lstmconv.formats.keras.reader.kinds.table import mask_rule

__all__ = [
    "OPERATOR_LAYERS", "LayerEntry", "MaskRule", "NotUnderstoodError", "Variable", "build", "mask_rule", "per_step",
    "variables_of",
]  # fmt: skip
