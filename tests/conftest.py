"""What all tests share: the golden files, and real files from elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

# Each test process computes in one thread: as many of them run as there are cores, and threads that wait for each other
# would take the cores from them. Libraries read this when they are loaded.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")
os.environ.setdefault("KERAS_BACKEND", "torch")

import pytest  # noqa: E402

from lstmconv.formats.hdf5 import tree  # noqa: E402
from tests._cases import walk_here  # noqa: E402

# The scripts that made the golden files need other Keras versions, each in its own environment.
collect_ignore = ["golden"]


@pytest.fixture(scope="session")
def golden() -> Path:
    """Return the folder of files that real Keras wrote, one folder a generator."""
    return Path(__file__).parent / "golden"


@pytest.fixture
def trusted_golden_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the trial read in a child, which test_hdf5.py tests: the golden files are known to be whole."""
    monkeypatch.setattr(tree, "described", walk_here)


@pytest.fixture(scope="session")
def real_files() -> Path:
    """Return the folder of files that strangers trained and published; they are not in the repository."""
    folder = os.environ.get("LSTMCONV_REAL_FILES")
    if not folder:
        pytest.skip("LSTMCONV_REAL_FILES is not set: no folder of real files to read")
    return Path(folder)


@pytest.fixture(scope="session")
def hostile_files(real_files: Path) -> Path:
    """Return the folder of damaged files that crash or hang the HDF5 library."""
    return real_files.parent / "hostile"
