"""README says what the program does: its sessions, its table and its Python are run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lstmconv.layouts import LAYOUTS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SESSIONS = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
NUMBERS = re.compile(r"\d(\.\d)?e-\d+|\d+\.\d+\.\d+(\+cpu)?|\d+\.\d s\b")
"""Deviations, versions and times differ between machines; what is compared is all the rest."""


@pytest.mark.parametrize("session", SESSIONS, ids=[session.split("\n")[0] for session in SESSIONS])
def test_a_session_in_readme_prints_what_readme_shows(session: str, tmp_path: Path) -> None:
    """Command after command in one folder; both streams together, but for measured numbers and versions."""
    shutil.copytree(ROOT / "sample_weights", tmp_path / "sample_weights")
    for step in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
        command, _, shown = step.partition("\n")
        program, *arguments = command.split()
        assert program == "lstmconv"
        done = subprocess.run(
            [sys.executable, "-m", "lstmconv", *arguments],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert NUMBERS.sub("#", done.stdout) == NUMBERS.sub("#", shown)


def test_the_layout_table_in_readme_is_the_one_in_the_code() -> None:
    """Each row of layouts.py stands in README as it is."""
    table = README.split("<!-- layouts:")[1].split("<!-- /layouts -->")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    expected = [
        f"| {row.name} | {' '.join(row.gates)}{'' if 'gate' in row.weight_ih else ', an array each'} | "
        f"`{row.weight_ih}` | `{row.weight_hh}` | `{row.bias}` | {row.biases} |"
        for row in LAYOUTS
    ]
    assert rows == expected


def test_the_python_in_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both examples, one after the other, on the file of the first session."""
    import lstmconv

    shutil.copytree(ROOT / "sample_weights", tmp_path / "sample_weights")
    monkeypatch.chdir(tmp_path)
    lstmconv.convert("sample_weights/airline_passengers.h5", "airline_passengers.pt")
    for example in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(example, "README.md", "exec"), {})
    assert (tmp_path / "airline_passengers.onnx").is_file()
