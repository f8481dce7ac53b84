"""The names of the places that a bias can go to."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

__all__ = ["BIAS_MODES", "BUFFER_BIAS_MODES", "BiasMode"]

BiasMode: TypeAlias = Literal["input", "recurrent", "both-halves", "double", "single-input", "single-recurrent", "none"]
"""Where a bias goes. In formats with two biases: ``input`` (b, 0), ``recurrent`` (0, b), ``both-halves`` (b/2, b/2).
cuDNN has four modes: ``double`` (b, 0), ``single-input``, ``single-recurrent``, ``none``."""
BIAS_MODES: tuple[BiasMode, ...] = get_args(BiasMode)
BUFFER_BIAS_MODES: tuple[BiasMode, ...] = ("double", "single-input", "single-recurrent", "none")
"""cuDNN's own. Source: cudnnRNNBiasMode_t."""
