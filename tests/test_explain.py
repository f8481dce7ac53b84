"""What ``lstmconv explain`` says holds outside lstmconv: the frameworks compute it from the places that it names."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

import lstmconv
from lstmconv.errors import LstmconvError, NoLSTMError
from lstmconv.explaining.explanation import example, explain, to_json
from lstmconv.model import Checkpoint, Provenance
from tests._cases import random
from tests._command import lstmconv_command
from tests.contract.building import Half, make_checkpoint, make_layer

SAMPLES = Path(__file__).parent.parent / "sample_weights"
FEATURES, UNITS, BATCH = 3, 5, 4
FLOAT32_NOISE = 2e-6
"""Sums of fewer than ten float32 products, each below 4."""
ESCAPE = "\x1b["


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``lstmconv explain`` as a user does, without a terminal."""
    with patch.dict(os.environ):
        for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM"):
            os.environ.pop(name, None)
        return lstmconv_command("explain", *arguments, **environment)


def explained(*arguments: str) -> dict:
    """Return the JSON; NaN and Infinity are no JSON."""
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr

    def refuse(token: str) -> None:
        raise AssertionError(token)

    return json.loads(done.stdout, parse_constant=refuse)


@pytest.fixture
def known():
    """Four gates' random weights, by gate: input matrix, recurrent matrix, bias; sizes are distinct primes."""
    rng = np.random.default_rng(3)
    shapes = {"input matrix": (UNITS, FEATURES), "recurrent matrix": (UNITS, UNITS), "input bias": (UNITS,)}
    return {role: {gate: rng.standard_normal(shape) for gate in "ifgo"} for role, shape in shapes.items()}


def expected(known) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return x, h, c and the h after one step, by the equations in Keras' documentation."""
    rng = np.random.default_rng(4)
    x, h, c = (rng.standard_normal((BATCH, size)) for size in (FEATURES, UNITS, UNITS))
    z = {
        gate: x @ known["input matrix"][gate].T + h @ known["recurrent matrix"][gate].T + known["input bias"][gate]
        for gate in "ifgo"
    }
    i, f, o = (1 / (1 + np.exp(-z[gate])) for gate in "ifo")
    return x, h, c, o * np.tanh(f * c + i * np.tanh(z["g"]))


@pytest.fixture
def layer():
    return make_checkpoint(make_layer(Half(*(random(shape) for shape in ((3, 20), (5, 20), (20,))))))


def filled(checkpoint, name: str, known) -> dict[str, np.ndarray]:
    """Put the known gates where ``explain`` says that a format keeps them; return its arrays."""
    (layout,) = (each for each in to_json(explain(checkpoint, formats=[name]))["layouts"] if each["format"] == name)
    arrays: dict[str, np.ndarray] = {}
    for each in layout["halves"][0]["arrays"]:
        role = "input bias" if each["content"] == "bias" else each["role"]
        for block in each["blocks"]:
            here = slice(block["start"], block["stop"])
            if each["axis"] == "flat":
                space = arrays.setdefault("space", np.full(layout["size"], np.nan, np.float32))
                space[here] = 0 if each["content"] == "zeros" else known[role][block["gate"]].ravel()
                continue
            longest = max(
                other["stop"]
                for same in layout["halves"][0]["arrays"]
                for other in same["blocks"]
                if other["array"] == block["array"]
            )
            shape = (*each["shape"][:-1], longest) if each["axis"] == "columns" else (longest, *each["shape"][1:])
            array = arrays.setdefault(block["array"], np.full(shape, np.nan, np.float32))
            if each["content"] == "zeros":
                array[here] = 0
            elif each["axis"] == "columns":
                array[..., here] = known[role][block["gate"]].T
            else:
                array[here] = known[role][block["gate"]]
    return arrays


# Where each format keeps the gates


def test_keras_computes_from_the_columns_that_are_named(layer, known):
    keras = pytest.importorskip("keras")
    arrays = filled(layer, "keras", known)
    x, h, c, want = expected(known)
    cell = keras.layers.LSTMCell(UNITS, recurrent_activation="sigmoid")
    cell.build((None, FEATURES))
    cell.set_weights([arrays["kernel"], arrays["recurrent_kernel"], arrays["bias"]])
    x, h, c = (keras.ops.convert_to_tensor(each, "float32") for each in (x, h, c))
    found, _ = cell(x, [h, c])
    np.testing.assert_allclose(found.detach().numpy(), want, rtol=0, atol=FLOAT32_NOISE)


def test_torch_computes_from_the_rows_that_are_named(layer, known):
    torch = pytest.importorskip("torch")
    arrays = filled(layer, "torch", known)
    x, h, c, want = (torch.tensor(each, dtype=torch.float32) for each in expected(known))
    module = torch.nn.LSTM(FEATURES, UNITS)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=True)
    _, (found, _) = module(x[None], (h[None], c[None]))
    torch.testing.assert_close(found[0], want, rtol=0, atol=FLOAT32_NOISE)


def test_onnxruntime_computes_from_the_rows_that_are_named(layer, known):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    arrays = filled(layer, "onnx", known)
    x, h, c, want = (np.float32(each) for each in expected(known))
    weights = {letter: arrays[f"{letter}[0]"][None] for letter in "WRB"}
    node = onnx.helper.make_node("LSTM", ["x", "W", "R", "B", "", "h", "c"], ["", "y"], hidden_size=UNITS)
    inputs = [onnx.helper.make_tensor_value_info(name, 1, None) for name in ("x", "h", "c")]
    outputs = [onnx.helper.make_tensor_value_info("y", 1, None)]
    held = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    opset = [onnx.helper.make_opsetid("", 14)]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", inputs, outputs, held), opset_imports=opset, ir_version=8
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": x[None], "h": h[None], "c": c[None]})
    np.testing.assert_allclose(found[0], want, rtol=0, atol=FLOAT32_NOISE)


def test_jax_finds_in_cudnns_buffer_what_is_named(layer, known):
    rnn = pytest.importorskip("jax.experimental.rnn")
    import jax.numpy as jnp

    space = filled(layer, "cudnn", known)["space"]
    assert space.shape == (rnn.get_num_params_in_lstm(FEATURES, UNITS, 1, False),)
    found = rnn.unpack_lstm_weights(jnp.asarray(space), FEATURES, UNITS, 1, False)
    for role, unpacked in zip(("input matrix", "recurrent matrix", "input bias"), found, strict=False):
        want = np.concatenate([known[role][gate] for gate in "ifgo"]).astype(np.float32)
        np.testing.assert_array_equal(np.asarray(unpacked[0]).reshape(want.shape), want)
    np.testing.assert_array_equal(np.asarray(found[3][0]).ravel(), np.zeros(4 * UNITS))


def test_offsets_of_a_stacked_bidirectional_are_jaxs():
    """Every pseudo-layer's every gate, of a layer of both directions on another one."""
    rnn = pytest.importorskip("jax.experimental.rnn")
    import jax.numpy as jnp

    layouts = explained(SAMPLES / "torch_stacked.pt", "--format", "cudnn")["layouts"]
    (layout,) = (each for each in layouts if each["format"] == "cudnn")
    numbered = np.arange(layout["size"], dtype=np.float32)
    found = rnn.unpack_lstm_weights(jnp.asarray(numbered), 5, 7, 2, True)
    assert len(layout["halves"]) == 4
    for number, half in enumerate(layout["halves"]):
        for array, unpacked in zip(half["arrays"], found, strict=True):
            runs = np.concatenate([np.arange(block["start"], block["stop"]) for block in array["blocks"]])
            np.testing.assert_array_equal(np.asarray(unpacked[number]).ravel(), runs)


def test_a_cudnn_lstm_keeps_two_biases_and_keras_says_which_columns():
    """tf_keras/python/layers/rnn/legacy_cells: ``b_i = bias[:units]`` of eight runs, the input biases first."""
    own = explained(SAMPLES / "tf_keras_cudnn_lstm.h5")
    arrays = {array["name"]: array for array in own["layouts"][0]["halves"][0]["arrays"]}
    assert own["layers"][0]["class_name"] == "CuDNNLSTM"
    starts = [block["start"] for array in arrays.values() if "bias" in array["role"] for block in array["blocks"]]
    units = own["layers"][0]["hidden_size"]
    assert starts == [k * units for k in range(8)]


# One step


@pytest.mark.parametrize("sample", ["airline_passengers.h5", "tf_keras_bidirectional.h5", "keras1_lstm.h5", None])
def test_the_step_is_torchs_step(sample):
    """Torch's own numbers, in float64; hard_sigmoid is Keras 1's and 2's: ``clip(0.2 x + 0.5, 0, 1)``."""
    torch = pytest.importorskip("torch")
    source = [] if sample is None else [SAMPLES / sample]
    found = explained(*source)
    step, layer = found["step"], found["layers"][0]
    checkpoint = example() if sample is None else lstmconv.load(SAMPLES / sample)
    half = checkpoint.layers[0].directions[0]
    x, h = (torch.tensor(step[key], dtype=torch.float64)[None] for key in "xh")
    unit = step["unit"]
    rows = {
        gate: tuple(
            torch.tensor(np.array(getattr(getattr(half, name), gate)), dtype=torch.float64)
            for name in ("weight_ih", "weight_hh", "bias_ih")
        )
        for gate in "ifgo"
    }
    z = {gate: float(x[0] @ w[unit] + h[0] @ r[unit] + b[unit]) for gate, (w, r, b) in rows.items()}
    for gate in step["gates"]:
        assert gate["input_side"] == pytest.approx(z[gate["gate"]], abs=1e-12)
        assert gate["recurrent_side"] == pytest.approx(z[gate["gate"]], abs=1e-12)
    hard = layer["directions"][0]["recurrent_activation"]["name"] == "hard_sigmoid"
    squash = (
        (lambda v: min(max(0.2 * v + 0.5, 0), 1))
        if hard
        else (lambda v: float(torch.sigmoid(torch.tensor(v, dtype=torch.float64))))
    )
    c = squash(z["f"]) * step["c"] + squash(z["i"]) * np.tanh(z["g"])
    assert step["new_c"] == pytest.approx([c, c], abs=1e-12)
    assert step["new_h"] == pytest.approx([squash(z["o"]) * np.tanh(c)] * 2, abs=1e-12)


# What is seen


CASES = [
    [],
    [SAMPLES / "airline_passengers.h5"],
    [SAMPLES / "keras1_lstm.h5"],
    [SAMPLES / "keras2_hard_sigmoid.h5"],
    [SAMPLES / "keras3_backwards.keras"],
    [SAMPLES / "tf_keras_bidirectional.h5"],
    [SAMPLES / "tf_keras_cudnn_lstm.h5"],
    [SAMPLES / "torch_stacked.pt"],
    ["--format", "keras-cudnn", "--format", "keras-1"],
]


def width(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in line)


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("arguments", CASES, ids=lambda case: str(case[0]).rsplit("/", 1)[-1] if case else "example")
def test_it_fits_and_is_plain_where_it_is_piped(arguments, columns):
    done = run(*arguments, COLUMNS=str(columns))
    assert done.returncode == 0, done.stderr
    assert max(map(width, done.stdout.splitlines())) <= columns
    assert "\x1b" not in done.stdout
    assert "One step of unit" in done.stdout
    assert "Where the bias goes" in done.stdout


def test_it_is_true_to_scale():
    """All gates of 4 units are as wide as each other, and a matrix of 5 features is wider than one of 4."""
    text = run(COLUMNS="80").stdout
    kernel = next(line for line in text.splitlines() if line.startswith("0 ┌"))
    assert {len(piece) for box in re.findall(r"┌([─┬]+)┐", kernel) for piece in box.split("┬")} == {3}
    torch = next(line for line in text.splitlines() if line.startswith(" 0 ┌"))
    w_ih, w_hh = (len(box) for box in re.findall(r"┌([─]+)┐", torch)[:2])
    assert (w_ih, w_hh) == (4, 3)


def test_a_gate_has_one_colour_in_every_layout():
    """Every letter of a gate between two lines, wherever it is drawn, has its gate's background or foreground."""
    shown = run(FORCE_COLOR="1", COLUMNS="80", TERM="xterm-256color").stdout
    assert ESCAPE in shown
    colours: dict[str, set[str]] = {}
    for codes, text in re.findall(r"\x1b\[([\d;]+)m([^\x1b]*)\x1b\[0m", shown):
        letter = re.fullmatch(r"\s*([ifgo])(?:=0)?(?: \d)?\s*", text)
        if letter:
            colours.setdefault(letter[1], set()).add(codes)
    assert sorted(colours) == list("fgio")
    assert all(len(found) == 1 for found in colours.values()), colours
    assert len({next(iter(found)) for found in colours.values()}) == 4


def test_colours_are_for_terminals_and_for_who_wants_them():
    plain = run().stdout
    assert ESCAPE not in run(FORCE_COLOR="1", NO_COLOR="1").stdout.replace(ESCAPE + "1m", "")
    ours, theirs = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-m", "lstmconv", "explain"],
        stdout=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"},
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert done.wait() == 0
    text = shown.decode()
    assert ESCAPE in text
    without = re.sub(r"\x1b\[[\d;]*m", "", text).replace("\r\n", "\n")
    assert [line.rstrip() for line in without.splitlines()] == [line.rstrip() for line in plain.splitlines()]


def test_a_terminal_that_knows_ascii_only_gets_ascii():
    environment = {**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "COLUMNS": "80"}
    command = [sys.executable, "-m", "lstmconv", "explain"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert "+---+" in done.stdout


# What may be odd


def test_names_are_shown_as_they_are(tmp_path):
    """Rich's own markup, quotes, angle brackets and terminal commands in a layer's name do nothing."""
    name = 'a[red]b"<i>\x1b[31m'
    file = write_named(tmp_path / "m.h5", name)
    done = run(file)
    assert done.returncode == 0, done.stderr
    assert 'a[red]b"<i>' in done.stdout
    assert "\x1b" not in done.stdout
    assert explained(file)["layers"][0]["name"] == name


def write_named(path: Path, name: str) -> Path:
    lstmconv.save(make_checkpoint(make_layer(Half(random((3, 20)), random((5, 20)), random((20,))), name=name)), path)
    return path


def test_a_layer_without_bias_says_so(tmp_path):
    half = Half(random((3, 20)), random((5, 20)), None)
    lstmconv.save(make_checkpoint(make_layer(half)), tmp_path / "m.h5")
    found = explained(tmp_path / "m.h5")
    assert found["bias"]["stored"] == []
    assert not any("+ bias" in line for line in found["equations"])
    assert "The layer has none" in run(tmp_path / "m.h5").stdout


def test_numbers_that_are_none_are_null_in_json(tmp_path):
    half = Half(np.full((3, 20), np.nan, np.float32), random((5, 20)), np.full(20, np.inf, np.float32))
    lstmconv.save(make_checkpoint(make_layer(half)), tmp_path / "m.safetensors")
    assert None in explained(tmp_path / "m.safetensors")["step"]["new_h"]
    assert run(tmp_path / "m.safetensors").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([SAMPLES / "airline_passengers.h5", "--layer", "nothing"], "lstm"),
        ([SAMPLES / "missing.h5"], "no such file"),
        ([SAMPLES / "README.md"], "README.md"),
        (["--layer", "nothing"], "lstm"),
    ],
)
def test_bad_input_is_one_line(arguments, said):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr


def test_a_damaged_file_is_one_line(tmp_path):
    content = (SAMPLES / "airline_passengers.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(content[: len(content) // 3])
    done = run(tmp_path / "cut.h5")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


def test_a_model_without_an_lstm_is_refused_by_name():
    """A whole model of other layers is read, and has nothing to explain."""
    model = Checkpoint((), Provenance("gru.keras", "", "Keras .keras archive"))
    with pytest.raises(NoLSTMError, match=r"^gru\.keras: the model has no LSTM layer"):
        explain(model)


def test_every_real_file_is_explained(real_files):
    """Whatever opens is explained, and fits."""
    seen = 0
    for path in sorted(real_files.iterdir()):
        try:
            checkpoint = lstmconv.load(path)
        except (LstmconvError, OSError):
            continue
        if not checkpoint.layers:  # A whole model of other layers.
            continue
        explanation = explain(checkpoint)
        json.dumps(to_json(explanation), allow_nan=False)
        seen += 1
    assert seen > 5
