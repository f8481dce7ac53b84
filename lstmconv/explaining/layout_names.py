"""The names by which ``lstmconv explain --format`` knows the rows of :mod:`lstmconv.layouts`; it loads nothing."""

from __future__ import annotations

__all__ = ["LAYOUT_NAMES", "SHOWN"]

LAYOUT_NAMES = ("keras", "keras-1", "keras-cudnn", "torch", "onnx", "cudnn")
SHOWN = ("torch", "onnx", "cudnn")
"""Drawn by default, after the source's own."""
