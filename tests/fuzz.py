"""Damage good files of every kind at random and see that nothing worse than an error comes of it.

``python tests/fuzz.py --runs 100000 --seed 1 --jobs 1 --save findings``: each run damages one file by its own
seed, gives it to ``lstmconv inspect`` or ``convert`` in a worker process, and asks for exit code 0, 1 or 2, one
line of error, no traceback, no dead or hung process, 10 seconds, 1 GB, and nothing written or started but
the target. Exit code 0: nothing was found; 1: findings, each saved under ``--save`` with what it did.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import shutil
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.hostile.mutation import config_of, good_files, mutate, tensorflow_files
from tests.hostile.running import Worker, faults

_RECYCLE = 500
"""Runs after which a worker is started anew."""
_TARGETS = ("out.pt", "out.safetensors", "out.onnx", "out.cudnn.safetensors", "out.keras", "out.h5", "out.weights.h5")


def fuzz(
    first: int, runs: int, save: Path | None, progress: bool, only: str = ""
) -> tuple[collections.Counter, list[str]]:
    """Do the runs ``first`` to ``first + runs - 1``; return how often each outcome came, and the findings."""
    outcomes: collections.Counter = collections.Counter()
    findings: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        good, work = Path(name) / "good", Path(name) / "work"
        good.mkdir()
        made = tensorflow_files(good) if only == "tensorflow" else good_files(good)  # The others take their time.
        files = [file for file in made if only in str(file.relative_to(good))]
        worker = Worker(fork=False)
        begun = time.monotonic()
        for number in range(first, first + runs):
            rng = random.Random(number)
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            argv, how = _prepare(rng, files, work)
            answer = worker.run(argv, work)
            found = faults(answer) + _litter(work, answer["code"])
            if answer["code"] == 1 and "--no-verify" in argv + ["--no-verify"] * (argv[0] == "inspect"):
                found.append("exit 1 where nothing was compared")
            outcomes[f"{how}: exit {answer['code']}"] += 1
            if found:
                findings.append(f"run {number} {argv} {how}: {'; '.join(found)}")
                print(findings[-1], flush=True)
                if save is not None:
                    kept = save / str(number)
                    shutil.rmtree(kept, ignore_errors=True)
                    shutil.copytree(work, kept, ignore=lambda *_: [])
                    (kept / "finding.json").write_text(json.dumps({"argv": argv, "found": found, **answer}, indent=1))
            if (number - first) % _RECYCLE == _RECYCLE - 1:
                worker.stop()
                if progress:
                    rate = (number - first + 1) / (time.monotonic() - begun)
                    print(
                        f"{number - first + 1} of {runs} runs, {rate:.0f} a second, {len(findings)} findings",
                        flush=True,
                    )
        worker.stop()
    return outcomes, findings


def _prepare(rng: random.Random, files: list[Path], work: Path) -> tuple[list[str], str]:
    """Put a damaged copy of a good file into the work folder; return the command, and how it was damaged."""
    good = rng.choice(files)
    inside = work / "in"
    if good.is_dir():
        shutil.copytree(good, inside / good.name)
    else:
        inside.mkdir()
        shutil.copy(good, inside)
    how = mutate(inside / good.name, rng)
    source = inside / good.name
    if good.is_dir() and good.suffix != ".keras":
        listed = [*source.glob("model.json"), *sorted([*source.glob("*.weights.json"), *source.glob("*.bin")])]
        source = next(iter(listed), source)
    (work / "out").mkdir()
    argv = ["inspect", str(source), *(["--json"] if rng.random() < 0.3 else [])]
    if rng.random() < 0.4:
        argv = ["convert", str(source), str(work / "out" / rng.choice(_TARGETS)), "--no-verify"]
        argv += ["--recurrent-activation", "sigmoid"] if rng.random() < 0.5 else []
    config = config_of(good)
    if config is not None and rng.random() < 0.9:
        argv += ["--config", str(config)]
    return argv, how


def _litter(work: Path, code: object) -> list[str]:
    """Say what lies in the work folder that should not: nothing after an error, one target after a success."""
    names = sorted(path.name for path in (work / "out").iterdir())
    others = [path.name for path in work.iterdir() if path.name not in ("in", "out")]
    wrong = others + (names if code != 0 else names[1:])
    return [f"left {wrong}"] if wrong else []


def main() -> int:
    warnings.simplefilter("ignore")  # zipfile warns of the doubled members that are wanted here.
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0, help="the first run's; run k has seed + k")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", default="", metavar="WORD", help="damage only the files that have it in their paths")
    parser.add_argument("--save", type=Path, help="where findings go")
    arguments = parser.parse_args()
    begun = time.monotonic()
    share = -(-arguments.runs // arguments.jobs)
    starts = range(arguments.seed, arguments.seed + arguments.runs, share)
    counts = [min(share, arguments.seed + arguments.runs - start) for start in starts]
    if arguments.jobs == 1:
        parts = [fuzz(arguments.seed, arguments.runs, arguments.save, progress=True, only=arguments.only)]
    else:
        with ProcessPoolExecutor(arguments.jobs) as pool:
            size = len(counts)
            only = [arguments.only] * size
            parts = list(pool.map(fuzz, starts, counts, [arguments.save] * size, [True] * size, only))
    outcomes = sum((part for part, _ in parts), collections.Counter())
    findings = [finding for _, found in parts for finding in found]
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:8} {outcome}")
    print(
        f"{arguments.runs} runs from seed {arguments.seed}, {time.monotonic() - begun:.0f} s, {len(findings)} findings"
    )
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
