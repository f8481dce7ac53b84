"""Models that PyTorch itself exports to ONNX and saves as state dicts, read, compared and converted again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import lstmconv
from lstmconv.errors import UnsupportedModelError

FLOAT32_NOISE = 2e-6
"""Up to three layers of float32 LSTM over 6 steps, outputs below 1."""

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]
"""torch.onnx announces the end of its older exporter, and that batch sizes were traced."""


class Tagger(nn.Module):
    """An LSTM inside a larger module."""

    def __init__(self, **options):
        super().__init__()
        self.embed = nn.Linear(3, 5)
        self.rnn = nn.LSTM(5, 7, batch_first=True, **options)
        self.head = nn.Linear(14 if options.get("bidirectional") else 7, 2)

    def forward(self, x):
        """Tag every step of (batch, time, 3)."""
        return self.head(self.rnn(self.embed(x))[0])


def exported(module, path, **options):
    torch.onnx.export(
        module.eval(),
        (torch.randn(2, 4, 3),),
        path,
        dynamo=False,
        input_names=["x"],
        dynamic_axes={"x": {0: "batch", 1: "time"}},
        **options,
    )
    return path


SHAPES = [
    {},
    {"bias": False},
    {"num_layers": 2},
    {"num_layers": 3, "dropout": 0.3},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True},
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("options", [{}, {"do_constant_folding": False}, {"opset_version": 9}], ids=str)
def test_what_torch_exports_comes_back_as_its_own_state_dict(tmp_path, shape, options):
    """Export, read the graph, join its layers, load strictly into a new nn.LSTM: the same parameters."""
    torch.manual_seed(0)
    module = Tagger(**shape)
    source = exported(module, tmp_path / "m.onnx", **options)
    result = lstmconv.convert(source, tmp_path / "m.pt", stack="all", layer=None)
    assert result.report.passed
    state = torch.load(tmp_path / "m.pt", weights_only=True)
    prefix = next(iter(state)).rpartition(".")[0] + "."
    fresh = nn.LSTM(5, 7, batch_first=True, **shape)
    fresh.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in state.items()}, strict=True)
    for name, tensor in module.rnn.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], tensor), name


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_exported_graph_and_the_checkpoint_it_came_from_hold_the_same(tmp_path, shape):
    module = Tagger(**shape)
    source = exported(module, tmp_path / "m.onnx")
    torch.save({"epoch": 7, "state_dict": module.state_dict()}, tmp_path / "m.pt")
    assert lstmconv.verify(tmp_path / "m.pt", source).passed
    report = lstmconv.verify(source, tmp_path / "m.pt")
    assert report.passed
    assert report.complete
    other = Tagger(**shape)
    torch.save(other.state_dict(), tmp_path / "other.pt")
    assert not lstmconv.verify(source, tmp_path / "other.pt").passed


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_state_dict_becomes_a_keras_model_that_computes_the_same(tmp_path, shape):
    import keras

    torch.manual_seed(1)
    module = nn.LSTM(5, 7, batch_first=True, **shape).eval()
    torch.save(module.state_dict(), tmp_path / "m.pt")
    lstmconv.convert(tmp_path / "m.pt", tmp_path / "m.keras")
    x = np.random.default_rng(2).normal(size=(3, 6, 5)).astype(np.float32)
    found = keras.ops.convert_to_numpy(keras.saving.load_model(tmp_path / "m.keras")(x))
    with torch.no_grad():
        expected = module(torch.from_numpy(x))[0].numpy()
    np.testing.assert_allclose(found, expected, atol=FLOAT32_NOISE, rtol=0)


# Modules in memory, and what is refused by name


def test_a_module_in_memory_is_read_as_its_file_would_be(tmp_path):
    module = nn.LSTM(5, 7, num_layers=2, bidirectional=True)
    checkpoint = lstmconv.from_torch(module, name="rnn")
    assert dict(checkpoint.joined) == {"rnn": ("rnn_l0", "rnn_l1")}
    lstmconv.save(checkpoint, tmp_path / "m.pt")
    state = torch.load(tmp_path / "m.pt", weights_only=True)
    for name, tensor in module.state_dict().items():
        assert torch.equal(state[f"rnn.{name}"], tensor)


def test_the_lstms_of_a_larger_module_are_found_in_memory():
    assert [layer.name for layer in lstmconv.from_torch(Tagger(num_layers=2)).layers] == ["rnn_l0", "rnn_l1"]
    assert [layer.name for layer in lstmconv.from_torch(Tagger(), name="tagger").layers] == ["tagger.rnn"]


def test_a_cell_is_one_layer():
    cell = nn.LSTMCell(5, 7)
    (layer,) = lstmconv.from_torch(cell, name="cell").layers
    np.testing.assert_array_equal(layer.forward.weight_hh.g, cell.weight_hh[14:21].detach().numpy())
    assert layer.class_name == "nn.LSTMCell"


def test_an_lstm_of_ours_keeps_what_it_computes():
    from lstmconv.torch import LSTM

    module = LSTM(5, 7, recurrent_activation="hard_sigmoid_keras2", go_backwards=True)
    (layer,) = lstmconv.from_torch(module).layers
    assert str(layer.recurrent_activation) == "hard_sigmoid(alpha=0.2, beta=0.5)"
    assert layer.go_backwards


@pytest.mark.parametrize("save", [False, True], ids=["in memory", "saved"])
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: nn.LSTM(5, 7, proj_size=3), "proj_size"),
        (lambda: nn.GRU(5, 7), r"nn\.GRU\): only LSTM"),
        (lambda: nn.RNN(5, 7), r"nn\.RNN\): only LSTM"),
        (lambda: nn.utils.parametrizations.weight_norm(nn.LSTM(5, 7), "weight_hh_l0"), "weight_norm"),
        (lambda: nn.Linear(5, 7), "no LSTM in it"),
    ],
    ids=["proj_size", "GRU", "RNN", "weight_norm", "Linear"],
)
def test_what_is_no_plain_lstm_is_refused_by_name(tmp_path, make, reason, save):
    module = make()
    torch.save(module.state_dict(), tmp_path / "m.pt")
    with pytest.raises(UnsupportedModelError, match=reason):
        lstmconv.load(tmp_path / "m.pt") if save else lstmconv.from_torch(module)


@pytest.mark.parametrize("prefix", ["", "encoder.", "module.", "_orig_mod.", "module.encoder.rnn.", "a.module.b."])
def test_prefixes_of_wrappers_are_left_out_of_names(tmp_path, prefix):
    module = nn.LSTM(5, 7)
    torch.save({prefix + name: tensor for name, tensor in module.state_dict().items()}, tmp_path / "m.pt")
    parts = [part for part in prefix.split(".") if part not in ("", "module", "_orig_mod")]
    assert [layer.name for layer in lstmconv.load(tmp_path / "m.pt").layers] == [".".join(parts) or "lstm"]
    assert lstmconv.verify(tmp_path / "m.pt", tmp_path / "m.pt").complete


def test_two_copies_of_a_model_in_one_checkpoint_keep_apart(tmp_path):
    state, ema = nn.LSTM(5, 7).state_dict(), nn.LSTM(5, 7).state_dict()
    torch.save({"model": state, "ema": ema}, tmp_path / "m.pt")
    checkpoint = lstmconv.load(tmp_path / "m.pt")
    assert [layer.name for layer in checkpoint.layers] == ["model", "ema"]
    np.testing.assert_array_equal(checkpoint["ema"].forward.weight_ih.i, ema["weight_ih_l0"][:7].numpy())


@pytest.mark.parametrize("lost", ["weight_hh_l1", "weight_ih_l0", "bias_hh_l0"])
def test_a_filtered_state_dict_is_refused(tmp_path, lost):
    state = nn.LSTM(5, 7, num_layers=2).state_dict()
    del state[lost]
    torch.save(state, tmp_path / "m.pt")
    with pytest.raises(lstmconv.LstmconvError, match=r"lacks|alone"):
        lstmconv.load(tmp_path / "m.pt")


def test_parameters_in_one_storage_are_read_where_they_lie(tmp_path):
    """As flatten_parameters leaves them on a GPU: every parameter is a view into one buffer."""
    module = nn.LSTM(3, 5, num_layers=2)
    flat = torch.cat([tensor.reshape(-1) for tensor in module.state_dict().values()])
    views, start = {}, 0
    for name, tensor in module.state_dict().items():
        views[name] = flat[start : start + tensor.numel()].view(tensor.shape)
        start += tensor.numel()
    torch.save(views, tmp_path / "m.pt")
    checkpoint = lstmconv.load(tmp_path / "m.pt")
    again = lstmconv.from_torch(module)
    for found, expected in zip(checkpoint.layers, again.layers, strict=True):
        for name, gates in expected.forward.arrays.items():
            np.testing.assert_array_equal(np.asarray(found.forward.arrays[name]), np.asarray(gates))
