"""``lstmconv check`` compares every array of a whole target with its source, not its LSTM layers alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import pytest

import lstmconv

SAMPLE = Path(__file__).parent.parent / "sample_weights" / "airline_passengers.h5"


def dense_kernel(file: h5py.File) -> h5py.Dataset:
    """Return the kernel of the only Dense layer."""
    found = []
    file["model_weights/next_month"].visititems(
        lambda name, entry: found.append(entry) if name.endswith(("kernel", "kernel:0")) else None
    )
    return found[0]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".onnx"])
def test_a_changed_dense_layer_is_noticed(tmp_path: Path, suffix: str) -> None:
    """The source was trained on: its Dense layer differs from the one in the target."""
    source = Path(shutil.copy(SAMPLE, tmp_path / "model.h5"))
    target = tmp_path / f"model{suffix}"
    lstmconv.convert(source, target, verify=False)
    (equal,) = lstmconv.check([target])
    assert equal.status == "passed"
    assert equal.twins == (str(source),)
    with h5py.File(source, "r+") as file:
        dense_kernel(file)[0, 0] += 1
    (checked,) = lstmconv.check([target])
    assert checked.status == "failed"
    assert checked.findings[0].rule == "twin-differs"
    assert "next_month: kernel differs in 1 of 16 numbers" in checked.findings[0].message
    assert checked.findings[0].fix == f"lstmconv convert {source} {target} --force"
