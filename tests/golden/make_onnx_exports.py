"""Make the ONNX models in tests/golden/onnx, each with the exporter that it is named after.

In two environments, from the root of the repository:

    pip install torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2
    python tests/golden/make_onnx_exports.py torch
    pip install tensorflow-cpu==2.21.0 tf-keras==2.21.0 tf2onnx==1.17.0 onnx==1.23.2
    python tests/golden/make_onnx_exports.py tf-keras
    KERAS_BACKEND=tensorflow python tests/golden/make_onnx_exports.py keras

Beside each model, ``NAME.npz`` has what the framework gave it and returned, ``x`` and ``y``, and its
weights ``w0, w1, ...`` as the framework holds them: PyTorch's state dict in its order, or Keras'
``get_weights()``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent / "onnx"
FEATURES, UNITS, STEPS = 3, 5, 6


def record(name, x, y, weights):
    arrays = {f"w{k}": np.asarray(w) for k, w in enumerate(weights)}
    np.savez(HERE / f"{name}.npz", x=x, y=y, **arrays)


def draw(batch=4):
    return np.random.default_rng(1).normal(size=(batch, STEPS, FEATURES)).astype(np.float32)


def make_torch():
    """Write what torch.onnx's newer exporter (dynamo=True) makes of ``nn.LSTM``."""
    import torch
    from torch import nn

    class Sequence(nn.Module):
        def __init__(self, **options):
            super().__init__()
            self.rnn = nn.LSTM(FEATURES, UNITS, batch_first=True, **options)

        def forward(self, x):
            return self.rnn(x)[0]

    shapes = {
        "plain": {},
        "no_bias": {"bias": False},
        "bidirectional": {"bidirectional": True},
        "stacked": {"num_layers": 2},
        "stacked_bidirectional": {"num_layers": 2, "bidirectional": True},
    }
    for name, options in shapes.items():
        torch.manual_seed(0)
        module = Sequence(**options).eval()
        x = torch.from_numpy(draw())
        program = torch.onnx.export(module, (x,), dynamo=True, input_names=["x"], verbose=False)
        program.save(HERE / f"torch_dynamo_{name}.onnx")
        with torch.no_grad():
            y = module(x).numpy()
        record(f"torch_dynamo_{name}", x.numpy(), y, [t.numpy() for t in module.state_dict().values()])


def keras_models(keras):
    layers = keras.layers
    return {
        "plain": [layers.LSTM(UNITS, return_sequences=True, name="memory")],
        "last_step": [layers.LSTM(UNITS, name="memory")],
        "hard_sigmoid": [layers.LSTM(UNITS, return_sequences=True, recurrent_activation="hard_sigmoid", name="memory")],
        "backwards": [layers.LSTM(UNITS, return_sequences=True, go_backwards=True, name="memory")],
        "bidirectional": [layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True), name="both")],
        "stacked": [
            layers.LSTM(UNITS, return_sequences=True, name="first"),
            layers.Dropout(0.2),
            layers.LSTM(UNITS, return_sequences=True, name="second"),
        ],
    }


def randomised(model):
    random = np.random.default_rng(2)
    model.set_weights([(random.normal(size=w.shape) * 0.6).astype(np.float32) for w in model.get_weights()])


def make_tf_keras():
    """Write what tf2onnx makes of tf-keras' models."""
    import tensorflow as tf
    import tf2onnx
    import tf_keras as keras

    for name, inner in keras_models(keras).items():
        model = keras.Sequential([keras.layers.InputLayer((STEPS, FEATURES)), *inner])
        randomised(model)
        x = draw()
        signature = [tf.TensorSpec((None, STEPS, FEATURES), tf.float32, name="x")]
        function = tf.function(lambda x, model=model: model(x), input_signature=signature)
        tf2onnx.convert.from_function(function, signature, opset=15, output_path=str(HERE / f"tf2onnx_{name}.onnx"))
        record(f"tf2onnx_{name}", x, model(x).numpy(), model.get_weights())


def make_keras():
    """Write what Keras 3's ``model.export(format="onnx")`` makes on the TensorFlow backend."""
    import keras

    for name, inner in keras_models(keras).items():
        model = keras.Sequential([keras.layers.Input((STEPS, FEATURES)), *inner])
        randomised(model)
        x = draw()
        y = keras.ops.convert_to_numpy(model(x))
        model.export(str(HERE / f"keras3_{name}.onnx"), format="onnx", verbose=False)
        record(f"keras3_{name}", x, y, model.get_weights())


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    {"torch": make_torch, "tf-keras": make_tf_keras, "keras": make_keras}[sys.argv[1]]()
