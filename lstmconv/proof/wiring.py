"""Compare how a file and its source join layers: Keras runs the file's graph, not its record.

A file of LSTM layers alone has nothing between them, and feeds each from the layer that feeds it in the source. A file
that something else wrote contains a whole model: it is computed, and compared with the source's.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from lstmconv.formats import Artifact
from lstmconv.formats.record import Record
from lstmconv.listing import counted
from lstmconv.model import Array, Checkpoint, LSTMLayer, Model, Stack
from lstmconv.model.kinds import Identity, Unknown
from lstmconv.proof.graphs import difference_of_namesakes, unseen_difference
from lstmconv.proof.models.checking import check_model
from lstmconv.proof.pairing import Pairing
from lstmconv.proof.report import Check
from lstmconv.proof.trials import Settings
from lstmconv.runtimes import Precision
from lstmconv.semantics.graph import StateSlot, run_model, state_slots, stateful_calls

__all__ = ["check_wiring"]


def check_wiring(
    source: Checkpoint, target: Artifact, pairing: Pairing, settings: Settings, *, run: bool
) -> Check | None:
    """Compare what a target's own graph does between its layers with the source; ``None`` where nothing is wrong.

    Args:
        source: Both files' models are compared where both contain one.
        target: A file that holds LSTM layers, and perhaps more.
        pairing: Which layers belong together.
        settings: The seed and the sizes of the test inputs.
        run: Compute models; else only what the files tell is compared.
    """
    read = target.checkpoint
    if read.model is None or source.model is None:
        return None
    if target.record is not None:
        problem = (
            _between(read.model) or _cast(read) or _rejoined(source, read, pairing) or _parted(target.record, read)
        )
        return None if problem is None else Check(read.model.name, "structure", "failed", problem)
    if run and not source.model.unknown and not read.model.unknown:
        computed = _computed(source.model, read.model, settings)
        if computed.status == "passed":
            unseen = unseen_difference(source.model, read.model)
            return computed if unseen is None else Check(source.model.name, "structure", "failed", unseen)
        if computed.status == "failed":
            return computed
    else:
        computed = None
    problem = difference_of_namesakes(source.model, read.model)
    return computed if problem is None else Check(source.model.name, "structure", "failed", problem)


def _between(model: Model) -> str | None:
    """Name what stands in a graph that should hold LSTM layers alone."""
    for call in model.calls:
        if not isinstance(call.layer, LSTMLayer | Stack | Identity):
            kind = call.layer.class_name if isinstance(call.layer, Unknown) else type(call.layer).__name__
            return f"{call.name} ({kind}) stands in its graph, which should hold LSTM layers alone"
    return None


def _cast(read: Checkpoint) -> str | None:
    """Name an input of another dtype than all layers: Keras casts what a model is given to the dtype of its input.

    Source: keras/src/models/functional.py, ``_convert_inputs_to_tensors``.
    """
    assert read.model is not None
    dtypes = list(dict.fromkeys(layer.dtype.name for layer in read.layers))
    for entry in read.model.inputs:
        if entry.dtype not in dtypes:
            return f"its input {entry.name} is {entry.dtype}, expected {' or '.join(dtypes)}"
    return None


def _rejoined(source: Checkpoint, read: Checkpoint, pairing: Pairing) -> str | None:
    """Say which edge of the target's graph the source does not have."""
    origin = {name: stack.first.name for name, stack in pairing.stacks if len(stack.layers) == 1}
    known = {*(source.edges or ()), *(pair for inside in source.joined.values() for pair in pairwise(inside))}
    for below, above in read.edges or ():
        pair = origin.get(below, below), origin.get(above, above)
        if pair not in known:
            return f"{below} feeds {above} in its graph, and not in the source's"
    return None


def _parted(record: Record, read: Checkpoint) -> str | None:
    """Say which layer takes an input of the model where a file was written with another layer in front of it."""
    fed = {above for _, above in read.edges or ()}
    layers = {layer.name: layer for layer in read.layers}
    order = [entry.name for entry in record.layers if entry.name in layers]
    for below, above in record.edges or ():
        if above in fed or not {below, above} <= set(order) or order.index(below) > order.index(above):
            continue
        if _takes(layers[above], layers[below]):
            return f"{above} takes an input of the model in its graph, and the output of {below} in its record"
    return None


def _takes(above: LSTMLayer, below: LSTMLayer) -> bool:
    """Whether one layer returns one sequence that the other can take; layers alone are joined only then."""
    one = below.return_sequences is not False and not (below.bidirectional and below.merge_mode == "none")
    return one and above.input_size == below.output_size and above.time_major == below.time_major


def _computed(source: Model, read: Model, settings: Settings) -> Check:
    """Compute both models on the same inputs, each by the reference."""
    sizes = [(len(model.inputs), len(model.outputs)) for model in (source, read)]
    if sizes[0] != sizes[1]:
        expected, found = (f"{inputs} inputs and {outputs} outputs" for inputs, outputs in sizes)
        return Check(source.name, "model", "failed", f"its model has {found}, expected {expected}")
    kept = [_kept_states(model) for model in (source, read)]
    if len(kept[0]) != len(kept[1]):
        said = f"its model keeps {counted(len(kept[1]), 'state')} from batch to batch, expected {len(kept[0])}"
        return Check(source.name, "model", "failed", said)
    if {slot.initial for slot in kept[0]} == {slot.initial for slot in kept[1]}:  # Calls may stand in another order.
        kept = [sorted(slots, key=lambda slot: slot.initial) for slots in kept]
    names = [([entry.name for entry in model.inputs], list(model.outputs)) for model in (source, read)]
    for what, own, others in zip(("inputs", "outputs"), *names, strict=True):
        if own != others and set(own) == set(others):  # Keras takes and returns lists.
            said = f"its {what} are {', '.join(others)}, expected {', '.join(own)}"
            return Check(source.name, "model", "failed", said)
    inputs, outputs = (dict(zip(own, others, strict=True)) for own, others in zip(*names, strict=True))
    outputs |= {slot.final: other.final for slot, other in zip(*kept, strict=True)}
    states = {slot.initial: other.initial for slot, other in zip(*kept, strict=True)}

    def run(given: Mapping[str, Array]) -> Mapping[str, npt.NDArray[np.float64]]:
        initial = {states[name]: given[name] for name in states if name in given}
        found = run_model(read, {inputs[name]: given[name] for name in inputs}, initial)
        return {name: found[own] for name, own in outputs.items()}

    precision = Precision("float64", _stored(read))
    return check_model(source, run, precision, settings, framework="its graph computed in float64")


def _kept_states(model: Model) -> list[StateSlot]:
    """Return the states that a model keeps from batch to batch, in the order of its calls."""
    return [slot for call in stateful_calls(model) for slot in state_slots(call)]


def _stored(model: Model) -> str:
    """Return the dtype of a model's LSTM weights, to which the source's are rounded."""
    layers = [one for layer in model.layers for one in (layer.layers if isinstance(layer, Stack) else (layer,))]
    return next((layer.dtype.name for layer in layers if isinstance(layer, LSTMLayer)), "float32")
