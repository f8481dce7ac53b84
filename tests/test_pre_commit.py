"""The hook under the real pre-commit, in scratch repositories; it is installed once, in an environment of its own.

The hook is taken from a repository made of this tree's files, so that uncommitted changes are tested too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest

import lstmconv
from tests._cases import write_lstm

ROOT = Path(__file__).parent.parent
PACKAGE = ("lstmconv", "pyproject.toml", "README.md", "LICENSE", ".pre-commit-hooks.yaml")
"""What the hook's package is built from."""
VERSIONS = {"PIP_CONSTRAINT": str(ROOT / ".ci" / "constraints.txt")}


def call(*command, cwd, **environment):
    """Run a command; both streams together."""
    named = {f"GIT_{who}_{what}": "tests@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    outside = {key: value for key, value in os.environ.items() if not key.startswith("GIT_") and key != "PYTHONPATH"}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**outside, **named, "GITHUB_ACTIONS": "false", **environment},
    )


@dataclass(frozen=True)
class Hook:
    """The repository that offers the hook, its commit, and pre-commit's own folder."""

    repository: Path
    commit: str
    home: Path

    def run(self, *arguments, cwd):
        return call(sys.executable, "-m", "pre_commit", *arguments, cwd=cwd, PRE_COMMIT_HOME=str(self.home), **VERSIONS)

    def config(self):
        """Return a configuration that shows what the hook prints also where it passes."""
        chosen = "- id: lstmconv-check\n    verbose: true\n"
        return f"repos:\n- repo: {self.repository}\n  rev: {self.commit}\n  hooks:\n  {chosen}"


@pytest.fixture(scope="session")
def hook(tmp_path_factory):
    """Install the hook once for all workers, from a package index, with the versions that are tested."""
    pytest.importorskip("pre_commit")
    filelock = pytest.importorskip("filelock")
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "hook"
    folder.mkdir(exist_ok=True)
    with filelock.FileLock(folder / "lock"):
        if not (folder / "installed").exists():
            (folder / "installed").write_text(install(folder))
    commit = (folder / "installed").read_text()
    if not commit:
        pytest.skip("no package index can be reached, from which pre-commit installs the hook")
    return Hook(folder / "repository", commit, folder / "home")


def install(folder):
    """Make the repository that offers the hook, and install it; return its commit, or nothing without an index."""
    index = folder / "index"
    fetched = call(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", index, "hatchling", cwd=ROOT)
    if fetched.returncode:
        return ""
    repository = folder / "repository"
    repository.mkdir()
    for name in PACKAGE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, repository / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, repository / name)
    commit_all(repository)
    made = Hook(repository, call("git", "rev-parse", "HEAD", cwd=repository).stdout.strip(), folder / "home")
    (folder / ".pre-commit-config.yaml").write_text(made.config())
    call("git", "init", "-q", cwd=folder)
    installed = made.run("install-hooks", cwd=folder)
    assert installed.returncode == 0, installed.stdout
    return made.commit


def commit_all(folder, message="All"):
    if not (folder / ".git").exists():
        call("git", "init", "-q", cwd=folder)
    call("git", "add", "-A", cwd=folder)
    return call("git", "commit", "-q", "-m", message, cwd=folder)


@pytest.fixture
def guarded(hook, tmp_path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Install the hook in a scratch repository; return what commits everything in it."""
    call("git", "init", "-q", cwd=tmp_path)
    (tmp_path / ".pre-commit-config.yaml").write_text(hook.config())
    installed = hook.run("install", cwd=tmp_path)
    assert installed.returncode == 0, installed.stdout

    def commit(message):
        call("git", "add", "-A", cwd=tmp_path)
        return call("git", "commit", "-m", message, cwd=tmp_path, PRE_COMMIT_HOME=str(hook.home))

    return commit


def retrain(path):
    with h5py.File(path, "r+") as file:
        file["model_weights/lstm_1/lstm_1/recurrent_kernel:0"][0, 0] += 1


def commits(folder):
    return call("git", "log", "--all", "--format=%s", cwd=folder).stdout.split()


def test_a_good_commit_passes_and_a_stale_twin_is_stopped_until_it_is_mended(guarded, tmp_path):
    write_lstm(tmp_path / "model.h5")
    lstmconv.convert(tmp_path / "model.h5", tmp_path / "model.onnx", verify=False)
    (tmp_path / "notes.txt").write_text("An LSTM.\n")
    done = guarded("good")
    assert done.returncode == 0, done.stdout
    assert "check LSTM checkpoints" in done.stdout
    retrain(tmp_path / "model.h5")
    done = guarded("stale")
    assert done.returncode == 1
    assert "model.onnx: lstm_1: its recurrent weights differ in 1 of 100 numbers" in done.stdout
    assert "run: lstmconv convert model.h5 model.onnx --force\n" in done.stdout
    assert commits(tmp_path) == ["good"]
    lstmconv.convert(tmp_path / "model.h5", tmp_path / "model.onnx", verify=False, force=True)
    assert guarded("mended").returncode == 0
    assert commits(tmp_path) == ["mended", "good"]


def test_a_nan_is_stopped_and_so_is_what_is_no_checkpoint(guarded, tmp_path):
    (tmp_path / "models").mkdir()
    arrays = write_lstm(tmp_path / "models/good.h5")
    arrays[1][0, 0] = np.nan
    write_lstm(tmp_path / "models/bad.h5", arrays=arrays)
    (tmp_path / "models/EMPTY.PT").touch()
    done = guarded("bad")
    assert done.returncode == 1
    assert "✗ models/bad.h5  lstm_1: 1 NaN of 100 numbers, first at recurrent_kernel[0, 0]" in done.stdout
    assert "✗ models/EMPTY.PT  the file is empty" in done.stdout
    assert "✓ models/good.h5  lstm_1" in done.stdout
    assert "3 files: 1 passed, 2 failed" in done.stdout
    assert commits(tmp_path) == []


def test_the_settings_of_the_repository_hold(guarded, tmp_path):
    write_lstm(tmp_path / "model.h5")
    (tmp_path / "pyproject.toml").write_text('[tool.lstmconv]\nrequired-targets = ["onnx"]\n')
    done = guarded("without")
    assert done.returncode == 1
    assert "run: lstmconv convert model.h5 model.onnx\n" in done.stdout
    (tmp_path / "pyproject.toml").write_text('[tool.lstmconv]\nignore = ["*.h5"]\n')
    assert guarded("ignored").returncode == 0


def test_a_repository_without_checkpoints_has_nothing_to_check(guarded, tmp_path):
    (tmp_path / "notes.txt").write_text("No LSTM.\n")
    done = guarded("notes")
    assert done.returncode == 0
    assert "(no files to check)Skipped" in done.stdout


def test_state_dicts_are_checked_without_torch(guarded, hook, tmp_path):
    """The hook's environment has the core dependencies alone."""
    write_lstm(tmp_path / "model.h5")
    for target in ("model.pt", "model.safetensors", "model.cudnn.safetensors"):
        lstmconv.convert(tmp_path / "model.h5", tmp_path / target, verify=False)
    done = guarded("targets")
    assert done.returncode == 0, done.stdout
    assert "✓ model.pt  lstm_1; the same weights as in model.h5" in done.stdout
    assert "4 files: 4 passed" in done.stdout
    installed = {path.name for path in hook.home.glob("repo*/py_env-*/lib/python*/site-packages/*")}
    assert "h5py" in installed
    assert not {"torch", "onnxruntime", "keras"} & installed


def test_docs_show_the_hook_as_it_is():
    page = (ROOT / "docs" / "check.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    hooks = (ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8")
    assert re.findall(r"- id: (\S+)", snippet) == re.findall(r"- id: (\S+)", hooks) == ["lstmconv-check"]
