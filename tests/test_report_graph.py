"""The report's drawing of a whole model: what lies where, what is unknown, what the headline says, and a browser."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import lstmconv
from lstmconv import reporting
from lstmconv.model import Call, Input, Model, Tensor
from lstmconv.model.kinds import Dense, Identity, Unknown
from lstmconv.reporting.graph_layout import placed
from tests._browser import needs_chromium, visit
from tests.test_report import HOSTILE, Page, page_of

SAMPLE = Path("sample_weights/airline_passengers.h5")
GOLDEN = Path("tests/golden/whole/keras-3.15.1")


def chain(length: int, branches: int = 1) -> Model:
    """Return a model of layers one behind another, beside as many others."""
    calls, outputs = [], {}
    for branch in range(branches):
        last = "x"
        for number in range(length):
            name = f"layer_{branch}_{number}"
            calls.append(Call(name, Identity(name, "Dropout"), (Tensor(last),)))
            last = name
        outputs[last] = Tensor(last)
    return Model("m", (Input("x", (None, 7, 3)),), tuple(calls), outputs)


def test_every_box_lies_below_all_that_it_reads_and_beside_no_other():
    for name in ("encoder_decoder.keras", "mask_merges.keras", "operations.keras", "shared_layer.keras"):
        model = lstmconv.load(GOLDEN / name).model
        graph = placed(model, 200, 20)
        level = {(node.role, node.name): node.level for node in graph.nodes}
        assert len(level) == len(model.inputs) + len(model.calls) + len(model.outputs)
        inputs = {entry.name for entry in model.inputs}
        for call in model.calls:
            for tensor in call.reads:
                source = ("input" if tensor.source in inputs else "call", tensor.source)
                assert level[source] < level["call", call.name]
        rows: dict[int, list[float]] = {}
        for node in graph.nodes:
            rows.setdefault(node.level, []).append(node.x)
        for row in rows.values():
            assert all(b - a >= 219.9 for a, b in zip(sorted(row), sorted(row)[1:], strict=False))


def test_edges_lead_from_box_to_box_and_say_how_they_are_read():
    model = lstmconv.load(GOLDEN / "encoder_decoder.keras").model
    graph = placed(model, 200, 20)
    x = {(node.level, node.x) for node in graph.nodes}
    for edge in graph.edges:
        assert (edge.level, edge.xs[0]) in x
        assert (edge.level + len(edge.xs) - 1, edge.xs[-1]) in x
    expected = Counter(
        reads
        for call in model.calls
        for reads, tensors in (("input", call.inputs), ("state", call.states), ("mask", call.masks))
        for source in {tensor.source for tensor in tensors if tensor is not None}
    )
    expected["input"] += len(model.outputs)
    assert Counter(edge.reads for edge in graph.edges) == expected


def test_two_ways_side_by_side_do_not_cross():
    graph = placed(chain(5, branches=2), 200, 20)
    sides = {node.name: node.x for node in graph.nodes if node.role == "call"}
    signs = {(sides[f"layer_0_{number}"] < sides[f"layer_1_{number}"]) for number in range(5)}
    assert len(signs) == 1


def written(model: Model, tmp_path: Path) -> Page:
    checkpoint = replace(lstmconv.load(SAMPLE), model=model)
    return Page(reporting.write(reporting.gather(checkpoint, []), tmp_path / "p.html", force=True).read_text("utf-8"))


def test_a_long_model_is_drawn_in_parts_that_fit_a_page(tmp_path):
    page = written(chain(60), tmp_path)
    graphs = [pictured for pictured in page.named("svg") if pictured.get("class") == "graph"]
    assert len(graphs) == 5
    assert all(float(pictured["viewbox"].split()[3]) < 1100 for pictured in graphs)
    shown = page.text("text")
    assert all(f"layer_0_{number}" in shown for number in range(60))


def test_what_is_unknown_is_marked_and_names_are_text(tmp_path):
    import numpy as np

    calls = (
        Call("known", Dense("known", np.ones((3, 5), np.float32)), (Tensor("x"),)),
        Call(HOSTILE, Unknown(HOSTILE, "Lambda", "it holds Python code", {}), (Tensor("known"),)),
    )
    page = written(Model("m", (Input("x", (None, 3)),), calls, {"y": Tensor(HOSTILE)}), tmp_path)
    assert page.named("script") == []
    boxes = [attributes.get("class") for attributes in page.named("g") if "node" in (attributes.get("class") or "")]
    assert boxes == ["node end", "node layer", "node unknown", "node end"]
    assert "unknown: it holds Python code" in page.text("td")
    assert "Lambda, unknown: it holds Python code" in page.text("title")


def headline(place: Path) -> str:
    text = place.read_text("utf-8")
    return " ".join(re.sub(r"<[^>]+>", " ", text.split('aria-labelledby="verdict"')[1].split("</section>")[0]).split())


def test_the_headline_says_what_was_compared_and_no_more(tmp_path):
    for name, whole in (("whole.pt", True), ("layers.pt", False)):
        lstmconv.convert(SAMPLE, tmp_path / name, whole=whole, verify=False)
        page_of(SAMPLE, tmp_path / f"{name}.html", tmp_path / name)
    said = headline(tmp_path / "whole.pt.html")
    assert "Equal" in said
    assert "Run from its inputs to its outputs, it computes the same." in said
    said = headline(tmp_path / "layers.pt.html")
    assert "LSTM layers equal" in said
    assert "computes the same, as lstm of airline_passengers.h5, each run alone." in said
    assert said.endswith("The other layers of the model were not compared.")


def test_the_models_deviation_stands_beside_each_layers(tmp_path):
    for name, whole in (("whole.pt", True), ("layers.pt", False)):
        lstmconv.convert(SAMPLE, tmp_path / name, whole=whole, verify=False)
    text, _ = page_of(SAMPLE, tmp_path / "p.html", tmp_path / "whole.pt", tmp_path / "layers.pt")
    table = text.split("Every layer of the model")[1].split("</table>")[0]
    rows = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in table.split("<tbody>")[1].split("</tr>")]
    cells = {row[0]: [cell.endswith(" of noise") for cell in row[5:]] for row in rows if len(row) > 5}
    assert cells == {"airline_passengers": [True, False], "lstm": [False, True], "next_month": [False, False]}


def test_json_has_the_model_as_inspect_has_it(tmp_path):
    values = reporting.gather(lstmconv.load(SAMPLE), [])
    found = json.loads(json.dumps(reporting.to_json(values)))
    assert [layer["name"] for layer in found["model"]["layers"]] == ["lstm", "next_month"]


@needs_chromium
def test_a_browser_shows_a_long_model_on_a_narrow_screen_without_widening_the_page(tmp_path):
    written(chain(60, branches=3), tmp_path)
    script = "<script>document.title = String(document.documentElement.scrollWidth)</script>"
    place = tmp_path / "measured.html"
    text = (tmp_path / "p.html").read_text("utf-8")
    place.write_text(re.sub(r"<meta http-equiv[^>]+>", "", text).replace("</body>", f"{script}</body>"), "utf-8")
    seen = visit(place, tmp_path / "profile", "--window-size=500,900", "--dump-dom")
    width = int(re.search(r"<title>(\d+)</title>", seen.shown)[1])
    assert width <= 500


@needs_chromium
def test_a_browser_shows_tables_of_long_texts_on_a_narrow_screen_without_scrolling_sideways(tmp_path):
    """Their columns follow each other; on a wide screen they stand side by side."""
    written(chain(7), tmp_path)
    text = re.sub(r"<meta http-equiv[^>]+>", "", (tmp_path / "p.html").read_text("utf-8"))
    assert text.count('class="files stacked"') == 1
    boxes = "[...document.querySelectorAll('.stacked')].map(table => table.closest('.scroll'))"
    titled = f"<script>document.title = {boxes}.map(box => box.scrollWidth - box.clientWidth).join()</script>"
    place = tmp_path / "measured.html"
    place.write_text(text.replace("</body>", f"{titled}</body>"), "utf-8")
    seen = visit(place, tmp_path / "profile", "--window-size=500,900", "--dump-dom")
    assert set(re.search(r"<title>([^<]+)</title>", seen.shown)[1].split(",")) == {"0"}
