"""Prints how many wrong conversions the proof catches and names, format by format: the table in docs/proof.md.

python -m tests.proof.measure
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.contract.building import verified
from tests.proof.test_mutants import SUFFIXES, cases, wrong_file


def main() -> None:
    print("| target | wrong files | caught by bits | caught by outputs | named by bits | named by outputs |")  # noqa: T201
    print("|---|---|---|---|---|---|")  # noqa: T201
    for suffix in SUFFIXES:
        counts = dict.fromkeys(("all", "weights", "outputs", "weights named", "outputs named"), 0)
        with tempfile.TemporaryDirectory() as folder:
            for mutant, features, hidden, backward in cases(suffix):
                report = verified(*wrong_file(Path(folder), suffix, mutant, features, hidden, backward))
                counts["all"] += 1
                for check in report.failures:
                    named = any(words in (check.diagnosis or "") for words in mutant.words)
                    counts[check.level] += 1
                    counts[f"{check.level} named"] += named
        print(f"| `{suffix}` | {' | '.join(map(str, counts.values()))} |")  # noqa: T201


if __name__ == "__main__":
    main()
