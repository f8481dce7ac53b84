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
from pathlib import Path

from lstmconv.arrays.copying import BiasMode
from lstmconv.errors import LstmconvError, MissingDependencyError, UsageError
from lstmconv.formats import Format, ReadOptions
from lstmconv.formats.detection import detect
from lstmconv.model import Checkpoint
from lstmconv.proof.outputs import check_outputs
from lstmconv.proof.pairing import paired
from lstmconv.proof.report import Check, Report
from lstmconv.proof.trials import Settings
from lstmconv.proof.weights import as_read, check_structure, check_weights, computes_otherwise, rounded, with_biases

__all__ = ["verify_file"]


def verify_file(
    source: Checkpoint,
    target: Path,
    settings: Settings | None = None,
    format: Format | None = None,
    *,
    run: bool = True,
) -> Report:
    """Compare a file with its source.

    Args:
        source: What it was converted from, or should hold the same weights as.
        target: A file of any format that lstmconv reads.
        settings: See :class:`Settings`.
        format: What the target is; its content decides if not given.
        run: Run the target in its framework; without it structure and weights are compared, and no framework loaded.
            Outputs are then reported as not run.

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
        pairs, how = paired(source, noted, held)
        start = time.perf_counter()
        decoded = runtime.decode(target, [name for name, _ in pairs], noted, frameworks=run)
        spent = time.perf_counter() - start if run else 0.0  # The framework is loaded here, or where the file is run.
        decoded = {name: found or as_read(held, name) for name, found in decoded.items()}
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
        checks.append(check_structure(name, stack, decoded[name], how))
        if checks[-1].status == "failed":
            continue
        problem = computes_otherwise(runtime.seen_by_target(stack), held, runtime)
        if problem is not None:
            checks[-1] = Check(name, "structure", "failed", problem)
        checks.append(check_weights(name, stack, decoded[name], mode, zeros=not one, summed=not ours))
        if not run:
            checks.append(Check(name, "outputs", "not run", "as asked"))
            continue
        own = stack if ours else with_biases(stack, decoded[name])
        own = rounded(own, decoded[name][0].weight_ih.dtype)
        for way in runtime.RUNS:
            start = time.perf_counter()
            check = check_outputs(name, own, target, runtime, settings, way)
            spent += time.perf_counter() - start
            if check.status != "not run":
                check, spent = replace(check, seconds=round(spent, 3)), 0.0
            checks.append(check)
    return Report(target.name, tuple(checks))


def _line(error: Exception) -> str:
    return str(error).split("\n")[0][:200]
