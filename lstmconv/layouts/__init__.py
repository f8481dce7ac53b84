"""The table of layouts: how each format orders the axes and the gates of every array.

:mod:`~lstmconv.layouts.lstm` has one row for each format, for the arrays of an LSTM. :mod:`~lstmconv.layouts.kinds`
has one row for each array of the other layers.
"""

from __future__ import annotations

from lstmconv.layouts.lstm import (
    CUDNN,
    CUDNN_LSTM_LAYER,
    KERAS,
    KERAS_1,
    LAYOUTS,
    ONNX,
    TORCH,
    Layout,
    Pattern,
    by_name,
)

__all__ = [
    "CUDNN",
    "CUDNN_LSTM_LAYER",
    "KERAS",
    "KERAS_1",
    "LAYOUTS",
    "ONNX",
    "TORCH",
    "Layout",
    "Pattern",
    "by_name",
]
