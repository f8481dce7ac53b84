"""The decode that the comparison of bits rests on, against each vendor's own reader, on files of vendors' making.

None of these files is written by lstmconv, so a writer and a decoder that err alike are told apart here.
"""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import onnx
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from jax.experimental import rnn
from onnx import TensorProto, helper, numpy_helper

from lstmconv.formats import open_file
from lstmconv.runtimes import session

SIZES = [(3, 5), (5, 5), (7, 2), (1, 1)]


def drawn(*shape):
    return np.random.default_rng(shape).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(("features", "hidden"), SIZES)
def test_pytorch_s_own_parameters_are_decoded(features, hidden, suffix, tmp_path):
    module = torch.nn.LSTM(features, hidden, num_layers=2, bidirectional=True)
    path = tmp_path / f"m{suffix}"
    if suffix == ".pt":
        torch.save({f"lstm.{key}": value for key, value in module.state_dict().items()}, path)
    else:
        safetensors.torch.save_file({f"lstm.{key}": value for key, value in module.state_dict().items()}, path)
    decoded = session(open_file(path)).decode(["lstm"])["lstm"]
    names = ["l0", "l0_reverse", "l1", "l1_reverse"]
    for name, found in zip(names, decoded, strict=True):
        # torch.nn.LSTM, Variables: (W_ii|W_if|W_ig|W_io) and so on.
        for array, own in (("weight_ih", found.weight_ih), ("weight_hh", found.weight_hh), ("bias_ih", found.bias_ih)):
            chunks = getattr(module, f"{array}_{name}").detach().chunk(4)
            np.testing.assert_array_equal(own, np.stack([chunk.numpy() for chunk in chunks]))


@pytest.mark.parametrize(("features", "hidden"), SIZES)
def test_onnx_arrays_are_decoded(features, hidden, tmp_path):
    w, r, b = drawn(1, 4 * hidden, features), drawn(1, 4 * hidden, hidden), drawn(1, 8 * hidden)
    arrays = [numpy_helper.from_array(array, name) for array, name in ((w, "W"), (r, "R"), (b, "B"))]
    node = helper.make_node("LSTM", ["lstm.x", "W", "R", "B"], ["y"], name="lstm", hidden_size=hidden)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("lstm.x", TensorProto.FLOAT, ["time", "batch", features])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["time", 1, "batch", hidden])],
        arrays,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)]), tmp_path / "m.onnx")
    (found,) = session(open_file(tmp_path / "m.onnx")).decode(["lstm"])["lstm"]
    for array, own in ((w, found.weight_ih), (r, found.weight_hh)):
        i, o, f, c = np.split(array[0], 4)  # LSTM-14: W[iofc].
        np.testing.assert_array_equal(own, np.stack([i, f, c, o]))
    wi, wo, wf, wc, ri, ro, rf, rc = np.split(b[0], 8)  # LSTM-14: B is [Wb[iofc], Rb[iofc]].
    np.testing.assert_array_equal(found.bias_ih, np.stack([wi, wf, wc, wo]))
    np.testing.assert_array_equal(found.bias_hh, np.stack([ri, rf, rc, ro]))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(("features", "hidden"), SIZES)
def test_a_weight_space_is_decoded_as_jax_unpacks_it_for_cudnn(features, hidden, layers, bidirectional, tmp_path):
    count = rnn.get_num_params_in_lstm(features, hidden, layers, bidirectional)
    space = drawn(count)
    entry = {
        "dataType": "CUDNN_DATA_FLOAT",
        "hiddenSize": hidden,
        "inputSize": features,
        "numLayers": layers,
        "dirMode": "CUDNN_BIDIRECTIONAL" if bidirectional else "CUDNN_UNIDIRECTIONAL",
        "biasMode": "CUDNN_RNN_DOUBLE_BIAS",
        "weightSpaceSize": space.nbytes,
    }
    path = tmp_path / "m.cudnn.safetensors"
    safetensors.numpy.save_file({"lstm": space}, path, {"cudnn": json.dumps({"lstm": entry})})
    decoded = session(open_file(path)).decode(["lstm"])["lstm"]
    unpacked = rnn.unpack_lstm_weights(jnp.asarray(space), features, hidden, layers, bidirectional)
    assert len(decoded) == layers * (2 if bidirectional else 1)
    for number, found in enumerate(decoded):
        own = (found.weight_ih, found.weight_hh, found.bias_ih, found.bias_hh)
        for array, theirs in zip(own, unpacked, strict=True):
            found_array = np.asarray(array).reshape(np.shape(theirs[number]))
            np.testing.assert_array_equal(found_array, np.asarray(theirs[number]))
