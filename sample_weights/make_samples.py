"""Make the files in this folder, each with the Keras version that README.md names.

Set up the interpreters as the scripts in `tests/golden` say, and then, from the root of the repository:

    old/bin/python sample_weights/make_samples.py keras1 trees/1.2.2
    old/bin/python sample_weights/make_samples.py keras2 trees/2.2.4
    tf221/bin/python sample_weights/make_samples.py tf-keras
    PYTHONPATH=trees3/3.15.1 keras3/bin/python sample_weights/make_samples.py keras3
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "golden"))

import recording  # noqa: E402
from recording import FEATURES, STEPS, UNITS, Case, Recording  # noqa: E402

# International airline passengers, in thousands a month, 1949 to 1960.
# Box, Jenkins: Time Series Analysis: Forecasting and Control (1976), series G.
AIRLINE_PASSENGERS = """
    112 118 132 129 121 135 148 148 136 119 104 118
    115 126 141 135 125 149 170 170 158 133 114 140
    145 150 178 163 172 178 199 199 184 162 146 166
    171 180 193 181 183 218 230 242 209 191 172 194
    196 196 236 235 229 243 264 272 237 211 180 201
    204 188 235 227 234 264 302 293 259 229 203 229
    242 233 267 269 270 315 364 347 312 274 237 278
    284 277 317 313 318 374 413 405 355 306 271 306
    315 301 356 348 355 422 465 467 404 347 305 336
    340 318 362 348 363 435 491 505 404 359 310 337
    360 342 406 396 420 472 548 559 463 407 362 405
    417 391 419 461 472 535 622 606 508 461 390 432
"""
WINDOW = 12


def keras1(arguments):
    """Make the sample of Keras 1: one array a gate, in the order i, c, f, o."""
    golden = importlib.import_module("make_old_keras")
    keras = golden.load_keras(arguments.tree)
    case = golden.lstm_1("cpu")(keras)

    def new():
        return Recording("keras 1.2.2, theano", keras.__version__, golden.evaluate, golden.tensors_of)

    write(case, "keras1_lstm", new, lambda path: case.model.save(f"{path}.h5"))


def keras2(arguments):
    """Make the samples of Keras 2."""
    golden = importlib.import_module("make_old_keras")
    keras = golden.load_keras(arguments.tree)

    def new():
        return Recording("keras 2.2.4, theano", keras.__version__, golden.evaluate, golden.tensors_of)

    whole = recording.lstm_hard_sigmoid(keras)
    write(whole, "keras2_hard_sigmoid", new, lambda path: whole.model.save(f"{path}.h5"))
    weights = recording.lstm(keras)
    write(weights, "keras2_weights_only", new, lambda path: save_weights(weights.model, path))


def save_weights(model, path):
    """Save the weights alone, and the configuration beside them."""
    model.save_weights(f"{path}.h5")
    Path(f"{path}.json").write_text(model.to_json() + "\n")


def tf_keras(arguments):
    """Make the samples of tf-keras."""
    golden = importlib.import_module("make_tf_keras")
    keras = golden.keras
    both = recording.bidirectional_concat(keras)
    write(both, "tf_keras_bidirectional", golden.new_recording, lambda path: both.model.save(f"{path}.h5"))

    def one_layer(lstm):
        layer = lstm(UNITS, return_sequences=True, name="encoder")
        return Case(recording.chain(keras, layer, shape=(STEPS, FEATURES)), [recording.random_inputs()])

    # CuDNNLSTM needs a GPU to run, so the outputs are those of a plain LSTM that loaded the same file.
    cudnn, plain = one_layer(golden.CuDNNLSTM), one_layer(keras.layers.LSTM)
    recording.randomise(cudnn.model, 0.5)
    path = HERE / "tf_keras_cudnn_lstm"
    cudnn.model.save(f"{path}.h5")
    plain.model.load_weights(f"{path}.h5")
    made = golden.new_recording()
    made.model(plain.model, plain, plain.inputs)
    made.arrays = {key: array for key, array in made.arrays.items() if "|w_" not in key}
    made.weights("encoder", cudnn.model.layers[1])
    made.weights("encoder", plain.model.layers[1], kind="plain_w")
    made.save(f"{path}.expected.npz")


def keras3(arguments):
    """Make the samples of Keras 3."""
    golden = importlib.import_module("make_keras3")
    keras = golden.keras
    case = recording.go_backwards(keras)
    write(case, "keras3_backwards", golden.new_recording, lambda path: case.model.save(f"{path}.keras"))
    airline_passengers(keras, golden.new_recording)


def airline_passengers(keras, new_recording):
    """Train an LSTM to forecast the next month's passengers, and print its error in years it has not seen.

    It sees logarithms of twelve months relative to the last of them, and tells the next one relative to the same.
    """
    keras.utils.set_random_seed(1)
    passengers = np.array(AIRLINE_PASSENGERS.split(), float)
    logs = np.log(passengers)
    windows = np.stack([logs[month - WINDOW : month] for month in range(WINDOW, len(logs))])
    x = (windows - windows[:, -1:])[..., None].astype("float32")
    y = (logs[WINDOW:] - windows[:, -1])[:, None].astype("float32")
    training, stopping, unseen = slice(0, 96), slice(96, 108), slice(108, None)  # 1950-1957, 1958, 1959-1960

    layers = keras.layers
    model = keras.Sequential(
        [layers.Input((WINDOW, 1), name="months"), layers.LSTM(16, name="lstm"), layers.Dense(1, name="next_month")],
        name="airline_passengers",
    )
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")
    stop = keras.callbacks.EarlyStopping(patience=200, restore_best_weights=True)
    model.fit(
        x[training],
        y[training],
        batch_size=96,
        epochs=1500,
        verbose=0,
        callbacks=[stop],
        validation_data=(x[stopping], y[stopping]),
    )

    def error(part):
        forecast = np.exp(model.predict(x[part], verbose=0)[:, 0] + windows[part, -1])
        return np.sqrt(np.mean((forecast - passengers[WINDOW:][part]) ** 2))

    by_last_year = np.sqrt(np.mean((passengers[-24:] - passengers[-36:-12]) ** 2))
    by_last_month = np.sqrt(np.mean((passengers[-24:] - passengers[-25:-1]) ** 2))
    print("RMSE of the forecast of the next month, in thousands of passengers:")
    print(f"    {error(training):.1f}  1950-1957, which it was trained on")
    print(f"    {error(stopping):.1f}  1958, which told when to stop training")
    print(f"    {error(unseen):.1f}  1959-1960, which it has not seen")
    print(f"    {by_last_month:.1f}  1959-1960, repeating the month before")
    print(f"    {by_last_year:.1f}  1959-1960, repeating the same month of the year before")
    path = HERE / "airline_passengers"
    model.save(f"{path}.h5", include_optimizer=False)
    made = new_recording()
    made.model(model, Case(model, []), [x[-3:]])
    made.save(f"{path}.expected.npz")


def write(case, name, new_recording, save):
    """Give the model random weights, save it, and record what it computes."""
    recording.randomise(case.model, case.gain)
    save(HERE / name)
    made = new_recording()
    made.model(case.model, case, case.inputs)
    made.save(HERE / f"{name}.expected.npz")


def main(argv=None):
    """Run the generation that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("generation", choices=["keras1", "keras2", "tf-keras", "keras3"])
    parser.add_argument("tree", type=Path, nargs="?", help="the folder pip installed an old Keras into")
    arguments = parser.parse_args(argv)
    {"keras1": keras1, "keras2": keras2, "tf-keras": tf_keras, "keras3": keras3}[arguments.generation](arguments)


if __name__ == "__main__":
    main()
