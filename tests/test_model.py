"""The values that every format holds: what they check, and what can never be made."""

from __future__ import annotations

import dataclasses

import ml_dtypes
import numpy as np
import pytest

from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.model import Checkpoint, Gates, Input, LSTMDirection, LSTMLayer, Model, Provenance, float_type


def gates(*shape: int, dtype: str = "float32") -> Gates:
    """Return gates i, f, g, o filled with 1, 2, 3, 4."""
    return Gates(*(np.full(shape, value, dtype) for value in (1, 2, 3, 4)))


def direction(inputs: int = 3, hidden: int = 5, dtype: str = "float32", backwards: bool = False) -> LSTMDirection:
    arrays = [gates(hidden, inputs, dtype=dtype), gates(hidden, hidden, dtype=dtype), gates(hidden, dtype=dtype)]
    return LSTMDirection(*arrays, go_backwards=backwards)


def test_gates_stack_in_the_order_i_f_g_o():
    np.testing.assert_array_equal(np.asarray(gates(1)), [[1], [2], [3], [4]])


def test_gates_iterate_in_the_order_i_f_g_o():
    assert [int(gate[0]) for gate in gates(1)] == [1, 2, 3, 4]


def test_gates_have_the_shape_and_native_dtype_of_one_array():
    big_endian = Gates(*(np.ones((5, 3), ">f4") for _ in range(4)))
    assert big_endian.shape == (4, 5, 3)
    assert big_endian.dtype == np.dtype("float32")
    assert big_endian.dtype.isnative


def test_gates_of_unequal_shapes_cannot_be_made():
    with pytest.raises(UnsupportedModelError, match=r"differ in shape or dtype: .*g \(4,\)"):
        Gates(np.ones(5), np.ones(5), np.ones(4), np.ones(5))


def test_gates_of_unequal_dtypes_cannot_be_made():
    with pytest.raises(UnsupportedModelError, match=r"o \(5,\) float16"):
        Gates(np.ones(5), np.ones(5), np.ones(5), np.ones(5, np.float16))


def test_direction_tells_its_sizes():
    one = direction(inputs=3, hidden=5)
    assert (one.input_size, one.hidden_size, one.dtype) == (3, 5, np.dtype("float32"))


def test_direction_lists_only_the_arrays_that_are_there():
    assert list(direction().arrays) == ["weight_ih", "weight_hh", "bias_ih"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((gates(4, 3), gates(5, 5)), r"weight_ih is \(4, 4, 3\), expected \(4, 5, 3\) for 5 units"),
        ((gates(5, 3), gates(5, 4)), r"weight_hh is \(4, 5, 4\), expected \(4, 5, 5\) for 5 units"),
        ((gates(5, 3), gates(5, 5), gates(4)), r"bias_ih is \(4, 4\), expected \(4, 5\)"),
        ((gates(5, 3), gates(5, 5), None, gates(6)), r"bias_hh is \(4, 6\), expected \(4, 5\)"),
        ((gates(5, 3), gates(5, 5, dtype="float64")), "weight_hh is float64 where weight_ih is float32"),
    ],
)
def test_direction_of_arrays_that_do_not_fit_cannot_be_made(arrays: tuple[Gates | None, ...], message: str):
    with pytest.raises(UnsupportedModelError, match=message):
        LSTMDirection(*arrays)


def test_direction_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        direction().go_backwards = True  # type: ignore[misc]


def test_layer_without_a_backward_half_has_one_direction():
    layer = LSTMLayer("lstm", direction())
    assert not layer.bidirectional
    assert layer.directions == (layer.forward,)


def test_layer_lists_the_forward_half_first():
    forward, backward = direction(), direction(backwards=True)
    assert LSTMLayer("lstm", forward, backward).directions == (forward, backward)


def test_halves_may_have_different_units():
    """Keras' backward_layer may be any layer; only sum, mul and ave need equal units."""
    layer = LSTMLayer("lstm", direction(hidden=5), direction(hidden=7, backwards=True))
    assert [half.hidden_size for half in layer.directions] == [5, 7]


@pytest.mark.parametrize("mode", ["sum", "mul", "ave"])
def test_halves_of_different_units_cannot_be_added_or_multiplied(mode: str):
    with pytest.raises(UnsupportedModelError, match="lstm"):
        LSTMLayer("lstm", direction(hidden=5), direction(hidden=7, backwards=True), merge_mode=mode)  # type: ignore[arg-type]


def test_halves_of_different_input_sizes_cannot_be_joined():
    with pytest.raises(UnsupportedModelError, match="lstm"):
        LSTMLayer("lstm", direction(inputs=3), direction(inputs=4, backwards=True))


def test_halves_of_different_dtypes_cannot_be_joined():
    with pytest.raises(UnsupportedModelError, match="its directions are float32 and float64"):
        LSTMLayer("lstm", direction(), direction(dtype="float64", backwards=True))


@pytest.mark.parametrize("backwards", [False, True])
def test_halves_that_run_the_same_way_cannot_be_joined(backwards: bool):
    """Keras refuses them too: bidirectional.py __init__."""
    with pytest.raises(UnsupportedModelError, match="both directions run the same way"):
        LSTMLayer("lstm", direction(backwards=backwards), direction(backwards=backwards))


def test_forward_half_may_run_backwards():
    """Keras 2's Bidirectional(LSTM(go_backwards=True)): its other half runs forwards."""
    layer = LSTMLayer("lstm", direction(backwards=True), direction())
    assert layer.go_backwards


def test_unknown_merge_mode_cannot_be_made():
    with pytest.raises(UnsupportedModelError, match="average"):
        LSTMLayer("lstm", direction(), direction(backwards=True), merge_mode="average")  # type: ignore[arg-type]


def test_checkpoint_finds_a_layer_by_name_and_lists_the_names_where_there_is_none():
    layers = (LSTMLayer("first", direction()), LSTMLayer("second", direction()))
    checkpoint = Checkpoint(layers, Provenance("model.h5", "", "Keras HDF5"))
    assert checkpoint["second"] is layers[1]
    with pytest.raises(KeyError, match="no LSTM layer 'third'; there are first, second"):
        checkpoint["third"]


def test_bfloat16_is_the_dtype_of_ml_dtypes():
    assert float_type("bfloat16") == np.dtype(ml_dtypes.bfloat16)
    assert float_type("float16") == np.dtype(np.float16)


@pytest.mark.parametrize("name", ["int8", "complex64", "float128", ""])
def test_no_other_dtype_can_be_named(name: str):
    with pytest.raises(UsageError, match="float16, bfloat16, float32, float64"):
        float_type(name)


def test_open_axes_have_names_that_say_whose_they_are():
    one = Model("m", (Input("months", (None, 12, 1)),), (), {})
    assert one.described_inputs == "months (batch, 12, 1)"
    two = Model("m", (Input("words", (None, None)), Input("tags", (None, None, 3)), Input("age", (7, 1))), (), {})
    assert two.described_inputs == "words (batch, words.time), tags (batch, tags.time, 3), age (7, 1)"
