"""The cuDNN target: the packed weight space against JAX's and TensorFlow's own, and its manifest."""

from __future__ import annotations

import json
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.experimental import rnn
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import lstmconv
from lstmconv.activations import HARD_SIGMOID_KERAS_2, HARD_SIGMOID_KERAS_3
from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.formats.cudnn import manifest, pack
from lstmconv.model import LSTMDirection, LSTMLayer, Stack
from tests.contract.building import (
    FLOAT32_NOISE,
    RELU,
    Half,
    bits,
    expected,
    make_checkpoint,
    make_half,
    make_halves,
    make_inputs,
    make_layer,
    torch_arrays,
)

SIZES = [(3, 5), (7, 2), (5, 5), (3, 1), (1, 1)]


def alone(layer):
    """Return a layer as a stack of one."""
    return Stack(layer.name, (layer,))


def halves_for(bidirectional, *sizes, **options):
    return make_halves(*sizes, **options) if bidirectional else [make_half(*sizes, **options)]


def metadata(path):
    with safe_open(path, "np") as file:
        return file.metadata()


# The weight space


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("features", "hidden"), SIZES)
def test_trap_32_jax_unpacks_every_array_bit_for_bit(features, hidden, bidirectional):
    halves = halves_for(bidirectional, features, hidden)
    space = lstmconv.to_cudnn(make_layer(*halves))
    assert space.shape == (rnn.get_num_params_in_lstm(features, hidden, 1, bidirectional),)
    w_ih, w_hh, b_ih, b_hh = rnn.unpack_lstm_weights(jnp.asarray(space), features, hidden, 1, bidirectional)
    for pseudo_layer, half in enumerate(halves):
        arrays = torch_arrays(half)
        for name, found in (("weight_ih", w_ih), ("weight_hh", w_hh), ("bias_ih", b_ih), ("bias_hh", b_hh)):
            value = np.asarray(found[pseudo_layer]).reshape(arrays[name].shape)
            np.testing.assert_array_equal(bits(value), bits(arrays[name]), err_msg=f"{name} {pseudo_layer}")


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("features", "hidden"), [(3, 5), (5, 5), (2, 1)])
def test_jax_computes_from_the_weight_space_what_keras_does(features, hidden, bidirectional):
    halves = halves_for(bidirectional, features, hidden)
    space = lstmconv.to_cudnn(make_layer(*halves))
    x, states = make_inputs(features, 4, 7, [hidden] * len(halves))
    h, c = (jnp.asarray(np.stack(states[k::2]), jnp.float32) for k in (0, 1))
    weights = rnn.unpack_lstm_weights(jnp.asarray(space), features, hidden, 1, bidirectional)
    lengths = jnp.full((4,), 7, jnp.int32)
    y, h_n, c_n = rnn.lstm_ref(
        jnp.asarray(x, jnp.float32), h, c, *weights, lengths, features, hidden, 1, 0.0, bidirectional
    )
    outputs, finals = expected(halves, x, states)
    np.testing.assert_allclose(y, outputs[0], rtol=0, atol=FLOAT32_NOISE)
    np.testing.assert_allclose(h_n, np.stack(finals[0::2]), rtol=0, atol=FLOAT32_NOISE)
    np.testing.assert_allclose(c_n, np.stack(finals[1::2]), rtol=0, atol=FLOAT32_NOISE)


@pytest.mark.parametrize("case", ["3x5", "7x2", "5x5", "3x1"])
def test_trap_32_tensorflow_packs_the_same_with_its_bias_in_the_recurrent_place(case):
    with np.load(Path(__file__).parent / "golden" / "cudnn" / "canonical.npz") as recorded:
        kernel, recurrent, bias, params = (
            recorded[f"{case}|{key}"] for key in ("kernel", "recurrent_kernel", "bias", "params")
        )
    half = Half(kernel, recurrent, bias)
    np.testing.assert_array_equal(lstmconv.to_cudnn(make_layer(half), bias_mode="recurrent"), params)


def test_a_small_weight_space_is_literally_this():
    """Two features, one unit: W i f g o, R i f g o, then bW, then bR."""
    kernel = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32)
    half = Half(kernel, np.array([[9, 10, 11, 12]], np.float32), np.array([13, 14, 15, 16], np.float32))
    space = lstmconv.to_cudnn(make_layer(half))
    assert space.tolist() == [1, 5, 2, 6, 3, 7, 4, 8, 9, 10, 11, 12, 13, 14, 15, 16, 0, 0, 0, 0]


def test_trap_32_all_matrices_of_both_directions_come_before_all_biases():
    halves = [
        Half(*(np.full(shape, k + n, np.float32) for n, shape in enumerate([(1, 4), (1, 4), 4])), go_backwards=k == 20)
        for k in (10, 20)
    ]
    space = lstmconv.to_cudnn(make_layer(*halves))
    assert space.reshape(-1, 4)[:, 0].tolist() == [10, 11, 20, 21, 12, 0, 22, 0]


def test_trap_33_a_weight_space_in_miopens_order_is_found_out(tmp_path):
    """ROCm's MIOpen has i f o g; with square or any other sizes the shapes are the same."""
    half = make_half(5, 5)
    checkpoint = make_checkpoint(make_layer(half))
    target = tmp_path / "m.cudnn.safetensors"
    lstmconv.save(checkpoint, target)
    stored, found = load_file(target), metadata(target)
    blocks = stored["lstm"][:200].reshape(2, 4, 25)
    blocks[:, [2, 3]] = blocks[:, [3, 2]]
    save_file(stored, target, found)
    details = [check.detail for check in lstmconv.verify(checkpoint, target).failures if check.level == "weights"]
    assert details
    assert "the input matrix differs in 50 of 100 numbers, first at weight_ih.g[0, 0]" in details[0]


# Bias modes


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(
    ("mode", "name", "biases"),
    [
        (None, "CUDNN_RNN_DOUBLE_BIAS", (1, 0)),
        ("double", "CUDNN_RNN_DOUBLE_BIAS", (1, 0)),
        ("input", "CUDNN_RNN_DOUBLE_BIAS", (1, 0)),
        ("recurrent", "CUDNN_RNN_DOUBLE_BIAS", (0, 1)),
        ("both-halves", "CUDNN_RNN_DOUBLE_BIAS", (0.5, 0.5)),
        ("single-input", "CUDNN_RNN_SINGLE_INP_BIAS", (1,)),
        ("single-recurrent", "CUDNN_RNN_SINGLE_REC_BIAS", (1,)),
    ],
)
def test_every_bias_mode_has_its_length_and_its_name(mode, name, biases, bidirectional):
    halves = halves_for(bidirectional, 3, 5)
    layer = make_layer(*halves)
    space, described = pack(alone(layer), mode), manifest(alone(layer), mode)
    matrices = len(halves) * 4 * 5 * (3 + 5)
    assert space.size == matrices + len(halves) * 4 * 5 * len(biases)
    assert described["biasMode"] == name
    assert described["weightSpaceSize"] == space.nbytes
    tail = [np.float32(part) * half.bias for half in halves for part in biases]
    np.testing.assert_array_equal(space[matrices:], np.concatenate(tail))


@pytest.mark.parametrize("mode", [None, "none", "single-input"])
def test_a_layer_without_bias_has_none(mode):
    half = make_half(bias=False)
    assert pack(alone(make_layer(half)), mode).size == 4 * 5 * (3 + 5)
    assert manifest(alone(make_layer(half)), mode)["biasMode"] == "CUDNN_RNN_NO_BIAS"


def test_a_layer_without_bias_gets_zeros_where_double_is_asked():
    """PyTorch hands cuDNN a double bias always."""
    space = pack(alone(make_layer(make_half(bias=False))), "double")
    assert space.size == 4 * 5 * (3 + 5) + 2 * 4 * 5
    assert not space[160:].any()


def test_mode_none_never_drops_a_bias():
    with pytest.raises(UsageError, match="would drop"):
        lstmconv.to_cudnn(make_layer(make_half()), bias_mode="none")


def test_trap_10_two_biases_are_kept_in_double_and_summed_in_single():
    half, other = make_half(), make_half(seed=9)
    one, two = half.direction(), other.direction()
    layer = LSTMLayer("lstm", LSTMDirection(one.weight_ih, one.weight_hh, one.bias_ih, two.bias_ih))
    np.testing.assert_array_equal(pack(alone(layer))[160:], np.concatenate([half.bias, other.bias]))
    np.testing.assert_array_equal(pack(alone(layer), "single-input")[160:], half.bias + other.bias)


@pytest.mark.parametrize("mode", [None, "double", "recurrent", "single-input", "single-recurrent"])
@pytest.mark.parametrize("biased", [0, 1])
def test_a_half_without_bias_beside_one_that_has_it_is_proved_in_every_mode(tmp_path, biased, mode):
    halves = [make_half(3, 5, k, bias=k == biased, go_backwards=k == 1) for k in range(2)]
    checkpoint = make_checkpoint(make_layer(*halves))
    target = tmp_path / "m.cudnn.safetensors"
    lstmconv.save(checkpoint, target, bias_mode=mode)
    lstmconv.verify(checkpoint, target).raise_for_failure()


# The manifest


def test_offsets_in_the_manifest_are_literally_these():
    """Two features, one unit, both directions, float32: bytes from the start of the weight space."""
    described = manifest(alone(make_layer(*make_halves(2, 1))))
    keys = ("pseudoLayer", "linLayerID", "gate", "kind", "offset", "shape")
    found = [tuple(entry[key] for key in keys) for entry in described["params"]]
    expected_params = []
    for pseudo_layer, start in ((0, 0), (1, 48)):
        w = [(pseudo_layer, k, "ifgo"[k], "matrix", start + 8 * k, [1, 2]) for k in range(4)]
        r = [(pseudo_layer, 4 + k, "ifgo"[k], "matrix", start + 32 + 4 * k, [1, 1]) for k in range(4)]
        expected_params += w + r
    for pseudo_layer, start in ((0, 96), (1, 128)):
        expected_params += [(pseudo_layer, k, "ifgo"[k % 4], "bias", start + 4 * k, [1]) for k in range(8)]
    assert found == expected_params
    assert described["weightSpaceSize"] == 160
    assert {key: described[key] for key in ("cellMode", "dirMode", "inputMode", "dataType")} == {
        "cellMode": "CUDNN_LSTM",
        "dirMode": "CUDNN_BIDIRECTIONAL",
        "inputMode": "CUDNN_LINEAR_INPUT",
        "dataType": "CUDNN_DATA_FLOAT",
    }
    assert [described[key] for key in ("inputSize", "hiddenSize", "projSize", "numLayers")] == [2, 1, 1, 1]


@pytest.mark.parametrize("mode", [None, "single-input", "single-recurrent"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_every_offset_points_at_the_keras_block_of_its_linlayerid(bidirectional, dtype, mode):
    dtype = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    halves = halves_for(bidirectional, 3, 5, dtype=dtype)
    layer = make_layer(*halves)
    content = pack(alone(layer), mode).tobytes()
    covered = 0
    for entry in manifest(alone(layer), mode)["params"]:
        half, k = halves[entry["pseudoLayer"]], entry["linLayerID"] % 4
        columns = slice(5 * k, 5 * k + 5)
        first = entry["linLayerID"] < 4
        if entry["kind"] == "matrix":
            wanted = (half.kernel if first else half.recurrent)[:, columns].T
        else:
            wanted = half.bias[columns]
            if mode is None and not first:
                wanted = np.zeros_like(wanted)
        size = int(np.prod(entry["shape"]))
        found = np.frombuffer(content, dtype, size, entry["offset"]).reshape(entry["shape"])
        np.testing.assert_array_equal(bits(found), bits(wanted))
        covered += size
    assert covered * dtype.itemsize == len(content)


def test_data_types_are_cudnns_names():
    names = {
        dtype: manifest(alone(make_layer(make_half(dtype=dtype))))["dataType"]
        for dtype in ("float16", "float32", "float64", ml_dtypes.bfloat16)
    }
    assert list(names.values()) == [
        "CUDNN_DATA_HALF",
        "CUDNN_DATA_FLOAT",
        "CUDNN_DATA_DOUBLE",
        "CUDNN_DATA_BFLOAT16",
    ]


# Refusals


@pytest.mark.parametrize(
    ("halves", "options", "words"),
    [
        ([make_half(recurrent_activation=HARD_SIGMOID_KERAS_2)], {}, r"hard_sigmoid\(alpha=0\.2.*onnx or torch"),
        ([make_half(recurrent_activation=HARD_SIGMOID_KERAS_3)], {}, r"hard_sigmoid.*onnx or torch"),
        ([make_half(activation=RELU)], {}, r"relu.*onnx or torch"),
        ([make_half(go_backwards=True)], {}, r"go_backwards.*onnx.*torch"),
        (make_halves(), {"merge_mode": "sum"}, r"sum.*onnx or torch"),
        (make_halves(), {"merge_mode": "mul"}, r"mul.*onnx or torch"),
        ([make_half(3, 5), make_half(3, 2, go_backwards=True)], {}, r"5 and 2 units.*cuDNN.*to_torch"),
        ([make_half(go_backwards=True), make_half()], {}, r"go_backwards"),
        ([make_half(), make_half(recurrent_activation=HARD_SIGMOID_KERAS_2, go_backwards=True)], {}, "hard_sigmoid"),
    ],
)
def test_what_cudnn_cannot_compute_is_refused_with_the_way_out(tmp_path, halves, options, words):
    layer = make_layer(*halves, **options)
    with pytest.raises(UnsupportedModelError, match=rf"(?s)lstm: .*{words}"):
        lstmconv.to_cudnn(layer)
    with pytest.raises(UnsupportedModelError, match=words):
        lstmconv.save(make_checkpoint(layer), tmp_path / "m.cudnn.safetensors")
    assert list(tmp_path.iterdir()) == []


# The files


def test_the_metadata_holds_manifest_and_provenance(tmp_path):
    layers = [make_layer(make_half(3, 5), name="a/b"), make_layer(*make_halves(5, 2), name="c")]
    target = tmp_path / "m.cudnn.safetensors"
    lstmconv.save(make_checkpoint(*layers), target)
    found = metadata(target)
    manifests = json.loads(found["cudnn"])
    assert list(manifests) == ["a/b", "c"]
    assert manifests["c"] == manifest(alone(layers[1]))
    assert json.loads(found["lstmconv"])["sha256"] == "0" * 64
    stored = load_file(target)
    for layer in layers:
        np.testing.assert_array_equal(stored[layer.name], pack(alone(layer)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_dtypes_round_once_and_are_proved(tmp_path, dtype):
    half = make_half(3, 5)
    checkpoint = make_checkpoint(make_layer(half))
    target = tmp_path / "m.cudnn.safetensors"
    lstmconv.save(checkpoint, target, dtype=dtype)
    element = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    space = lstmconv.to_cudnn(make_layer(half), dtype=dtype)
    assert space.dtype == element
    np.testing.assert_array_equal(bits(space[:60]), bits(half.kernel.T.astype(element).ravel()))
    lstmconv.verify(checkpoint, target).raise_for_failure()


def test_a_weight_that_does_not_fit_float16_is_refused():
    half = make_half()
    half.kernel[0, 0] = 1e6
    with pytest.raises(UnsupportedModelError, match=r"1e\+06 does not fit float16"):
        lstmconv.to_cudnn(make_layer(half), dtype="float16")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_raw_bytes_lie_beside_a_json_that_says_where_each_layer_begins(tmp_path, dtype):
    layers = [make_layer(make_half(3, 5), name="a"), make_layer(*make_halves(5, 2), name="b")]
    checkpoint = make_checkpoint(*layers)
    paths = lstmconv.save(checkpoint, tmp_path / "m.cudnn.bin", dtype=dtype)
    assert [path.name for path in paths] == ["m.cudnn.bin", "m.cudnn.json"]
    content = paths[0].read_bytes()
    described = json.loads(paths[1].read_text())
    spaces = [pack(alone(layer), None, dtype) for layer in layers]
    assert content == b"".join(space.tobytes() for space in spaces)
    assert [described["cudnn"][name]["fileOffset"] for name in "ab"] == [0, spaces[0].nbytes]
    assert described["lstmconv"]["source"] == "model.h5"
    lstmconv.verify(checkpoint, paths[0]).raise_for_failure()


def test_raw_bytes_without_their_json_cannot_be_verified(tmp_path):
    checkpoint = make_checkpoint(make_layer(make_half()))
    paths = lstmconv.save(checkpoint, tmp_path / "m.cudnn.bin")
    paths[1].unlink()
    with pytest.raises(
        UsageError, match=r"m\.cudnn\.json is not beside it; pass buffer\.input_size, buffer\.hidden_size"
    ):
        lstmconv.verify(checkpoint, paths[0])


def test_a_state_dict_is_not_taken_for_a_weight_space(tmp_path):
    checkpoint = make_checkpoint(make_layer(make_half()))
    lstmconv.save(checkpoint, tmp_path / "m.safetensors")
    renamed = (tmp_path / "m.safetensors").rename(tmp_path / "m.cudnn.safetensors")
    assert lstmconv.load(renamed).provenance.format == "PyTorch state dict in safetensors"
    with pytest.raises(lstmconv.UnreadableFileError, match="no cudnn manifest"):
        lstmconv.load(renamed, from_="cudnn")


def test_without_a_gpu_cudnn_itself_is_not_run_and_not_passed(tmp_path):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    checkpoint = make_checkpoint(make_layer(make_half()))
    lstmconv.save(checkpoint, tmp_path / "m.cudnn.safetensors")
    report = lstmconv.verify(checkpoint, tmp_path / "m.cudnn.safetensors")
    assert [check.status for check in report.checks] == ["passed", "passed", "passed", "not run"]
    assert report.passed
    assert not report.complete


def test_on_a_gpu_cudnn_itself_computes_the_same(tmp_path):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    checkpoint = make_checkpoint(make_layer(*make_halves(3, 5)), make_layer(make_half(3, 7), name="other"))
    lstmconv.save(checkpoint, tmp_path / "m.cudnn.safetensors")
    report = lstmconv.verify(checkpoint, tmp_path / "m.cudnn.safetensors")
    report.raise_for_failure()
    assert report.complete
