"""Joining layers into stacks, judged by real Keras models and by the frameworks that run the joined files."""

from __future__ import annotations

import json

import keras
import numpy as np
import onnxruntime
import pytest
import torch
from keras import layers

import lstmconv
from lstmconv.errors import UnsupportedModelError
from tests.contract.building import make_checkpoint, make_half, make_halves, make_layer, write_h5

FLOAT32_NOISE = 2e-6
"""Two or three layers of float32 LSTM over 7 steps, outputs below 1: some units of 1e-7 a layer and step."""


pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""Keras' torch backend and NumPy 2 disagree about a keyword while Keras saves."""


def randomised(model, seed=0):
    """Give a model weights wide enough that an exchange of anything shows."""
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(size=w.shape).astype(w.dtype) * 0.6 for w in model.get_weights()])
    return model


def saved(model, tmp_path, name="model.keras"):
    model.save(tmp_path / name)
    return tmp_path / name


def draw(features=5, batch=3, steps=7, seed=1):
    return np.random.default_rng(seed).normal(size=(batch, steps, features)).astype(np.float32)


def sequential(*inner, features=5, seed=0):
    return randomised(keras.Sequential([layers.Input((None, features)), *inner]), seed)


def load_lstm(path, prefix, features=5, hidden=7, **options):
    """Load a joined state dict strictly into one real nn.LSTM."""
    state = {key.removeprefix(prefix): value for key, value in torch.load(path, weights_only=True).items()}
    module = torch.nn.LSTM(features, hidden, batch_first=True, **options)
    module.load_state_dict(state, strict=True)
    return module


def run(module, x):
    with torch.no_grad():
        return module(torch.from_numpy(x))[0].numpy()


@pytest.mark.parametrize("count", [2, 3])
def test_a_sequential_with_dropout_between_is_one_nn_lstm(tmp_path, count):
    model = sequential(
        *(layer for k in range(count) for layer in (layers.LSTM(7, return_sequences=True), layers.Dropout(0.5)))
    )
    source = saved(model, tmp_path)
    result = lstmconv.convert(source, tmp_path / "m.pt", stack="all")
    assert result.report.passed
    first = model.layers[0].name
    module = load_lstm(tmp_path / "m.pt", f"{first}.", num_layers=count)
    x = draw()
    np.testing.assert_allclose(run(module, x), keras.ops.convert_to_numpy(model(x)), atol=FLOAT32_NOISE, rtol=0)


def test_bidirectional_layers_are_one_bidirectional_nn_lstm(tmp_path):
    model = sequential(
        layers.Bidirectional(layers.LSTM(7, return_sequences=True), name="a"),
        layers.SpatialDropout1D(0.3),
        layers.GaussianNoise(0.1),
        layers.Bidirectional(layers.LSTM(7, return_sequences=True), name="b"),
    )
    lstmconv.convert(saved(model, tmp_path), tmp_path / "m.pt", stack="all")
    module = load_lstm(tmp_path / "m.pt", "a.", num_layers=2, bidirectional=True)
    x = draw()
    np.testing.assert_allclose(run(module, x), keras.ops.convert_to_numpy(model(x)), atol=FLOAT32_NOISE, rtol=0)


def test_square_sizes_are_stacked_in_the_models_order(tmp_path):
    """With 5 features and 5 units every exchange of layers has the right shapes."""
    model = sequential(*(layers.LSTM(5, return_sequences=True) for _ in range(3)))
    lstmconv.convert(saved(model, tmp_path), tmp_path / "m.pt", stack="all")
    module = load_lstm(tmp_path / "m.pt", f"{model.layers[0].name}.", hidden=5, num_layers=3)
    x = draw()
    np.testing.assert_allclose(run(module, x), keras.ops.convert_to_numpy(model(x)), atol=FLOAT32_NOISE, rtol=0)


def test_an_onnx_stack_returns_what_the_model_returns(tmp_path):
    """Units, directions and merge modes may change from layer to layer; the last may return its last step."""
    model = sequential(
        layers.LSTM(7, return_sequences=True, name="one"),
        layers.Bidirectional(layers.LSTM(3, return_sequences=True), merge_mode="sum", name="two"),
        layers.LSTM(11, return_sequences=True, go_backwards=True, recurrent_activation="hard_sigmoid", name="three"),
        layers.Bidirectional(layers.LSTM(2), name="four"),
    )
    lstmconv.convert(saved(model, tmp_path), tmp_path / "m.onnx", stack="all")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == ["one.x"]
    x = draw()
    (y,) = session.run(["one.y"], {"one.x": x})
    np.testing.assert_allclose(y, keras.ops.convert_to_numpy(model(x)), atol=FLOAT32_NOISE, rtol=0)


def test_the_final_states_of_every_layer_come_out_of_an_onnx_stack(tmp_path):
    inputs = layers.Input((None, 5))
    first = layers.LSTM(7, return_sequences=True, return_state=True, name="first")
    second = layers.LSTM(3, return_sequences=True, return_state=True, name="second")
    y1, *s1 = first(inputs)
    y2, *s2 = second(y1)
    model = randomised(keras.Model(inputs, [y2, *s1, *s2]))
    lstmconv.convert(saved(model, tmp_path), tmp_path / "m.onnx", stack="all")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    x = draw()
    names = ["first.y", "first.h", "first.c", "second.h", "second.c"]
    found = session.run(names, {"first.x": x})
    for values, expected in zip(found, model(x), strict=True):
        np.testing.assert_allclose(
            values.squeeze(), keras.ops.convert_to_numpy(expected).squeeze(), atol=FLOAT32_NOISE, rtol=0
        )


# What feeds what


def edges(model, tmp_path):
    checkpoint = lstmconv.load(saved(model, tmp_path))
    return set(checkpoint.edges), set(checkpoint.branching)


def lstm(name, units=5, **options):
    return layers.LSTM(units, return_sequences=True, name=name, **options)


def test_a_functional_model_feeds_as_its_calls_say_not_as_its_layers_are_listed(tmp_path):
    inputs = layers.Input((None, 5))
    early, late = lstm("early"), lstm("late")
    middle = early(inputs)
    model = keras.Model(inputs, late(layers.Dropout(0.2)(middle)))
    assert edges(model, tmp_path) == ({("early", "late")}, set())
    other = keras.Model(inputs, lstm("a")(lstm("z")(inputs)))
    assert edges(other, tmp_path) == ({("z", "a")}, set())


def test_two_branches_do_not_feed_each_other(tmp_path):
    inputs = layers.Input((None, 5))
    model = keras.Model(inputs, layers.Add()([lstm("a")(inputs), lstm("b")(inputs)]))
    assert edges(model, tmp_path) == (set(), set())


@pytest.mark.parametrize("between", [layers.Dense(5), layers.BatchNormalization(), layers.LayerNormalization()])
def test_what_computes_between_two_layers_keeps_them_apart(tmp_path, between):
    inputs = layers.Input((None, 5))
    model = keras.Model(inputs, lstm("b")(between(lstm("a")(inputs))))
    assert edges(model, tmp_path) == (set(), set())


def test_a_residual_connection_is_a_second_reader(tmp_path):
    inputs = layers.Input((None, 5))
    a = lstm("a")(inputs)
    model = keras.Model(inputs, layers.Add()([a, lstm("b")(a)]))
    assert edges(model, tmp_path) == ({("a", "b")}, {"a"})
    with pytest.raises(UnsupportedModelError, match="uses the sequence of a elsewhere"):
        lstmconv.convert(tmp_path / "model.keras", tmp_path / "m.pt", stack="all")


def test_the_models_own_output_is_a_reader(tmp_path):
    inputs = layers.Input((None, 5))
    a = lstm("a")(inputs)
    model = keras.Model(inputs, [a, lstm("b")(a)])
    assert edges(model, tmp_path) == ({("a", "b")}, {"a"})


def test_an_encoders_states_do_not_feed_the_decoder(tmp_path):
    """The decoder starts from the encoder's states and reads its own input."""
    source, target = layers.Input((None, 5)), layers.Input((None, 5))
    _, h, c = lstm("encoder", return_state=True)(source)
    model = keras.Model([source, target], lstm("decoder")(target, initial_state=[h, c]))
    assert edges(model, tmp_path) == (set(), set())
    with pytest.raises(UnsupportedModelError, match='so stack="all" has nothing to join'):
        lstmconv.convert(tmp_path / "model.keras", tmp_path / "m.pt", stack="all")


def test_a_layer_that_is_called_twice_stands_at_neither_end(tmp_path):
    one, two = layers.Input((None, 5)), layers.Input((None, 5))
    shared = lstm("shared")
    model = keras.Model([one, two], [lstm("b")(shared(one)), shared(lstm("a")(two))])
    assert edges(model, tmp_path)[0] == set()


def test_layers_feed_across_the_border_of_a_nested_model(tmp_path):
    inner_input = layers.Input((None, 5))
    inner = keras.Model(inner_input, lstm("y")(layers.Dropout(0.1)(lstm("x")(inner_input))), name="inner")
    inputs = layers.Input((None, 5))
    model = keras.Model(inputs, lstm("after")(inner(lstm("before")(inputs))))
    expected = {("before", "inner/x"), ("inner/x", "inner/y"), ("inner/y", "after")}
    assert edges(model, tmp_path) == (expected, set())


def test_a_nested_model_that_does_more_than_it_passes_on_keeps_layers_apart(tmp_path):
    inner_input = layers.Input((None, 5))
    inner = keras.Model(inner_input, layers.Dense(5)(lstm("x")(inner_input)), name="inner")
    inputs = layers.Input((None, 5))
    model = keras.Model(inputs, lstm("after")(inner(inputs)))
    assert edges(model, tmp_path)[0] == set()


def test_time_distributed_layers_stand_alone(tmp_path):
    model = keras.Sequential(
        [
            layers.Input((None, 4, 5)),
            layers.TimeDistributed(layers.LSTM(5, return_sequences=False), name="inside"),
            lstm("outside"),
        ]
    )
    assert edges(model, tmp_path)[0] == set()


# What does not fit


def chain(tmp_path, halves, **options):
    return write_h5(tmp_path / "chain.h5", halves, **options)


def test_other_units_are_named(tmp_path):
    source = chain(tmp_path, {"a": [make_half(3, 5, 1)], "b": [make_half(5, 7, 2)]})
    with pytest.raises(UnsupportedModelError, match=r"the units of a and b differ \(5, 7\).*stack=.partial"):
        lstmconv.convert(source, tmp_path / "m.pt", stack="all")
    assert not (tmp_path / "m.pt").exists()


def test_partial_joins_as_far_as_it_fits(tmp_path):
    halves = {
        "a": [make_half(3, 5, 1)],
        "b": [make_half(5, 5, 2)],
        "c": [make_half(5, 7, 3)],
        "d": [make_half(7, 7, 4)],
    }
    source = chain(tmp_path, halves)
    lstmconv.convert(source, tmp_path / "m.pt", stack="partial")
    names = set(torch.load(tmp_path / "m.pt", weights_only=True))
    assert {name.split(".")[0] for name in names} == {"a", "c"}
    assert {"a.weight_ih_l1", "c.weight_ih_l1"} <= names
    assert dict(lstmconv.load(tmp_path / "m.pt").joined) == {"a": ("a", "b"), "c": ("c", "d")}


@pytest.mark.parametrize("target", ["m.pt", "m.cudnn.safetensors"])
def test_a_merge_mode_other_than_concat_is_named(tmp_path, target):
    first = make_layer(*make_halves(3, 5, 1), name="a", merge_mode="sum")
    second = make_layer(*make_halves(5, 5, 2), name="b", merge_mode="sum")
    checkpoint = make_checkpoint(first, second, edges=(("a", "b"),), joined={"a": ("a", "b")})
    with pytest.raises(UnsupportedModelError, match="merge_mode is sum"):
        lstmconv.save(checkpoint, tmp_path / target)


def test_a_last_step_cannot_feed_a_layer():
    first = make_layer(make_half(3, 5), name="a", return_sequences=False)
    with pytest.raises(UnsupportedModelError, match="a feeds b but returns its last step only"):
        lstmconv.Stack("a", (first, make_layer(make_half(5, 5), name="b")))


def test_a_layer_of_the_wrong_size_cannot_follow():
    with pytest.raises(UnsupportedModelError, match="b takes 7 features, a returns 5"):
        lstmconv.Stack("a", (make_layer(make_half(3, 5), name="a"), make_layer(make_half(7, 5), name="b")))


def test_weights_alone_do_not_tell_what_feeds_what(tmp_path):
    model = sequential(lstm("a"), lstm("b"))
    model.save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(UnsupportedModelError, match="does not say which layer feeds which; pass config="):
        lstmconv.convert(tmp_path / "m.weights.h5", tmp_path / "m.pt", stack="all")


def test_what_a_format_cannot_hold_alone_is_said_without_advice_on_stacks(tmp_path):
    halves = {"a": [make_half(3, 5, 1)], "b": [make_half(5, 5, 2)]}
    source = chain(tmp_path, halves, recurrent_activation="hard_sigmoid")
    with pytest.raises(UnsupportedModelError, match=r"^a: cuDNN computes tanh and sigmoid only") as caught:
        lstmconv.convert(source, tmp_path / "m.cudnn.safetensors", stack="all")
    assert "stack=" not in str(caught.value)


# Names, and the way back


def test_a_stack_of_numbered_layers_has_their_common_name(tmp_path):
    source = chain(tmp_path, {"rnn_l0": [make_half(3, 5, 1)], "rnn_l1": [make_half(5, 5, 2)]})
    lstmconv.convert(source, tmp_path / "m.pt", stack="all")
    assert "rnn.weight_hh_l1" in torch.load(tmp_path / "m.pt", weights_only=True)


def test_a_stack_opens_into_layers(tmp_path):
    torch.save(torch.nn.LSTM(5, 7, num_layers=2).state_dict(), tmp_path / "m.pt")
    lstmconv.convert(tmp_path / "m.pt", tmp_path / "open.pt", stack="none")
    assert {name.split(".")[0] for name in torch.load(tmp_path / "open.pt", weights_only=True)} == {
        "lstm_l0",
        "lstm_l1",
    }
    lstmconv.convert(tmp_path / "open.pt", tmp_path / "again.pt", stack="all")
    again = torch.load(tmp_path / "again.pt", weights_only=True)
    for name, tensor in torch.load(tmp_path / "m.pt", weights_only=True).items():
        assert torch.equal(again[f"lstm.{name}"], tensor)


def test_a_stack_is_renamed_with_its_layers(tmp_path):
    torch.save(torch.nn.LSTM(5, 7, num_layers=2).state_dict(), tmp_path / "m.pt")
    lstmconv.convert(tmp_path / "m.pt", tmp_path / "n.pt", rename={"lstm": "memory"})
    checkpoint = lstmconv.load(tmp_path / "n.pt")
    assert dict(checkpoint.joined) == {"memory": ("memory_l0", "memory_l1")}


def test_one_layer_of_a_stack_can_be_picked(tmp_path):
    module = torch.nn.LSTM(5, 7, num_layers=2)
    torch.save(module.state_dict(), tmp_path / "m.pt")
    lstmconv.convert(tmp_path / "m.pt", tmp_path / "n.pt", layer=["lstm_l1"])
    found = torch.load(tmp_path / "n.pt", weights_only=True)
    assert set(found) == {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"}
    assert torch.equal(found["weight_ih_l0"], module.weight_ih_l1)


def test_a_picked_stack_is_written_without_a_prefix(tmp_path):
    module = torch.nn.LSTM(5, 7, num_layers=2, bidirectional=True)
    torch.save(module.state_dict(), tmp_path / "m.pt")
    lstmconv.convert(tmp_path / "m.pt", tmp_path / "n.pt", layer=["lstm"])
    found = torch.load(tmp_path / "n.pt", weights_only=True)
    assert list(found) == list(module.state_dict())


def test_a_failed_stack_names_the_layer_that_differs(tmp_path):
    """The proof of a joined file looks into each of its layers."""
    source = chain(tmp_path, {"a": [make_half(3, 5, 1)], "b": [make_half(5, 5, 2)]})
    lstmconv.convert(source, tmp_path / "m.safetensors", stack="all")
    content = bytearray((tmp_path / "m.safetensors").read_bytes())
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].decode()
    start, _ = json.loads(header)["a.weight_hh_l1"]["data_offsets"]
    content[8 + size + start + 3] ^= 1  # The sign and exponent byte of the first number.
    (tmp_path / "m.safetensors").write_bytes(content)
    report = lstmconv.verify(source, tmp_path / "m.safetensors")
    details = [check.detail for check in report.failures if check.level == "weights"]
    assert len(details) == 1
    assert details[0].startswith("the recurrent matrix of b differs in 1 of 100 numbers")
