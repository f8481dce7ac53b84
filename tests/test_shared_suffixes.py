"""Suffixes that checkpoints share with other files: ``check`` and its hook decide by the content."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

import lstmconv
from tests._cases import GOLDEN

CONTAINERS = GOLDEN / "torch_containers"
PATTERN = re.search(
    r"^  files: (.+)$", (GOLDEN.parent.parent / ".pre-commit-hooks.yaml").read_text(), re.MULTILINE
).group(1)

CHECKPOINTS = {
    "last.ckpt": CONTAINERS / "checkpoint.ckpt",
    "pytorch_model.bin": CONTAINERS / "whole_module.pt",
    "old.bin": CONTAINERS / "whole_module_legacy.pt",
    "exported.pt2": CONTAINERS / "exported.pt2",
    "weights.npz": GOLDEN / "keras_on_torch" / "by_name.npz",
    "cp.ckpt": GOLDEN / "keras-3.15.1" / "lstm.h5",
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints_of_shared_suffixes_are_checked(tmp_path, name):
    shutil.copy(CHECKPOINTS[name], tmp_path / name)
    (result,) = lstmconv.check([tmp_path / name])
    assert result.status == "passed"
    assert result.layers
    assert re.search(PATTERN, name)


@pytest.mark.parametrize("suffix", [".ckpt", ".bin", ".npz", ".pt2"])
@pytest.mark.parametrize(
    "content",
    [b"", bytes(600), b"MZ\x90\x00" + bytes(600), b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"],
    ids=["empty", "zeros", "program", "pointer"],
)
def test_other_files_of_shared_suffixes_are_ignored(tmp_path, suffix, content):
    (tmp_path / f"a{suffix}").write_bytes(content)
    assert [result.status for result in lstmconv.check([tmp_path / f"a{suffix}"])] == ["ignored"]


def test_arrays_of_data_are_no_lstm(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.ones(3), y=np.ones(2))
    np.savez(tmp_path / "weights.npz", np.ones((3, 4)), np.ones(4))
    np.savez(tmp_path / "objects.npz", np.array([{}], dtype=object))
    results = lstmconv.check(sorted(tmp_path.iterdir()))
    assert [(result.status, result.findings) for result in results] == [("no lstm", ())] * 3
