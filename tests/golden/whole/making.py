"""What the four makers share: a case, its random weights, and the recording of what real Keras computes with it."""

from __future__ import annotations

import dataclasses
import json
import traceback
import zipfile
import zlib
from pathlib import Path

import numpy as np

BATCH, STEPS, FEATURES, UNITS, MORE_UNITS, VOCABULARY = 3, 7, 3, 5, 2, 11
SUFFIXES = {
    "h5": ".h5",
    "h5_not_reloaded": ".h5",
    "keras": ".keras",
    "weights": ".weights.h5",
    "weights_only": ".weights_only.h5",
}

AS_KERAS_ZIPS = {"classifier", "several"}  # the other `.keras` files are compressed, so that all stay below 4 MB


@dataclasses.dataclass
class Whole:
    """A model and the inputs to feed it, in the model's order.

    `gain` scales the random kernels. `tolerance` is stored as `tol` where float32's 3e-5 is too strict. `runs` is how
    often a stateful model is called: the calls after the first are recorded as `x2:0`, `y2:0`, ...
    """

    model: object
    inputs: list
    gain: float = 0.4
    tolerance: float | None = None
    runs: int = 1


# --- inputs -----------------------------------------------------------------------------------------------------


def numbers(*shape, seed=7, scale=1.5, batch=BATCH):
    """Return float32 inputs of `shape` for each of `batch` samples."""
    shape = shape or (STEPS, FEATURES)
    return np.random.RandomState(seed).normal(0, scale, (batch, *shape)).astype("float32")


def some_mask(steps=STEPS):
    """Return a mask of five rows: whole, padded right, padded left, with holes, all masked."""
    mask = np.ones((5, steps), bool)
    mask[1, -3:] = mask[2, :2] = mask[3, [0, 2, 3, steps - 1]] = mask[4] = False
    return mask


def masked_numbers(features=FEATURES, value=0.0, seed=7):
    """Return inputs whose masked steps hold `value`."""
    x = np.random.RandomState(seed).normal(0, 1.5, (5, STEPS, features))
    return np.where(some_mask()[..., None], x, value).astype("float32")


def ids(steps=STEPS, seed=7, padded=True):
    """Return int32 token ids, 1 and above; with `padded`, 0 at the masked steps of five rows."""
    tokens = np.random.RandomState(seed).randint(1, VOCABULARY, (5 if padded else BATCH, steps)).astype("int32")
    tokens.flat[: VOCABULARY - 1] = np.random.RandomState(seed).permutation(np.arange(1, VOCABULARY))
    return np.where(some_mask(steps), tokens, 0).astype("int32") if padded else tokens


# --- weights ----------------------------------------------------------------------------------------------------


def randomise(model, gain, seed):
    """Give every weight, bias, gamma, beta, moving mean and variance of `model` random values."""
    random = np.random.RandomState(seed)

    def drawn(name, old):
        if old.dtype.kind in "iub":
            return old
        last = name.lower().split(":")[0]
        if "var" in last.split("/")[-1] or "running_std" in last:
            return random.uniform(0.4, 2.5, old.shape).astype(old.dtype)
        if "gamma" in last or "scale" in last.split("/")[-1]:
            return (random.choice([-1, 1], old.shape) * random.uniform(0.4, 1.8, old.shape)).astype(old.dtype)
        return random.normal(0, gain if old.ndim > 1 else 0.5, old.shape).astype(old.dtype)

    if hasattr(model.weights[0] if model.weights else None, "set_value"):  # Theano
        for variable in model.weights:
            variable.set_value(drawn(variable.name, variable.get_value()))
        return
    names = [str(getattr(each, "path", each.name)) for each in model.weights]
    old = model.get_weights()
    model.set_weights([drawn(name, np.asarray(each)) for name, each in zip(names, old, strict=True)])


# --- recording --------------------------------------------------------------------------------------------------


def listed(value):
    """Return the tensors or arrays in `value`, which may be one, or lists in lists."""
    return [each for part in value for each in listed(part)] if isinstance(value, (list, tuple)) else [value]


def storable(array):
    """Return `array`, as float32 where NumPy cannot store it (bfloat16) or it is half precision."""
    array = np.asarray(array)
    return array.astype("float32") if array.dtype.kind == "V" or array.dtype.itemsize == 2 else array


def run(model, inputs):
    x = inputs if len(inputs) > 1 else inputs[0]
    if isinstance(getattr(model, "input", None), dict):
        x = dict(zip(input_names(model), inputs, strict=True))
    y = model.predict(x, batch_size=len(inputs[0]), verbose=0)
    y = [y[name] for name in model.output] if isinstance(y, dict) else listed(y)
    return [storable(each) for each in listed(y)]


def faults(outputs):
    """Say what makes `outputs` poor goldens: not finite, or the same number everywhere."""
    for index, y in enumerate(outputs):
        if not np.isfinite(y.astype("float64")).all():
            yield f"output {index} is not finite"
        elif y.size > 1 and y.dtype.kind == "f" and np.ptp(y) == 0:
            yield f"output {index} is constant"


def record(whole, stem, by, formats, save, load):
    """Save `whole` beside a recording of what it computes; the saved file, loaded again, must compute the same."""
    model = whole.model
    recorded = {"by": np.array(by), "inputs": np.array(input_names(model)), "outputs": np.array(output_names(model))}
    for call in range(whole.runs):
        inputs = whole.inputs if call == 0 else [x[::-1].copy() for x in whole.inputs]
        outputs = run(model, inputs)
        if problems := list(faults(outputs)):
            raise ValueError("; ".join(problems))
        number = "" if call == 0 else call + 1
        recorded |= {f"x{number}:{index}": x for index, x in enumerate(inputs)}
        recorded |= {f"y{number}:{index}": y for index, y in enumerate(outputs)}
    if whole.tolerance:
        recorded["tol"] = np.array(whole.tolerance)
    files = []
    for format in formats:
        files.append(save(model, f"{stem}{SUFFIXES[format]}", format))
        if format == "keras" and Path(stem).name not in AS_KERAS_ZIPS:
            compress(files[-1])
    for file, format in zip(files, formats, strict=True):
        if "weights" in format:
            Path(f"{stem}.json").write_text(json.dumps(json.loads(model.to_json())) + "\n")
        elif format in {"h5", "keras"}:
            again = run(load(file), whole.inputs)
            for index, y in enumerate(again):
                if not np.allclose(y, recorded[f"y:{index}"], rtol=1e-4, atol=whole.tolerance or 1e-5):
                    raise ValueError(f"{Path(file).name} computes another output {index} when loaded again")
    np.savez_compressed(f"{stem}.npz", **recorded)


def compress(path):
    """Deflate the members of a `.keras` file, which Keras stores as they are; nothing else changes."""
    with zipfile.ZipFile(path) as archive:
        members = {info: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for info, content in members.items():
            archive.writestr(zipfile.ZipInfo(info.filename), content, zipfile.ZIP_DEFLATED)


def input_names(model):
    names = getattr(model, "input_names", None)
    return names or [tensor.name for tensor in model.inputs]


def output_names(model):
    """Return the outputs' names; Keras 3 gives a Sequential none, so that of its last layer."""
    names = getattr(model, "output_names", None)
    return names or [model.layers[-1].name]


def make(table, folder, kit, save, load, only=()):
    """Make every case of `table` (name -> builder, formats); return how many could not be made, after naming them."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    failures = 0
    for name, (build, formats) in table.items():
        if only and name not in only:
            continue
        for old in folder.glob(f"{name}.*"):
            old.unlink()
        kit.clear()
        try:
            whole = build(kit)
            randomise(whole.model, whole.gain, zlib.crc32(name.encode()) % 2**31)
            record(whole, folder / name, kit.by, formats, save, load)
            print(f"{folder.name}/{name}")  # noqa: T201
        except Exception:
            failures += 1
            lines = traceback.format_exc().strip().splitlines()
            print(f"{folder.name}/{name}: failed: {' | '.join([*lines[-5:-1], lines[-1][:600]])}")  # noqa: T201
            for file in folder.glob(f"{name}.*"):
                file.unlink()
    return failures


class Kit:
    """One Keras, with the few ways in which generations differ.

    `generation` is 2 (keras-team Keras 2), 2.5 (tf-keras, TensorFlow's tf.keras) or 3.
    """

    def __init__(self, keras, generation, by, clear):
        self.keras, self.layers, self.generation, self.by, self.clear = keras, keras.layers, generation, by, clear

    def input(self, *shape, name=None, dtype=None, batch=None):
        options = {"name": name, "dtype": dtype} if dtype else {"name": name}
        return self.layers.Input(**({"batch_shape": (batch, *shape)} if batch else {"shape": shape}), **options)

    def model(self, inputs, outputs, **options):
        return self.keras.models.Model(inputs=inputs, outputs=outputs, **options)

    def sequential(self, *layers, shape=None, **options):
        """Return a Sequential of `layers`; `shape` is that of the input of the first."""
        model = self.keras.models.Sequential(**options)
        if shape and self.generation >= 2.5:
            model.add(self.layers.Input(shape=shape))
        for layer in layers:
            model.add(layer)
        return model

    def fan(self, *layers, shape=(STEPS, FEATURES), before=(), dtype=None, batch=None):
        """Return a model that calls each of `layers` on what `before` makes of one input, and returns all outputs."""
        tensor = inputs = self.input(*shape, name="x", dtype=dtype, batch=batch)
        for layer in before:
            tensor = layer(tensor)
        outputs = [output for layer in layers for output in listed(layer(tensor))]
        return self.model(inputs, outputs)
