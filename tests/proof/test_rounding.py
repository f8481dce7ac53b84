"""What rounding may do: the bound holds, the spread covers real orders of summation, and neither is idle."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from lstmconv.activations import HARD_SIGMOID_KERAS_2, Activation
from lstmconv.model import Stack
from lstmconv.proof.noise import bound, spread
from lstmconv.proof.rounding import ACTIVATION_ERROR, limits
from lstmconv.proof.trials import Settings, draw
from lstmconv.runtimes import Precision
from tests.contract.building import LEAKY, make_half, make_halves, make_layer

FLOAT32 = Precision("float32", "float32")
U = 2.0**-24


def grid():
    """Return numbers from 1e-8 to 30 of both signs, dense near zero and even over -20 .. 20."""
    small = np.geomspace(1e-8, 30, 200_001)
    return np.concatenate([small, -small, np.linspace(-20, 20, 400_000)]).astype(np.float32)


def through_onnxruntime(x, gate):
    """Show one activation: the other gate is saturated at 1, so that c is sigmoid(x) or tanh(x)."""
    w, b = np.zeros((1, 4, 1), np.float32), np.zeros((1, 8), np.float32)
    shown, full = {"i": (0, 3), "g": (3, 0)}[gate]  # ONNX' order is i o f c.
    w[0, shown], b[0, full] = 1, 200
    node = helper.make_node("LSTM", ["x", "w", "r", "b"], ["", "", "c"], hidden_size=1)
    arrays = [numpy_helper.from_array(a, n) for a, n in ((w, "w"), (np.zeros((1, 4, 1), np.float32), "r"), (b, "b"))]
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "n", 1])],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [1, "n", 1])],
        arrays,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["c"], {"x": x.reshape(1, -1, 1)})[0].ravel()


def through_torch(x, gate):
    lstm = torch.nn.LSTM(1, 1)
    shown, full = {"i": (0, 2), "g": (2, 0)}[gate]
    with torch.no_grad():
        for parameter in lstm.parameters():
            parameter.zero_()
        lstm.weight_ih_l0[shown] = 1
        lstm.bias_ih_l0[full] = 200
        return lstm(torch.from_numpy(x).reshape(1, -1, 1))[1][1].numpy().ravel()


@pytest.mark.parametrize("framework", [through_onnxruntime, through_torch])
@pytest.mark.parametrize("gate", ["i", "g"])
def test_frameworks_activations_are_as_good_as_is_assumed(framework, gate):
    x = grid()
    wide = x.astype(np.float64)
    exact, at_zero = (np.tanh(wide), 0.0) if gate == "g" else (1 / (1 + np.exp(-wide)), 0.5)
    scale = np.maximum(np.maximum(np.abs(exact), at_zero), np.minimum(np.abs(wide), 1))
    worst = np.max(np.abs(framework(x, gate) - exact) / scale) / U
    assert 0.5 < worst <= ACTIVATION_ERROR * 0.75  # A quarter stays for what is not on the grid.


def sequential(direction, x, h, c, order):
    """Compute in float32, the terms of every sum added one after another in a random order."""
    random = np.random.default_rng(order)
    w, r, b = (np.asarray(a, np.float32) for a in (direction.weight_ih, direction.weight_hh, direction.bias_ih))
    h, c = h.astype(np.float32), c.astype(np.float32)

    def sigmoid(z):
        return (1 / (1 + np.exp(-z.astype(np.float64)))).astype(np.float32)

    sequence = []
    for step in range(x.shape[1]):
        terms = np.concatenate(
            [
                w[None] * x[:, step, None, None].astype(np.float32),
                r[None] * h[:, None, None],
                np.broadcast_to(b, (len(h), *b.shape))[..., None],
            ],
            axis=-1,
        )
        total = np.zeros(terms.shape[:-1], np.float32)
        for column in random.permutation(terms.shape[-1]):
            total = total + terms[..., column]
        i, f, g, o = total.swapaxes(0, 1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        sequence.append(h)
    return {"y": np.stack(sequence, axis=1), "h0": h, "c0": c}


SIZES = [(1, 1), (3, 5), (7, 7), (53, 31), (11, 101)]


@pytest.mark.parametrize(("features", "hidden"), SIZES)
@pytest.mark.parametrize("kind", ["bound", "spread"])
def test_noise_covers_sums_in_any_order(features, hidden, kind):
    layer = make_layer(make_half(features, hidden, scale=1 / np.sqrt(hidden)))
    stack = Stack("lstm", (layer,))
    for trial in draw(stack, "float32", Settings(steps=9), frozenset({"states"})):
        noise = bound(stack, trial, FLOAT32)
        if kind == "spread":
            noise = spread(stack, trial, FLOAT32, noise)
        for order in range(6):
            found = sequential(layer.forward, trial.inputs.x, *trial.inputs.states, order)
            for key, values in trial.expected.items():
                ratio = np.max(np.abs(found[key] - values) / noise.allowed[key])
                assert 0 < ratio <= 1, (key, order)


def test_the_bound_is_no_wider_than_its_terms_explain():
    """Show that the bound says something: one step of a small layer is bounded by some 100 roundings."""
    stack = Stack("lstm", (make_layer(make_half(3, 5)),))
    probe, _ = draw(stack, "float32", Settings(), frozenset({"states"}))
    one = {key: array.max() for key, array in bound(stack, probe, FLOAT32).allowed.items()}
    assert U < one["h0"] < 1000 * U


def test_double_precision_has_a_smallerbound():
    stack = Stack("lstm", (make_layer(make_half(3, 5, dtype="float64")),))
    probe, _ = draw(stack, "float64", Settings(), frozenset({"states"}))
    wide = bound(stack, probe, Precision("float64", "float64")).allowed["c0"]
    narrow = bound(stack, probe, FLOAT32).allowed["c0"]
    np.testing.assert_allclose(narrow / wide, 2.0**28, rtol=0.05)  # 2^29, and the reference rounds as much.


def test_a_narrow_output_adds_its_rounding():
    stack = Stack("lstm", (make_layer(make_half(3, 5, dtype="float16")),))
    probe, _ = draw(stack, "float16", Settings(), frozenset({"states"}))
    allowed = bound(stack, probe, Precision("float32", "float16")).allowed["y"]
    assert np.all(allowed >= 2.0**-11 * np.abs(probe.expected["y"]))


def test_masked_steps_and_both_halves_carry_their_bounds():
    stack = Stack("lstm", (make_layer(*make_halves(3, 5), merge_mode="mul"),))
    for trial in draw(stack, "float32", Settings(), frozenset({"states", "lengths"})):
        allowed = bound(stack, trial, FLOAT32).allowed
        assert {key: array.shape for key, array in allowed.items()} == {k: v.shape for k, v in trial.expected.items()}
        assert all(np.isfinite(array).all() and (array > 0).all() for array in allowed.values())


@pytest.mark.parametrize("activation", [LEAKY, HARD_SIGMOID_KERAS_2, Activation("softplus")])
def test_other_activations_have_bounds(activation):
    stack = Stack("lstm", (make_layer(make_half(3, 5, activation=activation)),))
    probe, _ = draw(stack, "float32", Settings(), frozenset({"states"}))
    allowed = bound(stack, probe, FLOAT32).allowed["y"]
    assert np.all((allowed > 0) & (allowed < 1e-2 * max(1.0, np.abs(probe.expected["y"]).max())))


def test_an_activation_that_falls_has_no_bound_and_still_aspread():
    stack = Stack("lstm", (make_layer(make_half(3, 5, activation=Activation("softmax"))),))
    probe, _ = draw(stack, "float32", Settings(), frozenset({"states"}))
    none = bound(stack, probe, FLOAT32)
    assert none.largest == np.inf
    assert 0 < spread(stack, probe, FLOAT32, none).largest < 1e-4


def test_limits_are_those_of_ieee_754():
    half = limits("float16")
    assert (half.roundoff, half.smallest, half.largest) == (2.0**-11, 2.0**-25, 65504.0)
    assert limits("bfloat16").roundoff == 2.0**-8
