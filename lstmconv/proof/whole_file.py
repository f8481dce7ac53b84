"""A file of a whole model against its source: every array of every layer, and the whole model run.

Two scopes, each reported once for the model:

* *structure* and *weights*: inputs and outputs by name; every array of every layer is decoded again, by a path that
  shares nothing with the writer, and compared with the source bit for bit;
* *model*: the file is run in its own framework from its inputs to its outputs, and compared with the float64
  reference of the graph (:mod:`lstmconv.proof.models`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from lstmconv._version import __version__
from lstmconv.arrays.comparing import ArrayDifference, Difference, array_difference, difference
from lstmconv.arrays.copying import BiasMode, place_bias
from lstmconv.arrays.hard_sigmoid import rescaled_layers, with_hard_sigmoid_of
from lstmconv.arrays.places import place_in
from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.formats import Artifact
from lstmconv.formats.options import DTYPES
from lstmconv.formats.record import Record
from lstmconv.listing import counted
from lstmconv.model import Array, Gates, Layer, LSTMDirection, LSTMLayer, Model, RecurrentLayer, Stack
from lstmconv.model.kinds import Constant, Kind, Rescaling, Unknown
from lstmconv.model.renaming import renamed
from lstmconv.proof.graphs import graph_difference
from lstmconv.proof.judging import refused
from lstmconv.proof.memory import too_large
from lstmconv.proof.models.checking import check_model
from lstmconv.proof.models.rounding import in_dtype
from lstmconv.proof.outputs import check_outputs
from lstmconv.proof.report import Check
from lstmconv.proof.trials import Settings
from lstmconv.proof.weights import as_stored, differs_at
from lstmconv.runtimes import DecodedDirection, DecodedLayer, Session
from lstmconv.semantics.graph import state_slots, stateful_calls

__all__ = ["as_keras_stores", "as_named_in_file", "check_whole_file", "in_stored_dtype"]


def check_whole_file(
    source: Model, record: Record, session: Session, settings: Settings, *, run: bool
) -> Iterator[Check]:
    """Compare a file of a whole model with its source's model.

    Args:
        source: The source's model.
        record: The file's.
        session: The file in its own framework.
        settings: Inputs and tolerances.
        run: Run the file; else the model is reported as not run.
    """
    expected = as_named_in_file(source, record)
    start = time.perf_counter()
    decoded = session.decode_model(expected.layers, frameworks=run)
    spent = time.perf_counter() - start
    one = session.artifact.format.biases == "one"
    yield _structure(expected, decoded, record, session.artifact)
    version = record.keras_version_written
    scaled = tuple(rescaled_layers(expected, version)) if version in (2, 3) else ()
    yield replace(_weights(as_keras_stores(expected, record), decoded, record, scaled, one=one), rescaled=scaled)
    if not run:
        yield Check(expected.name, "model", "not run", "as asked")
        return
    if expected.unknown:
        first = expected.unknown[0]
        yield Check(expected.name, "model", "not run", f"{first.name} ({first.class_name}) is unknown: {first.reason}")
        return
    reason = too_large(expected)
    if reason is not None:
        alone = list(_layers_alone(expected, decoded, session, settings))
        reason += "; layers are run apart from the model" if alone else ""
        yield Check(expected.name, "model", "not run", reason)
        yield from alone
        return
    start = time.perf_counter()
    expected = in_stored_dtype(expected, decoded)
    yield replace(_model(expected, session, settings, record), seconds=round(spent + time.perf_counter() - start, 3))


def as_named_in_file(source: Model, record: Record) -> Model:
    """Return the source's model with the layers' names that its file has."""
    return renamed(source, {old: new for new, old in record.sources.items()})


def in_stored_dtype(model: Model, decoded: Mapping[str, DecodedLayer]) -> Model:
    """Round a model to the dtype of its file's weights: that is no error of the file, whatever precision computes it.

    A model whose layers have several dtypes is not rounded.
    """
    dtypes = _dtypes(decoded)
    return in_dtype(model, dtypes[0]) if len(dtypes) == 1 else model


def _layers_alone(
    expected: Model, decoded: Mapping[str, DecodedLayer], session: Session, settings: Settings
) -> Iterator[Check]:
    """Run the LSTM layers of a model that is too large to be run whole, where the target's framework can."""
    for layer in expected.layers:
        for part in _parts(layer) if isinstance(layer, LSTMLayer | Stack) else ():
            if isinstance(part, LSTMLayer) and part.name in decoded:
                found: Any = decoded[part.name]
                start = time.perf_counter()
                check = check_outputs(part.name, as_stored(Stack(part.name, (part,)), found), session, settings)
                if check.status != "not run":
                    yield replace(check, seconds=round(time.perf_counter() - start, 3))


def _model(expected: Model, session: Session, settings: Settings, record: Record) -> Check:
    try:
        loaded = session.load_model()
    except Exception as error:  # A framework refuses a file in its own kind of error.
        return refused(expected.name, "model", error)
    kept = {slot.final for call in stateful_calls(expected, every=True) for slot in state_slots(call)}
    returned = [name for name in loaded.outputs if name in expected.outputs or name not in kept]
    problem = _misnamed("inputs", [entry.name for entry in expected.inputs], [entry.name for entry in loaded.inputs])
    problem = problem or _misnamed("outputs", list(expected.outputs), returned)
    if problem is not None:
        return Check(expected.name, "model", "failed", f"{problem} · {loaded.framework}")
    states = None
    if record.states:
        states = {call.name for call in expected.calls if isinstance(call.layer, LSTMLayer | RecurrentLayer | Stack)}
    return check_model(
        expected,
        loaded.compute,
        loaded.precision,
        settings,
        stored=as_keras_stores(expected, record),
        framework=loaded.framework,
        states=states,
    )


def as_keras_stores(model: Model, record: Record) -> Model:
    """Return a model as its Keras file stores it: weights are rescaled where that Keras has another hard_sigmoid."""
    if record.keras_version_written not in (2, 3):
        return model
    return with_hard_sigmoid_of(model, record.keras_version_written)


def _misnamed(what: str, expected: list[str], found: list[str]) -> str | None:
    return None if expected == found else f"its {what} are {', '.join(found)}, expected {', '.join(expected)}"


def _layers_with_arrays(model: Model) -> list[Layer]:
    """Return the layers that have arrays of their own in a file; constants are parts of the graph."""
    return [
        layer
        for layer in model.layers
        if isinstance(layer, LSTMLayer | RecurrentLayer | Stack)
        or (layer.arrays and not isinstance(layer, Unknown | Constant | Rescaling))
    ]


def _parts(layer: Layer) -> tuple[LSTMLayer | RecurrentLayer | Kind, ...]:
    return layer.layers if isinstance(layer, Stack) else (layer,)


def _structure(expected: Model, decoded: Mapping[str, DecodedLayer], record: Record, artifact: Artifact) -> Check:
    """Compare which layers are there, the model that the file says it is, and its graph with what is written."""
    wanted = [part.name for layer in _layers_with_arrays(expected) for part in _parts(layer)]
    missing = [name for name in wanted if name not in decoded]
    if missing:
        return Check(expected.name, "structure", "failed", f"the file has no arrays of {', '.join(missing)}")
    problem = graph_difference(expected, record.model, activations=not record.activations_given)
    if problem is not None:
        return Check(expected.name, "structure", "failed", problem)
    altered, unsaid = _altered(expected, record, artifact)
    if altered is not None:
        return Check(expected.name, "structure", "failed", altered)
    known = [part for layer in expected.layers if not isinstance(layer, Constant) for part in _parts(layer)]
    count = counted(len(known), "layer")
    layers = f"{count}, {len(wanted)} with weights" if len(wanted) < len(known) else f"{count} with weights"
    dtypes = "".join(f", {dtype}" for dtype in _dtypes(decoded))
    outputs = ", ".join(expected.outputs)
    said = f"{layers}{dtypes} · {expected.described_inputs} → {outputs}{unsaid}"
    return Check(expected.name, "structure", "passed", said)


def _altered(expected: Model, record: Record, artifact: Artifact) -> tuple[str | None, str]:
    """Say in what the file's graph is not what lstmconv writes, or why the two were not compared."""
    if not artifact.format.runs_graphs:
        return None, ""
    if record.version != __version__:
        return None, f" · the graph was not compared: lstmconv {record.version} wrote it, this is {__version__}"
    if record.activations_given:
        return None, " · the graph was not compared: activations were given"
    try:
        found = artifact.format.alteration(expected, artifact, record.options)
    except (UnsupportedModelError, UsageError) as error:
        return f"its format cannot hold the source's model: {error}", ""
    return None if found is None else f"it was changed since lstmconv wrote it: {found}", ""


def _dtypes(decoded: Mapping[str, DecodedLayer]) -> list[str]:
    """Return the dtypes of all weights: one, or each layer's own in a state dict of a model that has several."""
    found: set[str] = set()
    for layer in decoded.values():
        for part in (layer,) if isinstance(layer, Mapping) else layer:
            arrays = part.values() if isinstance(part, Mapping) else (part.weight_ih, part.weight_hh)
            found |= {array.dtype.name for array in arrays}
    return sorted(found & set(DTYPES))


def _weights(
    expected: Model, decoded: Mapping[str, DecodedLayer], record: Record, scaled: tuple[str, ...], *, one: bool
) -> Check:
    """Compare every array bit for bit; the first that differs is named."""
    sizes: list[int] = []
    for layer in _layers_with_arrays(expected):
        for part in _parts(layer):
            if part.name not in decoded:
                continue
            try:
                for pair in _pairs(part, decoded[part.name], record, one=one):
                    problem = _difference(pair)
                    if problem is not None:
                        detail = f"{part.name}: {pair.half}{pair.array} {problem}"
                        return Check(expected.name, "weights", "failed", detail)
                sizes += _sizes(part)
            except UnsupportedModelError as error:
                return Check(expected.name, "weights", "failed", f"{part.name}: {error}")
    said = f"{sum(sizes):,} numbers of {len(sizes)} arrays are equal bit for bit"
    if scaled:
        factor = "1.2" if record.keras_version_written == 3 else "1 / 1.2"
        said += f", those of hard_sigmoid gates times {factor}, rounded once"
    return Check(expected.name, "weights", "passed", said)


def _sizes(layer: LSTMLayer | RecurrentLayer | Kind) -> list[int]:
    """Return the size of each array of the source's: what a target adds to them, such as a bias of zeros, is not."""
    if isinstance(layer, LSTMLayer):
        return [math.prod(gates.shape) for direction in layer.directions for gates in direction.arrays.values()]
    if isinstance(layer, RecurrentLayer):
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        found = [getattr(direction, name, None) for direction in layer.directions for name in names]
        return [array.size for array in found if array is not None]
    return [array.size for array in layer.arrays.values()]


class _Pair(NamedTuple):
    """One array of a layer, in the model's axes.

    Attributes:
        half: ``"forward "`` or ``"backward "``; ``""`` if the layer has one direction, or none.
        array: Its name.
        expected: The source's; ``None`` if the source has none.
        found: The file's; ``None`` if it is missing there.
        direction: The LSTM direction that it belongs to.
    """

    half: str
    array: str
    expected: Gates | Array | None
    found: Gates | Array | None
    direction: LSTMDirection | None = None


def _pairs(
    layer: LSTMLayer | RecurrentLayer | Kind, decoded: DecodedLayer, record: Record, *, one: bool
) -> Iterator[_Pair]:
    """Pair each array of a layer with the file's; a format of one bias stores the sum of two."""
    if isinstance(layer, LSTMLayer | RecurrentLayer):
        zeros = isinstance(layer, LSTMLayer) and layer.has_bias
        halves = ("forward ", "backward ") if len(layer.directions) > 1 else ("",)
        if len(decoded) != len(layer.directions):
            raise UnsupportedModelError(f"{len(decoded)} directions, expected {len(layer.directions)}")
        for half, direction, found in zip(halves, layer.directions, decoded, strict=True):
            if isinstance(direction, LSTMDirection) and isinstance(found, DecodedDirection):
                mode = "single-input" if one else record.bias_mode
                yield from _lstm_pairs(half, direction, found, mode, zeros=zeros and not one)
            elif isinstance(found, Mapping):
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                    yield _Pair(half, name, getattr(direction, name, None), found.get(name))
        return
    stored = decoded if isinstance(decoded, Mapping) else {}
    for name in dict.fromkeys([*layer.arrays, *stored]):
        yield _Pair("", name, layer.arrays.get(name), stored.get(name))


def _lstm_pairs(
    half: str, direction: LSTMDirection, found: DecodedDirection, mode: BiasMode | None, *, zeros: bool
) -> Iterator[_Pair]:
    biases = place_bias(direction, mode, zeros=zeros)
    expected = DecodedDirection(direction.weight_ih, direction.weight_hh, *biases)
    for name, wanted, stored in zip(DecodedDirection._fields, expected, found, strict=True):
        yield _Pair(half, name, wanted, stored, direction)


def _difference(pair: _Pair) -> str | None:
    """Say how an array differs; what a framework needs in place of a missing one (gamma 1, else 0) is no difference."""
    wanted, found = pair.expected, pair.found
    if wanted is None and found is None:
        return None
    if found is None:
        return "is missing in the file"
    if wanted is None:
        neutral = np.asarray(found)
        adds_nothing = (neutral == 1).all() if pair.array in ("gamma", "variance") else not neutral.any()
        return None if adds_nothing else "is in the file and not in the source"
    if wanted.shape != found.shape:
        return f"is {found.shape}, expected {wanted.shape}"
    differs: Difference | ArrayDifference | None
    if isinstance(wanted, Gates) and isinstance(found, Gates):
        differs = difference(wanted, found)
    else:
        differs = array_difference(np.asarray(wanted), np.asarray(found))
    if differs is None:
        return None
    where = f"{pair.array}[{', '.join(map(str, differs.place))}]"
    if isinstance(differs, Difference) and pair.direction is not None:
        where = place_in(pair.direction, pair.array, differs.gate, differs.place)
    return differs_at(differs, where)
