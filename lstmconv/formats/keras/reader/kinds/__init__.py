"""The classes of Keras layers: their options, their variables, their model layers, and their mask rules.

:mod:`.table` has one row for each class; :func:`build` reads one layer with its row. An option, an array or a value
that no row knows makes the layer :class:`~lstmconv.model.kinds.Unknown`, with a reason. :mod:`.operations` reads the
functions between layers; few files have any, so it is imported only when one occurs.
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
