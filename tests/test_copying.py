"""Numbers move bit for bit, round once, and never overflow; a bias goes where it is told."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from lstmconv.arrays.copying import BiasMode, copy_gates, fill, packed, place_bias
from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.layouts import CUDNN, CUDNN_LSTM_LAYER, KERAS, ONNX, TORCH
from lstmconv.model import Gates, LSTMDirection
from tests._cases import assert_same_bits

# Every bit pattern that arithmetic would change: both zeros, subnormals, infinities, quiet and signalling NaNs.
PATTERNS_32 = [0, 1 << 31, 1, 0x807FFFFF, 0x7F800000, 0xFF800000, 0x7FC00001, 0x7F800001, 0xFFFFFFFF, 0x3F800000]
PATTERNS_16 = [0, 1 << 15, 1, 0x83FF, 0x7C00, 0xFC00, 0x7E01, 0x7C01, 0xFFFF, 0x3C00]
PATTERNS_64 = [0, 1 << 63, 1, 0x800FFFFFFFFFFFFF, 0x7FF << 52, 0xFFF << 52, 0x7FF8000000000001, 0x7FF0000000000001]


def odd_gates(dtype: np.dtype, units: int = 5, inputs: int = 2) -> Gates:
    """Return gates full of bit patterns that arithmetic would change, in another order in each gate."""
    patterns = {2: PATTERNS_16, 4: PATTERNS_32, 8: PATTERNS_64}[dtype.itemsize]
    bits = np.resize(np.array(patterns, f"u{dtype.itemsize}"), units * inputs)
    return Gates(*(np.roll(bits, k).view(dtype).reshape(units, inputs) for k in range(4)))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64], ids=lambda t: t.__name__)
@pytest.mark.parametrize("layout", [KERAS, TORCH, ONNX, CUDNN], ids=lambda row: row.name)
def test_signs_of_zero_subnormals_infinities_and_nan_payloads_survive(layout: object, dtype: type):
    source = odd_gates(np.dtype(dtype))
    shape = {"Keras 2, 3": (2, 20), "cuDNN": (40,)}.get(layout.name, (20, 2))
    target = packed(layout.input_matrix, source, shape)
    back = layout.input_matrix.view(target, hidden=5)
    assert_same_bits(back, np.stack(list(source)))


def test_a_big_endian_source_arrives_in_the_target_s_byte_order():
    source = Gates(*(np.array([[1.5, -0.0, 3e-45]], ">f4").T for _ in range(4)))
    target = packed(TORCH.input_matrix, source, (12, 1))
    np.testing.assert_array_equal(target.view(np.uint32)[:3, 0], [0x3FC00000, 0x80000000, 2])


def test_float64_rounds_to_float16_once():
    """1 + 2**-11 + 2**-24 is above the middle of 1 and 1 + 2**-10; through float32 it would be the middle, and 1."""
    value = 1 + 2**-11 + 2**-30
    assert np.float16(np.float32(value)) == 1.0  # What rounding twice gives.
    source = Gates(*(np.array([[value]]) for _ in range(4)))
    assert packed(TORCH.input_matrix, source, (4, 1), np.float16)[0, 0] == 1 + 2**-10


def test_float64_rounds_to_bfloat16_to_the_nearest():
    source = Gates(*(np.array([[1 + 3 * 2**-9]]) for _ in range(4)))
    assert float(packed(TORCH.input_matrix, source, (4, 1), ml_dtypes.bfloat16)[0, 0]) == 1 + 2**-7


@pytest.mark.parametrize(
    ("dtype", "value"), [(np.float16, 65520.0), (np.float16, -1e6), (np.float32, 1e39), (ml_dtypes.bfloat16, 3.4e38)]
)
def test_a_weight_too_large_for_the_dtype_is_refused(dtype: type, value: float):
    wide = np.float64 if dtype is np.float32 else np.float32
    gates = [np.zeros((1, 1), wide) for _ in range(4)]
    gates[2][0, 0] = value
    if dtype is ml_dtypes.bfloat16:
        gates[2][0, 0] = np.finfo(np.float32).max
    with pytest.raises(UnsupportedModelError, match=r"does not fit .*: choose a wider --dtype"):
        packed(TORCH.input_matrix, Gates(*gates), (4, 1), dtype)


def test_the_largest_float16_and_an_infinity_fit_float16():
    source = Gates(*(np.array([[65504.0, np.inf, -np.inf, np.nan]], np.float32) for _ in range(4)))
    found = packed(TORCH.input_matrix, source, (4, 4), np.float16)[0]
    np.testing.assert_array_equal(found, np.array([65504, np.inf, -np.inf, np.nan], np.float16))


def test_copying_between_layouts_moves_every_number_to_its_place():
    """Keras (2, 12) i f g o to ONNX (12, 2) i o f g: literal numbers."""
    kernel = np.arange(24, dtype=np.float32).reshape(2, 12)
    found = packed(ONNX.input_matrix, KERAS.input_matrix.view(kernel), (12, 2))
    i, f, g, o = ([[c, c + 12] for c in range(start, start + 3)] for start in (0, 3, 6, 9))
    np.testing.assert_array_equal(found, np.array(i + o + f + g, np.float32))


def test_copy_gates_writes_into_the_target_s_memory():
    target = np.zeros((20, 2), np.float32)
    source = odd_gates(np.dtype(np.float32))
    copy_gates(source, TORCH.input_matrix.view(target))
    assert_same_bits(target, np.concatenate(list(source)))


def test_fill_writes_through_a_memory_map(tmp_path: Path):
    target = np.lib.format.open_memmap(tmp_path / "w.npy", "w+", np.float32, (20, 2))
    source = odd_gates(np.dtype(np.float32))
    fill(target, TORCH.input_matrix, source)
    target.flush()
    assert_same_bits(np.load(tmp_path / "w.npy"), np.concatenate(list(source)))


def test_fill_refuses_an_array_whose_view_would_be_a_copy():
    """CuDNNLSTM's input kernel of 3 features is a reshape that has no view."""
    source = Gates(*(np.ones((5, 3), np.float32) for _ in range(4)))
    with pytest.raises(UsageError, match="no view"):
        fill(np.zeros((3, 20), np.float32), CUDNN_LSTM_LAYER.input_matrix, source)


# Biases


def bias(*values: float, dtype: str = "float32") -> Gates:
    return Gates(*(np.array([value], dtype) for value in values))


def direction(bias_ih: Gates | None, bias_hh: Gates | None) -> LSTMDirection:
    dtype = (bias_ih or bias_hh or bias(0, 0, 0, 0)).dtype.name
    one = Gates(*(np.ones((1, 1), dtype) for _ in range(4)))
    return LSTMDirection(one, one, bias_ih, bias_hh)


def values(gates: Gates | None) -> list[float] | None:
    return None if gates is None else np.asarray(gates, np.float64).ravel().tolist()


B = [1.0, -2.0, 3.0, 0.5]
HALF = [0.5, -1.0, 1.5, 0.25]
ZERO = [0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (None, (B, ZERO)),
        ("input", (B, ZERO)),
        ("recurrent", (ZERO, B)),
        ("both-halves", (HALF, HALF)),
        ("double", (B, ZERO)),
        ("single-input", (B, None)),
        ("single-recurrent", (None, B)),
    ],
)
def test_one_bias_goes_where_the_mode_says(mode: BiasMode | None, expected: tuple[object, object]):
    found = place_bias(direction(bias(*B), None), mode)
    assert (values(found[0]), values(found[1])) == expected


@pytest.mark.parametrize("mode", [None, "double"])
def test_two_biases_stay_two(mode: BiasMode | None):
    """CuDNNLSTM has two; where the target has two, nothing is summed."""
    found = place_bias(direction(bias(1, 2, 3, 4), bias(10, 20, 30, 40)), mode)
    assert [values(gates) for gates in found] == [[1, 2, 3, 4], [10, 20, 30, 40]]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("input", ([11, 22, 33, 44], ZERO)),
        ("recurrent", (ZERO, [11, 22, 33, 44])),
        ("both-halves", ([5.5, 11, 16.5, 22], [5.5, 11, 16.5, 22])),
        ("single-input", ([11, 22, 33, 44], None)),
        ("single-recurrent", (None, [11, 22, 33, 44])),
    ],
)
def test_two_biases_are_summed_where_the_mode_has_one(mode: BiasMode, expected: tuple[object, object]):
    found = place_bias(direction(bias(1, 2, 3, 4), bias(10, 20, 30, 40)), mode)
    assert (values(found[0]), values(found[1])) == expected


def test_a_lone_recurrent_bias_stays_recurrent():
    found = place_bias(direction(None, bias(*B)), None)
    assert [values(gates) for gates in found] == [ZERO, B]


@pytest.mark.parametrize("mode", [None, "input", "recurrent", "both-halves", "single-input", "none"])
def test_no_bias_stays_no_bias(mode: BiasMode | None):
    assert place_bias(direction(None, None), mode) == (None, None)


def test_no_bias_becomes_zeros_where_cudnn_needs_two():
    found = place_bias(direction(None, None), "double")
    assert [values(gates) for gates in found] == [ZERO, ZERO]


def test_dropping_a_bias_is_refused():
    with pytest.raises(UsageError, match="would drop the layer's bias"):
        place_bias(direction(bias(*B), None), "none")


def test_an_unknown_bias_mode_is_refused():
    with pytest.raises(UsageError, match="'half' is unknown; expected one of input, recurrent, both-halves"):
        place_bias(direction(bias(*B), None), "half")  # type: ignore[arg-type]


def test_the_zeros_beside_a_bias_are_positive():
    """(-0.0) + (+0.0) is +0.0: the sum loses a sign bit that computing never shows; the bias itself keeps it."""
    found = place_bias(direction(bias(-0.0, -1, 2, np.inf), None), "input")
    np.testing.assert_array_equal(np.signbit(np.asarray(found[1])), False)
    assert_same_bits(found[0], np.array([[-0.0], [-1], [2], [np.inf]], np.float32))


def test_two_float16_biases_are_summed_and_rounded_once():
    """1 + 2**-11 lies in the middle of two float16 numbers and rounds to the even one, 1."""
    first, second = bias(1, 1, 1, 2048, dtype="float16"), bias(2**-11, 2**-10, 0, 1, dtype="float16")
    found = place_bias(direction(first, second), "input")
    assert values(found[0]) == [1, 1 + 2**-10, 1, 2048]
