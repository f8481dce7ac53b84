"""Whole models in ONNX: what the graph says, and that ONNX Runtime computes from it what Keras computes."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import lstmconv
from lstmconv.activations import LINEAR, TANH, Activation
from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.formats import WriteOptions, open_file
from lstmconv.formats import onnx as onnx_format
from lstmconv.model import (
    Call,
    GRUDirection,
    Input,
    LSTMLayer,
    Model,
    RecurrentLayer,
    SimpleRNNDirection,
    Stack,
    Tensor,
    TimeDistributed,
    kinds,
)
from lstmconv.runtimes import session as session_of
from lstmconv.semantics.graph import run_model, state_slots, stateful_calls
from tests.contract.building import FLOAT32_NOISE, bits, expected, make_checkpoint, make_half, make_halves, make_layer

T = Tensor
MASK = np.array(
    [
        [True, True, True, True, True, True, True],
        [True, True, True, False, False, False, False],
        [False, False, False, False, True, True, True],
        [False, True, False, False, True, True, False],
        [False, False, False, False, False, False, False],
    ]
)
"""Whole, padded right, padded left, with holes, all masked."""


def numbers(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


SEQUENCE = Input("x", (None, None, 3))


def chain(*layers, inputs=(SEQUENCE,), masks=()):
    """Make a model of layers that each read the one before; recurrent ones under ``masks``."""
    calls, last = [], T(inputs[0].name)
    for layer in layers:
        own = masks if isinstance(layer, LSTMLayer | RecurrentLayer | Stack) else ()
        calls.append(Call(layer.name, layer, (last,), masks=own))
        last = T(layer.name)
    return Model("model", tuple(inputs), tuple(calls), {last.source: last})


def session(proto):
    onnx.checker.check_model(proto, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(model, feeds, **options):
    """Return all outputs by name."""
    ready = session(onnx_format.build_model(model, WriteOptions(**options)))
    return dict(zip([entry.name for entry in ready.get_outputs()], ready.run(None, feeds), strict=True))


def dense(name="dense", rows=5, columns=2, activation=LINEAR):
    return kinds.Dense(name, numbers(rows, columns), numbers(columns), activation)


# Masks


@pytest.mark.parametrize("zero_output", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("form", ["forward", "backward", "both", "backward first", "unequal"])
def test_a_masked_lstm_computes_what_keras_loop_computes(form, sequences, zero_output):
    """Any mask, with initial states, and the final states of rows that are masked whole."""
    halves = {
        "forward": [make_half(3, 5)],
        "backward": [make_half(3, 5, go_backwards=True)],
        "both": make_halves(3, 5),
        "backward first": make_halves(3, 5)[::-1],
        "unequal": [make_half(3, 5), make_half(3, 2, go_backwards=True)],
    }[form]
    layer = make_layer(*halves, return_sequences=sequences, return_state=True, zero_output_for_mask=zero_output)
    names = [f"s{index}" for index in range(2 * len(halves))]
    sizes = [half.hidden for half in halves for _ in "hc"]
    inputs = (
        Input("x", (None, None, 3)),
        Input("mask", (None, None), "bool"),
        *(Input(name, (None, size)) for name, size in zip(names, sizes, strict=True)),
    )
    call = Call("lstm", layer, (T("x"),), tuple(map(T, names)), (T("mask"),))
    model = Model("model", inputs, (call,), {f"y{k}": T("lstm", k) for k in range(1 + len(names))})
    x, states = numbers(5, 7, 3), [numbers(5, size, seed=k) for k, size in enumerate(sizes)]
    found = run(model, {"x": x, "mask": MASK, **dict(zip(names, states, strict=True))})
    outputs, finals = expected(halves, x.astype(np.float64), states, MASK, sequences=sequences, zero_output=zero_output)
    for got, want in zip(found.values(), [*outputs, *finals], strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=FLOAT32_NOISE)


def test_masked_layers_need_no_loop_and_share_what_the_mask_says():
    layers = [make_layer(*make_halves(3, 5), name="a"), make_layer(make_half(10, 2), name="b")]
    inputs = (Input("x", (None, 7, 3)), Input("mask", (None, 7), "bool"))
    proto = onnx_format.build_model(chain(*layers, inputs=inputs, masks=(T("mask"),)), WriteOptions())
    operators = [node.op_type for node in proto.graph.node]
    assert not {"Loop", "Scan", "If"} & set(operators)
    assert operators.count("LSTM") == 2
    assert operators.count("TopK") == 1


def test_the_layers_of_a_stack_that_runs_backwards_take_the_mask_in_the_order_of_their_steps():
    first, second = make_half(3, 5, go_backwards=True), make_half(5, 2, seed=1)
    stack = Stack("rnn", (make_layer(first, name="c0"), make_layer(second, name="c1")))
    inputs = (Input("x", (None, None, 3)), Input("mask", (None, None), "bool"))
    x = numbers(5, 7, 3)
    found = run(chain(stack, inputs=inputs, masks=(T("mask"),)), {"x": x, "mask": MASK})["rnn"]
    below = expected([first], x.astype(np.float64), None, MASK)[0][0]
    above = expected([second], below, None, MASK[:, ::-1])[0][0]
    np.testing.assert_allclose(found, above, rtol=0, atol=FLOAT32_NOISE)


# States


def test_step_by_step_with_states_equals_the_sequence():
    layers = [make_layer(make_half(3, 5), name="a"), make_layer(make_half(5, 2), name="b"), dense(rows=2, columns=3)]
    model = chain(*layers)
    x = numbers(4, 7, 3)
    whole = run(model, {"x": x})["dense"]
    ready = session(onnx_format.build_model(model, WriteOptions(states=True)))
    names = [entry.name for entry in ready.get_inputs()]
    assert names == ["x", "a.initial_h", "a.initial_c", "b.initial_h", "b.initial_c"]
    assert [entry.name for entry in ready.get_outputs()] == ["dense", "a.h", "a.c", "b.h", "b.c"]
    states = [np.zeros((1, 4, size), np.float32) for size in (5, 5, 2, 2)]
    for step in range(7):
        y, *states = ready.run(None, dict(zip(names, [x[:, step : step + 1], *states], strict=True)))
        np.testing.assert_allclose(y[:, 0], whole[:, step], rtol=0, atol=FLOAT32_NOISE)


def test_stateful_layers_have_states_and_others_none():
    half = make_half(3, 5)
    layers = [make_layer(half, stateful=True), make_layer(make_half(5, 2), name="free")]
    model = chain(*layers, inputs=(Input("x", (2, 7, 3)),))
    x, (h, c) = numbers(2, 7, 3), numbers(2, 2, 5)
    found = run(model, {"x": x, "lstm.initial_h": h[None], "lstm.initial_c": c[None]})
    assert list(found) == ["free", "lstm.h", "lstm.c"]
    _, finals = expected([half], x.astype(np.float64), [h, c])
    for got, want in zip((found["lstm.h"], found["lstm.c"]), finals, strict=True):
        np.testing.assert_allclose(got[0], want, rtol=0, atol=FLOAT32_NOISE)


def test_states_are_named_as_the_reference_names_them():
    layers = [
        make_layer(*make_halves(3, 5), name="both"),
        make_layer(make_half(10, 5), make_half(10, 2, go_backwards=True), name="unequal"),
        RecurrentLayer(
            "gru", replace(gru(7, 3), reset_after=False, bias_hh=None), gru(7, 3, backwards=True), return_sequences=True
        ),
    ]
    model = chain(*layers)
    proto = onnx_format.build_model(model, WriteOptions(states=True))
    slots = [slot for call in stateful_calls(model, every=True) for slot in state_slots(call)]
    assert {entry.name for entry in proto.graph.input} == {"x", *(slot.initial for slot in slots)}
    assert {entry.name for entry in proto.graph.output} == {"gru", *(slot.final for slot in slots)}
    random = np.random.default_rng(5)
    states = {slot.initial: random.normal(size=(len(slot.halves), 4, slot.hidden)) for slot in slots}
    x = numbers(4, 7, 3)
    want = run_model(model, {"x": x}, states)
    found = run(model, {"x": x, **{name: state.astype(np.float32) for name, state in states.items()}}, states=True)
    for name, value in found.items():
        np.testing.assert_allclose(value, want[name], rtol=0, atol=FLOAT32_NOISE, err_msg=name)


def test_a_stateful_layer_that_is_called_twice_is_refused():
    layer = make_layer(make_half(3, 5), stateful=True)
    calls = (Call("lstm", layer, (T("x"),)), Call("lstm:1", layer, (T("x"),)))
    model = Model("model", (Input("x", (2, 7, 3)),), calls, {"y": T("lstm:1")})
    assert "lstm: stateful, and called twice" in str(onnx_format.obstacle_of_model(model, WriteOptions()))


def test_states_that_the_model_wires_stay_wired():
    encoder = make_layer(make_half(3, 5), name="encoder", return_sequences=False, return_state=True)
    decoder = make_layer(make_half(2, 5, seed=1), name="decoder")
    calls = (
        Call("encoder", encoder, (T("x"),)),
        Call("decoder", decoder, (T("z"),), (T("encoder", 1), T("encoder", 2))),
    )
    model = Model("model", (Input("x", (None, None, 3)), Input("z", (None, None, 2))), calls, {"y": T("decoder")})
    proto = onnx_format.build_model(model, WriteOptions(states=True))
    assert [entry.name for entry in proto.graph.input] == ["x", "z", "encoder.initial_h", "encoder.initial_c"]


# Names, dimensions, types


def test_open_dimensions_are_dynamic_and_fixed_ones_fixed():
    def sizes(*inputs):
        first = T(inputs[0].name)
        model = Model("m", inputs, (Call("i", kinds.Identity("i", "Dropout"), (first,)),), {"i": T("i")})
        proto = onnx_format.build_model(model, WriteOptions())
        return [[d.dim_param or d.dim_value for d in e.type.tensor_type.shape.dim] for e in proto.graph.input]

    assert sizes(Input("x", (None, 7, 3))) == [["batch", 7, 3]]
    assert sizes(Input("x", (2, None, 3))) == [[2, "time", 3]]
    assert sizes(Input("x", (None, None, 3)), Input("z", (None, None))) == [
        ["batch", "x.time", 3],
        ["batch", "z.time"],
    ]


def test_an_output_says_which_open_dimensions_are_the_inputs():
    proto = onnx_format.build_model(chain(make_layer(*make_halves(3, 5)), dense(rows=10)), WriteOptions())
    sizes = proto.graph.output[0].type.tensor_type.shape.dim
    assert [size.dim_param or size.dim_value for size in sizes] == ["batch", "time", 2]


def test_inputs_outputs_and_weights_of_the_same_names_stay_apart():
    """Inputs keep Keras' names; what would have the same name gets a number."""
    kernel = numbers(3, 5)
    layer = kinds.Dense("dense", kernel)
    inputs = (Input("dense.kernel", (None, 3)), Input("dense.product", (None, 5)))
    calls = (
        Call("dense", layer, (T("dense.kernel"),)),
        Call("add", kinds.Merge("add", "add"), (T("dense"), T("dense.product"))),
    )
    outputs = {"dense.kernel": T("add"), "dense": T("dense"), "again": T("dense"), "dense.product": T("dense.product")}
    x, z = numbers(2, 3), numbers(2, 5, seed=1)
    found = run(Model("m", inputs, calls, outputs), {"dense.kernel": x, "dense.product": z})
    assert list(found) == ["dense.kernel_1", "dense", "again", "dense.product_1"]
    np.testing.assert_allclose(found["dense.kernel_1"], x @ kernel + z, rtol=0, atol=FLOAT32_NOISE)
    np.testing.assert_array_equal(found["dense.product_1"], z)


def test_an_output_of_an_inputs_name_is_returned_by_keras_name(tmp_path):
    path = tmp_path / "model.onnx"
    calls = (Call("twice", kinds.Merge("twice", "add"), (T("x"), T("x"))),)
    model = Model("m", (Input("x", (None, 3)),), calls, {"x": T("twice"), "x_1": T("x")})
    path.write_bytes(onnx_format.build_model(model, WriteOptions()).SerializeToString())
    loaded, x = session_of(open_file(path)).load_model(), numbers(2, 3)
    found = loaded.compute({"x": x})
    assert list(found) == ["x", "x_1"]
    np.testing.assert_array_equal(found["x"], x + x)
    np.testing.assert_array_equal(found["x_1"], x)


def test_token_ids_are_int64_and_what_else_reads_numbers_is_float():
    table = kinds.Embedding("embedding", numbers(11, 3))
    ids = Input("ids", (None, 7), "float32")
    proto = onnx_format.build_model(chain(table, inputs=(ids,)), WriteOptions())
    assert proto.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.INT64
    both = (*chain(table, inputs=(ids,)).calls, Call("dense", dense(rows=7), (T("ids"),)))
    model = Model("m", (ids,), both, {"a": T("embedding"), "b": T("dense")})
    x = np.array([[0, 1, 2, 3, 4, 5, 10]], np.float32)
    np.testing.assert_array_equal(run(model, {"ids": x})["a"], table.table[x.astype(int)])


def test_calls_of_one_layer_share_its_weights():
    layer = dense(rows=3, columns=3)
    calls = (Call("dense", layer, (T("x"),)), Call("dense:1", layer, (T("dense"),)))
    model = Model("m", (Input("x", (None, 3)),), calls, {"y": T("dense:1")})
    proto = onnx_format.build_model(model, WriteOptions())
    assert sorted(entry.name for entry in proto.graph.initializer) == ["dense.bias", "dense.kernel"]
    x = numbers(2, 3)
    want = (x @ layer.kernel + layer.bias) @ layer.kernel + layer.bias
    np.testing.assert_allclose(run(model, {"x": x})["y"], want, rtol=0, atol=FLOAT32_NOISE)


@pytest.mark.parametrize("opset", [13, 17, 18, onnx.defs.onnx_opset_version()])
def test_every_operator_set_computes_the_same(opset):
    """Reduce nodes take their axes otherwise from 18 on."""
    layers = [
        kinds.LayerNormalization("norm", numbers(3), numbers(3)),
        make_layer(make_half(3, 5)),
        kinds.GlobalPooling("mean", "average"),
        dense(activation=Activation("sparsemax")),
    ]
    x = numbers(4, 7, 3)
    inputs = (Input("x", (None, 7, 3)), Input("mask", (None, 7), "bool"))
    model = chain(*layers, inputs=inputs, masks=(T("mask"),))
    feeds = {"x": x, "mask": MASK[:4]}
    np.testing.assert_allclose(run(model, feeds, opset=opset)["dense"], run(model, feeds)["dense"], rtol=0, atol=1e-6)


def test_an_operator_set_that_does_not_hold_the_model_is_refused():
    with pytest.raises(UsageError, match=r"opset 12 does not fit: expected 13 to .* for a whole model"):
        onnx_format.build_model(chain(dense(rows=3)), WriteOptions(opset=12))


def test_dtypes_are_the_weights_or_what_is_asked_for():
    model = chain(make_layer(make_half(3, 5)), dense())
    x = numbers(2, 7, 3)
    assert run(model, {"x": x})["dense"].dtype == np.float32
    half = run(model, {"x": x.astype(np.float16)}, dtype="float16")["dense"]
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, run(model, {"x": x})["dense"], rtol=0, atol=0.02)
    exact = run(chain(dense(rows=3, activation=TANH)), {"x": x.astype(np.float64)}, dtype="float64")["dense"]
    assert exact.dtype == np.float64


@pytest.mark.parametrize(("dtype", "reason"), [("float64", "lstm.*no LSTM in float64"), ("bfloat16", "bfloat16")])
def test_a_dtype_that_onnx_runtime_cannot_compute_is_refused(dtype, reason):
    model = chain(make_layer(make_half(3, 5)), dense())
    options = WriteOptions(dtype=dtype)
    assert onnx_format.obstacle_of_model(model, options) is not None
    with pytest.raises(UnsupportedModelError, match=reason):
        onnx_format.build_model(model, options)


def test_a_model_of_several_dtypes_asks_for_one():
    model = chain(make_layer(make_half(3, 5, dtype="float64")), dense())
    assert "float32 and float64; choose one with --dtype" in str(onnx_format.obstacle_of_model(model, WriteOptions()))
    assert onnx_format.obstacle_of_model(model, WriteOptions(dtype="float32")) is None


def test_unknown_layers_and_activations_are_named():
    strange = kinds.Unknown("odd", "my>Odd", "it is of the user's own", {})
    assert onnx_format.obstacle_of_model(chain(dense(rows=3), strange), WriteOptions()) is not None
    assert "odd: my>Odd" in str(onnx_format.obstacle_of_model(chain(dense(rows=3), strange), WriteOptions()))
    silu = make_layer(make_half(3, 5, activation=Activation("silu")))
    assert "lstm: ONNX' LSTM has no silu" in str(onnx_format.obstacle_of_model(chain(silu), WriteOptions()))


def test_a_step_of_time_distributed_is_a_sample():
    inner = Model(
        "inner", (Input("step", (None, 5, 3)),), (Call("inner", make_layer(make_half(3, 5), name="inner",
        return_sequences=False), (T("step"),)),), {"y": T("inner")}
    )  # fmt: skip
    for shape in ((None, 7, 5, 3), (None, None, 5, 3)):
        model = chain(TimeDistributed("each", inner), inputs=(Input("x", shape),))
        x = numbers(2, 7, 5, 3)
        want = expected([make_half(3, 5)], x.reshape(14, 5, 3).astype(np.float64), sequences=False)[0][0]
        np.testing.assert_allclose(run(model, {"x": x})["each"], want.reshape(2, 7, 5), rtol=0, atol=FLOAT32_NOISE)


def test_layers_of_one_name_inside_and_outside_of_time_distributed_keep_their_own_weights():
    inside, outside = dense(rows=3, columns=3), kinds.Dense("dense", 2 * numbers(3, 3))
    inner = Model("inner", (Input("step", (None, 3)),), (Call("dense", inside, (T("step"),)),), {"y": T("dense")})
    model = chain(TimeDistributed("each", inner), outside)
    x = numbers(2, 7, 3)
    want = (x @ inside.kernel + inside.bias) @ outside.kernel
    np.testing.assert_allclose(run(model, {"x": x})["dense"], want, rtol=0, atol=FLOAT32_NOISE)


# Files


def gru(features, hidden, seed=0, *, backwards=False):
    return GRUDirection(
        numbers(3, hidden, features, seed=seed),
        numbers(3, hidden, hidden, seed=seed),
        numbers(3, hidden, seed=seed),
        numbers(3, hidden, seed=seed + 1),
        reset_after=True,
        go_backwards=backwards,
    )


def simple(features, hidden, seed=0, *, backwards=False):
    arrays = [numbers(hidden, features, seed=seed), numbers(hidden, hidden, seed=seed), numbers(hidden, seed=seed)]
    return SimpleRNNDirection(*arrays, go_backwards=backwards)


def every_layer():
    """List layers of every kind that holds arrays, with the shape that each takes; some sizes are square."""
    attention = kinds.MultiHeadAttention(
        "heads", numbers(5, 2, 3), numbers(5, 2, 3), numbers(5, 2, 7), numbers(2, 7, 5),
        numbers(2, 3), numbers(2, 3), numbers(2, 7), numbers(5),
    )  # fmt: skip
    steps = (None, 7, 5)
    return [
        (kinds.Dense("dense", numbers(5, 5), numbers(5)), steps),
        (kinds.Embedding("embedding", numbers(11, 3)), (None, 7)),
        (kinds.PReLU("prelu", numbers(7, 5)), steps),
        (kinds.Convolution("conv", numbers(3, 5, 2), numbers(2)), steps),
        (kinds.Convolution("cube", numbers(3, 3, 3, 3), strides=(1, 1), dilation=(1, 1)), (None, 7, 7, 3)),
        (kinds.TransposedConvolution("turned", numbers(5, 5, 5), numbers(5)), steps),
        (kinds.BatchNormalization("batch", numbers(5), numbers(5) ** 2, numbers(5), numbers(5)), steps),
        (kinds.LayerNormalization("norm", numbers(5), numbers(5)), steps),
        (kinds.Normalization("scale", numbers(1, 1, 5), numbers(1, 1, 5) ** 2), steps),
        (attention, steps),
        (make_layer(*make_halves(5, 3), name="lstm"), steps),
        (make_layer(*make_halves(5, 3)[::-1], name="backward_first"), steps),
        (make_layer(make_half(5, 3), make_half(5, 2, go_backwards=True), name="unequal"), steps),
        (RecurrentLayer("gru", gru(5, 3), gru(5, 3, 1, backwards=True), return_sequences=True), steps),
        (RecurrentLayer("turned_gru", gru(5, 3, backwards=True), gru(5, 3, 1)), steps),
        (RecurrentLayer("rnn", simple(5, 3), simple(5, 2, 1, backwards=True)), steps),
    ]


def one_model():
    inputs, calls, outputs = [], [], {}
    for layer, shape in every_layer():
        inputs.append(Input(f"{layer.name}_in", shape))
        given = (T(inputs[-1].name),) * (2 if isinstance(layer, kinds.MultiHeadAttention) else 1)
        calls.append(Call(layer.name, layer, given))
        outputs[layer.name] = T(layer.name)
    return Model("every", tuple(inputs), tuple(calls), outputs)


@pytest.mark.parametrize("beside", [False, True])
def test_every_array_is_decoded_bit_for_bit(tmp_path, monkeypatch, beside):
    if beside:
        monkeypatch.setattr(onnx_format, "_EXTERNAL_BYTES", 0)
    path = tmp_path / "every.onnx"
    model = one_model()
    checkpoint = make_checkpoint(make_layer(make_half()), model=model)
    written = onnx_format.write(checkpoint, path, WriteOptions(whole=True))
    assert [file.name for file in written] == (["every.onnx", "every.onnx.data"] if beside else ["every.onnx"])
    found = session_of(open_file(path)).decode_model(model.layers)
    assert sorted(found) == sorted(layer.name for layer in model.layers)
    for layer in model.layers:
        if isinstance(layer, kinds.Kind):
            assert sorted(found[layer.name]) == sorted(layer.arrays)
            pairs = [(found[layer.name][key], array) for key, array in layer.arrays.items()]
        else:
            keys = ("weight_ih", "weight_hh", "bias_ih")
            pairs = [
                (np.asarray(own[key] if isinstance(own, dict) else getattr(own, key)), np.asarray(getattr(half, key)))
                for own, half in zip(found[layer.name], layer.directions, strict=True)
                for key in keys
            ]
        for got, want in pairs:
            assert got.shape == want.shape
            np.testing.assert_array_equal(bits(got), bits(want), err_msg=layer.name)


def test_a_file_is_loaded_once_and_run_often(tmp_path):
    path = tmp_path / "model.onnx"
    model = chain(dense(rows=3))
    onnx_format.write(make_checkpoint(make_layer(make_half()), model=model), path, WriteOptions(whole=True))
    loaded = session_of(open_file(path)).load_model()
    assert [entry.name for entry in loaded.inputs] == ["x"]
    assert loaded.outputs == ("dense",)
    layer = model.calls[0].layer
    for size, seed in itertools.product((2, 3), (0, 1)):
        x = numbers(size, 7, 3, seed=seed)
        want = x @ layer.kernel + layer.bias
        np.testing.assert_allclose(loaded.compute({"x": x})["dense"], want, rtol=0, atol=FLOAT32_NOISE)


def test_a_whole_file_as_a_source_says_that_its_lstm_layers_alone_are_read(tmp_path):
    source = Path(__file__).parents[1] / "sample_weights" / "airline_passengers.h5"
    lstmconv.convert(source, tmp_path / "m.onnx", whole=True, verify=False)
    lstmconv.convert(source, tmp_path / "alone.onnx", whole=False, verify=False)
    (note,) = lstmconv.load(tmp_path / "m.onnx").notes
    assert "convert airline_passengers.h5 for the whole model" in note
    assert lstmconv.load(tmp_path / "alone.onnx").notes == ()
