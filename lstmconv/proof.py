"""The proof: a written file holds the same bits, and computes the same numbers, as its source.

Three levels, each reported for each stack of layers (often of one):

* *structure*: names, shapes, dtypes and directions are what the target's specification says;
* *weights*: the target is decoded again, by a path that shares nothing with the writer, and compared
  with the source bit for bit;
* *outputs*: the file is run in its own framework on seeded inputs and compared with the float64
  reference of :mod:`lstmconv.semantics`.

What cannot be run here is *not run*, which is neither passed nor failed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lstmconv.copying import BiasMode, copy_gates, place_bias
from lstmconv.errors import LstmconvError, MissingDependencyError, UsageError
from lstmconv.formats import Format, ReadOptions
from lstmconv.formats.detection import detect
from lstmconv.model import GATES, Array, Checkpoint, Gates, LSTMDirection, LSTMLayer, Stack, sizes
from lstmconv.report import Check, Report
from lstmconv.runtimes import DecodedDirection, Inputs, NotRunError, Outputs, Run
from lstmconv.semantics import run_stack

__all__ = ["TOLERANCES", "Settings", "verify_file"]

TOLERANCES: Mapping[str, float] = {"float64": 1e-11, "float32": 2e-5, "float16": 1e-2}
"""The deviation allowed, relative to the largest output (at least 1), by the precision of the run.

A step of an LSTM rounds each gate's sum of about H products, and carries the error on; 16 steps of
honest float32 stay under 3e-6 on every file we know, of float64 under 1e-14. The allowance is several
times that, and a thousand times less than what exchanged gates or another hard_sigmoid cause (2e-2
and up). PyTorch runs half precisions widened to float32; ONNX Runtime takes and returns float16, of
which one rounding is 1e-3.
"""


@dataclass(frozen=True)
class Settings:
    """How outputs are compared.

    Attributes:
        atol: Absolute tolerance; ``None`` takes :data:`TOLERANCES`.
        rtol: Tolerance relative to the expected value; 0 if only ``atol`` is given.
        seed: Of the inputs.
        batch: Sequences.
        steps: Time steps.
    """

    atol: float | None = None
    rtol: float | None = None
    seed: int = 0
    batch: int = 3
    steps: int = 16

    def __post_init__(self) -> None:
        """Refuse settings under which anything, or nothing, would pass."""
        if self.batch < 1 or self.steps < 1:
            raise UsageError(f"batch and steps are {self.batch} and {self.steps}, expected at least 1")
        for name in ("atol", "rtol"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise UsageError(f"{name} is {value}, expected a number from 0 up")


def verify_file(
    source: Checkpoint, target: Path, settings: Settings | None = None, format: Format | None = None
) -> Report:
    """Compare a file with its source.

    Args:
        source: What it was converted from, or should hold the same weights as.
        target: A file of any format that lstmconv reads.
        settings: See :class:`Settings`.
        format: What the target is; its content decides if not given.

    Raises:
        UsageError: The target's layers cannot be told to be the source's, or the settings make no sense.
        UnreadableFileError: The target cannot be read.
    """
    settings = settings or Settings()
    format = format or detect(target, ReadOptions())
    runtime = format.load_runtime()
    try:
        held = format.load().read(target, ReadOptions())  # Refuses damaged files before a framework meets them.
        noted = runtime.provenance(target)
        pairs, how = _pairs(source, noted, held)
        decoded = runtime.decode(target, [name for name, _ in pairs])
        decoded = {name: found or _as_read(held, name) for name, found in decoded.items()}
    except MissingDependencyError as error:
        names = [layer.name for layer in source.layers]
        return Report(target.name, tuple(Check(name, "weights", "not run", str(error)) for name in names))
    except LstmconvError:
        raise
    except Exception as error:  # A framework's own reader refuses the file, in its own kind of error.
        raise UsageError(f"{target.name}: cannot be read ({type(error).__name__}: {_line(error)})") from error
    # The file's bias mode is a promise about the source that it was made from; of another, sums are compared.
    ours = noted is not None and noted.get("sha256") == source.provenance.sha256
    one = format.biases == "one"
    mode: BiasMode | None = "single-input" if one else (noted or {}).get("bias_mode")
    checks: list[Check] = []
    for name, stack in pairs:
        checks.append(_structure(name, stack, decoded[name], how))
        if checks[-1].status == "failed":
            continue
        problem = _computes_otherwise(runtime.seen_by_target(stack), held, runtime)
        if problem is not None:
            checks[-1] = Check(name, "structure", "failed", problem)
        checks.append(_weights(name, stack, decoded[name], mode, zeros=not one, summed=not ours))
        own = stack if ours else _with_biases(stack, decoded[name])
        checks += [_outputs(name, own, decoded[name], target, runtime, settings, run) for run in runtime.RUNS]
    return Report(target.name, tuple(checks))


def _line(error: Exception) -> str:
    return str(error).split("\n")[0][:200]


def _pairs(
    source: Checkpoint, noted: Mapping[str, Any] | None, held: Checkpoint
) -> tuple[list[tuple[str, Stack]], str]:
    """Return the target's stacks, each with the source's layers that it should hold, and how they were told."""
    stacks, origins = _stacks(noted, held)
    target = held.provenance.source
    own = [name for names in stacks.values() for name in names]
    made_of = [origins[name] for name in own]
    layers, how = _named(source, made_of) or _named(source, own), ""
    if layers is None and noted is not None and noted.get("sha256") == source.provenance.sha256:
        missing = [name for name in made_of if name not in {layer.name for layer in source.layers}]
        raise UsageError(f"{target}: was made from the layers {missing}, which the source does not have")
    if layers is None:
        layers, how = list(source.layers), ", paired by order"
    if len(layers) != len(own):
        raise UsageError(
            f"{target} holds the layers {', '.join(own)}, the source {', '.join(x.name for x in source.layers)}: "
            "neither names nor numbers tell which belong together"
        )
    chosen = dict(zip(own, layers, strict=True))
    return [(stack, Stack(stack, tuple(chosen[name] for name in names))) for stack, names in stacks.items()], how


def _named(source: Checkpoint, names: Sequence[str]) -> list[LSTMLayer] | None:
    """Return the source's layers of these names; formats write ``/`` in a name as ``.`` or ``_``."""
    exact = {layer.name: layer for layer in source.layers}
    if all(name in exact for name in names):
        return [exact[name] for name in names]
    folded = {re.sub("[./]", "_", name): layer for name, layer in exact.items()}
    if len(folded) < len(exact) or not all(re.sub("[./]", "_", name) in folded for name in names):
        return None
    return [folded[re.sub("[./]", "_", name)] for name in names]


def _stacks(noted: Mapping[str, Any] | None, held: Checkpoint) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return the file's stacks with the names of their layers, and each layer's name in the source."""
    if noted is None:
        stacks = {stack.name: [layer.name for layer in stack.layers] for stack in held.stacks}
        return stacks, {layer.name: layer.name for layer in held.layers}
    origins = {entry["name"]: entry["source"] for entry in noted["layers"]}
    stacked = noted.get("stacks") or [{"name": name, "layers": [name]} for name in origins]
    return {stack["name"]: list(stack["layers"]) for stack in stacked}, origins


def _as_read(held: Checkpoint, name: str) -> tuple[DecodedDirection, ...]:
    """Return the arrays that the reader found, for a file of others that the runtime cannot take apart itself."""
    stack = next((stack for stack in held.stacks if stack.name == name), None)
    return tuple(
        DecodedDirection(
            np.asarray(direction.weight_ih),
            np.asarray(direction.weight_hh),
            None if direction.bias_ih is None else np.asarray(direction.bias_ih),
            None if direction.bias_hh is None else np.asarray(direction.bias_hh),
        )
        for direction in (stack.directions if stack is not None else ())
    )


def _computes_otherwise(seen: Stack, held: Checkpoint, runtime: Any) -> str | None:
    """Say which activation or direction of the target is not the source's, or ``None``."""
    found = next((stack for stack in held.stacks if stack.name == seen.name), None)
    if found is None or len(found.directions) != len(seen.directions):
        return None
    for layer, own in zip(seen.layers, runtime.seen_by_target(found).layers, strict=True):
        if layer.bidirectional and own.bidirectional and layer.merge_mode != own.merge_mode:
            return f"{own.name} merges its halves by {own.merge_mode}, expected {layer.merge_mode}"
        for half, other in zip(layer.directions, own.directions, strict=True):
            for what in ("activation", "recurrent_activation"):
                mine, theirs = getattr(half, what), getattr(other, what)
                if mine is not None and theirs is not None and mine != theirs:
                    return f"the {what} of {own.name} is {theirs}, expected {mine}"
            if half.go_backwards != other.go_backwards:
                ways = ("forwards", "backwards") if half.go_backwards else ("backwards", "forwards")
                return f"{own.name} runs {ways[0]}, expected {ways[1]}"
    return None


def _structure(name: str, stack: Stack, decoded: Sequence[DecodedDirection], how: str) -> Check:
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
    halves = ", two directions" if stack.first.bidirectional else ""
    size = sizes(stack.first.input_size, stack.first.hidden_size)
    return Check(name, "structure", "passed", f"{size}{layers}, {decoded[0].weight_ih.dtype}{halves}{how}")


def _bits(array: Array) -> Array:
    """See an array as unsigned integers, so that -0.0 and NaN payloads count."""
    contiguous = np.ascontiguousarray(array)
    return contiguous.view(f"u{contiguous.dtype.itemsize}")


def _cast(gates: Gates, dtype: np.dtype[Any]) -> Gates:
    """Round gates to the target's dtype."""
    rounded = Gates(*(np.empty(gates.i.shape, dtype) for _ in range(4)))
    copy_gates(gates, rounded)
    return rounded


def _rounded(layer: LSTMLayer, dtype: np.dtype[Any]) -> LSTMLayer:
    """Return the layer with weights as the target's dtype holds them: its rounding is no error of the target."""
    if layer.dtype == dtype:
        return layer
    halves: list[LSTMDirection] = []
    for direction in layer.directions:
        arrays: dict[str, Any] = {name: _cast(gates, dtype) for name, gates in direction.arrays.items()}
        halves.append(replace(direction, **arrays))
    return replace(layer, forward=halves[0], backward=halves[1] if layer.bidirectional else None)


def _weights(
    name: str,
    stack: Stack,
    decoded: Sequence[DecodedDirection],
    mode: BiasMode | None,
    *,
    zeros: bool,
    summed: bool,
) -> Check:
    """Compare every array bit for bit; biases as the file's bias mode places them, or by their sums."""
    compared = 0
    labels = [
        (half if layer.bidirectional else "", f" of {layer.name}" if len(stack.layers) > 1 else "")
        for layer in stack.layers
        for half in ("forward ", "backward ")[: len(layer.directions)]
    ]
    for (half, whose), direction, found in zip(labels, stack.directions, decoded, strict=True):
        bias_ih, bias_hh = place_bias(direction, mode, zeros=zeros and stack.has_bias)
        stored_ih, stored_hh = found.bias_ih, found.bias_hh
        if summed:
            bias_ih, bias_hh = place_bias(direction, "single-input", zeros=stack.has_bias)
            stored_ih, stored_hh = _total(found, stack.has_bias), None
        for array, expected, stored in (
            ("input matrix", direction.weight_ih, found.weight_ih),
            ("recurrent matrix", direction.weight_hh, found.weight_hh),
            ("bias" if summed else "input bias", bias_ih, stored_ih),
            ("recurrent bias", bias_hh, stored_hh),
        ):
            problem = _difference(f"{half}{array}{whose}", expected, stored, found.weight_ih.dtype)
            if problem is not None:
                return Check(name, "weights", "failed", problem)
            compared += 0 if stored is None else stored.size
    return Check(name, "weights", "passed", f"{compared:,} numbers are equal bit for bit")


def _with_biases(stack: Stack, decoded: Sequence[DecodedDirection]) -> Stack:
    """Return the stack with the target's own biases, whose sums were compared: a rounded sum is no error of its."""
    found = iter(decoded)
    layers: list[LSTMLayer] = []
    for layer in stack.layers:
        halves: list[LSTMDirection] = []
        for direction in layer.directions:
            own = next(found)
            bias_ih, bias_hh = (None if b is None else Gates(*b.astype(direction.dtype)) for b in own.biases)
            halves.append(replace(direction, bias_ih=bias_ih, bias_hh=bias_hh))
        layers.append(replace(layer, forward=halves[0], backward=halves[1] if layer.bidirectional else None))
    return Stack(stack.name, tuple(layers))


def _total(found: DecodedDirection, biased: bool) -> Array | None:
    """Return the one bias that a file's biases stand for, ``(4, hidden)``; x + 0 is x bit for bit."""
    biases = [bias for bias in (found.bias_ih, found.bias_hh) if bias is not None]
    if not biases:
        return np.zeros(found.weight_hh.shape[:2], found.weight_hh.dtype) if biased else None
    if len(biases) == 1:
        return biases[0]
    a, b = biases
    with np.errstate(all="ignore"):
        total: Array = np.where(b == 0, a, np.where(a == 0, b, a + b))
    return total


def _difference(array: str, expected: Gates | None, stored: Array | None, dtype: np.dtype[Any]) -> str | None:
    if expected is None or stored is None:
        if expected is None and stored is None:
            return None
        found, wanted = ("missing", "one") if stored is None else ("there", "none")
        return f"the {array} is {found}, expected {wanted}"
    rounded = np.asarray(_cast(expected, dtype))
    if stored.shape != rounded.shape:
        return f"the {array} is {stored.shape}, expected {rounded.shape}"
    different = _bits(rounded) != _bits(stored)
    if not different.any():
        return None
    first = tuple(int(index) for index in np.argwhere(different)[0])
    place = ", ".join(map(str, first[1:]))
    return (
        f"the {array} differs in {int(different.sum()):,} of {different.size:,} numbers, first in gate "
        f"{GATES[first[0]]} at [{place}]: {stored[first]} where the source has {rounded[first]}"
    )


def _inputs(stack: Stack, dtype: np.dtype[Any], settings: Settings, accepted: frozenset[str]) -> Inputs:
    """Draw inputs wide enough to saturate gates now and then, representable in the target's dtype."""
    random = np.random.default_rng(settings.seed)
    narrow = np.float16 if dtype == np.float16 else np.float32

    def draw(*shape: int) -> Any:
        return random.normal(0.0, 1.5, shape).astype(narrow).astype(np.float64)

    x = draw(settings.batch, settings.steps, stack.first.input_size)
    sizes = [direction.hidden_size for direction in stack.directions for _ in "hc"]
    states = [draw(settings.batch, size) / 2 for size in sizes]
    if "states" not in accepted:
        states = [np.zeros_like(state) for state in states]
    states = [state.astype(narrow).astype(np.float64) for state in states]
    lengths = None
    if "lengths" in accepted:
        lengths = random.integers(0, settings.steps + 1, settings.batch)
        lengths[0] = settings.steps
    return Inputs(x, tuple(states), lengths)


def _expected(stack: Stack, inputs: Inputs) -> dict[str, Array]:
    """Compute what the file must return, in float64; the lengths become Keras' mask."""
    mask = None if inputs.lengths is None else np.arange(inputs.x.shape[1])[None] < inputs.lengths[:, None]
    x = inputs.x
    if stack.first.time_major:
        x, mask = x.swapaxes(0, 1), None if mask is None else mask.T
    result = run_stack(stack, x, inputs.states, mask)
    named = {f"y_{k}" if k else "y": output for k, output in enumerate(result.outputs)}
    for k, state in enumerate(result.states):
        named[f"{'hc'[k % 2]}{k // 2}"] = state
    return named


def _outputs(
    name: str,
    stack: Stack,
    decoded: Sequence[DecodedDirection],
    target: Path,
    runtime: Any,
    settings: Settings,
    run: Run,
) -> Check:
    """Run one stack and compare all its outputs and states with the reference."""
    dtype = decoded[0].weight_ih.dtype
    try:
        rounded = Stack(stack.name, tuple(_rounded(layer, dtype) for layer in stack.layers))
        seen = runtime.seen_by_target(rounded)
        inputs = _inputs(seen, dtype, settings, runtime.accepts(target, name))
        expected = _expected(seen, inputs)
        time_first = seen.first.time_major
        found = run.compute(target, name, replace(inputs, x=inputs.x.swapaxes(0, 1)) if time_first else inputs)
        label = run.framework()
    except (MissingDependencyError, NotRunError) as error:
        return Check(name, "outputs", "not run", _line(error))
    except LstmconvError:
        raise
    except Exception as error:  # A framework refuses what it was given, in its own kind of error.
        return Check(name, "outputs", "failed", f"does not run: {type(error).__name__}: {_line(error)}")
    return _compare(name, expected, found, run.precision(dtype), settings, label)


def _compare(name: str, expected: Outputs, found: Outputs, precision: str, settings: Settings, label: str) -> Check:
    missing = sorted(set(expected) - set(found))
    if missing:
        return Check(name, "outputs", "failed", f"the file returns no {', '.join(missing)} ({label})")
    worst, allowed, place = 0.0, 0.0, ""
    failed = False
    for key, values in expected.items():
        if found[key].shape != values.shape:
            return Check(name, "outputs", "failed", f"{key} is {found[key].shape}, expected {values.shape} ({label})")
        difference = np.abs(found[key] - values)
        tolerance = _tolerance(values, precision, settings)
        wrong = ~(difference <= tolerance)
        index = np.unravel_index(np.argmax(np.nan_to_num(difference, nan=np.inf)), difference.shape)
        if (wrong.any() and not failed) or difference[index] >= worst:
            worst, allowed = float(difference[index]), float(np.broadcast_to(tolerance, difference.shape)[index])
            place = f"{key}[{', '.join(str(int(part)) for part in index)}]"
        failed = failed or bool(wrong.any())
    if failed:
        detail = f"deviates by {worst:.2g} at {place}, allowed {allowed:.2g} ({label})"
        return Check(name, "outputs", "failed", detail, worst, allowed)
    detail = f"largest deviation {worst:.1e}, allowed {allowed:.0e} ({label})"
    return Check(name, "outputs", "passed", detail, worst, allowed)


def _tolerance(values: Array, precision: str, settings: Settings) -> Any:
    if settings.atol is None and settings.rtol is None:
        return TOLERANCES[precision] * max(1.0, float(np.abs(values).max(initial=0.0)))
    return (settings.atol or 0.0) + (settings.rtol or 0.0) * np.abs(values)
