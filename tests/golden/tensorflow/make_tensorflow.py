"""Make the golden SavedModels and checkpoints of TensorFlow, each beside the .h5 of the same model.

    python3.7  -m venv tf115 && tf115/bin/pip install tensorflow==1.15.5 'protobuf<3.20' 'h5py<3' 'numpy<1.19'
    python3.8  -m venv tf28  && tf28/bin/pip install tensorflow-cpu==2.8.4 'protobuf<3.20'
    python3.11 -m venv tf213 && tf213/bin/pip install tensorflow-cpu==2.13.1
    python3.11 -m venv tf221 && tf221/bin/pip install tensorflow-cpu==2.21.0 tf-keras==2.21.0
    tf115/bin/python tests/golden/tensorflow/make_tensorflow.py tests/golden/tensorflow

It writes ``tf-VERSION.zip``: of each case a folder with ``model.h5`` (``weights.h5`` of a subclassed model),
``saved_model/`` (of TensorFlow 1.15 of one case only, which takes minutes), ``object_based/cp.ckpt.*``,
``name_based/ckpt.*``, ``model.json`` and ``io.npz`` (``x``, and ``y`` as TensorFlow computes it). A zip, because a
SavedModel's graph of functions is megabytes of repetition.
"""

import importlib.util
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

if importlib.util.find_spec("tf_keras"):
    import tf_keras as keras
else:
    keras = tf.keras
layers = keras.layers
OLD = tf.__version__.startswith("1.")
STEPS, FEATURES, UNITS = 7, 3, 5


def chain():
    """Token ids, masked; two LSTMs and BatchNormalization, whose moving statistics are variables too; trained."""
    x = keras.Input((STEPS,), name="tokens", dtype="int32")
    t = layers.Embedding(13, FEATURES, mask_zero=True, name="embedding")(x)
    t = layers.LSTM(UNITS, return_sequences=True, recurrent_activation="hard_sigmoid", name="low")(t)
    t = layers.BatchNormalization(name="norm")(t)
    t = layers.Dropout(0.2, name="dropout")(t)
    t = layers.Bidirectional(layers.LSTM(2, name="inner"), name="both")(t)
    tokens = np.random.RandomState(1).randint(1, 13, (4, STEPS)).astype("int32")
    tokens[1, :3] = tokens[2, -2:] = 0
    return keras.Model(x, layers.Dense(2, activation="softmax", name="out")(t), name="chain"), tokens


def nested():
    """Nest a model, call one LSTM twice, freeze another; all sizes are equal, so that shapes tell nothing."""
    inside = keras.Input((STEPS, UNITS), name="inside")
    t = layers.LSTM(UNITS, return_sequences=True, name="first")(inside)
    inner = keras.Model(inside, layers.LSTM(UNITS, return_sequences=True, name="second")(t), name="encoder")
    inner.layers[1].trainable = False
    x = keras.Input((STEPS, UNITS), name="x")
    twice = layers.LSTM(UNITS, return_sequences=True, name="twice")
    t = layers.TimeDistributed(layers.Dense(UNITS, name="step"), name="steps")(twice(inner(twice(x))))
    return keras.Model(x, layers.LSTM(UNITS, name="last")(t), name="nested"), floats(UNITS)


def kinds():
    """Layers of several variables each; a Sequential, whose InputLayer is not among its layers; stacked cells."""
    model = keras.Sequential(name="kinds")
    model.add(layers.Conv1D(4, 3, padding="same", input_shape=(STEPS, FEATURES), name="convolution"))
    model.add(layers.SeparableConv1D(6, 2, name="separable"))
    model.add(layers.LayerNormalization(name="norm"))
    model.add(layers.GRU(UNITS, return_sequences=True, name="gru"))
    model.add(
        layers.RNN([layers.LSTMCell(4, name="a"), layers.LSTMCell(3, name="b")], return_sequences=True, name="cells")
    )
    model.add(layers.Bidirectional(layers.GRU(2, return_sequences=True), merge_mode="sum", name="both"))
    model.add(layers.SimpleRNN(3, return_sequences=True, name="simple"))
    model.add(layers.LSTM(2, name="lstm"))
    return model, floats(FEATURES)


def stateful():
    """Keep states, which are variables too, and no weights."""
    model = keras.Sequential(name="stateful")
    model.add(layers.LSTM(UNITS, stateful=True, batch_input_shape=(4, STEPS, FEATURES), name="lstm"))
    model.add(layers.Dense(2, name="out"))
    return model, floats(FEATURES)


class Own(keras.Model):
    """A class of the user's own: its layers are attributes."""

    def __init__(self):
        super().__init__(name="own")
        self.reader = layers.LSTM(UNITS, return_sequences=True, recurrent_activation="hard_sigmoid", name="lstm_a")
        self.both = layers.Bidirectional(layers.LSTM(2, go_backwards=False), merge_mode="sum", name="both_ways")
        self.head = layers.Dense(3)

    def call(self, x):
        return self.head(self.both(self.reader(x)))


def subclassed():
    """Build a model without a config."""
    model = Own()
    model(np.zeros((4, STEPS, FEATURES), "float32"))
    return model, floats(FEATURES)


def floats(size):
    return np.random.RandomState(2).normal(0, 1, (4, STEPS, size)).astype("float32")


def randomise(model):
    generator = np.random.RandomState(2024)
    model.set_weights([generator.normal(0, 0.5, each.shape).astype(each.dtype) for each in model.get_weights()])
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):  # A variance has a root.
            weights = layer.get_weights()
            layer.set_weights([*weights[:3], np.abs(weights[3]) + 0.1])


def save_by_name(build, weights, folder):
    """Write the checkpoint that tf.train.Saver writes: by variable names, Adam's slots among them."""
    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        model, x = build()
        step = v1.train.AdamOptimizer(0.0).minimize(v1.reduce_sum(model.outputs[0]))
        session.run(v1.global_variables_initializer())
        for variable, value in zip(model.weights, weights):  # noqa: B905  # Python 3.7
            variable.load(value, session)
        session.run(step, {model.inputs[0]: x})
        v1.train.Saver().save(session, str(folder / "ckpt"), write_meta_graph=False)


def make(build, folder):
    keras.backend.clear_session()
    model, x = build()
    randomise(model)
    if build is chain:  # Its optimizer has slots.
        model.compile("adam", "mse", **({} if OLD else {"run_eagerly": True}))
        model.train_on_batch(x, np.ones((4, 2), "float32"))
    y = model.predict(x, batch_size=4) if OLD else model(x, training=False).numpy()
    if build is stateful:
        model.reset_states()
    if build is subclassed:
        model.save_weights(str(folder / "weights.h5"))
    else:
        model.save(str(folder / "model.h5"))
        (folder / "model.json").write_text(model.to_json())
    if not OLD:  # Without the functions, which take minutes to trace.
        model.save(str(folder / "saved_model"), save_format="tf", save_traces=False)
    elif build is chain:
        model.save(str(folder / "saved_model"), save_format="tf")
    model.save_weights(str(folder / "object_based" / "cp.ckpt"), save_format="tf")
    np.savez(str(folder / "io.npz"), x=x, y=y)
    if build in (chain, nested):
        save_by_name(build, model.get_weights(), folder / "name_based")


def main(target):
    root = Path(tempfile.mkdtemp())
    for build in (chain, nested, kinds, stateful, subclassed):
        (root / build.__name__).mkdir()
        try:
            make(build, root / build.__name__)
        except Exception as error:
            print(build.__name__, "failed:", repr(error)[:400])  # noqa: T201
    path = Path(target) / f"tf-{tf.__version__}.zip"
    with zipfile.ZipFile(str(path), "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(each for each in root.rglob("*") if each.is_file()):
            member = zipfile.ZipInfo(file.relative_to(root).as_posix(), (2020, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, file.read_bytes())
    shutil.rmtree(str(root))
    print(path, path.stat().st_size)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
