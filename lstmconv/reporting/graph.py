"""Draw a model's graph as SVG: boxes on levels, in parts of some levels each, so that a long model stays readable."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple
from xml.etree import ElementTree as ET

from lstmconv.escaping import printable
from lstmconv.explaining.overview import Overview, kind_of
from lstmconv.model import LSTMLayer, Model, Stack
from lstmconv.model.graph import Shape
from lstmconv.model.kinds import Unknown
from lstmconv.reporting.graph_layout import Edge, Node, Placed, placed

__all__ = ["Part", "parts"]

_WIDTH, _HEIGHT, _GAP, _PITCH, _RIM = 208.0, 46.0, 20.0, 74.0, 20.0
"""Pixels: of a box, between boxes, from level to level, and around a part."""
_LEVELS = 14
"""At most so many levels are drawn in one part; a printed page holds them."""
_NAME, _DETAIL = 22, 32
"""Characters that fit into a box's two lines."""


@dataclass(frozen=True)
class Part:
    """One part of the drawing.

    Attributes:
        svg: The drawing.
        width: In pixels, at its natural size.
    """

    svg: str
    width: int


def parts(model: Model, overview: Overview) -> list[Part]:
    """Draw a model from its inputs down to its outputs.

    Args:
        model: The graph.
        overview: It, with the shapes of its layers.
    """
    graph = placed(model, _WIDTH, _GAP)
    boxes = _boxes(model, overview)
    count = math.ceil(graph.levels / _LEVELS)
    tall = math.ceil(graph.levels / count)
    return [
        _part(graph, boxes, number, count, range(number * tall, min((number + 1) * tall, graph.levels)))
        for number in range(count)
    ]


@dataclass(frozen=True)
class _Box:
    """The content of a box: two lines, its class in the page's style sheet, and the text of its tooltip."""

    first: str
    second: str
    style: str
    title: str


def _boxes(model: Model, overview: Overview) -> Mapping[tuple[str, str], _Box]:
    shapes = {layer.name: layer.shape for layer in overview.layers}
    found: dict[tuple[str, str], _Box] = {}
    for entry in model.inputs:
        found["input", entry.name] = _Box(entry.name, f"input {_sizes(entry.shape)}", "end", "input")
    for call in model.calls:
        layer, kind = call.layer, kind_of(call.layer)
        if isinstance(layer, Unknown):
            box = _Box(f"✗ {call.name}", f"{kind}: unknown", "unknown", f"{kind}, unknown: {layer.reason}")
        else:
            style = "lstm" if isinstance(layer, LSTMLayer | Stack) else "layer"
            box = _Box(call.name, f"{kind} {_sizes(shapes.get(layer.name))}", style, kind)
        found["call", call.name] = box
    for name in model.outputs:
        found["output", name] = _Box(name, f"output {_sizes(overview.outputs[name])}", "end", "output")
    return found


def _sizes(shape: Shape | None) -> str:
    """Write a shape without its batch: ``time × 16``."""
    if shape is None:
        return ""
    return " × ".join(
        str(size) if size is not None else "time" if axis == 0 else "?" for axis, size in enumerate(shape[1:])
    )


class _Line(NamedTuple):
    """A piece of an edge."""

    reads: str
    x: float
    y: float
    to_x: float
    to_y: float

    @property
    def path(self) -> str:
        """The SVG path: down, across, down."""
        middle = (self.y + self.to_y) / 2
        return (
            f"M{self.x:.1f} {self.y:.1f}C{self.x:.1f} {middle:.1f} "
            f"{self.to_x:.1f} {middle:.1f} {self.to_x:.1f} {self.to_y:.1f}"
        )


def _part(graph: Placed, boxes: Mapping[tuple[str, str], _Box], number: int, count: int, levels: range) -> Part:
    nodes = [node for node in graph.nodes if node.level in levels]
    lines = [line for edge in graph.edges for line in _lines(edge, levels)]
    xs = [x for line in lines for x in (line.x, line.to_x)]
    left = min([node.x - _WIDTH / 2 for node in nodes] + xs) - 8
    right = max([node.x + _WIDTH / 2 for node in nodes] + xs) + 8
    top, bottom = levels.start * _PITCH - _RIM, (levels.stop - 1) * _PITCH + _HEIGHT + _RIM
    name = f"graph-{number}"
    root = ET.Element(
        "svg",
        {
            "viewBox": f"{left:.1f} {top:.1f} {right - left:.1f} {bottom - top:.1f}",
            "role": "img",
            "class": "graph",
            "aria-labelledby": f"{name}-title {name}-description",
        },
    )
    ET.SubElement(root, "title", {"id": f"{name}-title"}).text = (
        "The model's graph" if count == 1 else f"The model's graph, part {number + 1} of {count}"
    )
    ET.SubElement(root, "desc", {"id": f"{name}-description"}).text = "The table below lists every layer."
    for line in dict.fromkeys(lines):
        ET.SubElement(root, "path", {"class": f"edge {line.reads}", "d": line.path})
    for node in nodes:
        _draw(root, node, boxes["call" if node.role == "call" else node.role, node.name])
    return Part(ET.tostring(root, encoding="unicode"), math.ceil(right - left))


def _draw(root: ET.Element, node: Node, box: _Box) -> None:
    group = ET.SubElement(root, "g", {"class": f"node {box.style}"})
    ET.SubElement(group, "title").text = printable(f"{box.first} ({box.title})")
    x, y = node.x - _WIDTH / 2, node.level * _PITCH
    ET.SubElement(
        group, "rect", {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{_WIDTH:g}", "height": f"{_HEIGHT:g}", "rx": "8"}
    )
    for text, dy, style, most in ((box.first, 19, "name", _NAME), (box.second, 36, "detail", _DETAIL)):
        ET.SubElement(group, "text", {"x": f"{node.x:.1f}", "y": f"{y + dy:.1f}", "class": style}).text = _short(
            printable(text).strip(), most
        )


def _lines(edge: Edge, levels: range) -> Iterator[_Line]:
    """Yield the pieces of an edge that lie in a part; one that leaves it ends at its rim."""
    for number, (x, below) in enumerate(pairwise(edge.xs)):
        level = edge.level + number
        start = level * _PITCH + (_HEIGHT if number == 0 else _HEIGHT / 2)
        end = (level + 1) * _PITCH + (0 if number == len(edge.xs) - 2 else _HEIGHT / 2)
        if level in levels and level + 1 in levels:
            yield _Line(edge.reads, x, start, below, end)
        elif level in levels:
            yield _Line(edge.reads, x, start, x, level * _PITCH + _HEIGHT + _RIM)
        elif level + 1 in levels:
            yield _Line(edge.reads, x, (level + 1) * _PITCH - _RIM, below, end)


def _short(text: str, most: int) -> str:
    """Shorten a text in its middle.

    >>> _short("bidirectional_encoder_of_the_left", 16)
    'bidirect…he_left'
    """
    if len(text) <= most:
        return text
    head = most // 2
    return f"{text[:head]}…{text[len(text) - (most - head - 1) :]}"
