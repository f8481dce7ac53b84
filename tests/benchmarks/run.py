"""Measure lstmconv beside other ways to the same files; print the Markdown tables of docs/speed.md.

    python tests/benchmarks/run.py                          everything; some minutes, and 7 GB of disk
    python tests/benchmarks/run.py small 67MB --rounds 3    some of it: small, 67MB, 2GB, whole, files, sizes

Every run is a process of its own: its wall time, its start included, and its peak memory. Contenders take turns,
round by round, and the median counts. Sources are made here, of random weights, and taken away again. Contenders
that are not installed are named and left out; LSTMCONV_TF2ONNX_PYTHON is an interpreter that has tf2onnx.
"""

from __future__ import annotations

import argparse
import compileall
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

LEAN = """
import sys, h5py, torch
state = {}
with h5py.File(sys.argv[1]) as file:
    cell = file["model_weights/lstm/lstm/lstm_cell"]
    state["lstm.weight_ih_l0"] = torch.from_numpy(cell["kernel:0"][()]).T.contiguous()
    state["lstm.weight_hh_l0"] = torch.from_numpy(cell["recurrent_kernel:0"][()]).T.contiguous()
    state["lstm.bias_ih_l0"] = torch.from_numpy(cell["bias:0"][()])
    state["lstm.bias_hh_l0"] = torch.zeros_like(state["lstm.bias_ih_l0"])
torch.save(state, sys.argv[2])
"""
CAREFUL = (
    LEAN
    + """
import numpy as np
back = torch.load(sys.argv[2], weights_only=True)
columns, units = state["lstm.weight_ih_l0"].shape[1], state["lstm.weight_hh_l0"].shape[1]
module = torch.nn.LSTM(columns, units, batch_first=True)
module.load_state_dict({name.removeprefix("lstm."): tensor for name, tensor in back.items()})
x = np.random.default_rng(0).standard_normal((3, 16, columns)).astype("float32")
with torch.no_grad():
    found = module(torch.from_numpy(x))[0].numpy()
with h5py.File(sys.argv[1]) as file:
    cell = file["model_weights/lstm/lstm/lstm_cell"]
    names = ("kernel:0", "recurrent_kernel:0", "bias:0")
    kernel, recurrent, bias = (cell[name][()].astype("float64") for name in names)
sigmoid = lambda z: 1 / (1 + np.exp(-z))
h = c = np.zeros((3, units))
for step in range(16):
    i, f, g, o = np.split(x[:, step] @ kernel + h @ recurrent + bias, 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    assert np.abs(h - found[:, step]).max() < 1e-5
"""
)
KERAS = """
import os, sys
os.environ["KERAS_BACKEND"] = "torch"
import keras, torch
kernel, recurrent, bias = keras.models.load_model(sys.argv[1], compile=False).get_layer("lstm").get_weights()
tensors = {"weight_ih_l0": kernel.T, "weight_hh_l0": recurrent.T, "bias_ih_l0": bias, "bias_hh_l0": 0 * bias}
torch.save({f"lstm.{name}": torch.from_numpy(array.copy()) for name, array in tensors.items()}, sys.argv[2])
"""
TF2ONNX = """
import os, sys
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", TF_USE_LEGACY_KERAS="1")
import tensorflow as tf, tf2onnx
model = tf.keras.models.load_model(sys.argv[1], compile=False)
spec = (tf.TensorSpec((None, None, model.input_shape[-1]), tf.float32),)
tf2onnx.convert.from_keras(model, input_signature=spec, output_path=sys.argv[2])
"""
TF2ONNX_WHOLE = """
import os, sys
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", KERAS_BACKEND="tensorflow")
import keras, tensorflow as tf, tf2onnx
model = keras.models.load_model(sys.argv[1], compile=False)
spec = [tf.TensorSpec([None] + list(each.shape[1:]), each.dtype) for each in model.inputs]
tf2onnx.convert.from_function(
    tf.function(lambda x: model(x, training=False)), input_signature=spec, output_path=sys.argv[2], opset=17
)
"""


_LARGE = 1e9


@dataclass(frozen=True)
class Measured:
    """One contender's median wall time in seconds, and its largest peak memory in MB."""

    seconds: float
    megabytes: float


def write_source(path: Path, units: int) -> None:
    """Write a whole model as Keras 2.9 does: one LSTM of as many features as units, ``32 * units**2`` bytes.

    In a process of its own: what this one holds in memory would be counted as its children's.
    """
    subprocess.run([sys.executable, __file__, "--write", str(units), "--folder", str(path)], check=True)


def write_here(path: Path, units: int) -> None:
    """Write a source; see :func:`write_source`."""
    import h5py
    import numpy as np

    layers = [
        {"class_name": "InputLayer", "config": {"name": "x", "batch_input_shape": [None, None, units]}},
        {
            "class_name": "LSTM",
            "config": {
                "name": "lstm",
                "units": units,
                "activation": "tanh",
                "recurrent_activation": "sigmoid",
                "use_bias": True,
                "unit_forget_bias": True,
                "return_sequences": True,
            },
        },
    ]
    config = {"class_name": "Sequential", "config": {"name": "model", "layers": layers}}
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        weights = file.create_group("model_weights")
        for group in (file, weights):
            group.attrs.update({"keras_version": "2.9.0", "backend": "tensorflow"})
        file.attrs["model_config"] = json.dumps(config)
        names = ("kernel:0", "recurrent_kernel:0", "bias:0")
        weights.attrs["layer_names"] = [b"lstm"]
        layer = weights.create_group("lstm")
        layer.attrs["weight_names"] = [f"lstm/lstm_cell/{name}".encode() for name in names]
        for name in names[:2]:
            matrix = layer.create_dataset(f"lstm/lstm_cell/{name}", (units, 4 * units), "f4")
            for start in range(0, units, 256):
                matrix[start : start + 256] = 0.05 * random.standard_normal((min(256, units - start), 4 * units), "f4")
        layer.create_dataset("lstm/lstm_cell/bias:0", data=0.05 * random.standard_normal(4 * units, "f4"))


def lstmconv(*words: str | Path) -> list[str]:
    """Return a command as users type it."""
    script = Path(sys.executable).with_name("lstmconv")
    return [*([str(script)] if script.is_file() else [sys.executable, "-m", "lstmconv"]), *map(str, words)]


def converting(source: Path, target: Path, *options: str) -> list[str]:
    """Return the command that converts a file."""
    return lstmconv("convert", source, target, "--force", *options)


def scripts(source: Path, target: Path) -> dict[str, list[str]]:
    """Return the other ways that are installed; name those that are not."""
    found = {}
    python = os.environ.get("LSTMCONV_TF2ONNX_PYTHON", sys.executable)
    ways = [
        ("h5py + torch script → .pt", LEAN, sys.executable, find_spec("torch") is not None),
        ("careful script → .pt, loaded, run and compared", CAREFUL, sys.executable, find_spec("torch") is not None),
        (
            "Keras + torch → .pt",
            KERAS,
            sys.executable,
            find_spec("torch") is not None and find_spec("keras") is not None,
        ),
        ("tf2onnx → .onnx", TF2ONNX, python, python != sys.executable or find_spec("tf2onnx") is not None),
    ]
    for name, script, interpreter, there in ways:
        if script is TF2ONNX and source.stat().st_size > _LARGE:
            say(f"left out at this size: {name} (it takes 80 times the file's memory)")
        elif there:
            found[name] = [interpreter, "-c", script, str(source), str(target)]
        else:
            say(f"not installed, left out: {name}")
    return found


def _promises(source: Path, copy: Path) -> str:
    """Return what lstmconv's promises cost alone: a copy that is hashed, compared and stored, and nothing is turned."""
    hashing = f"import hashlib; hashlib.file_digest(open('{source}', 'rb'), 'sha256')"
    steps = f"cp '{source}' '{copy}' && cmp '{source}' '{copy}' && sync '{copy}' && wait"
    return f"""'{sys.executable}' -c "{hashing}" & {steps}"""


def measure(commands: Mapping[str, list[str]], rounds: int, clear: Callable[[], None]) -> dict[str, Measured]:
    """Run every command in turn, round by round."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for number in range(rounds):
        for name, command in commands.items():
            if number and not taken[name]:
                continue
            clear()
            start = time.perf_counter()
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            assert child.stderr is not None
            said = child.stderr.read()
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.perf_counter() - start
            if child.returncode:
                say(f"failed, left out: {name}: {said.decode(errors='replace').strip().splitlines()[-1:]}")
                continue
            taken[name].append((seconds, usage.ru_maxrss * 1024 / 1e6))
            say(f"round {number + 1}  {seconds:8.2f} s  {taken[name][-1][1]:7.0f} MB  {name}")
    clear()
    return {
        name: Measured(statistics.median(s for s, _ in runs), max(m for _, m in runs))
        for name, runs in taken.items()
        if runs
    }


def say(text: str) -> None:
    """Tell on stderr what happens."""
    print(text, file=sys.stderr, flush=True)


def table(title: str, found: Mapping[str, Measured], against: str) -> None:
    """Print one table."""
    base = found[against].seconds
    print(f"\n| {title} | seconds | × {against} | peak MB |\n|---|---|---|---|")
    for name, each in found.items():
        print(f"| {name} | {each.seconds:.2f} | {each.seconds / base:.1f} | {each.megabytes:.0f} |")
    sys.stdout.flush()


def one_file(title: str, units: int, folder: Path, rounds: int, others: bool = True) -> None:
    """Compare all ways for one file."""
    source, targets = folder / "source.h5", folder / "targets"
    write_source(source, units)
    size = source.stat().st_size

    def clear() -> None:
        shutil.rmtree(targets, ignore_errors=True)
        targets.mkdir()

    commands = {"cp": ["cp", str(source), str(targets / "copy.h5")]}
    commands["cp, then sync"] = ["sh", "-c", f"cp '{source}' '{targets}/copy.h5' && sync '{targets}/copy.h5'"]
    if size > _LARGE:
        commands["cp beside its SHA-256, then cmp and sync"] = ["sh", "-c", _promises(source, targets / "copy.h5")]
    for suffix in (".safetensors", ".pt", ".onnx", ".cudnn.safetensors"):
        commands[f"lstmconv → {suffix}"] = converting(source, targets / f"m{suffix}", "--no-verify")
    for suffix, framework in ((".pt", "torch"), (".safetensors", "torch"), (".onnx", "onnxruntime")):
        if find_spec(framework) is not None:
            commands[f"lstmconv → {suffix}, verified"] = converting(source, targets / f"v{suffix}")
    if size < 1e6:
        commands["python -c 'import h5py, numpy, typer'"] = [sys.executable, "-c", "import h5py, numpy, typer"]
        commands["lstmconv inspect"] = lstmconv("inspect", source)
        commands["lstmconv check"] = lstmconv("check", source)
        commands["python -c 'import typer'"] = [sys.executable, "-c", "import typer"]
        commands["lstmconv --help"] = lstmconv("--help")
    if others:
        commands |= scripts(source, targets / "other")
    table(f"{title} ({size / 1e6:,.1f} MB)", measure(commands, rounds, clear), "cp")
    source.unlink()


def many_files(folder: Path, rounds: int, count: int = 1000) -> None:
    """Convert many small files in one run, and one of them alone."""
    sources, targets, before = folder / "many", folder / "targets", folder / "before"
    sources.mkdir()
    before.mkdir()
    write_source(sources / "m0000.h5", 32)
    for number in range(1, count):
        shutil.copy(sources / "m0000.h5", sources / f"m{number:04}.h5")
    numbers = itertools.count()

    def clear() -> None:
        """Move what was written out of the way: where files were just deleted, ext4 is slow to create others."""
        if targets.exists():
            targets.rename(before / str(next(numbers)))

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    commands = {"cp": ["cp", "-r", str(sources), str(targets)]}
    for name in ("safetensors", "torch", "onnx"):
        for what, pattern in (("", "*.h5"), (", one file", "m0000.h5")):
            words = ("convert", str(sources / pattern), "--to", name, "--into", targets, "--no-verify")
            commands[f"lstmconv → {name}{what}"] = lstmconv(*words)
    if find_spec("onnxruntime") is not None:
        commands["lstmconv → onnx, verified"] = lstmconv("convert", sources / "*.h5", "--to", "onnx", "--into", targets)
    found = measure(commands, rounds, clear)
    table(f"{count:,} files, {cores} cores", found, "cp")
    spent = [
        f"{name.split()[-1]} {1000 * cores * (each.seconds - found[one].seconds) / (count - 1):.1f}"
        for name, each in found.items()
        if (one := f"{name}, one file") in found
    ]
    print(f"\nMilliseconds for each file and core, after the start: {', '.join(spent)}.", flush=True)
    shutil.rmtree(sources)
    shutil.rmtree(before)


WHOLE = """
import os, sys
os.environ["KERAS_BACKEND"] = "torch"
import keras
layers = keras.layers
models = {
    "CNN-LSTM": lambda: [
        layers.Input((None, 64)), layers.Conv1D(512, 5, activation="relu", padding="causal"), layers.MaxPooling1D(2),
        layers.LSTM(1536, return_sequences=True), layers.Dropout(0.3), layers.GlobalAveragePooling1D(),
        layers.Dense(10),
    ],
    "classifier": lambda: [
        layers.Input((None,), dtype="int32"), layers.Embedding(100_000, 300, mask_zero=True),
        layers.Bidirectional(layers.LSTM(64)), layers.Dense(5, activation="softmax"),
    ],
}
keras.utils.set_random_seed(0)
keras.Sequential(models[sys.argv[1]]()).save(sys.argv[2])
"""
EXPORT = """
import os, sys
os.environ["KERAS_BACKEND"] = "torch"
import keras
import numpy as np
model = keras.models.load_model(sys.argv[1], compile=False)
model(*(np.zeros([1] + [size or 8 for size in each.shape[1:]], each.dtype) for each in model.inputs))
model.export(sys.argv[2], format="onnx")
"""


def whole_models(folder: Path, rounds: int) -> None:
    """Convert whole models that real Keras made, beside what else turns them into ONNX."""
    if find_spec("keras") is None:
        say("not installed, left out: whole models need keras")
        return
    for name in ("CNN-LSTM", "classifier"):
        source, targets = folder / "whole.h5", folder / "targets"
        subprocess.run([sys.executable, "-c", WHOLE, name, str(source)], check=True)

        def clear(targets: Path = targets) -> None:
            shutil.rmtree(targets, ignore_errors=True)
            targets.mkdir()

        commands = {"cp": ["cp", str(source), str(targets / "copy.h5")]}
        for suffix in (".onnx", ".pt"):
            commands[f"lstmconv → {suffix}"] = converting(source, targets / f"m{suffix}", "--no-verify")
            commands[f"lstmconv → {suffix}, verified"] = converting(source, targets / f"v{suffix}")
        commands["Keras export → .onnx"] = [sys.executable, "-c", EXPORT, str(source), str(targets / "other.onnx")]
        python = os.environ.get("LSTMCONV_TF2ONNX_PYTHON", sys.executable)
        if python != sys.executable or find_spec("tf2onnx") is not None:
            commands["tf2onnx → .onnx"] = [python, "-c", TF2ONNX_WHOLE, str(source), str(targets / "other.onnx")]
        else:
            say("not installed, left out: tf2onnx → .onnx")
        table(f"{name} ({source.stat().st_size / 1e6:,.1f} MB)", measure(commands, rounds, clear), "cp")
        source.unlink()


def growth(folder: Path, rounds: int) -> None:
    """Show how time and memory grow with the size."""
    source, target = folder / "source.h5", folder / "m.safetensors"
    print("\n| size | cp, seconds | lstmconv → .safetensors, seconds | peak MB |\n|---|---|---|---|")
    for megabytes in (1, 16, 64, 256, 1024, 4096):
        write_source(source, round((megabytes * 1e6 / 32) ** 0.5))
        commands = {"cp": ["cp", str(source), str(target)], "lstmconv": converting(source, target, "--no-verify")}
        found = measure(commands, rounds, lambda: target.unlink(missing_ok=True))
        own = found["lstmconv"]
        print(f"| {megabytes:,} MB | {found['cp'].seconds:.2f} | {own.seconds:.2f} | {own.megabytes:.0f} |", flush=True)
        source.unlink()


def main() -> None:
    """Run what was asked for."""
    kinds = ("small", "67MB", "2GB", "whole", "files", "sizes")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help=f"{', '.join(kinds)}; all by default")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each contender; the median counts")
    parser.add_argument("--folder", type=Path, help="where the files lie meanwhile")
    parser.add_argument("--alone", action="store_true", help="lstmconv and cp only")
    parser.add_argument("--write", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.write:
        write_here(chosen.folder, chosen.write)
        return
    if hasattr(os, "getloadavg"):
        say(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; over 1.5 the figures say little")
    package = find_spec("lstmconv")
    assert package is not None
    assert package.origin is not None
    compileall.compile_dir(Path(package.origin).parent, quiet=1)  # As pip does when it installs.
    with tempfile.TemporaryDirectory(dir=chosen.folder) as place:
        folder = Path(place)
        for what in chosen.what or kinds:
            if what == "whole":
                whole_models(folder, chosen.rounds)
            elif what == "files":
                many_files(folder, chosen.rounds)
            elif what == "sizes":
                growth(folder, chosen.rounds)
            else:
                units = {"small": 64, "67MB": 1448, "2GB": 8102}[what]
                one_file(what, units, folder, chosen.rounds, not chosen.alone)


if __name__ == "__main__":
    main()
