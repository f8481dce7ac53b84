"""A whole model as PyTorch source: plain, formatted, run without lstmconv, and never another's text."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest
import torch
from torch import nn

import lstmconv
from lstmconv.activations import ACTIVATIONS, Activation
from lstmconv.errors import LstmconvError, TargetExistsError, UnreadableFileError, UnsupportedModelError, UsageError
from lstmconv.formats import torch_code
from lstmconv.formats.options import WriteOptions
from lstmconv.formats.record import Record
from lstmconv.formats.torch_code import layers, naming
from lstmconv.formats.torch_code.activations import applied
from lstmconv.formats.torch_code.copied import defined, definitions, imports, names_in
from lstmconv.formats.torch_code.source import source_of
from lstmconv.model import Call, Checkpoint, Input, Model, Provenance, Tensor
from lstmconv.model import kinds as k
from lstmconv.model.chains import lstm_layers
from lstmconv.model.renaming import renamed
from lstmconv.semantics import run_model
from lstmconv.torch import from_model
from tests.golden.whole.cases import compared, whole_models
from tests.test_whole_reading import TOLERANCE, model_of

SAMPLE = Path("sample_weights/airline_passengers.h5")
GOLDEN = Path("tests/golden/whole")
CASES = [pytest.param(path, npz, id=f"{path.parent.name}-{path.name}") for path, npz in whole_models()]
pytestmark = pytest.mark.usefixtures("trusted_golden_files")


def written(model: Model, path: Path, name: str = "model.h5") -> str:
    """Write a model, and return its source."""
    checkpoint = Checkpoint(lstm_layers(model), Provenance(name, "", "Keras"), model=model)
    torch_code.write(checkpoint, path, WriteOptions(whole=True))
    return path.read_text()


def loaded(path: Path) -> nn.Module:
    """Run a source in this process, and return its model."""
    module = ModuleType("source")
    module.__file__ = str(path)
    exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
    return module.load()


def outputs(module: nn.Module, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        found = module(*inputs)
    return found if isinstance(found, tuple) else (found,)


def chain(*links: k.Kind, shape: tuple[int | None, ...]) -> Model:
    calls, place = [], Tensor("x")
    for layer in links:
        calls.append(Call(layer.name, layer, (place,)))
        place = Tensor(layer.name)
    return Model("m", (Input("x", shape),), tuple(calls), {"y": place})


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype("float32")


@pytest.mark.parametrize(("path", "npz"), CASES)
def test_a_source_computes_what_keras_computed(path, npz, tmp_path):
    model = model_of(path)
    if model.unknown:
        with pytest.raises(UnsupportedModelError, match=model.unknown[0].name):
            written(model, tmp_path / "net.py")
        return
    written(model, tmp_path / "net.py")
    module = loaded(tmp_path / "net.py")
    with np.load(npz) as golden:
        tolerance = float(golden["tol"]) if "tol" in golden else TOLERANCE
        for given, wanted in (("x", "y_tensorflow" if "y_tensorflow:0" in golden else "y"), ("x2", "y2")):
            if f"{given}:0" not in golden:
                continue
            inputs = [torch.from_numpy(golden[f"{given}:{index}"]) for index in range(len(model.inputs))]
            found = outputs(module, *inputs)  # A stateful layer goes on from the first call in the second.
            assert len(found) == len(model.outputs)
            for index, name in compared(npz, list(model.outputs)):
                want = golden[f"{wanted}:{index}"]
                assert tuple(found[index].shape) == want.shape, name
                limit = tolerance * max(1.0, np.abs(want).max())
                np.testing.assert_allclose(found[index].double().numpy(), want, rtol=0, atol=limit, err_msg=name)


def test_sources_of_all_golden_models_are_as_formatters_and_linters_want_them(tmp_path):
    for number, (path, _) in enumerate(whole_models()):
        model = model_of(path)
        if not model.unknown:
            text = source_of(renamed(model, naming.layer_names(model)), Record("1", path.name, "", ()))
            (tmp_path / f"net_{number}.py").write_text(text)
    for command in (["format", "--check"], ["check", "--select", "E4,E7,E9,F,I,UP,B,PIE"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


def test_every_definition_can_be_copied_and_has_a_name_of_its_own():
    files = Path("lstmconv/torch/definitions").glob("*.py")
    trees = [ast.parse(path.read_text()) for path in files]
    names = [node.name for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert sorted(names) == sorted(defined())


def test_a_plain_model_is_a_plain_source(tmp_path):
    lstmconv.convert(SAMPLE, tmp_path / "net.py", verify=False)
    text = (tmp_path / "net.py").read_text()
    assert "Written by lstmconv" in text
    assert "5facba0ccee0657ea2c3cc7c9e72dd5f417946593546e8df70c7f9fb8e46d1bc" in text  # sha256sum of the sample
    assert (
        """
class Model(nn.Module):
    \"""The layers have the names that they have in Keras.\"""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 16, batch_first=True)
        self.next_month = nn.Linear(16, 1)

    def forward(self, months: Tensor) -> Tensor:
        x, _ = self.lstm(months)
        x = x[:, -1]  # (batch, 16)
        x = self.next_month(x)  # (batch, 1)
        return x
"""
        in text
    )


@pytest.mark.parametrize(
    "path",
    [SAMPLE, GOLDEN / "tf-keras-2.21.0" / "mask_stateful.h5", GOLDEN / "keras-3.15.1" / "mask_bidirectional.keras"],
)
def test_a_source_is_proven_in_a_process_that_cannot_import_lstmconv(path, tmp_path):
    report = lstmconv.convert(path, tmp_path / "net.py").report
    assert {check.level: check.status for check in report.checks} == dict.fromkeys(
        ("structure", "weights", "model"), "passed"
    )
    assert "in a process without lstmconv" in report.checks[-1].detail
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.pt", "net.py"]


def test_the_state_dict_beside_is_the_one_of_the_torch_target(tmp_path):
    conversion = lstmconv.convert(SAMPLE, tmp_path, to=["torch", "torch-code", "onnx"], verify=False)
    names = ["airline_passengers.onnx", "airline_passengers.pt", "airline_passengers.py"]
    assert sorted(path.name for path in conversion.paths) == names
    lstmconv.convert(SAMPLE, tmp_path / "alone.pt", verify=False)
    assert (tmp_path / "alone.pt").read_bytes() == (tmp_path / "airline_passengers.pt").read_bytes()


def test_a_source_is_the_same_each_time(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        lstmconv.convert(SAMPLE, tmp_path / name / "net.py", verify=False)
    for name in ("net.py", "net.pt"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


HOSTILE = [
    'a"""\nimport os\nos.abort()',
    "class",
    "forward",
    "type",
    "states",
    "__init__",
    "1st layer",
    "a b",
    "a-b",
    "a_b",
    "\u00e9\u202e{x}",
    "ﬁ",
    "\\",
    "'; exit() #",
    "x" * 200,
    "self",
    "nested/for/layer",
    "nested/for/other",
    "nested/dense layer",
    "torch",
]


def test_no_name_of_a_file_becomes_code(tmp_path):
    links = [k.Dense(name, random(5, 5), random(5)) for name in HOSTILE]
    model = chain(*links, shape=(None, 5))
    inputs = (Input('x"""', (None, 5)),)
    calls = (Call(links[0].name, links[0], (Tensor('x"""'),)), *model.calls[1:])
    model = Model('m"""\n\\', inputs, calls, {'y\n"""': Tensor(HOSTILE[-1])})
    text = written(model, tmp_path / "net.py", 'model"""\nimport os\n.h5')
    assert text.isascii()
    tree = ast.parse(text)
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"__future__", "pathlib", "torch"}
    calls_of = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    plain = {"super", "super().__init__", "nn.Linear", "Path", "Path(__file__).with_suffix", "Model", "torch.load",
             "model.load_state_dict", "model.eval", "NestedFor", "Nested", "AImportOsOs"}  # fmt: skip
    assert {name for name in calls_of if not name.startswith("self.")} <= plain
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--check", "--isolated", str(tmp_path)],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    x = random(3, 5)
    (want,) = run_model(model, [x]).values()
    (found,) = outputs(loaded(tmp_path / "net.py"), torch.from_numpy(x))
    np.testing.assert_allclose(found.numpy(), want, rtol=1e-3)


def test_layers_keep_their_names_where_these_are_identifiers(tmp_path):
    model = chain(
        k.Dense("a/b", random(5, 3)), k.Dense("c.d", random(3, 2)), k.Dense("e f", random(2, 7)), shape=(None, 5)
    )
    assert naming.layer_names(model) == {"e f": "e_f"}
    written(model, tmp_path / "net.py")
    assert list(torch.load(tmp_path / "net.pt")) == ["a.b.weight", "c.d.weight", "e_f.weight"]


def test_two_layers_of_which_one_lies_inside_the_other_are_refused_by_name(tmp_path):
    model = chain(k.Dense("a", random(5, 3)), k.Dense("a/b", random(3, 2)), shape=(None, 5))
    reason = torch_code.obstacle_of_model(model, WriteOptions())
    assert reason == "'a/b' lies inside 'a', and both have weights; rename one with --rename"


def test_no_layer_has_a_name_that_torch_has():
    own = {name for name in dir(nn.Module()) if not name.startswith("_")}
    assert own <= naming.ATTRIBUTES


def test_every_kind_of_layer_is_written():
    apart = {k.Attention, k.MultiHeadAttention, k.Unknown}
    known = {kind for kind in k.Kind.__subclasses__() if kind.__module__ == k.__name__}
    assert known - apart == set(layers.RUNS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_computes_what_keras_does(name):
    """The reference is that of tests/test_activations.py, which real Keras computed."""
    activation = Activation(name, tuple(ACTIVATIONS[name].defaults.items()))
    numbers = {"hard_sigmoid": [(0.2, 0.5)], "relu": [(0.3, 1.5, 0.0), (0.0, 6.0, 0.0), (0.1, 2.0, 0.7)]}
    others = [
        Activation(name, tuple(zip(ACTIVATIONS[name].defaults, each, strict=True))) for each in numbers.get(name, [])
    ]
    x = torch.linspace(-7, 7, 3 * 11, dtype=torch.float64).reshape(3, 11)
    for each in (activation, *others):
        text = "\n".join(f"x = {step.replace('{x}', 'x')}" for step in applied(each))
        code = "\n".join(definitions(names_in(ast.parse(text))))
        space = {"x": x}
        exec(f"from __future__ import annotations\n{imports(code + chr(10) + text)}\n{code}\n{text}", space)
        np.testing.assert_allclose(space["x"].numpy(), each(x.numpy()), rtol=1e-12, atol=1e-12)


def test_every_definition_stands_on_its_own():
    for name in defined():
        code = "\n\n".join(definitions(frozenset({name})))
        exec(f"from __future__ import annotations\n{imports(code)}\n{code}", {})


@pytest.fixture
def net(tmp_path):
    """Return a folder with a source and what it was made from."""
    shutil.copy(SAMPLE, tmp_path / "m.h5")
    lstmconv.convert(tmp_path / "m.h5", tmp_path / "net.py", verify=False)
    return tmp_path


def test_a_causal_attention_runs_in_half_precision(tmp_path):
    """float16 ends at -65504, above the number that float32 has for a masked place."""
    layer = k.Attention("attention", "dot", causal=True)
    model = Model("m", (Input("x", (None, 5, 3)),), (Call("attention", layer, (Tensor("x"), Tensor("x"))),),
                  {"y": Tensor("attention")})  # fmt: skip
    written(model, tmp_path / "net.py")
    x = torch.from_numpy(random(2, 5, 3))
    wanted = nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True, scale=1.0)
    for module in (loaded(tmp_path / "net.py"), from_model(model)):
        np.testing.assert_allclose(outputs(module.half(), x.half())[0].float().numpy(), wanted, atol=0.01)


def test_a_changed_source_is_neither_read_nor_run(net):
    """Whatever it computes now, and whatever else it does."""
    text = (net / "net.py").read_text()
    (net / "net.py").write_text(text.replace("x = x[:, -1]", "x = x[:, -2]"))
    with pytest.raises(
        UnreadableFileError, match=r"net\.py: line \d+ is not what this lstmconv writes.*neither read nor run"
    ):
        lstmconv.verify(net / "m.h5", net / "net.py")
    (net / "net.py").write_text(text + f"\nopen({str(net / 'ran')!r}, 'w')\n")
    with pytest.raises(UnreadableFileError):
        lstmconv.verify(net / "m.h5", net / "net.py")
    with pytest.raises(UnreadableFileError):
        lstmconv.load(net / "net.py")
    assert not (net / "ran").exists()


def test_changed_weights_are_found(net):
    other = shutil.copy(SAMPLE, net / "other.h5")
    with h5py.File(other, "r+") as file:
        file["model_weights/next_month"].visititems(
            lambda name, entry: entry.__setitem__((0, 0), 3.0) if name.endswith(("kernel", "kernel:0")) else None
        )
    report = lstmconv.verify(other, net / "net.py")
    assert [check.level for check in report.checks if check.status == "failed"] == ["weights", "model"]


def test_a_source_without_its_weights_is_named(net):
    (net / "net.pt").unlink()
    with pytest.raises(UnreadableFileError, match=r"net\.py: its weights, net\.pt, are not beside it"):
        lstmconv.load(net / "net.py")


def test_both_files_are_written_or_none(tmp_path):
    (tmp_path / "net.pt").write_text("mine")
    with pytest.raises(TargetExistsError, match=r"net\.pt exists already"):
        lstmconv.convert(SAMPLE, tmp_path / "net.py", verify=False)
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt"]
    lstmconv.convert(SAMPLE, tmp_path / "net.py", verify=False, force=True)
    assert outputs(loaded(tmp_path / "net.py"), torch.zeros(2, 12, 1))[0].shape == (2, 1)


def test_a_source_converts_on(net):
    lstmconv.convert(net / "net.py", net / "again.onnx", verify=False)
    assert [layer.name for layer in lstmconv.load(net / "net.py").model.layers] == ["lstm", "next_month"]


def test_layers_alone_are_no_model(tmp_path):
    with pytest.raises(UsageError, match="holds a whole model"):
        lstmconv.convert(SAMPLE, tmp_path / "net.py", layer="lstm")
    with pytest.raises(LstmconvError, match="cannot be converted whole: the file does not say its model"):
        lstmconv.convert(weights_only(tmp_path), tmp_path / "net.py")


def weights_only(folder: Path) -> Path:
    """Return a file of weights of the sample."""
    path = folder / "m.weights.h5"
    lstmconv.convert(SAMPLE, path, whole=False, verify=False)
    return path


def test_check_finds_a_source_and_leaves_other_python_files_alone(net):
    (net / "m.py").write_text('"""A script that trains m.h5."""\n')
    (net / "empty.py").write_text("")
    command = [sys.executable, "-m", "lstmconv", "check", str(net), "--json"]
    files = {
        Path(one["path"]).name: one
        for one in json.loads(subprocess.run(command, capture_output=True, check=False).stdout)["files"]
    }
    assert {name: one["status"] for name, one in files.items()} == dict.fromkeys(("m.h5", "net.pt", "net.py"), "passed")
    text = (net / "net.py").read_text()
    (net / "net.py").write_text(text.replace("-1]", "-2]"))
    (changed,) = lstmconv.check([net / "net.py"])
    assert changed.status == "failed"
    assert "is not what this lstmconv writes" in changed.findings[0].message
