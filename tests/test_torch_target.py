"""The PyTorch targets: state dicts as .pt and .safetensors, lstmconv.torch.LSTM, and to_torch."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import lstmconv
from lstmconv.activations import ACTIVATIONS, HARD_SIGMOID_KERAS_2, HARD_SIGMOID_KERAS_3, LINEAR, Activation
from lstmconv.errors import LstmconvError, UnsupportedModelError, UsageError
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.torch.tensors_by_name import read_tensors
from lstmconv.torch import LSTM, KerasLSTM, activations
from tests.contract.building import (
    FLOAT32_NOISE,
    FLOAT64_NOISE,
    RELU,
    bits,
    expected,
    make_checkpoint,
    make_half,
    make_halves,
    make_inputs,
    make_layer,
    torch_arrays,
)

SUFFIXES = [".pt", ".safetensors"]
SIZES = [(3, 5), (7, 2), (5, 5), (3, 1), (1, 1)]


def load_state(path):
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, weights_only=True)


def save_layers(folder, *layers, suffix=".pt", **options):
    path = folder / f"model{suffix}"
    lstmconv.save(make_checkpoint(*layers), path, force=True, **options)
    return path


def run_torch(module, x, states=None, wide=torch.float64):
    """Run an nn.LSTM-like module, batch first, in float64; return y, h, c."""
    module = module.to(wide)
    hx = None
    if states is not None:
        hx = tuple(torch.from_numpy(np.stack(states[k::2])).to(wide) for k in (0, 1))
    with torch.no_grad():
        y, (h, c) = module(torch.from_numpy(x).to(wide), hx)
    return y.numpy(), h.numpy(), c.numpy()


def numbers(tensor):
    """Return a tensor as an array of the same bits."""
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


# The files


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("features", "hidden"), SIZES)
def test_a_state_dict_holds_the_transposed_arrays_and_zeros_for_the_second_bias(tmp_path, features, hidden, suffix):
    half = make_half(features, hidden)
    state = load_state(save_layers(tmp_path, make_layer(half, name="enc"), suffix=suffix))
    arrays = torch_arrays(half)
    assert sorted(state) == sorted(f"enc.{name}_l0" for name in arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(state[f"enc.{name}_l0"].numpy(), array)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_trap_29_the_backward_half_has_the_suffix_reverse_of_the_same_layer(tmp_path, suffix):
    halves = make_halves(3, 5)
    state = load_state(save_layers(tmp_path, make_layer(*halves), suffix=suffix))
    assert len(state) == 8
    for half, end in zip(halves, ("_l0", "_l0_reverse"), strict=True):
        for name, array in torch_arrays(half).items():
            np.testing.assert_array_equal(state[f"lstm.{name}{end}"].numpy(), array)


def test_names_in_a_pt_come_in_the_order_of_nn_lstms_parameters(tmp_path):
    halves = make_halves(3, 5)
    state = load_state(save_layers(tmp_path, make_layer(*halves), prefix=False))
    assert list(state) == [name for name, _ in nn.LSTM(3, 5, bidirectional=True).named_parameters()]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_slash_in_a_layer_name_becomes_a_dot(tmp_path, suffix):
    state = load_state(save_layers(tmp_path, make_layer(make_half(), name="sub/enc"), suffix=suffix))
    assert "sub.enc.weight_ih_l0" in state


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_two_layers_whose_names_fall_together_are_refused(tmp_path, suffix):
    layers = [make_layer(make_half(), name="a/b"), make_layer(make_half(), name="a.b")]
    with pytest.raises(UsageError, match=r"a\.b\.\w+.*rename"):
        save_layers(tmp_path, *layers, suffix=suffix)
    assert list(tmp_path.iterdir()) == []


def test_without_a_prefix_only_one_layer_fits(tmp_path):
    layers = [make_layer(make_half(), name=name) for name in "ab"]
    with pytest.raises(UsageError, match="only one module"):
        save_layers(tmp_path, *layers, prefix=False)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_dtype_keeps_its_bits(tmp_path, dtype, suffix):
    half = make_half(3, 5, dtype=ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    state = load_state(save_layers(tmp_path, make_layer(half), suffix=suffix))
    for name, array in torch_arrays(half).items():
        tensor = state[f"lstm.{name}_l0"]
        assert tensor.dtype == getattr(torch, dtype)
        np.testing.assert_array_equal(bits(numbers(tensor)), bits(array))


@pytest.mark.parametrize(
    ("mode", "parts"), [("input", (1, 0)), ("recurrent", (0, 1)), ("both-halves", (0.5, 0.5)), ("double", (1, 0))]
)
def test_trap_9_bias_modes_never_double_the_bias(tmp_path, mode, parts):
    half = make_half()
    state = load_state(save_layers(tmp_path, make_layer(half), bias_mode=mode, prefix=False))
    for name, part in zip(("bias_ih_l0", "bias_hh_l0"), parts, strict=True):
        np.testing.assert_array_equal(state[name].numpy(), np.float32(part) * half.bias)


def test_trap_10_two_biases_are_kept_apart(tmp_path):
    half = make_half()
    other = make_half(seed=9)
    layer = make_layer(half)
    both = lstmconv.LSTMDirection(
        layer.forward.weight_ih, layer.forward.weight_hh, layer.forward.bias_ih, other.direction().bias_ih
    )
    state = load_state(save_layers(tmp_path, lstmconv.LSTMLayer("lstm", both), prefix=False))
    np.testing.assert_array_equal(state["bias_ih_l0"].numpy(), half.bias)
    np.testing.assert_array_equal(state["bias_hh_l0"].numpy(), other.bias)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_trained_nn_lstm_is_read_with_both_of_its_biases(tmp_path, bidirectional, suffix):
    module = nn.LSTM(3, 5, bidirectional=bidirectional, batch_first=True)
    state = module.state_dict()
    path = tmp_path / f"m.{suffix}"
    (torch.save if suffix == "pt" else save_file)(state, path)
    (layer,) = lstmconv.load(path).layers
    halves = {"": layer.forward, **({"_reverse": layer.backward} if bidirectional else {})}
    for ending, half in halves.items():
        for name in ("bias_ih", "bias_hh"):
            gates = getattr(half, name)
            found = np.concatenate([getattr(gates, gate) for gate in "ifgo"])
            np.testing.assert_array_equal(found, state[f"{name}_l0{ending}"].numpy())


@pytest.mark.parametrize("mode", ["single-input", "single-recurrent"])
def test_a_bias_mode_of_cudnn_is_refused(tmp_path, mode):
    with pytest.raises(UsageError, match="cuDNN's"):
        save_layers(tmp_path, make_layer(make_half()), bias_mode=mode)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_unequal_halves_are_refused_with_the_way_out(tmp_path, suffix):
    layer = make_layer(make_half(3, 5), make_half(3, 2, go_backwards=True))
    with pytest.raises(UnsupportedModelError, match=r"lstm: .*5 and 2 units.*to_torch"):
        save_layers(tmp_path, layer, suffix=suffix)


def test_trap_29_a_pt_loads_by_memory_map_from_aligned_records(tmp_path):
    """PyTorch maps records at their offset; unaligned ones it would have to copy, or refuse."""
    layers = [make_layer(*make_halves(3, 5), name="a/b"), make_layer(make_half(5, 2), name="ünïcode")]
    path = save_layers(tmp_path, *layers)
    mapped = torch.load(path, weights_only=True, mmap=True)
    for name, tensor in torch.load(path, weights_only=True).items():
        assert torch.equal(mapped[name], tensor), name
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        assert archive.testzip() is None
        for entry in archive.infolist():
            file.seek(entry.header_offset + 26)
            lengths = np.frombuffer(file.read(4), "<u2")
            assert (entry.header_offset + 30 + int(lengths.sum())) % 64 == 0, entry.filename
            assert entry.compress_type == zipfile.ZIP_STORED
        assert archive.namelist()[0].endswith("/data.pkl")


def test_a_safetensors_header_is_what_its_specification_asks(tmp_path):
    layer = make_layer(make_half(recurrent_activation=HARD_SIGMOID_KERAS_2))
    path = save_layers(tmp_path, layer, suffix=".safetensors")
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    assert content[8:9] == b"{"
    assert load_file(path)["lstm._extra_state"].dtype == torch.uint8


# nn.LSTM


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("features", "hidden"), [(3, 5), (5, 5), (2, 1)])
def test_nn_lstm_loads_the_file_strictly_and_computes_what_keras_does(
    tmp_path, features, hidden, bidirectional, bias, suffix
):
    halves = (make_halves if bidirectional else lambda *a, **k: [make_half(*a, **k)])(features, hidden, bias=bias)
    path = save_layers(tmp_path, make_layer(*halves), suffix=suffix, prefix=False)
    module = nn.LSTM(features, hidden, bias=bias, batch_first=True, bidirectional=bidirectional)
    module.load_state_dict(load_state(path), strict=True)
    x, states = make_inputs(features, sizes=[hidden] * len(halves))
    outputs, finals = expected(halves, x, states)
    y, h, c = run_torch(module, x, states)
    np.testing.assert_allclose(y, outputs[0], rtol=0, atol=FLOAT64_NOISE)
    np.testing.assert_allclose(h, np.stack(finals[0::2]), rtol=0, atol=FLOAT64_NOISE)
    np.testing.assert_allclose(c, np.stack(finals[1::2]), rtol=0, atol=FLOAT64_NOISE)


def test_trap_31_h_n_is_indexed_by_direction_and_not_by_batch(tmp_path):
    halves = make_halves(3, 5)
    path = save_layers(tmp_path, make_layer(*halves), prefix=False)
    module = nn.LSTM(3, 5, batch_first=True, bidirectional=True)
    module.load_state_dict(load_state(path))
    x, states = make_inputs(3, 4, 7, (5, 5))
    _, finals = expected(halves, x, states)
    y, h, _ = run_torch(module, x, states)
    assert h.shape == (2, 4, 5)
    np.testing.assert_allclose(h[0], finals[0], rtol=0, atol=FLOAT64_NOISE)
    np.testing.assert_allclose(h[1], finals[2], rtol=0, atol=FLOAT64_NOISE)
    np.testing.assert_array_equal(h[1], y[:, 0, 5:])


@pytest.mark.parametrize("biased", [0, 1])
def test_a_half_without_bias_beside_one_that_has_it_gets_zeros(tmp_path, biased):
    halves = [make_half(3, 5, k, bias=k == biased, go_backwards=k == 1) for k in range(2)]
    path = save_layers(tmp_path, make_layer(*halves), prefix=False)
    module = nn.LSTM(3, 5, batch_first=True, bidirectional=True)
    module.load_state_dict(load_state(path), strict=True)
    x, states = make_inputs(3, sizes=(5, 5))
    np.testing.assert_allclose(
        run_torch(module, x, states)[0], expected(halves, x, states)[0][0], rtol=0, atol=FLOAT64_NOISE
    )


PECULIAR = {
    "hard_sigmoid_keras2": ([make_half(recurrent_activation=HARD_SIGMOID_KERAS_2)], {}),
    "hard_sigmoid_keras3": ([make_half(recurrent_activation=HARD_SIGMOID_KERAS_3)], {}),
    "relu": ([make_half(activation=RELU, scale=0.3)], {}),
    "linear": ([make_half(activation=LINEAR, scale=0.3)], {}),
    "go_backwards": ([make_half(go_backwards=True)], {}),
    "sum": (make_halves(), {"merge_mode": "sum"}),
    "mul": (make_halves(), {"merge_mode": "mul"}),
    "ave": (make_halves(), {"merge_mode": "ave"}),
    "one half only": (
        [make_half(3, 5, 1), make_half(3, 5, 2, go_backwards=True, recurrent_activation=HARD_SIGMOID_KERAS_2)],
        {},
    ),
    "swapped halves": ([make_half(3, 5, 1, go_backwards=True), make_half(3, 5, 2)], {}),
    "swapped halves, sum": ([make_half(3, 5, 1, go_backwards=True), make_half(3, 5, 2)], {"merge_mode": "sum"}),
}


class Model(nn.Module):
    def __init__(self, lstm):
        super().__init__()
        self.lstm = lstm
        self.head = nn.Linear(2, 2)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", PECULIAR)
def test_nn_lstm_refuses_what_it_cannot_compute_and_lstmconv_torch_computes_it(tmp_path, kind, suffix):
    halves, options = PECULIAR[kind]
    path = save_layers(tmp_path, make_layer(*halves, **options), suffix=suffix, prefix=False)
    state = load_state(path)
    sizes = {"batch_first": True, "bidirectional": len(halves) == 2}
    with pytest.raises(RuntimeError, match="_extra_state"):
        nn.LSTM(3, 5, **sizes).load_state_dict(state, strict=True)
    module = LSTM(3, 5, **sizes)
    module.load_state_dict(state, strict=True)
    x, states = make_inputs(3, sizes=[5] * len(halves))
    outputs, finals = expected(halves, x, states, merge=options.get("merge_mode", "concat"))
    y, h, c = run_torch(module, x, states)
    np.testing.assert_allclose(y, outputs[0], rtol=0, atol=FLOAT64_NOISE)
    np.testing.assert_allclose(h, np.stack(finals[0::2]), rtol=0, atol=FLOAT64_NOISE)
    np.testing.assert_allclose(c, np.stack(finals[1::2]), rtol=0, atol=FLOAT64_NOISE)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nn_lstm_refuses_it_inside_a_bigger_model_too(tmp_path, suffix):
    half = make_half(recurrent_activation=HARD_SIGMOID_KERAS_2)
    state = load_state(save_layers(tmp_path, make_layer(half), suffix=suffix))
    plain = Model(nn.LSTM(3, 5, batch_first=True))
    whole = {**plain.state_dict(), **state}
    with pytest.raises(RuntimeError, match=r"lstm\._extra_state"):
        plain.load_state_dict(whole, strict=True)
    own = Model(LSTM(3, 5, batch_first=True))
    own.load_state_dict(whole, strict=True)
    x, _ = make_inputs()
    np.testing.assert_allclose(run_torch(own.lstm, x)[0], expected([half], x)[0][0], rtol=0, atol=FLOAT64_NOISE)


def test_a_plain_layer_writes_no_extra_state_also_with_merge_mode_none(tmp_path):
    state = load_state(save_layers(tmp_path, make_layer(*make_halves(), merge_mode="none")))
    assert not [name for name in state if "extra" in name]


# lstmconv.torch.LSTM


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_first": True},
        {"num_layers": 2, "bidirectional": True},
        {"num_layers": 3, "bias": False, "batch_first": True},
    ],
    ids=str,
)
def test_lstm_with_standard_activations_is_nn_lstm(options):
    torch.manual_seed(0)
    plain, own = nn.LSTM(3, 5, **options), LSTM(3, 5, **options)
    own.load_state_dict(plain.state_dict(), strict=True)
    assert list(own.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(own.state_dict(), strict=True)
    x = torch.randn(4, 7, 3)
    for found, wanted in zip(_flat(own(x)), _flat(plain(x)), strict=True):
        assert torch.equal(found, wanted)


def _flat(result):
    y, (h, c) = result
    return y, h, c


@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"bias": False}, {"bidirectional": True}], ids=str)
@pytest.mark.parametrize("layers", [1, 2])
def test_the_step_loop_stacks_and_orders_as_nn_lstms_kernels_do(monkeypatch, layers, options):
    """Where the loop's one foreign function is given sigmoid's values, nothing may differ."""
    torch.manual_seed(0)
    plain = nn.LSTM(3, 5, layers, **options).double()
    own = LSTM(3, 5, layers, recurrent_activation="sparse_sigmoid", **options).double()
    own.load_state_dict({**plain.state_dict(), "_extra_state": own.get_extra_state()})
    assert not own.computes_as_torch
    monkeypatch.setitem(activations._FUNCTIONS, "sparse_sigmoid", torch.sigmoid)
    x = torch.randn(4, 7, 3, dtype=torch.float64)
    rows, batch = layers * (1 + plain.bidirectional), 4 if plain.batch_first else 7
    states = tuple(torch.randn(rows, batch, 5, dtype=torch.float64) for _ in "hc")
    for value, wanted in zip(_flat(own(x, states)), _flat(plain(x, states)), strict=True):
        torch.testing.assert_close(value, wanted, rtol=0, atol=FLOAT64_NOISE)


def test_two_layers_of_go_backwards_turn_round_twice():
    """As two Keras layers with go_backwards and return_sequences, one after the other."""
    halves = [make_half(3, 5, 1, go_backwards=True), make_half(5, 5, 2, go_backwards=True)]
    module = LSTM(3, 5, 2, batch_first=True, go_backwards=True)
    with torch.no_grad():
        for k, half in enumerate(halves):
            for name, array in torch_arrays(half).items():
                getattr(module, f"{name}_l{k}").copy_(torch.from_numpy(np.ascontiguousarray(array)))
    x, _ = make_inputs()
    middle = expected(halves[:1], x)[0][0]
    np.testing.assert_allclose(run_torch(module, x)[0], expected(halves[1:], middle)[0][0], rtol=0, atol=FLOAT64_NOISE)


def test_an_extra_state_survives_the_round_trip_and_nothing_stays_of_the_old_one():
    made = LSTM(
        3, 5, bidirectional=True, activation="relu", recurrent_activation="hard_sigmoid_keras2", merge_mode="mul"
    )
    state = made.state_dict()
    assert state["_extra_state"].dtype == torch.uint8
    loaded = LSTM(3, 5, bidirectional=True)
    loaded.load_state_dict(state)
    assert loaded.activation == made.activation == (RELU, RELU)
    assert loaded.recurrent_activation == (HARD_SIGMOID_KERAS_2, HARD_SIGMOID_KERAS_2)
    assert (loaded.merge_mode, loaded.go_backwards) == ("mul", False)
    loaded.load_state_dict(nn.LSTM(3, 5, bidirectional=True).state_dict())
    assert loaded.computes_as_torch
    assert "_extra_state" not in loaded.state_dict()


@pytest.mark.parametrize("copying", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copied_or_pickled_lstm_computes_the_same(copying):
    torch.manual_seed(0)
    made = LSTM(3, 5, recurrent_activation="hard_sigmoid_keras3", go_backwards=True)
    x = torch.randn(4, 7, 3)
    assert torch.equal(copying(made)(x)[0], made(x)[0])


@pytest.mark.parametrize(("dtype", "noise"), [(torch.float64, 1e-6), (torch.float16, 2e-2), (torch.bfloat16, 1e-1)])
def test_an_lstm_moved_to_another_dtype_computes_in_it(dtype, noise):
    torch.manual_seed(0)
    made = LSTM(3, 5, recurrent_activation="hard_sigmoid_keras3")
    x = torch.randn(4, 7, 3)
    wanted = made(x)[0]
    found = made.to(dtype)(x.to(dtype))[0]
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), wanted, rtol=0, atol=noise)


def test_an_lstm_of_any_activation_is_trained_by_gradients():
    torch.manual_seed(0)
    made = LSTM(3, 5, recurrent_activation="hard_sigmoid_keras2", bidirectional=True, merge_mode="ave")
    made(torch.randn(4, 7, 3))[0].sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in made.parameters())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"merge_mode": "max"}, "merge_mode"),
        ({"activation": "foo"}, "foo"),
        ({"recurrent_activation": "hard_sigmoid"}, "hard_sigmoid_keras2"),
        ({"activation": ["tanh", "relu"]}, "2 activations for 1 directions"),
    ],
    ids=str,
)
def test_wrong_arguments_are_named(options, words):
    with pytest.raises(LstmconvError, match=words):
        LSTM(3, 5, **options)


def test_trap_30_a_projection_is_refused_when_made_and_when_loaded():
    with pytest.raises(UsageError, match=r"proj_size.*torch\.nn\.LSTM"):
        LSTM(3, 5, proj_size=2)
    with pytest.raises(RuntimeError, match="weight_hr_l0"):
        LSTM(3, 5).load_state_dict(nn.LSTM(3, 5, proj_size=2).state_dict())


def test_a_packed_sequence_is_refused_where_the_loop_cannot_run_it():
    packed = nn.utils.rnn.pack_sequence([torch.zeros(3, 3), torch.zeros(2, 3)])
    with pytest.raises(UsageError, match="packed"):
        LSTM(3, 5, activation="relu")(packed)
    LSTM(3, 5)(packed)


ALL = [
    *(Activation(name, tuple(row.defaults.items())) for name, row in ACTIVATIONS.items()),
    HARD_SIGMOID_KERAS_2,
    Activation("gelu", (("approximate", 1.0),)),
    Activation("relu", (("negative_slope", 0.2), ("max_value", 6.0), ("threshold", 0.5))),
    Activation("relu", (("negative_slope", 0.0), ("max_value", 6.0), ("threshold", -0.5))),
    Activation("elu", (("alpha", 0.3),)),
    Activation("celu", (("alpha", 0.3),)),
    Activation("soft_shrink", (("threshold", 0.2),)),
    Activation("hard_shrink", (("threshold", 0.2),)),
    Activation("squareplus", (("b", 1.0),)),
]


@pytest.mark.parametrize("activation", ALL, ids=str)
def test_every_activation_is_the_same_function_in_torch_and_in_numpy(activation):
    edges = [-1.0, -0.5, -0.2, 0.0, 0.2, 0.25, 0.5, 1.0, 3.0, -3.0, 6.0, 2.5, -2.5, 30.0, -30.0]
    x = np.concatenate([np.random.default_rng(0).normal(size=49) * 3, edges]).reshape(16, 4)
    found = activations.activate(activation, torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, activation(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", ALL, ids=str)
def test_every_activation_travels_in_the_extra_state(activation):
    made = LSTM(3, 5, activation=activation)
    loaded = LSTM(3, 5)
    loaded.load_state_dict(made.state_dict())
    assert loaded.activation == (activation,)


# to_torch, against live Keras 3


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras")


def keras_lstm(keras, half, **options):
    names = {HARD_SIGMOID_KERAS_3: "hard_sigmoid", RELU: "relu", LINEAR: "linear"}
    return keras.layers.LSTM(
        half.hidden,
        activation=names.get(half.activation, "tanh"),
        recurrent_activation=names.get(half.recurrent_activation, "sigmoid"),
        use_bias=half.bias is not None,
        go_backwards=half.go_backwards,
        **options,
    )


def keras_weights(*halves):
    return [array for half in halves for array in (half.kernel, half.recurrent, half.bias) if array is not None]


def compare_with_keras(model, layer, x, mask=None, states=None):
    """Call the Keras layer and to_torch's module with the same tensors."""
    tensors = [torch.from_numpy(state).float() for state in states] if states is not None else None
    valid = None if mask is None else torch.from_numpy(mask)
    with torch.no_grad():
        wanted = model(torch.from_numpy(x).float(), mask=valid, initial_state=tensors)
        found = lstmconv.to_torch(layer)(torch.from_numpy(x).float(), mask=valid, initial_state=tensors)
    if not isinstance(wanted, (list, tuple)):
        assert isinstance(found, torch.Tensor)
        wanted, found = [wanted], [found]
    assert len(found) == len(wanted)
    for value, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(value.numpy(), other.numpy(), rtol=0, atol=FLOAT32_NOISE)


MASK = np.array(
    [[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 1, 0], [1, 0, 0, 0, 0, 0, 0]], dtype=bool
)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("recurrent", [None, HARD_SIGMOID_KERAS_3])
def test_to_torch_is_the_live_keras_lstm(keras, recurrent, backwards, sequences, state, masked):
    half = make_half(go_backwards=backwards, **({"recurrent_activation": recurrent} if recurrent else {}))
    options = {"return_sequences": sequences, "return_state": state}
    model = keras_lstm(keras, half, **options)
    model.build((None, None, 3))
    model.set_weights(keras_weights(half))
    x, states = make_inputs()
    layer = make_layer(half, **options)
    mask = MASK if masked else None
    compare_with_keras(model, layer, x, mask)
    compare_with_keras(model, layer, x, mask, states)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("merge", ["concat", "sum", "mul", "ave", None])
@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
def test_to_torch_is_the_live_keras_bidirectional(keras, sequences, state, merge, masked):
    """Traps 23, 24, 27, 28: merge modes, last outputs and masks of a Bidirectional layer."""
    halves = make_halves()
    options = {"return_sequences": sequences, "return_state": state}
    model = keras.layers.Bidirectional(keras_lstm(keras, halves[0], **options), merge_mode=merge)
    model.build((None, None, 3))
    model.set_weights(keras_weights(*halves))
    layer = make_layer(*halves, merge_mode=merge or "none", zero_output_for_mask=sequences, **options)
    x, states = make_inputs(sizes=(5, 5))
    mask = MASK if masked else None
    compare_with_keras(model, layer, x, mask)
    if not (merge is None and state and masked):
        compare_with_keras(model, layer, x, mask, states)


@pytest.mark.parametrize("sequences", [False, True])
def test_trap_26_to_torch_holds_a_backward_layer_of_other_units(keras, sequences):
    halves = [make_half(3, 5, 1), make_half(3, 2, 2, bias=False, activation=RELU, scale=0.3, go_backwards=True)]
    options = {"return_sequences": sequences, "return_state": True}
    model = keras.layers.Bidirectional(
        keras_lstm(keras, halves[0], **options), backward_layer=keras_lstm(keras, halves[1], **options)
    )
    model.build((None, None, 3))
    model.set_weights(keras_weights(*halves))
    layer = make_layer(*halves, zero_output_for_mask=sequences, **options)
    x, states = make_inputs(sizes=(5, 2))
    compare_with_keras(model, layer, x, None, states)
    compare_with_keras(model, layer, x, MASK, states)


def test_trap_25_to_torch_turns_a_go_backwards_bidirectional_as_keras_2_does():
    halves = [make_half(3, 5, 1, go_backwards=True), make_half(3, 5, 2)]
    x, states = make_inputs(sizes=(5, 5))
    module = lstmconv.to_torch(make_layer(*halves)).double()
    with torch.no_grad():
        found = module(torch.from_numpy(x), initial_state=[torch.from_numpy(state) for state in states]).numpy()
    np.testing.assert_allclose(found, expected(halves, x, states)[0][0], rtol=0, atol=FLOAT64_NOISE)


def test_to_torch_takes_time_first_for_a_time_major_layer():
    halves = make_halves()
    x, _ = make_inputs()
    module = lstmconv.to_torch(make_layer(*halves, time_major=True)).double()
    mask = torch.from_numpy(MASK)
    with torch.no_grad():
        found = module(torch.from_numpy(x).transpose(0, 1), mask.transpose(0, 1)).numpy()
    wanted = expected(halves, x, None, MASK)[0][0]
    np.testing.assert_allclose(found, wanted.swapaxes(0, 1), rtol=0, atol=FLOAT64_NOISE)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_to_torch_keeps_dtype_and_bits(dtype):
    half = make_half(dtype=ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    module = lstmconv.to_torch(make_layer(half))
    for name, array in torch_arrays(half).items():
        tensor = getattr(module.forward_layer, f"{name}_l0").detach()
        assert tensor.dtype == getattr(torch, dtype)
        np.testing.assert_array_equal(bits(numbers(tensor)), bits(array))


def test_to_torch_copies_weights_so_that_training_leaves_the_checkpoint_alone():
    half = make_half()
    layer = make_layer(half)
    before = half.bias.copy()
    module = lstmconv.to_torch(layer)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(half.bias, before)


def test_to_torch_saves_and_loads_its_own_state_dict():
    halves = make_halves(recurrent_activation=HARD_SIGMOID_KERAS_3)
    made, other = (lstmconv.to_torch(make_layer(*h)) for h in (halves, make_halves(seed=5)))
    assert isinstance(made, KerasLSTM)
    other.load_state_dict(made.state_dict(), strict=True)
    x = torch.randn(4, 7, 3)
    assert torch.equal(other(x), made(x))


def test_to_torch_refuses_unknown_activations():
    with pytest.raises(UnsupportedModelError, match="unknown"):
        lstmconv.to_torch(make_layer(make_half(recurrent_activation=None)))


def test_without_torch_the_pip_line_is_given_and_nothing_else():
    script = (
        "import sys\n"
        "class Without:\n    def find_spec(self, name, *_):\n"
        "        if name.split('.')[0] == 'torch': raise ImportError(name)\n"
        "sys.meta_path.insert(0, Without())\n"
        "import lstmconv, lstmconv.errors\n"
        "checkpoint = lstmconv.load('sample_weights/airline_passengers.h5')\n"
        "try:\n    lstmconv.to_torch(checkpoint)\n"
        "except lstmconv.errors.MissingDependencyError as error:\n    print(error)"
    )
    root = Path(__file__).parent.parent
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root)
    assert result.stdout.strip().endswith("pip install torch")


# Reading without torch


def test_the_restricted_reader_returns_what_torch_load_does(tmp_path):
    path = save_layers(tmp_path, make_layer(*make_halves(recurrent_activation=HARD_SIGMOID_KERAS_2)))
    found, wanted = read_tensors(MappedFile(path)).tensors, torch.load(path, weights_only=True)
    assert list(found) == list(wanted)
    for name, tensor in wanted.items():
        np.testing.assert_array_equal(bits(found[name]), bits(numbers(tensor)))


_WITHOUT_TORCH = """
import json, sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoTorch())
import lstmconv
print(json.dumps(lstmconv.verify(sys.argv[1], sys.argv[2]).to_json()))
"""


def test_verification_without_torch_is_not_run_and_says_what_to_install(tmp_path):
    """In a process of its own: this one has torch, and einops asks for it where it is loaded."""
    lstmconv.save(make_checkpoint(make_layer(make_half())), tmp_path / "m.pt")
    lstmconv.convert(tmp_path / "m.pt", tmp_path / "m.onnx", verify=False)
    command = [sys.executable, "-c", _WITHOUT_TORCH, str(tmp_path / "m.onnx"), str(tmp_path / "m.pt")]
    report = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    by_level = {check["level"]: check for check in report["checks"]}
    assert by_level["weights"]["status"] == "passed"
    assert by_level["outputs"]["status"] == "not run"
    assert "pip install" in by_level["outputs"]["detail"]
    assert not report["complete"]


def test_a_foreign_state_dict_is_compared_by_the_sum_of_its_biases(tmp_path):
    half = make_half()
    arrays = {name: np.ascontiguousarray(array) for name, array in torch_arrays(half).items()}
    state = {f"lstm.{name}_l0": torch.from_numpy(array) for name, array in arrays.items()}
    state["lstm.bias_ih_l0"], state["lstm.bias_hh_l0"] = state["lstm.bias_hh_l0"], state["lstm.bias_ih_l0"]
    checkpoint = make_checkpoint(make_layer(half))
    torch.save(state, tmp_path / "m.pt")
    assert lstmconv.verify(checkpoint, tmp_path / "m.pt").passed
    save_file(state, tmp_path / "m.safetensors")
    assert lstmconv.verify(checkpoint, tmp_path / "m.safetensors").passed
    state["lstm.bias_ih_l0"] = state["lstm.bias_hh_l0"].clone()
    torch.save(state, tmp_path / "m.pt")
    report = lstmconv.verify(checkpoint, tmp_path / "m.pt")
    assert "bias" in report.failures[0].detail
