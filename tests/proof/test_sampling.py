"""Layers too large to be computed whole: some units show every mistake that all of them would.

The layers are small here and called giants; a few of their units are computed.
"""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

import lstmconv
from lstmconv.activations import HARD_SIGMOID_KERAS_2
from lstmconv.model import Stack
from lstmconv.model.stacking import join
from lstmconv.proof import judging, outputs, sampling, verifying
from lstmconv.proof.report import Check
from tests.contract.building import make_checkpoint, make_half, make_halves, make_layer, verified
from tests.proof.mutants import MUTANTS
from tests.proof.test_mutants import wrong_file

SUFFIXES = (".pt", ".safetensors", ".onnx", ".cudnn.safetensors", ".keras")
UNITS = 4


@pytest.fixture(autouse=True)
def giants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call every layer a giant, and compute four units of each direction."""
    monkeypatch.setattr(outputs, "GIANT", 0)
    for module in (sampling, outputs):
        monkeypatch.setattr(module, "SAMPLED", UNITS)


def outputs_of(report: lstmconv.Report) -> Check:
    return next(check for check in report.checks if check.level == "outputs")


def layers() -> dict[str, object]:
    one, square = make_half(7, 11, seed=1), make_half(11, 11, seed=2)
    return {
        "forwards": make_layer(one),
        "square": make_layer(square),
        "no bias": make_layer(make_half(7, 11, seed=1, bias=False)),
        "backwards": make_layer(make_half(7, 11, seed=3, go_backwards=True)),
        "hard_sigmoid": make_layer(make_half(7, 11, seed=4, recurrent_activation=HARD_SIGMOID_KERAS_2)),
        "last step": make_layer(one, return_sequences=False),
        **{mode: make_layer(*make_halves(7, 11, seed=5), merge_mode=mode) for mode in ("concat", "sum", "mul", "ave")},
    }


@pytest.mark.parametrize("case", list(layers()))
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_right_conversions_pass_and_say_of_how_many_units(case: str, suffix: str, tmp_path):
    layer = layers()[case]
    try:
        done = lstmconv.save(make_checkpoint(layer), tmp_path / f"m{suffix}")
    except lstmconv.UnsupportedModelError:
        pytest.skip("the format has no such layer")
    check = outputs_of(verified(make_checkpoint(layer), done[0]))
    if suffix == ".keras" and "needs tf_keras" in check.detail:
        pytest.skip(check.detail)
    assert check.status == "passed", check.detail
    assert f"{UNITS} of 11 units" in check.detail
    assert check.evidence.nearest >= judging.MARGIN * check.evidence.nearest_noise or check.evidence.cannot_tell


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_mutant_is_caught_by_a_few_units(suffix: str, tmp_path, monkeypatch):
    """Bits are not compared here; what shows in single rows is also named."""
    monkeypatch.setattr(verifying, "check_weights", lambda name, *_, **__: Check(name, "weights", "passed", ""))
    chosen = [mutant for mutant in MUTANTS if mutant.fits(11, 11)]
    whole = ("transposed", "reshaped", "by unit", "interleaved")
    unnamed = []
    for mutant in random.Random(suffix).sample(chosen, 10 if suffix == ".keras" else 25):
        source, target = wrong_file(tmp_path, suffix, mutant, 11, 11, suffix != ".onnx")
        check = outputs_of(verified(source, target))
        assert check.status == "failed", f"{mutant.name}: {check.detail}"
        if not any(word in mutant.name for word in whole) and not any(
            words in (check.diagnosis or "") for words in mutant.words
        ):
            unnamed.append(f"{mutant.name}: {check.diagnosis}")
    assert len(unnamed) <= 1, unnamed


@pytest.mark.parametrize("states", [False, True])
def test_time_that_runs_the_other_way_is_named(states: bool, tmp_path):
    backwards = make_checkpoint(make_layer(make_half(7, 11, seed=6, go_backwards=True)))
    forwards = make_checkpoint(make_layer(make_half(7, 11, seed=6)))
    lstmconv.save(forwards, tmp_path / "m.onnx", states=states)
    check = outputs_of(verified(backwards, tmp_path / "m.onnx"))
    assert (check.status, check.diagnosis) == ("failed", "time reversed: run every direction the other way")


def stack(bidirectional: bool) -> lstmconv.Checkpoint:
    lower, upper = make_halves(7, 11, seed=8), make_halves(22 if bidirectional else 11, 11, seed=9)
    made = [make_layer(*halves) if bidirectional else make_layer(halves[0]) for halves in (lower, upper)]
    named = [replace(layer, name=name) for layer, name in zip(made, ("a", "b"), strict=True)]
    return join(replace(make_checkpoint(*named), edges=(("a", "b"),)), lambda _: None, partial=False)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("suffix", [".pt", ".cudnn.safetensors"])
def test_a_stack_is_computed_layer_by_layer_from_what_the_file_returned(bidirectional: bool, suffix: str, tmp_path):
    joined = stack(bidirectional)
    lstmconv.save(joined, tmp_path / f"m{suffix}")
    check = outputs_of(verified(joined, tmp_path / f"m{suffix}"))
    assert check.status == "passed", check.detail
    wrong = joined.layers[1].forward
    exchanged = replace(wrong, weight_hh=lstmconv.Gates(*(np.roll(g, 1, 0) for g in wrong.weight_hh)))
    upper = replace(joined.layers[1], forward=exchanged)
    lstmconv.save(replace(joined, layers=(joined.layers[0], upper)), tmp_path / f"w{suffix}")
    assert outputs_of(verified(joined, tmp_path / f"w{suffix}")).status == "failed"


def test_a_stack_without_initial_states_is_not_run(tmp_path):
    joined = stack(bidirectional=False)
    lstmconv.save(joined, tmp_path / "m.onnx", states=False)
    check = outputs_of(verified(joined, tmp_path / "m.onnx"))
    assert (check.status, "the file takes no states" in check.detail) == ("not run", True)
    lstmconv.save(joined, tmp_path / "m.onnx", states=True, force=True)
    assert outputs_of(verified(joined, tmp_path / "m.onnx")).status == "passed"


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "sparsemax"])
def test_activations_that_take_all_units_at_once_are_not_run(name: str, tmp_path):
    layer = make_layer(make_half(7, 11, seed=1, activation=lstmconv.Activation(name)))
    lstmconv.save(make_checkpoint(layer), tmp_path / "m.pt")
    check = outputs_of(verified(make_checkpoint(layer), tmp_path / "m.pt"))
    assert (check.status, f"{name} needs all units at once" in check.detail) == ("not run", True)


def test_units_are_drawn_with_the_first_and_the_last():
    for hidden in (1, 3, 4, 5, 50):
        units = sampling._chosen(hidden, np.random.default_rng(0))
        assert len(units) == len(set(units)) == min(hidden, UNITS)
        assert units[0] == 0
        assert units[-1] == hidden - 1


def test_only_the_rows_of_the_units_are_taken(tmp_path, monkeypatch):
    """No array of float64 as large as a matrix is made of the source."""
    layer = make_layer(make_half(257, 263, seed=1))
    lstmconv.save(make_checkpoint(layer), tmp_path / "m.pt")
    taken = []
    rows = sampling._rows
    monkeypatch.setattr(sampling, "_rows", lambda *arguments: taken.append(rows(*arguments)) or taken[-1])
    assert outputs_of(verified(make_checkpoint(layer), tmp_path / "m.pt")).status == "passed"
    assert {one.weight_ih.shape for one in taken} == {(4, UNITS, 257)}
    assert {one.weight_hh.shape for one in taken} == {(4, UNITS, 263)}
    assert isinstance(Stack("lstm", (layer,)).first, lstmconv.LSTMLayer)
