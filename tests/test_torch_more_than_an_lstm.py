"""State dicts of modules that hold more than an nn.LSTM's parameters: read as what runs, or refused by name."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune

import lstmconv
import lstmconv.torch
from lstmconv.errors import NoLSTMError, UnreadableFileError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
"""Modules whose weights are computed say that they are not in one chunk of memory; torch renames its functions."""


class WeightDrop(nn.Module):
    """fastai's WeightDropout (text/models/awdlstm.py), shortened: the raw weights are its own parameters."""

    def __init__(self, module, names, p):
        super().__init__()
        self.module, self.names, self.p = module, names, p
        for name in names:
            weight = getattr(module, name)
            del module._parameters[name]
            self.register_parameter(f"{name}_raw", nn.Parameter(weight.data))
            module.register_parameter(name, nn.Parameter(weight.data.clone()))

    def forward(self, x):
        """Run the LSTM with some of its weights set to zero while training."""
        for name in self.names:
            dropped = functional.dropout(getattr(self, f"{name}_raw"), self.p, self.training)
            getattr(self.module, name).data.copy_(dropped)
        return self.module(x)


class WeightDropInside(WeightDrop):
    """The first WeightDrop (salesforce/awd-lstm-lm): the raw weights are the LSTM's, and the dropped ones no state."""

    def __init__(self, module, names, p):
        nn.Module.__init__(self)
        self.module, self.names, self.p = module, names, p
        for name in names:
            weight = getattr(module, name)
            del module._parameters[name]
            module.register_parameter(f"{name}_raw", nn.Parameter(weight.data))
            setattr(module, name, weight.data)

    def forward(self, x):
        """Run the LSTM with some of its weights set to zero while training."""
        for name in self.names:
            dropped = functional.dropout(getattr(self.module, f"{name}_raw"), self.p, self.training)
            getattr(self.module, name).copy_(dropped)
        return self.module(x)


def saved(module, path):
    torch.save(module.state_dict(), path)
    return path


@pytest.mark.parametrize("wrapper", [WeightDrop, WeightDropInside])
def test_raw_weights_of_a_weight_drop_are_what_runs_at_inference(tmp_path, wrapper):
    torch.manual_seed(0)
    module = nn.Sequential()
    module.rnn = wrapper(nn.LSTM(3, 5, num_layers=2, batch_first=True), ["weight_hh_l0", "weight_hh_l1"], 0.5)
    module.train()(torch.randn(2, 7, 3))  # Leaves a dropped matrix in the module.
    path = saved(module, tmp_path / "m.pt")
    x = torch.randn(2, 7, 3)
    with torch.no_grad():
        expected = module.eval()(x)[0].numpy()
    checkpoint = lstmconv.load(path)
    assert [layer.name for layer in checkpoint.layers] == ["rnn_l0", "rnn_l1"]
    found = x.numpy()
    for layer in checkpoint.layers:
        found = np.asarray(lstmconv.reference(layer, found))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)  # Two layers of float32 over 7 steps.


@pytest.mark.parametrize("make", [lambda: nn.LSTM(3, 5, bidirectional=True), lambda: nn.LSTMCell(3, 5)])
def test_pruned_weights_are_the_product_that_torch_runs(tmp_path, make):
    torch.manual_seed(1)
    module = make()
    names = [name for name, _ in module.named_parameters()]
    for name in names:
        prune.random_unstructured(module, name, amount=0.4)
    path = saved(module, tmp_path / "m.pt")
    half = lstmconv.load(path).layers[0].forward
    suffix = "_l0" if isinstance(module, nn.LSTM) else ""
    for array in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        expected = getattr(module, array + suffix).detach().numpy()
        assert (expected == 0).any()
        found = np.concatenate([np.asarray(getattr(half.arrays[array], gate)) for gate in "ifgo"])
        np.testing.assert_array_equal(found, expected, err_msg=array)
    (checked,) = lstmconv.check([path])
    assert checked.passed


def test_a_mask_of_another_shape_than_its_weights_is_refused(tmp_path):
    module = nn.LSTM(3, 5)
    prune.random_unstructured(module, "weight_hh_l0", amount=0.4)
    state = module.state_dict()
    state["weight_hh_l0_mask"] = state["weight_hh_l0_mask"][:1]
    torch.save(state, tmp_path / "m.pt")
    with pytest.raises(lstmconv.LstmconvError, match=r"\(20, 5\) and its mask \(1, 5\)"):
        lstmconv.load(tmp_path / "m.pt")


class LayerNormCell(nn.LSTMCell):
    """A cell with layer normalisation, as many write it."""

    def __init__(self, inputs, units):
        super().__init__(inputs, units)
        self.ln_ih = nn.LayerNorm(4 * units)


class MaskedLSTM(nn.LSTM):
    """An LSTM whose masks are buffers, and the weights as they were."""

    def __init__(self, inputs, units):
        super().__init__(inputs, units)
        self.register_buffer("weight_hh_l0_mask", torch.ones(4 * units, units))


class PeepholeCell(nn.LSTMCell):
    """A cell whose gates read the cell state."""

    def __init__(self, inputs, units):
        super().__init__(inputs, units)
        self.peephole = nn.Parameter(torch.ones(3, units))


class NestedLSTM(nn.LSTM):
    """An LSTM with another inside it."""

    def __init__(self, inputs, units):
        super().__init__(inputs, units)
        self.inner = nn.LSTM(units, units)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (LayerNormCell, "ln_ih.weight, ln_ih.bias"),
        (MaskedLSTM, "weight_hh_l0_mask"),
        (PeepholeCell, "peephole"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "rnn."])
def test_an_lstm_beside_whose_parameters_others_stand_is_refused_by_their_names(tmp_path, make, named, prefix):
    state = {prefix + key: value for key, value in make(3, 5).state_dict().items()}
    torch.save({"epoch": torch.ones(()), "model": state}, tmp_path / "m.pt")
    with pytest.raises(NoLSTMError, match=f"{named} beside an LSTM's parameters"):
        lstmconv.load(tmp_path / "m.pt")


def test_an_lstm_with_another_inside_it_is_refused_and_the_inner_one_read(tmp_path):
    checkpoint = lstmconv.load(saved(nn.ModuleDict({"rnn": NestedLSTM(3, 5)}), tmp_path / "m.pt"))
    assert [layer.name for layer in checkpoint.layers] == ["rnn.inner"]
    assert [entry.name for entry in checkpoint.skipped] == ["rnn"]


def test_other_modules_beside_an_lstm_are_none_of_its_own(tmp_path):
    module = nn.ModuleDict({"rnn": nn.LSTM(3, 5), "rnn2": nn.LSTM(3, 5), "rn": nn.Linear(3, 5)})
    assert not lstmconv.load(saved(module, tmp_path / "m.pt")).skipped


@pytest.mark.parametrize(
    ("normed", "named"),
    [
        (lambda: nn.utils.spectral_norm(nn.LSTM(3, 5), "weight_hh_l0"), "spectral_norm.*remove_spectral_norm"),
        (lambda: nn.utils.spectral_norm(nn.LSTMCell(3, 5), "weight_hh"), "spectral_norm.*remove_spectral_norm"),
        (lambda: parametrizations.spectral_norm(nn.LSTM(3, 5), "weight_hh_l0"), "parametrized.*remove_param"),
        (lambda: parametrizations.weight_norm(nn.LSTM(3, 5), "weight_hh_l0"), "weight_norm.*remove_param"),
        (lambda: nn.utils.weight_norm(nn.LSTMCell(3, 5), "weight_hh"), "weight_norm.*remove_weight_norm"),
    ],
)
def test_weights_that_are_computed_are_refused_by_the_name_of_what_computes_them(tmp_path, normed, named):
    with pytest.raises(NoLSTMError, match=named):
        lstmconv.load(saved(normed(), tmp_path / "m.pt"))


@pytest.mark.parametrize("lost", ["l1", "l0_reverse"])
def test_biases_that_some_layers_or_directions_lack_are_a_truncated_state_dict(tmp_path, lost):
    """``bias`` is one option of all layers and directions of an nn.LSTM; without theirs, these would compute less."""
    module = torch.nn.LSTM(3, 5, num_layers=2, bidirectional=True)
    tensors = {f"rnn.{key}": tensor for key, tensor in module.state_dict().items()}
    torch.save(
        {key: tensor for key, tensor in tensors.items() if not key.endswith((f"bias_ih_{lost}", f"bias_hh_{lost}"))},
        tmp_path / "m.pt",
    )
    with pytest.raises(UnreadableFileError, match=f"'rnn' has biases, and lacks bias_ih_{lost} and bias_hh_{lost}"):
        lstmconv.load(tmp_path / "m.pt")


@pytest.mark.parametrize(
    "changed",
    [
        {"activation": [1, 2]},
        {"activation": "ab"},
        {"go_backwards": "false"},
        {"merge_mode": "banana"},
        {"peephole": True},
    ],
    ids=str,
)
def test_an_extra_state_that_lstmconv_does_not_write_is_no_lstm(changed, tmp_path):
    state = lstmconv.torch.LSTM(3, 5, bidirectional=True, activation="relu").state_dict()
    said = json.loads(bytes(state["_extra_state"].tolist())) | changed
    state["_extra_state"] = torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)
    torch.save(state, tmp_path / "m.pt")
    with pytest.raises(NoLSTMError, match="its _extra_state"):
        lstmconv.load(tmp_path / "m.pt")


class Doubled(nn.LSTM):
    """An nn.LSTM that returns something else."""

    def forward(self, x, hx=None):
        """Return twice what nn.LSTM returns."""
        y, states = super().forward(x, hx)
        return 2 * y, states


def hooked():
    module = nn.LSTM(3, 5)
    module.register_forward_hook(lambda _, __, output: (2 * output[0], output[1]))
    return module


def replaced():
    module = nn.LSTM(3, 5)
    module.forward = lambda x: 2 * nn.LSTM.forward(module, x)[0]
    return module


@pytest.mark.filterwarnings("ignore")  # TorchScript warns that it is old, and of what it traces.
@pytest.mark.parametrize(
    "made",
    [lambda: Doubled(3, 5), hooked, replaced, lambda: torch.jit.trace(Doubled(3, 5), torch.zeros(2, 7, 3))],
    ids=["a subclass", "a hook", "another forward", "a traced subclass"],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_module_that_computes_something_else_is_no_lstm_in_memory_either(made, wrapped):
    module = made()
    with pytest.raises(NoLSTMError, match=r"its class is .*Doubled, which may|a hook runs with it"):
        lstmconv.from_torch(nn.Sequential(module, module) if wrapped else module)  # One module under two names.
    state = module.state_dict()  # The user says that it is an nn.LSTM's.
    assert [layer.name for layer in lstmconv.from_torch(state).layers] == ["lstm"]


@pytest.mark.filterwarnings("ignore")  # TorchScript warns that it is old, and of what it traces.
def test_pytorchs_own_modules_are_read_in_memory_whatever_wraps_them():
    lstm = nn.LSTM(3, 5, batch_first=True)
    x = torch.zeros(2, 7, 3)
    for module in (lstm, nn.LSTMCell(3, 5), torch.jit.script(lstm), torch.jit.trace(lstm, x), nn.DataParallel(lstm),
                   torch.compile(lstm), torch.export.export(nn.Sequential(lstm), (x,)).module(),
                   prune.l1_unstructured(nn.LSTM(3, 5), "weight_hh_l0", 0.5), lstmconv.torch.LSTM(3, 5)):  # fmt: skip
        assert len(lstmconv.from_torch(module).layers) == 1


class Other:
    """A class of somebody else's."""


BESIDE = {
    "a mask": ("keep", lambda: torch.ones(5, dtype=torch.bool)),
    "numbers that NumPy does not have": ("scale", lambda: torch.ones(5).to(torch.float8_e4m3fn)),
    "an object": ("scaler", Other),
    "a dictionary of get_extra_state": ("_extra_state", lambda: {"scale": 2.0}),
    "tensors of get_extra_state": ("_extra_state", lambda: {"scale": torch.ones(1)}),
    "an object of get_extra_state": ("_extra_state", Other),
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("beside", BESIDE)
def test_what_is_no_array_beside_an_lstms_parameters_is_more_than_an_lstm(beside, suffix, tmp_path):
    name, made = BESIDE[beside]
    state = {f"lstm.{key}": value for key, value in nn.LSTM(3, 5).state_dict().items()} | {f"lstm.{name}": made()}
    path = tmp_path / f"m{suffix}"
    if suffix == ".pt":
        torch.save(state, path)
    elif isinstance(state[f"lstm.{name}"], torch.Tensor):
        safetensors.torch.save_file(state, path)
    else:
        pytest.skip("safetensors holds tensors alone")
    with pytest.raises(NoLSTMError, match=rf"it holds {name} beside an LSTM's parameters|its _extra_state is not"):
        lstmconv.load(path)


def test_an_object_that_no_module_holds_is_passed_over(tmp_path):
    torch.save(nn.LSTM(3, 5).state_dict() | {"args": Other()}, tmp_path / "m.pt")
    assert [layer.name for layer in lstmconv.load(tmp_path / "m.pt").layers] == ["lstm"]
