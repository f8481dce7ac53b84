"""Files that strangers trained and published: each loads as its catalogue says, or is refused for the stated reason.

They are not in the repository: LSTMCONV_REAL_FILES names their folder. The table is CATALOG.md's columns "recurrent
layers" and "config", written before this program read a single one of them.
"""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

import lstmconv
from lstmconv.errors import LstmconvError, NoLSTMError, UnreadableFileError, UnsupportedModelError
from lstmconv.formats.keras.reader.open_file import open_file
from lstmconv.formats.keras.reader.read import interpret
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.options import ReadOptions
from lstmconv.semantics import run_model
from tests._cases import assert_direction

KERAS_2_HARD_SIGMOID = "hard_sigmoid(alpha=0.2, beta=0.5)"

# Layers as (input size, units of each direction); recurrent activation, None where the file does not tell.
LAYERS = {
    "2.0.3__udacity.aind2-rnn__best_RNN_small_textdata_weights.hdf5": ([(33, [200])], None),
    "2.0.9__faroit.CountNet__F-CRNN.h5": ([(64, [40])], "hard_sigmoid"),
    "2.5.0__appeler.ethnicolr__census2000_ln_lstm.h5": ([(32, [128])], "sigmoid"),
    "KonduitAI.dl4j-test-resources__embedding_lstm_theano_2.h5": ([(5, [6])], "hard_sigmoid"),
    "KonduitAI.dl4j-test-resources__lstm_functional_tf_keras_2.h5": ([(4, [8])], "hard_sigmoid"),
    "KonduitAI.dl4j-test-resources__lstm_tf_model.h5": ([(2, [3]), (3, [2])], "hard_sigmoid"),
    "KonduitAI.dl4j-test-resources__lstm_th_keras_2_weights.h5": ([(12, [96]), (96, [96])], None),
    "KonduitAI.dl4j-test-resources__lstm_theano_2.h5": ([(1, [6])], "hard_sigmoid"),
    "KonduitAI.dl4j-test-resources__reshape_model.h5": ([(1, [64])], "hard_sigmoid"),
    "KonduitAI.dl4j-test-resources__rnn_108.h5": ([(1, [6])], "hard_sigmoid"),
    "KonduitAI.dl4j-test-resources__simple_flatten_lstm_tf_keras_2_weights.h5": ([(1, [50])], None),
    "KonduitAI.dl4j-test-resources__simple_lstm_tf_keras_2_model.h5": ([(1, [50])], "hard_sigmoid"),
    "KonduitAI.dl4j-test-resources__simple_lstm_th_keras_1_model.h5": ([(1, [50])], "hard_sigmoid"),
    "LyleListon.arbitrage_bot__lstm.weights.h5": ([(1, [64]), (64, [32])], "sigmoid"),
    "appeler.ethnicolr__census2000_ln_lstm.h5": ([(32, [128])], "hard_sigmoid"),
    "appeler.ethnicolr__fl_all_ln_lstm_5_cat_2022.h5": ([(32, [128])], "sigmoid"),
    "appeler.ethnicolr__fl_all_name_lstm_uncrtn.h5": ([(32, [128])], "sigmoid"),
    "chen0040.keras-anomaly-detection__cnn-lstm-auto-encoder-weights.h5": ([(256, [64])], None),
    "chen0040.keras-text-summarization__seq2seq-glove-v2-weights.h5": ([(100, [100]), (100, [100])], None),
    "faroit.CountNet__F-CRNN.h5": ([(64, [40])], "hard_sigmoid"),
    "faroit.CountNet__RNN.h5": ([(201, [30, 30]), (60, [20, 20]), (40, [40, 40])], "hard_sigmoid"),
    "jwgerlach00.flight_delay_prediction__hybrid_model.h5": ([(1, [64])], "sigmoid"),
    "jwgerlach00.flight_delay_prediction__hybrid_model.keras": ([(1, [64])], "sigmoid"),
    "jwgerlach00.flight_delay_prediction__lstm_model.keras": ([(1, [64])], "sigmoid"),
    "jwgerlach00.flight_delay_prediction__models~lstm_model.h5": ([(1, [64])], "sigmoid"),
    "kermitt2.delft__datasets-BidLSTM_CRF~model_weights.hdf5": ([(350, [100, 100]), (25, [25, 25])], "sigmoid"),
    "kermitt2.delft__grobid-citation-BidLSTM_CRF_FEATURES~model_weights.hdf5": (
        [(358, [100, 100]), (4, [4, 4]), (25, [25, 25])],
        "sigmoid",
    ),
    "kootenpv.neural_complete__neural_char.h5": ([(97, [128])], "hard_sigmoid"),
    "minimaxir.textgenrnn__textgenrnn_weights.hdf5": ([(100, [128])], None),
    "themains.pydomains__malware_cat_lstm_2017.h5": ([(32, [128])], "sigmoid"),
    "themains.pydomains__phish_cat_lstm_2017.h5": ([(32, [128])], "hard_sigmoid"),
    "uci-cbcl.FactorNet__GENCODE_Unique35_DGF~final_model.hdf5": ([(32, [32, 32])], None),
    "udacity.aind2-rnn__best_RNN_large_textdata_weights.hdf5": ([(33, [200])], None),
    "udacity.aind2-rnn__best_RNN_small_textdata_weights.hdf5": ([(45, [200])], None),
    "umbertogriffo.Predictive-Maintenance-using-LSTM__binary_model.h5": ([(25, [100]), (100, [50])], "hard_sigmoid"),
    "zabir-nabil.dot-res-lstm__lstm.h5": ([(1, [64]), (64, [64])], "hard_sigmoid"),
}

RELU = {
    "KonduitAI.dl4j-test-resources__rnn_108.h5",
    "jwgerlach00.flight_delay_prediction__hybrid_model.h5",
    "jwgerlach00.flight_delay_prediction__hybrid_model.keras",
    "jwgerlach00.flight_delay_prediction__lstm_model.keras",
    "jwgerlach00.flight_delay_prediction__models~lstm_model.h5",
}

KERAS_1 = {
    "udacity.aind2-rnn__best_RNN_large_textdata_weights.hdf5",
    "uci-cbcl.FactorNet__GENCODE_Unique35_DGF~final_model.hdf5",
    "KonduitAI.dl4j-test-resources__lstm_tf_model.h5",
    "kootenpv.neural_complete__neural_char.h5",
    "faroit.CountNet__F-CRNN.h5",
    "KonduitAI.dl4j-test-resources__simple_lstm_th_keras_1_model.h5",
}

REFUSED = {
    "KonduitAI.dl4j-test-resources__convlstm2d_1.h5": "ConvLSTM2D",
    "KonduitAI.dl4j-test-resources__simple_flatten_lstm_tf_keras_2_inputs_and_outputs.h5": "without Keras weights",
    "KonduitAI.dl4j-test-resources__simple_lstm_tf_keras_1_inputs_and_outputs.h5": "without Keras weights",
    "KonduitAI.dl4j-test-resources__simple_lstm_tf_keras_2_inputs_and_outputs.h5": "without Keras weights",
    "KonduitAI.dl4j-test-resources__simple_lstm_th_keras_1_inputs_and_outputs.h5": "without Keras weights",
    "kermitt2.delft__copyright_gru~model_weights.hdf5": "GRU",
    "minimaxir.reactionrnn__reactionrnn_weights.hdf5": "GRU",
    "not_lstm/pcko1.Deep-Drug-Coder__DRD2_TEST_MOLS.h5": "git lfs pull",
    "not_lstm/bmcfee.crema__model_spec.h5": "pickle",
    "not_lstm/iamaaditya.VQA_Demo__vgg16_weights.h5": "symbolic link",
    "not_lstm/Kulbear.deep-learning-coursera__test_catvnoncat.h5": "without Keras weights",
    "not_lstm/smousavi05.EQTransformer__guy_WHAR_aug_30s.hdf5": "without Keras weights",
    "not_lstm/SeanvonB.speech-recognizer__model_2.h5": "SimpleRNN",
}

WITHOUT_AN_LSTM = {
    "Aritra5077.Multi-Ticker-Volatility-Prediction__simple_gru.keras",
    "zabir-nabil.dot-res-lstm__gru.h5",
    "not_lstm/rkcosmos.deepcut__model_lite.h5",
    "not_lstm/KonduitAI.dl4j-test-resources__elephas_model.h5",
}
"""Whole models of known layers."""


def test_the_table_names_every_file_of_the_folder(real_files: Path):
    here = {path.name for path in real_files.iterdir() if path.is_file() and path.suffix != ".md"}
    below = {f"not_lstm/{path.name}" for path in (real_files / "not_lstm").iterdir()}
    assert here | below == {*LAYERS, *REFUSED, *WITHOUT_AN_LSTM}


@pytest.mark.parametrize("name", LAYERS)
def test_published_file_holds_the_catalogued_layers(real_files: Path, name: str):
    layers, recurrent = LAYERS[name]
    checkpoint = lstmconv.load(real_files / name)
    found = [(layer.input_size, [half.hidden_size for half in layer.directions]) for layer in checkpoint.layers]
    # The catalogue lists a file's groups alphabetically where they are nested, the program in the model's order.
    assert sorted(found) == sorted(layers)
    expected = KERAS_2_HARD_SIGMOID if recurrent == "hard_sigmoid" else recurrent
    for layer in checkpoint.layers:
        assert (None if layer.recurrent_activation is None else str(layer.recurrent_activation)) == expected
        if expected is not None:
            assert str(layer.activation) == ("relu" if name in RELU else "tanh")
    assert (checkpoint.unknown is not None) == (recurrent is None)
    assert {half.layout == "Keras 1" for layer in checkpoint.layers for half in layer.directions} == {name in KERAS_1}
    assert checkpoint.skipped == ()


@pytest.mark.parametrize("name", REFUSED)
def test_file_without_an_lstm_is_refused_with_the_reason(real_files: Path, name: str):
    with pytest.raises(LstmconvError) as caught:
        lstmconv.load(real_files / name)
    assert isinstance(caught.value, (UnreadableFileError, UnsupportedModelError))
    message = str(caught.value)
    assert REFUSED[name] in message
    assert Path(name).name in message
    assert "\n" not in message


@pytest.mark.parametrize("name", sorted({*LAYERS, *REFUSED, *WITHOUT_AN_LSTM}))
def test_published_file_with_a_config_is_a_whole_model_that_computes_what_keras_computed(real_files: Path, name: str):
    """The recordings lie in ``real_outputs`` beside the folder: what genuine Keras computed."""
    try:
        file = open_file(MappedFile(real_files / name))
    except LstmconvError:
        return
    if file.config is None:
        return
    try:
        model = interpret(file, ReadOptions()).model
    except NoLSTMError:  # One with a layer that is not computed, either.
        return
    assert model is not None
    assert model.outputs
    recorded = real_files.parent / "real_outputs" / f"{name}.npz"
    if not recorded.is_file():
        return
    assert model.unknown == ()
    with np.load(recorded) as recording:
        inputs = [recording[f"x:{k}"] for k in range(len(model.inputs))]
        inputs = [x.astype(np.float32) / 8 if x.dtype == np.int8 else x for x in inputs]
        found = list(run_model(model, inputs).values())
        tolerance = max(float(recording["tol"]) if "tol" in recording.files else 0, 3e-5)
        for k in range(len(model.outputs)):
            desired = recording[f"y:{k}"]
            np.testing.assert_allclose(found[k], desired, rtol=0, atol=tolerance * np.abs(desired).max())


# Predictions that Keras 2.0.8 on Theano published beside its weights

PREDICTION_TOLERANCE = 1e-6
"""Theano computed in float32, the reference in float64: 8e-8 seen. Exchanged gates are off by 0.46, sigmoid for
hard_sigmoid by 0.017."""


def sequences(folder: Path) -> np.ndarray:
    """Read the 283 sequences: columns 0 to 11 of the first 4 rows, padded with zeros at the end."""
    files = sorted((folder / "sequences").glob("*.csv"), key=lambda path: int(path.stem))
    x = np.zeros((len(files), 4, 12))
    for k, file in enumerate(files):
        rows = np.loadtxt(file, delimiter=";", ndmin=2)[:4, :12]
        x[k, : len(rows)] = rows
    return x


def test_published_predictions_of_keras_2_0_8_are_reproduced(real_files: Path):
    folder = real_files / "golden_lstm_th_keras_2"
    weights, config = folder / "lstm_th_keras_2_weights.h5", folder / "lstm_th_keras_2_config.json"
    checkpoint = lstmconv.load(weights, config=config)
    assert [layer.name for layer in checkpoint.layers] == ["lstm_1", "lstm_2"]
    hidden = sequences(folder)
    for layer in checkpoint.layers:
        hidden = lstmconv.reference(layer, hidden)
    dense = json.loads(config.read_text())["config"][2]["config"]
    assert (dense["name"], dense["units"], dense["activation"]) == ("dense_1", 1, "sigmoid")
    with h5py.File(weights) as file:
        kernel, bias = (file[f"dense_1/dense_1/{name}"][()].astype(np.float64) for name in ("kernel", "bias"))
    found = (1 / (1 + np.exp(-(hidden @ kernel + bias))))[:, 0]
    expected = np.load(folder / "predictions.npy")
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=PREDICTION_TOLERANCE)


def test_published_weights_are_read_bit_for_bit(real_files: Path):
    file = real_files / "golden_lstm_th_keras_2" / "lstm_th_keras_2_weights.h5"
    checkpoint = lstmconv.load(file)
    with h5py.File(file) as stored:
        for name in ("lstm_1", "lstm_2"):
            arrays = [stored[f"{name}/{name}/{each}"][()] for each in ("kernel", "recurrent_kernel", "bias")]
            assert_direction(checkpoint[name].forward, arrays)
