"""Where every gate of every array lies in each format, as values from the rows of :mod:`lstmconv.layouts`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lstmconv.activations import SIGMOID, TANH
from lstmconv.arrays.copying import BiasMode, place_bias
from lstmconv.explaining.layout_names import LAYOUT_NAMES, SHOWN
from lstmconv.formats import by_name
from lstmconv.formats.cudnn.packing import BIAS_MODES, manifest
from lstmconv.layouts import LAYOUTS, Layout, Pattern
from lstmconv.model import Array, Gates, LSTMDirection, LSTMLayer, Stack

__all__ = [
    "LAYOUTS_BY_NAME",
    "ArrayBlocks",
    "Block",
    "FormatLayout",
    "HalfLayout",
    "bias_names",
    "bias_contents",
    "default_formats",
    "layout_in",
    "stored_biases",
]

LAYOUTS_BY_NAME: Mapping[str, Layout] = dict(zip(LAYOUT_NAMES, LAYOUTS, strict=True))

Role = Literal["input matrix", "recurrent matrix", "bias", "input bias", "recurrent bias"]


@dataclass(frozen=True)
class Block:
    """One gate's block of an array.

    Attributes:
        gate: ``i``, ``f``, ``g`` or ``o``.
        start: First index along the array's gate axis; in a flat buffer, the offset in elements.
        stop: The index after the last.
        array: Name of the stored array that contains the block.
        lin_layer_id: cuDNN's linLayerID of the block.
    """

    gate: str
    start: int
    stop: int
    array: str
    lin_layer_id: int | None = None


@dataclass(frozen=True)
class ArrayBlocks:
    """One array of a layer's direction, seen as four blocks.

    Attributes:
        name: The format's own name; four names if each gate has an array of its own.
        role: What the array is for.
        shape: Shape of the stored array; of each of the four arrays if there are four; of one matrix in a flat buffer;
            of the part if it is part of an array (ONNX' ``Wb`` in ``B``).
        axis: What the blocks' indices count: ``rows`` or ``columns`` of the array, or elements of a ``flat`` buffer.
            ``apart`` means that each gate has an array of its own.
        blocks: In stored order.
        content: For a bias: the source's name of the stored bias, ``"zeros"``, or the sum of two names.
    """

    name: str
    role: Role
    shape: tuple[int, ...]
    axis: Literal["rows", "columns", "apart", "flat"]
    blocks: tuple[Block, ...]
    content: str | None = None


@dataclass(frozen=True)
class HalfLayout:
    """The arrays of one direction.

    Attributes:
        layer: The layer's name.
        half: ``forward`` or ``backward``; ``None`` in a layer of one direction.
        place: Where the format stores this direction: ``forward_layer``, ``_l0_reverse``, ``[1]``, ``pseudoLayer 1``.
        arrays: Input matrix, recurrent matrix, biases.
    """

    layer: str
    half: str | None
    place: str
    arrays: tuple[ArrayBlocks, ...]


@dataclass(frozen=True)
class FormatLayout:
    """A stack of layers as one format stores it.

    Attributes:
        format: A key of :data:`LAYOUTS_BY_NAME`.
        row: Its row of the table.
        own: Whether the source has this layout.
        obstacle: Why the format cannot hold the layers, and what to do instead; ``halves`` is empty then.
        size: Elements of cuDNN's flat buffer.
        halves: Layer by layer, forward before backward.
    """

    format: str
    row: Layout
    own: bool
    obstacle: str | None
    size: int | None
    halves: tuple[HalfLayout, ...]


def bias_names(row: Layout, present: Sequence[bool], hidden: int, place: str = "") -> tuple[str, ...]:
    """Name the biases that a row stores; parts of one array by their ranges.

    Args:
        row: The layout.
        present: Whether the input's and the recurrent bias exist; for a format with one bias, either counts.
        hidden: Units.
        place: Where PyTorch keeps the direction: its names end in it.

    >>> from lstmconv.layouts import CUDNN, CUDNN_LSTM_LAYER
    >>> bias_names(CUDNN_LSTM_LAYER, (True, True), 4)
    ('bias[0:16]', 'bias[16:32]')
    >>> bias_names(CUDNN, (False, True), 4)
    ('bR',)
    """
    names = ("b_*",) if row.one_bias.gate_axis is None else row.bias_names
    if len(names) == 2:
        suffix = place if row.directions == "names" else ""
        return tuple(f"{name}{suffix}" for name, there in zip(names, present, strict=True) if there)
    if all(present):
        return tuple(f"{names[0]}[{4 * hidden * k}:{4 * hidden * (k + 1)}]" for k in range(2))
    return names if any(present) else ()


def stored_biases(direction: LSTMDirection) -> tuple[bool, bool]:
    """Return whether a direction has an input bias, and whether it has a recurrent one."""
    return direction.bias_ih is not None, direction.bias_hh is not None


def bias_contents(
    direction: LSTMDirection, names: Sequence[str], mode: BiasMode | None, *, zeros: bool
) -> tuple[str | None, ...]:
    """Return what a target's input and recurrent bias hold: a name of the source's, ``"zeros"``, a sum, or ``None``.

    :func:`~lstmconv.arrays.copying.place_bias` decides, run on numbers that stand for the biases.

    Args:
        direction: The source.
        names: The names of its biases.
        mode: See :data:`~lstmconv.arrays.copying.BiasMode`; not ``both-halves``.
        zeros: See :func:`~lstmconv.arrays.copying.place_bias`.
    """
    here = [name for name in ("bias_ih", "bias_hh") if getattr(direction, name) is not None]
    one, two = (_alike(np.array([value])) for value in (1.0, 2.0))
    matrix = _alike(np.zeros((1, 1)))
    small = LSTMDirection(  # One unit stands for all.
        matrix,
        matrix,
        bias_ih=one if "bias_ih" in here else None,
        bias_hh=(two if len(here) == 2 else one) if "bias_hh" in here else None,
    )
    meanings = {0.0: "zeros", **dict(zip((1.0, 2.0), names, strict=False)), 3.0: " + ".join(names)}
    return tuple(
        None if gates is None else meanings[float(gates.i[0])] for gates in place_bias(small, mode, zeros=zeros)
    )


def _alike(array: Array) -> Gates:
    return Gates(array, array, array, array)


def default_formats(own: Layout) -> tuple[str, ...]:
    """Return the names of the layouts that are shown by default: the source's own, and one of each framework."""
    first = next(name for name, row in LAYOUTS_BY_NAME.items() if row is own)
    return tuple(dict.fromkeys((first, *SHOWN)))


def layout_in(stack: Stack, name: str, own: Layout) -> FormatLayout:
    """Lay out a stack in one format; no array is read.

    Args:
        stack: The layers.
        name: A key of :data:`LAYOUTS_BY_NAME`.
        own: The row in which the source stores them.
    """
    row = LAYOUTS_BY_NAME[name]
    if row.directions == "buffer":
        return _packed(stack, name, row, own)
    obstacle = None if row is own else _obstacle(stack, name)
    halves = () if obstacle is not None else tuple(_halves(stack, row, own))
    return FormatLayout(name, row, row is own, obstacle, None, halves)


def _obstacle(stack: Stack, name: str) -> str | None:
    """Return why a format cannot hold a stack, whatever its unknown activations are, or ``None``."""
    if LAYOUTS_BY_NAME[name].holds_any:
        return None
    layers = [
        replace(
            layer, forward=_known(layer.forward), backward=None if layer.backward is None else _known(layer.backward)
        )
        for layer in stack.layers
    ]
    return by_name(name).obstacle(Stack(stack.name, tuple(layers)))


def _known(direction: LSTMDirection) -> LSTMDirection:
    return replace(
        direction,
        activation=direction.activation or TANH,
        recurrent_activation=direction.recurrent_activation or SIGMOID,
    )


def _halves(stack: Stack, row: Layout, own: Layout) -> Iterator[HalfLayout]:
    for number, layer in enumerate(stack.layers):
        for index, direction in enumerate(layer.directions):
            place = _place(layer, row, number, index)
            names = bias_names(own, stored_biases(direction), direction.hidden_size, _place(layer, own, number, index))
            contents = names if row is own else _contents(direction, row, names, zeros=stack.has_bias)
            arrays = tuple(_arrays(direction, row, place, contents))
            yield HalfLayout(layer.name, _side(layer, index), place, arrays)


def _side(layer: LSTMLayer, index: int) -> str | None:
    return ("forward", "backward")[index] if layer.bidirectional else None


def _place(layer: LSTMLayer, row: Layout, number: int, index: int) -> str:
    """Return where a format stores a direction."""
    if row.directions == "names":
        return f"_l{number}{'_reverse' if index else ''}"
    if row.directions == "rows":  # Halves of unequal units are nodes of their own.
        equal = len({direction.hidden_size for direction in layer.directions}) == 1
        return f"[{index if equal else 0}]"
    return f"{_side(layer, index)}_layer" if layer.bidirectional else ""


def _arrays(direction: LSTMDirection, row: Layout, place: str, contents: Sequence[str]) -> Iterator[ArrayBlocks]:
    suffix = place if row.directions in ("names", "rows") else ""
    matrix, recurrent, _ = row.arrays
    own_names = row.gate_matrices or (None, None)
    yield _matrix(direction, "input matrix", row.input_matrix, f"{matrix}{suffix}", own_names[0])
    yield _matrix(direction, "recurrent matrix", row.recurrent_matrix, f"{recurrent}{suffix}", own_names[1])
    present = stored_biases(direction) if len(contents) == 1 else (bool(contents),) * 2
    names = bias_names(row, present, direction.hidden_size)
    inside = row.bias_array is not None and len(names) == 2
    roles: tuple[Role, ...] = ("input bias", "recurrent bias") if row.two_biases else ("bias",)
    pattern = row.one_bias
    for k, (content, name) in enumerate(zip(contents, names, strict=False)):
        start = 4 * direction.hidden_size * k if inside else 0
        blocks = tuple(
            Block(gate, start + first, start + last, f"{row.bias_array if inside else name}{suffix}")
            for gate, (first, last) in pattern.ranges(direction.hidden_size, direction.input_size).items()
        )
        apart = pattern.gate_axis is None
        if apart:
            blocks = tuple(replace(block, array=own) for block, own in zip(blocks, row.bias_names, strict=True))
        label = row.arrays[2] if apart else name if inside else f"{name}{suffix}"
        shape = pattern.shape(direction.hidden_size, direction.input_size)
        axis: Literal["rows", "columns", "apart"] = "apart" if apart else _axis(row.recurrent_matrix)
        yield ArrayBlocks(label, roles[k], shape, axis, blocks, content)


def _contents(direction: LSTMDirection, row: Layout, names: Sequence[str], *, zeros: bool) -> tuple[str, ...]:
    """Return what each bias that a target stores holds, input before recurrent."""
    if not row.two_biases:
        both = bias_contents(direction, names, "single-input", zeros=False)
    else:
        both = bias_contents(direction, names, None, zeros=zeros or row.always_biased)
    return tuple(content for content in both if content is not None)


def _axis(pattern: Pattern) -> Literal["rows", "columns"]:
    return "rows" if pattern.gate_axis == 0 else "columns"


def _matrix(
    direction: LSTMDirection, role: Role, pattern: Pattern, name: str, gate_names: Sequence[str] | None
) -> ArrayBlocks:
    features = direction.input_size
    ranges = pattern.ranges(direction.hidden_size, features)
    blocks = tuple(
        Block(gate, start, stop, array)
        for array, (gate, (start, stop)) in zip(gate_names or [name] * 4, ranges.items(), strict=True)
    )
    axis: Literal["rows", "columns", "apart"] = "apart" if pattern.gate_axis is None else _axis(pattern)
    return ArrayBlocks(name, role, pattern.shape(direction.hidden_size, features), axis, blocks)


def _packed(stack: Stack, name: str, row: Layout, own: Layout) -> FormatLayout:
    """Take the blocks of cuDNN's buffer from its manifest."""
    obstacle = None if row is own else _obstacle(stack, name)
    if obstacle is not None:
        return FormatLayout(name, row, False, obstacle, None, ())
    stored = stored_biases(stack.directions[0])  # All pseudo-layers have the same.
    mode = next(biases.mode for biases in BIAS_MODES.values() if biases.stored == stored) if row is own else None
    described = manifest(stack, mode)
    item = stack.dtype.itemsize
    sides = [(layer, index) for layer in stack.layers for index in range(len(layer.directions))]
    halves = []
    for pseudo, ((layer, index), direction) in enumerate(zip(sides, stack.directions, strict=True)):
        params = [param for param in described["params"] if param["pseudoLayer"] == pseudo]
        place = _place(layer, own, stack.layers.index(layer), index)
        names = bias_names(own, stored_biases(direction), direction.hidden_size, place)
        both = bias_contents(direction, names, mode, zeros=stack.has_bias)
        contents = iter([content for content in both if content is not None])
        arrays = []
        for start in range(0, len(params), 4):
            four = params[start : start + 4]
            size = int(np.prod(four[0]["shape"]))
            blocks = tuple(
                Block(p["gate"], p["offset"] // item, p["offset"] // item + size, stack.name, p["linLayerID"])
                for p in four
            )
            label, role = _PACKED[four[0]["kind"], four[0]["linLayerID"]]
            content = next(contents) if four[0]["kind"] == "bias" else None
            arrays.append(ArrayBlocks(label, role, tuple(four[0]["shape"]), "flat", blocks, content))
        halves.append(HalfLayout(layer.name, _side(layer, index), f"pseudoLayer {pseudo}", tuple(arrays)))
    return FormatLayout(name, row, row is own, None, described["weightSpaceSize"] // item, tuple(halves))


_PACKED: Mapping[tuple[str, int], tuple[str, Role]] = {
    ("matrix", 0): ("W", "input matrix"),
    ("matrix", 4): ("R", "recurrent matrix"),
    ("bias", 0): ("bW", "input bias"),
    ("bias", 4): ("bR", "recurrent bias"),
}
"""cuDNN's four kinds of arrays by the linLayerID of their first gate."""
