"""Structure and weights: shapes, options and bits of what a target holds, against its source."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from lstmconv.arrays.bias_sums import cast_gates, comparable_biases
from lstmconv.arrays.comparing import ArrayDifference, Difference, difference
from lstmconv.arrays.copying import BiasMode, place_bias
from lstmconv.arrays.places import place_in
from lstmconv.model import Checkpoint, Gates, LSTMDirection, LSTMLayer, Stack, sizes
from lstmconv.model.layers import RETURN_OPTIONS, option_differences
from lstmconv.proof.diagnosis import explain_bits, same_arrays
from lstmconv.proof.mistakes import Weights
from lstmconv.proof.report import Check
from lstmconv.proof.rounding import limits
from lstmconv.runtimes import DecodedDirection, Session

__all__ = ["as_stored", "as_read", "check_structure", "check_weights", "computes_otherwise", "differs_at", "rounded"]

_ROUNDINGS = 4
"""Two biases may be rounded to the target's dtype and then summed, or summed first in the source's dtype."""


def check_structure(name: str, stack: Stack, decoded: Sequence[DecodedDirection], how: str) -> Check:
    """Compare the number of directions and the shapes of their matrices; ``how`` says how layers were paired."""
    if len(decoded) != len(stack.directions):
        return Check(name, "structure", "failed", f"{len(decoded)} directions, expected {len(stack.directions)}")
    for direction, found in zip(stack.directions, decoded, strict=True):
        shapes = {
            "input matrix": (found.weight_ih.shape, direction.weight_ih.shape),
            "recurrent matrix": (found.weight_hh.shape, direction.weight_hh.shape),
        }
        for array, (shape, expected) in shapes.items():
            if shape != expected:
                return Check(name, "structure", "failed", f"the {array} is {shape}, expected {expected}")
    layers = f", {len(stack.layers)} layers" if len(stack.layers) > 1 else ""
    way = ", bidirectional" if stack.first.bidirectional else ""
    size = sizes(stack.first.input_size, stack.first.hidden_size)
    return Check(name, "structure", "passed", f"{size}{layers}, {decoded[0].weight_ih.dtype}{way}{how}")


def computes_otherwise(seen: Stack, source: Checkpoint, session: Session) -> str | None:
    """Return which option of the target differs, or why a layer of it is none; else ``None``.

    The options that decide what a layer returns are compared in files that lstmconv wrote: a Keras file states them,
    and in other files the record does. Where the record is of another source, only those count that the target's
    framework leaves open. A whole model that something else wrote is compared as a graph.

    Args:
        seen: The source's stack, as the target's framework sees it.
        source: The stack's file. If it states arrays alone, only what the user states is compared.
        session: The target.
    """
    artifact = session.artifact
    read, record = artifact.checkpoint, artifact.record
    found = next((stack for stack in read.stacks if stack.name == seen.name), None)
    if found is None:
        names = {seen.name, *(layer.name for layer in seen.layers)}
        skipped = next((entry for entry in read.skipped if entry.name in names), None)
        return None if skipped is None else f"{skipped.name} is no plain LSTM in the target: {skipped.reason}"
    if read.assumed or len(found.directions) != len(seen.directions):
        return None
    returned: tuple[str, ...] = ()
    if record is not None and record.scope == "layers":
        states_all = artifact.format.from_keras or record.made_from(source)
        returned = RETURN_OPTIONS if states_all else ("return_sequences", "time_major")
    if source.assumed:
        returned = tuple(option for option in returned if option == "return_sequences")
    for layer, own in zip(seen.layers, session.seen_by_target(found).layers, strict=True):
        if layer.bidirectional != own.bidirectional:
            continue
        differs = next(option_differences(layer, own, returned), None)
        if differs is not None:
            expected, instead = differs.in_words
            return f"{own.name} {instead}, the source {expected}"
    return None


def check_weights(
    name: str,
    stack: Stack,
    decoded: Sequence[DecodedDirection],
    mode: BiasMode | None,
    *,
    zeros: bool,
    summed: bool,
) -> Check:
    """Compare every array bit for bit; biases as the file's bias mode places them, or by their sums."""
    pairs: list[tuple[_Whose, DecodedDirection, DecodedDirection]] = []
    for whose, direction, found in zip(_owners(stack), stack.directions, decoded, strict=True):
        if summed:
            biases, stored, _ = comparable_biases(direction, found.biases, found.weight_ih.dtype)
        else:
            biases, stored = place_bias(direction, mode, zeros=zeros and stack.has_bias), found.biases
        expected = DecodedDirection(direction.weight_ih, direction.weight_hh, *biases)
        pairs.append((whose, expected, DecodedDirection(found.weight_ih, found.weight_hh, *stored)))
    arrays = ("input matrix", "recurrent matrix", "bias" if summed else "input bias", "recurrent bias")
    for number, (whose, wanted, held) in enumerate(pairs):
        dtype = decoded[number].weight_ih.dtype
        for place, array in enumerate(arrays):
            where = partial(place_in, stack.directions[number], DecodedDirection._fields[place])
            problem = _difference(whose.name(array), wanted[place], held[place], where)
            if problem is not None:
                diagnosis = _diagnosed(number, pairs, dtype)
                detail = problem if diagnosis is None else f"{problem} · {diagnosis}"
                return Check(name, "weights", "failed", detail, diagnosis=diagnosis)
    count = sum(math.prod(gates.shape) for direction in stack.directions for gates in direction.arrays.values())
    joined = all(bias is not None for bias in (stack.directions[0].bias_ih, stack.directions[0].bias_hh))
    sums = ", two biases as their sum," if joined and all(held.bias_hh is None for _, _, held in pairs) else ""
    return Check(name, "weights", "passed", f"{count:,} numbers{sums} are equal bit for bit")


def _in_dtype(arrays: DecodedDirection, dtype: np.dtype[Any]) -> Weights:
    """Return a direction's arrays as the catalogue takes them, rounded to the target's dtype."""
    ih, hh, *biases = (None if gates is None else np.asarray(cast_gates(gates, dtype)) for gates in arrays)
    return Weights(ih, hh, *biases)  # type: ignore[arg-type]  # W and R are there


class _Whose(NamedTuple):
    """Whose arrays: what tells a direction from the others of its stack.

    Attributes:
        half: ``forward`` or ``backward``; ``None`` where the layer has one direction.
        layer: The layer's name; ``None`` where the stack has one layer.
    """

    half: str | None
    layer: str | None

    def name(self, array: str) -> str:
        """Return the whole name of an array: ``forward bias of lstm``."""
        return f"{f'{self.half} ' if self.half else ''}{array}{f' of {self.layer}' if self.layer else ''}"

    def __str__(self) -> str:
        half = None if self.half is None else f"{self.half} half"
        return " of ".join(filter(None, (half, self.layer)))


def _owners(stack: Stack) -> list[_Whose]:
    """Return whose arrays each direction's are, in the stack's order."""
    return [
        _Whose(half if layer.bidirectional else None, layer.name if len(stack.layers) > 1 else None)
        for layer in stack.layers
        for half in ("forward", "backward")[: len(layer.directions)]
    ]


def _diagnosed(
    number: int, pairs: Sequence[tuple[_Whose, DecodedDirection, DecodedDirection]], dtype: np.dtype[Any]
) -> str | None:
    """Name the mistake that made one direction's arrays what they are."""
    whose, expected, found = pairs[number]
    if expected.weight_ih.shape != found.weight_ih.shape:
        return None
    stored = _in_dtype(found, dtype)
    diagnosis = explain_bits(_in_dtype(expected, dtype), stored)
    if diagnosis is not None:
        return f"{diagnosis} ({whose})" if str(whose) else diagnosis
    for other, (another, its_expected, _) in enumerate(pairs):
        if other != number and same_arrays(_in_dtype(its_expected, dtype), stored):
            return f"the {another.name('weights')} stand where the {whose.name('weights')} should"
    return None


def _difference(
    array: str, expected: Gates | None, stored: Gates | None, where: Callable[[str, Sequence[int]], str]
) -> str | None:
    if expected is None or stored is None:
        if expected is None and stored is None:
            return None
        found, wanted = ("missing", "one") if stored is None else ("there", "none")
        return f"the {array} is {found}, expected {wanted}"
    if stored.shape != expected.shape:
        return f"the {array} is {stored.shape}, expected {expected.shape}"
    differs = difference(expected, stored)
    return None if differs is None else f"the {array} {differs_at(differs, where(differs.gate, differs.place))}"


def differs_at(differs: Difference | ArrayDifference, where: str) -> str:
    """Return how many numbers differ, and the first of them; ``where`` is its place."""
    return (
        f"differs in {differs.wrong:,} of {differs.total:,} numbers, first at {where}: {differs.found} where the "
        f"source has {differs.expected}"
    )


def rounded(stack: Stack, dtype: np.dtype[Any]) -> Stack:
    """Return the stack with weights as the target's dtype holds them: its rounding is no error of the target."""
    return Stack(stack.name, tuple(_rounded(layer, dtype) for layer in stack.layers))


def _rounded(layer: LSTMLayer, dtype: np.dtype[Any]) -> LSTMLayer:
    if layer.dtype == dtype:
        return layer
    halves: list[LSTMDirection] = []
    for direction in layer.directions:
        arrays: dict[str, Any] = {name: cast_gates(gates, dtype) for name, gates in direction.arrays.items()}
        halves.append(replace(direction, **arrays))
    return layer.with_directions(halves)


def as_stored(stack: Stack, decoded: Sequence[DecodedDirection]) -> Stack:
    """Return the source's stack with weights rounded to the target's dtype, and with the target's biases.

    A target may store the rounded sum of two biases. Its biases are taken if their sum is the source's but for that
    rounding. A bias that differs by more stays the source's, so that the outputs show it.

    Args:
        stack: The source's.
        decoded: The target's arrays.
    """
    found = iter(decoded)
    layers: list[LSTMLayer] = []
    for layer in rounded(stack, decoded[0].weight_ih.dtype).layers:
        halves = [_with_biases(direction, next(found), stack.dtype) for direction in layer.directions]
        layers.append(layer.with_directions(halves))
    return Stack(stack.name, tuple(layers))


def _with_biases(direction: LSTMDirection, found: DecodedDirection, source: np.dtype[Any]) -> LSTMDirection:
    """Take a direction's biases from the target if their sum is the source's, rounded."""
    shape = direction.weight_hh.shape[:2]
    own, other = (_sum(biases, shape) for biases in ((direction.bias_ih, direction.bias_hh), found.biases))
    coarser = max((source, direction.dtype), key=lambda dtype: limits(dtype.name).roundoff)
    given = [bias for bias in (direction.bias_ih, direction.bias_hh) if bias is not None]
    size = sum((np.abs(np.asarray(bias, np.float64)) for bias in given), np.zeros(shape))
    with np.errstate(all="ignore"):
        near = np.abs(own - other) <= _ROUNDINGS * limits(coarser.name).roundoff * size + limits(coarser.name).smallest
    if not near.all():
        return direction
    bias_ih, bias_hh = (None if b is None else Gates(*np.asarray(b, direction.dtype)) for b in found.biases)
    return replace(direction, bias_ih=bias_ih, bias_hh=bias_hh)


def _sum(biases: Sequence[Gates | None], shape: tuple[int, ...]) -> Any:
    """Return the sum of what biases there are, ``(4, hidden)``, exact as far as float64 is."""
    return sum((np.asarray(bias, np.float64) for bias in biases if bias is not None), np.zeros(shape))


def as_read(read: Checkpoint, name: str) -> tuple[DecodedDirection, ...]:
    """Return the arrays that lstmconv's reader found, for a foreign file that the runtime cannot decode itself."""
    stack = next((stack for stack in read.stacks if stack.name == name), None)
    return tuple(
        DecodedDirection(direction.weight_ih, direction.weight_hh, direction.bias_ih, direction.bias_hh)
        for direction in (stack.directions if stack is not None else ())
    )
