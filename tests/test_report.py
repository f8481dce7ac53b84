"""The report as a person gets it: the command run, the page parsed, and opened in a real browser."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from lstmconv import api, reporting
from lstmconv.explaining.gates import GATE_COLOURS
from tests._browser import needs_chromium, visit
from tests._cases import fused, lstm_config, sequential, write_legacy, write_lstm
from tests._command import lstmconv_command

SAMPLES = Path(__file__).parent.parent / "sample_weights"
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """A page's elements with their attributes and texts; refuses tags that do not close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        for tag in self._open:
            self.texts.setdefault(tag, []).append(data)

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag):
        return " ".join("".join(self.texts.get(tag, [])).split())


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return lstmconv_command("report", *arguments)


def page_of(source: Path, place: Path, *targets: Path) -> tuple[str, Page]:
    values = reporting.gather(api.load(source), targets)
    text = reporting.write(values, place, force=True).read_text("utf-8")
    return text, Page(text)


@pytest.fixture(scope="module")
def stacked(tmp_path_factory):
    """Return the page, JSON and parsed page of a stacked bidirectional nn.LSTM with two targets, by the command."""
    folder = tmp_path_factory.mktemp("stacked")
    targets = [folder / "stacked.onnx", folder / "stacked.cudnn.safetensors"]
    for target in targets:
        api.convert(SAMPLES / "torch_stacked.pt", target, verify=False)
    place = folder / "page.html"
    done = run(SAMPLES / "torch_stacked.pt", *targets, "-o", place, "--json")
    assert done.returncode == 0, done.stderr
    return place, json.loads(done.stdout), Page(place.read_text("utf-8"))


def test_the_numbers_are_those_of_the_tensors(stacked):
    """Minimum, maximum, mean, deviation, zeros and histogram of every gate, against PyTorch's own reading."""
    _, found, _ = stacked
    state = torch.load(SAMPLES / "torch_stacked.pt", weights_only=True)
    names = {"W": "weight_ih", "R": "weight_hh", "bW": "bias_ih", "bR": "bias_hh"}
    assert [(half["layer"], half["half"]) for half in found["weights"]] == [
        ("lstm_l0", "forward"), ("lstm_l0", "backward"), ("lstm_l1", "forward"), ("lstm_l1", "backward")
    ]  # fmt: skip
    for half in found["weights"]:
        suffix = half["layer"][-3:] + ("_reverse" if half["half"] == "backward" else "")
        for array in half["arrays"]:
            (key,) = [key for key in state if key.endswith(f"{names[array['array']]}{suffix}")]
            limit = state[key].abs().max().item()
            for gate, values in zip("ifgo", state[key].double().chunk(4), strict=True):
                said = array["gates"][gate]
                assert (said["min"], said["max"]) == (values.min().item(), values.max().item())
                assert said["mean"] == pytest.approx(values.mean().item(), rel=1e-12, abs=1e-15)
                assert said["std"] == pytest.approx(values.std(unbiased=False).item(), rel=1e-12)
                bins = torch.histogram(values, 48, range=(-limit, limit)).hist
                assert sum(said["histogram"]["counts"]) == values.numel()
                assert np.abs(np.array(said["histogram"]["counts"]) - bins.numpy()).sum() <= 2


def test_equal_targets_are_called_equal_and_what_was_not_run_is_said(stacked):
    _, found, page = stacked
    assert found["passed"] is True
    assert found["targets"][0]["verdict"] == "equal"
    assert "stacked.onnx holds the same weights bit for bit and computes the same as torch_stacked.pt." in page.text(
        "main"
    )
    statuses = {check["status"] for target in found["targets"] for check in target["checks"]}
    assert ("not run" in page.text("main")) == ("not run" in statuses)


def test_the_page_is_built_for_every_reader(stacked):
    """Landmarks, headings in order, tables with headers, figures with words, ids that are unique and resolve."""
    place, _, page = stacked
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    assert {"header", "nav", "main", "footer"} <= {tag for tag, _ in page.elements}
    assert page.named("html") == [{"lang": "en"}]
    assert all(header.get("scope") in ("col", "row") for header in page.named("th"))
    assert len(page.named("caption")) == len(page.named("table"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for pictured in page.named("svg"):
        assert pictured["role"] == "img"
        assert set(pictured["aria-labelledby"].split()) <= set(ids)
    text = place.read_text("utf-8")
    assert set(re.findall(r'href="#([^"]+)"|url\(#([^)"]+)\)', text)) <= {
        pair for one in ids for pair in ((one, ""), ("", one))
    }
    assert len(page.named("svg")) == 2 + 4 * 4 * 4
    assert len(text) < 2_000_000


def test_the_page_has_no_script_and_no_address_but_its_own(stacked):
    place, _, page = stacked
    text = place.read_text("utf-8")
    (policy,) = [meta["content"] for meta in page.named("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert page.named("script") == page.named("link") == page.named("iframe") == []
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
    addresses = [
        value for _, attributes in page.elements for key, value in attributes.items() if key in ("href", "src")
    ]
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in addresses)
    assert not re.search(r"@import|url\((?!#)", text)


def test_the_same_values_make_the_same_page(tmp_path):
    first, _ = page_of(SAMPLES / "airline_passengers.h5", tmp_path / "a.html")
    again, _ = page_of(SAMPLES / "airline_passengers.h5", tmp_path / "b.html")
    assert first == again


def test_gates_have_the_colours_of_explain(stacked):
    text = stacked[0].read_text("utf-8")
    for gate, (ink, fill, _) in GATE_COLOURS.items():
        assert f".gate-{gate} {{ color: {ink}; background: {fill}; }}" in text


def test_blocks_are_drawn_to_scale(stacked):
    """A gate of 7 units is 44 pixels long: 5 features are 31 pixels, 7 previous units 44, a stack's 14 features 88."""
    text = stacked[0].read_text("utf-8")
    panel = text.partition("<h4>PyTorch")[2].partition("</article>")[0]
    arrays = re.findall(r'aria-label="(?:input|recurrent) matrix (\S+)">\s*<li><span [^>]*style="([^"]+)"', panel)
    assert arrays == [
        ("weight_ih_l0", "width:31px;height:44px"),
        ("weight_hh_l0", "width:44px;height:44px"),
        ("weight_ih_l0_reverse", "width:31px;height:44px"),
        ("weight_hh_l0_reverse", "width:44px;height:44px"),
        ("weight_ih_l1", "width:88px;height:44px"),
        ("weight_hh_l1", "width:44px;height:44px"),
        ("weight_ih_l1_reverse", "width:88px;height:44px"),
        ("weight_hh_l1_reverse", "width:44px;height:44px"),
    ]


def test_a_wrong_target_is_named_and_the_exit_code_is_1(tmp_path):
    """Input and output gate exchanged in all four tensors."""
    api.convert(SAMPLES / "airline_passengers.h5", tmp_path / "right.pt", whole=False, verify=False)
    state = torch.load(tmp_path / "right.pt", weights_only=True)
    for name, values in state.items():
        i, f, g, o = values.chunk(4)
        state[name] = torch.cat([o, f, g, i])
    torch.save(state, tmp_path / "wrong.pt")
    done = run(SAMPLES / "airline_passengers.h5", tmp_path / "wrong.pt", "-o", tmp_path / "page.html")
    assert done.returncode == 1
    page = Page((tmp_path / "page.html").read_text("utf-8"))
    assert "Not equal" in page.text("title")
    assert "gates i and o exchanged" in page.text("section").split("Proof")[0]


@pytest.mark.parametrize("name", ["tf_keras_cudnn_lstm.h5", "keras1_lstm.h5", "tf_keras_bidirectional.h5"])
def test_sources_of_other_kinds(name, tmp_path):
    """CuDNNLSTM, hard_sigmoid of Keras 1, Bidirectional; without a target nothing is called passed."""
    text, page = page_of(SAMPLES / name, tmp_path / "page.html")
    assert "Nothing compared" in page.text("title")
    assert "Not run" in page.text("main")
    assert "✓" not in page.text("main")
    assert ("hard_sigmoid" in text) == (name == "keras1_lstm.h5")


def test_units_that_stand_out_are_listed_and_marked(tmp_path):
    """A dead, a saturated, an exploding and a NaN unit, each in a gate of its own; gates of Keras are columns."""
    kernel, recurrent, bias = fused(3, 5)
    kernel[:, 1] = recurrent[:, 1] = 0  # gate i, unit 1
    bias[5 + 2] = 500  # gate f, unit 2
    kernel[0, 10 + 3] = 200  # gate g, unit 3
    recurrent[4, 15 + 4] = np.nan  # gate o, unit 4
    write_lstm(tmp_path / "m.h5", 3, 5, arrays=[kernel, recurrent, bias])
    values = reporting.gather(api.load(tmp_path / "m.h5"), [])
    found = {(mark.gate, mark.kind): mark.units for mark in values.halves[0].marks}
    assert found == {("i", "dead"): (1,), ("f", "saturated"): (2,), ("g", "exploding"): (3,), ("o", "not finite"): (4,)}
    page = Page(reporting.write(values, tmp_path / "p.html", force=False).read_text("utf-8"))
    assert "1 units not finite" in page.text("desc") or "1 NaN" in page.text("desc")
    json.dumps(reporting.to_json(values), allow_nan=False)


def test_a_gate_of_zeros_and_no_bias(tmp_path):
    kernel, recurrent, _ = fused(3, 5)
    kernel[:, :5] = recurrent[:, :5] = 0
    write_lstm(tmp_path / "m.h5", 3, 5, arrays=[kernel, recurrent], use_bias=False)
    values = reporting.gather(api.load(tmp_path / "m.h5"), [])
    assert [(mark.gate, mark.kind, mark.units) for mark in values.halves[0].marks] == [("i", "dead", (0, 1, 2, 3, 4))]
    assert [array.letter for array in values.halves[0].arrays] == ["W", "R"]
    assert [scan.zeros for scan in values.halves[0].arrays[0].gates] == [15, 0, 0, 0]
    Page(reporting.write(values, tmp_path / "p.html", force=False).read_text("utf-8"))


def test_a_large_layer_is_reduced_and_says_so(tmp_path):
    """A picture has 96 cells at most, each the largest of its block; numbers count every weight."""
    units, features = 130, 300
    kernel, recurrent, bias = fused(features, units)
    write_lstm(tmp_path / "m.h5", features, units, arrays=[kernel, recurrent, bias])
    values = reporting.gather(api.load(tmp_path / "m.h5"), [])
    scan = values.halves[0].arrays[0].gates[2]
    with h5py.File(tmp_path / "m.h5") as file:
        gate = file["model_weights/lstm_1/lstm_1/kernel:0"][:, 2 * units : 3 * units].T
    assert scan.block == (2, 4)
    assert scan.picture.shape == (65, 75)
    block = gate[20:22, 40:44]
    assert scan.picture[10, 10] == block.flat[np.abs(block).argmax()]
    assert (scan.smallest, scan.largest, int(scan.counts.sum())) == (gate.min(), gate.max(), gate.size)
    page = Page(reporting.write(values, tmp_path / "p.html", force=False).read_text("utf-8"))
    assert "each cell is a block of up to 2 × 4 weights" in page.text("main")


HOSTILE = '<script>alert("x")</script>\'\x1b[31m${{7*7}}'


def hostile_source(folder: Path) -> Path:
    """Write a file whose own name and layers' names are markup; HDF5 keeps ``/`` for its groups."""
    named = {HOSTILE: fused(3, 5), "second & last": fused(5, 5, 9)}
    keys = ("lstm/kernel:0", "lstm/recurrent_kernel:0", "lstm/bias:0")
    arrays = {name: dict(zip(keys, values, strict=True)) for name, values in named.items()}
    layers = [lstm_config(name, 5) for name in named]
    return write_legacy(folder / '<u>it\'s "here"<u>.h5', arrays, config=sequential(*layers))


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory):
    """Return the page of a file whose names are markup and of its target, and the page parsed."""
    folder = tmp_path_factory.mktemp("hostile")
    source, target = hostile_source(folder), folder / "t.onnx"
    api.convert(source, target, verify=False)
    _, page = page_of(source, folder / "page.html", target)
    return folder / "page.html", page


def test_names_from_a_file_are_text(hostile_page):
    place, page = hostile_page
    text = place.read_text("utf-8")
    assert page.named("script") == page.named("u") == []
    assert "<script" not in text
    assert "\x1b" not in text
    assert "\\x1b[31m" in page.text("main")
    assert "${{7*7}}" in page.text("main")
    assert '<u>it\'s "here"<u>.h5' in page.text("h1")


def test_a_damaged_file_costs_one_line_and_writes_nothing(tmp_path):
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes((SAMPLES / "airline_passengers.h5").read_bytes()[:3000])
    for arguments in ([damaged], [SAMPLES / "airline_passengers.h5", damaged, "-o", tmp_path / "page.html"]):
        done = run(*arguments)
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.h5"]


def test_the_page_lies_beside_its_source_and_replaces_nothing_unasked(tmp_path):
    write_lstm(tmp_path / "model.weights.h5")
    assert run(tmp_path / "model.weights.h5").returncode == 0
    place = tmp_path / "model.report.html"
    place.write_text("mine")
    refused = run(tmp_path / "model.weights.h5")
    assert refused.returncode == 2
    assert "--force" in refused.stderr
    assert place.read_text() == "mine"
    assert run(tmp_path / "model.weights.h5", "--force").returncode == 0
    assert place.read_text().startswith("<!doctype html>")
    before = (tmp_path / "model.weights.h5").read_bytes()
    for arguments in (["-o", tmp_path / "model.weights.h5"], [place, "-o", place]):
        assert run(tmp_path / "model.weights.h5", *arguments, "--force").returncode == 2
    assert (tmp_path / "model.weights.h5").read_bytes() == before


def test_without_the_extra_the_pip_line_is_said(tmp_path):
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        f"sys.argv = ['lstmconv', 'report', {str(SAMPLES / 'keras1_lstm.h5')!r}, '-o', {str(tmp_path / 'p')!r}]\n"
        "from lstmconv.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        "lstmconv: Writing a report needs matplotlib. Install it with: pip install jinja2 matplotlib"
    ]
    assert not (tmp_path / "p").exists()


def test_nothing_global_of_matplotlib_changes(tmp_path):
    """In a process of its own: Keras and others load pyplot."""
    arguments = ["lstmconv", "report", str(SAMPLES / "airline_passengers.h5"), "-o", str(tmp_path / "p.html")]
    code = (
        "import sys, matplotlib; before = matplotlib.rcParams.copy()\n"
        f"sys.argv = {arguments!r}\n"
        "from lstmconv.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert matplotlib.rcParams.copy() == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@needs_chromium
@pytest.mark.parametrize("scheme", [0, 1], ids=["dark", "light"])
def test_a_browser_shows_it_without_a_word_and_without_asking_anyone(scheme, hostile_page, tmp_path):
    place, _ = hostile_page
    setting = f"--blink-settings=preferredColorScheme={scheme}"
    shot = tmp_path / "shot.png"
    seen = visit(place, tmp_path / "profile", setting, "--window-size=800,1200", f"--screenshot={shot}")
    assert seen.console == ()
    assert seen.asked == ()
    from PIL import Image

    corner = Image.open(shot).convert("RGB").getpixel((5, 5))
    assert (sum(corner) < 150) == (scheme == 0)


@needs_chromium
def test_a_browser_that_is_asked_for_something_is_heard(tmp_path):
    """The two tests above could not fail otherwise."""
    place = tmp_path / "page.html"
    place.write_text("<img src='http://example.invalid/x.png'><script>console.error('here')</script>")
    seen = visit(place, tmp_path / "profile", "--virtual-time-budget=3000", "--dump-dom")
    assert any("example.invalid" in line for line in seen.asked)
    assert any("here" in line for line in seen.console)


@needs_chromium
def test_it_prints_with_everything_open(stacked, tmp_path):
    """A closed part is printed, too."""
    text = stacked[0].read_text("utf-8")
    sizes = []
    for number, content in enumerate((text, text.replace("<details open>", "<details>"))):
        place = tmp_path / f"{number}.html"
        place.write_text(content, "utf-8")
        printed = tmp_path / f"{number}.pdf"
        visit(place, tmp_path / f"profile{number}", "--no-pdf-header-footer", f"--print-to-pdf={printed}")
        sizes.append(len(re.findall(rb"/Type\s*/Page\b", printed.read_bytes())))
    assert sizes[0] == sizes[1] > 3
