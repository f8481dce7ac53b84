"""A whole file against the graph of its source: run from its inputs to its outputs, on inputs that tell mistakes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lstmconv.errors import LstmconvError, in_one_line
from lstmconv.listing import counted
from lstmconv.model import Call, Model
from lstmconv.model.kinds import Constant
from lstmconv.proof.diagnosis import explain_outputs
from lstmconv.proof.judging import (
    NO_OUTPUT_IS_FINITE,
    deviations,
    judged,
    misshapen,
    not_comparable,
    refused,
    weigh,
)
from lstmconv.proof.models.inputs import ModelTrial, draw_trials
from lstmconv.proof.models.locating import first_difference
from lstmconv.proof.models.mistakes import rare_models, wrong_models
from lstmconv.proof.models.noise import noise_of
from lstmconv.proof.models.rounding import in_dtype, widened
from lstmconv.proof.models.variants import Wrong, returned_by
from lstmconv.proof.power import Outcome
from lstmconv.proof.report import Check
from lstmconv.proof.trials import Settings
from lstmconv.runtimes import Precision
from lstmconv.semantics.graph import stateful_calls

__all__ = ["Run", "check_model"]

Arrays: TypeAlias = "Mapping[str, npt.NDArray[Any]]"
Run: TypeAlias = "Callable[[Arrays], Arrays]"
"""Runs the written file on inputs by name; floats come as float64, already rounded to what the file takes."""


def check_model(
    model: Model,
    run: Run,
    precision: Precision,
    settings: Settings,
    *,
    stored: Model | None = None,
    framework: str = "",
    states: Collection[str] | None = None,
) -> Check:
    """Run a whole file and compare all its outputs with what the graph of its source computes.

    Args:
        model: The source's. Weights are rounded to ``precision.stored``: that is no error of the target.
        run: Runs the file. It is given the model's inputs by their names and the initial states by those of
            :func:`lstmconv.semantics.graph.state_slots`, and returns outputs and final states by theirs.
        precision: In what it computes.
        settings: Seed and tolerances.
        stored: The model as the file stores it, if its weights were rescaled and rounded; the noise is computed of it.
            By default the model itself.
        framework: What runs it, for the report.
        states: The names of the calls whose states the file takes and returns; by default those of stateful layers.

    Returns:
        A check of level ``model``; its ``layer`` is the model's name.
    """
    broken = not_comparable(
        model.name, "model", (each for each in model.layers if not isinstance(each, Constant)), settings
    )
    if broken is not None:
        return broken
    streamed = _streamed(model, states)
    right = widened(in_dtype(model, precision.stored))
    file_model = right if stored is None or stored is model else widened(in_dtype(stored, precision.stored))
    try:
        trials = draw_trials(right, streamed, precision.stored, settings)
    except (LstmconvError, IndexError) as error:  # No length fits, or computed ids lie outside of their table.
        return Check(model.name, "model", "not run", f"no inputs were found that it runs on: {in_one_line(error)}")
    except ValueError as error:  # The graph does not fit together: no file of what was read is right.
        text = f"the model cannot be computed as it was read: {in_one_line(error)}"
        return Check(model.name, "model", "failed", text)
    returned: dict[ModelTrial, dict[str, npt.NDArray[np.float64]]] = {}
    for trial in trials:
        try:
            found = run(trial.inputs)
        except Exception as error:  # A framework refuses a file in its own kind of error.
            return refused(model.name, "model", error, _sizes_that_fail(right, trial, trials))
        problem = misshapen(trial, found)
        if problem is not None:
            return Check(model.name, "model", "failed", " · ".join(filter(None, (problem, framework))))
        returned[trial] = {name: np.asarray(found[name], np.float64) for name in trial.expected}
    if not any(np.isfinite(array).any() for trial in trials for array in trial.expected.values()):
        return Check(model.name, "model", "not run", NO_OUTPUT_IS_FINITE)
    noises = {trial: noise_of(file_model, trial, precision) for trial in trials}
    first = trials[0]
    catalogue = _computed(right, first, wrong_models(right, first))
    weighed = weigh(deviations(catalogue, noises), noises, settings)
    said = " · ".join(filter(None, (_sizes_of(right, trials), framework)))

    def located() -> str | None:
        rare = _computed(right, first, rare_models(right, first))
        named = explain_outputs([(outcome, returned[first]) for outcome in rare])
        return named or first_difference(right, trials, returned, noises)

    return judged(model.name, "model", weighed, returned, said, located)


def _computed(model: Model, trial: ModelTrial, wrongs: Sequence[Wrong]) -> list[Outcome]:
    """Compute wrong versions on the inputs of a trial."""
    return [Outcome(wrong.mistake, wrong.place, trial, outputs) for wrong, outputs in returned_by(model, trial, wrongs)]


def _sizes_that_fail(model: Model, trial: ModelTrial, trials: Sequence[ModelTrial]) -> str:
    """Return on which sizes a file does not run if it ran on others, else nothing."""
    if trial is trials[0] or not model.inputs:
        return ""
    runs, fails = (each.inputs[model.inputs[0].name].shape for each in (trials[0], trial))
    return f" on {fails}, while it runs on {runs}"


def _streamed(model: Model, states: Collection[str] | None) -> tuple[Call, ...]:
    if states is None:
        return stateful_calls(model)
    return tuple(call for call in stateful_calls(model, every=True) if call.name in states)


def _sizes_of(model: Model, trials: Sequence[ModelTrial]) -> str:
    """Say on which sizes of its first input the file was run."""
    name = model.inputs[0].name
    shapes = " and ".join(str(trial.inputs[name].shape) for trial in trials)
    others = len(model.inputs) - 1
    more = f", with {counted(others, 'other input')}" if others else ""
    return f"run on {name} {shapes}{more}"
