"""Every golden file: its layers' names, its weights bit for bit, and the outputs that real Keras computed.

The arrays are sliced here by hand: columns i, f, c, o of the fused kernels, Keras 1's twelve by their
names, and a CuDNNLSTM as the arrays of the plain LSTM into which tf-keras itself converted it.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

import lstmconv
from lstmconv import Checkpoint, LSTMLayer
from lstmconv.model import float_type
from tests._cases import (
    GOLDEN,
    GoldenCase,
    assert_direction,
    assert_same_bits,
    columns,
    golden_cases,
    recorded_layers,
    recorded_list,
)

CASES = golden_cases()
WITHOUT_CONFIG = [case for case in CASES if case.config is not None]

FLOAT32_TOLERANCE = 5e-6
"""Keras computes in float32 over 8 steps with unbounded activations among them, the reference in float64: 8e-7 seen."""
FLOAT16_TOLERANCE = 3e-3
"""Keras rounds each of 8 steps to float16, 11 bits: 6e-4 seen."""
BFLOAT16_TOLERANCE = 2e-2
"""Keras rounds each of 8 steps to bfloat16, 8 bits: 5e-3 seen."""

# RNN([cell, cell]) is one Keras layer, and here one LSTM a cell.
SPLIT = {
    "keras-3.15.1/rnn_cells.keras": {"two_cells": ["two_cells/lstm_cell", "two_cells/lstm_cell_1"]},
    "tf-keras-2.21.0/stacked_cells.h5": {"stack": ["stack/lstm_cell_1", "stack/lstm_cell_2"]},
}

# .weights.h5 of Keras before 3.6 does not hold the layers' names, only the numbered names of their classes.
CLASS_NAMES = {
    "keras-3.0.5/lstm.weights.h5": ["lstm"],
    "keras-3.2.1/lstm.weights.h5": ["lstm"],
    "tf-keras-2.21.0/lstm.weights.h5": ["lstm"],
    "tf-keras-2.21.0/bfloat16.weights.h5": ["lstm", "lstm_1"],
    # Keras 2.12 to 2.14 count a layer that has weights twice: functional.py _layer_checkpoint_dependencies.
    "tf-2.13.1/nested.weights.h5": ["functional/lstm", "functional/lstm_2", "lstm"],
}

pytestmark = pytest.mark.usefixtures("trusted_golden_files")


def ids(cases: list[GoldenCase]) -> list[str]:
    return [str(case) for case in cases]


def names_of(case: GoldenCase, recorded: str) -> list[str]:
    return SPLIT.get(str(case), {}).get(recorded, [recorded])


def cells(names: list[str], arrays: list[np.ndarray]) -> list[list[np.ndarray]]:
    """Split a layer's arrays into cells: each begins with its kernel, which Keras 1 calls W_i or W."""
    split: list[list[np.ndarray]] = []
    for name, array in zip(names, arrays, strict=True):
        if re.search(r"(^|/)kernel(:0)?$|_W(_i)?$", name):
            split.append([])
        split[-1].append(array)
    return split


def expected_cells(recorded: dict[str, np.ndarray]) -> list[list[np.ndarray]]:
    arrays = recorded_list(recorded, "w_")
    dtype = str(recorded.get("dtype", "float32"))
    if dtype == "bfloat16":  # Recorded as float32: the upper halves are the bfloat16 numbers.
        arrays = [(array.view(np.uint32) >> 16).astype(np.uint16).view(float_type(dtype)) for array in arrays]
    return cells(recorded["names"].tolist(), arrays)


def directions(checkpoint: Checkpoint, names: list[str]) -> list[lstmconv.LSTMDirection]:
    return [direction for name in names for direction in checkpoint[name].directions]


def compare_weights(checkpoint: Checkpoint, case: GoldenCase, owners: dict[str, list[str]]) -> None:
    for name, recorded in recorded_layers(case.recording).items():
        found = directions(checkpoint, owners[name])
        expected = expected_cells(recorded)
        assert len(found) == len(expected)
        plain = recorded_list(recorded, "plain_w_")
        if plain:
            assert_cudnn(found, plain)
            continue
        for direction, arrays in zip(found, expected, strict=True):
            assert_direction(direction, arrays)


def assert_cudnn(found: list[lstmconv.LSTMDirection], plain: list[np.ndarray]) -> None:
    """Compare with the plain LSTM that tf-keras made of a CuDNNLSTM: its only bias is the sum of the two."""
    assert len(plain) == 3 * len(found)
    for k, direction in enumerate(found):
        kernel, recurrent, bias = plain[3 * k : 3 * k + 3]
        units = recurrent.shape[0]
        assert_same_bits(direction.weight_ih, columns(kernel, units))
        assert_same_bits(direction.weight_hh, columns(recurrent, units))
        assert_same_bits(np.asarray(direction.bias_ih) + np.asarray(direction.bias_hh), columns(bias, units))


def test_golden_files_are_there():
    assert len(CASES) >= 120
    assert {case.file.parent.name for case in CASES} == {
        *("keras-1.2.2", "keras-2.0.0", "keras-2.0.9", "keras-2.1.6", "keras-2.2.4", "keras-2.3.1"),
        *("keras-3.0.5", "keras-3.2.1", "keras-3.3.3", "keras-3.6.0", "keras-3.15.1"),
        *("tf-2.13.1", "tf-keras-2.21.0"),
    }


@pytest.mark.parametrize("case", CASES, ids=ids(CASES))
def test_golden_file_has_the_recorded_layers_with_the_recorded_weights_bit_for_bit(case: GoldenCase):
    checkpoint = lstmconv.load(case.file, config=case.config)
    recorded = recorded_layers(case.recording)
    owners = {name: names_of(case, name) for name in recorded}
    found = [layer.name for layer in checkpoint.layers]
    expected = [name for names in owners.values() for name in names]
    if "subclassed" in str(case):  # A model class has attributes, which have no order.
        found, expected = sorted(found), sorted(expected)
    assert found == expected
    compare_weights(checkpoint, case, owners)


@pytest.mark.parametrize("case", WITHOUT_CONFIG, ids=ids(WITHOUT_CONFIG))
def test_golden_file_of_weights_only_reads_without_its_config_to_the_same_weights(case: GoldenCase):
    checkpoint = lstmconv.load(case.file)
    recorded = list(recorded_layers(case.recording))
    names = CLASS_NAMES.get(str(case), recorded)
    found = [layer.name for layer in checkpoint.layers]
    if str(case) == "keras-2.0.0/nested_frozen.weights_only.h5":  # The arrays of a frozen layer are stored last.
        assert found == ["inner/second", "inner/first", "after"]
    else:
        assert found == names
    compare_weights(checkpoint, case, {name: [own] for name, own in zip(recorded, names, strict=True)})


def tolerance(name: str, recorded: dict[str, np.ndarray]) -> float:
    if "bfloat16" in name:
        return BFLOAT16_TOLERANCE
    return FLOAT16_TOLERANCE if recorded["y"].dtype == np.float16 else FLOAT32_TOLERANCE


def run(layers: list[LSTMLayer], x: np.ndarray, initial: list[np.ndarray], mask: np.ndarray | None) -> list[np.ndarray]:
    """Run cell after cell; return the sequences of the last one, then every cell's states."""
    states: list[np.ndarray] = []
    outputs: list[np.ndarray] = [x]
    for layer in layers:
        returned = lstmconv.reference(layer, outputs[0], initial_state=initial or None, mask=mask)
        returned = returned if isinstance(returned, list) else [returned]
        sequences = 2 if layer.backward is not None and layer.merge_mode == "none" else 1
        outputs, states = returned[:sequences], states + returned[sequences:]
    return outputs + states


@pytest.mark.parametrize("case", CASES, ids=ids(CASES))
def test_reference_computes_what_real_keras_recorded(case: GoldenCase):
    checkpoint = lstmconv.load(case.file, config=case.config)
    for name, recorded in recorded_layers(case.recording).items():
        layers = [checkpoint[own] for own in names_of(case, name)]
        for call in ("", "_call_1"):
            if f"x{call}" not in recorded:
                continue
            initial = recorded_list(recorded, "initial_")
            found = run(layers, recorded[f"x{call}"], initial, recorded.get("mask"))
            expected = [recorded[f"y{call}"], *([recorded["y_1"]] if "y_1" in recorded else [])]
            expected += recorded_list(recorded, "state_")
            assert len(found) == len(expected)
            for actual, desired in zip(found, expected, strict=True):
                limit = tolerance(name, recorded)
                np.testing.assert_allclose(actual, desired.astype(np.float64), rtol=limit, atol=limit, err_msg=name)


def test_golden_outputs_are_not_constant():
    """Show that the comparison of outputs can fail: every recorded output varies far over its tolerance."""
    for case in CASES:
        for name, recorded in recorded_layers(case.recording).items():
            assert np.ptp(recorded["y"].astype(np.float64)) > 4 * tolerance(name, recorded), f"{case}: {name}"


def test_golden_recurrent_layers_that_are_no_lstm_are_named_and_skipped():
    """Every layer that the recordings list as another recurrent one is skipped by its name."""
    seen = 0
    for case in CASES:
        with np.load(case.recording) as arrays:
            others = arrays["others"].tolist() if "others" in arrays.files else []
        skipped = lstmconv.load(case.file, config=case.config).skipped if others else ()
        assert sorted(entry.name for entry in skipped) == sorted(others)
        seen += len(others)
    assert seen >= 5  # gru, gru_gpu of Keras 1.2.2; gru, simple, frames_lstm of tf-keras.


def test_golden_shards_are_read_through_their_index_only():
    """A shard alone is a .weights.h5 that holds a part of the model."""
    whole = lstmconv.load(GOLDEN / "keras-3.15.1" / "stacked.weights.json")
    assert [layer.name for layer in whole.layers] == ["lower", "upper"]
