"""Draw figures with matplotlib as SVG inside a page: in the page's font and text colour, with unique ids.

No name of a file's or layer's is drawn: matplotlib would read mathematics into a ``$``.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import numpy.typing as npt

from lstmconv.proof.judging import unit_of
from lstmconv.proof.report import Evidence
from lstmconv.reporting.scanning import Scan
from lstmconv.reporting.weights import Mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MARKERS", "NEGATIVE", "NOT_FINITE", "POSITIVE", "deviations", "weights"]

NEGATIVE, POSITIVE, NOT_FINITE = "#0072b2", "#d55e00", "#cc00aa"
"""Blue and vermilion of Okabe and Ito (Color Universal Design, 2008), and what is neither."""
MARKERS: Mapping[str, str] = {"not finite": "x", "dead": "o", "saturated": "s", "exploding": "^"}
"""Shapes, not colours, tell the kinds of units apart."""
_LEVELS = 31
_INK = "#010203"
"""Stands for the page's own text colour until the figure is written."""
_SETTINGS: Any = {  # matplotlib types its keys as one long Literal.
    "svg.fonttype": "none",
    "svg.image_inline": True,
    "font.family": "sans-serif",
    "font.size": 8,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.6,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "text.usetex": False,
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "path.simplify": False,
}
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure((width, height))


def _written(figure: Figure, name: str, title: str, description: str) -> str:
    """Return a figure as an ``svg`` element.

    Args:
        figure: What was drawn.
        name: Salts its ids, so that no two of a page are alike.
        title: What it is, for those who do not see it.
        description: What it shows, likewise.
    """
    import matplotlib as mpl

    content = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ET.fromstring(content.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith("}metadata"):
                parent.remove(child)
    _without_unused_ids(root)
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
        style = element.get("style", "")
        if "font:" in style:
            element.set("style", re.sub(r"font: ([\d.]+px)[^;]*", r"font-size: \1", style))
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-description")
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ET.Element(tag, {"id": f"{name}-{'title' if tag == 'title' else 'description'}"})
        element.text = text
        root.insert(position, element)
    return ET.tostring(root, encoding="unicode").replace(_INK, "currentColor")


def _without_unused_ids(root: ET.Element) -> None:
    """Remove the ids that nothing refers to; the others are hashes, which the salt makes unique to the figure."""
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', ET.tostring(root, encoding="unicode")))
    for element in root.iter():
        if element.get("id") not in used:
            element.attrib.pop("id", None)
        link = element.attrib.pop(f"{{{_XLINK}}}href", None)
        if link is not None:
            element.set("href", link)


def _coloured(picture: npt.NDArray[np.float64], limit: float) -> npt.NDArray[np.uint8]:
    """Colour weights: zero is transparent, and magnitude is opacity.

    Over white and over black alike each step of opacity changes the lightness by nearly the same amount, and the
    two signs differ in hue for any colour vision.
    """
    known = np.isfinite(picture)
    share = np.clip(np.where(known, picture, 0.0) / (limit or 1.0), -1.0, 1.0)
    image = np.zeros((*picture.shape, 4), np.uint8)
    for where, colour in ((share < 0, NEGATIVE), (share >= 0, POSITIVE)):
        image[where, :3] = list(bytes.fromhex(colour[1:]))
    image[..., 3] = np.round(np.round(np.abs(share) * _LEVELS) / _LEVELS * 255).astype(np.uint8)
    image[~known] = [*bytes.fromhex(NOT_FINITE[1:]), 255]
    return image


def weights(
    name: str, title: str, description: str, scan: Scan, limit: float, colour: str, marks: Sequence[Mark], axis: str
) -> str:
    """Draw one gate of one array: a heat map of ``(unit, feature)`` over a histogram.

    Args:
        name, title, description: See :func:`_written`.
        scan: The weights.
        limit: Both scales go from minus this to this.
        colour: The gate's, of the histogram.
        marks: Units that are marked at the left edge.
        axis: What the columns are: ``feature``, ``previous unit``, or nothing for a bias.
    """
    import matplotlib as mpl

    with mpl.rc_context(_SETTINGS):
        figure = _figure(2.5, 2.9 if axis else 2.3)
        top = figure.add_axes((0.2, 0.43, 0.76, 0.47 if axis else 0.53))
        top.imshow(_coloured(scan.picture, limit), aspect="auto", interpolation="none")
        _ends(top, scan, axis)
        units = scan.picture.shape[0]
        for mark in marks:
            cells = sorted({unit // scan.block[0] for unit in mark.units})
            hollow = MARKERS[mark.kind] in "os"
            top.plot(
                [-0.035] * len(cells),
                cells,
                MARKERS[mark.kind],
                color=_INK,
                markerfacecolor="none" if hollow else _INK,
                markersize=max(1.6, min(4.5, 120 / units)),
                markeredgewidth=0.8,
                transform=top.get_yaxis_transform(),
                clip_on=False,
            )
        low = figure.add_axes((0.2, 0.12, 0.76, 0.2))
        _histogram(low, scan, limit, colour)
        return _written(figure, name, title, description)


def _ends(axes: Axes, scan: Scan, axis: str) -> None:
    """Label the first and the last index of both axes."""
    rows, columns = scan.picture.shape
    units, features = scan.shape
    axes.set_yticks([0, rows - 1] if rows > 1 else [0], ["0", f"{units - 1}"] if rows > 1 else ["0"])
    axes.set_ylabel("unit", labelpad=-4 if rows > 1 else 2)
    axes.tick_params(axis="y", pad=7, length=0)
    if axis:
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        axes.set_xticks([0, columns - 1] if columns > 1 else [0], ["0", f"{features - 1}"] if columns > 1 else ["0"])
        axes.set_xlabel(axis, labelpad=-5 if columns > 1 else 1)
        axes.tick_params(axis="x", length=0)
    else:
        axes.set_xticks([])


def _histogram(axes: Axes, scan: Scan, limit: float, colour: str) -> None:
    bound = limit or 1.0
    edges = np.linspace(-bound, bound, scan.counts.size + 1)
    axes.stairs(scan.counts, edges, fill=True, color=colour)
    axes.axvline(0, color=_INK, linewidth=0.5)
    axes.set_xlim(-bound * 1.02, bound * 1.02)
    axes.set_ylim(0, max(int(scan.counts.max()), 1) * 1.05)
    axes.set_yticks([])
    axes.set_xticks([-bound, 0, bound], [f"{-bound:.3g}".replace("-", "−"), "0", f"{bound:.3g}"])
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)


def deviations(name: str, title: str, description: str, evidence: Evidence) -> str:
    """Draw the deviations of a comparison of outputs over the time steps, in units of the noise, logarithmically.

    A deviation of exactly 0 is drawn hollow at the lower edge, because the scale has no 0.
    """
    import matplotlib as mpl
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    with mpl.rc_context(_SETTINGS):
        figure = _figure(5.6, 3.1)
        axes = figure.add_axes((0.105, 0.145, 0.875, 0.83))
        steps = evidence.steps or ((evidence.found, evidence.noise),)
        found = np.array([off / noise if off else 0.0 for off, noise in steps], np.float64)
        heights = [*found, evidence.found_ratio, 1.0, evidence.nearest_ratio or 1.0]
        positive = [value for value in heights if value > 0 and math.isfinite(value)] or [1.0]
        low, high = min(positive) / 30, max(positive) * 30
        where = np.arange(len(steps))
        shown = np.where(found > 0, found, low)
        axes.plot(where, shown, "-", color=NEGATIVE, linewidth=1.4)
        for zero, face in ((False, NEGATIVE), (True, "none")):
            chosen = (found == 0) == zero
            if chosen.any():
                style: dict[str, Any] = {"markerfacecolor": face, "markeredgecolor": NEGATIVE, "markersize": 4}
                axes.plot(where[chosen], shown[chosen], "o", linestyle="none", clip_on=False, **style)
        right = len(steps) - 0.5
        axes.plot([-0.5, right], [1.0, 1.0], "--", color=_INK, linewidth=1)
        labels = [(shown[-1], "found"), (1.0, unit_of(evidence))]
        if evidence.nearest_ratio is not None:
            axes.plot([-0.5, right], [evidence.nearest_ratio] * 2, "-.", color=POSITIVE, linewidth=1.4)
            labels.append((evidence.nearest_ratio, "nearest mistake"))
        axes.set_yscale("log")
        axes.set_ylim(low, high)
        axes.set_xlim(-0.5, right)
        axes.yaxis.set_major_locator(LogLocator(numticks=9))
        axes.yaxis.set_minor_locator(NullLocator())
        decades = [tick for tick in axes.get_yticks() if low <= tick <= high]
        axes.set_yticks(decades, [f"1e{round(math.log10(tick))}".replace("-", "−") for tick in decades])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
        axes.set_xlabel("time step" if evidence.steps else "the last step alone is returned")
        if not evidence.steps:
            axes.set_xticks([])
        axes.set_ylabel(f"deviation, times {unit_of(evidence)}")
        axes.grid(axis="y", color=_INK, alpha=0.15, linewidth=0.5)
        for side in ("right", "top"):
            axes.spines[side].set_visible(False)
        for place, (height, text) in enumerate(sorted(labels)):
            below = place == 0  # Each of the others stands between its line and the one above.
            axes.annotate(
                text,
                (right, min(max(height, low), high)),
                xytext=(0, -5 if below else 4),
                textcoords="offset points",
                ha="right",
                va="top" if below else "bottom",
                fontsize=8.5,
            )
        return _written(figure, name, title, description)
