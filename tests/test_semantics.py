"""reference() against live Keras 3 layers that compute in float64: masks, directions, merging, states."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import torch

from lstmconv import reference
from lstmconv.activations import Activation, parse_activation
from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.model import Gates, LSTMDirection, LSTMLayer
from lstmconv.semantics import run_layer
from tests._cases import columns, random

FLOAT64_TOLERANCE = 1e-12
"""Both sides compute 6 steps in float64 and only sum in another order."""

MASKED_TOLERANCE = 1e-6
"""Keras' masked steps pass through its default float32 also in a float64 layer: 2e-8 seen."""

BATCH, STEPS, INPUTS, UNITS = 5, 6, 3, 4

# Rows: whole, right padding, left padding, holes, nothing valid at all.
MASK = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1], [1, 0, 1, 0, 0, 1], [0] * 6], bool)


def x(steps: int = STEPS) -> np.ndarray:
    return 3 * random((BATCH, steps, INPUTS), 99, np.float64)


def state(seed: int, units: int = UNITS) -> np.ndarray:
    return random((BATCH, units), seed, np.float64)


def randomise(layer: keras.Layer) -> keras.Layer:
    layer.build((BATCH, STEPS, INPUTS))
    for seed, variable in enumerate(layer.weights):
        variable.assign(torch.from_numpy(random(variable.shape, seed, np.float64)))
    return layer


def lstm(units: int = UNITS, **options: Any) -> keras.layers.LSTM:
    return keras.layers.LSTM(units, dtype="float64", **{"return_sequences": True, **options})


def call(layer: keras.Layer, *arrays: np.ndarray, **options: Any) -> list[np.ndarray]:
    """Call a Keras layer and return all its outputs."""
    with torch.no_grad():
        outputs = layer(*(torch.from_numpy(array) for array in arrays), **options)
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    return [output.detach().cpu().numpy() for output in outputs]


def gates(array: np.ndarray, units: int) -> Gates:
    return Gates(*columns(array, units))


def direction(layer: keras.layers.LSTM) -> LSTMDirection:
    """Slice a live layer's arrays by hand, and take its options from its attributes."""
    arrays = [variable.value.detach().cpu().numpy() for variable in layer.weights]
    return LSTMDirection(
        *(gates(array, layer.units) for array in arrays),
        activation=parse_activation(layer.activation.__name__, 3),
        recurrent_activation=parse_activation(layer.recurrent_activation.__name__, 3),
        go_backwards=layer.go_backwards,
    )


def ours(layer: keras.Layer) -> LSTMLayer:
    """Describe a live Keras layer."""
    two = isinstance(layer, keras.layers.Bidirectional)
    inner = layer.forward_layer if two else layer
    return LSTMLayer(
        name="lstm",
        forward=direction(inner),
        backward=direction(layer.backward_layer) if two else None,
        merge_mode=(layer.merge_mode or "none") if two else "concat",
        return_sequences=inner.return_sequences,
        return_state=layer.return_state,
        stateful=layer.stateful,
        zero_output_for_mask=inner.zero_output_for_mask,
    )


def assert_same(found: Any, expected: list[np.ndarray], limit: float = FLOAT64_TOLERANCE) -> None:
    found = found if isinstance(found, list) else [found]
    assert len(found) == len(expected)
    for actual, desired in zip(found, expected, strict=True):
        assert np.ptp(desired) > 0.01  # A comparison of constants would prove nothing.
        np.testing.assert_allclose(actual, desired, rtol=limit, atol=limit, strict=True)


# One direction


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("backwards", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_lstm_computes_what_keras_computes(sequences: bool, backwards: bool, bias: bool):
    layer = randomise(lstm(return_sequences=sequences, go_backwards=backwards, use_bias=bias))
    assert_same(reference(ours(layer), x()), call(layer, x()))


def test_lstm_with_other_activations_computes_what_keras_computes():
    layer = randomise(lstm(activation="softsign", recurrent_activation="hard_sigmoid"))
    assert_same(reference(ours(layer), x()), call(layer, x()))


def test_softmax_runs_along_the_units():
    layer = randomise(lstm(activation="tanh", recurrent_activation="softmax"))
    assert_same(reference(ours(layer), x()), call(layer, x()))


@pytest.mark.parametrize("backwards", [True, False])
def test_lstm_with_initial_state_computes_what_keras_computes(backwards: bool):
    layer = randomise(lstm(return_state=True, go_backwards=backwards))
    start = [state(1), state(2)]
    expected = call(layer, x(), initial_state=[torch.from_numpy(each) for each in start])
    assert_same(reference(ours(layer), x(), initial_state=start), expected)


@pytest.mark.parametrize("sequences", [True, False])
def test_return_state_appends_h_and_then_c(sequences: bool):
    layer = randomise(lstm(return_sequences=sequences, return_state=True))
    expected = call(layer, x())
    assert len(expected) == 3
    assert_same(reference(ours(layer), x()), expected)


def test_stateful_layer_begins_where_the_batch_before_ended():
    layer = keras.layers.LSTM(UNITS, dtype="float64", stateful=True, return_sequences=True)
    randomise(layer)
    first, second = x()[:, :4], x()[:, 2:]
    call(layer, first)
    expected = call(layer, second)
    mine = ours(layer)
    states = run_layer(mine, first).states
    assert_same(reference(mine, second, initial_state=states), expected)
    assert np.abs(reference(mine, second) - expected[0]).max() > 0.01  # From zeros it is another result.


def test_time_major_layer_swaps_time_and_batch_in_and_out():
    """Only tf-keras has it; the numbers are those of the same layer with (batch, time)."""
    mine = ours(randomise(lstm()))
    swapped = reference(replace(mine, time_major=True), x().swapaxes(0, 1))
    np.testing.assert_array_equal(swapped, reference(mine, x()).swapaxes(0, 1))


def test_both_biases_are_added():
    """CuDNNLSTM has two biases; their sum is what one bias would be (exact for these halves)."""
    mine = ours(randomise(lstm()))
    half = Gates(*(0.5 * gate for gate in mine.forward.bias_ih))
    split = replace(mine, forward=replace(mine.forward, bias_ih=half, bias_hh=half))
    np.testing.assert_array_equal(reference(split, x()), reference(mine, x()))


def test_no_steps_return_no_sequence_and_the_initial_state():
    mine = replace(ours(randomise(lstm())), return_state=True)
    sequence, h, c = reference(mine, np.zeros((BATCH, 0, INPUTS)), initial_state=[state(1), state(2)])
    assert sequence.shape == (BATCH, 0, UNITS)
    np.testing.assert_array_equal(h, state(1))
    np.testing.assert_array_equal(c, state(2))


# Masks


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("backwards", [True, False])
@pytest.mark.parametrize("zero", [True, False])
def test_trap_27_masked_steps_repeat_or_zero_as_keras_does(sequences: bool, backwards: bool, zero: bool):
    layer = lstm(return_sequences=sequences, go_backwards=backwards, return_state=True, zero_output_for_mask=zero)
    randomise(layer)
    expected = call(layer, x(), mask=torch.from_numpy(MASK))
    assert_same(reference(ours(layer), x(), mask=MASK), expected, MASKED_TOLERANCE)


def test_masked_steps_before_the_first_valid_one_give_zeros_although_a_state_came_in():
    layer = randomise(lstm())
    start = [state(1), state(2)]
    expected = call(layer, x(), mask=torch.from_numpy(MASK), initial_state=[torch.from_numpy(s) for s in start])
    assert_same(reference(ours(layer), x(), initial_state=start, mask=MASK), expected, MASKED_TOLERANCE)


def test_a_mask_without_a_masked_step_changes_nothing():
    mine = ours(randomise(lstm()))
    np.testing.assert_array_equal(reference(mine, x(), mask=np.ones((BATCH, STEPS))), reference(mine, x()))


# Two directions

MODES = ["concat", "sum", "mul", "ave", None]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_bidirectional_computes_what_keras_computes(mode: str | None, sequences: bool, masked: bool):
    """Traps 23 and 24: the backward half's last output is that of step 0; ave is half the sum; None gives two."""
    inner = lstm(return_sequences=sequences)
    layer = randomise(keras.layers.Bidirectional(inner, merge_mode=mode, dtype="float64"))
    mask = MASK if masked else None
    expected = call(layer, x(), mask=torch.from_numpy(MASK) if masked else None)
    assert len(expected) == (2 if mode is None else 1)
    limit = MASKED_TOLERANCE if masked else FLOAT64_TOLERANCE
    assert_same(reference(ours(layer), x(), mask=mask), expected, limit)


@pytest.mark.parametrize("mode", MODES)
def test_bidirectional_takes_and_returns_four_states(mode: str | None):
    inner = lstm(return_state=True)
    layer = randomise(keras.layers.Bidirectional(inner, merge_mode=mode, dtype="float64"))
    start = [state(seed) for seed in range(4)]
    expected = call(layer, x(), initial_state=[torch.from_numpy(each) for each in start])
    assert len(expected) == (6 if mode is None else 5)
    assert_same(reference(ours(layer), x(), initial_state=start), expected)


def test_trap_26_a_backward_layer_of_its_own_may_have_other_units_and_activations():
    backward = lstm(7, go_backwards=True, use_bias=False, activation="softsign")
    layer = keras.layers.Bidirectional(lstm(UNITS), backward_layer=backward, dtype="float64")
    randomise(layer)
    expected = call(layer, x())
    assert expected[0].shape == (BATCH, STEPS, UNITS + 7)
    assert_same(reference(ours(layer), x()), expected)


def test_trap_23_bidirectional_without_sequences_is_not_the_last_step_of_the_sequence():
    layer = randomise(keras.layers.Bidirectional(lstm(return_sequences=False), dtype="float64"))
    mine = ours(layer)
    last = reference(mine, x())
    sequence = reference(replace(mine, return_sequences=True), x())
    np.testing.assert_array_equal(last[:, :UNITS], sequence[:, -1, :UNITS])
    np.testing.assert_array_equal(last[:, UNITS:], sequence[:, 0, UNITS:])
    assert np.abs(last[:, UNITS:] - sequence[:, -1, UNITS:]).max() > 0.01


def test_run_layer_gives_each_half_s_sequence_in_the_order_of_the_input_s_time():
    layer = randomise(keras.layers.Bidirectional(lstm(), dtype="float64"))
    outputs = run_layer(ours(layer), x())
    np.testing.assert_array_equal(np.concatenate(outputs.sequences, -1), outputs.outputs[0])


# What cannot be computed


def one_unit(activation: Activation | None = None) -> LSTMLayer:
    one = Gates(*(np.ones((1, 1)) for _ in range(4)))
    return LSTMLayer("memory", LSTMDirection(one, one, recurrent_activation=activation))


def test_unknown_activation_is_asked_for_and_not_guessed():
    with pytest.raises(UnsupportedModelError, match="memory: the recurrent activation is unknown; pass config="):
        reference(one_unit(), np.zeros((1, 1, 1)))


@pytest.mark.parametrize("shape", [(4, 1), (1, 4, 2), (1, 4, 1, 1)])
def test_inputs_of_another_shape_are_refused(shape: tuple[int, ...]):
    with pytest.raises(UsageError, match=r"expected \(batch, time, 1\)"):
        reference(one_unit(Activation("sigmoid")), np.zeros(shape))


def test_a_state_of_another_shape_is_refused():
    with pytest.raises(UsageError, match="initial_state is"):
        reference(one_unit(Activation("sigmoid")), np.zeros((2, 3, 1)), initial_state=[np.zeros((2, 1))])
    with pytest.raises(UsageError, match="h and c, forward then backward"):
        reference(
            one_unit(Activation("sigmoid")), np.zeros((2, 3, 1)), initial_state=[np.zeros((1, 1)), np.zeros((1, 1))]
        )


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(UsageError, match=r"mask is \(3, 2\), expected \(2, 3\)"):
        reference(one_unit(Activation("sigmoid")), np.zeros((2, 3, 1)), mask=np.ones((3, 2)))
