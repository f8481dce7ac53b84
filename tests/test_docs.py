"""README and docs/ say what the program does: their sessions, tables and Python examples are run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from lstmconv.layouts import LAYOUTS
from tests._command import lstmconv_command

ROOT = Path(__file__).parent.parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
SESSIONS = [
    pytest.param(session, id=f"{page}: {session.splitlines()[0]}")
    for page, text in PAGES.items()
    for session in re.findall(r"```console\n(.*?)```", text, re.DOTALL)
]
EXAMPLES = [
    pytest.param(example, id=f"{page}: example {number}")
    for page, text in PAGES.items()
    for number, example in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL), 1)
]
NUMBERS = re.compile(
    r"(?<=found )(less than )?[\d.,e]+(?= of noise)|[\d.,e]+(?= times noise)"
    r"|\d(\.\d)?e-\d+|\d+\.\d+\.\d+(\+cpu)?|\d+\.\d s\b"
)
"""Deviations, versions and times. They differ between machines, so the comparison ignores them."""


@pytest.mark.parametrize("session", SESSIONS)
def test_a_session_prints_what_the_page_shows(session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands run in one folder; stdout and stderr are compared together, without measured numbers."""
    shutil.copytree(ROOT / "sample_weights", tmp_path / "sample_weights")
    monkeypatch.chdir(tmp_path)
    for step in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
        command, _, shown = step.partition("\n")
        program, *arguments = command.split()
        assert program == "lstmconv"
        done = lstmconv_command(*arguments)
        assert NUMBERS.sub("#", done.stderr + done.stdout) == NUMBERS.sub("#", shown)


def test_the_layout_table_in_readme_is_the_one_in_the_code() -> None:
    """README has every row of the table of LSTM layouts, and no other."""
    table = PAGES["README.md"].split("<!-- layouts:")[1].split("<!-- /layouts -->")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    expected = [
        f"| {row.name} | {' '.join(row.gates)}{'' if 'gate' in row.weight_ih else ', an array each'} | "
        f"`{row.weight_ih}` | `{row.weight_hh}` | `{row.bias}` | {row.biases} |"
        for row in LAYOUTS
    ]
    assert rows == expected


def test_the_source_in_readme_is_what_the_session_writes(tmp_path: Path) -> None:
    """README shows the class of net.py."""
    import lstmconv

    (shown,) = re.findall(r"```py\n(.*?)```", PAGES["README.md"], re.DOTALL)
    lstmconv.convert("sample_weights/airline_passengers.h5", tmp_path / "net.py", verify=False)
    assert shown in (tmp_path / "net.py").read_text(encoding="utf-8")


def test_the_table_of_layers_is_the_one_in_the_code() -> None:
    """docs/models.md shows what ``python -m tests.coverage`` prints."""
    pytest.importorskip("keras")
    from tests import coverage

    table = PAGES["docs/models.md"].split("python -m tests.coverage -->\n")[1].split("\n<!-- /layers -->")[0]
    assert table == coverage.page()


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_python_example_runs(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples start from the sample files and from the file that README's session writes."""
    import lstmconv

    shutil.copytree(ROOT / "sample_weights", tmp_path / "sample_weights")
    monkeypatch.chdir(tmp_path)
    lstmconv.convert("sample_weights/airline_passengers.h5", "airline_passengers.pt")
    exec(compile(example, "example", "exec"), {})


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_or_a_heading(page: str) -> None:
    """Links to files are relative to the page; the part after # is a heading of the linked page."""
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", PAGES[page]):
        path = ((ROOT / page).parent / target if target else ROOT / page).resolve()
        assert path.is_file(), target
        headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert not anchor or anchor in {heading.lower().replace(" ", "-") for heading in headings}


def test_readme_links_every_page_of_the_docs() -> None:
    """A page that README does not link would not be found."""
    assert {page for page in PAGES if f"({page})" not in PAGES["README.md"]} == {"README.md"}
