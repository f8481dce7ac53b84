"""What mistakes would have returned, against PyTorch with the mistake built in, and what the inputs reach."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import lstmconv
from lstmconv.activations import HARD_SIGMOID_KERAS_2
from lstmconv.model import Stack
from lstmconv.proof import memory
from lstmconv.proof.power import outcomes
from lstmconv.proof.trials import Settings, draw
from tests.contract.building import make_checkpoint, make_half, make_halves, make_layer, verified
from tests.proof.mutants import MUTANTS, arrays_of

STATES = frozenset({"states"})


def computed_by_torch(arrays, x, h, c):
    ih, hh, bias_ih, bias_hh = arrays
    lstm = torch.nn.LSTM(ih.shape[2], hh.shape[1], batch_first=True).double()
    rows = (
        ih.reshape(-1, ih.shape[2]),
        hh.reshape(-1, hh.shape[1]),
        bias_ih.ravel(),
        np.zeros(bias_ih.size) if bias_hh is None else bias_hh.ravel(),
    )
    with torch.no_grad():
        for parameter, values in zip(lstm.parameters(), rows, strict=True):
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(values)))
        _, states = lstm(torch.from_numpy(x.copy()), tuple(torch.from_numpy(s[None].copy()) for s in (h, c)))
    return [state[0].numpy() for state in states]


def unplaced(outcome):
    """Return a mistake's words without the name of a known order, which stands before the array."""
    return re.sub(r" \([^)]*\)", "", outcome.mistake.text)


@pytest.mark.parametrize(("features", "hidden", "half"), [(3, 5, 0), (5, 5, 0), (5, 5, 1), (1, 2, 0)])
def test_every_mistake_in_a_direction_is_computed_as_pytorch_would(features, hidden, half):
    halves = make_halves(features, hidden, dtype="float64") if half else [make_half(features, hidden, dtype="float64")]
    stack = Stack("lstm", (make_layer(*halves),))
    probe, trial = draw(stack, "float64", Settings(), STATES)
    x = probe.inputs.x[:, ::-1] if half else probe.inputs.x
    catalogue = [
        entry for entry in outcomes(stack, probe, trial) if f"h{half}" in entry.outputs and entry.trial is probe
    ]
    compared = 0
    for mutant in MUTANTS:
        words = mutant.words[0] if "rows" in mutant.name or "reshaped" in mutant.name else mutant.name
        words = words.removesuffix(" everywhere")
        found = [entry for entry in catalogue if re.fullmatch(rf"{re.escape(words)}( \(.*\)|, .*)?", unplaced(entry))]
        if not found or not mutant.fits(features, hidden):
            continue
        arrays = mutant.change(*arrays_of(halves[half]), None)
        h, c = computed_by_torch(arrays, x, *probe.inputs.states[2 * half : 2 * half + 2])
        np.testing.assert_allclose(found[0].outputs[f"h{half}"], h, rtol=0, atol=1e-12, err_msg=mutant.name)
        np.testing.assert_allclose(found[0].outputs[f"c{half}"], c, rtol=0, atol=1e-12, err_msg=mutant.name)
        compared += 1
    assert compared > 90


@pytest.mark.parametrize(("features", "hidden"), [(1, 1), (3, 5), (53, 7), (2, 101)])
@pytest.mark.parametrize("scale", [1e-3, 0.6, 40.0])
@pytest.mark.parametrize("stored", ["float16", "bfloat16", "float32"])
def test_every_gate_moves_and_saturates_whatever_the_weights(features, hidden, scale, stored):
    if stored == "float16" and scale == 1e-3:
        scale = 0.1  # Its largest number is 65,504.
    half = make_half(features, hidden, scale=scale, bias=False)
    stack = Stack("lstm", (make_layer(half),))
    _, trial = draw(stack, stored, Settings(), frozenset())
    w, *_ = arrays_of(replace(half, bias=np.zeros(4 * hidden, np.float32)))
    z = np.einsum("ghi,bti->gbth", w, trial.inputs.x)
    for gate in z:
        assert (np.abs(gate) < 1.5).any()
        assert (np.abs(gate) > 3.0).any()


def test_inputs_are_numbers_of_the_target_s_dtype():
    stack = Stack("lstm", (make_layer(*make_halves(3, 5)),))
    for trial in draw(stack, "float16", Settings(), STATES):
        for array in (trial.inputs.x, *trial.inputs.states):
            np.testing.assert_array_equal(array.astype(np.float16).astype(np.float64), array)
            assert np.abs(array).max() > 0


def test_numbers_that_would_overflow_are_shrunk():
    """Show that a layer whose states explode is tried where float16 can hold them."""
    from tests.contract.building import RELU

    half = make_half(3, 5, dtype="float16", activation=RELU, recurrent_activation=HARD_SIGMOID_KERAS_2, scale=3)
    stack = Stack("lstm", (make_layer(half),))
    _, trial = draw(stack, "float16", Settings(steps=64), STATES)
    assert all(np.abs(values).max() < 65504 for values in trial.expected.values())


def converted(folder, half, suffix=".pt", **options):
    source = make_checkpoint(make_layer(half))
    lstmconv.save(source, folder / f"m{suffix}", **options)
    return source, folder / f"m{suffix}"


def outputs_of(report):
    assert report.passed, [check.detail for check in report.failures]
    return next(check for check in report.checks if check.level == "outputs")


def test_equal_gates_cannot_be_told_and_it_says_so(tmp_path):
    half = make_half(3, 5)
    kernel, recurrent, bias = half.kernel.copy(), half.recurrent.copy(), half.bias.copy()
    for array in (kernel, recurrent, bias):
        array[..., 15:20] = array[..., 0:5]  # The output gate is the input gate.
    check = outputs_of(verified(*converted(tmp_path, replace(half, kernel=kernel, recurrent=recurrent, bias=bias))))
    assert "gates i o" in check.evidence.cannot_tell
    assert "mistakes would not show in these outputs (gates i o" in check.detail
    assert "the comparison of weights shows them" in check.detail


def test_a_layer_of_zeros_tells_nothing_and_passes_by_its_bits(tmp_path):
    half = make_half(3, 5)
    zero = replace(half, kernel=0 * half.kernel, recurrent=0 * half.recurrent, bias=0 * half.bias)
    check = outputs_of(verified(*converted(tmp_path, zero)))
    assert "gates i f g o in W" in check.evidence.cannot_tell


def test_a_tolerance_that_would_let_mistakes_pass_proves_nothing(tmp_path):
    source, target = converted(tmp_path, make_half(3, 5))
    report = verified(source, target, Settings(atol=2.0))
    check = next(check for check in report.checks if check.level == "outputs")
    assert check.status == "not run"
    assert "proves nothing" in check.detail
    assert not report.complete


@pytest.mark.parametrize(("tolerance", "status"), [(1e-4, "passed"), (1e-12, "failed")])
def test_a_given_tolerance_overrules_the_noise(tolerance, status, tmp_path):
    source, target = converted(tmp_path, make_half(3, 5))
    check = next(c for c in verified(source, target, Settings(atol=tolerance)).checks if c.level == "outputs")
    assert (check.status, check.evidence.noise_source, check.tolerance) == (status, "given", tolerance)


def test_the_evidence_puts_noise_between_what_was_found_and_the_nearest_mistake(tmp_path):
    check = outputs_of(verified(*converted(tmp_path, make_half(3, 5), ".onnx", states=True)))
    evidence = check.evidence
    assert evidence.found <= evidence.noise
    assert evidence.nearest_noise <= evidence.nearest / 10
    assert evidence.mistakes > 100
    assert evidence.cannot_tell == ()
    assert len(evidence.steps) == 16
    assert all(found <= noise for found, noise in evidence.steps)


@pytest.mark.parametrize("scale", [1e-4, 1e-2])
def test_small_weights_are_still_told_apart(scale, tmp_path):
    """Show what a tolerance of 1e-5 misses: outputs so small that no mistake reaches it."""
    check = outputs_of(verified(*converted(tmp_path, make_half(3, 5, scale=scale, bias=False))))
    assert check.evidence.nearest is not None
    assert not [entry for entry in check.evidence.cannot_tell if " in W" in entry]


def test_what_does_not_fit_into_memory_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 100)
    source, target = converted(tmp_path, make_half(3, 5))
    report = verified(source, target)
    check = next(check for check in report.checks if check.level == "outputs")
    assert (check.status, check.evidence) == ("not run", None)
    assert "GB of memory" in check.detail
    assert report.passed
    assert not report.complete


def test_found_and_nearest_mistake_are_on_the_scale_of_the_noise(tmp_path):
    check = outputs_of(verified(*converted(tmp_path, make_half(3, 5))))
    evidence = check.evidence
    np.testing.assert_allclose(evidence.found_ratio * evidence.noise, evidence.found, rtol=1e-6)
    np.testing.assert_allclose(evidence.nearest_ratio * evidence.nearest_noise, evidence.nearest, rtol=1e-6)
    assert evidence.found_ratio <= 1 < 10 <= evidence.nearest_ratio
    assert re.match(
        r"found (0|0\.\d+|less than 0\.01) of noise · nearest mistake [\d,.e]+ times noise \(", check.detail
    )


def test_a_given_tolerance_is_the_scale_of_both_numbers(tmp_path):
    source, target = converted(tmp_path, make_half(3, 5))
    check = next(check for check in verified(source, target, Settings(atol=1e-5)).checks if check.level == "outputs")
    np.testing.assert_allclose(check.evidence.nearest_ratio, check.evidence.nearest / 1e-5, rtol=1e-6)
    assert re.match(
        r"found (0|0\.\d+|less than 0\.01) of the tolerance · nearest mistake [\d,.]+ times the tol", check.detail
    )


@pytest.mark.parametrize("suffix", [".pt", ".onnx"])
def test_the_count_of_weights_is_the_sources(tmp_path, suffix):
    """4 * 5 * (3 + 5 + 1): not the zeros that stand for the second bias."""
    report = verified(*converted(tmp_path, make_half(3, 5), suffix=suffix))
    (detail,) = [check.detail for check in report.checks if check.level == "weights"]
    assert detail == "180 numbers are equal bit for bit"
