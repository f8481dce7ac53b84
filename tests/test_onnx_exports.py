"""ONNX graphs that others' exporters wrote: the same weights bit for bit, and the same outputs.

The files are in tests/golden/onnx, with what the framework itself held and returned; see
tests/golden/make_onnx_exports.py.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

import lstmconv
from lstmconv.errors import UnsupportedModelError

FOLDER = Path(__file__).parent / "golden" / "onnx"
FLOAT32_NOISE = 2e-6
"""One or two layers of float32 LSTM over 6 steps, outputs below 1."""
NAMES = sorted(path.stem for path in FOLDER.glob("*.onnx"))
AS_LOOP = {"keras3_hard_sigmoid"}
"""Keras 3's hard_sigmoid becomes a Loop of plain operators: there is no LSTM node to read."""
READ = [name for name in NAMES if name not in AS_LOOP]


def recorded(name):
    with np.load(FOLDER / f"{name}.npz") as arrays:
        weights = [arrays[f"w{k}"] for k in range(len(arrays.files) - 2)]
        return arrays["x"], arrays["y"], weights


def torch_gates(rows):
    """Cut PyTorch's rows into the gates i f g o."""
    return np.stack(np.split(rows, 4))


def keras_gates(columns):
    """Cut Keras' columns (or a bias) into the gates i f c o, one row a unit."""
    return np.stack([block.T for block in np.split(columns, 4, axis=-1)])


def held(direction):
    """Return a direction's matrices and the sum of its biases, or None, with gates first."""
    biases = [np.asarray(bias) for bias in (direction.bias_ih, direction.bias_hh) if bias is not None]
    total = sum(biases[1:], biases[0]) if biases else None
    return np.asarray(direction.weight_ih), np.asarray(direction.weight_hh), total


def test_the_exporters_are_all_here():
    assert {name.split("_")[0] for name in NAMES} == {"torch", "tf2onnx", "keras3"}


@pytest.mark.parametrize("name", READ)
def test_the_weights_are_the_frameworks_own(name):
    checkpoint = lstmconv.load(FOLDER / f"{name}.onnx")
    _, _, weights = recorded(name)
    directions = [half for layer in checkpoint.layers for half in layer.directions]
    biased = "no_bias" not in name
    count = (4 if name.startswith("torch") else 3) if biased else 2
    assert len(weights) == count * len(directions)
    for direction, start in zip(directions, itertools.count(0, count), strict=False):
        own = weights[start : start + count]
        gates = torch_gates if name.startswith("torch") else keras_gates
        weight_ih, weight_hh, bias = held(direction)
        np.testing.assert_array_equal(weight_ih, gates(own[0]))
        np.testing.assert_array_equal(weight_hh, gates(own[1]))
        if biased:
            np.testing.assert_array_equal(bias, gates(own[2]) + (gates(own[3]) if count == 4 else 0))
        else:
            assert bias is None or not bias.any()


@pytest.mark.parametrize("name", READ)
def test_the_layers_compute_what_the_framework_returned(name):
    checkpoint = lstmconv.load(FOLDER / f"{name}.onnx")
    x, y, _ = recorded(name)
    for layer in checkpoint.layers:
        x = lstmconv.reference(layer, x)
    np.testing.assert_allclose(x, y, atol=FLOAT32_NOISE, rtol=0)


@pytest.mark.parametrize("name", [name for name in READ if "stacked" in name])
def test_the_layers_of_a_stack_feed_each_other(name, tmp_path):
    checkpoint = lstmconv.load(FOLDER / f"{name}.onnx")
    first, second = (layer.name for layer in checkpoint.layers)
    assert checkpoint.edges == ((first, second),)
    assert lstmconv.convert(FOLDER / f"{name}.onnx", tmp_path / "m.pt", stack="all").report.passed


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("target", ["m.keras", "m.safetensors", "m.onnx"])
def test_every_exported_model_goes_on(name, target, tmp_path):
    assert lstmconv.convert(FOLDER / f"{name}.onnx", tmp_path / target).report.passed


@pytest.mark.parametrize("name", sorted(AS_LOOP))
def test_a_graph_without_an_lstm_node_is_refused(name):
    with pytest.raises(UnsupportedModelError, match="LSTM"):
        lstmconv.load(FOLDER / f"{name}.onnx")


# Refused by name


def graph(tmp_path, *, inputs=("x", "W", "R"), extra=(), **attributes):
    """Write a model of one LSTM node."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    tensors = {"W": (1, 20, 3), "R": (1, 20, 5), "B": (1, 40), "P": (1, 15)}
    node = helper.make_node("LSTM", list(inputs), ["Y"], name="memory", hidden_size=5, **attributes)
    made = helper.make_graph(
        [node, *extra],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["t", "b", 3])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name)
            for name, shape in tensors.items()
            if name in inputs
        ],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 14)]), path)
    return path


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"inputs": ("x", "W", "R", "", "", "", "", "P")}, "peephole"),
        ({"clip": 3.0}, "clip"),
        ({"input_forget": 1}, "input_forget"),
        ({"activations": ["Sigmoid", "Tanh", "Relu"]}, "Relu"),
        ({"activations": ["ScaledTanh", "Tanh", "Tanh"]}, "ScaledTanh"),
        ({"activations": ["Affine", "Tanh", "Tanh"]}, "Affine"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_no_keras_lstm_computes_is_refused_by_name(tmp_path, options, reason):
    with pytest.raises(UnsupportedModelError, match=rf"(?i){reason}"):
        lstmconv.load(graph(tmp_path, **options))


@pytest.mark.parametrize(
    ("attributes", "activation", "recurrent"),
    [
        ({}, "tanh", "sigmoid"),
        ({"activations": ["HardSigmoid", "Tanh", "Tanh"]}, "tanh", "hard_sigmoid(alpha=0.2, beta=0.5)"),
        (
            {"activations": ["HardSigmoid", "Tanh", "Tanh"], "activation_alpha": [1 / 6], "activation_beta": [0.5]},
            "tanh",
            "hard_sigmoid(alpha=0.1666667, beta=0.5)",
        ),
        (
            {"activations": ["Sigmoid", "LeakyRelu", "LeakyRelu"], "activation_alpha": [0.25, 0.25]},
            "relu(negative_slope=0.25)",
            "sigmoid",
        ),
        ({"activations": ["Sigmoid", "Softsign", "Softsign"]}, "softsign", "sigmoid"),
    ],
)
def test_activations_are_read_with_their_numbers(tmp_path, attributes, activation, recurrent):
    """ONNX Runtime runs the graph; what was read computes the same."""
    import onnxruntime

    path = graph(tmp_path, inputs=("x", "W", "R", "B"), **attributes)
    (layer,) = lstmconv.load(path).layers
    assert (str(layer.activation), str(layer.recurrent_activation)) == (activation, recurrent)
    x = np.random.default_rng(1).normal(size=(7, 2, 3)).astype(np.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x})
    expected = lstmconv.reference(layer, x.swapaxes(0, 1)).swapaxes(0, 1)
    np.testing.assert_allclose(y[:, 0], expected, atol=2e-5, rtol=0)  # LeakyRelu's outputs grow beyond 1.


def test_weights_outside_the_folder_are_not_followed(tmp_path):
    import onnx

    model = onnx.load(graph(tmp_path))
    for place in ("../secret", "/etc/hostname", "a/../../secret"):
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        del tensor.external_data[:]
        tensor.external_data.add(key="location", value=place)
        (tmp_path / "evil.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(lstmconv.UnreadableFileError, match="not followed"):
            lstmconv.load(tmp_path / "evil.onnx")


def test_external_data_beside_the_model_is_read(tmp_path):
    import onnx

    path = graph(tmp_path, inputs=("x", "W", "R", "B"))
    expected = lstmconv.load(path).layers[0]
    onnx.save_model(
        onnx.load(path), tmp_path / "big.onnx", save_as_external_data=True, location="big.data", size_threshold=0
    )
    assert (tmp_path / "big.data").is_file()
    found = lstmconv.load(tmp_path / "big.onnx").layers[0]
    for name, gates in expected.forward.arrays.items():
        np.testing.assert_array_equal(np.asarray(found.forward.arrays[name]), np.asarray(gates))


def test_a_model_in_memory_is_read(tmp_path):
    import onnx

    (layer,) = lstmconv.from_onnx(onnx.load(graph(tmp_path))).layers
    assert (layer.name, layer.input_size, layer.hidden_size) == ("memory", 3, 5)


# Functions of the model's own


def with_functions(tmp_path, opset=14):
    """Write two LSTMs, both calls of one function that slices its weights and takes its activations from the call."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(1)
    lstm = helper.make_node("LSTM", ["seen", "w", "r", "b"], ["y"], name="cell", hidden_size=5)
    for name, kind in (("activations", onnx.AttributeProto.STRINGS), ("direction", onnx.AttributeProto.STRING)):
        lstm.attribute.append(onnx.AttributeProto(name=name, ref_attr_name=name, type=kind))
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
    part = helper.make_function(
        "own",
        "Part",
        ["values", "start"],
        ["part"],
        [
            helper.make_node("Constant", [], ["one"], value_ints=[1]),
            helper.make_node("Add", ["start", "one"], ["stop"]),
            helper.make_node("Slice", ["values", "start", "stop"], ["part"]),
        ],
        opsets,
    )
    block = helper.make_function(
        "own",
        "Block",
        ["seen", "weights", "r", "b"],
        ["out"],
        [
            helper.make_node("Constant", [], ["second"], value_ints=[1]),
            helper.make_node("Part", ["weights", "second"], ["w"], domain="own"),
            lstm,
            helper.make_node("Constant", [], ["axes"], value_ints=[1]),
            helper.make_node("Squeeze", ["y", "axes"], ["out"]),
        ],
        opsets,
        attributes=["activations"],
        attribute_protos=[helper.make_attribute("direction", "forward")],
    )
    calls = [
        helper.make_node(
            "Block", ["x", "W0", "R0", "B0"], ["between"], domain="own", activations=["Sigmoid", "Tanh", "Tanh"]
        ),
        helper.make_node(
            *("Block", ["between", "W1", "R1", "B1"], ["Y"]),
            domain="own",
            activations=["HardSigmoid", "Softsign", "Softsign"],
            direction="reverse",
        ),
    ]
    shapes = {"W0": (2, 20, 3), "R0": (1, 20, 5), "B0": (1, 40), "W1": (2, 20, 5), "R1": (1, 20, 5), "B1": (1, 40)}
    arrays = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    made = helper.make_graph(
        calls,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["t", "b", 3])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    main = [helper.make_opsetid("", 14), helper.make_opsetid("own", 1)]
    path = tmp_path / "functions.onnx"
    onnx.save(helper.make_model(made, functions=[part, block], opset_imports=main, ir_version=8), path)
    return path, arrays


def test_layers_within_functions_compute_what_onnx_runtime_returns(tmp_path):
    import onnxruntime

    path, arrays = with_functions(tmp_path)
    checkpoint = lstmconv.load(path)
    first, second = checkpoint.layers
    assert (first.name, second.name, checkpoint.edges) == ("cell", "cell_1", (("cell", "cell_1"),))
    for layer, number in ((first, 0), (second, 1)):
        kernel = np.concatenate(np.asarray(layer.forward.weight_ih))
        i, o, f, c = np.split(arrays[f"W{number}"][1], 4)
        np.testing.assert_array_equal(kernel, np.concatenate([i, f, c, o]))
    x = np.random.default_rng(2).normal(size=(7, 2, 3)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(path).run(None, {"x": x})
    returned = lstmconv.reference(second, lstmconv.reference(first, x.swapaxes(0, 1)))
    np.testing.assert_allclose(returned[:, ::-1], expected.swapaxes(0, 1), atol=FLOAT32_NOISE, rtol=0)


def test_a_function_in_another_version_of_the_operators_is_named(tmp_path):
    path, _ = with_functions(tmp_path, opset=13)
    with pytest.raises(UnsupportedModelError, match="its function 'Block' is written in another version"):
        lstmconv.load(path)
