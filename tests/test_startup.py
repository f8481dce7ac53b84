"""What each command loads, exactly: a library that comes along unseen is what makes a start slow."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parent.parent / "sample_weights" / "airline_passengers.h5"
HEAVY = [
    "h5py", "numpy", "einops", "onnx", "torch", "onnxruntime", "keras", "tensorflow", "jax", "safetensors",
    "ml_dtypes", "pydantic", "rich", "typer", "multiprocessing", "concurrent.futures", "importlib.metadata", "asyncio",
]  # fmt: skip
READING = {"typer", "numpy", "einops", "h5py"}


def loaded_by(*arguments: str) -> set[str]:
    """Run the command line in a fresh interpreter and return the libraries it loaded."""
    code = (
        f"import json, sys; sys.argv = ['lstmconv', *{list(arguments)!r}]\n"
        "from lstmconv.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print(); print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["convert", "--help"], ["inspect", "-h"]])
def test_help_and_version_load_typer_alone(arguments):
    assert loaded_by(*arguments) == {"typer"}


@pytest.mark.parametrize("arguments", [[], ["--json"], ["--recurrent-activation", "sigmoid"]])
def test_inspecting_an_h5_loads_what_reads_it(arguments):
    assert loaded_by("inspect", str(SAMPLE), *arguments) == READING


def test_inspecting_a_small_model_loads_what_its_layers_need():
    """An LSTM and a Dense layer: no other kinds of layers, no writer, no description of whole models."""
    code = (
        f"import json, sys; sys.argv = ['lstmconv', 'inspect', {str(SAMPLE)!r}]\n"
        "from lstmconv.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print(); print(json.dumps([name for name in sys.modules if name.startswith('lstmconv.')]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(result.stdout.splitlines()[-1]))
    kinds = {name.rpartition(".")[2] for name in loaded if name.startswith("lstmconv.formats.keras.reader.kinds.")}
    assert "dense" in kinds
    assert not kinds & {"convolution", "attention", "recurrent", "functions", "operations"}
    unneeded = ("formats.keras.writer.write", "formats.onnx.writer.whole_model", "semantics", "converting")
    assert not loaded & {f"lstmconv.{name}" for name in unneeded}


@pytest.mark.parametrize("arguments", [[], [str(SAMPLE)]])
def test_explaining_loads_no_framework(arguments):
    """Rich draws it; inspecting does without."""
    assert loaded_by("explain", *arguments) <= READING | {"rich"}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".cudnn.safetensors", ".h5", ".keras"])
def test_converting_an_h5_loads_no_framework(suffix, tmp_path):
    """The weights are compared by safetensors' own reader."""
    loaded = loaded_by("convert", str(SAMPLE), str(tmp_path / f"m{suffix}"), "--no-verify")
    assert loaded == READING | ({"safetensors"} if suffix.endswith(".safetensors") else set())


def test_converting_to_onnx_loads_onnx_and_its_types(tmp_path):
    """The onnx library itself imports ml_dtypes and importlib.metadata."""
    loaded = loaded_by("convert", str(SAMPLE), str(tmp_path / "m.onnx"), "--no-verify", "--opset", "15")
    assert loaded == READING | {"onnx", "ml_dtypes", "importlib.metadata"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--opset", "x"], "--opset"),
        (["--keras-version", "4"], "--keras-version"),
        (["--to", "nothing"], "--to"),
        (["--dtype", "float8"], "--dtype"),
        (["--input-size", "-1e3"], "--input-size"),
    ],
)
def test_a_word_that_is_not_plainly_right_is_refused_by_its_option(arguments, said):
    command = [sys.executable, "-m", "lstmconv", "convert", str(SAMPLE), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert f"Invalid value for '{said}'" in result.stderr


def test_words_become_what_the_options_say(tmp_path):
    """A repeated choice, a bounded number, a path and a plain text at once."""
    command = [
        *(sys.executable, "-m", "lstmconv", "convert", str(SAMPLE), str(tmp_path / "out"), "--to", "keras", "--to"),
        *("onnx", "--keras-version", "2", "--opset", "16", "--rename", "lstm=first", "--json", "--no-verify"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    paths = [Path(path).name for path in json.loads(result.stdout)["paths"]]
    assert paths == ["airline_passengers.keras", "airline_passengers.onnx"]


def test_the_end_of_a_command_leaves_nothing_to_look_through():
    """What Python collects at its end, every object otherwise, took a fifth of ``lstmconv check``."""
    code = (
        "import gc, sys; sys.argv = ['lstmconv', '--version']\n"
        "from lstmconv.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    print(len(gc.get_objects()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout.splitlines()[-1]) < 1000


def test_an_embedding_is_run_without_pytorch_s_compiler(tmp_path):
    """An nn.Embedding that is drawn on the device meta loads torch._dynamo and SymPy, which takes two seconds."""
    code = (
        "import sys\nimport numpy as np, lstmconv.torch\nfrom lstmconv.model import Call, Input, Model, Tensor, kinds\n"
        "layer = kinds.Embedding('words', np.ones((5, 3), np.float32))\n"
        "calls = (Call('words', layer, (Tensor('ids'),)),)\n"
        "model = Model('m', (Input('ids', (None, None), 'int32'),), calls, {'words': Tensor('words')})\n"
        "lstmconv.torch.to_torch(model)\n"
        "sys.exit(bool({'torch._dynamo', 'sympy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
