"""A written file on a user's own inputs: one more comparison with the reference, beside the proof's.

No mistakes are computed on them: that these inputs would show one is what the proof's own inputs are for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lstmconv.errors import UsageError
from lstmconv.formats.record import Record
from lstmconv.model import Checkpoint, Model, Stack
from lstmconv.proof.judging import judged, misshapen, refused, weigh
from lstmconv.proof.models.inputs import ModelTrial
from lstmconv.proof.models.locating import first_difference
from lstmconv.proof.models.noise import noise_of
from lstmconv.proof.models.rounding import in_dtype
from lstmconv.proof.report import Check, Level
from lstmconv.proof.trials import Settings, rounded_inputs
from lstmconv.proof.whole_file import as_keras_stores, as_named_in_file, in_stored_dtype
from lstmconv.runtimes import LoadedModel, Session
from lstmconv.runtimes.alone import load_alone, model_of
from lstmconv.runtimes.feeding import Given, fed
from lstmconv.semantics.graph import run_calls

__all__ = ["beside_drawn", "check_own_model", "check_own_stack"]


def check_own_model(source: Model, record: Record, session: Session, given: Given, settings: Settings) -> Check:
    """Run a whole file on given inputs, and compare its outputs with the source's model.

    Args:
        source: The source's model.
        record: The file's.
        session: The file in its own framework.
        given: Arrays by input name or in order; initial states that are left out are zeros.
        settings: Tolerances.

    Raises:
        UsageError: An array does not fit.
    """
    expected = as_named_in_file(source, record)
    start = time.perf_counter()
    try:
        loaded = session.load_model()
        expected = in_stored_dtype(expected, session.decode_model(expected.layers))
    except Exception as error:  # A framework refuses a file in its own kind of error.
        return refused(expected.name, "model", error)
    stored = as_keras_stores(expected, record)
    check = _compared(expected, stored, loaded, session.artifact.path.name, given, settings, "model")
    return replace(check, seconds=round(time.perf_counter() - start, 3))


def check_own_stack(source: Checkpoint, stack: Stack, session: Session, given: Given, settings: Settings) -> Check:
    """Run a file's only stack on given inputs, from zero states, and compare its outputs with the source's layers."""
    source.refuse_unknown()
    seen = session.seen_by_target(stack)
    try:
        loaded = load_alone(session, seen)
    except Exception as error:  # As above.
        return refused(stack.name, "outputs", error)
    model = model_of(seen)
    return _compared(model, model, loaded, session.artifact.path.name, given, settings, "outputs")


def beside_drawn(own: Check, others: Sequence[Check]) -> Check:
    """Say in the check on a user's inputs whether the file deviates most on them, or on those that the proof drew.

    Deviations are compared in units of their noise.
    """
    drawn = [check.evidence.found_ratio for check in others if check.evidence is not None]
    if own.evidence is None or not drawn:
        return own
    where = f"your inputs, at {own.evidence.place}" if own.evidence.found_ratio > max(drawn) else "the drawn inputs"
    return replace(own, detail=f"{own.detail} · worst of both on {where}")


def _compared(
    model: Model, stored: Model, loaded: LoadedModel, where: str, given: Given, settings: Settings, level: Level
) -> Check:
    """Run a file on given inputs and compare it with a model; the noise is that of the model as the file stores it."""
    dtype = loaded.precision.stored
    model, stored = in_dtype(model, dtype), in_dtype(stored, dtype)
    entries = (*loaded.inputs, *loaded.states)
    arrays = fed(where, loaded.inputs, loaded.states, given)
    inputs = {
        entry.name: rounded_inputs(arrays[entry.name].astype(np.float64), dtype)
        if entry.is_float
        else arrays[entry.name]
        for entry in entries
    }
    own = [entry.name for entry in model.inputs]
    missing = [name for name in own if name not in inputs]
    if missing:
        raise UsageError(f"{where} has no input {', '.join(missing)}, which the source takes")
    states = {entry.name: inputs[entry.name] for entry in loaded.states}
    with np.errstate(all="ignore"):
        values, final = run_calls(model, {name: inputs[name] for name in own}, states)
    outputs = {name: np.asarray(values[tensor], np.float64) for name, tensor in model.outputs.items()}
    trial = ModelTrial(inputs, values, outputs | final)
    if not any(np.isfinite(array).any() for array in trial.expected.values()):
        return Check(model.name, level, "not run", "what the source returns for your inputs is not finite")
    try:
        found = loaded.compute(inputs)
    except Exception as error:  # As above.
        return refused(model.name, level, error)
    problem = misshapen(trial, found)
    said = ", ".join(f"{name} {inputs[name].shape}" for name in own)
    if problem is not None:
        return Check(model.name, level, "failed", f"{problem} · run on your inputs {said} · {loaded.framework}")
    returned = {trial: {name: np.asarray(found[name], np.float64) for name in trial.expected}}
    noises = {trial: noise_of(stored, trial, loaded.precision)}
    return judged(
        model.name,
        level,
        weigh([], noises, settings),
        returned,
        f"run on your inputs {said} · {loaded.framework}",
        lambda: first_difference(model, [trial], returned, noises),
    )
