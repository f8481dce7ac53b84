"""Make the golden SavedModels of ``model.export()`` and checkpoints of Keras 3, each beside the same model's .keras.

    python3.11 -m venv tf221 && tf221/bin/pip install tensorflow-cpu==2.21.0 keras==3.15.1 tf-keras==2.21.0
    tf221/bin/python tests/golden/tensorflow/make_exports.py tests/golden/tensorflow
    PYTHONPATH=keras-3.3.3 tf221/bin/python tests/golden/tensorflow/make_exports.py tests/golden/tensorflow
    tf221/bin/python tests/golden/tensorflow/make_exports.py tests/golden/tensorflow tf_keras

It writes ``exports-KERAS-VERSION.zip``: of each case a folder with ``model.keras``, ``model.json``, ``export/``, and,
of Keras 3, ``archive/`` (ExportArchive), ``saved/`` (tf.saved_model.save) and ``checkpoint/cp`` (tf.train.Checkpoint of
the model and its optimizer). All layers of ``nested`` have equal sizes, so that shapes tell nothing.
"""

import importlib
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import numpy as np
import tensorflow as tf

keras = importlib.import_module(sys.argv[2] if len(sys.argv) > 2 else "keras")
layers = keras.layers
NEW = keras.__version__.startswith("3")
STEPS, UNITS = 3, 5


def nested():
    """Nest a Functional and a Sequential model, freeze one half of a Bidirectional, call one LSTM twice."""
    inside = keras.Input((STEPS, UNITS), name="inside")
    t = layers.LSTM(UNITS, return_sequences=True, name="zeta")(inside)
    inner = keras.Model(inside, layers.LSTM(UNITS, return_sequences=True, name="alpha")(t), name="encoder")
    sequence = keras.Sequential([layers.LSTM(UNITS, return_sequences=True, name="middle")], name="sequence")
    x = keras.Input((STEPS, UNITS), name="x")
    twice = layers.LSTM(UNITS, return_sequences=True, name="twice")
    both = layers.Bidirectional(layers.LSTM(UNITS, name="inner"), merge_mode="sum", name="both")
    model = keras.Model(x, layers.Dense(UNITS, name="head")(both(sequence(inner(twice(twice(x)))))), name="outer")
    both.forward_layer.trainable = False
    return model


class Net(keras.Model):
    """A class of the user's own: its layers are built under one name."""

    def __init__(self):
        super().__init__(name="net")
        self.low = layers.LSTM(UNITS, return_sequences=True)
        self.high = layers.LSTM(UNITS)

    def call(self, x):
        return self.high(self.low(x))


def save(model, case: Path) -> None:
    rng = np.random.RandomState(7)
    for variable in model.weights:
        variable.assign(rng.uniform(-0.7, 0.7, variable.shape).astype("float32"))
    x = rng.uniform(-1, 1, (4, STEPS, UNITS)).astype("float32")
    model.compile("adam", "mse")
    model.fit(x, np.zeros_like(np.asarray(model(x))), verbose=0)
    case.mkdir(parents=True)
    model.export(str(case / "export"))
    if case.name != "subclassed":
        (case / "model.json").write_text(model.to_json())
        model.save(str(case / "model.keras"))
    if NEW and case.name != "subclassed":
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint("serve", model.call, [tf.TensorSpec((None, STEPS, UNITS), tf.float32)])
        archive.write_out(str(case / "archive"))
        tf.saved_model.save(model, str(case / "saved"))
    if NEW:
        tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(str(case / "checkpoint" / "cp"))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        made = Path(name) / "made"
        save(nested(), made / "nested")
        net = Net()
        net(np.zeros((2, STEPS, UNITS), "float32"))
        save(net, made / "subclassed")
        target = Path(sys.argv[1]) / f"exports-{keras.__name__.replace('_', '-')}-{keras.__version__}.zip"
        with zipfile.ZipFile(target, "w", zipfile.ZIP_LZMA) as archive:
            for file in sorted(made.rglob("*")):
                if file.is_file() and file.name != "fingerprint.pb":
                    archive.write(file, file.relative_to(made))
        shutil.rmtree(made)


main()
