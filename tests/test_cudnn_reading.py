"""Weight spaces of several layers, read and written, judged by JAX' own unpacking of cuDNN's buffer."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.experimental import rnn
from torch import nn

import lstmconv
from lstmconv.errors import LstmconvError, UnreadableFileError, UsageError

SHAPES = [(layers, both) for layers in (1, 2, 3) for both in (False, True)]


def make_stack(layers=1, both=False, features=5, hidden=7, seed=0):
    torch.manual_seed(seed)
    module = nn.LSTM(features, hidden, num_layers=layers, bidirectional=both)
    return module, lstmconv.from_torch(module, name="rnn").stacks[0]


@pytest.mark.parametrize(("layers", "both"), SHAPES)
@pytest.mark.parametrize(("features", "hidden"), [(5, 7), (7, 7), (3, 1)])
def test_jax_unpacks_from_our_buffer_what_torch_holds(layers, both, features, hidden):
    """jax.experimental.rnn.unpack_lstm_weights splits the buffer that JAX hands to cuDNN."""
    module, stack = make_stack(layers, both, features, hidden)
    space = lstmconv.to_cudnn(stack)
    assert space.size == rnn.get_num_params_in_lstm(features, hidden, layers, both)
    unpacked = rnn.unpack_lstm_weights(jnp.asarray(space), features, hidden, layers, both)
    state = module.state_dict()
    endings = [f"_l{k}{way}" for k in range(layers) for way in (("", "_reverse") if both else ("",))]
    for kind, arrays in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), unpacked, strict=True):
        for pseudo_layer, ending in enumerate(endings):
            np.testing.assert_array_equal(np.asarray(arrays[pseudo_layer]), state[kind + ending].numpy())


@pytest.mark.parametrize(("layers", "both"), SHAPES)
def test_a_bare_buffer_is_read_by_its_sizes(tmp_path, layers, both):
    """The buffer is put together here, from torch's parameters: all matrices, then all biases."""
    module, _ = make_stack(layers, both)
    state = module.state_dict()
    endings = [f"_l{k}{way}" for k in range(layers) for way in (("", "_reverse") if both else ("",))]
    matrices = [state[f"weight_{kind}{ending}"].numpy().ravel() for ending in endings for kind in ("ih", "hh")]
    biases = [state[f"bias_{kind}{ending}"].numpy() for ending in endings for kind in ("ih", "hh")]
    np.concatenate([*matrices, *biases]).tofile(tmp_path / "weights.bin")
    sizes = lstmconv.BufferSizes(5, 7, num_layers=layers, bidirectional=both)
    lstmconv.convert(tmp_path / "weights.bin", tmp_path / "m.pt", buffer=sizes, layer=["weights"])
    found = torch.load(tmp_path / "m.pt", weights_only=True)
    assert list(found) == list(state)
    assert all(torch.equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("mode", "kinds"),
    [("double", ("ih", "hh")), ("single-input", ("ih",)), ("single-recurrent", ("hh",)), ("none", ())],
)
def test_each_bias_mode_of_a_bare_buffer_is_read(tmp_path, mode, kinds):
    module, _ = make_stack()
    state = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    parts = [
        state["weight_ih_l0"].ravel(),
        state["weight_hh_l0"].ravel(),
        *(state[f"bias_{kind}_l0"] for kind in kinds),
    ]
    np.concatenate(parts).tofile(tmp_path / "w.bin")
    (layer,) = lstmconv.load(tmp_path / "w.bin", buffer=lstmconv.BufferSizes(5, 7, bias_mode=mode)).layers
    for kind in ("ih", "hh"):
        gates = getattr(layer.forward, f"bias_{kind}")
        assert (gates is not None) == (kind in kinds)
        if gates is not None:
            np.testing.assert_array_equal(np.asarray(gates).ravel(), state[f"bias_{kind}_l0"])


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_a_bare_buffer_of_another_dtype_is_read(tmp_path, dtype):
    _, stack = make_stack()
    space = lstmconv.to_cudnn(stack, dtype=dtype)
    space.tofile(tmp_path / "w.bin")
    (layer,) = lstmconv.load(tmp_path / "w.bin", buffer=lstmconv.BufferSizes(5, 7, dtype=dtype)).layers
    assert layer.dtype == dtype
    np.testing.assert_array_equal(np.asarray(layer.forward.weight_ih).ravel(), space[: 4 * 7 * 5])


def test_what_lies_behind_the_sum_is_a_note(tmp_path):
    """The library may ask for more room than the weights take."""
    _, stack = make_stack()
    np.concatenate([lstmconv.to_cudnn(stack), np.zeros(3, np.float32)]).tofile(tmp_path / "w.bin")
    checkpoint = lstmconv.load(tmp_path / "w.bin", buffer=lstmconv.BufferSizes(5, 7))
    assert checkpoint.notes == ("w.bin: 3 elements follow the 392 that the sizes require; they are ignored",)


def test_a_short_buffer_is_refused_with_what_was_expected(tmp_path):
    np.zeros(391, np.float32).tofile(tmp_path / "w.bin")
    with pytest.raises(UnreadableFileError, match=r"has 391 elements of float32, expected 392 for 1 x 1 pseudo-layers"):
        lstmconv.load(tmp_path / "w.bin", buffer=lstmconv.BufferSizes(5, 7))


@pytest.mark.parametrize(
    "sizes", [(0, 7), (5, -1), (5, 7, 0), (5, 7, 1, False, "recurrent"), (5, 7, 1, False, "both-halves")]
)
def test_sizes_that_no_buffer_has_are_refused(sizes):
    with pytest.raises(UsageError):
        lstmconv.BufferSizes(*sizes)


@pytest.mark.parametrize(("layers", "both"), SHAPES)
@pytest.mark.parametrize("name", ["m.cudnn.safetensors", "m.cudnn.bin"])
def test_a_written_weight_space_opens_into_the_same_parameters(tmp_path, layers, both, name):
    module, _ = make_stack(layers, both)
    lstmconv.save(lstmconv.from_torch(module, name="rnn"), tmp_path / name)
    lstmconv.convert(tmp_path / name, tmp_path / "m.pt", layer=["rnn"])
    found = torch.load(tmp_path / "m.pt", weights_only=True)
    assert all(torch.equal(found[key], tensor) for key, tensor in module.state_dict().items())


@pytest.mark.parametrize(
    "change",
    [
        {"hiddenSize": 6},
        {"inputSize": 500},
        {"numLayers": 9},
        {"numLayers": "2"},
        {"biasMode": "CUDNN_RNN_NO_BIAS"},
        {"dirMode": "CUDNN_BIDIRECTIONAL"},
        {"dirMode": None},
        {"projSize": 3},
        {"cellMode": "CUDNN_GRU"},
        {"dataType": "CUDNN_DATA_INT8"},
        {"weightSpaceSize": 1 << 60},
        {"fileOffset": -4},
        {"params": []},
    ],
    ids=str,
)
def test_a_manifest_that_does_not_fit_its_buffer_is_refused(tmp_path, change):
    _, sidecar = lstmconv.save(lstmconv.from_torch(make_stack(2)[0], name="rnn"), tmp_path / "m.cudnn.bin")
    found = json.loads(sidecar.read_text())
    found["cudnn"]["rnn"] |= change
    sidecar.write_text(json.dumps(found))
    with pytest.raises(LstmconvError) as caught:
        lstmconv.load(tmp_path / "m.cudnn.bin")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"cudnn": []}', '{"cudnn": {"rnn": 3}}', "null"])
def test_a_damaged_manifest_is_refused(tmp_path, text):
    _, sidecar = lstmconv.save(lstmconv.from_torch(make_stack()[0], name="rnn"), tmp_path / "m.cudnn.bin")
    sidecar.write_text(text)
    with pytest.raises(UnreadableFileError):
        lstmconv.load(tmp_path / "m.cudnn.bin")
