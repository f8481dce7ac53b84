"""List the golden whole models: `for path, npz in whole_models(): ...`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent


def whole_models(folder: str = "*", case: str = "*") -> Iterator[tuple[Path, Path]]:
    """Yield each file that holds a whole model, with its recording. `folder` and `case` are glob patterns."""
    for path, npz in _files(folder, case):
        if path.suffix in {".h5", ".keras"} and "weights" not in path.name:
            yield path, npz


def weights_with_config(folder: str = "*", case: str = "*") -> Iterator[tuple[Path, Path, Path]]:
    """Yield each file that holds weights only, the `.json` of its model's config, and its recording."""
    for path, npz in _files(folder, case):
        if "weights" in path.name:
            yield path, npz.with_suffix(".json"), npz


def _files(folder: str, case: str) -> Iterator[tuple[Path, Path]]:
    for npz in sorted(HERE.glob(f"{folder}/{case}.npz")):
        for path in sorted(npz.parent.glob(f"{npz.stem}.*")):
            if path.suffix not in {".npz", ".json"}:
                yield path, npz
