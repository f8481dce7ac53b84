"""Wrong conversions in artifacts of every format: all are caught, and nearly all are named for what they are.

``LSTMCONV_MUTANTS=all`` applies the whole catalogue to every format; by default a sample of it.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx
import pytest

import lstmconv
from lstmconv.activations import HARD_SIGMOID_KERAS_2, HARD_SIGMOID_KERAS_3
from lstmconv.model import Gates
from lstmconv.proof import verifying
from lstmconv.proof.report import Check, Report
from tests.contract.building import make_checkpoint, make_half, make_halves, make_layer, verified
from tests.proof.mutants import MUTANTS, Mutant, arrays_of, mutated, with_backward, with_forward

SUFFIXES = (".pt", ".safetensors", ".onnx", ".cudnn.safetensors", ".keras", ".weights.h5")
ALL = os.environ.get("LSTMCONV_MUTANTS") == "all"
NAMED = 0.95
"""The part of the mutants that must be named rightly; all must be caught."""


def cases(suffix: str) -> Iterator[tuple[Mutant, int, int, bool]]:
    """Yield mutants with the sizes of the layer and whether its backward half has them."""
    for mutant in MUTANTS:
        if mutant.fits(3, 5):
            yield mutant, 3, 5, False
        if mutant.fits(5, 5):
            yield mutant, 5, 5, True


def wrong_file(folder, suffix, mutant, features, hidden, backward):
    """Write a mutant with the provenance of the right source; return both."""
    if backward:
        halves = make_halves(features, hidden, seed=7)
        right = make_layer(*halves)
        wrong = with_backward(right, mutated(halves[1], mutant))
    else:
        half = make_half(features, hidden, seed=7)
        right = make_layer(half)
        wrong = with_forward(right, mutated(half, mutant))
    target = folder / f"m{suffix}"
    lstmconv.save(make_checkpoint(wrong), target, force=True)
    return make_checkpoint(right), target


def judged(folder, suffix) -> tuple[list[str], list[str], int]:
    """Return what was not caught, what was not named, and how many were tried."""
    chosen = list(cases(suffix))
    if not ALL:
        chosen = random.Random(suffix).sample(chosen, 12 if suffix in (".keras", ".weights.h5") else 30)
    missed, unnamed = [], []
    for mutant, features, hidden, backward in chosen:
        source, target = wrong_file(folder, suffix, mutant, features, hidden, backward)
        report = verified(source, target)
        label = f"{mutant.name} ({features}, {hidden}){' backward' if backward else ''}"
        levels = {check.level for check in report.failures}
        if report.passed or levels != {"weights", "outputs"}:
            missed.append(label)
        unnamed += [
            f"{label}: {check.level}: {check.diagnosis}"
            for check in report.failures
            if not any(words in (check.diagnosis or "") for words in mutant.words)
        ]
    return missed, unnamed, len(chosen)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_wrong_weights_are_caught_by_bits_and_by_outputs_and_named(suffix, tmp_path):
    missed, unnamed, count = judged(tmp_path, suffix)
    assert missed == []
    assert len(unnamed) <= (1 - NAMED) * 2 * count, unnamed


def test_without_the_check_mutants_pass(tmp_path, monkeypatch):
    """Show that the count of the test above can fail: with the comparisons off, nothing is caught."""
    monkeypatch.setattr(verifying, "check_weights", lambda name, *_, **__: Check(name, "weights", "passed", ""))
    monkeypatch.setattr(verifying, "check_outputs", lambda name, *_: Check(name, "outputs", "passed", ""))
    missed, _, count = judged(tmp_path, ".pt")
    assert len(missed) == count


def test_a_bias_in_the_wrong_half_computes_the_same_and_is_found_by_its_bits(tmp_path):
    half = make_half(3, 5)
    _, _, bias = arrays_of(half)
    moved = replace(half.direction(), bias_ih=Gates(*(0 * bias)), bias_hh=Gates(*bias))
    lstmconv.save(make_checkpoint(with_forward(make_layer(half), moved)), tmp_path / "m.pt")
    report = verified(make_checkpoint(make_layer(half)), tmp_path / "m.pt")
    (check,) = report.failures
    assert check.level == "weights"
    assert check.diagnosis == "both biases exchanged: the input's bias comes first"


def failed_outputs(report: Report) -> Check:
    return next(check for check in report.failures if check.level == "outputs")


def onnx_mutant(folder, layer, change):
    """Write a right ONNX file, change its graph, and verify it."""
    source, target = make_checkpoint(layer), folder / "m.onnx"
    lstmconv.save(source, target, states=True, force=True)
    model = onnx.load(target)
    change(model.graph)
    onnx.save(model, target)
    return verified(source, target)


def node(graph, kind):
    return next(entry for entry in graph.node if entry.op_type == kind)


def attribute(graph, name):
    return next(entry for entry in node(graph, "LSTM").attribute if entry.name == name)


@pytest.mark.parametrize(
    ("own", "written", "words"),
    [
        (None, HARD_SIGMOID_KERAS_2, "Keras 2's hard_sigmoid for sigmoid"),
        (None, HARD_SIGMOID_KERAS_3, "Keras 3's hard_sigmoid for sigmoid"),
        (HARD_SIGMOID_KERAS_2, HARD_SIGMOID_KERAS_3, "Keras 3's hard_sigmoid for Keras 2's hard_sigmoid"),
        (HARD_SIGMOID_KERAS_3, None, "sigmoid for Keras 3's hard_sigmoid"),
    ],
)
@pytest.mark.parametrize("suffix", [".onnx", ".pt"])
def test_another_recurrent_activation_is_named(own, written, words, suffix, tmp_path):
    def layer(rec):
        return make_layer(make_half(3, 5, **({} if rec is None else {"recurrent_activation": rec})))

    lstmconv.save(make_checkpoint(layer(written)), tmp_path / f"m{suffix}")
    report = verified(make_checkpoint(layer(own)), tmp_path / f"m{suffix}")
    assert {check.level for check in report.failures} == {"structure", "outputs"}
    assert words in failed_outputs(report).diagnosis


def test_time_reversed_is_named(tmp_path):
    def change(graph):
        attribute(graph, "direction").s = b"reverse"

    check = failed_outputs(onnx_mutant(tmp_path, make_layer(make_half(3, 5)), change))
    assert check.diagnosis.startswith("time reversed")


def test_exchanged_initial_states_are_named(tmp_path):
    def change(graph):
        lstm = node(graph, "LSTM")
        lstm.input[5], lstm.input[6] = lstm.input[6], lstm.input[5]

    check = failed_outputs(onnx_mutant(tmp_path, make_layer(make_half(3, 5)), change))
    assert check.diagnosis.startswith("initial h and c exchanged")


def test_dropped_initial_states_are_named(tmp_path):
    """Take the node's states away; the graph still declares the inputs."""

    def change(graph):
        lstm = node(graph, "LSTM")
        lstm.input[5], lstm.input[6] = "", ""

    check = failed_outputs(onnx_mutant(tmp_path, make_layer(make_half(3, 5)), change))
    assert check.diagnosis.startswith("initial states dropped")


def test_exchanged_halves_of_the_output_are_named(tmp_path):
    source = make_checkpoint(make_layer(*make_halves(3, 5)))
    report = verified(source, _swapped_halves(tmp_path, source))
    assert failed_outputs(report).diagnosis.startswith("weights of the directions exchanged")
    weights = next(check for check in report.failures if check.level == "weights")
    assert weights.diagnosis == "the backward weights stand where the forward weights should"


def _swapped_halves(folder, source):
    layer = source.layers[0]
    forward, backward = (
        replace(half, go_backwards=way) for half, way in ((layer.backward, False), (layer.forward, True))
    )
    wrong = replace(source, layers=(replace(layer, forward=forward, backward=backward),))
    lstmconv.save(wrong, folder / "m.pt")
    return folder / "m.pt"


@pytest.mark.parametrize("mode", ["mul", "ave"])
def test_another_merge_mode_is_named(mode, tmp_path):
    source = make_checkpoint(make_layer(*make_halves(3, 5), merge_mode="sum"))
    wrong = make_checkpoint(make_layer(*make_halves(3, 5), merge_mode=mode))
    lstmconv.save(wrong, tmp_path / "m.onnx")
    report = verified(source, tmp_path / "m.onnx")
    assert failed_outputs(report).diagnosis.startswith(f"directions merged by {mode}")


def test_exchanged_layers_of_a_stack_are_named(tmp_path):
    below, above = make_layer(make_half(5, 5, seed=1), name="a"), make_layer(make_half(5, 5, seed=2), name="b")
    source = make_checkpoint(below, above, joined={"s": ("a", "b")})
    wrong = make_checkpoint(replace(above, name="a"), replace(below, name="b"), joined={"s": ("a", "b")})
    lstmconv.save(wrong, tmp_path / "m.pt")
    report = verified(source, tmp_path / "m.pt")
    assert failed_outputs(report).diagnosis.startswith("layers a and b exchanged")
    weights = next(check for check in report.failures if check.level == "weights")
    assert weights.diagnosis == "the weights of b stand where the weights of a should"


def test_a_mistake_in_an_upper_layer_is_placed(tmp_path):
    below, above = make_half(3, 5, seed=1), make_half(5, 5, seed=2)
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "gates f and o exchanged in R")
    joined = {"s": ("a", "b")}
    source = make_checkpoint(make_layer(below, name="a"), make_layer(above, name="b"), joined=joined)
    wrong_above = with_forward(make_layer(above, name="b"), mutated(above, mutant))
    wrong = make_checkpoint(make_layer(below, name="a"), wrong_above, joined=joined)
    lstmconv.save(wrong, tmp_path / "m.cudnn.safetensors")
    report = verified(source, tmp_path / "m.cudnn.safetensors")
    for check in report.failures:
        assert "gates f and o exchanged in R" in check.diagnosis
        assert "b" in check.diagnosis.split(":")[0].split() or "(b)" in check.diagnosis


@pytest.mark.parametrize(
    ("array", "index", "starts"),
    [
        ("bias", (2 * 5 + 3,), "starts at step 0 in unit 3 of lstm, gate i or g: the bias"),
        ("bias", (1 * 5 + 2,), "starts at step 0 in unit 2 of lstm, gate f: the bias"),
        ("bias", (3 * 5 + 4,), "starts at step 0 in unit 4 of lstm, gate o: the bias"),
        ("kernel", (1, 0 * 5 + 1), "starts at step 0 in unit 1 of lstm, gate i or g: the kernel"),
        ("kernel", (0, 3 * 5 + 2), "starts at step 0 in unit 2 of lstm, gate o: the kernel"),
        ("recurrent", (4, 2 * 5 + 0), "starts at step 0 in unit 0 of lstm, gate i or g: the recurrent kernel"),
        ("recurrent", (4, 1 * 5 + 0), "starts at step 0 in unit 0 of lstm, gate f: the recurrent kernel"),
    ],
)
def test_what_no_mistake_explains_is_located(array, index, starts, tmp_path):
    half = make_half(3, 5)
    changed = getattr(half, array).copy()
    changed[index] += 0.5
    lstmconv.save(make_checkpoint(make_layer(replace(half, **{array: changed}))), tmp_path / "m.pt")
    check = failed_outputs(verified(make_checkpoint(make_layer(half)), tmp_path / "m.pt"))
    assert check.diagnosis == starts


@pytest.mark.parametrize("narrow", ["float16", "bfloat16"])
def test_rounded_weights_are_named(narrow, tmp_path):
    import ml_dtypes

    half = make_half(3, 5)
    dtype = np.float16 if narrow == "float16" else ml_dtypes.bfloat16
    arrays = {key: getattr(half, key).astype(dtype).astype(np.float32) for key in ("kernel", "recurrent", "bias")}
    lstmconv.save(make_checkpoint(make_layer(replace(half, **arrays))), tmp_path / "m.pt")
    report = verified(make_checkpoint(make_layer(half)), tmp_path / "m.pt")
    weights = next(check for check in report.failures if check.level == "weights")
    assert f"was rounded to {narrow}" in weights.diagnosis


def test_the_diagnosis_is_in_the_json_and_in_the_error(tmp_path):
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "gates i and o exchanged everywhere")
    source, target = wrong_file(tmp_path, ".pt", mutant, 3, 5, backward=False)
    report = verified(source, target)
    assert "gates i and o exchanged" in json.dumps(report.to_json())
    with pytest.raises(
        lstmconv.VerificationError, match="gates i and o exchanged: put the gates into the order i f g o"
    ):
        report.raise_for_failure()


def test_outputs_see_a_wrong_bias_of_a_file_without_a_record(tmp_path, monkeypatch):
    """Without the record only sums of biases can be compared; the bits are not looked at here."""
    monkeypatch.setattr(verifying, "check_weights", lambda name, *_, **__: Check(name, "weights", "passed", ""))
    half = make_half(3, 5)
    wrong = replace(half, bias=half.bias + np.float32(0.01))
    lstmconv.save(make_checkpoint(make_layer(wrong)), tmp_path / "m.safetensors")
    source = make_checkpoint(make_layer(half))
    other = replace(source, provenance=source.provenance._replace(hashed="1" * 64))
    assert failed_outputs(verified(other, tmp_path / "m.safetensors")).layer == "lstm"
