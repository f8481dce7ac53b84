"""Whole models as Keras files: real Keras 3 and tf-keras load every golden model, and compute what Keras computed."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

import lstmconv
from lstmconv.activations import HARD_SIGMOID_KERAS_2, HARD_SIGMOID_KERAS_3
from lstmconv.arrays.hard_sigmoid import with_hard_sigmoid_of
from lstmconv.errors import UnsupportedModelError
from lstmconv.formats import by_name, open_file
from lstmconv.formats import keras as keras_format
from lstmconv.formats.options import WriteOptions
from lstmconv.model import Call, Checkpoint, Input, Model, Provenance, Tensor, kinds
from lstmconv.model.chains import lstm_layers
from lstmconv.proof.verifying import verify_file
from lstmconv.runtimes import NotRunError, session
from tests.golden.whole.cases import compared, whole_models
from tests.test_whole_reading import TOLERANCE, model_of

EACH = 1 if os.environ.get("LSTMCONV_ALL_GOLDEN") else 5
"""One golden model in five by default: Keras takes a quarter of a second to build one."""
MODELS = list(whole_models())[::EACH]
CASES = [pytest.param(path, npz, id=f"{path.parent.name}-{path.name}") for path, npz in MODELS]
GOLDEN = Path("tests/golden/whole")
NOT_IN_KERAS_2 = {"keras-3.15.1-activations.keras": "Keras 2 has no activation log_softmax"}
"""Models that only the other generation holds."""
NOT_ON_A_PROCESSOR = {
    *("keras-1.2.2-conv_theano_ordering.h5", "keras-2.2.4-channels_first.h5"),
    *("keras-3.15.1-channels_first.keras", "keras-3.15.1-channels_first_1d.keras"),
    "keras-3.15.1-conv1d_transpose_dilated.keras",
}
"""What TensorFlow has no kernel for without a GPU: channels before places, and dilated transposed convolutions."""
pytestmark = pytest.mark.usefixtures("trusted_golden_files")


def checkpoint_of(model: Model) -> Checkpoint:
    return Checkpoint(lstm_layers(model), Provenance("source.h5", "0" * 64, "a test"), model=model)


def written(model: Model, path: Path, version: int) -> Path:
    options = WriteOptions(whole=True, keras_version=version)
    by_name("keras").write(checkpoint_of(model), path, options)
    return path


def refused(model: Model, version: int, case: str) -> bool:
    """Whether a model is refused, as it has to be: it holds an unknown layer, or what this Keras has not."""
    reason = keras_format.obstacle_of_model(model, WriteOptions(keras_version=version))
    if model.unknown:
        assert reason is not None
        assert model.unknown[0].name in reason
    elif version == 2 and case in NOT_IN_KERAS_2:
        assert reason is not None
        assert NOT_IN_KERAS_2[case] in reason
    else:
        assert reason is None, reason
    return reason is not None


@pytest.mark.parametrize(("path", "npz"), CASES)
def test_keras_3_computes_what_keras_computed(path, npz, tmp_path):
    pytest.importorskip("keras")
    model = model_of(path)
    if refused(model, 3, f"{path.parent.name}-{path.name}"):
        return
    loaded = session(open_file(written(model, tmp_path / "model.keras", 3))).load_model()
    assert [entry.name for entry in loaded.inputs] == [entry.name for entry in model.inputs]
    assert loaded.outputs == tuple(model.outputs)
    with np.load(npz) as golden:
        tolerance = float(golden["tol"]) if "tol" in golden else TOLERANCE
        found: dict[str, np.ndarray] = {}
        for given, wanted in (("x", "y"), ("x2", "y2")):
            if f"{given}:0" not in golden:
                continue
            feeds = {entry.name: golden[f"{given}:{index}"] for index, entry in enumerate(model.inputs)}
            states = {
                f"{layer}.initial_{letter}": value
                for name, value in found.items()
                for layer, _, letter in [name.rpartition(".")]
                if name not in model.outputs
            }
            found = dict(loaded.compute(feeds | states))
            for index, name in compared(npz, loaded.outputs):
                want = golden[f"{wanted}:{index}"]
                assert found[name].shape == want.shape, name
                limit = tolerance * max(1.0, np.abs(want).max(initial=0))
                np.testing.assert_allclose(found[name], want, rtol=0, atol=limit, err_msg=name)


@pytest.fixture(scope="session")
def tf_keras_results(tmp_path_factory):
    """Write every golden model for Keras 2, and run all in one process of tf-keras."""
    python = sys.executable if importlib.util.find_spec("tf_keras") else os.environ.get("LSTMCONV_TF_KERAS_PYTHON")
    if not python:
        pytest.skip("tf_keras is not installed, and LSTMCONV_TF_KERAS_PYTHON names no interpreter that has it")
    folder = tmp_path_factory.mktemp("tf_keras")
    files: dict[Path, Path] = {}
    for number, (path, npz) in enumerate(MODELS):
        model = model_of(path)
        if keras_format.obstacle_of_model(model, WriteOptions(keras_version=2)) is not None:
            continue
        file = written(model, folder / f"{number}{'.keras' if number % 4 == 0 else '.h5'}", 2)
        with np.load(npz) as golden:
            given = {str(index): golden[f"x:{index}"] for index in range(len(model.inputs))}
        np.savez(f"{file}.in.npz", **given)
        files[path] = file
    script = Path(__file__).parent / "frameworks" / "load_keras.py"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(
        [python, str(script), "tf_keras", *map(str, files.values())], check=True, capture_output=True, env=environment
    )
    return {path: dict(np.load(f"{file}.out.npz")) for path, file in files.items()}


@pytest.mark.parametrize(("path", "npz"), CASES)
def test_tf_keras_computes_what_keras_computed(path, npz, tf_keras_results):
    model = model_of(path)
    if refused(model, 2, f"{path.parent.name}-{path.name}"):
        return
    found = tf_keras_results[path]
    if f"{path.parent.name}-{path.name}" in NOT_ON_A_PROCESSOR:
        assert "CPU" in str(found["error"])
        return
    assert "error" not in found, str(found["error"])
    with np.load(npz) as golden:
        tolerance = float(golden["tol"]) if "tol" in golden else TOLERANCE
        for index, name in compared(npz, tuple(model.outputs)):
            want = golden[f"y:{index}"]
            got = found[f"y{list(model.outputs).index(name)}"]
            assert got.shape == want.shape, name
            limit = tolerance * max(1.0, np.abs(want).max(initial=0))
            np.testing.assert_allclose(got, want, rtol=0, atol=limit, err_msg=name)


def test_hard_sigmoid_of_keras_2_is_carried_to_keras_3_by_the_gates_times_1_2():
    """Each number is the float32 nearest to 1.2 times the source's; the candidate's stay as they are."""
    model = model_of(GOLDEN / "keras-1.2.2" / "lstm_options.h5")
    old = next(layer for layer in lstm_layers(model) if layer.recurrent_activation == HARD_SIGMOID_KERAS_2)
    new = next(layer for layer in lstm_layers(with_hard_sigmoid_of(model, 3)) if layer.name == old.name)
    assert new.recurrent_activation == HARD_SIGMOID_KERAS_3
    for name in ("weight_ih", "weight_hh", "bias_ih"):
        before, after = getattr(old.forward, name), getattr(new.forward, name)
        np.testing.assert_array_equal(after.g, before.g)
        for letter in "ifo":
            gate = np.asarray(getattr(before, letter), np.float64)
            np.testing.assert_array_equal(getattr(after, letter), np.float32(1.2 * gate))


def test_a_converted_hard_sigmoid_is_verified_and_its_rounding_is_noted(tmp_path):
    pytest.importorskip("keras")
    made = lstmconv.convert("sample_weights/keras2_hard_sigmoid.h5", tmp_path / "new.keras")
    assert made.report.passed
    assert any("multiplied by 1.2, each rounded by half an ulp" in note for note in made.notes)
    assert any(check.level == "model" and check.status == "passed" for check in made.report.checks)


def test_a_weight_too_large_to_carry_hard_sigmoid_to_keras_3_is_written_for_keras_2(tmp_path):
    """1.2 times 3.2e38 is no float32; the weight itself is, and Keras 2 computes the model's own hard_sigmoid."""
    source = Path(shutil.copy("sample_weights/keras2_hard_sigmoid.h5", tmp_path))
    with h5py.File(source, "r+") as file:
        names: list[str] = []
        file["model_weights"].visit(names.append)
        kernel = file["model_weights"][next(name for name in names if "recurrent_kernel" in name)]
        kernel[0, 0] = np.float32(3.2e38)  # of the input gate
    model = model_of(source)
    for_3, for_2 = (keras_format.obstacle_of_model(model, WriteOptions(keras_version=version)) for version in (3, 2))
    assert for_2 is None
    assert re.search(r"the weight 3.2e\+38 times 1.2, .* does not fit float32: choose --keras-version 2", for_3)
    lstmconv.convert(source, tmp_path / "new.keras", whole=True, verify=False)
    new = lstm_layers(model_of(tmp_path / "new.keras"))[0]
    assert new.recurrent_activation == HARD_SIGMOID_KERAS_2
    assert new.forward.weight_hh.i[0, 0] == np.float32(3.2e38)


@pytest.mark.parametrize(
    ("case", "kind", "field"), [("attention", "Attention", "scale"), ("constant_states", "Constant", "value")]
)
def test_numbers_that_the_dtype_cannot_hold_are_refused_also_scalars_and_constants(tmp_path, case, kind, field):
    model = model_of(GOLDEN / "keras-3.15.1" / f"{case}.keras")
    calls = []
    for call in model.calls:
        layer = call.layer
        if type(layer).__name__ == kind:
            layer = replace(layer, **{field: np.full_like(getattr(layer, field), 70_000)})  # float16 ends at 65,504.
        calls.append(replace(call, layer=layer))
    large = checkpoint_of(replace(model, calls=tuple(calls)))
    with pytest.raises(UnsupportedModelError, match="the weight 70000 does not fit float16: choose a wider --dtype"):
        by_name("keras").write(large, tmp_path / "m.keras", WriteOptions(whole=True, dtype="float16"))


def changed(file: Path, change) -> Path:
    """Return a copy of a ``.keras`` file whose weights a function has changed."""
    copy = file.with_name("changed.keras")
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(copy, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "model.weights.h5":
                weights = file.with_name("weights.h5")
                weights.write_bytes(content)
                with h5py.File(weights, "r+") as opened:
                    change(opened)
                content = weights.read_bytes()
            target.writestr(name, content)
    return copy


def failed(source: Path, target: Path) -> bool:
    """Whether structure or weights differ; Keras is not run."""
    artifact = open_file(target)
    return any(check.status == "failed" for check in verify_file(lstmconv.load(source), artifact, run=False).checks)


def test_verify_finds_a_changed_array_of_any_layer(tmp_path):
    """Without Keras: the file is decoded by a path of its own."""
    source = shutil.copy(GOLDEN / "keras-2.2.4" / "classifier.h5", tmp_path / "model.h5")
    target = tmp_path / "model.keras"
    lstmconv.convert(source, target, verify=False)
    assert not failed(source, target)
    places: list[str] = []

    def visit(name, entry):
        if isinstance(entry, h5py.Dataset) and entry.size:
            places.append(name)

    changed(target, lambda file: file.visititems(visit))
    assert len(places) > 8
    for place in places:

        def change(file, place=place):
            array = file[place][()]
            array.flat[0] += 1
            file[place][...] = array

        assert failed(source, changed(target, change)), place


def test_verify_finds_an_altered_option(tmp_path):
    """Without Keras: the config is the one that lstmconv writes, or the file was changed."""
    source = shutil.copy(GOLDEN / "keras-2.2.4" / "classifier.h5", tmp_path / "model.h5")
    target, altered = tmp_path / "model.keras", tmp_path / "altered.keras"
    lstmconv.convert(source, target, verify=False)
    with zipfile.ZipFile(target) as before, zipfile.ZipFile(altered, "w") as after:
        for name in before.namelist():
            content = before.read(name)
            after.writestr(name, content.replace(b'"softmax"', b'"sigmoid"') if name == "config.json" else content)
    assert failed(source, altered)


@pytest.mark.parametrize("version", [2, 3])
def test_verify_finds_lists_of_a_legacy_file_in_another_order(version, tmp_path):
    """Keras takes the weights by their position there: names that stand elsewhere change nothing for it."""
    source = shutil.copy(GOLDEN / "keras-2.2.4" / "classifier.h5", tmp_path / "model.h5")
    target = tmp_path / "target.h5"
    lstmconv.convert(source, target, verify=False, keras_version=version, whole=True)
    assert not failed(source, target)
    with h5py.File(target, "r+") as file:
        weights = file["model_weights"]
        names = list(weights.attrs["layer_names"])
        weights.attrs["layer_names"] = names[::-1]
    assert failed(source, target)


@pytest.mark.parametrize("version", [2, 3])
def test_verify_finds_gamma_and_beta_exchanged_in_a_list_of_names(version, tmp_path):
    draw = np.random.default_rng(11)
    numbers = [draw.uniform(0.5, 1.5, 3).astype("float32") for _ in range(4)]
    norm = kinds.BatchNormalization("norm", *numbers, axis=-1, epsilon=0.01)
    calls = (Call("norm", norm, (Tensor("x"),)),)
    source = checkpoint_of(Model("m", (Input("x", (None, 3)),), calls, {"y": Tensor("norm")}))
    target = written(source.model, tmp_path / "target.h5", version)
    assert verify_file(source, open_file(target), run=False).passed
    with h5py.File(target, "r+") as file:
        attributes = file["model_weights/norm"].attrs
        names = list(attributes["weight_names"])
        attributes["weight_names"] = [names[1], names[0], *names[2:]]
    assert not verify_file(source, open_file(target), run=False).passed


@pytest.mark.parametrize("version", [2, 3])
def test_what_is_written_is_read_again(version, tmp_path):
    """Every layer of it, also of a legacy file, whose layers state no module."""
    for number, (path, _) in enumerate(MODELS[::2]):
        model = model_of(path)
        if keras_format.obstacle_of_model(model, WriteOptions(keras_version=version)) is None:
            read = model_of(written(model, tmp_path / f"{number}.h5", version))
            assert not read.unknown, (path, read.unknown[0].name, read.unknown[0].reason)


def two_dense(first: str, second: str) -> Model:
    """Return x -> first -> second, both square and alike, and a sum of both outputs."""
    draw = np.random.default_rng(3)
    layers = [
        kinds.Dense(name, draw.normal(size=(3, 3)).astype("float32"), draw.normal(size=3).astype("float32"))
        for name in (first, second)
    ]
    calls = (
        Call(first, layers[0], (Tensor("x"),)),
        Call(second, layers[1], (Tensor(first),)),
        Call("sum", kinds.Merge("sum", "add"), (Tensor(second), Tensor("x"))),
    )
    return Model("pair", (Input("x", (None, 3)),), calls, {"sum": Tensor("sum"), first: Tensor(first)})


def test_names_that_keras_refuses_become_unique_legal_ones(tmp_path):
    pytest.importorskip("keras")
    model = two_dense("a/b", "a.b")
    file = written(model, tmp_path / "model.keras", 3)
    with zipfile.ZipFile(file) as archive:
        config = json.loads(archive.read("config.json"))
    assert {"a_b", "a_b_1"} <= {entry["name"] for entry in config["config"]["layers"]}
    x = np.random.default_rng(5).normal(size=(5, 3)).astype("float32")
    expected = lstmconv.reference(checkpoint_of(model), x)
    found = session(open_file(file)).load_model().compute({"x": x})
    assert list(found) == ["sum", "a/b"]
    for one, wanted in zip(found.values(), expected, strict=True):
        np.testing.assert_allclose(one, wanted, rtol=1e-5, atol=1e-5)


def test_an_odd_layer_is_refused_by_name():
    model = two_dense("one", "two")
    odd = replace(model.calls[2], layer=kinds.Upsample("sum", (2, 1)), inputs=(Tensor("two"),))
    reason = keras_format.obstacle_of_model(replace(model, calls=(*model.calls[:2], odd)), WriteOptions())
    assert reason is not None
    assert reason.startswith("sum: ")


def test_whole_says_which_suffix_it_needs(tmp_path):
    with pytest.raises(lstmconv.LstmconvError, match=r"expected \.keras"):
        lstmconv.convert("sample_weights/airline_passengers.h5", tmp_path / "a.weights.h5", whole=True)


def test_a_file_that_calls_a_function_of_another_kind_is_not_run(tmp_path):
    """The list of known functions holds none that reads or writes a file."""
    file = written(two_dense("one", "two"), tmp_path / "model.h5", 2)
    with h5py.File(file, "r+") as opened:
        config = json.loads(opened.attrs["model_config"])
        entry = {"class_name": "TFOpLambda", "config": {"name": "evil", "function": "io.write_file"}}
        config["config"]["layers"].append({**entry, "name": "evil", "inbound_nodes": []})
        opened.attrs["model_config"] = json.dumps(config)
    with pytest.raises(NotRunError, match=r"tf\.io\.write_file"):
        session(open_file(file)).load_model()


def test_whole_refuses_what_no_keras_holds(tmp_path):
    with pytest.raises(UnsupportedModelError, match="cannot be converted whole"):
        lstmconv.convert(GOLDEN / "keras-1.2.2" / "merge_layer.h5", tmp_path / "a.keras", whole=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_chain_of_layers_is_sequential_which_every_keras_3_opens(tmp_path):
    keras = pytest.importorskip("keras")
    x = keras.layers.Input((7, 3), name="x")
    h = keras.layers.LSTM(5, return_sequences=True, name="a")(x)
    model = keras.Model(x, keras.layers.Dense(2, name="b")(h), name="chain")
    model.save(tmp_path / "m.keras")
    lstmconv.convert(tmp_path / "m.keras", tmp_path / "chain.keras", whole=True)
    written = keras.models.load_model(tmp_path / "chain.keras", compile=False)
    assert type(written) is keras.Sequential
    given = np.random.default_rng(0).normal(size=(4, 7, 3)).astype("float32")
    np.testing.assert_array_equal(*(np.asarray(each.predict(given, verbose=0)) for each in (model, written)))
    both = keras.Model(x, [h, keras.layers.Dense(2, name="c")(h)], name="both")
    both.save(tmp_path / "both.keras")
    lstmconv.convert(tmp_path / "both.keras", tmp_path / "two.keras", whole=True)
    assert type(keras.models.load_model(tmp_path / "two.keras", compile=False)) is not keras.Sequential
