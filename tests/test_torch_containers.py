"""Modules and archives that PyTorch saves whole: read as their state dicts are, with nothing built, or refused by name.

PyTorch is the judge: what is read is compared with ``state_dict()`` of the same module, bit for bit, and one file is
converted and run beside the module.
"""

from __future__ import annotations

from argparse import Namespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import lstmconv
from lstmconv.errors import ForeignFileError, NoLSTMError, UnreadableFileError
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.torch.tensors_by_name import read_tensors

pytestmark = pytest.mark.filterwarnings("ignore")
"""PyTorch calls TorchScript old, and modules whose weights are computed not in one chunk of memory."""

ZIP, LEGACY = {}, {"_use_new_zipfile_serialization": False}
CONTAINERS = pytest.mark.parametrize("container", [ZIP, LEGACY], ids=["zip", "legacy"])


class Tagger(nn.Module):
    def __init__(self, batch_first=True):
        super().__init__()
        self.embed = nn.Embedding(11, 3)
        self.lstm = nn.LSTM(3, 5, num_layers=2, bidirectional=True, batch_first=batch_first)
        self.heads = nn.ModuleList([nn.Linear(10, 2), nn.Linear(10, 7)])
        self.register_buffer("seen", torch.ones(2, dtype=torch.int64))

    def forward(self, ids):
        return self.heads[0](self.lstm(self.embed(ids))[0])


class ShiftedLSTM(nn.LSTM):
    """An LSTM by its parameters, and something else by what it computes."""

    def forward(self, x):
        return super().forward(x + 1)


@pytest.fixture
def tagger():
    torch.manual_seed(0)
    return Tagger().eval()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.pt"


def assert_same(path, state, prefix=""):
    found = {key.removeprefix(prefix): value for key, value in read_tensors(MappedFile(path)).tensors.items()}
    assert set(found) == set(state)
    for key, tensor in state.items():
        np.testing.assert_array_equal(found[key], tensor.numpy(), strict=True)


@CONTAINERS
def test_a_whole_module_is_read_as_its_state_dict(tagger, path, container):
    torch.save(tagger, path, **container)
    assert_same(path, tagger.state_dict())
    assert [layer.name for layer in lstmconv.load(path).layers] == ["lstm_l0", "lstm_l1"]


@pytest.mark.parametrize("protocol", [1, 2, 4, 5])
def test_a_whole_module_of_every_protocol_is_read(tagger, path, protocol):
    torch.save(tagger, path, pickle_protocol=protocol)
    assert_same(path, tagger.state_dict())


def test_modules_in_a_checkpoint_lie_under_their_keys(tagger, path):
    torch.save({"epoch": 3, "model": nn.DataParallel(tagger), "args": Namespace(lr=0.1), "loss": nn.MSELoss()}, path)
    assert_same(path, tagger.state_dict(), "model/module.")
    checkpoint = lstmconv.load(path)
    assert [layer.name for layer in checkpoint.layers] == ["lstm_l0", "lstm_l1"]
    assert checkpoint.notes == ("objects of other classes (argparse.Namespace) are ignored; nothing was executed",)


@pytest.mark.parametrize("make", [torch.jit.script, lambda module: torch.jit.trace(module, torch.ones(2, 3).long())])
def test_torchscript_is_read_by_its_names(tagger, path, make):
    torch.jit.save(make(tagger), path)
    assert_same(path, tagger.state_dict())
    assert lstmconv.load(path).layers[0].class_name == "nn.LSTM"


def test_an_exported_program_is_read_by_its_names(tagger, tmp_path):
    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(tagger, (torch.ones(2, 3).long(),)), path)
    assert_same(path, tagger.state_dict())
    assert [layer.name for layer in lstmconv.load(path).layers] == ["lstm_l0", "lstm_l1"]


class Doubled(nn.Module):
    """An LSTM that runs with twice its own parameters."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 5)

    def forward(self, x):
        """Run it."""
        doubled = {name: 2 * tensor for name, tensor in self.lstm.named_parameters()}
        return torch.func.functional_call(self.lstm, doubled, (x,))[0]


def test_an_exported_program_that_runs_its_lstm_with_other_weights_is_refused(tmp_path):
    torch.export.save(torch.export.export(Doubled(), (torch.ones(7, 2, 3),)), tmp_path / "m.pt2")
    with pytest.raises(NoLSTMError, match=r"the program gives its parameters to torch\.ops\.aten\.mul\.Tensor"):
        lstmconv.load(tmp_path / "m.pt2")


def test_what_was_read_from_a_whole_module_computes_what_the_module_does(tmp_path):
    torch.manual_seed(1)
    module = nn.LSTM(3, 5, batch_first=True).eval()
    torch.save({"model": module}, tmp_path / "m.ckpt")
    x = torch.randn(2, 7, 3)
    lstmconv.convert(tmp_path / "m.ckpt", tmp_path / "m.onnx", verify=False)
    import onnxruntime

    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    found = session.run(["lstm.y"], {"lstm.x": x.numpy()})[0]
    np.testing.assert_allclose(found, module(x)[0].detach().numpy(), atol=1e-6)


def test_a_frozen_archive_has_no_names_and_says_so(tagger, path):
    torch.jit.save(torch.jit.freeze(torch.jit.script(tagger)), path)
    with pytest.raises(ForeignFileError, match=r"no tensors by name.*save module.state_dict\(\)"):
        lstmconv.load(path)


@pytest.mark.parametrize(
    "save",
    [
        torch.save,
        lambda module, path: torch.jit.save(torch.jit.trace(module, torch.ones(2, 7, 3)), path),
        lambda module, path: torch.export.save(torch.export.export(module, (torch.ones(2, 7, 3),)), path),
    ],
    ids=["whole", "traced", "exported"],
)
def test_a_class_of_the_users_own_is_refused_by_its_name(path, save):
    save(nn.Sequential(ShiftedLSTM(3, 5, batch_first=True)), path.with_suffix(".pt2"))
    with pytest.raises(NoLSTMError, match=r"its class is .*ShiftedLSTM, which may compute something else"):
        lstmconv.load(path.with_suffix(".pt2"))


def double(_module, _inputs, outputs):
    return outputs[0] * 2, outputs[1]


def test_a_hook_is_refused_by_its_name(path):
    module = nn.LSTM(3, 5)
    module.register_forward_hook(double)
    torch.save(module, path)
    with pytest.raises(NoLSTMError, match=r"a hook runs with it \(.*double\)"):
        lstmconv.load(path)


def test_a_forward_of_the_modules_own_is_refused_by_its_name(path):
    """PyTorch calls what is set on the module itself, and not its class's."""
    module = nn.LSTM(3, 5)
    module.forward = rescaled
    torch.save(module, path)
    with pytest.raises(NoLSTMError, match=r"a hook runs with it \(.*rescaled\)"):
        lstmconv.load(path)


def test_a_pruned_module_is_read_as_what_runs(path):
    torch.manual_seed(2)
    module = nn.LSTM(3, 5)
    prune.random_unstructured(module, "weight_hh_l0", 0.5)
    torch.save(module, path)
    found = lstmconv.load(path).layers[0].forward.weight_hh
    np.testing.assert_array_equal(np.concatenate([found.i, found.f, found.g, found.o]), module.weight_hh_l0.detach())


def test_a_module_that_takes_time_first_says_so(path):
    torch.save(Tagger(batch_first=False), path)
    assert lstmconv.load(path).notes == (
        "lstm: the module takes (time, batch, features), because batch_first is False; the converted layer takes "
        "(batch, time, features)",
    )


@pytest.mark.parametrize(
    ("name", "value"), [("num_layers", 3), ("hidden_size", 7), ("bidirectional", False), ("bias", False)]
)
def test_a_module_that_states_other_sizes_than_its_parameters_have_is_refused(tagger, path, name, value):
    setattr(tagger.lstm, name, value)
    torch.save(tagger, path)
    with pytest.raises(UnreadableFileError, match=f"states {name}={value}, and its parameters are those of"):
        lstmconv.load(path)


class Weights(torch.Tensor):
    """A tensor of a class that lstmconv does not know."""


def test_a_parameter_of_an_unknown_class_is_not_taken_for_a_tensor(path):
    state = nn.LSTM(3, 5).state_dict()
    state["weight_hh_l0"] = state["weight_hh_l0"].as_subclass(Weights)
    torch.save(state, path)
    with pytest.raises(NoLSTMError, match=r"its weight_hh_l0 is of the class .*\.Weights, which is not known"):
        lstmconv.load(path)
    state["weight_hh_l0"] = Namespace(data=state["weight_hh_l0"])
    torch.save(state, path)
    with pytest.raises(NoLSTMError, match=r"its weight_hh_l0 is of the class argparse\.Namespace"):
        lstmconv.load(path)


class Rescaled(nn.Module):
    """A module whose state is not its attributes: it is loaded by a function of its own."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 5)

    def __reduce__(self):
        return rescaled, (self.lstm,)


def rescaled(lstm):
    """Build what only this function knows."""
    return lstm


def test_what_a_function_builds_is_not_looked_into(path):
    torch.save({"model": Rescaled()}, path)
    with pytest.raises(ForeignFileError, match=r"would build \(.*rescaled.*nothing was executed"):
        lstmconv.load(path)


def test_a_tensor_from_a_storage_by_an_unknown_function_is_refused(path):
    """Whatever the function is called: its bytes lie on the way to a tensor."""
    from tests.test_torch_archive import ORDERED, STORAGE, pt, text

    evil = b"\x80\x02}" + text(b"w") + b"cmy.tensors\nrebuild\n(" + STORAGE + b"K\x00" + ORDERED + b"tRs."
    with pytest.raises(ForeignFileError, match=r"builds tensors by my.tensors.rebuild, which is not known"):
        lstmconv.load(pt(path.parent, evil))


def test_an_attribute_that_is_set_twice_is_not_believed(path):
    """A second BUILD mixes its state with the first one's; no pickle of torch's has two."""
    from tests.test_torch_archive import GOOD, pt, text

    state = text(b"_parameters") + GOOD[2:-1] + b"".join(text(key) + b"}" for key in (b"_buffers", b"_modules"))
    module = b"\x80\x02cm\nM\n)\x81}(" + state + b"ub"
    assert list(read_tensors(MappedFile(pt(path.parent, module + b"."))).tensors) == ["w"]
    with pytest.raises(ForeignFileError, match="no tensors outside"):
        lstmconv.load(pt(path.parent, module + b"}b."))
