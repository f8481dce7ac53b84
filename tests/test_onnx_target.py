"""The ONNX target: what the file says, and that ONNX Runtime computes from it what Keras returns."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

import lstmconv
from lstmconv.activations import HARD_SIGMOID_KERAS_2, HARD_SIGMOID_KERAS_3, LINEAR, SIGMOID, TANH, Activation
from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.formats import WriteOptions
from lstmconv.formats import onnx as onnx_format
from lstmconv.model import LSTMLayer
from tests.contract.building import (
    FLOAT32_NOISE,
    FLOAT64_NOISE,
    LEAKY,
    RELU,
    THRESHOLDED,
    expected,
    make_checkpoint,
    make_half,
    make_halves,
    make_inputs,
    make_layer,
    verified,
)

UNBOUNDED_NOISE = 5e-5
"""relu and linear let the states grow to tens, and float32's error with them."""

MERGES = ["concat", "sum", "mul", "ave", "none"]


def session(model):
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def feeds_for(model, x, states=None, lengths=None, name="lstm"):
    declared = {entry.name: entry for entry in model.graph.input}
    element = onnx.helper.tensor_dtype_to_np_dtype(declared[f"{name}.x"].type.tensor_type.elem_type)
    feeds = {f"{name}.x": x.astype(element)}
    if lengths is not None:
        feeds[f"{name}.lengths"] = np.asarray(lengths, np.int32)
    if states is not None and f"{name}.initial_h_1" in declared:
        for key, state in zip(("h", "c", "h_1", "c_1"), states, strict=True):
            feeds[f"{name}.initial_{key}"] = state[None].astype(element)
    elif states is not None:
        feeds[f"{name}.initial_h"] = np.stack(states[0::2]).astype(element)
        feeds[f"{name}.initial_c"] = np.stack(states[1::2]).astype(element)
    return feeds


def run(model, x, states=None, lengths=None, name="lstm"):
    """Run a model in ONNX Runtime; return its outputs without the layer's name."""
    ready = session(model)
    names = [entry.name for entry in ready.get_outputs() if entry.name.startswith(f"{name}.")]
    results = ready.run(names, feeds_for(model, x, states, lengths, name))
    return {key.removeprefix(f"{name}."): value for key, value in zip(names, results, strict=True)}


def check(halves, layer, model, *, states=False, lengths=None, tolerance=FLOAT32_NOISE, steps=7, **options):
    """Compare every output of the model with the loop of building.py."""
    x, drawn = make_inputs(layer.input_size, 4, steps, [half.hidden for half in halves])
    start = drawn if states else None
    mask = None if lengths is None else np.arange(steps)[None] < np.asarray(lengths)[:, None]
    outputs, finals = expected(halves, x, start, mask, merge=layer.merge_mode, **options)
    fed = x.swapaxes(0, 1) if layer.time_major else x
    found = run(model, fed, start, lengths)
    named = dict(zip(("y", "y_1"), outputs, strict=False))
    if layer.time_major and options.get("sequences", True):
        named = {key: value.swapaxes(0, 1) for key, value in named.items()}
    for key, own in (("h", finals[0::2]), ("c", finals[1::2])):
        if len(lstm_nodes(model)) == 1:
            named[key] = np.stack(own)
        else:
            named |= {key: own[0][None], f"{key}_1": own[1][None]}
    assert sorted(found) == sorted(named)
    for key, value in named.items():
        np.testing.assert_allclose(found[key], value, rtol=0, atol=tolerance, err_msg=key)


def lstm_nodes(model):
    return [node for node in model.graph.node if node.op_type == "LSTM"]


def attributes(node):
    return {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}


def initializer(model, name):
    return numpy_helper.to_array(next(entry for entry in model.graph.initializer if entry.name == name))


# What is written


@pytest.mark.parametrize(("features", "hidden"), [(3, 5), (7, 2), (5, 5), (3, 1), (1, 1)])
def test_trap_8_gates_are_written_in_the_order_i_o_f_c(features, hidden):
    half = make_half(features, hidden)
    model = lstmconv.to_onnx(make_layer(half))
    h = hidden
    for name, stored in (("W", half.kernel), ("R", half.recurrent)):
        written = initializer(model, f"lstm.{name}")
        assert written.shape == (1, 4 * h, stored.shape[0])
        i, f, c, o = (stored[:, k * h : (k + 1) * h].T for k in range(4))
        np.testing.assert_array_equal(written[0, 0:h], i)
        np.testing.assert_array_equal(written[0, h : 2 * h], o)
        np.testing.assert_array_equal(written[0, 2 * h : 3 * h], f)
        np.testing.assert_array_equal(written[0, 3 * h : 4 * h], c)


def test_trap_9_b_is_wb_then_rb_and_the_bias_stands_in_one_of_them():
    half = make_half(3, 2)
    written = initializer(lstmconv.to_onnx(make_layer(half)), "lstm.B")
    b = half.bias
    wb = [b[0], b[1], b[6], b[7], b[2], b[3], b[4], b[5]]
    np.testing.assert_array_equal(written, [[*wb, *([0.0] * 8)]])


@pytest.mark.parametrize(
    ("mode", "input_part", "recurrent_part"), [("input", 1, 0), ("recurrent", 0, 1), ("both-halves", 0.5, 0.5)]
)
def test_bias_modes_place_the_bias_and_compute_the_same(mode, input_part, recurrent_part):
    halves = make_halves(3, 2)
    layer = make_layer(*halves)
    model = lstmconv.to_onnx(layer, bias_mode=mode)
    written = initializer(model, "lstm.B")
    for row, half in zip(written, halves, strict=True):
        iofc = half.bias.reshape(4, 2)[[0, 3, 1, 2]].ravel()
        np.testing.assert_array_equal(row[:8], np.float32(input_part) * iofc)
        np.testing.assert_array_equal(row[8:], np.float32(recurrent_part) * iofc)
    check(halves, layer, model)


def test_a_bias_mode_of_cudnn_is_refused():
    with pytest.raises(UsageError, match=r"single-input.*cuDNN's"):
        lstmconv.to_onnx(make_layer(make_half()), bias_mode="single-input")


def test_a_layer_without_bias_has_no_b():
    half = make_half(bias=False)
    layer = make_layer(half)
    model = lstmconv.to_onnx(layer)
    assert len(lstm_nodes(model)[0].input) == 3
    check([half], layer, model)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("lengths", [False, True])
def test_a_layer_is_exactly_one_lstm_node_and_no_loop(bidirectional, lengths):
    halves = make_halves() if bidirectional else [make_half()]
    model = lstmconv.to_onnx(make_layer(*halves), lengths=lengths, states=True)
    operators = [node.op_type for node in model.graph.node]
    assert operators.count("LSTM") == 1
    assert not {"Loop", "Scan", "If"} & set(operators)


@pytest.mark.parametrize(
    ("halves", "way"),
    [
        ([make_half()], b"forward"),
        ([make_half(go_backwards=True)], b"reverse"),
        (make_halves(), b"bidirectional"),
    ],
    ids=["forward", "reverse", "bidirectional"],
)
def test_direction_and_hidden_size_and_activations_are_always_written(halves, way):
    """Trap 36: without hidden_size ONNX Runtime refuses the file."""
    found = attributes(lstm_nodes(lstmconv.to_onnx(make_layer(*halves)))[0])
    assert found["direction"] == way
    assert found["hidden_size"] == 5
    assert found["activations"] == [b"Sigmoid", b"Tanh", b"Tanh"] * len(halves)
    assert "layout" not in found
    assert "activation_alpha" not in found


def test_names_are_the_layers_own():
    layers = [make_layer(make_half(3, 5, 1), name="encoder/lstm"), make_layer(make_half(5, 2, 2), name="décodeur 2")]
    model = lstmconv.to_onnx(make_checkpoint(*layers))
    assert [entry.name for entry in model.graph.input] == ["encoder/lstm.x", "décodeur 2.x"]
    assert [entry.name for entry in model.graph.output] == [
        f"{name}.{key}" for name in ("encoder/lstm", "décodeur 2") for key in ("y", "h", "c")
    ]
    session(model)


# What it computes


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize(("features", "hidden"), [(3, 5), (5, 5), (2, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_forward_layer_computes_what_keras_returns(features, hidden, bias, states, sequences):
    half = make_half(features, hidden, bias=bias)
    layer = make_layer(half, return_sequences=sequences)
    check([half], layer, lstmconv.to_onnx(layer, states=states), states=states, sequences=sequences)


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize("lengths", [None, [7, 0, 3, 1]])
def test_trap_22_go_backwards_returns_outputs_in_processing_order(lengths, states, sequences):
    half = make_half(3, 5, go_backwards=True)
    layer = make_layer(half, return_sequences=sequences)
    model = lstmconv.to_onnx(layer, states=states, lengths=lengths is not None)
    check([half], layer, model, states=states, lengths=lengths, sequences=sequences)


@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize("merge", MERGES)
def test_trap_23_without_sequences_the_backward_half_gives_its_output_at_the_first_step(merge, states):
    halves = make_halves()
    layer = make_layer(*halves, merge_mode=merge, return_sequences=False)
    check(halves, layer, lstmconv.to_onnx(layer, states=states), states=states, sequences=False)


@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize("merge", MERGES)
def test_trap_24_each_merge_mode_is_its_own(merge, states):
    halves = make_halves()
    layer = make_layer(*halves, merge_mode=merge)
    model = lstmconv.to_onnx(layer, states=states)
    assert ("lstm.y_1" in [entry.name for entry in model.graph.output]) == (merge == "none")
    check(halves, layer, model, states=states)


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("lengths", [None, [7, 0, 3, 1]])
@pytest.mark.parametrize("merge", MERGES)
def test_trap_25_a_bidirectional_layer_whose_forward_half_goes_backwards(merge, lengths, sequences):
    """Keras 2: Bidirectional(LSTM(go_backwards=True)) runs its backward half forwards."""
    halves = [make_half(3, 5, 1, go_backwards=True), make_half(3, 5, 2, go_backwards=False)]
    layer = make_layer(*halves, merge_mode=merge, return_sequences=sequences, zero_output_for_mask=sequences)
    model = lstmconv.to_onnx(layer, states=True, lengths=lengths is not None)
    assert len(lstm_nodes(model)) == 1
    check(halves, layer, model, states=True, lengths=lengths, sequences=sequences, zero_output=sequences)


@pytest.mark.parametrize("way", [False, True])
def test_halves_that_run_the_same_way_are_refused_as_keras_refuses_them(way):
    with pytest.raises(UnsupportedModelError, match="same way"):
        make_layer(*(make_half(3, 5, k, go_backwards=way) for k in range(2)))


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("lengths", [None, [7, 0, 3, 1]])
@pytest.mark.parametrize("merge", ["concat", "none"])
def test_trap_26_halves_of_unequal_units_become_two_nodes(merge, lengths, sequences):
    halves = [make_half(3, 5, 1), make_half(3, 2, 2, go_backwards=True)]
    layer = make_layer(*halves, merge_mode=merge, return_sequences=sequences, zero_output_for_mask=sequences)
    model = lstmconv.to_onnx(layer, states=True, lengths=lengths is not None)
    assert len(lstm_nodes(model)) == 2
    check(halves, layer, model, states=True, lengths=lengths, sequences=sequences, zero_output=sequences)


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize("steps", [7, 1])
def test_trap_27_masked_steps_repeat_the_last_output_or_are_zero_as_keras_gives_them(steps, states, zero, sequences):
    half = make_half()
    layer = make_layer(half, return_sequences=sequences, zero_output_for_mask=zero)
    model = lstmconv.to_onnx(layer, states=states, lengths=True)
    lengths = [steps, 0, 3 % (steps + 1), 1]
    check([half], layer, model, states=states, lengths=lengths, steps=steps, sequences=sequences, zero_output=zero)


@pytest.mark.parametrize(("sequences", "zero"), [(True, True), (True, False), (False, False)])
@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize("merge", MERGES)
def test_trap_28_the_backward_half_of_a_padded_batch_turns_round_within_the_length(merge, states, sequences, zero):
    halves = make_halves()
    layer = make_layer(*halves, merge_mode=merge, return_sequences=sequences, zero_output_for_mask=zero)
    model = lstmconv.to_onnx(layer, states=states, lengths=True)
    check(halves, layer, model, states=states, lengths=[7, 0, 3, 1], sequences=sequences, zero_output=zero)


def test_trap_31_y_is_transposed_and_not_only_reshaped():
    """A plain reshape of [time, directions, batch, units] passes only where batch or directions is 1."""
    halves = make_halves(3, 2)
    layer = make_layer(*halves)
    model = lstmconv.to_onnx(layer)
    x, _ = make_inputs(3, 4, 7)
    found = run(model, x)["y"]
    outputs, _ = expected(halves, x)
    np.testing.assert_allclose(found, outputs[0], rtol=0, atol=FLOAT32_NOISE)
    node = lstm_nodes(model)[0]
    kept = onnx.ModelProto()
    kept.CopyFrom(model)
    kept.graph.output.append(onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, None))
    raw = session_without_check(kept).run([node.output[0]], {"lstm.x": x.astype(np.float32)})[0]
    assert raw.shape == (7, 2, 4, 2)
    np.testing.assert_array_equal(found[:, :, :2], raw[:, 0].transpose(1, 0, 2))
    np.testing.assert_array_equal(found[:, :, 2:], raw[:, 1].transpose(1, 0, 2))


def session_without_check(model):
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("halves", [[make_half()], [make_half(go_backwards=True)], make_halves()], ids=["f", "r", "b"])
@pytest.mark.parametrize("lengths", [None, [7, 0, 3, 1]])
@pytest.mark.parametrize("sequences", [True, False])
def test_time_major_takes_and_gives_time_first(halves, lengths, sequences):
    layer = make_layer(*halves, time_major=True, return_sequences=sequences)
    model = lstmconv.to_onnx(layer, lengths=lengths is not None)
    check(halves, layer, model, lengths=lengths, sequences=sequences)


def test_states_are_inputs_by_default_for_stateful_layers_only():
    half = make_half()
    names = {
        stateful: {entry.name for entry in lstmconv.to_onnx(make_layer(half, stateful=stateful)).graph.input}
        for stateful in (True, False)
    }
    assert names == {True: {"lstm.x", "lstm.initial_h", "lstm.initial_c"}, False: {"lstm.x"}}


def test_states_passed_on_continue_a_sequence():
    half = make_half()
    layer = make_layer(half)
    model = lstmconv.to_onnx(layer, states=True)
    x, states = make_inputs()
    whole = run(model, x, states)
    first = run(model, x[:, :3], states)
    second = run(model, x[:, 3:], [first["h"][0], first["c"][0]])
    np.testing.assert_allclose(
        np.concatenate([first["y"], second["y"]], axis=1), whole["y"], rtol=0, atol=FLOAT32_NOISE
    )


@pytest.mark.parametrize("bidirectional", [False, True])
def test_batch_and_time_are_dynamic_in_one_session(bidirectional):
    halves = make_halves() if bidirectional else [make_half()]
    model = lstmconv.to_onnx(make_layer(*halves))
    ready = session(model)
    for batch, steps in [(4, 7), (1, 1), (2, 13)]:
        x, _ = make_inputs(3, batch, steps)
        found = ready.run(["lstm.y"], {"lstm.x": x.astype(np.float32)})[0]
        np.testing.assert_allclose(found, expected(halves, x)[0][0], rtol=0, atol=FLOAT32_NOISE)
    shape = model.graph.input[0].type.tensor_type.shape
    assert [entry.dim_param for entry in shape.dim] == ["lstm.batch", "lstm.time", ""]
    assert shape.dim[2].dim_value == 3


@pytest.mark.parametrize("biased", [0, 1])
def test_a_half_without_bias_beside_one_that_has_it_gets_zeros(biased):
    halves = [make_half(3, 5, k, bias=k == biased, go_backwards=k == 1) for k in range(2)]
    layer = make_layer(*halves)
    model = lstmconv.to_onnx(layer)
    assert not initializer(model, "lstm.B")[1 - biased].any()
    check(halves, layer, model)


# Activations


@pytest.mark.parametrize(
    ("activation", "tolerance"),
    [
        (TANH, FLOAT32_NOISE),
        (SIGMOID, FLOAT32_NOISE),
        (LINEAR, UNBOUNDED_NOISE),
        (RELU, UNBOUNDED_NOISE),
        (LEAKY, UNBOUNDED_NOISE),
        (THRESHOLDED, UNBOUNDED_NOISE),
        (HARD_SIGMOID_KERAS_2, FLOAT32_NOISE),
        (HARD_SIGMOID_KERAS_3, FLOAT32_NOISE),
        (Activation("elu", (("alpha", 0.7),)), UNBOUNDED_NOISE),
        (Activation("celu", (("alpha", 1.0),)), UNBOUNDED_NOISE),
        (Activation("softplus"), UNBOUNDED_NOISE),
        (Activation("softsign"), FLOAT32_NOISE),
        (Activation("sparse_sigmoid"), FLOAT32_NOISE),
    ],
    ids=str,
)
def test_every_activation_that_onnx_has_is_exact(activation, tolerance):
    half = make_half(3, 5, scale=0.3, activation=activation)
    layer = make_layer(half)
    check([half], layer, lstmconv.to_onnx(layer, states=True), states=True, tolerance=tolerance)


@pytest.mark.parametrize("recurrent", [HARD_SIGMOID_KERAS_2, HARD_SIGMOID_KERAS_3])
def test_the_two_hard_sigmoids_are_told_apart(recurrent):
    half = make_half(recurrent_activation=recurrent)
    layer = make_layer(half)
    model = lstmconv.to_onnx(layer)
    found = attributes(lstm_nodes(model)[0])
    alpha = {HARD_SIGMOID_KERAS_2: 0.2, HARD_SIGMOID_KERAS_3: 1 / 6}[recurrent]
    assert found["activation_alpha"] == pytest.approx([alpha], rel=1e-7)
    assert found["activation_beta"] == [0.5]
    check([half], layer, model)


def test_trap_34_alphas_are_consumed_by_the_activations_that_use_them_in_both_directions():
    """Sigmoid and Tanh take none: positional lists would hand HardSigmoid the wrong number, Affine zero."""
    halves = [
        make_half(3, 5, 1, scale=0.3, activation=LINEAR, recurrent_activation=HARD_SIGMOID_KERAS_2),
        make_half(3, 5, 2, scale=0.3, activation=LEAKY, recurrent_activation=HARD_SIGMOID_KERAS_3, go_backwards=True),
    ]
    layer = make_layer(*halves)
    model = lstmconv.to_onnx(layer, states=True)
    found = attributes(lstm_nodes(model)[0])
    assert found["activations"] == [b"HardSigmoid", b"Affine", b"Affine", b"HardSigmoid", b"LeakyRelu", b"LeakyRelu"]
    assert found["activation_alpha"] == pytest.approx([0.2, 1.0, 1.0, 1 / 6, 0.2, 0.2], rel=1e-7)
    assert found["activation_beta"] == [0.5, 0.0, 0.0, 0.5]
    check(halves, layer, model, states=True, tolerance=UNBOUNDED_NOISE)


def test_trap_34_a_plain_half_beside_one_with_alphas_takes_none_of_them():
    halves = [
        make_half(3, 5, 1),
        make_half(3, 5, 2, recurrent_activation=HARD_SIGMOID_KERAS_3, go_backwards=True),
    ]
    layer = make_layer(*halves)
    model = lstmconv.to_onnx(layer)
    found = attributes(lstm_nodes(model)[0])
    assert found["activations"] == [b"Sigmoid", b"Tanh", b"Tanh", b"HardSigmoid", b"Tanh", b"Tanh"]
    assert len(found["activation_alpha"]) == 1
    check(halves, layer, model)


@pytest.mark.parametrize(
    "activation",
    [
        Activation("gelu", (("approximate", 0.0),)),
        Activation("silu"),
        Activation("selu"),
        Activation("exponential"),
        Activation("softmax"),
        Activation("relu", (("negative_slope", 0.0), ("max_value", 6.0), ("threshold", 0.0))),
        Activation("relu", (("negative_slope", 0.1), ("max_value", float("inf")), ("threshold", 0.5))),
        Activation("celu", (("alpha", 0.5),)),
        Activation("mish"),
    ],
    ids=str,
)
@pytest.mark.parametrize("where", ["activation", "recurrent_activation"])
def test_an_activation_that_onnx_lacks_is_refused_by_name_with_the_way_out(activation, where):
    halves = [make_half(3, 5, 1), make_half(3, 5, 2, go_backwards=True, **{where: activation})]
    with pytest.raises(UnsupportedModelError, match=rf"lstm: .*{activation.name}.*torch") as caught:
        lstmconv.to_onnx(make_layer(*halves))
    assert "\n" not in str(caught.value)


def test_an_unknown_activation_is_refused():
    with pytest.raises(UnsupportedModelError):
        lstmconv.to_onnx(make_layer(make_half(activation=None)))


# Operator sets, dtypes, size


@pytest.mark.parametrize("opset", [11, 13, 14, 18, 22])
def test_every_opset_from_11_runs(opset):
    halves = make_halves(recurrent_activation=HARD_SIGMOID_KERAS_2)
    layer = make_layer(*halves, merge_mode="ave")
    model = lstmconv.to_onnx(layer, opset=opset, states=True, lengths=True)
    assert model.opset_import[0].version == opset
    check(halves, layer, model, states=True, lengths=[7, 0, 3, 1])


def test_the_newest_opset_passes_the_checker():
    """ONNX Runtime may be older than onnx, so it is not asked to run it."""
    newest = onnx.defs.onnx_opset_version()
    layer = make_layer(*make_halves(), zero_output_for_mask=False, return_sequences=True)
    model = lstmconv.to_onnx(layer, opset=newest, states=True, lengths=True)
    assert model.opset_import[0].version == newest
    onnx.checker.check_model(model, full_check=True)


def test_trap_36_the_default_opset_and_ir_version_are_old_enough_for_any_runtime():
    model = lstmconv.to_onnx(make_layer(make_half()))
    assert model.opset_import[0].version == 14
    assert model.ir_version == 7


@pytest.mark.parametrize("opset", [7, 10, 10_000])
def test_an_opset_that_does_not_fit_is_refused(opset):
    with pytest.raises(UsageError, match=rf"opset {opset}.*11 to"):
        lstmconv.to_onnx(make_layer(make_half()), opset=opset)


def test_bfloat16_needs_opset_22():
    layer = make_layer(make_half(dtype=ml_dtypes.bfloat16))
    with pytest.raises(UsageError, match=r"opset 21.*22 to .* for bfloat16"):
        lstmconv.to_onnx(layer, opset=21)
    model = lstmconv.to_onnx(layer)
    assert model.opset_import[0].version == 22
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_weights_keep_their_bits_in_every_dtype(dtype):
    half = make_half(3, 2, dtype=dtype if dtype != "bfloat16" else ml_dtypes.bfloat16)
    written = initializer(lstmconv.to_onnx(make_layer(half)), "lstm.W")
    assert written.dtype == half.kernel.dtype
    np.testing.assert_array_equal(written[0], half.kernel.reshape(3, 4, 2)[:, [0, 3, 1, 2]].reshape(3, 8).T)


def test_float16_runs_in_onnx_runtime():
    half = make_half(dtype="float16")
    layer = make_layer(half)
    check([half], layer, lstmconv.to_onnx(layer), tolerance=5e-3)  # eps of float16 is 1e-3; inputs are rounded too


@pytest.mark.parametrize("halves", [[make_half(dtype="float64")], make_halves(dtype="float64")], ids=["f", "b"])
def test_trap_35_float64_is_exact_in_the_reference_evaluator_where_it_can_be_trusted(halves):
    layer = make_layer(*halves)
    model = lstmconv.to_onnx(layer, states=True)
    x, states = make_inputs(sizes=[5] * len(halves))
    found = ReferenceEvaluator(model).run(["lstm.y"], feeds_for(model, x, states))[0]
    np.testing.assert_allclose(found, expected(halves, x, states)[0][0], rtol=0, atol=FLOAT64_NOISE)


@pytest.mark.parametrize(
    ("layers", "refused"),
    [
        ({"lstm": HARD_SIGMOID_KERAS_2}, {"lstm"}),
        ({"lstm": SIGMOID}, set()),
        ({"lstm": SIGMOID, "lstm_1": HARD_SIGMOID_KERAS_2}, {"lstm_1"}),
    ],
    ids=["hard_sigmoid", "sigmoid", "both"],
)
def test_trap_35_the_reference_evaluator_never_judges_a_layer_whose_activations_it_ignores(tmp_path, layers, refused):
    made = [
        make_layer(make_half(3, 5, k, "float64", recurrent_activation=activation), name=name)
        for k, (name, activation) in enumerate(layers.items())
    ]
    checkpoint = make_checkpoint(*made)
    target = tmp_path / "m.onnx"
    lstmconv.save(checkpoint, target)
    report = verified(checkpoint, target)
    assert {check.layer for check in report.checks if check.status == "not run"} == refused
    assert not report.failures


def test_dtype_rounds_once():
    half = make_half(3, 2, dtype="float64")
    written = initializer(lstmconv.to_onnx(make_layer(half), dtype="float16"), "lstm.R")
    np.testing.assert_array_equal(
        written[0], half.recurrent.reshape(2, 4, 2)[:, [0, 3, 1, 2]].reshape(2, 8).T.astype(np.float16)
    )


def test_weights_over_the_limit_lie_in_a_file_beside_the_model(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_format, "_EXTERNAL_BYTES", 1000)
    halves = make_halves(7, 11)
    layer = make_layer(*halves)
    checkpoint = make_checkpoint(layer)
    paths = lstmconv.save(checkpoint, tmp_path / "big.onnx")
    assert [path.name for path in paths] == ["big.onnx", "big.onnx.data"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big.onnx", "big.onnx.data"]
    bare = onnx.load(tmp_path / "big.onnx", load_external_data=False)
    external = [entry for entry in bare.graph.initializer if entry.data_location == onnx.TensorProto.EXTERNAL]
    locations = {record.value for entry in external for record in entry.external_data if record.key == "location"}
    assert locations == {"big.onnx.data"}
    onnx.checker.check_model(str(tmp_path / "big.onnx"))
    x, _ = make_inputs(7)
    ready = onnxruntime.InferenceSession(tmp_path / "big.onnx", providers=["CPUExecutionProvider"])
    found = ready.run(["lstm.y"], {"lstm.x": x.astype(np.float32)})[0]
    np.testing.assert_allclose(found, expected(halves, x)[0][0], rtol=0, atol=FLOAT32_NOISE)
    assert verified(checkpoint, tmp_path / "big.onnx").passed


def test_two_layers_run_each_with_its_own_numbers():
    halves = [make_half(3, 5, 1), make_half(3, 5, 2)]
    layers = [make_layer(half, name=name) for half, name in zip(halves, ("lstm", "lstm_1"), strict=True)]
    model = lstmconv.to_onnx(make_checkpoint(*layers))
    x, _ = make_inputs()
    fed = {f"{name}.x": x.astype(np.float32) for name in ("lstm", "lstm_1")}
    ready = session(model)
    for half, name in zip(halves, ("lstm", "lstm_1"), strict=True):
        found = ready.run([f"{name}.y"], fed)[0]
        np.testing.assert_allclose(found, expected([half], x)[0][0], rtol=0, atol=FLOAT32_NOISE)


COMBINATIONS = list(
    itertools.product([True, False], [True, False], [True, False], ["equal", "unequal", "unbiased", "swapped"])
)


@pytest.mark.parametrize(("sequences", "lengths", "states", "kind"), COMBINATIONS)
def test_every_combination_that_is_written_is_proved(tmp_path, sequences, lengths, states, kind):
    """The proof of lstmconv itself agrees with ONNX Runtime for every shape of graph."""
    halves = {
        "equal": make_halves(),
        "unequal": [make_half(3, 5, 1), make_half(3, 2, 2, go_backwards=True)],
        "unbiased": [make_half(3, 5, 1), make_half(3, 5, 2, bias=False, go_backwards=True)],
        "swapped": [make_half(3, 5, 1, go_backwards=True), make_half(3, 5, 2)],
    }[kind]
    layer = make_layer(*halves, return_sequences=sequences, zero_output_for_mask=sequences)
    assert isinstance(layer, LSTMLayer)
    checkpoint = make_checkpoint(layer)
    onnx_format.write(checkpoint, tmp_path / "m.onnx", WriteOptions(states=states, lengths=lengths))
    report = verified(checkpoint, tmp_path / "m.onnx")
    report.raise_for_failure()
    assert report.complete
