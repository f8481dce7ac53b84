"""ONNX graphs that give an LSTM more than its sequence: states, lengths, and sequences turned round."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import lstmconv
from lstmconv.errors import NoLSTMError, UnsupportedModelError

FLOAT32_NOISE = 2e-6
"""Two layers of float32 LSTM over 7 steps, outputs below 1."""

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]
"""torch.onnx announces the end of its older exporter, and that batch sizes were traced."""

BATCH, STEPS, FEATURES, UNITS = 2, 7, 3, 5


class Seq2Seq(nn.Module):
    """A decoder that starts where its encoder ended."""

    def __init__(self):
        super().__init__()
        self.enc = nn.LSTM(FEATURES, UNITS, batch_first=True)
        self.dec = nn.LSTM(UNITS, UNITS, batch_first=True)

    def forward(self, x):
        """Return (batch, time, units)."""
        y, state = self.enc(x)
        return self.dec(y, state)[0]


class Learned(nn.Module):
    """An LSTM whose first states are parameters."""

    def __init__(self, how):
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, UNITS, batch_first=True)
        self.h, self.c = (nn.Parameter(torch.randn(1, 1, UNITS)) for _ in "hc")
        self.how = how

    def forward(self, x):
        """Return (batch, time, units)."""
        sizes = (1, x.shape[0], 1)
        h, c = (
            each.repeat(sizes) if self.how == "repeat" else each.expand(1, x.shape[0], -1) for each in (self.h, self.c)
        )
        return self.lstm(x, (h.contiguous(), c.contiguous()))[0]


class Computed(Learned):
    """An LSTM whose first states a layer computes from its input."""

    def __init__(self):
        super().__init__("")
        self.bridge = nn.Linear(FEATURES, UNITS)

    def forward(self, x):
        """Return (batch, time, units)."""
        h = self.bridge(x[:, 0])[None]
        return self.lstm(x, (h, torch.zeros_like(h)))[0]


class Given(nn.Module):
    """Two LSTMs in one module, whose states are the model's inputs."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, UNITS, num_layers=2)

    def forward(self, x, h, c):
        """Return (time, batch, units), h and c."""
        y, (h, c) = self.lstm(x, (h, c))
        return y, h, c


class Flipped(nn.Module):
    """An LSTM that reads its input turned round on one axis."""

    def __init__(self, axes):
        super().__init__()
        self.lstm, self.axes = nn.LSTM(FEATURES, UNITS, batch_first=True), axes

    def forward(self, x):
        """Return (batch, time, units)."""
        return self.lstm(x.flip(self.axes))[0]


def exported(module, path, *inputs, names=("x",)):
    torch.onnx.export(
        module.eval(),
        inputs or (torch.randn(BATCH, STEPS, FEATURES),),
        path,
        dynamo=False,
        input_names=list(names),
        dynamic_axes={"x": {1: "time"}} if not inputs else None,
    )
    return path


def run(path, **feeds):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return dict(
        zip(names, session.run(None, {key.replace("__", "."): each for key, each in feeds.items()}), strict=True)
    )


def test_a_decoder_is_not_joined_with_the_encoder_that_gives_it_its_states(tmp_path):
    torch.manual_seed(0)
    module = Seq2Seq()
    source = exported(module, tmp_path / "m.onnx")
    checkpoint = lstmconv.load(source)
    assert checkpoint.edges == ()
    assert checkpoint.given_states == {"dec": ("'enc'",)}
    with pytest.raises(UnsupportedModelError, match="nothing to join"):
        lstmconv.convert(source, tmp_path / "m.pt", stack="all")
    result = lstmconv.convert(source, tmp_path / "o.onnx")
    assert "dec: its model starts it from 'enc'; the target takes that state as an input" in result.notes
    x = torch.randn(BATCH, STEPS, FEATURES)
    with torch.no_grad():
        expected, (h, c) = module(x).numpy(), [state.numpy() for state in module.enc(x)[1]]
        between = module.enc(x)[0].numpy()
    zeros = np.zeros((1, BATCH, UNITS), np.float32)
    found = run(
        tmp_path / "o.onnx",
        enc__x=x.numpy(), enc__initial_h=zeros, enc__initial_c=zeros,
        dec__x=between, dec__initial_h=h, dec__initial_c=c,
    )  # fmt: skip
    np.testing.assert_allclose(found["dec.y"], expected, rtol=0, atol=FLOAT32_NOISE)


def test_a_layer_that_gives_a_state_is_not_taken_for_an_input_of_its_name(tmp_path):
    torch.manual_seed(0)
    source = tmp_path / "m.onnx"
    torch.onnx.export(
        Seq2Seq().eval(), (torch.randn(BATCH, STEPS, FEATURES),), source, dynamo=False, input_names=["enc"]
    )
    checkpoint = lstmconv.load(source)
    assert checkpoint.given_states == {"dec": ("'enc'",)}
    assert checkpoint.edges == ()
    with pytest.raises(UnsupportedModelError, match="nothing to join"):
        lstmconv.convert(source, tmp_path / "m.pt", stack="all")


@pytest.mark.parametrize("how", ["repeat", "expand"])
@pytest.mark.parametrize("folded", [True, False])
def test_a_learned_state_is_an_input_of_the_layer_alone(tmp_path, how, folded):
    torch.manual_seed(1)
    module = Learned(how).eval()
    source = tmp_path / "m.onnx"
    x = torch.randn(BATCH, STEPS, FEATURES)
    torch.onnx.export(module, (x,), source, dynamo=False, do_constant_folding=folded, input_names=["x"])
    result = lstmconv.convert(source, tmp_path / "o.onnx")
    assert any("its model starts it from a state stored in the graph" in note for note in result.notes)
    h, c = (each.detach().numpy().repeat(BATCH, 1) for each in (module.h, module.c))
    found = run(tmp_path / "o.onnx", lstm__x=x.numpy(), lstm__initial_h=h, lstm__initial_c=c)
    with torch.no_grad():
        np.testing.assert_allclose(found["lstm.y"], module(x).numpy(), rtol=0, atol=FLOAT32_NOISE)


def test_a_state_that_is_computed_is_named_by_what_computes_it(tmp_path):
    checkpoint = lstmconv.load(exported(Computed(), tmp_path / "m.onnx"))
    ((giver,),) = checkpoint.given_states.values()
    assert "bridge" in giver
    result = lstmconv.convert(tmp_path / "m.onnx", tmp_path / "m.pt", verify=False)
    assert any("takes that state from the caller" in note for note in result.notes)


def test_states_that_were_inputs_stay_inputs_by_default_and_the_layers_join(tmp_path):
    torch.manual_seed(2)
    module = Given()
    state = torch.randn(2, BATCH, UNITS), torch.randn(2, BATCH, UNITS)
    source = exported(module, tmp_path / "m.onnx", torch.randn(STEPS, BATCH, FEATURES), *state, names=("x", "h", "c"))
    lstmconv.convert(source, tmp_path / "o.onnx", stack="all")
    x = torch.randn(BATCH, STEPS, FEATURES)
    names = [each.name for each in onnx.load(tmp_path / "o.onnx").graph.input]
    feeds = {
        name: state["hc".index(name[-1])][[number]].numpy() for number in (0, 1) for name in names[1 + 2 * number :][:2]
    }
    found = run(tmp_path / "o.onnx", **{names[0]: x.numpy()}, **feeds)
    with torch.no_grad():
        expected = module(x.swapaxes(0, 1), *state)[0].swapaxes(0, 1).numpy()
    np.testing.assert_allclose(next(iter(found.values())), expected, rtol=0, atol=FLOAT32_NOISE)


def test_zeros_that_an_exporter_writes_for_the_states_are_no_states(tmp_path):
    checkpoint = lstmconv.load(exported(Flipped([1]), tmp_path / "m.onnx"))
    assert not checkpoint.given_states


@pytest.mark.parametrize(
    ("axes", "backwards"), [([0], False), ([1], True), ([2], False), ([-2], True), ([1, 2], False), ([0, 1], False)]
)
def test_only_a_flip_of_time_is_go_backwards(tmp_path, axes, backwards):
    torch.manual_seed(3)
    module = Flipped(axes)
    (layer,) = lstmconv.load(exported(module, tmp_path / "m.onnx")).layers
    assert layer.go_backwards == backwards
    x = torch.randn(BATCH, STEPS, FEATURES)
    with torch.no_grad():
        expected = module(x).numpy()
    reaches = x if backwards else x.flip(axes)  # What the layer alone reads: the flip is its own, or is not.
    np.testing.assert_allclose(lstmconv.reference(layer, reaches.numpy()), expected, rtol=0, atol=FLOAT32_NOISE)


def with_lengths(path, lengths, steps):
    """Write an LSTM node whose sequence_lens are stored, for X of (steps, 2, 3)."""
    random = np.random.default_rng(4)
    arrays = {
        "W": random.normal(size=(1, 4 * UNITS, FEATURES)).astype("f4"),
        "R": random.normal(size=(1, 4 * UNITS, UNITS)).astype("f4"),
        "L": np.array(lengths, np.int32),
    }
    node = helper.make_node("LSTM", ["X", "W", "R", "", "L"], ["Y"], name="n", hidden_size=UNITS)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [steps, 2, FEATURES])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8), path)
    return path


@pytest.mark.parametrize(("lengths", "steps"), [([3, 3], "t"), ([4, 4], "t"), ([3, 2], 3), ([3, 3], 7), ([5, 5], None)])
def test_lengths_that_the_graph_stores_are_refused_where_they_are_not_all_steps(tmp_path, lengths, steps):
    with pytest.raises(NoLSTMError, match="sequence lengths are stored in the graph"):
        lstmconv.load(with_lengths(tmp_path / "m.onnx", lengths, steps))


def test_stored_lengths_of_all_steps_are_no_mask(tmp_path):
    (layer,) = lstmconv.load(with_lengths(tmp_path / "m.onnx", [7, 7], 7)).layers
    assert not layer.masking


@pytest.mark.parametrize(("lengths", "axis"), [([3, 3], None), ([7, 7], 0)])
def test_a_reversal_of_a_fixed_part_is_not_go_backwards(tmp_path, lengths, axis):
    """ReverseSequence of the first three steps of however many; of all of seven it is go_backwards."""
    path = with_lengths(tmp_path / "m.onnx", [7, 7], 7 if axis == 0 else "t")
    model = onnx.load(path)
    node = model.graph.node[0]
    node.input[0], node.input[4] = "turned", ""
    del node.input[4:]
    turn = helper.make_node("ReverseSequence", ["X", "N"], ["turned"], time_axis=0, batch_axis=1)
    model.graph.node.insert(0, turn)
    model.graph.initializer.append(numpy_helper.from_array(np.array(lengths, np.int64), "N"))
    onnx.save(model, path)
    checkpoint = lstmconv.load(path)
    assert checkpoint.layers[0].go_backwards == (axis == 0)
    assert any("reverses its input" in note for note in checkpoint.notes) == (axis is None)


@pytest.mark.parametrize("sizes", [{"batch_axis": 0, "time_axis": 1}])
def test_a_reversal_of_the_batch_is_not_go_backwards(tmp_path, sizes):
    path = with_lengths(tmp_path / "m.onnx", [7, 7], 7)
    model = onnx.load(path)
    node = model.graph.node[0]
    node.input[0] = "turned"
    del node.input[4:]
    model.graph.node.insert(0, helper.make_node("ReverseSequence", ["X", "N"], ["turned"], **sizes))
    model.graph.initializer.append(numpy_helper.from_array(np.full(7, 2, np.int64), "N"))
    onnx.save(model, path)
    checkpoint = lstmconv.load(path)
    assert not checkpoint.layers[0].go_backwards
    assert not checkpoint.notes
