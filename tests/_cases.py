"""The golden cases, and plain NumPy that says what their arrays mean, independent of ``lstmconv``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from lstmconv.formats.hdf5.walk import describe

GOLDEN = Path(__file__).parent / "golden"

KERAS_1_NAMES = ("W_i", "U_i", "b_i", "W_c", "U_c", "b_c", "W_f", "U_f", "b_f", "W_o", "U_o", "b_o")
"""The order in which Keras 1 stores an LSTM's arrays, consume_less='cpu' and 'mem'."""


@dataclass(frozen=True)
class GoldenCase:
    """One file that real Keras wrote.

    Attributes:
        file: The weights file.
        recording: The ``.npz`` beside it.
        config: ``model.to_json()`` beside a file of weights only, or ``None``.
    """

    file: Path
    recording: Path
    config: Path | None

    def __str__(self) -> str:
        return f"{self.file.parent.name}/{self.file.name}"


def golden_cases() -> list[GoldenCase]:
    """List every golden weights file with its recording."""
    cases: list[GoldenCase] = []
    for recording in sorted(GOLDEN.glob("*/*.npz")):
        if recording.parent.name in ("onnx", "get_weights", "masked_steps"):  # Their own tests read these.
            continue
        to_json = recording.with_suffix(".json")
        for file in sorted(recording.parent.glob(f"{recording.stem}.*")):
            if file not in (recording, to_json):
                weights_only = ".weights" in file.name
                cases.append(GoldenCase(file, recording, to_json if weights_only else None))
    return cases


def recorded_layers(recording: Path) -> dict[str, dict[str, np.ndarray]]:
    """Return the arrays of a recording by layer name and key, in the model's order."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    with np.load(recording) as arrays:
        for name in arrays.files:
            layer, separator, key = name.rpartition("|")
            if separator:
                layers.setdefault(layer, {})[key] = arrays[name]
    return layers


def recorded_list(layer: Mapping[str, np.ndarray], prefix: str) -> list[np.ndarray]:
    """Return ``prefix0``, ``prefix1``, ... of a recorded layer."""
    found: list[np.ndarray] = []
    while f"{prefix}{len(found)}" in layer:
        found.append(layer[f"{prefix}{len(found)}"])
    return found


def random(shape: Sequence[int], seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    """Return random numbers whose gates, rows and columns all differ."""
    return np.random.default_rng(seed).normal(0, 0.5, tuple(shape)).astype(dtype)


def fused(inputs: int, units: int, seed: int = 0, dtype: Any = np.float32) -> list[np.ndarray]:
    """Return the three arrays of a Keras LSTM: kernel, recurrent_kernel, bias."""
    shapes = [(inputs, 4 * units), (units, 4 * units), (4 * units,)]
    return [random(shape, seed + k, dtype) for k, shape in enumerate(shapes)]


def per_gate(inputs: int, units: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Return the twelve arrays of a Keras 1 LSTM by name, in the order in which Keras 1 stores them."""
    shapes = {"W": (inputs, units), "U": (units, units), "b": (units,)}
    return {name: random(shapes[name[0]], seed + k) for k, name in enumerate(KERAS_1_NAMES)}


def lstm_config(name: str = "lstm_1", units: int = 5, **options: object) -> dict[str, Any]:
    """Return the config of an LSTM layer as Keras 2 and tf-keras write it."""
    config = {
        "name": name,
        "units": units,
        "activation": "tanh",
        "recurrent_activation": "sigmoid",
        "use_bias": True,
        "return_sequences": True,
        **options,
    }
    return {"class_name": "LSTM", "config": config}


def sequential(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a Sequential model, in the form from Keras 2.2.3 on."""
    return {"class_name": "Sequential", "config": {"name": "model", "layers": list(layers)}}


def write_legacy(
    path: Path,
    layers: Mapping[str, Mapping[str, np.ndarray]],
    *,
    version: str | None = "2.4.0",
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Write a legacy HDF5 file (FORMATS A.2): layer_names, and weight_names in each layer's group.

    Args:
        path: The file.
        layers: Arrays by weight name, by layer name; both in the model's order.
        version: ``keras_version`` of the root and of the weights' group; ``None`` leaves both out.
        config: Makes it a whole model.
    """
    with h5py.File(path, "w") as file:
        group = file
        if config is not None:
            file.attrs["model_config"] = json.dumps(config)
            group = file.create_group("model_weights")
        for owner in {file, group} if version is not None else ():
            owner.attrs["keras_version"] = version
            owner.attrs["backend"] = "tensorflow"
        group.attrs["layer_names"] = [name.encode() for name in layers]
        for name, arrays in layers.items():
            inner = group.require_group(name)
            inner.attrs["weight_names"] = [weight.encode() for weight in arrays]
            for weight, array in arrays.items():
                inner.create_dataset(weight, data=array)
    return path


def write_lstm(
    path: Path,
    inputs: int = 3,
    units: int = 5,
    *,
    version: str | None = "2.4.0",
    arrays: Sequence[np.ndarray] | None = None,
    **options: object,
) -> list[np.ndarray]:
    """Write a whole model of one LSTM ``lstm_1`` and return its arrays."""
    arrays = fused(inputs, units) if arrays is None else list(arrays)
    named = dict(zip(("lstm_1/kernel:0", "lstm_1/recurrent_kernel:0", "lstm_1/bias:0"), arrays, strict=False))
    config = sequential(lstm_config(units=units, **options))
    write_legacy(path, {"lstm_1": named}, version=version, config=config)
    return arrays


def write_saveable(path: Path, cells: Mapping[str, Sequence[np.ndarray]]) -> Path:
    """Write a ``.weights.h5`` file (FORMATS A.4): ``<cell>/vars/0, 1, 2``."""
    with h5py.File(path, "w") as file:
        for where, arrays in cells.items():
            for index, array in enumerate(arrays):
                file[f"{where}/vars/{index}"] = array
    return path


def walk_here(content: Any, name: str) -> BinaryIO:
    """Walk an HDF5 file in this process: quicker than a child, for files that are known to be whole."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  # The reader closes it.
    describe(content, name, file)
    return file


def columns(array: np.ndarray, units: int) -> np.ndarray:
    """Slice a Keras array i, f, c, o by hand: ``(4, units, features)``, or ``(4, units)`` for a bias."""
    i, f, c, o = (array[..., gate * units : (gate + 1) * units] for gate in range(4))
    return np.stack([i.T, f.T, c.T, o.T])


def gates_by_name(arrays: Mapping[str, np.ndarray], letter: str) -> np.ndarray:
    """Stack the arrays of Keras 1 i, f, c, o by their names: ``(4, units, features)``."""
    return np.stack([arrays[f"{letter}_{gate}"].T for gate in "ifco"])


def assert_direction(direction: Any, arrays: Sequence[np.ndarray]) -> None:
    """Check that a direction holds the arrays of ``get_weights()``, fused or of Keras 1, bit for bit."""
    if len(arrays) == 12:
        named = dict(zip(KERAS_1_NAMES, arrays, strict=True))
        expected = [gates_by_name(named, letter) for letter in "WUb"]
    else:
        units = arrays[1].shape[0]
        expected = [columns(array, units) for array in arrays]
    assert_same_bits(direction.weight_ih, expected[0])
    assert_same_bits(direction.weight_hh, expected[1])
    if len(expected) == 2:
        assert direction.bias_ih is None
    else:
        assert_same_bits(direction.bias_ih, expected[2])
    assert direction.bias_hh is None


def assert_same_bits(actual: Any, expected: np.ndarray) -> None:
    """Check shape, dtype and every bit."""
    array = np.asarray(actual)
    assert array.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
    bits = np.dtype(f"u{expected.dtype.itemsize}")
    native = [np.ascontiguousarray(each, each.dtype.newbyteorder("=")).view(bits) for each in (array, expected)]
    np.testing.assert_array_equal(native[0], native[1], strict=True)
