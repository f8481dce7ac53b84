"""What a failure means: the mistake of the catalogue that explains it, or where the difference starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lstmconv.model import GATES, Array, Stack, float_type
from lstmconv.proof.mistakes import ARRAYS, Mistake, Weights, mistakes_of_arrays, wrong
from lstmconv.proof.power import Outcome
from lstmconv.proof.trials import Settings, computed
from lstmconv.runtimes import Inputs, Outputs

__all__ = ["explain_bits", "explain_outputs", "locate", "same_arrays", "summed_up"]

Float64: TypeAlias = npt.NDArray[np.float64]

EXPLAINED = 0.05
"""A mistake explains a difference if it removes all but this part of it; noise is at most a
tenth of a distinguishable deviation."""


def explain_outputs(catalogue: Sequence[tuple[Outcome, Mapping[str, Float64]]]) -> str | None:
    """Name the mistake whose outputs the file returned, with what mends it.

    Args:
        catalogue: What each mistake would return, and what the file returned for the same inputs.
    """
    best: tuple[float, Outcome] | None = None
    for outcome, found in catalogue:
        off = _largest(outcome.trial.expected, found, outcome.outputs)
        left = _largest(outcome.outputs, found, outcome.outputs)
        if 0.0 < off < np.inf and left <= EXPLAINED * off and (best is None or left / off < best[0]):
            best = left / off, outcome
    return None if best is None else f"{best[1].text}: {best[1].mistake.fix}"


def _largest(a: Mapping[str, Float64], b: Mapping[str, Float64], names: Mapping[str, Float64]) -> float:
    with np.errstate(all="ignore"):
        differences = [np.abs(a[name] - b[name]) for name in names]
    return max((float(np.nan_to_num(off, nan=np.inf).max(initial=0.0)) for off in differences), default=0.0)


def explain_bits(expected: Weights, found: Weights) -> str | None:
    """Name the mistake that makes the expected arrays those that were found, or one for each array that differs."""
    catalogue = mistakes_of_arrays(expected)
    for mistake in catalogue:
        if same_arrays(wrong(mistake, expected), found):
            return f"{mistake.text}: {mistake.fix}"
    singles = [
        _explain_array(number, expected, found, catalogue)
        for number, (a, b) in enumerate(zip(_arrays(expected), _arrays(found), strict=True))
        if not _equal(a, b)
    ]
    explained = [text for text in singles if text is not None]
    return "; ".join(dict.fromkeys(explained)) if explained and len(explained) == len(singles) else None


def same_arrays(a: Weights, b: Weights) -> bool:
    """Whether all arrays hold the same numbers."""
    return all(_equal(*pair) for pair in zip(_arrays(a), _arrays(b), strict=True))


def _arrays(weights: Weights) -> tuple[Array | None, ...]:
    """Return W, R and both biases, missing ones as zeros where the other is there."""
    biases = (weights.bias_ih, weights.bias_hh)
    like = next((bias for bias in biases if bias is not None), None)
    filled = (np.zeros_like(like) if bias is None and like is not None else bias for bias in biases)
    return (weights.ih, weights.hh, *filled)


def _equal(a: Array | None, b: Array | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


def _explain_array(number: int, expected: Weights, found: Weights, catalogue: Sequence[Mistake]) -> str | None:
    """Name what happened to one array alone."""
    name = ("W", "R", "the input's bias", "the recurrent bias")[number]
    own, other = _arrays(expected)[number], _arrays(found)[number]
    if own is None or other is None:
        return None
    for text, changed in _changes(own):
        if _equal(changed, other):
            return f"{name} {text}"
    for mistake in catalogue:
        if _equal(_arrays(wrong(mistake, expected))[number], other):
            return f"{mistake.text}: {mistake.fix}" if number < 2 else f"{mistake.text} ({name}): {mistake.fix}"
    return None


def _changes(array: Array) -> Iterator[tuple[str, Array]]:
    """Yield what may happen to any array's numbers."""
    for narrow in ("bfloat16", "float16", "float32"):
        if float_type(narrow).itemsize < array.dtype.itemsize:
            with np.errstate(all="ignore"):
                yield f"was rounded to {narrow}", array.astype(float_type(narrow)).astype(array.dtype)
    yield "has its bytes in the other order", array.byteswap()
    yield "was negated", -array
    yield "is zeros", np.zeros_like(array)


def summed_up(outcomes: Sequence[Outcome]) -> list[str]:
    """Say which mistakes these weights cannot distinguish, with gates in groups.

    If exchanging two gates changes nothing, these weights cannot distinguish them.
    """
    groups: dict[tuple[str, str], list[set[str]]] = {}
    others: list[str] = []
    for outcome in outcomes:
        orders = outcome.mistake.orders
        if orders == (GATES, GATES, GATES):
            others.append(outcome.text)
            continue
        order = next(order for order in orders if order != GATES)
        moved = {gate for gate, found in zip(GATES, order, strict=True) if gate != found}
        if len(moved) == 2:
            arrays = [array for array, own in zip(ARRAYS, orders, strict=True) if own != GATES]
            key = (outcome.place, arrays[0] if len(arrays) == 1 else "")
            joined = moved.union(*(group for group in groups.get(key, []) if group & moved))
            groups[key] = [*(group for group in groups.get(key, []) if not group & moved), joined]
    texts: list[str] = []
    for (place, array), found in groups.items():
        where = " of ".join(part for part in (array, place) if part)
        for group in found:
            gates = f"gates {' '.join(gate for gate in GATES if gate in group)}"
            texts.append(f"{gates} in {where}" if where else gates)
    return [*texts, *others]


def locate(stack: Stack, ran: Callable[[Inputs], Outputs], accepted: frozenset[str], settings: Settings) -> str | None:
    """Say where a difference starts: the first step, unit and gate, by switching inputs and states off.

    Args:
        stack: What must be computed, layers batch first.
        ran: Runs the file.
        accepted: What it takes beside x.
        settings: The seed.

    Returns:
        A phrase, or ``None`` if single steps are right and the sequence is not returned.
    """
    for part, gates, inputs in _switched(stack, accepted, settings):
        expected, found = computed(stack, inputs), ran(inputs)
        place = _first(stack, expected, found, gates)
        if place is not None:
            step = inputs.x.shape[1] - 1
            return f"starts at step {step} in {place}: the {part}"
    return None


def _switched(stack: Stack, accepted: frozenset[str], settings: Settings) -> Iterator[tuple[str, str, Inputs]]:
    """Yield inputs that leave one part of a gate's sum, what it is, and the gates that c then comes from."""
    random = np.random.default_rng(settings.seed)
    batch = 4
    x = random.normal(size=(batch, 2, stack.first.input_size)).astype(np.float32).astype(np.float64)
    zeros = [np.zeros((batch, direction.hidden_size)) for direction in stack.directions for _ in "hc"]
    lengths = np.full(batch, 1) if "lengths" in accepted else None
    silent = Inputs(0 * x[:, :1], tuple(zeros), lengths)
    kept = [np.ones_like(state) if number % 2 else state for number, state in enumerate(zeros)]
    moved = [
        state if number % 2 else random.normal(size=state.shape).astype(np.float32).astype(np.float64)
        for number, state in enumerate(zeros)
    ]
    yield "bias", "i or g", silent
    if "states" in accepted:
        yield "bias", "f", replace(silent, states=tuple(kept))
    yield "kernel", "i or g", replace(silent, x=x[:, :1])
    if "states" in accepted:
        yield "kernel", "f", replace(silent, x=x[:, :1], states=tuple(kept))
        yield "recurrent kernel", "i or g", replace(silent, states=tuple(moved))
        both = tuple(h if number % 2 == 0 else c for number, (h, c) in enumerate(zip(moved, kept, strict=True)))
        yield "recurrent kernel", "f", replace(silent, states=both)
    two = None if lengths is None else lengths + 1
    yield "recurrent kernel, or the order of steps", "i, f or g", replace(silent, x=x, lengths=two)


def _first(stack: Stack, expected: Mapping[str, Float64], found: Outputs, gates: str) -> str | None:
    """Name the first direction whose states are off, with a unit and its gates."""
    names = [
        (layer.name, ("the forward direction of ", "the backward direction of ")[half] if layer.bidirectional else "")
        for layer in stack.layers
        for half in range(len(layer.directions))
    ]
    for number, (name, half) in enumerate(names):
        off = {letter: _off(expected[f"{letter}{number}"], found[f"{letter}{number}"]) for letter in "hc"}
        wrong_c, wrong_h = (np.flatnonzero(off[letter].any(axis=0)) for letter in "ch")
        if wrong_c.size:
            return f"unit {wrong_c[0]} of {half}{name}, gate {gates}"
        if wrong_h.size:
            return f"unit {wrong_h[0]} of {half}{name}, gate o"
    return None


def _off(expected: Float64, found: Float64) -> npt.NDArray[np.bool_]:
    """Tell numbers that differ by far more than a step rounds, in any precision with a mantissa of 10 bits."""
    return ~np.isclose(found, expected, rtol=2.0**-8, atol=2.0**-14, equal_nan=True)
