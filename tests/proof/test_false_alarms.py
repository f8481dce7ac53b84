"""Right conversions of random layers: none may be called wrong.

``LSTMCONV_CONVERSIONS`` sets how many are tried; the figure in docs/proof.md is from ``LSTMCONV_CONVERSIONS=10000``.
"""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

import lstmconv
from lstmconv.activations import HARD_SIGMOID_KERAS_2, HARD_SIGMOID_KERAS_3, SIGMOID
from lstmconv.proof.trials import Settings
from tests.contract.building import make_checkpoint, make_half, make_layer, verified
from tests.property.strategies import DTYPES

COUNT = int(os.environ.get("LSTMCONV_CONVERSIONS", "200"))
PARTS = 10


def conversion(random):
    """Draw a layer, a target that can hold it, and settings."""
    features, hidden = (int(random.choice([1, 2, 3, 5, 7, 13, 31, 64, 127])) for _ in range(2))
    dtype = str(random.choice(sorted(DTYPES)))
    suffix = str(random.choice([".pt", ".safetensors", ".onnx", ".cudnn.safetensors"]))
    both = bool(random.integers(2))
    rec = SIGMOID if "cudnn" in suffix else random.choice([SIGMOID, HARD_SIGMOID_KERAS_2, HARD_SIGMOID_KERAS_3])
    scale = float(10 ** random.uniform(-4, 0.7))
    options = {"bias": bool(random.integers(4)), "recurrent_activation": rec, "scale": scale}
    half = make_half(features, hidden, int(random.integers(1 << 30)), DTYPES[dtype], **options)
    halves = [half]
    if both:
        seed = int(random.integers(1 << 30))
        options["go_backwards"] = True
        halves.append(make_half(features, hidden, seed, DTYPES[dtype], **options))
    layer = make_layer(*halves, return_sequences=bool(random.integers(2)))
    written = {"states": bool(random.integers(2)), "lengths": bool(random.integers(2))} if suffix == ".onnx" else {}
    settings = Settings(
        seed=int(random.integers(1 << 30)), batch=int(random.integers(1, 6)), steps=int(10 ** random.uniform(0, 2))
    )
    return layer, suffix, written, settings


@pytest.mark.parametrize("part", range(PARTS))
def test_right_conversions_are_never_called_wrong(part, tmp_path):
    random = np.random.default_rng(part)
    alarms, ran = [], 0
    for number in range(COUNT // PARTS):
        layer, suffix, written, settings = conversion(random)
        source, target = make_checkpoint(layer), tmp_path / f"m{suffix}"
        lstmconv.save(source, target, force=True, **written)
        report = verified(source, target, settings)
        ran += any(check.level == "outputs" and check.status == "passed" for check in report.checks)
        if not report.passed:
            alarms.append((number, suffix, settings, layer.dtype, [check.detail for check in report.failures]))
    assert alarms == []
    assert ran > 0.6 * (COUNT // PARTS)  # ONNX Runtime has no bfloat16, nor float64 with hard_sigmoid.


def test_a_float16_layer_of_many_steps_passes_where_a_fixed_tolerance_would_not(tmp_path):
    half = replace(make_half(3, 31, dtype="float16"))
    source = make_checkpoint(make_layer(half))
    lstmconv.save(source, tmp_path / "m.onnx")
    report = verified(source, tmp_path / "m.onnx", Settings(steps=200))
    assert report.passed
    assert max(check.deviation for check in report.checks if check.level == "outputs") > 1e-5
