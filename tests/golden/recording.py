"""Models that every Keras from 2.0 on can build, and the recording of what real Keras computes with them.

Shared by `make_old_keras.py`, `make_tf_keras.py` and `make_keras3.py`, so it needs only NumPy; the Keras module
to use is an argument. README.md explains the keys of the recordings.
"""

from __future__ import annotations

import dataclasses
import traceback
from pathlib import Path

import numpy as np

BATCH, STEPS, FEATURES, UNITS, MORE_UNITS = 3, 8, 3, 5, 7

# Layers that run over time and are no LSTM: a converter has to name and skip them.
OTHER_RECURRENT = {"GRU", "SimpleRNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "CuDNNGRU"}


@dataclasses.dataclass
class Case:
    """A model with the inputs to feed it.

    `masks` gives the mask that reaches a layer, by layer path; `calls` how often a shared layer is called.
    `gain` scales the random weights: 0.5 makes gates saturate, unbounded activations need less.
    """

    model: object
    inputs: list
    masks: dict = dataclasses.field(default_factory=dict)
    calls: dict = dataclasses.field(default_factory=dict)
    gain: float = 0.5


def random_inputs(*shape, seed=7, scale=2.0):
    """Return float32 inputs large enough for hard_sigmoid gates to saturate now and then."""
    return np.random.RandomState(seed).normal(0, scale, (BATCH, *(shape or (STEPS, FEATURES)))).astype("float32")


def padded():
    """Return inputs with masked steps set to 0, and the mask: whole, padded right twice, padded left, with holes."""
    x = np.random.RandomState(7).normal(0, 2, (5, STEPS, FEATURES))
    mask = np.ones(x.shape[:2], bool)
    mask[1, -3:] = mask[2, -6:] = mask[3, :4] = mask[4, [1, 4, 5, 7]] = False
    return np.where(mask[..., None], x, 0).astype("float32"), mask


# --- models -----------------------------------------------------------------------------------------------------


def chain(keras, *layers, shape=(STEPS, FEATURES)):
    """Return a functional model that applies `layers` one after the other."""
    tensor = inputs = keras.layers.Input(shape=shape, name="input")
    for layer in layers:
        tensor = layer(tensor)
    return keras.models.Model(inputs=inputs, outputs=tensor)


def fan(keras, *layers, shape=(STEPS, FEATURES), before=()):
    """Return a functional model that applies each of `layers` to the same input and returns all their outputs."""
    tensor = inputs = keras.layers.Input(shape=shape, name="input")
    for layer in before:
        tensor = layer(tensor)
    outputs = []
    for layer in layers:
        output = layer(tensor)
        outputs += list(output) if isinstance(output, (list, tuple)) else [output]
    return keras.models.Model(inputs=inputs, outputs=outputs)


def lstm(keras, **options):
    """Build a Sequential model: LSTM and Dense."""
    layers = keras.layers
    model = keras.models.Sequential(name="forecaster")
    model.add(layers.LSTM(UNITS, return_sequences=True, input_shape=(STEPS, FEATURES), name="encoder", **options))
    model.add(layers.Dense(2, name="head"))
    return Case(model, [random_inputs()])


def lstm_hard_sigmoid(keras):
    return lstm(keras, recurrent_activation="hard_sigmoid")


def lstm_sigmoid(keras):
    return lstm(keras, recurrent_activation="sigmoid")


def lstm_relu(keras):
    return lstm(keras, activation="relu")


def lstm_no_bias(keras):
    return lstm(keras, use_bias=False)


def lstm_square(keras):
    """Sizes that shapes cannot tell apart: input == units, and one unit on 4 features, whose kernel is (4, 4)."""
    layers = keras.layers
    first, second = layers.Input(shape=(STEPS, UNITS), name="five"), layers.Input(shape=(STEPS, 4), name="four")
    unroll = keras.backend.backend() == "theano"  # Its scan takes a single unit for a broadcast axis, and stops.
    outputs = [layers.LSTM(UNITS, name="equal")(first), layers.LSTM(1, unroll=unroll, name="single")(second)]
    model = keras.models.Model(inputs=[first, second], outputs=outputs)
    return Case(model, [random_inputs(STEPS, UNITS), random_inputs(STEPS, 4)])


def go_backwards(keras):
    lstm = keras.layers.LSTM
    return Case(
        fan(
            keras,
            lstm(UNITS, go_backwards=True, return_sequences=True, name="all_steps"),
            lstm(MORE_UNITS, go_backwards=True, name="last_step"),
        ),
        [random_inputs()],
    )


def stacked(keras):
    """Embedding, two LSTMs and a Dense layer between."""
    layers = keras.layers
    model = keras.models.Sequential(name="tagger")
    model.add(
        layers.Embedding(11, FEATURES, input_length=STEPS, name="embedding")
        if keras.__version__ < "3"
        else layers.Embedding(11, FEATURES, name="embedding", input_shape=(STEPS,))
    )
    model.add(layers.LSTM(UNITS, return_sequences=True, name="lower"))
    model.add(layers.Dense(2, name="between"))
    model.add(layers.LSTM(MORE_UNITS, name="upper"))
    return Case(model, [np.random.RandomState(7).randint(0, 11, (BATCH, STEPS)).astype("int32")])


def nested(keras, frozen=False):
    """Put a model within a model; `frozen` makes its first LSTM untrainable, so that its arrays are stored last."""
    layers = keras.layers
    inner_input = layers.Input(shape=(STEPS, FEATURES), name="inner_input")
    tensor = layers.LSTM(UNITS, return_sequences=True, name="first")(inner_input)
    tensor = layers.LSTM(MORE_UNITS, return_sequences=True, name="second")(tensor)
    inner = keras.models.Model(inputs=inner_input, outputs=tensor, name="inner")
    if frozen:
        inner.layers[1].trainable = False
    return Case(chain(keras, inner, layers.LSTM(2, name="after")), [random_inputs()])


def nested_frozen(keras):
    return nested(keras, frozen=True)


def bidirectional(keras, mode, **options):
    layers = keras.layers
    options = {"return_sequences": True, **options}
    wrapped = layers.Bidirectional(layers.LSTM(UNITS, **options), merge_mode=mode, name="both_ways")
    return Case(chain(keras, wrapped), [random_inputs()])


def bidirectional_concat(keras):
    return bidirectional(keras, "concat")


def bidirectional_modes(keras):
    """Merge in the other ways; `ave` for the last step, which is step 0 for the backward half."""
    layers = keras.layers
    wrapped = [
        layers.Bidirectional(layers.LSTM(2, return_sequences=steps), merge_mode=mode, name=f"merged_{mode}".lower())
        for mode, steps in (("sum", True), ("mul", True), ("ave", False), (None, True))
    ]
    return Case(fan(keras, *wrapped), [random_inputs()])


def bidirectional_no_bias(keras):
    return bidirectional(keras, "concat", use_bias=False)


def return_state(keras):
    layers = keras.layers
    return Case(
        fan(
            keras,
            layers.LSTM(UNITS, return_sequences=True, return_state=True, name="all_steps"),
            layers.Bidirectional(layers.LSTM(2, return_sequences=True, return_state=True), name="both_ways"),
        ),
        [random_inputs()],
    )


def initial_state(keras):
    """States passed as tensors, to an LSTM and to a Bidirectional."""
    layers = keras.layers
    x = layers.Input(shape=(STEPS, FEATURES), name="input")
    states = [layers.Input(shape=(UNITS,), name=name) for name in ("h", "c", "backward_h", "backward_c")]
    outputs = [
        layers.LSTM(UNITS, return_sequences=True, name="one_way")(x, initial_state=states[:2]),
        layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True), name="both_ways")(x, initial_state=states),
    ]
    model = keras.models.Model(inputs=[x, *states], outputs=outputs)
    return Case(model, [random_inputs(), *(random_inputs(UNITS, seed=seed, scale=1.0) for seed in range(4))])


def masking(keras, **options):
    layers = keras.layers
    x, mask = padded()
    recurrent = [
        layers.LSTM(UNITS, return_sequences=True, name="all_steps", **options),
        layers.LSTM(UNITS, name="last_step", **options),
        layers.LSTM(UNITS, go_backwards=True, return_sequences=True, name="backwards", **options),
        layers.Bidirectional(layers.LSTM(2, return_sequences=True), name="both_ways"),
    ]
    model = fan(keras, *recurrent, before=[layers.Masking(name="masking")])
    return Case(model, [x], masks={layer.name: mask for layer in recurrent})


def masking_zero_output(keras):
    """Masked steps give 0 instead of the output before."""
    layers = keras.layers
    x, mask = padded()
    recurrent = [
        layers.LSTM(UNITS, return_sequences=True, zero_output_for_mask=True, name="all_steps"),
        layers.LSTM(UNITS, zero_output_for_mask=True, name="last_step"),
    ]
    model = fan(keras, *recurrent, before=[layers.Masking(name="masking")])
    return Case(model, [x], masks={layer.name: mask for layer in recurrent})


def rnn_cell(keras):
    layers = keras.layers
    layer = layers.RNN(layers.LSTMCell(UNITS), return_sequences=True, name="one_cell")
    return Case(chain(keras, layer), [random_inputs()])


def rnn_cells(keras):
    layers = keras.layers
    cells = [layers.LSTMCell(UNITS), layers.LSTMCell(MORE_UNITS)]
    return Case(
        fan(keras, layers.RNN(cells, return_sequences=True, return_state=True, name="two_cells")),
        [random_inputs()],
    )


def shared(keras):
    """One LSTM called on two inputs."""
    layers = keras.layers
    left, right = (layers.Input(shape=(STEPS, FEATURES), name=name) for name in ("left", "right"))
    lstm = layers.LSTM(UNITS, name="siamese")
    model = keras.models.Model(inputs=[left, right], outputs=[lstm(left), lstm(right)])
    return Case(model, [random_inputs(), random_inputs(seed=8)], calls={"siamese": 2})


def slash_names(keras):
    layers = keras.layers
    return Case(
        chain(
            keras,
            layers.LSTM(UNITS, return_sequences=True, name="encoder/lstm"),
            layers.LSTM(MORE_UNITS, name="decoder/deep/lstm"),
        ),
        [random_inputs()],
    )


def time_distributed(keras):
    """TimeDistributed over an LSTM, and over a model that holds one."""
    layers = keras.layers
    inner = chain(keras, layers.LSTM(MORE_UNITS, name="recurrent"), layers.Dense(2, name="head"))
    model = fan(
        keras,
        layers.TimeDistributed(layers.LSTM(UNITS, return_sequences=True, name="hidden_name"), name="over_lstm"),
        layers.TimeDistributed(inner, name="over_model"),
        shape=(2, STEPS, FEATURES),
    )
    return Case(model, [random_inputs(2, STEPS, FEATURES)])


def optimizer(keras):
    """Compiled with Adam and trained one step, so that the file holds moments of the weights' shapes."""
    case = lstm(keras)
    case.model.compile(optimizer="adam", loss="mse")
    case.model.train_on_batch(case.inputs[0], np.ones((BATCH, STEPS, 2), "float32"))
    return case


def activations(keras, pairs):
    """One LSTM for each pair of `activation` and `recurrent_activation`."""
    options = {"return_sequences": True}
    layers = [
        keras.layers.LSTM(2, activation=cell, recurrent_activation=gates, name=f"{cell}_and_{gates}", **options)
        for cell, gates in pairs
    ]
    return Case(fan(keras, *layers), [random_inputs()], gain=0.25)


def dtypes(keras, names):
    """One LSTM for each dtype or dtype policy. Half precision has no QR, which the default initializer needs."""
    lstm = keras.layers.LSTM
    options = {"recurrent_initializer": "zeros", "return_sequences": True}
    layers = [lstm(UNITS, dtype=name, name=f"in_{name}", **options) for name in names]
    return Case(fan(keras, *layers), [random_inputs()])


def own_backward_layer(keras):
    """Give a Bidirectional a backward layer with other units and no bias."""
    layers = keras.layers
    backward = layers.LSTM(MORE_UNITS, return_sequences=True, go_backwards=True, use_bias=False, name="backward")
    wrapped = layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True), backward_layer=backward, name="both_ways")
    return Case(chain(keras, wrapped), [random_inputs()])


def beside_others(keras):
    """Put an LSTM beside a GRU, a SimpleRNN and a ConvLSTM2D."""
    layers = keras.layers
    frames = layers.Input(shape=(STEPS, 4, 4, 1), name="frames")
    x = layers.Input(shape=(STEPS, FEATURES), name="input")
    outputs = [
        layers.GRU(UNITS, name="gru")(x),
        layers.LSTM(UNITS, name="lstm")(x),
        layers.SimpleRNN(UNITS, name="simple")(x),
        layers.ConvLSTM2D(2, (2, 2), padding="same", name="frames_lstm")(frames),
    ]
    model = keras.models.Model(inputs=[frames, x], outputs=outputs)
    return Case(model, [random_inputs(STEPS, 4, 4, 1), random_inputs()])


# --- recording --------------------------------------------------------------------------------------------------


def class_names(layer):
    return {base.__name__ for base in type(layer).__mro__}


def is_lstm(layer):
    """Whether `layer` is an LSTM, an RNN of LSTM cells, or a wrapper around one."""
    names = class_names(layer)
    if names & {"LSTM", "CuDNNLSTM"}:
        return True
    if names & {"Bidirectional", "TimeDistributed"}:
        return is_lstm(getattr(layer, "forward_layer", None) or layer.layer)
    cell = getattr(layer, "cell", None) if "RNN" in names else None
    return any("LSTMCell" in class_names(one) for one in getattr(cell, "cells", [cell]))


def randomise(model, gain):
    """Give every array of `model`, biases included, random values its dtype holds exactly."""
    generator = np.random.RandomState(2024)
    old = model.get_weights()
    model.set_weights([generator.normal(0, gain, each.shape).astype("float32").astype(each.dtype) for each in old])


def storable(array):
    """Return `array` in a dtype `.npz` can hold: bfloat16 becomes float32, which is exact."""
    array = np.asarray(array)
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


class Recording:
    """The arrays of one `.npz`, filled layer by layer.

    `evaluate(model, inputs, tensors)` runs the model's graph from its inputs to `tensors`, at inference, and returns
    arrays; `tensors_of(layer, call)` returns the layer's input tensors and output tensors at that call. Both differ
    from one Keras to the next.
    """

    def __init__(self, generator, version, evaluate, tensors_of):
        self.arrays = {"generator": np.array(generator), "version": np.array(version)}
        self.others = []
        self.evaluate, self.tensors_of = evaluate, tensors_of

    def model(self, model, case, inputs, prefix=""):
        """Record every LSTM of `model`, and of the models in it, when `model` is fed `inputs`."""
        for layer in model.layers:
            name = prefix + layer.name
            inner = layer.layer if "TimeDistributed" in class_names(layer) else layer
            if is_lstm(layer):
                for call in range(case.calls.get(name, 1)):
                    received, returned = self._run(model, layer, inputs, call)
                    if inner is not layer:
                        received, returned = [flat(received[0])], [flat(returned[0])]
                    self.layer(name, layer, received, returned, case.masks.get(name), call)
            elif hasattr(inner, "layers"):
                # An old Keras counts the making of a model as its first call, so the last is the one wanted.
                received, _ = self._run(model, layer, inputs, -1 if inner is layer else 0)
                self.model(inner, case, received if inner is layer else [flat(received[0])], name + "/")
            elif class_names(layer) & OTHER_RECURRENT:
                self.others.append(name)

    def _run(self, model, layer, inputs, call):
        received, returned = self.tensors_of(layer, call)
        arrays = self.evaluate(model, inputs, [*received, *returned])
        return arrays[: len(received)], arrays[len(received) :]

    def layer(self, name, layer, received, returned, mask=None, call=0):
        """Record one call of one layer."""
        suffix = f"_call_{call}" if call else ""
        sequences = 2 if getattr(layer, "merge_mode", "") is None else 1
        self.put(name, "x" + suffix, received[0])
        for index, state in enumerate(received[1:]):
            self.put(name, f"initial_{index}{suffix}", state)
        for index, sequence in enumerate(returned[:sequences]):
            self.put(name, ("y" if index == 0 else f"y_{index}") + suffix, sequence)
        for index, state in enumerate(returned[sequences:]):
            self.put(name, f"state_{index}{suffix}", state)
        if mask is not None:
            self.put(name, "mask" + suffix, mask)
        if call == 0:
            self.weights(name, layer)

    def weights(self, name, layer, kind="w"):
        arrays = layer.get_weights()
        for index, array in enumerate(arrays):
            self.put(name, f"{kind}_{index}", array)
        if kind == "w":
            variables = getattr(layer, "weights", None) or layer.trainable_weights
            self.put(name, "names", np.array([str(getattr(each, "path", each.name)) for each in variables]))
            dtype = getattr(variables[0].dtype, "name", str(variables[0].dtype))
            if dtype != "float32":
                self.put(name, "dtype", np.array(dtype))

    def put(self, name, key, array):
        self.arrays[f"{name}|{key}"] = storable(array)

    def save(self, path):
        bad = [key for key, array in self.arrays.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
        if bad:
            raise ValueError(f"{path}: not finite: {bad}")
        if self.others:
            self.arrays["others"] = np.array(self.others)
        np.savez_compressed(path, **self.arrays)


def flat(array):
    """Merge batch and the axis TimeDistributed runs over."""
    return np.asarray(array).reshape(-1, *np.shape(array)[2:])


def make(cases, formats, folder, keras, recorder, save):
    """Make every case in `cases` (name -> builder) in the formats that `formats[name]` lists.

    `recorder()` returns an empty Recording and `save(model, stem, format)` writes one file. What cannot be made is
    reported and leaves no file. Returns the number of failures.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    failures = 0

    def attempt(what, action, *arguments):
        nonlocal failures
        try:
            return action(*arguments)
        except Exception:
            failures += 1
            print(f"{folder.name}/{what}: failed: {traceback.format_exc(limit=0).strip()[:300]}")  # noqa: T201
            return None

    for name, build in cases.items():
        stem = folder / name
        case = attempt(f"{name}, building", build, keras)
        if case is None:
            continue
        randomise(case.model, case.gain)
        recording = recorder()
        if attempt(f"{name}, recording", record, recording, case, f"{stem}.npz") is None:
            continue
        saved = [each for each in formats[name] if attempt(f"{name}, saving as {each}", save, case.model, stem, each)]
        if not saved:
            Path(f"{stem}.npz").unlink()
        print(f"{folder.name}/{name}: {', '.join(saved) or 'nothing saved'}")  # noqa: T201
    return failures


def record(recording, case, path):
    recording.model(case.model, case, case.inputs)
    recording.save(path)
    return path
