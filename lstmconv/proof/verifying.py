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

import time
from collections.abc import Iterator
from dataclasses import replace

from lstmconv.errors import LstmconvError, MissingDependencyError, UsageError, in_one_line
from lstmconv.formats import Artifact
from lstmconv.model import Checkpoint
from lstmconv.proof.outputs import check_outputs
from lstmconv.proof.own_inputs import beside_drawn, check_own_model, check_own_stack
from lstmconv.proof.pairing import Pairing, paired
from lstmconv.proof.report import Check, Report
from lstmconv.proof.trials import Settings
from lstmconv.proof.weights import as_read, as_stored, check_structure, check_weights, computes_otherwise
from lstmconv.proof.whole_file import check_whole_file
from lstmconv.proof.wiring import check_wiring
from lstmconv.runtimes import Decoded, Session, session
from lstmconv.runtimes.feeding import Given

__all__ = ["verify_file"]


def verify_file(
    source: Checkpoint,
    target: Artifact,
    settings: Settings | None = None,
    *,
    run: bool = True,
    inputs: Given | None = None,
) -> Report:
    """Compare a file with its source.

    Args:
        source: The checkpoint that the target was converted from, or another with which it is compared.
        target: An opened file of any format that lstmconv reads.
        settings: See :class:`Settings`.
        run: Run the target in its framework. Otherwise only structure and weights are compared, no framework is
            loaded, and outputs are reported as not run.
        inputs: Arrays to run the target on too, by input name or in order.

    Raises:
        UsageError: The target's layers cannot be matched with the source's, the settings make no sense, the inputs do
            not fit, or the target holds several stacks, no model, and inputs are given.
        UnreadableFileError: The target cannot be read.
    """
    settings = settings or Settings()
    name, record, file = target.path.name, target.record, session(target)
    try:
        read = target.checkpoint  # Refuses damaged files before a framework meets them.
        if record is not None and record.scope == "whole" and source.model is not None:
            whole = list(check_whole_file(source.model, record, file, settings, run=run))
            if inputs is not None:
                whole.append(beside_drawn(check_own_model(source.model, record, file, inputs, settings), whole))
            return Report(name, tuple(whole))
        pairing = paired(source, record, read)
        if inputs is not None and len(pairing.stacks) > 1:
            stacks = ", ".join(stack for stack, _ in pairing.stacks)
            raise UsageError(f"{name}: holds {stacks} and no model; --inputs is for a whole model or one layer")
        start = time.perf_counter()
        decoded = {
            stack: directions or as_read(read, stack)
            for stack, directions in file.decode([stack for stack, _ in pairing.stacks], frameworks=run).items()
        }
        loading = time.perf_counter() - start if run else 0.0  # The framework is loaded here, or where the file is run.
    except MissingDependencyError as error:
        return Report(name, tuple(Check(layer.name, "weights", "not run", str(error)) for layer in source.layers))
    except LstmconvError:
        raise
    except Exception as error:  # A framework's own reader refuses the file, in its own kind of error.
        raise UsageError(f"{name}: cannot be read ({type(error).__name__}: {in_one_line(error)})") from error
    checks = [Check(layer, "structure", "failed", "the target does not hold this layer") for layer in pairing.lacking]
    checks += _check_stacks(source, pairing, decoded, file, settings, run=run, loading=loading)
    sized = all(check.level != "structure" or check.status != "failed" for check in checks)
    wiring = check_wiring(source, target, pairing, settings, run=run) if sized else None
    checks += [] if wiring is None else [wiring]
    if inputs is not None and checks[0].status == "passed":
        ((stack_name, stack),) = pairing.stacks
        expected = as_stored(stack, decoded[stack_name])
        checks.append(beside_drawn(check_own_stack(source, expected, file, inputs, settings), checks))
    return Report(name, tuple(checks))


def _check_stacks(
    source: Checkpoint,
    pairing: Pairing,
    decoded: Decoded,
    file: Session,
    settings: Settings,
    *,
    run: bool,
    loading: float,
) -> Iterator[Check]:
    """Compare structure, weights and outputs of each stack; the first run has the seconds of loading added."""
    artifact = file.artifact
    one_bias, record = artifact.one_bias, artifact.record
    # The file's bias mode is a promise about the source that it was made from; of another, sums are compared.
    summed = record is None or not record.made_from(source)
    mode = "single-input" if one_bias else None if record is None else record.bias_mode
    for name, stack in pairing.stacks:
        structure = check_structure(name, stack, decoded[name], pairing.how)
        if structure.status == "failed":
            yield structure
            continue
        problem = computes_otherwise(file.seen_by_target(stack), source, file)
        yield structure if problem is None else Check(name, "structure", "failed", problem)
        yield check_weights(name, stack, decoded[name], mode, zeros=not one_bias, summed=summed)
        if not run:
            yield Check(name, "outputs", "not run", "as asked")
            continue
        expected = as_stored(stack, decoded[name])
        for way in range(file.ways):
            start = time.perf_counter()
            check = check_outputs(name, expected, file, settings, way)
            loading += time.perf_counter() - start
            if check.status != "not run":
                check, loading = replace(check, seconds=round(loading, 3)), 0.0
            yield check
