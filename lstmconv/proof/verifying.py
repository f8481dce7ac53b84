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
from dataclasses import replace

from lstmconv.errors import LstmconvError, MissingDependencyError, UsageError, in_one_line
from lstmconv.formats import Artifact
from lstmconv.model import Checkpoint
from lstmconv.proof.outputs import check_outputs
from lstmconv.proof.own_inputs import beside_drawn, check_own_model, check_own_stack
from lstmconv.proof.pairing import paired
from lstmconv.proof.report import Check, Report
from lstmconv.proof.trials import Settings
from lstmconv.proof.weights import as_held, as_read, check_structure, check_weights, computes_otherwise
from lstmconv.proof.whole_file import check_whole_file
from lstmconv.proof.wiring import check_wiring
from lstmconv.runtimes import session
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
        source: What it was converted from, or should hold the same weights as.
        target: An opened file of any format that lstmconv reads.
        settings: See :class:`Settings`.
        run: Run the target in its framework; without it structure and weights are compared, and no framework loaded.
            Outputs are then reported as not run.
        inputs: Arrays to run the target on too, by input name or in order.

    Raises:
        UsageError: The target's layers cannot be matched with the source's, the settings make no sense, or the inputs
            do not fit, or the target holds several stacks and no model that would wire them.
        UnreadableFileError: The target cannot be read.
    """
    settings = settings or Settings()
    name, record, one = target.path.name, target.record, target.format.biases == "one"
    opened = session(target)
    try:
        held = target.checkpoint  # Refuses damaged files before a framework meets them.
        if record is not None and record.scope == "whole" and source.model is not None:
            whole = list(check_whole_file(source.model, record, opened, settings, run=run))
            if inputs is not None:
                whole.append(beside_drawn(check_own_model(source.model, record, opened, inputs, settings), whole))
            return Report(name, tuple(whole))
        pairing = paired(source, record, held)
        pairs, how, missing = pairing
        if inputs is not None and len(pairs) > 1:
            stacks = ", ".join(stack for stack, _ in pairs)
            raise UsageError(f"{name}: holds {stacks} and no model; --inputs is for a whole model or one layer")
        start = time.perf_counter()
        decoded = opened.decode([stack for stack, _ in pairs], frameworks=run)
        spent = time.perf_counter() - start if run else 0.0  # The framework is loaded here, or where the file is run.
        decoded = {stack: found or as_read(held, stack) for stack, found in decoded.items()}
    except MissingDependencyError as error:
        names = [layer.name for layer in source.layers]
        return Report(name, tuple(Check(layer, "weights", "not run", str(error)) for layer in names))
    except LstmconvError:
        raise
    except Exception as error:  # A framework's own reader refuses the file, in its own kind of error.
        raise UsageError(f"{name}: cannot be read ({type(error).__name__}: {in_one_line(error)})") from error
    # The file's bias mode is a promise about the source that it was made from; of another, sums are compared.
    ours = record is not None and record.made_from(source)
    mode = "single-input" if one else None if record is None else record.bias_mode
    checks = [Check(layer, "structure", "failed", "the target does not hold this layer") for layer in missing]
    for stack_name, stack in pairs:
        checks.append(check_structure(stack_name, stack, decoded[stack_name], how))
        if checks[-1].status == "failed":
            continue
        problem = computes_otherwise(opened.seen_by_target(stack), held, opened)
        if problem is not None:
            checks[-1] = Check(stack_name, "structure", "failed", problem)
        checks.append(check_weights(stack_name, stack, decoded[stack_name], mode, zeros=not one, summed=not ours))
        if not run:
            checks.append(Check(stack_name, "outputs", "not run", "as asked"))
            continue
        own = as_held(stack, decoded[stack_name])
        for way in range(opened.ways):
            start = time.perf_counter()
            check = check_outputs(stack_name, own, opened, settings, way)
            spent += time.perf_counter() - start
            if check.status != "not run":
                check, spent = replace(check, seconds=round(spent, 3)), 0.0
            checks.append(check)
    sized = all(check.level != "structure" or check.status != "failed" for check in checks)
    wiring = check_wiring(source, target, pairing, settings, run=run) if sized else None
    checks += [] if wiring is None else [wiring]
    if inputs is not None and checks[0].status == "passed":
        (pair,) = pairs
        own = as_held(pair[1], decoded[pair[0]])
        checks.append(beside_drawn(check_own_stack(source, own, opened, inputs, settings), checks))
    return Report(name, tuple(checks))
